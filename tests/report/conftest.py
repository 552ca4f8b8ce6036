"""A study's results in miniature: real artefacts, written as the stages write them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageDraw

from braindecode_clip import metrics
from braindecode_clip.artifacts import Fold, Retrieval, Samples, VoxelSet, VoxelSpace
from braindecode_clip.io.atomic import write_json
from braindecode_clip.io.hdf5 import save_artifact
from braindecode_clip.io.nifti import write_volume
from braindecode_clip.io.tables import write_tsv
from braindecode_clip.provenance import Provenance

SHAPE = (20, 24, 14)
AFFINE = np.array([[-3.0, 0, 0, 30], [0, 3, 0, -40], [0, 0, 3, -10], [0, 0, 0, 1]])
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


def make_retrieval(
    ids: np.ndarray, info: dict[str, str], rng: np.random.Generator, *, repeats: int = 1
) -> Retrieval:
    """Rank noisy copies of the truth; ``repeats`` samples of each stimulus."""
    n_gallery = len(ids)
    true = np.repeat(np.arange(n_gallery), repeats)
    similarity = rng.normal(0, 0.2, (len(true), n_gallery)).astype(np.float32)
    similarity[np.arange(len(true)), true] += 0.35
    better, tied = metrics.count_better(similarity, true)
    rank = metrics.ranks(better, tied)
    top = np.argsort(-similarity, axis=1)[:, :10]
    queries = pd.DataFrame(
        {
            "stimulus_id": ids[true],
            "group": [f"{i % repeats + 1:02d}" for i in range(len(true))],
            "fold": "all",
            "n_repeats": 3 if repeats == 1 else 1,
            "rank": rank,
            "n_beaten": n_gallery - rank,
            "n_distractors": n_gallery - 1,
            "similarity": similarity[np.arange(len(true)), true],
        }
    )
    return Retrieval(
        direction="brain_to_image",
        queries=queries,
        top_id=ids[top],
        top_similarity=np.take_along_axis(similarity, top, axis=1),
        gallery_ids=ids,
        similarity=similarity,
        true_index=true,
        info=info,
    )


def metric_rows(retrieval: Retrieval) -> list[dict[str, Any]]:
    rank = retrieval.queries["rank"].to_numpy()
    n, size = len(rank), len(retrieval.gallery_ids)
    rows = []
    for direction in ("brain_to_image", "image_to_brain"):
        values = {
            "top_1": (np.mean(rank <= 1), 1 / size, 0.06),
            "top_5": (np.mean(rank <= 5), min(1, 5 / size), 0.06),
            "pairwise": (metrics.pairwise(rank, size - 1), 0.5, 0.04),
            "mean_rank": (rank.mean(), (size + 1) / 2, 1.5),
            "median_rank": (np.median(rank), (size + 1) / 2, 1.5),
        }
        for metric, (value, chance, half) in values.items():
            top = 1.0 if metric.startswith(("top", "pair")) else 1e9
            rows.append(
                {
                    "metric": metric,
                    "value": float(value),
                    "chance": float(chance),
                    "null_mean": float(chance),
                    "ci_method": "percentile",
                    "confidence": 0.95,
                    "permuted": "labels among all test stimuli",
                    "ceiling": None,
                    "n": n,
                    "n_unit": "brain samples",
                    "n_resampled": size,
                    "resampled": "stimuli",
                    "n_gallery": size,
                    "ci_low": float(value - half),
                    "ci_high": float(min(value + half, top)),
                    "p": 1 / 10001,
                    "n_permutations": 10000,
                    "definition": f"Definition of {metric}.",
                    "direction": direction,
                    **retrieval.info,
                }
            )
    return rows


def pool_curve(retrieval: Retrieval) -> list[dict[str, float]]:
    size = len(retrieval.gallery_ids)
    sizes = sorted({round(s) for s in np.geomspace(2, size, 12)})
    share = float((retrieval.queries["rank"] <= 1).mean())
    return [
        {
            **retrieval.info,
            "direction": retrieval.direction,
            "metric": "top_1",
            "k": 1,
            "pool_size": s,
            "value": share + (1 - share) * (1 - s / size) ** 2,
            "chance": 1 / s,
            "ci_low": max(0.0, share - 0.1 + (1 - share) * (1 - s / size) ** 2),
            "ci_high": min(1.0, share + 0.1 + (1 - share) * (1 - s / size) ** 2),
        }
        for s in sizes
    ]


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
            "n_stimuli": [480, 60],
            "n_samples": [480, 60],
            "n_voxels": [len(inside)] * 2,
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
        noise_ceiling=(55 * depth**2 + rng.uniform(0, 6, len(inside))).astype(np.float32),
        table=table,
    )


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
    keys = ("metrics", "retrievals", "reverse", "voxels", "maps", "benchmarks")
    listing: dict[str, Any] = {key: [] for key in keys}
    listing |= {"backgrounds": {}, "stimuli": None}
    if pictures:
        listing["stimuli"] = str(write_pictures(folder / "stimuli", n_gallery, rng))
    rows, retrievals = [], []
    for subject in subjects:
        if maps:
            image = np.where(ball(), rng.normal(800, 60, SHAPE), 20).astype(np.float32)
            write_volume(folder / f"sub-{subject}_mean.nii.gz", image, AFFINE)
            listing["backgrounds"][subject] = str(folder / f"sub-{subject}_mean.nii.gz")
        for roi in rois:
            stem = f"sub-{subject}_roi-{roi}"
            voxels = make_voxels(subject, roi, "stimulus", rng)
            if maps:
                save_artifact(folder / f"{stem}_voxels.h5", voxels, provenance("voxels"))
                listing["voxels"].append(str(folder / f"{stem}_voxels.h5"))
                pattern = voxels.space.to_volume(rng.normal(size=voxels.space.n_voxels))
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
                    "gallery": "test",
                }
                retrieval = make_retrieval(ids, info, rng, repeats=repeats)
                retrievals.append(retrieval)
                path = folder / f"{stem}_dec-{decoder}"
                save_artifact(f"{path}_retrieval.h5", retrieval, provenance("retrieve"))
                listing["retrievals"].append(f"{path}_retrieval.h5")
                own = metric_rows(retrieval)
                rows += own
                write_json(
                    f"{path}_metrics.json",
                    {
                        "schema_version": 1,
                        "provenance": json.loads(provenance("evaluate").as_json()),
                        "rows": own,
                        "pool_curve": pool_curve(retrieval),
                        "notes": ["Samples of one picture share its embedding."],
                    },
                )
                listing["metrics"].append(f"{path}_metrics.json")
    for index, rule in enumerate(("preprocess", "betas", "decode")):
        path = folder / "benchmarks" / rule / "sub-01.tsv"
        listing["benchmarks"].append(write_benchmark(path, 3.0 + 40 * index, 200.0 + 900 * index))
    return Study(folder, config, listing, rows, retrievals)


@pytest.fixture
def write(tmp_path: Path):
    """Write a study below the test's own folder."""

    def _write(**options: Any) -> Study:
        return write_study(tmp_path / "study", **options)

    return _write
