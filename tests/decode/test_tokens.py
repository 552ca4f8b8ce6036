"""Token targets, block by block, against the same targets laid end to end."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from braindecode_clip.artifacts import TokenRows
from braindecode_clip.config.decode import ContrastiveConfig, MLPConfig, RidgeConfig, SharedConfig
from braindecode_clip.config.decode_linear import KernelRidgeConfig
from braindecode_clip.decode import decode, decode_shared, fit_calibration, predict_samples
from braindecode_clip.decode import ridge as ridge_module
from braindecode_clip.decode import token_space as space_module
from braindecode_clip.decode.calibrate import apply_calibration, standardise
from braindecode_clip.decode.identify import pairwise_shares
from braindecode_clip.decode.token_apply import apply_tokens, prediction_coordinates
from braindecode_clip.decode.token_check import HeldOut
from braindecode_clip.decode.token_fit import decode_tokens
from braindecode_clip.decode.token_space import TargetSpace
from braindecode_clip.errors import ArtifactError, ConfigError, DataError, LeakageError
from braindecode_clip.interpret import pattern_strength

N_TOKENS, N_DIMS = 5, 7
EPS = float(np.finfo(np.float32).eps)
METHODS = ["spread", "none", "spread_per_dimension", "least_squares", "transductive"]


class Strict:
    """Tokens of a file that refuse to be read whole."""

    def __init__(self, data, most):
        self.data, self.shape, self.dtype, self.most = data, data.shape, data.dtype, most

    def __getitem__(self, key):
        found = self.data[key]
        assert found.size <= self.most, f"{found.shape} were read at once"
        return found


@pytest.fixture
def toy(make_toy):
    return make_toy(n_dims=N_TOKENS * N_DIMS)


@pytest.fixture
def tokens(toy):
    """The embeddings with their dimensions as tokens, of root mean square norm 1."""
    values = toy.vectors.reshape(-1, N_TOKENS, N_DIMS) * np.float32(np.sqrt(N_TOKENS))
    return dataclasses.replace(toy.embeddings(), vectors=values)


@pytest.fixture
def voxels(toy, make_voxel_set):
    """Two folds; stimuli repeat in train, and the folds differ in size."""
    first = np.concatenate([np.arange(100), np.arange(30)])
    second = np.arange(60, 190)
    return make_voxel_set(
        [
            (
                "one",
                toy.samples(first, group=[f"run-{i // 20}" for i in range(130)]),
                toy.samples(np.arange(150, 187), group=["run-0"] * 37),
            ),
            (
                "two",
                toy.samples(second, group=[f"run-{i // 13}" for i in range(130)], repeats=2),
                toy.samples(np.arange(0, 41), group=["run-1"] * 41),
            ),
        ],
        n_voxels=150,
    )


def in_blocks(monkeypatch):
    """Let every block be one or two tokens."""
    monkeypatch.setattr(space_module, "BLOCK_BYTES", 8 * 130 * N_DIMS)
    monkeypatch.setattr("braindecode_clip.decode.token_apply.BLOCK_BYTES", 8 * 37 * N_DIMS * 2)
    monkeypatch.setattr(ridge_module, "_batch", lambda shape, dtype: 2 * N_DIMS)


@pytest.mark.parametrize("method", METHODS)
def test_ridge_is_ridge_on_tokens_laid_end_to_end(monkeypatch, voxels, toy, tokens, method):
    in_blocks(monkeypatch)
    config = RidgeConfig(
        name=f"r-{method.replace('_', '-')}", calibration=method, weight_by_repeats=True
    )
    stored = dataclasses.replace(
        tokens, vectors=TokenRows(Strict(tokens.vectors, 2 * 190 * N_DIMS))
    )
    found, decoder = decode_tokens(voxels, stored, config=config, seed=1, make_weights=np.empty)
    expected, plain = decode(voxels, toy.embeddings(), config=config, seed=1)
    assert found.vectors.shape == (78, N_TOKENS, N_DIMS) and found.vectors.dtype == np.float32
    flat = found.vectors.reshape(78, -1) / np.sqrt(N_TOKENS)
    np.testing.assert_allclose(flat, expected.vectors, atol=100 * EPS * expected.vectors.std())
    np.testing.assert_array_equal(found.stimulus_id, expected.stimulus_id)
    np.testing.assert_array_equal(found.fold, expected.fold)
    for one, two in zip(decoder.folds, plain.folds, strict=True):
        np.testing.assert_array_equal(one.array("alpha"), two.array("alpha"))
        np.testing.assert_allclose(
            one.array("coef").reshape(150, -1),
            two.array("coef") * np.sqrt(N_TOKENS),
            rtol=1e-3,
            atol=1e-6,
        )
        assert one.info.keys() == two.info.keys()
        for name in ("out_of_fold_r2", "out_of_fold_pairwise", "mean_gain"):
            if method in ("none", "spread", "least_squares"):
                assert one.info[name] == pytest.approx(two.info[name], rel=1e-4)
    again = apply_tokens(decoder, voxels, stored)
    np.testing.assert_allclose(again.vectors, found.vectors, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_blocks_are_judged_as_the_whole(method):
    rng = np.random.default_rng(5)
    target = rng.standard_normal((60, 24)).astype(np.float32) + 0.5
    held = (0.3 * target + 0.4 * rng.standard_normal((60, 24))).astype(np.float32)
    held[[3, 50]] = np.nan
    shown = np.array([f"s{i // 2}" for i in range(60)])
    target[1::2] = target[::2]
    check = HeldOut(shown, 24, method=method)
    for part in (slice(0, 7), slice(7, 20), slice(20, 24)):
        check.add(part, held[:, part], target[:, part])
    found = check.finish()
    gain, offset = fit_calibration(held, target, method=method)
    np.testing.assert_allclose(check.gain, gain, rtol=1e-5)
    np.testing.assert_allclose(check.offset, offset, atol=1e-5)
    raw = standardise(held) if method == "transductive" else held
    shares = pairwise_shares(apply_calibration(raw, gain, offset), target, shown)
    assert found["out_of_fold_pairwise"] == pytest.approx(np.nanmean(shares), abs=1e-9)
    known = ~np.isnan(held).any(axis=1)
    residual = np.square(target[known] - held[known].astype(np.float64)).sum()
    total = np.square(target[known] - target[known].mean(axis=0, dtype=np.float64)).sum()
    assert found["out_of_fold_r2"] == pytest.approx(1 - residual / total, abs=1e-6)


def test_a_large_gallery_is_thinned(monkeypatch):
    monkeypatch.setattr("braindecode_clip.decode.token_check.MAX_TOKEN_GALLERY", 9)
    rng = np.random.default_rng(6)
    target = rng.standard_normal((30, 8))
    held = target + rng.standard_normal((30, 8))
    shown = np.array([f"s{i:02d}" for i in range(30)])
    check = HeldOut(shown, 8, method="none")
    check.add(slice(0, 8), held, target)
    shares = pairwise_shares(held, target, shown, max_gallery=9)
    assert check.finish()["out_of_fold_pairwise"] == pytest.approx(np.nanmean(shares))


@pytest.mark.parametrize("n_components", [None, 11])
def test_coordinates_keep_angles_and_lead_back(monkeypatch, n_components):
    monkeypatch.setattr(space_module, "BLOCK_BYTES", 8 * 40 * 9 * 2)
    rng = np.random.default_rng(7)
    targets = rng.standard_normal((40, 13, 9)) * np.linspace(0.1, 3, 9)
    space = TargetSpace(targets, n_components=n_components, seed=3)
    flat = targets.reshape(40, -1)
    centred = flat - flat.mean(axis=0)
    left, lengths, axes = np.linalg.svd(centred, full_matrices=False)
    k = n_components or 39
    assert space.coordinates.shape == (40, k)
    kept = (left[:, :k] * lengths[:k]) @ axes[:k]
    np.testing.assert_allclose(
        space.coordinates @ space.coordinates.T.astype(np.float64), kept @ kept.T, atol=1e-3
    )
    back = space.coordinates.astype(np.float64) @ (space.mix @ centred)
    np.testing.assert_allclose(back, kept, atol=1e-4)
    # Rows of the basis are orthonormal, so that no output weighs more than another.
    basis = space.mix.astype(np.float64) @ centred
    np.testing.assert_allclose(basis @ basis.T, np.eye(k), atol=1e-5)
    spread = space.coordinates.std(axis=0)
    assert spread.max() < 3 * spread.min()


@pytest.mark.parametrize(
    "config",
    [
        ContrastiveConfig(max_epochs=3, target_components=20),
        MLPConfig(hidden=16, max_epochs=12, n_members=5, contrastive=0.5, mse=1.0),
    ],
    ids=["contrastive", "mlp"],
)
def test_coordinates_are_decoded_and_led_back(monkeypatch, voxels, toy, tokens, ranks, config):
    in_blocks(monkeypatch)
    source = TokenRows(Strict(tokens.vectors, 2 * 190 * N_DIMS))
    stored = dataclasses.replace(tokens, vectors=source)
    found, decoder = decode_tokens(voxels, stored, config=config, seed=4)
    start = 0
    for fold, part in zip(voxels.folds, decoder.folds, strict=True):
        # The stored network, and the way back by an explicit basis in float64.
        names = np.unique(fold.train.stimulus_id)
        flat = tokens.vectors[tokens.rows(names)].reshape(len(names), -1).astype(np.float64)
        basis = part.array("token_mix") @ (flat - flat.mean(axis=0))
        plain = dataclasses.replace(
            part,
            gain=np.ones(len(basis), np.float32),
            offset=np.zeros(len(basis), np.float32),
        )
        raw = predict_samples(plain, fold.test.data, kind=config.kind)
        expected = (flat.mean(axis=0) + raw @ basis) * part.gain + part.offset
        rows = slice(start, start + len(raw))
        got = found.vectors[rows].reshape(len(raw), -1)
        np.testing.assert_allclose(got, expected, atol=100 * EPS * np.abs(expected).max())
        start = rows.stop
        assert part.info["out_of_fold_pairwise"] > 0.6
    truth = toy.vectors[[int(name[4:]) for name in found.stimulus_id]]
    assert ranks(found.vectors.reshape(len(truth), -1), truth).mean() < 0.35 * len(truth)
    np.testing.assert_array_equal(apply_tokens(decoder, voxels, stored).vectors, found.vectors)
    twice, _ = decode_tokens(voxels, stored, config=config, seed=4)
    np.testing.assert_array_equal(twice.vectors, found.vectors)


def test_patterns_are_those_of_the_whole_predictions(voxels, tokens):
    config = RidgeConfig(calibration="spread_per_dimension")
    _, decoder = decode_tokens(voxels, tokens, config=config, seed=1, make_weights=np.empty)
    part, X = decoder.folds[0], voxels.folds[0].train.data
    weights = part.array("coef").reshape(150, -1)
    whole = (X @ weights + part.array("intercept")) * part.gain + part.offset
    found = prediction_coordinates(part, X, kind="ridge", embeddings=tokens)
    np.testing.assert_allclose(
        pattern_strength(X, found), pattern_strength(X, whole), rtol=1e-3, atol=1e-5
    )


def test_what_cannot_be_decoded_is_refused(voxels, tokens, toy, make_voxel_set):
    with pytest.raises(ConfigError, match=r"kernel_ridge.*token targets"):
        decode_tokens(voxels, tokens, config=KernelRidgeConfig(), seed=1)
    with pytest.raises(DataError, match=r"tokens \(5 x 7"):
        decode(voxels, tokens, config=RidgeConfig(), seed=1)
    missing = dataclasses.replace(tokens, ids=np.char.add("x", tokens.ids))
    with pytest.raises(ArtifactError, match="no embedding"):
        decode_tokens(voxels, missing, config=RidgeConfig(), seed=1)
    leaking = make_voxel_set(
        [
            (
                "all",
                toy.samples(np.arange(50), group=[f"run-{i // 5}" for i in range(50)]),
                toy.samples(np.arange(49, 60), group=["run-0"] * 11),
            )
        ],
        n_voxels=150,
    )
    with pytest.raises(LeakageError, match="pic-049"):
        decode_tokens(leaking, tokens, config=RidgeConfig(), seed=1)
    _, light = decode_tokens(voxels, tokens, config=RidgeConfig(), seed=1)
    with pytest.raises(ArtifactError, match="without its weights"):
        apply_tokens(light, voxels, tokens)
    other = dataclasses.replace(tokens, fingerprint={"name": "other"})
    with pytest.raises(DataError, match="another encoder"):
        apply_tokens(light, voxels, other)
    with pytest.raises(DataError, match=r"tokens \(5 x 7"):
        decode_shared([voxels, voxels], tokens, config=SharedConfig())
