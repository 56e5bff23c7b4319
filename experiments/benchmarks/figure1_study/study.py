"""The runs that the contestants train."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any, NamedTuple

# The authors' learning rates. muP with weights of unit variance, as the paper writes it, is "mean_field" in the lab.
RATES = {"mean_field": (0.1, 0.2, 0.5, 1.0, 2.0), "ntk": (1.0, 3.0, 7.0, 20.0, 60.0)}
TRAJECTORY_RATE: Mapping[str, float] = {"mean_field": 0.5, "ntk": 7.0}
SEED = 0


class Network(NamedTuple):
    """A network, trained once along its trajectory and once at every learning rate of the sweep."""

    parameterization: str
    width: int

    @property
    def label(self) -> str:
        """The network's name, as "mean_field-16"."""
        return f"{self.parameterization}-{self.width}"


@dataclass(frozen=True)
class Study:
    """The study of the paper's first figure, one seed, muP and NTK at every width.

    Trajectories of `steps` steps with `snapshots` of the held-out loss and of the sharpness on `probe_size` training
    images, at one learning rate; and the final held-out loss after `sweep_steps` at each of `rates`. Runs are told
    apart by their steps: `sweep_steps` is not `steps`.
    """

    widths: tuple[int, ...] = (16, 64, 256)
    steps: int = 256
    snapshots: int = 9
    sweep_steps: int = 128
    rates: Mapping[str, tuple[float, ...]] | None = None  # by parameterization; the authors' unless told
    batch_size: int = 128
    probe_size: int = 32

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> "Study":
        """The study of those fields, as JSON has them."""
        return cls(**settings | {"widths": tuple(settings["widths"])})

    @property
    def networks(self) -> tuple[Network, ...]:
        """Every parameterization at every width."""
        return tuple(Network(name, width) for name, width in product(TRAJECTORY_RATE, self.widths))

    def rates_of(self, network: Network) -> tuple[float, ...]:
        """The learning rates of the sweep."""
        return tuple((self.rates or RATES)[network.parameterization])

    @property
    def snapshot_steps(self) -> tuple[int, ...]:
        """The steps before which there is a snapshot, the first and the last among them.

        >>> Study(steps=256, snapshots=5).snapshot_steps
        (0, 64, 128, 192, 256)
        """
        last = self.snapshots - 1
        return tuple(round(self.steps * i / last) for i in range(self.snapshots))
