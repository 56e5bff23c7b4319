"""The versions of the software that a number depends on."""

import platform
from importlib.metadata import version

LIBRARIES = ("sharplab", "jax", "jaxlib", "flax", "optax", "numpy", "scipy")


def versions() -> dict[str, str]:
    """The versions of Python and of the libraries that the numbers depend on."""
    return {"python": platform.python_version()} | {name: version(name) for name in LIBRARIES}
