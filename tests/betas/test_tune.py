"""Choices over runs on simulated subjects: what they find, what they may see, how they fail."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from braindecode_clip.betas import estimate_single_trials, estimate_subject
from braindecode_clip.betas.basis import event_regressors, fine_grid
from braindecode_clip.betas.hrf import library_kernels
from braindecode_clip.betas.run_inputs import run_inputs
from braindecode_clip.betas.tune import tune_subject
from braindecode_clip.betas.tuned_run import BLOCK_VOXELS, RunToTune
from braindecode_clip.config.betas import BetasConfig
from braindecode_clip.errors import DataError

TR_S, N_VOLUMES, N_RUNS = 2.0, 150, 4
FULL = {
    "method": "lsa",
    "hrf": "library",
    "noise_regressors": "auto",
    "shrinkage": "ridge",
}


@dataclasses.dataclass(frozen=True)
class Subject:
    signals: list[np.ndarray]
    events: list[pd.DataFrame]
    truth: list[np.ndarray]
    hrf_index: np.ndarray
    responsive: np.ndarray


def simulate(*, n_voxels=240, noise=0.7, shared=1.0, repeats=True, seed=0) -> Subject:
    """Two thirds of the voxels respond, each with one of four responses of the library."""
    rng = np.random.default_rng(seed)
    grid = fine_grid(N_VOLUMES, tr_s=TR_S)
    kernels = library_kernels(step_s=grid.step_s)
    hrf_index = rng.choice([1, 5, 9, 17], n_voxels)
    responsive = np.arange(n_voxels) < 2 * n_voxels // 3
    onsets = np.arange(8.0, N_VOLUMES * TR_S - 20.0, 4.0)
    n_trials = len(onsets) - 8
    patterns = rng.normal(size=(n_trials * N_RUNS, n_voxels)) + 1.0
    signals, events, truth = [], [], []
    for run in range(N_RUNS):
        kept = np.sort(rng.choice(len(onsets), n_trials, replace=False))
        which = rng.permutation(n_trials) if repeats else np.arange(n_trials) + run * n_trials
        table = pd.DataFrame(
            {
                "onset": onsets[kept],
                "duration": 3.0,
                "trial_type": "picture",
                "stimulus_id": [f"stim-{i:03d}" for i in which],
            }
        )
        betas = patterns[which] * responsive
        data = np.zeros((N_VOLUMES, n_voxels))
        for index in np.unique(hrf_index):
            columns = event_regressors(
                table["onset"].to_numpy(),
                table["duration"].to_numpy(),
                grid=grid,
                kernel=kernels[index],
            )
            mine = hrf_index == index
            data[:, mine] = columns @ betas[:, mine]
        size = data[:, responsive].std()
        courses = rng.normal(size=(N_VOLUMES, 2)).cumsum(axis=0)
        courses -= courses.mean(axis=0)
        courses /= courses.std(axis=0)
        data += noise * size * rng.normal(size=data.shape)
        data += shared * size * courses @ rng.normal(size=(2, n_voxels))
        signals.append((1000.0 + 10.0 * data / size).astype(np.float32))
        events.append(table)
        truth.append(betas)
    return Subject(signals, events, truth, hrf_index, responsive)


def correlation(betas, subject):
    """Median over responsive voxels of the correlation with the truth over all trials."""
    found = np.concatenate([run.data for run in betas])[:, subject.responsive]
    true = np.concatenate(subject.truth)[:, subject.responsive]
    return float(np.median([np.corrcoef(a, b)[0, 1] for a, b in zip(found.T, true.T, strict=True)]))


def lss(subject):
    return [
        estimate_single_trials(signals, events, tr_s=TR_S)
        for signals, events in zip(subject.signals, subject.events, strict=True)
    ]


@pytest.fixture(scope="module")
def subject():
    return simulate()


@pytest.fixture(scope="module")
def tuned(subject):
    return estimate_subject(subject.signals, subject.events, tr_s=TR_S, **FULL)


def test_the_full_option_beats_its_parts_and_they_beat_lss(subject, tuned):
    betas, tuning = tuned
    plain = correlation(lss(subject), subject)
    options = {"tr_s": TR_S, "method": "lsa", "hrf": "library"}
    library, _ = estimate_subject(subject.signals, subject.events, shrinkage="ridge", **options)
    assert plain + 0.02 < correlation(library, subject) < correlation(betas, subject) - 0.02
    assert tuning.info["penalties_by"] == "repeats"


def test_responses_noise_and_penalties_are_found(subject, tuned):
    _, tuning = tuned
    responsive = subject.responsive
    peaks, true = tuning.hrf_index // 4, subject.hrf_index // 4
    assert (np.abs(peaks - true)[responsive] <= 1).mean() > 0.95
    assert 1 <= tuning.info["n_noise_regressors"] <= 4
    assert tuning.noise_pool[responsive].mean() < 0.02 < 0.4 < tuning.noise_pool[~responsive].mean()
    assert (tuning.r2[responsive] > 0.02).mean() > 0.95
    assert np.median(tuning.penalty[~responsive]) > 10 * np.median(tuning.penalty[responsive])
    assert [len(run.columns) for run in tuning.noise_regressors] == [N_VOLUMES] * N_RUNS
    assert tuning.curve["gain"].iloc[0] == 0.0
    assert tuning.info["transductive"] == ["noise_regressors"]


def test_without_repeats_the_runs_are_predicted_by_the_common_response():
    subject = simulate(repeats=False, seed=4)
    betas, tuning = estimate_subject(subject.signals, subject.events, tr_s=TR_S, **FULL)
    assert tuning.info["n_conditions"] == 0
    assert "no stimulus comes in two runs" in tuning.info["choices_by"]
    assert tuning.info["penalties_by"] == "likelihood"
    assert correlation(betas, subject) > correlation(lss(subject), subject) + 0.05


def test_without_labels_nothing_depends_on_them(subject):
    options = {"tr_s": TR_S, "use_labels": False, **FULL}
    _, expected = estimate_subject(subject.signals, subject.events, **options)
    rng = np.random.default_rng(6)
    shuffled = [
        table.assign(stimulus_id=rng.permutation(table["stimulus_id"])) for table in subject.events
    ]
    _, found = estimate_subject(subject.signals, shuffled, **options)
    for name in ("hrf_index", "penalty", "mean_response", "r2", "noise_pool"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    assert expected.info["penalties_by"] == "likelihood"
    assert "no label may be used" in expected.info["choices_by"]
    assert set(expected.info["transductive"]) >= {"hrf", "shrinkage"}
    assert len(expected.seen) > 0
    # With labels they would.
    _, labelled = estimate_subject(subject.signals, shuffled, tr_s=TR_S, **FULL)
    assert not np.array_equal(labelled.penalty, expected.penalty)


def test_every_option_stands_alone_and_combined(subject):
    plain = correlation(lss(subject), subject)
    small = simulate(n_voxels=120, seed=1)
    for method in ("lss", "lsa"):
        for hrf in ("spm", "library", "glover + derivative"):
            for noise in (0, 2, "auto"):
                for shrinkage in ("none", "ridge"):
                    options = {
                        "method": method,
                        "hrf": hrf,
                        "noise_regressors": noise,
                        "shrinkage": shrinkage,
                    }
                    if hrf == "glover + derivative" and method == "lsa":
                        continue
                    betas, tuning = estimate_subject(
                        small.signals, small.events, tr_s=TR_S, **options
                    )
                    assert all(np.isfinite(run.data).all() for run in betas)
                    tunes = hrf == "library" or noise != 0 or shrinkage != "none"
                    assert (tuning is not None) == tunes
                    assert (tuning is not None and tuning.penalty.any()) == (shrinkage == "ridge")
                    if noise == 2:
                        assert betas[0].info["n_noise_regressors"] == 2
    ar1, _ = estimate_subject(subject.signals, subject.events, tr_s=TR_S, noise_model="ar1", **FULL)
    assert correlation(ar1, subject) > plain


def test_the_average_takes_noise_regressors_too(subject):
    events = [table.iloc[::4].assign(duration=4.0) for table in subject.events]
    betas, tuning = estimate_subject(
        subject.signals, events, tr_s=TR_S, method="average", noise_regressors="auto"
    )
    assert tuning.info["n_noise_regressors"] > 0
    plain, nothing = estimate_subject(subject.signals, events, tr_s=TR_S, method="average")
    assert nothing is None
    quiet = ~subject.responsive
    assert betas[0].data[:, quiet].std() < plain[0].data[:, quiet].std()


def inputs_of(subject, config, events=None):
    return [
        RunToTune(
            run_inputs(
                table,
                n_volumes=N_VOLUMES,
                tr_s=TR_S,
                config=config,
                confounds=None,
                high_pass_hz=0.01,
                first_volume_s=0.0,
                where="events",
            ),
            signals,
            signals.mean(axis=0),
            run=f"{number:02d}",
        )
        for number, (signals, table) in enumerate(
            zip(subject.signals, events or subject.events, strict=True), 1
        )
    ]


def test_hidden_trials_have_no_say(subject):
    config = BetasConfig(hrf="library", shrinkage="ridge", method="lsa")
    stimuli = sorted({name for table in subject.events for name in table["stimulus_id"]})
    seen = set(stimuli[::2])
    expected = tune_subject(inputs_of(subject, config), config=config, seen=seen)
    assert set(expected.seen) == seen
    # Other labels of the hidden trials change nothing at all.
    rng = np.random.default_rng(0)
    renamed = []
    for table in subject.events:
        hidden = ~table["stimulus_id"].isin(seen)
        names = table["stimulus_id"].to_numpy(dtype=object, copy=True)
        names[hidden] = rng.permutation([f"x{i}" for i in range(hidden.sum())])
        renamed.append(table.assign(stimulus_id=names))
    found = tune_subject(inputs_of(subject, config, renamed), config=config, seen=seen)
    for name in ("hrf_index", "penalty", "mean_response", "r2"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    # Responses to hidden trials of another size, with the reference response, neither.
    grid = fine_grid(N_VOLUMES, tr_s=TR_S)
    kernel = library_kernels(step_s=grid.step_s)[9]
    louder = []
    for signals, table in zip(subject.signals, subject.events, strict=True):
        hidden = table[~table["stimulus_id"].isin(seen)]
        columns = event_regressors(
            hidden["onset"].to_numpy(), hidden["duration"].to_numpy(), grid=grid, kernel=kernel
        )
        added = columns @ rng.normal(size=(columns.shape[1], signals.shape[1])) * 30.0
        louder.append((signals + added).astype(np.float32))
    changed = dataclasses.replace(subject, signals=louder)
    found = tune_subject(inputs_of(changed, config), config=config, seen=seen)
    assert (found.hrf_index == expected.hrf_index).mean() > 0.99
    np.testing.assert_allclose(found.r2, expected.r2, atol=1e-3)
    # Seen ones would.
    everything = tune_subject(inputs_of(changed, config), config=config)
    assert np.abs(everything.r2 - expected.r2).max() > 0.01


class Sliced:
    """What an HDF5 dataset offers: a shape, and columns by a slice."""

    def __init__(self, array):
        self.array, self.shape = array, array.shape

    def __getitem__(self, key):
        assert key[0] == slice(None) and key[1].stop - key[1].start <= BLOCK_VOXELS
        return self.array[key]


def test_signals_may_lie_elsewhere(subject):
    config = BetasConfig(**FULL)
    runs = inputs_of(subject, config)
    expected = tune_subject(runs, config=config)
    sliced = [dataclasses.replace(run, signals=Sliced(run.signals)) for run in runs]
    found = tune_subject(sliced, config=config)
    np.testing.assert_array_equal(found.hrf_index, expected.hrf_index)
    np.testing.assert_array_equal(found.penalty, expected.penalty)


def test_nothing_is_found_where_there_is_nothing(subject):
    rng = np.random.default_rng(9)
    noise = [rng.normal(1000, 10, (N_VOLUMES, 300)).astype(np.float32) for _ in range(N_RUNS)]
    _, tuning = estimate_subject(noise, subject.events, tr_s=TR_S, **FULL)
    assert (tuning.r2 < 0.05).all()
    assert tuning.r2.mean() < 0
    assert tuning.info["n_noise_regressors"] <= 2
    assert np.median(tuning.penalty) >= 5.0


class TestBadInput:
    def test_one_run_cannot_predict_another(self, subject):
        with pytest.raises(DataError, match=r"1 of 1 runs hold trials .* needs at least 2"):
            estimate_subject(subject.signals[:1], subject.events[:1], tr_s=TR_S, **FULL)

    def test_no_trial_to_be_seen(self, subject):
        with pytest.raises(DataError, match=r"0 of 4 runs .*trials: all"):
            estimate_subject(subject.signals, subject.events, tr_s=TR_S, seen={"other"}, **FULL)

    def test_runs_of_other_voxels(self, subject):
        signals = [subject.signals[0][:, :-1], *subject.signals[1:]]
        with pytest.raises(DataError, match=r"the runs have \[239, 240\] voxels"):
            estimate_subject(signals, subject.events, tr_s=TR_S, **FULL)

    def test_more_signals_than_events(self, subject):
        with pytest.raises(DataError, match="4 runs of signals, 3 of events, 4 of confounds"):
            estimate_subject(subject.signals, subject.events[:3], tr_s=TR_S, **FULL)

    def test_a_label_that_the_events_lack(self, subject):
        events = [table.drop(columns="stimulus_id") for table in subject.events]
        with pytest.raises(DataError, match="no column 'stimulus_id'"):
            estimate_subject(
                subject.signals, events, tr_s=TR_S, tune={"label": "stimulus_id"}, **FULL
            )

    def test_too_few_voxels_for_a_pool(self, subject, caplog):
        few = [run[:, :40] for run in subject.signals]
        _, tuning = estimate_subject(few, subject.events, tr_s=TR_S, noise_regressors="auto")
        assert tuning.info["n_noise_regressors"] == 0
        assert tuning.info["noise_regressors_by"] == "none: too few voxels in the pool"
        assert "no noise regressors" in caplog.text
