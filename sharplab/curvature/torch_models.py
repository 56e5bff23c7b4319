"""The Hessian of a PyTorch model as an operator: the products are PyTorch's, all else is as of any operator."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from sharplab.core.arguments import checked
from sharplab.curvature.any_operator import operator
from sharplab.curvature.linear_operator import LinearOperator
from sharplab.curvature.preconditioned import precondition

if TYPE_CHECKING:
    import torch


@checked()
def torch_hessian(
    model: "torch.nn.Module",
    loss: "Callable[[Any, Any], torch.Tensor]",
    inputs: Any,
    targets: Any,
    *,
    optimizer: "torch.optim.Optimizer | None" = None,
) -> LinearOperator:
    """The Hessian of loss(model(inputs), targets) as an operator on {name: array} of a PyTorch model's parameters.

    Parameters and buffers are as they are now, and the model in the mode of evaluation, whatever its own: without
    dropout, with running statistics. Its products are called from Python, with vectors copied to the model's device.

    Args:
        model: whose parameters that require gradients are the domain.
        loss: `loss(outputs, targets)` → mean over examples, a scalar tensor.
        inputs, targets: the probe batch.
        optimizer: SGD, Adam or AdamW of PyTorch, in whose metric D the operator then is, D^½ H D^½: its largest
            eigenvalue is the effective sharpness (see `sharplab.optimizers`). Parameters without a step have D = 0.

    Raises:
        ImportError: without PyTorch.
        ValueError: for another optimizer, one that has made no step, one whose parameters have several learning rates
            or β, and for Adam with a weight decay that is part of the gradient.
    """
    try:
        import torch
        from torch.func import functional_call, grad, vjp
    except ImportError as error:
        raise ImportError("torch_hessian needs PyTorch: pip install 'sharplab[torch]'.") from error

    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    root = None if optimizer is None else _root_of_metric(optimizer, trained)
    w = {name: p.detach().clone() for name, p in trained.items()}
    buffers = {name: buffer.detach().clone() for name, buffer in model.named_buffers()}
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        # v → Hv, a backward pass through the gradient, of which this keeps the graph.
        _, pull = vjp(grad(lambda w: loss(functional_call(model, {**buffers, **w}, (inputs,)), targets)), w)
    finally:
        for module, training in modes.items():
            module.training = training

    def matvec(v: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        (product,) = pull({name: torch.from_numpy(v[name]).to(w[name]) for name in w})
        return {name: _as_numpy(part) for name, part in product.items()}

    op = operator(matvec, {name: _as_numpy(p) for name, p in w.items()}, jittable=False)
    return op if root is None else precondition(op, root)


def _as_numpy(tensor: "torch.Tensor") -> np.ndarray:
    import torch

    return tensor.detach().to("cpu", torch.promote_types(tensor.dtype, torch.float32)).numpy()


def _root_of_metric(optimizer: "torch.optim.Optimizer", trained: "dict[str, torch.Tensor]") -> dict[str, Any]:
    """D^½ by name, of steps −η D g up to momentum."""
    import torch

    groups = optimizer.param_groups
    if len({(group["lr"], group.get("betas"), group.get("momentum")) for group in groups}) > 1:
        raise ValueError("optimizer has several learning rates or betas: its parameters share no threshold.")
    if isinstance(optimizer, torch.optim.SGD):
        given = {id(p) for group in groups for p in group["params"]}
        return {name: float(id(p) in given) for name, p in trained.items()}
    if type(optimizer) not in (torch.optim.Adam, torch.optim.AdamW) or any(group["amsgrad"] for group in groups):
        raise ValueError("optimizer must be SGD, Adam or AdamW of PyTorch, without amsgrad: for another, precondition.")
    if any(group["weight_decay"] and not group["decoupled_weight_decay"] for group in groups):
        raise ValueError(
            "optimizer has a weight_decay that goes through Adam's moments: decay as AdamW does, or precondition."
        )
    of = {id(p): group for group in groups for p in group["params"]}
    found: dict[str, Any] = dict.fromkeys(trained, 0.0)
    for name, p in trained.items():
        if state := optimizer.state.get(p):
            (b1, b2), t = of[id(p)]["betas"], float(state["step"])
            v = state["exp_avg_sq"] / (1 - b2**t)
            found[name] = _as_numpy(((1 - b1**t) * (v.sqrt() + of[id(p)]["eps"])).rsqrt())
    if not any(isinstance(entry, np.ndarray) for entry in found.values()):
        raise ValueError("optimizer has made no step yet, hence has no metric: measure after its first.")
    return found
