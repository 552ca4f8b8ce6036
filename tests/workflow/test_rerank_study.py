"""A gallery that is ranked again by tokens: its jobs, and one of them from the volumes on."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from small_vit import write_small_vit

from braindecode_clip.artifacts import Embeddings, Predictions, Retrieval
from braindecode_clip.io.hdf5 import load_artifact

HERE = Path(__file__).parent
STEM = "sub-01_roi-visual_split-stimulus_enc-{}_dec-{}"
SHORTLIST = 4


@pytest.fixture(scope="module")
def files(project: Path) -> list[str]:
    model = write_small_vit(project / "models/vit")
    study = {
        "study": "again",
        "encoders": [
            {"name": "scenes"},
            {"name": "vit", "kind": "local", "model": str(model), "targets": "tokens"},
        ],
        "decoders": [{"name": "ridge", "kind": "ridge"}, {"name": "mlp", "kind": "mlp"}],
        "galleries": [
            {"name": "test"},
            {"name": "again", "rerank": {"encoder": "vit", "shortlist": SHORTLIST}},
            {"name": "by-ridge", "rerank": {"encoder": "vit", "decoder": "ridge"}},
        ],
        "evaluate": {"n_bootstrap": 200, "n_permutations": 99, "n_permutations_dims": 99},
    }
    path = project / "again.yaml"
    path.write_text(yaml.safe_dump(study), encoding="utf-8")
    return ["--configfile", "config/demo.yaml", str(HERE / "tiny.yaml"), str(path)]


def test_every_gallery_waits_for_its_tokens(files: list[str], snakemake) -> None:
    done = snakemake(*files, "--dry-run", "--printshellcmds")
    text = done.stdout + done.stderr
    assert done.returncode == 0, text
    calls = [line for line in text.splitlines() if "braindecode-clip retrieve" in line]
    assert len(calls) == 2 * 2 * 3
    found = {}
    for call in calls:
        own = re.search(r"enc-(\w+)_dec-(\w+)_gal-([\w-]+)_retrieval.h5", call)
        tokens = re.search(r"--token-predictions \S*enc-vit_dec-(\w+)_predictions.h5", call)
        assert own is not None
        embedded = re.search(r"--token-embeddings \S*/embed/enc-vit_embeddings.h5 ", call)
        assert (tokens is None) is (embedded is None)
        found[own.groups()] = tokens and tokens.group(1)
    for encoder in ("scenes", "vit"):
        for decoder in ("ridge", "mlp"):
            assert found[encoder, decoder, "test"] is None
            assert found[encoder, decoder, "again"] == decoder
            assert found[encoder, decoder, "by-ridge"] == "ridge"


def test_an_encoder_without_tokens_stops_with_a_message(files: list[str], snakemake) -> None:
    change = "galleries=[{name: again, rerank: {encoder: scenes}}]"
    done = snakemake(*files, "--dry-run", "--config", change)
    text = done.stdout + done.stderr
    assert done.returncode == 1
    assert "encoder 'scenes' is none of the study's encoders with token targets" in text
    assert "Traceback" not in text


def test_the_best_are_in_the_order_of_their_tokens(
    files: list[str], project: Path, snakemake
) -> None:
    results = project / "results/again"
    stem = STEM.format("scenes", "ridge")
    metrics = results / f"evaluate/sub-01/{stem}_gal-again_metrics.json"
    done = snakemake(str(metrics.relative_to(project)), *files)
    logs = "\n".join(p.read_text() for p in results.glob("**/*.log"))
    assert done.returncode == 0, done.stdout + done.stderr + logs

    found = load_artifact(results / f"retrieve/sub-01/{stem}_gal-again_retrieval.h5", Retrieval)
    cosines = {}
    for encoder in ("scenes", "vit"):
        path = results / f"decode/sub-01/{STEM.format(encoder, 'ridge')}_predictions.h5"
        predictions = load_artifact(path, Predictions)
        embeddings = load_artifact(results / f"embed/enc-{encoder}_embeddings.h5", Embeddings)
        two = embeddings.vectors[embeddings.rows(found.gallery_ids)]
        one, two = (
            part.reshape(len(part), -1).astype(np.float64) for part in (predictions.vectors, two)
        )
        one, two = (part / np.linalg.norm(part, axis=1, keepdims=True) for part in (one, two))
        cosines[encoder] = one @ two.T
    for i, pooled in enumerate(cosines["scenes"]):
        order = np.argsort(-pooled)
        best = sorted(order[:SHORTLIST], key=lambda j: -cosines["vit"][i, j])
        expected = found.gallery_ids[[*best, *order[SHORTLIST:]]]
        np.testing.assert_array_equal(found.top_id[i], expected)
        true = found.queries["stimulus_id"][i]
        assert found.queries["rank"][i] == 1 + expected.tolist().index(true)
    notes = " ".join(json.loads(metrics.read_text())["notes"])
    assert f"the best {SHORTLIST} candidates of each sample were ordered again" in notes
