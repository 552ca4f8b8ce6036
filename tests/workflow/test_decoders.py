"""Every kind of decoder through Snakemake, and who is called the best of them."""

from __future__ import annotations

import dataclasses
import html
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from braindecode_clip.artifacts import Embeddings, Predictions
from braindecode_clip.config.decoders import SECTIONS
from braindecode_clip.decode import FittedDecoder
from braindecode_clip.io.hdf5 import load_artifact, save_artifact
from braindecode_clip.io.tables import read_tsv
from braindecode_clip.provenance import Provenance

STUDY = Path(__file__).with_name("decoders.yaml")
THIN = "\u202f"
#: What the small study keeps of the large one, which the ordinary suite has no time for.
FEW = ("ridge", "rank", "both")


def text_of(markup: str) -> str:
    return html.unescape(re.sub(r"<[^>]+>", " ", markup)).replace(THIN, " ").strip()


def tables_of(page: str) -> dict[str, list[list[str]]]:
    """Return the rows of every table of the page, by its caption."""
    found = {}
    for table in re.findall(r"<table.*?</table>", page, flags=re.DOTALL):
        caption = text_of(re.search(r"<caption>(.*?)</caption>", table, re.DOTALL).group(1))
        rows = re.findall(r"<tr>(.*?)</tr>", table.partition("<tbody>")[2], re.DOTALL)
        cells = [re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row, re.DOTALL) for row in rows]
        found[caption] = [[text_of(cell) for cell in row] for row in cells]
    return found


def table_of(page: str, start: str) -> list[list[str]]:
    (rows,) = [rows for caption, rows in tables_of(page).items() if caption.startswith(start)]
    return rows


def alternative_texts(page: str) -> list[str]:
    return [text_of(alt) for alt in re.findall(r'role="img" aria-label="([^"]*)"', page)]


def compared(results: Path) -> pd.DataFrame:
    table = read_tsv(results / "compare/compare.tsv", text=["subject"])
    flags = ["transductive", "best", "best_of_roi"]
    return table.assign(**{key: table[key].astype(str) == "True" for key in flags})


def chosen_by_validation(table: pd.DataFrame, within: list[str]) -> set[tuple[str, ...]]:
    """Return the decoders of the highest out-of-fold score, worked out from the table."""
    found = set()
    for _, group in table[~table["transductive"]].groupby(within):
        scored = group[group["validation_pairwise"].notna()]
        row = scored.loc[scored["validation_pairwise"].idxmax()]
        found.add((row["subject"], row["roi"], row["decoder"]))
    return found


def marked(table: pd.DataFrame, flag: str) -> set[tuple[str, ...]]:
    rows = table[table[flag]]
    return set(rows[["subject", "roi", "decoder"]].itertuples(index=False, name=None))


def check_choice(results: Path) -> None:
    """Check table and page: the marked decoders are those that validation chooses."""
    table = compared(results)
    assert marked(table, "best") == chosen_by_validation(table, ["subject"])
    assert marked(table, "best_of_roi") == chosen_by_validation(table, ["subject", "roi"])
    page = (results / "report/report.html").read_text(encoding="utf-8")
    rows = table_of(page, "Decoders: out-of-fold")
    shown = {(row[0], row[1], row[4]) for row in rows if "of all" in row}
    assert shown == marked(table, "best")
    (alt,) = [alt for alt in alternative_texts(page) if alt.startswith("Every decoder")]
    assert len(re.findall(r", chosen(?! in)", alt)) == len(shown)
    for _, _, decoder in shown:
        assert re.search(rf"{decoder} [^,]*, validation [^,]*, chosen", alt)


def plant_an_oracle(results: Path, labels: dict[str, str]) -> None:
    """Put the true embeddings in the place of a decoder's test predictions."""
    stem = "sub-{subject}_roi-{roi}_split-stimulus_enc-scenes_dec-{decoder}".format(**labels)
    path = results / f"decode/sub-{labels['subject']}/{stem}_predictions.h5"
    predictions = load_artifact(path, Predictions)
    targets = load_artifact(results / "embed/enc-scenes_embeddings.h5", Embeddings)
    truth = targets.vectors[targets.rows(predictions.stimulus_id)]
    record = Provenance("decode", {}, {str(path): "0" * 64}, None, "0" * 16)
    save_artifact(path, dataclasses.replace(predictions, vectors=truth), record)


def check_that_test_scores_choose_nothing(results: Path, again) -> None:
    """Make the decoder that validation likes least the best on test, and run once more."""
    before = compared(results)
    eligible = before[~before["transductive"] & before["validation_pairwise"].notna()]
    worst = eligible.loc[eligible["validation_pairwise"].idxmin()]
    assert not worst["best"] and not worst["best_of_roi"]
    plant_an_oracle(results, worst.to_dict())
    done = again()
    text = done.stdout + done.stderr
    assert done.returncode == 0, text
    assert not re.search(r"^rule (decode|voxels)", text, flags=re.MULTILINE)
    after = compared(results)
    keys = ["subject", "roi", "decoder"]
    planted = (after[keys] == worst[keys]).all(axis=1)
    assert planted.sum() == 1
    # On the test set nothing comes near the planted decoder: it finds every picture.
    assert after.loc[planted, ["test_pairwise", "test_top_1"]].to_numpy().tolist() == [[1.0, 1.0]]
    assert after.loc[planted, "test_pairwise"].item() > after.loc[~planted, "test_pairwise"].max()
    assert after.loc[planted, "validation_pairwise"].item() == worst["validation_pairwise"]
    for flag in ("best", "best_of_roi"):
        assert marked(after, flag) == marked(before, flag)
    check_choice(results)
    page = (results / "report/report.html").read_text(encoding="utf-8")
    (row,) = [
        row
        for row in table_of(page, "Decoders: out-of-fold")
        if (row[0], row[1], row[4]) == tuple(worst[keys])
    ]
    assert row[8].startswith("100.0 %") and row[9] == "100.0 %" and row[10] == "–"


def check_bottleneck(results: Path, ranks: set[int], *, n_files: int) -> None:
    paths = sorted(results.glob("bottleneck/*/*_bottleneck.tsv"))
    assert len(paths) == n_files
    for path in paths:
        curve = read_tsv(path)
        assert set(curve.loc[curve["map"] == "learned", "rank"]) == ranks
        assert set(curve.loc[curve["map"] == "random", "rank"]) == ranks
        assert curve.loc[curve["map"] == "prior", "rank"].tolist() == [0]
        assert (
            (curve["ci_low"] <= curve["pairwise"]) & (curve["pairwise"] <= curve["ci_high"])
        ).all()
    page = (results / "report/report.html").read_text(encoding="utf-8")
    assert len(table_of(page, "Bottleneck")) == n_files * (2 * len(ranks) + 1)
    (alt,) = [alt for alt in alternative_texts(page) if alt.startswith("Accuracy against rank")]
    assert alt.count("random prior") == n_files


@pytest.fixture(scope="module")
def few(project: Path, snakemake) -> tuple[Path, tuple[str, ...]]:
    """Run three kinds on one subject and return the results and the arguments."""
    study = yaml.safe_load(STUDY.read_text())
    study["study"] = "few"
    study["simulate"] |= {"subjects": ["01"], "runs_per_session": 2}
    study["rois"] = study["rois"][:1]
    study["decoders"] = [item for item in study["decoders"] if item["name"] in FEW]
    study["decoders"].append({"name": "both", "kind": "ensemble", "members": ["ridge", "rank"]})
    for section in ("calibration_curve", "importance"):
        study[section] = {"enabled": False}
    path = project / "few.yaml"
    path.write_text(yaml.safe_dump(study))
    arguments = ("--configfile", "config/demo.yaml", str(path))
    done = snakemake(*arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return project / "results/few", arguments


def test_three_kinds_are_compared(few) -> None:
    results, _ = few
    table = compared(results)
    assert sorted(table["decoder"]) == sorted(FEW)
    assert np.isfinite(table.select_dtypes(float)).all(axis=None)
    check_choice(results)
    check_bottleneck(results, {1, 4, 30}, n_files=1)


def test_the_choice_does_not_follow_the_test_set(few, snakemake) -> None:
    results, arguments = few
    check_that_test_scores_choose_nothing(results, lambda: snakemake(*arguments))


@pytest.fixture(scope="module")
def every(project: Path, snakemake) -> Path:
    """Run every kind on two subjects and return the results."""
    done = snakemake("--configfile", "config/demo.yaml", str(STUDY))
    assert done.returncode == 0, done.stdout + done.stderr
    return project / "results/decoders"


NAMES = [item["name"] for item in yaml.safe_load(STUDY.read_text())["decoders"]]
SINGLE = [name for name in NAMES if name not in ("together", "ensemble")]


@pytest.mark.slow
def test_every_kind_is_fitted_scored_and_shown(every: Path) -> None:
    fitted = [load_artifact(p, FittedDecoder) for p in every.glob("decode/*/*_decoder.h5")]
    assert {item.kind for item in fitted} == set(SECTIONS)
    kernels = {item.options["kernel"] for item in fitted if item.kind == "kernel_ridge"}
    assert kernels == {"cosine", "rbf"}
    conditions = {(s, r, d) for s in ("01", "02") for r in ("visual", "early") for d in NAMES}
    assert {(item.subject, item.roi, item.name) for item in fitted} == conditions
    for path in every.glob("evaluate/*/*_metrics.json"):
        rows = json.loads(path.read_text())["rows"]
        top = next(r for r in rows if r["metric"] == "top_1")
        assert top["n"] == 12 and top["chance"] == pytest.approx(1 / 12)
        conditions.discard((top["subject"], top["roi"], top["decoder"]))
    assert not conditions
    page = (every / "report/report.html").read_text(encoding="utf-8")
    for start, column in (
        ("Gallery test, brain → image", 2),
        ("Gallery test, image → brain", 2),
        ("Decoders: out-of-fold", 4),
        ("Decoders as they were fitted", 4),
    ):
        rows = table_of(page, start)
        named = [row[column].split()[0] for row in rows]
        assert sorted(named) == sorted(NAMES * 4), start
    for name in NAMES:
        assert f"Decoder {name} " in text_of(page)
    # Forty-four tables with every score of one decoder each.
    assert (
        sum(caption.startswith("Subject 0") and "ROI" in caption for caption in tables_of(page))
        == 44
    )


@pytest.mark.slow
def test_only_decoders_with_validation_are_candidates(every: Path) -> None:
    table = compared(every)
    assert set(table.loc[table["transductive"], "decoder"]) == {"ridge-transductive"}
    without = set(table.loc[table["validation_pairwise"].isna(), "decoder"])
    assert without <= {"together"}
    check_choice(every)


@pytest.mark.slow
def test_a_transductive_decoder_predicts_otherwise_than_its_twin(every: Path) -> None:
    stem = "decode/sub-01/sub-01_roi-visual_split-stimulus_enc-scenes_dec-{}_predictions.h5"
    one, other = (
        load_artifact(every / stem.format(name), Predictions).vectors.astype(np.float64)
        for name in ("ridge", "ridge-transductive")
    )
    # Standardised by the test predictions, then given mean and spread of the training targets.
    targets = load_artifact(every / "embed/enc-scenes_embeddings.h5", Embeddings)
    path = stem.format("ridge-transductive").replace("predictions", "decoder")
    (fold,) = load_artifact(every / path, FittedDecoder).folds
    trained = targets.vectors[targets.rows(fold.seen)].astype(np.float64)
    assert len(trained) == 60
    np.testing.assert_allclose(other.mean(axis=0), trained.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(other.std(axis=0), trained.std(axis=0), rtol=1e-3)
    assert np.abs(one.mean(axis=0) - trained.mean(axis=0)).max() > 1e-3


@pytest.mark.slow
def test_bottleneck_importance_and_curves_hold_every_decoder(every: Path) -> None:
    check_bottleneck(every, {1, 4, 30}, n_files=4)
    page = (every / "report/report.html").read_text(encoding="utf-8")
    paths = sorted(every.glob("importance/*/*_importance.tsv"))
    assert len(paths) == 2 * len(SINGLE)
    for path in paths:
        table = read_tsv(path, text=["left_out"])
        assert table["left_out"].fillna("").tolist() == ["", "early"]
        assert set(table["roi"]) == {"visual"} and table["loss"].iloc[0] == 0
        assert table["n_voxels"].iloc[1] < table["n_voxels"].iloc[0]
    rows = table_of(page, "Leave one ROI out")
    assert sorted(row[3] for row in rows) == sorted(SINGLE * 4)
    (alt,) = [alt for alt in alternative_texts(page) if alt.startswith("Loss without")]
    assert all(f"without early, {name} " in alt for name in SINGLE)
    curves = sorted(every.glob("decode/*/*_curve.tsv"))
    assert len(curves) == 4
    for path in curves:
        table = read_tsv(path)
        assert set(table["decoder"]) >= {"ridge", "together"}
        assert table["minutes"].max() == pytest.approx(60 * 4 / 60)
        assert ((table["low"] <= table["value"]) & (table["value"] <= table["high"])).all()
        # Before any data every trial is predicted alike, so that each is at chance exactly.
        first = table[table["n_runs"] == 0]
        assert set(first["decoder"]) == {"ridge", "together"} and not first["n_trials"].any()
        np.testing.assert_allclose(first["value"], first["chance"])
        assert path.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    drawn = [alt for alt in alternative_texts(page) if "minutes of training data" in alt]
    assert len(drawn) == 4 and all("together: " in alt and "ridge: " in alt for alt in drawn)
    shown = table_of(page, "Accuracy against minutes")
    assert len(shown) == sum(len(read_tsv(path)) for path in curves)


@pytest.mark.slow
def test_the_best_on_the_test_set_is_not_chosen(every: Path, snakemake) -> None:
    check_that_test_scores_choose_nothing(
        every, lambda: snakemake("--configfile", "config/demo.yaml", str(STUDY))
    )
