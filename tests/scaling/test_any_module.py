"""Roles, sizes and factors that `mup` finds for modules of Flax's own layers."""

import json
import re
from dataclasses import replace
from functools import cache, partial
from math import isqrt

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from flax_models import FEATURES, LENGTH, MLP, TOKENS, ConvNet, Gated, Transformer, multiple

from sharplab.core.tree import named_leaves
from sharplab.optimizers import make_optimizer
from sharplab.scaling.any_module import mup, scale_module
from sharplab.scaling.depth import DepthRule
from sharplab.scaling.drawn_sizes import DrawnSize
from sharplab.scaling.scaled import Scaling

BASE, WIDTH = 8, 16  # also the probe width: what is traced and drawn at one serves both
DEPTH = 2


def one_block(width, rngs, **options):
    return Transformer(width, 1, rngs, **options)


@cache
def scaling_of(build, width=WIDTH):
    return mup(build, base=BASE, width=width)


def unmeasured(build, *size):
    """Every parameter as if drawn of size 1."""
    params = jax.eval_shape(lambda: nnx.state(build(*size, nnx.Rngs(0)), nnx.Param))
    return dict.fromkeys(named_leaves(params), DrawnSize(1.0, 1.0, 0.0, False))


def by_shapes(build, **settings):
    """The table of what shapes alone decide: nothing is drawn, which is most of the time that `mup` takes."""
    settings = {"base": BASE, "width": WIDTH} | settings
    return scale_module(build, "mup", measure=unmeasured, **settings).table()


def params_of(module):
    return {path: np.asarray(w) for path, w in named_leaves(nnx.state(module, nnx.Param)).items()}


def std_over_draws(draw, path, draws):
    """Root mean square over many draws, by one program."""
    keys = jax.random.split(jax.random.key(1), draws)
    ws = jax.jit(lambda keys: jax.lax.map(lambda key: named_leaves(nnx.state(draw(key), nnx.Param))[path], keys))(keys)
    return float(np.sqrt(np.mean(np.square(ws, dtype=np.float64))))


ROLES = {
    MLP: {
        "first/kernel": "input", "first/bias": "vector", "second/kernel": "hidden", "second/bias": "vector",
        "readout/kernel": "output", "readout/bias": "scalar",
    },
    ConvNet: {
        "stem/kernel": "input", "stem/bias": "vector", "norm/scale": "vector", "norm/bias": "vector",
        "grouped/kernel": "hidden", "grouped/bias": "vector", "depthwise/kernel": "vector", "depthwise/bias": "vector",
        "up/kernel": "hidden", "up/bias": "vector", "last_norm/scale": "vector", "last_norm/bias": "vector",
        "readout/kernel": "output", "readout/bias": "scalar",
    },
    one_block: {"embed/embedding": "input", "positions": "input", "norm/scale": "vector", "readout/kernel": "output"}
    | {f"blocks/0/norm/{name}": "vector" for name in ("scale", "bias")}
    | {
        f"blocks/0/{layer}/{name}": role
        for layer in ("attention/query", "attention/key", "attention/value", "attention/out", "up", "down")
        for name, role in (("kernel", "hidden"), ("bias", "vector"))
    },
}  # fmt: skip


@pytest.mark.parametrize("build", ROLES)
def test_every_parameter_has_its_role(build):
    assert scaling_of(build).table()["role"].to_dict() == ROLES[build]


@pytest.mark.parametrize("optimizer, width", [("adam", 16), ("adam", 12), ("sgd", 16), ("sgd", 12)])
def test_factors_are_those_of_the_formulation_without_multipliers(optimizer, width):
    """arXiv 2203.03466, table 3, and AdamW's decay and ε that keep their meaning."""
    m = width / BASE
    rate = {
        "adam": {"input": 1, "vector": 1, "hidden": 1 / m, "output": 1 / m, "scalar": 1},
        "sgd": {"input": m, "vector": m, "hidden": 1, "output": 1 / m, "scalar": 1},
    }[optimizer]
    gradient = {"input": 1 / m, "vector": 1 / m, "hidden": 1 / m, "output": 1, "scalar": 1}
    table = replace(scaling_of(MLP, width), algorithm=optimizer).table()
    for row in table.itertuples():
        assert np.isclose(row.lr_factor, rate[row.role])
        assert np.isclose(row.lr_factor * row.decay_factor, 1)
        assert np.isclose(row.epsilon_factor, 1 if optimizer == "sgd" else gradient[row.role])
        assert row.multiplier == 1
    fans = table[["fan_in", "fan_out"]].T.to_dict("list")
    assert (fans["first/kernel"], fans["second/kernel"], fans["readout/kernel"]) == ([1, m], [m, m], [m, 1])
    assert (fans["second/bias"], fans["readout/bias"]) == ([1, m], [1, 1])


def test_nothing_is_scaled_at_the_base():
    table = scaling_of(one_block, BASE).table()
    columns = ["lr_factor", "decay_factor", "epsilon_factor", "fan_in", "fan_out", "multiplier"]
    assert np.all(table[columns] == 1)
    drawn, plain = params_of(scaling_of(one_block, BASE).init(3)), params_of(one_block(BASE, nnx.Rngs(3)))
    assert drawn.keys() == plain.keys()
    assert all(np.array_equal(drawn[path], plain[path]) for path in plain)


uniform = jax.nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")  # torch's, of weights and biases
glorot = jax.nn.initializers.glorot_uniform()


def torch_like(width, rngs):
    """Biases that shrink with fan-in, as in torch."""
    module = MLP(width, rngs, kernel_init=uniform)
    for layer in (module.first, module.second, module.readout):
        key, bound = rngs.params(), layer.in_features**-0.5
        layer.bias[...] = jax.random.uniform(key, layer.bias.shape, minval=-bound, maxval=bound)
    return module


@pytest.mark.parametrize("path, found, b", [
    ("first/kernel", 0, 0), ("first/bias", 0, 0), ("second/kernel", -0.5, 0.5), ("second/bias", -0.5, 0),
    ("readout/kernel", -0.5, 1), ("readout/bias", -0.5, 0),
])  # fmt: skip
def test_initial_sizes_are_brought_to_what_mup_prescribes(path, found, b):
    scaling = scaling_of(torch_like)
    assert scaling.table().loc[path, "init_exponent"] == found
    draws = 400 if path == "readout/bias" else 40
    at_base = std_over_draws(lambda key: torch_like(BASE, nnx.Rngs(key)), path, 4 * draws)
    at_width = std_over_draws(scaling.init, path, draws)
    assert np.isclose(at_width, at_base * (WIDTH / BASE) ** -b, rtol=0.06)
    assert np.isclose(scaling.table().loc[path, "init_std"], at_base * (WIDTH / BASE) ** -b, rtol=0.06)


def test_an_initialiser_that_is_no_power_of_width_is_corrected_as_measured():
    """Glorot's averages a fan-in of 5 and a fan-out that grows: std √(2/(5 + n))."""
    build = partial(MLP, kernel_init=glorot)
    scaling = mup(build, base=BASE, width=WIDTH)
    row = scaling.table().loc["first/kernel"]
    assert np.isclose(row["init_exponent"], np.log2((FEATURES + BASE) / (FEATURES + WIDTH)) / 2, atol=0.02)
    assert row["remark"] and not next(p for p in scaling.parameters if p.path == "first/kernel").init_exact
    factors = {p.path: p.init_factor for p in scaling.parameters}
    assert np.isclose(factors["first/kernel"], np.sqrt((FEATURES + WIDTH) / (FEATURES + BASE)), rtol=0.02)
    assert np.isclose(factors["second/kernel"], 1)


def test_constants_stay_and_so_does_other_state():
    scaling = scaling_of(ConvNet)
    drawn, plain = scaling.init(0), ConvNet(WIDTH, nnx.Rngs(0))
    for path, w in params_of(plain).items():
        if path.endswith(("bias", "scale")):
            assert np.array_equal(params_of(drawn)[path], w)
    stats = nnx.state(drawn, nnx.BatchStat)
    assert jax.tree.all(jax.tree.map(np.array_equal, stats, nnx.state(plain, nnx.BatchStat)))
    assert not np.allclose(params_of(drawn)["readout/kernel"], params_of(plain)["readout/kernel"])


def test_init_is_a_function_of_its_key_and_can_be_compiled():
    scaling = scaling_of(MLP)
    first, again, other = (params_of(scaling.init(key)) for key in (0, jax.random.key(0), 1))
    compiled = named_leaves(jax.jit(lambda key: nnx.state(scaling.init(key), nnx.Param))(jax.random.key(0)))
    for path, w in first.items():
        assert np.array_equal(w, again[path])
        assert np.allclose(w, compiled[path], rtol=1e-6)
    assert not np.array_equal(first["first/kernel"], other["first/kernel"])


def test_queries_hold_what_attention_lacks_where_heads_grow():
    theta = (WIDTH / BASE) ** -0.5
    table = scaling_of(one_block).table()
    query, key = (table.loc[f"blocks/0/attention/{name}/kernel"] for name in ("query", "key"))
    assert "head_dim" in query["remark"] and not key["remark"]
    assert np.isclose(query["lr_factor"], theta * key["lr_factor"])
    assert np.isclose(query["decay_factor"], key["decay_factor"] / theta)
    assert np.isclose(query["epsilon_factor"], key["epsilon_factor"] / theta)
    assert np.isclose(query["init_std"], theta * key["init_std"], rtol=0.05)
    bias, plain = (table.loc[f"blocks/0/attention/{name}/bias"] for name in ("query", "key"))
    assert np.isclose(bias["lr_factor"], theta * plain["lr_factor"])


def normalised(width, rngs):
    return one_block(width, rngs, normalize_qk=True)


def more_heads(width, rngs):
    return nnx.MultiHeadAttention(width // 4, width, decode=False, rngs=rngs)


def own_attention(width, rngs):
    return nnx.MultiHeadAttention(2, width, decode=False, attention_fn=lambda *args, **kw: args[2], rngs=rngs)


def test_a_normalised_query_holds_it_in_the_norm():
    scaling = scaling_of(normalised)
    drawn = params_of(scaling.init(0))
    assert np.allclose(drawn["blocks/0/attention/query_ln/scale"], (WIDTH / BASE) ** -0.5)
    assert np.allclose(drawn["blocks/0/attention/key_ln/scale"], 1)
    assert not scaling.table().loc["blocks/0/attention/query/kernel", "remark"]


def test_heads_of_fixed_size_and_attention_of_ones_own_are_left_alone():
    for build, remark in ((more_heads, ""), (own_attention, "attention_fn")):
        table = by_shapes(build)
        assert table.loc["query/kernel", "remark"].startswith(remark) or not remark
        assert bool(table.loc["query/kernel", "remark"]) == bool(remark)
        assert table.loc["query/kernel", "lr_factor"] == table.loc["key/kernel", "lr_factor"] == BASE / WIDTH


def heads_and_their_size(width, rngs):
    """8 heads of 8 at width 64, 16 of 8 at 128, 16 of 16 at 256."""
    heads = 2 ** (width.bit_length() // 2)
    return nnx.MultiHeadAttention(heads, width, decode=False, rngs=rngs)


def test_where_heads_grow_with_another_power_of_width_the_query_holds_that():
    table = by_shapes(heads_and_their_size, base=64, width=256)
    assert table.loc["query/kernel", "shape"] == (256, 16, 16)
    assert np.isclose(table.loc["key/kernel", "lr_factor"], 1 / 4)
    assert np.isclose(table.loc["query/kernel", "lr_factor"], (16 / 8) ** -0.5 / 4)
    assert by_shapes(heads_and_their_size, base=64, width=64)["lr_factor"].eq(1).all()


def tied(width, rngs):
    return one_block(width, rngs, tied=True)


def test_an_embedding_that_may_be_the_readout_must_be_declared():
    with pytest.raises(ValueError, match=r"'embed/embedding'.*'tied'"):
        mup(tied, base=BASE, width=WIDTH)
    scaling = mup(tied, base=BASE, width=WIDTH, roles={"embed/*": "tied"})
    row = scaling.table().loc["embed/embedding"]
    assert (row["role"], row["lr_factor"], row["multiplier"]) == ("tied", 1, BASE / WIDTH)
    assert scaling.readout_multiplier == BASE / WIDTH
    assert re.search(r"logits.* 0\.5", str(scaling))
    as_input = scale_module(tied, "mup", base=BASE, width=WIDTH, roles={"embed/*": "input"}, measure=unmeasured)
    assert as_input.readout_multiplier == scaling_of(one_block).readout_multiplier == 1


class Bare(nnx.Module):
    """A module of parameters that no layer explains."""

    def __init__(self, width, rngs, **shapes):
        for name, shape in shapes.items():
            size = tuple({"n": width, "n+1": width + 1, "n²": width**2}.get(n, n) for n in shape)
            setattr(self, name, nnx.Param(jax.random.normal(rngs.params(), size)))


def bare(**shapes):
    return partial(Bare, **shapes)


@pytest.mark.parametrize("build, message", [
    (bare(w=("n", "n")), r"'w'.*\(8, 8\) at width 8, \(16, 16\) at width 16\..*roles=\{'w': 'hidden'\}"),
    (bare(w=(3, "n")), r"roles=\{'w': 'input'\}"),
    (bare(w=("n",)), r"'w' is drawn at random.*\(8,\) at width 8.*roles=\{'w': 'output'\}"),
    (bare(b=("n²",)), r"axis 0 .*'b'.*\(64,\)"),
    (lambda width, rngs: nnx.Embed(width, width, rngs=rngs), "'embedding' grows"),
    (lambda width, rngs: nnx.Dropout(0.5), "without an nnx.Param"),
    (lambda width, rngs: nnx.vmap(lambda rngs: nnx.Linear(3, 4, rngs=rngs))(rngs.split(width)),
     "axis 0.*'bias'"),
    (lambda width, rngs: Bare(width, rngs, **({"x": (2,)} if width == WIDTH else {}), w=("n",)), "every width"),
])  # fmt: skip
def test_what_cannot_be_told_is_an_error_that_names_it(build, message):
    with pytest.raises(ValueError, match=message):
        mup(build, base=BASE, width=WIDTH)


def test_roles_are_declared_by_pattern_or_in_the_module():
    build = bare(w=("n", "n"), table=(3, "n"), gain=("n",), scale=(), out=("n", 2))
    roles = {"w": "hidden", "t*": "input", "gain": "vector", "out": "output"}
    table = by_shapes(build, roles=roles)
    assert dict(table["role"]) == {
        "w": "hidden", "table": "input", "gain": "vector", "scale": "scalar", "out": "output",
    }  # fmt: skip
    assert np.isclose(table.loc["w", "lr_factor"], BASE / WIDTH)

    def declares(width, rngs):
        module = Bare(width, rngs)
        module.w = nnx.Param(jnp.ones((width, width)), role="hidden")
        return module

    assert by_shapes(declares).loc["w", "role"] == "hidden"
    assert by_shapes(declares, roles={"w": "hidden"}).loc["w", "remark"] == "role as declared"


@pytest.mark.parametrize("options, message", [
    ({"roles": {"second/kernel": "inner"}}, "role 'inner'"),
    ({"roles": {"third/*": "hidden"}}, "'third/\\*'.*first/bias"),
    ({"roles": {"second/bias": "hidden"}}, "'second/bias'.*'hidden'"),
    ({"optimizer": "adamm"}, "optimizer 'adamm'.*'adam'"),
    ({"optimizer": optax.adam(0.1)}, "optimizer .*Scaling.scale"),
    ({"base": 0}, "base .*0"),
    ({"width": 2.5}, "width .*2.5"),
    ({"depth": 4, "base_depth": 2}, "alpha"),
    ({"depth": 4, "base_depth": 2, "alpha": "complete"}, "'complete'"),
    ({"depth": 4, "base_depth": 2, "alpha": -1}, "alpha .*-1"),
    ({"depth": 0, "base_depth": 2, "alpha": 1}, "^depth .*0"),
])  # fmt: skip
def test_settings_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        mup(MLP, **{"base": BASE, "width": WIDTH} | options)


def listed(width, depth, rngs):
    return Transformer(width, depth, rngs)


def stacked(width, depth, rngs):
    return Transformer(width, depth, rngs, stacked=True)


@cache
def deep(build):
    return mup(build, base=BASE, width=WIDTH, base_depth=1, depth=DEPTH, alpha="completep")


def test_blocks_in_a_list_and_stacked_have_the_same_factors():
    columns = ["role", "lr_factor", "decay_factor", "epsilon_factor", "in_branch"]
    of_list = by_shapes(listed, base_depth=1, depth=DEPTH, alpha="completep")[columns]
    of_stack = deep(stacked).table()[columns]
    assert len(of_list) == 4 + DEPTH * (len(of_stack) - 4)
    for path, row in of_stack.iterrows():
        paths = [path.replace("blocks/", f"blocks/{i}/") for i in range(DEPTH)] if "blocks" in path else [path]
        assert all(of_list.loc[same].equals(row) for same in paths)
    assert of_stack["in_branch"].to_dict() == {path: "blocks" in path for path in of_stack.index}


def test_completep_is_as_published():
    """arXiv 2505.01618: learning rates, decay and ε of hidden weights, biases and norms in blocks, and of the rest."""
    m_N, m_L = WIDTH / BASE, DEPTH
    table = deep(stacked).table()
    hidden, bias, final = table.loc["blocks/up/kernel"], table.loc["blocks/up/bias"], table.loc["norm/scale"]
    assert np.isclose(hidden["lr_factor"], 1 / m_N) and np.isclose(hidden["decay_factor"], m_N)
    assert np.isclose(hidden["epsilon_factor"], 1 / (m_N * m_L))
    assert np.isclose(bias["lr_factor"], 1) and np.isclose(bias["epsilon_factor"], 1 / (m_N * m_L))
    assert np.isclose(final["lr_factor"], 1) and np.isclose(final["epsilon_factor"], 1 / m_N)
    assert re.search(r"branch by 0\.5", str(deep(stacked)))


class Branch(nnx.Module):
    """Residual blocks that are drawn smaller the more there are, as GPT-2's; attributes one by one, not in a list."""

    def __init__(self, width, depth, rngs):
        self.stem = nnx.Linear(3, width, rngs=rngs)
        for i in range(depth):
            init = nnx.initializers.normal((2 * depth) ** -0.5 / width)
            setattr(self, f"block_{i}", nnx.Linear(width, width, use_bias=False, kernel_init=init, rngs=rngs))


def test_an_initialiser_that_knows_of_depth_is_corrected_too():
    scaling = mup(Branch, base=BASE, width=WIDTH, base_depth=1, depth=4, alpha=1)
    factors = {p.path: p.init_factor for p in scaling.parameters}
    assert scaling.table()["in_branch"].to_dict() == {
        "block_0/kernel": True, "block_1/kernel": True, "block_2/kernel": True, "block_3/kernel": True,
        "stem/bias": False, "stem/kernel": False,
    }  # fmt: skip
    assert all(np.isclose(factors[f"block_{i}/kernel"], 2 * (WIDTH / BASE) ** 0.5) for i in range(4))
    assert factors["stem/kernel"] == 1


def test_other_exponents_of_depth_and_kinds():
    scaling = scale_module(
        Branch, "mup", base=BASE, width=WIDTH, base_depth=1, depth=4, alpha="depth_mup", measure=unmeasured
    )
    adam, sgd = (replace(scaling, algorithm=name).table().loc["block_3/kernel"] for name in ("adam", "sgd"))
    assert (adam["lr_factor"], adam["decay_factor"]) == (4**-0.5 * BASE / WIDTH, WIDTH / BASE)
    assert (sgd["lr_factor"], scaling.branch_multiplier) == (1, 0.5)
    assert replace(scaling, depth=DepthRule(4, 1, 1.0), algorithm="sgd").table().loc["block_3/kernel", "lr_factor"] == 4


@pytest.mark.parametrize("build, message", [
    (lambda width, depth, rngs: MLP(width, rngs), "^depth: nothing"),
    (lambda width, depth, rngs: nnx.List(nnx.Linear(width, width, rngs=rngs) for _ in range(depth + 1)),
     "3 .*depth 2 .*5 .*4"),
    (lambda width, depth, rngs: nnx.Dict({"a" * depth: nnx.Linear(width, width, rngs=rngs)}),
     "'aa/bias'|'aaaa/bias'"),
])  # fmt: skip
def test_depth_that_cannot_be_told_is_an_error(build, message):
    with pytest.raises(ValueError, match=message):
        mup(build, base=BASE, width=WIDTH, base_depth=2, depth=4, alpha=1)


def test_a_scaling_survives_json():
    scaling = deep(stacked)
    saved = json.loads(json.dumps(scaling.to_dict()))
    restored = Scaling.from_dict(saved, stacked)
    assert restored == scaling
    assert np.array_equal(params_of(restored.init(0))["norm/scale"], np.ones(WIDTH))
    with pytest.raises(ValueError, match=r"init .*build"):
        Scaling.from_dict(saved).init(0)
    own = mup(MLP, base=BASE, width=WIDTH, optimizer=make_optimizer("adam", b1=0.5))
    with pytest.raises(ValueError, match="optimizer="):
        Scaling.from_dict(own.to_dict())
    assert Scaling.from_dict(own.to_dict(), optimizer=own.algorithm).algorithm is own.algorithm


def test_a_build_that_has_changed_is_refused():
    scaling = Scaling.from_dict(scaling_of(MLP).to_dict(), ConvNet)
    with pytest.raises(ValueError, match=r"width 16 \(base 8\).*parameter"):
        scaling.init(0)


def test_printed_it_says_what_it_is():
    text = str(scaling_of(one_block))
    assert re.search(r"width 16 \(base 8\).*adam$", text.splitlines()[0])
    assert f"({LENGTH}, 16)" in text and f"({TOKENS}, 16)" in text
    assert "logits" not in text and "branch by" not in text
    assert len(text.splitlines()) == len(ROLES[one_block]) + 4


@pytest.mark.long
def test_half_precision_parameters_keep_their_type():
    def build(width, rngs):
        return nnx.Linear(3, width, param_dtype=jnp.bfloat16, rngs=rngs)

    assert all(w.dtype == jnp.bfloat16 for w in params_of(mup(build, base=BASE, width=WIDTH).init(0)).values())


def test_rounded_hidden_sizes_are_scaled_by_the_fan_in_of_their_shapes():
    gated = partial(Gated, of=8)
    scaling = mup(gated, base=16, width=64)
    table = scaling.table()
    assert table.loc["down/kernel", "shape"] == (176, 64)
    rates = {"down/kernel": 48 / 176, "up/kernel": 1 / 4, "gate/kernel": 1 / 4, "readout/kernel": 1 / 4, "up/bias": 1}
    for path, rate in rates.items():
        assert np.isclose(table.loc[path, "lr_factor"], rate), path
        assert np.isclose(table.loc[path, "lr_factor"] * table.loc[path, "decay_factor"], 1)
    assert np.allclose(table.loc["down/kernel", ["fan_in", "fan_out"]].astype(float), [176 / 48, 4])
    sgd = replace(scaling, algorithm="sgd").table()["lr_factor"]
    assert np.isclose(sgd["down/kernel"], 4 / (176 / 48)) and np.isclose(sgd["up/kernel"], 176 / 48 / 4)
    # Flax draws by 1/√fan-in already; the readout's std must go with 1/fan-in.
    factors = {p.path: p.init_factor for p in scaling.parameters}
    expected = {path: 0.5 if path == "readout/kernel" else 1.0 for path in factors}
    assert factors == pytest.approx(expected, rel=1e-6)
    rounded = table["remark"].str.contains("rounded")
    assert set(table.index[rounded]) == {f"{n}/{w}" for n in ("up", "gate") for w in ("kernel", "bias")} | {
        "down/kernel"
    }
    assert "rounded" in str(scaling)
    assert Scaling.from_dict(json.loads(json.dumps(scaling.to_dict())), gated) == scaling


def test_at_the_base_rounding_changes_nothing():
    table = by_shapes(Gated, base=64, width=64)
    columns = ["lr_factor", "decay_factor", "epsilon_factor", "fan_in", "fan_out", "multiplier"]
    assert np.all(table[columns] == 1) and not table["remark"].any()


@pytest.mark.parametrize("of, width", [(1, 256), (32, 80), (256, 256), (32, 32)])
def test_coarser_and_finer_rounding_and_narrower_widths_are_taken_too(of, width):
    build = partial(Gated, of=of)
    down = by_shapes(build, base=64, width=width).loc["down/kernel"]
    assert np.isclose(down["lr_factor"], multiple(8 * 64 / 3, of) / down["shape"][0])


class Heads(nnx.Module):
    """Heads of one size, whose number is that of the width, rounded, or both going with its root."""

    def __init__(self, width, rngs, of):
        self.query = nnx.LinearGeneral(width, of(width), rngs=rngs)
        self.out = nnx.LinearGeneral(of(width), width, axis=(-2, -1), rngs=rngs)


@pytest.mark.parametrize("of, fan_in", [
    (lambda n: (n // 16, 16), 4), (lambda n: (-(-n // 24), 24), 11 / 3), (lambda n: (isqrt(n), isqrt(n)), 4),
])  # fmt: skip
def test_numbers_of_heads_count_by_what_they_make_together(of, fan_in):
    table = by_shapes(partial(Heads, of=of), base=64, width=256)
    assert np.isclose(table.loc["out/kernel", "lr_factor"], 1 / fan_in)
    assert np.isclose(table.loc["query/kernel", "lr_factor"], 1 / 4)
    assert set(table["role"]) == {"hidden", "vector"}
