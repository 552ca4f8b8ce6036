"""Which way the held-out residuals of ridge regression are computed, by device, shape and dtype."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from braindecode_clip.decode.downdate import Route, choose_route
from braindecode_clip.decode.leave_out import DualRoute, PrimalRoute
from braindecode_clip.decode.pole_route import PoleRoute
from braindecode_clip.decode.ridge_torch import TorchRoute

AnyRoute = Route | PoleRoute | TorchRoute


def list_routes(
    shape: tuple[int, int],
    *,
    n_targets: int | None,
    fold_sizes: Sequence[int] | None,
    n_alphas: int,
    dtype: np.dtype,
    device: str | None,
) -> list[tuple[Callable[..., AnyRoute], np.dtype]]:
    """List ways and working dtypes, fastest first; a later one serves where an earlier cannot.

    Parameters
    ----------
    shape : (n_rows, n_voxels)
    n_targets : int or None
        None where they must be worked on in blocks.
    fold_sizes : sequence of int or None
        None for validation without folds.
    n_alphas : int
    dtype : dtype
        Of the data.
    device : str or None
        Device of torch; None for NumPy.

    Returns
    -------
    list of (callable, dtype)
        To be called with ``table, direction=, alphas=, folds=, dtype=``.
    """
    double = np.dtype(np.float64)
    if device is not None:
        kind: Callable[..., AnyRoute] = partial(TorchRoute, device=device)
        return [(kind, dtype), (kind, double)]
    n_rows, n_voxels = shape
    if fold_sizes is None:
        kind = DualRoute if n_rows <= n_voxels else PrimalRoute
        return [(kind, dtype), (kind, double)]
    kind = choose_route(n_rows, n_voxels, fold_sizes=fold_sizes, n_alphas=n_alphas)
    routes: list[tuple[Callable[..., AnyRoute], np.dtype]] = [(kind, dtype), (kind, double)]
    whole = dtype == np.float32 and n_targets is not None
    if whole and PoleRoute.serves(n_rows, n_voxels, n_targets=n_targets or 0, n_alphas=n_alphas):
        routes.insert(0, (PoleRoute, dtype))
    return routes


def held_out_predictions(route: AnyRoute, targets: np.ndarray, best: np.ndarray) -> np.ndarray:
    """Return the mean held-out prediction of every row, less the mean; (n_samples, n_block)."""
    root = route.table.root
    total = np.zeros(targets.shape[::-1], dtype=targets.dtype)
    count = np.zeros((len(total), 1), dtype=targets.dtype)
    for rows, errors in zip(route.folds, route.errors_at(best), strict=True):
        total[rows] += (targets[:, rows] - errors).T
        count[rows] += 1 if root is None else root[rows, None]
    return total / np.where(count > 0, count, np.nan)
