"""Options out of TOML files."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import pytest

from sharplab.commands.config_file import config_path, read_options


@dataclass(frozen=True)
class Options:
    preset: Literal["smoke", "quick"] = "quick"
    store: Path = Path("runs")
    config: Path | None = None
    batch_size: Annotated[int | None, "as tyro's"] = None
    alpha: float = 0.5
    refine: bool = True
    name: str | None = None
    widths: tuple[str, ...] | None = None


def read(tmp_path, text):
    path = tmp_path / "sweep.toml"
    path.write_text(text, encoding="utf-8")
    return read_options(path, Options)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", {}),
        ('preset = "smoke"', {"preset": "smoke"}),
        ('store = "here"', {"store": Path("here")}),
        ("batch-size = 4", {"batch_size": 4}),
        ("batch_size = 4", {"batch_size": 4}),
        ("alpha = 1", {"alpha": 1.0}),
        ("refine = false", {"refine": False}),
        ('name = "η"', {"name": "η"}),
        ("widths = 8", {"widths": ("8",)}),
        ('widths = "8:64"', {"widths": ("8:64",)}),
        ('widths = [8, "16:32", 0.5]', {"widths": ("8", "16:32", "0.5")}),
        ('[widths]\nmup = "1:4"\nntk = [1, 2]', {"widths": ("mup=1:4", "ntk=1,2")}),
    ],
)
def test_values_become_what_the_options_are(tmp_path, text, found):
    read_back = read(tmp_path, text)
    assert read_back == found
    assert [type(value) for value in read_back.values()] == [type(value) for value in found.values()]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("batch-sise = 4", "'batch-sise'.*'batch-size'"),
        ('config = "other.toml"', "'config'"),
        ('preset = "quik"', "preset 'quik'.*'quick'"),
        ("preset = 1", "preset.* text.* 1"),
        ("store = 1", "store.* text.* 1"),
        ("batch-size = 4.5", r"batch-size.*whole.* 4\.5"),
        ("batch-size = true", "batch-size.*whole.* True"),
        ('batch-size = "4"', "batch-size.*whole.* '4'"),
        ('alpha = "half"', "alpha.*number.* 'half'"),
        ("refine = 1", "refine.*true or false.* 1"),
        ("widths = [true]", "widths"),
        ("widths = 2020-01-01", "widths"),
        ("[widths]\nmup = [[1]]", r"widths\.mup"),
        ("widths = [", "TOML"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence_that_names_file_and_key(tmp_path, text, said):
    with pytest.raises(ValueError, match=said) as caught:
        read(tmp_path, text)
    assert "sweep.toml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"absent\.toml.*No such file"):
        read_options(tmp_path / "absent.toml", Options)


@pytest.mark.parametrize(
    ("words", "path"),
    [
        ([], None),
        (["--config"], None),
        (["--config", "a.toml", "--steps", "3"], Path("a.toml")),
        (["sweep", "--config=b.toml"], Path("b.toml")),
        (["--config", "a.toml", "--config=b.toml"], Path("b.toml")),
        (["--configuration", "a.toml"], None),
    ],
)
def test_the_file_is_the_last_that_the_command_line_names(words, path):
    assert config_path(words) == path
