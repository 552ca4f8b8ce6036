"""The fitted decoder as an artefact: named arrays, no pickle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from braindecode_clip.artifacts import Records, VoxelSpace
from braindecode_clip.checks import Problems
from braindecode_clip.config.decoders import SECTIONS
from braindecode_clip.decode.calibrate import apply_calibration, standardise
from braindecode_clip.decode.kinds import (
    CLOSED_FORM,
    ClosedForm,
    closed_form_arrays,
    predict_closed_form,
)
from braindecode_clip.decode.targets import TargetSpace, restore_targets
from braindecode_clip.errors import ArtifactError

if TYPE_CHECKING:
    from braindecode_clip.decode.contrastive import ContrastiveDecoder
    from braindecode_clip.decode.mlp import MLPDecoder

KINDS = tuple(SECTIONS)
#: Kinds that predict with ``coef`` and ``intercept`` and have no report of a grid.
LINEAR = ("contrastive", "shared")


@dataclass(frozen=True)
class NamedArray:
    """An array with its name.

    Attributes
    ----------
    name : str
    data : ndarray
    """

    name: str
    data: np.ndarray


@dataclass(frozen=True)
class FoldDecoder:
    """The decoder of one fold.

    Attributes
    ----------
    fold : str
    voxel_index : ndarray (n_kept,) int64
        Columns of the ROI that it reads, as in :class:`~braindecode_clip.artifacts.Fold`.
    mean, sd : ndarray (n_kept,) float32
        Scaling of those columns, fitted on train.
    arrays : tuple of NamedArray
        Ridge: coef (n_kept, n_dims), intercept, alpha (n_dims,), alphas (n_alphas,), cv_mse
        (n_alphas, n_dims), and what else :func:`braindecode_clip.decode.kinds.closed_form_arrays`
        lists. Contrastive: coef, intercept, alpha. Shared: coef, intercept, alpha
        (n_components,). MLP: means, scales and the parameters of every member. All but shared:
        out_of_fold (n, n_dims) and out_of_fold_rows (n,), predictions of training rows by models
        that had not seen them. Ensemble: also weights (n_members,), and the arrays of member i as
        ``i/name``. Of token targets (:mod:`braindecode_clip.decode.token_fit`), with n_tokens ·
        n_dims for n_dims: ridge as above without out_of_fold, and with coef (n_kept, n_tokens,
        n_dims) where it was asked for; contrastive and MLP predict coordinates, with token_mix
        (n_coordinates, n_stimuli) and token_stimuli (n_stimuli,) beside their own.
    gain, offset : ndarray (n_dims,) float32
        Calibration of the predictions. With calibration "transductive": standard deviation and
        mean of the training targets, for predictions that are standardised before.
    seen : ndarray (n,) str
        Stimuli that anything of it was fitted on.
    info : dict
        What the fit reported.
    """

    fold: str
    voxel_index: np.ndarray
    mean: np.ndarray
    sd: np.ndarray
    arrays: tuple[NamedArray, ...]
    gain: np.ndarray
    offset: np.ndarray
    seen: np.ndarray
    info: dict[str, Any]

    def __post_init__(self) -> None:
        problems = Problems(f"decoder of fold '{self.fold}'")
        for item in self.arrays:
            # What is left in its file was checked when it was written.
            in_memory = isinstance(item.data, np.ndarray) and item.data.dtype.kind == "f"
            if in_memory and not np.isfinite(item.data).all():
                problems.add(f"'{item.name}' holds NaN or infinite numbers.")
        if self.gain.shape != self.offset.shape or self.mean.shape != self.voxel_index.shape:
            problems.add("calibration or scaling does not fit in length.")
        problems.raise_if_any(ArtifactError)

    def array(self, name: str) -> np.ndarray:
        """Return an array by its name."""
        return {item.name: item.data for item in self.arrays}[name]


@dataclass(frozen=True)
class FittedDecoder:
    """A decoder of one subject, ROI, split and encoder, one for each fold.

    Attributes
    ----------
    kind : str
        One of :data:`KINDS`.
    name, encoder, subject, roi, split, unit : str
    space : VoxelSpace
        Of the ROI before selection.
    fingerprint : dict
        Of the embeddings that it was trained on.
    options : dict
    folds : tuple of FoldDecoder
    records : Records
        What every part of it, and of the voxels, was fitted on.
    """

    kind: str
    name: str
    encoder: str
    subject: str
    roi: str
    split: str
    unit: str
    space: VoxelSpace
    fingerprint: dict[str, Any]
    options: dict[str, Any]
    folds: tuple[FoldDecoder, ...]
    records: Records = field(default_factory=Records)

    def __post_init__(self) -> None:
        problems = Problems(f"decoder '{self.name}'")
        if self.kind not in KINDS:
            problems.add(f"'kind' is {self.kind!r}, expected one of {', '.join(KINDS)}.")
        if not self.folds:
            problems.add("no folds.")
        problems.raise_if_any(ArtifactError)

    @property
    def transductive(self) -> bool:
        """Whether predictions are standardised with their own statistics."""
        return self.options.get("calibration") == "transductive"


def predict_samples(
    decoder: FoldDecoder, X: np.ndarray, *, kind: str, transductive: bool = False
) -> np.ndarray:
    """Predict with a stored decoder.

    Parameters
    ----------
    decoder : FoldDecoder
    X : ndarray (n_samples, n_kept)
        Voxels of the fold, scaled with its statistics (``Fold.test.data``).
    kind : str
        :attr:`FittedDecoder.kind`.
    transductive : bool, default False
        :attr:`FittedDecoder.transductive`: each prediction then depends on all rows of X.

    Returns
    -------
    ndarray (n_samples, n_dims) float32
        Calibrated.

    Raises
    ------
    ArtifactError
        Another number of voxels.
    """
    if X.shape[1] != len(decoder.voxel_index):
        raise ArtifactError(
            f"decoder of fold '{decoder.fold}': got {X.shape[1]} voxels, it was fitted on "
            f"{len(decoder.voxel_index)}. Pass the voxels that it was fitted on."
        )
    arrays = {item.name: item.data for item in decoder.arrays}
    if kind == "ensemble":
        raw = _predict_members(decoder, X)
    elif kind in LINEAR:
        raw = X @ arrays["coef"] + arrays["intercept"]
    elif kind in CLOSED_FORM:
        raw = predict_closed_form(arrays, X)
    else:
        # Ridge alone should not wait for torch.
        from braindecode_clip.decode.mlp import predict_from_arrays

        raw = predict_from_arrays(arrays, X)
    if "target_basis" in arrays:
        raw = restore_targets(raw, arrays["target_basis"], arrays["target_mean"])
    if transductive:
        raw = standardise(raw)
    return apply_calibration(raw, decoder.gain, decoder.offset)


def _predict_members(decoder: FoldDecoder, X: np.ndarray) -> np.ndarray:
    """Return the weighted mean of the members' calibrated predictions."""
    total = 0.0
    for i, member in enumerate(decoder.info["members"]):
        start = f"{i}/"
        arrays = [
            NamedArray(item.name.removeprefix(start), item.data)
            for item in decoder.arrays
            if item.name.startswith(start)
        ]
        gain, offset = decoder.array(f"{i}/calibration")
        alone = replace(decoder, arrays=tuple(arrays), gain=gain, offset=offset)
        weight = decoder.array("weights")[i]
        total = total + weight * predict_samples(alone, X, kind=member["kind"])
    return np.asarray(total)


def space_arrays(space: TargetSpace) -> tuple[NamedArray, ...]:
    """Return what leads from the components that a decoder predicts back to its targets."""
    return (
        NamedArray("target_basis", space.backward.astype(np.float32)),
        NamedArray("target_mean", space.mean.astype(np.float32)),
    )


def held_out_arrays(out_of_fold: np.ndarray) -> tuple[NamedArray, ...]:
    """Return out-of-fold predictions to store: the rows that have one, and which they are."""
    rows = np.flatnonzero(~np.isnan(out_of_fold).any(axis=1))
    return (
        NamedArray("out_of_fold", out_of_fold[rows].astype(np.float32)),
        NamedArray("out_of_fold_rows", rows),
    )


def named_arrays(estimator: ClosedForm | ContrastiveDecoder | MLPDecoder) -> tuple[NamedArray, ...]:
    """Return all arrays that a fitted estimator needs to predict, and its curves."""
    found: Mapping[str, np.ndarray]
    if isinstance(estimator, ClosedForm):
        found = closed_form_arrays(estimator)
    elif hasattr(estimator, "coef_"):
        found = {
            "coef": estimator.coef_,
            "intercept": estimator.intercept_,
            "alpha": estimator.alpha_,
        }
    else:
        found = estimator.arrays_
    return tuple(NamedArray(name, data) for name, data in found.items())
