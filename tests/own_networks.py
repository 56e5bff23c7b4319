"""Networks as users write them: plain modules of Flax that know nothing of sharplab."""

import jax
import jax.numpy as jnp
from flax import nnx


class Net(nnx.Module):
    """Two hidden layers."""

    def __init__(self, width, rngs):
        self.stem = nnx.Linear(16, width, rngs=rngs)
        self.hidden = nnx.Linear(width, width, rngs=rngs)
        self.readout = nnx.Linear(width, 4, rngs=rngs)

    def __call__(self, x):
        return self.readout(nnx.relu(self.hidden(nnx.relu(self.stem(x)))))


class Wide(Net):
    """The same with outputs for the eight classes of the clusters."""

    def __init__(self, width, rngs):
        super().__init__(width, rngs)
        self.readout = nnx.Linear(width, 8, rngs=rngs)


class Noisy(nnx.Module):
    """With dropout and batch statistics, and something sown."""

    def __init__(self, width, rngs, *, input_shape, classes):
        self.stem = nnx.Linear(*input_shape, width, rngs=rngs)
        self.norm = nnx.BatchNorm(width, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.readout = nnx.Linear(width, classes, rngs=rngs)

    def __call__(self, x):
        h = nnx.relu(self.norm(self.stem(x)))
        self.sow(nnx.Intermediate, "h", h)
        return self.readout(self.dropout(h))


class Deep(nnx.Module):
    """Residual, of any depth; it takes what its branches are multiplied by."""

    def __init__(self, n, blocks, rngs):
        self.stem = nnx.Linear(16, n, rngs=rngs)
        self.blocks = nnx.List([nnx.Linear(n, n, rngs=rngs) for _ in range(blocks)])
        self.readout = nnx.Linear(n, 4, rngs=rngs)

    def __call__(self, x):
        h = self.stem(x)
        for block in self.blocks:
            h = h + block(nnx.relu(h))
        return self.readout(h)


class Branched(Deep):
    """The same with its branches multiplied."""

    def __init__(self, width, depth, rngs, branch_multiplier):
        super().__init__(width, depth, rngs)
        self.branch = branch_multiplier

    def __call__(self, x):
        h = self.stem(x)
        for block in self.blocks:
            h = h + self.branch * block(nnx.relu(h))
        return self.readout(h)


class Tied(nnx.Module):
    """Reads out by its embedding."""

    def __init__(self, width, rngs, classes, readout_multiplier=1.0):
        self.embed = nnx.Embed(classes, width, rngs=rngs)
        self.embed.embedding.set_metadata(role="tied")
        self.multiplier = readout_multiplier

    def __call__(self, tokens):
        return self.multiplier * self.embed.attend(self.embed(tokens))


class Untellable(nnx.Module):
    """Has a bare matrix, which may be anything."""

    def __init__(self, width, rngs):
        self.w = nnx.Param(jax.random.normal(rngs.params(), (16, width)))
        self.readout = nnx.Linear(width, 4, rngs=rngs)

    def __call__(self, x):
        return self.readout(jnp.tanh(x @ self.w[...]))
