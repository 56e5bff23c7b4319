"""A suggested learning rate in words."""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from sharplab.studies.suggest_lr.suggestion import Suggestion


def describe(found: "Suggestion") -> str:
    """The learning rate, what was trained, and what is to be expected of it, a line each."""
    (low, high), moved = found.interval, found.transfer
    at = f"width {found.width}, {found.optimizer}, quoted at base {found.base}"
    if found.conclusive:
        lines = [
            f"base learning rate {found.learning_rate:.3g} [{low:.3g}, {high:.3g}] ({moved.confidence:.0%}) for {at}"
        ]
    else:
        lines = [f"inconclusive: base learning rate perhaps {found.learning_rate:.3g} for {at}"]
    lines += [f"  {reason}" for reason in found.reasons]
    runs, seeds = found.records.runs, found.records.runs["seed"].nunique()
    lines.append(
        f"  trained: {len(runs)} runs at widths {', '.join(map(str, moved.sizes))}, {seeds} seeds each, {found.steps} "
        f"steps of batch {found.batch_size}; a longer training or another batch may want another learning rate"
    )
    lines += [f"  {remark}" for remark in found.left_out]
    low, high = moved.shift_interval
    lines.append(f"  the optimum moves by {moved.shift:+.2f} octaves per doubling of width [{low:+.2f}, {high:+.2f}]")
    if found.conclusive:
        loss, worst = found.metric.replace("_", " "), found.regret_interval[1]
        lines.append(f"  predicted regret in {loss}: {_amount(found.regret)}; at worst {_amount(worst)}")
    lines.append(_stability(found))
    lines.append(_sharpness_line(found))
    return "\n".join(lines)


def _amount(rise: float) -> str:
    if np.isinf(rise):
        return "runs may diverge, or lie where none was trained: take the lower end of the interval to be safe"
    return "unknown, for the optimum may lie where none was trained" if np.isnan(rise) else f"{rise:.2g}"


def _stability(found: "Suggestion") -> str:
    moved = found.transfer
    capped = "; brought down to that" if found.capped else ""
    if np.isinf(moved.edge_interval[-1][1]):
        return f"  no run diverged at width {moved.sizes[-1]} up to {found.edge_distance:.1f} octaves above{capped}"
    return f"  stability ends {found.edge_distance:.1f} octaves above, at width {moved.sizes[-1]}{capped}"


def _sharpness_line(found: "Suggestion") -> str:
    if found.sharpness is None:
        return f"  effective sharpness: absent, {found.sharpness_missing}"
    shares = ", ".join(f"{row.sharpness:.2g} at {row.width}" for row in found.table().itertuples())
    low, high = found.sharpness.slope_interval
    return (
        f"  late sharpness in units of the threshold: {shares}; {found.sharpness.slope:+.2f} octaves per doubling "
        f"[{low:+.2f}, {high:+.2f}], {found.sharpness.verdict}"
    )
