"""The study, contestants, checks and report of `experiments/benchmarks/figure1.py`."""
