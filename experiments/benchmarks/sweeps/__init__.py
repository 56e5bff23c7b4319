"""The parts of `experiments/benchmarks/sweep_speed.py`: contestants, arithmetic, immediate training, the report."""
