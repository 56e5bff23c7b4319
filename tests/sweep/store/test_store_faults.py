"""Stores on file systems that are full or read-only, and under many writers: the real thing, not an imitation."""

import multiprocessing
import os
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from fake_training import FakeTrainer, experiment

from sharplab.sweep import load
from sharplab.sweep.plan import tasks
from sharplab.sweep.store import directory as store
from sharplab.training.task import Run

WRITERS = 4
GROUPS = 50
TASK = next(tasks(experiment()))


def write_groups(folder, writer, start, written):
    """What one of several processes does; some runs are trained by all of them."""
    start.wait()
    place = store.open_store(folder)
    for number in range(GROUPS):
        seed = number if number < 10 else 1000 * (writer + 1) + number
        written.put(store.add_group(place, TASK, [FakeTrainer().result(TASK, Run(1.0, seed))]))
        if number % 10 == 0:
            store.read_rows(place)


@pytest.mark.long
def test_four_processes_write_into_one_store_and_none_is_lost_or_double(tmp_path):
    context = multiprocessing.get_context("spawn")
    start, written = context.Barrier(WRITERS), context.Queue()
    writers = [
        context.Process(target=write_groups, args=(tmp_path / "runs", i, start, written)) for i in range(WRITERS)
    ]
    for writer in writers:
        writer.start()
    # Not the number of files: two that train one run and date it in the same microsecond write the same file.
    files = {written.get(timeout=300) for _ in range(WRITERS * GROUPS)}
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0] * WRITERS
    assert store.group_files(tmp_path / "runs") == files
    records = load(tmp_path / "runs")
    wanted = [*range(10), *(1000 * (i + 1) + number for i in range(WRITERS) for number in range(10, GROUPS))]
    assert records.runs["seed"].tolist() == wanted
    assert len(records.curves) == len(wanted) * len(TASK.record_steps)
    assert set(os.listdir(tmp_path / "runs")) == {"store.json", "groups"}
    assert not [name for name in os.listdir(tmp_path / "runs" / "groups") if not name.endswith(".parquet")]


def test_several_may_make_one_store_at_the_same_moment(tmp_path):
    for attempt in range(20):
        start = threading.Barrier(WRITERS)

        def make(writer, folder=tmp_path / str(attempt), start=start):
            start.wait()
            place = store.open_store(folder)
            return store.add_group(place, TASK, [FakeTrainer().result(TASK, Run(1.0, writer))])

        with ThreadPoolExecutor(WRITERS) as pool:
            made = list(pool.map(make, range(WRITERS)))
        assert store.group_files(tmp_path / str(attempt)) == set(made)
        assert len(load(tmp_path / str(attempt)).runs) == WRITERS


@pytest.mark.parametrize("left", [(), ("groups",), (".store.json.0a.tmp",), ("groups", ".store.json.0a.tmp")])
def test_a_store_that_was_begun_and_not_finished_is_finished(tmp_path, left):
    for name in left:
        (tmp_path / name).mkdir() if name == "groups" else (tmp_path / name).touch()
    place = store.open_store(tmp_path)
    assert (place / "store.json").exists()
    store.add_group(place, TASK, [FakeTrainer().result(TASK, Run(1.0, 0))])
    assert len(load(place).runs) == 1


def test_a_writer_that_died_leaves_nothing_that_is_read(tmp_path):
    place = store.open_store(tmp_path)
    path = store.add_group(place, TASK, [FakeTrainer().result(TASK, Run(1.0, 0))])
    unfinished = path.with_name(f".{path.name}.0a.tmp")
    unfinished.write_bytes(path.read_bytes()[:100])
    assert len(load(store.open_store(place)).runs) == 1
    assert unfinished.exists()


# A file system of its own needs a namespace of its own, which some systems grant to nobody.
NAMESPACE = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]


def can_mount(folder):
    try:
        tried = subprocess.run(
            [*NAMESPACE, f"mount -t tmpfs -o size=64k none {folder}"], capture_output=True, timeout=60
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return tried.returncode == 0


def on_small_file_system(tmp_path, size, script):
    """Run a script with FOLDER, TASK and group() on a file system of that size; what it prints."""
    folder = tmp_path / "mounted"
    folder.mkdir()
    if not can_mount(folder):
        pytest.skip("no file system can be mounted here")
    prelude = f"""
        import os, subprocess, sys
        from pathlib import Path
        sys.path[:0] = {[os.path.dirname(__file__), os.path.dirname(os.path.dirname(__file__))]!r}
        from fake_training import FakeTrainer
        from sharplab.sweep import load
        from sharplab.core import files
        from sharplab.sweep.store import directory as store
        from test_store_faults import TASK, group
        FOLDER = Path({str(folder)!r})
    """
    program = tmp_path / "program.py"
    program.write_text(textwrap.dedent(prelude) + textwrap.dedent(script))
    mount = f"mount -t tmpfs -o size={size} none {folder} && exec {sys.executable} {program}"
    done = subprocess.run([*NAMESPACE, mount], capture_output=True, text=True, timeout=120, cwd=os.getcwd())
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def group(seed):
    """The results of one run, a few kilobytes of them."""
    return [FakeTrainer().result(TASK, Run(1.0, seed))]


def test_a_full_disk_ends_the_run_and_what_was_written_is_safe(tmp_path):
    lines = on_small_file_system(
        tmp_path,
        "256k",
        """
        place = store.open_store(FOLDER / "runs")
        written = 0
        try:
            while written < 1000:
                store.add_group(place, TASK, group(written))
                written += 1
        except files.StoreError as error:
            print(error)
        print(written > 3, len(load(place).runs) == written)
        print([name for name in os.listdir(place / "groups") if not name.endswith(".parquet")])
        min(store.group_files(place)).unlink()
        store.add_group(store.open_store(place), TASK, group(5000))
        print(len(load(place).runs) == written)
        """,
    )
    assert lines == [
        f"store {tmp_path}/mounted/runs cannot be written: No space left on device; what it held before is safe. "
        "Remedy: free space there, then go on with the same command.",
        "True True",
        "[]",
        "True",
    ]


@pytest.mark.long
def test_a_file_system_that_turns_read_only_is_said_and_its_runs_still_load(tmp_path):
    lines = on_small_file_system(
        tmp_path,
        "1m",
        """
        place = store.open_store(FOLDER / "runs")
        store.add_group(place, TASK, group(0))
        (place / "store.json").write_text("")
        (place / "groups" / "notes.parquet").write_text("remember the milk")
        subprocess.run(["mount", "-o", "remount,ro", FOLDER], check=True)
        for attempt in (lambda: store.add_group(place, TASK, group(1)), lambda: store.open_store(FOLDER / "other")):
            try:
                attempt()
            except files.StoreError as error:
                print(error)
        print(len(load(place).runs))
        try:
            store.open_store(place)
        except files.StoreError as error:
            print(error)
        """,
    )
    place, other = tmp_path / "mounted" / "runs", tmp_path / "mounted" / "other"
    assert lines == [
        f"store {place} cannot be written: Read-only file system; what it held before is safe. Remedy: have it mounted "
        "for writing, or give another directory, then go on with the same command.",
        f"store {other} cannot be made: Read-only file system. Remedy: have it mounted for writing, or give another "
        "directory, then go on with the same command.",
        "1",
        f"store {place} cannot be written: change the permissions of {place}/groups, or have its file system mounted "
        "for writing.",
    ]
