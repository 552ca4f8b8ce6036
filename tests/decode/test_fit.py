import dataclasses

import numpy as np
import pytest
from sklearn.model_selection import GroupKFold

from braindecode_clip.artifacts import Embeddings, Samples
from braindecode_clip.config.decode import AlphaGrid, ContrastiveConfig, MLPConfig, RidgeConfig
from braindecode_clip.decode import (
    FittedDecoder,
    RidgeDecoder,
    apply_calibration,
    apply_decoder,
    decode,
    fit_calibration,
    predict_samples,
)
from braindecode_clip.decode.fit import inner_groups
from braindecode_clip.errors import ArtifactError, DataError, LeakageError
from braindecode_clip.io.hdf5 import load_artifact, save_artifact
from braindecode_clip.provenance import Provenance

RIDGE = RidgeConfig()
MLP = MLPConfig(hidden=32, max_epochs=15, n_members=2)
CONTRASTIVE = ContrastiveConfig()
CONFIGS = pytest.mark.parametrize(
    "config", [RIDGE, CONTRASTIVE, MLP], ids=["ridge", "contrastive", "mlp"]
)


@pytest.fixture
def run_set(toy, make_voxel_set):
    """Five pictures, each once in every of 6 runs; a fold for each run."""
    pictures = np.tile(np.arange(5), 6)
    runs = np.repeat([f"run-{i}" for i in range(6)], 5)
    samples = toy.samples(pictures, group=runs)
    folds = []
    for name in np.unique(runs):
        parts = [
            Samples(*(getattr(samples, field.name)[rows] for field in dataclasses.fields(Samples)))
            for rows in (runs != name, runs == name)
        ]
        folds.append((name, *parts))
    return make_voxel_set(folds, unit="run", n_voxels=150)


@CONFIGS
def test_identifies_unseen_pictures(config, picture_set, toy, ranks):
    predictions, fitted = decode(
        picture_set, toy.embeddings(), config=config, seed=1, encoder="toy"
    )
    assert predictions.vectors.shape == (40, 32)
    assert predictions.vectors.dtype == np.float32
    np.testing.assert_array_equal(predictions.stimulus_id, toy.ids[160:])
    np.testing.assert_array_equal(predictions.train_ids, toy.ids[:160])
    assert not set(predictions.train_ids) & set(predictions.stimulus_id)
    assert set(predictions.fold) == {"all"}
    assert (predictions.n_repeats == 3).all()
    assert predictions.fingerprint == toy.embeddings().fingerprint
    labels = ("subject", "roi", "split", "encoder", "decoder")
    assert [predictions.info[name] for name in labels] == [
        "01",
        "visual",
        "toy",
        "toy",
        config.name,
    ]
    assert (ranks(predictions.vectors, toy.vectors[160:]) == 1).mean() >= 5 / 40
    assert fitted.folds[0].info["out_of_fold_r2"] > 0.02


def test_ridge_of_a_fold_is_the_estimator_with_run_folds(run_set, toy):
    config = RidgeConfig(alphas=AlphaGrid(low=1, high=1e4, count=9), cv=4)
    predictions, fitted = decode(run_set, toy.embeddings(), config=config, seed=0)
    expected = []
    for fold, stored in zip(run_set.folds, fitted.folds, strict=True):
        targets = toy.embeddings().vectors[toy.embeddings().rows(fold.train.stimulus_id)]
        model = RidgeDecoder(np.geomspace(1, 1e4, 9), cv=GroupKFold(4), out_of_fold=True)
        model.fit(fold.train.data, targets, groups=fold.train.group)
        line = fit_calibration(model.out_of_fold_, targets)
        expected.append(apply_calibration(model.predict(fold.test.data), *line))
        np.testing.assert_array_equal(stored.array("alpha"), model.alpha_)
        np.testing.assert_array_equal(stored.array("cv_mse"), model.cv_mse_)
    np.testing.assert_allclose(predictions.vectors, np.concatenate(expected), atol=1e-5)
    assert list(predictions.fold[:6]) == ["run-0"] * 5 + ["run-1"]


def test_ridge_options_reach_the_estimator(picture_set, toy, make_voxel_set):
    train = toy.samples(np.arange(100), group=["run-0"] * 100, repeats=2)
    train.n_repeats[:40] = 1
    voxels = make_voxel_set([("all", train, picture_set.folds[0].test)], n_voxels=150)
    config = RidgeConfig(
        validation="loo",
        alpha_groups="all",
        weight_by_repeats=True,
        fit_intercept=False,
        device="torch",
    )
    _, fitted = decode(voxels, toy.embeddings(), config=config, seed=0)
    model = RidgeDecoder(validation="loo", alpha_groups="all", fit_intercept=False)
    model.fit(train.data, toy.vectors[:100], sample_weight=train.n_repeats)
    stored = fitted.folds[0]
    np.testing.assert_allclose(stored.array("coef"), model.coef_, atol=1e-5)
    np.testing.assert_allclose(stored.array("alpha"), model.alpha_)
    plain = config.model_copy(update={"weight_by_repeats": False})
    _, unweighted = decode(voxels, toy.embeddings(), config=plain, seed=0)
    assert not np.allclose(unweighted.folds[0].array("coef"), model.coef_, atol=1e-5)


def test_inner_folds_repeat_the_outer_split(run_set, picture_set, toy, make_voxel_set):
    fold = run_set.folds[0]
    np.testing.assert_array_equal(inner_groups(fold, "run"), fold.train.group)
    assert inner_groups(picture_set.folds[0], "stimulus") is None
    repeated = toy.samples(np.array([0, 1, 2, 1]), group=["a", "a", "b", "b"])
    test = toy.samples(np.array([9]), group=["b"])
    again = make_voxel_set([("x", repeated, test)], n_voxels=150).folds[0]
    np.testing.assert_array_equal(inner_groups(again, "stimulus"), repeated.stimulus_id)


def test_fewer_groups_than_inner_folds(run_set, toy):
    config = RidgeConfig(cv=20)
    _, fitted = decode(run_set, toy.embeddings(), config=config, seed=0)
    assert fitted.folds[0].info["n_inner_groups"] == 5


@CONFIGS
def test_test_rows_have_no_influence(config, picture_set, toy, make_voxel_set):
    """Other test samples, other order: training is the same, bit for bit."""
    _, fitted = decode(picture_set, toy.embeddings(), config=config, seed=1)
    fold = picture_set.folds[0]
    other = toy.samples(np.arange(170, 190), group=["run-9"] * 20)
    _, again = decode(
        make_voxel_set([("all", fold.train, other)], n_voxels=150),
        toy.embeddings(),
        config=config,
        seed=1,
    )
    for one, two in zip(fitted.folds[0].arrays, again.folds[0].arrays, strict=True):
        np.testing.assert_array_equal(one.data, two.data)
    np.testing.assert_array_equal(fitted.folds[0].gain, again.folds[0].gain)


def test_seed_and_labels_give_independent_streams(picture_set, toy):
    heads = []
    for seed, config in ((1, MLP), (2, MLP), (1, MLP.model_copy(update={"name": "other"}))):
        _, fitted = decode(picture_set, toy.embeddings(), config=config, seed=seed)
        heads.append(fitted.folds[0].array("0.head.weight"))
    assert not np.array_equal(heads[0], heads[1])
    assert not np.array_equal(heads[0], heads[2])


def test_calibration_is_as_configured(picture_set, toy):
    plain = RidgeConfig(calibration="none")
    raw, fitted = decode(picture_set, toy.embeddings(), config=plain, seed=0)
    np.testing.assert_array_equal(fitted.folds[0].gain, 1)
    spread, calibrated = decode(picture_set, toy.embeddings(), config=RIDGE, seed=0)
    gain = calibrated.folds[0].gain
    assert gain[0] > 1.1
    np.testing.assert_allclose(
        spread.vectors, raw.vectors * gain + calibrated.folds[0].offset, atol=1e-5
    )


@CONFIGS
def test_stored_decoder_predicts_the_same(config, picture_set, toy, tmp_path):
    predictions, fitted = decode(picture_set, toy.embeddings(), config=config, seed=1)
    path = tmp_path / "decoder.h5"
    provenance = Provenance(stage="decode", options={}, inputs={}, seed=1, code_digest="")
    save_artifact(path, fitted, provenance)
    loaded = load_artifact(path, FittedDecoder)
    again = apply_decoder(loaded, picture_set, toy.embeddings())
    np.testing.assert_array_equal(again.vectors, predictions.vectors)
    assert again.info == predictions.info
    assert b"pickle" not in path.read_bytes()


def test_refuses_a_picture_in_train_and_test(toy, make_voxel_set):
    train = toy.samples(np.arange(20), group=["a"] * 20)
    test = toy.samples(np.array([30, 3, 31]), group=["b"] * 3)
    voxels = make_voxel_set([("all", train, test)], n_voxels=150)
    with pytest.raises(LeakageError, match=r"fold 'all'.*'pic-003'"):
        decode(voxels, toy.embeddings(), config=RIDGE, seed=0)
    # By run the same categories may come again.
    decode(
        make_voxel_set(
            [("a", toy.samples(np.arange(20), group=["a"] * 10 + ["b"] * 10), test)],
            unit="run",
            n_voxels=150,
        ),
        toy.embeddings(),
        config=RIDGE,
        seed=0,
    )


def test_refuses_a_test_picture_that_the_statistics_saw(picture_set, toy):
    fold = dataclasses.replace(
        picture_set.folds[0], seen=np.append(picture_set.folds[0].seen, "pic-171")
    )
    voxels = dataclasses.replace(picture_set, folds=(fold,))
    with pytest.raises(LeakageError, match="pic-171"):
        decode(voxels, toy.embeddings(), config=RIDGE, seed=0)


def test_names_stimuli_without_embedding(picture_set, toy):
    some = Embeddings(toy.ids[5:], toy.vectors[5:], modality="image", fingerprint={})
    with pytest.raises(DataError, match=r"5 of 200 stimuli have no embedding.*'pic-000'"):
        decode(picture_set, some, config=RIDGE, seed=0)


def test_refuses_one_group(toy, make_voxel_set):
    train = toy.samples(np.arange(20), group=["a"] * 20)
    test = toy.samples(np.arange(20), group=["b"] * 20)
    voxels = make_voxel_set([("b", train, test)], unit="run", n_voxels=150)
    with pytest.raises(DataError, match="one run or stimulus"):
        decode(voxels, toy.embeddings(), config=RIDGE, seed=0)


@pytest.fixture
def fitted(picture_set, toy):
    return decode(picture_set, toy.embeddings(), config=RIDGE, seed=0)[1]


def test_stored_decoder_refuses_another_encoder(fitted, picture_set, toy):
    other = dataclasses.replace(
        toy.embeddings(),
        fingerprint={"name": "toy", "weights_sha256": "ff", "preprocessing": {"size": 96}},
    )
    with pytest.raises(DataError, match=r"preprocessing\.size: 64 != 96.*weights_sha256"):
        apply_decoder(fitted, picture_set, other)


def test_stored_decoder_refuses_other_voxels(fitted, picture_set, toy, make_voxel_set):
    fold = picture_set.folds[0]
    changes = {
        "subject 01": dataclasses.replace(picture_set, subject="02"),
        "another grid or mask": dataclasses.replace(
            picture_set, space=dataclasses.replace(picture_set.space, affine=2 * np.eye(4))
        ),
        "its folds are 'all'": make_voxel_set([("b", fold.train, fold.test)], n_voxels=150),
        "scaled otherwise": dataclasses.replace(
            picture_set, folds=(dataclasses.replace(fold, sd=fold.sd * 2),)
        ),
    }
    for message, voxels in changes.items():
        with pytest.raises(DataError, match=message.replace(" ", r"\s")):
            apply_decoder(fitted, voxels, toy.embeddings())
    with pytest.raises(ArtifactError, match="got 149 voxels, it was fitted on 150"):
        predict_samples(fitted.folds[0], fold.test.data[:, 1:], kind="ridge")


def test_stored_decoder_refuses_pictures_that_it_was_trained_on(
    fitted, picture_set, toy, make_voxel_set
):
    fold = picture_set.folds[0]
    test = toy.samples(np.array([3, 170]), group=["x", "x"])
    train = toy.samples(np.arange(100, 120), group=["y"] * 20)
    voxels = make_voxel_set([(fold.name, train, test)], n_voxels=150)
    with pytest.raises(LeakageError, match="pic-003"):
        apply_decoder(fitted, voxels, toy.embeddings())


def test_artefact_checks_itself(fitted):
    with pytest.raises(ArtifactError, match="expected one of ridge, contrastive, mlp, banded"):
        dataclasses.replace(fitted, kind="tree")
    with pytest.raises(ArtifactError, match="no folds"):
        dataclasses.replace(fitted, folds=())
    fold = fitted.folds[0]
    bad = dataclasses.replace(fold.arrays[0], data=fold.arrays[0].data * np.nan)
    with pytest.raises(ArtifactError, match="'coef' holds NaN"):
        dataclasses.replace(fold, arrays=(bad, *fold.arrays[1:]))
