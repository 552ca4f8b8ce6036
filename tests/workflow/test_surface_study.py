"""From GIFTI hemispheres in a table to the report, through Snakemake."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import surface_files as files
import yaml

from braindecode_clip.cli.main import main

HERE = Path(__file__).parent
CONFIGS = (HERE / "tiny.yaml", HERE / "surface.yaml")
#: Vertices of the medial wall before those with data.
WALL = 7


def simulate(folder: Path) -> Path:
    """Write the small simulated subject in volumes."""
    options = json.dumps(yaml.safe_load(CONFIGS[0].read_text())["simulate"])
    common = ["--options", options, "--seed", "2026", "--out", str(folder)]
    assert main(["simulate", "stimuli", *common]) == 0
    table = str(folder / "stimuli/stimuli.tsv")
    assert main(["simulate", "subject", "--subject", "01", "--stimuli", table, *common]) == 0
    return folder


def put_on_surfaces(volumes: Path, out: Path) -> None:
    """Lay the brain's voxels out as vertices of two hemispheres, runs and regions alike."""
    masks = volumes / "derivatives/masks/sub-01"
    brain = nib.load(masks / "sub-01_desc-brain_mask.nii.gz").get_fdata() > 0
    left = brain & (np.arange(brain.shape[0])[:, None, None] < brain.shape[0] // 2)
    halves = {"L": left, "R": brain & ~left}
    (out / "rois").mkdir(parents=True)
    shutil.copytree(volumes / "stimuli", out / "stimuli")
    for roi in ("visual", "early"):
        region = nib.load(masks / f"sub-01_roi-{roi}_mask.nii.gz").get_fdata() > 0
        for side, inside in halves.items():
            values = np.r_[np.zeros(WALL), region[inside]].astype(np.float32)
            path = out / f"rois/sub-01_hemi-{side}_roi-{roi}.shape.gii"
            files.write_gifti(path, values[None], intent="NIFTI_INTENT_SHAPE")
    rows = []
    for bold in sorted(volumes.glob("sub-01/ses-*/func/*_bold.nii.gz")):
        stem = bold.name.removesuffix("_bold.nii.gz")
        image = nib.load(bold)
        data, names = image.get_fdata(dtype=np.float32), []
        for side, inside in halves.items():
            wall = np.zeros((image.shape[3], WALL), np.float32)
            name = f"{stem}_hemi-{side}_bold.func.gii"
            files.write_gifti(out / name, np.hstack([wall, data[inside].T]))
            names.append(name)
        rows.append(
            {
                "subject": "01",
                "run": stem[-2:],
                "task": "scenes",
                "bold": ",".join(names),
                "events": f"{stem}_events.tsv",
                "confounds": f"{stem}_desc-confounds_timeseries.tsv",
                "tr_s": float(image.header.get_zooms()[3]),
            }
        )
        for ending in ("events", "desc-confounds_timeseries"):
            shutil.copy2(bold.with_name(f"{stem}_{ending}.tsv"), out)
    pd.DataFrame(rows).to_csv(out / "runs.tsv", sep="\t", index=False)


@pytest.fixture(scope="module")
def finished(project: Path, snakemake) -> Path:
    """Run the study once and return its results folder."""
    put_on_surfaces(simulate(project / "volumes"), project / "surface")
    done = snakemake("--configfile", "config/demo.yaml", *map(str, CONFIGS))
    assert done.returncode == 0, done.stdout + done.stderr
    return project / "results/surface"


def test_pictures_are_identified_from_the_surface(finished: Path) -> None:
    (path,) = finished.glob("evaluate/sub-01/*roi-visual*gal-test_metrics.json")
    rows = json.loads(path.read_text())["rows"]
    pairwise = next(
        row for row in rows if row["metric"] == "pairwise" and row["direction"] == "brain_to_image"
    )
    assert pairwise["value"] > 0.6


def test_maps_hold_the_vertices_of_the_region(finished: Path, project: Path) -> None:
    for kind in ("pattern", "reliability", "noiseceiling"):
        (path,) = finished.glob(f"interpret/sub-01/*roi-visual*_{kind}.dscalar.nii")
        image = nib.load(path)
        found = {
            name: models.vertex for name, _, models in image.header.get_axis(1).iter_structures()
        }
        for side, name in (("L", files.LEFT), ("R", files.RIGHT)):
            roi = nib.load(project / f"surface/rois/sub-01_hemi-{side}_roi-visual.shape.gii")
            np.testing.assert_array_equal(found[name], np.flatnonzero(roi.agg_data()))
        # Training pictures are shown once, so there is nothing to correlate.
        assert np.isfinite(image.get_fdata()).any() == (kind != "reliability")


def test_the_report_shows_the_structures(finished: Path) -> None:
    page = (finished / "report/report.html").read_text()
    assert page.count("cortex left (") == 2
    assert "read from the files listed in a table" in page
    assert "Connectome Workbench" in page
    assert "regions visual, early" in page


def test_a_second_run_does_nothing(finished: Path, snakemake) -> None:
    done = snakemake("--configfile", "config/demo.yaml", *map(str, CONFIGS))
    assert "Nothing to be done" in done.stdout + done.stderr


def test_volumes_in_bids_without_a_mask_get_one(finished: Path, project: Path, snakemake) -> None:
    (project / "epi.yaml").write_text(
        "study: epi\nsource: bids\nbids: {root: volumes, mask: epi}\n"
        "stimuli: volumes/stimuli/stimuli.tsv\n"
    )
    arguments = ("--configfile", "config/demo.yaml", str(CONFIGS[0]), "epi.yaml")
    done = snakemake(*arguments, "--until", "preprocess")
    assert done.returncode == 0, done.stdout + done.stderr
    folder = project / "results/epi/preprocess/sub-01"
    mask = nib.load(folder / "sub-01_desc-epi_mask.nii.gz").get_fdata() > 0
    brain = nib.load(
        project / "volumes/derivatives/masks/sub-01/sub-01_desc-brain_mask.nii.gz"
    ).get_fdata()
    # On so coarse a grid nilearn's opening takes a good part of the rim away.
    assert (mask & (brain > 0)).sum() > 0.6 * (brain > 0).sum()
    assert (mask & (brain == 0)).sum() < 0.05 * (brain > 0).sum()
    assert len(list(folder.glob("*_signals.h5"))) == 2
