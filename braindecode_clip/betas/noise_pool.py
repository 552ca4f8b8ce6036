"""Noise regressors from voxels that the task does not explain.

The idea is GLMdenoise's: time courses that such voxels share are noise wherever they occur, so
their principal components are regressed out of all voxels, as many as help to predict other
runs. Kay et al. (2013), Frontiers in Neuroscience 7:247.
"""

from __future__ import annotations

import numpy as np

#: Fewer voxels than this make no principal components worth the name.
MIN_VOXELS = 20

#: The smallest number of components that reaches this share of the best gain is taken, as by
#: GLMdenoise (``pcstop`` 1.05).
SHARE_OF_BEST = 0.95


def noise_pool(r2: np.ndarray, mean: np.ndarray, *, mean_share: float) -> np.ndarray:
    """Return which voxels (bool) the task does not explain.

    Parameters
    ----------
    r2 : ndarray (n_voxels,)
        Cross-validated: 0 or below where other runs predict nothing.
    mean : ndarray (n_voxels,)
        Temporal mean in the scanner's unit.
    mean_share : float
        Voxels darker than this share of the 99th percentile are left out.
    """
    bright = mean >= mean_share * np.percentile(mean, 99)
    return bright & (r2 <= 0)


def unit_gram(signals: np.ndarray) -> np.ndarray:
    """Return the products (n_volumes, n_volumes) of volumes, every voxel scaled to norm 1."""
    norm = np.sqrt(np.einsum("ij,ij->j", signals, signals, dtype=np.float64))
    scaled = signals[:, norm > 0] / norm[norm > 0].astype(signals.dtype)
    return (scaled @ scaled.T).astype(np.float64)


def principal_components(gram: np.ndarray, number: int) -> np.ndarray:
    """Return the leading components (n_volumes, number) of a matrix of products, unit norm."""
    values, vectors = np.linalg.eigh(gram)
    kept = values[::-1][:number] > values[-1] * 1e-6
    return vectors[:, ::-1][:, :number][:, kept]


def enough_components(gains: np.ndarray) -> int:
    """Return the smallest number whose gain comes near the best; 0 where none helps.

    Parameters
    ----------
    gains : ndarray (1 + n_compared,)
        Gain in prediction with 0, 1, ... components.
    """
    over_none = gains - gains[0]
    best = over_none.max()
    if not best > 0:
        return 0
    return int(np.flatnonzero(over_none >= SHARE_OF_BEST * best)[0])
