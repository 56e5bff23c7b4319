"""`sharplab figure`, `figures` and `redraw`: one figure or many, from new runs or from those kept."""

from time import perf_counter
from traceback import print_exception
from types import ModuleType

import jax
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sharplab.commands import VERDICT_COLOURS
from sharplab.commands.exit_codes import DONE, SOME_FAILED
from sharplab.commands.options import FigureOptions, FiguresOptions, RedrawOptions
from sharplab.core.evidence import Evidence, gathering
from sharplab.core.naming import lookup
from sharplab.gallery import figure_scripts, write_readme
from sharplab.gallery.claims import TESTED_BY
from sharplab.gallery.entries import EXPERIMENTS, HEADLINE, load_script, read_made
from sharplab.gallery.finding import Finding, save_finding
from sharplab.gallery.keeping import from_kept, is_kept, keep
from sharplab.gallery.parts import kept_parts


def make_figure(options: FigureOptions) -> None:
    """Train the runs that the store lacks, draw the figure, and write its three files and the README.

    Raises:
        ValueError: for an unknown figure, and where there are no scripts of figures.
    """
    options.folder.mkdir(parents=True, exist_ok=True)
    _make(options)
    write_readme(options.folder)


def make_figures(options: FiguresOptions) -> int:
    """Make the headline figures or all of them, one after another; write the README and print a table of verdicts.

    Returns:
        The exit code: 0, or 1 where a figure could not be made.

    Raises:
        ValueError: where there are no scripts of figures.
    """
    scripts = figure_scripts()
    options.folder.mkdir(parents=True, exist_ok=True)  # before anything is trained for it
    names = list(scripts if options.all else HEADLINE)
    table = Table("figure", "tests", "verdict", "seconds", title=f"preset {options.preset}")
    failed = []
    for i, name in enumerate(names, 1):
        single = FigureOptions(name=name, preset=options.preset, store=options.store, folder=options.folder)
        began = perf_counter()
        try:
            verdict = _coloured(_make(single, place=f"\\[{i} of {len(names)}] ").verdict)
        except Exception as error:
            print_exception(error)
            failed.append(name)
            verdict = "[red bold]not made[/]"
        table.add_row(name, ", ".join(TESTED_BY.get(name, ("–",))), verdict, f"{perf_counter() - began:.0f}")
    console = Console(highlight=False)
    console.print(table)
    if failed:
        console.print(f"[red bold]not made:[/] {', '.join(failed)}; the errors stand above, each at its figure")
    console.print(f"{write_readme(options.folder)} has all verdicts and numbers; `make report` puts them on one page")
    return SOME_FAILED if failed else DONE


def redraw(options: RedrawOptions) -> int:
    """Draw the figures of a folder again from what is kept with them, and judge them; write the README.

    Returns:
        The exit code: 0, or 1 where a figure could not be drawn again.

    Raises:
        ValueError: where there are no scripts of figures.
    """
    console, failed, bare = Console(highlight=False), [], []
    for name in figure_scripts():
        try:
            made = read_made(options.folder, name)
            if made is None:
                continue
            if not is_kept(options.folder, name):
                bare.append(name)
                continue
            with from_kept(options.folder, name) as store:
                finding = _script(name, made.preset).find(made.preset, store)
            save_finding(
                finding, name, options.folder, preset=made.preset, seconds=made.seconds, made_with=made.versions
            )
        except Exception as error:
            failed.append(name)
            console.print(f"[red bold]{name} is left as it was:[/] {escape(str(error))}", soft_wrap=True)
        else:
            console.print(f"{name} ({made.preset}): the claim {_coloured(finding.verdict)}")
    if bare:
        console.print(f"left as they were, their runs are not kept: {', '.join(bare)}", soft_wrap=True)
    console.print(f"{write_readme(options.folder)} has all verdicts and numbers")
    return SOME_FAILED if failed else DONE


def _make(options: FigureOptions, place: str = "") -> Finding:
    console = Console(highlight=False)
    script = _script(options.name, options.preset)
    console.print(f"[bold]figure {options.name}[/] {place}({options.preset}): {script.CLAIM}")
    began = perf_counter()
    parts = kept_parts(options.folder, options.name, options.preset, EXPERIMENTS, console)
    with gathering(Evidence(compute=parts.compute)) as evidence:
        finding = script.find(options.preset, options.store)
    picture = save_finding(finding, options.name, options.folder, preset=options.preset, seconds=perf_counter() - began)
    keep(evidence, options.store, options.folder, options.name)
    parts.clear()
    verdict = _coloured(finding.verdict)
    console.print(f"  the claim {verdict}; {picture}, .csv, .json after {perf_counter() - began:.0f} s\n")
    return finding


def _script(name: str, preset: str) -> ModuleType:
    """The script of a figure, in a process that is set up for it."""
    # Tiny networks train for seconds: compiling them is what takes time, and optimising doubles it.
    jax.config.update("jax_disable_most_optimizations", preset == "smoke")
    jax.clear_caches()  # compiled programs hold memory maps, of which a process has no more than some ten thousand
    return load_script(lookup("figure", name, figure_scripts()))


def _coloured(verdict: str) -> str:
    return f"[{VERDICT_COLOURS[verdict]} bold]{verdict}[/]"
