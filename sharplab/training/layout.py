"""How the runs of a batch lie on the devices, and what is done to each of them there."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from sharplab.core.tree import PyTree


def use_all_cores() -> None:
    """Make each CPU core a device, for lanes to stand on; to be called before jax has done anything."""
    jax.config.update("jax_num_cpu_devices", os.cpu_count() or 1)


@dataclass(frozen=True)
class Formation:
    """How a company of lanes stands on the devices: `per_device` beside each other on each of them."""

    devices: tuple[jax.Device, ...]
    per_device: int

    @property
    def size(self) -> int:
        """Lanes per company."""
        return len(self.devices) * self.per_device

    @property
    def mode(self) -> str:
        """ "sequential" (a lane's arithmetic does not depend on its company) or "vectorised"."""
        return "sequential" if self.per_device == 1 else "vectorised"

    def place(self, shared: PyTree) -> PyTree:
        """Arrays that every lane reads, onto every device."""
        return jax.device_put(shared, NamedSharding(self._mesh, PartitionSpec()))

    def each(self, function: Callable[..., PyTree], stacked: tuple, shared: tuple, *, one_by_one: bool = False) -> Any:
        """function(*lane, *shared) for every lane of `stacked`, pytrees with a leading lane axis."""

        def on_device(stacked: tuple, shared: tuple) -> Any:
            def one(lane: tuple) -> Any:
                return function(*lane, *shared)

            if self.per_device == 1:
                alone = one(jax.tree.map(lambda x: x[0], stacked))
                return jax.tree.map(lambda x: x[None], alone)
            return jax.lax.map(one, stacked) if one_by_one else jax.vmap(one)(stacked)

        lanes, everywhere = PartitionSpec("lanes"), PartitionSpec()
        return jax.shard_map(
            on_device, mesh=self._mesh, in_specs=(lanes, everywhere), out_specs=lanes, check_vma=False
        )(stacked, shared)

    # Indexing or stacking arrays that lie on several devices would be a program of all of them, whose parts wait for
    # each other; among programs that are dispatched to one device alone they may wait for ever.

    def lane(self, i: int, stacked: PyTree) -> Any:
        """Lane i of arrays with a leading lane axis, on its own device."""
        device, place = divmod(i, self.per_device)
        return jax.tree.map(lambda x: _on(self.devices[device], x)[place], stacked)

    def copy_of(self, i: int, shared: PyTree) -> Any:
        """What `place` has put onto the device of lane i."""
        return jax.tree.map(lambda x: _on(self.devices[i // self.per_device], x), shared)

    def company(self, lanes: Sequence[PyTree]) -> Any:
        """Arrays with a leading lane axis, of lanes that are each on their own device."""

        def stack(*leaves: jax.Array) -> jax.Array:
            parts = [
                jnp.stack(leaves[first : first + self.per_device]) for first in range(0, self.size, self.per_device)
            ]
            shape = (self.size, *leaves[0].shape)
            return jax.make_array_from_single_device_arrays(
                shape, NamedSharding(self._mesh, PartitionSpec("lanes")), parts
            )

        return jax.tree.map(stack, *lanes)

    @property
    def _mesh(self) -> Mesh:
        return Mesh(np.array(self.devices), ("lanes",))


def _on(device: jax.Device, x: jax.Array) -> jax.Array:
    """The part of an array that lies on a device (`addressable_data` of a replicated array is always the first's)."""
    (part,) = (shard.data for shard in x.addressable_shards if shard.device == device)
    return part
