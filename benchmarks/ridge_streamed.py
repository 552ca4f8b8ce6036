"""Ridge on voxels and targets that are read from an HDF5 file in blocks, float16.

python benchmarks/ridge_streamed.py [--rows N ...] [--voxels N] [--targets N] [--out FILE.json]

Twenty penalties, five folds. The weights are written to the same file. Prints CPU seconds, wall
seconds and the peak of the resident set of the whole process, Python included, for every number
of rows in turn.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

import h5py
import numpy as np
from measure import write_figures

from braindecode_clip.decode import RidgeDecoder

ALPHAS = np.logspace(0, 7, 20)


def write_data(file, n_rows, n_voxels, n_targets):
    """Voxels and targets that share components, written 500 rows at a time."""
    rng = np.random.default_rng(0)
    into_voxels = rng.standard_normal((100, n_voxels)).astype(np.float32)
    into_targets = rng.standard_normal((100, n_targets)).astype(np.float32)
    X = file.create_dataset("X", (n_rows, n_voxels), dtype=np.float16)
    Y = file.create_dataset("Y", (n_rows, n_targets), dtype=np.float16)
    file.create_dataset("coef", (n_voxels, n_targets), dtype=np.float32)
    noise = np.linspace(1, 15, n_targets, dtype=np.float32)
    for start in range(0, n_rows, 500):
        part = slice(start, min(start + 500, n_rows))
        scores = rng.standard_normal((part.stop - start, 100)) / np.sqrt(1 + np.arange(100))
        scores = scores.astype(np.float32)
        X[part] = scores @ into_voxels + rng.standard_normal((len(scores), n_voxels), np.float32)
        own = noise * rng.standard_normal((len(scores), n_targets), np.float32)
        Y[part] = scores @ into_targets + own


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[1500, 3000])
    parser.add_argument("--voxels", type=int, default=15724)
    parser.add_argument("--targets", type=int, default=1664)
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    arguments = parser.parse_args()
    content = {}
    for n_rows in arguments.rows:
        with tempfile.TemporaryDirectory() as folder, h5py.File(f"{folder}/data.h5", "w") as file:
            write_data(file, n_rows, arguments.voxels, arguments.targets)
            cpu, wall = time.process_time(), time.perf_counter()
            RidgeDecoder(ALPHAS).fit(file["X"], file["Y"], coef_out=file["coef"])
            figures = {
                "cpu_s": time.process_time() - cpu,
                "wall_s": time.perf_counter() - wall,
                "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            }
        title = f"{n_rows} rows x {arguments.voxels} voxels x {arguments.targets} targets"
        content[title] = figures
        print(title, {name: round(value, 1) for name, value in figures.items()}, flush=True)
    write_figures(arguments.out, content)


if __name__ == "__main__":
    main()
