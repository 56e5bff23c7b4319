"""Theory to hold against experiments: training whose trajectory can be computed without a network."""

from sharplab.theory.benign_oscillation import TwoSignals, two_signals, weak_signal_limit
from sharplab.theory.central_flow import FlowPoint, central_flow
from sharplab.theory.deep_linear import one_step_limit, one_step_optimum
from sharplab.theory.infinite_convnet import figure1_convnet_kernels
from sharplab.theory.infinite_depth import deep_classify, deep_kernels, deep_log_kernel, dual_slopes
from sharplab.theory.infinite_kernels import Kernels, mlp_kernels, residual_mlp_kernels
from sharplab.theory.last_iterate import LastIterate, last_iterate_bound
from sharplab.theory.linear_dynamics import (
    LinearState,
    LinearTrajectory,
    infinite_linear_state,
    linear_state,
    linear_trajectory,
)
from sharplab.theory.perceptron import (
    Margin,
    Separation,
    largest_margin,
    separate,
    separating_iterates,
    separation_bound,
)
from sharplab.theory.self_stabilisation import stabilisation_time

__all__ = [
    "FlowPoint",
    "Kernels",
    "LastIterate",
    "LinearState",
    "LinearTrajectory",
    "Margin",
    "Separation",
    "TwoSignals",
    "central_flow",
    "deep_classify",
    "deep_kernels",
    "deep_log_kernel",
    "dual_slopes",
    "figure1_convnet_kernels",
    "infinite_linear_state",
    "largest_margin",
    "last_iterate_bound",
    "linear_state",
    "linear_trajectory",
    "mlp_kernels",
    "one_step_limit",
    "one_step_optimum",
    "residual_mlp_kernels",
    "separate",
    "separating_iterates",
    "separation_bound",
    "stabilisation_time",
    "two_signals",
    "weak_signal_limit",
]
