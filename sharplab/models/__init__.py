"""The lab's networks, as Flax NNX modules whose parameters name their role in the scaling.

They are built as `sharplab.models.building` says, with a `rule`; `model(inputs)` gives logits. It is the composition of
`model.prepare(inputs)`, which uses no parameter and so needs to run only once per data set, and
`model.forward(prepared)`. One whose outputs for an example depend on the others of the batch, as under BatchNorm, has
the attribute `examples_interact = True`.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from sharplab.core.imports import find_function
from sharplab.models.figure1_convnet import Figure1ConvNet
from sharplab.models.gpt import GPT
from sharplab.models.linear_network import LinearNetwork
from sharplab.models.mlp import MLP
from sharplab.models.residual_convnet import VARIANTS
from sharplab.models.residual_mlp import ResidualMLP
from sharplab.models.vit import ViT

MODELS: Mapping[str, Callable[..., Any]] = {
    "mlp": MLP,
    "residual_mlp": ResidualMLP,
    "linear_network": LinearNetwork,
    "figure1_convnet": Figure1ConvNet,
    **VARIANTS,
    "vit": ViT,
    "gpt": GPT,
    "gpt_tied": partial(GPT, tied=True),
}


def find_model(name: str) -> Callable[..., Any]:
    """The builder that a name stands for: one of `MODELS`, or one's own as "module:build@tag".

    Change the tag when the model's code changes, so that earlier runs are not taken for runs of the new one.

    Raises:
        ValueError: for a name that leads nowhere.
    """
    return find_function("model", name, MODELS)
