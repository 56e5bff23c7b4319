"""Live trackers, which are called as runs train, and how none of them can hinder training."""

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
    """What is called with every run as it goes.

    It travels to worker processes, so that it must be picklable, and several copies of it work at once, each for runs
    of its own. A copy is called in the order of events, by one thread, several runs at a time. A run that is resumed,
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
    """A live tracker failed and is called no more; training goes on."""


# (session, position among its trackers) of those that failed in this process.
_dropped: set[tuple[str, int]] = set()


@contextmanager
def guarded(trackers: Sequence[LiveTracker], session: str) -> Iterator[LiveTracker]:
    """One tracker that stands for all, never fails and never makes training wait.

    Each is called by a thread of its own, out of a queue. One that raises, or falls too far behind, is named in a
    `LiveTrackerWarning` and left out from then on, in later blocks of this session in this process too.
    The block ends when every tracker has been called with all, or has not come back from one call for a minute.
    """
    threads = {
        place: _TrackerThread(tracker) for i, tracker in enumerate(trackers) if (place := (session, i)) not in _dropped
    }
    together = _AllTrackers(threads)
    try:
        yield together
    finally:
        together.end()


class _AllTrackers:
    """A tracker that passes each call on to all that have not failed."""

    def __init__(self, threads: dict[tuple[str, int], "_TrackerThread"]) -> None:
        self._threads = threads
        self._open: dict[str, None] = {}  # run ids, in their order

    def start(self, run_id: str, settings: Mapping[str, Any]) -> None:
        self._open[run_id] = None
        self._send("start", run_id, dict(settings))

    def log(self, run_id: str, step: int, values: Mapping[str, float]) -> None:
        self._send("log", run_id, step, dict(values))

    def finish(self, run_id: str, summary: Mapping[str, Any]) -> None:
        self._open.pop(run_id, None)
        self._send("finish", run_id, dict(summary))

    def end(self) -> None:
        """Wait for all, and warn of those that failed."""
        for run_id in tuple(self._open):
            self.finish(run_id, {"interrupted": True})
        for thread in self._threads.values():
            thread.put(None)
        for thread in self._threads.values():
            thread.join()
        self._drop_failed()

    def _send(self, method: str, *arguments: Any) -> None:
        for thread in self._threads.values():
            thread.put((method, arguments))
        self._drop_failed()

    def _drop_failed(self) -> None:
        for place, thread in tuple(self._threads.items()):
            if thread.failure:
                del self._threads[place]
                _dropped.add(place)
                warnings.warn(
                    f"the live tracker {thread.tracker!r} {thread.failure}; it is called no more, training goes on.",
                    LiveTrackerWarning,
                    stacklevel=4,
                )


class _TrackerThread:
    """One tracker, with the queue of its events and the thread that calls it."""

    def __init__(self, tracker: LiveTracker) -> None:
        self.tracker = tracker
        self.failure = ""
        self._queue: Queue[tuple[str, tuple[Any, ...]] | None] = Queue(MOST_BEHIND)
        self._since: float | None = None  # when the call under way began
        self._thread = Thread(target=self._call, name="live-tracker", daemon=True)
        self._thread.start()

    def put(self, event: tuple[str, tuple[Any, ...]] | None) -> None:
        """Queue an event; None is the end."""
        try:
            self._queue.put_nowait(event)
        except Full:
            self.failure = f"is {MOST_BEHIND} events behind"

    def join(self) -> None:
        """Wait until the queue is empty, or the tracker has failed or lets one call last too long."""
        while self._thread.is_alive() and not self.failure:
            self._thread.join(0.05)
            since = self._since
            if since is not None and time.monotonic() - since > PATIENCE_SECONDS:
                self.failure = f"has not come back from a call for {PATIENCE_SECONDS:g} seconds"

    def _call(self) -> None:
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

    Plain "jsonl" writes into the folder `live` of the store.

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
