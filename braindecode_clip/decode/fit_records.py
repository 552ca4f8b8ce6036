"""Records of what the parts of a decoder were fitted on."""

from __future__ import annotations

from typing import Any

import numpy as np

from braindecode_clip.artifacts import Ledger, Records, Samples, VoxelSet
from braindecode_clip.decode.calibrate import fit_calibration
from braindecode_clip.decode.fitted import FittedDecoder

STAGE = "decode"
#: What a kind of decoder chooses or fits beside its weights, on all rows that it is given.
FITTED_BY_KIND = {
    "ridge": ("penalty",),
    "banded": ("penalty", "band weights"),
    "kernel_ridge": ("penalty", "kernel width"),
    "pca_ridge": ("penalty", "PCA of voxels"),
    "reduced_rank": ("penalty", "rank"),
    "contrastive": ("penalty", "flattening"),
    "mlp": ("scaling of inputs",),
}


def decoder_ledger(name: str, voxels: VoxelSet) -> Ledger:
    """Return an empty ledger of a decoder."""
    return Ledger(STAGE, f"sub-{voxels.subject}, ROI {voxels.roi}, decoder {name}")


def fit_estimator(
    estimator: Any,
    rows: Samples,
    targets: Any,
    *,
    kind: str,
    fold: str,
    ledger: Ledger,
    **how: Any,
) -> None:
    """Fit an estimator on rows, and note what its parts saw.

    Parameters
    ----------
    estimator : unfitted estimator of the kind
    rows : Samples
    targets : array-like (n_samples, ...)
    kind : str
    fold : str
    ledger : Ledger
    **how
        More of ``fit``: groups, stimuli, weights, store.
    """
    estimator.fit(rows.data, targets, **how)
    # Networks tell which rows they learned from and which they stopped by.
    trained = getattr(estimator, "trained_rows", None)
    stopping = getattr(estimator, "stopping_rows", None)
    ledger.add("decoder weights", rows, trained, fold=fold)
    for statistic in FITTED_BY_KIND[kind]:
        ledger.add(statistic, rows, fold=fold)
    if stopping is not None:
        ledger.add("early stop", rows, stopping, fold=fold)
    if stopping is not None and kind == "mlp":
        ledger.add("checkpoint", rows, stopping, fold=fold)


def calibrated(
    held: np.ndarray,
    targets: np.ndarray,
    rows: Samples,
    *,
    method: str,
    fold: str,
    ledger: Ledger,
) -> tuple[np.ndarray, np.ndarray]:
    """Fit the calibration on out-of-fold predictions of rows; gain and offset (n_dims,)."""
    gain, offset = fit_calibration(held, targets, method=method)
    note_calibration(ledger, rows, ~np.isnan(held).any(axis=1), method=method, fold=fold)
    return gain, offset


def note_calibration(
    ledger: Ledger, rows: Samples, known: np.ndarray, *, method: str, fold: str
) -> None:
    """Note the rows that a calibration saw; ``known`` (an index) are those with a prediction."""
    if method != "none":
        # Transductive: spread and mean of all targets, for predictions that are standardised.
        ledger.add("calibration", rows, None if method == "transductive" else known, fold=fold)


def records_of(fitted: FittedDecoder, voxels: VoxelSet) -> Records:
    """Return the records of predictions: of decoder and voxels, and of their standardising."""
    ledger = decoder_ledger(fitted.name, voxels)
    if fitted.transductive:
        for fold in voxels.folds:
            ledger.add(
                "standardised predictions",
                fold.test,
                fold=fold.name,
                labels_used=False,
                transductive=True,
                reason="mean and spread of the predictions of the test set, without labels",
            )
    return fitted.records.joined(voxels.records.items, ledger.items)
