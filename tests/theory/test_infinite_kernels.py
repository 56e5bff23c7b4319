"""The infinitely wide networks' kernels against simulation, closed forms, and the networks as they grow wide."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sharplab as sl
from sharplab.losses import squared_error
from sharplab.models import MODELS
from sharplab.models.patches import image_patches
from sharplab.optimizers import OPTIMIZERS
from sharplab.scaling import DepthRule, Rule, parameterization
from sharplab.theory.infinite_convnet import figure1_convnet_kernels
from sharplab.theory.infinite_depth import cosine_gaps, deep_log_kernel
from sharplab.theory.infinite_kernels import mlp_kernels, relu_duals, residual_mlp_kernels
from sharplab.training.network import Network
from sharplab.training.recipe import Recipe
from sharplab.training.sources import ByRule

CLASSES = 2
DEPTHS = {"mlp": DepthRule(3), "residual_mlp": DepthRule(2, base_depth=1, alpha=1.0), "figure1_convnet": DepthRule(2)}


def vectors(n, size=6, seed=0):
    """Of lengths that differ, the last two along one line, in double precision."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, size)) * rng.uniform(0.3, 2.0, (n, 1))
    x[-1] = -0.7 * x[-2]
    return x


def images(n, channels=1, seed=0):
    """Smooth random images, so that neighbouring pixels correlate as in photographs."""
    coarse = np.random.default_rng(seed).standard_normal((n, 8, 8, channels))
    return np.asarray(jax.image.resize(coarse, (n, 32, 32, channels), "cubic"), np.float32)


INPUTS = {"mlp": vectors(4), "residual_mlp": vectors(4), "figure1_convnet": images(3)}


@cache
def infinite(model):
    """Kernels(nngp, ntk), as arrays of the host."""
    with jax.enable_x64(model != "figure1_convnet"):
        if model == "mlp":
            found = mlp_kernels(INPUTS[model], depth=3)
        elif model == "residual_mlp":
            found = residual_mlp_kernels(INPUTS[model], depth=DEPTHS[model])
        else:
            found, _ = figure1_convnet_kernels(INPUTS[model], jax.random.key(0), draws=4096, repeats=8)
        return jax.tree.map(np.asarray, found)


def network(model, width):
    """The lab's, under NTK with a base width that should not matter."""
    rule = Rule(parameterization("ntk"), width, 4, 1.0, DEPTHS[model])
    shape = INPUTS[model].shape[1:]
    return Recipe(Network(ByRule(MODELS[model], rule, shape, CLASSES)), squared_error, OPTIMIZERS["sgd"], ())


def empirical_kernels(model, width, seeds):
    """J D Jᵀ of each seed, (seeds, n, n, C, C), and the outputs' products, averaged over outputs, (seeds, n, n)."""
    recipe, inputs = network(model, width), INPUTS[model].astype(np.float32)
    n, prepared = len(inputs), recipe.prepare(inputs)

    @jax.jit
    def kernels(seed, prepared):
        params = recipe.init_params(seed)
        kernel = sl.ntk(recipe.forward, params, prepared, scale=recipe.factors()).dense()
        f = recipe.forward(params, prepared)
        return kernel.reshape(n, CLASSES, n, CLASSES).transpose(0, 2, 1, 3), f @ f.T / CLASSES

    found = [kernels(seed, prepared) for seed in range(seeds)]
    return [np.stack(x) for x in zip(*found, strict=True)]


@pytest.mark.parametrize("correlation", [-1.0, -0.6, 0.0, 0.3, 0.99, 1.0])
def test_relu_duals_are_the_expectations(correlation):
    rng, draws = np.random.default_rng(0), 400_000
    u, w = rng.standard_normal((2, draws))
    v = 1.5 * (correlation * u + np.sqrt(1 - correlation**2) * w)
    product = np.maximum(u, 0) * np.maximum(v, 0)
    slope = (u > 0) & (v > 0)
    found = relu_duals(jnp.array(1.5 * correlation), jnp.array(1.0), jnp.array(2.25))
    for value, drawn in zip(found, (product, slope), strict=True):
        assert abs(value - drawn.mean()) <= 4 * drawn.std() / np.sqrt(draws) + 1e-4


def test_one_hidden_layer_is_the_arc_cosine_kernel(float64):
    x = vectors(5)[:4]  # at angles near 0 and π an arc cosine loses half of the digits
    kernels = mlp_kernels(x, depth=1)
    K = x @ x.T / x.shape[1]
    norms = np.sqrt(np.outer(np.diag(K), np.diag(K)))
    theta = np.arccos(np.clip(K / norms, -1, 1))
    kappa0 = 1 - theta / np.pi
    kappa1 = (np.sin(theta) + (np.pi - theta) * np.cos(theta)) / np.pi
    nngp = norms * kappa1 / 2
    assert np.allclose(kernels.nngp, nngp, rtol=0, atol=1e-13)
    assert np.allclose(kernels.ntk, nngp + K * kappa0 / 2, rtol=0, atol=1e-13)


def test_deep_recursion_is_the_one_with_integrals_over_the_plane(float64):
    """Over the angle on a fine grid; over the radius, whose square has the mean 2, exactly."""
    angles = 2 * np.pi * (np.arange(1_000_000) + 0.5) / 1_000_000

    def expectations(block):
        u, v = np.linalg.cholesky(block + 1e-15 * np.eye(2)) @ [np.cos(angles), np.sin(angles)]
        return 2 * np.mean(np.maximum(u, 0) * np.maximum(v, 0)), np.mean((u > 0) & (v > 0))

    x = vectors(4)[:2]
    K = x @ x.T / x.shape[1]
    tangent = K.copy()
    for gain in (2.0, 2.0, 1.0):
        product, slope = np.empty((2, 2, 2))
        for i, j in np.ndindex(2, 2):
            product[i, j], slope[i, j] = expectations(K[np.ix_([i, j], [i, j])])
        K, tangent = gain * product, gain * (tangent * slope + product)
    kernels = mlp_kernels(x, depth=3)
    assert np.allclose(kernels.nngp, K, rtol=1e-6)
    assert np.allclose(kernels.ntk, tangent, rtol=1e-5)


def test_kernels_on_the_diagonal_in_closed_form(float64):
    x = vectors(5)
    q = (x**2).mean(axis=1)
    kernels = mlp_kernels(x, depth=4)
    # Gain √2 keeps the variance q; each of five layers adds as much to the tangent, the readout's half to all.
    assert np.allclose(np.diag(kernels.nngp), q / 2, rtol=1e-14)
    assert np.allclose(np.diag(kernels.ntk), 5 * q / 2, rtol=1e-14)
    half = residual_mlp_kernels(x, depth=DepthRule(3, alpha=0.5))
    grown = (1 + 1 / 3) ** 3 * q
    assert np.allclose(np.diag(half.nngp), grown, rtol=1e-14)


@pytest.mark.parametrize("model", ["mlp", "residual_mlp", "figure1_convnet"])
def test_kernels_are_symmetric_and_positive_semidefinite(model):
    for kernel in infinite(model):
        assert np.allclose(kernel, kernel.T, rtol=1e-6)
        eigenvalues = np.linalg.eigvalsh(np.asarray(kernel, np.float64))
        assert eigenvalues[0] >= -1e-6 * eigenvalues[-1]


@pytest.mark.parametrize("depth", [1, 3])
def test_blocks_of_the_kernel_are_the_kernel_of_blocks(float64, depth):
    x = vectors(7)
    for whole, rows, pair in zip(
        mlp_kernels(x, depth=depth),
        mlp_kernels(x[:3], x, depth=depth),
        mlp_kernels(x[4:5], x[4:5], depth=depth),
        strict=True,
    ):
        # Angles near 0 and π lose half of the digits.
        assert np.allclose(whole[:3], rows, rtol=1e-7)
        assert np.allclose(whole[4, 4], pair, rtol=1e-7)


def test_an_input_of_zeros_has_zero_kernel_and_spoils_no_other():
    x = np.concatenate([np.zeros((1, 6)), vectors(3)]).astype(np.float32)
    alone, together = mlp_kernels(x[1:], depth=2), mlp_kernels(x, depth=2)
    units = x[1:] / np.linalg.norm(x[1:], axis=1, keepdims=True)
    cosines = units @ units.T
    for part, whole in zip(alone, together, strict=True):
        assert np.all(whole[0] == 0)
        # Between opposite vectors rounding moves the angle by its root.
        opposite = cosines < -1 + 1e-5
        assert 0 < opposite.sum() < opposite.size / 2
        off = np.abs(whole[1:, 1:] - part) / np.abs(part)
        assert np.all(off <= np.where(opposite, 1e-3, 1e-6))


RULE = DepthRule(4)
both = pytest.mark.parametrize(("kernels", "depth"), [(mlp_kernels, 3), (residual_mlp_kernels, RULE)])


@both
@pytest.mark.parametrize("kind", [np.uint8, np.int8, np.float16, jnp.bfloat16])
def test_images_of_few_bits_have_the_kernel_of_their_values(kernels, depth, kind):
    small = 1e-3 if kind == np.float16 else 1.0  # whose squares float16 does not hold
    x = (small * np.random.default_rng(0).integers(0, 128, (3, 40))).astype(kind)
    for found, wanted in zip(kernels(x, depth=depth), kernels(x.astype(np.float32), depth=depth), strict=True):
        assert found.dtype == jnp.float32
        np.testing.assert_array_equal(found, wanted)


def test_expectations_of_small_variances_do_not_vanish():
    product, slope = relu_duals(*(jnp.float32(x) for x in (1e-24, 1e-24, 4e-24)))  # at 60°, whose product underflows
    assert float(product) == pytest.approx(2e-24 * (3**0.5 / 2 + np.pi / 3) / (2 * np.pi), rel=1e-5)
    assert float(slope) == pytest.approx(1 / 3, rel=1e-5)


@pytest.mark.parametrize("off", [0.0, 1e-6, 1e-3])
def test_deep_kernels_near_a_training_point_are_those_of_the_gap_of_angles(off):
    """Against the recursion in 1 − t of `infinite_depth`, which cancels nothing; in float32 the angle was lost."""
    rng, depth = np.random.default_rng(1), 50
    x = rng.standard_normal((4, 784)).astype(np.float32)
    near = (x * (1 + off * rng.standard_normal(x.shape))).astype(np.float32)
    scale = np.outer(*(np.sqrt((each.astype(float) ** 2).mean(axis=1)) for each in (x, near))) / 2
    wanted = scale * np.exp(deep_log_kernel(np.minimum(cosine_gaps(x, near), 1), "relu", depth))
    found = mlp_kernels(x, near, depth=depth).ntk
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(np.diag(found), np.diag(wanted), rtol=2e-6)
    np.testing.assert_allclose(np.diag(mlp_kernels(x, depth=depth).ntk), (depth + 1) * np.diag(scale), rtol=off + 1e-6)


def test_wrong_calls_are_refused():
    with pytest.raises(ValueError, match=r"others .*5.*inputs 6"):
        mlp_kernels(np.ones((2, 6)), np.ones((2, 5)), depth=1)
    with pytest.raises(ValueError, match="depth"):
        mlp_kernels(np.ones((2, 6)), depth=0)
    with pytest.raises(ValueError, match="depth must be a DepthRule"):
        residual_mlp_kernels(np.ones((2, 6)), depth=3)


@pytest.mark.parametrize(
    "model", ["mlp", *(pytest.param(m, marks=pytest.mark.long) for m in ("residual_mlp", "figure1_convnet"))]
)
@pytest.mark.long
def test_wide_networks_have_these_kernels_on_average(model):
    """Each entry within four standard errors over seeds, and outputs that do not mix."""
    width, seeds = (512, 24) if model != "figure1_convnet" else (128, 24)
    kernels, products = empirical_kernels(model, width, seeds)
    nngp, ntk = infinite(model)
    per_output = np.einsum("sijcc->sij", kernels) / CLASSES
    scale = np.abs(ntk).max()
    for found, wanted in ((per_output, ntk), (products, nngp)):
        error = found.std(axis=0, ddof=1) / np.sqrt(seeds)
        # Finite width is a bias of about 1/width; the ConvNet's expectations are drawn.
        slack = 4 * error + (2 / width + (0.004 if model == "figure1_convnet" else 1e-5)) * scale
        assert np.all(np.abs(found.mean(axis=0) - wanted) <= slack)
    mixed = kernels[..., 0, 1]
    assert np.all(np.abs(mixed.mean(axis=0)) <= 4 * mixed.std(axis=0, ddof=1) / np.sqrt(seeds) + 1e-5 * scale)


@pytest.mark.long
@pytest.mark.parametrize("model", ["mlp", "figure1_convnet"])
def test_kernels_of_networks_scatter_as_one_over_the_root_of_the_width(model):
    seeds, widths = 16, (32, 512) if model == "mlp" else (8, 128)
    ntk = np.asarray(infinite(model).ntk)
    deviations = []
    for width in widths:
        kernels = empirical_kernels(model, width, seeds)[0]
        deviations.append(np.sqrt(np.mean((kernels - ntk[..., None, None] * np.eye(CLASSES)) ** 2)))
    slope = np.log(deviations[1] / deviations[0]) / np.log(widths[1] / widths[0])
    assert -0.65 < slope < -0.35


def constant_images(levels):
    return np.full((len(levels), 32, 32, 1), 1.0, np.float32) * np.asarray(levels, np.float32)[:, None, None, None]


def test_convnet_on_constant_images_is_in_closed_form():
    """All pre-activations of a pool are one, so that pooling does nothing: arc-cosine kernels at angles 0 and π."""
    levels = np.array([1.0, 0.5, -2.0])
    found, error = figure1_convnet_kernels(constant_images(levels), jax.random.key(1), draws=4096, repeats=8)
    K = np.outer(levels, levels)
    same = K > 0
    second = np.where(same, K / 2, 0)
    tangent = second + np.where(same, K / 2, 0)
    product, slope = relu_duals(second, np.diag(second)[:, None], np.diag(second)[None])
    ntk = product + slope * tangent
    for mean, stderr, wanted in zip(found, error, (product, ntk), strict=True):
        assert np.all(np.abs(mean - wanted) <= 5 * stderr + 1e-3 * np.abs(wanted))
        assert np.all(stderr <= 0.02 * np.abs(wanted).max())


@pytest.mark.long
def test_convnet_draws_of_the_first_layer_against_pairwise_simulation():
    """NNGP and NTK of a ConvNet whose first layer is drawn anew for every pair, channel by channel, in NumPy."""
    x = images(2, channels=2, seed=3)
    found, error = figure1_convnet_kernels(x, jax.random.key(2), draws=4096, repeats=8)
    rng, draws = np.random.default_rng(4), 20_000
    patches = np.asarray(image_patches(x, 3, 2), np.float64)  # (n, 16, 16, 18)
    # Rows and columns 0–2 and 4–6 of the pooled 8×8 are seen by the four positions of the second layer.
    seen = [(a, b) for a in (0, 4) for b in (0, 4)]
    w = rng.standard_normal((18, draws))
    covariance, tangent = np.zeros((2, 8, 8))
    for i, j in np.ndindex(3, 3):
        h, slopes = [], []
        for image in patches:
            for a, b in seen:
                r, c = 2 * (a + i), 2 * (b + j)
                pool = image[r : r + 2, c : c + 2].reshape(4, 18)
                z = pool @ w / np.sqrt(18)
                best = z.argmax(axis=0)
                h.append(np.maximum(z.max(axis=0), 0))
                slopes.append((pool[best] * (h[-1] > 0)[:, None]).ravel())
        covariance += np.array(h) @ np.array(h).T / draws / 9
        tangent += np.array(slopes) @ np.array(slopes).T / draws / 9 / 18
    tangent += covariance
    z = np.linalg.cholesky(covariance + 1e-9 * np.eye(8)) @ rng.standard_normal((8, draws))
    z = z.reshape(2, 4, draws)
    h, best = np.maximum(z.max(axis=1), 0), z.argmax(axis=1)
    tangent = tangent.reshape(2, 4, 2, 4)
    for i, j in np.ndindex(2, 2):
        product = h[i] * h[j]
        through = product + tangent[i, best[i], j, best[j]] * (h[i] > 0) * (h[j] > 0)
        for mean, stderr, drawn in ((found.nngp, error.nngp, product), (found.ntk, error.ntk, through)):
            other = drawn.std() / np.sqrt(draws)
            # The first layer of the simulation errs too, by about as much as the second.
            assert abs(mean[i, j] - drawn.mean()) <= 5 * np.hypot(stderr[i, j], 2 * other)


def test_convnet_standard_errors_are_those_of_repeated_calls():
    x = images(2, seed=5)
    calls = [figure1_convnet_kernels(x, jax.random.key(10 + i), draws=256, repeats=8) for i in range(16)]
    values, errors = (np.stack([call[part].ntk for call in calls]) for part in (0, 1))
    ratio = values.std(axis=0, ddof=1) / np.sqrt((errors**2).mean(axis=0))
    assert np.all((ratio > 0.6) & (ratio < 1.5))


def test_convnet_refuses_other_images_and_single_repeats():
    with pytest.raises(ValueError, match=r"images .*\(2, 28, 28, 1\)"):
        figure1_convnet_kernels(np.zeros((2, 28, 28, 1), np.float32), jax.random.key(0))
    with pytest.raises(ValueError, match="repeats = 1"):
        figure1_convnet_kernels(images(1), jax.random.key(0), repeats=1)
