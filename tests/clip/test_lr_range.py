from __future__ import annotations

import csv

import h5py
import numpy as np
import pytest
import yaml
from pair_files import write_coco

from braindecode_clip.cli.main import main
from braindecode_clip.clip.lr_range import RangeTest, lr_range
from braindecode_clip.errors import ConfigError, DataError


class Learning:
    """Stands for a trainer: its loss at a rate is given."""

    def __init__(self, loss):
        self.rates, self._loss = [], loss

    def take_step(self, rate):
        self.rates.append(rate)
        value = self._loss(rate)
        if not np.isfinite(value):
            raise DataError("no number")
        return value, 1.0


def test_rates_rise_by_the_same_factor_and_losses_are_smoothed():
    trainer = Learning(lambda rate: 3.0 - rate)
    found = lr_range(trainer, lowest=1e-3, highest=1.0, n_steps=7)
    want = 1e-3 * (1000 ** (np.arange(7) / 6))
    np.testing.assert_allclose(trainer.rates, want, rtol=1e-12)
    np.testing.assert_allclose(found.loss, 3 - want, rtol=1e-12)
    # The mean of all losses so far, weighted by powers of 0.9.
    for step in range(7):
        share = 0.9 ** np.arange(step, -1, -1)
        assert found.smoothed[step] == pytest.approx((share @ found.loss[: step + 1]) / share.sum())
    assert not found.is_diverged


@pytest.mark.parametrize("wrong", [np.nan, 1e6])
def test_the_run_ends_where_the_loss_diverges(wrong):
    trainer = Learning(lambda rate: wrong if rate > 0.05 else 2.0)
    found = lr_range(trainer, lowest=1e-4, highest=1.0, n_steps=41)
    assert found.is_diverged
    # 27 rates are below 0.05; an infinite loss leaves no row.
    assert len(trainer.rates) == 28
    assert len(found.lr) == (27 if np.isnan(wrong) else 28)


def test_the_suggestion_is_where_the_loss_falls_fastest():
    rates = np.geomspace(1e-5, 1.0, 51)
    log = np.log10(rates)
    losses = 3 - np.tanh(2 * (log + 3)) + np.exp(4 * (log + 0.5))
    found = RangeTest(rates, losses, losses, False)
    assert np.log10(found.suggestion) == pytest.approx(-3, abs=0.1)
    rising = RangeTest(rates, rates, rates, False)
    assert rising.suggestion is None


def test_rates_that_do_not_rise_are_refused():
    with pytest.raises(ConfigError, match="0 < lowest < highest"):
        lr_range(Learning(lambda rate: 1.0), lowest=1.0, highest=0.1, n_steps=9)


def test_the_command_writes_a_table_and_leaves_no_state(tiny_recipe, make_pairs, tmp_path, capsys):
    pairs = make_pairs(18, 1)
    with h5py.File(tmp_path / "pairs.h5", "w") as file:
        file["images"] = pairs.images
        file.create_dataset("captions", data=pairs.captions.tolist(), dtype=h5py.string_dtype())
    recipe = yaml.safe_dump(tiny_recipe.model_dump(mode="json"))
    (tmp_path / "recipe.yaml").write_text(recipe, encoding="utf-8")
    command = ["clip", "lr-range", "--recipe", str(tmp_path / "recipe.yaml")]
    command += ["--pairs", str(tmp_path / "pairs.h5"), "--out", str(tmp_path / "range.csv")]
    assert main([*command, "--steps", "6", "--lowest", "1e-5", "--highest", "1e-2"]) == 0
    printed = capsys.readouterr().err
    assert "range of rates: 6 steps" in printed and "lowest loss at" in printed
    with (tmp_path / "range.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [float(row["lr"]) for row in rows] == pytest.approx(np.geomspace(1e-5, 1e-2, 6))
    assert all(np.isfinite(float(row["loss"])) for row in rows)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"pairs.h5", "recipe.yaml", "range.csv"}
    assert main([*command, "--steps", "2"]) == 1
    assert "at least 3 steps" in capsys.readouterr().err


def test_the_command_reads_what_training_reads(tiny_recipe, tmp_path, capsys):
    pairs = write_coco(tmp_path, 18)
    # Beside the JSON they would be found without being named.
    folder = (tmp_path / "val2017").rename(tmp_path / "elsewhere")
    recipe = yaml.safe_dump(tiny_recipe.model_dump(mode="json"))
    (tmp_path / "recipe.yaml").write_text(recipe, encoding="utf-8")
    command = ["clip", "lr-range", "--recipe", str(tmp_path / "recipe.yaml"), "--steps", "3"]
    command += ["--pairs", str(pairs), "--out", str(tmp_path / "range.csv")]
    assert main([*command, "--images", str(folder), "--format", "coco"]) == 0
    assert main([*command, "--images", str(folder), "--format", "table"]) == 1
    assert main(command) == 1
    assert "Traceback" not in capsys.readouterr().err
