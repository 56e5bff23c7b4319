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
from curvlinops import GGNLinearOperator, HessianLinearOperator
from pyhessian.utils import hessian_vector_product
from scipy.sparse.linalg import LinearOperator
from torch import nn

from spectra.contestant import Contestant, Meter, Solution, arpack, wanted_first
from spectra.networks import Setup


def curvlinops(setup: Setup, meter: Meter) -> Contestant:
    """The Hessian of curvlinops given to scipy's ARPACK, as its documentation does."""
    data = [(setup.inputs, setup.targets)]
    hessian, ggn = (
        kind(setup.model, nn.CrossEntropyLoss(), setup.params, data, check_deterministic=False).to_scipy()
        for kind in (HessianLinearOperator, GGNLinearOperator)
    )
    vector = np.random.default_rng(0).standard_normal(setup.size)

    def counted(v: np.ndarray) -> np.ndarray:
        meter.count()
        return hessian @ v

    operator = LinearOperator(hessian.shape, matvec=counted, dtype=hessian.dtype)
    return Contestant(
        which="LA",
        solve=partial(arpack, operator, meter),
        product=lambda: hessian @ vector,
        gauss_newton=lambda: ggn @ vector,
    )


def pyhessian_power(setup: Setup, meter: Meter) -> Contestant:
    """PyHessian's power iteration with deflation, the graph of the gradient made once per solve."""
    # The package's name for its class hides the module that the product is looked up in.
    module = import_module("pyhessian.hessian")
    plain = hessian_vector_product

    def counted(*args: Any) -> Any:
        meter.count()
        return plain(*args)

    module.hessian_vector_product = counted  # type: ignore[attr-defined]

    def graph() -> Any:
        setup.model.zero_grad()
        return pyhessian.hessian(setup.model, nn.CrossEntropyLoss(), data=(setup.inputs, setup.targets), cuda=False)

    def solve(k: int, tol: float, seed: int) -> Solution:
        meter.begin()
        torch.manual_seed(seed)
        values, _ = graph().eigenvalues(top_n=k, tol=tol)
        return Solution(wanted_first(np.array(values), "LM", k), meter.products)

    once = graph()
    vector = [torch.randn_like(p) for p in setup.params]
    return Contestant(
        which="LM",
        solve=solve,
        product=lambda: plain(once.gradsH, once.params, vector),
    )


def _eigenthings(setup: Setup) -> tuple[Any, Any]:
    """The Hessian and the Gauss-Newton matrix of hessian-eigenthings."""
    data, criterion = [(setup.inputs, setup.targets)], nn.CrossEntropyLoss()
    ggn = hessian_eigenthings.GGNOperator(
        setup.model,
        data,
        hessian_eigenthings.supervised_forward,
        hessian_eigenthings.supervised_loss_of_output(criterion),
    )
    return hessian_eigenthings.HessianOperator(setup.model, data, hessian_eigenthings.supervised_loss(criterion)), ggn


def _counted(operator: Any, meter: Meter) -> Any:
    def product(v: torch.Tensor) -> torch.Tensor:
        meter.count()
        return operator.matvec(v)

    return hessian_eigenthings.LambdaOperator(product, size=operator.size, device=operator.device, dtype=operator.dtype)


def eigenthings_lanczos(setup: Setup, meter: Meter) -> Contestant:
    """The Lanczos of hessian-eigenthings, of a number of steps fixed beforehand: 2k by default."""
    hessian, ggn = _eigenthings(setup)
    operator, vector = _counted(hessian, meter), torch.randn(setup.size)

    def solve(k: int, tol: float, seed: int) -> Solution:
        meter.begin()
        found = hessian_eigenthings.lanczos(operator, k=k, which="LA", seed=seed)
        return Solution(found.eigenvalues.numpy(), meter.products, found.residuals.numpy())

    return Contestant(
        which="LA",
        solve=solve,
        product=lambda: hessian.matvec(vector),
        gauss_newton=lambda: ggn.matvec(vector),
    )


def eigenthings_power(setup: Setup, meter: Meter) -> Contestant:
    """The power iteration of hessian-eigenthings, with deflation."""
    hessian, ggn = _eigenthings(setup)
    operator, vector = _counted(hessian, meter), torch.randn(setup.size)

    def solve(k: int, tol: float, seed: int) -> Solution:
        meter.begin()
        found = hessian_eigenthings.deflated_power_iteration(operator, k=k, seed=seed, tol=tol)
        return Solution(found.eigenvalues.numpy(), meter.products, found.residuals.numpy())

    return Contestant(
        which="LM",
        solve=solve,
        product=lambda: hessian.matvec(vector),
        gauss_newton=lambda: ggn.matvec(vector),
    )


CONTESTANTS: Mapping[str, Callable[[Setup, Meter], Contestant]] = {
    "curvlinops": curvlinops,
    "pyhessian": pyhessian_power,
    "eigenthings lanczos": eigenthings_lanczos,
    "eigenthings power": eigenthings_power,
}

# PyHessian keeps the gradient's graph on purpose, which PyTorch warns of.
warnings.filterwarnings("ignore", message="Using backward\\(\\) with create_graph=True")
