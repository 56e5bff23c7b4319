"""Noise for random directions: even, uncorrelated from number to number and key to key, and never zero."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

from sharplab.spectrum.noise import noise

SIZE = 10_000


def test_entries_are_spread_evenly_and_draws_are_uncorrelated():
    like = {"a": jnp.zeros((SIZE, 1)), "b": jnp.zeros(SIZE)}
    draws = [noise(jax.random.key(key), number, like) for key in range(3) for number in range(3)]
    vectors = [np.ravel(leaf) for draw in draws for leaf in draw.values()]
    for v in vectors:
        assert np.histogram(v, 10, (-1, 1))[0].min() > 0.85 * SIZE / 10
        assert np.abs(np.correlate(v, v[:-20], "valid")[1:]).max() < 5 * SIZE**0.5 / 3
        assert v.all()
    for v, w in itertools.combinations(vectors, 2):
        assert abs(v @ w) < 5 * SIZE**0.5 / 3


def test_small_vectors_are_not_zero():
    assert all(float(noise(jax.random.key(key), 0, jnp.zeros(1))[0]) != 0 for key in range(20))
