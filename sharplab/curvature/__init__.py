"""Matrix-free curvature operators on parameters, in any metric and on any of the parameters."""

from sharplab.curvature.any_operator import operator
from sharplab.curvature.blocks import block
from sharplab.curvature.critical import CriticalSharpness, critical_sharpness
from sharplab.curvature.determinism import check_deterministic
from sharplab.curvature.directional import (
    BatchSharpness,
    batch_sharpness,
    directional_sharpness,
    leaf_shares,
    subspace_overlap,
)
from sharplab.curvature.factor import Factor, Structure
from sharplab.curvature.fisher_information import fisher
from sharplab.curvature.ggn import gauss_newton
from sharplab.curvature.linear_operator import LinearOperator
from sharplab.curvature.loss_hessian import hessian
from sharplab.curvature.preconditioned import precondition
from sharplab.curvature.tangent_kernel import ntk
from sharplab.curvature.torch_models import torch_hessian

__all__ = [
    "BatchSharpness",
    "CriticalSharpness",
    "Factor",
    "LinearOperator",
    "Structure",
    "batch_sharpness",
    "block",
    "check_deterministic",
    "critical_sharpness",
    "directional_sharpness",
    "fisher",
    "gauss_newton",
    "hessian",
    "leaf_shares",
    "ntk",
    "operator",
    "precondition",
    "subspace_overlap",
    "torch_hessian",
]
