"""`sharplab transfer`: the verdict on the table of a sweep that was made anywhere."""

import json
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from rich.console import Console

from sharplab.analysis import LearningRateLaw, Transfer, learning_rate_law, read_sweep, transfer
from sharplab.analysis.grids import runs_by_name
from sharplab.analysis.tables import settings_of
from sharplab.commands.exit_codes import DONE, SOME_FAILED
from sharplab.commands.options import TransferOptions
from sharplab.commands.verdicts import draw_transfer
from sharplab.core.files import write_whole
from sharplab.core.provenance import versions
from sharplab.core.text import printable
from sharplab.gallery.finding import plain
from sharplab.plotting import draw_predictions, house_style, save_figure
from sharplab.records import Records, has_diverged, join_rates, listed, mixed_setting, sorted_values
from sharplab.sweep.store.columns import SETTINGS as OWN_SETTINGS
from sharplab.sweep.store.columns import describe

Results = Mapping[str, Transfer] | Mapping[str, LearningRateLaw]


def judge_table(options: TransferOptions) -> int:
    """Print the verdict or law of each group, write the files; return the exit code, 1 if a group tells none.

    Raises:
        ValueError: for bad input, naming file, column or option, and where no group tells anything.
    """
    say = _speaker()
    records = _read(options, say)
    name = re.sub(r"[^0-9A-Za-z_.-]+", "-", options.table.name.partition(".")[0]) or "table"
    results, tables, errors, taken = [], [], [], Counter[str]()
    for group, part in _groups(records, options):
        heading = ", ".join(f"{column} {value}" for column, value in group.items())
        if heading:
            say(heading, "bold")
        try:
            found = _judge(part, options)
        except ValueError as error:
            if not options.group:
                raise
            errors.append(f"{heading}: {error}")
            say(f"  not judged: {error}", "yellow")
            continue
        for column, goes_with in dict.fromkeys(_further_settings(part.runs, options)):
            say(f"note: {column} goes with {goes_with}: what is found is of both together", "yellow")
        for result in found.values():
            say(str(result))
        stem = f"{name}{re.sub(r'[^0-9A-Za-z.-]+', '-', f' {heading}') if heading else ''}"
        taken[stem] += 1  # headings may differ in what no file name has
        picture = options.out / f"{stem}{f'-{taken[stem]}' if taken[stem] > 1 else ''}.png"
        _draw(part, found, options, picture)
        results += [{"group": group, "name": key} | _numbers(result) for key, result in found.items()]
        tables += [result.table().assign(**{"name": key} | group) for key, result in _every(found)]
        say(f"drawn in {picture}")
    if not results:
        raise ValueError(errors[0])
    settings = {key: str(value) if isinstance(value, Path) else value for key, value in asdict(options).items()}
    written = {"settings": settings, "results": results, "versions": versions()}
    text = json.dumps(plain(written), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write_whole(options.out / f"{name}.json", text.encode())
    rows = pd.concat(tables, ignore_index=True)
    write_whole(options.out / f"{name}.csv", rows.to_csv(index=False, float_format="%.8g").encode())
    say(f"numbers in {options.out / name}.csv, results with their settings in {options.out / name}.json")
    return SOME_FAILED if errors else DONE


def _speaker() -> Callable[..., None]:
    """What prints a text, which may hold anything that stands in a table, in a style."""
    console = Console(soft_wrap=True, highlight=False)
    return lambda text, style=None: console.print(printable(text), style=style, markup=False)


def _read(options: TransferOptions, say: Callable[..., None]) -> Records:
    """The runs, with what was noticed of them printed once."""
    with warnings.catch_warnings(record=True) as noticed:
        warnings.simplefilter("always")
        records = read_sweep(options.table, **options.columns())
        records = Records(join_rates(records.runs))
    for message in dict.fromkeys(str(each.message) for each in noticed):
        say(f"note: {message}", "yellow")
    return records


def _groups(records: Records, options: TransferOptions) -> Iterator[tuple[dict[str, Any], Records]]:
    """The runs of each combination of the values of --group, without what grows along."""
    runs, sizes = records.runs, list(options.over)
    named = {"over": options.over, "metric": (options.metric,), "tuned": options.tuned}
    named |= {"group": options.group, "along": options.along}
    for option, columns in named.items():
        for column in columns:
            if column not in runs or (option != "over" and column in sizes):
                raise ValueError(
                    f"--{option} {column}: beside the sizes there are {', '.join(runs)}: give one of these."
                )
    for column in options.along:
        if (runs.groupby(sizes)[column].nunique(dropna=False) > 1).any():
            raise ValueError(f"--along {column} differs between runs of one size: give --group {column}.")
    runs = runs.drop(columns=list(options.along))
    if not options.group:
        yield {}, Records(runs)
        return
    for values, part in runs.groupby(list(options.group), dropna=False):
        yield dict(zip(options.group, values, strict=True)), Records(part)


def _is_law(options: TransferOptions) -> bool:
    return len(options.over) > 1 or bool(options.tuned)


def _judge(records: Records, options: TransferOptions) -> Results:
    """The results by name: of one size per parameterization, of several the law alone."""
    _require_one_sweep(records.runs, options)
    settings: dict[str, Any] = {"metric": options.metric, "confidence": options.confidence}
    if _is_law(options):
        return {"law": learning_rate_law(records, over=options.over, tuned=options.tuned, **settings)}
    return transfer(records, over=options.over[0], tolerance=options.tolerance, **settings)


def _require_one_sweep(runs: pd.DataFrame, options: TransferOptions) -> None:
    """Refuse runs that differ in more than the sizes, with the options that tell them apart."""
    sizes = (*options.over, *options.tuned)
    apart, named = (*sizes, *options.group, options.metric), ("parameterization", "optimizer")
    keys = [key for key in (*sizes, "learning_rate", "seed", *named) if key in runs]
    column = mixed_setting(runs, apart_from=apart, also=named if _is_law(options) else ())
    column = column or _told_apart_by(runs, keys, apart)
    column = column or next((name for name, goes_with in _further_settings(runs, options) if goes_with is None), None)
    if column is not None:
        size = ""
        if pd.api.types.is_numeric_dtype(runs[column]):
            over = " ".join((*options.over, column))
            size = f", --over {over} where it is a size, or --along {column} where it grows with the sizes"
        values = listed(sorted_values(runs[column]))
        raise ValueError(
            f"the runs mix {column} = {values}: give --group {column} for a verdict on each{size}; leave the column "
            "out of the table where it is no setting."
        )


def _further_settings(runs: pd.DataFrame, options: TransferOptions) -> Iterator[tuple[str, str | None]]:
    """Settings that no option names and in which runs that ended differ, each with what it goes with.

    That is "the size" where runs of one size are alike in it, "the learning rate" where there it has another value at
    each, and else None.
    """
    sizes = [*options.over, *options.tuned]
    named = {*sizes, *options.group, options.metric, "learning_rate", "seed", "parameterization", "optimizer"}
    ended = runs[~has_diverged(runs) & np.isfinite(runs[options.metric])]
    for column in settings_of(runs):
        if column in named or (describe(column) is not None and column not in {*OWN_SETTINGS, "step"}):
            continue  # what the lab records of its runs, whose step is of curves alone
        for _, part in runs_by_name(ended.assign(**{column: ended[column].astype(str)})):
            if part[column].nunique() < 2:
                continue
            if part.groupby(sizes)[column].nunique().max() == 1:
                yield column, "the size"
                continue
            rates = part[[*sizes, "learning_rate", column]].drop_duplicates()
            paired = not (rates.duplicated([*sizes, "learning_rate"]) | rates.duplicated([*sizes, column])).any()
            yield column, "the learning rate" if paired else None


def _told_apart_by(runs: pd.DataFrame, keys: list[str], apart: tuple[str, ...]) -> str | None:
    """The setting in which two runs of the same keys differ; None if there are no such runs."""
    repeats = runs[runs.duplicated(keys, keep=False)]
    if repeats.empty:
        return None
    first = repeats[(repeats[keys] == repeats.iloc[0][keys]).all(axis=1)]
    for name in settings_of(runs):
        if name not in apart and first[name].nunique(dropna=False) > 1:
            return name
    at = ", ".join(f"{key} {repeats.iloc[0][key]}" for key in keys)
    raise ValueError(f"two runs have {at}: leave one out, or name the column of seeds, as by --map seed=COLUMN.")


def _every(found: Results) -> Iterator[tuple[str, Transfer | LearningRateLaw]]:
    """All results, of a law also those of what was tuned along."""
    for name, result in found.items():
        if isinstance(result, Transfer):
            yield name, result
        else:
            yield from ((law.quantity, law) for law in (result, *result.tuned.values()))


def _numbers(result: Transfer | LearningRateLaw) -> dict[str, Any]:
    """What a result concludes, for JSON."""
    if isinstance(result, Transfer):
        numbers = ("verdict", "shift", "shift_interval", "from_size", "regret", "regret_interval", "advice")
        wanted = None if result.wanted is None else result.wanted.says
        return {name: getattr(result, name) for name in numbers} | {"wanted": wanted}
    names = ("quantity", "exponents", "intervals", "between", "share_covered", "at_edge")
    tuned = {"tuned": {name: _numbers(law) for name, law in result.tuned.items()}} if result.tuned else {}
    return {name: getattr(result, name) for name in names} | tuned


def _draw(records: Records, found: Results, options: TransferOptions, picture: Path) -> None:
    transfers = {
        _literal(name): replace(result, over=_literal(result.over))
        for name, result in found.items()
        if isinstance(result, Transfer)
    }
    if transfers:
        runs = records.runs
        runs = runs.assign(**{options.metric: runs[options.metric].mask(has_diverged(runs), np.nan)})
        names = {name: runs[name].map(_literal) for name in ("parameterization", "optimizer") if name in runs}
        shown = Records(runs.assign(**names).rename(columns=_literal))
        draw_transfer(shown, transfers, _literal(options.metric), picture, unit="")
        return
    laws = [law for _, law in _every(found) if isinstance(law, LearningRateLaw)]
    with house_style():
        figure, axes = plt.subplots(1, len(laws), figsize=(3.6 * len(laws), 3.4), squeeze=False)
        for ax, law in zip(axes[0], laws, strict=True):
            draw_predictions(ax, law.table())
            covered = "" if np.isnan(law.share_covered) else f": {law.share_covered:.0%} covered"
            ax.set_title(_literal(f"best {law.quantity.replace('_', ' ')} of {len(law.sizes)} cells{covered}"))
        save_figure(figure, picture)
        plt.close(figure)


def _literal(name: Any) -> str:
    """A name as a picture shows it, in which a dollar begins no formula."""
    return str(name).replace("$", r"\$")
