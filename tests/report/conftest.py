"""A study's results in miniature: real artefacts, written as the stages write them."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageDraw

from braindecode_clip.artifacts import (
    Betas,
    Embeddings,
    Fold,
    Predictions,
    Retrieval,
    Samples,
    Signals,
    VoxelSet,
    VoxelSpace,
)
from braindecode_clip.cli.main import main
from braindecode_clip.config.evaluate import EvaluateConfig
from braindecode_clip.constants import SCHEMA_VERSION
from braindecode_clip.evaluate import evaluate
from braindecode_clip.io.atomic import write_json
from braindecode_clip.io.hdf5 import save_artifact
from braindecode_clip.io.nifti import write_volume
from braindecode_clip.io.tables import write_tsv
from braindecode_clip.provenance import Provenance
from braindecode_clip.quality import RunQuality, describe_run
from braindecode_clip.retrieve import retrieve

SHAPE = (20, 24, 14)
AFFINE = np.array([[-3.0, 0, 0, 30], [0, 3, 0, -40], [0, 0, 3, -10], [0, 0, 0, 1]])
DIRECTIONS = {"brain_to_image": "retrievals", "image_to_brain": "reverse"}
SCORING = EvaluateConfig(n_bootstrap=200, n_permutations=1999, n_permutations_dims=99, pool_sizes=8)
FITS = {
    "ridge": {"alpha_min": 1.0, "alpha_median": 483.3, "alpha_max": 1e7, "share_at_edge": 0.0},
    "mlp": {"best_epochs": [12, 31]},
}
HOSTILE = '<script>alert("x")</script> & a "circle"'


@dataclass(frozen=True)
class Study:
    """Paths of a written study, and what its rows hold."""

    folder: Path
    config: dict[str, Any]
    listing: dict[str, Any]
    rows: list[dict[str, Any]]
    retrievals: list[Retrieval]

    @property
    def list_path(self) -> Path:
        return self.folder / "inputs.json"

    def arguments(self, out: Path) -> list[str]:
        write_json(self.list_path, self.listing)
        config = self.folder / "study.json"
        write_json(config, self.config)
        listing = ["--results-list", str(self.list_path)]
        return ["report", "--study", str(config), *listing, "--out", str(out)]


def provenance(stage: str) -> Provenance:
    return Provenance(
        stage=stage, options={}, inputs={"a.h5": "0" * 64}, seed=7, code_digest="0123456789abcdef"
    )


def write_pictures(folder: Path, n_pictures: int, rng: np.random.Generator) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for index in range(n_pictures):
        image = Image.new("RGB", (96, 96), tuple(int(v) for v in rng.integers(150, 255, 3)))
        draw = ImageDraw.Draw(image)
        for _ in range(1 + index % 3):
            x, y, r = (int(v) for v in rng.integers([15, 15, 8], [80, 80, 26]))
            box, colour = (
                (x - r, y - r, x + r, y + r),
                tuple(int(v) for v in rng.integers(0, 220, 3)),
            )
            (draw.ellipse if index % 2 else draw.rectangle)(box, fill=colour)
        name = f"stim-{index:03d}"
        image.save(folder / f"{name}.png")
        caption = HOSTILE if index == 0 else f"picture number {index} with shapes on a ground"
        rows.append(
            {"stimulus_id": name, "image": f"{name}.png", "caption": caption, "split": "test"}
        )
    write_tsv(folder / "stimuli.tsv", pd.DataFrame(rows))
    return folder / "stimuli.tsv"


def make_predictions(
    embeddings: Embeddings, info: dict[str, str], rng: np.random.Generator, *, repeats: int
) -> Predictions:
    """Predict the truth with noise; ``repeats`` samples of each stimulus, one a run."""
    noise_sd = 0.6 if repeats == 1 else 0.3
    true = np.repeat(np.arange(len(embeddings.ids)), repeats)
    noise = rng.normal(0, noise_sd, (len(true), embeddings.vectors.shape[1]))
    return Predictions(
        vectors=(embeddings.vectors[true] + noise).astype(np.float32),
        stimulus_id=embeddings.ids[true],
        group=np.array([f"{i % repeats + 1:02d}" for i in range(len(true))]),
        fold=np.array(["all"] * len(true)),
        n_repeats=np.full(len(true), 3 if repeats == 1 else 1),
        train_ids=np.array(["train-0"]) if repeats == 1 else embeddings.ids,
        unit="stimulus" if repeats == 1 else "run",
        fingerprint=embeddings.fingerprint,
        info=info,
    )


def make_embeddings(ids: np.ndarray, rng: np.random.Generator) -> Embeddings:
    vectors = rng.normal(size=(len(ids), 16))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return Embeddings(ids, vectors.astype(np.float32), "image", {"kind": "made up"})


def ball() -> np.ndarray:
    grid = np.indices(SHAPE).transpose(1, 2, 3, 0)
    return np.linalg.norm((grid - np.array(SHAPE) / 2) / np.array(SHAPE), axis=-1) < 0.45


def make_voxels(subject: str, roi: str, split: str, rng: np.random.Generator) -> VoxelSet:
    inside = np.argwhere(ball() & (np.indices(SHAPE)[1] < 11)).astype(np.int32)
    space = VoxelSpace(AFFINE, np.array(SHAPE), inside)
    n_kept = 5
    samples = [
        Samples(
            data=rng.normal(size=(n, n_kept)).astype(np.float32),
            stimulus_id=np.array([f"{part}-{i}" for i in range(n)]),
            group=np.array(["01"] * n),
            n_repeats=np.ones(n, dtype=np.int64),
        )
        for part, n in (("train", 11), ("test", 7))
    ]
    fold = Fold(
        name="all",
        train=samples[0],
        test=samples[1],
        voxel_index=np.arange(n_kept),
        mean=np.zeros(n_kept, np.float32),
        sd=np.ones(n_kept, np.float32),
        seen=samples[0].stimulus_id,
    )
    depth = 1 - inside[:, 1] / 11
    table = pd.DataFrame(
        {
            "fold": ["all", "all"],
            "part": ["train", "test"],
            "n_trials": [480, 180],
            "n_excluded": [0, 0],
            "n_stimuli": [480, 60],
            "repeats_min": [1, 3],
            "repeats_median": [1.0, 3.0],
            "repeats_max": [1, 3],
            "n_rows": [480, 60],
            "n_voxels_kept": [n_kept] * 2,
            "dropped_constant": [0, 0],
            "dropped_unreliable": [len(inside) - n_kept] * 2,
            "n_voxels_roi": [len(inside)] * 2,
            "dropped_outside_brain": [0, 0],
        }
    )
    return VoxelSet(
        subject=subject,
        roi=roi,
        split=split,
        unit="stimulus",
        folds=(fold,),
        space=space,
        reliability=(0.6 * depth + rng.normal(0, 0.08, len(inside))).astype(np.float32),
        ncsnr=(depth + rng.uniform(0, 0.1, len(inside))).astype(np.float32),
        noise_ceiling=(55 * depth**2 + rng.uniform(0, 6, len(inside))).astype(np.float32),
        table=table,
    )


def make_quality(subject: str, run: str, *, motion_mm: float, vif: float = 1.4) -> RunQuality:
    """Describe a run of noise: how much the head moves and trials inflate is told."""
    rng = np.random.default_rng(int(run))
    n_volumes, n_voxels, n_trials = 120, 64, 20
    displacement = np.append(np.nan, rng.gamma(4.0, motion_mm / 4, n_volumes - 1))
    volumes = pd.DataFrame(
        {
            "framewise_displacement": displacement,
            "dvars": np.append(np.nan, 20 + 10 * displacement[1:]),
            "censored": displacement > 0.9,
        }
    )
    inside = np.argwhere(np.ones((4, 4, 4))).astype(np.int32)
    signals = Signals(
        data=rng.normal(size=(n_volumes, n_voxels)).astype(np.float32),
        mean=np.full(n_voxels, 900.0, np.float32),
        regressors=np.zeros((n_volumes, 0), np.float32),
        space=VoxelSpace(np.eye(4), np.array([4, 4, 4]), inside),
        tr_s=2.0,
        first_volume_s=0.0,
        subject=subject,
        session="1",
        run=run,
        unit="zscore",
        sd=np.full(n_voxels, 15.0, np.float32),
        volumes=volumes,
    )
    trials = pd.DataFrame(
        {"onset": 5.0 + 11.0 * np.arange(n_trials), "duration": 2.0, "trial_type": "t"}
    )
    betas = Betas(
        data=np.zeros((n_trials, n_voxels), np.float32),
        trials=trials,
        info={"vif_median": vif, "vif_max": 2 * vif, "efficiency": 1 / vif},
        r2=rng.uniform(0, 0.4, n_voxels).astype(np.float32),
    )
    return describe_run(signals, betas)


#: Motion (mm) and variance inflation of the runs of every subject.
RUNS = {"1": (0.1, 1.4), "2": (0.6, 1.4), "3": (0.7, 9.0), "4": (0.12, 1.3)}


def write_quality(folder: Path, subject: str) -> list[str]:
    paths = []
    for run, (motion_mm, vif) in RUNS.items():
        path = folder / f"sub-{subject}_run-{run}_quality.h5"
        quality = make_quality(subject, run, motion_mm=motion_mm, vif=vif)
        save_artifact(path, quality, provenance("quality"))
        paths.append(str(path))
    return paths


def write_benchmark(path: Path, seconds: float, memory_mb: float) -> str:
    columns = ["s", "h:m:s", "max_rss", "max_vms", "io_in", "mean_load", "cpu_time"]
    row = [seconds, "0:00:01", memory_mb, 2 * memory_mb, 0.0, 90.0, 0.9 * seconds]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_tsv(path, pd.DataFrame([row], columns=columns))
    return str(path)


def write_study(
    folder: Path,
    *,
    subjects: tuple[str, ...] = ("01", "02"),
    rois: tuple[str, ...] = ("visual", "early"),
    decoders: tuple[str, ...] = ("ridge", "mlp"),
    pictures: bool = True,
    maps: bool = True,
    n_gallery: int = 23,
) -> Study:
    """Write all files of a small study and return where they are."""
    rng = np.random.default_rng(11)
    repeats = 1 if pictures else 6
    names = ["house", "cat", "bottle", "scissors", "shoe", "chair", "human face"]
    ids = np.array([f"stim-{i:03d}" for i in range(n_gallery)] if pictures else names)
    config = {
        "study": "miniature",
        "seed": 7,
        "source": "simulate",
        "rois": [{"name": roi, "mask": "m.nii.gz"} for roi in rois],
        "splits": [{"name": "stimulus", "scheme": "stimulus"}],
        "encoders": [{"name": "scenes", "kind": "scenes", "modality": "image"}],
        "decoders": [{"name": name, "kind": name} for name in decoders],
        "galleries": [{"name": "test", "candidates": "test"}],
        "report": {},
    }
    keys = ("metrics", "retrievals", "reverse", "voxels", "maps", "benchmarks", "quality")
    listing: dict[str, Any] = {key: [] for key in keys}
    listing |= {"backgrounds": {}, "stimuli": None}
    if pictures:
        listing["stimuli"] = str(write_pictures(folder / "stimuli", n_gallery, rng))
    embeddings = make_embeddings(ids, rng)
    rows, retrievals = [], []
    for subject in subjects:
        if maps:
            image = np.where(ball(), rng.normal(800, 60, SHAPE), 20).astype(np.float32)
            write_volume(folder / f"sub-{subject}_mean.nii.gz", image, AFFINE)
            listing["quality"] += write_quality(folder, subject)
            listing["backgrounds"][subject] = str(folder / f"sub-{subject}_mean.nii.gz")
        for roi in rois:
            stem = f"sub-{subject}_roi-{roi}"
            voxels = make_voxels(subject, roi, "stimulus", rng)
            if maps:
                save_artifact(folder / f"{stem}_voxels.h5", voxels, provenance("voxels"))
                listing["voxels"].append(str(folder / f"{stem}_voxels.h5"))
                pattern = voxels.space.to_volume(rng.uniform(size=voxels.space.n_voxels))
                write_volume(folder / f"{stem}_pattern.nii.gz", pattern, AFFINE)
                listing["maps"].append(
                    {
                        "subject": subject,
                        "roi": roi,
                        "kind": "pattern",
                        "path": str(folder / f"{stem}_pattern.nii.gz"),
                    }
                )
            for decoder in decoders:
                info = {
                    "subject": subject,
                    "roi": roi,
                    "split": "stimulus",
                    "encoder": "scenes",
                    "decoder": decoder,
                    "folds": [{"fold": "all", "n_train": 11, **FITS[decoder]}],
                }
                predictions = make_predictions(embeddings, info, rng, repeats=repeats)
                path = f"{folder / stem}_dec-{decoder}"
                both = {}
                for direction, key in DIRECTIONS.items():
                    both[key] = retrieve(
                        predictions, embeddings, ids, direction=direction, gallery="test"
                    )
                    save_artifact(f"{path}_{key}.h5", both[key], provenance("retrieve"))
                    listing[key].append(f"{path}_{key}.h5")
                result = evaluate(
                    list(both.values()), predictions, embeddings, rng=rng, options=SCORING
                )
                rows += result.rows
                retrievals.append(both["retrievals"])
                write_json(
                    f"{path}_metrics.json",
                    {
                        "schema_version": SCHEMA_VERSION,
                        "provenance": asdict(provenance("evaluate")),
                        "rows": result.rows,
                        "protocols": result.protocols,
                        "pool_curve": result.pool_curve,
                        "dimensions": result.dimensions,
                        "power": result.power,
                        "nulls": result.nulls,
                        "notes": result.notes,
                    },
                )
                listing["metrics"].append(f"{path}_metrics.json")
    for index, rule in enumerate(("preprocess", "betas", "decode")):
        path = folder / "benchmarks" / rule / "sub-01.tsv"
        listing["benchmarks"].append(write_benchmark(path, 3.0 + 40 * index, 200.0 + 900 * index))
    return Study(folder, config, listing, rows, retrievals)


def _load_markup() -> ModuleType:
    """Import the reader that lies beside this file: test folders are no packages."""
    spec = importlib.util.spec_from_file_location(
        "report_markup", Path(__file__).with_name("markup.py")
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def parse():
    """Return the strict reader of HTML."""
    return _load_markup().parse


@pytest.fixture(scope="session")
def make_run():
    """Return the function that describes a run."""
    return make_quality


@pytest.fixture(scope="session")
def make_study():
    """Return the function that writes a study."""
    return write_study


@pytest.fixture(scope="session")
def full(tmp_path_factory: pytest.TempPathFactory) -> tuple[Study, str]:
    """Return a study with pictures and maps, and its page."""
    return _with_page(write_study(tmp_path_factory.mktemp("full"), subjects=("01",)))


def write_decoding(study: Study, labels: dict[str, str]) -> None:
    """Write the tables about decoders as their stages write them, and list them."""
    scores = {"validation_pairwise": 0.8, "validation_r2": 0.1, "test_pairwise": 0.75}
    scores |= {"test_pairwise_ci_low": 0.7, "test_pairwise_ci_high": 0.8, "test_top_1": 0.2}
    scores |= {"validation_by": "cross_validation"}
    flags = {"transductive": False, "best_of_roi": True, "best": True}
    ends = {"ci_low": 0.4, "ci_high": 0.9}
    loss = {"loss": 0.1, "loss_ci_low": -0.1, "loss_ci_high": 0.2, "n_voxels": 9.0}
    tables = {
        "comparison": [{**labels, **scores, **flags}],
        "bottleneck": [
            {**labels, "map": name, "rank": rank, "pairwise": 0.6, **ends, "cosine": 0.2}
            for name, rank in (("prior", 0), ("learned", 2), ("learned", 9), ("random", 2))
        ],
        "importance": [
            {**labels, **loss, "left_out": part, "pairwise": 0.7, "out_of_fold_pairwise": 0.7}
            for part in ("", "early")
        ],
        "curves": [
            {"decoder": name, "metric": metric, "minutes": minutes, "value": 0.6}
            | {"low": 0.4, "high": 0.9, "n_runs": 1, "n_trials": 20, "ci_method": "bootstrap"}
            | {"chance": 0.5 if name == "ridge" else None}
            for name in ("ridge", "together - ridge")
            for metric in ("top_1", "pairwise")
            for minutes in (1.5, 3.0)
        ],
    }
    for name, rows in tables.items():
        path = study.folder / f"{name}.tsv"
        write_tsv(path, pd.DataFrame(rows))
        study.listing[name] = str(path) if name == "comparison" else [str(path)]
    study.listing["curves"] = [{**labels, "path": study.listing["curves"][0]}]


@pytest.fixture(scope="session")
def decoded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Study, str]:
    """Return a study that measured all about its decoder, and its page."""
    study = write_study(
        tmp_path_factory.mktemp("decoded"),
        subjects=("01",),
        rois=("visual",),
        decoders=("ridge",),
        maps=False,
    )
    keys = ("subject", "roi", "split", "encoder", "decoder", "gallery")
    write_decoding(study, {key: study.rows[0][key] for key in keys})
    return _with_page(study)


@pytest.fixture(scope="session")
def words(tmp_path_factory: pytest.TempPathFactory) -> tuple[Study, str]:
    """Return a study of one subject without pictures and maps, and its page."""
    study = write_study(
        tmp_path_factory.mktemp("words"),
        subjects=("1",),
        rois=("gray",),
        decoders=("ridge",),
        pictures=False,
        maps=False,
    )
    return _with_page(study)


def _with_page(study: Study) -> tuple[Study, str]:
    out = study.folder / "report.html"
    assert main(study.arguments(out)) == 0
    return study, out.read_text(encoding="utf-8")
