"""The training loop of one batch of runs: from record to record, in segments of steps, with checkpoints."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from sharplab.core.tree import PyTree
from sharplab.training.checkpoints import read_checkpoint, write_checkpoint

SEGMENT_SECONDS = 15.0  # of training, about, between two questions whether to stop
WAITED_SECONDS = 1.0  # a segment that takes longer is waited for: the idle moment between two then costs nothing
CHECKPOINT_SECONDS = 60.0  # of work are lost at most, and a record's where one takes so long

Row = Mapping[str, jax.Array]


@dataclass(frozen=True)
class BatchProgram:
    """What a batch of runs does, and when it is recorded.

    Attributes:
        begin: runs and trackers at step 0.
        advance: runs some steps later, from (runs, step now, step then); the host does not wait for them.
        observe: (trackers, record) from (runs, trackers); a record is a dict of arrays with a leading run axis.
        like: shapes and dtypes of runs, trackers and a record.
        place: puts runs and trackers from the host to where `begin` has them.
        record_steps: the steps before which there is a record, ascending.
        most_steps: that `advance` takes at once, from a multiple of it to the next at most.
    """

    begin: Callable[[], tuple[PyTree, PyTree]]
    advance: Callable[[PyTree, int, int], PyTree]
    observe: Callable[[PyTree, PyTree], tuple[PyTree, Row]]
    like: Callable[[], tuple[PyTree, PyTree, Row]]
    place: Callable[[PyTree], PyTree]
    record_steps: tuple[int, ...]
    most_steps: int


@dataclass(frozen=True)
class TrainedBatch:
    """What training a batch of runs left behind."""

    runs: PyTree
    curves: dict[str, np.ndarray]  # (records, runs)
    seconds: float  # of work, that before a resumption included
    timing: "StepTiming"


@dataclass(frozen=True)
class StepTiming:
    """The seconds per step of a batch of runs, measured on the segments that the host has waited for."""

    segments: int = 0
    step_seconds: float = 0.0  # in the last of them

    def segment(self, left: int) -> int:
        """How many of the steps that are left the next segment has.

        >>> [timing.segment(100) for timing in (StepTiming(), StepTiming(1, 2.0), StepTiming(2, 1.0))]
        [1, 2, 15]
        """
        # The first holds the compilation too, so that what the second shows is the first to go by.
        most = min(left, self.segments + 1) if self.segments < 2 else left
        return max(1, min(most, int(SEGMENT_SECONDS / self.step_seconds))) if self.step_seconds else most

    def is_waited_for(self, steps: int) -> bool:
        """Whether a segment of so many steps is worth measuring."""
        return self.segments < 2 or steps * self.step_seconds > WAITED_SECONDS

    def after(self, steps: int, seconds: float) -> "StepTiming":
        """The timing with one more segment measured."""
        return StepTiming(self.segments + 1, seconds / steps)


class _Progress(NamedTuple):
    """How far a batch of runs is."""

    runs: PyTree
    trackers: PyTree
    step: int
    rows: tuple[Row, ...]  # one per record
    timing: StepTiming

    @property
    def position(self) -> tuple[int, int]:
        """Steps and records that are through."""
        return self.step, len(self.rows)


def train_batch(
    program: BatchProgram,
    *,
    progress: Callable[[int], None],
    record: Callable[[int, Mapping[str, np.ndarray]], None],
    stop: Callable[[], bool],
    checkpoint: Path | None = None,
    timing: StepTiming = StepTiming(),
) -> TrainedBatch | None:
    """Train a batch of runs to its end, from its checkpoint where there is one; None when asked to stop before.

    How it is cut into segments changes no bit of what comes out.

    Args:
        program: what to do.
        progress: called with the step that is known to be reached.
        record: called with the step and the values of each record when it is known, not of those in the checkpoint.
        stop: asked before each segment.
        checkpoint: a file to which the state is written when asked to stop, and every minute of work.
        timing: what earlier batches of the same programs have shown.

    Raises:
        ValueError: if the checkpoint cannot be written.
    """
    began = time.monotonic()
    start, earlier = _resume(program, checkpoint, timing) or (_Progress(*program.begin(), 0, (), timing), 0.0)
    told, reached, saved, saved_at = len(start.rows), start.step, start.position, began
    segments = _segments(program, start)
    del start  # whose arrays would be kept until the end

    for at, known in segments:
        over = len(at.rows) == len(program.record_steps)
        stopping = not over and stop()
        long_ago = time.monotonic() - saved_at > CHECKPOINT_SECONDS - SEGMENT_SECONDS
        saving = checkpoint is not None and not over and at.position != saved and (stopping or long_ago)
        known = len(at.rows) if saving else max(told, known)
        for step, row in zip(program.record_steps[told:known], at.rows[told:known], strict=True):
            record(step, jax.device_get(row))
            reached = max(reached, step)
        told, reached = known, max(reached, at.step if known == len(at.rows) else 0)
        progress(reached)
        if checkpoint is not None and saving:
            write_checkpoint(checkpoint, _packed(program, at, earlier + time.monotonic() - began))
            saved, saved_at = at.position, time.monotonic()
        if stopping:
            return None
    curves = {name: np.stack([np.asarray(row[name]) for row in at.rows]) for name in at.rows[0]}
    return TrainedBatch(at.runs, curves, earlier + time.monotonic() - began, at.timing)


def _segments(program: BatchProgram, at: _Progress) -> Iterator[tuple[_Progress, int]]:
    """The progress before each segment and at the end, each with how many of its records to wait for."""
    while len(at.rows) < len(program.record_steps):
        left = program.record_steps[len(at.rows)] - at.step
        steps = at.timing.segment(min(left, program.most_steps - at.step % program.most_steps)) if left else 0
        # Where chunks are short, one runs while the next is prepared; the host never runs further ahead.
        ahead = steps == left > 0 and not at.timing.is_waited_for(steps)
        yield at, len(at.rows) - (ahead and len(at.rows) > 0)
        if steps:
            at = _advanced(program, at, steps, wait=not ahead)
            if not ahead:
                continue
        trackers, row = program.observe(at.runs, at.trackers)
        at = at._replace(trackers=trackers, rows=(*at.rows, row))
    yield at, len(at.rows)


def _advanced(program: BatchProgram, at: _Progress, steps: int, *, wait: bool) -> _Progress:
    """The progress some steps later; they are timed where the host waits for them."""
    began = time.monotonic()
    runs = program.advance(at.runs, at.step, at.step + steps)
    timing = at.timing
    if wait:
        jax.block_until_ready(runs)
        timing = timing.after(steps, time.monotonic() - began)
    return at._replace(runs=runs, step=at.step + steps, timing=timing)


def _packed(program: BatchProgram, at: _Progress, seconds: float) -> PyTree:
    """The progress as a tree of one structure, however many records there are."""
    rows = {}
    for name, like in program.like()[2].items():
        rows[name] = np.zeros((len(program.record_steps), *like.shape), like.dtype)
        for number, row in enumerate(at.rows):
            rows[name][number] = row[name]
    return _tree(at.runs, at.trackers, rows, np.int64(at.step), np.int64(len(at.rows)), np.float64(seconds))


def _resume(program: BatchProgram, checkpoint: Path | None, timing: StepTiming) -> tuple[_Progress, float] | None:
    """The progress that a checkpoint holds, and the seconds of work until there."""
    if checkpoint is None or not checkpoint.exists():
        return None
    runs, trackers, row = program.like()
    records = len(program.record_steps)
    rows = {name: jax.ShapeDtypeStruct((records, *like.shape), like.dtype) for name, like in row.items()}
    found = read_checkpoint(checkpoint, _tree(runs, trackers, rows, np.int64(), np.int64(), np.float64()))
    if found is None:
        return None
    runs, trackers = program.place((found["runs"], found["trackers"]))
    made = tuple({name: values[i] for name, values in found["rows"].items()} for i in range(int(found["records"])))
    return _Progress(runs, trackers, int(found["step"]), made, timing), float(found["seconds"])


def _tree(runs: PyTree, trackers: PyTree, rows: PyTree, step: np.int64, records: np.int64, seconds: np.float64) -> dict:
    return {"runs": runs, "trackers": trackers, "rows": rows, "step": step, "records": records, "seconds": seconds}
