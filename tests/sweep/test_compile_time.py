"""The time of compilation, apart from that of what is compiled."""

import threading
import time

import jax
import jax.numpy as jnp
import numpy as np

from sharplab.sweep.compile_time import timing_compilation, union


def _compile(shape):
    return jax.jit(lambda x: jnp.sin(x) @ x).lower(jax.ShapeDtypeStruct(shape, jnp.float32)).compile()


def test_the_length_of_a_union_counts_each_moment_once():
    assert union([]) == 0
    assert union([(5.0, 6.0), (0.0, 2.0), (1.0, 3.0), (1.5, 1.75)]) == 4
    assert union([(100.0, 101.0), (99.0, 102.0), (200.0, 200.5)]) == 3.5


def test_what_is_compiled_within_the_block_is_counted_once():
    argument = np.zeros((5, 5), np.float32)
    with timing_compilation() as compiled:
        began = time.monotonic()
        program = _compile((5, 5))
        spent = compiled()
        assert 0 < spent <= time.monotonic() - began
        program(argument).block_until_ready()
        assert compiled() == spent
    _compile((7, 7))
    assert compiled() == spent


def test_what_another_thread_compiles_is_not_this_ones():
    with timing_compilation() as compiled:
        other = threading.Thread(target=_compile, args=((9, 9),))
        other.start()
        other.join()
        assert compiled() == 0
