"""Train the lanes of `test_training` on as many host devices as told, and save what they leave.

Run as `python trained_elsewhere.py DEVICES FILE`, with the tests' folder on the path.
"""

import sys

import jax
import numpy as np

if __name__ == "__main__":
    jax.config.update("jax_num_cpu_devices", int(sys.argv[1]))
    from test_training import CHEAP, FIVE_LANES

    from sharplab.training import train_lanes

    results = list(train_lanes(CHEAP, FIVE_LANES))
    assert len(jax.local_devices()) == int(sys.argv[1])
    np.savez(sys.argv[2], **{f"{name}_{i}": c for i, r in enumerate(results) for name, c in r.curves.items()})
