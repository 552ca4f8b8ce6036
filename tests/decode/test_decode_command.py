import dataclasses

import numpy as np
import pytest

from braindecode_clip.artifacts import Predictions
from braindecode_clip.cli.main import main
from braindecode_clip.decode import FittedDecoder
from braindecode_clip.io.hdf5 import load_artifact, read_provenance, save_artifact
from braindecode_clip.provenance import Provenance


def store(path, artefact, **options):
    record = Provenance(stage="test", options=options, inputs={}, seed=None, code_digest="")
    save_artifact(path, artefact, record)
    return path


@pytest.fixture
def files(tmp_path, picture_set, toy):
    return {
        "voxels": store(tmp_path / "voxels.h5", picture_set),
        "embeddings": store(tmp_path / "embeddings.h5", toy.embeddings(), name="toy-clip"),
        "out": tmp_path / "predictions.h5",
    }


def run(files, *more):
    flags = [f for name, path in files.items() for f in (f"--{name.replace('_', '-')}", str(path))]
    return main(["decode", *flags, *more])


@pytest.mark.parametrize(
    "options",
    [
        "{kind: ridge, name: plain, cv: 4}",
        "{kind: contrastive, max_epochs: 3}",
        "{kind: mlp, hidden: 8, max_epochs: 4, n_members: 1}",
    ],
)
def test_writes_predictions_and_decoder(files, tmp_path, options):
    files["out_decoder"] = tmp_path / "decoder.h5"
    assert run(files, "--options", options, "--seed", "5") == 0
    predictions = load_artifact(files["out"], Predictions)
    fitted = load_artifact(files["out_decoder"], FittedDecoder)
    assert predictions.info["encoder"] == fitted.encoder == "toy-clip"
    assert predictions.info["decoder"] == fitted.name
    record = read_provenance(files["out"])
    assert record["seed"] == 5
    assert set(record["inputs"]) == {"voxels.h5", "embeddings.h5"}
    assert record["options"]["kind"] == fitted.kind


def test_stored_decoder_gives_the_same_predictions(files, tmp_path):
    decoder = tmp_path / "decoder.h5"
    assert run(files, "--out-decoder", str(decoder)) == 0
    first = load_artifact(files["out"], Predictions)
    files["out"] = tmp_path / "again.h5"
    assert run(files, "--decoder", str(decoder)) == 0
    again = load_artifact(files["out"], Predictions)
    np.testing.assert_array_equal(again.vectors, first.vectors)


def test_embeddings_of_another_encoder(files, tmp_path, toy, capsys):
    decoder = tmp_path / "decoder.h5"
    assert run(files, "--out-decoder", str(decoder)) == 0
    before = files["out"].read_bytes()
    other = dataclasses.replace(
        toy.embeddings(), fingerprint=toy.embeddings().fingerprint | {"weights_sha256": "cd34"}
    )
    files["embeddings"] = store(tmp_path / "other.h5", other)
    assert run(files, "--decoder", str(decoder)) == 1
    error = capsys.readouterr().err
    assert "weights_sha256: 'ab12' != 'cd34'" in error
    assert "Traceback" not in error
    assert files["out"].read_bytes() == before


def test_missing_embedding(files, tmp_path, toy, capsys):
    some = dataclasses.replace(toy.embeddings(), ids=toy.ids[1:], vectors=toy.vectors[1:])
    files["embeddings"] = store(tmp_path / "some.h5", some)
    files["out"].write_text("earlier result")
    assert run(files) == 1
    error = capsys.readouterr().err
    assert "1 of 200 stimuli have no embedding: 'pic-000'" in error
    assert "Re-run `embed`" in error
    assert files["out"].read_text() == "earlier result"


def test_picture_in_train_and_test(files, tmp_path, picture_set, toy, capsys):
    fold = picture_set.folds[0]
    train = dataclasses.replace(
        fold.train, stimulus_id=np.append(fold.train.stimulus_id[:-1], fold.test.stimulus_id[0])
    )
    leaky = dataclasses.replace(picture_set, folds=(dataclasses.replace(fold, train=train),))
    files["voxels"] = store(tmp_path / "leaky.h5", leaky)
    assert run(files) == 1
    assert "are in train and test: 'pic-160'" in capsys.readouterr().err
    assert not files["out"].exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("{kind: forest}", "'kind' is 'forest', expected one of ridge, contrastive, mlp, banded"),
        ("{kind: ridge, alpha: 3}", "Did you mean 'alphas'?"),
        ("{kind: ridge, alphas: {low: 10, high: 1}}", "below 'low'"),
        ("{kind: mlp, contrastive: 0}", "must be above 0"),
        ("{kind: mlp, dropout: 1}", "dropout"),
    ],
)
def test_bad_options(files, options, message, capsys):
    assert run(files, "--options", options) == 1
    assert message in capsys.readouterr().err


def test_stored_decoder_takes_no_options(files, tmp_path, capsys):
    files["decoder"] = tmp_path / "decoder.h5"
    assert run(files, "--options", "{cv: 3}") == 1
    assert "leave out --options" in capsys.readouterr().err


def test_wrong_file(files, capsys):
    files["voxels"] = files["embeddings"]
    assert run(files) == 1
    assert "holds Embeddings, expected VoxelSet" in capsys.readouterr().err
