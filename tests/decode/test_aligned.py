"""Decoders of aligned trials, and the mean of several maps, against formulas written out."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import scipy.linalg
from sklearn.linear_model import Ridge

from braindecode_clip.cli.main import main
from braindecode_clip.decode import SharedDecoder
from braindecode_clip.decode.align import hyperalign
from braindecode_clip.decode.aligned import Trials, align_trials, aligned_maps, dealt_folds
from braindecode_clip.decode.blend import blend
from braindecode_clip.decode.direction import Judge
from braindecode_clip.decode.fitted import FittedDecoder
from braindecode_clip.decode.shared import learn_space
from braindecode_clip.io.hdf5 import load_artifact, save_artifact
from braindecode_clip.provenance import Provenance
from tests.decode.test_direction import info_nce, unit


def family(*, n_voxels=(9, 9, 12), n_own=14, n_shared=8, n_dims=5, noise=0.5, seed=0):
    """Subjects whose voxels are rotations of common responses; the last stimuli are shared."""
    rng = np.random.default_rng(seed)
    weights = rng.standard_normal((n_dims, 6))
    shared = rng.standard_normal((n_shared, n_dims))
    found = []
    for i, p in enumerate(n_voxels):
        Y = np.vstack([rng.standard_normal((n_own, n_dims)), shared])
        names = [f"own-{i}-{k}" for k in range(n_own)] + [f"both-{k}" for k in range(n_shared)]
        turn = np.linalg.qr(rng.standard_normal((p, 6)))[0]
        X = Y @ weights @ turn.T + noise * rng.standard_normal((len(Y), p)) + i
        order = rng.permutation(len(Y))
        found.append(Trials(f"{i + 1:02d}", X[order], Y[order], np.array(names)[order]))
    return found


def of_shared(item):
    """The responses to the shared stimuli, sorted by name."""
    names = sorted(name for name in item.stimuli if name.startswith("both"))
    return item.X[[list(item.stimuli).index(name) for name in names]]


def test_procrustes_carries_trials_by_scipys_rotation():
    subjects = family()[:2]
    found = align_trials(subjects, method="procrustes", n_components=30)
    one, two = map(of_shared, subjects)
    centred = [part - part.mean(axis=0) for part in (one, two)]
    rotation, _ = scipy.linalg.orthogonal_procrustes(centred[1], centred[0])
    carried = (subjects[1].X - two.mean(axis=0)) @ rotation
    # The space has 7 dimensions: those that 8 responses of the first subject span.
    axes = np.linalg.svd(centred[0])[2][:7].T
    assert found.n_shared == 8 and found.X.shape == (44, 7)
    np.testing.assert_allclose(found.X[22:], carried @ axes, atol=1e-10)
    np.testing.assert_allclose(found.X[:22], (subjects[0].X - one.mean(axis=0)) @ axes, atol=1e-10)
    np.testing.assert_array_equal(found.Y, np.vstack([item.Y for item in subjects]))


def test_hyperalignment_carries_all_trials_into_the_common_space():
    subjects = family()
    found = align_trials(subjects, method="hyperalignment", n_components=4)
    common = hyperalign([of_shared(item) for item in subjects], n_components=4)
    expected = [common.transform(item.X, i) for i, item in enumerate(subjects)]
    np.testing.assert_allclose(found.X, np.vstack(expected), atol=1e-10)
    # Subjects agree there: the spread around the mean over subjects is small.
    agreed = np.array([common.transform(of_shared(item), i) for i, item in enumerate(subjects)])
    assert np.square(agreed - agreed.mean(axis=0)).sum() < 0.3 * np.square(agreed).sum()


@pytest.mark.parametrize("method", ["procrustes", "hyperalignment"])
def test_maps_are_ridge_of_all_trials_in_the_common_space(method):
    subjects = family()
    trials = align_trials(subjects, method=method, n_components=5)
    alphas = np.array([0.5, 20.0])
    targets = trials.Y[:, :3]
    new = np.random.default_rng(1).standard_normal((4, 9))
    for alpha, (coef, intercept) in zip(
        alphas, aligned_maps(trials, targets, alphas=alphas), strict=True
    ):
        expected = Ridge(alpha).fit(trials.X, targets)
        carried = (new - trials.mean) @ trials.to_common
        np.testing.assert_allclose(new @ coef + intercept, expected.predict(carried), atol=1e-9)


def test_held_out_rows_are_aligned_and_decoded_without_their_stimuli():
    first, *others = family(n_own=20)
    options = {"n_components": 4, "cv": 4, "alphas": [1.0], "alignment": "procrustes"}
    space = learn_space([o.X for o in others], [o.Y for o in others], n_components=4)
    held = []
    for moved in (False, True):
        changed = others
        if moved:
            # What the others saw and answered at one shared stimulus of the first fold.
            name = next(n for n in first.stimuli[:7] if n.startswith("both"))
            hit = others[0].stimuli == name
            X, Y = others[0].X + 9 * hit[:, None], others[0].Y - 9 * hit[:, None]
            changed = [dataclasses.replace(others[0], X=X, Y=Y), others[1]]
        model = SharedDecoder(space, **options)
        parts = model._aligned_map(
            [first, *changed],
            space=space,
            folds=[np.arange(i, i + 7) for i in range(0, 28, 7)],
            judge=Judge(np.arange(28), rows=np.arange(28), rng=np.random.default_rng(0)),
        )
        held.append(parts[1])
    own = first.stimuli == name
    np.testing.assert_allclose(held[0][:7], held[1][:7], atol=1e-10)
    assert own[:7].any() and np.abs(held[0][7:] - held[1][7:]).max() > 1e-3


def test_folds_hold_an_even_share_of_the_shared_stimuli():
    subjects = family(n_own=11, n_shared=9)
    first = subjects[0]
    twice = Trials("01", *(np.concatenate([p, p]) for p in (first.X, first.Y, first.stimuli)))
    for groups in (None, twice.stimuli):
        folds = dealt_folds([twice, *subjects[1:]], n_folds=4, groups=groups)
        np.testing.assert_array_equal(np.sort(np.concatenate(folds)), np.arange(40))
        held = [set(twice.stimuli[rows]) for rows in folds]
        assert sum(map(len, held)) == 20
        assert {sum(n.startswith("both") for n in part) for part in held} == {2, 3}
        assert {len(part) for part in held} == {5}


def test_aligned_trials_of_others_help_a_subject_with_little_data():
    scores = []
    for seed in range(6):
        n_voxels = (40, 50, 60)
        subjects = family(n_voxels=n_voxels, n_own=60, n_shared=20, noise=1.0, seed=seed)
        first, *others = subjects
        keep = np.flatnonzero(np.char.startswith(first.stimuli, "both"))
        rest = np.setdiff1d(np.arange(80), keep)
        space = learn_space([o.X for o in others], [o.Y for o in others], n_components=5)
        row = []
        for alignment in ("none", "procrustes", "hyperalignment"):
            model = SharedDecoder(space, alignment=alignment)
            model.fit(first.X[keep], first.Y[keep], stimuli=first.stimuli[keep], others=others)
            cosines = unit(model.predict(first.X[rest])) @ unit(first.Y[rest]).T
            row.append((cosines < cosines.diagonal()[:, None]).mean())
        assert model.shares_["aligned"] > 0 and len(model.alpha_) == 2
        assert model.n_shared_stimuli_ == 20
        scores.append(row)
    none, procrustes, common = np.mean(scores, axis=0)
    assert procrustes > none and common > none


def test_the_blend_is_pseudo_bayesian_averaging():
    rng = np.random.default_rng(3)
    Y = rng.standard_normal((40, 6)) * np.linspace(3, 0.5, 6) + 1
    space = learn_space([rng.standard_normal((40, 3))], [Y], n_components=6)
    Z = space.coordinates(Y)
    held = [Z + s * rng.standard_normal(Z.shape) for s in (2.0, 4.0)]
    judge = Judge(np.arange(40), rows=np.arange(40), rng=rng)
    found = blend(held, Y, space=space, judge=judge, whitenings=(0.5, 4.0))

    losses, mixtures, shares, rhos = [], [], [], []
    for rho in (0.5, 4.0):
        head = 1 / (space.variance / space.variance.mean() + rho)
        parts = [h * head for h in held]
        sizes = [np.sqrt(np.square(p - p.mean(axis=0)).mean()) for p in parts]
        for share in (0, 0.25, 0.5, 0.75, 1):
            mixture = share * parts[0] / sizes[0] + (1 - share) * parts[1] / sizes[1]
            mixture /= np.sqrt(np.square(mixture - mixture.mean(axis=0)).mean())
            vectors = mixture @ space.basis.T
            vectors = vectors - vectors.mean(axis=0)
            vectors *= np.sqrt(Y.var(axis=0).sum() / vectors.var(axis=0).sum())
            losses.append(info_nce(unit(vectors + Y.mean(axis=0)), unit(Y)))
            mixtures.append(mixture)
            shares.append(share)
            rhos.append(rho)
    weights = np.exp(-40 / 4 * (np.array(losses) - min(losses)))
    weights /= weights.sum()
    assert 0.02 < weights.max() < 0.9
    expected = sum(w * m for w, m in zip(weights, mixtures, strict=True))
    total = held[0] * found.gains[0] + held[1] * found.gains[1]
    np.testing.assert_allclose(total, expected, atol=5e-3 * np.abs(expected).max())
    np.testing.assert_allclose(found.shares, [weights @ shares, 1 - weights @ shares], atol=5e-3)
    assert found.whitening == pytest.approx(weights @ rhos, abs=0.02)


def test_the_command_aligns_or_says_what_is_missing(toy, make_voxel_set, tmp_path, capsys):
    record = Provenance("test", {"name": "toy"}, {}, None, "")
    save_artifact(tmp_path / "e.h5", toy.embeddings(), record)
    flags = ["--embeddings", str(tmp_path / "e.h5")]
    # Pictures 30 to 49 are training pictures of both.
    for i, pictures in enumerate([np.arange(50), np.arange(30, 120)]):
        train = toy.samples(pictures, group=["run-0"] * len(pictures))
        test = toy.samples(np.arange(160, 200), group=["run-0"] * 40)
        made = make_voxel_set([("all", train, test)], n_voxels=150)
        path = tmp_path / f"{i}.h5"
        save_artifact(path, dataclasses.replace(made, subject=f"{i:02d}"), record)
        flags += [str(path), "--out", str(tmp_path / f"{i}_pred.h5")]
        flags += ["--out-decoder", str(tmp_path / f"{i}_dec.h5")]
    for method in ("procrustes", "hyperalignment"):
        assert main(["decode-shared", *flags, "--options", f"{{alignment: {method}}}"]) == 0
        info = load_artifact(tmp_path / "0_dec.h5", FittedDecoder).folds[0].info
        assert info["n_aligned_stimuli"] == 20
        assert sum(info["shares"].values()) == pytest.approx(1) and "aligned" in info["shares"]
    train = toy.samples(np.arange(50, 120), group=["run-0"] * 70)
    test = toy.samples(np.arange(160, 200), group=["run-0"] * 40)
    apart = dataclasses.replace(make_voxel_set([("all", train, test)], n_voxels=150), subject="01")
    save_artifact(tmp_path / "1.h5", apart, record)
    before = (tmp_path / "0_pred.h5").read_bytes()
    assert main(["decode-shared", *flags, "--options", "{alignment: procrustes}"]) == 1
    message = capsys.readouterr().err
    assert "share 0 training stimuli" in message and "Traceback" not in message
    assert (tmp_path / "0_pred.h5").read_bytes() == before
