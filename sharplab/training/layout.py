"""How the runs of a batch lie on the devices, and what is done to each of them there."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from sharplab.core.devices import use_all_cores as use_all_cores
from sharplab.core.tree import PyTree


@dataclass(frozen=True)
class DeviceLayout:
    """How a batch of runs stands on the devices: `per_device` beside each other on each of them."""

    devices: tuple[jax.Device, ...]
    per_device: int

    @property
    def size(self) -> int:
        """Runs per run batch."""
        return len(self.devices) * self.per_device

    @property
    def mode(self) -> str:
        """ "sequential" (a run's arithmetic does not depend on its run batch) or "vectorised"."""
        return "sequential" if self.per_device == 1 else "vectorised"

    def replicate(self, shared: PyTree) -> PyTree:
        """Arrays that every run reads, onto every device."""
        return jax.device_put(shared, NamedSharding(self._mesh, PartitionSpec()))

    def spread(self, stacked: PyTree) -> PyTree:
        """Arrays with a leading run axis, each run's part onto its device."""
        return jax.device_put(stacked, NamedSharding(self._mesh, PartitionSpec("runs")))

    def map(self, function: Callable[..., PyTree], stacked: tuple, shared: tuple, *, one_by_one: bool = False) -> Any:
        """function(*run, *shared) for every run of `stacked`, pytrees with a leading run axis."""

        def on_device(stacked: tuple, shared: tuple) -> Any:
            def one(run: tuple) -> Any:
                return function(*run, *shared)

            if self.per_device == 1:
                alone = one(jax.tree.map(lambda x: x[0], stacked))
                return jax.tree.map(lambda x: x[None], alone)
            return jax.lax.map(one, stacked) if one_by_one else jax.vmap(one)(stacked)

        runs, everywhere = PartitionSpec("runs"), PartitionSpec()
        return jax.shard_map(on_device, mesh=self._mesh, in_specs=(runs, everywhere), out_specs=runs, check_vma=False)(
            stacked, shared
        )

    # Indexing or stacking arrays that lie on several devices would be a program of all of them, whose parts wait for
    # each other; among programs that are dispatched to one device alone they may wait for ever. That one is the first,
    # whichever the run's own is: each device would compile the programs again.

    def each(self, stacked: PyTree) -> Iterator[Any]:
        """The runs of arrays with a leading run axis, one after another on the first device."""
        for device in self.devices:
            part = self._on_first(stacked, device)
            for place in range(self.per_device):
                yield jax.tree.map(itemgetter(place), part)

    def replica(self, shared: PyTree) -> Any:
        """What `replicate` has put onto the first device."""
        return self._on_first(shared, self.devices[0])

    def stack(self, runs: Sequence[PyTree]) -> Any:
        """Arrays with a leading run axis, of runs that are all on the first device."""

        def stack(*leaves: jax.Array) -> jax.Array:
            parts = [
                jax.device_put(jnp.stack(leaves[i * self.per_device : (i + 1) * self.per_device]), device)
                for i, device in enumerate(self.devices)
            ]
            shape = (self.size, *leaves[0].shape)
            return jax.make_array_from_single_device_arrays(
                shape, NamedSharding(self._mesh, PartitionSpec("runs")), parts
            )

        return jax.tree.map(stack, *runs)

    @property
    def _mesh(self) -> Mesh:
        return Mesh(np.array(self.devices), ("runs",))

    def _on_first(self, arrays: PyTree, device: jax.Device) -> Any:
        """The parts of arrays that lie on a device, on the first (`addressable_data(0)` is always the first's)."""

        def on_first(x: jax.Array) -> jax.Array:
            (part,) = (shard.data for shard in x.addressable_shards if shard.device == device)
            return jax.device_put(part, self.devices[0])

        return jax.tree.map(on_first, arrays)
