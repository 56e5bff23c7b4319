"""The directory of runs: whole or not at all, and what happens to what was damaged."""

import errno
import io
import json
import math
import os
import shutil
import stat
import time

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from fake_training import FakeTrainer, experiment

from sharplab.sweep import StoreWarning, files, group_file, load, store
from sharplab.sweep.identity import LATER_SETTINGS
from sharplab.sweep.plan import tasks
from sharplab.sweep.runner import run_with
from sharplab.task import Lane
from sharplab.training import LaneResult

TASK = next(tasks(experiment()))


def result(lane, *, task=TASK, **curves):
    steps = np.array(task.record_steps)
    filled = {name: np.asarray(curves.get(name, np.ones(len(steps)))) for name in task.observables}
    return LaneResult(lane, {"step": steps, **filled}, False, -1, 0.25, {"device": "formula"})


@pytest.fixture
def folder(tmp_path):
    return store.open_store(tmp_path / "runs")


def test_a_run_comes_back_with_its_settings_its_values_and_its_provenance(folder):
    sweep = experiment(observables=("train_loss", "sharpness"), widths=(4,), parameterizations=("mup",))
    run_with(FakeTrainer(), sweep, folder)
    records = load(folder)
    row = records.runs[(records.runs.learning_rate == 2.0) & (records.runs.seed == 1)].iloc[0]
    assert (row["parameterization"], row["width"], row["depth"], row["steps"]) == ("mup", 4, 2, 8)
    assert (row["model"], row["data"], row["optimizer"], row["loss"]) == (
        "residual_mlp",
        "gaussian-clusters",
        "sgd",
        "cross_entropy",
    )
    assert row["train_loss"] == pytest.approx(1 + 0.1 + 0.001 + math.exp(-0.8))
    assert row["matvecs"] == 3 * 5
    assert (row["seconds"], row["device"], row["lane_mode"]) == (0.5, "formula", "sequential")
    assert {"python", "jax", "flax", "optax", "numpy", "sharplab"} <= set(json.loads(row["versions"]))
    curve = records.curves[records.curves["run_id"] == row["run_id"]]
    assert curve["step"].tolist() == [0, 4, 8]
    np.testing.assert_allclose(curve["train_loss"], 1.101 + np.exp(-np.array([0, 4, 8]) / 10))


def test_nan_and_both_infinities_stay_themselves(folder):
    values = np.array([math.inf, -math.inf, math.nan])
    store.add_group(folder, TASK, [result(Lane(1.0, 0), train_loss=values, eval_loss=values[::-1])])
    records = load(folder)
    np.testing.assert_array_equal(records.curves["train_loss"], values)
    np.testing.assert_array_equal(records.curves["eval_loss"], values[::-1])
    assert math.isnan(records.runs["train_loss"].item())
    assert records.runs["eval_loss"].item() == math.inf


def test_runs_with_other_observables_stand_in_one_table(folder):
    run_with(FakeTrainer(), experiment(widths=(4,), observables=("train_loss",)), folder)
    run_with(FakeTrainer(), experiment(widths=(8,), observables=("eval_loss",), records=2), folder)
    records = load(folder)
    assert records.runs.groupby("width")["eval_loss"].count().to_dict() == {4: 0, 8: 12}
    assert len(records.curves) == 12 * 3 + 12 * 2
    assert records.curves[records.curves.width == 8]["train_loss"].isna().all()


def test_of_a_run_found_twice_the_one_with_more_records_is_kept_and_of_equals_the_later(folder):
    rich = next(tasks(experiment(records=9)))
    store.add_group(folder, rich, [result(Lane(1.0, 0), task=rich, train_loss=np.full(9, 3.0))])
    for loss in (4.0, 5.0):
        store.add_group(folder, TASK, [result(Lane(1.0, 0), train_loss=np.full(3, loss))])
        store.add_group(folder, TASK, [result(Lane(2.0, 0), train_loss=np.full(3, loss))])
    runs = load(folder).runs
    assert runs.set_index("learning_rate")["train_loss"].to_dict() == {1.0: 3.0, 2.0: 5.0}


def truncate(content):
    return content[: len(content) // 2]


def flip_one_bit(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def empty(content):
    return b""


@pytest.mark.parametrize("damage", [truncate, flip_one_bit, empty])
def test_a_damaged_file_is_set_aside_said_and_its_runs_trained_again(folder, damage):
    sweep = experiment()
    before = run_with(FakeTrainer(), sweep, folder)
    victim = sorted((folder / "groups").glob("mup-w8-*.parquet"))[0]
    victim.write_bytes(damage(victim.read_bytes()))
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
    kept = store.add_group(folder, TASK, [result(Lane(1.0, 0))])

    def fail(descriptor):
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patched:
        patched.setattr(files.os, "fsync", fail)
        with pytest.raises(store.StoreError) as caught:
            store.add_group(folder, TASK, [result(Lane(2.0, 0))])
    assert f"cannot be written: {os.strerror(code)}; what it held before is safe. Remedy: " in str(caught.value)
    assert remedy in str(caught.value)
    assert list((folder / "groups").iterdir()) == [kept]
    assert load(folder).runs["learning_rate"].tolist() == [1.0]


def test_a_system_that_cannot_sync_directories_is_written_all_the_same(folder, monkeypatch):
    def refuse(path, flags):
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(files.os, "open", refuse)
    store.add_group(folder, TASK, [result(Lane(1.0, 0))])
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
    store.add_group(folder, TASK, [result(Lane(1.0, 0))])
    assert events == ["file", "rename", "folder"]


def test_results_are_dated_no_earlier_than_those_that_they_replace(folder):
    future = "2999-01-01T00:00:00.000001+00:00"
    store.add_group(
        folder, TASK, [result(Lane(1.0, 0), train_loss=np.full(3, 1.0))], not_before="2999-01-01T01:00+01:00"
    )
    store.add_group(folder, TASK, [result(Lane(1.0, 0), train_loss=np.full(3, 2.0))], not_before=future)
    row = load(folder).runs.iloc[0]
    assert (row["written"], row["train_loss"]) == (future, 2.0)
    store.add_group(folder, TASK, [result(Lane(2.0, 0))], not_before="1999-01-01T00:00:00+00:00")
    assert "2020" < load(folder).runs["written"].min() < "2999"


def test_a_directory_with_other_things_is_no_store(tmp_path):
    (tmp_path / "thesis.tex").write_text("...")
    with pytest.raises(ValueError, match=r"holds other files and no store\.json: give a new or empty directory"):
        store.open_store(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(ValueError, match="cannot be made"):
        store.open_store(tmp_path / "thesis.tex")
    with pytest.raises(ValueError, match="there is no store at"):
        load(tmp_path)


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
        with pytest.raises(store.StoreError, match=sentence):
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
    with pytest.warns(StoreWarning, match=r"store\.json was damaged or missing: written anew"):
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
        with pytest.raises(store.StoreError, match="is damaged and no group file verifies"):
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
    in_schema(store.add_group(folder, TASK, [result(Lane(1.0, 0))]), "2", "7.1")
    (folder / "store.json").unlink()
    for use in (store.open_store, load):
        with pytest.raises(store.StoreError, match=r"has schema 2, written by sharplab 7\.1"):
            use(folder)
    assert not (folder / "store.json").exists()


def test_one_group_of_another_schema_is_passed_over_and_stays(folder):
    run_with(FakeTrainer(), experiment(), folder)
    in_schema(sorted((folder / "groups").glob("mup-w8-*.parquet"))[0], "2", "7.1")
    for _ in range(2):
        with pytest.warns(StoreWarning, match=r"has schema 2, of sharplab 7\.1, and is passed over"):
            assert len(load(folder).runs) == 18


def test_a_store_of_the_first_version_is_read(folder):
    path = store.add_group(folder, TASK, [result(Lane(1.0, 0)), result(Lane(2.0, 0))])
    table = pq.read_table(path).drop_columns(list(LATER_SETTINGS)).replace_schema_metadata()
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    path.unlink()
    (path.parent / named_by_digest(buffer.getvalue())).write_bytes(buffer.getvalue())
    (folder / "store.json").write_text('{"sharplab_store": 1}')
    store.add_group(folder, TASK, [result(Lane(4.0, 0))])
    runs = load(folder).runs
    assert runs["learning_rate"].tolist() == [1.0, 2.0, 4.0]
    for name, value in LATER_SETTINGS.items():
        assert runs[name].tolist() == [value] * 3
        assert runs[name].dtype == pd.Series([value]).dtype


def test_a_read_only_store_is_refused_before_anything_is_trained_but_can_be_loaded(folder, monkeypatch):
    run_with(FakeTrainer(), experiment(), folder)
    monkeypatch.setattr(store.os, "access", lambda path, mode: not mode & os.W_OK)
    trainer = FakeTrainer()
    with pytest.raises(ValueError, match="cannot be written: change the permissions"):
        run_with(trainer, experiment(seeds=5), folder)
    assert trainer.trained == []
    assert len(load(folder).runs) == 24


def test_what_cannot_be_read_gets_a_sentence_and_is_not_taken_for_empty(folder, monkeypatch):
    path = store.add_group(folder, TASK, [result(Lane(1.0, 0))])

    def refuse(*arguments):
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patched:
        patched.setattr(store.Path, "read_bytes", refuse)
        with pytest.raises(store.StoreError, match=r"\.parquet cannot be read: Permission denied"):
            load(folder)
    with monkeypatch.context() as patched:
        patched.setattr(store.os, "listdir", refuse)
        with pytest.raises(store.StoreError, match="cannot be read: Permission denied"):
            store.group_files(folder)
    assert path.exists()


def test_a_store_without_runs_says_so(folder):
    with pytest.raises(ValueError, match="holds no runs yet"):
        load(folder)
    assert {"run_id", "written", "train_loss"} <= set(store.read_rows(folder))


def test_a_process_reads_each_file_once(folder, monkeypatch):
    monkeypatch.setattr(store, "BLOCK", 4)
    read = []
    plain = store.Path.read_bytes
    monkeypatch.setattr(store.Path, "read_bytes", lambda path: read.append(path.name) or plain(path))
    for number in range(11):
        path = store.add_group(folder, TASK, [result(Lane(1.0 + number, 0))])
        assert sorted(store.read_rows(folder)["learning_rate"]) == [1.0 + i for i in range(number + 1)]
        assert read.pop() == path.name
        assert read == []


def test_rows_are_the_same_whatever_the_order_of_the_files(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(store, "BLOCK", 2)
    for width, observables in ((4, ("train_loss",)), (8, ("eval_loss",)), (16, ("train_loss", "sharpness"))):
        sweep = experiment(widths=(width,), observables=observables)
        run_with(FakeTrainer(), sweep, folder)
    other = store.open_store(tmp_path / "other")
    for age, path in enumerate(sorted((folder / "groups").iterdir(), key=lambda path: path.stat().st_mtime_ns)):
        shutil.copy(path, other / "groups")
        os.utime(other / "groups" / path.name, (10**9 - age, 10**9 - age))
    ours, theirs = load(folder), load(other)
    pd.testing.assert_frame_equal(ours.runs, theirs.runs)
    pd.testing.assert_frame_equal(ours.curves, theirs.curves)


def test_yes_and_no_along_a_curve_come_back(folder):
    missed = np.array([False, True, True])
    flagged = result(Lane(1.0, 0))
    flagged.curves["hessian_missed"] = missed
    store.add_group(folder, TASK, [flagged])
    records = load(folder)
    assert records.runs["hessian_missed"].tolist() == [True]
    assert records.curves["hessian_missed"].tolist() == [0.0, 1.0, 1.0]
    store.add_group(folder, TASK, [result(Lane(2.0, 0))])
    np.testing.assert_array_equal(load(folder).runs["hessian_missed"], [1.0, np.nan])


def test_whole_numbers_stay_whole_where_every_run_has_them(folder):
    run_with(FakeTrainer(), experiment(observables=("train_loss", "sharpness"), widths=(4,)), folder)
    assert load(folder).runs["sharpness_matvecs"].dtype == np.int64
    run_with(FakeTrainer(), experiment(observables=("train_loss",), widths=(8,)), folder)
    runs = load(folder).runs.set_index("width")
    assert runs.loc[4, "sharpness_matvecs"].tolist() == [5.0] * 12
    assert runs.loc[8, "sharpness_matvecs"].isna().all()


@pytest.mark.parametrize(("groups", "runs"), [(40, 250), (100, 10)])
def test_thousands_of_runs_load_in_seconds(folder, groups, runs):
    for width in range(1, groups + 1):
        (task,) = tasks(experiment(widths=(width,), parameterizations=("mup",), records=9))
        store.add_group(folder, task, [result(Lane(1.0, seed), task=task) for seed in range(runs)])
    began = time.process_time()
    records = load(folder)
    assert time.process_time() - began < 2
    assert len(records.runs) == groups * runs
    assert len(records.curves) == groups * runs * 9
