"""The problems, contestants and measurements of `experiments/benchmarks/spectrum.py`."""
