"""Permutations move labels as the design allows; the null scores are what loops give."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from braindecode_clip.artifacts import Retrieval
from braindecode_clip.errors import DataError
from braindecode_clip.evaluate.permutation import (
    can_permute,
    null_histogram,
    null_scores,
    p_value,
    permuted_labels,
    rank_table,
)
from braindecode_clip.evaluate.scores import identification_scores
from braindecode_clip.metrics import rank_matrix

#: Data sets without information, for the rate of false alarms.
N_NULLS = 120

DESIGNS = {
    "one each": {"n_stimuli": 9},
    "repeats": {"n_stimuli": 6, "repeats": (3,) * 6},
    "unequal repeats": {"n_stimuli": 5, "repeats": (1, 3, 2, 1, 4)},
    "runs": {"n_stimuli": 4, "runs": 5},
    "all candidates": {"n_stimuli": 5, "n_embedded": 14, "candidates": "all"},
}


def draw(
    labels: np.ndarray,
    groups: np.ndarray,
    unit: str,
    n: int,
    seed: int = 0,
    strata: np.ndarray | None = None,
) -> np.ndarray:
    rng = np.random.default_rng(seed)
    chunks = permuted_labels(
        labels, groups, unit=unit, n_permutations=n, rng=rng, chunk=7, strata=strata
    )
    return np.concatenate(list(chunks))


def all_alike(labels: np.ndarray) -> np.ndarray:
    return np.zeros(labels.max() + 1, dtype=int)


def test_repeats_of_a_stimulus_move_together() -> None:
    labels = np.array([2, 0, 1, 0, 2, 3, 0])
    found = draw(labels, np.array(list("abcabca")), "stimulus", 200, strata=all_alike(labels))
    assert found.shape == (200, 7)
    for row in found:
        assert len(set(zip(labels.tolist(), row.tolist(), strict=True))) == 4
        assert len(set(row.tolist())) == 4
    assert len({tuple(row) for row in found}) == 24


def test_stimuli_move_within_their_stratum() -> None:
    labels = np.array([2, 0, 1, 0, 2, 3, 0, 4])
    found = draw(labels, labels, "stimulus", 100)
    # By default those with as many samples: 1, 3 and 4 have one, 2 two, 0 three.
    assert (found[:, [0, 1, 3, 4, 6]] == labels[[0, 1, 3, 4, 6]]).all()
    assert len({tuple(row) for row in found}) == 6
    chosen = draw(labels, labels, "stimulus", 100, strata=np.array([0, 1, 0, 1, 1]))
    assert {tuple(sorted(set(row[labels == 0]) | set(row[labels == 2]))) for row in chosen} == {
        (0, 2)
    }
    assert len({tuple(row) for row in chosen}) == 12


def test_labels_stay_within_their_run() -> None:
    labels = np.array([0, 1, 2, 2, 1, 0, 1, 1, 0])
    groups = np.array(list("abcabcaba"))
    found = draw(labels, groups, "run", 300)
    for group in "abc":
        of_run = np.flatnonzero(groups == group)
        for row in found:
            assert sorted(row[of_run]) == sorted(labels[of_run])
    # Run a has 0, 2, 1, 0 (12 arrangements), run b 1, 1, 1 (1), run c 2, 0 (2).
    assert len({tuple(row) for row in found}) == 24


@pytest.mark.parametrize("unit", ["stimulus", "run"])
def test_all_arrangements_are_equally_likely(unit: str) -> None:
    found = draw(np.arange(3), np.zeros(3), unit, 1200)
    _, counts = np.unique(found, axis=0, return_counts=True)
    assert len(counts) == 6
    assert stats.chisquare(counts).pvalue > 1e-3


def test_when_there_is_nothing_to_permute() -> None:
    assert can_permute(np.array([0, 1]), np.array(["a", "b"]), "stimulus")
    assert not can_permute(np.array([0, 0]), np.array(["a", "b"]), "stimulus")
    assert not can_permute(np.array([0, 0, 1]), np.array(["a", "b", "b"]), "stimulus")
    alike = np.zeros(2, dtype=int)
    assert can_permute(np.array([0, 0, 1]), np.array(list("abb")), "stimulus", strata=alike)
    assert not can_permute(np.array([0, 1]), np.array(["a", "b"]), "run")
    assert not can_permute(np.array([0, 0, 1]), np.array(["a", "a", "b"]), "run")
    assert can_permute(np.array([0, 1, 1]), np.array(["a", "a", "b"]), "run")


def literal_ranks(retrieval: Retrieval, labels: np.ndarray, stimuli: np.ndarray) -> list[list]:
    """Rank anew under other labels, from the table of pictures by samples."""
    names = stimuli[labels]
    found = []
    for i in range(len(labels)):
        if retrieval.direction == "brain_to_image":
            row = retrieval.similarity[i]
            ids = retrieval.gallery_ids
            true = row[np.flatnonzero(ids == names[i])[0]]
            others = row[ids != names[i]]
        else:
            shown = retrieval.queries["stimulus_id"].to_numpy()
            row = retrieval.similarity[np.flatnonzero(shown == names[i])[0]]
            true, others = row[i], row[names != names[i]]
        rank = 1 + (others > true).sum() + 0.5 * (others == true).sum()
        found.append([float(rank), len(others)])
    return found


@pytest.mark.parametrize("direction", ["forth", "back"])
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("name", DESIGNS)
def test_ranks_under_other_labels_are_ranked_anew(
    make_case: Callable, name: str, direction: str, ties: bool
) -> None:
    case = make_case(**DESIGNS[name], signal=0.5)
    retrieval = getattr(case, direction)
    unit, groups = case.predictions.unit, case.predictions.group
    if ties:
        retrieval = with_coarse_similarities(retrieval)
    table = rank_table(retrieval, unit)
    labels = draw(table.labels, groups, unit, 15, strata=all_alike(table.labels))
    rank, others = table.under(labels)
    others = np.broadcast_to(others, rank.shape)
    for b, row in enumerate(labels):
        expected = literal_ranks(retrieval, row, table.stimuli)
        assert np.stack([rank[b], others[b]], axis=1).tolist() == expected


def with_coarse_similarities(retrieval: Retrieval) -> Retrieval:
    coarse = np.round(retrieval.similarity * 2).astype(np.float32) / 2
    draft = replace(retrieval, similarity=coarse)
    stimuli, labels = np.unique(retrieval.queries["stimulus_id"], return_inverse=True)
    ranks = [rank for rank, _ in literal_ranks(draft, labels, stimuli)]
    return replace(draft, queries=retrieval.queries.assign(rank=ranks))


def test_ranks_that_their_similarities_do_not_give_are_refused(make_case: Callable) -> None:
    case = make_case(9)
    wrong = case.forth.queries.assign(rank=case.forth.queries["rank"] + np.eye(9)[2])
    with pytest.raises(DataError, match="ranks of 1 queries differ"):
        rank_table(replace(case.forth, queries=wrong), "stimulus")


@pytest.mark.parametrize("direction", ["forth", "back"])
def test_null_of_pairwise_has_hoeffdings_moments(make_case: Callable, direction: str) -> None:
    # Hoeffding (1951): the mean and the variance of a sum over a random permutation.
    case = make_case(25, signal=1.0, seed=3)
    retrieval = getattr(case, direction)
    table = rank_table(retrieval, "stimulus")
    scores = identification_scores((1,), np.full(25, 24.0))
    null = null_scores(
        table,
        scores,
        case.predictions.group,
        unit="stimulus",
        n_permutations=20000,
        rng=np.random.default_rng(0),
    )
    beaten = 1 - (rank_matrix(retrieval.similarity).astype(float) - 1) / 24
    centred = beaten - beaten.mean(0) - beaten.mean(1, keepdims=True) + beaten.mean()
    sd = np.sqrt((centred**2).sum() / 24) / 25
    pairwise = null[:, [score.name for score in scores].index("pairwise")]
    assert abs(pairwise.mean() - beaten.mean()) < 4 * sd / np.sqrt(20000)
    assert pairwise.std() == pytest.approx(sd, rel=0.03)


def test_null_scores_are_the_scores_of_permuted_ranks(make_case: Callable) -> None:
    case = make_case(n_stimuli=5, repeats=(1, 3, 2, 1, 4))
    table = rank_table(case.back, "stimulus")
    scores = identification_scores((1, 2, 5), np.array([10.0]))
    assert [s.name for s in scores][:3] == ["top_1", "top_2", "top_5"]
    null = null_scores(
        table,
        scores,
        case.predictions.group,
        unit="stimulus",
        n_permutations=40,
        rng=np.random.default_rng(0),
    )
    labels = draw(table.labels, case.predictions.group, "stimulus", 40)
    for row, found in zip(labels, null, strict=True):
        rank, others = np.array(literal_ranks(case.back, row, table.stimuli)).T
        expected = [
            np.mean(rank <= 1),
            np.mean(rank <= 2),
            np.mean(rank <= 5),
            np.mean((others - rank + 1) / others),
            rank.mean(),
            np.median(rank),
            np.mean(1 / rank),
            np.mean((others + 1 - rank + 0.5) / (others + 1)),
        ]
        np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("n", [30, 5000])
def test_histogram_holds_every_permutation(n: int) -> None:
    rng = np.random.default_rng(n)
    null = rng.integers(0, 9, n) / 60 if n == 30 else rng.standard_normal(n)
    found = null_histogram(0.7, null)
    assert sum(found["counts"]) == n
    assert len(found["centres"]) == len(found["counts"]) <= 40
    assert found["null_mean"] == pytest.approx(null.mean())
    assert found["null_high"] == pytest.approx(np.quantile(null, 0.95))
    width = 0 if n == 30 else np.ptp(null) / 40
    for centre, count in zip(found["centres"], found["counts"], strict=True):
        near = np.abs(null - centre) <= width / 2 + 1e-9
        assert near.sum() == count


def test_p_counts_ties_and_the_identity() -> None:
    null = np.array([0.1, 0.2, 0.3, 0.3, 0.5])
    assert p_value(0.3, null) == pytest.approx(4 / 6)
    assert p_value(0.3 + 1e-15, null) == pytest.approx(4 / 6)
    assert p_value(0.6, null) == pytest.approx(1 / 6)
    assert p_value(0.0, null) == 1.0
    assert p_value(0.3, null, sign=-1) == pytest.approx(5 / 6)


@pytest.mark.parametrize(
    ("design", "direction"),
    [
        ({"n_stimuli": 20}, "forth"),
        ({"n_stimuli": 8, "repeats": (1, 2, 3, 1, 2, 3, 1, 2)}, "forth"),
        ({"n_stimuli": 8, "repeats": (1, 2, 3, 1, 2, 3, 1, 2)}, "back"),
        ({"n_stimuli": 5, "runs": 4}, "forth"),
        ({"n_stimuli": 5, "runs": 4}, "back"),
    ],
)
def test_without_information_p_is_uniform(
    make_case: Callable, design: dict, direction: str
) -> None:
    rng = np.random.default_rng(1)
    found = []
    for seed in range(N_NULLS):
        case = make_case(**design, signal=0.0, seed=seed)
        retrieval = getattr(case, direction)
        table = rank_table(retrieval, case.predictions.unit)
        rank, others = (
            np.broadcast_to(part, (1, len(table.labels)))[0]
            for part in table.under(table.labels[None])
        )
        scores = identification_scores((2,), others)
        null = null_scores(
            table,
            scores,
            case.predictions.group,
            unit=case.predictions.unit,
            n_permutations=99,
            rng=rng,
        )
        found.append(
            [
                p_value(float(s.value(rank, others)), null[:, j], sign=s.sign)
                for j, s in enumerate(scores)
            ]
        )
    p = np.array(found)
    names = [score.name for score in scores]
    for level in (0.05, 0.2, 0.5):
        # Never too many small p, whatever the score; discrete scores give fewer.
        for column in range(p.shape[1]):
            n_small = int((p[:, column] <= level).sum())
            assert stats.binom.sf(n_small - 1, N_NULLS, level) > 1e-4, (names[column], level)
        n_small = int((p[:, names.index("pairwise")] <= level).sum())
        assert stats.binom.cdf(n_small, N_NULLS, level) > 1e-4, level
