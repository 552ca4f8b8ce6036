"""Take the few large eigenvalues out of a Gram matrix, and bound those that are left.

Voxels share much of their variance: a Gram matrix of fMRI responses has some eigenvalues that are
a hundred or a thousand times those of its bulk. Without them it is well conditioned: float32 is
enough, and few poles serve all penalties (:mod:`braindecode_clip.decode.poles`). The part that was
taken out comes back by the Woodbury identity, which is exact whether or not the vectors are
eigenvectors to the last digit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.linalg

#: Vectors looked for; those of the bulk do not converge and stay.
N_VECTORS = 128
#: Vectors iterated on top of these, which makes the others converge faster.
N_SPARE = 16
#: Products of the subspace iteration after the first.
N_ITERATIONS = 2
#: A vector is taken out where its residual is below this share of the bulk's upper end ...
CONVERGED = 0.1
#: ... and its eigenvalue above this multiple of it.
ABOVE_BULK = 1.2
#: Width and length of the Krylov space that the bounds come from.
KRYLOV_WIDTH, KRYLOV_LENGTH = 6, 12
#: The outermost Ritz values lie inside the spectrum: what is added on either side.
MARGIN_LOW, MARGIN_HIGH = 0.9, 1.02


@dataclass(frozen=True)
class Deflated:
    """What was taken out of a Gram matrix.

    Attributes
    ----------
    vectors : ndarray (n, q)
        Orthonormal.
    excess : ndarray (q,) float64
        Above 0; the matrix was ``deflated + vectors diag(excess) vectorsᵀ``.
    bulk : float
        Upper end of the other eigenvalues, about; those taken out were lowered to it.
    """

    vectors: np.ndarray
    excess: np.ndarray
    bulk: float


def deflate(gram: np.ndarray, *, rng: np.random.Generator) -> Deflated:
    """Lower the largest eigenvalues to the rest, by subspace iteration.

    Parameters
    ----------
    gram : ndarray (n, n)
        Symmetric, positive semi-definite; it is overwritten with the deflated matrix.
    rng : numpy.random.Generator
        Start of the iteration; it decides rounding alone.

    Returns
    -------
    Deflated

    References
    ----------
    Halko, Martinsson & Tropp (2011), SIAM Review 53, algorithm 4.4.
    """
    width = min(N_VECTORS + N_SPARE, len(gram) // 4)
    start = rng.standard_normal((len(gram), width)).astype(gram.dtype)
    space = _orthonormal(gram @ start)
    for _ in range(N_ITERATIONS):
        space = _orthonormal(gram @ space)
    image = gram @ space
    values, turn = np.linalg.eigh(space.T @ image)
    vectors = space @ turn
    residual = np.linalg.norm(image @ turn - vectors * values, axis=0)
    bulk = float(np.median(values[:N_SPARE]))
    taken = (residual < CONVERGED * bulk) & (values > ABOVE_BULK * bulk)
    vectors = np.ascontiguousarray(vectors[:, taken])
    excess = values[taken].astype(np.float64) - bulk
    gram -= (vectors * excess.astype(gram.dtype)) @ vectors.T
    return Deflated(vectors=vectors, excess=excess, bulk=bulk)


def spectrum_bounds(gram: np.ndarray, *, rng: np.random.Generator) -> tuple[float, float]:
    """Return numbers a little outside the smallest and largest eigenvalue.

    Ritz values of a block Krylov space; a lone small eigenvalue can be overlooked, so whoever
    relies on the lower bound checks what comes of it.

    Parameters
    ----------
    gram : ndarray (n, n)
        Symmetric.
    rng : numpy.random.Generator

    Returns
    -------
    low, high : float
    """
    width = min(KRYLOV_WIDTH, max(1, len(gram) // KRYLOV_LENGTH))
    block = rng.standard_normal((len(gram), width)).astype(gram.dtype)
    block = np.linalg.qr(block)[0]
    space, images = block, []
    for _ in range(KRYLOV_LENGTH):
        image = gram @ block
        images.append(image)
        # Twice: after one pass of float32 what is left is not orthogonal.
        rest = image - space @ (space.T @ image)
        rest -= space @ (space.T @ rest)
        block = np.linalg.qr(rest)[0]
        space = np.hstack([space, block])
    space = space[:, : width * KRYLOV_LENGTH].astype(np.float64)
    projected = space.T @ np.hstack(images)
    values = np.linalg.eigvalsh((projected + projected.T) / 2)
    return MARGIN_LOW * float(values[0]), MARGIN_HIGH * float(values[-1])


def _orthonormal(block: np.ndarray) -> np.ndarray:
    """Return an orthonormal basis of the columns, in their dtype."""
    # By the Gram matrix, several times faster than Householder's way. It squares the condition
    # number, for which float64 leaves room.
    exact = block.astype(np.float64)
    try:
        lower = np.linalg.cholesky(exact.T @ exact)
    except np.linalg.LinAlgError:
        return np.linalg.qr(block)[0]
    basis = scipy.linalg.solve_triangular(lower, exact.T, lower=True, check_finite=False).T
    return np.ascontiguousarray(basis.astype(block.dtype))
