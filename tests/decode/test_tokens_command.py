from __future__ import annotations

import dataclasses
import json

import h5py
import numpy as np
import pytest

from braindecode_clip.artifacts import Embeddings, Predictions, Retrieval, TokenRows
from braindecode_clip.cli.main import main
from braindecode_clip.decode import FittedDecoder
from braindecode_clip.io.hdf5 import load_artifact, read_provenance, save_artifact
from braindecode_clip.provenance import Provenance

N_TOKENS, N_DIMS = 5, 7
RECORD = Provenance(stage="test", options={"name": "vit"}, inputs={}, seed=None, code_digest="")


@pytest.fixture
def toy(make_toy):
    return make_toy(n_dims=N_TOKENS * N_DIMS)


@pytest.fixture
def files(tmp_path, picture_set, toy):
    values = toy.vectors.reshape(-1, N_TOKENS, N_DIMS) * np.float32(np.sqrt(N_TOKENS))
    tokens = dataclasses.replace(toy.embeddings(), vectors=values.astype(np.float16))
    flat = tokens.vectors.astype(np.float32).reshape(len(values), -1)
    flat = dataclasses.replace(tokens, vectors=flat / np.linalg.norm(flat, axis=1, keepdims=True))
    paths = {name: tmp_path / f"{name}.h5" for name in ("voxels", "tokens", "flat")}
    for path, artefact in zip(paths.values(), (picture_set, tokens, flat), strict=True):
        save_artifact(path, artefact, RECORD)
    return paths


def decode(files, out, options, *more, embeddings="tokens"):
    flags = ["--voxels", files["voxels"], "--embeddings", files[embeddings], "--out", out]
    return main(["decode", *map(str, flags), "--options", options, *map(str, more)])


@pytest.mark.parametrize(
    "options",
    [
        "{kind: ridge}",
        "{kind: contrastive, max_epochs: 3}",
        "{kind: mlp, hidden: 16, max_epochs: 8, n_members: 2}",
    ],
)
def test_from_files_to_ranks_and_scores(files, tmp_path, options, monkeypatch):
    monkeypatch.setattr(TokenRows, "__array__", _never)
    out, decoder = tmp_path / "predictions.h5", tmp_path / "decoder.h5"
    assert decode(files, out, options, "--out-decoder", decoder, "--seed", "5") == 0
    predictions = load_artifact(out, Predictions)
    fitted = load_artifact(decoder, FittedDecoder)
    assert predictions.vectors.shape == (40, N_TOKENS, N_DIMS)
    assert predictions.info["encoder"] == fitted.encoder == "vit"
    assert read_provenance(out)["seed"] == 5 and read_provenance(out)["options"] == fitted.options
    again = tmp_path / "again.h5"
    assert decode(files, again, "", "--decoder", decoder) == 0
    repeated = load_artifact(again, Predictions).vectors
    np.testing.assert_allclose(repeated, predictions.vectors, atol=1e-6)
    ranked, table = tmp_path / "retrieval.h5", tmp_path / "metrics.json"
    flags = ["--predictions", out, "--embeddings", files["tokens"], "--out", ranked]
    assert main(["retrieve", *map(str, flags), "--gallery", "{name: all, candidates: all}"]) == 0
    found = load_artifact(ranked, Retrieval)
    embeddings = load_artifact(files["tokens"], Embeddings)
    sides = [x.vectors.reshape(len(x.vectors), -1).astype(float) for x in (predictions, embeddings)]
    cosine = (sides[0] @ sides[1].T) / np.linalg.norm(sides[0], axis=1)[:, None]
    cosine /= np.linalg.norm(sides[1], axis=1)
    own = embeddings.rows(predictions.stimulus_id)
    expected = 1 + (cosine > cosine[np.arange(40), own][:, None]).sum(axis=1)
    np.testing.assert_array_equal(found.queries["rank"], expected)
    flags = ["--retrieval", ranked, "--predictions", out, "--embeddings", files["tokens"]]
    small = "{n_bootstrap: 200, n_permutations: 200, n_permutations_dims: 100}"
    flags += ["--seed", "1", "--out", table, "--options", small]
    assert main(["evaluate", *map(str, flags)]) == 0
    rows = {row["metric"]: row for row in json.loads(table.read_text())["rows"]}
    assert rows["mean_rank"]["value"] == pytest.approx(expected.mean())
    one, two = sides[0] - sides[0].mean(axis=0), sides[1][own] - sides[1][own].mean(axis=0)
    r = (one * two).sum(axis=0) / np.sqrt((one**2).sum(axis=0) * (two**2).sum(axis=0))
    assert rows["correlation_mean"]["value"] == pytest.approx(r.mean(), abs=1e-6)


def _never(self, dtype=None, copy=None):
    raise AssertionError("all tokens were read at once")


def test_maps_and_table_are_those_of_tokens_laid_end_to_end(files, tmp_path, monkeypatch):
    results = {}
    for name in ("tokens", "flat"):
        out, decoder = tmp_path / f"{name}_p.h5", tmp_path / f"{name}_d.h5"
        assert decode(files, out, "{}", "--out-decoder", decoder, embeddings=name) == 0
        if name == "tokens":
            # So that weights stay in their file.
            monkeypatch.setattr("braindecode_clip.io.hdf5.LAZY_ABOVE", 1000)
        maps = {
            f"--out-{kind}": tmp_path / f"{name}_{kind}.nii.gz"
            for kind in ("reliability", "ncsnr", "noise-ceiling", "pattern")
        }
        flags = ["--voxels", files["voxels"], "--decoder", decoder, "--predictions", out]
        flags += ["--embeddings", files[name], "--out-table", tmp_path / f"{name}.tsv"]
        flags += [text for pair in maps.items() for text in pair]
        assert main(["interpret", *map(str, flags)]) == 0
        import nibabel

        results[name] = (
            nibabel.load(maps["--out-pattern"]).get_fdata(),
            (tmp_path / f"{name}.tsv").read_text().splitlines(),
        )
    np.testing.assert_allclose(results["tokens"][0], results["flat"][0], rtol=2e-2, atol=1e-4)
    dims = [[line.split("\t")[0] for line in lines] for _, lines in results.values()]
    assert dims[0] == dims[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("{kind: kernel_ridge}", "does not take token targets"),
        ("{kind: pca_ridge}", "does not take token targets"),
        ("{kind: ridge, calibration: transductive}", "ends in"),
    ],
)
def test_a_refused_decoder_leaves_what_was_there(files, tmp_path, capsys, options, message):
    out, decoder = tmp_path / "p.h5", tmp_path / "d.h5"
    out.write_bytes(b"old")
    assert decode(files, out, options, "--out-decoder", decoder) == 1
    printed = capsys.readouterr().err
    assert message in printed and "Traceback" not in printed
    assert out.read_bytes() == b"old" and not decoder.exists()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_an_ensemble_of_token_decoders_is_refused(files, tmp_path, capsys):
    member = tmp_path / "d.h5"
    assert decode(files, tmp_path / "p.h5", "{}", "--out-decoder", member) == 0
    capsys.readouterr()
    options = "{kind: ensemble, members: [ridge, ridge]}"
    members = ("--member", member, "--member", member)
    assert decode(files, tmp_path / "e.h5", options, *members) == 1
    assert "does not take token targets" in capsys.readouterr().err


def test_a_killed_mlp_goes_on(files, tmp_path, monkeypatch):
    from braindecode_clip.decode.training import Training

    options = "{kind: mlp, hidden: 8, max_epochs: 6, n_members: 2}"
    whole, out, state = tmp_path / "whole.h5", tmp_path / "out.h5", tmp_path / "state"
    assert decode(files, whole, options) == 0
    real, epochs = Training.run_epoch, []

    def until_killed(self):
        epochs.append(1)
        if len(epochs) == 9:
            raise KeyboardInterrupt
        real(self)

    monkeypatch.setattr(Training, "run_epoch", until_killed)
    decode(files, out, options, "--state", state)
    assert len(epochs) == 9 and not out.exists()
    monkeypatch.setattr(Training, "run_epoch", lambda self: epochs.append(1) or real(self))
    assert decode(files, out, options, "--state", state) == 0
    # Two networks of 6 epochs, for all rows and without each of 5 folds, would be 72 anew.
    assert len(epochs) < 9 + 72
    np.testing.assert_array_equal(
        load_artifact(out, Predictions).vectors, load_artifact(whole, Predictions).vectors
    )


def test_the_decoder_of_an_mlp_is_small(files, tmp_path):
    decoder = tmp_path / "d.h5"
    options = "{kind: mlp, hidden: 8, max_epochs: 2, n_members: 1, target_components: 6}"
    assert decode(files, tmp_path / "p.h5", options, "--out-decoder", decoder) == 0
    with h5py.File(decoder) as file:
        sizes = []
        file.visititems(lambda name, item: sizes.append(getattr(item, "size", 0)))
    fold = load_artifact(decoder, FittedDecoder).folds[0]
    assert fold.array("0.head.weight").shape == (6, 8)
    assert fold.array("token_mix").shape == (6, 160)
    assert max(sizes) == 8 * 150
