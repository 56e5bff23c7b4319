"""Settings that hold for every test."""

import os
from pathlib import Path

import hypothesis
import jax
import pytest

from sharplab.core.caches import keep_compiled_programs

collect_ignore = ["spectrum/on_eight_devices.py", "typed_use.py"]  # for a process of its own; for a type checker
# They hold no examples, and looking for some imports them under one name.
collect_ignore_glob = ["conftest.py", "*/conftest.py"]

os.environ["MPLBACKEND"] = "Agg"  # tests draw to files; a display may be absent
# Scripts that tests start find what tests share, as tests do.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (os.path.dirname(__file__), os.environ.get("PYTHONPATH"))))

# Arrays of different ranks are joined by broadcasting that is written down, or not at all: also in scripts of tests.
os.environ["JAX_NUMPY_RANK_PROMOTION"] = "raise"
jax.config.update("jax_numpy_rank_promotion", "raise")

keep_compiled_programs()

# XLA's older emitter of programs for CPUs, each in one piece: the same numbers here, compiled in half the time (its
# programs are slower, which tiny arrays do not feel). Processes that tests start inherit it. Flags that an XLA does not
# know end the process.
if jax.__version_info__ < (0, 11):
    quick = "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
    os.environ["XLA_FLAGS"] = f"{quick} {os.environ.get('XLA_FLAGS', '')}"

# No deadline: the first example pays for compilation. In CI the examples are the same on every run.
hypothesis.settings.register_profile("local", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "local")


@pytest.hookimpl(tryfirst=True)  # before markers choose
def pytest_collection_modifyitems(items):
    """The examples of whole studies take seconds each, as tests that are marked `long`."""
    for item in items:
        if isinstance(item, pytest.DoctestItem) and "studies" in item.path.parts:
            item.add_marker(pytest.mark.long)


@pytest.fixture
def float64():
    """Double precision for the length of one test."""
    with jax.enable_x64(True):
        yield


MOST_MAPS = 30_000  # of memory, less than half of those that a process may have: one module adds up to 15,000


def memory_maps() -> int:
    """How many this process has, or as many as there may be where that is not known."""
    try:
        return Path("/proc/self/maps").read_bytes().count(b"\n")
    except OSError:
        return MOST_MAPS


@pytest.fixture(autouse=True, scope="module")
def quick_compilation(request):
    """Less optimisation by XLA in this process and those it starts, except in modules marked `optimised`.

    Most tests run dozens of programs on tiny arrays: compiling them is what takes time, and optimising doubles it.
    """
    before = jax.config.read("jax_disable_most_optimizations")
    optimised = request.node.get_closest_marker("optimised") is not None
    if optimised:
        jax.clear_caches()  # of programs that are not
    with pytest.MonkeyPatch.context() as patch:
        if not optimised:
            jax.config.update("jax_disable_most_optimizations", True)
            patch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
        yield
    jax.config.update("jax_disable_most_optimizations", before)
    # What modules share, as sums of small arrays, is compiled once; but each program holds memory maps.
    if optimised or memory_maps() >= MOST_MAPS:
        jax.clear_caches()
