"""Coordinates of token targets: as many as there are training stimuli, whatever the tokens.

The tokens of u training stimuli, less their mean, span at most u - 1 dimensions of the 197,376
of a ViT-L/14. In an orthonormal basis Q of that span, ``Y - mean = Z Qᵀ``, and squared errors and
cosines of whole token vectors are those of the coordinates Z: a decoder that learns Z has a last
layer of u - 1 outputs and loses nothing. Back to tokens it goes by the training targets
themselves: ``Qᵀ = mix (Y - mean)``, read in blocks.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import scipy.fft
import scipy.linalg

#: Bytes of float64 targets that are alive at one time.
BLOCK_BYTES = 2**26
#: Directions of less than this share of the largest eigenvalue are rounding.
SMALLEST = 1e-12


class TargetSpace:
    """Coordinates of targets, and the way back.

    The coordinates are principal components, turned so that all have about the same spread: a
    cosine transform after random signs. Optimisers with one rate for all outputs, and penalties
    relative to the mean spread, then treat them as they would the targets.

    Parameters
    ----------
    targets : array-like (n_stimuli, n_tokens, n_dims)
        One row for each training stimulus.
    n_components : int, optional
        Keep so many principal components; all by default.
    seed : int
        Of the signs.

    Attributes
    ----------
    coordinates : ndarray (n_stimuli, k) float32
    mix : ndarray (k, n_stimuli) float32
        Orthonormal coordinates to weights of the centred targets; its rows add up to 0.
    """

    def __init__(self, targets: Any, *, n_components: int | None = None, seed: int = 0) -> None:
        gram = np.zeros((len(targets), len(targets)))
        for _, block in target_blocks(targets):
            centred = block - block.mean(axis=0)
            gram += centred @ centred.T
        values, vectors = scipy.linalg.eigh(gram, driver="evd", overwrite_a=True)
        kept = np.flatnonzero(values > SMALLEST * max(values[-1], np.finfo(float).tiny))[::-1]
        # One direction of n rows is lost with their mean, whatever rounding says.
        kept = kept[: min(n_components or len(kept), max(1, len(values) - 1))]
        root, vectors = np.sqrt(values[kept]), vectors[:, kept]
        signs = np.random.default_rng(seed).choice([-1.0, 1.0], size=len(kept))
        turned = scipy.fft.dct(vectors * root * signs, axis=1, norm="ortho")
        self.coordinates = turned.astype(np.float32)
        back = scipy.fft.dct((signs / root)[:, None] * vectors.T, axis=0, norm="ortho")
        self.mix = back.astype(np.float32)


def target_blocks(targets: Any) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield some tokens of all rows: the targets' slice, and (n, n_block) float64."""
    n_rows, n_tokens, n_dims = targets.shape
    step = max(1, BLOCK_BYTES // (8 * n_rows * n_dims))
    for start in range(0, n_tokens, step):
        stop = min(start + step, n_tokens)
        block = np.asarray(targets[:, start:stop], dtype=np.float64)
        yield slice(start * n_dims, stop * n_dims), block.reshape(n_rows, -1)


def tokens_of(part: slice, n_dims: int) -> slice:
    """Return the tokens of a block of whole tokens, laid end to end."""
    return slice(part.start // n_dims, part.stop // n_dims)
