"""The contestants in PyTorch: curvlinops, PyHessian and hessian-eigenthings."""

import warnings
from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from typing import Any

import hessian_eigenthings
import numpy as np
import pyhessian
import torch
from curvlinops import HessianLinearOperator
from pyhessian.utils import hessian_vector_product
from scipy.sparse.linalg import LinearOperator
from torch import nn

from spectra.contestant import Contestant, Meter, Solution, arpack, wanted_first
from spectra.networks import Setup


def curvlinops(setup: Setup, meter: Meter) -> Contestant:
    """The Hessian of curvlinops given to scipy's ARPACK, as its documentation does."""
    data = [(setup.inputs, setup.targets)]
    hessian = HessianLinearOperator(
        setup.model, nn.CrossEntropyLoss(), setup.params, data, check_deterministic=False
    ).to_scipy()

    def counted(v: np.ndarray) -> np.ndarray:
        meter.count()
        return hessian @ v

    operator = LinearOperator(hessian.shape, matvec=counted, dtype=hessian.dtype)
    return Contestant(which="LA", solve=partial(arpack, operator, meter))


def pyhessian_power(setup: Setup, meter: Meter) -> Contestant:
    """PyHessian's power iteration with deflation, the graph of the gradient made once per solve."""
    # The package's name for its class hides the module that the product is looked up in.
    module = import_module("pyhessian.hessian")
    plain = hessian_vector_product

    def counted(*args: Any) -> Any:
        meter.count()
        return plain(*args)

    module.hessian_vector_product = counted  # type: ignore[attr-defined]

    def solve(k: int, tol: float, seed: int) -> Solution:
        meter.begin()
        torch.manual_seed(seed)
        setup.model.zero_grad()
        data = (setup.inputs, setup.targets)
        values, _ = pyhessian.hessian(setup.model, nn.CrossEntropyLoss(), data=data, cuda=False).eigenvalues(
            top_n=k, tol=tol
        )
        return Solution(wanted_first(np.array(values), "LM", k), meter.products)

    return Contestant(which="LM", solve=solve)


def _eigenthings(setup: Setup, meter: Meter) -> Any:
    """The Hessian of hessian-eigenthings, its products counted."""
    loss = hessian_eigenthings.supervised_loss(nn.CrossEntropyLoss())
    operator = hessian_eigenthings.HessianOperator(setup.model, [(setup.inputs, setup.targets)], loss)

    def product(v: torch.Tensor) -> torch.Tensor:
        meter.count()
        return operator.matvec(v)

    return hessian_eigenthings.LambdaOperator(product, size=operator.size, device=operator.device, dtype=operator.dtype)


def eigenthings_lanczos(setup: Setup, meter: Meter) -> Contestant:
    """The Lanczos of hessian-eigenthings, of a number of steps fixed beforehand: 2k by default."""
    operator = _eigenthings(setup, meter)

    def solve(k: int, tol: float, seed: int) -> Solution:
        meter.begin()
        found = hessian_eigenthings.lanczos(operator, k=k, which="LA", seed=seed)
        return Solution(found.eigenvalues.numpy(), meter.products, found.residuals.numpy())

    return Contestant(which="LA", solve=solve)


def eigenthings_power(setup: Setup, meter: Meter) -> Contestant:
    """The power iteration of hessian-eigenthings, with deflation."""
    operator = _eigenthings(setup, meter)

    def solve(k: int, tol: float, seed: int) -> Solution:
        meter.begin()
        found = hessian_eigenthings.deflated_power_iteration(operator, k=k, seed=seed, tol=tol)
        return Solution(found.eigenvalues.numpy(), meter.products, found.residuals.numpy())

    return Contestant(which="LM", solve=solve)


CONTESTANTS: Mapping[str, Callable[[Setup, Meter], Contestant]] = {
    "curvlinops": curvlinops,
    "pyhessian": pyhessian_power,
    "eigenthings lanczos": eigenthings_lanczos,
    "eigenthings power": eigenthings_power,
}

# PyHessian keeps the gradient's graph on purpose, which PyTorch warns of.
warnings.filterwarnings("ignore", message="Using backward\\(\\) with create_graph=True")
