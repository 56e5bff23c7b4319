"""What a number depends on beside its settings."""

import platform
from importlib.metadata import version

LIBRARIES = ("sharplab", "jax", "jaxlib", "flax", "optax", "numpy", "scipy")


def versions() -> dict[str, str]:
    """Of Python and of the libraries that the numbers depend on."""
    return {"python": platform.python_version()} | {name: version(name) for name in LIBRARIES}
