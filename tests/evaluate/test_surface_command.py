"""The command: a table of every cut, its figure, and one message when something is wrong."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from braindecode_clip.artifacts import Embeddings, Fold, Samples, VoxelSet, VoxelSpace
from braindecode_clip.cli.main import main
from braindecode_clip.cli.surface import measure_cuts, repeat_choices
from braindecode_clip.config.decode import RidgeConfig
from braindecode_clip.config.surface import SurfaceConfig
from braindecode_clip.decode import decode
from braindecode_clip.evaluate import identification
from braindecode_clip.io.hdf5 import save_artifact
from braindecode_clip.io.tables import read_tsv
from braindecode_clip.provenance import Provenance

RECORD = Provenance(stage="test", options={}, inputs={}, seed=None, code_digest="0")
FAST = "{n_bootstrap: 100, seeds: 2, pool_sizes: 3, fractions: [0.25, 0.5, 1.0], repeat_draws: 2}"
N_TRAIN, N_TEST, N_VOXELS, N_DIMS = 96, 16, 30, 8


@pytest.fixture
def data() -> tuple[VoxelSet, Embeddings]:
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((N_TRAIN + N_TEST, N_DIMS)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    # Not in the order of the alphabet: a position is no name.
    ids = rng.permutation([f"pic-{i:03d}" for i in range(len(vectors))])
    code = rng.standard_normal((N_DIMS, N_VOXELS))

    def samples(rows: np.ndarray, n_repeats: int = 1) -> Samples:
        noise = rng.standard_normal((len(rows), N_VOXELS)) * 2
        return Samples(
            (vectors[rows] @ code * 3 + noise).astype(np.float32),
            ids[rows],
            np.full(len(rows), "run-1"),
            np.full(len(rows), n_repeats),
        )

    tested = np.arange(N_TRAIN, N_TRAIN + N_TEST)
    trials = samples(np.concatenate([rng.permutation(tested) for _ in range(3)]))
    test = Samples(
        np.stack([trials.data[trials.stimulus_id == name].mean(axis=0) for name in ids[tested]]),
        ids[tested],
        np.full(N_TEST, "run-1"),
        np.full(N_TEST, 3),
    )
    index = np.arange(N_VOXELS)
    train = samples(np.arange(N_TRAIN))
    fold = Fold(
        "all", train, test, index, np.zeros(N_VOXELS, np.float32), np.ones(N_VOXELS, np.float32),
        train.stimulus_id, trials,
    )  # fmt: skip
    unknown = np.full(N_VOXELS, np.nan, np.float32)
    ijk = np.stack([index, 0 * index, 0 * index], axis=1).astype(np.int32)
    space = VoxelSpace(np.eye(4), np.array([N_VOXELS, 1, 1]), ijk)
    voxels = VoxelSet(
        "01", "v", "s", "stimulus", (fold,), space, unknown, unknown, unknown, pd.DataFrame()
    )
    return voxels, Embeddings(ids, vectors, "image", {"name": "toy"})


@pytest.fixture
def files(data: tuple[VoxelSet, Embeddings], tmp_path: Path) -> Path:
    for name, item in zip(("voxels", "emb"), data, strict=True):
        save_artifact(tmp_path / f"{name}.h5", item, replace(RECORD, options={"name": "toy"}))
    return tmp_path


def call(folder: Path, *more: str, options: str = FAST) -> int:
    return main(
        [
            "surface",
            f"--voxels={folder / 'voxels.h5'}",
            f"--embeddings={folder / 'emb.h5'}",
            f"--options={options}",
            f"--out={folder / 'surface.tsv'}",
            *more,
        ]
    )


def test_all_data_and_all_repeats_score_as_decode_does(data) -> None:
    voxels, embeddings = data
    config = SurfaceConfig(fractions=[0.25, 1.0], seeds=2)
    cuts, n_others = measure_cuts(
        voxels, embeddings, decoder=RidgeConfig(), config=config, seed=3,
        rng=np.random.default_rng(0),
    )  # fmt: skip
    assert [(c.fraction, c.n_repeats) for c in cuts] == [
        (f, r) for f in (0.25, 1) for r in (1, 2, 3)
    ]
    assert (n_others, cuts[0].n_train, cuts[-1].n_train) == (N_TRAIN + N_TEST - 1, 24, 96)
    predictions, _ = decode(voxels, embeddings, config=RidgeConfig(), seed=3)
    truth = embeddings.rows(predictions.stimulus_id)
    direct = identification(predictions.vectors, embeddings.vectors, truth)
    assert cuts[-1].n_better.shape == (1, N_TEST)
    np.testing.assert_array_equal(cuts[-1].n_better[0], direct.n_better)
    # Two orders of the training data, three choices of one repeat each.
    assert cuts[0].n_better.shape == (6, N_TEST)
    assert cuts[0].seed.tolist() == [0, 0, 0, 1, 1, 1]
    few = SurfaceConfig(fractions=[0.5, 1.0], seeds=1, candidates="test", max_repeats=2)
    cuts, n_others = measure_cuts(
        voxels, embeddings, decoder=RidgeConfig(), config=few, seed=3, rng=np.random.default_rng(0)
    )
    assert (n_others, max(c.n_repeats for c in cuts)) == (N_TEST - 1, 2)


def test_repeats_are_those_of_the_row_without_replacement(data) -> None:
    voxels, _ = data
    found = repeat_choices(voxels, SurfaceConfig(repeat_draws=2), np.random.default_rng(0))
    trials, test = voxels.folds[0].test_trials, voxels.folds[0].test
    assert {n: len(draws) for n, draws in found.items()} == {1: 2, 2: 2, 3: 1}
    for n_repeats, draws in found.items():
        for draw in draws:
            for name, rows in zip(test.stimulus_id, draw[0], strict=True):
                assert len(set(rows)) == n_repeats
                assert set(trials.stimulus_id[rows]) == {name}


def test_writes_a_table_and_a_figure_and_again_the_same(files: Path) -> None:
    assert call(files, f"--out-figure={files / 'surface.png'}") == 0
    table = read_tsv(files / "surface.tsv")
    assert set(table["kind"]) == {"measured", "extrapolated", "check", "candidates"}
    assert set(table["decoder"]) == {"ridge"} and set(table["encoder"]) == {"toy"}
    assert (table["value"].between(table["ci_low"], table["ci_high"])).all()
    assert (files / "surface.png").read_bytes().startswith(b"\x89PNG")
    first = (files / "surface.tsv").read_bytes()
    assert call(files) == 0
    assert (files / "surface.tsv").read_bytes() == first


@pytest.mark.parametrize(
    ("more", "options", "words"),
    [
        (["--decoder={kind: ensemble, name: e, members: [a, b]}"], FAST, "'ensemble'"),
        (
            ["--decoder={kind: ridge, name: r-transductive, calibration: transductive}"],
            FAST,
            "transductive",
        ),
        ([], "{fractions: [0.5, 0.25]}", "ascending"),
        ([], "{fractions: [0.01, 1.0]}", "larger `fractions`"),
    ],
)
def test_bad_input_is_one_message(
    files: Path, capsys: pytest.CaptureFixture, more: list[str], options: str, words: str
) -> None:
    assert call(files, *more, options=options) == 1
    error = capsys.readouterr().err
    assert words in error and error.count("error:") == 1 and "Traceback" not in error
    assert not (files / "surface.tsv").exists()
