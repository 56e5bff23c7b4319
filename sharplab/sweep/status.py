"""The state of a store and of the sweeps that write into it."""

import socket
import time
from collections.abc import Callable
from pathlib import Path

from sharplab.sweep.claims import HEARTBEAT_SECONDS, Claim, read_claims
from sharplab.sweep.progress import describe, time_left
from sharplab.sweep.session import Session, read_sessions
from sharplab.sweep.store.directory import group_files, read_rows, require_store
from sharplab.sweep.store.rows import one_per_run

SHOWN = 5  # sessions, the latest ones


def status(store: Path, sleep: Callable[[float], None] = time.sleep) -> list[str]:
    """Lines that say what a store holds, how far the latest sessions are, and who trains what now.

    Workers on other machines are known to live by their heartbeat alone: where there are any, it takes a few seconds.

    Raises:
        ValueError: if there is no store at that place, or it cannot be read.
    """
    require_store(store)
    rows = one_per_run(read_rows(store))
    claims = _held(store, sleep)
    lines = [f"{store}: {len(rows)} runs in {len(group_files(store))} files, {int(rows['diverged'].sum())} diverged"]
    for session in read_sessions(store)[-SHOWN:]:
        lines += _lines(session, [claim for claim in claims if claim.sweep == session.name])
    return lines


def _held(store: Path, sleep: Callable[[float], None]) -> list[Claim]:
    before = {claim.name: claim.heartbeat for claim in read_claims(store)}
    claims = [claim for claim in read_claims(store) if not claim.has_died()]
    if all(claim.host == socket.gethostname() for claim in claims):
        return claims
    sleep(2 * HEARTBEAT_SECONDS)
    return [claim for claim in read_claims(store) if claim.heartbeat != before.get(claim.name) and not claim.has_died()]


def _lines(session: Session, claims: list[Claim]) -> list[str]:
    state = session.ended or ("running" if claims else "no worker is seen: killed, or between two groups")
    left = time_left(session, claims) if claims and not session.ended else ""
    lines = [f"sweep {session.name}, {state}: {describe(session, claims)}{left}"]
    for claim in claims:
        share = f"{claim.done / claim.total:.0%}" if claim.total else "starting"
        lines.append(f"  {share:>8}  {claim.group} (process {claim.pid} of {claim.host})")
    lines += [f"  failed: {what} (see {where})" for what, where in session.failed]
    return lines
