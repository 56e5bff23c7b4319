"""What one call of `run` leaves in the store about itself: for `sharplab status`, and to ask its workers to stop."""

import json
import uuid
from dataclasses import asdict, dataclass, replace
from pathlib import Path

FOLDER = "sweeps"


@dataclass(frozen=True)
class Session:
    """How far a call of `run` is.

    Attributes:
        name: unique.
        runs: wanted in all, refinement included as far as it is known.
        stored: of them, at the last count.
        groups, groups_done: planned by this call, and through.
        cost, cost_done: the same in units of `Group.cost`.
        best_loss: the lowest final train loss among the runs that it trained.
        failed: the groups that were given up, each with the file that holds its traceback.
        ended: how the call ended ("done", "failed", "stopped"), or "" while it runs or where it was killed.
    """

    name: str
    runs: int = 0
    stored: int = 0
    groups: int = 0
    groups_done: int = 0
    cost: float = 0.0
    cost_done: float = 0.0
    best_loss: float | None = None
    failed: tuple[tuple[str, str], ...] = ()
    ended: str = ""


def lower(a: float | None, b: float | None) -> float | None:
    """The lower of two losses, None where neither is known."""
    known = [loss for loss in (a, b) if loss is not None]
    return min(known, default=None)


def new_session() -> Session:
    """One of a name that no other has."""
    return Session(uuid.uuid4().hex[:12])


def save_session(store: Path, session: Session) -> None:
    """For other processes to see; what cannot be written is left."""
    path = store / FOLDER / f"{session.name}.json"
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(exist_ok=True)
        temporary.write_text(json.dumps(asdict(session)))
        temporary.replace(path)
    except OSError:
        pass  # a full disk ends the run where its results are written, not here


def read_sessions(store: Path) -> list[Session]:
    """Every call's last word, the latest call last; what cannot be read is passed over."""
    found = []
    for path in sorted((store / FOLDER).glob("*.json"), key=_age):
        try:
            fields = json.loads(path.read_text())
            failed = tuple((group, file) for group, file in fields["failed"])
            found.append(replace(Session(fields["name"]), **fields | {"failed": failed}))
        except (OSError, ValueError, TypeError, KeyError):
            continue
    return found


def _age(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def ask_to_stop(store: Path, session: Session) -> None:
    """Let the workers of this call end after their current chunk of steps, wherever they are."""
    (store / FOLDER / f"{session.name}.stop").touch()


def is_asked_to_stop(store: Path, session_name: str) -> bool:
    """Whether the workers of that call should end."""
    return (store / FOLDER / f"{session_name}.stop").exists()
