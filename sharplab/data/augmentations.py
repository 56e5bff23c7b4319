"""Random changes of training images, inside the compiled program."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import jax

Augmentation = Callable[["jax.Array", "jax.Array"], "jax.Array"]  # (key, images) → images
PADDING = 4


def crop_and_flip(key: "jax.Array", images_BxHxWxC: "jax.Array") -> "jax.Array":
    """Each image moved by up to 4 pixels either way and mirrored left to right with probability ½.

    What moves in is the edge's own pixel, which is background for images that have one. Shapes stay.
    """
    import jax  # here, for whoever reads data sets or their names alone needs no jax
    import jax.numpy as jnp

    shift_key, flip_key = jax.random.split(key)
    B, H, W, C = images_BxHxWxC.shape
    padded = jnp.pad(images_BxHxWxC, ((0, 0), (PADDING, PADDING), (PADDING, PADDING), (0, 0)), mode="edge")
    corners_Bx2 = jax.random.randint(shift_key, (B, 2), 0, 2 * PADDING + 1)

    def crop(image: jax.Array, corner: jax.Array) -> jax.Array:
        return jax.lax.dynamic_slice(image, (corner[0], corner[1], 0), (H, W, C))

    cropped = jax.vmap(crop)(padded, corners_Bx2)
    mirrored = jax.random.bernoulli(flip_key, 0.5, (B, 1, 1, 1))
    return jnp.where(mirrored, cropped[:, :, ::-1], cropped)


AUGMENTATIONS: Mapping[str, Augmentation | None] = {"none": None, "crop_and_flip": crop_and_flip}
