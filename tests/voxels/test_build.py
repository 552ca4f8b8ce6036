import dataclasses

import numpy as np
import pandas as pd
import pytest

from braindecode_clip.artifacts import VoxelSet, VoxelSpace
from braindecode_clip.config.voxels import SplitConfig, VoxelsConfig
from braindecode_clip.errors import ConfigError, DataError, LeakageError
from braindecode_clip.voxels import (
    build_voxel_set,
    noise_ceiling,
    noise_ceiling_snr,
    split_half_reliability,
)

STIMULUS = SplitConfig(name="stimulus")
BY_RUN = SplitConfig(name="run", scheme="leave_one_run_out")
BY_CATEGORY = SplitConfig(name="category", scheme="leave_one_category_out")


def build(world, *, betas=None, roi=None, split=STIMULUS, stimuli=None, pictures=None, **options):
    return build_voxel_set(
        betas if betas is not None else world.betas(),
        world.roi if roi is None else roi,
        roi="toy",
        config=VoxelsConfig(**options),
        split=split,
        stimuli=world.stimuli if stimuli is None else stimuli,
        pictures=pictures,
    )


def rows(world, names):
    return np.flatnonzero(np.isin(world.labels, list(names)))


def test_default_splits_scales_on_train_and_averages_test(world):
    found = build(world)
    fold = found.folds[0]
    train, data = rows(world, "abcdefghx"), world.roi_data.astype(np.float64)
    mean, sd = data[train].mean(axis=0), data[train].std(axis=0)
    np.testing.assert_allclose(fold.train.data, (data[train] - mean) / sd, atol=1e-5)
    np.testing.assert_array_equal(fold.train.stimulus_id, world.labels[train])
    np.testing.assert_array_equal(fold.train.n_repeats, 1)
    np.testing.assert_array_equal(fold.test.stimulus_id, ["t", "u", "v", "w"])
    np.testing.assert_array_equal(fold.test.n_repeats, [3, 3, 2, 1])
    for i, name in enumerate("tuvw"):
        average = data[rows(world, name)].mean(axis=0)
        np.testing.assert_allclose(fold.test.data[i], (average - mean) / sd, atol=1e-5)
    assert fold.test.group[0] == "ses-01_run-01+ses-01_run-02+ses-01_run-03"
    assert fold.train.group[0] == "ses-01_run-01"
    np.testing.assert_array_equal(fold.seen, list("abcdefghx"))
    assert (found.subject, found.roi, found.split, found.unit) == (
        "01",
        "toy",
        "stimulus",
        "stimulus",
    )


def test_voxels_are_those_of_the_mask_within_the_brain(world):
    found = build(world, scale="none", average_test=False)
    volume = found.space.to_volume(np.ones(7))
    assert volume.sum() == 7
    assert world.roi.n_voxels == 9
    np.testing.assert_array_equal(found.space.ijk, world.brain.ijk[world.columns])
    expected = world.roi_data[rows(world, "tuvw")]
    np.testing.assert_array_equal(found.folds[0].test.data, expected)
    assert set(found.table["dropped_outside_brain"]) == {2}


def test_order_of_the_runs_does_not_matter(world):
    first, second = build(world), build(world, betas=world.betas()[::-1])
    np.testing.assert_array_equal(first.folds[0].train.data, second.folds[0].train.data)
    np.testing.assert_array_equal(first.folds[0].train.group, second.folds[0].train.group)


def test_averaged_training_rows_are_scaled_as_rows(world):
    fold = build(world, average_train=True).folds[0]
    np.testing.assert_array_equal(sorted(fold.train.stimulus_id), list("abcdefghx"))
    np.testing.assert_allclose(fold.train.data.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(fold.train.data.std(axis=0), 1, rtol=1e-5)
    assert dict(zip(fold.train.stimulus_id, fold.train.n_repeats, strict=True))["a"] == 3


def test_test_trials_have_no_influence_on_train(world):
    before = build(world, reliability={"top": 4})
    for run, labels in zip(world.data, world.ORDER, strict=True):
        run[np.isin(labels, list("tuvw"))] *= -50
    after = build(world, reliability={"top": 4})
    for name in ("voxel_index", "mean", "sd"):
        np.testing.assert_array_equal(getattr(before.folds[0], name), getattr(after.folds[0], name))
    np.testing.assert_array_equal(before.folds[0].train.data, after.folds[0].train.data)
    np.testing.assert_array_equal(before.reliability, after.reliability)


def test_reliability_is_of_train_and_selects(world):
    train = rows(world, "abcdefghx")
    expected = split_half_reliability(world.roi_data[train], world.labels[train])
    found = build(world, reliability={"top": 3})
    np.testing.assert_array_equal(found.reliability, expected)
    np.testing.assert_array_equal(found.folds[0].voxel_index, np.sort(np.argsort(-expected)[:3]))
    assert set(found.table["dropped_unreliable"]) == {4}
    least = float(np.sort(expected)[2])
    assert len(build(world, reliability={"min": least}).folds[0].voxel_index) == 5


def test_noise_ceiling_is_of_all_trials_for_the_test_averages(world):
    ncsnr = noise_ceiling_snr(world.roi_data, world.labels)
    expected = noise_ceiling(ncsnr, mean_inverse_n=np.mean([1 / 3, 1 / 3, 1 / 2, 1]))
    np.testing.assert_allclose(build(world).ncsnr, ncsnr, rtol=1e-6)
    np.testing.assert_allclose(build(world).noise_ceiling, expected, rtol=1e-6)


def test_constant_voxel_is_dropped_and_counted(world):
    for run in world.data:
        run[:, world.columns[2]] = 3.7
    found = build(world)
    np.testing.assert_array_equal(found.folds[0].voxel_index, [0, 1, 3, 4, 5, 6])
    assert set(found.table["dropped_constant"]) == {1}
    assert set(found.table["n_voxels_kept"]) == {6}
    assert np.isnan(found.reliability[2])


def test_table_says_where_everything_went(world):
    table = build(world, exclude=["x"]).table.set_index("part")
    train, test = table.loc["train"], table.loc["test"]
    assert (train["n_trials"], test["n_trials"]) == (19, 9)
    assert (train["n_rows"], test["n_rows"]) == (19, 4)
    assert (train["n_stimuli"], test["n_stimuli"]) == (8, 4)
    assert (test["repeats_min"], test["repeats_median"], test["repeats_max"]) == (1, 2.5, 3)
    assert train["n_excluded"] == 2
    assert train["n_voxels_roi"] == 9
    assert train["n_trials"] + test["n_trials"] + train["n_excluded"] == 30


def test_leave_one_run_out(world):
    found = build(world, split=BY_RUN)
    assert found.unit == "run"
    assert [fold.name for fold in found.folds] == [f"ses-01_run-0{i}" for i in (1, 2, 3)]
    for i, fold in enumerate(found.folds):
        assert set(fold.test.group) == {fold.name}
        assert fold.name not in fold.train.group
        np.testing.assert_array_equal(fold.test.stimulus_id, world.ORDER[i])
        np.testing.assert_allclose(fold.train.data.mean(axis=0), 0, atol=1e-5)
    # Each fold has statistics of its own.
    assert not np.allclose(found.folds[0].mean, found.folds[1].mean)


def test_by_run_repeats_are_averaged_within_a_run_only(world, make_run):
    betas = world.betas()
    betas.append(
        make_run(["a", "t", "a"], run="04", space=world.brain, data=np.arange(66.0).reshape(3, 22))
    )
    fold = build(world, betas=betas, split=BY_RUN, average_train=True).folds[-1]
    np.testing.assert_array_equal(fold.test.stimulus_id, ["a", "t"])
    np.testing.assert_array_equal(fold.test.n_repeats, [2, 1])
    assert (fold.train.stimulus_id == "a").sum() == 3


def test_leave_one_category_out(world):
    found = build(world, split=BY_CATEGORY)
    assert found.unit == "stimulus"
    assert [fold.name for fold in found.folds][:4] == ["a", "b", "c", "d"]
    assert len(found.folds) == 13
    for fold in found.folds:
        assert set(fold.test.stimulus_id) == {fold.name}
        assert fold.name not in fold.train.stimulus_id
        assert fold.name not in fold.seen
    # Three runs are three samples, not one.
    np.testing.assert_array_equal(found.folds[0].test.n_repeats, [1, 1, 1])


def test_labels_from_trial_type_renamed_and_excluded(world, make_run):
    names = ["face", "house", "cat", "scrambled", "face"]
    rng = np.random.default_rng(0)
    betas = [
        make_run(
            [""] * 5,
            run=f"{i:02d}",
            session="",
            space=world.brain,
            data=rng.standard_normal((5, 22)),
            trial_type=names,
        )
        for i in range(1, 4)
    ]
    found = build(
        world,
        betas=betas,
        split=BY_RUN,
        label="trial_type",
        rename={"face": "human face"},
        exclude=["scrambled"],
        average_test=False,
    )
    assert found.folds[0].name == "run-01"
    assert list(found.folds[0].test.stimulus_id) == ["human face", "house", "cat", "human face"]
    assert set(found.table["n_excluded"]) == {3}


@pytest.mark.parametrize("by", ["run", "session"])
def test_normalise_without_labels(world, by):
    betas = world.betas()
    betas[2].trials["session"] = "02"
    found = build(world, betas=betas, normalise=by, scale="none", split=BY_RUN, average_test=False)
    parts = [fold.test.data for fold in found.folds]
    first = parts[0] if by == "run" else np.concatenate(parts[:2])
    for part in (first, parts[2]):
        np.testing.assert_allclose(part.mean(axis=0), 0, atol=1e-5)
        np.testing.assert_allclose(part.std(axis=0), 1, rtol=1e-5)
    if by == "session":
        assert np.abs(parts[0].mean(axis=0)).max() > 0.01


def test_round_trip_through_a_file(world, tmp_path):
    from braindecode_clip.io.hdf5 import load_artifact, save_artifact
    from braindecode_clip.provenance import Provenance

    found = build(world)
    record = Provenance(stage="voxels", options={}, inputs={}, seed=None, code_digest="")
    save_artifact(tmp_path / "v.h5", found, record)
    back = load_artifact(tmp_path / "v.h5", VoxelSet)
    np.testing.assert_array_equal(back.folds[0].train.data, found.folds[0].train.data)
    np.testing.assert_array_equal(back.folds[0].test.group, found.folds[0].test.group)
    pd.testing.assert_frame_equal(back.table, found.table, check_dtype=False)


def test_refuses_a_stimulus_with_both_splits(world):
    more = pd.DataFrame({"stimulus_id": ["a", "t"], "image": "z.png", "split": ["test", "test"]})
    with pytest.raises(LeakageError, match=r"1 stimuli as train and as test: 'a'"):
        build(world, stimuli=pd.concat([world.stimuli, more]))


def test_refuses_one_picture_under_two_names(world):
    pictures = {name: f"sha-{name}" for name in world.stimuli["stimulus_id"]}
    assert build(world, pictures=pictures).unit == "stimulus"
    pictures["v"] = pictures["c"]
    pictures["b"] = pictures["a"]
    with pytest.raises(LeakageError, match=r"1 pictures .*'c = v'"):
        build(world, pictures=pictures)


def test_stimulus_table_problems_come_together(world):
    stimuli = world.stimuli[world.stimuli["stimulus_id"] != "b"].copy()
    stimuli.loc[stimuli["stimulus_id"] == "c", "split"] = "validation"
    twice = stimuli[stimuli["stimulus_id"] == "d"]
    with pytest.raises(DataError) as error:
        build(world, stimuli=pd.concat([stimuli, twice]))
    for part in ("3 problems", "more than once: 'd'", "lacks 1 of 13", "'b'", "'validation'"):
        assert part in str(error.value)


def test_needs_a_stimulus_table(world):
    with pytest.raises(DataError, match="--stimuli"):
        build_voxel_set(world.betas(), world.roi, roi="toy", config=VoxelsConfig(), split=STIMULUS)
    with pytest.raises(DataError, match="lacks the columns 'split'"):
        build(world, stimuli=world.stimuli[["stimulus_id"]])


def test_needs_both_parts(world):
    with pytest.raises(DataError, match="no test trials among 30"):
        build(world, stimuli=world.stimuli.assign(split="train"))
    with pytest.raises(DataError, match="no train trials"):
        build(world, betas=world.betas()[:1], split=BY_RUN)


def test_empty_roi(world, make_space):
    outside = np.zeros((4, 3, 2), dtype=bool)
    outside[0, 0] = True
    with pytest.raises(DataError, match=r"ROI is empty: none of the mask's 2 voxels"):
        build(world, roi=make_space(outside))


@pytest.mark.parametrize(
    "change", [{"affine": np.eye(4)}, {"shape": np.array([4, 3, 3])}], ids=["affine", "shape"]
)
def test_roi_of_another_grid(world, change):
    with pytest.raises(DataError, match=r"ROI mask has shape .* the responses have shape"):
        build(world, roi=dataclasses.replace(world.roi, **change))


def test_runs_that_do_not_belong_together(world, make_space):
    one, two, three = world.betas()
    two.trials["subject"] = "02"
    grid = VoxelSpace(np.eye(4), one.space.shape, one.space.ijk)
    other = dataclasses.replace(three, space=grid)
    with pytest.raises(DataError) as error:
        build(world, betas=[one, two, other, one])
    for part in (
        "several subjects ('01', '02')",
        "more than once: 'ses-01_run-01'",
        "another grid",
    ):
        assert part in str(error.value)
    with pytest.raises(DataError, match="has no voxel space"):
        build(world, betas=[one, dataclasses.replace(three, space=None)])
    mask = np.ones((4, 3, 2), dtype=bool)
    mask[3, 2] = False
    smaller = make_space(mask)
    cut = dataclasses.replace(three, space=smaller, data=three.data)
    with pytest.raises(DataError, match="another brain mask"):
        build(world, betas=[one, cut])
    with pytest.raises(DataError, match="no responses"):
        build(world, betas=[])
    mixed = world.betas()[0]
    mixed.trials["run"] = ["01"] * 5 + ["02"] * 5
    with pytest.raises(DataError, match="2 values of 'run'"):
        build(world, betas=[mixed])


def test_trials_without_stimulus_are_listed(world):
    betas = world.betas()
    betas[1].trials.loc[[2, 4], "stimulus_id"] = [None, "n/a"]
    with pytest.raises(DataError) as error:
        build(world, betas=betas)
    for part in ("2 of 30 trials", "run-02 at 8 s", "run-02 at 16 s", "trial_type"):
        assert part in str(error.value)


def test_reliability_needs_training_repeats(world):
    once = world.betas()[:1]
    with pytest.raises(DataError, match="shown twice or more"):
        build(world, betas=once, reliability={"top": 3})
    assert np.isnan(build(world, betas=once).reliability).all()


def test_no_voxel_left(world):
    with pytest.raises(DataError, match=r"no voxel is left of 7: 0 are constant"):
        build(world, reliability={"min": 1.0})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"exclude": ["aa"]}, "voxels.exclude names 'aa'"),
        ({"rename": {"aa": "b"}}, "voxels.rename names 'aa'"),
    ],
)
def test_unknown_names_in_the_config(world, options, message):
    with pytest.raises(ConfigError, match=message):
        build(world, **options)


def test_nothing_left_or_one_trial(world, make_run):
    with pytest.raises(DataError, match="`exclude` names all 30"):
        build(world, exclude=["picture"])
    single = make_run(["a"], run="09", space=world.brain, data=np.ones((1, 22)))
    with pytest.raises(DataError, match="'ses-01_run-09' has one trial"):
        build(world, betas=[*world.betas(), single], normalise="run")


def test_single_test_trials_are_scaled_as_their_means_are(world):
    fold = build(world).folds[0]
    trials = fold.test_trials
    assert sorted(trials.stimulus_id) == sorted("tttuuuvvw")
    np.testing.assert_array_equal(trials.n_repeats, 1)
    for name, mean in zip(fold.test.stimulus_id, fold.test.data, strict=True):
        own = trials.data[trials.stimulus_id == name]
        np.testing.assert_allclose(own.mean(axis=0), mean, atol=1e-5)
    assert build(world, average_test=False).folds[0].test_trials is None
    assert all(fold.test_trials is None for fold in build(world, split=BY_CATEGORY).folds)
