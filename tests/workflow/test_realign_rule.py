"""The rules that realign raw runs: planned when asked for, and carried out on two small runs."""

from __future__ import annotations

import json
import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

TINY = str(Path(__file__).with_name("tiny.yaml"))
ARGUMENTS = ("--configfile", "config/demo.yaml", TINY)
ON = "realign={enabled: true, slice_timing: false, reference: middle}"
SMALL = "simulate={n_train_pictures: 20, grid_shape: [12, 14, 10]}"


def planned(done) -> dict[str, int]:
    assert done.returncode == 0, done.stdout + done.stderr
    text = done.stdout + done.stderr
    return {k: int(n) for k, n in re.findall(r"^(\w+) +(\d+)$", text, flags=re.MULTILINE)}


def test_it_is_off_unless_asked_for(snakemake) -> None:
    jobs = planned(snakemake(*ARGUMENTS, "--dry-run", "--quiet", "reason"))
    assert "realign" not in jobs and jobs["preprocess"] == 2


def test_volume_times_must_agree_with_the_betas(snakemake) -> None:
    done = snakemake(*ARGUMENTS, "--dry-run", "--config", "realign={enabled: true}")
    text = done.stdout + done.stderr
    assert done.returncode == 1 and "Traceback" not in text
    assert "'betas.slice_time_ref' is 0. Set it to 0.5" in text


def test_every_run_is_realigned_to_one_reference_before_preprocess(snakemake) -> None:
    done = snakemake(*ARGUMENTS, "--dry-run", "--quiet", "reason", "--config", ON)
    jobs = planned(done)
    assert (jobs["realign_reference"], jobs["realign"], jobs["preprocess"]) == (1, 2, 2)


@pytest.mark.slow
def test_two_runs_come_onto_one_reference_and_into_preprocess(project, snakemake) -> None:
    pytest.importorskip(
        "SimpleITK", reason="the extra 'motion' is not installed (pip install SimpleITK)"
    )
    arguments = (*ARGUMENTS, "--until", "preprocess", "--config", ON, SMALL)
    done = snakemake(*arguments)
    text = done.stdout + done.stderr
    assert done.returncode == 0, text
    folder = project / "results/tiny/realign/sub-01"
    reference = nib.load(folder / "sub-01_boldref.nii.gz")
    runs = sorted(folder.glob("*_bold.nii.gz"))
    assert len(runs) == 2
    for run in runs:
        np.testing.assert_array_equal(nib.load(run).affine, reference.affine)
        record = json.loads(run.with_name(run.name.replace(".nii.gz", ".json")).read_text())
        assert record["Sources"][1] == "sub-01_boldref.nii.gz"
    # Both are what preprocess read.
    from braindecode_clip.io.hdf5 import read_provenance

    signals = sorted((project / "results/tiny/preprocess/sub-01").glob("*_signals.h5"))
    for run, path in zip(runs, signals, strict=True):
        assert run.name in read_provenance(path)["inputs"]
    again = planned(snakemake(*arguments, "--dry-run", "--quiet", "reason"))
    assert not set(again) & {"realign", "realign_reference", "preprocess"}
