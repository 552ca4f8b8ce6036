"""A study whose targets are tokens, from simulated volumes to the report."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from small_vit import N_DIMS, N_TOKENS, write_small_vit

from braindecode_clip.artifacts import Embeddings, Predictions, Retrieval, VoxelSet
from braindecode_clip.decode import FittedDecoder
from braindecode_clip.io.hdf5 import load_artifact

HERE = Path(__file__).parent
STEM = "sub-01_roi-visual_split-stimulus_enc-vit"


@pytest.fixture(scope="module")
def finished(project: Path, snakemake) -> Path:
    model = write_small_vit(project / "models/vit")
    encoder = {"name": "vit", "kind": "local", "model": str(model), "targets": "tokens"}
    path = project / "encoders.yaml"
    path.write_text(yaml.safe_dump({"encoders": [encoder]}), encoding="utf-8")
    files = [str(HERE / "tiny.yaml"), str(HERE / "tokens.yaml"), str(path)]
    done = snakemake("--configfile", "config/demo.yaml", *files)
    logs = "\n".join(p.read_text() for p in (project / "results").glob("**/*.log"))
    assert done.returncode == 0, done.stdout + done.stderr + logs
    return project / "results/tokens"


def decoded(finished: Path, decoder: str) -> Predictions:
    return load_artifact(
        finished / f"decode/sub-01/{STEM}_dec-{decoder}_predictions.h5", Predictions
    )


def test_tokens_are_embedded_decoded_and_reported(finished: Path) -> None:
    embeddings = load_artifact(finished / "embed/enc-vit_embeddings.h5", Embeddings)
    assert embeddings.vectors.shape == (70, N_TOKENS, N_DIMS)
    assert embeddings.vectors.dtype == np.float16
    for decoder in ("ridge", "contrastive", "mlp"):
        predictions = decoded(finished, decoder)
        assert predictions.vectors.shape == (10, N_TOKENS, N_DIMS)
        path = finished / f"evaluate/sub-01/{STEM}_dec-{decoder}_gal-test_metrics.json"
        rows = {
            (row["metric"], row["direction"]): row for row in json.loads(path.read_text())["rows"]
        }
        assert 0.5 < rows["pairwise", "brain_to_image"]["value"] <= 1
        assert np.isfinite(rows["correlation_mean", "none"]["value"])
        table = (finished / f"interpret/sub-01/{STEM}_dec-{decoder}_dimensions.tsv").read_text()
        assert len(table.splitlines()) == 11
    page = (finished / "report/report.html").read_text()
    assert "the hidden states of the last block, layer-normed, projected" in page


@pytest.mark.parametrize("decoder", ["ridge", "contrastive", "mlp"])
def test_ranks_are_those_of_cosines_in_float64(finished: Path, decoder: str) -> None:
    predictions = decoded(finished, decoder)
    embeddings = load_artifact(finished / "embed/enc-vit_embeddings.h5", Embeddings)
    for gallery, direction in (("test", "retrieval"), ("test", "reverse")):
        path = finished / f"retrieve/sub-01/{STEM}_dec-{decoder}_gal-{gallery}_{direction}.h5"
        found = load_artifact(path, Retrieval)
        shown = predictions.stimulus_id
        one = predictions.vectors.reshape(10, -1).astype(np.float64)
        two = embeddings.vectors[embeddings.rows(shown)].reshape(10, -1).astype(np.float64)
        cosine = (one / np.linalg.norm(one, axis=1)[:, None]) @ (
            two / np.linalg.norm(two, axis=1)[:, None]
        ).T
        if direction == "reverse":
            cosine = cosine.T
        expected = [1 + np.sum(row > row[i]) for i, row in enumerate(cosine)]
        np.testing.assert_array_equal(found.queries["rank"], expected)


def test_ridge_is_that_of_a_plain_solver_on_laid_out_tokens(finished: Path) -> None:
    """Weights at the chosen penalties by float64 normal equations."""
    voxels = load_artifact(
        finished / "voxels/sub-01/sub-01_roi-visual_split-stimulus_voxels.h5", VoxelSet
    )
    embeddings = load_artifact(finished / "embed/enc-vit_embeddings.h5", Embeddings)
    path = finished / f"decode/sub-01/{STEM}_dec-ridge_decoder.h5"
    decoder = load_artifact(path, FittedDecoder).folds[0]
    (fold,) = voxels.folds
    X = fold.train.data.astype(np.float64)
    Y = embeddings.vectors[embeddings.rows(fold.train.stimulus_id)].reshape(len(X), -1)
    Y = Y.astype(np.float64)
    centred = X - X.mean(axis=0)
    kernel = centred @ centred.T
    test = (fold.test.data - X.mean(axis=0)) @ centred.T
    expected = np.empty((len(test), Y.shape[1]))
    for target, alpha in enumerate(decoder.array("alpha")):
        dual = np.linalg.solve(kernel + alpha * np.eye(len(X)), Y[:, target] - Y[:, target].mean())
        expected[:, target] = test @ dual + Y[:, target].mean()
    expected = expected * decoder.gain + decoder.offset
    found = decoded(finished, "ridge").vectors.reshape(len(test), -1)
    np.testing.assert_allclose(found, expected, atol=3e-5 * expected.std())
