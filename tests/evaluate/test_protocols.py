"""Every protocol against a slow, literal re-statement, on random and on adversarial inputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations, permutations

import numpy as np
import pytest

from braindecode_clip.artifacts import Embeddings, Predictions, TokenRows
from braindecode_clip.config.evaluate import EvaluateConfig
from braindecode_clip.errors import DataError
from braindecode_clip.evaluate.protocols import Replay, Replayed, presets, replay_protocols

KINDS = ("random", "ties", "duplicates", "constant", "repeats")
FAST = {"n_bootstrap": 200, "n_permutations": 199}


def make_test(kind: str, n: int = 9, n_dims: int = 5, seed: int = 0) -> Replayed:
    rng = np.random.default_rng(seed)
    targets = rng.standard_normal((n + 3, n_dims))
    shown = rng.permutation(n)
    if kind == "repeats":
        shown = np.concatenate([shown, shown[:4], shown[:2], shown[:1]])
    if kind == "ties":
        targets = rng.integers(-1, 2, (n + 3, n_dims)).astype(float)
        targets[:, 0] = rng.choice([-2.0, 2.0], n + 3)
    if kind == "duplicates":
        targets[3], targets[5] = targets[0], targets[1]
    noise = rng.standard_normal((len(shown), n_dims))
    predicted = targets[shown] + 0.9 * noise
    if kind == "ties":
        predicted = targets[shown[::-1]] * rng.choice([1.0, 3.0], (len(shown), 1))
    if kind == "constant":
        predicted[:] = predicted[0]
    ids = np.array([f"p{i:02d}" for i in range(n + 3)])
    targets /= np.linalg.norm(targets, axis=1, keepdims=True)
    predictions = Predictions(
        vectors=predicted.astype(np.float32),
        stimulus_id=ids[shown],
        group=np.full(len(shown), "1"),
        fold=np.full(len(shown), "all"),
        n_repeats=rng.integers(1, 4, len(shown)),
        train_ids=ids[n:],
        unit="stimulus",
        fingerprint={"model": "x"},
        info={},
    )
    categories = {name: f"c{i % 4}" for i, name in enumerate(ids[:n])}
    categories |= {ids[n]: "d0", ids[n + 1]: "d1", ids[n + 2]: "d1"}
    return Replayed(
        predictions,
        Embeddings(ids, targets.astype(np.float32), "image", {"model": "x"}),
        categories,
    )


def replay(test: Replayed, *names: str, seed: int = 0, **changes: object) -> Replay:
    options = EvaluateConfig(protocols=names, **{**FAST, **changes})
    rng = np.random.default_rng(seed)
    return replay_protocols(test, rng=rng, options=options, labels={"subject": "01"})


def by(found: Replay, direction: str = "brain_to_image") -> dict[tuple[str, int], dict]:
    rows = [row for row in found.rows if row["direction"] == direction]
    return {(row["metric"], row["n_gallery"]): row for row in rows}


# The literal side: plain loops over plain vectors, nothing of the package.


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


def pearson(a: np.ndarray, b: np.ndarray) -> float:
    return cosine(a - a.mean(), b - b.mean())


def weighted_mean_by(names: list[str], vectors: np.ndarray, weights: list[int]) -> dict:
    found = {}
    for name in sorted(set(names)):
        rows = [i for i, other in enumerate(names) if other == name]
        total = sum(weights[i] * vectors[i].astype(float) for i in rows)
        found[name] = total / sum(weights[i] for i in rows)
    return found


def picture_table(test: Replayed, alike: Callable, direction: str) -> list[list[float]]:
    p, e = test.predictions, test.embeddings
    predicted = weighted_mean_by(list(p.stimulus_id), p.vectors, list(p.n_repeats))
    target = {name: e.vectors[list(e.ids).index(name)].astype(float) for name in predicted}
    if direction == "brain_to_image":
        return [[alike(predicted[a], target[b]) for b in predicted] for a in predicted]
    return [[alike(target[a], predicted[b]) for b in predicted] for a in predicted]


def rank_in(row: list[float], true: int, pool: tuple[int, ...]) -> float:
    rank = 1.0
    for j in pool:
        if j != true and abs(row[j] - row[true]) <= 2e-7:
            rank += 0.5
        elif j != true and row[j] > row[true]:
            rank += 1
    return rank


DIRECTIONS = ("brain_to_image", "image_to_brain")


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_mindeye_is_the_mean_and_sd_over_all_joint_pools(
    kind: str, direction: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presets, "POOL", 4)
    test = make_test(kind)
    table = picture_table(test, cosine, direction)
    draws = [
        np.mean([rank_in(table[i], i, pool) <= 1 for i in pool])
        for pool in combinations(range(len(table)), 4)
    ]
    row = by(replay(test, "mindeye-300"), direction)["top_1", 4]
    np.testing.assert_allclose(row["value"], np.mean(draws), rtol=1e-12, atol=1e-14)
    assert row["expectation"] == row["value"]
    np.testing.assert_allclose(row["sd_of_a_draw"], np.std(draws), rtol=1e-9, atol=1e-8)
    assert min(draws) <= row["value_of_draws"] <= max(draws)
    assert abs(row["value_of_draws"] - row["value"]) <= 5 * np.std(draws) / np.sqrt(30) + 1e-12
    assert (row["n_draws"], row["chance"], row["n"]) == (30, 0.25, 9)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_pools_of_each_query_are_enumerated(
    kind: str, direction: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presets, "POOL", 4)
    monkeypatch.setattr(presets, "WAYS", (2, 3, 7))
    monkeypatch.setattr(presets, "FIRST_WAY_OF_TOP_5", 7)
    test = make_test(kind)
    table = picture_table(test, cosine, direction)
    lite = by(replay(test, "lite-mind-300"), direction)
    kway = by(replay(test, "brainflora-kway"), direction)
    assert set(kway) == {("top_1", 2), ("top_1", 3), ("top_1", 7), ("top_5", 7)}
    for rows in (lite, kway):
        for (metric, size), row in rows.items():
            k = int(metric.removeprefix("top_"))
            hits = []
            for i in range(len(table)):
                others = [j for j in range(len(table)) if j != i]
                pools = combinations(others, size - 1)
                hits.append(np.mean([rank_in(table[i], i, (*p, i)) <= k for p in pools]))
            np.testing.assert_allclose(row["value"], np.mean(hits), rtol=1e-12, atol=1e-14)
            spread = np.sqrt(sum(h * (1 - h) for h in hits)) / len(hits)
            np.testing.assert_allclose(row["sd_of_a_draw"], spread, rtol=1e-7, atol=1e-8)
            np.testing.assert_allclose(row["chance"], k / size)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_full_pool_and_pairwise_to_the_last_rank(kind: str, direction: str) -> None:
    test = make_test(kind)
    found = by(replay(test, "full-pool", "kamitani-pairwise", top_k=(1, 2, 5)), direction)
    assert len(found) == 5
    for alike, name in ((cosine, "cosine"), (pearson, "correlation")):
        table = picture_table(test, alike, direction)
        ranks = [rank_in(row, i, tuple(range(9))) for i, row in enumerate(table)]
        wins = np.mean([(9 - rank) / 8 for rank in ranks])
        row = found[f"pairwise_{name}", 9]
        np.testing.assert_allclose(row["value"], wins, rtol=1e-12)
        assert row["chance"] == 0.5
        assert row["value_of_draws"] is None
        if name == "cosine":
            for k in (1, 2, 5):
                share = np.mean([rank <= k for rank in ranks])
                np.testing.assert_allclose(found[f"top_{k}", 9]["value"], share)


def category_means(test: Replayed) -> tuple[dict, dict]:
    p, e, of = test.predictions, test.embeddings, test.categories
    predicted = weighted_mean_by([of[name] for name in p.stimulus_id], p.vectors, list(p.n_repeats))
    embedded = weighted_mean_by([of[name] for name in e.ids], e.vectors, [1] * len(e.ids))
    return predicted, embedded


@pytest.mark.parametrize("kind", KINDS)
def test_god_categories_against_candidates(kind: str) -> None:
    test = make_test(kind)
    predicted, embedded = category_means(test)
    assert sorted(embedded) == ["c0", "c1", "c2", "c3", "d0", "d1"]
    wins = []
    for name, vector in predicted.items():
        row = [pearson(vector, other) for other in embedded.values()]
        wins.append((6 - rank_in(row, list(embedded).index(name), tuple(range(6)))) / 5)
    (row,) = replay(test, "god-category").rows
    np.testing.assert_allclose(row["value"], np.mean(wins), rtol=1e-12)
    assert (row["n"], row["n_gallery"], row["chance"]) == (4, 6, 0.5)
    assert (row["n_unit"], row["resampled"]) == ("test categories", "categories")


@pytest.mark.parametrize("n_categories", [7, 8])
@pytest.mark.parametrize("kind", ["random", "ties", "duplicates", "constant"])
def test_haxby_ranks_all_categories_for_every_sample(kind: str, n_categories: int) -> None:
    one = make_test(kind, n=n_categories)
    p, e = one.predictions, one.embeddings
    runs = np.repeat(["r1", "r2", "r3"], n_categories)
    vectors = np.concatenate([p.vectors, p.vectors[::-1], p.vectors + p.vectors[0]])
    shown = np.concatenate([p.stimulus_id, p.stimulus_id[::-1], p.stimulus_id])
    predictions = Predictions(
        vectors, shown, runs, runs, np.ones(len(runs), int), e.ids, "run", p.fingerprint, {}
    )
    names = sorted(set(shown))
    ranks = []
    for vector, name in zip(vectors, shown, strict=True):
        row = [cosine(vector.astype(float), e.vectors[list(e.ids).index(o)]) for o in names]
        ranks.append(rank_in(row, names.index(name), tuple(range(n_categories))))
    found = by(replay(Replayed(predictions, e, {}), "haxby-nway"))
    n = n_categories
    assert set(found) == {("top_1", n), ("top_5", n), ("pairwise_cosine", n)}
    np.testing.assert_allclose(found["top_1", n]["value"], np.mean([r <= 1 for r in ranks]))
    np.testing.assert_allclose(found["top_5", n]["value"], np.mean([r <= 5 for r in ranks]))
    np.testing.assert_allclose(
        found["pairwise_cosine", n]["value"], np.mean([(n - r) / (n - 1) for r in ranks])
    )
    row = found["top_1", n]
    assert row["chance"] == 1 / n
    assert f"{n}-way" in row["definition"]
    assert (row["n"], row["n_resampled"], row["resampled"]) == (3 * n, 3, "runs")


@pytest.mark.parametrize("unequal", [True, False])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_the_null_is_that_of_all_permutations(direction: str, unequal: bool) -> None:
    test = make_test("random", n=5, seed=3)
    # In the order of the pictures' names; those shown equally often may change places.
    times = test.predictions.n_repeats[np.argsort(test.predictions.stimulus_id)]
    assert 1 < len(set(times.tolist())) < 5
    table = picture_table(test, cosine, direction)
    everyone = tuple(range(5))
    scores = []
    for order in permutations(everyone):
        if not unequal and (times[list(order)] != times).any():
            continue
        if direction == "brain_to_image":
            ranks = [rank_in(table[i], order[i], everyone) for i in everyone]
        else:
            ranks = [rank_in(table[order[i]], i, everyone) for i in everyone]
        scores.append(np.mean([(5 - rank) / 4 for rank in ranks]))
    found = by(
        replay(test, "full-pool", n_permutations=20_000, exchange_unequal=unequal), direction
    )
    row = found["pairwise_cosine", 5]
    assert abs(row["null_mean"] - np.mean(scores)) < 5 * np.std(scores) / np.sqrt(20_000)
    exact = np.mean(np.array(scores) >= row["value"] - 1e-12)
    assert abs(row["p"] - exact) < 5 * np.sqrt(exact / 20_000) + 1e-4


def test_labels_of_held_out_runs_move_within_runs() -> None:
    rng = np.random.default_rng(5)
    ids, runs = np.array(["a", "b", "c"]), np.repeat(["r1", "r2"], [3, 4])
    targets = rng.standard_normal((3, 4))
    targets /= np.linalg.norm(targets, axis=1, keepdims=True)
    shown = np.array([0, 1, 2, 2, 1, 0, 2])
    vectors = targets[shown] + 0.5 * rng.standard_normal((7, 4))
    predictions = Predictions(
        vectors.astype(np.float32), ids[shown], runs, runs, np.ones(7, int), ids, "run", {}, {}
    )
    embeddings = Embeddings(ids, targets.astype(np.float32), "image", {})
    table = [[cosine(vector, target) for target in targets] for vector in vectors]
    scores = []
    for first in permutations(shown[:3]):
        for second in permutations(shown[3:]):
            ranks = [
                rank_in(row, true, (0, 1, 2))
                for row, true in zip(table, (*first, *second), strict=True)
            ]
            scores.append(np.mean([(3 - rank) / 2 for rank in ranks]))
    found = replay(Replayed(predictions, embeddings, {}), "haxby-nway", n_permutations=20_000)
    (row,) = (row for row in found.rows if row["metric"] == "pairwise_cosine")
    exact = np.mean(np.array(scores) >= row["value"] - 1e-12)
    assert abs(row["null_mean"] - np.mean(scores)) < 5 * np.std(scores) / np.sqrt(20_000)
    assert abs(row["p"] - exact) < 5 * np.sqrt(exact / 20_000) + 1e-4
    assert row["permuted"] == "labels within each run"


@pytest.mark.parametrize("where", ["predictions", "embeddings"])
@pytest.mark.parametrize("name", ["mindeye-300", "kamitani-pairwise", "god-category"])
def test_nan_is_named(where: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presets, "POOL", 4)
    test = make_test("random")
    getattr(test, where).vectors[2, 1] = np.nan
    with pytest.raises(DataError, match=r"1 vectors hold NaN or infinite numbers, rows '\d'"):
        replay(test, name)


def test_what_cannot_be_replayed_is_said() -> None:
    test = make_test("repeats")
    found = replay(test, *presets_all())
    assert {row["protocol"] for row in found.rows} == {
        "full-pool",
        "kamitani-pairwise",
        "god-category",
        "brainflora-kway",
    }
    said = found.notes[-1]
    assert "mindeye-300, lite-mind-300 (9 test pictures, 300 are needed)" in said
    assert "haxby-nway (no whole runs are held out)" in said
    assert any("mean over its samples (16 in all)" in note for note in found.notes)
    bare = Replayed(test.predictions, test.embeddings, {})
    assert "no column 'category'" in replay(bare, "god-category").notes[0]
    assert not replay(test).notes


def test_known_categories_and_missing_candidates_are_told() -> None:
    test = make_test("random")
    of = {**test.categories, "p09": "c1", "p10": "", "p11": "c2"}
    del of["p10"]
    notes = " ".join(replay(Replayed(test.predictions, test.embeddings, of), "god-category").notes)
    assert "2 of 4 test categories have training pictures too" in notes
    assert "no candidate categories" in notes


def test_predictions_without_correlation_leave_out_what_needs_it() -> None:
    test = make_test("random")
    test.predictions.vectors[4] = 1.0
    found = replay(test, "full-pool", "kamitani-pairwise")
    assert {row["protocol"] for row in found.rows} == {"full-pool"}
    assert "kamitani-pairwise (no correlation: predicted: 1 vectors hold equal" in found.notes[-1]


def test_the_same_seed_gives_the_same_rows() -> None:
    test = make_test("random", n=30)
    assert replay(test, *presets_all()) == replay(test, *presets_all())
    assert replay(test, *presets_all()) != replay(test, *presets_all(), seed=1)


def presets_all() -> tuple[str, ...]:
    return EvaluateConfig().protocols


def test_tokens_are_compared_end_to_end_and_stay_in_their_file() -> None:
    flat = make_test("random", n_dims=6)
    p, e = flat.predictions, flat.embeddings
    predicted = TokenRows(p.vectors.reshape(-1, 3, 2))
    stored = TokenRows(np.sqrt(3) * e.vectors.reshape(-1, 3, 2))
    tokens = Replayed(replace(p, vectors=predicted), replace(e, vectors=stored), flat.categories)
    names = ("full-pool", "kamitani-pairwise", "brainflora-kway")
    expected, found = replay(flat, *names), replay(tokens, *names, "god-category", "haxby-nway")
    assert [row["value"] for row in found.rows] == [row["value"] for row in expected.rows]
    assert "god-category (the targets are tokens" in found.notes[-1]
    twice = np.concatenate([np.arange(9), [0]])
    repeated = replace(
        p,
        vectors=predicted[twice],
        **{key: getattr(p, key)[twice] for key in ("stimulus_id", "group", "fold", "n_repeats")},
    )
    found = replay(Replayed(repeated, tokens.embeddings, {}), "full-pool")
    assert not found.rows
    assert "set `retrieve.average_predictions`" in found.notes[-1]
