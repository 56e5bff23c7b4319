"""The order of examples along a training, as one's own data are given to studies."""

import jax
import numpy as np

from sharplab.core.tree import PyTree


def checked_order(order: np.ndarray, data: PyTree) -> np.ndarray:
    """Which examples make up the batch of each step, (steps, batch), all of them in the data.

    Within a compiled program an index beyond the end is that of the last example, and nobody is told.

    Raises:
        ValueError: for another shape or type, an example that there is not, and arrays of different lengths.
    """
    order = np.asarray(order)
    if order.ndim != 2 or not order.size:
        raise ValueError(f"order must have the shape (steps, batch), not {order.shape}.")
    lengths = {np.shape(x)[:1] for x in jax.tree.leaves(data)}
    if len(lengths) != 1 or () in lengths:
        raise ValueError("data must be arrays with one leading axis, that of the examples.")
    ((examples,),) = lengths
    if not np.issubdtype(order.dtype, np.integer) or order.min() < 0 or order.max() >= examples:
        raise ValueError(f"order must be whole numbers from 0 to {examples - 1}, which data has.")
    return order
