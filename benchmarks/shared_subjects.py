"""The shared-subject decoder beside single-subject ones, on a tenth of a new subject's data.

python benchmarks/shared_subjects.py [--quick] [--repeats N] [--out FILE.json]

``--repeats`` families (default 5) of four simulated subjects answer to rendered scenes; targets are
embeddings of the scenes CLIP that ships. Single-trial responses are drawn directly: true responses
at the simulator's reliability, with white noise and noise that voxels share. Each subject in turn
is the new one, with 10 % of its trials; the others have all. Subjects see training pictures of
their own, but for those that functional alignment needs: half of the new subject's, which the
others saw too. Intervals (95 %) of the differences are from a bootstrap over families, their
subjects, and pictures. All settings were chosen on families of seeds 501 and 502; those of the
report are 77 and following.
"""

from __future__ import annotations

import dataclasses
import json

import numpy as np
from measure import make_parser
from threadpoolctl import threadpool_limits

from braindecode_clip.clip.encoders import load_encoder
from braindecode_clip.config.simulate import SimulateConfig
from braindecode_clip.decode import (
    ContrastiveDecoder,
    RidgeDecoder,
    SharedDecoder,
    apply_calibration,
    fit_calibration,
)
from braindecode_clip.decode.aligned import Trials
from braindecode_clip.decode.shared import learn_space
from braindecode_clip.evaluate import identification
from braindecode_clip.seeds import make_rng
from braindecode_clip.simulate.features import picture_features
from braindecode_clip.simulate.render import render
from braindecode_clip.simulate.stimuli import make_stimuli
from braindecode_clip.simulate.subject import make_subject

SUBJECTS = ("01", "02", "03", "04")
ALPHAS = np.geomspace(1, 1e7, 20)
SEED, SHARE, N_BOOTSTRAP = 77, 0.1, 2000
LEVELS = (1.0, 0.6, 0.3)
#: Share of the noise's variance that ten patterns over voxels carry.
COMMON_NOISE = 0.3
SINGLE, CONTRASTIVE = "ridge, single subject", "contrastive, single subject"
ALONE, SHARED = "shared form, single subject", "shared subjects"
PROCRUSTES, COMMON = "shared subjects, Procrustes", "shared subjects, hyperalignment"
DIFFERENCES = [
    (CONTRASTIVE, SINGLE),
    (ALONE, SINGLE),
    (SHARED, SINGLE),
    (SHARED, CONTRASTIVE),
    (SHARED, ALONE),
    (PROCRUSTES, SHARED),
    (COMMON, SHARED),
]


class Study:
    """Pictures, embeddings, and true responses of all subjects of a family."""

    def __init__(self, seed: int, *, n_train: int, n_test: int) -> None:
        self.seed, self.n_own = seed, round(SHARE * n_train)
        config = SimulateConfig(subjects=SUBJECTS, n_train_pictures=n_train, n_test_pictures=n_test)
        stimuli = make_stimuli(config, rng=make_rng(seed, "stimuli"))
        pictures = [render(item.scene, size_px=config.image_size_px) for item in stimuli]
        vectors = load_encoder("scenes", None, device="cpu").encode_image(pictures)
        place = {item.stimulus_id: i for i, item in enumerate(stimuli)}
        # A few training pictures of every subject are shown to all others too.
        firsts = [s for name in SUBJECTS for s in self._own(stimuli, name)[: self.n_own // 2]]
        self.truth = {}
        for subject in SUBJECTS:
            own = self._own(stimuli, subject)
            more = [s for s in firsts if s.shown_to != subject]
            tested = [s for s in stimuli if s.split == "test"]
            seen = [*own, *more, *tested]
            rows = [place[s.stimulus_id] for s in seen]
            images = np.stack([np.asarray(pictures[i]) for i in rows])
            made = make_subject(
                subject,
                picture_features(images, tuple(s.scene for s in seen)),
                [s.stimulus_id for s in seen],
                [s.split for s in seen],
                config=config,
                seed=seed,
            ).truth
            ids = np.array([s.stimulus_id for s in seen])
            self.truth[subject] = Truth(
                made.responses, made.reliability, vectors[rows], ids, len(own), len(tested)
            )

    @staticmethod
    def _own(stimuli, subject: str):
        return [s for s in stimuli if s.split == "train" and s.shown_to == subject]

    def scan(self, subject: str, level: float) -> Scan:
        """Draw one trial of each training picture, and the mean of three of each test picture."""
        truth = self.truth[subject]
        rng = make_rng(self.seed, subject, "noise", str(level))
        share = np.clip(truth.reliability * level, 0, 0.95)
        patterns = rng.standard_normal((10, len(share))) / np.sqrt(10)

        def trials(part: np.ndarray) -> np.ndarray:
            noise = np.sqrt(1 - COMMON_NOISE) * rng.standard_normal(part.shape)
            noise += np.sqrt(COMMON_NOISE) * rng.standard_normal((len(part), 10)) @ patterns
            return np.sqrt(share) * part + np.sqrt(1 - share) * noise

        n = len(truth.ids) - truth.n_test
        X = trials(truth.responses[:n])
        tested = np.mean([trials(truth.responses[n:]) for _ in range(3)], axis=0)
        return Scan(X, truth.vectors[:n], truth.ids[:n], truth.n_own, tested, truth.vectors[n:])


@dataclasses.dataclass(frozen=True)
class Truth:
    """True responses of one subject: own pictures, those of others, and test pictures."""

    responses: np.ndarray
    reliability: np.ndarray
    vectors: np.ndarray
    ids: np.ndarray
    n_own: int
    n_test: int


@dataclasses.dataclass(frozen=True)
class Scan:
    """Trials of one subject; the first ``n_own`` training rows are of its own pictures."""

    X: np.ndarray
    Y: np.ndarray
    ids: np.ndarray
    n_own: int
    tested: np.ndarray
    truth: np.ndarray


def scaled(X: np.ndarray, *more: np.ndarray) -> list[np.ndarray]:
    mean, sd = X.mean(axis=0), X.std(axis=0)
    return [((part - mean) / sd).astype(np.float32) for part in (X, *more)]


def new_subject(scans: dict[str, Scan], subject: str, n_own: int) -> dict[str, np.ndarray]:
    """Return top-1 and pairwise scores (2, n_test) of each decoder for one new subject."""
    scan = scans[subject]
    X, tested = scaled(scan.X[:n_own], scan.tested)
    Y, ids = scan.Y[:n_own], scan.ids[:n_own]
    # What others saw of each other's pictures is left out: it is not part of the design.
    others = []
    for name, item in scans.items():
        if name != subject:
            keep = (np.arange(len(item.X)) < item.n_own) | np.isin(item.ids, ids)
            others.append(Trials(name, *scaled(item.X[keep]), item.Y[keep], item.ids[keep]))
    apart = [
        Trials(item.subject, item.X[~known], item.Y[~known], item.stimuli[~known])
        for item in others
        for known in [np.isin(item.stimuli, ids)]
    ]
    spaces = [
        learn_space([item.X for item in used], [item.Y for item in used], n_components=128, own=Y)
        for used in (apart, others)
    ]
    models = {
        SINGLE: (RidgeDecoder(ALPHAS, cv=5, out_of_fold=True), {}),
        CONTRASTIVE: (ContrastiveDecoder(ALPHAS, cv=5, random_state=0), {}),
        ALONE: (SharedDecoder(alphas=ALPHAS), {}),
        SHARED: (SharedDecoder(spaces[0], alphas=ALPHAS), {}),
    }
    for name, method in ((PROCRUSTES, "procrustes"), (COMMON, "hyperalignment")):
        model = SharedDecoder(spaces[1], alphas=ALPHAS, alignment=method)
        models[name] = (model, {"stimuli": ids, "others": others})
    found = {}
    for name, (model, known) in models.items():
        model.fit(X, Y, **known)
        line = fit_calibration(model.out_of_fold_, Y)
        predicted = apply_calibration(model.predict(tested), *line)
        rank = identification(predicted, scan.truth, np.arange(len(scan.truth))).rank
        found[name] = np.stack([rank == 1, 1 - (rank - 1) / (len(scan.truth) - 1)]).astype(float)
    return found


def interval(values: np.ndarray, rng: np.random.Generator) -> tuple[float, float, float]:
    """Return mean and 95 % interval of (n_families, n_subjects, n_test), each drawn anew."""
    n_families, n_subjects, n_test = values.shape
    drawn = np.empty(N_BOOTSTRAP)
    for i in range(N_BOOTSTRAP):
        family = rng.integers(n_families, size=n_families)[:, None, None]
        subject = rng.integers(n_subjects, size=(n_families, n_subjects))[:, :, None]
        # The pictures of a family are the same for all of its subjects.
        picture = rng.integers(n_test, size=(n_families, 1, n_test))
        drawn[i] = values[family, subject, picture].mean()
    return float(values.mean()), *map(float, np.quantile(drawn, [0.025, 0.975]))


def main() -> None:
    parser = make_parser(__doc__)
    parser.set_defaults(repeats=5)
    arguments = parser.parse_args()
    n_families = 2 if arguments.quick else arguments.repeats
    found = {level: [] for level in LEVELS}
    with threadpool_limits(1):
        for seed in range(SEED, SEED + n_families):
            study = Study(seed, n_train=480, n_test=60 if arguments.quick else 150)
            for level in LEVELS:
                scans = {name: study.scan(name, level) for name in SUBJECTS}
                found[level].append([new_subject(scans, name, study.n_own) for name in SUBJECTS])
    figures = {}
    for level, families in found.items():
        n_test = families[0][0][SINGLE].shape[1]
        print(
            f"\nReliability x {level:g}; {study.n_own} training trials, {n_test} pictures, "
            f"{n_families} x {len(SUBJECTS)} subjects"
        )
        rng = make_rng(SEED, "bootstrap")
        for column, metric in enumerate(("top-1", "pairwise")):
            names = families[0][0]
            rows = {k: np.array([[s[k][column] for s in f] for f in families]) for k in names}
            rows |= {f"{one} - {two}": rows[one] - rows[two] for one, two in DIFFERENCES}
            for name, values in rows.items():
                mean, low, high = interval(values, rng)
                figures[f"{level:g} {metric} {name}"] = [mean, low, high]
                print(f"{metric:9} {name:58} {mean:7.4f}  [{low:7.4f}, {high:7.4f}]", flush=True)
    if arguments.out:
        arguments.out.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
