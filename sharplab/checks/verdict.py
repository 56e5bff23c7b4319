"""The three answers that a check can give."""

from collections.abc import Iterable
from typing import Literal

from sharplab.core.statistics import Interval

Verdict = Literal["holds", "fails", "inconclusive"]


def overall(verdicts: Iterable[Verdict]) -> Verdict:
    """The verdict of several: "fails" if one does, "holds" if all do, else "inconclusive".

    >>> overall(["holds", "inconclusive"])
    'inconclusive'
    """
    given = set(verdicts)
    if "fails" in given:
        return "fails"
    return "holds" if given == {"holds"} else "inconclusive"


def judge(interval: Interval, allowed: Interval) -> Verdict:
    """The verdict on an interval: wholly within the allowed one, wholly outside of it, or neither.

    >>> judge((0.0, 0.05), (-0.1, 0.1)), judge((0.2, 0.3), (-0.1, 0.1)), judge((0.0, 0.3), (-0.1, 0.1))
    ('holds', 'fails', 'inconclusive')
    """
    if interval[0] >= allowed[0] and interval[1] <= allowed[1]:
        return "holds"
    return "fails" if interval[0] > allowed[1] or interval[1] < allowed[0] else "inconclusive"
