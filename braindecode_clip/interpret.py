"""Where in the brain predictions come from, and which embedding dimensions they reach."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from braindecode_clip.artifacts import Embeddings, Predictions, VoxelSet
from braindecode_clip.checks import Problems, differences
from braindecode_clip.errors import DataError
from braindecode_clip.metrics import correlation

#: Between two stimulus ids in a cell of the table.
SEPARATOR = ", "


@dataclass(frozen=True)
class VoxelMaps:
    """One number for each voxel of the ROI before selection; NaN where there is none.

    Attributes
    ----------
    reliability : ndarray (n_voxels,) float32
        Split-half reliability, as in :class:`VoxelSet`.
    ncsnr : ndarray (n_voxels,) float32
        Signal-to-noise ratio of single trials, as in :class:`VoxelSet`.
    noise_ceiling : ndarray (n_voxels,) float32
        % variance, as in :class:`VoxelSet`.
    pattern : ndarray (n_voxels,) float32
        :func:`pattern_strength`, the mean over the folds that kept the voxel.
    """

    reliability: np.ndarray
    ncsnr: np.ndarray
    noise_ceiling: np.ndarray
    pattern: np.ndarray


def activation_pattern(
    responses: np.ndarray, predicted: np.ndarray, *, variance: float = 0.9
) -> np.ndarray:
    r"""Turn a decoder into a model of the responses (Haufe et al. 2014, theorem 1).

    .. math:: A = \mathrm{Cov}(X, \hat Y)\, \mathrm{Cov}(\hat Y)^{+}

    which for a linear decoder :math:`\hat Y = X W` is the paper's
    :math:`\mathrm{Cov}(X)\, W\, \mathrm{Cov}(\hat Y)^{-1}`, and which needs nothing but
    predictions, so any decoder has it. Weights mix signal with the suppression of noise;
    a voxel's row of A says how its response goes with what is decoded. Predictions have fewer
    independent directions than dimensions, so the inverse is that of their leading principal
    components.

    Parameters
    ----------
    responses : array (n_samples, n_voxels)
        What the decoder was given; usually the training samples.
    predicted : array (n_samples, n_dims)
        What it made of them.
    variance : float
        Share of the predictions' variance, 0 to 1, that the leading components hold.

    Returns
    -------
    ndarray (n_voxels, n_dims) float64
        Unit of a response for each unit of an embedding dimension.

    Raises
    ------
    DataError
        Shapes that do not fit, fewer than two samples, or constant predictions.
    """
    scores, lengths, axes = _leading(responses, predicted, variance)
    if not len(lengths):
        raise DataError(
            "activation pattern: the predictions are the same for all samples, so no voxel goes "
            "with them. The decoder has learnt nothing but the mean."
        )
    centred = responses - np.mean(responses, axis=0, dtype=np.float64)
    return (centred.T @ scores / lengths) @ axes


def pattern_strength(
    responses: np.ndarray, predicted: np.ndarray, *, variance: float = 0.9
) -> np.ndarray:
    r"""Norm of every voxel's activation pattern, in the metric of the predictions.

    .. math:: s_v = \sqrt{a_v^\top \mathrm{Cov}(\hat Y)\, a_v}

    the standard deviation of the voxel's response that goes with the leading components of
    the predictions. Unlike the plain norm it does not grow with directions that are hardly
    ever predicted, and it stays the same when the embedding is rotated or scaled.

    Parameters
    ----------
    responses, predicted, variance
        As for :func:`activation_pattern`.

    Returns
    -------
    ndarray (n_voxels,) float64
        In the unit of the responses: 0 to the voxel's standard deviation, so 0 to 1 where they
        are z-scored. Zero everywhere for a decoder that predicts the same for all samples.
    """
    scores, _, _ = _leading(responses, predicted, variance)
    centred = responses - np.mean(responses, axis=0, dtype=np.float64)
    return np.linalg.norm(centred.T @ scores, axis=1) / np.sqrt(len(centred))


def _leading(
    responses: np.ndarray, predicted: np.ndarray, variance: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return unit scores (n, r), singular values (r,) and axes (r, n_dims) of predictions.

    r is 0 where the predictions are the same for all samples.
    """
    responses, predicted = np.asarray(responses), np.asarray(predicted, dtype=np.float64)
    problems = Problems("activation pattern")
    if responses.ndim != 2 or predicted.ndim != 2 or len(responses) != len(predicted):
        problems.add(
            f"responses have shape {responses.shape} and predictions {predicted.shape}, expected "
            "(n_samples, n_voxels) and (n_samples, n_dims)."
        )
    elif len(responses) < 2:
        problems.add(f"got {len(responses)} samples, expected at least 2.")
    problems.raise_if_any()
    centred = predicted - predicted.mean(axis=0)
    scores, lengths, axes = np.linalg.svd(centred, full_matrices=False)
    rounding = np.abs(predicted).max(initial=0.0) * np.finfo(np.float32).eps
    if lengths[0] <= rounding * np.sqrt(centred.size):
        return scores[:, :0], lengths[:0], axes[:0]
    held = np.cumsum(lengths**2) / np.sum(lengths**2)
    n_kept = int(np.searchsorted(held, variance - 1e-12)) + 1
    # Centring takes one direction away; what is left of it is rounding, at any share.
    n_kept = min(n_kept, int((lengths > lengths[0] * 1e-6).sum()))
    return scores[:, :n_kept], lengths[:n_kept], axes[:n_kept]


def voxel_maps(
    voxels: VoxelSet, predicted_train: Sequence[np.ndarray], *, variance: float = 0.9
) -> VoxelMaps:
    """Lay out reliability, noise ceiling and activation pattern of an ROI.

    Parameters
    ----------
    voxels : VoxelSet
    predicted_train : sequence of array (n_train, n_dims)
        The decoder's predictions of the training samples, fold by fold.
    variance : float
        See :func:`activation_pattern`.

    Returns
    -------
    VoxelMaps

    Raises
    ------
    DataError
        Another number of predictions than of folds, or of samples than in a fold.
    """
    if len(predicted_train) != len(voxels.folds):
        raise DataError(
            f"interpret: got predictions for {len(predicted_train)} folds, the voxels have "
            f"{len(voxels.folds)}. Pass the decoder that was fitted on these voxels."
        )
    total = np.zeros(voxels.space.n_voxels)
    n_folds = np.zeros(voxels.space.n_voxels)
    for fold, predicted in zip(voxels.folds, predicted_train, strict=True):
        total[fold.voxel_index] += pattern_strength(fold.train.data, predicted, variance=variance)
        n_folds[fold.voxel_index] += 1
    pattern = np.full(len(total), np.nan)
    np.divide(total, n_folds, out=pattern, where=n_folds > 0)
    return VoxelMaps(
        reliability=voxels.reliability,
        ncsnr=voxels.ncsnr,
        noise_ceiling=voxels.noise_ceiling,
        pattern=pattern.astype(np.float32),
    )


def dimension_table(
    predictions: Predictions, embeddings: Embeddings, *, n_dims: int = 10, n_pictures: int = 5
) -> pd.DataFrame:
    """List the best-predicted embedding dimensions with the stimuli at their ends.

    Parameters
    ----------
    predictions : Predictions
        Of the test samples.
    embeddings : Embeddings
        The targets.
    n_dims : int
        Dimensions listed, those of the highest correlation.
    n_pictures : int
        Stimuli at either end, among all that have an embedding.

    Returns
    -------
    DataFrame
        dim (counted from 0; of tokens laid end to end), correlation (predicted with true over the
        test samples), correlation_of ("test"), n_samples, most and least (stimulus ids, the
        extreme one first). The dimensions are chosen by the very correlation that is shown, so it
        is optimistic; whether anything is decoded is for ``evaluate`` to say.

    Raises
    ------
    DataError
        Embeddings of another encoder than the decoder's.
    """
    parts = differences(predictions.fingerprint, embeddings.fingerprint)
    if parts:
        raise DataError(
            "interpret: the embeddings were made by another encoder than those that the decoder "
            f"was trained on; decoder != embeddings in {'; '.join(parts)}. Pass the embedding "
            "file that `decode` had."
        )
    truth = embeddings.vectors[embeddings.rows(predictions.stimulus_id)]
    r = _correlations(predictions.vectors, truth)
    order = np.argsort(-np.nan_to_num(r, nan=-np.inf), kind="stable")
    best = [int(dim) for dim in order[:n_dims] if np.isfinite(r[dim])]
    rows = []
    for dim in best:
        ascending = np.argsort(_values(embeddings.vectors, dim), kind="stable")
        ids = embeddings.ids.astype(str)[ascending]
        rows.append(
            {
                "dim": dim,
                "correlation": r[dim],
                "correlation_of": "test",
                "n_samples": len(truth),
                "most": SEPARATOR.join(ids[::-1][:n_pictures]),
                "least": SEPARATOR.join(ids[:n_pictures]),
            }
        )
    columns = ["dim", "correlation", "correlation_of", "n_samples", "most", "least"]
    return pd.DataFrame(rows, columns=columns)


def _correlations(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Correlate every dimension; token by token, as tokens may lie in a file; (n_dims,)."""
    if len(truth.shape) == 2:
        return correlation(predicted, truth)
    return np.concatenate(
        [
            correlation(np.asarray(predicted[:, i : i + 1])[:, 0], truth[:, i : i + 1][:, 0])
            for i in range(truth.shape[1])
        ]
    )


def _values(vectors: np.ndarray, dim: int) -> np.ndarray:
    """Return one dimension of all stimuli, tokens laid end to end; (n_stimuli,)."""
    if len(vectors.shape) == 2:
        return vectors[:, dim]
    token, inner = divmod(dim, vectors.shape[2])
    return vectors[:, token : token + 1][:, 0, inner]
