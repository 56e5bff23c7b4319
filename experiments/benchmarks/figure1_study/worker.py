"""One job in a process of its own: `python -m figure1_study.worker '{"job": …}' ANSWER.json`."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any

from figure1_study.contestants import CONTESTANTS, GIVEN
from figure1_study.study import Study


class JobFailed(Exception):
    """A job ended without an answer."""


def apart(job: str, folder: Path, study: Study) -> Any:
    """The answer of a job, with nothing compiled and nothing cached; `folder` is what jobs pass on to each other.

    Raises:
        JobFailed: with the last line that the process said.
    """
    here = str(Path(__file__).parents[1])
    paths = os.pathsep.join([here, *filter(None, [os.environ.get("PYTHONPATH")])])
    with tempfile.TemporaryDirectory() as cache:
        answer = Path(cache) / "answer.json"
        environment = os.environ | {"PYTHONPATH": paths, "SHARPLAB_CACHE": cache}
        environment.pop("JAX_COMPILATION_CACHE_DIR", None)
        settings = json.dumps({"job": job, "began": perf_counter(), "folder": str(folder), "study": vars(study)})
        command = [sys.executable, "-m", "figure1_study.worker", settings, str(answer)]
        process = subprocess.run(command, env=environment, stderr=subprocess.PIPE, text=True, check=False)
        if process.returncode:
            lines = process.stderr.strip().splitlines() or [f"ended with status {process.returncode}"]
            raise JobFailed(f"{job}: {lines[-1]}")
        return json.loads(answer.read_text())


def main() -> None:
    """Do the job of the first argument and write its answer to the file of the second."""
    settings = json.loads(sys.argv[1])
    job, began, folder, study = settings["job"], settings["began"], Path(settings["folder"]), Study(**settings["study"])
    found = CONTESTANTS[job](began, folder, study) if job in CONTESTANTS else _check(job, folder, study)
    Path(sys.argv[2]).write_text(json.dumps(found))


def _check(job: str, folder: Path, study: Study) -> Any:
    # Imported here: the plain port's process holds nothing of the lab.
    import numpy as np

    from figure1_study import checks
    from figure1_study.given import given

    if job == "prepare":
        arrays: dict[str, Any] = given(study)
        np.savez(folder / GIVEN, **arrays)
        return None
    return {"converged": lambda: checks.converged(folder, study), "rounding": lambda: checks.rounding(study)}[job]()


if __name__ == "__main__":
    main()
