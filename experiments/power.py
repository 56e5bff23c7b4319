"""The power schedule: does the optimal learning rate over the batch size fall as a power of the tokens, at 4w as at w?

Paper: Shen et al., Power Scheduler, arXiv 2408.13359: under WSD the best learning rate is β·4.6·T^−0.51 of the batch
size β, in sequences, and the tokens T that are trained on, for transformers under muP of any width; hence one schedule
η(n) = min(η_max, a·β·n^−0.51) of the tokens n so far serves runs of any length. Here (quick): a decoder of one block on
the bytes of the King James Bible, windows of 128 bytes, Adam under muP, WSD with a tenth of warm-up and a fifth of
decay; at width 16 batches of 8 to 32 windows and 2^17 to 2^19 tokens, at width 64 batches of 16.

The law is fitted at width 16 by `sharplab.learning_rate_law` over batch size and tokens. The power schedule is the law
of its own batch size at the tokens so far, no higher than at the fewest tokens of the grid, with the same warm-up and
an exponential end of the same length; it is trained at width 64, as it is, for each number of tokens, beside WSD at the
learning rates of the grid.

Rule of the verdict, on three questions, each with a 95 % interval: (1) the exponent of the tokens is −0.51: yes if its
interval holds −0.51 and is within ±0.25 of it, no if it does not hold it; (2) the learning rate is proportional to the
batch size: yes if the exponent's interval lies within 0.75 to 1.25, no if it lies outside of that; (3) one power
schedule serves at four times the width: yes if its final loss exceeds that of WSD, tuned at each length on other seeds,
by at most 1 % on average over the lengths, no if by more. "holds" if all three are yes, "fails" if one is no, else
"inconclusive".

Cost: about five minutes on two cores. Expected: (2) no, for Adam's steps do not grow with the batch: the theory of
noise has ½ (arXiv 2006.09092), and Step Law (arXiv 2503.04715) no batch size in its learning rate at all. Found at
quick: tokens^−0.09 [−0.26, 0.09] and batch^0.27 [0.10, 0.45], so that the schedule is nearly constant, and serves: 0.3
% [0.1, 0.6] above tuned WSD. Found at full, with four batch sizes and up to 2^20 tokens: tokens^−0.08 [−0.17, 0.01] and
batch^0.24 [0.15, 0.33]; the one schedule is 1.0 % [0.3, 1.7] above tuned WSD, which leaves open whether it serves:
within half a percent at 2^18 and 2^19 tokens, and at 2^20 the seeds differ too much.

    make figure-power
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from schedules import judge, within
from sweep_columns import octaves

import sharplab as sl
from sharplab.core.statistics import Interval
from sharplab.gallery.finding import Finding
from sharplab.plotting import house_style, leave_room_below, size_colours
from sharplab.studies.power_schedules import power_schedule
from sharplab.studies.tournament import rank_schedules

CLAIM = (
    "Under muP the best learning rate of a transformer is proportional to the batch size and to the tokens' power "
    "-0.51, and one power schedule fitted at a small width is as good as a tuned one at four times that, at any length."
)
PAPER = -0.51  # the exponent of the tokens
NEAR, PROPORTIONAL, AS_GOOD = 0.25, (0.75, 1.25), 0.01
WARMUP, DECAY = 0.1, 0.2
METRIC = "train_loss"
COLUMNS = ["part", "schedule", "width", "batch_size", "tokens", "learning_rate", "seed", "step", METRIC, "diverged"]


@dataclass(frozen=True)
class Grid:
    """What is trained: `base` at its width for all batch sizes and tokens, and at 4 times the width for one size.

    Attributes:
        base: of one window, whose steps and batch size are each cell's own.
        batch_sizes: in windows, the one of the wide network in the middle.
        tokens: trained on, growing.
        seeds: of each cell, 3 or more.
        window: bytes, or tokens, of a window.
    """

    base: sl.Experiment
    batch_sizes: tuple[int, ...] = (8, 16, 32)
    tokens: tuple[int, ...] = (2**17, 2**18, 2**19)
    seeds: int = 3
    window: int = 128

    @property
    def batch_size(self) -> int:
        """That of the wide network."""
        return self.batch_sizes[len(self.batch_sizes) // 2]

    @property
    def widths(self) -> tuple[int, int]:
        """The narrow one, and four times that."""
        (narrow,) = self.base.widths
        return narrow, 4 * narrow

    def cell(self, width: int, batch_size: int, tokens: int) -> sl.Experiment:
        """The experiment of one length, one batch size and one width."""
        steps = max(2, round(tokens / (batch_size * self.window)))
        return replace(self.base, widths=(width,), batch_size=batch_size, steps=steps, seeds=self.seeds)


QUICK = sl.Experiment(
    model="gpt",
    data="king-james-bytes",
    depths=(1,),
    widths=(16,),
    base_width=16,
    parameterizations=("mup",),
    optimizer="adam",
    learning_rates=octaves(-7, -3),
    probe_size=128,
    observables=("train_loss",),
    records=2,
    schedule=f"wsd(warmup={WARMUP}, decay={DECAY})",
    refine=True,
)
SMOKE = replace(
    QUICK,
    model="mlp",
    data="gaussian-clusters",
    widths=(4,),
    base_width=4,
    learning_rates=octaves(-7, 1),
    seeds=3,
    probe_size=16,
    refine=False,
)
PRESETS: Mapping[str, Grid] = {
    "smoke": Grid(SMOKE, (2, 4, 8), (2**7, 2**8), window=1),
    "quick": Grid(QUICK),
    "full": Grid(QUICK, (8, 16, 32, 64), (2**17, 2**18, 2**19, 2**20), seeds=6),
    "paper": Grid(
        replace(
            QUICK,
            widths=(128,),
            base_width=128,
            depths=(4,),
            base_depth=4,
            data="wikitext-103",
            probe_size=256,
            seeds=3,
        ),
        (16, 32, 64, 128),
        (2**22, 2**23, 2**24, 2**25),
    ),
}


def find(preset: str, store: Path) -> Finding:
    """Train the runs that the store lacks, draw the figure, and judge the claim."""
    grid = PRESETS[preset]
    narrow, wide = grid.widths
    cells = {(size, tokens): grid.cell(narrow, size, tokens) for size in grid.batch_sizes for tokens in grid.tokens}
    at_narrow = trained(cells, store)
    law = sl.learning_rate_law(sl.Records(at_narrow), over=("batch_size", "tokens"), metric=METRIC)
    lengths = {(grid.batch_size, tokens): grid.cell(wide, grid.batch_size, tokens) for tokens in grid.tokens}
    tuned = trained(lengths, store)
    measured = sl.transfer(sl.Records(tuned), over="tokens", metric=METRIC)["mup"]
    followed = trained({key: on_power(cell, law, key, grid) for key, cell in lengths.items()}, store)
    both = pd.concat([tuned.assign(schedule="WSD"), followed.assign(schedule="power")], ignore_index=True)
    ranking = rank_schedules(sl.Records(both), cells=("tokens",))
    over = ranking.losses.loc[("power", "WSD")]
    answers = answer(law.intervals["tokens"], law.intervals["batch_size"], (over["low"], over["high"]))
    table = law.table()
    return Finding(
        draw(table, law, measured, ranking.regrets.loc["power"], grid, answers),
        pd.concat([at_narrow.assign(part="sweep"), both.assign(part="lengths")], ignore_index=True)[COLUMNS],
        CLAIM,
        judge(answers),
        {
            "answers": answers,
            "exponents": {
                name: {"value": value, "interval": law.intervals[name]} for name, value in law.exponents.items()
            },
            "law_at_width": narrow,
            "left_out_covered": law.share_covered,
            "optimum_at_width_4w": {
                str(tokens): {
                    "measured": value,
                    "interval": interval,
                    "predicted": predicted,
                    "predicted_low": low,
                    "predicted_high": high,
                }
                for tokens, value, interval, (predicted, (low, high)) in zip(
                    measured.sizes,
                    measured.optimum,
                    measured.optimum_interval,
                    (law.predict(batch_size=grid.batch_size, tokens=tokens) for tokens in measured.sizes),
                    strict=True,
                )
            },
            "exponent_of_tokens_at_4w": {"value": measured.shift, "interval": measured.shift_interval},
            "log_loss_of_power_over_tuned_wsd": {"value": over["log_ratio"], "interval": (over["low"], over["high"])},
            "seeds": int(at_narrow["seed"].nunique()),
        },
    )


def trained(cells: Mapping[tuple[int, int], sl.Experiment], store: Path) -> pd.DataFrame:
    """The runs of cells by batch size and tokens, with these as columns."""
    sl.run(list(cells.values()), store)
    return pd.concat(
        [
            sl.run(cell, store).runs.drop(columns="steps").assign(batch_size=size, tokens=tokens, step=cell.steps)
            for (size, tokens), cell in cells.items()
        ],
        ignore_index=True,
    )


def on_power(cell: sl.Experiment, law: sl.LearningRateLaw, key: tuple[int, int], grid: Grid) -> sl.Experiment:
    """The same along the power schedule of the law."""
    size, tokens = key
    schedule, peak = power_schedule(law, tokens, least=min(grid.tokens), warmup=WARMUP, decay=DECAY, batch_size=size)
    return replace(cell, schedule=schedule, learning_rates=(peak,), refine=False)


def answer(of_tokens: Interval, of_batch: Interval, over: Interval) -> dict[str, str]:
    """The answers "yes", "no" or "open" to the three questions of the rule."""
    (low, high), (least, most) = of_tokens, PROPORTIONAL
    holds = low <= PAPER <= high
    near = low >= PAPER - NEAR and high <= PAPER + NEAR
    inside, outside = least <= of_batch[0] and of_batch[1] <= most, of_batch[1] < least or of_batch[0] > most
    return {
        "the exponent of the tokens is -0.51": "no" if not holds else "yes" if near else "open",
        "the learning rate is proportional to the batch size": "yes" if inside else "no" if outside else "open",
        "one power schedule serves at 4w": within(*over, np.log1p(AS_GOOD)),
    }


def draw(
    table: pd.DataFrame,
    law: sl.LearningRateLaw,
    measured: sl.Transfer,
    over: pd.DataFrame,
    grid: Grid,
    answers: Mapping[str, str],
) -> Figure:
    """The figure: optima against tokens, optima against the batch size, and the power schedule's loss over WSD's."""
    narrow, wide = grid.widths
    with house_style():
        figure, axes = plt.subplots(1, 3, figsize=(12.5, 4.4))
        draw_optima(axes[0], table, law, "tokens", "batch_size", "windows", theirs=PAPER)
        bars = np.abs(np.array(measured.optimum_interval).T - np.array(measured.optimum))
        axes[0].errorbar(
            measured.sizes,
            measured.optimum,
            np.where(np.isfinite(bars), bars, 0),
            color="0.2",
            marker="s",
            markerfacecolor="white",
            linestyle="",
            label=f"width {wide}, {grid.batch_size} windows",
        )
        axes[0].set_title(f"width {narrow}: tokens$^{{{law.exponents['tokens']:.2f}}}$ {bounds(law, 'tokens')}")
        axes[0].set_ylabel("best learning rate η*")
        place_legend(axes[0])
        draw_optima(axes[1], table, law, "batch_size", "tokens", "tokens", theirs=1.0)
        axes[1].set_title(f"width {narrow}: batch$^{{{law.exponents['batch_size']:.2f}}}$ {bounds(law, 'batch_size')}")
        axes[1].set_xlabel("batch size (windows)")
        place_legend(axes[1])
        draw_loss(axes[2], over)
        axes[2].set_title(f"width {wide}: power, fitted at {narrow}")
        figure.suptitle("; ".join(f"{question}: {said}" for question, said in answers.items()), fontsize=10)
        plt.close(figure)
    return figure


def place_legend(ax: Axes) -> None:
    """A legend below all that is drawn."""
    leave_room_below(ax, 0.35)
    ax.legend(loc="lower right", fontsize=8, ncols=2)


def bounds(law: sl.LearningRateLaw, name: str) -> str:
    """The interval of an exponent, as a title has it."""
    low, high = law.intervals[name]
    return f"[{low:.2f}, {high:.2f}]"


def draw_optima(
    ax: Axes, table: pd.DataFrame, law: sl.LearningRateLaw, over: str, by: str, unit: str, *, theirs: float
) -> None:
    """The optima of the narrow network against one size, by the other, with their intervals and the law's lines.

    A dashed line has the paper's exponent.
    """
    colours = size_colours(sorted(table[by].unique()))
    ends = np.array([table[over].min(), table[over].max()], float)
    for size, part in table.sort_values(over).groupby(by):
        value, low, high = (part[name].to_numpy() for name in ("optimum", "optimum_low", "optimum_high"))
        bars = np.array([value - low, high - value])
        bars = np.where(np.isfinite(bars), np.maximum(bars, 0), 0)
        label = f"{size:,} {unit}"
        ax.errorbar(part[over], value, bars, color=colours[size], marker="o", markersize=4, linestyle="", label=label)
        lines = [law.predict(**{over: end, by: float(size)})[0] for end in ends]
        ax.plot(ends, lines, color=colours[size], linewidth=1)
    middle, _ = law.predict(**{over: float(np.sqrt(ends.prod())), by: float(np.median(table[by]))})
    drawn = middle * (ends / np.sqrt(ends.prod())) ** theirs
    ax.plot(ends, drawn, "--", color="0.5", linewidth=1, label=f"exponent {theirs:g}")
    ax.set_xscale("log", base=2)
    ax.set_yscale("log", base=2)
    ax.set_xlabel(over)


def draw_loss(ax: Axes, over: pd.DataFrame) -> None:
    """What the power schedule loses on the better of the two at each length, with the margin of the rule."""
    part = over.sort_index()
    value, low, high = (100 * np.expm1(part[name].to_numpy()) for name in ("regret", "low", "high"))
    bars = np.nan_to_num(np.array([value - low, high - value]), posinf=0.0)
    ax.errorbar(part.index.get_level_values("tokens"), value, bars, color="#8c510a", marker="o", linestyle="")
    ax.axhline(100 * AS_GOOD, color="0.25", linestyle="--", linewidth=1)
    ax.axhline(0, color="0.6", linewidth=0.8)
    ax.set_xscale("log", base=2)
    ax.set_xlabel("tokens")
    ax.set_ylabel("loss over the better of it and tuned WSD (%)")
