"""Decoding tokens, 257 x 768 targets a stimulus: time and memory against targets and samples.

python benchmarks/token_targets.py [--quick] [--voxels N] [--out FILE.json]

Every case is a process of its own, from file to file as in `braindecode-clip decode`: tokens in
float16 are read in blocks, predictions of 50 test samples and ridge's weights are written in
blocks. Twenty penalties, five folds. CPU seconds with one thread; memory is the peak of the
resident set above what was resident before, and of the whole process (making the data is in
that). The MLP's
step is one of 128 rows with a residual block of 4096 units and a head for the coordinates of
the targets; beside it the same step with a head for all targets, as wide as memory allows.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
from measure import measured, write_figures

from braindecode_clip.artifacts import Embeddings, Fold, Samples, TokenRows, VoxelSet, VoxelSpace
from braindecode_clip.config.decode import MLPConfig, RidgeConfig
from braindecode_clip.io.hdf5 import new_dataset

N_TOKENS, N_DIMS, N_TEST = 257, 768, 50
BATCH = 128


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def make_data(file, *, n_rows, n_voxels, n_tokens):
    """Voxels and tokens that share 60 components; the tokens written 64 stimuli at a time."""
    rng = np.random.default_rng(0)
    n_all = n_rows + N_TEST
    scores = (rng.standard_normal((n_all, 60)) / np.sqrt(1 + np.arange(60))).astype(np.float32)
    X = scores @ rng.standard_normal((60, n_voxels), np.float32)
    X += 2 * rng.standard_normal(X.shape, np.float32)
    tokens = new_dataset(file, (n_all, n_tokens, N_DIMS), np.float16)
    into = rng.standard_normal((60, n_tokens * N_DIMS), np.float32)
    for start in range(0, n_all, 64):
        part = scores[start : start + 64] @ into
        part += rng.standard_normal(part.shape, np.float32)
        part /= np.sqrt(np.square(part).sum(axis=1, keepdims=True) / n_tokens)
        tokens[start : start + 64] = part.reshape(-1, n_tokens, N_DIMS)
    ids = np.array([f"{i:05d}" for i in range(n_all)])
    embeddings = Embeddings(ids, TokenRows(tokens), "image", {"name": "benchmark"})

    def samples(rows):
        names = ids[rows]
        return Samples(X[rows], names, names, np.ones(len(names), np.int64))

    index = np.arange(n_voxels)
    nothing = np.full(n_voxels, np.nan, np.float32)
    fold = Fold(
        name="all",
        train=samples(slice(0, n_rows)),
        test=samples(slice(n_rows, n_all)),
        voxel_index=index,
        mean=np.zeros(n_voxels, np.float32),
        sd=np.ones(n_voxels, np.float32),
        seen=ids[:n_rows],
    )
    space = VoxelSpace(
        affine=np.eye(4),
        shape=np.array([n_voxels, 1, 1]),
        ijk=np.stack([index, 0 * index, 0 * index], axis=1).astype(np.int32),
    )
    voxels = VoxelSet(
        "01", "roi", "all", "stimulus", (fold,), space, nothing, nothing, nothing, pd.DataFrame()
    )
    return voxels, embeddings


def run_decode(kind, *, n_rows, n_voxels, n_tokens):
    """The stage, from file to file."""
    from braindecode_clip.decode.token_fit import decode_tokens

    if kind == "mlp":
        import braindecode_clip.decode.mlp  # noqa: F401

    configs = {
        "ridge": RidgeConfig(),
        "mlp": MLPConfig(hidden=4096, max_epochs=1, n_members=1, n_blocks=1),
    }
    with tempfile.TemporaryDirectory() as folder, h5py.File(f"{folder}/data.h5", "w") as file:
        voxels, embeddings = make_data(file, n_rows=n_rows, n_voxels=n_voxels, n_tokens=n_tokens)
        room = partial(new_dataset, file)
        found = measured(
            lambda: decode_tokens(
                voxels,
                embeddings,
                config=configs[kind],
                seed=0,
                make_array=room,
                make_weights=room if kind == "ridge" else None,
            )
        )
        return found | {"peak_mb": peak_mb()}


def run_step(*, hidden, n_rows, n_voxels, n_outputs):
    """One training step after a first one; all rows share a few targets, which cost nothing."""
    import torch

    from braindecode_clip.decode.network import ResidualMLP, loss_of
    from braindecode_clip.decode.training import make_optimizer

    class Rates:
        weight_decay, learning_rate = 0.01, 1e-3

    torch.set_num_threads(1)
    before = peak_mb()
    torch.manual_seed(0)
    network = ResidualMLP(n_voxels, n_outputs, hidden=hidden, n_blocks=1, dropout=0.5)
    optimizer = make_optimizer(network, Rates)
    inputs = torch.randn(BATCH, n_voxels)
    targets = torch.randn(BATCH, n_outputs)

    def step():
        optimizer.zero_grad(set_to_none=True)
        loss_of(network(inputs), targets, weights={"contrastive": 1.0}, tau=0.1).backward()
        optimizer.step()

    step()
    found = measured(step) | {"memory_mb": peak_mb() - before, "peak_mb": peak_mb()}
    return found | {"parameters": sum(value.numel() for value in network.parameters())}


def in_process(**case):
    """Run one case in a process of its own."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    environment |= {"MKL_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, __file__, "--case", json.dumps(case)],
        env=environment,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def slope(x, y):
    """Straight line through the points: slope, and the value at 0."""
    return np.polyfit(x, y, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer samples, for a first look")
    parser.add_argument("--voxels", type=int, default=2000)
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    parser.add_argument("--case", type=json.loads, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        run = run_step if arguments.case.pop("what") == "step" else run_decode
        print(json.dumps(run(**arguments.case)))
        return
    n_voxels, sizes = arguments.voxels, [150, 300] if arguments.quick else [300, 600, 1200]
    content = {}

    def report(title, **case):
        content[title] = found = in_process(**case)
        print(title, {name: round(value, 1) for name, value in found.items()}, flush=True)
        return found

    tokens = [33, 65, 129, N_TOKENS]
    base = {"what": "decode", "kind": "ridge", "n_voxels": n_voxels}
    by_tokens = [
        report(f"ridge, {sizes[0]} samples, {n} x {N_DIMS}", n_rows=sizes[0], n_tokens=n, **base)
        for n in tokens
    ]
    n_targets = np.array(tokens) * N_DIMS
    by_rows = [by_tokens[-1]] + [
        report(f"ridge, {n} samples, {N_TOKENS} x {N_DIMS}", n_rows=n, n_tokens=N_TOKENS, **base)
        for n in sizes[1:]
    ]
    for n in sizes:
        report(
            f"mlp, one epoch, {n} samples, {N_TOKENS} x {N_DIMS}",
            **{**base, "kind": "mlp", "n_rows": n, "n_tokens": N_TOKENS},
        )
    for hidden, outputs in [(4096, sizes[-1] - 1), (256, N_TOKENS * N_DIMS)]:
        report(
            f"mlp step, {hidden} hidden, {outputs} outputs",
            what="step",
            hidden=hidden,
            n_rows=BATCH,
            n_voxels=n_voxels,
            n_outputs=outputs,
        )
    memory = slope(n_targets, [row["memory_mb"] for row in by_tokens])
    seconds = slope(n_targets, [row["cpu_s"] for row in by_tokens])
    power = slope(np.log(sizes), np.log([row["cpu_s"] for row in by_rows]))[0]
    content["law"] = law = {
        "mb_per_thousand_targets": 1000 * memory[0],
        "mb_without_targets": memory[1],
        "tokens_in_memory_mb_per_thousand_targets": 1000 * 4 * sizes[0] / 2**20,
        "cpu_s_per_thousand_targets": 1000 * seconds[0],
        "power_of_samples": power,
    }
    print("law", {name: round(float(value), 3) for name, value in law.items()})
    write_figures(arguments.out, content)


if __name__ == "__main__":
    main()
