"""Memory that this process has freed and the C library still holds."""

import ctypes
import sys


def give_back_freed() -> None:
    """Give it to the system, where the C library is glibc: what compiling leaves is hundreds of megabytes."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's own
        if trim is not None:
            trim(0)
