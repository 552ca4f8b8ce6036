import numpy as np
import pytest
from scipy.optimize import minimize

from braindecode_clip.artifacts import Predictions
from braindecode_clip.cli.main import main
from braindecode_clip.config.decode import EnsembleConfig, MLPConfig, RidgeConfig
from braindecode_clip.config.study import parse_study
from braindecode_clip.decode import FittedDecoder, apply_decoder, combine, decode
from braindecode_clip.decode.ensemble import ensemble_weights, least_error, simplex_grid
from braindecode_clip.errors import ConfigError, DataError
from braindecode_clip.io.hdf5 import load_artifact, save_artifact
from braindecode_clip.provenance import Provenance

CONFIG = EnsembleConfig(members=("ridge", "mlp"))


def store(path, artefact):
    record = Provenance(stage="test", options={"name": "toy"}, inputs={}, seed=None, code_digest="")
    save_artifact(path, artefact, record)
    return path


@pytest.fixture
def members(picture_set, toy):
    configs = (RidgeConfig(), MLPConfig(hidden=32, max_epochs=8, n_members=4, validation=0.25))
    return [decode(picture_set, toy.embeddings(), config=c, seed=0)[1] for c in configs]


@pytest.mark.parametrize("n_members", [1, 2, 4])
def test_least_error_against_an_optimiser(n_members):
    rng = np.random.default_rng(n_members)
    target = rng.standard_normal((40, 6))
    noise = 1 + rng.random((n_members, 1, 1))
    parts = target + noise * rng.standard_normal((n_members, 40, 6))

    def error(w):
        return np.square(np.tensordot(w, parts, axes=1) - target).sum()

    best = minimize(
        error,
        np.full(n_members, 1 / n_members),
        bounds=[(0, 1)] * n_members,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
        options={"ftol": 1e-14},
    )
    weights = least_error(parts, target)
    assert weights.sum() == pytest.approx(1) and (weights >= 0).all()
    assert error(weights) <= best.fun * (1 + 1e-9)
    np.testing.assert_allclose(weights, best.x, atol=1e-4)


def test_a_member_of_noise_gets_nothing():
    rng = np.random.default_rng(0)
    target = rng.standard_normal((60, 5))
    parts = [target + 0.1 * rng.standard_normal((60, 5)), 9 * rng.standard_normal((60, 5))]
    for method in ("error", "identification"):
        weights = ensemble_weights(parts, target, stimulus_id=np.arange(60), method=method)
        assert weights[1] < 0.06


def test_grid_covers_the_simplex():
    for n_members in (1, 2, 3, 5):
        grid = simplex_grid(n_members)
        np.testing.assert_allclose(grid.sum(axis=1), 1)
        assert len(np.unique(grid, axis=0)) == len(grid) <= 300
        assert all((grid == corner).all(axis=1).any() for corner in np.eye(n_members))


def test_stored_ensemble_is_the_weighted_mean(members, picture_set, toy, tmp_path):
    predictions, fitted = combine(members, picture_set, toy.embeddings(), config=CONFIG)
    fold = fitted.folds[0]
    single = [apply_decoder(m, picture_set, toy.embeddings()).vectors for m in members]
    mixed = np.tensordot(fold.array("weights"), np.stack(single), axes=1)
    np.testing.assert_allclose(predictions.vectors, fold.gain * mixed + fold.offset, atol=1e-5)
    assert sum(fold.info["weights"]) == pytest.approx(1)
    loaded = load_artifact(store(tmp_path / "ensemble.h5", fitted), FittedDecoder)
    again = apply_decoder(loaded, picture_set, toy.embeddings())
    np.testing.assert_array_equal(again.vectors, predictions.vectors)


def test_refuses_other_members(members, picture_set, toy):
    with pytest.raises(DataError, match="expected \\['ridge', 'mlp'\\]"):
        combine(members[::-1], picture_set, toy.embeddings(), config=CONFIG)
    config = EnsembleConfig(members=("ensemble", "mlp"))
    _, fitted = combine(members, picture_set, toy.embeddings(), config=CONFIG)
    with pytest.raises(DataError, match="is an ensemble itself"):
        combine([fitted, members[1]], picture_set, toy.embeddings(), config=config)


def test_command(members, picture_set, toy, tmp_path, capsys):
    files = [store(tmp_path / f"{m.name}.h5", m) for m in members]
    voxels = store(tmp_path / "voxels.h5", picture_set)
    embeddings = store(tmp_path / "embeddings.h5", toy.embeddings())
    command = ["decode", "--voxels", str(voxels), "--embeddings", str(embeddings)]
    command += ["--out", str(tmp_path / "out.h5"), "--out-decoder", str(tmp_path / "decoder.h5")]
    options = ["--options", "{kind: ensemble, members: [ridge, mlp], method: error}"]
    assert main([*command, *options]) == 1
    assert "Got 0 of them with 'kind: ensemble'" in capsys.readouterr().err
    flags = [flag for path in files for flag in ("--member", str(path))]
    assert main([*command, *options, *flags]) == 0
    assert load_artifact(tmp_path / "out.h5", Predictions).info["kind"] == "ensemble"


def test_study_checks_the_members():
    sections = {"study": "a", "rois": [{"name": "v", "mask": "v.nii"}]}
    decoders = [{"kind": "ridge"}, {"kind": "ensemble", "members": ["ridge", "tree"]}]
    with pytest.raises(ConfigError, match=r"single decoders 'ridge'; got 'ridge', 'tree'"):
        parse_study(
            sections
            | {
                "splits": [{"name": "s", "scheme": "stimulus"}],
                "encoders": [{"name": "scenes", "kind": "scenes", "modality": "image"}],
                "decoders": decoders,
                "galleries": [{"name": "t"}],
            },
            where="here",
        )
