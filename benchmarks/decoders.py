"""Identification by the decoders on simulated subjects at three noise levels.

python benchmarks/decoders.py [--quick] [--repeats N] [--all] [--out FILE.json]

A picture has twenty attributes; embeddings (256 dimensions, unit norm, with the mean direction
that CLIP's have) and voxels (2000) are functions of them that are linear in part; the noise is
voxels' own and shared. 300 pictures come twice each for training, 200 others have three
trials averaged for testing. ``--repeats`` subjects (default 30) are
drawn at every level. Intervals (95 %) of the difference to ridge are from a bootstrap over
subjects and, within each, over pictures. ``--all`` adds the
epochs of the contrastive decoder, the MLP and ensembles, which take most of the time. The
settings of the contrastive decoder were chosen on subjects of seeds 100 to 107; those of the
report are 0 to 29.
"""

from __future__ import annotations

import time

import numpy as np
from measure import make_parser, write_figures
from threadpoolctl import threadpool_limits

from braindecode_clip.decode import (
    ContrastiveDecoder,
    MLPDecoder,
    RidgeDecoder,
    apply_calibration,
    fit_calibration,
)
from braindecode_clip.decode.ensemble import ensemble_weights

NOISE = {"low": 10.0, "medium": 16.0, "high": 24.0}
N_TRAIN, N_TEST, N_BOOTSTRAP = 300, 200, 2000


def make_subject(noise, seed, *, n_voxels=2000, n_dims=256):
    """Voxels and embeddings of training trials (two of each picture) and test pictures."""
    rng = np.random.default_rng(seed)
    attributes = rng.standard_normal((N_TRAIN + N_TEST, 20)) * np.linspace(2, 0.5, 20)
    bent = np.tanh(attributes @ rng.standard_normal((20, 20)) / 3)
    features = np.hstack([attributes, bent])
    vectors = features @ rng.standard_normal((40, n_dims))
    vectors[:, 0] += 1.5 * np.linalg.norm(vectors, axis=1).mean()
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    signal = features @ rng.standard_normal((40, n_voxels))
    signal /= signal.std(axis=0)
    shared = rng.standard_normal((5, n_voxels)) / 2

    def trial(pictures):
        own = rng.standard_normal((len(pictures), n_voxels))
        common = rng.standard_normal((len(pictures), 5)) @ shared
        return signal[pictures] + noise * (own + common)

    train = np.tile(np.arange(N_TRAIN), 2)
    test = np.arange(N_TRAIN, N_TRAIN + N_TEST)
    X, T = trial(train), np.mean([trial(test) for _ in range(3)], axis=0)
    scale = X.std(axis=0)
    X, T = X / scale, T / scale
    vectors = vectors.astype(np.float32)
    return X.astype(np.float32), vectors[train], train, T.astype(np.float32), vectors[test]


def make_decoders(*, everything):
    made = {
        "ridge": RidgeDecoder(out_of_fold=True),
        "ridge, one penalty": RidgeDecoder(out_of_fold=True, alpha_groups="all"),
        "contrastive": ContrastiveDecoder(random_state=0),
    }
    if everything:
        made |= {
            "contrastive, epochs": ContrastiveDecoder(max_epochs=40, random_state=0),
            "mlp": MLPDecoder(random_state=0),
        }
    return made


def identify(predicted, gallery):
    """Return for every picture: top-1 hit, and share of distractors beaten."""
    similarity = predicted / np.linalg.norm(predicted, axis=1, keepdims=True) @ gallery.T
    better = (similarity > np.diag(similarity)[:, None]).sum(axis=1)
    return np.stack([better == 0, 1 - better / (len(gallery) - 1)])


def run_subject(noise, seed, *, everything):
    """Return scores (2, n_test) and CPU seconds of every decoder."""
    X, Y, shown, T, gallery = make_subject(noise, seed)
    scores, seconds, held, predicted = {}, {}, [], []
    for name, model in make_decoders(everything=everything).items():
        start = time.process_time()
        known = {} if name.startswith("ridge") else {"stimuli": shown}
        model.fit(X, Y, groups=shown, **known)
        calibration = fit_calibration(model.out_of_fold_, Y)
        out = apply_calibration(model.predict(T), *calibration)
        scores[name], seconds[name] = identify(out, gallery), time.process_time() - start
        if name in ("ridge", "mlp"):
            held.append(apply_calibration(model.out_of_fold_, *calibration))
            predicted.append(out)
    for method in ("identification", "error") if everything else ():
        weights = ensemble_weights(held, Y, stimulus_id=shown, method=method)
        name = f"ridge + mlp by {method}"
        scores[name] = identify(np.tensordot(weights, predicted, axes=1), gallery)
        seconds[name] = seconds["ridge"] + seconds["mlp"]
    return scores, seconds


def summarise(runs):
    """Return mean scores and the interval of the difference to ridge for every decoder."""
    rng = np.random.default_rng(0)
    who = rng.integers(0, len(runs), size=(N_BOOTSTRAP, len(runs)))
    what = rng.integers(0, N_TEST, size=(N_BOOTSTRAP, len(runs), N_TEST))
    table = {}
    for name in runs[0][0]:
        own, ridge = (np.array([scores[key] for scores, _ in runs]) for key in (name, "ridge"))
        difference = (own - ridge).transpose(0, 2, 1)
        samples = np.array(
            [
                difference[subjects[:, None], pictures].mean(axis=(0, 1))
                for subjects, pictures in zip(who, what, strict=True)
            ]
        )
        low, high = np.quantile(samples, [0.025, 0.975], axis=0)
        mean = own.mean(axis=(0, 2))
        table[name] = {
            "top_1": float(mean[0]),
            "top_1_gain": [float(difference[..., 0].mean()), float(low[0]), float(high[0])],
            "pairwise": float(mean[1]),
            "pairwise_gain": [float(difference[..., 1].mean()), float(low[1]), float(high[1])],
            "cpu_s": float(np.mean([seconds[name] for _, seconds in runs])),
        }
    return table


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--all", action="store_true", help="the slow decoders too")
    parser.set_defaults(repeats=30)
    arguments = parser.parse_args()
    levels = {"medium": NOISE["medium"]} if arguments.quick else NOISE
    n_subjects = 2 if arguments.quick else arguments.repeats
    figures = {}
    with threadpool_limits(1):
        for level, noise in levels.items():
            runs = [
                run_subject(noise, seed, everything=arguments.all) for seed in range(n_subjects)
            ]
            figures[level] = summarise(runs)
            print(f"\nnoise {level}: {N_TEST} pictures, {len(runs)} subjects")
            for name, row in figures[level].items():
                parts = []
                for key in ("top_1", "pairwise"):
                    mean, low, high = (100 * part for part in row[f"{key}_gain"])
                    parts.append(
                        f"{key} {100 * row[key]:5.2f} %, to ridge {mean:+.2f} "
                        f"[{low:+.2f}, {high:+.2f}]"
                    )
                print(f"{name:30} {'; '.join(parts)}; {row['cpu_s']:.2f} CPU s", flush=True)
    write_figures(arguments.out, figures)


if __name__ == "__main__":
    main()
