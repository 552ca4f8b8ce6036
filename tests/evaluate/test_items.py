"""Scores of pictures and of categories against a literal count."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import numpy as np
import pandas as pd
import pytest

from braindecode_clip.config.evaluate import EvaluateConfig
from braindecode_clip.evaluate import evaluate, items
from braindecode_clip.evaluate.items import as_categories

FAST = EvaluateConfig(n_bootstrap=200, n_permutations=99, n_permutations_dims=99, protocols=())


def table(case: object, categories: dict[str, str] | None = None) -> pd.DataFrame:
    result = evaluate(
        case.both,
        case.predictions,
        case.embeddings,
        rng=np.random.default_rng(0),
        options=FAST,
        categories=categories,
    )
    return pd.DataFrame(result.items)


def literal(case: object, retrieval: object, pool: int) -> dict[str, dict[str, float]]:
    """Rank, percentile rank, pairwise, top-1, top-5 and expected top-1, a loop over all."""
    found: dict[str, list[tuple[float, ...]]] = {}
    shown = case.predictions.stimulus_id
    for query in range(len(shown)):
        true = retrieval.true_index[query]
        others = [
            j for j, name in enumerate(retrieval.gallery_ids) if name != shown[query] and j != true
        ]
        values = retrieval.similarity[query]
        rank = 1 + sum(
            0.5 * (values[j] == values[true]) + (values[j] > values[true]) for j in others
        )
        keeping = [values[j] >= values[true] for j in others]
        hits = [not any(own) for own in combinations(keeping, pool - 1)]
        size = len(others) + 1
        scores = (
            rank,
            (size - rank + 0.5) / size,
            1 - (rank - 1) / len(others),
            float(rank <= 1),
            float(rank <= 5),
            np.mean(hits),
        )
        found.setdefault(str(shown[query]), []).append(scores)
    names = ("rank", "percentile_rank", "pairwise", "top_1", "top_5", "expected_top_1")
    return {
        name: dict(zip(names, np.mean(rows, axis=0), strict=True)) | {"n": len(rows)}
        for name, rows in found.items()
    }


def test_pictures_with_unequal_repeats(
    make_case: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(items, "POOL", 4)
    case = make_case(8, repeats=(1, 2, 3, 1, 1, 2, 1, 1), signal=0.6)
    case.predictions.n_repeats[:] = np.arange(1, 13)
    for retrieval in case.both:
        retrieval.queries["n_repeats"] = case.predictions.n_repeats
    rows = table(case)
    assert set(rows["level"]) == {"picture"}
    for retrieval in case.both:
        part = rows[rows["direction"] == retrieval.direction].set_index("name")
        expected = literal(case, retrieval, 4)
        assert sorted(part.index) == sorted(expected)
        for name, scores in expected.items():
            for column, value in scores.items():
                np.testing.assert_allclose(part.loc[name, column], value, rtol=1e-12)
        assert part["n_repeats"].sum() == np.arange(1, 13).sum()
        assert (part["pool_size"] == 4).all()
        assert (part["chance_expected_top_1"] == 0.25).all()


def test_categories_are_means_over_their_samples(make_case: Callable) -> None:
    case = make_case(12, signal=0.6)
    of = {name: f"c{i % 3}" for i, name in enumerate(sorted(set(case.predictions.stimulus_id)))}
    del of["stim-011"]
    rows = table(case, of)
    forth = rows[rows["direction"] == "brain_to_image"]
    pictures = forth[forth["level"] == "picture"]
    categories = forth[forth["level"] == "category"].set_index("name")
    assert list(categories["n"]) == [4, 4, 3]
    for name, row in categories.iterrows():
        own = pictures[pictures["category"] == name]
        np.testing.assert_allclose(row["pairwise"], own["pairwise"].mean())
        np.testing.assert_allclose(row["rank"], own["rank"].mean())
        assert row["pairwise_ci_low"] <= row["pairwise"] <= row["pairwise_ci_high"]
    assert pictures.set_index("name").loc["stim-011", "category"] == ""
    assert pictures["pairwise_ci_low"].isna().all()


def test_stimuli_of_held_out_runs_are_categories(make_case: Callable) -> None:
    case = make_case(7, runs=4, signal=0.6)
    rows = table(case)
    categories = rows[(rows["level"] == "category") & (rows["direction"] == "brain_to_image")]
    assert list(categories["n"]) == [4] * 7
    assert categories["pairwise_ci_low"].notna().all()
    assert (categories["n_gallery"] == 7).all()


def test_missing_categories_are_left_out() -> None:
    names = ["a", "b", "c", "d"]
    assert as_categories(names, ["x", "", float("nan"), None]) == {"a": "x"}
