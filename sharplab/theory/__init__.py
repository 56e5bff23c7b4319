"""Theory to hold against experiments: training whose course can be computed without a network."""

from sharplab.theory.infinite_convnet import figure1_convnet_kernels
from sharplab.theory.infinite_kernels import Kernels, mlp_kernels, residual_mlp_kernels
from sharplab.theory.linear_dynamics import (
    LinearCourse,
    LinearState,
    infinite_linear_state,
    linear_course,
    linear_state,
)

__all__ = [
    "Kernels",
    "LinearCourse",
    "LinearState",
    "figure1_convnet_kernels",
    "infinite_linear_state",
    "linear_course",
    "linear_state",
    "mlp_kernels",
    "residual_mlp_kernels",
]
