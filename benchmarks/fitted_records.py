"""What records of fitted statistics cost: 10,000 stimuli, 40 folds, 12 statistics each.

python benchmarks/fitted_records.py [--quick] [--repeats N] [--out FILE.json]
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from measure import parse_arguments, print_table, side_by_side, write_figures

from braindecode_clip.artifacts import Fitted, Predictions, Records
from braindecode_clip.evaluate.sentinel import check_fitted
from braindecode_clip.io.hdf5 import load_artifact, save_artifact
from braindecode_clip.provenance import Provenance

N_STATISTICS = 12
PROVENANCE = Provenance("benchmark", {}, {}, None, "")


def made_up(n_stimuli: int, n_folds: int) -> tuple[list[Fitted], Predictions]:
    names = [f"nsd-{i:05d}" for i in range(n_stimuli)]
    items = [
        Fitted(f"statistic {k}", "decode", "ridge", f"{fold}", seen, frozenset({f"run-{fold}"}))
        for fold in range(n_folds)
        for seen in [frozenset(names) - frozenset(names[fold::n_folds])]
        for k in range(N_STATISTICS)
    ]
    ids = np.array(names)
    predictions = Predictions(
        vectors=np.zeros((n_stimuli, 2), np.float32),
        stimulus_id=ids,
        group=np.full(n_stimuli, "run"),
        fold=np.array([str(i % n_folds) for i in range(n_stimuli)]),
        n_repeats=np.ones(n_stimuli, np.int64),
        train_ids=ids,
        unit="stimulus",
        fingerprint={},
        info={},
        records=Records.of(items),
    )
    return items, predictions


def main() -> None:
    arguments = parse_arguments(__doc__)
    n_stimuli, n_folds = (1000, 10) if arguments.quick else (10_000, 40)
    items, predictions = made_up(n_stimuli, n_folds)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "predictions.h5"
        figures = side_by_side(
            {
                "pack": lambda: Records.of(items),
                "write": lambda: save_artifact(path, predictions, PROVENANCE),
                "read and check digests": lambda: load_artifact(path, Predictions),
                "sentinel": lambda: check_fitted(predictions),
            },
            repeats=arguments.repeats,
        )
        size_kb = path.stat().st_size / 1000
    title = f"{n_stimuli} stimuli, {n_folds} folds, {len(items)} records; file {size_kb:.0f} kB"
    print_table(title, figures)
    write_figures(arguments.out, {title: figures})


if __name__ == "__main__":
    main()
