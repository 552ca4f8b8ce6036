"""The command: maps on the grid of the input, and one message when something is wrong."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from braindecode_clip.artifacts import VoxelSet
from braindecode_clip.cli.main import main
from braindecode_clip.config.decode import MLPConfig, RidgeConfig
from braindecode_clip.decode import decode, predict_samples
from braindecode_clip.interpret import voxel_maps
from braindecode_clip.io.hdf5 import load_artifact, save_artifact
from braindecode_clip.io.tables import read_tsv
from braindecode_clip.provenance import Provenance

RECORD = Provenance(stage="test", options={}, inputs={}, seed=None, code_digest="0")
OUTPUTS = (
    "reliability.nii.gz",
    "ncsnr.nii.gz",
    "noise_ceiling.nii.gz",
    "pattern.nii.gz",
    "table.tsv",
)


@pytest.fixture
def files(make_voxels: Callable, tmp_path: Path) -> Path:
    """Return a folder with voxels, embeddings, and a fitted ridge."""
    voxels, embeddings = make_voxels(n_folds=2)
    predicted, fitted = decode(voxels, embeddings, config=RidgeConfig(), seed=0)
    other = replace(embeddings, fingerprint={"model": "other"})
    fewer = replace(voxels, folds=voxels.folds[:1])
    for name, artefact in {
        "voxels": voxels,
        "fewer": fewer,
        "emb": embeddings,
        "other": other,
        "pred": predicted,
        "dec": fitted,
    }.items():
        save_artifact(tmp_path / f"{name}.h5", artefact, RECORD)
    return tmp_path


def call(
    folder: Path, *, voxels: str = "voxels", embeddings: str = "emb", options: str = ""
) -> int:
    reliability, ncsnr, noise_ceiling, pattern, table = (folder / name for name in OUTPUTS)
    return main(
        [
            "interpret",
            f"--voxels={folder / voxels}.h5",
            f"--decoder={folder / 'dec.h5'}",
            f"--predictions={folder / 'pred.h5'}",
            f"--embeddings={folder / embeddings}.h5",
            f"--options={options}",
            f"--out-reliability={reliability}",
            f"--out-ncsnr={ncsnr}",
            f"--out-noise-ceiling={noise_ceiling}",
            f"--out-pattern={pattern}",
            f"--out-table={table}",
        ]
    )


def test_maps_lie_on_the_grid_of_the_input(files: Path) -> None:
    assert call(files, options="{pattern_variance: 1.0, n_dims: 2, n_pictures: 4}") == 0
    voxels = load_artifact(files / "voxels.h5", VoxelSet)
    inside = np.zeros(tuple(voxels.space.shape), dtype=bool)
    inside[tuple(voxels.space.ijk.T)] = True
    for name in OUTPUTS[:4]:
        image = nib.load(files / name)
        assert image.shape == inside.shape
        np.testing.assert_allclose(image.affine, voxels.space.affine)
        assert np.isnan(image.get_fdata()[~inside]).all()
    reliability = nib.load(files / OUTPUTS[0]).get_fdata(dtype=np.float32)
    found = reliability[tuple(voxels.space.ijk.T)]
    assert np.array_equal(found, voxels.reliability, equal_nan=True)
    pattern = nib.load(files / OUTPUTS[3]).get_fdata()[tuple(voxels.space.ijk.T)]
    assert pattern[:6].min() > pattern[6:22].max()
    assert np.isnan(pattern[22:]).sum() == 2
    table = read_tsv(files / "table.tsv", required=["dim", "correlation", "most", "least"])
    assert len(table) == 2
    assert all(len(cell.split(", ")) == 4 for cell in table["most"])
    assert table["correlation"].min() > 0.5


def test_any_decoder_has_a_pattern(make_voxels: Callable) -> None:
    voxels, embeddings = make_voxels()
    config = MLPConfig(hidden=16, n_members=1, max_epochs=40, learning_rate=0.01)
    _, fitted = decode(voxels, embeddings, config=config, seed=0)
    predicted = predict_samples(fitted.folds[0], voxels.folds[0].train.data, kind="mlp")
    maps = voxel_maps(voxels, [predicted], variance=1.0)
    assert maps.pattern[:6].mean() > 2 * maps.pattern[6:22].mean()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"embeddings": "other"}, "another encoder.*model: 'tiny' != 'other'"),
        ({"voxels": "fewer"}, r"dec.h5: was fitted on .*\(2 folds\)"),
        ({"voxels": "emb"}, "holds Embeddings, expected VoxelSet"),
        ({"options": "{n_dim: 3}"}, "Did you mean 'n_dims'"),
    ],
)
def test_bad_input_gives_one_message_and_leaves_the_old_results(
    files: Path, capsys: pytest.CaptureFixture, change: dict, words: str
) -> None:
    for name in OUTPUTS:
        (files / name).write_text("old")
    assert call(files, **change) == 1
    message = capsys.readouterr().err
    assert message.count("error:") == 1
    assert "Traceback" not in message
    assert re.search(words, message), message
    assert {(files / name).read_text() for name in OUTPUTS} == {"old"}
