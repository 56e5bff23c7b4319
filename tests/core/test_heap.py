"""Freed memory that the C library holds."""

import os
import platform
from pathlib import Path

import numpy as np
import pytest

from sharplab.core.heap import give_back_freed


def resident():
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_memory_that_was_freed_is_given_back():
    # Too small for mappings of their own; the last one keeps the heap from shrinking by itself.
    arrays = [np.ones(8_000) for _ in range(4_000)]
    last = np.ones(8_000)
    del arrays
    held = resident()
    give_back_freed()
    assert held - resident() > 100e6
    assert last.sum() == 8_000
