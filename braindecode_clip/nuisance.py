"""Slow drifts and other nuisance regressors: what cleaning and the GLM have in common.

Cleaning the data and estimating the trials must take the same space away, or the design
keeps a part that the data have lost. Both stages build that space here.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from braindecode_clip.checks import Problems
from braindecode_clip.constants import HEAD_RADIUS_MM
from braindecode_clip.errors import ConfigError, DataError

#: A direction of the regressors that is larger than this, relative to the largest, is never
#: taken for rounding.
LARGEST_TOLERANCE = 1e-6


def n_cosines(n_volumes: int, *, tr_s: float, high_pass_hz: float) -> int:
    """Return how many cosines lie at or below a cut-off: floor(2 n TR f)."""
    # Where 2 n TR f is a whole number, rounding decides on the last cosine; the TR is taken
    # from the volume times, and the product in this order, so that nilearn decides alike.
    spacing_s = (n_volumes - 1) * tr_s / (n_volumes - 1)
    return int(np.floor(2 * n_volumes * high_pass_hz * spacing_s))


def cosine_drifts(n_volumes: int, *, tr_s: float, high_pass_hz: float | None) -> np.ndarray:
    """Return the discrete cosines of a high-pass filter, without the constant.

    Column k is sqrt(2 / n) cos(pi k (i + 1/2) / n), the DCT-II basis of SPM and nilearn, for
    the frequencies k / (2 n TR) up to ``high_pass_hz``.

    Parameters
    ----------
    n_volumes : int
    tr_s : float
        Repetition time in seconds.
    high_pass_hz : float or None
        Cut-off in Hz; with None or 0 there are no columns.

    Returns
    -------
    ndarray (n_volumes, n_drifts) float64
        Orthonormal, each of mean 0.

    Raises
    ------
    ConfigError
        When the cut-off takes every frequency of the run away.
    """
    if not high_pass_hz:
        return np.zeros((n_volumes, 0))
    order = n_cosines(n_volumes, tr_s=tr_s, high_pass_hz=high_pass_hz)
    if high_pass_hz < 0 or order >= n_volumes - 1:
        raise ConfigError(
            f"high_pass_hz is {high_pass_hz} Hz, which leaves nothing of a run of {n_volumes} "
            f"volumes with TR {tr_s} s: expected a number above 0 and well below "
            f"{0.5 / tr_s:.4g} Hz. A common value is 0.01."
        )
    position = (np.arange(n_volumes)[:, None] + 0.5) * np.arange(1, order + 1)
    return np.sqrt(2.0 / n_volumes) * np.cos(np.pi / n_volumes * position)


def polynomial_drifts(n_volumes: int, *, order: int) -> np.ndarray:
    """Return the Legendre polynomials of degree 1 to ``order``, without the constant.

    Returns
    -------
    ndarray (n_volumes, order) float64
    """
    position = np.linspace(-1.0, 1.0, n_volumes)
    return np.polynomial.legendre.legvander(position, order)[:, 1:]


def framewise_displacement(parameters: np.ndarray) -> np.ndarray:
    """Return Power's displacement of the head from volume to volume.

    The sum of the absolute changes, rotations on a sphere of 50 mm (Power et al. 2012,
    NeuroImage 59:2142-2154).

    Parameters
    ----------
    parameters : ndarray (n_volumes, 6)
        Translations in mm, then rotations in radians.

    Returns
    -------
    ndarray (n_volumes,) float64
        mm; NaN for the first volume.
    """
    change = np.abs(np.diff(parameters, axis=0))
    return np.concatenate([[np.nan], change[:, :3].sum(1) + HEAD_RADIUS_MM * change[:, 3:].sum(1)])


def dvars(data: np.ndarray) -> np.ndarray:
    """Return the root mean square over voxels of the change from volume to volume.

    Power et al. (2012), NeuroImage 59:2142-2154.

    Parameters
    ----------
    data : ndarray (n_volumes, n_voxels)

    Returns
    -------
    ndarray (n_volumes,) float64
        In the unit of the data; NaN for the first volume.
    """
    # One pair of volumes at a time: the differences of all would be a second copy of the run.
    squares = [np.square(now - before).mean(dtype=np.float64) for before, now in pairwise(data)]
    return np.sqrt(np.concatenate([[np.nan], squares]))


def expand_confound(name: str, values: np.ndarray) -> dict[str, np.ndarray]:
    """Return a confound with its change and their squares, under fMRIPrep's names.

    Parameters
    ----------
    name : str
    values : ndarray (n_volumes,)

    Returns
    -------
    dict of str to ndarray (n_volumes,)
        ``name``, ``name_derivative1`` (NaN first), ``name_power2``,
        ``name_derivative1_power2``.
    """
    derivative = np.concatenate([[np.nan], np.diff(values)])
    return {
        name: values,
        f"{name}_derivative1": derivative,
        f"{name}_power2": values**2,
        f"{name}_derivative1_power2": derivative**2,
    }


def standardized_dvars(change: np.ndarray) -> np.ndarray:
    """Return DVARS over its median: about 1 for a volume like most others of the run.

    Parameters
    ----------
    change : ndarray (n_volumes,)
        From :func:`dvars`; NaN for the first volume.

    Returns
    -------
    ndarray (n_volumes,) float64
        NaN for the first volume, and everywhere in a run of which half does not change at all.
    """
    median = np.median(change[1:])
    return change / median if median > 0 else np.full(len(change), np.nan)


def censoring_regressors(columns: np.ndarray, censored: np.ndarray) -> np.ndarray:
    """Return regressors of a whole run whose fit is that of ``columns`` to the kept volumes.

    One more column for each censored volume, 1 there and 0 elsewhere, makes a least-squares fit
    that of the other volumes alone.

    Parameters
    ----------
    columns : ndarray (n_kept, n_columns)
        Regressors of the volumes that are not censored.
    censored : ndarray (n_volumes,) bool

    Returns
    -------
    ndarray (n_volumes, n_columns + n_censored) float64
        ``columns``, 0 in censored volumes, then the columns of these.
    """
    n_columns, volumes = columns.shape[1], np.flatnonzero(censored)
    whole = np.zeros((len(censored), n_columns + len(volumes)))
    whole[~censored, :n_columns] = columns
    whole[volumes, n_columns + np.arange(len(volumes))] = 1.0
    return whole


def orthonormal_basis(regressors: np.ndarray) -> np.ndarray:
    """Return an orthonormal basis of what the regressors span beside the constant.

    The columns are centred and scaled to unit norm before their rank is judged, so that a
    white-matter signal around 1000 and a rotation in radians count alike. Constant columns
    and linear combinations of others add nothing.

    Parameters
    ----------
    regressors : ndarray (n_volumes, n_regressors)
        float32 or float64; the precision of the dtype decides what counts as a combination.

    Returns
    -------
    ndarray (n_volumes, rank) float64
        Every column has mean 0 and norm 1.
    """
    regressors = np.asarray(regressors)
    precision = regressors.dtype if regressors.dtype.kind == "f" else np.dtype(np.float64)
    eps = float(np.finfo(precision).eps) * max(regressors.shape)
    columns = regressors.astype(np.float64)
    size = np.linalg.norm(columns, axis=0)
    columns -= columns.mean(axis=0, keepdims=True)
    norm = np.linalg.norm(columns, axis=0)
    varies = norm > eps * size
    columns = columns[:, varies] / norm[varies]
    if columns.shape[1] == 0:
        return columns
    # Centring 1e5 + 0.01 x loses seven digits of x: what is known of the columns is that exact.
    lost = float((size[varies] / norm[varies]).max())
    tolerance = min(eps * lost, LARGEST_TOLERANCE)
    left, singular, _ = np.linalg.svd(columns, full_matrices=False)
    basis = left[:, singular > tolerance * singular[0]]
    # Centring again removes what rounding brought back of the constant.
    return basis - basis.mean(axis=0)


def project_out(basis: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Return the part of ``columns`` that is orthogonal to an orthonormal basis.

    Parameters
    ----------
    basis : ndarray (n_volumes, rank)
    columns : ndarray (n_volumes, n_columns)

    Returns
    -------
    ndarray (n_volumes, n_columns)
    """
    rest = columns - basis @ (basis.T @ columns)
    # Once is not enough where little remains: the second pass is at rounding level.
    return rest - basis @ (basis.T @ rest)


def check_finite_columns(
    values: np.ndarray, *, names: list[str], n_volumes: int, where: str
) -> None:
    """Check that regressors have one finite row for each volume.

    Raises
    ------
    DataError
        Naming the columns and the rows (counted from 0).
    """
    problems = Problems(where)
    if len(values) != n_volumes:
        problems.add(
            f"has {len(values)} rows, expected one for each of the {n_volumes} volumes. "
            "Is it the file of another run?"
        )
    for name, column in zip(names, values.T, strict=True):
        bad = np.flatnonzero(~np.isfinite(column))
        if len(bad):
            problems.add(
                f"column '{name}' is NaN or infinite in {len(bad)} rows (first: row {bad[0]}). "
                "Fill it or leave the column out."
            )
    problems.raise_if_any(DataError)
