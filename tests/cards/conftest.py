"""Results in miniature, with the cards that the command makes of them."""

from __future__ import annotations

import functools
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from planted_subjects import planted, predicted

from braindecode_clip.cli.main import main
from braindecode_clip.config.evaluate import EvaluateConfig
from braindecode_clip.evaluate import evaluate
from braindecode_clip.io.atomic import write_json
from braindecode_clip.io.hdf5 import save_artifact
from braindecode_clip.provenance import Provenance, make_provenance
from braindecode_clip.retrieve import retrieve

OPTIONS = EvaluateConfig(n_bootstrap=300, n_permutations=99, n_permutations_dims=99)


@functools.cache
def record_of(stage: str) -> Provenance:
    """Return a provenance; digesting the code of a stage takes a while."""
    return make_provenance(stage, options={}, inputs=[])


class Results:
    """The files of decoders of one subject, as the stages write them."""

    def __init__(self, folder: Path, *, subject: str = "linear") -> None:
        self.folder = folder
        self.voxels, self.embeddings = planted(subject, n_train=60, n_test=20)
        betas = [f"sub-01_ses-0{s}_task-x_run-0{r}_betas.h5" for s in (1, 2) for r in (1, 2, 3)]
        record = replace(
            record_of("voxels"),
            options={"voxels": {"scale": "zscore"}},
            inputs=dict.fromkeys(betas, "ab"),
        )
        self.save("voxels", self.voxels, record)

    def path(self, name: str, ending: str = "h5") -> Path:
        return self.folder / f"{name}.{ending}"

    def save(self, name, artefact, record) -> None:
        save_artifact(self.path(name), artefact, record)

    def decode(self, name: str, *, noise: float = 0.0, gallery: str = "test") -> Path:
        """Write predictions, ranks and scores of a decoder, and return the path of its card."""
        predictions, _ = predicted(self.voxels, self.embeddings, name)
        rng = np.random.default_rng(len(name))
        noisy = predictions.vectors + noise * rng.standard_normal(predictions.vectors.shape)
        predictions = type(predictions)(
            **{**vars(predictions), "vectors": noisy.astype(np.float32)}
        )
        key = f"{name}-{gallery}"
        self.save(f"{key}-predictions", predictions, record_of("decode"))
        ids = self.embeddings.ids if gallery == "all" else np.unique(predictions.stimulus_id)
        ranked = []
        for direction, kind in (("brain_to_image", "retrieval"), ("image_to_brain", "reverse")):
            item = retrieve(predictions, self.embeddings, ids, direction=direction, gallery=gallery)
            self.save(f"{key}-{kind}", item, record_of("retrieve"))
            ranked.append(item)
        rng = np.random.default_rng(1)
        found = evaluate(ranked, predictions, self.embeddings, rng=rng, options=OPTIONS)
        record = asdict(replace(record_of("evaluate"), seed=1))
        content = {"provenance": record, "rows": found.rows, "pool_curve": found.pool_curve}
        content |= {"notes": found.notes, "protocols": found.protocols}
        write_json(self.path(f"{key}-metrics", "json"), content)
        assert main(self.arguments(key)) == 0
        return self.path(f"{key}-card", "json")

    def arguments(self, key: str, *, dataset: str = "planted", **changed: Path) -> list[str]:
        paths = {
            "metrics": self.path(f"{key}-metrics", "json"),
            "predictions": self.path(f"{key}-predictions"),
            "voxels": self.path("voxels"),
            "retrieval": self.path(f"{key}-retrieval"),
            "reverse": self.path(f"{key}-reverse"),
            "out": self.path(f"{key}-card", "json"),
        }
        flags = {**paths, **changed}
        flags["out-text"] = flags["out"].with_suffix(".md")
        words = [word for flag, path in flags.items() for word in (f"--{flag}", str(path))]
        return ["card", *words, "--dataset", dataset]


@pytest.fixture(scope="session")
def results(tmp_path_factory) -> Results:
    return Results(tmp_path_factory.mktemp("cards"))


@pytest.fixture(scope="session")
def good(results) -> Path:
    return results.decode("good", noise=0.35)


@pytest.fixture(scope="session")
def worse(results) -> Path:
    return results.decode("worse", noise=0.9)


@pytest.fixture(scope="session")
def among_all(results) -> Path:
    return results.decode("good", noise=0.35, gallery="all")
