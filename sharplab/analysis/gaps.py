"""The gaps of the smaller sizes' curves to the largest one's, and their laws in size and in time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from sharplab.analysis.gap_laws import gap_law, limit_exponent
from sharplab.analysis.power_laws import PowerLaw
from sharplab.analysis.trend import Measured
from sharplab.core.statistics import Interval

THIRDS = ("early", "middle", "late")  # of training
# Exponents that the literature reports: −0.5 to −0.8 in width, 0.6 to 2.3 in time (arXiv 2402.17457).
EXPONENT_IN_SIZE, EXPONENT_IN_TIME = -0.5, 1.0


@dataclass(frozen=True)
class Gaps:
    """The gaps q_N(t) − q_largest(t), and power laws of their mean over seeds, of either sign.

    Each seed is its own pair: what seeds have in common at all sizes, the order of the data, drops out. Averages and
    laws in size are of each third of training that has records after the first step. A limit exponent is the b of
    q_N = q_∞ + a·N^b: the gap to the largest size falls faster than that to the limit.
    """

    mean: np.ndarray  # over seeds, (sizes − 1, T); nan where no seed has every record
    stderr: np.ndarray
    seeds: int  # that have every record
    averages: Mapping[str, tuple[np.ndarray, np.ndarray]]  # with standard errors, (sizes − 1,) each
    in_size: Mapping[str, PowerLaw]
    limit_exponents: Mapping[str, tuple[float, Interval]]
    in_time: Mapping[float | str, PowerLaw]  # of each smaller size, and "all" of their average, in the step

    def table(self) -> pd.DataFrame:
        """The laws as a table: what each is in, where, the exponent and the prefactor with intervals, R²."""
        laws: list[tuple[str, float | str, PowerLaw]] = [("size", part, law) for part, law in self.in_size.items()]
        laws += [("time", size, law) for size, law in self.in_time.items()]
        return pd.DataFrame(
            {"law_in": variable, "at": at}
            | Measured(law.exponent, *law.exponent_interval).columns("exponent")
            | Measured(law.prefactor, *law.prefactor_interval).columns("prefactor")
            | {"r_squared": law.r_squared}
            for variable, at, law in laws
        )


def find_gaps(values: np.ndarray, sizes: Sequence[float], steps: np.ndarray, confidence: float) -> Gaps:
    """The gaps of curves, (seeds, sizes, T) without missing ones, to that of the largest size, and their laws."""
    gaps = values[:, :-1] - values[:, -1:]
    smaller = np.asarray(sizes[:-1], float)
    averages, in_size, limits = {}, {}, {}
    for part, chosen in thirds_of(steps).items():
        there = gaps[:, :, chosen].mean(axis=2)
        averages[part] = _over_seeds(there)
        in_size[part] = gap_law(smaller, there, typical=EXPONENT_IN_SIZE, confidence=confidence)
        limits[part] = limit_exponent(smaller, there, sizes[-1], typical=EXPONENT_IN_SIZE, confidence=confidence)
    after = steps > 0
    growing: dict[float | str, np.ndarray] = {size: gaps[:, i] for i, size in enumerate(sizes[:-1])}
    if growing:
        growing["all"] = gaps.mean(axis=1)
    mean, stderr = _over_seeds(gaps)
    return Gaps(
        mean=mean,
        stderr=stderr,
        seeds=len(values),
        averages=averages,
        in_size=in_size,
        limit_exponents=limits,
        in_time={
            at: gap_law(steps[after].astype(float), gap[:, after], typical=EXPONENT_IN_TIME, confidence=confidence)
            for at, gap in growing.items()
        },
    )


def _over_seeds(gaps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean over the first axis, and its standard error; nan where there are too few seeds."""
    seeds, unknown = len(gaps), np.full(gaps.shape[1:], np.nan)
    return (
        gaps.mean(axis=0) if seeds else unknown,
        gaps.std(axis=0, ddof=1) / np.sqrt(seeds) if seeds > 1 else unknown,
    )


def thirds_of(steps: np.ndarray) -> dict[str, np.ndarray]:
    """The records after step 0 in each third of training that has some, as masks over the steps.

    >>> {part: chosen.tolist() for part, chosen in thirds_of(np.array([0, 1, 2, 3])).items()}
    {'early': [False, True, False, False], 'middle': [False, False, True, False], 'late': [False, False, False, True]}
    """
    third = np.ceil(3 * steps / steps[-1]) if steps[-1] > 0 else np.zeros(len(steps))
    chosen = {part: third == i + 1 for i, part in enumerate(THIRDS)}
    return {part: rows for part, rows in chosen.items() if rows.any()}
