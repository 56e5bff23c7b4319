"""Memory of the largest eigenvalue: products, vectors and error by `basis` of `sharplab.eigsh`, on untrained GPTs.

Vectors are what the compiled solve holds beside its arguments, in vectors of the parameters' size, as XLA plans it;
`peak_bytes` is the most that a process of its own held, compilation included. The error is that of the value at the
tolerance of the solve, against a solve at a tolerance of 1e-5.

Cost: minutes. Leaves figures/bench/memory.json.

    make bench-memory
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness import Benchmark, Say, in_process, main
from spectra.memory import solve

if TYPE_CHECKING:
    from rich.table import Table

REFERENCE = 1e-5


@dataclass(frozen=True)
class Preset:
    """The networks, (width, depth, heads) each, and the bases."""

    networks: tuple[tuple[int, int, int], ...]
    bases: tuple[int | None, ...] = (4, 5, 8, 12, None)
    tolerance: float = 1e-2


PRESETS: Mapping[str, Preset] = {
    "smoke": Preset(networks=((32, 2, 2),), bases=(4, None)),
    "quick": Preset(networks=((96, 2, 2),), bases=(4, 8, None)),
    "full": Preset(networks=((128, 5, 4), (320, 8, 5), (512, 12, 8))),
}


def _memory(preset: Preset, say: Say) -> list[dict[str, Any]]:
    rows = []
    for network in preset.networks:
        say(f"{network}: reference")
        exact = in_process(solve, network=network, basis=None, tolerance=REFERENCE)["value"]
        for basis in preset.bases:
            say(f"{network}: basis {basis}")
            row = in_process(solve, network=network, basis=basis, tolerance=preset.tolerance)
            rows.append({"basis": basis} | row | {"error": abs(row["value"] / exact - 1)})
    return rows


def tables(found: Mapping[str, Any]) -> Iterable["Table"]:
    """Products, vectors and error by size and basis."""
    from rich.table import Table

    table = Table("parameters", "basis", "products", "vectors", "error", "estimate", "peak, MB")
    for row in found.get("memory", ()):
        numbers = (f"{row['vectors']:.1f}", f"{row['error']:.1e}", f"{row['estimate']:.1e}")
        peak = f"{row['peak_bytes'] / 1e6:.0f}"
        table.add_row(f"{row['parameters']:,}", str(row["basis"] or "2k + 14"), str(row["products"]), *numbers, peak)
    yield table


BENCHMARK = Benchmark(
    name="memory",
    about=__doc__,
    presets=PRESETS,
    parts={"memory": _memory},
    tables=tables,
    summary=lambda found: {"worst_products": worst(found.get("memory", []))},
)


def worst(rows: list[dict[str, Any]]) -> float | None:
    """The most products with a bounded basis ÷ those without a bound, over all sizes."""
    unbounded = {row["parameters"]: row["products"] for row in rows if row["basis"] is None}
    ratios = [row["products"] / unbounded[row["parameters"]] for row in rows if row["parameters"] in unbounded]
    return max(ratios, default=None)


if __name__ == "__main__":
    main(BENCHMARK)
