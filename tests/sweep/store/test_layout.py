"""Group files with the right digest and other content: set aside with the reason, and nothing else is."""

import io
import json
import re
import warnings

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stored_results import TASK, result

from sharplab.core.files import StoreError, StoreWarning
from sharplab.core.text import printable
from sharplab.sweep import load
from sharplab.sweep.notes import write_note
from sharplab.sweep.session import Session
from sharplab.sweep.status import status
from sharplab.sweep.store import directory, group_file, layout
from sharplab.sweep.store.data_card import data_card
from sharplab.sweep.store.directory import add_group, open_store, read_rows
from sharplab.sweep.store.identity import LATER_SETTINGS
from sharplab.training.task import Run


@pytest.fixture
def folder(tmp_path):
    store = open_store(tmp_path / "store")
    add_group(store, TASK, [result(Run(1.0, 0))])
    return store


def table():
    _, content = group_file.encode(TASK, [result(Run(1.0, 0)), result(Run(2.0, 0))])
    return pq.read_table(io.BytesIO(content))


def put(store, altered, **options):
    buffer = io.BytesIO()
    pq.write_table(altered, buffer, **options)
    content = buffer.getvalue()
    path = store / "groups" / f"mup-w8-d1-{group_file.digest(content)}.parquet"
    path.write_bytes(content)
    return path


def without(name):
    return table().drop_columns(name)


def with_column(name, values):
    given = table()
    return given.set_column(given.column_names.index(name), name, pa.array(values))


def set_aside(store, altered, match):
    path = put(store, altered)
    with pytest.warns(StoreWarning, match=match):
        rows = read_rows(store)
    assert len(rows) == 1 and (path.parent / "set-aside" / path.name).exists()


@pytest.mark.parametrize("name", [name for name in layout.NEEDED])
def test_a_file_without_a_column_is_set_aside_by_its_name(folder, name):
    set_aside(folder, without(name), name)


@pytest.mark.parametrize("name", [name for name in LATER_SETTINGS if name in layout.SETTINGS])
def test_settings_that_came_later_may_be_missing(folder, name):
    put(folder, without(name))
    assert len(read_rows(folder)) == 3


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("width", ["8", "8"]),
        ("learning_rate", ["fast", "slow"]),
        ("diverged", [0, 1]),
        ("observables", ["train_loss", "eval_loss"]),
        ("record_steps", [[0.5], [0.5]]),
        ("curve:train_loss", [1.0, 2.0]),
        ("curve:train_loss", [["low"], ["high"]]),
        ("curve:train_loss", [[1.0], [1.0]]),
        ("run_id", ["a", None]),
        ("written", ["yesterday", "today"]),
    ],
)
def test_columns_of_other_types_and_lengths_are_set_aside(folder, name, values):
    set_aside(folder, with_column(name, values), name.removeprefix("curve:") if name != "written" else "date")


def test_rows_beyond_any_group_are_refused_from_the_footer(folder, monkeypatch):
    monkeypatch.setattr(layout, "LARGEST", 10_000)
    monkeypatch.setattr(group_file.pq.ParquetFile, "read", lambda *args, **options: pytest.fail("was read"))
    path = put(folder, table().take(pa.array([0] * 1_000)))
    group_file.read_table.cache_clear()
    with pytest.raises(layout.Unusable, match="values"):
        group_file.read_table(group_file.key_of(path))


def test_too_little_memory_is_no_damage(folder, monkeypatch):
    def too_little(*args, **options):
        raise pa.ArrowMemoryError("malloc of size 64 failed")

    group_file.read_table.cache_clear()
    directory.read_block.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(group_file.pq.ParquetFile, "read", too_little)
        with pytest.raises(StoreError, match="memory"):
            load(folder)
    assert not (folder / "groups" / "set-aside").exists()
    assert len(load(folder).runs) == 1


VALUES = st.one_of(
    st.lists(values, min_size=2, max_size=2)
    for values in (
        st.none(),
        st.booleans(),
        st.integers(-(2**40), 2**40),
        st.floats(),
        st.text(max_size=3),
        st.binary(max_size=3),
        st.lists(st.floats(), max_size=3),
        st.lists(st.text(max_size=2), max_size=3),
        st.dictionaries(st.just("a"), st.integers(0, 9)),
    )
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(name=st.sampled_from(table().column_names), values=VALUES)
def test_whatever_a_column_holds_the_store_can_be_read(tmp_path_factory, name, values):
    store = open_store(tmp_path_factory.mktemp("any") / "store")
    healthy = add_group(store, TASK, [result(Run(1.0, 0))])
    try:
        path = put(store, with_column(name, values))
    except (pa.ArrowException, NotImplementedError):
        return  # Parquet has no such column
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        records = load(store)
    assert all(issubclass(each.category, StoreWarning) for each in said)
    assert healthy.exists()
    assert len(records.runs) == (1 if not path.exists() else len(read_rows(store)["run_id"].unique()))


NASTY = "<img src=x>\n# heading\x1b[2J | `"


def test_names_in_a_store_stay_text_in_its_card_and_its_status(folder):
    altered = table()
    for name in ("model", "data", "loss", "parameterization", "versions"):
        column = ["{" + json.dumps(NASTY) + ': "1"}'] * 2 if name == "versions" else [NASTY] * 2
        altered = altered.set_column(altered.column_names.index(name), name, pa.array(column))
    put(folder, altered)
    write_note(folder / "sweeps" / "a.json", Session("a", groups=1, failed=((NASTY, "trace"),)))
    for text in (data_card(load(folder)), "\n".join(map(printable, status(folder)))):
        assert "\x1b" not in text
    card = data_card(load(folder))
    assert "\n# heading" not in card and "<img" not in re.sub(r"`[^`\n]*`", "", card)


@given(
    content=st.binary(max_size=60) | st.sampled_from([b"{}", b"[]", b"[" * 100_000, b'{"sharplab_store": "1"}', b"1"])
)
def test_any_marker_is_read_restored_or_refused(tmp_path_factory, content):
    store = open_store(tmp_path_factory.mktemp("any") / "store")
    add_group(store, TASK, [result(Run(1.0, 0))])
    (store / directory.MARKER).write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", StoreWarning)
        try:
            assert len(load(open_store(store)).runs) == 1
        except StoreError as error:
            assert "schema" in str(error)
