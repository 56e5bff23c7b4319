"""Procedural data: no files, made in milliseconds, for tests and smoke presets."""

import numpy as np

from sharplab.data.dataset import Dataset, definition_checksum

SEED = 20240601
CLASSES = 8
DIMENSIONS = 16
TRAIN_EXAMPLES = 1024
EVAL_EXAMPLES = 256
# Centres are then about 3.4 noise widths apart: classes overlap, so no model drives the loss to zero.
CENTRE_SCALE = 0.6


def gaussian_clusters() -> Dataset:
    """8 balanced classes in 16 dimensions: x = centre of the class + N(0, 1), centres from N(0, 0.6²)."""
    rng = np.random.default_rng(SEED)
    centres = CENTRE_SCALE * rng.standard_normal((CLASSES, DIMENSIONS))
    examples = TRAIN_EXAMPLES + EVAL_EXAMPLES
    targets = np.arange(examples, dtype=np.int32) % CLASSES
    inputs = (centres[targets] + rng.standard_normal((examples, DIMENSIONS))).astype(np.float32)
    definition = (
        f"gaussian-clusters; default_rng({SEED}); {CLASSES} centres {CENTRE_SCALE} * normal({DIMENSIONS}), "
        f"then normal noise; target = index mod {CLASSES}; {TRAIN_EXAMPLES} train, {EVAL_EXAMPLES} evaluation"
    )
    return Dataset(
        name="gaussian-clusters",
        train_inputs=inputs[:TRAIN_EXAMPLES],
        train_targets=targets[:TRAIN_EXAMPLES],
        eval_inputs=inputs[TRAIN_EXAMPLES:],
        eval_targets=targets[TRAIN_EXAMPLES:],
        classes=CLASSES,
        checksum=definition_checksum(definition),
    )
