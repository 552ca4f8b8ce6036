"""The command: files in, files out, one message and no damage when something is wrong."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from braindecode_clip.artifacts import Embeddings, Predictions, Retrieval
from braindecode_clip.cli.main import main
from braindecode_clip.io.hdf5 import load_artifact, read_provenance, save_artifact
from braindecode_clip.provenance import Provenance

RECORD = Provenance(stage="test", options={}, inputs={}, seed=None, code_digest="0")


@pytest.fixture
def files(make_study: Callable[..., tuple[Predictions, Embeddings]], tmp_path: Path) -> Path:
    """Return a folder with predictions and embeddings."""
    predictions, embeddings = make_study((2, 1, 3))
    save_artifact(tmp_path / "pred.h5", predictions, RECORD)
    save_artifact(tmp_path / "emb.h5", embeddings, RECORD)
    other = replace(embeddings, fingerprint={**embeddings.fingerprint, "library": "2.0"})
    save_artifact(tmp_path / "other.h5", other, RECORD)
    return tmp_path


def call(folder: Path, *more: str, embeddings: str = "emb.h5", gallery: str = "name: test") -> int:
    return main(
        [
            "retrieve",
            f"--predictions={folder / 'pred.h5'}",
            f"--embeddings={folder / embeddings}",
            f"--gallery={gallery}",
            f"--out={folder / 'out.h5'}",
            *more,
        ]
    )


def test_writes_both_directions(files: Path) -> None:
    code = call(files, f"--out-reverse={files / 'reverse.h5'}", "--options={n_top: 2}")
    assert code == 0
    forth = load_artifact(files / "out.h5", Retrieval)
    back = load_artifact(files / "reverse.h5", Retrieval)
    assert (forth.direction, back.direction) == ("brain_to_image", "image_to_brain")
    assert forth.similarity.shape == (6, 3)
    assert back.similarity.shape == (6, 6)
    assert forth.top_id.shape == (6, 2)
    record = read_provenance(files / "out.h5")
    assert record["options"]["gallery"]["candidates"] == "test"
    assert set(record["inputs"]) == {"pred.h5", "emb.h5"}


def test_the_reverse_is_optional_and_a_gallery_may_be_listed(files: Path) -> None:
    ids = load_artifact(files / "emb.h5", Embeddings).ids[:5].tolist()
    assert call(files, gallery=f'{{"name": "few", "candidates": "listed", "ids": {ids}}}') == 0
    result = load_artifact(files / "out.h5", Retrieval)
    assert result.gallery_ids.tolist() == ids
    assert not (files / "reverse.h5").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"embeddings": "other.h5"}, "another encoder.*library: '1.0' != '2.0'"),
        ({"gallery": "{name: a, candidate: all}"}, "Did you mean 'candidates'"),
        ({"gallery": "{name: a, candidates: listed}"}, "needs `ids"),
        ({"gallery": "{name: a, ids: [x]}"}, "used by candidates 'listed' alone"),
        ({"gallery": "{name: a, candidates: listed, ids: [x, x]}"}, "more than once: 'x'"),
        ({"gallery": "{name: a, candidates: listed, ids: [stim-01]}"}, "not among"),
        ({"gallery": "name: a_b"}, "'name': got 'a_b'"),
        ({"embeddings": "pred.h5"}, "holds Predictions, expected Embeddings"),
        ({"embeddings": "none.h5"}, "no such file"),
    ],
)
def test_bad_input_gives_one_message_and_leaves_the_old_result(
    files: Path, capsys: pytest.CaptureFixture, change: dict, words: str
) -> None:
    (files / "out.h5").write_bytes(b"old")
    assert call(files, **change) == 1
    message = capsys.readouterr().err
    assert message.count("error:") == 1
    assert "Traceback" not in message
    assert re.search(words, message), message
    assert (files / "out.h5").read_bytes() == b"old"


def test_the_same_input_gives_the_same_numbers(files: Path) -> None:
    call(files)
    first = load_artifact(files / "out.h5", Retrieval)
    call(files)
    second = load_artifact(files / "out.h5", Retrieval)
    assert np.array_equal(first.similarity, second.similarity)
    assert first.queries.equals(second.queries)
