"""The networks of the problems once more, in PyTorch."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

AGREEMENT = 1e-5  # relative, of loss and gradient with those in the file


class MLP(nn.Module):
    """sharplab's residual MLP."""

    def __init__(self, inputs: int, width: int, depth: int, classes: int) -> None:
        super().__init__()
        self.stem = nn.Linear(inputs, width, bias=False)
        self.blocks = nn.ModuleList(nn.Linear(width, width, bias=False) for _ in range(depth))
        self.readout = nn.Linear(width, classes, bias=False)
        self.branch = float(depth) ** -0.5

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of images."""
        h = self.stem(x.flatten(1))
        for block in self.blocks:
            h = h + self.branch * block(F.relu(h))
        return self.readout(h)


class ConvNet(nn.Module):
    """sharplab's Figure-1 ConvNet."""

    def __init__(self, channels: int, width: int, classes: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, width, 3, stride=2, bias=False)
        self.second = nn.Conv2d(width, width, 3, stride=4, bias=False)
        self.readout = nn.Linear(width, classes, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of images (n, height, width, channels)."""
        x = F.pad(x.permute(0, 3, 1, 2), (0, 1, 0, 1))
        h = F.relu(F.max_pool2d(self.first(x), 2))
        h = F.relu(F.max_pool2d(self.second(h), 2))
        return self.readout(h.flatten(1))


class Block(nn.Module):
    """A transformer block, attention written out: the fused kernel has no second derivative."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attend, self.mix = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.expand, self.contract = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.heads = heads

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        """The block's output, of the shape (B, T, D) of its input."""
        B, T, D = h.shape
        q, k, v = self.attend(self.norm1(h)).reshape(B, T, 3, self.heads, D // self.heads).permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(-1, -2) / (D // self.heads) ** 0.5
        future = torch.ones(T, T, dtype=torch.bool).triu(1)
        mixed = scores.masked_fill(future, float("-inf")).softmax(-1) @ v
        h = h + self.mix(mixed.transpose(1, 2).reshape(B, T, D))
        return h + self.contract(F.gelu(self.expand(self.norm2(h)), approximate="tanh"))


class GPT(nn.Module):
    """The network of `spectra.gpt`."""

    def __init__(self, vocabulary: int, positions: int, width: int, depth: int, heads: int) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(vocabulary, width), nn.Embedding(positions, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Logits, shape (B·T, V), as PyTorch's cross-entropy takes them."""
        h = self.tokens(tokens) + self.positions(torch.arange(tokens.shape[1]))
        for block in self.blocks:
            h = block(h)
        return (self.norm(h) @ self.tokens.weight.T).flatten(0, 1)


@dataclass(frozen=True)
class Setup:
    """A network with its weights, its batch, and the mean cross-entropy."""

    model: nn.Module
    inputs: torch.Tensor
    targets: torch.Tensor

    @property
    def params(self) -> list[nn.Parameter]:
        """The weights in the model's order."""
        return list(self.model.parameters())

    def loss_and_gradient(self) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        """The loss on the batch and its gradient."""
        loss = F.cross_entropy(self.model(self.inputs), self.targets)
        return loss, torch.autograd.grad(loss, self.params)


def load(problem: Mapping[str, Any], path: str) -> Setup:
    """The problem of that file, whose fields are `problem`'s.

    Raises:
        ValueError: if loss or gradient are not those that the file holds.
    """
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    weights, gradient = (
        {name.removeprefix(kind): array for name, array in arrays.items() if name.startswith(kind)}
        for kind in ("weights/", "gradient/")
    )
    width, depth = problem["width"], problem["depth"]
    if problem["kind"] == "gpt":
        model = GPT(problem["vocabulary"], problem["positions"], width, depth, problem["heads"])
        inputs, targets = arrays["inputs"].astype(np.int64), arrays["targets"].reshape(-1)
    else:
        inputs, targets, (*_, channels) = arrays["inputs"], arrays["targets"], arrays["inputs"].shape
        conv = problem["kind"] == "convnet"
        classes = weights["readout/kernel"].shape[1]
        model = ConvNet(channels, width, classes) if conv else MLP(inputs[0].size, width, depth, classes)
    model.load_state_dict(_state(model, weights))
    setup = Setup(model, torch.tensor(inputs), torch.tensor(targets, dtype=torch.int64))
    _check(setup, float(arrays["loss"]), _state(model, gradient))
    return setup


def _state(model: nn.Module, arrays: Mapping[str, np.ndarray]) -> dict[str, torch.Tensor]:
    """Arrays by sharplab's paths, as the model names and lays out its own."""
    leaves = {"kernel": "weight", "scale": "weight", "embedding": "weight", "bias": "bias"}
    own = model.state_dict()
    state = {}
    for path, array in arrays.items():
        *modules, leaf = path.split("/")
        name = ".".join([*modules, leaves[leaf]])
        if leaf == "kernel" and own[name].ndim == 4:
            array = array.reshape(3, 3, -1, array.shape[1]).transpose(3, 2, 0, 1)
        elif leaf == "kernel":
            array = array.T
        state[name] = torch.tensor(np.ascontiguousarray(array))
    return state


def _check(setup: Setup, loss: float, gradient: Mapping[str, torch.Tensor]) -> None:
    found_loss, found = setup.loss_and_gradient()
    names = [name for name, _ in setup.model.named_parameters()]
    square = sum(float(((g - gradient[name]) ** 2).sum()) for name, g in zip(names, found, strict=True))
    size = sum(float((g**2).sum()) for g in gradient.values())
    errors = {"loss": abs(found_loss.item() / loss - 1), "gradient": (square / size) ** 0.5}
    if max(errors.values()) > AGREEMENT:
        raise ValueError(f"the network in PyTorch is not that of the file: relative errors {errors}.")
