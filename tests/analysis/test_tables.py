"""Tables that others made, read as records, and what is wrong with them said by file, column and line."""

import gzip
import json
import os

import numpy as np
import pandas as pd
import pytest

import sharplab as sl
from sharplab.analysis.tables import read_sweep

NAMES = {"learning_rate": "lr", "width": "d_model", "eval_loss": "final loss"}
RUNS = pd.DataFrame(
    {"lr": [0.1, 0.2, 0.4, 0.1], "d_model": [64, 64, 64, 128], "seed": 0, "final loss": [2.5, 2.25, np.nan, np.inf]}
)
EXPECTED = RUNS.rename(columns={theirs: name for name, theirs in NAMES.items()})


def lines(frame):
    return "".join(json.dumps(row) + "\n" for row in frame.to_dict("records")).encode()


def parquet(frame, path):
    frame.to_parquet(path)
    return path.read_bytes()


WRITERS = {
    "runs.csv": lambda path: RUNS.to_csv(index=False).encode(),
    "runs.tsv": lambda path: RUNS.to_csv(index=False, sep="\t").encode(),
    "excel.csv": lambda path: b"\xef\xbb\xbf" + RUNS.to_csv(index=False, sep=";", lineterminator="\r\n").encode(),
    "runs.csv.gz": lambda path: gzip.compress(RUNS.to_csv(index=False).encode()),
    "runs.jsonl": lambda path: lines(RUNS),
    "runs.ndjson.gz": lambda path: gzip.compress(lines(RUNS)),
    "runs.parquet": lambda path: parquet(RUNS, path),
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_the_same_runs(name, tmp_path):
    path = tmp_path / name
    path.write_bytes(WRITERS[name](path))
    found = read_sweep(path, **NAMES).runs
    pd.testing.assert_frame_equal(found[list(EXPECTED)], EXPECTED, check_dtype=False)
    assert found["width"].dtype == np.int64


def write(tmp_path, text, name="runs.csv"):
    path = tmp_path / name
    path.write_text(text)
    return path


@pytest.mark.parametrize("text", ["", "NaN", "nan", "inf", "Infinity", "-inf", "None", " "])
def test_a_loss_that_is_no_finite_number_is_that_of_a_diverged_run(text, tmp_path):
    rows = "".join(f"{2.0**x},{w},{2 + x * x / 10}\n" for w in (8, 16) for x in (-2, -1, 0, 1, 2))
    path = write(tmp_path, f"lr,width,eval_loss\n{rows}8.0,8,{text}\n8.0,16,{text}\n")
    found = sl.transfer(read_sweep(path, learning_rate="lr"))["runs"]
    assert found.edge == pytest.approx([2**2.5] * 2)


def test_what_is_not_named_keeps_its_name_and_numbers_are_numbers(tmp_path):
    path = write(tmp_path, "learning_rate,width,optimizer,tokens,diverged,note,eval_loss\n1,8,adam,1e9,true,,2\n")
    runs = read_sweep(path).runs
    assert runs.loc[0].to_dict() | {"note": None} == {
        "learning_rate": 1, "width": 8, "optimizer": "adam", "tokens": 1e9, "diverged": True, "note": None,
        "eval_loss": 2, "seed": 0,
    }  # fmt: skip


def test_repeats_of_a_run_are_its_seeds_whatever_else_was_logged(tmp_path):
    header = "name,lr,width,batch_size,runtime,eval_loss\n"
    rows = [f"run{i},{lr},8,{b},{100 + i},{2 + i / 100}" for i, (lr, b) in enumerate([(1, 4), (1, 4), (1, 8), (2, 4)])]
    runs = read_sweep(write(tmp_path, header + "\n".join(rows)), learning_rate="lr").runs
    assert runs["seed"].tolist() == [0, 1, 0, 0]


def test_a_setting_that_varies_unnamed_makes_no_seeds(tmp_path):
    """Else a sweep over batch sizes would pass for one of several seeds."""
    rows = [f"{lr},{w},{b},{2 + lr}" for lr in (1, 2, 4) for w in (8, 16) for b in (32, 64)]
    records = read_sweep(write(tmp_path, "lr,width,bs,eval_loss\n" + "\n".join(rows)), learning_rate="lr")
    assert set(records.runs["seed"]) == {0}
    with pytest.raises(ValueError, match="two runs at width 8"):
        sl.transfer(records)


@pytest.mark.parametrize(
    ("setting", "values"),
    [("z_loss", (0, 1e-4)), ("loss_fn", ("ce", "mse")), ("use_aux_loss", (True, False)), ("loss_scale", (1, 2**15))],
)
def test_a_setting_that_is_called_as_a_loss_makes_no_seeds(setting, values, tmp_path):
    rows = [(rate, value) for value in values for rate in 2.0 ** np.arange(-3, 4) for _ in range(2)]
    table = pd.DataFrame(rows, columns=["learning_rate", setting]).assign(width=8)
    table["eval_loss"] = table["best_error"] = np.random.default_rng(0).permutation(np.linspace(2, 3, len(table)))
    table.to_csv(tmp_path / "runs.csv", index=False)
    assert read_sweep(tmp_path / "runs.csv").runs["seed"].tolist() == [0, 1] * 14


def test_losses_of_few_values_are_no_settings(tmp_path):
    """As where they were rounded, or most runs diverged."""
    rows = [f"{lr},8,{loss},{error}" for lr, loss, error in ((1, 2.5, ""), (1, 2.4, 0.1), (2, 2.5, ""), (2, 2.4, 0.2))]
    runs = read_sweep(write(tmp_path, "lr,width,eval_loss,error\n" + "\n".join(rows)), learning_rate="lr").runs
    assert runs["seed"].tolist() == [0, 1, 0, 1]


def test_a_run_that_was_exported_twice_is_no_second_seed(tmp_path):
    twice = "lr,width,eval_loss\n0.1,8,2\n0.2,8,1\n0.4,8,\n0.2,8,1\n0.4,8,\n"
    with pytest.raises(ValueError, match=r"runs\.csv: line 5 repeats .*seed"):
        read_sweep(write(tmp_path, twice), learning_rate="lr")
    with pytest.raises(ValueError, match="repeats"):
        read_sweep(write(tmp_path, "lr,final_loss\n" + "1,2\n2,3\n4,4\n" * 2), learning_rate="lr")
    diverged = write(tmp_path, twice.replace("0.2,8,1\n", ""))
    assert read_sweep(diverged, learning_rate="lr").runs["seed"].tolist() == [0, 0, 1]


def test_neither_an_index_nor_a_name_makes_a_copy_a_second_seed(tmp_path):
    once = "lr,width,eval_loss\n0.1,8,2\n0.2,8,1\n0.4,8,3\n"
    table = pd.concat([pd.read_csv(write(tmp_path, once))] * 2, ignore_index=True)
    for column in ({"index": np.arange(6)}, {"run_id": list("abcdef")}):
        table.assign(**column).to_csv(tmp_path / "runs.csv", index=False)
        with pytest.raises(ValueError, match=r"line 5 repeats an earlier one .*seed"):
            read_sweep(tmp_path / "runs.csv", learning_rate="lr")
    diverged = table.assign(index=np.arange(6), eval_loss=[2, np.nan, 3, 2.5, np.nan, 3.5])
    diverged.to_csv(tmp_path / "runs.csv", index=False)
    assert read_sweep(tmp_path / "runs.csv", learning_rate="lr").runs["seed"].tolist() == [0, 0, 0, 1, 1, 1]


def test_repeats_sorted_by_their_losses_are_no_seeds_in_that_order(tmp_path):
    """Intervals cover as in the order of training; were the best of each setting one seed, 80 %."""
    covered = []
    for draw in range(40):
        rng = np.random.default_rng(draw)
        rows = [(w, 2.0**x) for w in (64, 128, 256, 512) for _ in range(3) for x in range(-10, -3)]
        table = pd.DataFrame(rows, columns=["width", "lr"])
        table["eval_loss"] = 2.5 + 0.05 * (np.log2(table["lr"]) + 6.3) ** 2 + 0.01 * rng.standard_normal(len(table))
        table.sort_values("eval_loss").to_csv(tmp_path / "runs.csv", index=False)
        with pytest.warns(UserWarning, match=r"runs\.csv: the rows are sorted by eval_loss"):
            records = read_sweep(tmp_path / "runs.csv", learning_rate="lr")
        assert records.runs["seed"].value_counts().tolist() == [28, 28, 28]
        covered += [low <= 2**-6.3 <= high for low, high in sl.transfer(records)["runs"].optimum_interval]
    assert np.mean(covered) > 0.9


WORDS = {"W&B": ("State", "finished", "killed"), "MLflow": ("status", "FINISHED", "KILLED")}
WORDS |= {"Optuna": ("state", "TrialState.COMPLETE", "TrialState.PRUNED"), "Slurm": ("State", "COMPLETED", "TIMEOUT")}


@pytest.mark.parametrize("tool", WORDS)
def test_runs_that_broke_off_are_known_in_the_words_of_each_tool(tool, tmp_path):
    column, ended, broken = WORDS[tool]
    path = write(tmp_path, f"{column},lr,width,seed,eval_loss\n{ended},1,8,0,2\n{broken},2,8,0,3\nRUNNING,4,8,0,9\n")
    with pytest.warns(UserWarning) as told:
        runs = read_sweep(path, learning_rate="lr").runs
    assert runs["diverged"].tolist() == [False, True] and len(told) == 2


def test_a_state_that_is_none_is_refused_unless_no_value_is_one(tmp_path):
    table = "status,lr,eval_loss\nfinished,1,2\n,2,3\n"
    with pytest.raises(ValueError, match=r"'status' has '' in line 3.*no state"):
        read_sweep(write(tmp_path, table), learning_rate="lr")
    assert "diverged" not in read_sweep(write(tmp_path, table.replace("finished", "new")), learning_rate="lr").runs


@pytest.mark.parametrize("name", ["learning_rate", "seed"])
def test_what_was_set_and_what_was_logged_under_one_name_are_told_apart(name, tmp_path):
    """Else the learning rate to which a schedule has fallen passes for the one that was set."""
    row = {
        "config": {"learning_rate": 0.1, "width": 8, "seed": 0},
        "summary": {name: 1e-6, "tokens": 5, "eval_loss": 2},
    }
    row["config"]["tokens"] = 7
    path = write(tmp_path, json.dumps(row) + "\n", "runs.jsonl")
    turned = write(tmp_path, json.dumps(dict(reversed(row.items()))) + "\n", "turned.jsonl")
    for file in (path, turned):
        with pytest.raises(ValueError, match=rf"may be 'config\.{name}' or 'summary\.{name}'.* as by {name}='config"):
            read_sweep(file)
    runs = read_sweep(path, **{name: f"config.{name}"}).runs
    assert runs["learning_rate"].tolist() == [0.1] and runs["seed"].tolist() == [0]
    assert {"config.tokens", "summary.tokens"} <= set(runs) and "tokens" not in runs


def test_neither_states_nor_times_nor_what_wandb_adds_tell_seeds_apart(tmp_path):
    """Of runs without a column of seeds, of which some crashed: all of one setting are its seeds."""
    rows = []
    for seed in range(3):
        for rate in (1, 2, 4):
            crashed = rate == 4 and seed
            summary = {"loss": "NaN" if crashed else 2 + rate + 0.01 * seed, "_step": 5 if crashed else 9}
            summary |= {"_wandb": {"runtime": 40 + seed % 2}, "Runtime": 40 + seed % 2}
            rows.append({"State": "crashed" if crashed else "finished", "config": {"lr": rate}, "summary": summary})
    path = write(tmp_path, "".join(json.dumps(row) + "\n" for row in rows), "runs.jsonl")
    with pytest.warns(UserWarning, match="2 runs broke off"):
        runs = read_sweep(path, learning_rate="lr", eval_loss="loss").runs
    assert runs["seed"].tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2] and "State" not in runs
    assert runs["diverged"].sum() == 2


def test_a_duration_that_was_given_is_a_setting(tmp_path):
    rows = [f"{rate},{ep}ep,{2 + rate / ep}" for rate in (1, 2, 4) for ep in (10, 20)]
    runs = read_sweep(write(tmp_path, "lr,max_duration,eval_loss\n" + "\n".join(rows)), learning_rate="lr").runs
    assert set(runs["seed"]) == {0}


def test_seeds_whose_rates_were_rounded_otherwise_are_seeds_of_one_rate(tmp_path):
    table = pd.DataFrame({"lr": [0.005, 0.01, 0.005, 0.01], "eval_loss": [2.0, 1.0, 2.1, 1.1]})
    table.loc[2:, "lr"] = table["lr"].astype(np.float32)
    table.to_csv(tmp_path / "runs.csv", index=False)
    with pytest.warns(UserWarning, match="they count as one"):
        assert read_sweep(tmp_path / "runs.csv", learning_rate="lr").runs["seed"].tolist() == [0, 0, 1, 1]


def test_a_truth_that_is_missing_is_no_false_one(tmp_path):
    rows = "lr,tied,eval_loss\n1,,2\n1,false,2.5\n1,true,2.2\n" + "".join(f"2,true,{loss}\n" for loss in (5, 3, 4, 6))
    runs = read_sweep(write(tmp_path, rows), learning_rate="lr").runs
    assert runs["seed"].tolist() == [0, 0, 0, 0, 1, 2, 3] and runs["tied"].tolist()[:3] == [None, False, True]


@pytest.mark.parametrize("texts", [("true", "False"), ("1", "0"), ("TRUE", "")])
def test_divergence_is_read_as_truths_or_refused(texts, tmp_path):
    header = "lr,width,eval_loss,diverged\n"
    runs = read_sweep(write(tmp_path, f"{header}1,8,2,{texts[0]}\n2,8,1,{texts[1]}\n"), learning_rate="lr").runs
    assert runs["diverged"].tolist() == [True, False]
    with pytest.raises(ValueError, match=r"'diverged'.*'yes' in line 2: give true or false"):
        read_sweep(write(tmp_path, f"{header}1,8,2,yes\n2,8,1,no\n"), learning_rate="lr")


def test_the_export_of_a_store_is_read_as_it_is(tmp_path):
    table = EXPECTED.assign(parameterization="mup", depth=2, loss="cross_entropy")
    table.to_parquet(tmp_path / "runs.parquet")
    pd.testing.assert_frame_equal(read_sweep(tmp_path / "runs.parquet").runs, table)


WANDB = """"Name","State","Tags","config.lr","config.d_model","config.seed","summary.eval/loss"
"calm-1","finished","","0.1","64","0","2.5"
"calm-2","crashed","","0.4","64","0",""
"calm-3","failed","","0.2","64","0","2.25"
"calm-4","running","","0.2","64","1","7"
"""


def test_an_export_of_weights_and_biases(tmp_path):
    path = write(tmp_path, WANDB)
    with pytest.warns(UserWarning) as told:
        runs = read_sweep(path, learning_rate="lr", width="config.d_model", eval_loss="eval/loss").runs
    said = " ".join(str(each.message) for each in told)
    assert "1 runs have not ended" in said and "2 runs broke off" in said
    assert runs["learning_rate"].tolist() == [0.1, 0.4, 0.2]
    assert runs["seed"].tolist() == [0, 0, 0]
    assert runs["diverged"].tolist() == [False, True, True]
    assert np.isnan(runs["eval_loss"][1])


def test_json_lines_of_its_interface_are_flattened(tmp_path):
    rows = [{"config": {"lr": 2.0**-i, "width": 8}, "summary": {"loss": "NaN" if i else 2.0}} for i in range(2)]
    path = write(tmp_path, "".join(json.dumps(row) + "\n\n" for row in rows), "runs.jsonl")
    runs = read_sweep(path, learning_rate="lr", eval_loss="loss").runs
    assert runs["learning_rate"].tolist() == [1.0, 0.5]
    assert runs["width"].tolist() == [8, 8]
    assert runs["eval_loss"].isna().tolist() == [False, True]


GOOD = "lr,width,eval_loss\n0.1,8,2\n0.2,8,1\n"
WRONG = [
    (GOOD, {"learning_rate": "rate"}, ["runs.csv", "'rate'", "learning_rate", "lr, width, eval_loss"]),
    (GOOD, {}, ["runs.csv", "learning_rate='lr'", "lr, width, eval_loss"]),
    (GOOD, {"learning_rate": "lr", "width": "lr"}, ["runs.csv", "'lr'", "learning_rate and width"]),
    (GOOD, {"learning_rate": "lr", "eval_loss": "width"}, ["runs.csv", "'eval_loss'", "'width'"]),
    (GOOD, {"learning_rate": 3}, ["learning_rate", "text"]),
    (GOOD.replace("0.2", "fast"), {"learning_rate": "lr"}, ["'lr'", "learning_rate", "'fast'", "line 3"]),
    (GOOD.replace("0.2", "-0.2"), {"learning_rate": "lr"}, ["'lr'", "learning_rate", "-0.2", "line 3"]),
    (GOOD.replace("0.2", ""), {"learning_rate": "lr"}, ["'lr'", "nan", "line 3"]),
    (GOOD.replace("\n0.2", '\n\n"0.2\n"x'), {"learning_rate": "lr"}, ["'lr'", "line 5"]),
    (GOOD.replace("8,1", "8,bad"), {"learning_rate": "lr", "eval_loss": "eval_loss"}, ["'bad'", "line 3", "empty"]),
    (GOOD.replace("8,1", "8"), {"learning_rate": "lr"}, ["2 fields in line 3", "3"]),
    (GOOD.replace("width", "lr"), {"learning_rate": "lr"}, ["'lr' twice"]),
    ("config.lr,summary.lr,loss\n1,1,1\n", {"learning_rate": "lr"}, ["'config.lr' or 'summary.lr'"]),
    ("lr,width\n1,2\n", {"learning_rate": "lr"}, ["no column of losses"]),
    ("", {}, ["no rows"]),
    ("lr,width,eval_loss\n", {"learning_rate": "lr"}, ["no rows"]),
]


@pytest.mark.parametrize(("text", "columns", "words"), WRONG)
def test_what_is_wrong_is_said_with_its_place(text, columns, words, tmp_path):
    with pytest.raises(ValueError) as refused:
        read_sweep(write(tmp_path, text), **columns)
    for word in words:
        assert word in str(refused.value)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("runs.xlsx", b"", "its name must end in"),
        ("runs.pkl", b"", "its name must end in"),
        ("runs.csv", b"lr\xff\n1\n", "UTF-8"),
        ("runs.csv.gz", b"lr,loss\n", "gzip"),
        ("runs.csv.gz", gzip.compress(GOOD.encode(), mtime=0)[:-12], "gzip"),
        ("runs.parquet", b"PAR1", "Parquet"),
        ("runs.jsonl", b'{"lr": 1}\n{"lr"', "line 2"),
        ("runs.jsonl", b"[1]\n", "line 1"),
        ("runs.jsonl", b"[" * 100_000, "line 1"),
        ("runs.jsonl", b'{"a":' * 5000 + b"1" + b"}" * 5000, "too deep|line 1"),
        ("runs.csv", b'"' + b"x" * 200_000, "no CSV"),
    ],
)
def test_files_that_hold_no_table_are_refused(name, content, words, tmp_path):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ValueError, match=words) as refused:
        read_sweep(path)
    assert name in str(refused.value)


def test_reading_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr("sharplab.analysis.table_files.LARGEST", 1000)
    (tmp_path / "large.csv").write_bytes(b"x" * 1001)
    (tmp_path / "bomb.csv.gz").write_bytes(gzip.compress(b"x" * 100_000))
    for name in ("large.csv", "bomb.csv.gz"):
        with pytest.raises(ValueError, match="1,000 bytes"):
            read_sweep(tmp_path / name)


def test_neither_pipes_nor_folders_are_read(tmp_path):
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "folder.csv").mkdir()
    for name in ("pipe.csv", "folder.csv", "missing.csv"):
        with pytest.raises(ValueError, match=name):
            read_sweep(tmp_path / name)
