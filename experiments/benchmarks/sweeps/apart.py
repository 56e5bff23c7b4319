"""Measurements in processes of their own: nothing compiled, nothing cached, no other's memory."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any


class MeasurementFailed(Exception):
    """A measurement ended without an answer."""


def apart(job: str, **settings: Any) -> Any:
    """The answer of a job of `sweeps.worker`, with a compilation cache that is empty.

    Raises:
        MeasurementFailed: with the last line that the process said.
    """
    here = str(Path(__file__).parents[1])
    paths = [here, *filter(None, [os.environ.get("PYTHONPATH")])]
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "answer.json"
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "SHARPLAB_CACHE": folder}
        environment.pop("JAX_COMPILATION_CACHE_DIR", None)
        command = [sys.executable, "-m", "sweeps.worker", json.dumps({"job": job} | settings), str(answer)]
        process = subprocess.run(command, env=environment, stderr=subprocess.PIPE, text=True, check=False)
        if process.returncode:
            lines = process.stderr.strip().splitlines() or [f"ended with status {process.returncode}"]
            raise MeasurementFailed(f"{job}: {lines[-1]}")
        return json.loads(answer.read_text())
