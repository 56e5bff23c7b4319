"""Waits beside those of an earlier version: which package a job imports, what is timed, and how it is told."""

import json
import math
from contextlib import nullcontext
from dataclasses import replace

import harness
import pytest
import waits
from harness import JobFailed, in_process, main
from waiting import package_folder


def test_the_package_is_that_of_the_commit():
    if not (waits.ROOT / ".git").exists():
        pytest.skip("there is no history here")
    with waits.sources("HEAD") as folder:
        assert folder != waits.ROOT
        assert in_process(package_folder, variables={"PYTHONPATH": str(folder)}) == str(folder)
    with pytest.raises(SystemExit, match="no commit 0000 here: fetch the whole history"), waits.sources("0000"):
        pass


def test_a_target_is_that_of_a_clean_clone(monkeypatch):
    if not (waits.ROOT / ".git").exists():
        pytest.skip("there is no history here")
    monkeypatch.setenv("MAKEFLAGS", "--question")  # with which nothing would be made
    (row,) = waits.BENCHMARK.parts["tests"](waits.PRESETS["smoke"], print)["rows"].values()
    assert row["times_as_fast"]["median"] == pytest.approx(row["before"]["median"] / row["here"]["median"])
    with pytest.raises(JobFailed, match=r"make none at HEAD: .*No rule to make target"):
        waits.seconds_of_target("HEAD", "none")


def test_versions_take_turns_and_the_ratio_is_of_pairs(monkeypatch, tmp_path):
    folder, output = tmp_path / "before", tmp_path / "waits.json"
    asked = []

    def job(variables):
        asked.append(variables["PYTHONPATH"])
        return len(asked) * (4.0 if variables["PYTHONPATH"] == str(folder) else 1.0)

    monkeypatch.setattr(harness, "in_process", lambda job: {"cpu": "any", "cores": 2, "device": "cpu"})
    monkeypatch.setattr(waits, "in_process", lambda job, variables: variables["PYTHONPATH"])
    monkeypatch.setattr(waits, "sources", lambda commit: nullcontext(folder))
    monkeypatch.setattr(waits, "jobs", lambda preset: {"any": job})
    twice = replace(waits.BENCHMARK, presets={"full": replace(waits.PRESETS["full"], repetitions=2)})
    main(twice, ["--parts", "waits", "--output", str(output)])
    assert asked == [str(folder), str(waits.ROOT)] * 3
    found = json.loads(output.read_text())["parts"]["waits"]["found"]
    (row,) = found["rows"].values()
    assert found["before"] == waits.BEFORE
    assert row["before"] == {"median": 16.0, "min": 12.0, "max": 20.0}
    assert row["times_as_fast"] == pytest.approx({"median": (3 + 10 / 3) / 2, "min": 3.0, "max": 10 / 3})


def test_another_package_than_was_asked_for_is_refused(monkeypatch):
    monkeypatch.setattr(waits, "in_process", lambda job, variables: "elsewhere")
    with pytest.raises(SystemExit, match="imports sharplab from elsewhere, not from"):
        waits.BENCHMARK.parts["waits"](waits.PRESETS["smoke"], print)


@pytest.mark.long
def test_each_kind_of_wait_is_timed():
    jobs = waits.jobs(waits.PRESETS["smoke"])
    kinds = {job.args[0]: job for job in jobs.values()}  # the last of each: `export`, after a sweep, of the commands
    assert len(kinds) == 4
    # Not that each is above 0: a step is a difference of two times, which other work on the machine may turn around.
    assert all(math.isfinite(job(variables={})) for job in kinds.values())
    (row,) = waits.BENCHMARK.parts["first figure"](waits.PRESETS["smoke"], print)["rows"].values()
    assert row["times_as_fast"]["median"] > 0
