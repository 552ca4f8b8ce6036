"""The carpet: all cleaned signals of a run as one small grey picture."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

#: Rows of a carpet at most.
CARPET_ROWS = 600
#: Standard deviations at which a carpet is black or white. Power (2017), NeuroImage
#: 154:150-158, shows +-2 % or z.
CARPET_SD = 2.0
#: int8 steps of a carpet in one standard deviation: +-2 sd is +-126.
STEPS = 63
#: Voxels looked at at a time, in float64.
BLOCK_VOXELS = 1024


def make_carpet(
    data: np.ndarray, *, n_rows: int = CARPET_ROWS
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Order the voxels of a run by their correlation with the mean signal, and average them.

    With z_v the z-scored signal of voxel v and g = mean_v z_v, voxels are ordered by
    corr(z_v, g), from high to low (Aquino et al. 2020), cut into at most ``n_rows`` groups of
    equal size, averaged in each, and every row is z-scored again: what many voxels share
    shows as a stripe, whatever its size. Constant voxels have no part.

    The run is read three times, a block of voxels at a time, and never copied.

    Parameters
    ----------
    data : ndarray (n_volumes, n_voxels) float32 or float64
        Cleaned signals.
    n_rows : int

    Returns
    -------
    carpet : ndarray (at most n_rows, n_volumes) int8
        Standard deviations times :data:`STEPS`, clipped at +-:data:`CARPET_SD`.
    row_of : ndarray (n_voxels,) int64
        The row of every voxel; -1 for constant voxels.
    correlation : ndarray (n_voxels,) float64
        With the mean signal, -1 to 1; NaN for constant voxels.

    References
    ----------
    Power (2017), NeuroImage 154:150-158; Aquino et al. (2020), NeuroImage 212:116614.
    """
    n_volumes, n_voxels = data.shape
    varies = np.empty(n_voxels, dtype=bool)
    total = np.zeros(n_volumes)
    for block, scores, moves in _blocks(data):
        varies[block] = moves
        total += scores.sum(axis=1)
    row_of = np.full(n_voxels, -1, dtype=np.int64)
    correlation = np.full(n_voxels, np.nan)
    n_varying = int(varies.sum())
    if n_varying == 0:
        return np.zeros((0, n_volumes), dtype=np.int8), row_of, correlation
    size = np.linalg.norm(total)
    shared = total / size if size > 0 else total
    for block, scores, moves in _blocks(data):
        found = (shared @ scores) / np.sqrt(n_volumes - 1)
        correlation[block] = np.where(moves, found, np.nan)
    order = np.argsort(-correlation, kind="stable")[:n_varying]
    n_rows = min(n_rows, n_varying)
    row_of[order] = np.arange(n_varying) * n_rows // n_varying
    rows = _row_sums(data, row_of, n_rows)
    return _as_steps(rows), row_of, correlation


def _blocks(data: np.ndarray) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """Yield blocks of columns, z-scored in float64, and which of them vary; others are 0."""
    for start in range(0, data.shape[1], BLOCK_VOXELS):
        block = slice(start, start + BLOCK_VOXELS)
        columns = data[:, block].astype(np.float64)
        # Exact, unlike a standard deviation, whose rounding is not 0 around a large mean.
        moves = columns.max(axis=0) > columns.min(axis=0)
        columns -= columns.mean(axis=0)
        sd = np.sqrt(np.einsum("ij,ij->j", columns, columns) / (len(columns) - 1))
        columns *= np.where(moves, 1.0 / np.where(sd > 0, sd, 1.0), 0.0)
        yield block, columns, moves


def _row_sums(data: np.ndarray, row_of: np.ndarray, n_rows: int) -> np.ndarray:
    rows = np.zeros((n_rows, len(data)))
    for block, scores, _ in _blocks(data):
        here = row_of[block]
        order = np.argsort(here, kind="stable")
        order = order[here[order] >= 0]
        if len(order) == 0:
            continue
        groups, starts = np.unique(here[order], return_index=True)
        rows[groups] += np.add.reduceat(scores[:, order], starts, axis=1).T
    # A sum serves as well as a mean: every row is z-scored.
    return rows


def _as_steps(rows: np.ndarray) -> np.ndarray:
    rows = rows - rows.mean(axis=1, keepdims=True)
    sd = rows.std(axis=1, ddof=1, keepdims=True)
    scores = rows / np.where(sd > 0, sd, 1.0)
    return np.rint(STEPS * scores.clip(-CARPET_SD, CARPET_SD)).astype(np.int8)
