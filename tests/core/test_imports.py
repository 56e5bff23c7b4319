"""Objects by name: of a table, or imported, with the current directory searched too."""

import sys

import pytest

from sharplab.core.imports import find, find_function, hold, import_name, is_held, lend

TABLE = {"sgd": 1, "adam": 2}


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The current directory, with a module of one's own."""
    (tmp_path / "own_lab.py").write_text("RATE = 0.5\ndef make():\n    return RATE\n")
    (tmp_path / "broken_lab.py").write_text("import no_such_library\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    sys.modules.pop("own_lab", None)


def test_an_entry_of_the_table_comes_first_and_all_else_is_imported(here):
    assert find("optimizer", "sgd", TABLE) == 1
    assert find("optimizer", "own_lab:RATE", TABLE) == 0.5
    assert find_function("optimizer", "own_lab:make", TABLE)() == 0.5


def test_a_tag_changes_the_name_and_nothing_else(here):
    assert (
        find("model", "own_lab:make@2", {}) is find("model", "own_lab:make@3", {}) is find("model", "own_lab:make", {})
    )


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("sdg", "unknown optimizer 'sdg': did you mean 'sgd'.*module:attribute"),
        ("own_lab:maek", "optimizer 'own_lab:maek' cannot be imported.*maek"),
        ("no_such_lab:make", "optimizer 'no_such_lab:make' cannot be imported.*no_such_lab"),
        ("broken_lab:make", "optimizer 'broken_lab:make' cannot be imported.*no_such_library"),
        (":make", "optimizer ':make' cannot be imported"),
        ("own_lab:", "optimizer 'own_lab:' cannot be imported"),
        ("own_lab:RATE", "optimizer 'own_lab:RATE' cannot be called"),
    ],
)
def test_a_name_that_leads_nowhere_is_said_in_one_sentence(here, name, said):
    with pytest.raises(ValueError, match=said) as caught:
        find_function("optimizer", name, TABLE)
    assert "\n" not in str(caught.value)


def test_what_is_held_is_found_by_a_name_of_its_own(here):
    def one():
        return 1

    def other():
        return 2

    names = [hold(one), hold(other), hold(one)]
    assert names[0] == names[2] != names[1] and all(map(is_held, names))
    assert find_function("loss", names[0], TABLE) is one and find_function("loss", names[1], TABLE) is other
    assert not is_held("own_lab:make")


def test_what_is_lent_is_found_for_as_long_as_anyone_keeps_it():
    class Data:
        pass

    name, kept = lend(Data(), "digest")
    again, same = lend(Data(), "digest")
    assert again == name and same is kept is find("data set", name, {})
    assert lend(Data(), "other")[0] != name
    del kept
    assert find("data set", name, {}) is same
    del same
    with pytest.raises(ValueError, match="data set 'held:"):
        find("data set", name, {})


def test_only_what_stands_under_its_name_in_a_module_has_an_import_name(here):
    make = find("model", "own_lab:make", {})
    assert import_name(make) == "own_lab:make" and find("model", import_name(make), {}) is make

    def within():
        return None

    own = sys.modules["own_lab"]
    assert import_name(within) is None and import_name(0.5) is None
    own.make = within
    assert import_name(make) is None
