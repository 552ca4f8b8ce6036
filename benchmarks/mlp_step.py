"""One training step of the MLP against the naive loop.

python benchmarks/mlp_step.py [--quick] [--repeats N] [--out FILE.json]

15724 voxels, one residual block of width 1024, 768 dimensions, batches of 128 of 3000 rows.
The naive loop is what public decoders write: torch's own layers, a ``Dataset`` that reads every row
by itself from an open HDF5 file, ``DataLoader`` without workers, default AdamW in two groups, a
one-cycle schedule that steps with every batch, losses kept by ``.item()``. Ours keeps the rows in
memory and has the same losses, groups and schedule. Each figure is of eight steps.

The ratio depends on the processor: on one by another maker than Intel the naive loop's products
run at about half the speed of ours (see ``braindecode_clip.decode.linear``).
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import h5py
import numpy as np
import torch
from measure import parse_arguments, print_table, side_by_side, write_figures
from torch import nn

from braindecode_clip.decode.network import ResidualMLP, loss_of
from braindecode_clip.decode.training import Plan, Rows, Training

N_STEPS, BATCH, DROPOUT = 8, 128, 0.5
N_ALL_STEPS = 100_000
WEIGHTS = {"contrastive": 1.0}


class OneByOne(torch.utils.data.Dataset):
    """Rows of an HDF5 file, one read each."""

    def __init__(self, file):
        self.file = file

    def __len__(self):
        return len(self.file["x"])

    def __getitem__(self, row):
        return torch.from_numpy(self.file["x"][row]), torch.from_numpy(self.file["y"][row])


class PlainBlock(nn.Module):
    """The residual block of our network, in torch's own layers."""

    def __init__(self, width, *, dropout):
        super().__init__()
        self.block = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, width),
            nn.GELU(),
            nn.Linear(width, width),
            nn.Dropout(dropout),
        )

    def forward(self, x):
        return x + self.block(x)


class Naive:
    """What one would write first."""

    def __init__(self, n_voxels, n_dims, *, width, file):
        torch.manual_seed(0)
        self.network = nn.Sequential(
            nn.Linear(n_voxels, width),
            nn.Dropout(DROPOUT),
            PlainBlock(width, dropout=DROPOUT),
            nn.LayerNorm(width),
            nn.Linear(width, n_dims),
        )
        self.loader = torch.utils.data.DataLoader(OneByOne(file), BATCH, shuffle=True)
        parameters = list(self.network.parameters())
        self.optimizer = torch.optim.AdamW(
            [
                {"params": [p for p in parameters if p.ndim > 1], "weight_decay": 1e-2},
                {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
            ],
            lr=1e-3,
        )
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, max_lr=1e-3, total_steps=N_ALL_STEPS
        )
        self.losses = []

    def __call__(self):
        self.network.train()
        for step, (inputs, targets) in enumerate(self.loader):
            if step == N_STEPS:
                break
            self.optimizer.zero_grad()
            loss = loss_of(self.network(inputs), targets, weights=WEIGHTS, tau=0.1)
            loss.backward()
            self.optimizer.step()
            self.schedule.step()
            self.losses.append(loss.item())


class Ours:
    """Steps of the decoder's own training."""

    def __init__(self, network, rows, *, bfloat16):
        plan = Plan(
            weights=WEIGHTS,
            temperature=0.1,
            temperature_end=0.1,
            mixco_share=0.0,
            mixco_beta=0.15,
            mixco_temperature=0.006,
            learning_rate=1e-3,
            weight_decay=0.01,
            ema=0.0,
            batch_size=BATCH,
            max_epochs=10_000,
            patience=10_000,
            draw=False,
            bfloat16=bfloat16,
            n_tokens=1,
            pooled=False,
        )
        self.training = Training(network, train=rows, check=rows, plan=plan)

    def __call__(self):
        self.training.network.train()
        for _, rows in zip(range(N_STEPS), self.training._batches(), strict=False):
            self.training.step(rows, tau=0.1, mixes=False)


def main() -> None:
    arguments = parse_arguments(__doc__)
    n_rows, n_voxels, width, n_dims = (
        (1200, 2000, 256, 128)
        if arguments.quick
        else (
            3000,
            15724,
            1024,
            768,
        )
    )
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n_rows, n_voxels), dtype=np.float32)
    Y = rng.standard_normal((n_rows, n_dims), dtype=np.float32)
    rows = Rows(torch.from_numpy(X), torch.from_numpy(Y), torch.arange(n_rows))

    def network():
        torch.manual_seed(0)
        return ResidualMLP(n_voxels, n_dims, hidden=width, n_blocks=1, dropout=DROPOUT)

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.h5"
        with h5py.File(path, "w") as file:
            file["x"], file["y"] = X, Y
        with h5py.File(path) as file:
            figures = side_by_side(
                {
                    "ours, float32": Ours(network(), rows, bfloat16=False),
                    "ours, bfloat16 first layer": Ours(network(), rows, bfloat16=True),
                    "naive loop": Naive(n_voxels, n_dims, width=width, file=file),
                },
                repeats=arguments.repeats,
            )
    print_table(f"{N_STEPS} steps, {n_voxels} voxels", figures)
    write_figures(arguments.out, figures)


if __name__ == "__main__":
    main()
