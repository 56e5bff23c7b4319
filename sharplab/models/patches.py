"""Images as patches: convolutions whose input holds no parameter are matrix products of them, made once."""

import jax
import jax.numpy as jnp


def image_patches(x_BxHxWxC: jax.Array, size: int, stride: int) -> jax.Array:
    """The patches of a SAME-padded size×size convolution, shape (B, ⌈H/stride⌉, ⌈W/stride⌉, size²·C).

    A patch's entries are ordered by row, column, channel, as a kernel of shape (size, size, C, N) is when flattened.

    >>> image_patches(jnp.arange(16.0).reshape(1, 4, 4, 1), size=2, stride=2)[0, 1, 0].tolist()
    [8.0, 9.0, 12.0, 13.0]
    """
    B, H, W, _ = x_BxHxWxC.shape
    if stride >= size and H % stride == W % stride == 0:
        # Apart from each other: of the shifts below, the gradient would write the whole image once for each.
        tiles = x_BxHxWxC.reshape(B, H // stride, stride, W // stride, stride, -1)[:, :, :size, :, :size]
        return tiles.transpose(0, 1, 3, 2, 4, 5).reshape(B, H // stride, W // stride, -1)
    h, w = -(-H // stride), -(-W // stride)
    missing = [max((n - 1) * stride + size - whole, 0) for n, whole in ((h, H), (w, W))]
    margins = [(pixels // 2, pixels - pixels // 2) for pixels in missing]
    padded = jnp.pad(x_BxHxWxC, ((0, 0), *margins, (0, 0)))
    shifted = [
        padded[:, i : i + (h - 1) * stride + 1 : stride, j : j + (w - 1) * stride + 1 : stride]
        for i in range(size)
        for j in range(size)
    ]
    return jnp.concatenate(shifted, axis=-1)
