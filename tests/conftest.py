"""Settings that hold for every test."""

import os

import hypothesis
import jax
import pytest

collect_ignore = ["spectrum/on_eight_devices.py"]  # a script for a process of its own
# They hold no examples, and looking for some imports them under one name.
collect_ignore_glob = ["conftest.py", "*/conftest.py"]

os.environ["MPLBACKEND"] = "Agg"  # tests draw to files; a display may be absent

# No deadline: the first example pays for compilation. In CI the examples are the same on every run.
hypothesis.settings.register_profile("local", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "local")


@pytest.fixture
def float64():
    """Double precision for the length of one test."""
    with jax.enable_x64(True):
        yield


# Their dozens of programs run on tiny arrays: compiling them is what takes time, and optimising doubles it.
MANY_SMALL_PROGRAMS = {
    "benchmarks",
    "checks",
    "curvature",
    "models",
    "scaling",
    "spectrum",
    "studies",
    "test_estimate.py",
    "test_figure_gauss_newton.py",
    "test_figure_kernel.py",
    "test_following.py",
    "test_recipe.py",
    "test_resuming.py",
    "test_suggest_command.py",
    "test_sweep_figures.py",
    "test_tracking.py",
    "test_training.py",
    "theory",
}


@pytest.fixture(autouse=True, scope="module")
def quick_compilation(request):
    """Less optimisation where it does not pay."""
    optimised = jax.config.read("jax_disable_most_optimizations")
    where = {request.path.name, request.path.parent.name} & MANY_SMALL_PROGRAMS
    jax.config.update("jax_disable_most_optimizations", bool(where) or optimised)
    yield
    jax.config.update("jax_disable_most_optimizations", optimised)
    # Each compiled program holds memory maps, of which a process has no more than some ten thousand.
    jax.clear_caches()
