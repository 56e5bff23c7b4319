"""The fault campaign: whatever is killed or broken, the records are those of a sweep that was left alone.

    make test-faults

Processes are killed by SIGKILL at random moments: workers, the process that runs the sweep, a Dask scheduler. Files of
the store are cut, altered and emptied, foreign ones are put beside them. Two calls train one store, by two Dask
schedulers too. A disk fills up.
The counts are printed.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest
from campaign_sweep import SWEEP
from damage import DAMAGES
from dask_processes import scheduler_and_worker
from fake_training import FakeTrainer
from fill_a_disk import SWEEP as LARGE_SWEEP
from test_runner import assert_same_records

from sharplab.sweep import load, work
from sharplab.sweep.plan import Shard
from sharplab.sweep.runner import run_with
from sharplab.sweep.store import group_file
from sharplab.sweep.store.directory import open_store, read_rows

pytestmark = [pytest.mark.faults, pytest.mark.optimised]

HERE = Path(__file__).parent
KILLS = {"main": 22, "workers": 22, "scheduler": 8, "merge": 6, "export": 6}
PER_STORE = 4  # kills, after which a sweep is left alone: on a busy machine it might else never end
FIRST_SECONDS, LAST_SECONDS = 1.0, 8.0  # of a process's life, at one of which it is killed
RUNS = len(SWEEP.widths) * len(SWEEP.rates_of("mup")) * 4


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """With the tests' modules, and compiled programs kept for all the processes of the campaign."""
    folders = [HERE, HERE.parent / "sweep", *map(Path, filter(None, [os.environ.get("PYTHONPATH")]))]
    cache = tmp_path_factory.mktemp("compiled")
    return os.environ | {
        "PYTHONPATH": os.pathsep.join(map(str, folders)),
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }


@pytest.fixture(scope="module")
def start(environment):
    """Starts the sweep in a process of its own."""

    def start(store, executor="here"):
        command = [sys.executable, str(HERE / "campaign_sweep.py"), str(store), executor]
        with said_by(store).open("w") as said:
            return subprocess.Popen(command, env=environment, stderr=said)

    return start


@pytest.fixture(scope="module")
def undisturbed(start, tmp_path_factory):
    """The records of the sweep left alone, by executor."""
    found = {}

    def undisturbed(executor):
        if executor not in found:
            store = tmp_path_factory.mktemp("undisturbed") / "store"
            assert start(store, executor).wait(timeout=600) == 0, said_by(store).read_text()
            found[executor] = load(store)
        return found[executor]

    return undisturbed


@pytest.fixture
def tell(capsys):
    """Prints, whatever pytest captures."""

    def tell(text):
        with capsys.disabled():
            print(f"\n  {text}", end="")

    return tell


def said_by(store):
    """The file with what the latest sweep of a store has said."""
    return store.with_suffix(".said")


def children(pid):
    return [
        int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()
    ]


def damage(store, chance, turn):
    """What was done to the store: to one of its files, each kind of damage in its turn, and foreign files."""
    folder = ("groups/*.parquet", "checkpoints/*.npz")[turn // len(DAMAGES) % 2]
    files, done = [path for path in sorted(store.glob(folder)) if path.stat().st_size > 1], []
    if files:
        kind, path = list(DAMAGES)[turn % len(DAMAGES)], chance.choice(files)
        path.write_bytes(DAMAGES[kind](path.read_bytes(), chance.random()))
        done.append(f"{kind} {path.parent.name}")
    if (store / "groups").exists() and chance.random() < 0.3:
        name = chance.choice(["notes.txt", "mine.parquet", ".hidden.parquet", "mup-w4-d2-0123456789abcdef.parquet"])
        (store / "groups" / name).write_text("not of a sweep")
        done.append("foreign")
    return done


def assert_complete(store, expected):
    """Every run once, and each bit as it should be."""
    found = load(store)
    assert len(found.runs) == RUNS == found.runs["run_id"].nunique()
    assert_same_records(found, expected)


def finish(start, store, executor):
    """Call after call, until one says that all is done."""
    for _ in range(20):
        if start(store, executor).wait(timeout=600) == 0:
            return
    raise AssertionError(f"twenty calls did not complete the sweep: {said_by(store).read_text()}")


def test_worker_processes_train_what_one_process_trains(undisturbed):
    assert_same_records(undisturbed("processes:2"), undisturbed("here"))


def test_the_main_process_is_killed_and_the_store_damaged(tmp_path, start, undisturbed, tell):
    chance, counts, stores = random.Random(0), Counter(), 0
    expected = undisturbed("here")
    while counts["kills"] < KILLS["main"]:
        store = tmp_path / f"store{stores}"
        for _ in range(PER_STORE):
            process = start(store)
            try:
                process.wait(timeout=chance.uniform(FIRST_SECONDS, LAST_SECONDS))
                break
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                counts["kills"] += 1
            counts.update(damage(store, chance, turn=counts["kills"]))
        finish(start, store, "here")
        assert_complete(store, expected)
        stores += 1
    tell(f"main process: {dict(counts)}, {stores} stores complete, {RUNS} runs each")


def test_workers_are_killed(tmp_path, start, undisturbed, tell):
    chance, counts, stores = random.Random(1), Counter(), 0
    expected = undisturbed("processes:2")
    while counts["kills"] < KILLS["workers"]:
        store = tmp_path / f"store{stores}"
        process, left = start(store, "processes:2"), PER_STORE
        while left:
            try:
                process.wait(timeout=chance.uniform(FIRST_SECONDS, LAST_SECONDS))
                break
            except subprocess.TimeoutExpired:
                if workers := children(process.pid):
                    os.kill(chance.choice(workers), signal.SIGKILL)
                    counts["kills"] += 1
                    left -= 1
        code = process.wait(timeout=600)
        assert code in (0, 1), "killed workers ended the sweep"
        if code == 1:
            counts["calls that gave up groups"] += 1
            finish(start, store, "processes:2")
        assert_complete(store, expected)
        stores += 1
    tell(f"worker processes: {dict(counts)}, {stores} stores complete, {RUNS} runs each")


def test_the_scheduler_is_killed(tmp_path, environment, start, undisturbed, tell):
    pytest.importorskip("distributed")
    chance, counts, stores = random.Random(2), Counter(), 0
    expected = undisturbed("processes:2")
    one_core = environment | {"JAX_NUM_CPU_DEVICES": "1"}
    while counts["kills"] < KILLS["scheduler"]:
        store, code, left = tmp_path / f"store{stores}", None, PER_STORE
        while code != 0:
            with scheduler_and_worker(tmp_path, one_core) as (address, scheduler):
                process = start(store, f"dask:{address}")
                try:
                    code = process.wait(timeout=chance.uniform(FIRST_SECONDS, LAST_SECONDS) if left else 600)
                except subprocess.TimeoutExpired:
                    scheduler.kill()
                    counts["kills"] += 1
                    left -= 1
                    code = process.wait(timeout=600)
            assert code in (0, 1, 2), said_by(store).read_text()
        assert_complete(store, expected)
        stores += 1
    tell(f"scheduler: {dict(counts)}, {stores} stores complete, {RUNS} runs each")


def test_two_calls_train_one_store_and_one_is_killed(tmp_path, start, undisturbed, tell):
    store = tmp_path / "store"
    first, second = start(store), start(store)
    time.sleep(LAST_SECONDS)
    first.kill()
    first.wait()
    assert second.wait(timeout=600) == 0, said_by(store).read_text()
    assert_complete(store, undisturbed("here"))
    tell(f"two calls on one store, one killed: {len(read_rows(store))} rows for {RUNS} runs")


def test_two_schedulers_train_one_store_and_one_is_killed(tmp_path, environment, start, undisturbed, tell):
    pytest.importorskip("distributed")
    store, one_core = tmp_path / "store", environment | {"JAX_NUM_CPU_DEVICES": "1"}
    folders = [tmp_path / name for name in ("first", "second")]
    for folder in folders:
        folder.mkdir()
    with (
        scheduler_and_worker(folders[0], one_core) as (first, killed),
        scheduler_and_worker(folders[1], one_core) as (
            second,
            _,
        ),
    ):
        lost, kept = start(store, f"dask:{first}"), start(store, f"dask:{second}")
        while not list(store.glob("groups/*.parquet")) and kept.poll() is None:
            time.sleep(0.1)
        killed.kill()
        codes = kept.wait(timeout=600), lost.wait(timeout=600)
    assert codes[0] == 0, said_by(store).read_text()
    assert_complete(store, undisturbed("processes:2"))
    assert codes[1] in (0, 1, 2)
    tell(f"two schedulers on one store, one killed, exits {codes}: {len(read_rows(store))} rows for {RUNS} runs")


@pytest.fixture(scope="module")
def two_parts(tmp_path_factory):
    """Two stores of many small files, the halves of one sweep."""
    folder = tmp_path_factory.mktemp("parts")
    stores = [folder / "one", folder / "two"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(work, "FLUSH_SECONDS", 0.0)
        for i, store in enumerate(stores):
            run_with(FakeTrainer(), LARGE_SWEEP, store, shard=Shard(i, 2))
    return stores


def killed_on_the_way(words, environment, kills, chance):
    """How many of so many calls of a command were killed, each at another moment; it is then left alone."""
    command, killed = [sys.executable, "-m", "sharplab", *words], 0
    for _ in range(kills):
        process = subprocess.Popen(
            [sys.executable, "-m", "sharplab", *words], env=environment, stdout=subprocess.DEVNULL
        )
        try:
            process.wait(timeout=chance.uniform(0.5, 2.5))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            killed += 1
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return killed


def test_merges_and_exports_are_killed(tmp_path, environment, two_parts, tell):
    chance = random.Random(3)
    merged, tables = tmp_path / "merged", tmp_path / "tables"
    words = ["merge", *map(str, two_parts), "--into", str(merged)]
    merges = killed_on_the_way(words, environment, KILLS["merge"], chance)
    found = load(merged)
    assert found.runs["run_id"].is_unique and len(read_rows(merged)) == len(found.runs)
    assert_same_records(found, run_with(FakeTrainer(), LARGE_SWEEP, tmp_path / "alone"))
    exports = killed_on_the_way(["export", str(merged), str(tables)], environment, KILLS["export"], chance)
    assert len(pd.read_parquet(tables / "runs.parquet")) == len(found.runs)
    assert len(pd.read_parquet(tables / "curves.parquet")) == len(found.curves)
    tell(f"merges killed: {merges}, exports killed: {exports}; {len(found.runs)} runs, each once, and all tables")


NOTES = {
    "forged name": lambda path: path.write_text('{"name": "../../victim", "sweep": "a", "group": "g", "run_ids": []}'),
    "deep": lambda path: path.write_text("[" * 100_000),
    "wrong types": lambda path: path.write_text('{"name": 1, "sweep": [], "group": {}, "run_ids": 5}'),
    "pipe": os.mkfifo,
    "endless": lambda path: path.symlink_to("/dev/zero"),
    "folder": Path.mkdir,
    "binary": lambda path: path.write_bytes(random.Random(0).randbytes(4096)),
}


def test_what_lies_among_the_notes_of_a_store_stops_nothing(tmp_path, start, undisturbed, tell):
    store, victim = tmp_path / "store", tmp_path / "victim.json"
    victim.write_text("precious")
    for folder in ("running", "sweeps"):
        (store / folder).mkdir(parents=True)
        for kind, make in NOTES.items():
            make(store / folder / f"{kind}.json")
    open_store(tmp_path / "empty").rename(tmp_path / "made")
    for file in (tmp_path / "made").iterdir():
        file.rename(store / file.name)
    finish(start, store, "here")
    assert_complete(store, undisturbed("here"))
    assert victim.read_text() == "precious"
    asked = subprocess.run(
        [sys.executable, "-m", "sharplab", "status", str(store)], capture_output=True, text=True, timeout=60
    )
    assert asked.returncode == 0, asked.stderr
    tell(f"{2 * len(NOTES)} notes that are none, in a store: {RUNS} runs complete, nothing outside touched")


GOES = {
    "removed": shutil.rmtree,
    "renamed": lambda store: store.rename(store.with_name("elsewhere")),
    "groups removed": lambda store: shutil.rmtree(store / "groups"),
    "a file now": lambda store: (store.rename(store.with_name("elsewhere")), store.write_text("x")),
}


@pytest.mark.parametrize("how", GOES)
@pytest.mark.parametrize("executor", ["here", "processes:2"])
def test_a_store_that_goes_away_ends_the_sweep_in_a_sentence(tmp_path, start, how, executor, tell):
    store = tmp_path / "store"
    process = start(store, executor)
    deadline = time.monotonic() + 60
    while not list(store.glob("groups/*.parquet")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    GOES[how](store)
    code = process.wait(timeout=120)
    said = said_by(store).read_text()
    assert code == 2, said
    assert "Traceback" not in said and f"error: store {store}" in said.replace("\n", " ")
    tell(f"store {how} ({executor}): {said.strip().splitlines()[-1][:60]}…")


def test_a_full_disk_ends_the_sweep_and_loses_nothing(tmp_path, environment, tell):
    disk = tmp_path / "disk"
    disk.mkdir()
    fill = f"{sys.executable} {HERE / 'fill_a_disk.py'} {disk}/store {tmp_path}/copy"
    inside = f"mount -t tmpfs -o size=300k tmpfs {disk} && exec {fill}"
    done = subprocess.run(["unshare", "-Urm", "sh", "-c", inside], env=environment, capture_output=True, text=True)
    if "unshare" in done.stderr or "mount" in done.stderr:
        pytest.skip(f"needs `unshare -Urm` and tmpfs for a small disk: {done.stderr.strip()}")
    assert "No space left on device" in done.stdout, done.stderr
    kept = len(load(tmp_path / "copy").runs)
    rest = FakeTrainer()
    records = run_with(rest, LARGE_SWEEP, tmp_path / "copy")
    assert 0 < kept == len(records.runs) - len(rest.trained)
    assert_same_records(records, run_with(FakeTrainer(), LARGE_SWEEP, tmp_path / "alone"))
    tell(f"full disk: {kept} of {len(records.runs)} runs kept, the rest trained elsewhere")


def test_a_clock_set_back_loses_and_doubles_nothing(tmp_path, monkeypatch, tell):
    class Yesterday(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) - timedelta(days=1)

    store = open_store(tmp_path / "store")
    run_with(FakeTrainer(), LARGE_SWEEP, store)
    monkeypatch.setattr(group_file, "datetime", Yesterday)
    again = run_with(FakeTrainer(shift=1.0), LARGE_SWEEP, store, resume=False)
    assert again.runs["train_loss"].min() > 2
    assert_same_records(load(store), again)
    tell(f"clock set back a day: the later of {len(read_rows(store))} rows is read for each of {len(again.runs)} runs")
