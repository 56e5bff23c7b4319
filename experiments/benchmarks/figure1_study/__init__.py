"""The study, contestants and report of `experiments/benchmarks/figure1.py`."""
