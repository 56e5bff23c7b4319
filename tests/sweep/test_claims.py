"""Notes of who trains what: seen while their worker lives, and not long after."""

import json
import os
import subprocess
import sys
from dataclasses import asdict, replace

import pytest
from fake_training import experiment

from sharplab.sweep import claims, notes
from sharplab.sweep.claims import Claim, LeaseWatch, claiming, read_claims
from sharplab.sweep.plan import missing_groups
from sharplab.sweep.store.directory import open_store, read_rows
from sharplab.sweep.store.rows import COLUMNS


@pytest.fixture
def store(tmp_path):
    return open_store(tmp_path / "store")


@pytest.fixture
def group(store):
    assert set(COLUMNS) <= set(read_rows(store))
    return missing_groups(experiment(), read_rows(store))[0]


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 1000.0

        def monotonic(self):
            return self.now

    clock = Clock()
    monkeypatch.setattr(claims, "time", clock)
    return clock


def leave(store, claim):
    (store / "running").mkdir(exist_ok=True)
    (store / "running" / f"{claim.name}.json").write_text(json.dumps(asdict(claim)))


def test_a_claim_lives_as_long_as_its_block_and_says_how_far_it_is(store, group, monkeypatch):
    monkeypatch.setattr(claims, "HEARTBEAT_SECONDS", 0.01)
    with claiming(store, "sweep", group) as holder:
        (first,) = read_claims(store)
        assert first.run_ids == group.run_ids and first.pid == os.getpid() and first.group == group.label
        holder.advance(3, 10)
        holder.note_loss(float("nan"))
        holder.note_loss(2.0)
        holder.note_loss(3.0)
        while not (later := read_claims(store)) or later[0].best_loss is None or later[0].heartbeat < 2:
            pass
        assert (later[0].done, later[0].total, later[0].best_loss) == (3, 10, 2.0)
    assert read_claims(store) == []


def test_the_note_goes_away_when_the_block_fails(store, group):
    with pytest.raises(RuntimeError), claiming(store, "sweep", group):
        raise RuntimeError
    assert read_claims(store) == []


def test_a_worker_of_this_machine_that_is_no_more_is_seen_at_once(store):
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    leave(store, Claim("dead", "sweep", "group", ("a",), pid=process.pid))
    leave(store, Claim("alive", "sweep", "group", ("b",)))
    assert [claim.name for claim in LeaseWatch(store).held()] == ["alive"]
    assert [claim.name for claim in read_claims(store)] == ["alive"]


def test_a_worker_elsewhere_lives_while_its_heartbeat_changes_whatever_the_clocks_say(store, clock):
    far = Claim("far", "sweep", "group", ("a",), host="elsewhere")
    leases = LeaseWatch(store)
    for heartbeat in range(5):
        leave(store, replace(far, heartbeat=heartbeat))
        os.utime(store / "running" / "far.json", (0, 0))
        assert [claim.name for claim in leases.held()] == ["far"]
        clock.now += 0.9 * claims.LEASE_SECONDS
    assert [claim.name for claim in leases.held()] == ["far"]
    clock.now += 0.2 * claims.LEASE_SECONDS
    assert leases.held() == []
    assert read_claims(store) == []


def test_a_store_that_cannot_be_written_does_not_end_the_claim(store, group, monkeypatch):
    def full(*args, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(notes, "write_whole", full)
    with claiming(store, "sweep", group):
        assert read_claims(store) == []


def test_a_claim_that_names_another_file_takes_nothing_away(store, tmp_path):
    (tmp_path / "victim.json").write_text("precious")
    (store / "running").mkdir()
    forged = Claim("../../victim", "sweep", "group", ("a",), pid=2**22 + 1)  # above any process number of Linux
    path = store / "running" / "forged.json"
    path.write_text(json.dumps(asdict(forged)))
    assert LeaseWatch(store).held() == []
    assert (tmp_path / "victim.json").read_text() == "precious"
    assert not path.exists()


@pytest.mark.parametrize("pid", [10**30, -(10**30)])
def test_a_process_number_that_can_be_none_is_no_dead_worker(pid):
    assert not Claim("a", "sweep", "group", ("a",), pid=pid).has_died()
