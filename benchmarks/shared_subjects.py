"""The shared-subject decoder beside single-subject ones, on a tenth of a new subject's data.

python benchmarks/shared_subjects.py [--quick] [--out FILE.json]

Four simulated subjects answer to rendered scenes; targets are embeddings of the scenes CLIP
that ships. Single-trial responses are drawn directly: true responses at the simulator's
reliability, with white noise and noise that voxels share. Each subject in turn is the new one.
"""

from __future__ import annotations

import json

import numpy as np
from measure import parse_arguments
from threadpoolctl import threadpool_limits

from braindecode_clip.clip.encoders import load_encoder
from braindecode_clip.config.simulate import SimulateConfig
from braindecode_clip.decode import RidgeDecoder, SharedDecoder, apply_calibration, fit_calibration
from braindecode_clip.decode.shared import learn_space
from braindecode_clip.evaluate import identification
from braindecode_clip.seeds import make_rng
from braindecode_clip.simulate.features import picture_features
from braindecode_clip.simulate.render import render
from braindecode_clip.simulate.stimuli import make_stimuli
from braindecode_clip.simulate.subject import make_subject

SUBJECTS = ("01", "02", "03", "04")
ALPHAS = np.geomspace(1, 1e7, 20)
SEED, SHARE, N_BOOTSTRAP = 77, 0.1, 5000
#: Share of the noise's variance that ten patterns over voxels carry.
COMMON_NOISE = 0.3
SINGLE, ALONE, SHARED = "ridge, single subject", "shared form, single subject", "shared subjects"


class Study:
    """Pictures, embeddings, and true responses of all subjects."""

    def __init__(self, *, n_train: int, n_test: int) -> None:
        config = SimulateConfig(subjects=SUBJECTS, n_train_pictures=n_train, n_test_pictures=n_test)
        stimuli = make_stimuli(config, rng=make_rng(SEED, "stimuli"))
        pictures = [render(item.scene, size_px=config.image_size_px) for item in stimuli]
        vectors = load_encoder("scenes", None, device="cpu").encode_image(pictures)
        self.truth = {}
        for subject in SUBJECTS:
            rows = [i for i, s in enumerate(stimuli) if s.shown_to in (subject, "all")]
            seen = [stimuli[i] for i in rows]
            images = np.stack([np.asarray(pictures[i]) for i in rows])
            made = make_subject(
                subject,
                picture_features(images, tuple(s.scene for s in seen)),
                [s.stimulus_id for s in seen],
                [s.split for s in seen],
                config=config,
                seed=SEED,
            ).truth
            is_train = np.array([s.split == "train" for s in seen])
            self.truth[subject] = (made.responses, made.reliability, is_train, vectors[rows])

    def scan(self, subject: str, level: float) -> tuple[np.ndarray, ...]:
        """Return X and Y of train, X (mean of three repeats) and Y of test."""
        responses, reliability, is_train, vectors = self.truth[subject]
        rng = make_rng(SEED, subject, "noise", str(level))
        share = np.clip(reliability * level, 0, 0.95)
        patterns = rng.standard_normal((10, len(share))) / np.sqrt(10)

        def trials(part: np.ndarray) -> np.ndarray:
            noise = np.sqrt(1 - COMMON_NOISE) * rng.standard_normal(part.shape)
            noise += np.sqrt(COMMON_NOISE) * rng.standard_normal((len(part), 10)) @ patterns
            return np.sqrt(share) * part + np.sqrt(1 - share) * noise

        X = trials(responses[is_train])
        tested = np.mean([trials(responses[~is_train]) for _ in range(3)], axis=0)
        return X, vectors[is_train], tested, vectors[~is_train]


def scaled(X: np.ndarray, *more: np.ndarray) -> list[np.ndarray]:
    mean, sd = X.mean(axis=0), X.std(axis=0)
    return [((part - mean) / sd).astype(np.float32) for part in (X, *more)]


def new_subject(scans: dict[str, tuple[np.ndarray, ...]], subject: str) -> dict[str, np.ndarray]:
    """Return top-1 and pairwise scores (2, n_test) of each decoder for one new subject."""
    X, Y, tested, truth = scans[subject]
    n = round(SHARE * len(X))
    X, tested = scaled(X[:n], tested)
    Y = Y[:n]
    others = [scans[name] for name in SUBJECTS if name != subject]
    space = learn_space(
        [scaled(item[0])[0] for item in others],
        [item[1] for item in others],
        n_components=128,
        own=Y,
    )
    models = {
        SINGLE: RidgeDecoder(ALPHAS, cv=5, out_of_fold=True),
        ALONE: SharedDecoder(alphas=ALPHAS),
        SHARED: SharedDecoder(space, alphas=ALPHAS),
    }
    found = {}
    for name, model in models.items():
        model.fit(X, Y)
        line = fit_calibration(model.out_of_fold_, Y)
        predicted = apply_calibration(model.predict(tested), *line)
        rank = identification(predicted, truth, np.arange(len(truth))).rank
        found[name] = np.stack([rank == 1, 1 - (rank - 1) / (len(truth) - 1)]).astype(float)
    return found


def interval(values: np.ndarray, rng: np.random.Generator) -> tuple[float, float, float]:
    """Return mean and 95 % interval of (n_subjects, n_test) over subjects and pictures drawn."""
    n_subjects, n_test = values.shape
    drawn = np.empty(N_BOOTSTRAP)
    for i in range(N_BOOTSTRAP):
        rows = rng.integers(n_subjects, size=n_subjects)
        drawn[i] = values[rows][:, rng.integers(n_test, size=n_test)].mean()
    return float(values.mean()), *map(float, np.quantile(drawn, [0.025, 0.975]))


def main() -> None:
    arguments = parse_arguments(__doc__.splitlines()[0])
    study = Study(n_train=240 if arguments.quick else 480, n_test=60 if arguments.quick else 100)
    figures = {}
    for level in (1.0, 0.6, 0.3):
        scans = {name: study.scan(name, level) for name in SUBJECTS}
        with threadpool_limits(1):
            found = [new_subject(scans, name) for name in SUBJECTS]
        n = round(SHARE * len(scans["01"][0]))
        print(
            f"\nReliability x {level:g}; {n} training trials, {found[0][SINGLE].shape[1]} pictures"
        )
        rng = make_rng(SEED, "bootstrap")
        for column, metric in enumerate(("top-1", "pairwise")):
            scores = {k: np.array([item[k][column] for item in found]) for k in found[0]}
            rows = dict(scores)
            for name in (SINGLE, ALONE):
                rows[f"{SHARED} - {name}"] = scores[SHARED] - scores[name]
            rows[f"{ALONE} - {SINGLE}"] = scores[ALONE] - scores[SINGLE]
            for name, values in rows.items():
                mean, low, high = interval(values, rng)
                figures[f"{level:g} {metric} {name}"] = [mean, low, high]
                print(f"{metric:9} {name:52} {mean:7.3f}  [{low:6.3f}, {high:6.3f}]")
    if arguments.out:
        arguments.out.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
