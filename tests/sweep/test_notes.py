"""Notes in a store: whatever lies among them, reading goes on, and at once."""

import json
import os
import warnings
from dataclasses import asdict, dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sharplab.core.files import StoreWarning
from sharplab.sweep import notes
from sharplab.sweep.claims import Claim, read_claims
from sharplab.sweep.notes import read_notes, write_note
from sharplab.sweep.session import Session, read_sessions


@dataclass(frozen=True)
class Note:
    name: str
    runs: tuple[str, ...] = ()
    loss: float | None = None


WHOLE = Note("a", ("x", "y"), 0.5)


def names(folder):
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found = [note.name for _, note in read_notes(folder, Note)]
    assert all(issubclass(each.category, StoreWarning) for each in said)
    return found, [str(each.message) for each in said]


def test_what_is_written_is_read(tmp_path):
    write_note(tmp_path / "new" / "a.json", WHOLE)
    assert list(read_notes(tmp_path / "new", Note)) == [(tmp_path / "new" / "a.json", WHOLE)]


def test_fields_of_later_versions_are_passed_over(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(asdict(WHOLE) | {"colour": "red"}))
    assert names(tmp_path) == (["a"], [])


def as_pipe(path):
    os.mkfifo(path)


def as_endless(path):
    path.symlink_to("/dev/zero")


def as_folder(path):
    path.mkdir()


def as_large(path):
    with path.open("wb") as file:
        file.truncate(notes.LARGEST + 1)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes with names")
@pytest.mark.parametrize("make", [as_pipe, as_endless, as_folder, as_large])
def test_what_is_no_small_file_is_passed_over_and_named_once(tmp_path, make):
    write_note(tmp_path / "z.json", WHOLE)
    make(tmp_path / "bad.json")
    found, said = names(tmp_path)
    assert found == ["a"] and len(said) == 1 and "bad.json" in said[0]
    assert names(tmp_path) == (["a"], [])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "[" * 100_000,
        '{"name": ' * 10_000,
        '{"name": 1}',
        '{"name": "a", "runs": 5}',
        '{"name": "a", "runs": [1]}',
        '{"name": "a", "loss": "low"}',
        '{"name": "a", "loss": NaN}',
        '{"runs": []}',
    ],
)
def test_text_that_is_no_note_is_passed_over_and_named(tmp_path, text):
    (tmp_path / "bad.json").write_text(text)
    write_note(tmp_path / "z.json", WHOLE)
    found, said = names(tmp_path)
    assert found == ["a"] and "bad.json" in said[0]


@given(
    content=st.binary(max_size=200)
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["name", "sweep", "group", "run_ids", "pid", "failed", "left", "cost"]),
                inner,
                max_size=6,
            )
        ),
    ).map(lambda value: json.dumps(value).encode())
)
def test_any_bytes_are_a_note_or_none(tmp_path_factory, content):
    store = tmp_path_factory.mktemp("store")
    for folder in ("running", "sweeps"):
        (store / folder).mkdir()
        (store / folder / "any.json").write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert all(isinstance(claim, Claim) and isinstance(claim.has_died(), bool) for claim in read_claims(store))
        assert all(isinstance(session, Session) for session in read_sessions(store))
