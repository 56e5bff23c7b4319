"""The kernels of the infinitely wide Figure-1 ConvNet under the NTK parameterization, with their standard errors.

A convolution is a linear map of the covariances between pixels. The max-pool is not: the expectation over the maximum
of four jointly normal pre-activations, of one image and of another, is an integral over eight dimensions without
closed form. It is drawn. Each draw is a function of all images at once, so that the estimates are positive
semi-definite for any number of draws; pixels that are alike are drawn alike, without special cases.

The recursion in the limit of many channels (Jacot et al., arXiv 1806.07572; Arora et al., arXiv 1904.11955; for
max-pooling Yang, arXiv 2006.14548), with p the patches, z the pre-activations, h = relu(max z) over a pool, and z* the
one that is the maximum:

- first layer: cov z = pᵀp′/9C, which is its tangent kernel too; E[h h′], and E[∂h ∂h′] at the positions of z*;
- second layer: both averaged over the nine pixels of a patch, the former added to the latter: cov z and tangent;
- readout: nngp = E[h h′]; ntk = nngp + E over z of the second layer's tangent at the positions of z*.
"""

from functools import partial

import jax
import jax.numpy as jnp

from sharplab.models.figure1_convnet import KERNEL, POOL, pooled_patches
from sharplab.theory.infinite_kernels import Kernels

DRAWS = 64  # at a time: what is in memory of each is all patches of all images
PIXELS, POSITIONS = KERNEL**2, POOL**2  # of a patch; of a pool


def figure1_convnet_kernels(
    images: jax.Array, key: jax.Array, *, draws: int = 2048, repeats: int = 8
) -> tuple[Kernels, Kernels]:
    """The kernels of `Figure1ConvNet` between n images, and the standard errors of their entries.

    The recursion is made `repeats` times over, independently, with `draws` of each layer. Values are the means of these
    estimates; standard errors come from their spread and fall as 1/√(repeats·draws). What they do not show is the bias
    from the second layer's covariance being drawn as well, which falls as 1/draws.

    Memory: 64 draws of 64 patches of each image, 36,864·n·C numbers, and some ten matrices of shape (4n, 4n).
    Arithmetic: 2,600·n²·C operations for each of the repeats·draws.

    Args:
        images: shape (n, 32, 32, C).
        key: of the draws; entries of different calls with one key err alike.
        draws: of each layer in one repeat, rounded up to a multiple of 64.

    Raises:
        ValueError: for images of another size, or fewer than two repeats.
    """
    if jnp.ndim(images) != 4 or jnp.shape(images)[1:3] != (32, 32):
        raise ValueError(f"images must have the shape (n, 32, 32, C), not {jnp.shape(images)}: pad or resize them.")
    if repeats < 2 or draws < 1:
        raise ValueError(f"repeats = {repeats}, draws = {draws}: give 2 repeats or more, of 1 draw or more.")
    found = _repeated(jnp.asarray(images), key, -(-draws // DRAWS), repeats)
    mean = jax.tree.map(lambda x: x.mean(0), found)
    return mean, jax.tree.map(lambda x: x.std(0, ddof=1) / jnp.sqrt(repeats), found)


@partial(jax.jit, static_argnums=(2, 3))
def _repeated(images: jax.Array, key: jax.Array, batches: int, repeats: int) -> Kernels:
    patches = pooled_patches(images, stride=2)

    def recursion(key: jax.Array) -> Kernels:
        first, second = jax.random.split(key)
        covariance, tangent = _second_layer(patches, first, batches)
        return _readout(covariance, tangent, second, batches * DRAWS)

    with jax.default_matmul_precision("highest"):
        return jax.lax.map(recursion, jax.random.split(key, repeats))


def _second_layer(patches: jax.Array, key: jax.Array, batches: int) -> tuple[jax.Array, jax.Array]:
    """The covariance and tangent kernel of the second pre-activations, (4n, 4n), by image and position in the pool."""
    n, size = len(patches), patches.shape[-1]
    rows = n * POSITIONS

    def add(sums: tuple[jax.Array, jax.Array], key: jax.Array) -> tuple[tuple[jax.Array, jax.Array], None]:
        z = patches @ jax.random.normal(key, (size, DRAWS), patches.dtype) / jnp.sqrt(size)
        h = jax.nn.relu(z.max(axis=-2))
        # ∂h/∂w of each draw: the patch at the maximum.
        slope = jnp.take_along_axis(patches, z.argmax(axis=-2)[..., None], axis=-2) * (h > 0)[..., None]
        features, slopes = (pooled_patches(x.reshape(*h.shape[:3], -1), stride=4).reshape(rows, -1) for x in (h, slope))
        return (sums[0] + features @ features.T, sums[1] + slopes @ slopes.T), None

    zeros = jnp.zeros((rows, rows), patches.dtype)
    (products, slopes), _ = jax.lax.scan(add, (zeros, zeros), jax.random.split(key, batches))
    covariance = products / (PIXELS * batches * DRAWS)
    return covariance, covariance + slopes / (PIXELS * size * batches * DRAWS)


def _readout(covariance: jax.Array, tangent: jax.Array, key: jax.Array, draws: int) -> Kernels:
    # The root by eigenvectors: positions that are alike make the covariance singular.
    values, vectors = jnp.linalg.eigh(covariance)
    root = vectors * jnp.sqrt(jnp.maximum(values, 0))[None]
    z = (root @ jax.random.normal(key, (len(root), draws), root.dtype)).reshape(-1, POSITIONS, draws)
    h = jax.nn.relu(z.max(axis=1))
    nngp = h @ h.T / draws
    active = jax.nn.one_hot(z.argmax(axis=1), POSITIONS, axis=1, dtype=h.dtype) * (h > 0)[:, None, :]
    active = active.reshape(len(root), draws)
    through = (tangent * (active @ active.T / draws)).reshape(len(h), POSITIONS, len(h), POSITIONS).sum(axis=(1, 3))
    return Kernels(nngp, nngp + through)
