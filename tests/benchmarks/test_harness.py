"""Contestants take turns, jobs answer from processes of their own, and reports keep what is not measured again."""

import json
from pathlib import Path

import figure1
import harness
import memory
import pytest
import spectrum
import sweep_speed
import training_speed
import waits
from harness import FOLDER, Benchmark, in_process, in_turn, main, spread


def test_contestants_take_turns():
    calls = []
    contestants = {name: lambda name=name: calls.append(name) or float(len(calls)) for name in "ab"}
    assert in_turn(contestants, 2, warm_up=True)["b"].tolist() == [4.0, 6.0]
    assert calls == list("ababab")


def test_job_answers_from_a_process_of_its_own():
    assert in_process(spread, values=[1.0, 5.0, 2.0]) == {"median": 2.0, "min": 1.0, "max": 5.0}


@pytest.fixture
def benchmark(monkeypatch):
    """Two parts that count how often each problem was measured."""
    monkeypatch.setattr(harness, "in_process", lambda job: {"cpu": "any", "cores": 2, "device": "cpu"})
    counts = {}

    def measure(preset, say):
        for problem in preset:
            counts[problem] = counts.get(problem, 0) + 1
        return {problem: counts[problem] for problem in preset}

    return Benchmark(
        name="counted",
        about="",
        presets={"smoke": "x", "full": "xy"},
        parts={"first": measure, "second": measure},
        tables=lambda found: (),
        summary=lambda found: {"parts measured": sorted(found)},
    )


def test_report_keeps_what_is_not_measured_again(benchmark, tmp_path):
    output = tmp_path / "bench" / "counted.json"

    def found(*arguments):
        main(benchmark, [*arguments, "--output", str(output)])
        report = json.loads(output.read_text())
        return {part: measured["found"] for part, measured in report["parts"].items()}

    assert found("--parts", "first") == {"first": {"x": 1, "y": 1}}
    assert found("--parts", "second") == {"first": {"x": 1, "y": 1}, "second": {"x": 2, "y": 2}}
    assert found("--parts") == {"first": {"x": 1, "y": 1}, "second": {"x": 2, "y": 2}}
    assert json.loads(output.read_text())["parts measured"] == ["first", "second"]
    assert found("--preset", "smoke", "--parts", "first") == {"first": {"x": 3}}


@pytest.mark.parametrize(
    "module", [figure1, memory, spectrum, sweep_speed, training_speed, waits], ids=lambda module: module.__name__
)
def test_committed_reports_are_read_and_drawn(module):
    benchmark = module.BENCHMARK
    report = json.loads((Path(__file__).parents[2] / FOLDER / f"{benchmark.name}.json").read_text())
    found = {name: part["found"] for name, part in report["parts"].items()}
    assert set(benchmark.parts) <= set(found)
    assert all(table.row_count for table in benchmark.tables(found))
    assert benchmark.summary(found).items() <= report.items()
    if benchmark.picture:
        assert benchmark.picture(found).axes
