"""The sizes at which sweeps run: smoke (seconds), quick (minutes on two cores), paper (for accelerators)."""

from collections.abc import Mapping
from typing import Any

_SMOKE: Mapping[str, Any] = {
    "model": "residual_mlp",
    "data": "gaussian-clusters",
    "widths": (8, 16),
    "depths": (2,),
    "learning_rates": ("2^-2:2^1",),
    "seeds": 2,
    "steps": 20,
    "batch_size": 64,
    "probe_size": 256,
}
_QUICK: Mapping[str, Any] = {
    "model": "figure1_convnet",
    "data": "fashion-mnist-10k",
    "widths": (8, 16, 32),
    "depths": (2,),
    "learning_rates": ("2^-1:2^5",),
    "seeds": 3,
    "steps": 256,
    "batch_size": 128,
    "probe_size": 2048,
}
_PAPER: Mapping[str, Any] = {**_QUICK, "widths": (64, 256, 1024), "learning_rates": ("2^-4:2^8",), "steps": 2560}
_DEEP: Mapping[str, Any] = {"model": "residual_mlp", "learning_rates": ("2^-3:2^1",)}
# What is swept over → preset → settings.
PRESETS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "width": {"smoke": _SMOKE, "quick": _QUICK, "paper": _PAPER},
    "depth": {
        "smoke": {**_SMOKE, "widths": (8,), "depths": (1, 2)},
        "quick": {**_QUICK, **_DEEP, "widths": (64,), "depths": (2, 4, 8)},
        "paper": {**_PAPER, **_DEEP, "widths": (256,), "depths": (3, 6, 12, 24, 48)},
    },
}
