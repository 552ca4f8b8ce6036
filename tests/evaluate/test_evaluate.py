"""The stage: complete rows, right numbers, honest notes, repeatable."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from braindecode_clip import metrics
from braindecode_clip.config.evaluate import EvaluateConfig
from braindecode_clip.errors import DataError
from braindecode_clip.evaluate import Evaluation, evaluate, identification
from braindecode_clip.evaluate.pools import pool_sizes
from braindecode_clip.retrieve import gallery_ids, retrieve

FAST = EvaluateConfig(n_bootstrap=400, n_permutations=499, n_permutations_dims=199, pool_sizes=6)
IDENTIFYING = {"subject", "roi", "split", "encoder", "decoder", "gallery", "direction"}
STATISTICS = {"value", "chance", "null_mean", "ci_low", "ci_high", "p", "n", "n_permutations"}


def run(case: object, seed: int = 0, **changes: object) -> Evaluation:
    options = FAST.model_copy(update=changes)
    rng = np.random.default_rng(seed)
    return evaluate(case.both, case.predictions, case.embeddings, rng=rng, options=options)


def table(result: Evaluation, direction: str) -> pd.DataFrame:
    rows = pd.DataFrame(result.rows)
    return rows[rows["direction"] == direction].set_index("metric")


def test_every_row_says_all_and_is_json(make_case: Callable) -> None:
    result = run(make_case(12, signal=0.7))
    text = json.dumps([result.rows, result.pool_curve, result.notes], allow_nan=False)
    assert "NaN" not in text
    for row in result.rows:
        assert row.keys() >= IDENTIFYING | STATISTICS | {"definition", "ceiling", "resampled"}
        assert row["ci_low"] <= row["value"] <= row["ci_high"]
        assert 0 < row["p"] <= 1
        assert row["ceiling"] is None
        assert row["protocol"] == "gallery"
        assert row["definition"].endswith(".")
        assert (row["n"], row["n_resampled"], row["resampled"]) == (12, 12, "stimuli")
        assert [row[key] for key in ("subject", "decoder", "gallery")] == ["01", "ridge", "test"]
    names = ["top_1", "top_5", "top_10", "pairwise", "mean_rank", "median_rank"]
    for direction in ("brain_to_image", "image_to_brain"):
        found = list(table(result, direction).index)
        assert found == [*names, "mean_reciprocal_rank", "percentile_rank"]
    assert list(table(result, "none").index) == [
        "correlation_mean",
        "correlation_median",
        "r2_mean",
        "r2_median",
    ]


def test_values_are_those_of_the_public_calls(make_case: Callable) -> None:
    case = make_case(13, signal=0.7, n_embedded=20, candidates="all")
    found = table(run(case), "brain_to_image")
    truth = case.embeddings.rows(case.predictions.stimulus_id)
    direct = identification(case.predictions.vectors, case.embeddings.vectors, truth)
    assert found.loc["top_1", "value"] == direct.top_k(1)
    assert found.loc["top_10", "value"] == direct.top_k(10)
    assert found.loc["top_5", "chance"] == direct.chance_top_k(5) == 0.25
    assert found.loc["pairwise", "value"] == pytest.approx(direct.pairwise)
    assert found.loc["mean_rank", "value"] == pytest.approx(direct.mean_rank)
    assert found.loc["mean_rank", "chance"] == 10.5
    assert found.loc["median_rank", "value"] == direct.median_rank
    assert found.loc["mean_reciprocal_rank", "value"] == pytest.approx(direct.mean_reciprocal_rank)
    assert found.loc["percentile_rank", "value"] == pytest.approx(direct.percentile_rank)
    assert set(found["n_gallery"]) == {20}
    targets = case.embeddings.vectors[truth]
    dims = table(run(case), "none")
    r = metrics.correlation(case.predictions.vectors, targets)
    r2 = metrics.r_squared(case.predictions.vectors, targets)
    assert dims.loc["correlation_mean", "value"] == pytest.approx(r.mean())
    assert dims.loc["r2_median", "value"] == pytest.approx(np.median(r2))


def test_r2_against_the_mean_of_the_training_targets(make_case: Callable) -> None:
    case = make_case(10, n_embedded=30, signal=0.7)
    row = table(run(case, r2_baseline="train_mean"), "none").loc["r2_mean"]
    targets = case.embeddings.vectors[case.embeddings.rows(case.predictions.stimulus_id)]
    baseline = case.embeddings.vectors[10:].mean(axis=0)
    expected = metrics.r_squared(case.predictions.vectors, targets, baseline=baseline).mean()
    assert row["value"] == pytest.approx(expected, rel=1e-5)
    assert "mean of the training targets" in row["definition"]


@pytest.mark.parametrize("design", [{"n_stimuli": 30}, {"n_stimuli": 7, "runs": 12}])
def test_perfect_predictions(make_case: Callable, design: dict) -> None:
    case = make_case(**design, signal=50.0)
    result = run(case)
    for direction in ("brain_to_image", "image_to_brain"):
        found = table(result, direction)
        assert found.loc["top_1", "value"] == found.loc["pairwise", "value"] == 1.0
        assert found.loc["mean_rank", "value"] == found.loc["median_rank", "value"] == 1.0
        assert (found["p"] <= 2 / 500).all()
        assert set(found["ci_method"]) == {"wilson"}
        width = (found["ci_high"] - found["ci_low"]).drop("median_rank")
        assert (width > 0.01).all()
        assert found.loc["top_1", "ci_low"] > found.loc["top_1", "chance"]


@pytest.mark.parametrize("design", [{"n_stimuli": 40}, {"n_stimuli": 7, "runs": 10}])
def test_noise_is_not_significant(make_case: Callable, design: dict) -> None:
    smallest = [
        min(row["p"] for row in run(make_case(**design, signal=0.0, seed=seed)).rows)
        for seed in range(4)
    ]
    # The least of 18 related p-values, four times.
    assert np.median(smallest) > 0.01


def test_the_same_seed_gives_the_same_and_directions_have_their_own_streams(
    make_case: Callable,
) -> None:
    case = make_case(12, signal=0.5)
    first, again, other = run(case), run(case), run(case, seed=1)
    assert first == again
    assert first.rows != other.rows
    only = evaluate(
        [case.back],
        case.predictions,
        case.embeddings,
        rng=np.random.default_rng(0),
        options=FAST,
    )
    assert table(only, "image_to_brain").equals(table(first, "image_to_brain"))
    assert table(only, "none").equals(table(first, "none"))


def test_only_top_k_below_the_size_of_the_gallery(make_case: Callable) -> None:
    found = run(make_case(5, signal=0.5))
    for direction in ("brain_to_image", "image_to_brain"):
        assert [n for n in table(found, direction).index if n.startswith("top")] == ["top_1"]
    found = table(run(make_case(5, signal=0.5), top_k=(2, 4)), "brain_to_image")
    assert [n for n in found.index if n.startswith("top")] == ["top_2", "top_4"]


def test_the_smallest_study_there_can_be(make_case: Callable) -> None:
    result = run(make_case(2, signal=0.5))
    assert [row["metric"] for row in result.rows[:2]] == ["top_1", "pairwise"]
    assert json.dumps(result.rows, allow_nan=False)
    assert min(row["p"] for row in result.rows) >= 0.4


def test_the_pool_curve_ends_at_the_whole_gallery(make_case: Callable) -> None:
    case = make_case(20, signal=0.7)
    result = run(case)
    curve = pd.DataFrame(result.pool_curve)
    assert (curve["chance"] == curve["k"] / curve["pool_size"]).all()
    assert (curve["ci_low"] <= curve["value"]).all()
    assert (curve["value"] <= curve["ci_high"]).all()
    for (direction, metric), part in curve.groupby(["direction", "metric"]):
        assert part["pool_size"].is_monotonic_increasing
        assert (part["value"].diff().dropna() <= 1e-12).all()
        last = part.iloc[-1]
        assert last["pool_size"] == 20
        whole = table(result, direction).loc[metric]
        assert last["value"] == pytest.approx(whole["value"], abs=1e-12)
    pairs = curve[(curve["k"] == 1) & (curve["pool_size"] == 2)].set_index("direction")["value"]
    assert pairs["brain_to_image"] == pytest.approx(
        table(result, "brain_to_image").loc["pairwise", "value"]
    )


def test_pool_sizes() -> None:
    assert pool_sizes(2, 24).tolist() == [2]
    assert pool_sizes(7, 24).tolist() == [2, 3, 4, 5, 6, 7]
    sizes = pool_sizes(1000, 24)
    assert (sizes[0], sizes[-1]) == (2, 1000)
    assert 20 <= len(sizes) <= 24


def test_runs_are_drawn_where_runs_are_held_out(make_case: Callable) -> None:
    result = run(make_case(4, runs=6, signal=0.7))
    row = result.rows[0]
    assert (row["n"], row["n_resampled"], row["resampled"]) == (24, 6, "runs")
    assert row["permuted"] == "labels within each run"
    assert any("nothing about new ones" in note for note in result.notes)
    assert any("rest on 6 runs and are rough" in note for note in result.notes)


def test_held_out_stimuli_of_several_decoders_are_noted(make_case: Callable) -> None:
    case = make_case(12)
    folds = np.array([f"fold-{i}" for i in range(12)])
    result = run(replace(case, predictions=replace(case.predictions, fold=folds)))
    (note,) = (note for note in result.notes if "p is approximate" in note)
    assert "12 decoders" in note
    assert not any("p is approximate" in note for note in run(case).notes)


def test_one_run_has_no_interval_and_one_stimulus_a_run_no_p(make_case: Callable) -> None:
    result = run(make_case(6, runs=1, signal=0.5))
    assert all(row["ci_low"] is None and row["ci_method"] == "none" for row in result.rows)
    assert all(row["p"] is not None for row in result.rows)
    case = make_case(6, runs=1, signal=0.5)
    lone = replace(case.predictions, group=np.array([f"run-{i}" for i in range(6)]))
    result = run(replace(case, predictions=lone))
    assert all(row["p"] is None and row["n_permutations"] == 0 for row in result.rows)
    assert any("cannot be exchanged" in note for note in result.notes)


def test_a_preference_for_the_test_stimuli_is_not_taken_for_decoding(make_case: Callable) -> None:
    # Predictions that ignore the brain but sit amid the stimuli shown: far above k / n_gallery.
    case = make_case(5, runs=6, signal=0.0, n_embedded=200, candidates="all", n_dims=30)
    middle = case.embeddings.vectors[:5].sum(axis=0)
    vectors = case.predictions.vectors * 0.1 + middle
    biased = replace(case.predictions, vectors=vectors.astype(np.float32))
    again = make_case_of(biased, case.embeddings)
    result = run(again)
    row = table(result, "brain_to_image").loc["pairwise"]
    assert row["value"] > 0.9
    assert row["null_mean"] > 0.9
    assert row["p"] > 0.01
    assert any("Compare the scores with null_mean" in note for note in result.notes)


def make_case_of(predictions: object, embeddings: object) -> object:
    ids = gallery_ids(predictions, embeddings, candidates="all")
    return SimpleNamespace(
        predictions=predictions,
        embeddings=embeddings,
        both=[retrieve(predictions, embeddings, ids)],
    )


def test_identical_candidates_are_noted(make_case: Callable) -> None:
    case = make_case(8, signal=0.5)
    vectors = case.embeddings.vectors.copy()
    vectors[3] = vectors[5]
    again = make_case_of(case.predictions, replace(case.embeddings, vectors=vectors))
    result = run(again)
    assert any("2 candidates have the same vector" in note for note in result.notes)


def test_what_does_not_belong_together_is_refused(make_case: Callable) -> None:
    case = make_case(8)
    other = replace(case.embeddings, fingerprint={"model": "other"})
    reordered = replace(case.predictions, stimulus_id=case.predictions.stimulus_id[::-1].copy())
    short = replace(case.embeddings, vectors=case.embeddings.vectors[:, :1] * 0 + 1)
    for change, words in [
        ({"embeddings": other}, "model: 'tiny' != 'other'"),
        ({"predictions": reordered}, "other queries"),
        ({"embeddings": short}, "6 dimensions, the embeddings 1"),
    ]:
        with pytest.raises(DataError, match=words):
            run(replace(case, **change))


def test_protocols_stand_beside_the_plain_gallery_of_the_test_alone(make_case: Callable) -> None:
    case = make_case(12, signal=0.7)
    result = run(case)
    assert {row["protocol"] for row in result.protocols} == {
        "full-pool",
        "kamitani-pairwise",
        "brainflora-kway",
    }
    json.dumps([result.protocols, result.items], allow_nan=False)
    own = {row["metric"]: row for row in result.rows if row["direction"] == "brain_to_image"}
    for row in result.protocols:
        assert row.keys() >= (IDENTIFYING | STATISTICS) - {"null_mean"}
        assert row["ci_low"] <= row["value"] <= row["ci_high"]
        assert 0 < row["p"] <= 1
        if row["protocol"] == "full-pool" and row["direction"] == "brain_to_image":
            twin = own[row["metric"].removesuffix("_cosine")]
            assert row["value"] == pytest.approx(twin["value"])
            assert row["n"] == twin["n"]
    assert any("mindeye-300" in note for note in result.notes)
    assert not run(make_case(12, n_embedded=20, candidates="all")).protocols
    for key in ("correction", "rerank"):
        changed = replace(case.forth, info={**case.forth.info, key: "x"})
        if key == "correction":
            other = replace(case, forth=changed)
            assert not run(other).protocols
    assert not run(case, protocols=()).protocols
