"""How far a sweep is: a bar in a terminal, now and then a line elsewhere."""

import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from sharplab.core.text import printable
from sharplab.sweep.claims import Claim
from sharplab.sweep.session import Session, lower
from sharplab.sweep.time_left import still_left

FIRST_LINE_SECONDS = 10.0
LINE_SECONDS = 60.0
BAR_SECONDS = 0.5

Snapshot = Callable[[], tuple[Session, Sequence[Claim]]]


def share_done(session: Session, claims: Sequence[Claim]) -> float:
    """The share of the work that is done, groups under way counted by their steps.

    It is measured in seconds where it is known how long the rest takes, else in cost.
    """
    if session.left is not None:
        planned = session.seconds_done + sum(still_left(session.left, []))
        return 1 - sum(still_left(session.left, claims)) / planned if planned else 1.0
    under_way = sum(claim.cost * claim.done / claim.total for claim in claims if claim.total)
    return min(1.0, (session.cost_done + under_way) / session.cost) if session.cost else 1.0


def describe(session: Session, claims: Sequence[Claim]) -> str:
    """A line that says how many groups are done, running and failed, and the best loss so far.

    >>> describe(Session("a", runs=40, stored=30, groups=4, groups_done=3, cost=4.0, cost_done=3.0, best_loss=0.25), [])
    '3 of 4 groups, 30 of 40 runs, best train loss 0.25'
    """
    parts = [f"{session.groups_done} of {session.groups} groups", f"{session.stored} of {session.runs} runs"]
    if claims:
        widest = max(claims, key=lambda claim: claim.cost)
        parts.append(f"{len(claims)} running ({widest.group}{', …' * (len(claims) > 1)})")
    if session.failed:
        parts.append(f"{len(session.failed)} failed")
    best = session.best_loss
    for claim in claims:
        best = lower(best, claim.best_loss)
    if best is not None:
        parts.append(f"best train loss {best:.4g}")
    return printable(", ".join(parts))


def time_left(session: Session, claims: Sequence[Claim]) -> str:
    """The time that is left, as the end of a line; "" where it is not known.

    >>> from sharplab.sweep.time_left import Left
    >>> time_left(Session("a", workers=2, left=(Left("1", 40.0, 10.0), Left("2", 60.0, 0.0))), [])
    ', about 60 s left'
    """
    if session.left is None:
        return ""
    groups = still_left(session.left, claims)
    workers = max(session.workers, len(claims))  # not every executor says how many it has
    return f", about {max(sum(groups) / workers, *groups, 0.0):.0f} s left"


@contextmanager
def show_progress(snapshot: Snapshot) -> Iterator[None]:
    """A block in which what `snapshot` returns is shown on standard error, once groups are planned."""
    console = Console(file=sys.stderr)
    ended = threading.Event()
    show = _show_bar if console.is_terminal else _show_lines
    thread = threading.Thread(target=show, args=(snapshot, console, ended), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _show_lines(snapshot: Snapshot, console: Console, ended: threading.Event) -> None:
    began, pause = time.monotonic(), FIRST_LINE_SECONDS
    while not ended.wait(pause):
        session, claims = snapshot()
        if session.groups:
            pause = LINE_SECONDS
            text = f"{describe(session, claims)}; {time.monotonic() - began:.0f} s{time_left(session, claims)}"
            console.print(
                f"  {share_done(session, claims):4.0%}  {text}", highlight=False, markup=False, soft_wrap=True
            )


def _show_bar(snapshot: Snapshot, console: Console, ended: threading.Event) -> None:
    columns = (BarColumn(), TaskProgressColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    with Progress(TextColumn(" "), *columns, console=console, transient=True) as bar:
        task = bar.add_task("planning", total=None)
        while not ended.wait(BAR_SECONDS):
            session, claims = snapshot()
            if session.groups:
                text = describe(session, claims) + time_left(session, claims)
                bar.update(task, total=1.0, completed=share_done(session, claims), description=text)
