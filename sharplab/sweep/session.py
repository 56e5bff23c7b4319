"""The session of one call of `run`, a file in the store: `sharplab status` reads it, workers are stopped beside it."""

import math
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sharplab.sweep.claims import Claim, read_claims
from sharplab.sweep.notes import read_notes, write_note
from sharplab.sweep.plan import Group
from sharplab.sweep.time_left import NOTHING, Left, Spent, Timing, predict, timing

FOLDER = "sweeps"
KEPT_SECONDS = 30 * 24 * 3600.0  # for which sessions are kept after they were last written


@dataclass(frozen=True)
class Session:
    """The state of one call of `run`."""

    name: str  # unique
    runs: int = 0  # wanted in all, refinement included as far as it is known
    stored: int = 0  # of them, at the last count
    groups: int = 0  # that it planned
    groups_done: int = 0
    cost: float = 0.0  # of these, in units of `Group.cost`
    cost_done: float = 0.0
    workers: int = 1  # that train at once
    seconds_done: float = 0.0  # that they spent on the groups that are done
    left: tuple[Left, ...] | None = None  # the time of the groups that are not; None where it is not known
    best_loss: float | None = None  # the lowest final train loss among the runs that it trained
    failed: tuple[tuple[str, str], ...] = ()  # the groups that were given up, each with the file of its traceback
    ended: str = ""  # "done", "failed" or "stopped"; "" while it runs or where it was killed


def lower(a: float | None, b: float | None) -> float | None:
    """The lower of two losses, None where neither is known."""
    known = [loss for loss in (a, b) if loss is not None]
    return min(known, default=None)


class SessionLog:
    """The session of this call, brought up to date in the store as the call goes on."""

    def __init__(self, store: Path, stored: Sequence[Timing] = ()) -> None:
        self.store, self.session = store, Session(uuid.uuid4().hex[:12])
        self._stored = stored  # timings of earlier runs
        self._measured: list[Timing] = []
        self._open: dict[str, Group] = {}  # what is planned and not done, by the identity of its first run

    def note(self, **changes: Any) -> None:
        """Change fields of the session; it is written once groups are planned."""
        self.session = replace(self.session, **changes)
        if self.session.groups:
            save_session(self.store, self.session)

    def plan(self, runs: int, stored: int, groups: Sequence[Group], workers: int = 1) -> None:
        """Note how many runs are wanted and stored, and groups that are to be trained beside those before."""
        count, cost = self.session.groups + len(groups), self.session.cost + sum(group.cost for group in groups)
        self._open |= {group.first_id: group for group in groups}
        self.note(runs=runs, stored=stored, groups=count, cost=cost, workers=workers, left=self._left())

    def divide(self, group: Group, parts: Sequence[Group]) -> None:
        """Note that a group is trained in parts."""
        self._open.pop(group.first_id, None)
        self._open |= {part.first_id: part for part in parts}
        self.note(groups=self.session.groups + len(parts) - 1, left=self._left())

    def finish(self, group: Group, best_loss: float | None, spent: Spent = NOTHING) -> None:
        """Note that a group is stored."""
        self._open.pop(group.first_id, None)
        if (measured := timing(group, spent)) is not None:
            self._measured.append(measured)
        self.note(
            stored=self.session.stored + len(group.runs),
            groups_done=self.session.groups_done + 1,
            cost_done=self.session.cost_done + group.cost,
            seconds_done=self.session.seconds_done + spent.seconds + spent.compiling,
            left=self._left(),
            best_loss=lower(self.session.best_loss, best_loss),
        )

    def _left(self) -> tuple[Left, ...] | None:
        return predict(tuple(self._open.values()), self._measured, self._stored)

    def fail(self, group: Group, trace: str) -> None:
        """Note that a group is given up, its traceback in a file of its own."""
        path = self.store / "failures" / f"{self.session.name}-{len(self.session.failed)}.txt"
        with suppress(OSError):  # a store that is gone is said to be so by the groups themselves
            path.parent.mkdir(exist_ok=True)
            path.write_text(f"{group.label}\n\n{trace}")
        last = trace.strip().splitlines()[-1]
        self._open.pop(group.first_id, None)
        self.note(failed=(*self.session.failed, (f"{group.label}: {last}", str(path))), left=self._left())

    def snapshot(self) -> tuple[Session, list[Claim]]:
        """The session, and the claims of its workers."""
        return self.session, [claim for claim in read_claims(self.store) if claim.sweep == self.session.name]

    def ask_to_stop(self) -> None:
        """Let the workers of this call end after their current segment of steps, wherever they are."""
        with suppress(OSError):  # where the store is gone, workers end as they find that out
            (self.store / FOLDER / f"{self.session.name}.stop").touch()


def save_session(store: Path, session: Session) -> None:
    """Write a session for other processes to see; one that cannot be written is left as it was."""
    write_note(store / FOLDER / f"{session.name}.json", session)


def forget_old_sessions(store: Path, now: float) -> None:
    """Remove the files of sessions that were last written a month before `now`, in seconds since 1970."""
    for path in (store / FOLDER).glob("*"):
        if now - _written(path) > KEPT_SECONDS:
            with suppress(OSError):
                path.unlink()


def read_sessions(store: Path) -> list[Session]:
    """The session of every call as it was last written, the latest last."""
    found = sorted(read_notes(store / FOLDER, Session), key=lambda each: _written(each[0]))
    return [session for _, session in found]


def _written(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return math.inf  # it has just been removed


def is_asked_to_stop(store: Path, session_name: str) -> bool:
    """Whether the workers of that call should end."""
    return (store / FOLDER / f"{session_name}.stop").exists()
