"""Procedural data: no files, made in milliseconds, for tests and smoke presets."""

import numpy as np

from sharplab.data.dataset import Dataset, make_dataset, split

SEED = 20240601
CLASSES = 8
DIMENSIONS = 16
TRAIN_EXAMPLES = 1024
EVAL_EXAMPLES = 256
# Centres are then about 3.4 noise widths apart: classes overlap, so no model drives the loss to zero.
CENTRE_SCALE = 0.6
TEACHER_UNITS = 32
OUTPUTS = 4


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
    return make_dataset("gaussian-clusters", *split(inputs, targets, TRAIN_EXAMPLES), CLASSES, definition)


def teacher_student() -> Dataset:
    """Regression on a two-layer ReLU teacher y = A max(0, W x), without noise: x from N(0, I) in 16 dimensions.

    W (32, 16) is drawn from N(0, 1/16) and A (4, 32) from N(0, 2/32), so that the outputs' variance over teachers is 1.
    """
    rng = np.random.default_rng(SEED)
    hidden = rng.standard_normal((TEACHER_UNITS, DIMENSIONS)) / np.sqrt(DIMENSIONS)
    readout = rng.standard_normal((OUTPUTS, TEACHER_UNITS)) * np.sqrt(2 / TEACHER_UNITS)
    inputs = rng.standard_normal((TRAIN_EXAMPLES + EVAL_EXAMPLES, DIMENSIONS))
    targets = (np.maximum(inputs @ hidden.T, 0) @ readout.T).astype(np.float32)
    definition = (
        f"teacher-student; default_rng({SEED}); hidden normal({TEACHER_UNITS}, {DIMENSIONS}) / sqrt({DIMENSIONS}), "
        f"readout normal({OUTPUTS}, {TEACHER_UNITS}) * sqrt(2 / {TEACHER_UNITS}), inputs normal; ReLU; "
        f"{TRAIN_EXAMPLES} train, {EVAL_EXAMPLES} evaluation"
    )
    parts = split(inputs.astype(np.float32), targets, TRAIN_EXAMPLES)
    return make_dataset("teacher-student", *parts, OUTPUTS, definition)
