"""Do p-values and intervals keep their promises, and what do they cost?

python benchmarks/honest_statistics.py [--quick] [--repeats N] [--out FILE.json]

False alarms: 1,000 data sets whose predictions know nothing of the stimuli, but have run effects,
repeats that resemble one another, and pictures shown more often that are of another kind; the share
with p <= .05, and in brackets the same with ties broken at random (.05 for an exact test).
Coverage: 500 data sets of a known population. Speed: one subject with 1,000 test pictures. --quick
takes a tenth of the data sets, and 200 pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np
from measure import parse_arguments, print_table, side_by_side, write_figures

from braindecode_clip.artifacts import Embeddings, Predictions
from braindecode_clip.config.evaluate import EvaluateConfig
from braindecode_clip.evaluate import evaluate, identification
from braindecode_clip.evaluate.ceiling_signal import Repeats
from braindecode_clip.evaluate.dimensions import DimensionScores
from braindecode_clip.evaluate.permutation import null_scores, rank_table
from braindecode_clip.evaluate.rows import Design
from braindecode_clip.evaluate.scores import identification_scores
from braindecode_clip.resampling.bootstrap import interval, resample, weighted_mean
from braindecode_clip.retrieve import gallery_ids, retrieve

N_DIMS = 16
SCORES = ("top_1", "top_10", "pairwise", "mean_rank", "mean_reciprocal_rank", "correlation_mean")
LABELS = {"subject": "01", "roi": "v", "split": "s", "encoder": "e", "decoder": "d"}


@dataclass(frozen=True)
class Study:
    """Who was shown when, and what was predicted."""

    vectors: np.ndarray
    shown: np.ndarray
    groups: np.ndarray
    predicted: np.ndarray
    unit: str

    def artifacts(self) -> tuple[Predictions, Embeddings]:
        ids = np.array([f"{i:05d}" for i in range(len(self.vectors))])
        unit_norm = self.vectors / np.linalg.norm(self.vectors, axis=1, keepdims=True)
        predictions = Predictions(
            vectors=self.predicted.astype(np.float32),
            stimulus_id=ids[self.shown],
            group=self.groups,
            fold=self.groups if self.unit == "run" else np.full(len(self.shown), "all"),
            n_repeats=np.ones(len(self.shown), dtype=np.int64),
            train_ids=ids if self.unit == "run" else np.array(["none"]),
            unit=self.unit,
            fingerprint={"model": "simulated"},
            info=LABELS,
        )
        embeddings = Embeddings(ids, unit_norm.astype(np.float32), "image", {"model": "simulated"})
        return predictions, embeddings


def unequal_repeats(
    rng: np.random.Generator,
    *,
    signal: float = 0.0,
    n: int = 100,
    kinds: float = 1.0,
    shifts: float = 0.7,
) -> Study:
    """Pictures shown 1 to 4 times in 8 runs; those shown often are of another kind."""
    repeats = rng.choice([1, 2, 4], n)
    vectors = rng.standard_normal((n, N_DIMS))
    vectors[:, 0] += kinds * (repeats == 4)
    shown = np.repeat(np.arange(n), repeats)
    groups = rng.integers(0, 8, len(shown))
    own = 0.6 * rng.standard_normal((n, N_DIMS))
    # Predictions lean to one side, as those of any decoder lean to the mean of its training set.
    lean = np.zeros(N_DIMS)
    lean[0] = kinds
    predicted = signal * vectors[shown] + own[shown] + lean
    predicted += shifts * rng.standard_normal((8, N_DIMS))[groups]
    predicted += rng.standard_normal(predicted.shape)
    return Study(vectors, shown, _names(groups), predicted, "stimulus")


def runs(
    rng: np.random.Generator, *, signal: float = 0.0, n_runs: int = 12, n_stimuli: int = 8
) -> Study:
    """Every stimulus once in each run; runs shift all their predictions and differ in quality.

    The stimuli are the same in all data sets: runs are what is drawn.
    """
    vectors = np.random.default_rng(1).standard_normal((n_stimuli, N_DIMS))
    shown = np.tile(np.arange(n_stimuli), n_runs)
    groups = np.repeat(np.arange(n_runs), n_stimuli)
    quality = signal * rng.uniform(0.4, 1.6, n_runs)
    predicted = quality[groups][:, None] * vectors[shown]
    predicted += rng.standard_normal((n_runs, N_DIMS))[groups]
    predicted += rng.standard_normal(predicted.shape)
    return Study(vectors, shown, _names(groups), predicted, "run")


def sessions(rng: np.random.Generator) -> Study:
    """Each of 5 sessions shows 20 pictures of one kind twice, and shifts its predictions."""
    kind = np.repeat(np.arange(5), 20)
    vectors = 0.8 * rng.standard_normal((5, N_DIMS))[kind] + rng.standard_normal((100, N_DIMS))
    shown = np.tile(np.arange(100), 2)
    own = 0.6 * rng.standard_normal((100, N_DIMS))
    predicted = rng.standard_normal((5, N_DIMS))[kind[shown]] + own[shown]
    predicted += rng.standard_normal(predicted.shape)
    groups = np.array([f"ses-{ses:02d}_run-01" for ses in kind[shown]])
    return Study(vectors, shown, groups, predicted, "stimulus")


def _names(groups: np.ndarray) -> np.ndarray:
    return np.array([f"ses-01_run-{group:02d}" for group in groups])


#: Name, simulation, options, and whether p is promised to hold.
NULLS = {
    "stimulus split, unequal repeats, run effects": (unequal_repeats, {}, True),
    "the same, exchanged whatever the repeats": (
        unequal_repeats,
        {"exchange_unequal": True},
        False,
    ),
    "run split, run effects, 12 runs": (runs, {}, True),
    "run split, run effects, 60 runs": (lambda rng: runs(rng, n_runs=60), {}, True),
    "sessions of one kind of picture each, within session": (
        sessions,
        {"exchange": "session"},
        True,
    ),
    "the same, exchanged across sessions": (sessions, {}, False),
}


def null_p(study: Study, options: EvaluateConfig, rng: np.random.Generator) -> dict[str, tuple]:
    """Return p, and p with ties broken at random, of every score."""
    predictions, embeddings = study.artifacts()
    design = Design.of(predictions, options)
    how = design.exchange
    chosen = gallery_ids(predictions, embeddings, candidates="test")
    forth = retrieve(predictions, embeddings, chosen, direction="brain_to_image", gallery="test")
    table = rank_table(forth, how.unit)
    rank, others = (part[0] for part in table.under(table.labels[None]))
    scores = [
        s
        for s in identification_scores((1, 10), np.broadcast_to(others, rank.shape))
        if s.name in SCORES
    ]
    given = {"unit": how.unit, "n_permutations": options.n_permutations, "strata": how.strata}
    null = null_scores(table, scores, how.groups, rng=rng, **given)
    found = {
        score.name: _both(score.sign * score.value(rank, others), score.sign * null[:, i], rng)
        for i, score in enumerate(scores)
    }
    dims = DimensionScores.of(
        predictions.vectors, embeddings.vectors[embeddings.rows(design.stimuli)], design.labels
    )
    true = dims.weighted(np.ones((1, len(design.labels))))[0, 0]
    drawn = dims.permuted(how.groups, rng=rng, **given).scores[:, 0]
    found["correlation_mean"] = _both(true, drawn, rng)
    return found


def _both(value: float, null: np.ndarray, rng: np.random.Generator) -> tuple[float, float]:
    above, level = (null > value + 1e-9).sum(), 1 + (np.abs(null - value) <= 1e-9).sum()
    whole = 1 + len(null)
    return (above + level) / whole, (above + rng.random() * level) / whole


def false_alarms(
    n_sets: int, *, n_permutations: int = 499, names: Collection[str] = tuple(NULLS)
) -> dict[str, dict[str, list[float]]]:
    """Return the share of data sets without information with p <= .05, of every score.

    Two numbers: with p as it is, and with ties broken at random.
    """
    content = {}
    for name in names:
        simulate, chosen, _ = NULLS[name]
        options = EvaluateConfig(n_permutations=n_permutations, **chosen)
        drawn = []
        for seed in range(n_sets):
            rng = np.random.default_rng([7, seed])
            drawn.append(null_p(simulate(rng), options, rng))
        content[name] = {
            score: [float(np.mean([p[score][i] <= 0.05 for p in drawn])) for i in (0, 1)]
            for score in drawn[0]
        }
    return content


#: Name to the simulation, and the unit that is held out and drawn.
POPULATIONS: dict[str, tuple[Callable[..., Study], str]] = {
    "pictures, unequal repeats": (
        lambda rng, n=100: unequal_repeats(rng, signal=0.7, n=n, kinds=0.0, shifts=0.0),
        "stimulus",
    ),
    "pictures, unequal repeats, and 8 runs that are drawn anew but not resampled": (
        lambda rng, n=100: unequal_repeats(rng, signal=0.7, n=n, kinds=0.0),
        "stimulus",
    ),
    "runs, 12": (lambda rng, n=12: runs(rng, signal=0.5, n_runs=n), "run"),
}


def truth(simulate: Callable[..., Study], unit: str, n_sets: int) -> dict[str, float]:
    """Return the scores of the population.

    Identification among 100 pictures: the mean over data sets of that size, as the candidates
    belong to the process. Correlation, and scores of runs with fixed candidates: one huge set.
    """
    found = []
    for seed in range(n_sets if unit == "stimulus" else 1):
        rng = np.random.default_rng([9, seed])
        study = simulate(rng) if unit == "stimulus" else simulate(rng, 20_000)
        rank = identification(study.predicted, study.vectors, study.shown).rank
        others = np.full(len(rank), len(study.vectors) - 1.0)
        found.append(
            {s.name: s.value(rank, others) for s in identification_scores((1, 10), others)}
        )
    scores = {name: float(np.mean([one[name] for one in found])) for name in found[0]}
    study = simulate(np.random.default_rng([9, 0]), 50_000 if unit == "stimulus" else 20_000)
    unit_norm = study.vectors / np.linalg.norm(study.vectors, axis=1, keepdims=True)
    dims = DimensionScores.of(study.predicted, unit_norm, study.shown)
    scores["correlation_mean"] = float(dims.weighted(np.ones((1, len(study.shown))))[0, 0])
    return scores


def intervals(
    study: Study, n_bootstrap: int, rng: np.random.Generator
) -> dict[str, tuple[float, float, float]]:
    """Return value, low and high of every score, as `evaluate` makes them."""
    predictions, embeddings = study.artifacts()
    design = Design.of(predictions)
    rank = identification(predictions.vectors, embeddings.vectors, study.shown).rank
    others = np.full(len(rank), len(study.vectors) - 1.0)
    scores = [s for s in identification_scores((1, 10), others) if s.name in SCORES]
    values = np.stack([s.per_query(rank, others) for s in scores], axis=1)
    dims = DimensionScores.of(predictions.vectors, embeddings.vectors, study.shown)

    def statistic(weights: np.ndarray) -> np.ndarray:
        parts = weighted_mean(values)(weights), dims.weighted(weights)[:, :1]
        return np.concatenate(parts, axis=1)

    drawn = resample(statistic, design.clusters, n_bootstrap=n_bootstrap, rng=rng)
    seen = statistic(np.ones((1, len(rank))))[0]
    names = [*(s.name for s in scores), "correlation_mean"]
    return {name: (seen[i], *interval(seen[i], drawn, i)[:2]) for i, name in enumerate(names)}


def coverage(
    n_sets: int, *, n_bootstrap: int = 2000, names: Collection[str] = tuple(POPULATIONS)
) -> dict[str, dict[str, dict[str, float]]]:
    """Return the share of 95 % intervals that hold the truth, below and above it the others."""
    content = {}
    for name in names:
        simulate, unit = POPULATIONS[name]
        true = truth(simulate, unit, 4 * n_sets)
        found = []
        for seed in range(n_sets):
            rng = np.random.default_rng([11, seed])
            found.append(intervals(simulate(rng), n_bootstrap, rng))
        content[name] = {}
        for score in found[0]:
            value, low, high = np.array([one[score] for one in found]).T
            content[name][score] = {
                "truth": true[score],
                "coverage": float(((low <= true[score]) & (true[score] <= high)).mean()),
                "too_high": float((low > true[score]).mean()),
                "too_low": float((high < true[score]).mean()),
                "bias": float(value.mean() - true[score]),
                "sd": float(value.std()),
                "half_width": float((high - low).mean() / 2),
            }
    return content


def speed(n: int, n_draws: int, repeats: int) -> dict[str, dict[str, float | None]]:
    """Time the parts of one evaluation, and all of it, with one thread and with two."""
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((n, 512))
    predicted = vectors + 8 * rng.standard_normal(vectors.shape)
    study = Study(vectors, np.arange(n), _names(np.arange(n) % 12), predicted, "stimulus")
    predictions, embeddings = study.artifacts()
    chosen = gallery_ids(predictions, embeddings, candidates="test")
    both = [
        retrieve(predictions, embeddings, chosen, direction=direction, gallery="test")
        for direction in ("brain_to_image", "image_to_brain")
    ]
    options = EvaluateConfig(n_bootstrap=n_draws, n_permutations=n_draws)
    table = rank_table(both[0], "stimulus")
    scores = identification_scores((1, 5, 10), np.full(n, n - 1.0))
    pairwise = [score for score in scores if score.name == "pairwise"]

    def permute(which: list) -> np.ndarray:
        return null_scores(
            table,
            which,
            study.groups,
            unit="stimulus",
            n_permutations=n_draws,
            rng=np.random.default_rng(0),
        )

    # Three decoded trials of every picture, for the noise ceilings.
    trials = np.repeat(predicted, 3, axis=0) + 8 * rng.standard_normal((3 * n, 512))
    shown = np.repeat(predictions.stimulus_id, 3)
    decoded = Repeats(trials.astype(np.float32), shown)

    def whole() -> object:
        return evaluate(
            both,
            predictions,
            embeddings,
            rng=np.random.default_rng(0),
            options=options,
            repeats=decoded,
        )

    figures = side_by_side(
        {
            f"{n_draws} permutations, pairwise": lambda: permute(pairwise),
            f"{n_draws} permutations, {len(scores)} scores": lambda: permute(scores),
            "evaluation, one thread": whole,
        },
        repeats=repeats,
    )
    return figures | side_by_side({"evaluation, two threads": whole}, repeats=repeats, threads=2)


def main() -> None:
    arguments = parse_arguments(__doc__)
    share = 10 if arguments.quick else 1
    content = {"false alarms": false_alarms(1000 // share)}
    for name, found in content["false alarms"].items():
        print(f"\n{name}{'' if NULLS[name][2] else ' (not valid, for comparison)'}")
        for score, (plain, exact) in found.items():
            print(f"  {score:22s}{plain:6.3f} ({exact:.3f})")
    content["coverage"] = coverage(500 // share)
    for name, found in content["coverage"].items():
        print(f"\n{name}")
        for score, row in found.items():
            print(
                f"  {score:22s}truth {row['truth']:8.4f}  covered {row['coverage']:.3f}  "
                f"interval above {row['too_high']:.3f}, below {row['too_low']:.3f}"
            )
    n, n_draws = (200, 1000) if arguments.quick else (1000, 10_000)
    content["speed"] = speed(n, n_draws, arguments.repeats)
    print_table(f"{n} pictures among {n}, 512 dimensions, {n_draws} draws", content["speed"])
    write_figures(arguments.out, content)


if __name__ == "__main__":
    main()
