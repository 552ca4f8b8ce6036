"""What each calibration of the predictions does to identification, transductive one included.

python benchmarks/calibration.py [--quick] [--repeats N] [--out FILE.json]

Simulated embeddings that share a mean direction, as CLIP's do, and noisy voxels; ridge, 60 unseen
stimuli. Mean over ``repeats`` data sets (40 at least, 5 with --quick) with a 95 % interval over
them. ``transductive`` looks at the test predictions, so it is no like for the others.
"""

from __future__ import annotations

import numpy as np
from measure import parse_arguments, write_figures

from braindecode_clip.decode import RidgeDecoder, apply_calibration, fit_calibration
from braindecode_clip.decode.calibrate import METHODS, standardise
from braindecode_clip.decode.identify import pairwise_shares

N_TRAIN, N_TEST, N_VOXELS, N_DIMS = 200, 60, 150, 32
NOISES = (2.0, 5.0)


def make_data(noise, seed):
    """Voxels (n, n_voxels) and unit vectors (n, n_dims) of the same pictures."""
    rng = np.random.default_rng(seed)
    hidden = rng.standard_normal((N_TRAIN + N_TEST, 12)) * np.linspace(2, 0.5, 12)
    targets = hidden @ rng.standard_normal((12, N_DIMS)) / 5
    targets[:, 0] += 1.5 * np.linalg.norm(targets, axis=1).mean()
    targets /= np.linalg.norm(targets, axis=1, keepdims=True)
    voxels = hidden @ rng.standard_normal((12, N_VOXELS))
    voxels /= voxels.std(axis=0)
    voxels += noise * rng.standard_normal(voxels.shape)
    return voxels.astype(np.float32), targets.astype(np.float32)


def scores(noise, seed):
    """Return top-1 and pairwise identification of the test part for every method."""
    voxels, targets = make_data(noise, seed)
    X, Y, truth = voxels[:N_TRAIN], targets[:N_TRAIN], targets[N_TRAIN:]
    model = RidgeDecoder(out_of_fold=True).fit(X, Y)
    predicted = model.predict(voxels[N_TRAIN:])
    found = {}
    for method in METHODS:
        line = fit_calibration(model.out_of_fold_, Y, method=method)
        raw = standardise(predicted) if method == "transductive" else predicted
        shares = pairwise_shares(apply_calibration(raw, *line), truth, np.arange(N_TEST))
        found[method] = (float((shares == 1).mean()), float(shares.mean()))
    return found


def main() -> None:
    arguments = parse_arguments(__doc__)
    n_sets = 5 if arguments.quick else max(40, arguments.repeats)
    content = {}
    for noise in NOISES:
        draws = [scores(noise, seed) for seed in range(n_sets)]
        figures = {}
        for method in METHODS:
            values = np.array([draw[method] for draw in draws])
            gains = values - np.array([draw["none"] for draw in draws])
            half = 1.96 * gains.std(axis=0, ddof=1) / np.sqrt(n_sets)
            figures[method] = {
                "top_1": values[:, 0].mean(),
                "pairwise": values[:, 1].mean(),
                "gain_top_1": gains[:, 0].mean(),
                "half_ci_top_1": half[0],
                "gain_pairwise": gains[:, 1].mean(),
                "half_ci_pairwise": half[1],
            }
        title = f"noise {noise:g}, {n_sets} data sets"
        print(f"\n{title}: top-1, pairwise (gain over none, half of its 95 % interval)")
        for method, row in figures.items():
            print(
                f"{method:22s}{row['top_1']:6.3f} ({row['gain_top_1']:+.3f} ± "
                f"{row['half_ci_top_1']:.3f}) {row['pairwise']:6.3f} "
                f"({row['gain_pairwise']:+.3f} ± {row['half_ci_pairwise']:.3f})"
            )
        content[title] = figures
    write_figures(arguments.out, content)


if __name__ == "__main__":
    main()
