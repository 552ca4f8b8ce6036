"""Identification against the published double loop, a bare product, scikit-learn and scipy.

python benchmarks/identification.py [--quick] [--repeats N] [--out FILE.json]

Loops are timed on some of their rounds and scaled up; their names say so.
"""

from __future__ import annotations

import numpy as np
from measure import parse_arguments, print_table, side_by_side, write_figures
from scipy.stats import rankdata
from sklearn.metrics import top_k_accuracy_score
from sklearn.metrics.pairwise import cosine_similarity

from braindecode_clip.artifacts import Embeddings, Predictions
from braindecode_clip.config.evaluate import EvaluateConfig
from braindecode_clip.evaluate import identification
from braindecode_clip.evaluate.permutation import RankTable, null_scores
from braindecode_clip.evaluate.protocols import Replayed, replay_protocols
from braindecode_clip.evaluate.scores import identification_scores
from braindecode_clip.metrics import rank_matrix
from braindecode_clip.similarity import similarity_matrix

N_DIMS, N_PERMUTATIONS = 512, 10_000
N_LOOP_ROWS = N_LOOP_PERMUTATIONS = 20
N_MANY_ROWS = 5


def double_loop(predicted: np.ndarray, gallery: np.ndarray, n_rows: int) -> np.ndarray:
    """Count wins as published: one correlation of two vectors at a time."""
    wins = np.zeros(n_rows)
    for i in range(n_rows):
        true = np.corrcoef(predicted[i], gallery[i])[0, 1]
        for j in range(len(gallery)):
            wins[i] += j != i and true > np.corrcoef(predicted[i], gallery[j])[0, 1]
    return wins / (len(gallery) - 1)


def scipy_ranks(predicted: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    scores = cosine_similarity(predicted, gallery)
    return rankdata(-scores, axis=1)[np.arange(len(scores)), np.arange(len(scores))]


def sklearn_top(predicted: np.ndarray, gallery: np.ndarray) -> list[float]:
    scores = cosine_similarity(predicted, gallery)
    labels = np.arange(len(gallery))
    return [top_k_accuracy_score(labels, scores, k=k, labels=labels) for k in (1, 5, 10)]


def naive_permutations(ranks: np.ndarray, n: int, rng: np.random.Generator) -> list[float]:
    found = []
    for _ in range(n):
        order = rng.permutation(len(ranks))
        wins = [(len(ranks) - ranks[i, order[i]]) / (len(ranks) - 1) for i in range(len(ranks))]
        found.append(float(np.mean(wins)))
    return found


def our_permutations(ranks: np.ndarray) -> np.ndarray:
    n = len(ranks)
    labels = np.arange(n)
    table = RankTable(
        ranks.T.astype(float), np.full((n, n), n - 1.0), labels, labels.astype(str), False
    )
    return null_scores(
        table,
        identification_scores((1, 5, 10), np.full(n, n - 1.0)),
        labels.astype(str),
        unit="stimulus",
        n_permutations=N_PERMUTATIONS,
        rng=np.random.default_rng(0),
    )


def plain(predicted: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    a = predicted / np.linalg.norm(predicted, axis=1, keepdims=True)
    b = gallery / np.linalg.norm(gallery, axis=1, keepdims=True)
    scores = a @ b.T
    return 1 + (scores > np.diag(scores)[:, None]).sum(axis=1)


def drawn_pools(
    predicted: np.ndarray, gallery: np.ndarray, size: int, rng: np.random.Generator
) -> float:
    found = []
    for _ in range(30):
        pool = rng.choice(len(gallery), size, replace=False)
        found.append(np.mean(plain(predicted[pool], gallery[pool]) == 1))
    return float(np.mean(found))


def vectors(n: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    gallery = rng.standard_normal((n, N_DIMS)).astype(np.float32)
    return gallery + 12 * rng.standard_normal((n, N_DIMS)).astype(np.float32), gallery


def many_pairs(n: int, repeats: int) -> dict[str, dict[str, float | None]]:
    """Time pairwise identification beside the bare product of its size."""
    predicted, gallery = vectors(n)
    true, table = np.arange(n), np.empty((n, n), dtype=np.float32)

    def pairwise(kind: str) -> float:
        return identification(predicted, gallery, true, similarity=kind).pairwise

    product = "float32 GEMM alone, into memory at hand"
    competitors = {
        product: lambda: np.matmul(predicted, gallery.T, out=table),
        "pairwise by cosine": lambda: pairwise("cosine"),
        "pairwise by correlation": lambda: pairwise("correlation"),
        "double loop": lambda: double_loop(predicted, gallery, N_MANY_ROWS),
    }
    found = side_by_side(competitors, repeats=repeats)
    return scaled_up(found, "double loop", n / N_MANY_ROWS)


def replay_all(predicted: np.ndarray, gallery: np.ndarray) -> list[dict]:
    """Replay all protocols, with 5,000 bootstrap samples and 10,000 permutations."""
    n = len(gallery)
    ids = np.array([f"stim-{i:05d}" for i in range(n)])
    predictions = Predictions(
        vectors=predicted,
        stimulus_id=ids,
        group=ids,
        fold=np.full(n, "all"),
        n_repeats=np.ones(n, dtype=np.int64),
        train_ids=np.array(["other"]),
        unit="stimulus",
        fingerprint={},
        info={},
    )
    units = gallery / np.linalg.norm(gallery, axis=1, keepdims=True)
    categories = {name: f"category-{i % 100}" for i, name in enumerate(ids)}
    tested = Replayed(predictions, Embeddings(ids, units, "image", {}), categories)
    rng = np.random.default_rng(0)
    return replay_protocols(tested, rng=rng, options=EvaluateConfig(), labels={}).rows


def scaled_up(
    figures: dict[str, dict[str, float | None]], name: str, factor: float
) -> dict[str, dict[str, float | None]]:
    """Return the figures of a job of which only 1 / ``factor`` was run."""
    row = figures.pop(name)
    row.update(cpu_s=row["cpu_s"] * factor, ratio=row["ratio"] * factor)
    return {**figures, f"{name} (scaled up {factor:.0f} x)": row}


def main() -> None:
    arguments = parse_arguments(__doc__.splitlines()[0])
    n, repeats = (200 if arguments.quick else 1000), arguments.repeats
    rng = np.random.default_rng(0)
    predicted, gallery = vectors(n)
    true = np.arange(n)

    ours = identification(predicted, gallery, true)
    assert np.array_equal(ours.rank, scipy_ranks(predicted, gallery))
    by_correlation = identification(predicted, gallery, true, similarity="correlation")
    wins = 1 - (by_correlation.rank[:N_LOOP_ROWS] - 1) / (n - 1)
    np.testing.assert_allclose(wins, double_loop(predicted, gallery, N_LOOP_ROWS))

    competitors = {
        "identification": lambda: identification(predicted, gallery, true),
        "float32 GEMM and compare, ties broken by rounding": lambda: plain(predicted, gallery),
        "scikit-learn cosine, scipy rankdata": lambda: scipy_ranks(predicted, gallery),
        "scikit-learn cosine and top-1, -5, -10": lambda: sklearn_top(predicted, gallery),
        "double loop": lambda: double_loop(predicted, gallery, N_LOOP_ROWS),
    }
    figures = {"ranks": side_by_side(competitors, repeats=repeats)}
    figures["ranks"] = scaled_up(figures["ranks"], "double loop", n / N_LOOP_ROWS)
    print_table(f"Ranks of {n} queries among {n} candidates, {N_DIMS} dimensions", figures["ranks"])

    many = 2000 if arguments.quick else 10_000
    figures["pairwise"] = many_pairs(many, repeats)
    print_table(f"Pairwise identification, {many} x {many}", figures["pairwise"])

    ranks = rank_matrix(similarity_matrix(predicted, gallery))
    competitors = {
        "null_scores, all scores": lambda: our_permutations(ranks),
        "loop, pairwise alone": lambda: naive_permutations(ranks, N_LOOP_PERMUTATIONS, rng),
    }
    found = side_by_side(competitors, repeats=repeats)
    factor = N_PERMUTATIONS / N_LOOP_PERMUTATIONS
    figures["permutations"] = scaled_up(found, "loop, pairwise alone", factor)
    print_table(f"{N_PERMUTATIONS} permutations of {n} queries", figures["permutations"])

    pool = min(300, n // 2)
    competitors = {
        "expected_top_k, all pools": lambda: ours.expected_top_k(1, pool),
        "30 drawn pools": lambda: drawn_pools(predicted, gallery, pool, rng),
    }
    figures["pools"] = side_by_side(competitors, repeats=repeats)
    print_table(f"Top-1 in pools of {pool}", figures["pools"])

    competitors = {"all protocols": lambda: replay_all(predicted, gallery)}
    figures["protocols"] = side_by_side(competitors, repeats=repeats)
    n_rows = len(replay_all(predicted, gallery))
    print_table(f"All protocols on {n} queries, {n_rows} rows", figures["protocols"])
    write_figures(arguments.out, figures)


if __name__ == "__main__":
    main()
