"""Strategies by name against nilearn's load_confounds on a table as fMRIPrep writes it."""

import json

import numpy as np
import pandas as pd
import pytest
from nilearn.interfaces.fmriprep import load_confounds

from braindecode_clip.artifacts import Signals
from braindecode_clip.cli.main import main
from braindecode_clip.config.preprocess import PreprocessConfig, StrategyConfig
from braindecode_clip.errors import ConfigError, DataError
from braindecode_clip.io.fmriprep import strategy_columns
from braindecode_clip.io.hdf5 import load_artifact, read_provenance
from braindecode_clip.io.tables import write_tsv
from braindecode_clip.nuisance import cosine_drifts, orthonormal_basis, project_out
from braindecode_clip.preprocess import choose_confounds, clean_run, expand_confounds

MOTION = ["trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z"]
N_VOLUMES = 60


@pytest.fixture
def table():
    """Return what fMRIPrep would write, n/a in the first row of all that needs the one before."""
    rng = np.random.default_rng(30)
    names = [*MOTION, "csf", "white_matter", "global_signal"]
    plain = pd.DataFrame(rng.normal(size=(N_VOLUMES, 9)).cumsum(axis=0), columns=names)
    table = expand_confounds(plain)
    for k in range(16):
        table[f"a_comp_cor_{k:02d}"] = rng.normal(size=N_VOLUMES)
    for k in range(4):
        table[f"t_comp_cor_{k:02d}"] = rng.normal(size=N_VOLUMES)
    cosines = cosine_drifts(N_VOLUMES, tr_s=2.0, high_pass_hz=1 / 128)
    table[[f"cosine{k:02d}" for k in range(cosines.shape[1])]] = cosines
    table["framewise_displacement"] = np.r_[np.nan, rng.uniform(size=N_VOLUMES - 1)]
    table["non_steady_state_outlier00"] = np.eye(N_VOLUMES)[0]
    table["motion_outlier00"] = np.eye(N_VOLUMES)[7]
    return table


@pytest.fixture
def meta():
    masks = ["CSF"] * 5 + ["WM"] * 4 + ["combined"] * 7
    components = {f"a_comp_cor_{k:02d}": {"Mask": mask} for k, mask in enumerate(masks)}
    temporal = {f"t_comp_cor_{k:02d}": {"Method": "tCompCor"} for k in range(4)}
    return {**components, **temporal, "csf": {"Method": "Mean"}, "dropped_0": {"Mask": "CSF"}}


@pytest.fixture
def written(tmp_path, table, meta):
    """Return the path of the table, its JSON file beside it, under no name that nilearn knows."""
    path = tmp_path / "confounds of run 1.tsv"
    write_tsv(path, table)
    path.with_suffix(".json").write_text(json.dumps(meta))
    return path


@pytest.mark.parametrize(
    ("options", "nilearn"),
    [
        ({"names": ["motion6"]}, {"strategy": ["motion"], "motion": "basic"}),
        ({"names": ["motion12"]}, {"strategy": ["motion"], "motion": "derivatives"}),
        ({"names": ["motion24"]}, {"strategy": ["motion"], "motion": "full"}),
        ({"names": ["motion6", "motion24"]}, {"strategy": ["motion"], "motion": "full"}),
        ({"names": ["wm_csf"]}, {"strategy": ["wm_csf"], "wm_csf": "basic"}),
        (
            {"names": ["wm_csf", "global_signal"], "signals": "full"},
            {"strategy": ["wm_csf", "global_signal"], "wm_csf": "full", "global_signal": "full"},
        ),
        (
            {"names": ["global_signal"], "signals": "power2"},
            {"strategy": ["global_signal"], "global_signal": "power2"},
        ),
        (
            {"names": ["acompcor"]},
            {"strategy": ["high_pass", "compcor"], "compcor": "anat_combined", "n_compcor": 5},
        ),
        (
            {"names": ["acompcor"], "n_compcor": "all"},
            {"strategy": ["high_pass", "compcor"], "compcor": "anat_combined"},
        ),
        (
            {"names": ["acompcor"], "n_compcor": 3, "compcor_mask": "separated"},
            {"strategy": ["high_pass", "compcor"], "compcor": "anat_separated", "n_compcor": 3},
        ),
        (
            {"names": ["tcompcor"], "n_compcor": 2},
            {"strategy": ["high_pass", "compcor"], "compcor": "temporal", "n_compcor": 2},
        ),
        (
            {"names": ["motion12", "acompcor", "tcompcor"], "n_compcor": "all"},
            {
                "strategy": ["motion", "high_pass", "compcor"],
                "motion": "derivatives",
                "compcor": "temporal_anat_combined",
            },
        ),
    ],
)
def test_the_columns_are_nilearns(tmp_path, written, table, meta, options, nilearn):
    folder = tmp_path / "derivatives"
    folder.mkdir()
    stem = "sub-01_task-rest_run-1_"
    write_tsv(folder / f"{stem}desc-confounds_timeseries.tsv", table)
    (folder / f"{stem}desc-confounds_timeseries.json").write_text(json.dumps(meta))
    bold = folder / f"{stem}space-T1w_desc-preproc_bold.nii.gz"
    expected, _ = load_confounds(str(bold), demean=False, **nilearn)
    found = strategy_columns(table, StrategyConfig(**options), path=written)
    assert sorted(found) == sorted(expected.columns)
    chosen = choose_confounds(table, found)
    # The first row of a derivative is 0 here, and the second row's value there.
    np.testing.assert_allclose(chosen[1:], expected[list(found)][1:], rtol=1e-12)
    assert np.isfinite(chosen.to_numpy()).all()


def test_a_bare_table_gets_its_derivatives_and_squares(tmp_path, table):
    bare = expand_confounds(table[MOTION])
    found = strategy_columns(bare, StrategyConfig(names=("motion24",)), path=tmp_path / "no.tsv")
    assert len(found) == 24
    chosen = choose_confounds(bare, found)
    x = table["rot_y"].to_numpy()
    change = np.r_[0.0, np.diff(x)]
    np.testing.assert_allclose(chosen["rot_y_derivative1"], change, atol=1e-15)
    np.testing.assert_allclose(chosen["rot_y_power2"], x**2)
    np.testing.assert_allclose(chosen["rot_y_derivative1_power2"], change**2, atol=1e-15)
    # What a file holds is not made again.
    given = expand_confounds(table[MOTION].assign(rot_y_power2=5.0))
    assert (given["rot_y_power2"] == 5.0).all() and given.shape[1] == 24


def test_strategies_and_columns_leave_together(written, table, space):
    rng = np.random.default_rng(31)
    data = rng.normal(100, 5, size=(N_VOLUMES, 61)).astype(np.float32)
    config = PreprocessConfig(
        confounds=("global_signal", "trans_x"),
        strategy={"names": ["motion12", "acompcor", "non_steady_state"], "n_compcor": 2},
        high_pass_hz=None,
    )
    columns = strategy_columns(table, config.strategy, path=written)
    assert "non_steady_state_outlier*" in columns
    options = {"space": space, "tr_s": 2.0, "config": config, "confounds": table}
    ours = clean_run(data, strategy_columns=columns, **options)
    # global_signal, 12 of motion, 2 components, 1 unsteady volume, and the file's cosine.
    assert ours.regressors.shape == (N_VOLUMES, 1 + 12 + 2 + 1 + 1)
    basis = orthonormal_basis(ours.regressors)
    left = project_out(basis, table[["a_comp_cor_09", "a_comp_cor_10", "cosine00"]].to_numpy())
    assert np.abs(left - left.mean(axis=0)).max() < 1e-5
    left = project_out(basis, table[["a_comp_cor_00", "a_comp_cor_11"]].to_numpy())
    assert (left.std(axis=0) > 0.5).all()
    with pytest.raises(ConfigError, match=r"strategy.names is \['motion12'.*strategy_columns"):
        clean_run(data, **options)


class TestMessages:
    def test_compcor_without_its_json(self, written, table):
        written.with_suffix(".json").unlink()
        with pytest.raises(DataError, match=r"need confounds of run 1.json beside it.*'a_comp_cor"):
            strategy_columns(table, StrategyConfig(names=("acompcor",)), path=written)

    def test_a_json_without_components(self, written, table):
        written.with_suffix(".json").write_text('{"csf": {}}')
        with pytest.raises(DataError, match=r"run 1.json: names no CompCor component"):
            strategy_columns(table, StrategyConfig(names=("tcompcor",)), path=written)

    @pytest.mark.parametrize(
        ("names", "lost"),
        [
            (("motion6",), ["rot_x"]),
            (("motion6",), MOTION),
            (("wm_csf",), ["csf"]),
            (("global_signal",), ["global_signal"]),
            (("acompcor",), ["a_comp_cor_09"]),
        ],
    )
    def test_missing_columns(self, written, table, names, lost):
        with pytest.raises(DataError, match=r"confounds of run 1.tsv: lacks columns of the strat"):
            strategy_columns(table.drop(columns=lost), StrategyConfig(names=names), path=written)


def test_the_command(tmp_path, written, write_run, write_mask, capsys):
    bold, mask = write_run(n_volumes=N_VOLUMES), write_mask()
    common = ["preprocess", "--bold", bold, "--mask", mask, "--subject", "01", "--run", "1"]
    common += ["--out", tmp_path / "s.h5", "--options"]
    options = "{confounds: [], high_pass_hz: null, strategy: {names: [acompcor, motion24]}}"
    assert main([str(part) for part in [*common, options, "--confounds", written]]) == 0
    signals = load_artifact(tmp_path / "s.h5", Signals)
    assert signals.regressors.shape == (N_VOLUMES, 5 + 24 + 1)
    inputs = read_provenance(tmp_path / "s.h5")["inputs"]
    assert {written.name, written.with_suffix(".json").name} <= set(inputs)
    capsys.readouterr()
    assert main([str(part) for part in [*common, options]]) == 1
    assert "there is no confounds file" in capsys.readouterr().err
