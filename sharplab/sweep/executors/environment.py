"""The environment of a worker process: its core or GPU, and the compilation cache that all share."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from sharplab.core.caches import cache_environment


def places() -> list[dict[str, str]]:
    """The environment of one worker for each device of this machine: a GPU, or a core."""
    if gpus := _gpus():
        return [{"CUDA_VISIBLE_DEVICES": gpu} for gpu in gpus]
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    return [{"JAX_NUM_CPU_DEVICES": "1", "SHARPLAB_CORE": str(core)} for core in cores]


def _gpus() -> list[str]:
    if visible := os.environ.get("CUDA_VISIBLE_DEVICES"):
        return visible.split(",")
    if os.environ.get("JAX_PLATFORMS", "").startswith("cpu") or not shutil.which("nvidia-smi"):
        return []
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True)
    return [str(i) for i, line in enumerate(listed.stdout.splitlines()) if line.startswith("GPU")]


def worker_environment(place: dict[str, str]) -> dict[str, str]:
    """The environment of a worker: that of this process, its own place, and the compilation cache all share."""
    return cache_environment() | os.environ | place


@contextmanager
def on_core_of(place: dict[str, str]) -> Iterator[None]:
    """A block whose processes run on the core of the place: jax makes as many threads as there are cores."""
    core = place.get("SHARPLAB_CORE")
    if core is None or not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {int(core)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
