"""Claims to groups of runs, held by leases: files that workers leave in a store and renew while they train.

They keep two sweeps of one store from training the same runs twice, and show `sharplab status` how far each is.
No result depends on them: a claim that is missed costs double work, one that outlives its worker a short wait. No
clock is compared with another machine's: the lease of a claim holds as long as its heartbeat is seen to change.
"""

import os
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event, Thread

from sharplab.sweep.notes import read_notes, write_note
from sharplab.sweep.plan import Group

HEARTBEAT_SECONDS = 2.0
LEASE_SECONDS = 60.0  # without a heartbeat; a network file system may show a new one half a minute late
FOLDER = "running"


@dataclass(frozen=True)
class Claim:
    """A group of runs that a worker is training."""

    name: str  # unique
    sweep: str  # of the call of `run` that it works for
    group: str  # its label
    run_ids: tuple[str, ...]
    host: str = field(default_factory=socket.gethostname)
    pid: int = field(default_factory=os.getpid)
    heartbeat: int = 0
    done: int = 0  # steps, of `total`, over all runs
    total: int = 0
    cost: float = 0.0  # `Group.cost`
    best_loss: float | None = None

    def has_died(self) -> bool:
        """Whether its worker was a process of this machine and has ended; False where that cannot be known."""
        if self.host != socket.gethostname():
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except (OSError, OverflowError):
            return False
        return False


class ClaimHolder:
    """A worker's hold on one claim, whose heartbeat a thread renews in the store."""

    def __init__(self, store: Path, claim: Claim) -> None:
        self.claim = claim
        self._path = store / FOLDER / f"{claim.name}.json"
        self._ended = Event()
        self._thread = Thread(target=self._renew, daemon=True)

    def advance(self, done: int, total: int) -> None:
        """Put into the claim that `done` of `total` steps are made."""
        self.claim = replace(self.claim, done=done, total=total)

    def note_loss(self, loss: float) -> None:
        """Put into the claim the loss of a run, where it is the lowest."""
        best = self.claim.best_loss
        if loss == loss and (best is None or loss < best):
            self.claim = replace(self.claim, best_loss=loss)

    def begin(self) -> None:
        """Write the claim and go on renewing it."""
        self.write()
        self._thread.start()

    def write(self) -> None:
        """Write the claim as it is now."""
        write_note(self._path, self.claim)

    def end(self) -> None:
        """Remove the claim."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()
        _remove(self._path)

    def _renew(self) -> None:
        while not self._ended.wait(HEARTBEAT_SECONDS):
            self.claim = replace(self.claim, heartbeat=self.claim.heartbeat + 1)
            self.write()


@contextmanager
def claiming(store: Path, sweep: str, group: Group) -> Iterator[ClaimHolder]:
    """A claim to a group, held within the block."""
    holder = ClaimHolder(store, Claim(uuid.uuid4().hex[:12], sweep, group.label, group.run_ids, cost=group.cost))
    holder.begin()
    try:
        yield holder
    finally:
        holder.end()


def read_claims(store: Path) -> list[Claim]:
    """All claims in a store, those of dead workers too."""
    return [claim for _, claim in read_notes(store / FOLDER, Claim)]


def _remove(path: Path) -> None:
    with suppress(OSError):  # the store may be gone, which is said where results are written
        path.unlink(missing_ok=True)


class LeaseWatch:
    """The leases of a store's claims: one holds while its heartbeat changes from one reading to the next."""

    def __init__(self, store: Path) -> None:
        self._store = store
        self._seen: dict[Path, tuple[int, float]] = {}  # file → its last heartbeat, when that was first seen

    def held(self) -> list[Claim]:
        """The claims whose lease holds; those of dead workers are removed."""
        now = time.monotonic()
        held = []
        for path, claim in read_notes(self._store / FOLDER, Claim):
            heartbeat, since = self._seen.get(path, (-1, now))
            if claim.heartbeat != heartbeat:
                since = now
            self._seen[path] = (claim.heartbeat, since)
            if now - since > LEASE_SECONDS or claim.has_died():
                _remove(path)
            else:
                held.append(claim)
        return held
