"""Runs watched while they train: what a live tracker is, and how none of them can hinder training."""

import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from queue import Full, Queue
from threading import Thread
from typing import Any, Protocol

from sharplab.core.naming import lookup
from sharplab.sweep.live_adapters import JsonLines, WandbLike

MOST_BEHIND = 10_000  # events that wait for a slow tracker; each is a kilobyte at most
PATIENCE_SECONDS = 60.0  # with one call to a tracker, once there is nothing else to do


class LiveTracker(Protocol):
    """Told of every run as it goes.

    It travels to worker processes, so that it must be picklable, and several copies of it work at once, each for runs
    of its own. A copy is told of events in their order, by one thread, several runs at a time. A run that is resumed,
    or trained again, is started again under its run id; one that is cut short is finished with the summary
    {"interrupted": True}.
    """

    def start(self, run_id: str, settings: Mapping[str, Any]) -> None:
        """Training begins, or goes on: `settings` is what defines the run."""

    def log(self, run_id: str, step: int, values: Mapping[str, float]) -> None:
        """These observables were found before this step."""

    def finish(self, run_id: str, summary: Mapping[str, Any]) -> None:
        """Training has ended: `summary` has the last values, and whether it diverged."""


class LiveTrackerWarning(UserWarning):
    """A live tracker failed and is told nothing more; training goes on."""


# (session, position among its trackers) of those that failed in this process.
_left_out: set[tuple[str, int]] = set()


@contextmanager
def guarded(trackers: Sequence[LiveTracker], session: str) -> Iterator[LiveTracker]:
    """All of the trackers as one that never fails and never makes training wait.

    Each is told by a thread of its own, out of a queue. One that raises, or falls too far behind, is named in a
    `LiveTrackerWarning` and left out from then on, in later blocks of this session in this process too.
    The block ends when every tracker has been told all, or has not come back from one call for a minute.
    """
    lines = {place: _Line(tracker) for i, tracker in enumerate(trackers) if (place := (session, i)) not in _left_out}
    everyone = _Everyone(lines)
    try:
        yield everyone
    finally:
        everyone.end()


class _Everyone:
    """Passes each call on to all that have not failed."""

    def __init__(self, lines: dict[tuple[str, int], "_Line"]) -> None:
        self._lines = lines
        self._open: dict[str, None] = {}  # run ids, in their order

    def start(self, run_id: str, settings: Mapping[str, Any]) -> None:
        self._open[run_id] = None
        self._tell("start", run_id, dict(settings))

    def log(self, run_id: str, step: int, values: Mapping[str, float]) -> None:
        self._tell("log", run_id, step, dict(values))

    def finish(self, run_id: str, summary: Mapping[str, Any]) -> None:
        self._open.pop(run_id, None)
        self._tell("finish", run_id, dict(summary))

    def end(self) -> None:
        """Wait for all, and say who failed."""
        for run_id in tuple(self._open):
            self.finish(run_id, {"interrupted": True})
        for line in self._lines.values():
            line.put(None)
        for line in self._lines.values():
            line.join()
        self._leave_out_failed()

    def _tell(self, method: str, *arguments: Any) -> None:
        for line in self._lines.values():
            line.put((method, arguments))
        self._leave_out_failed()

    def _leave_out_failed(self) -> None:
        for place, line in tuple(self._lines.items()):
            if line.failure:
                del self._lines[place]
                _left_out.add(place)
                warnings.warn(
                    f"the live tracker {line.tracker!r} {line.failure}; it is told nothing more, training goes on.",
                    LiveTrackerWarning,
                    stacklevel=4,
                )


class _Line:
    """One tracker and the thread that tells it."""

    def __init__(self, tracker: LiveTracker) -> None:
        self.tracker = tracker
        self.failure = ""
        self._queue: Queue[tuple[str, tuple[Any, ...]] | None] = Queue(MOST_BEHIND)
        self._since: float | None = None  # when the call under way began
        self._thread = Thread(target=self._tell, name="live-tracker", daemon=True)
        self._thread.start()

    def put(self, event: tuple[str, tuple[Any, ...]] | None) -> None:
        """To be told in its turn; None is the end."""
        try:
            self._queue.put_nowait(event)
        except Full:
            self.failure = f"is {MOST_BEHIND} events behind"

    def join(self) -> None:
        """Wait until it was told everything, or has failed, or lets one call last too long."""
        while self._thread.is_alive() and not self.failure:
            self._thread.join(0.05)
            since = self._since
            if since is not None and time.monotonic() - since > PATIENCE_SECONDS:
                self.failure = f"has not come back from a call for {PATIENCE_SECONDS:g} seconds"

    def _tell(self) -> None:
        while (event := self._queue.get()) is not None and not self.failure:
            method, arguments = event
            self._since = time.monotonic()
            try:
                getattr(self.tracker, method)(*arguments)
            except BaseException as error:  # a tracker that calls sys.exit has failed like any other
                self.failure = f"failed in {method} with {type(error).__name__}: {error}"
                return
            self._since = None


def parse_tracker(text: str, store: Path | str) -> LiveTracker:
    """The tracker that "jsonl", "jsonl:FOLDER", "wandb:PROJECT" or "trackio:PROJECT" stands for.

    Args:
        text: one of these; plain "jsonl" writes into the folder `live` of the store.
        store: the directory of trained runs.

    Raises:
        ValueError: for anything else, a missing project, or a package that is not installed.

    >>> parse_tracker("jsonl", "/scratch/runs")
    JsonLines(folder=PosixPath('/scratch/runs/live'))
    """
    kind, _, where = text.partition(":")
    makers: dict[str, Callable[[], LiveTracker]] = {
        # Workers may be started elsewhere.
        "jsonl": lambda: JsonLines((Path(where) if where else Path(store) / "live").absolute()),
        "wandb": partial(WandbLike, "wandb", where),
        "trackio": partial(WandbLike, "trackio", where),
    }
    return lookup("tracker", kind, makers)()
