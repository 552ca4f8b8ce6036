"""Banded ridge by random search against himalaya's, on the same weightings.

python benchmarks/banded.py [--quick] [--repeats N] [--out FILE.json]

Three bands, twelve weightings, ten penalties, five folds, float32 data, one thread. himalaya's
kernels have no intercept, so the data are centred and its folds are not; ``same`` is the
share of targets whose weighting and penalty both choose, ``error`` the largest difference of
the predictions of these targets, in standard deviations of the targets.
"""

from __future__ import annotations

import warnings
from functools import partial

import numpy as np
from himalaya.kernel_ridge import MultipleKernelRidgeCV
from measure import parse_arguments, print_table, side_by_side, write_figures

from braindecode_clip.decode import BandedRidgeDecoder
from braindecode_clip.decode.banded import sample_weights

ALPHAS = np.logspace(0, 5, 10)
N_WEIGHTS = 12
SHAPES = {False: [(1000, 4000, 512)], True: [(300, 600, 64)]}


def make_data(n_rows, n_voxels, n_targets):
    """Each target depends on one of three bands, with noise; float32, centred."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n_rows, 60)) @ rng.standard_normal((60, n_voxels))
    X += 3 * rng.standard_normal(X.shape)
    band = np.arange(n_voxels) * 3 // n_voxels
    Y = np.empty((n_rows, n_targets))
    for t in range(n_targets):
        own = X[:, band == t % 3]
        signal = own @ rng.standard_normal(own.shape[1])
        Y[:, t] = signal / signal.std() + rng.standard_normal(n_rows) * (0.3 + 2 * t / n_targets)
    X, Y = ((part - part.mean(axis=0)) / part.std(axis=0) for part in (X, Y))
    return X.astype(np.float32), Y.astype(np.float32), band


def ours(X, Y, band):
    model = BandedRidgeDecoder(band, ALPHAS, n_weights=N_WEIGHTS, random_state=0).fit(X, Y)
    return model.weights_, model.alpha_, model.predict(X)


def himalaya(X, Y, band):
    weights = sample_weights(3, N_WEIGHTS, rng=np.random.RandomState(0)).astype(np.float32)
    kernels = np.stack([X[:, band == b] @ X[:, band == b].T for b in range(3)])
    options = {"n_iter": weights, "alphas": ALPHAS.astype(np.float32), "progress_bar": False}
    model = MultipleKernelRidgeCV(
        kernels="precomputed", solver="random_search", solver_params=options, cv=5, random_state=0
    )
    model.fit(kernels, Y)
    # Its log kernel weights hold γ / α; their sum over bands is 1 / α.
    scaled = np.exp(model.deltas_.astype(np.float64))
    total = scaled.sum(axis=0)
    return scaled / total, 1 / total, np.asarray(model.predict(kernels))


def main() -> None:
    arguments = parse_arguments(__doc__)
    warnings.filterwarnings("ignore")
    found = {}
    for shape in SHAPES[arguments.quick]:
        X, Y, band = make_data(*shape)
        competitors = {
            "BandedRidgeDecoder": partial(ours, X, Y, band),
            "himalaya MultipleKernelRidgeCV": partial(himalaya, X, Y, band),
        }
        figures = side_by_side(competitors, repeats=arguments.repeats)
        mine, theirs = (compute() for compute in competitors.values())
        same = np.isclose(mine[0], theirs[0], atol=1e-3).all(axis=0)
        same &= np.isclose(mine[1], theirs[1], rtol=1e-2)
        error = np.abs(mine[2] - theirs[2])[:, same].max() if same.any() else None
        for row in figures.values():
            row |= {"same": float(same.mean()), "error": None if error is None else float(error)}
        title = " x ".join(map(str, shape))
        print_table(title, figures)
        print(f"same {same.mean():.3f}, error {error if error is None else f'{error:.1e}'}")
        found[title] = figures
    write_figures(arguments.out, found)


if __name__ == "__main__":
    main()
