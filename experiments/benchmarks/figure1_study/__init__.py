"""The parts of `experiments/benchmarks/figure1.py`: study, contestants, checks, comparison, report."""
