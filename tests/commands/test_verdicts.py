"""Which runs compare with each other, and under what heading."""

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from sharplab.commands.verdicts import by_setting, print_verdicts
from sharplab.records import Records


def sweep_table(**settings: object) -> pd.DataFrame:
    """Runs at two widths whose best learning rate is 1, with settings."""
    rates, widths, seeds = np.meshgrid(2.0 ** np.arange(-3, 4), [16, 32], range(3))
    noise = 0.001 * np.random.default_rng(0).standard_normal(rates.size)
    loss = 1 + 0.1 * np.log2(rates.ravel()) ** 2 + noise
    runs = {"width": widths.ravel(), "learning_rate": rates.ravel(), "seed": seeds.ravel(), "train_loss": loss}
    return pd.DataFrame({"parameterization": "mup", "depth": 2, **settings} | runs)


def test_one_setting_has_no_heading():
    ((heading, part),) = by_setting(Records(sweep_table()), over="width")
    assert heading == ""
    assert len(part.runs) == 42


def test_each_setting_has_its_own_runs():
    tables = [sweep_table(gamma=gamma, batch_size=size) for gamma, size in ((0.5, 32), (0.5, 64), (2.0, 32))]
    found = dict(by_setting(Records(pd.concat(tables)), over="width"))
    assert list(found) == ["gamma 0.5, batch size 32", "gamma 0.5, batch size 64", "gamma 2, batch size 32"]
    for table, part in zip(tables, found.values(), strict=True):
        pd.testing.assert_frame_equal(part.runs[table.columns].reset_index(drop=True), table)


def test_optimizers_are_settings_like_any_other():
    tables = [sweep_table(optimizer=name) for name in ("sgd", "adam")]
    assert [heading for heading, _ in by_setting(Records(pd.concat(tables)), over="width")] == [
        "optimizer adam",
        "optimizer sgd",
    ]


def test_what_grows_along_tells_no_runs_apart():
    runs = sweep_table().assign(depth=lambda table: table["width"] // 8)
    assert len(list(by_setting(Records(runs), over="width"))) == 2
    ((heading, part),) = by_setting(Records(runs), over="width", along=("depth",))
    assert heading == ""
    assert set(part.runs["width"]) == {16, 32}


@pytest.mark.parametrize("gammas", [(1.0,), (0.5, 2.0)])
def test_each_setting_is_printed_and_drawn(gammas, tmp_path):
    console = Console(width=160)
    records = Records(pd.concat([sweep_table(gamma=gamma) for gamma in gammas]))
    with console.capture() as caught:
        pictures = print_verdicts(
            records, over="width", metric="train_loss", along=(), folder=tmp_path, console=console
        )
    text = caught.get()
    assert text.count("mup: the optimal learning rate") == len(gammas)
    assert [f"gamma {gamma:g}" in text for gamma in gammas] == [len(gammas) > 1] * len(gammas)
    names = ["width_sweep.png"] if len(gammas) == 1 else ["width_sweep-gamma-0.5.png", "width_sweep-gamma-2.png"]
    assert [picture.name for picture in pictures] == names
    assert all(picture.stat().st_size > 10_000 for picture in pictures)
