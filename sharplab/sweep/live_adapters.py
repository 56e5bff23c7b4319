"""Live trackers that write JSON lines into a folder, or to wandb or trackio."""

import contextvars
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sharplab.core.naming import lookup


@dataclass(frozen=True)
class JsonLines:
    """One file per run, `folder/RUN_ID.jsonl`, with a line of JSON per event, written at once.

    Lines are {"event": "start", "run_id", "settings": {…}}, {"event": "log", "run_id", "step", NAME: VALUE, …} and
    {"event": "finish", "run_id", "summary": {…}}. Where a number is not finite there is null, and its text is in
    the line's "not_finite": {NAME: "nan" | "inf" | "-inf"}, so that every line is JSON to every reader.

    A run that is resumed or trained again adds lines: of two with one step, the later counts
    (`pd.read_json(path, lines=True).drop_duplicates("step", keep="last")`).
    """

    folder: Path

    def start(self, run_id: str, settings: Mapping[str, Any]) -> None:
        """Begin a run, or go on with it."""
        _cut_torn_line(self._path(run_id))
        self._append(run_id, {"event": "start", "run_id": run_id, "settings": dict(settings)})

    def log(self, run_id: str, step: int, values: Mapping[str, float]) -> None:
        """Write what was observed before this step."""
        event = {"event": "log", "run_id": run_id, "step": int(step)}
        self._append(run_id, event | dict(values) | event)

    def finish(self, run_id: str, summary: Mapping[str, Any]) -> None:
        """End a run."""
        self._append(run_id, {"event": "finish", "run_id": run_id, "summary": dict(summary)})

    def _path(self, run_id: str) -> Path:
        return self.folder / f"{run_id}.jsonl"

    def _append(self, run_id: str, event: dict[str, Any]) -> None:
        not_finite: dict[str, str] = {}
        plain = {name: _plain(name, value, not_finite) for name, value in event.items()}
        if not_finite:
            plain["not_finite"] = not_finite
        self.folder.mkdir(parents=True, exist_ok=True)
        # Opened anew for each line: nothing to carry to another process, nothing left open in this one.
        with self._path(run_id).open("ab") as file:
            file.write(json.dumps(plain, allow_nan=False).encode() + b"\n")


def _plain(name: str, value: Any, not_finite: dict[str, str]) -> Any:
    """A value as JSON can say it; numbers that are not finite go into `not_finite`."""
    if isinstance(value, Mapping):
        return {str(key): _plain(str(key), entry, not_finite) for key, entry in value.items()}
    if hasattr(value, "tolist"):  # arrays, and numbers that come out of them
        value = value.tolist()
    if isinstance(value, tuple | list):
        return [_plain(name, entry, not_finite) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        not_finite[name] = str(value)
        return None
    return value if isinstance(value, str | int | float | None) else str(value)


def _cut_torn_line(path: Path) -> None:
    """Remove a last line that was not written whole before a machine stopped."""
    if not path.exists():
        return
    content = path.read_bytes()
    if not content.endswith(b"\n"):
        with path.open("r+b") as file:
            file.truncate(content.rfind(b"\n") + 1)


# Of wandb alone: several runs at once in one process, none of them the process's own, whose output they leave alone.
_ALSO: dict[str, dict[str, Any]] = {
    "wandb": {"reinit": "create_new", "settings": {"silent": True, "console": "off"}},
    "trackio": {},
}
# The runs open in this process, by (package, project, run id): of either package's own type.
_opened: dict[tuple[str, str, str], Any] = {}


@dataclass(frozen=True)
class WandbLike:
    """Runs in a project of wandb, or of trackio, which has the same interface.

    A run is found there under its run id, with its settings as config. One that is resumed or trained again goes
    on where it was (`resume="allow"`): wandb passes over steps that it has already, trackio shows both values.
    Where they write, and whether online, is set as usual, by WANDB_MODE, WANDB_DIR, TRACKIO_DIR and the like.

    Attributes:
        module: "wandb" (0.19.10 or later, for several runs at once) or "trackio".
        project: its name.

    Raises:
        ValueError: for another module, one that is not installed, or an empty project.
    """

    module: str
    project: str

    def __post_init__(self) -> None:
        lookup("tracker", self.module, _ALSO)
        if not self.project:
            raise ValueError(f"tracker {self.module} needs a project: give {self.module}:PROJECT.")
        spec = find_spec(self.module)
        if spec is None or spec.origin is None:  # a folder of that name, as wandb leaves one, has no origin
            raise ValueError(f"tracker {self.module} is not installed: pip install {self.module}.")

    def start(self, run_id: str, settings: Mapping[str, Any]) -> None:
        """Begin a run, or go on with it."""
        self._open(run_id, dict(settings))

    def log(self, run_id: str, step: int, values: Mapping[str, float]) -> None:
        """Write what was observed before this step."""
        self._run(run_id).log(dict(values), step=int(step))

    def finish(self, run_id: str, summary: Mapping[str, Any]) -> None:
        """End a run."""
        run = self._run(run_id)
        del _opened[self.module, self.project, run_id]
        if hasattr(run, "summary"):
            run.summary.update(dict(summary))
        else:  # trackio keeps none: a last record
            run.log({f"summary/{name}": value for name, value in summary.items()})
        run.finish()

    def _run(self, run_id: str) -> Any:
        if (self.module, self.project, run_id) not in _opened:
            self._open(run_id, None)
        return _opened[self.module, self.project, run_id]

    def _open(self, run_id: str, config: dict[str, Any] | None) -> None:
        init = import_module(self.module).init
        named = {"name": run_id} | ({"id": run_id} if self.module == "wandb" else {})
        # In a context of its own: trackio ends the run that was opened before in the same context.
        _opened[self.module, self.project, run_id] = contextvars.Context().run(
            init, project=self.project, config=config, resume="allow", **named, **_ALSO[self.module]
        )
