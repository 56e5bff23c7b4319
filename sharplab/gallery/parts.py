"""Long computations of a figure part by part: kept, so that a command that was interrupted goes on, and told of.

Parts are kept in evidence/.parts/NAME beside the figures, under a digest of the preset and of all code that could have
a share in them, and are taken away when the figure is made. Those of other code are never read.
"""

import hashlib
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic

from rich.console import Console

from sharplab.core.evidence import Compute, Tables
from sharplab.core.files import write_whole
from sharplab.core.provenance import versions
from sharplab.core.text import printable
from sharplab.gallery.keeping import KEPT, read_table, write_table

PARTS = ".parts"
NONE = b"none"  # what stands for no table: an empty file is what a loss of power leaves of one
FIRST_LINE_SECONDS, LINE_SECONDS = 10.0, 60.0


@dataclass(frozen=True)
class KeptParts:
    """The parts of one figure.

    Attributes:
        folder: where they are, of one state of the code.
        console: that is told how far a computation is.
    """

    folder: Path
    console: Console

    def compute(self, parts: Mapping[str, Compute]) -> list[Tables]:
        """What the parts give: read where they are kept, else computed and kept."""
        at = {title: self.folder / hashlib.sha256(title.encode()).hexdigest()[:32] for title in parts}
        found = {title: _read(path) for title, path in at.items()}
        missing = [title for title in parts if not found[title]]
        began = monotonic()
        due = began + FIRST_LINE_SECONDS
        for done, title in enumerate(missing, 1):
            _write(parts[title](), at[title])
            found[title] = _read(at[title])
            left = len(missing) - done
            if left and monotonic() >= due:
                due = monotonic() + LINE_SECONDS
                self._tell(len(parts) - left, len(parts), title, (monotonic() - began) * left / done)
        return list(found.values())

    def _tell(self, number: int, of: int, title: str, left: float) -> None:
        line = f"  {100 * number / of:3.0f}%  {number} of {of} parts (last: {title}), about {left:.0f} s left"
        self.console.print(printable(line), markup=False, soft_wrap=True)

    def clear(self) -> None:
        """Take the parts of this figure away, also those of other code."""
        shutil.rmtree(self.folder.parent, ignore_errors=True)
        with suppress(OSError):  # there are those of another figure
            self.folder.parent.parent.rmdir()


def kept_parts(folder: Path, name: str, preset: str, scripts: Path, console: Console) -> KeptParts:
    """The parts of the figure folder/name, whose script is in the folder `scripts`."""
    code = hashlib.sha256(f"{preset} {versions()}".encode())
    for source in (Path(__file__).parents[1], scripts):
        for path in sorted(source.rglob("*.py")):
            code.update(path.read_bytes())
    return KeptParts(folder / KEPT / PARTS / name / code.hexdigest()[:32], console)


def _write(tables: Tables, path: Path) -> None:
    """Keep a part, whole or not at all; what another process has kept meanwhile stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=path.parent, prefix=".") as scratch:
        new = Path(scratch) / path.name
        new.mkdir()
        for i, table in enumerate(tables):
            file = new / f"{i}.parquet"
            if table is None:
                write_whole(file, NONE)
            else:
                write_table(file, table)
        try:
            new.replace(path)
        except OSError:
            if not path.is_dir():
                raise


def _read(path: Path) -> Tables:
    """A part; none of its tables where it is not kept, or damaged."""
    if not path.is_dir():
        return ()
    try:
        files = sorted(path.iterdir(), key=lambda file: int(file.stem))
        return [None if file.read_bytes() == NONE else read_table(file) for file in files]
    except ValueError:
        shutil.rmtree(path)
        return ()
