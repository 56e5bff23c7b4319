"""Theory to hold against experiments: training whose course can be computed without a network."""

from sharplab.theory.linear_dynamics import (
    LinearCourse,
    LinearState,
    infinite_linear_state,
    linear_course,
    linear_state,
)

__all__ = ["LinearCourse", "LinearState", "infinite_linear_state", "linear_course", "linear_state"]
