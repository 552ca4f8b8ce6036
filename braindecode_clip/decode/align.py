"""Functional alignment of voxel spaces by the responses to stimuli that subjects share.

A map from one voxel space into another is found on shared stimuli alone, and can then carry
any other responses. Stimuli that are to be tested must not be among them: :func:`common_means`
refuses them.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from braindecode_clip.checks import Problems, some
from braindecode_clip.errors import DataError, LeakageError

#: Fewest stimuli that span a space to align in: a plane.
FEWEST_SHARED = 3


def procrustes(X: np.ndarray, Y: np.ndarray, *, whitening: float = 0.0) -> np.ndarray:
    r"""Return the best map with orthonormal rows or columns from one voxel space to another.

    It maximises :math:`\mathrm{tr}(Y^T X R)`: with :math:`X^T Y = U S V^T`, :math:`R = U V^T`
    (Schönemann 1966, Psychometrika 31:1-10). Spaces of equal size give a rotation, for which
    this is also the least-squares map. With ``whitening`` w above 0 the columns are rotated
    after :math:`((1 - w) I + w X^T X / s)^{-1/2}` with s the mean eigenvalue, from Procrustes
    (0) to canonical correlation (1), the regularised hyperalignment of Xu et al. (2012, IEEE
    SSP, 229-232); the map then includes the whitening.

    Parameters
    ----------
    X : ndarray (n_stimuli, n_x)
        Rows of both are the same stimuli; columns are centred here.
    Y : ndarray (n_stimuli, n_y)
        n_x and n_y may differ.
    whitening : float in [0, 1)

    Returns
    -------
    ndarray (n_x, n_y) float64
        ``centred X @ R`` lies in the space of Y.

    Raises
    ------
    DataError
        Unequal numbers of rows, or fewer than two.
    ValueError
        ``whitening`` out of range.
    """
    if not 0 <= whitening < 1:
        raise ValueError(f"whitening is {whitening}, expected 0 to below 1.")
    X, Y = _centred([X, Y])
    if whitening == 0:
        return _polar(X.T @ Y)
    transform = _whitener(X, whitening)
    return transform @ _polar(transform @ X.T @ Y @ _whitener(Y, whitening))


@dataclass(frozen=True)
class Alignment:
    """Maps from the voxels of several subjects into a common space.

    Attributes
    ----------
    maps : tuple of ndarray (n_voxels, n_components) float64
        Orthonormal columns.
    means : tuple of ndarray (n_voxels,) float64
        Of the shared stimuli, for each subject.
    shared : ndarray (n_stimuli, n_components) float64
        Shared responses.
    errors : ndarray (n_iterations,) float64
        Share of the variance of all subjects that the common space leaves, after each
        iteration; it never rises.
    """

    maps: tuple[np.ndarray, ...]
    means: tuple[np.ndarray, ...]
    shared: np.ndarray
    errors: np.ndarray

    def transform(self, X: np.ndarray, subject: int) -> np.ndarray:
        """Carry responses (n, n_voxels) of a subject into the common space."""
        return (np.asarray(X, dtype=np.float64) - self.means[subject]) @ self.maps[subject]


def hyperalign(
    responses: Sequence[np.ndarray],
    *,
    n_components: int,
    n_iterations: int = 50,
    tolerance: float = 1e-7,
) -> Alignment:
    r"""Align several subjects by iterated generalised Procrustes.

    It minimises :math:`\sum_s \lVert X_s - G R_s^T \rVert^2` over shared responses G and maps
    with orthonormal columns R_s, each in turn in closed form: :math:`R_s` from the singular
    vectors of :math:`X_s^T G`, G as the mean of :math:`X_s R_s` (hyperalignment, Haxby et al.
    2011, Neuron 72:404-416, in the reduced form of Chen et al. 2015, NIPS 28:460-468). It
    starts at the leading left singular vectors of all subjects side by side.

    Parameters
    ----------
    responses : sequence of ndarray (n_stimuli, n_voxels)
        The same stimuli in the same order; numbers of voxels may differ.
    n_components : int
        Of the common space; at most the voxels of any subject and the stimuli less one.
    n_iterations : int
        At most.
    tolerance : float
        Stop when the error falls by less than this share of the variance.

    Raises
    ------
    DataError
        Fewer than two subjects, other rows, or too many components.
    """
    if len(responses) < 2:
        raise DataError(f"got {len(responses)} subjects, expected two or more to align.")
    means = tuple(np.asarray(X).mean(axis=0, dtype=np.float64) for X in responses)
    centred = _centred(responses)
    most = min(len(centred[0]) - 1, *(X.shape[1] for X in centred))
    if not 1 <= n_components <= most:
        raise DataError(
            f"n_components is {n_components}, expected 1 to {most} (voxels of the smallest "
            "subject, or shared stimuli less one)."
        )
    total = sum(float(np.square(X).sum()) for X in centred)
    left, values, _ = np.linalg.svd(np.hstack(centred), full_matrices=False)
    shared = left[:, :n_components] * values[:n_components] / np.sqrt(len(centred))
    errors: list[float] = []
    for _ in range(n_iterations):
        maps = tuple(_polar(X.T @ shared) for X in centred)
        shared = np.mean([X @ R for X, R in zip(centred, maps, strict=True)], axis=0)
        # ‖X - G Rᵀ‖² = ‖X‖² - 2 tr(Gᵀ X R) + ‖G‖², and the mean of X R over subjects is G.
        errors.append(1 - len(centred) * float(np.square(shared).sum()) / total)
        if len(errors) > 1 and errors[-2] - errors[-1] < tolerance:
            break
    return Alignment(maps, means, shared, np.array(errors))


def common_means(
    responses: Sequence[np.ndarray],
    ids: Sequence[np.ndarray],
    *,
    names: Sequence[str],
    test_ids: Collection[str],
) -> list[np.ndarray]:
    """Return every subject's mean responses to the stimuli that all share, in one order.

    Parameters
    ----------
    responses : sequence of ndarray (n_samples, n_voxels)
        Training trials of every subject.
    ids : sequence of ndarray (n_samples,) str
        Their stimuli.
    names : sequence of str
        Labels of the subjects, for the message.
    test_ids : collection of str
        Stimuli that anything aligned here is going to be tested on.

    Returns
    -------
    list of ndarray (n_shared, n_voxels) float64

    Raises
    ------
    LeakageError
        A test stimulus is among the shared ones.
    DataError
        Fewer than three shared stimuli.
    """
    shared = sorted(set.intersection(*(set(map(str, part)) for part in ids)))
    tested = sorted(set(shared) & set(map(str, test_ids)))
    if tested:
        raise LeakageError(
            f"alignment: {len(tested)} of {len(shared)} shared stimuli are test stimuli: "
            f"{some(tested)}. Align on training stimuli alone."
        )
    if len(shared) < FEWEST_SHARED:
        raise DataError(
            f"alignment of sub-{', sub-'.join(names)}: they share {len(shared)} training stimuli, "
            f"expected {FEWEST_SHARED} or more. Set 'alignment' to 'none': the shared decoder "
            "needs no stimulus that subjects share."
        )
    found = []
    for X, part in zip(responses, ids, strict=True):
        position = {name: i for i, name in enumerate(shared)}
        rows = np.array([i for i, name in enumerate(part) if str(name) in position])
        place = np.array([position[str(part[i])] for i in rows])
        total = np.zeros((len(shared), X.shape[1]))
        np.add.at(total, place, np.asarray(X, dtype=np.float64)[rows])
        found.append(total / np.bincount(place)[:, None])
    return found


def _polar(product: np.ndarray) -> np.ndarray:
    left, _, right = np.linalg.svd(product, full_matrices=False)
    return left @ right


def _whitener(X: np.ndarray, whitening: float) -> np.ndarray:
    covariance = X.T @ X
    values, vectors = np.linalg.eigh(
        covariance / max(np.trace(covariance) / len(covariance), 1e-300)
    )
    return (vectors / np.sqrt(1 - whitening + whitening * np.maximum(values, 0))) @ vectors.T


def _centred(responses: Sequence[np.ndarray]) -> list[np.ndarray]:
    problems = Problems("alignment")
    rows = [len(X) for X in responses]
    if len(set(rows)) > 1 or min(rows) < 2:
        problems.add(
            f"got {some(rows)} rows, expected the same two or more stimuli in the same order for "
            "every subject."
        )
    if not all(np.isfinite(X).all() for X in responses):
        problems.add("responses hold NaN or infinite numbers. Leave those voxels out.")
    problems.raise_if_any(DataError)
    return [
        np.asarray(X, dtype=np.float64) - np.mean(X, axis=0, dtype=np.float64) for X in responses
    ]
