"""Embeddings that are readouts too are told from those that are not, whatever else a network reads out."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from sharplab.checks import coordinate_check
from sharplab.losses import cross_entropy
from sharplab.scaling.any_module import mup
from sharplab.scaling.read_out import kernels_looked_up, tables_read_out

TOKENS, LENGTH, BASE = 50, 8, 16

READOUTS = {
    "attend": lambda h, embed: embed.attend(h),
    "transposed": lambda h, embed: h @ embed.embedding[...].T,
    "einsum": lambda h, embed: jnp.einsum("btd,vd->btv", h, embed.embedding[...]),
    "a part": lambda h, embed: h @ (2.0 * embed.embedding[:40]).T,
    "compiled": lambda h, embed: jax.jit(lambda h, e: h @ e.T)(h, embed.embedding[...]),
    "recomputed": lambda h, embed: jax.checkpoint(lambda h, e: h @ e.T)(h, embed.embedding[...]),
    "scanned": lambda h, embed: jax.lax.scan(lambda c, x: (c, x @ embed.embedding[...].T), 0, h)[1],
    "chosen": lambda h, embed: jax.lax.cond(h.sum() > 0, embed.attend, lambda h: h @ embed.embedding[...].T, h),
    "no product": lambda h, embed: jnp.sum(h[..., None, :] * embed.embedding[...], -1),
}


class Reader(nnx.Module):
    """An embedding, a hidden layer and a readout, beside a router or a single key head at wish."""

    def __init__(self, width, rngs, *, readout=None, router=0, key=0, positions=False, multiplier=None):
        self.embed = nnx.Embed(TOKENS, width, embedding_init=nnx.initializers.normal(1.0), rngs=rngs)
        self.positions = nnx.Embed(LENGTH, width, rngs=rngs) if positions else None
        self.hidden = nnx.Linear(width, width, rngs=rngs)
        self.router = nnx.Linear(width, router, rngs=rngs) if router else None
        self.key = nnx.Linear(width, key, rngs=rngs) if key else None
        self.out = None if readout else nnx.Linear(width, TOKENS, rngs=rngs)
        self.readout, self.multiplier = readout, multiplier or (lambda width: 1.0)

    def __call__(self, tokens):
        h = self.embed(tokens)
        if self.positions is not None:
            h = h + self.positions(jnp.arange(tokens.shape[1]))[None]
        h = jnp.tanh(self.hidden(h))
        if self.router is not None:
            h = h * (1 + jax.nn.softmax(self.router(h))[..., :1])
        if self.key is not None:
            key = self.key(h)
            h = h + jax.nn.softmax(key @ key.swapaxes(1, 2)) @ h
        logits = self.out(h) if self.out is not None else READOUTS[self.readout](h, self.embed)
        return self.multiplier(h.shape[-1]) * logits


BESIDE = [{}, {"router": 4}, {"key": 16}, {"router": TOKENS}, {"router": 4, "positions": True}]


@pytest.mark.parametrize("beside", BESIDE)
def test_a_tied_embedding_is_refused_whatever_is_beside_it(beside):
    build = partial(Reader, readout="attend", **beside)
    with pytest.raises(ValueError, match=r"'embed/embedding'.*'tied'"):
        mup(build, base=BASE, width=4 * BASE)


@pytest.mark.parametrize("beside", [{"router": 4}, {"router": 4, "key": 16, "positions": True}])
def test_an_untied_one_is_an_input_whatever_is_beside_it(beside):
    table = mup(partial(Reader, **beside), base=BASE, width=BASE).table()
    assert set(table["role"][table.index.str.endswith("embedding")]) == {"input"}


@pytest.mark.parametrize("form", READOUTS)
def test_every_form_of_reading_out_is_seen(form):
    module = nnx.eval_shape(lambda: Reader(BASE, nnx.Rngs(0), readout=form, positions=True))
    assert tables_read_out(module, {"embed/embedding": 1, "positions/embedding": 1}) == {"embed/embedding"}


def one_hot(h, embed):
    return jnp.einsum("btv,vd->btd", jax.nn.one_hot(jnp.zeros(h.shape[:2], int), TOKENS), embed.embedding[...])


@pytest.mark.parametrize("lookup", [
    lambda h, embed: embed.embedding[: h.shape[1]] + h,
    lambda h, embed: jnp.take(embed.embedding[...].astype(jnp.bfloat16), 3, axis=0) + h,
    one_hot,
])  # fmt: skip
def test_rows_that_are_looked_up_and_added_are_not_read_out(lookup, monkeypatch):
    monkeypatch.setitem(READOUTS, "lookup", lambda h, embed: lookup(h, embed).sum(-1))
    module = Reader(BASE, nnx.Rngs(0), readout="lookup")
    assert tables_read_out(module, {"embed/embedding": 1}) == set()


class OfBatches(Reader):
    """Not a function of tokens, so that no call of it can be traced."""

    def __call__(self, batch):
        return super().__call__(batch["tokens"])


class OfTwo(Reader):
    """A function of two sequences and a flag."""

    def __call__(self, source, target, train):
        return super().__call__(source if train else target)


class Headless(Reader):
    """Its features are read out elsewhere."""

    def __call__(self, tokens):
        return self.hidden(self.embed(tokens))


@pytest.mark.parametrize("kind", [OfBatches, Headless])
def test_where_no_call_tells_a_readout_of_as_many_outputs_is_asked_for(kind):
    assert tables_read_out(kind(BASE, nnx.Rngs(0), readout="attend"), {"embed/embedding": 1}) is None
    with pytest.raises(ValueError, match=r"'embed/embedding'.*'tied'"):
        mup(partial(kind, readout="attend", router=4), base=BASE, width=4 * BASE)
    table = mup(partial(kind, router=4), base=BASE, width=BASE).table()
    assert table.loc["embed/embedding", "role"] == "input"


def test_calls_of_several_sequences_and_flags_are_traced_too():
    tables = {"embed/embedding": 1, "positions/embedding": 1}
    found = [tables_read_out(OfTwo(BASE, nnx.Rngs(0), readout=r, positions=True), tables) for r in ("attend", None)]
    assert found == [{"embed/embedding"}, set()]


@pytest.mark.slow
@pytest.mark.parametrize("beside", [{"router": 4}, {"key": 16}])
def test_coordinates_are_flat_with_the_multiplier_and_logits_grow_without(beside):
    tokens = jax.random.randint(jax.random.key(0), (16, LENGTH + 1), 0, TOKENS)

    def check(multiplier):
        build = partial(Reader, readout="attend", multiplier=multiplier, **beside)
        scaled = {n: mup(build, base=BASE, width=n, roles={"embed/*": "tied"}) for n in (16, 64, 256)}
        found = coordinate_check(
            lambda n, rngs: scaled[n].init(rngs.params()),
            widths=tuple(scaled),
            batch=(tokens[:, :-1], tokens[:, 1:]),
            loss=lambda outputs, targets: cross_entropy(outputs.reshape(-1, TOKENS), targets.reshape(-1)),
            optimizer=lambda n: scaled[n].optimizer(2**-4),
            steps=10,
            seeds=3,
        ).slopes()
        output = found[(found["kind"] == "output") & (found["step"] == found["step"].max())]
        return float(output["slope"].iloc[0])

    assert abs(check(lambda n: BASE / n)) < 0.25
    assert check(None) > 0.5


@pytest.mark.long
def test_logits_of_what_is_accepted_do_not_grow_with_width():
    tokens = np.arange(LENGTH)[None]

    def size(build, width, **roles):
        scaling = mup(build, base=BASE, width=width, **roles)
        return np.mean([jnp.abs(scaling.readout_multiplier * scaling.init(k)(tokens)).mean() for k in range(3)])

    tied = partial(Reader, readout="attend", router=4)
    for build, roles in ((partial(Reader, router=4), {}), (tied, {"roles": {"embed/*": "tied"}})):
        narrow, wide = (size(build, width, **roles) for width in (BASE, 16 * BASE))
        assert wide < 1.1 * narrow


class OneKernel(nnx.Module):
    """A readout whose kernel is looked up, or used in another way."""

    def __init__(self, width, rngs, *, use):
        self.embed = nnx.Embed(TOKENS, width, rngs=rngs)
        self.hidden, self.head = nnx.Linear(width, width, rngs=rngs), nnx.Linear(width, TOKENS, rngs=rngs)
        self.use = use

    def __call__(self, tokens):
        return self.head(jnp.tanh(self.hidden(self.use(tokens, self.head.kernel[...], self.embed(tokens)))))


LOOKUPS = {
    "transposed": lambda tokens, kernel, h: kernel.T[tokens],
    "taken": lambda tokens, kernel, h: jnp.moveaxis(jnp.take(kernel, tokens, axis=1), 0, -1),
    "one-hot": lambda tokens, kernel, h: jax.nn.one_hot(tokens, TOKENS) @ kernel.T,
}


@pytest.mark.parametrize("form", LOOKUPS)
def test_a_readout_that_is_looked_up_as_an_embedding_is_refused(form):
    with pytest.raises(ValueError, match=r"readout 'head/kernel'.*roles=\{'head/kernel': 'tied'\}.*'output' if"):
        mup(partial(OneKernel, use=LOOKUPS[form]), base=BASE, width=4 * BASE)


@pytest.mark.parametrize("role, factor, multiplier", [("tied", 1, 1 / 4), ("output", 1 / 4, 1)])
def test_declared_it_is_taken_as_that(role, factor, multiplier):
    build = partial(OneKernel, use=LOOKUPS["transposed"])
    scaling = mup(build, base=BASE, width=4 * BASE, roles={"head/kernel": role})
    row = scaling.table().loc["head/kernel"]
    assert (row["role"], row["lr_factor"], scaling.readout_multiplier) == (role, factor, multiplier)


@pytest.mark.parametrize("use", [
    lambda tokens, kernel, h: h,
    lambda tokens, kernel, h: h + (h @ kernel)[..., :1],
    lambda tokens, kernel, h: h + (h @ kernel[:, 0])[..., None],
])  # fmt: skip
def test_a_readout_that_only_reads_out_is_one(use):
    module = nnx.eval_shape(lambda: OneKernel(BASE, nnx.Rngs(0), use=use))
    assert kernels_looked_up(module, {"head/kernel": 0}) == set()


def test_a_sequence_of_layers_is_traced_too():
    rngs = nnx.Rngs(0)
    module = nnx.Sequential(nnx.Embed(TOKENS, BASE, rngs=rngs), nnx.Linear(BASE, TOKENS, rngs=rngs))
    assert tables_read_out(module, {"layers/0/embedding": 1}) == set()
