"""Family-wise error of corrected p-values, and errors of the paired comparison, by simulation.

python benchmarks/family_error.py [--quick] [--out FILE.json]

Null studies: predictions of several ROIs and decoders that resemble each other and say nothing
about the pictures, of three subjects who share their pictures. Counted is how often any score of
a family has p at most .05. Paired: two decoders of known accuracy on the same pictures.
"""

from __future__ import annotations

import numpy as np
from measure import parse_arguments, write_figures
from scipy.stats import binom, multivariate_normal, norm

from braindecode_clip.artifacts import Embeddings, Predictions, Retrieval
from braindecode_clip.config.group import GroupConfig
from braindecode_clip.evaluate.group import group
from braindecode_clip.evaluate.group_labels import Exchange, exchange_of
from braindecode_clip.evaluate.paired import judge_equivalence, paired_intervals
from braindecode_clip.resampling.exchanges import draw_exchanges, exchanged_means
from braindecode_clip.retrieve import retrieve

SUBJECTS, ROIS, DECODERS = ("01", "02", "03"), ("a", "b", "c"), ("ridge", "mlp")
N_PICTURES, N_DIMS, ALPHA = 16, 8, 0.05
DIRECTIONS = ("brain_to_image", "image_to_brain")
#: Correlation of two decoders' outcomes, through pictures that are easy for both.
EASE = 0.7


def null_study(rng: np.random.Generator, *, common: float) -> list[Retrieval]:
    """Return retrievals of predictions that say nothing.

    ``common`` is the share of variance that subjects, ROIs and decoders have in common, so
    that their scores are correlated, within and across subjects.
    """
    ids = np.array([f"p{i:02d}" for i in range(N_PICTURES)])
    vectors = rng.standard_normal((N_PICTURES, N_DIMS))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    embeddings = Embeddings(ids, vectors.astype(np.float32), "image", {"model": "none"})
    shared = rng.standard_normal((N_PICTURES, N_DIMS))
    found = []
    for subject in SUBJECTS:
        for roi in ROIS:
            for decoder in DECODERS:
                own = rng.standard_normal((N_PICTURES, N_DIMS))
                info = {"subject": subject, "roi": roi, "decoder": decoder}
                predictions = Predictions(
                    vectors=(np.sqrt(common) * shared + np.sqrt(1 - common) * own).astype(
                        np.float32
                    ),
                    stimulus_id=ids,
                    group=np.full(N_PICTURES, "1"),
                    fold=np.full(N_PICTURES, "all"),
                    n_repeats=np.ones(N_PICTURES, dtype=np.int64),
                    train_ids=np.array(["t"]),
                    unit="stimulus",
                    fingerprint={"model": "none"},
                    info={**info, "split": "s", "encoder": "e"},
                )
                found += [
                    retrieve(predictions, embeddings, ids, direction=name, gallery="test")
                    for name in DIRECTIONS
                ]
    return found


def exchange_for(retrievals: list[Retrieval], *, apart: bool) -> Exchange:
    """Return the exchange of labels; ``apart`` takes the pictures of subjects as different."""
    samples = {}
    for item in retrievals:
        subject = item.info["subject"]
        names = item.queries["stimulus_id"].to_numpy().astype(str)
        own = np.char.add(names, f"-{subject}") if apart else names
        samples[subject] = (own, item.queries["group"].to_numpy().astype(str))
    return exchange_of(samples, "stimulus")


def family_error(n_studies: int, *, common: float) -> dict[str, float]:
    """Return how often p at most .05 came up in families without any effect."""
    options = GroupConfig(
        n_bootstrap=200, n_permutations=199, top_k=(1,), equivalence_margins={"none": 0.1}
    )
    hits: dict[str, int] = {}
    n_families: dict[str, int] = {}

    def note(name: str, p: list[float]) -> None:
        hits[name] = hits.get(name, 0) + (min(p) <= ALPHA)
        n_families[name] = n_families.get(name, 0) + 1

    for number in range(n_studies):
        retrievals = null_study(np.random.default_rng([number, int(100 * common)]), common=common)
        rows = group(
            retrievals, exchange_for(retrievals, apart=False), options=options, seed=number
        ).rows
        for metric in ("top_1", "pairwise"):
            # The families of subjects who resemble each other are no independent draws: one.
            for subject, column in (("01", "p"), ("01", "p_corrected"), ("all", "p_corrected")):
                p = [r[column] for r in rows if r["subject"] == subject and r["metric"] == metric]
                note(f"{metric}, {'group' if subject == 'all' else 'subject'}, {column}", p)
        note(
            "pairwise, group, p of one score, pictures shared",
            [r["p"] for r in rows if r["subject"] == "all" and r["metric"] == "pairwise"][:1],
        )
        apart = [r for r in retrievals if (r.info["roi"], r.info["decoder"]) == ("a", "ridge")]
        rows = group(apart, exchange_for(apart, apart=True), options=options, seed=number).rows
        note(
            "pairwise, group, p of one score, each subject permuted alone",
            [r["p"] for r in rows if r["subject"] == "all" and r["metric"] == "pairwise"][:1],
        )
    return {name: float(hits[name] / n_families[name]) for name in hits}


def hits_of_two(rng: np.random.Generator, n: int, shares: tuple[float, float]) -> np.ndarray:
    """Return hits (n, 2) of two decoders, which find the same pictures easy."""
    common = rng.standard_normal((n, 1))
    level = np.sqrt(EASE) * common + np.sqrt(1 - EASE) * rng.standard_normal((n, 2))
    return (level < norm.ppf(shares)).astype(float)


def paired_errors(n_studies: int, n: int, shares: tuple[float, float]) -> dict[str, float]:
    """Return rejections, coverage of 95 % and false equivalence of the paired comparison."""
    rng = np.random.default_rng([n, int(1000 * shares[0])])
    gap, margin = shares[0] - shares[1], 0.1
    found = np.zeros(3)
    for _ in range(n_studies):
        hits = hits_of_two(rng, n, shares)
        differences, own = hits[:, :1] - hits[:, 1:], np.arange(n)
        exchanges = draw_exchanges(n, 499, rng)
        null = exchanged_means(differences, own, exchanges)
        row = paired_intervals(differences, own, n_bootstrap=1000, confidence=0.95, rng=rng)[0]
        judged = judge_equivalence(differences[:, 0], margin)["p_equivalence"]
        found += [
            exchanges.p(differences.mean(axis=0), null)[0] <= ALPHA,
            row["ci_low"] <= gap <= row["ci_high"],
            judged is not None and judged <= ALPHA,
        ]
    both = multivariate_normal([0, 0], [[1, EASE], [EASE, 1]]).cdf(norm.ppf(shares))
    sd = np.sqrt(sum(shares) - 2 * both - gap**2)
    rates = found / n_studies
    return {
        "true_difference": gap,
        "standard_error": float(sd / np.sqrt(n)),
        "rejected": float(rates[0]),
        "covered": float(rates[1]),
        "equivalent_within_10_points": float(rates[2]),
    }


def print_rates(title: str, rates: dict[str, float], n: int) -> None:
    low, high = binom.ppf([0.025, 0.975], n, ALPHA) / n
    print(f"\n{title} ({n} studies; a true 5 % gives {low:.3f} to {high:.3f})")
    for name, rate in rates.items():
        print(f"  {name:60s} {rate:.3f}")


def main() -> None:
    arguments = parse_arguments(__doc__.splitlines()[0])
    n_null, n_paired = (60, 100) if arguments.quick else (600, 2000)
    figures: dict[str, dict] = {}
    for common in (0.0, 0.6):
        name = f"null studies, {common:.0%} of the predictions' variance in common"
        figures[name] = family_error(n_null, common=common)
        print_rates(name, figures[name], n_null)
    for n in (20, 60, 200):
        for shares in ((0.4, 0.4), (0.5, 0.4)):
            name = f"paired, {n} pictures, accuracies {shares[0]} and {shares[1]}"
            figures[name] = paired_errors(n_paired, n, shares)
            print_rates(name, figures[name], n_paired)
    write_figures(arguments.out, figures)


if __name__ == "__main__":
    main()
