"""The card: what it holds, what it refuses, and the published ones."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from braindecode_clip.cards import card_text, parse_card
from braindecode_clip.cards.make import fingerprint_digest, ids_digest
from braindecode_clip.cli.main import main
from braindecode_clip.errors import DataError
from braindecode_clip.io.hdf5 import read_provenance
from braindecode_clip.io.tables import read_json

PUBLISHED = sorted((Path(__file__).resolve().parents[2] / "data/published").glob("*.json"))


def test_a_card_says_what_its_numbers_are_of(results, good):
    card = parse_card(read_json(good), where=good.name)
    data = card.data
    assert (data.dataset, data.subjects, data.n_sessions, data.n_runs) == ("planted", ["01"], 2, 6)
    assert (data.n_train_pictures, data.n_test_pictures) == (60, 20)
    assert (data.n_train_samples, data.n_test_samples) == (60, 20)
    assert (data.repeats, data.averaged) == (1.0, "none")
    shown = results.voxels.folds[0].test.stimulus_id
    assert data.test_digest == ids_digest(shown) == ids_digest([*shown[::-1], shown[0]])
    assert data.train_digest == ids_digest(results.voxels.folds[0].train.stimulus_id)
    assert (card.voxels.roi, card.voxels.n_voxels, card.voxels.n_kept) == ("visual", 70, (70, 70))
    assert card.voxels.options == {"scale": "zscore"}
    assert card.encoder.name == "planted" and card.encoder.parts == {"name": "planted"}
    assert (card.decoder.name, card.decoder.calibration) == ("good", "spread")
    assert (card.split.unit, card.split.n_folds) == ("stimulus", 1)
    assert card.transductive == [] and card.kind == "measured"
    assert set(card.origin.code) == {"voxels", "decode", "evaluate"} and card.origin.seed == 1
    predictions = results.path("good-test-predictions")
    assert card.origin.code["decode"] == read_provenance(predictions)["code_digest"]
    assert all((good.parent / path).is_file() for path in card.origin.files.values())


def test_every_row_of_the_metrics_stands_on_the_card(results, good):
    content = read_json(results.path("good-test-metrics", "json"))
    rows = [*content["rows"], *content["protocols"]]
    assert {"full-pool", "kamitani-pairwise"} <= {row["protocol"] for row in rows}
    scores = parse_card(read_json(good), where="x").scores
    assert len(scores) == len(rows) > 10
    for row, score in zip(rows, scores, strict=True):
        keys = ("metric", "direction", "value", "ci_low", "ci_high", "chance", "p", "n_gallery")
        assert [getattr(score, key) for key in keys] == [row[key] for key in keys]
        assert score.protocol == row["protocol"] and score.gallery == "test"


def test_the_text_holds_every_score_and_fact(good):
    text = good.with_suffix(".md").read_text()
    card = parse_card(read_json(good), where="x")
    assert text.count("\n| gallery test |") == sum(s.protocol == "gallery" for s in card.scores)
    for name in {score.protocol for score in card.scores} - {"gallery"}:
        assert text.count(f"\n| {name} |") == sum(s.protocol == name for s in card.scores)
    top = card.scores[0]
    assert f"{100 * top.value:.1f} %" in text and "| 5.0 % |" in text
    for words in (card.data.test_digest, card.encoder.digest, "whole stimuli", "2, 6"):
        assert str(words) in text
    assert "repeats of a test query: 1, averaged: none" in text


def test_digests_are_of_what_identifies():
    assert ids_digest(["b", "a"]) == hashlib.sha256(b"a\nb").hexdigest()[:16]
    one = {"name": "x", "weights": "1", "libraries": {"torch": "2"}, "probe": [[0.1]]}
    assert fingerprint_digest(one) == fingerprint_digest({**one, "libraries": {}, "probe": 3})
    assert fingerprint_digest(one) != fingerprint_digest({**one, "weights": "2"})


def test_keys_of_other_parts_of_the_metrics_are_read(results, good, tmp_path):
    """A protocol, a ceiling and transductive steps, where `evaluate` gives them."""
    content = read_json(results.path("good-test-metrics", "json"))
    content["transductive"] = ["a step"]
    content["rows"][0] |= {"protocol": "mindeye-300", "ceiling": 0.9, "unknown_column": 3}
    path = tmp_path / "metrics.json"
    path.write_text(json.dumps(content))
    out = tmp_path / "card.json"
    assert main(results.arguments("good-test", metrics=path, out=out)) == 0
    card = parse_card(read_json(out), where="x")
    assert card.transductive == ["a step"]
    assert (card.scores[0].protocol, card.scores[0].ceiling) == ("mindeye-300", 0.9)


def test_a_transductive_calibration_is_named_without_being_told(results, tmp_path):
    from braindecode_clip.artifacts import Predictions
    from braindecode_clip.io.hdf5 import load_artifact, save_artifact
    from braindecode_clip.provenance import make_provenance

    predictions = load_artifact(results.path("good-test-predictions"), Predictions)
    predictions.info["calibration"] = "transductive"
    path, out = tmp_path / "predictions.h5", tmp_path / "card.json"
    save_artifact(path, predictions, make_provenance("decode", options={}, inputs=[]))
    assert main(results.arguments("good-test", predictions=path, out=out)) == 0
    assert parse_card(read_json(out), where="x").transductive == ["calibration of the predictions"]


def test_averaged_repeats_are_counted_where_they_were_averaged(results):
    from braindecode_clip.artifacts import Predictions
    from braindecode_clip.cards.make import _repeats
    from braindecode_clip.io.hdf5 import load_artifact

    one = load_artifact(results.path("good-test-predictions"), Predictions)
    names = np.repeat(one.stimulus_id[:5], 4)
    several = type(one)(**{**vars(one), "stimulus_id": names, "n_repeats": np.ones(20, np.int64)})
    assert _repeats(several, True) == (4.0, "predictions")
    assert _repeats(several, False) == (1.0, "none")
    three = type(one)(**{**vars(one), "n_repeats": np.full(20, 3)})
    assert _repeats(three, False) == (3.0, "responses")


def test_files_that_do_not_belong_together_are_all_named(results, good, tmp_path, capsys):
    content = read_json(results.path("good-test-metrics", "json"))
    for row in [*content["rows"], *content["protocols"]]:
        row |= {"decoder": "other", "roi": "elsewhere"}
    path = tmp_path / "metrics.json"
    path.write_text(json.dumps(content))
    out = tmp_path / "card.json"
    assert main(results.arguments("good-test", metrics=path, out=out)) == 1
    message = capsys.readouterr().err
    assert "2 problems" in message and "['elsewhere']" in message and "['other']" in message
    assert not out.exists() and not out.with_suffix(".md").exists()


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.stem)
def test_published_cards_are_valid_and_name_their_source(path):
    card = parse_card(read_json(path), where=path.name)
    assert card.kind == "published" and card.origin.source and card.title in card_text(card)
    for score in card.scores:
        k = int(score.metric.removeprefix("top_"))
        assert score.chance == pytest.approx(k / score.n_gallery, rel=1e-9)
        assert 0 < score.value < 1


def test_the_published_numbers_that_ship():
    found = {
        path.stem: [round(100 * s.value, 2) for s in parse_card(read_json(path), where="x").scores]
        for path in PUBLISHED
    }
    assert found == {
        "mindeye2-nsd-40h": [98.8, 98.3],
        "mindeye2-nsd-1h": [79.0, 57.4],
        "mindeye1-nsd-40h": [90.0, 84.1],
        "brain-diffuser-nsd-40h": [18.8, 26.3],
        "mindeye1-nsd-s1-982": [93.1, 86.6],
        "nsd-s1-1000-csls-log": [45.5, 53.4],
        "brainflora-things-fmri": [26.33, 57.33],
        "bravl-god-wiki-50": [13.99, 53.13],
        "haxby-s1-vt-1nn-odd-even": [93.75],
        "haxby-s1-vt-svm-split-half": [81.25],
        "haxby-s1-vt-svm-leave-one-run-out": [78.1],
    }
    checked = {p.stem: read_json(p)["origin"]["checked"] for p in PUBLISHED}
    assert checked["bravl-god-wiki-50"] == "second_hand"
    assert checked["nsd-s1-1000-csls-log"] == "unverified"


def test_a_published_number_is_typed_by_hand(tmp_path, capsys):
    typed = tmp_path / "typed.yaml"
    typed.write_text(
        "kind: published\ntitle: A number\ndata: {dataset: NSD, subjects: ['1']}\n"
        "encoder: {name: CLIP}\ndecoder: {name: ridge}\n"
        "scores: [{direction: brain_to_image, metric: top_1, n_gallery: 300, value: 0.5}]\n"
        "origin: {source: A paper, checked: read}\n"
    )
    out, text = tmp_path / "card.json", tmp_path / "card.md"
    assert (
        main(["card", "--published", str(typed), "--out", str(out), "--out-text", str(text)]) == 0
    )
    assert "Published number (read): A paper" in text.read_text()
    assert main(["card", "--published", str(out), "--out", str(tmp_path / "again.json")]) == 0
    assert (tmp_path / "again.json").read_text() == out.read_text()
    capsys.readouterr()
    assert main(["card", "--published", str(typed), "--dataset", "x", "--out", str(out)]) == 1
    assert "--published stands alone: leave out --dataset" in capsys.readouterr().err
    assert main(["card", "--dataset", "x", "--out", str(out)]) == 1
    message = capsys.readouterr().err
    assert "--metrics, --predictions, --voxels, --retrieval as well" in message


def broken(good: Path, change) -> dict:
    content = read_json(good)
    change(content)
    return content


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c.pop("data"), ["'data' is missing"]),
        (
            lambda c: (c.pop("title"), c["data"].update(subject="1"), c.pop("scores")),
            ["3 problems", "'title' is missing", "Did you mean 'subjects'?", "'scores' is missing"],
        ),
        (lambda c: c["scores"][0].update(value=2.0), ["within ci_low and ci_high"]),
        (lambda c: c["scores"][0].update(ci_low=None), ["both ends"]),
        (lambda c: c["scores"].append(c["scores"][0]), ["more than one score"]),
        (lambda c: c.update(kind="published"), ["names its source"]),
        (lambda c: c.update(card_version=7), ["version 7", "reads 1"]),
    ],
)
def test_a_card_checks_itself_when_it_is_read(good, change, words):
    with pytest.raises(DataError) as caught:
        parse_card(broken(good, change), where="my-card.json")
    assert str(caught.value).startswith("my-card.json: ")
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_what_is_no_card_is_said_to_be_none():
    with pytest.raises(DataError, match="no result card"):
        parse_card([1, 2], where="x.json")
