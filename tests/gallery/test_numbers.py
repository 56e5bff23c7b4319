"""A figure's numbers as text and tables: none is lost, and each has its interval."""

from made_figures import NUMBERS

from sharplab.gallery.numbers import flatten, headline, tables


def test_intervals_go_to_their_numbers_and_none_is_lost():
    numbers = {
        "optimum": {
            "8": {"optimum": 1.0, "optimum_low": 0.5, "optimum_high": 2.0, "edge": 4.0},
            "16": {"optimum": 1.5, "optimum_low": 0.0, "optimum_high": "inf", "edge": "nan"},
        },
        "slope": 0.5,
        "slope_of_others": 0.7,
        "slope_interval": [0.4, 0.6],
        "difference": 1.0,
        "interval": [0.0, 2.0],
        "trace": 3.0,
        "trace_stderr": 0.1,
        "widths": [8, 16],
        "pair_interval": [1, 2],
        "growth": {"value": 7.0, "interval": [6.0, 8.0]},
        "share": {"value": 0.5, "low": 0.4, "high": 0.6},
        "budgets": {"trials": 3, "low": 0.1, "high": 0.9},
    }
    found = {number.path: str(number) for number in flatten(numbers)}
    assert found == {
        ("optimum", "8"): "1 [0.5, 2]",
        ("optimum", "16"): "1.5 [0, ∞)",
        ("edge", "8"): "4",
        ("edge", "16"): "–",
        ("slope",): "0.5 [0.4, 0.6]",
        ("slope_of_others",): "0.7",
        ("difference",): "1 [0, 2]",
        ("trace",): "3 ± 0.1",
        ("widths",): "8; 16",
        ("pair_interval",): "1; 2",
        ("growth",): "7 [6, 8]",
        ("share",): "0.5 [0.4, 0.6]",
        ("budgets", "trials"): "3",
        ("budgets", "low"): "0.1",
        ("budgets", "high"): "0.9",
    }


def test_every_number_stands_in_exactly_one_cell_of_the_tables():
    numbers = NUMBERS | {"records": {"h": {"n": 1, "m": 2}, "g": {"n": 3}}, "one": {"two": {"three": 4}}, "left": 5}
    cells = [cell for _, table in tables(numbers) for cell in table.to_numpy().ravel() if cell]
    assert sorted(cells) == sorted(map(str, flatten(numbers)))
    titles = [(title, list(table.columns)) for title, table in tables(numbers)]
    assert titles == [("", ["muP", "NTK"]), ("records", ["h", "g"]), ("", ["value"])]


def test_headline_has_the_first_numbers_with_finite_intervals():
    numbers = NUMBERS | {"edge": {"shift": "nan", "shift_interval": ["-inf", "inf"]}}
    assert headline(numbers) == ["muP shift per doubling 0.1 [0.05, 0.15]", "NTK shift per doubling 0.8 [0.5, 1.1]"]
    assert headline(numbers, most=1) == ["muP shift per doubling 0.1 [0.05, 0.15]", "…"]
