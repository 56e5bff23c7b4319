"""The job's script for Slurm, with a stand-in for what Slurm brings, and what the recipes of containers name."""

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "deploy" / "sweep.sbatch"
OPTIONS = ["--config", "my sweep.toml", "--store", "/shared/runs"]
needs_bash = pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")


def job(tmp_path, **task):
    """What a job of an array prints; `srun` prints its words, a line each."""
    program = tmp_path / "srun"
    program.write_text('#!/bin/sh\nprintf \'%s\\n\' "devices $JAX_NUM_CPU_DEVICES" "$@"\n')
    program.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"} | task
    return subprocess.run(["bash", SCRIPT, *OPTIONS], env=environment, capture_output=True, text=True)


@needs_bash
def test_a_job_trains_its_part_on_its_cores(tmp_path):
    array = {"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_MIN": "1", "SLURM_ARRAY_TASK_MAX": "8"}
    told = job(tmp_path, SLURM_CPUS_PER_TASK="4", **array)
    assert told.returncode == 0, told.stderr
    assert told.stdout.splitlines() == ["devices 4", "--ntasks=1", "sharplab", "sweep", *OPTIONS, "--shard", "3/8"]


@needs_bash
@pytest.mark.parametrize("array", [{}, {"ID": "0", "MIN": "0", "MAX": "7"}], ids=["no array", "from 0"])
def test_a_job_without_a_part_is_refused(tmp_path, array):
    told = job(tmp_path, **{f"SLURM_ARRAY_TASK_{name}": value for name, value in array.items()})
    assert told.returncode != 0 and "--array=1-8" in told.stderr and told.stdout == ""


@pytest.mark.parametrize(
    "name, copied",
    [("Dockerfile", r"(?m)^COPY (.*) \S+$"), ("sharplab.def", r"(?m)^    (\S+) /opt/sharplab/")],
    ids=["docker", "apptainer"],
)
def test_a_recipe_copies_what_there_is_and_installs_extras_that_there_are(name, copied):
    recipe = (ROOT / "deploy" / name).read_text()
    sources = [source for line in re.findall(copied, recipe) for source in line.split()]
    assert {"pyproject.toml", "constraints.txt", "sharplab"} < set(sources)
    assert all((ROOT / source).exists() for source in sources)
    # One extra each: apptainer splits the values of --build-arg at commas.
    offered = re.findall(r"--build-arg EXTRA=([\w,]+\w)", recipe) + re.findall(r"(?m)^\s*(?:ARG )?EXTRA=(.*)$", recipe)
    assert len(offered) == 2 and re.search(r"\[cluster,.*EXTRA", recipe)
    assert {"cluster", *offered} <= set(
        tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    )
