"""The sweep's command line: where options come from, what it hands on, what it says, how it ends."""

import dataclasses
import inspect
import math
import re
import textwrap
from concurrent.futures import Executor
from contextlib import contextmanager

import numpy as np
import pytest
import tyro

from sharplab.commands import command_line, sweep_options
from sharplab.commands import sweep as sweep_command
from sharplab.commands.exit_codes import exit_code_of
from sharplab.commands.sweep import SweepOptions, default_options, main
from sharplab.core.signals import Terminated
from sharplab.sweep import Experiment, estimate, live
from sharplab.sweep.dispatch import SweepError
from sharplab.sweep.plan import WHOLE, Shard
from sharplab.sweep.runner import run_with
from sharplab.sweep.timing import Measured
from sharplab.training import layout
from sharplab.training.train import RunResult

SMALL = ("--preset", "smoke", "--no-refine", "--widths", "4", "8", "--seeds", "2")


def formula(task, runs, watch):
    """Trains nothing: the best learning rate is 0.7 everywhere."""
    for run in runs:
        loss = 1 + math.log2(run.learning_rate / 0.7) ** 2 / 10 + run.seed / 1000
        records = len(task.record_steps)
        curves = {name: np.full(records, loss) for name in task.observables}
        curves["step"] = np.array(task.record_steps)
        yield (RunResult(run, curves, False, -1, 0.1, {}),)


@dataclasses.dataclass
class Calls:
    """What was asked of `run`, of the executors and of the trackers."""

    experiments: list[tuple[Experiment, ...]] = dataclasses.field(default_factory=list)
    options: list[dict] = dataclasses.field(default_factory=list)
    executors: list[str] = dataclasses.field(default_factory=list)


@pytest.fixture
def calls(monkeypatch):
    """Sweeps that train by a formula."""
    seen = Calls()

    def run(experiments, store, *, executor, trackers, shard):
        seen.experiments.append(tuple(experiments))
        seen.options.append({"executor": executor, "trackers": trackers, "shard": shard})
        return run_with(formula, experiments, store, shard=shard)

    @contextmanager
    def open_executor(text):
        seen.executors.append(text)
        yield Executor()

    monkeypatch.setattr(sweep_command, "run", run)
    monkeypatch.setattr(sweep_command, "open_executor", open_executor)
    return seen


@pytest.fixture(autouse=True)
def this_process_keeps_its_devices(monkeypatch):
    monkeypatch.setattr(layout, "use_all_cores", lambda: None)


def parsed(*words: str) -> SweepOptions:
    return tyro.cli(SweepOptions, args=words, default=default_options(words))


def code_of(*words: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main("width", words)
    return caught.value.code


def test_the_command_line_counts_more_than_the_file_and_the_file_more_than_the_preset(tmp_path):
    file = tmp_path / "sweep.toml"
    file.write_text('preset = "smoke"\nsteps = 7\nbatch-size = 9\nparameterizations = ["ntk"]\nrefine = false\n')
    sweep = parsed("--config", str(file), "--batch-size", "5").experiment()
    assert (sweep.steps, sweep.batch_size) == (7, 5)
    assert sweep.widths == (8, 16)
    assert sweep.parameterizations == ("ntk",)
    # Even where the command line says what holds by default.
    again = parsed("--config", str(file), "--parameterizations", "mup", "ntk", "--refine").experiment()
    assert again.parameterizations == ("mup", "ntk")
    assert again.refine is True


def test_ones_own_objects_are_given_by_module_and_attribute(tmp_path):
    own = {
        "optimizer": "own_objects:make_sgd@2",
        "schedule": "own_objects:linear",
        "loss": "own_objects:cross_entropy",
        "data": "own_objects:clusters@1",
        "augment": "own_objects:unchanged",
    }
    words = [word for name, value in own.items() for word in (f"--{name}", value)]
    sweep = parsed(*SMALL, *words, "--observables", "train_loss", "own_objects:weight_norm@3").experiment()
    assert {name: getattr(sweep, name) for name in own} == own
    assert sweep.observables == ("train_loss", "own_objects:weight_norm@3")
    (tmp_path / "sweep.toml").write_text('preset = "smoke"\nschedule = "own_objects:linear"\n')
    assert parsed("--config", str(tmp_path / "sweep.toml")).experiment().schedule == "own_objects:linear"


def test_the_example_of_a_file_makes_the_experiments_that_it_says(tmp_path):
    text = inspect.getdoc(sweep_options)
    file = tmp_path / "sweep.toml"
    file.write_text(textwrap.dedent("    " + text.split("with\n")[1].strip()))
    options = parsed("--config", str(file))
    found = options.experiments()
    assert [(each.batch_size, each.steps, each.gamma) for each in found] == [
        (32, 400, 0.5),
        (32, 400, 2.0),
        (64, 200, 0.5),
        (64, 200, 2.0),
    ]
    assert {each.widths for each in found} == {(8, 16, 32)}
    assert found[0].rates_of("mup") == (0.125, 0.25, 0.3, 0.5, 1.0, 2.0)
    assert options.executor == "processes"


def test_options_are_read_as_an_experiment_reads_them():
    words = ("--widths", "4:16", "20", "--depths", "2", "--seeds", "3:4", "--learning-rates", "mup=2^-1:2^1", "ntk=1,3")
    sweep = parsed("--preset", "smoke", *words).experiment()
    assert sweep.widths == (4, 8, 16, 20)
    assert sweep.seeds_of(4) == (3, 4)
    assert sweep.rates_of("mup") == (0.5, 1.0, 2.0)
    assert sweep.rates_of("ntk") == (1.0, 3.0)
    assert parsed("--seeds", "2").experiment().seeds_of(8) == (0, 1)
    assert parsed("--seeds", "2", "5").experiment().seeds_of(8) == (2, 5)


def test_every_setting_of_an_experiment_is_an_option():
    options = {field.name for field in dataclasses.fields(SweepOptions)}
    assert {field.name for field in dataclasses.fields(Experiment)} <= options


def test_executor_trackers_and_experiments_are_handed_on(calls, tmp_path, monkeypatch):
    monkeypatch.setattr(live, "parse_tracker", lambda text, store: (text, store))
    store = tmp_path / "runs"
    words = ("--executor", "processes:2", "--track", "jsonl", "wandb:mine", "--product", "gamma=0.5,2")
    assert code_of(*SMALL, "--store", str(store), *words) == 0
    assert [each.gamma for each in calls.experiments[0]] == [0.5, 2.0]
    assert calls.executors == ["processes:2"]
    assert isinstance(calls.options[0]["executor"], Executor)
    assert calls.options[0]["trackers"] == (("jsonl", store), ("wandb:mine", store))
    assert calls.options[0]["shard"] == WHOLE


def test_each_setting_gets_its_verdict_and_figure(calls, tmp_path, capsys):
    assert code_of(*SMALL, "--store", str(tmp_path / "runs"), "--product", "gamma=0.5,2") == 0
    said = capsys.readouterr().out
    assert said.index("gamma 0.5") < said.index("mup: the optimal") < said.index("gamma 2")
    assert sorted(path.name for path in (tmp_path / "runs").glob("*.png")) == [
        "width_sweep-gamma-0.5.png",
        "width_sweep-gamma-2.png",
    ]


def test_sizes_that_grow_together_are_one_sweep(calls, tmp_path, capsys):
    assert code_of(*SMALL, "--store", str(tmp_path / "runs"), "--zip", "widths=4:16", "depths=1,2,3") == 0
    assert [(each.widths, each.depths) for each in calls.experiments[0]] == [((4,), (1,)), ((8,), (2,)), ((16,), (3,))]
    said = capsys.readouterr().out
    assert said.count("mup: the optimal") == 1
    assert "width    16: best" in said


def test_a_part_prints_the_line_for_all_and_what_is_stored_and_no_verdict(calls, tmp_path, capsys):
    store = tmp_path / "runs"
    assert code_of(*SMALL, "--store", str(store), "--shard", "1/2") == 0
    said = capsys.readouterr().out
    assert "sbatch --array=1-2 --wrap" in said
    assert re.search(r"part 1/2 .*parts 1/2\.", said)
    assert "optimal" not in said
    assert calls.options[0]["shard"] == Shard(1, 2)
    assert code_of(*SMALL, "--store", str(store), "--shard", "2/2") == 0
    assert re.search(r"part 2/2 .*parts 1/2, 2/2\.", capsys.readouterr().out)
    assert list(store.glob("*.png")) == []


def test_a_dry_run_shows_the_plan_trains_nothing_and_makes_no_store(calls, tmp_path, capsys, monkeypatch):
    measured = Measured(1, 1, 6.0, 0.0, 3600.0, 0.0, 0.0, 1000)
    monkeypatch.setattr(estimate, "measure", lambda group: measured)
    monkeypatch.setattr(sweep_command.jax, "local_device_count", lambda: 2)
    totals = {}
    for executor in ("here", "processes", "processes:2", "processes:9", "dask:tcp://10.0.0.1:8786", "slurm:4"):
        words = (*SMALL, "--steps", "3", "--executor", executor, "--store", str(tmp_path / "runs"))
        assert code_of("--dry-run", *words) == 0
        said = capsys.readouterr().out
        assert "Nothing was trained." in said
        (total,) = (line for line in said.splitlines() if line.strip().startswith("in all"))
        totals[executor] = " ".join(total.split())
    assert totals["here"] == "in all 0 32 4.0 days 1.0 kB"
    assert totals["processes"] == totals["dask:tcp://10.0.0.1:8786"] == totals["here"]
    assert totals["processes:2"] == "in all 0 32 2.0 days 2.0 kB"
    assert totals["processes:9"] == totals["processes:2"]  # two devices are all there are
    assert totals["slurm:4"] == "in all 0 32 24.0 h 4.0 kB"
    assert calls.experiments == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--config", "absent.toml"), r"absent\.toml"),
        (("--widths", "wide"), "widths: 'wide'"),
        (("--product", "gamma"), "product: 'gamma'"),
        (("--product", "gamma=1,"), "product: 'gamma=1,'"),
        (("--product", "gama=1"), "'gama'.*'gamma'"),
        (("--product", "gamma=1", "gamma=2"), "product.* gamma "),
        (("--zip", "widths=4,8", "depths=2"), "widths.* 2.*depths.* 1"),
        (("--shard", "5/3"), "shard.*'5/3'"),
        (("--track", "tracker 'nothing'"), "tracker 'nothing'"),
        (("--executor", "nowhere"), "executor 'nowhere'"),
        (("--learning-rates", "mup=1", "0.5"), "learning-rates: '0.5'"),
        (("--learning-rates", "mup=1"), "learning_rates.*'ntk'"),
    ],
)
def test_bad_input_gets_one_sentence_and_code_2(words, said, tmp_path, capsys):
    assert code_of("--preset", "smoke", "--store", str(tmp_path / "runs"), *words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert re.search(said, line)


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (SweepError("3 groups failed [red]"), 1, "failed: 3 groups failed [red]"),
        (ValueError("widths is empty [mup]."), 2, "error: widths is empty [mup]."),
        (KeyboardInterrupt(), 130, "stopped; what was trained is stored, the same command goes on"),
        (Terminated(), 143, "stopped by SIGTERM; what was trained is stored, the same command goes on"),
        (ValueError("a\x1b[2Jb"), 2, "error: a�[2Jb"),
        (
            OSError(28, "No space left on device", "figures/a.png"),
            2,
            "error: figures/a.png cannot be read or written: No space left on device. Remedy: free space there, then "
            "go on with the same command.",
        ),
    ],
)
def test_each_ending_has_its_code_and_its_sentence(error, code, said, capsys):
    def fail():
        raise error

    assert exit_code_of(fail) == code
    assert capsys.readouterr().err == f"{said}\n"


def test_a_command_may_end_with_a_code_of_its_own_and_other_errors_are_the_programs():
    assert exit_code_of(lambda: 3) == 3
    with pytest.raises(RuntimeError, match="inner"):
        exit_code_of(lambda: (_ for _ in ()).throw(RuntimeError("inner")))


def test_help_explains_every_option_and_the_exit_codes(capsys):
    assert code_of("--help") == 0
    said = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for field in dataclasses.fields(SweepOptions):
        assert f"--{field.name.replace('_', '-')}" in said
    assert "Exit codes: 0 done; 1 some groups of runs failed" in said
    assert "130 stopped by Ctrl-C" in said
    assert "None" not in said


def test_a_store_in_a_directory_of_other_files_is_refused(tmp_path, calls, capsys):
    (tmp_path / "notes.txt").write_text("mine")
    assert code_of(*SMALL, "--store", str(tmp_path)) == 2
    assert tmp_path.name in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes.txt"]


@pytest.mark.parametrize("words", [("report", "--folder"), ("figures", "--preset", "smoke", "--folder")])
def test_a_folder_that_is_a_file_is_told_in_a_sentence(words, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("x")
    monkeypatch.setattr(command_line, "use_all_cores", lambda: None)
    monkeypatch.chdir(tmp_path)
    assert command_line.run([*words, str(tmp_path / "file" / "figures")]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and "file" in said


DECIDE = (*SMALL, "--decide", "4", "--learning-rates", "2^-3:2^2", "--parameterizations", "mup")


@pytest.fixture
def rounds(calls, monkeypatch):
    """Decisions whose rounds train by a formula."""
    from sharplab.studies import decision

    def run(experiments, store, *, executor):
        calls.experiments.append(tuple(experiments))
        return run_with(formula, experiments, store)

    monkeypatch.setattr(decision, "run", run)
    return calls


def test_rounds_are_trained_and_the_decision_is_printed_and_drawn(rounds, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(estimate, "measure", lambda group: Measured(1, 1, 6.0, 0.0, 3600.0, 0.0, 0.0, 1000))
    words = (*DECIDE, "--store", str(tmp_path / "store"))
    assert code_of(*words, "--dry-run") == 0
    said = capsys.readouterr().out
    assert "The next round:" in said and "Nothing was trained" in said and "training FLOPs" in said
    assert not rounds.experiments and not (tmp_path / "store").exists()
    assert code_of(*words) == 0
    said = capsys.readouterr().out
    assert "mup: the optimal learning rate over width" in said and "look 1, 2, 2 seeds" in said
    assert (tmp_path / "store" / "width_sweep.png").exists()
    assert rounds.experiments
    assert code_of(*words, "--dry-run") == 0
    assert "No round is left" in capsys.readouterr().out


def test_each_setting_of_a_product_is_decided_apart(rounds, tmp_path, capsys):
    assert code_of(*DECIDE, "--product", "gamma=0.5,1", "--store", str(tmp_path / "store")) == 0
    said = capsys.readouterr().out
    assert "gamma 0.5" in said and "gamma 1.0" in said
    assert len(list((tmp_path / "store").glob("width_sweep*.png"))) == 2


def test_the_first_look_alone_is_trained_where_flops_are_few(rounds, tmp_path):
    assert code_of(*DECIDE, "--flops", "1", "--store", str(tmp_path / "store")) == 0
    assert len(rounds.experiments) == 1


@pytest.mark.parametrize(
    "words",
    [("--decide", "0"), ("--decide", "4", "--shard", "1/2"), ("--decide", "4", "--track", "jsonl"), ("--flops", "1e9")],
)
def test_what_does_not_go_with_rounds_is_refused(words, capsys):
    assert code_of(*words) == 2
    assert "decide" in capsys.readouterr().err
