"""The parts of `experiments/benchmarks/spectrum.py`: problems, contestants, and what is measured of them."""
