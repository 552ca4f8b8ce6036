"""Fitted estimators in a file, without pickle."""

import dataclasses
import pickle

import numpy as np
import pytest
from sklearn.model_selection import GroupKFold

from braindecode_clip.decode import ContrastiveDecoder, MLPDecoder
from braindecode_clip.decode.stored import StoredEstimator, restore_estimator, store_estimator
from braindecode_clip.errors import ArtifactError
from braindecode_clip.io.hdf5 import load_artifact, save_artifact
from braindecode_clip.provenance import Provenance

RECORD = Provenance(stage="test", options={}, inputs={}, seed=None, code_digest="")


@pytest.mark.parametrize(
    "model",
    [
        MLPDecoder(hidden=8, n_blocks=2, max_epochs=3, n_members=2, cv=2, random_state=np.int64(3)),
        MLPDecoder(hidden=8, n_blocks=0, max_epochs=2, n_members=1, cross_fit=False),
        ContrastiveDecoder(np.geomspace(1, 100, 3), 3, max_epochs=2, random_state=1),
    ],
    ids=["mlp", "stopping", "contrastive"],
)
@pytest.mark.parametrize("tail", [(), (32,), (4, 8)], ids=str)
def test_round_trip(model, tail, toy, tmp_path, monkeypatch):
    X, Y = toy.responses(np.arange(40)), toy.vectors[:40]
    Y = Y[:, 0] if tail == () else Y.reshape(40, *tail)
    model.fit(X, Y)

    def refuse(*_args, **_named):
        raise AssertionError("pickled")

    for name in ("load", "loads", "dump", "dumps"):
        monkeypatch.setattr(pickle, name, refuse)
    save_artifact(tmp_path / "model.h5", store_estimator(model), RECORD)
    back = restore_estimator(load_artifact(tmp_path / "model.h5", StoredEstimator))
    np.testing.assert_array_equal(back.predict(X), model.predict(X))
    assert back.predict(X).shape == (40, *tail)
    learned = {name for name in vars(model) if name.endswith("_")}
    assert {name for name in vars(back) if name.endswith("_")} == learned
    for name in learned - {"arrays_"}:
        np.testing.assert_equal(getattr(back, name), getattr(model, name))
    options = back.get_params()
    for name, value in model.get_params().items():
        np.testing.assert_array_equal(options[name], value)


def test_trained_on_a_gpu_loads_without_one(toy):
    X, Y = toy.responses(np.arange(40)), toy.vectors[:40]
    model = MLPDecoder(hidden=8, max_epochs=2, n_members=1, cross_fit=False).fit(X, Y)
    stored = store_estimator(model)
    there = dataclasses.replace(stored, options=stored.options | {"device": "cuda"})
    np.testing.assert_array_equal(restore_estimator(there).predict(X), model.predict(X))


def test_what_cannot_be_stored_or_read_is_named(toy):
    X, Y = toy.responses(np.arange(40)), toy.vectors[:40]
    model = MLPDecoder(
        hidden=8,
        max_epochs=1,
        n_members=1,
        cv=GroupKFold(2),
        random_state=np.random.RandomState(0),
    ).fit(X, Y, groups=np.arange(40) // 8)
    with pytest.raises(
        ArtifactError, match=r"(?s)'cv' is a GroupKFold.*'random_state' is a Random"
    ):
        store_estimator(model)
    with pytest.raises(ArtifactError, match="'name' is 'Tree', expected one of MLPDecoder"):
        StoredEstimator("Tree", {}, (), {})
    with pytest.raises(ArtifactError, match="lacks out_of_fold_, cross_fitted_"):
        StoredEstimator("MLPDecoder", {}, (), {})
