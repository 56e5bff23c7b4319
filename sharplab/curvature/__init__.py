"""Matrix-free operators on parameters: products with the Hessian, in the metric of an optimizer if wanted."""

from sharplab.curvature.loss_hessian import hessian
from sharplab.curvature.operator import LinearOperator
from sharplab.curvature.preconditioned import precondition

__all__ = ["LinearOperator", "hessian", "precondition"]
