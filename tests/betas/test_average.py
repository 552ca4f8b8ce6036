"""Window averages: which volumes count, and the known answer of a real subject."""

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import RidgeClassifier
from sklearn.model_selection import LeaveOneGroupOut, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from braindecode_clip.betas import estimate_run, estimate_single_trials
from braindecode_clip.config.betas import BetasConfig, WindowConfig
from braindecode_clip.config.preprocess import PreprocessConfig
from braindecode_clip.errors import DataError
from braindecode_clip.io.bold import read_bold
from braindecode_clip.io.nifti import read_mask
from braindecode_clip.io.tables import read_tsv
from braindecode_clip.nuisance import cosine_drifts
from braindecode_clip.preprocess import clean_run


def test_the_volumes_from_onset_plus_4_to_offset_plus_4_count():
    rng = np.random.default_rng(0)
    signals = rng.normal(900.0, 5.0, size=(40, 3))
    events = pd.DataFrame({"onset": [15.0, 52.0], "duration": [22.5, 6.0]})
    # TR 2.5: volumes from 19.0 to 41.5 are 8 .. 16; from 56 to 62 they are 23 and 24.
    expected = [signals[8:17].mean(axis=0), signals[23:25].mean(axis=0)]
    options = {"tr_s": 2.5, "method": "average", "high_pass_hz": None}
    found = estimate_single_trials(signals, events, **options)
    np.testing.assert_allclose(found.data, expected, rtol=1e-12)
    # Both ends count in: 15 + 5 = 20 and 37.5 + 5 = 42.5 are times of volumes.
    window = WindowConfig(start_s=5.0, end_after_offset_s=5.0)
    found = estimate_single_trials(signals, events.iloc[:1], window=window, **options)
    np.testing.assert_allclose(found.data[0], signals[8:18].mean(axis=0), rtol=1e-12)
    # Five dummy scans dropped: the same volumes by the clock.
    found = estimate_single_trials(signals[5:], events, first_volume_s=12.5, **options)
    np.testing.assert_allclose(found.data, expected, rtol=1e-12)


def test_drifts_and_confounds_leave_and_the_mean_stays():
    rng = np.random.default_rng(1)
    signals = rng.normal(size=(90, 4)) + 700.0
    confounds = rng.normal(size=(90, 2)) + 3.0
    drifts = cosine_drifts(90, tr_s=2.0, high_pass_hz=0.01)
    events = pd.DataFrame({"onset": [10.0, 71.0], "duration": [8.0, 12.0]})
    options = {"tr_s": 2.0, "method": "average", "confounds": confounds}
    expected = estimate_single_trials(signals, events, **options).data
    added = signals + (drifts @ rng.normal(size=(drifts.shape[1], 4))) * 50.0
    added += (confounds - confounds.mean(axis=0)) @ rng.normal(size=(2, 4))
    np.testing.assert_allclose(
        estimate_single_trials(added, events, **options).data, expected, rtol=1e-12
    )
    assert np.abs(expected - 700.0).max() < 3.0


def test_a_window_without_volumes_is_an_error():
    events = pd.DataFrame({"onset": [10.0, 75.0], "duration": 2.0, "stimulus_id": ["a", "b"]})
    with pytest.raises(DataError, match=r"windows of 1 trials hold no volume: 'b at 75 s'"):
        estimate_single_trials(np.ones((40, 2)), events, tr_s=2.0, method="average")


def test_haxby_categories_are_decoded_as_known(shared_data):
    func = shared_data / "haxby2001" / "sub-1" / "func"
    mask = shared_data / "haxby2001/derivatives/masks/sub-1/sub-1_desc-gray_mask.nii.gz"
    space = read_mask(mask)
    cleaning = PreprocessConfig(confounds=(), high_pass_hz=None, polynomial_order=1)
    rows, labels, runs = [], [], []
    for run in range(1, 13):
        stem = f"sub-1_task-objectviewing_run-{run:02d}"
        data, tr_s = read_bold(func / f"{stem}_bold.nii.gz", space)
        signals = clean_run(data, space=space, tr_s=tr_s, config=cleaning, run=f"{run:02d}")
        events = read_tsv(func / f"{stem}_events.tsv")
        betas = estimate_run(signals, events, config=BetasConfig(method="average"))
        rows.append(betas.data)
        labels += betas.trials["trial_type"].tolist()
        runs += betas.trials["run"].tolist()
    classifier = make_pipeline(StandardScaler(), RidgeClassifier(alpha=100.0))
    predicted = cross_val_predict(
        classifier, np.concatenate(rows), labels, groups=runs, cv=LeaveOneGroupOut()
    )
    assert space.n_voxels == 530
    # 75.0 % is known; one of the 96 blocks is 1.04 %.
    assert np.mean(predicted == np.array(labels)) == pytest.approx(0.75, abs=0.032)
