"""The closed-form kinds as decoders of a fold: fitted, stored, loaded; bands; transductive."""

import dataclasses

import numpy as np
import pytest
from pydantic import ValidationError

from braindecode_clip.artifacts import VoxelSpace
from braindecode_clip.cli.main import main
from braindecode_clip.config.decode import AlphaGrid, RidgeConfig
from braindecode_clip.config.decode_linear import (
    BandedConfig,
    KernelRidgeConfig,
    PCARidgeConfig,
    ReducedRankConfig,
)
from braindecode_clip.decode import (
    BandedRidgeDecoder,
    FittedDecoder,
    apply_decoder,
    decode,
    predict_samples,
)
from braindecode_clip.decode.bands import label_bands, without_voxels
from braindecode_clip.decode.identify import cluster_means, pairwise_shares
from braindecode_clip.errors import ArtifactError, DataError
from braindecode_clip.io.hdf5 import load_artifact, save_artifact
from braindecode_clip.provenance import Provenance

GRID = AlphaGrid(low=1, high=1e5, count=8)
KERNEL_GRID = AlphaGrid(low=1e-3, high=1e2, count=8)
TRANSDUCTIVE = RidgeConfig(name="ridge-transductive", alphas=GRID, calibration="transductive")
CONFIGS = {
    "banded": BandedConfig(bands=["left"], alphas=GRID, n_weights=6),
    "cosine": KernelRidgeConfig(kernel="cosine", alphas=KERNEL_GRID),
    "rbf": KernelRidgeConfig(alphas=KERNEL_GRID, scales=[0.1, 1.0]),
    "pca": PCARidgeConfig(n_components=[5, 40], alphas=GRID),
    "rank": ReducedRankConfig(ranks=[3, 8], alphas=GRID),
    "transductive": TRANSDUCTIVE,
}
PROVENANCE = Provenance(stage="decode", options={}, inputs={}, seed=1, code_digest="")


def part_of(space, index):
    return VoxelSpace(affine=space.affine, shape=space.shape, ijk=space.ijk[index])


@pytest.fixture
def bands(picture_set):
    return label_bands(picture_set.space, {"left": part_of(picture_set.space, np.arange(60))})


@pytest.mark.parametrize("kind", CONFIGS)
def test_identifies_and_predicts_the_same_when_loaded(
    kind, picture_set, toy, bands, ranks, tmp_path
):
    config = CONFIGS[kind]
    predictions, fitted = decode(
        picture_set,
        toy.embeddings(),
        config=config,
        seed=1,
        bands=bands if kind == "banded" else None,
    )
    assert (ranks(predictions.vectors, toy.vectors[160:]) == 1).mean() >= 5 / 40
    found = fitted.folds[0].info
    assert found["out_of_fold_pairwise"] > 0.65
    save_artifact(tmp_path / "decoder.h5", fitted, PROVENANCE)
    loaded = load_artifact(tmp_path / "decoder.h5", FittedDecoder)
    again = apply_decoder(loaded, picture_set, toy.embeddings())
    np.testing.assert_array_equal(again.vectors, predictions.vectors)
    assert again.info == predictions.info


def test_a_banded_decoder_gets_the_bands_of_the_kept_voxels(picture_set, toy, bands):
    """Selection leaves out voxels, so labels must be selected with them."""
    smaller = without_voxels(picture_set, np.arange(150) % 5 == 0)
    # No other draws than equal weights and each band alone.
    config = CONFIGS["banded"].model_copy(update={"n_weights": 3, "calibration": "none"})
    _, fitted = decode(smaller, toy.embeddings(), config=config, seed=1, bands=bands)
    fold = smaller.folds[0]
    kept = np.arange(150)[np.arange(150) % 5 > 0] >= 60
    model = BandedRidgeDecoder(kept, np.geomspace(1, 1e5, 8), n_weights=3)
    model.fit(fold.train.data, toy.vectors[:160])
    np.testing.assert_array_equal(fitted.folds[0].array("coef"), model.coef_)
    weights = fitted.folds[0].info["mean_band_weights"]
    assert weights == pytest.approx(
        {"left": model.weights_[0].mean(), "rest": model.weights_[1].mean()}
    )


def test_bands_go_by_place_and_the_first_wins(picture_set):
    space = picture_set.space
    labels = label_bands(
        space, {"a": part_of(space, [9, 3, 4]), "b": part_of(space, np.arange(4, 12))}
    )
    expected = np.full(150, "rest", dtype=object)
    expected[4:12] = "b"
    expected[[3, 4, 9]] = "a"
    np.testing.assert_array_equal(labels, expected.astype(str))


def test_bands_refuse_another_grid_and_may_be_empty(picture_set):
    space = picture_set.space
    region = part_of(space, np.arange(10))
    shifted = dataclasses.replace(part_of(space, [1]), affine=2 * np.eye(4))
    with pytest.raises(DataError, match=r"'moved' lies on another grid"):
        label_bands(region, {"moved": shifted})
    assert set(label_bands(region, {"far": part_of(space, [80])})) == {"rest"}


def test_dropped_voxels_leave_the_others_as_they_were(picture_set):
    dropped = np.arange(150) < 30
    fold, whole = without_voxels(picture_set, dropped).folds[0], picture_set.folds[0]
    np.testing.assert_array_equal(fold.voxel_index, np.arange(30, 150))
    np.testing.assert_array_equal(fold.test.data, whole.test.data[:, 30:])
    np.testing.assert_array_equal(fold.train.data, whole.train.data[:, 30:])
    with pytest.raises(ArtifactError, match="no voxels"):
        without_voxels(picture_set, np.ones(150, bool))


def test_transductive_predictions_have_the_moments_of_the_training_targets(picture_set, toy):
    predictions, fitted = decode(picture_set, toy.embeddings(), config=TRANSDUCTIVE, seed=1)
    train = toy.vectors[:160]
    np.testing.assert_allclose(predictions.vectors.mean(axis=0), train.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(predictions.vectors.std(axis=0), train.std(axis=0), atol=1e-5)
    assert predictions.info["calibration"] == "transductive"
    test = picture_set.folds[0].test.data
    few = predict_samples(fitted.folds[0], test[:10], kind="ridge", transductive=True)
    assert np.abs(few - predictions.vectors[:10]).max() > 0.01
    with pytest.raises(DataError, match="predictions of 1 test rows"):
        predict_samples(fitted.folds[0], test[:1], kind="ridge", transductive=True)


def test_transductive_stands_in_the_name():
    with pytest.raises(ValidationError, match="ends in 'transductive', such as 'ridge-trans"):
        RidgeConfig(calibration="transductive")


def test_pairwise_shares_count_other_stimuli_once():
    targets = np.array([[1.0, 0], [0, 1], [1, 1], [1, 0]])
    ids = np.array(["a", "b", "c", "a"])
    predicted = np.array([[2.0, 0.1], [1, 0.9], [np.nan, 0], [0, 0]])
    shares = pairwise_shares(predicted, targets, ids)
    np.testing.assert_allclose(shares, [1, 0, np.nan, 0.5])
    assert np.isnan(pairwise_shares(predicted[:1], targets[:1], ids[:1])).all()


def test_cluster_means_draw_whole_clusters():
    values = np.array([[1.0, 0], [1, 0], [0, 1]])
    draws = cluster_means(
        values, np.array(["a", "a", "b"]), n_bootstrap=500, rng=np.random.default_rng(0)
    )
    # Two clusters of sizes 2 and 1: both, the first twice, or the second twice.
    assert set(np.round(draws[:, 0], 6)) == {0, 0.666667, 1}
    np.testing.assert_allclose(draws.sum(axis=1), 1)


@pytest.fixture
def files(tmp_path, picture_set, toy):
    paths = {}
    left = dataclasses.replace(without_voxels(picture_set, np.arange(150) >= 60), roi="left")
    index = np.arange(60)
    left = dataclasses.replace(
        left,
        space=part_of(picture_set.space, index),
        **{name: getattr(left, name)[index] for name in ("reliability", "ncsnr", "noise_ceiling")},
    )
    for name, artefact in (
        ("voxels", picture_set),
        ("left", left),
        ("embeddings", toy.embeddings()),
    ):
        paths[name] = str(tmp_path / f"{name}.h5")
        save_artifact(tmp_path / f"{name}.h5", artefact, PROVENANCE)
    return paths


def test_command_reads_bands(files, tmp_path, capsys):
    arguments = ["decode", "--voxels", files["voxels"], "--embeddings", files["embeddings"]]
    arguments += ["--out", str(tmp_path / "out.h5"), "--options", "{kind: banded, bands: [left]}"]
    assert main(arguments) == 1
    assert "--band: got voxels of no ROI, expected those of" in capsys.readouterr().err
    arguments += ["--out-decoder", str(tmp_path / "decoder.h5"), "--band", files["left"]]
    assert main(arguments) == 0
    info = load_artifact(tmp_path / "decoder.h5", FittedDecoder).folds[0].info
    assert set(info["mean_band_weights"]) == {"left", "rest"}
