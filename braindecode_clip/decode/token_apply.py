"""Predicting tokens with a stored decoder, some targets at a time."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from braindecode_clip.artifacts import Embeddings, Predictions, VoxelSet
from braindecode_clip.decode.calibrate import apply_calibration, standardise
from braindecode_clip.decode.fit import check_fingerprint, check_same_voxels, predictions_of
from braindecode_clip.decode.fitted import FittedDecoder, FoldDecoder, predict_samples
from braindecode_clip.decode.token_space import BLOCK_BYTES, target_blocks, tokens_of
from braindecode_clip.errors import ArtifactError

#: Makes room for an array: in memory, or in the file that it is going to be stored in.
MakeArray = Callable[[tuple[int, ...], Any], Any]


def raw_token_blocks(
    decoder: FoldDecoder, X: np.ndarray, *, kind: str, embeddings: Embeddings
) -> Iterator[tuple[slice, np.ndarray]]:
    """Predict some targets at a time, before calibration.

    Parameters
    ----------
    decoder : FoldDecoder
        Of token targets. Weights may be left in their file.
    X : ndarray (n_samples, n_kept)
    kind : {"ridge", "contrastive", "mlp"}
    embeddings : Embeddings
        Those that it was trained on: all but ridge predict weights of the training targets.

    Yields
    ------
    slice
        Which targets, tokens laid end to end.
    ndarray (n_samples, n_block) float64

    Raises
    ------
    ArtifactError
        Another number of voxels, ridge without weights, or training stimuli without embedding.
    """
    if X.shape[1] != len(decoder.voxel_index):
        raise ArtifactError(
            f"decoder of fold '{decoder.fold}': got {X.shape[1]} voxels, it was fitted on "
            f"{len(decoder.voxel_index)}. Pass the voxels that it was fitted on."
        )
    arrays = {item.name: item.data for item in decoder.arrays}
    if kind == "ridge":
        if "coef" not in arrays:
            raise ArtifactError(
                f"decoder of fold '{decoder.fold}': was stored without its weights. Fit it again."
            )
        n_dims = embeddings.vectors.shape[2]
        step = max(1, BLOCK_BYTES // (4 * len(decoder.voxel_index) * n_dims)) * n_dims
        for start in range(0, len(decoder.gain), step):
            part = slice(start, min(start + step, len(decoder.gain)))
            weights = np.asarray(arrays["coef"][:, tokens_of(part, n_dims)])
            raw = X @ weights.reshape(len(weights), -1) + arrays["intercept"][part]
            yield part, raw.astype(np.float64)
        return
    n_coordinates = len(arrays["token_mix"])
    plain = dataclasses.replace(
        decoder,
        gain=np.ones(n_coordinates, np.float32),
        offset=np.zeros(n_coordinates, np.float32),
    )
    coordinates = predict_samples(plain, X, kind=kind)
    targets = embeddings.vectors[embeddings.rows(arrays["token_stimuli"])]
    yield from mixed_blocks(coordinates, arrays["token_mix"], targets)


def mixed_blocks(
    coordinates: np.ndarray, mix: np.ndarray, targets: Any
) -> Iterator[tuple[slice, np.ndarray]]:
    """Turn coordinates (n, k) of a ``TargetSpace`` into some targets at a time."""
    left = coordinates.astype(np.float64) @ mix
    for part, block in target_blocks(targets):
        mean = block.mean(axis=0)
        yield part, mean + left @ (block - mean)


def calibrate_tokens(
    out: Any,
    rows: slice,
    *,
    gain: np.ndarray,
    offset: np.ndarray,
    intercept: np.ndarray | None = None,
    transductive: bool = False,
) -> None:
    """Calibrate the predictions of some rows in place; (n, n_tokens, n_dims).

    Parameters
    ----------
    out : array-like (n_queries, n_tokens, n_dims)
    rows : slice
    gain, offset : ndarray (n_targets,)
    intercept : ndarray (n_targets,), optional
        Added before.
    transductive : bool
        Standardise over the rows before.
    """
    n_dims = out.shape[2]
    n_rows = rows.stop - rows.start
    step = max(1, BLOCK_BYTES // (8 * n_rows * n_dims)) * n_dims
    for start in range(0, len(gain), step):
        part = slice(start, min(start + step, len(gain)))
        tokens = tokens_of(part, n_dims)
        raw = np.asarray(out[rows, tokens]).reshape(n_rows, -1).astype(np.float64)
        if intercept is not None:
            raw += intercept[part]
        if transductive:
            raw = standardise(raw)
        found = apply_calibration(raw, gain[part], offset[part])
        out[rows, tokens] = found.reshape(n_rows, -1, n_dims)


def apply_tokens(
    fitted: FittedDecoder,
    voxels: VoxelSet,
    embeddings: Embeddings,
    *,
    make_array: MakeArray = np.empty,
) -> Predictions:
    """Predict the test rows of a voxel set with a stored decoder of tokens.

    Parameters and errors are those of :func:`braindecode_clip.decode.apply_decoder`; the
    predictions are written into what ``make_array`` returns.
    """
    check_fingerprint(fitted.fingerprint, embeddings.fingerprint)
    check_same_voxels(fitted, voxels)
    out = make_array((n_queries(voxels), *embeddings.vectors.shape[1:]), np.float32)
    for (rows, fold), decoder in zip(test_rows(voxels), fitted.folds, strict=True):
        blocks = raw_token_blocks(decoder, fold.test.data, kind=fitted.kind, embeddings=embeddings)
        write_blocks(out, rows, blocks)
        calibrate_tokens(
            out,
            rows,
            gain=decoder.gain,
            offset=decoder.offset,
            transductive=fitted.transductive,
        )
    return predictions_of(fitted, voxels, out)


def write_blocks(out: Any, rows: slice, blocks: Iterator[tuple[slice, np.ndarray]]) -> None:
    """Write blocks of targets into some rows of (n_queries, n_tokens, n_dims)."""
    n_dims = out.shape[2]
    for part, block in blocks:
        out[rows, tokens_of(part, n_dims)] = block.reshape(len(block), -1, n_dims)


def n_queries(voxels: VoxelSet) -> int:
    """Return the number of test rows of all folds."""
    return sum(len(fold.test.data) for fold in voxels.folds)


def test_rows(voxels: VoxelSet) -> Iterator[tuple[slice, Any]]:
    """Yield every fold with the rows of its test part among those of all folds."""
    start = 0
    for fold in voxels.folds:
        stop = start + len(fold.test.data)
        yield slice(start, stop), fold
        start = stop


def prediction_coordinates(
    decoder: FoldDecoder, X: np.ndarray, *, kind: str, embeddings: Embeddings
) -> np.ndarray:
    """Return vectors with the inner products of the centred, calibrated token predictions.

    What depends on predictions by their covariance over samples alone, such as the activation
    pattern's strength, is the same for them.

    Returns
    -------
    ndarray (n_samples, n_samples) float64
    """
    gram = np.zeros((len(X), len(X)))
    for part, raw in raw_token_blocks(decoder, X, kind=kind, embeddings=embeddings):
        block = (raw - raw.mean(axis=0)) * decoder.gain[part]
        gram += block @ block.T
    values, vectors = np.linalg.eigh(gram)
    return vectors * np.sqrt(np.maximum(values, 0))
