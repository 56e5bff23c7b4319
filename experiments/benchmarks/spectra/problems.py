"""The networks whose spectra are computed: trained a little, with one batch to probe them on, kept in files.

A file holds everything that another library needs to set up the same problem: weights by path, the inputs as
images or tokens, targets, and the loss and its gradient to compare with.
"""

import hashlib
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from sharplab.core import tree
from sharplab.core.naming import lookup
from sharplab.core.tree import PyTree
from sharplab.data import load_dataset
from sharplab.losses import cross_entropy
from sharplab.models import find_model
from sharplab.scaling import DepthRule, Rule, parameterization
from spectra.gpt import GPT, markov_text

CACHE = Path("runs/bench/spectrum")
DATA = "fashion-mnist-10k"
IMAGE_MODELS = {"mlp": "residual_mlp", "convnet": "figure1_convnet"}


@dataclass(frozen=True)
class Problem:
    """A network, its training by Adam, and its probe batch of `examples`."""

    name: str
    kind: str  # "mlp", "convnet" or "gpt"
    width: int
    depth: int
    examples: int
    steps: int = 300
    batch: int = 128
    learning_rate: float = 1e-3
    heads: int = 0  # of a GPT, as the next three
    vocabulary: int = 0
    length: int = 0  # of a sequence
    positions: int = 0  # that it could take

    @property
    def path(self) -> Path:
        """The file of its weights, under a name that changes with its definition."""
        mark = hashlib.sha256(repr(sorted(asdict(self).items())).encode()).hexdigest()[:8]
        return CACHE / f"{self.name}-{mark}.npz"

    @property
    def parameters(self) -> int:
        """The number of its weights."""
        return tree.size(_abstract(self)[1])

    def build(self, rngs: nnx.Rngs) -> Any:
        """The network, freshly drawn."""
        if self.kind == "gpt":
            shape = {name: getattr(self, name) for name in ("vocabulary", "positions", "width", "depth", "heads")}
            return GPT(**shape, rngs=rngs)
        rule = Rule(parameterization("standard"), self.width, depth=DepthRule(self.depth, alpha=0.5))
        return find_model(IMAGE_MODELS[self.kind])(
            input_shape=(32, 32, 1), classes=10, width=self.width, depth=self.depth, rule=rule, rngs=rngs
        )

    def forward(self, params: PyTree, inputs: jax.Array) -> jax.Array:
        """Logits of prepared inputs."""
        return nnx.merge(_abstract(self)[0], params).forward(inputs)

    def objective(self, params: PyTree, batch: PyTree) -> jax.Array:
        """The mean cross-entropy of a prepared batch."""
        inputs, targets = batch
        return cross_entropy(self.forward(params, inputs), targets)

    def raw(self, examples: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Examples: images and classes, or tokens and those that follow."""
        if self.kind == "gpt":
            text = markov_text(self.vocabulary, examples, self.length + 1, seed)
            return text[:, :-1], text[:, 1:]
        dataset = load_dataset(DATA)
        chosen = np.random.default_rng(seed).permutation(len(dataset.train_targets))[:examples]
        return dataset.train_inputs[chosen], dataset.train_targets[chosen]

    def prepare(self, raw: tuple[np.ndarray, np.ndarray]) -> PyTree:
        """The batch that `forward` takes, on the device."""
        inputs, targets = map(jnp.asarray, raw)
        return (inputs if self.kind == "gpt" else _prepared(self, inputs), targets)

    def trained(self) -> PyTree:
        """Weights after `steps` steps."""
        params = nnx.split(self.build(nnx.Rngs(0)))[1]
        state = optax.adam(self.learning_rate).init(params)
        for step in range(1, self.steps + 1):
            params, state = _step(self, params, state, self.prepare(self.raw(self.batch, seed=step)))
        return params


@lru_cache
def _abstract(problem: Problem) -> tuple[Any, PyTree]:
    return nnx.split(nnx.eval_shape(lambda: problem.build(nnx.Rngs(0))))


@partial(jax.jit, static_argnums=0)
def _prepared(problem: Problem, images: jax.Array) -> jax.Array:
    return problem.build(nnx.Rngs(0)).prepare(images)


@partial(jax.jit, static_argnums=0, donate_argnums=2)
def _step(problem: Problem, params: PyTree, state: PyTree, batch: PyTree) -> tuple[PyTree, PyTree]:
    gradient = jax.grad(problem.objective)(params, batch)
    updates, state = optax.adam(problem.learning_rate).update(gradient, state, params)
    return optax.apply_updates(params, updates), state


def write(problem: Problem) -> Path:
    """Train the network and write its file, unless that is there."""
    if problem.path.exists():
        return problem.path
    params, raw = problem.trained(), problem.raw(problem.examples, seed=0)
    loss, gradient = jax.jit(jax.value_and_grad(problem.objective))(params, problem.prepare(raw))
    arrays = {f"weights/{path}": leaf for path, leaf in tree.named_leaves(params).items()}
    arrays |= {f"gradient/{path}": leaf for path, leaf in tree.named_leaves(gradient).items()}
    problem.path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = problem.path.with_suffix(".part.npz")
    np.savez(unfinished, inputs=raw[0], targets=raw[1], loss=loss, **arrays)
    unfinished.rename(problem.path)
    return problem.path


def make(problem: str) -> dict[str, Any]:
    """The file of the problem of that name, made where it is not there, and the problem's fields."""
    found = find(problem)
    return {"path": str(write(found)), "problem": asdict(found)}


def load(problem: Problem) -> tuple[PyTree, PyTree]:
    """Weights and probe batch, in the precision that jax is set to."""
    with np.load(problem.path) as arrays:
        weights = {path: arrays[f"weights/{path}"] for path in tree.named_leaves(_abstract(problem)[1])}
        raw = arrays["inputs"], arrays["targets"]
    precision = jax.dtypes.canonicalize_dtype(float)
    leaves = [jnp.asarray(weights[path], precision) for path in weights]
    params = jax.tree.unflatten(jax.tree.structure(_abstract(problem)[1]), leaves)
    inputs = raw[0] if problem.kind == "gpt" else raw[0].astype(precision)
    return params, problem.prepare((inputs, raw[1]))


_TEXT = {"vocabulary": 256, "length": 64, "positions": 64, "batch": 16}


def _gpt(name: str, width: int, depth: int, heads: int, **settings: Any) -> Problem:
    return Problem(name, "gpt", width, depth, heads=heads, **_TEXT | settings)


def _named(*problems: Problem) -> dict[str, Problem]:
    return {problem.name: problem for problem in problems}


PROBLEMS: dict[str, Problem] = _named(
    Problem("mlp-17k", "mlp", width=16, depth=1, examples=128, steps=30),
    _gpt("gpt-26k", width=32, depth=2, heads=2, vocabulary=32, length=16, positions=16, examples=8, steps=30),
    Problem("mlp-0.1M", "mlp", width=80, depth=3, examples=1024),
    Problem("mlp-1M", "mlp", width=430, depth=3, examples=512),
    Problem("mlp-4M", "mlp", width=1000, depth=3, examples=256),
    Problem("convnet", "convnet", width=64, depth=2, examples=512),
    _gpt("gpt-1M", width=128, depth=5, heads=4, examples=16),
    _gpt("gpt-10M", width=320, depth=8, heads=5, examples=8),
)


def find(name: str) -> Problem:
    """The problem of that name."""
    return lookup("problem", name, PROBLEMS)
