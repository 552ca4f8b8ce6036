"""``gallery``, ``nearest`` and ``retrieve``'s options, on files of a decoder that was fitted."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from fitted_records import with_voxel_records
from PIL import Image

from braindecode_clip.artifacts import (
    Embeddings,
    Fold,
    Gallery,
    Predictions,
    Retrieval,
    Samples,
    VoxelSet,
    VoxelSpace,
)
from braindecode_clip.cli.main import main
from braindecode_clip.clip.encoders import load_encoder
from braindecode_clip.config.decode import RidgeConfig
from braindecode_clip.decode import decode
from braindecode_clip.decode.held_out import held_out_predictions
from braindecode_clip.io.hdf5 import load_artifact, read_provenance, save_artifact
from braindecode_clip.io.tables import read_tsv
from braindecode_clip.provenance import Provenance
from braindecode_clip.retrieve import average_repeats, hub_offsets
from braindecode_clip.retrieve.candidate_sets import conformal_threshold, pair_similarities

RECORD = Provenance(stage="test", options={}, inputs={}, seed=None, code_digest="0")
COLOURS = ("red", "green", "blue", "yellow", "black", "white")
SHAPES = ("circle", "square", "star", "triangle")
SCENES = "{name: scenes}"


def voxel_set(vectors: np.ndarray, ids: np.ndarray, *, n_test: int) -> VoxelSet:
    """Make voxels that are a noisy mixture; all are shown twice, the last ``n_test`` to test."""
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((vectors.shape[1], 60))

    def samples(rows: np.ndarray) -> Samples:
        data = vectors[rows] @ weights + 0.3 * rng.standard_normal((len(rows), 60))
        group = np.array([f"run-{i % 4}" for i in range(len(rows))])
        return Samples(
            data.astype(np.float32), ids[rows], group, np.ones(len(rows), dtype=np.int64)
        )

    index = np.arange(60)
    train = samples(np.tile(np.arange(len(ids) - n_test), 2))
    fold = Fold(
        name="all",
        train=train,
        test=samples(np.tile(np.arange(len(ids) - n_test, len(ids)), 2)),
        voxel_index=index,
        mean=np.zeros(60, np.float32),
        sd=np.ones(60, np.float32),
        seen=np.unique(train.stimulus_id),
    )
    ijk = np.stack([index, 0 * index, 0 * index], axis=1).astype(np.int32)
    nothing = np.full(60, np.nan, np.float32)
    voxels = VoxelSet(
        subject="01",
        roi="visual",
        split="s",
        unit="stimulus",
        folds=(fold,),
        space=VoxelSpace(np.eye(4), np.array([60, 1, 1]), ijk),
        reliability=nothing,
        ncsnr=nothing,
        noise_ceiling=nothing,
        table=pd.DataFrame({"fold": ["all"]}),
    )
    return with_voxel_records(voxels)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a fitted decoder, its inputs and its predictions."""
    folder = tmp_path_factory.mktemp("made")
    encoder = load_encoder("scenes", device="cpu")
    words = [
        f"a {size} {colour} {shape}"
        for size in ("small", "big")
        for colour in COLOURS
        for shape in SHAPES
    ]
    ids = np.array([f"w-{i:02d}" for i in range(len(words))])
    vectors = encoder.encode_text(words)
    embeddings = Embeddings(ids, vectors, "text", encoder.fingerprint)
    voxels = voxel_set(vectors, ids, n_test=10)
    predictions, fitted = decode(voxels, embeddings, config=RidgeConfig(), seed=1, encoder="e")
    for name, item in (
        ("emb", embeddings),
        ("vox", voxels),
        ("pred", predictions),
        ("dec", fitted),
    ):
        save_artifact(folder / f"{name}.h5", item, RECORD)
    (folder / "words.txt").write_text("\n".join(f"a {c} {s}" for c in COLOURS for s in SHAPES))
    pd.DataFrame(
        {
            "stimulus_id": ids,
            "words": [word.replace("small ", "").replace("big ", "") for word in words],
            "colour": [word.split()[2] for word in words],
        }
    ).to_csv(folder / "stimuli.tsv", sep="\t", index=False)
    return folder


def pictures(n: int) -> np.ndarray:
    return np.random.default_rng(n).integers(0, 256, (n, 40, 40, 3), dtype=np.uint8)


def call(command: str, **options: object) -> int:
    return main([command, *(f"--{k.replace('_', '-')}={v}" for k, v in options.items())])


def encode(source: Path, out: Path, *, more: str = "", **flags: object) -> int:
    return call(
        "gallery", candidates=f"{{source: {source}{more}}}", options=SCENES, out=out, **flags
    )


@pytest.mark.parametrize("layout", ["folder", "hdf5", "table"])
def test_pictures_of_every_layout_give_the_same_vectors(tmp_path: Path, layout: str) -> None:
    blocks = pictures(7)
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i, block in enumerate(blocks):
        Image.fromarray(block).save(folder / f"{i}.png")
    source, more = folder, ""
    if layout == "hdf5":
        source = tmp_path / "stimuli.hdf5"
        with h5py.File(source, "w") as file:
            file.create_dataset("imgBrick", data=blocks)
    elif layout == "table":
        source, more = tmp_path / "t.tsv", ", id_column: n"
        pd.DataFrame(
            {"n": range(7), "image": [f"pictures/{i}.png" for i in range(7)], "x": list("abcdefg")}
        ).to_csv(source, sep="\t", index=False)
    state = tmp_path / "state"
    assert encode(source, tmp_path / "g.h5", more=more, state=state) == 0
    gallery = load_artifact(tmp_path / "g.h5", Gallery)
    expected = load_encoder("scenes", device="cpu").encode_image(
        [Image.fromarray(block) for block in blocks]
    )
    np.testing.assert_allclose(gallery.vectors, expected, atol=1e-6)
    assert gallery.ids.tolist() == [str(i) for i in range(7)]
    if layout == "table":
        assert gallery.metadata["x"].tolist() == list("abcdefg")
    assert not state.exists() or not any(state.rglob("*.safetensors"))
    record = read_provenance(tmp_path / "g.h5")
    assert record["stage"] == "gallery"
    assert record["options"]["candidates"]["source"] == str(source)


def test_nearest_names_what_was_seen(made: Path, tmp_path: Path) -> None:
    templates = ', templates: ["{}", "one {}"]'
    assert encode(made / "words.txt", tmp_path / "w.h5", more=templates) == 0
    code = call(
        "nearest",
        predictions=made / "pred.h5",
        candidates=tmp_path / "w.h5",
        search="{name: words, k: 4, true_column: words}",
        stimuli=made / "stimuli.tsv",
        options="{average_predictions: true}",
        out=tmp_path / "n.tsv",
        out_samples=tmp_path / "s.tsv",
        out_facts=tmp_path / "f.json",
    )
    assert code == 0
    samples, found = read_tsv(tmp_path / "s.tsv"), read_tsv(tmp_path / "n.tsv")
    assert len(samples) == 10 and len(found) == 40
    assert (samples["n_repeats"] == 2).all()
    # Chance is a mean rank of 12.5 among 24.
    assert samples["rank"].mean() < 3
    assert (samples["best"] == found.groupby("sample")["candidate"].first()).all()
    facts = json.loads((tmp_path / "f.json").read_text())
    assert facts["n_candidates"] == 24 and facts["recall"] == 1.0
    assert set(facts["provenance"]["inputs"]) == {"pred.h5", "w.h5", "stimuli.tsv"}


def test_categories_and_a_correction_from_training(made: Path, tmp_path: Path) -> None:
    table = tmp_path / "t.tsv"
    rows = [(f"a {c} {s}", c) for c in COLOURS for s in SHAPES]
    pd.DataFrame(rows, columns=["text", "colour"]).to_csv(table, sep="\t", index=False)
    assert encode(table, tmp_path / "w.h5", more=", text_column: text") == 0
    arguments = {
        "predictions": made / "pred.h5",
        "candidates": tmp_path / "w.h5",
        "stimuli": made / "stimuli.tsv",
        "out": tmp_path / "n.tsv",
        "out_samples": tmp_path / "s.tsv",
    }
    search = "{name: c, k: 2, category_column: colour, true_column: colour"
    more = {"decoder": made / "dec.h5", "voxels": made / "vox.h5"}
    assert call("nearest", **arguments, **more, search=search + ", correction: {}}") == 0
    samples = read_tsv(tmp_path / "s.tsv")
    assert set(samples["correction"]) == {"csls"} and (samples["n_candidates"] == 6).all()
    gallery = load_artifact(tmp_path / "w.h5", Gallery)
    training = held_out_predictions(*_fitted(made))
    predictions = load_artifact(made / "pred.h5", Predictions)
    offset = hub_offsets(training.vectors, gallery.vectors, method="csls")
    own = predictions.vectors / np.linalg.norm(predictions.vectors, axis=1, keepdims=True)
    table = own @ gallery.vectors.T - offset
    scores = np.stack([table[:, i : i + 4].mean(axis=1) for i in range(0, 24, 4)], axis=1)
    assert samples["best"].tolist() == [COLOURS[i] for i in np.argmax(scores, axis=1)]


def _fitted(made: Path):
    from braindecode_clip.decode import FittedDecoder

    return load_artifact(made / "dec.h5", FittedDecoder), load_artifact(made / "vox.h5", VoxelSet)


def test_retrieve_with_distractors_correction_sets_and_averaging(
    made: Path, tmp_path: Path
) -> None:
    assert encode(made / "words.txt", tmp_path / "w.h5") == 0
    assert (
        call(
            "retrieve",
            predictions=made / "pred.h5",
            embeddings=made / "emb.h5",
            gallery=f"{{name: far, distractors: {{source: {made / 'words.txt'}}}}}",
            distractors=tmp_path / "w.h5",
            decoder=made / "dec.h5",
            voxels=made / "vox.h5",
            options="{average_predictions: true, correction: {method: inverted_softmax}, "
            "candidate_sets: {coverage: 0.8}}",
            out=tmp_path / "r.h5",
            out_reverse=tmp_path / "b.h5",
        )
        == 0
    )
    forth = load_artifact(tmp_path / "r.h5", Retrieval)
    back = load_artifact(tmp_path / "b.h5", Retrieval)
    assert forth.similarity.shape == (10, 34) and back.similarity.shape == (10, 10)
    assert forth.info["correction"] == back.info["correction"] == "inverted_softmax"
    assert forth.info["n_distractors_added"] == 24
    assert {"set_size", "in_set", "abstained"} <= set(forth.queries)
    predictions = average_repeats(load_artifact(made / "pred.h5", Predictions))
    assert forth.queries["stimulus_id"].tolist() == predictions.stimulus_id.tolist()
    training = average_repeats(held_out_predictions(*_fitted(made)))
    assert len(training.stimulus_id) == 38
    true = load_artifact(made / "emb.h5", Embeddings)
    pairs = pair_similarities(training.vectors, true.vectors[true.rows(training.stimulus_id)])
    facts = forth.info["candidate_sets"]["folds"]["all"]
    assert facts == {"n_calibration": 38, "threshold": conformal_threshold(pairs, 0.8)}
    record = read_provenance(tmp_path / "r.h5")
    assert set(record["inputs"]) == {"pred.h5", "emb.h5", "w.h5", "dec.h5", "vox.h5"}
    # The scores are made of the averaged predictions too.
    code = call(
        "evaluate",
        retrieval=tmp_path / "r.h5",
        reverse=tmp_path / "b.h5",
        predictions=made / "pred.h5",
        embeddings=made / "emb.h5",
        options="{n_bootstrap: 200, n_permutations: 99, n_permutations_dims: 99}",
        seed=1,
        out=tmp_path / "m.json",
    )
    assert code == 0
    metrics = json.loads((tmp_path / "m.json").read_text())
    assert {row["n"] for row in metrics["rows"]} == {10}
    assert any("hold the true stimulus for 80%" in note for note in metrics["notes"])
    assert {row["correction"] for row in metrics["rows"]} == {"inverted_softmax"}


def test_transductive_stands_in_the_table_and_the_notes(made: Path, tmp_path: Path) -> None:
    for statistics in ("test", "train"):
        name = "csls-transductive" if statistics == "test" else "csls"
        for command, options in (
            (
                "retrieve",
                {
                    "gallery": f"name: {name}",
                    "options": f"correction: {{method: csls, k: 3, statistics: {statistics}}}",
                    "out": tmp_path / "r.h5",
                    "decoder": made / "dec.h5",
                    "voxels": made / "vox.h5",
                },
            ),
            (
                "evaluate",
                {
                    "retrieval": tmp_path / "r.h5",
                    "options": "{n_bootstrap: 200, n_permutations: 99, n_permutations_dims: 99}",
                    "seed": 1,
                    "out": tmp_path / "m.json",
                    "out_table": tmp_path / "m.tsv",
                },
            ),
        ):
            files = {"predictions": made / "pred.h5", "embeddings": made / "emb.h5"}
            assert call(command, **files, **options) == 0
        notes = " ".join(json.loads((tmp_path / "m.json").read_text())["notes"])
        label = "csls, transductive" if statistics == "test" else "csls"
        assert set(read_tsv(tmp_path / "m.tsv")["correction"]) == {label}
        assert ("transductive, brain_to_image: transductive" in notes) is (statistics == "test")


@pytest.mark.parametrize(
    ("command", "options", "words"),
    [
        ("gallery", {"candidates": "{source: none}", "options": SCENES}, "none: no such gallery"),
        ("gallery", {"candidates": "{sorce: x}", "options": SCENES}, "Did you mean 'source'"),
        (
            "gallery",
            {"candidates": "{source: x, templates: [y]}", "options": SCENES},
            "'{}' once, where the text goes; got 'y'",
        ),
        (
            "gallery",
            {
                "candidates": "{source: words.txt}",
                "options": "{name: p, kind: precomputed, vectors: v.npy}",
            },
            "can't encode",
        ),
        ("nearest", {"candidates": "pred.h5"}, "holds Predictions, expected Gallery"),
        ("nearest", {"search": "{name: a, true_column: words}"}, "pass --stimuli"),
        ("nearest", {"search": "{name: a, category_column: c}"}, "no column 'c'; theirs are none"),
        ("nearest", {"search": "{name: a, correction: {}}"}, "pass --decoder and --voxels"),
        (
            "nearest",
            {"search": "{name: a, true_column: words}", "stimuli": "stimuli.tsv"},
            "true candidates that are not among them",
        ),
        (
            "nearest",
            {"search": "{name: a, category_column: c, index: {kind: hnsw}}"},
            "needs all similarities",
        ),
        ("retrieve", {"options": "correction: {}"}, "pass --decoder and --voxels"),
        (
            "retrieve",
            {"options": "correction: {statistics: test}"},
            "name that ends in 'transductive', such as 't-transductive'",
        ),
        (
            "nearest",
            {"search": "{name: a, correction: {statistics: test}}"},
            "search 'a': correction statistics 'test'",
        ),
        ("retrieve", {"gallery": "{name: t, distractors: {source: x}}"}, "--distractors: give"),
        ("retrieve", {"distractors": "emb.h5"}, "--distractors: give"),
        ("retrieve", {"options": "candidate_sets: {coverage: 1}"}, "less than 1"),
    ],
)
def test_one_message_and_the_old_result_stays(
    made: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
    command: str,
    options: dict,
    words: str,
) -> None:
    monkeypatch.chdir(made)
    out = tmp_path / "out"
    out.write_text("old")
    base: dict = {"out": out}
    if command == "nearest":
        base |= {"predictions": "pred.h5", "candidates": "emb.h5", "search": "{name: a}"}
    if command == "retrieve":
        base |= {"predictions": "pred.h5", "embeddings": "emb.h5", "gallery": "name: t"}
    assert call(command, **(base | options)) == 1
    message = capsys.readouterr().err
    assert words in message and "Traceback" not in message
    assert out.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
