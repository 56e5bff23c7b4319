"""The directory of runs: what happens to what was damaged, is foreign, or cannot be written."""

import errno
import io
import os
import stat

import pandas as pd
import pyarrow.parquet as pq
import pytest
from damage import DAMAGES
from fake_training import FakeTrainer, experiment
from stored_results import TASK, result

from sharplab.core import files
from sharplab.sweep import StoreWarning, load
from sharplab.sweep.runner import run_with
from sharplab.sweep.store import directory as store
from sharplab.sweep.store import group_file
from sharplab.sweep.store.identity import LATER_SETTINGS
from sharplab.training.task import Run


@pytest.fixture
def folder(tmp_path):
    return store.open_store(tmp_path / "runs")


@pytest.mark.parametrize("damage", DAMAGES.values())
def test_a_damaged_file_is_set_aside_said_and_its_runs_trained_again(folder, damage):
    sweep = experiment()
    before = run_with(FakeTrainer(), sweep, folder)
    victim = sorted((folder / "groups").glob("mup-w8-*.parquet"))[0]
    victim.write_bytes(damage(victim.read_bytes(), 0.5))
    again = FakeTrainer()
    with pytest.warns(StoreWarning, match="set aside"):
        after = run_with(again, sweep, folder)
    assert {(task.parameterization, task.width) for task, _ in again.trained} == {("mup", 8)}
    assert len(again.trained) == 3 * 2
    assert (folder / "groups" / "set-aside" / victim.name).exists()
    assert after.runs["train_loss"].tolist() == before.runs["train_loss"].tolist()
    assert len(load(folder).runs) == len(before.runs)


def test_foreign_things_among_the_groups_harm_nothing(folder):
    run_with(FakeTrainer(), experiment(), folder)
    groups = folder / "groups"
    for name in ("notes.parquet", "notes.txt", ".hidden.parquet", "results"):
        (groups / name).write_text("remember the milk")
    (groups / "folder.parquet").mkdir()
    (groups / "folder.parquet" / "part-0.parquet").write_text("remember the milk")
    (groups / "gone.parquet").symlink_to(groups / "nowhere")
    with pytest.warns(StoreWarning) as warned:
        assert len(load(folder).runs) == 24
    assert sorted(str(warning.message).split("groups/")[1].split(":")[0] for warning in warned) == [
        "folder.parquet is no file",
        "notes.parquet is not as it was written (cut, altered or foreign)",
    ]
    assert {"notes.txt", ".hidden.parquet", "results"} <= set(os.listdir(groups))
    assert set(os.listdir(groups / "set-aside")) == {"notes.parquet", "folder.parquet"}
    assert len(load(folder).runs) == 24


def named_by_digest(content):
    return f"foreign-{group_file.digest(content)}.parquet"


@pytest.mark.parametrize("kind", ["text", "other table"])
def test_foreign_content_under_a_right_digest_is_set_aside(folder, kind):
    run_with(FakeTrainer(), experiment(), folder)
    buffer = io.BytesIO(b"remember the milk")
    if kind == "other table":
        pd.DataFrame({"milk": [2]}).to_parquet(buffer)
    (folder / "groups" / named_by_digest(buffer.getvalue())).write_bytes(buffer.getvalue())
    with pytest.warns(StoreWarning, match="set aside"):
        assert len(load(folder).runs) == 24


def test_what_was_set_aside_under_the_same_name_before_is_kept(folder):
    run_with(FakeTrainer(), experiment(), folder)
    for text in ("first", "second"):
        (folder / "groups" / "notes.parquet").write_text(text)
        with pytest.warns(StoreWarning, match="set aside"):
            load(folder)
    kept = sorted((folder / "groups" / "set-aside").iterdir())
    assert {path.read_text() for path in kept} == {"first", "second"}


def test_a_file_that_another_process_sets_aside_meanwhile_is_passed_over(folder, monkeypatch):
    run_with(FakeTrainer(), experiment(), folder)
    victim = folder / "groups" / "notes.parquet"
    victim.write_text("remember the milk")
    read = store.Path.read_bytes

    def vanish(path):
        victim.unlink(missing_ok=True)
        return read(path)

    monkeypatch.setattr(store.Path, "read_bytes", vanish)
    assert len(load(folder).runs) == 24


def test_damage_in_a_store_that_cannot_be_written_is_said_and_ignored(folder, monkeypatch):
    run_with(FakeTrainer(), experiment(), folder)
    victim = sorted((folder / "groups").glob("mup-w8-*.parquet"))[0]
    victim.write_bytes(b"")
    monkeypatch.setattr(store.Path, "replace", lambda self, target: (_ for _ in ()).throw(PermissionError()))
    with pytest.warns(StoreWarning, match="ignored"):
        assert len(load(folder).runs) == 18
    assert victim.exists()


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        (errno.ENOSPC, "free space there"),
        (errno.EDQUOT, "have your quota raised"),
        (errno.EROFS, "mounted for writing"),
        (errno.EACCES, "change the permissions"),
        (errno.EIO, "see to the file system"),
    ],
)
def test_a_write_that_fails_leaves_nothing_behind_and_says_what_is_safe_and_what_to_do(
    folder, monkeypatch, code, remedy
):
    kept = store.add_group(folder, TASK, [result(Run(1.0, 0))])

    def fail(descriptor):
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patched:
        patched.setattr(files.os, "fsync", fail)
        with pytest.raises(files.StoreError) as caught:
            store.add_group(folder, TASK, [result(Run(2.0, 0))])
    assert f"cannot be written: {os.strerror(code)}; what it held before is safe. Remedy: " in str(caught.value)
    assert remedy in str(caught.value)
    assert list((folder / "groups").iterdir()) == [kept]
    assert load(folder).runs["learning_rate"].tolist() == [1.0]


def test_a_system_that_cannot_sync_directories_is_written_all_the_same(folder, monkeypatch):
    open_any = os.open

    def refuse_folders(path, *args, **options):
        if os.path.isdir(path):
            raise OSError(errno.EINVAL, "Invalid argument")
        return open_any(path, *args, **options)

    monkeypatch.setattr(files.os, "open", refuse_folders)
    store.add_group(folder, TASK, [result(Run(1.0, 0))])
    assert len(load(folder).runs) == 1


def test_file_and_directory_are_synced_in_the_order_that_survives_a_power_cut(folder, monkeypatch):
    events = []
    sync, rename = os.fsync, files.Path.replace

    def spy_sync(descriptor):
        events.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        sync(descriptor)

    def spy_rename(path, target):
        events.append("rename")
        return rename(path, target)

    monkeypatch.setattr(files.os, "fsync", spy_sync)
    monkeypatch.setattr(files.Path, "replace", spy_rename)
    store.add_group(folder, TASK, [result(Run(1.0, 0))])
    assert events == ["file", "rename", "folder"]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (
            '{"sharplab_store": 99, "sharplab": "7.1"}',
            r"has schema 99, written by sharplab 7\.1; this is .*, which reads schema 1: install sharplab 7\.1",
        ),
        ('{"sharplab_store": 99}', "has schema 99; this is sharplab .*: install a later sharplab, or give a new"),
        ('{"sharplab_store": 0, "sharplab": "0.0.1"}', r"schema 0, .*: read it with sharplab 0\.0\.1"),
        ('{"sharplab_store": 0}', "read it with the sharplab that wrote it"),
    ],
)
def test_a_store_of_another_schema_is_refused(folder, content, sentence):
    run_with(FakeTrainer(), experiment(), folder)
    (folder / "store.json").write_text(content)
    for use in (store.open_store, load):
        with pytest.raises(files.StoreError, match=sentence):
            use(folder)
    assert (folder / "store.json").read_text() == content


DAMAGED_MARKERS = ["{", "", "[]", "{}", "null", '{"sharplab_sto']


@pytest.mark.parametrize("content", [*DAMAGED_MARKERS, None])
@pytest.mark.parametrize("use", [store.open_store, load])
def test_a_marker_that_was_damaged_or_lost_is_restored_from_the_groups(folder, content, use):
    run_with(FakeTrainer(), experiment(), folder)
    intact = (folder / "store.json").read_text()
    if content is None:
        (folder / "store.json").unlink()
    else:
        (folder / "store.json").write_text(content)
    with pytest.warns(StoreWarning, match=r"store\.json.*anew"):
        use(folder)
    assert (folder / "store.json").read_text() == intact
    assert len(load(folder).runs) == 24


def test_a_damaged_marker_that_cannot_be_restored_does_not_keep_the_runs_from_being_read(folder, monkeypatch):
    run_with(FakeTrainer(), experiment(), folder)
    (folder / "store.json").write_text("")
    monkeypatch.setattr(files.Path, "replace", lambda self, target: (_ for _ in ()).throw(PermissionError()))
    with pytest.warns(StoreWarning, match="left as it is"):
        assert len(load(folder).runs) == 24


@pytest.mark.parametrize("content", DAMAGED_MARKERS)
def test_a_damaged_marker_without_groups_may_be_anyones_and_is_refused(folder, content):
    (folder / "store.json").write_text(content)
    (folder / "groups" / "notes.parquet").write_text("remember the milk")
    for use in (store.open_store, load):
        with pytest.raises(files.StoreError, match="damaged"):
            use(folder)
    assert (folder / "store.json").read_text() == content
    assert (folder / "groups" / "notes.parquet").exists()


def in_schema(path, schema, version):
    """The same group file as another version would write it."""
    table = pq.read_table(path)
    buffer = io.BytesIO()
    pq.write_table(table.replace_schema_metadata({"sharplab_store": schema, "sharplab": version}), buffer)
    path.unlink()
    (path.parent / named_by_digest(buffer.getvalue())).write_bytes(buffer.getvalue())


def test_a_lost_marker_is_not_guessed_where_the_groups_are_of_another_schema(folder):
    in_schema(store.add_group(folder, TASK, [result(Run(1.0, 0))]), "2", "7.1")
    (folder / "store.json").unlink()
    for use in (store.open_store, load):
        with pytest.raises(files.StoreError, match=r"schema 2.* 7\.1"):
            use(folder)
    assert not (folder / "store.json").exists()


def test_one_group_of_another_schema_is_passed_over_and_stays(folder):
    run_with(FakeTrainer(), experiment(), folder)
    in_schema(sorted((folder / "groups").glob("mup-w8-*.parquet"))[0], "2", "7.1")
    for _ in range(2):
        with pytest.warns(StoreWarning, match=r"schema 2.* 7\.1"):
            assert len(load(folder).runs) == 18


def test_a_store_of_the_first_version_is_read(folder):
    path = store.add_group(folder, TASK, [result(Run(1.0, 0)), result(Run(2.0, 0))])
    table = pq.read_table(path).drop_columns(list(LATER_SETTINGS)).replace_schema_metadata()
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    path.unlink()
    (path.parent / named_by_digest(buffer.getvalue())).write_bytes(buffer.getvalue())
    (folder / "store.json").write_text('{"sharplab_store": 1}')
    store.add_group(folder, TASK, [result(Run(4.0, 0))])
    runs = load(folder).runs
    assert runs["learning_rate"].tolist() == [1.0, 2.0, 4.0]
    for name, value in LATER_SETTINGS.items():
        assert runs[name].tolist() == [value] * 3
        assert runs[name].dtype == pd.Series([value]).dtype


def test_a_read_only_store_is_refused_before_anything_is_trained_but_can_be_loaded(folder, monkeypatch):
    run_with(FakeTrainer(), experiment(), folder)
    monkeypatch.setattr(store.os, "access", lambda path, mode: not mode & os.W_OK)
    trainer = FakeTrainer()
    with pytest.raises(ValueError, match="permissions"):
        run_with(trainer, experiment(seeds=5), folder)
    assert trainer.trained == []
    assert len(load(folder).runs) == 24


def test_what_cannot_be_read_gets_a_sentence_and_is_not_taken_for_empty(folder, monkeypatch):
    path = store.add_group(folder, TASK, [result(Run(1.0, 0))])

    def refuse(*arguments):
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patched:
        patched.setattr(store.Path, "read_bytes", refuse)
        with pytest.raises(files.StoreError, match=r"\.parquet.*Permission denied"):
            load(folder)
    with monkeypatch.context() as patched:
        patched.setattr(store.os, "listdir", refuse)
        with pytest.raises(files.StoreError, match="Permission denied"):
            store.group_files(folder)
    assert path.exists()
