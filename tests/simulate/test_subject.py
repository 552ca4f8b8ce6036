"""The simulated subject: what its signals hold, and that it is what the truth says."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.stats import gamma, pearsonr

from braindecode_clip.errors import ConfigError
from braindecode_clip.nuisance import framewise_displacement
from braindecode_clip.simulate.hrf import trial_regressors
from braindecode_clip.simulate.subject import simulate_runs

#: Nothing in the signal but responses, autocorrelated and thermal noise.
QUIET = {"drift_percent": 0, "physiology_percent": 0, "motion_mm": 0, "spikes_per_run": 0}


def spm_regressors(run, config) -> np.ndarray:
    """One regressor a trial by SPM's formula, without the package's response shapes."""
    t = np.arange(0, 32, 0.05)
    spm = gamma.pdf(t, 6) - gamma.pdf(t, 16) / 6
    return trial_regressors(
        run.events["onset"].to_numpy(),
        config.stimulus_s,
        spm / spm.sum(),
        n_volumes=run.n_volumes,
        tr_s=config.tr_s,
    )


def cosines(n_volumes: int, tr_s: float) -> np.ndarray:
    order = int(2 * n_volumes * tr_s * 0.01)
    t = np.arange(n_volumes)[:, None] + 0.5
    return np.cos(np.pi * np.arange(order + 1) * t / n_volumes)


def lss_betas(subject) -> tuple[np.ndarray, np.ndarray]:
    """Return single-trial betas (n_trials, n_visual) in percent, and the pictures shown."""
    betas, names = [], []
    for run in simulate_runs(subject):
        series = run.bold[subject.anatomy.rois["visual"]].T.astype(np.float64)
        series = 100 * (series / series.mean(axis=0) - 1)
        trials = spm_regressors(run.design, subject.config)
        drifts = cosines(len(series), subject.config.tr_s)
        for k in range(trials.shape[1]):
            others = np.delete(trials, k, axis=1).sum(axis=1)
            model = np.column_stack([trials[:, k], others, drifts])
            betas.append(np.linalg.lstsq(model, series, rcond=None)[0][0])
        names += list(run.design.events["stimulus_id"])
    return np.array(betas), np.array(names)


def repeats(betas, names, pictures) -> np.ndarray:
    """Return the test trials as (n_pictures, n_repeats, n_voxels)."""
    test = [
        name for name, split in zip(pictures.ids, pictures.splits, strict=True) if split == "test"
    ]
    return np.stack([betas[names == name] for name in test])


def repeat_reliability(shown: np.ndarray) -> np.ndarray:
    """Return the share of variance that repeats share, for each voxel."""
    centred = shown - shown.mean(axis=0)
    pairs = itertools.combinations(range(shown.shape[1]), 2)
    shared = np.mean([(centred[:, a] * centred[:, b]).mean(axis=0) for a, b in pairs], axis=0)
    return shared / (centred**2).mean(axis=(0, 1))


def test_anatomy(small_subject) -> None:
    anatomy = small_subject.anatomy
    rois = anatomy.rois
    parts = ("early", "colour", "shape", "scene")
    for a, b in itertools.combinations(parts, 2):
        assert not (rois[a] & rois[b]).any()
    np.testing.assert_array_equal(rois["higher"], rois["colour"] | rois["shape"] | rois["scene"])
    np.testing.assert_array_equal(rois["visual"], rois["early"] | rois["higher"])
    assert (anatomy.tissue[rois["visual"]] == 1).all()
    for name in parts:
        right = anatomy.points_mm(rois[name])[:, 0] > 0
        assert 0.35 < right.mean() < 0.65
    assert 0.25 < anatomy.brain.mean() < 0.7
    assert rois["visual"].sum() < 0.3 * anatomy.brain.sum()
    np.testing.assert_array_equal(anatomy.epi_mean > 0, anatomy.brain)
    # Oblique, of the wanted voxel size, without shear.
    metric = anatomy.affine[:3, :3].T @ anatomy.affine[:3, :3]
    np.testing.assert_allclose(metric, 9 * np.eye(3), atol=1e-4)
    assert np.abs(anatomy.affine[:3, :3] - np.diag(np.diag(anatomy.affine)[:3])).max() > 0.05


def test_anatomical_picture_lies_on_the_functional_grid(small_subject) -> None:
    anatomy = small_subject.anatomy
    shape = np.array(anatomy.brain.shape)
    np.testing.assert_array_equal(anatomy.t1w.shape, 3 * shape)
    for corner in (np.zeros(3), shape - 1.0):
        # The middle one of the 27 fine voxels has the coarse voxel's centre.
        fine = 3 * corner + 1
        np.testing.assert_allclose(
            anatomy.t1w_affine[:3, :3] @ fine + anatomy.t1w_affine[:3, 3],
            anatomy.affine[:3, :3] @ corner + anatomy.affine[:3, 3],
            atol=1e-4,
        )
    middle = anatomy.t1w[1::3, 1::3, 1::3]
    assert (middle[anatomy.brain] > 0).all()
    outside = anatomy.t1w[np.kron(anatomy.brain, np.ones((3, 3, 3))) == 0]
    assert (outside > 0).mean() < 0.15
    grey, white, csf = (middle[anatomy.tissue == code].mean() for code in (1, 2, 3))
    assert white > 1.2 * grey > 1.5 * csf


def local_contrast(images: np.ndarray, x, y, size) -> np.ndarray:
    """Return the RMS contrast (n_pictures, n_windows) of pictures under Gaussian windows."""
    side = images.shape[1]
    luminance = (images.astype(np.float64).mean(axis=-1) / 255).reshape(len(images), -1)
    place = (np.arange(side) + 0.5) / side
    row, column = (grid.reshape(-1, 1) for grid in np.meshgrid(place, place, indexing="ij"))
    window = np.exp(-((column - x) ** 2 + (row - y) ** 2) / (2 * size**2))
    window /= window.sum(axis=0)
    variance = luminance**2 @ window - (luminance @ window) ** 2
    return np.sqrt(np.maximum(variance, 0))


def column_correlation(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    first, second = first - first.mean(axis=0), second - second.mean(axis=0)
    scale = np.sqrt((first**2).sum(axis=0) * (second**2).sum(axis=0))
    return (first * second).sum(axis=0) / scale


def test_early_voxels_follow_the_contrast_in_their_field_alone(small_subject, pictures) -> None:
    truth = small_subject.truth
    early = truth.region == "early"
    x, y, size = (field[early] for field in (truth.field_x, truth.field_y, truth.field_size))
    responses = truth.responses[:, early]
    contrast = local_contrast(pictures.images, x, y, size)
    elsewhere = local_contrast(pictures.images, 1 - x, 1 - y, size)
    shuffled = np.random.default_rng(0).permutation(len(responses))
    own = np.median(column_correlation(contrast, responses))
    assert own > 0.7
    assert abs(np.median(column_correlation(contrast[shuffled], responses))) < 0.15
    assert own > np.median(column_correlation(elsewhere, responses)) + 0.2


def test_early_fields_are_retinotopic(small_subject) -> None:
    truth, anatomy = small_subject.truth, small_subject.anatomy
    early = truth.region == "early"
    right = anatomy.points_mm(anatomy.rois["early"])[:, 0] > 0
    assert truth.field_x[early][right].mean() < 0.45 < 0.55 < truth.field_x[early][~right].mean()
    assert np.isnan(truth.field_x[~early]).all()


def test_higher_voxels_prefer_what_their_region_stands_for(small_subject, pictures) -> None:
    truth, features = small_subject.truth, pictures.features
    colours = features.colour - features.colour.mean(axis=0)
    shapes = features.objects[:, :, :6].sum(axis=1)
    shapes = shapes - shapes.mean(axis=0)

    def explained(design: np.ndarray, region: str) -> float:
        response = truth.responses[:, truth.region == region]
        fit = design @ np.linalg.lstsq(design, response, rcond=None)[0]
        return float(1 - ((response - fit) ** 2).sum() / (response**2).sum())

    assert explained(colours, "colour") > explained(colours, "shape") + 0.1
    assert explained(shapes, "shape") > explained(shapes, "colour") + 0.1


def test_truth_is_standardised_and_complete(small_subject, pictures) -> None:
    truth = small_subject.truth
    np.testing.assert_allclose(truth.responses.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(truth.responses.std(axis=0), 1, atol=1e-4)
    assert tuple(truth.stimulus_id) == pictures.ids
    assert len(truth.trials) == 38 + 3 * 42
    responds = truth.mean_response > 0
    assert 0.75 < responds.mean() < 0.95
    for silent in (truth.reliability, truth.picture_sd, truth.trial_sd, truth.noise_ceiling):
        assert (silent[~responds] == 0).all()
    rho = truth.reliability.astype(np.float64)
    np.testing.assert_allclose(truth.noise_ceiling, 300 * rho / (1 + 2 * rho), rtol=1e-5)


def test_reliability_is_recovered_from_repeats(build, draw_pictures, small_config) -> None:
    config = small_config.model_copy(
        update=QUIET
        | {
            "n_test_pictures": 160,
            "n_train_pictures": 4,
            "reliability": 0.25,
            "runs_per_session": 3,
        }
    )
    pictures = draw_pictures(config)
    subject = build(pictures, config)
    measured = repeat_reliability(repeats(*lss_betas(subject), pictures))
    expected = subject.truth.reliability
    responds = subject.truth.mean_response > 0
    assert expected[responds].mean() == pytest.approx(0.25, abs=0.02)
    assert measured[responds].mean() == pytest.approx(expected[responds].mean(), rel=0.08)
    assert pearsonr(measured[responds], expected[responds]).statistic > 0.8
    assert abs(measured[~responds].mean()) < 0.02


def test_reliability_zero_leaves_nothing_to_decode(build, pictures, small_config) -> None:
    config = small_config.model_copy(update={"reliability": 0.0})
    subject = build(pictures, config)
    assert (subject.truth.picture_sd == 0).all() and (subject.truth.noise_ceiling == 0).all()
    betas, names = lss_betas(subject)
    shown = repeats(betas, names, pictures)
    # No voxel is reliable beyond chance ...
    assert abs(repeat_reliability(shown).mean()) < 0.05
    # ... and no pattern resembles that of the same picture in another run more than others.
    halves = [shown[:, k] - shown[:, k].mean(axis=0) for k in (0, 1)]
    alike = np.corrcoef(*halves)[: len(shown), len(shown) :]
    own = np.diag(alike).mean()
    other = alike[~np.eye(len(alike), dtype=bool)]
    assert abs(own - other.mean()) < 4 * other.std() / np.sqrt(len(alike))
    # The response to a picture as such is still there.
    responds = subject.truth.mean_response > 0
    assert betas[:, responds].mean() > 0.5


def test_unreachable_reliability_is_refused(build, pictures, small_config) -> None:
    config = small_config.model_copy(update={"reliability": 0.8})
    with pytest.raises(ConfigError, match="lengthen trial_s"):
        build(pictures, config)


def test_only_visual_voxels_respond(build, pictures, small_config) -> None:
    subject = build(pictures, small_config.model_copy(update=QUIET))
    anatomy = subject.anatomy
    gains = []
    for run in simulate_runs(subject):
        series = run.bold[anatomy.brain].T.astype(np.float64)
        series = 100 * (series / series.mean(axis=0) - 1)
        drifts = cosines(len(series), subject.config.tr_s)
        model = np.column_stack([spm_regressors(run.design, subject.config).sum(axis=1), drifts])
        gains.append(np.linalg.lstsq(model, series, rcond=None)[0][0])
    gain = np.mean(gains, axis=0)
    visual = anatomy.rois["visual"][anatomy.brain]
    responds = np.zeros(len(gain), dtype=bool)
    responds[visual] = subject.truth.mean_response > 0
    assert gain[responds].mean() == pytest.approx(
        subject.truth.mean_response[subject.truth.mean_response > 0].mean(), rel=0.1
    )
    assert abs(gain[~responds].mean()) < 0.05
    assert gain[~responds].std() < 0.3 * gain[responds].mean()


def test_voxels_peak_when_their_response_says(build, pictures, small_config) -> None:
    nearly_silent = {
        "ar1_noise_percent": 0.02,
        "thermal_noise_percent": 0.02,
        "trial_noise_share": 0.0,
        "hrf_peak_sd_s": 0.9,
    }
    config = small_config.model_copy(update=QUIET | nearly_silent)
    subject = build(pictures, config)
    truth = subject.truth
    responds = truth.mean_response > 0
    runs = list(simulate_runs(subject))
    delays = np.arange(-2.0, 2.01, 0.25)
    fit = np.zeros((len(delays), int(responds.sum())))
    for run in runs:
        series = run.bold[subject.anatomy.rois["visual"]].T[:, responds].astype(np.float64)
        series = 100 * (series / series.mean(axis=0) - 1)
        for row, delay in enumerate(delays):
            late = run.design.events.assign(onset=run.design.events["onset"] + delay)
            moved = type(run.design)(run.design.session, run.design.run, late, len(series))
            total = spm_regressors(moved, config).sum(axis=1)
            model = np.column_stack([total, np.ones(len(series))])
            residual = np.linalg.lstsq(model, series, rcond=None)[1]
            fit[row] -= residual
    best = delays[fit.argmax(axis=0)]
    peak = truth.hrf_library[truth.hrf_index[responds], 0]
    assert pearsonr(best, peak).statistic > 0.9
    assert peak.std() == pytest.approx(0.9, rel=0.1)


def test_confounds_describe_the_run(small_subject) -> None:
    run = next(simulate_runs(small_subject))
    table, anatomy = run.confounds, small_subject.anatomy
    assert len(table) == run.design.n_volumes == run.bold.shape[-1]
    motion = ["trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z"]
    for name in [*motion, "csf", "white_matter", "global_signal"]:
        values = table[name].to_numpy()
        np.testing.assert_allclose(table[f"{name}_power2"], values**2, atol=1e-6)
        derivative = table[f"{name}_derivative1"].to_numpy()
        assert np.isnan(derivative[0])
        np.testing.assert_allclose(derivative[1:], np.diff(values), atol=1e-6)
    series = run.bold[anatomy.brain].astype(np.float64)
    np.testing.assert_allclose(table["global_signal"], series.mean(axis=0), rtol=1e-5)
    dvars = np.sqrt((np.diff(series, axis=1) ** 2).mean(axis=0))
    np.testing.assert_allclose(table["dvars"][1:], dvars, rtol=1e-4)
    change = np.abs(table[motion].diff()).to_numpy()[1:]
    displaced = change[:, :3].sum(axis=1) + 50 * change[:, 3:].sum(axis=1)
    np.testing.assert_allclose(table["framewise_displacement"][1:], displaced, atol=1e-5)
    assert np.isnan(table["framewise_displacement"][0]) and np.isnan(table["dvars"][0])
    compcor = table[[f"a_comp_cor_{k:02d}" for k in range(6)]].to_numpy()
    np.testing.assert_allclose(compcor.T @ compcor, np.eye(6), atol=1e-5)


def test_spikes_get_an_outlier_column(build, pictures, small_config) -> None:
    config = small_config.model_copy(update={"spikes_per_run": 3.0, "spike_percent": 4.0})
    for run in simulate_runs(build(pictures, config)):
        columns = [name for name in run.confounds if name.startswith("motion_outlier")]
        fd = run.confounds["framewise_displacement"].fillna(0)
        std_dvars = run.confounds["std_dvars"].fillna(0)
        outlying = np.flatnonzero((fd > 0.5) | (std_dvars > 1.5))
        assert len(columns) == len(outlying)
        flags = run.confounds[columns].to_numpy()
        np.testing.assert_array_equal(flags.sum(axis=0), 1)
        np.testing.assert_array_equal(np.flatnonzero(flags.sum(axis=1)), outlying)


def test_motion_and_physiology_reach_the_data(build, pictures, small_config) -> None:
    def explained(names: tuple[str, ...], tissue: tuple[int, ...], **changes: float) -> float:
        options = QUIET | {"ar1_noise_percent": 0.3, "thermal_noise_percent": 0.2} | changes
        subject = build(pictures, small_config.model_copy(update=options))
        run = next(simulate_runs(subject))
        where = np.isin(subject.anatomy.tissue, tissue) & ~subject.anatomy.rois["visual"]
        series = run.bold[where].T.astype(np.float64)
        series -= series.mean(axis=0)
        columns = run.confounds[list(names)].to_numpy()
        design = columns - columns.mean(axis=0)
        left = series - design @ np.linalg.lstsq(design, series, rcond=None)[0]
        return float(1 - (left**2).sum() / (series**2).sum())

    motion = ("trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z")
    assert explained(motion, (1, 2, 3), motion_mm=1.0) > 0.4
    assert explained(motion, (1, 2, 3)) < 0.1
    compcor = tuple(f"a_comp_cor_{k:02d}" for k in range(6))
    assert explained(compcor, (1,), physiology_percent=3.0) > 0.5
    assert explained(compcor, (1,)) < 0.2


def test_streams_are_independent(build, pictures, small_config, small_subject) -> None:
    again = build(pictures, small_config)
    run, same = next(simulate_runs(small_subject)), next(simulate_runs(again))
    np.testing.assert_array_equal(run.bold, same.bold)
    # Another reliability leaves brain, tuning and design as they are ...
    weaker = build(pictures, small_config.model_copy(update={"reliability": 0.05}))
    np.testing.assert_array_equal(weaker.truth.responses, small_subject.truth.responses)
    assert weaker.truth.trials.equals(small_subject.truth.trials)
    # ... another seed and another label change them.
    other = build(pictures, small_config, seed=4)
    label = build(pictures, small_config.model_copy(update={"subjects": ("08",)}))
    for changed in (other, label):
        assert not changed.truth.trials.equals(small_subject.truth.trials)
        assert (changed.anatomy.tissue != small_subject.anatomy.tissue).any()


def test_displacement_of_known_motion() -> None:
    parameters = np.zeros((3, 6))
    parameters[1] = [0.1, 0, -0.2, 0, 0.01, 0]
    np.testing.assert_allclose(framewise_displacement(parameters)[1:], [0.8, 0.8])
