"""How often the extrapolated accuracy holds: simulated subjects of whom more is known than used.

Each subject has 60 test pictures of three repeats and up to 320 training pictures, as `surface`
sees them. What its extrapolation says of twice the training data, and of what all 320 give when
at most half of them are used, is compared with the truth: the same ridge regression, really fitted
on so much data, tested on 3,000 other pictures. Subjects are Gaussian or not (tanh tuning), and
noisy in three degrees. Prints the share of 95 % intervals that hold the truth, how far the value is
off, and how wide the intervals are.

    python benchmarks/surface_coverage.py [n_subjects] [seed]
"""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd

from braindecode_clip.config.surface import SurfaceConfig
from braindecode_clip.decode import RidgeDecoder
from braindecode_clip.evaluate.surface import Cut, surface_table
from braindecode_clip.metrics import count_better, expected_top_k
from braindecode_clip.seeds import derive_seed
from braindecode_clip.similarity import similarity_matrix

N_TEST, N_FULL, N_TRUE, N_OTHER, N_REPEATS = 60, 320, 3000, 240, 3
CONFIG = SurfaceConfig(pool_sizes=3, top_k=(1,), more_data=[2.0], more_repeats=[2.0], seeds=3)


class Subject:
    """Targets of pictures, and voxels that answer to them with noise that they share in part."""

    def __init__(self, noise: float, bend: bool, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.noise, self.bend = noise, bend
        self.spread = np.sqrt(0.88 ** np.arange(32))
        self.code = self.rng.standard_normal((32, 120)) / np.sqrt(32)
        self.shared = self.rng.standard_normal((6, 120)) / 2

    def pictures(self, n: int) -> np.ndarray:
        return self.rng.standard_normal((n, 32)) * self.spread

    def responses(self, targets: np.ndarray, repeats: int) -> np.ndarray:
        signal = targets @ self.code * 3
        if self.bend:
            signal = np.tanh(signal) * 2
        shape = (len(targets), repeats)
        common = self.rng.standard_normal((*shape, 6)) @ self.shared
        own = self.rng.standard_normal((*shape, 120))
        return signal[:, None] + self.noise * (own + common)


def fit(X: np.ndarray, Y: np.ndarray) -> RidgeDecoder:
    return RidgeDecoder(np.geomspace(1, 1e5, 11), cv=5).fit(X, Y)


def better(decoder: RidgeDecoder, X: np.ndarray, targets: np.ndarray, others: np.ndarray):
    """Count distractors above the true one among the shown and other pictures."""
    gallery = np.concatenate([targets, others])
    return count_better(similarity_matrix(decoder.predict(X), gallery), np.arange(len(targets)))


def true_share(subject: Subject, decoder: RidgeDecoder, repeats: int, others: np.ndarray, pool):
    """Score pictures of which there are many, each among distractors as `surface` has them."""
    shown = subject.pictures(N_TRUE)
    voxels = subject.responses(shown, repeats).mean(axis=1)
    found = [
        better(decoder, voxels[i : i + N_TEST], shown[i : i + N_TEST], others)
        for i in range(0, N_TRUE, N_TEST)
    ]
    n_better, n_tied = (np.concatenate(part) for part in zip(*found, strict=True))
    n_others = N_TEST + len(others) - 1
    return [expected_top_k(n_better, n_tied, n_others, k=1, pool=size).mean() for size in pool]


def one_subject(noise: float, bend: bool, seed: int) -> list[dict]:
    subject = Subject(noise, bend, seed)
    shown, others = subject.pictures(N_TEST), subject.pictures(N_OTHER)
    trials = subject.responses(shown, N_REPEATS)
    train = subject.pictures(2 * N_FULL)
    X = subject.responses(train, 1)[:, 0]
    cuts: dict = {}
    for order in range(CONFIG.seeds):
        place = subject.rng.permutation(N_FULL)
        for fraction in CONFIG.fractions:
            if fraction == 1 and order:
                continue
            rows = place[: int(fraction * N_FULL)]
            decoder = fit(X[rows], train[rows])
            for repeats in range(1, N_REPEATS + 1):
                means = trials[:, :repeats].mean(axis=1)
                counted = better(decoder, means, shown, others)
                cuts.setdefault((fraction, repeats), []).append((order, *counted))
            if fraction == 1:
                full = decoder
    made = [
        Cut(f, f * N_FULL, r, *(np.stack(part) for part in list(zip(*parts, strict=True))[1:]),
            seed=np.array([part[0] for part in parts]))
        for (f, r), parts in cuts.items()
    ]  # fmt: skip
    table = surface_table(
        made,
        np.arange(N_TEST),
        n_others=N_TEST + N_OTHER - 1,
        config=CONFIG,
        rng=np.random.default_rng(seed),
    )
    pools = sorted(table.loc[table["kind"] == "measured", "pool_size"].unique())
    found = []
    double = fit(X, train)
    for name, amount, decoder, kind in (
        ("measured", 1.0, full, "measured"),
        ("all from half", 1.0, full, "check"),
        ("twice from all", 2.0, double, "extrapolated"),
    ):
        for repeats in (1, 3) if amount == 1 else (1, 3, 6):
            truth = true_share(subject, decoder, repeats, others, pools)
            for size, value in zip(pools, truth, strict=True):
                rows = table[
                    (table["kind"] == kind)
                    & (table["fraction"] == amount)
                    & (table["n_repeats"] == repeats)
                    & (table["pool_size"] == size)
                ]
                # Nothing is foreseen where scores with little data are at chance.
                if not len(rows):
                    continue
                row = rows.iloc[0]
                found.append(
                    {
                        "predicted": name,
                        "repeats": repeats,
                        "pool": size,
                        "truth": value,
                        "error": row["value"] - value,
                        "width": row["ci_high"] - row["ci_low"],
                        "holds": row["ci_low"] <= value <= row["ci_high"],
                    }
                )
    return found


def main() -> None:
    n_subjects = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    master = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    rows = []
    for bend in (False, True):
        for noise in (2.5, 4.0, 6.0):
            for seed in range(n_subjects):
                # Other pictures for every kind of subject.
                made = one_subject(noise, bend, derive_seed(master, seed, str(bend), str(noise)))
                rows += [{"tuning": "tanh" if bend else "linear", "noise": noise, **row}
                         for row in made]  # fmt: skip
    table = pd.DataFrame(rows)
    for keys in (["predicted", "tuning", "noise"], ["predicted", "repeats", "pool"], ["predicted"]):
        columns = {"truth": "mean", "error": "mean", "width": "mean", "holds": "mean"}
        print(table.groupby(keys).agg(columns).round(3).to_string(), end="\n\n")


if __name__ == "__main__":
    main()
