"""``simulate scenes --leave-out``: no pair looks like a test picture of the study."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from braindecode_clip.cli.main import main
from braindecode_clip.io.hdf5 import load_artifact, read_provenance
from braindecode_clip.simulate.pairs import ScenePairs


def draw(out: Path, *more: str) -> ScenePairs:
    command = ["simulate", "scenes", "--n", "12", "--seed", "3", "--style", "lines"]
    assert main([*command, "--out", str(out), *more]) == 0
    return load_artifact(out, ScenePairs)


def study_of(folder: Path, images: np.ndarray, splits: list[str]) -> Path:
    """Write pictures and their table as a study has them."""
    for k, image in enumerate(images):
        # At another size, as a study's pictures have.
        Image.fromarray(image).resize((128, 128)).save(folder / f"{k}.png")
    table = pd.DataFrame({"split": splits})
    table["stimulus_id"] = [f"stim-{k}" for k in range(len(images))]
    table["image"] = [f"{k}.png" for k in range(len(images))]
    path = folder / "stimuli.tsv"
    table.to_csv(path, sep="\t", index=False)
    return path


def test_what_looks_like_a_test_picture_is_left_out(tmp_path: Path) -> None:
    every = draw(tmp_path / "all.h5")
    shown = study_of(tmp_path, every.images[[2, 5, 9]], ["test", "train", "test"])
    kept = draw(tmp_path / "kept.h5", "--leave-out", str(shown))
    # Training pictures of the study may be adapted on.
    rows = [0, 1, 3, 4, 5, 6, 7, 8, 10, 11]
    np.testing.assert_array_equal(kept.images, every.images[rows])
    assert (kept.captions == every.captions[rows]).all()
    assert (kept.scenes == every.scenes[rows]).all()
    assert "stimuli.tsv" in str(read_provenance(tmp_path / "kept.h5")["inputs"])


def test_nothing_is_left_out_where_nothing_is_alike(tmp_path: Path) -> None:
    every = draw(tmp_path / "all.h5")
    other = 255 - every.images[:2]
    kept = draw(tmp_path / "kept.h5", "--leave-out", str(study_of(tmp_path, other, ["test"] * 2)))
    np.testing.assert_array_equal(kept.images, every.images)


def test_a_study_without_test_pictures_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = study_of(tmp_path, draw(tmp_path / "all.h5").images[:1], ["train"])
    out = tmp_path / "kept.h5"
    command = ["simulate", "scenes", "--n", "2", "--leave-out", str(shown), "--out", str(out)]
    assert main(command) == 1
    assert "no stimuli of split test" in capsys.readouterr().err
    assert not out.exists()
