"""LSS and LSA against plain least squares and against nilearn's models."""

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from nilearn.glm.first_level import FirstLevelModel, make_first_level_design_matrix

from braindecode_clip.betas import estimate_single_trials
from braindecode_clip.config.betas import WindowConfig
from braindecode_clip.errors import ConfigError, DataError

EPS32 = float(np.finfo(np.float32).eps)


def relative(ours, reference):
    return np.linalg.norm(ours - reference) / np.linalg.norm(reference)


def design(events, names, n_volumes, *, tr_s, confounds=None, hrf="spm", high_pass=0.01, ref=0.0):
    """Return nilearn's design with one column for each name."""
    return make_first_level_design_matrix(
        (np.arange(n_volumes) + ref) * tr_s,
        events[["onset", "duration"]].assign(trial_type=names),
        hrf_model=hrf,
        drift_model="cosine" if high_pass else None,
        high_pass=high_pass,
        add_regs=confounds,
    )


def naive_lss(signals, events, *, by_condition=False, **options):
    """One least-squares fit for every trial."""
    betas = []
    for trial in range(len(events)):
        others = (
            "other_" + events["trial_type"] if by_condition else pd.Series("other", events.index)
        )
        names = others.where(np.arange(len(events)) != trial, "target")
        matrix = design(events, names.to_numpy(), len(signals), **options)
        column = matrix.columns.get_loc("target")
        betas.append(np.linalg.lstsq(matrix.to_numpy(), signals, rcond=None)[0][column])
    return np.array(betas)


@pytest.mark.parametrize("hrf", ["spm", "glover"])
@pytest.mark.parametrize(("n_volumes", "tr_s", "n_trials"), [(140, 2.0, 13), (97, 1.6, 6)])
@pytest.mark.parametrize("by_condition", [False, True])
def test_lss_equals_one_fit_for_every_trial(make_run, hrf, n_volumes, tr_s, n_trials, by_condition):
    signals, events, confounds = make_run(n_volumes=n_volumes, tr_s=tr_s, n_trials=n_trials)
    options = {"tr_s": tr_s, "confounds": confounds, "hrf": hrf}
    expected = naive_lss(signals, events, by_condition=by_condition, **options)
    found = estimate_single_trials(
        signals, events, others="by_condition" if by_condition else "all", **options
    )
    assert found.data.dtype == np.float64
    assert relative(found.data, expected) < 1e-10


def test_a_trial_that_is_alone_has_no_regressor_of_others(make_run):
    signals, events, _ = make_run(n_trials=4)
    lone = events.iloc[[0]]
    expected = naive_lss(signals, lone, tr_s=2.0)
    for others in ("all", "by_condition"):
        found = estimate_single_trials(signals, lone, tr_s=2.0, others=others)
        assert relative(found.data, expected) < 1e-10
    # Two conditions with one trial each: each is the other's nuisance.
    pair = events.iloc[[0, 1]]
    assert (
        relative(
            estimate_single_trials(signals, pair, tr_s=2.0, others="by_condition").data,
            naive_lss(signals, pair, tr_s=2.0, by_condition=True),
        )
        < 1e-10
    )


@pytest.mark.parametrize("hrf", ["spm", "glover"])
def test_lsa_equals_one_fit_with_all_trials(make_run, hrf):
    signals, events, confounds = make_run(n_volumes=111, n_trials=11)
    names = [f"trial_{i:02d}" for i in range(len(events))]
    matrix = design(events, names, 111, tr_s=2.0, confounds=confounds, hrf=hrf)
    expected = np.linalg.lstsq(matrix.to_numpy(), signals, rcond=None)[0][: len(names)]
    found = estimate_single_trials(
        signals, events, tr_s=2.0, method="lsa", hrf=hrf, confounds=confounds
    )
    assert relative(found.data, expected) < 1e-10


# nilearn warns of its own call of its masker.
@pytest.mark.filterwarnings("ignore:.*Generation of a mask:RuntimeWarning")
@pytest.mark.parametrize(
    ("hrf", "n_volumes", "tr_s", "slice_time_ref"),
    [("spm", 80, 2.0, 0.0), ("glover", 67, 1.5, 0.5)],
)
def test_lss_equals_nilearns_first_level_models(make_run, hrf, n_volumes, tr_s, slice_time_ref):
    signals, events, confounds = make_run(
        n_volumes=n_volumes, tr_s=tr_s, n_trials=5, n_voxels=6, seed=4
    )
    image = nib.Nifti1Image(signals.T.reshape(3, 2, 1, n_volumes), np.eye(4))
    mask = nib.Nifti1Image(np.ones((3, 2, 1), np.int8), np.eye(4))
    expected = []
    for trial in range(len(events)):
        names = ["target" if i == trial else "other" for i in range(len(events))]
        model = FirstLevelModel(
            t_r=tr_s,
            slice_time_ref=slice_time_ref,
            hrf_model=hrf,
            noise_model="ols",
            signal_scaling=False,
            high_pass=0.01,
            mask_img=mask,
        ).fit(
            image,
            events=events.assign(trial_type=names),
            confounds=pd.DataFrame(confounds, columns=["x", "y", "z"]),
        )
        contrast = model.compute_contrast("target", output_type="effect_size")
        expected.append(np.asarray(contrast.dataobj).ravel())
    options = {"tr_s": tr_s, "hrf": hrf, "slice_time_ref": slice_time_ref}
    found = estimate_single_trials(signals, events, confounds=confounds, **options)
    assert relative(found.data, np.array(expected)) < 1e-10


@pytest.mark.parametrize("method", ["lss", "lsa", "average"])
def test_float32_keeps_its_digits_beside_a_large_mean(make_run, method):
    signals, events, confounds = make_run(seed=5, n_voxels=40)
    single = signals.astype(np.float32)
    window = WindowConfig(start_s=3.0, end_after_offset_s=8.0)
    options = {"tr_s": 2.0, "method": method, "confounds": confounds, "window": window}
    exact = estimate_single_trials(single.astype(np.float64), events, **options).data
    found = estimate_single_trials(single, events, **options).data
    assert found.dtype == np.float32
    # A sum of 140 products: sqrt(140) roundings, of numbers a few times the betas' size.
    assert relative(found, exact) < 140**0.5 * 5 * EPS32 < 1e-5


def test_cleaned_signals_and_design_give_the_one_shot_answer(make_run):
    signals, events, confounds = make_run(n_volumes=123)
    whole = estimate_single_trials(signals, events, tr_s=2.0, confounds=confounds)
    k = np.arange(1, int(2 * 123 * 2.0 * 0.01) + 1)
    cosines = np.cos(np.pi / 123 * (np.arange(123)[:, None] + 0.5) * k)
    removed = np.column_stack([confounds, cosines])
    with_constant = np.column_stack([removed, np.ones(123)])
    fitted = with_constant @ np.linalg.lstsq(with_constant, signals, rcond=None)[0]
    cleaned = signals - fitted
    options = {"tr_s": 2.0, "high_pass_hz": None}
    both = estimate_single_trials(cleaned, events, confounds=removed, **options)
    assert relative(both.data, whole.data) < 1e-9
    # Projecting the data alone is another, biased estimator: the test would notice.
    data_alone = estimate_single_trials(cleaned, events, **options)
    assert relative(data_alone.data, whole.data) > 1e-2


def test_other_trial_types_become_nuisance_regressors(make_run):
    signals, events, _ = make_run(n_trials=12)
    found = estimate_single_trials(signals, events, tr_s=2.0, trial_types=["face", "chair"])
    chosen = events[events["trial_type"] != "house"]
    house = design(events, events["trial_type"].to_numpy(), len(signals), tr_s=2.0)["house"]
    expected = naive_lss(signals, chosen, tr_s=2.0, confounds=house.to_numpy()[:, None])
    assert relative(found.data, expected) < 1e-10
    assert found.trials["trial_type"].tolist() == chosen["trial_type"].tolist()
    assert found.info["nuisance_events"] == ["house"]


def test_rows_come_in_the_order_of_the_onsets_whatever_the_table(make_run):
    signals, events, _ = make_run()
    events["stimulus_id"] = [f"stim-{i:02d}" for i in range(len(events))]
    ordered = estimate_single_trials(signals, events, tr_s=2.0)
    shuffled = estimate_single_trials(signals, events.sample(frac=1.0, random_state=2), tr_s=2.0)
    pd.testing.assert_frame_equal(ordered.trials, shuffled.trials)
    np.testing.assert_allclose(ordered.data, shuffled.data, rtol=1e-9)
    assert ordered.trials.columns.tolist() == ["onset", "duration", "trial_type", "stimulus_id"]
    assert ordered.trials["onset"].is_monotonic_increasing


def test_dropped_dummy_scans_only_shift_the_clock(make_run):
    signals, events, confounds = make_run()
    late = events.assign(onset=events["onset"] + 6.0)
    options = {"tr_s": 2.0, "confounds": confounds}
    expected = estimate_single_trials(signals, events, **options)
    found = estimate_single_trials(signals, late, first_volume_s=6.0, **options)
    np.testing.assert_allclose(found.data, expected.data, rtol=1e-9)


def test_constants_and_scales_of_confounds_change_nothing(make_run):
    signals, events, confounds = make_run()
    options = {"tr_s": 2.0}
    expected = estimate_single_trials(signals, events, confounds=confounds, **options)
    doubled = np.column_stack([1e5 + 1e-3 * confounds, confounds @ [1.0, -2.0, 3.0], np.ones(140)])
    found = estimate_single_trials(signals, events, confounds=doubled, **options)
    assert relative(found.data, expected.data) < 1e-6
    assert found.info["n_nuisance"] == expected.info["n_nuisance"]


def test_a_known_response_comes_back_without_noise(make_run):
    _, events, confounds = make_run(n_trials=9)
    names = [f"trial_{i}" for i in range(9)]
    matrix = design(events, names, 140, tr_s=2.0, confounds=confounds)
    truth = np.random.default_rng(6).normal(size=(matrix.shape[1], 4))
    found = estimate_single_trials(
        matrix.to_numpy() @ truth, events, tr_s=2.0, method="lsa", confounds=confounds
    )
    np.testing.assert_allclose(found.data, truth[:9], atol=1e-9)


class TestBadInput:
    def test_collinear_trials_are_named(self, make_run):
        signals, events, _ = make_run(n_trials=3)
        # Nothing tells 10.01 s from 10.02 s on a grid of 40 ms.
        events["onset"] = [10.01, 10.02, 90.0]
        events["duration"] = 2.0
        with pytest.raises(
            DataError, match=r"2 trials are collinear.*'face at 10.01 s'.*'house at 10.02"
        ):
            estimate_single_trials(signals, events, tr_s=2.0, method="lsa")

    def test_a_trial_that_confounds_explain_is_named(self, make_run):
        signals, events, _ = make_run(n_trials=3)
        matrix = design(events, ["a", "b", "c"], 140, tr_s=2.0)
        for method in ("lss", "lsa"):
            with pytest.raises(DataError, match=r"1 of 3 trials.*explained.*'house at "):
                estimate_single_trials(
                    signals, events, tr_s=2.0, method=method, confounds=matrix[["b"]]
                )

    def test_nearly_collinear_trials_give_a_warning(self, make_run, caplog):
        signals, events, _ = make_run(n_trials=3)
        events["onset"] = [10.0, 10.2, 90.0]
        events["duration"] = 2.0
        estimate_single_trials(signals, events, tr_s=2.0, method="lsa")
        assert "2 of 3 trials are nearly collinear" in caplog.text

    def test_more_columns_than_volumes(self, make_run):
        signals, events, _ = make_run(n_volumes=40, n_trials=39)
        with pytest.raises(DataError, match=r"39 trials and .* do not fit into 40 volumes"):
            estimate_single_trials(signals, events, tr_s=2.0, method="lsa")

    def test_signals_that_are_not_finite(self, make_run):
        signals, events, _ = make_run()
        for value in (np.nan, np.inf):
            signals[17, 4] = value
            with pytest.raises(DataError, match=r"1 of 7 voxels .* column 4"):
                estimate_single_trials(signals, events, tr_s=2.0)

    def test_confounds_of_another_run_or_with_gaps(self, make_run):
        signals, events, confounds = make_run()
        with pytest.raises(DataError, match="139 rows, expected one for each of the 140"):
            estimate_single_trials(signals, events, tr_s=2.0, confounds=confounds[:-1])
        table = pd.DataFrame(confounds, columns=["a", "b", "c"])
        table.loc[5, "b"] = np.nan
        with pytest.raises(DataError, match="column 'b' is NaN or infinite in 1 rows"):
            estimate_single_trials(signals, events, tr_s=2.0, confounds=table)

    def test_all_impossible_options_at_once(self, make_run):
        signals, events, _ = make_run()
        with pytest.raises(ConfigError, match=r"(?s)2 problems.*method.*hrf.*tr_s"):
            estimate_single_trials(signals, events, tr_s=0.0, method="als", hrf="gamma")
        with pytest.raises(ConfigError, match="leaves nothing of a run of 140 volumes"):
            estimate_single_trials(signals, events, tr_s=2.0, high_pass_hz=0.4)
