"""The contestants and measurements of `experiments/benchmarks/sweep_speed.py`."""
