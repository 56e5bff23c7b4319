"""A learning rate for a large network, from sweeps of small ones of the same kind."""
