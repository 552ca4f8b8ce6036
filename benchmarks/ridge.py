"""Ridge with a penalty for every target against himalaya and scikit-learn.

python benchmarks/ridge.py [--quick] [--repeats N] [--out FILE.json]

Twenty penalties, five folds (scikit-learn's RidgeCV: leave-one-out), float32 data; fit, and
predictions of the training rows. First CPU time on one thread, then the clock on all cores.
``error`` is the largest difference of the predictions to those of float64 refits at the
penalties that the competitor chose, in standard deviations of the targets; ``same`` the share
of targets whose penalty is that of float64 K-fold refits.
"""

from __future__ import annotations

import os
import warnings
from functools import partial

import numpy as np
import torch
from himalaya.backend import set_backend
from himalaya.kernel_ridge import KernelRidgeCV
from himalaya.ridge import RidgeCV as PrimalRidgeCV
from measure import parse_arguments, print_table, side_by_side, write_figures
from sklearn.linear_model import RidgeCV

from braindecode_clip.decode import RidgeDecoder

ALPHAS = np.logspace(0, 7, 20)
SHAPES = {
    False: [(1000, 4000, 512), (2000, 1000, 256), (4000, 1500, 512), (3000, 15724, 768)],
    True: [(300, 600, 64), (400, 150, 64)],
}


def make_data(n_rows, n_voxels, n_targets):
    """Voxels that share components of falling size, targets from clean to hopeless; float32."""
    rng = np.random.default_rng(0)
    scores = rng.standard_normal((n_rows, 100)) / np.sqrt(1 + np.arange(100))
    X = scores @ rng.standard_normal((100, n_voxels)) + rng.standard_normal((n_rows, n_voxels))
    Y = scores @ rng.standard_normal((100, n_targets))
    Y += rng.standard_normal(Y.shape) * np.linspace(0.3, 5, n_targets)
    X, Y = ((part - part.mean(axis=0)) / part.std(axis=0) for part in (X, Y))
    return X.astype(np.float32), Y.astype(np.float32)


def ours(X, Y):
    model = RidgeDecoder(ALPHAS).fit(X, Y)
    return model.alpha_, model.predict(X)


def himalaya(X, Y):
    """Kernel ridge, its fastest here; it has no intercept, and the data are centred."""
    model = KernelRidgeCV(alphas=ALPHAS.astype(np.float32), kernel="linear", cv=5).fit(X, Y)
    return np.asarray(model.best_alphas_), np.asarray(model.predict(X))


def himalaya_primal(X, Y):
    """Its ridge for more rows than voxels."""
    model = PrimalRidgeCV(alphas=ALPHAS.astype(np.float32), cv=5).fit(X, Y)
    return np.asarray(model.best_alphas_), np.asarray(model.predict(X))


def leave_one_out(X, Y):
    model = RidgeCV(ALPHAS, alpha_per_target=True).fit(X, Y)
    return model.alpha_, model.predict(X)


def competitors(n_rows, n_voxels):
    """Name and call of everything that is fast at a shape."""
    if n_rows > n_voxels:
        peer = {"himalaya RidgeCV": himalaya_primal}
    else:
        peer = {"himalaya KernelRidgeCV": himalaya}
    return {"RidgeDecoder": ours, **peer, "scikit-learn RidgeCV": leave_one_out}


def refit(X, Y, alpha):
    """Predict the training rows in float64 at one penalty for each target."""
    x_mean, y_mean = X.mean(axis=0), Y.mean(axis=0)
    values, vectors = np.linalg.eigh((X - x_mean) @ (X - x_mean).T)
    share = values[:, None] / (values[:, None] + alpha)
    return vectors @ (share * (vectors.T @ (Y - y_mean))) + y_mean


def choose(X, Y):
    """Choose penalties by float64 K-fold, one decomposition a fold."""
    error = np.zeros((len(ALPHAS), Y.shape[1]))
    for held in np.array_split(np.arange(len(X)), 5):
        train = np.setdiff1d(np.arange(len(X)), held)
        x_mean, y_mean = X[train].mean(axis=0), Y[train].mean(axis=0)
        centred = X[train] - x_mean
        values, vectors = np.linalg.eigh(centred @ centred.T)
        left = (X[held] - x_mean) @ centred.T @ vectors
        right = vectors.T @ (Y[train] - y_mean)
        for i, alpha in enumerate(ALPHAS):
            predicted = (left / (np.maximum(values, 0) + alpha)) @ right + y_mean
            error[i] += np.square(Y[held] - predicted).sum(axis=0)
    return ALPHAS[error.argmin(axis=0)]


def time_on_all_cores(X, Y, calls, *, repeats):
    """Repeat the comparison with as many threads as cores; the time on the clock counts."""
    n_cores = os.cpu_count() or 1
    torch.set_num_threads(n_cores)
    bound = {name: partial(call, X, Y) for name, call in calls.items()}
    figures = side_by_side(bound, repeats=repeats, threads=n_cores)
    torch.set_num_threads(1)
    return figures


def main():
    arguments = parse_arguments(__doc__.splitlines()[0])
    torch.set_num_threads(1)
    set_backend("torch")
    warnings.filterwarnings("ignore", message="Solving")
    content = {}
    for shape in SHAPES[arguments.quick]:
        X, Y = make_data(*shape)
        calls = competitors(*shape[:2])
        figures = side_by_side(
            {name: partial(call, X, Y) for name, call in calls.items()},
            repeats=arguments.repeats,
        )
        on_all = time_on_all_cores(X, Y, calls, repeats=arguments.repeats)
        exact_X, exact_Y = X.astype(np.float64), Y.astype(np.float64)
        best = choose(exact_X, exact_Y)
        for name, call in calls.items():
            alpha, predicted = call(X, Y)
            difference = np.abs(predicted - refit(exact_X, exact_Y, alpha.astype(np.float64)))
            figures[name] |= {
                "error": float(difference.max()),
                "same": float(np.isclose(alpha, best, rtol=1e-3).mean()),
            }
        title = f"{shape[0]} rows x {shape[1]} voxels x {shape[2]} targets"
        print_table(f"{title}, one thread", figures)
        print_table(f"{title}, {os.cpu_count()} threads", on_all)
        for name, row in figures.items():
            print(f"{name}: error {row['error']:.1e}, same penalty {row['same']:.3f}")
        content[title] = {"one thread": figures, "all cores": on_all}
    write_figures(arguments.out, content)


if __name__ == "__main__":
    main()
