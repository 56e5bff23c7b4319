"""The way of one company of lanes through its steps: from record to record, in pieces, with checkpoints."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from sharplab.core.tree import PyTree
from sharplab.training.checkpoints import read_checkpoint, write_checkpoint

PIECE_SECONDS = 15.0  # of training, about, between two questions whether to stop
LONG_SECONDS = 1.0  # of a piece, from which the host waits for it: being idle for the moment between two costs nothing
CHECKPOINT_SECONDS = 60.0  # of work are lost at most, and a record's where one takes so long

Row = Mapping[str, jax.Array]


@dataclass(frozen=True)
class Course:
    """What a company does, and when it is looked at.

    Attributes:
        begin: lanes and trackers at step 0.
        advance: lanes some steps later, from (lanes, step now, step then); the host does not wait for them.
        observe: (trackers, record) from (lanes, trackers); a record is a dict of arrays with a leading lane axis.
        like: shapes and dtypes of lanes, trackers and a record.
        place: puts lanes and trackers from the host to where `begin` has them.
        record_steps: the steps before which there is a record, ascending.
        most_steps: that `advance` takes at once.
    """

    begin: Callable[[], tuple[PyTree, PyTree]]
    advance: Callable[[PyTree, int, int], PyTree]
    observe: Callable[[PyTree, PyTree], tuple[PyTree, Row]]
    like: Callable[[], tuple[PyTree, PyTree, Row]]
    place: Callable[[PyTree], PyTree]
    record_steps: tuple[int, ...]
    most_steps: int


@dataclass(frozen=True)
class Outcome:
    """What a company left behind."""

    lanes: PyTree
    curves: dict[str, np.ndarray]  # (records, lanes)
    seconds: float  # of work, that before a resumption included
    pace: "Pace"


@dataclass(frozen=True)
class Pace:
    """How fast a company goes, as far as pieces that the host has waited for tell."""

    pieces: int = 0
    step_seconds: float = 0.0  # in the last of them

    def piece(self, left: int) -> int:
        """How many of the steps left to do next.

        >>> Pace().piece(100), Pace(1, 2.0).piece(100), Pace(2, 1.0).piece(100), Pace(2, 3600.0).piece(100)
        (1, 2, 15, 1)
        """
        # The first holds the compilation too, so that what the second shows is the first to go by.
        most = min(left, self.pieces + 1) if self.pieces < 2 else left
        return max(1, min(most, int(PIECE_SECONDS / self.step_seconds))) if self.step_seconds else most

    def is_waited_for(self, steps: int) -> bool:
        """Whether a piece of so many steps is worth measuring."""
        return self.pieces < 2 or steps * self.step_seconds > LONG_SECONDS

    def after(self, steps: int, seconds: float) -> "Pace":
        """The pace that another piece shows."""
        return Pace(self.pieces + 1, seconds / steps)


class _Point(NamedTuple):
    """Where a company is."""

    lanes: PyTree
    trackers: PyTree
    step: int
    rows: tuple[Row, ...]  # one per record
    pace: Pace

    @property
    def place(self) -> tuple[int, int]:
        """On the course."""
        return self.step, len(self.rows)


def complete(
    course: Course,
    *,
    progress: Callable[[int], None],
    record: Callable[[int, Mapping[str, np.ndarray]], None],
    stop: Callable[[], bool],
    checkpoint: Path | None = None,
    pace: Pace = Pace(),
) -> Outcome | None:
    """Go a course to its end, from its checkpoint where there is one; None when asked to stop before.

    How it is cut into pieces changes no bit of what comes out.

    Args:
        course: what to do.
        progress: called with the step that is known to be reached.
        record: called with the step and the values of each record when it is known, not of those in the checkpoint.
        stop: asked before each piece.
        checkpoint: a file to which the state is written when asked to stop, and every minute of work.
        pace: what earlier companies of the same programs have shown of it.

    Raises:
        ValueError: if the checkpoint cannot be written.
    """
    began = time.monotonic()
    start, earlier = _resume(course, checkpoint, pace) or (_Point(*course.begin(), 0, (), pace), 0.0)
    told, reached, saved, saved_at = len(start.rows), start.step, start.place, began
    points = _points(course, start)
    del start  # whose arrays would be kept until the end

    for point, known in points:
        over = len(point.rows) == len(course.record_steps)
        stopping = not over and stop()
        long_ago = time.monotonic() - saved_at > CHECKPOINT_SECONDS - PIECE_SECONDS
        saving = checkpoint is not None and not over and point.place != saved and (stopping or long_ago)
        known = len(point.rows) if saving else max(told, known)
        for step, row in zip(course.record_steps[told:known], point.rows[told:known], strict=True):
            record(step, jax.device_get(row))
            reached = max(reached, step)
        told, reached = known, max(reached, point.step if known == len(point.rows) else 0)
        progress(reached)
        if checkpoint is not None and saving:
            write_checkpoint(checkpoint, _packed(course, point, earlier + time.monotonic() - began))
            saved, saved_at = point.place, time.monotonic()
        if stopping:
            return None
    curves = {name: np.stack([np.asarray(row[name]) for row in point.rows]) for name in point.rows[0]}
    return Outcome(point.lanes, curves, earlier + time.monotonic() - began, point.pace)


def _points(course: Course, point: _Point) -> Iterator[tuple[_Point, int]]:
    """The points before each piece and at the end, each with how many of its records to wait for."""
    while len(point.rows) < len(course.record_steps):
        left = course.record_steps[len(point.rows)] - point.step
        steps = point.pace.piece(min(left, course.most_steps)) if left else 0
        # Where chunks are short, one runs while the next is prepared; the host never runs further ahead.
        ahead = steps == left > 0 and not point.pace.is_waited_for(steps)
        yield point, len(point.rows) - (ahead and len(point.rows) > 0)
        if steps:
            point = _advanced(course, point, steps, wait=not ahead)
            if not ahead:
                continue
        trackers, row = course.observe(point.lanes, point.trackers)
        point = point._replace(trackers=trackers, rows=(*point.rows, row))
    yield point, len(point.rows)


def _advanced(course: Course, point: _Point, steps: int, *, wait: bool) -> _Point:
    """Some steps further, which tell the pace where the host waits for them."""
    began = time.monotonic()
    lanes = course.advance(point.lanes, point.step, point.step + steps)
    pace = point.pace
    if wait:
        jax.block_until_ready(lanes)
        pace = pace.after(steps, time.monotonic() - began)
    return point._replace(lanes=lanes, step=point.step + steps, pace=pace)


def _packed(course: Course, point: _Point, seconds: float) -> PyTree:
    """The point as a tree of one structure, however many records there are."""
    rows = {}
    for name, like in course.like()[2].items():
        rows[name] = np.zeros((len(course.record_steps), *like.shape), like.dtype)
        for number, row in enumerate(point.rows):
            rows[name][number] = row[name]
    return _tree(
        point.lanes, point.trackers, rows, np.int64(point.step), np.int64(len(point.rows)), np.float64(seconds)
    )


def _resume(course: Course, checkpoint: Path | None, pace: Pace) -> tuple[_Point, float] | None:
    """The point that a checkpoint holds, and the seconds of work until there."""
    if checkpoint is None or not checkpoint.exists():
        return None
    lanes, trackers, row = course.like()
    records = len(course.record_steps)
    rows = {name: jax.ShapeDtypeStruct((records, *like.shape), like.dtype) for name, like in row.items()}
    found = read_checkpoint(checkpoint, _tree(lanes, trackers, rows, np.int64(), np.int64(), np.float64()))
    if found is None:
        return None
    lanes, trackers = course.place((found["lanes"], found["trackers"]))
    made = tuple({name: values[i] for name, values in found["rows"].items()} for i in range(int(found["records"])))
    return _Point(lanes, trackers, int(found["step"]), made, pace), float(found["seconds"])


def _tree(
    lanes: PyTree, trackers: PyTree, rows: PyTree, step: np.int64, records: np.int64, seconds: np.float64
) -> dict:
    return {"lanes": lanes, "trackers": trackers, "rows": rows, "step": step, "records": records, "seconds": seconds}
