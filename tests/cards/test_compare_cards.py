"""Whether two numbers may be compared, and how far they lie apart."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from braindecode_clip.artifacts import Retrieval
from braindecode_clip.cards import compare_cards, parse_card
from braindecode_clip.cards.card import Score
from braindecode_clip.cards.compare import choose_scores, unpaired_difference
from braindecode_clip.cli.main import main
from braindecode_clip.errors import DataError
from braindecode_clip.io.hdf5 import load_artifact
from braindecode_clip.io.tables import read_json

PUBLISHED = Path(__file__).resolve().parents[2] / "data/published"


def compare(first, second, **options):
    cards = [
        parse_card(item if isinstance(item, dict) else read_json(item), where="x")
        for item in (first, second)
    ]
    return compare_cards(*cards, rng=np.random.default_rng(0), n_bootstrap=300, **options)


def field(found, name):
    (only,) = (item for item in found.fields if item.name == name)
    return only


def changed(path, change) -> dict:
    content = read_json(path)
    change(content)
    return content


def test_a_card_against_itself_is_the_same_in_everything(good):
    found = compare(good, good)
    assert found.comparable and found.paired
    assert {item.verdict for item in found.fields} == {"same"}
    assert found.difference.value == 0


def test_two_decoders_are_compared_by_picture(results, good, worse):
    ranked = [
        load_artifact(results.path(f"{name}-test-retrieval"), Retrieval)
        for name in ("good", "worse")
    ]
    found = compare(good, worse, retrievals=tuple(ranked))
    assert found.comparable and found.paired
    assert field(found, "decoder").verdict == "differs and does not matter"
    hits = [(item.queries["rank"] <= 1).to_numpy(float) for item in ranked]
    difference = found.difference
    assert difference.how == "paired by sample" and difference.n == 20
    assert difference.value == pytest.approx((hits[0] - hits[1]).mean())
    assert difference.value == pytest.approx(found.first.value - found.second.value)
    assert difference.low < difference.value < difference.high
    # Against a percentile bootstrap written out.
    rng = np.random.default_rng(9)
    apart = hits[0] - hits[1]
    slow = [apart[rng.integers(20, size=20)].mean() for _ in range(4000)]
    assert difference.low == pytest.approx(np.quantile(slow, 0.025), abs=0.08)
    assert difference.high == pytest.approx(np.quantile(slow, 0.975), abs=0.08)
    alone = compare(good, worse).difference
    assert alone.how == "two samples" and alone.value == pytest.approx(difference.value)
    assert alone.high - alone.low != pytest.approx(difference.high - difference.low)


@pytest.mark.parametrize("metric", ["top_5", "pairwise", "mean_rank", "mean_reciprocal_rank"])
def test_every_metric_that_is_a_mean_is_paired(results, good, worse, metric):
    for direction, kind in (("brain_to_image", "retrieval"), ("image_to_brain", "reverse")):
        ranked = [
            load_artifact(results.path(f"{name}-test-{kind}"), Retrieval)
            for name in ("good", "worse")
        ]
        options = {"metric": metric, "direction": direction, "retrievals": tuple(ranked)}
        found = compare(good, worse, **options)
        assert found.difference.how == "paired by sample"
        assert found.difference.value == pytest.approx(found.first.value - found.second.value)
    assert compare(good, worse, metric="median_rank").difference.how == "two samples"


def test_pictures_are_paired_where_the_queries_are_not(results, good):
    first = load_artifact(results.path("good-test-retrieval"), Retrieval)
    second = Retrieval(**{**vars(first), "queries": first.queries.assign(group="another")})
    found = compare(good, good, retrievals=(first, second))
    assert found.difference.how == "paired by picture" and found.difference.value == 0
    by_run = changed(good, lambda c: c["split"].update(unit="run"))
    assert compare(by_run, by_run, retrievals=(first, second)).difference.how == "two samples"


@pytest.mark.parametrize(
    ("name", "change", "effect"),
    [
        ("protocol", lambda c: [s.update(protocol="p") for s in c["scores"]], "blocks"),
        ("data set", lambda c: c["data"].update(dataset="NSD"), "blocks"),
        ("number of subjects", lambda c: c["data"].update(subjects=["01", "02"]), "blocks"),
        ("subjects", lambda c: c["data"].update(subjects=["02"]), "choice"),
        ("sessions", lambda c: c["data"].update(n_sessions=40), "choice"),
        ("training pictures", lambda c: c["data"].update(n_train_pictures=30), "choice"),
        ("number of test pictures", lambda c: c["data"].update(n_test_pictures=9), "choice"),
        ("test pictures", lambda c: c["data"].update(test_digest="0" * 16), "unpairs"),
        ("repeats", lambda c: c["data"].update(repeats=3.0), "blocks"),
        ("where they were averaged", lambda c: c["data"].update(averaged="predictions"), "blocks"),
        ("held out", lambda c: c["split"].update(unit="run"), "blocks"),
        ("steps that used the test set", lambda c: c.update(transductive=["csls"]), "blocks"),
        ("encoder", lambda c: c["encoder"].update(digest="1" * 16), "choice"),
        ("region", lambda c: c["voxels"].update(roi="early"), "choice"),
        ("voxels", lambda c: c["voxels"].update(n_kept=[9, 9]), "choice"),
        ("calibration", lambda c: c["decoder"].update(calibration="none"), "none"),
        ("seed", lambda c: c["origin"].update(seed=77), "none"),
        ("version", lambda c: c["origin"].update(version="9"), "none"),
        ("code", lambda c: c["origin"]["code"].update(decode="9"), "none"),
    ],
)
def test_each_part_that_differs_has_its_effect(good, name, change, effect):
    found = compare(good, changed(good, change))
    item = field(found, name)
    matters = "differs and matters" if effect != "none" else "differs and does not matter"
    assert (item.verdict, item.effect) == (matters, effect) and item.why
    others = {f.name for f in found.fields if f.verdict != "same"} - {name, "number of subjects"}
    assert others <= {"subjects"}
    assert found.comparable == (effect != "blocks")
    assert (found.difference is not None) == found.comparable
    assert found.paired == (effect in ("choice", "none"))
    if effect == "choice":
        assert any(f"also one of: {name}" in line for line in found.advice)
    if effect == "blocks":
        assert any(line.startswith(f"Must be the same: {name}") for line in found.advice)


def test_37_against_40_sessions_is_named(good):
    one = changed(good, lambda c: c["data"].update(n_sessions=37, n_test_pictures=982))
    two = changed(good, lambda c: c["data"].update(n_sessions=40, n_test_pictures=1000))
    item = field(compare(one, two), "sessions")
    assert (item.first, item.second) == ("37", "40") and "982" in item.why


def test_other_directions_and_metrics_are_not_comparable(good):
    def only(direction, metric):
        def change(content):
            content["scores"] = [
                s for s in content["scores"] if (s["direction"], s["metric"]) == (direction, metric)
            ]

        return changed(good, change)

    found = compare(only("brain_to_image", "top_1"), only("image_to_brain", "top_1"))
    assert not found.comparable and field(found, "direction").effect == "blocks"
    with pytest.raises(DataError, match=r"no score top_1 in 1 of the cards.*top_5"):
        compare(only("brain_to_image", "top_5"), good)


def test_pools_of_other_sizes_get_chance_and_a_common_size(results, good, among_all):
    found = compare(good, among_all)
    assert not found.comparable and found.difference is None
    assert (field(found, "candidates").first, field(found, "candidates").second) == ("20", "80")
    chances, values = found.advice[:2]
    assert "20 against 80 candidates: chance is 5.0 % against 1.2 %" in chances
    assert values.startswith("At 20 candidates drawn from its own gallery")
    curve = [
        (point["pool_size"], point["value"])
        for point in read_json(among_all)["pool_curve"]
        if (point["direction"], point["k"]) == ("brain_to_image", 1)
    ]
    below = max(point for point in curve if point[0] <= 20)
    above = min(point for point in curve if point[0] >= 20)
    for size, value in (below, above):
        assert f"{100 * value:.1f} % (pool {size})" in values


def test_the_likest_scores_are_chosen(good):
    def protocols(content):
        first = content["scores"][0]
        content["scores"].append({**first, "protocol": "mindeye-300", "n_gallery": 15})

    card = parse_card(changed(good, protocols), where="x")
    own = parse_card(read_json(good), where="x")
    published = parse_card(read_json(PUBLISHED / "mindeye2-nsd-40h.json"), where="x")
    chosen = choose_scores(card, published, metric="top_1")
    assert [score.protocol for score in chosen] == ["mindeye-300"] * 2
    assert [score.direction for score in chosen] == ["brain_to_image"] * 2
    assert choose_scores(card, own, metric="top_1")[0].protocol == "gallery"
    back = choose_scores(card, own, metric="top_1", direction="image_to_brain")
    assert [score.direction for score in back] == ["image_to_brain"] * 2


def test_the_interval_of_two_samples_in_closed_form():
    def score(value, low, high, level=0.95):
        return Score(
            direction="none", metric="m", value=value, ci_low=low, ci_high=high, confidence=level
        )

    found = unpaired_difference(score(0.6, 0.57, 0.64), score(0.5, 0.45, 0.52))
    assert found.value == pytest.approx(0.1)
    assert found.low == pytest.approx(0.1 - np.hypot(0.03, 0.02))
    assert found.high == pytest.approx(0.1 + np.hypot(0.04, 0.05))
    other = unpaired_difference(score(0.6, 0.57, 0.64), score(0.5, 0.45, 0.52, 0.9))
    assert (other.how, other.low, other.high) == ("values alone", None, None)


def test_what_must_match_a_published_number_is_listed(good):
    found = compare(good, PUBLISHED / "mindeye2-nsd-40h.json")
    assert not found.comparable
    text = "\n".join(found.advice)
    for words in ("protocol", "data set", "number of subjects", "steps that used the test set"):
        assert f"Must be the same: {words}" in text
    assert "Not known, and must be the same: where they were averaged" in text


def test_the_command_prints_verdicts_and_exits_by_them(good, worse, among_all, tmp_path, capsys):
    out = tmp_path / "found.json"
    assert main(["compare", str(good), str(worse), "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "The numbers are comparable." in printed and "paired by sample, n = 20" in printed
    assert "decoder                       differs and does not matter: good | worse" in printed
    content = read_json(out)
    assert content["comparable"] and content["difference"]["how"] == "paired by sample"
    assert main(["compare", str(good), str(among_all)]) == 3
    printed = capsys.readouterr().out
    assert "!! candidates" in printed and printed.rstrip().endswith("Not comparable.")
    back = ["--direction", "image_to_brain", "--metric", "pairwise"]
    assert main(["compare", str(good), str(worse), *back]) == 0
    assert "pairwise, image to brain" in capsys.readouterr().out
    papers = [str(PUBLISHED / f"{name}.json") for name in ("mindeye1-nsd-40h", "mindeye2-nsd-40h")]
    assert main(["compare", *papers]) == 3
    assert "seed" not in capsys.readouterr().out


def test_ranks_that_are_gone_or_of_another_result_pair_nothing(
    results, good, worse, tmp_path, capsys
):
    moved = tmp_path / "moved.json"
    shutil.copy(worse, moved)
    assert main(["compare", str(good), str(moved)]) == 0
    printed = capsys.readouterr().out
    assert "two samples" in printed and "its ranks are not there" in printed
    content = read_json(worse)
    content["origin"]["files"]["retrieval"] = str(results.path("good-test-retrieval"))
    stale = tmp_path / "stale.json"
    stale.write_text(json.dumps(content))
    assert main(["compare", str(good), str(stale)]) == 0
    printed = capsys.readouterr().out
    assert "is of another result than the card" in printed and "two samples" in printed


def test_bad_cards_are_all_named_in_one_message(good, tmp_path, capsys):
    cut, lacking = tmp_path / "cut.json", tmp_path / "lacking.json"
    cut.write_text(good.read_text()[:300])
    content = read_json(good)
    del content["data"], content["encoder"]
    lacking.write_text(json.dumps(content))
    assert main(["compare", str(cut), str(lacking)]) == 1
    message = capsys.readouterr().err
    assert "2 problems" in message and "cut.json: is not valid JSON" in message
    assert "'data' is missing" in message and "'encoder' is missing" in message
    assert "Traceback" not in message


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["CARD", "CARD", "--decoder", "x.h5"], "not both at once"),
        (["CARD", "CARD", "--metrics", "x.json"], "not both at once"),
        (["CARD"], "got 1 cards, expected two"),
        (["CARD", "CARD", "CARD"], "got 3 cards"),
        ([], "give two result cards, or --decoder, --metrics and --out"),
        (["--decoder", "x.h5", "--out", "x.tsv"], "give two result cards"),
        (
            ["--decoder", "x", "--metrics", "x", "--out", "x", "--metric", "top_1"],
            "choose a score of two cards",
        ),
        (["CARD", "CARD", "--metric", "top_99"], "no score top_99"),
        (["CARD", "CARD", "--direction", "forward"], "no score top_1, forward"),
    ],
)
def test_cards_and_the_table_of_decoders_do_not_mix(good, arguments, words, capsys):
    given = [str(good) if word == "CARD" else word for word in arguments]
    assert main(["compare", *given]) == 1
    message = capsys.readouterr().err
    assert message.startswith("error: ") and words in message
