"""Ranks, identification scores and per-dimension scores, each with its chance level.

A rank is 1-based and the best candidate has rank 1. Candidates as similar as the true one
count one half each, so that the rank is the mean over all orders of the tie:

.. math:: r_i = 1 + b_i + t_i / 2

with :math:`b_i` distractors more similar to the prediction than the true candidate
("better") and :math:`t_i` equally similar ("tied"), of :math:`d_i` distractors.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from scipy.special import digamma, gammaln, ndtri

from braindecode_clip.checks import Problems, some
from braindecode_clip.errors import DataError

#: A variance below this share of the second moment is rounding: the dimension is constant.
CONSTANT_SHARE = 1e-12


def count_better(
    similarity: np.ndarray, true_index: np.ndarray, *, distractors: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Count the distractors above and level with the true candidate.

    Parameters
    ----------
    similarity : array (n_queries, n_gallery)
    true_index : int array (n_queries,)
        Column of the true candidate.
    distractors : bool array (n_queries, n_gallery), optional
        Which columns compete with the true one; every other column by default. The entry of
        the true column is ignored.

    Returns
    -------
    n_better, n_tied : ndarray (n_queries,) int64

    Raises
    ------
    DataError
        NaN in ``similarity`` (it would rank silently below everything), or an index
        outside the gallery.
    """
    similarity = np.asarray(similarity)
    true_index = check_true_index(true_index, similarity.shape)
    _refuse_nan(similarity)
    true = similarity[np.arange(len(similarity)), true_index][:, None]
    better, level = similarity > true, similarity == true
    if distractors is not None:
        better &= distractors
        level &= distractors
    level[np.arange(len(similarity)), true_index] = False
    return np.count_nonzero(better, axis=1), np.count_nonzero(level, axis=1)


def check_true_index(true_index: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return ``true_index`` as int64 after checking it against (n_queries, n_gallery)."""
    true_index = np.asarray(true_index)
    problems = Problems("true_index")
    if len(shape) != 2 or true_index.shape != shape[:1]:
        problems.add(
            f"has shape {true_index.shape}, expected one index for each query of a "
            f"(n_queries, n_gallery) table of shape {tuple(shape)}."
        )
    elif true_index.dtype.kind not in "iu":
        problems.add(f"has dtype {true_index.dtype}, expected integers (columns of the gallery).")
    else:
        outside = np.flatnonzero((true_index < 0) | (true_index >= shape[1]))
        if len(outside):
            problems.add(
                f"points outside the gallery of {shape[1]} for {len(outside)} queries, rows "
                f"{some(outside.tolist())}. Count from 0."
            )
    problems.raise_if_any()
    return true_index.astype(np.int64)


def ranks(n_better: np.ndarray, n_tied: np.ndarray) -> np.ndarray:
    """Return the mean ranks 1 + better + tied / 2, float64."""
    return 1.0 + np.asarray(n_better) + np.asarray(n_tied) / 2.0


def rank_matrix(similarity: np.ndarray) -> np.ndarray:
    """Rank all candidates of every query: the rank each would have as the true one.

    Parameters
    ----------
    similarity : array (n_queries, n_gallery)
        Without NaN.

    Returns
    -------
    ndarray (n_queries, n_gallery) float32
        Mean ranks; halves are exact up to 2**23 candidates.
    """
    similarity = np.asarray(similarity)
    n_queries, n_gallery = similarity.shape
    result = np.empty((n_queries, n_gallery), dtype=np.float32)
    positions = np.arange(n_gallery)
    for row, values in enumerate(similarity):
        order = np.argsort(values)
        sorted_values = values[order]
        new = np.r_[True, sorted_values[1:] != sorted_values[:-1]]
        run = np.cumsum(new) - 1
        starts = np.flatnonzero(new)
        ends = np.r_[starts[1:], n_gallery] - 1
        # Ascending positions first..last share a tie; counted from the best, the mean is this.
        result[row, order] = n_gallery - (positions[starts] + ends)[run] / 2.0
    return result


def count_matrix(
    similarity: np.ndarray, *, n_columns: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Count what is above and level with every candidate, as if it were the true one.

    Parameters
    ----------
    similarity : array (n_queries, n_gallery)
        Without NaN.
    n_columns : int, optional
        Only the first columns are asked for; all of them compete.

    Returns
    -------
    n_better, n_tied : ndarray (n_queries, n_columns) int32
        :func:`count_better` of every column.

    Raises
    ------
    DataError
        NaN in ``similarity``.
    """
    similarity = np.asarray(similarity)
    _refuse_nan(similarity)
    n_queries, n_gallery = similarity.shape
    n_columns = n_gallery if n_columns is None else n_columns
    better = np.empty((n_queries, n_columns), dtype=np.int32)
    tied = np.empty((n_queries, n_columns), dtype=np.int32)
    for row, values in enumerate(similarity):
        ascending = np.sort(values)
        wanted = values[:n_columns]
        up_to = np.searchsorted(ascending, wanted, side="right")
        better[row] = n_gallery - up_to
        tied[row] = up_to - np.searchsorted(ascending, wanted, side="left") - 1
    return better, tied


def _refuse_nan(similarity: np.ndarray) -> None:
    rows = np.flatnonzero(np.isnan(similarity).any(axis=1))
    if len(rows):
        raise DataError(
            f"similarity: NaN for {len(rows)} queries, rows {some(rows.tolist())}; "
            "NaN has no rank. Look for NaN in the predictions or the embeddings."
        )


def top_k(rank: np.ndarray, k: int) -> float:
    """Return the share of queries with rank at most ``k``.

    A query tied over the border counts fully or not at all, by its mean rank: two equal
    candidates at the top have rank 1.5 each, so neither is a top-1 hit.
    """
    return float(np.mean(np.asarray(rank) <= k))


def pairwise(rank: np.ndarray, n_distractors: np.ndarray | int) -> float:
    """Return the share of distractors beaten (2AFC, chance 0.5), the mean over queries.

    A tie counts one half; with ranks as mean ranks, ``n_distractors - (rank - 1)`` are beaten.
    """
    return float(np.mean(1.0 - (np.asarray(rank) - 1.0) / np.asarray(n_distractors)))


def percentile_rank(rank: np.ndarray, n_gallery: np.ndarray | int) -> float:
    r"""Return the mean of the true candidates' percentile ranks, as a share (chance 0.5).

    .. math:: \mathrm{PR} = (n - r + 1/2) / n

    with rank r of n candidates: those below count, and of those level with it, itself among
    them, one half (Roscoe, Fundamental Research Statistics, 1975). Unlike :func:`pairwise` it
    counts the true candidate, and so never is 0 or 1.
    """
    n_gallery = np.asarray(n_gallery, dtype=np.float64)
    return float(np.mean((n_gallery - np.asarray(rank) + 0.5) / n_gallery))


def mean_reciprocal_rank(rank: np.ndarray) -> float:
    """Return the mean of 1 / rank."""
    return float(np.mean(1.0 / np.asarray(rank)))


def chance_top_k(k: int, n_gallery: np.ndarray | int) -> float:
    """Return k / n_gallery, at most 1; the mean over queries when their galleries differ."""
    return float(np.mean(np.minimum(1.0, k / np.asarray(n_gallery, dtype=np.float64))))


def chance_rank(n_gallery: np.ndarray | int) -> float:
    """Return (n_gallery + 1) / 2: the expected mean rank, and the median rank, of a guess."""
    return float(np.mean((np.asarray(n_gallery, dtype=np.float64) + 1.0) / 2.0))


def chance_reciprocal_rank(n_gallery: np.ndarray | int) -> float:
    """Return (1 + 1/2 + ... + 1/n_gallery) / n_gallery: the expected 1 / rank of a guess."""
    size = np.asarray(n_gallery, dtype=np.float64)
    return float(np.mean((digamma(size + 1.0) + np.euler_gamma) / size))


def expected_top_k(
    n_better: np.ndarray,
    n_tied: np.ndarray,
    n_distractors: np.ndarray | int,
    *,
    k: int,
    pool: int,
) -> np.ndarray:
    r"""Expect a top-k hit in a pool: exact over all pools, nothing is drawn.

    A pool is the true candidate with ``pool - 1`` of the distractors, all subsets alike. The
    better ones among them are hypergeometric, so without ties

    .. math:: P(r \le k) = \mathrm{F_{hyper}}(k - 1;\; d,\, b,\, m - 1)

    with d distractors of which b are better, and pools of m. With ties, B better and T tied
    ones fall into the pool (multivariate hypergeometric) and :math:`P(B + T/2 \le k - 1)` is
    summed.

    Parameters
    ----------
    n_better, n_tied : int array (n_queries,)
    n_distractors : int or int array (n_queries,)
        In the full gallery.
    k : int
        At least 1.
    pool : int
        Size of the pool with the true candidate, 2 to ``n_distractors + 1``.

    Returns
    -------
    ndarray (n_queries,) float64
        Probability of a hit; its mean is the expected top-k accuracy.

    Raises
    ------
    DataError
        ``k`` or ``pool`` out of range.
    """
    better = np.asarray(n_better, dtype=np.int64)
    tied = np.broadcast_to(np.asarray(n_tied, dtype=np.int64), better.shape)
    total = np.broadcast_to(np.asarray(n_distractors, dtype=np.int64), better.shape)
    if k < 1 or pool < 2 or (total < pool - 1).any():
        raise DataError(
            f"expected_top_k: got k={k}, pool={pool}; expected k >= 1 and pools of 2 to "
            f"{int(total.min()) + 1} (the smallest gallery)."
        )
    log_pools = _log_choose(total, pool - 1)
    result = np.zeros(better.shape)
    for n_in_better in range(min(k, pool)):
        most_tied = min(2 * (k - 1 - n_in_better), pool - 1 - n_in_better)
        for n_in_tied in range(min(most_tied, int(tied.max(initial=0))) + 1):
            n_rest = pool - 1 - n_in_better - n_in_tied
            result += np.exp(
                _log_choose(better, n_in_better)
                + _log_choose(tied, n_in_tied)
                + _log_choose(total - better - tied, n_rest)
                - log_pools
            )
    return np.clip(result, 0.0, 1.0)


def _log_choose(n: np.ndarray, k: int) -> np.ndarray:
    """Return log C(n, k), minus infinity where k > n."""
    possible = n >= k
    n = np.where(possible, n, k).astype(np.float64)
    value = gammaln(n + 1.0) - gammaln(k + 1.0) - gammaln(n - k + 1.0)
    return np.where(possible, value, -np.inf)


def wilson(share: float, n: float, *, confidence: float = 0.95) -> tuple[float, float]:
    r"""Return Wilson's score interval of a proportion.

    .. math:: \left(\hat p + \frac{z^2}{2n} \pm z \sqrt{\frac{\hat p (1 - \hat p)}{n}
        + \frac{z^2}{4 n^2}}\right) \Big/ \left(1 + \frac{z^2}{n}\right)

    (Wilson, Journal of the American Statistical Association 1927, 22:209-212,
    https://doi.org/10.1080/01621459.1927.10502953.)

    Parameters
    ----------
    share : float
        The proportion, 0 to 1; what rounding puts beyond counts as the limit.
    n : float
        From 1; an effective number may be fractional.
    confidence : float, default 0.95
        Above 0 and below 1.

    Returns
    -------
    low, high : float
        0 to 1, with ``low <= share <= high``.
    """
    z = float(ndtri((1 + confidence) / 2))
    share = min(1.0, max(0.0, share))
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    # At 0 and 1 the ends meet the share exactly, which rounding would miss by 1e-17.
    low = 0.0 if share == 0 else max(0.0, middle - half)
    high = 1.0 if share == 1 else min(1.0, middle + half)
    return float(low), float(high)


def correlation(predicted: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Pearson correlation over samples, one for each dimension (chance 0).

    Parameters
    ----------
    predicted, target : array (n_samples, n_dims)

    Returns
    -------
    ndarray (n_dims,) float64
        0 where the prediction is constant (it tells nothing); NaN where the target is
        constant (there is nothing to tell).

    Raises
    ------
    DataError
        Unequal shapes, fewer than two samples, NaN.
    """
    predicted, target = _check_pair(predicted, target)
    predicted_sd, target_sd = _spread(predicted), _spread(target)
    covariance = ((predicted - predicted.mean(0)) * (target - target.mean(0))).mean(0)
    flat = predicted_sd == 0
    scale = np.where(flat, 1.0, predicted_sd) * np.where(target_sd == 0, np.nan, target_sd)
    return np.clip(np.where(flat, 0.0, covariance) / scale, -1.0, 1.0)


def r_squared(
    predicted: np.ndarray,
    target: np.ndarray,
    *,
    baseline: np.ndarray | Literal["test_mean"] = "test_mean",
) -> np.ndarray:
    r"""Coefficient of determination over samples, one for each dimension.

    .. math:: R^2 = 1 - \frac{\sum_i (y_i - \hat y_i)^2}{\sum_i (y_i - c)^2}

    Parameters
    ----------
    predicted, target : array (n_samples, n_dims)
    baseline : "test_mean" or array (n_dims,)
        The constant c that a prediction has to beat: the mean of ``target`` (scikit-learn's
        convention; no predictor could know it beforehand), or a given one, such as the mean
        of the training targets.

    Returns
    -------
    ndarray (n_dims,) float64
        At most 1; 0 is as good as the constant; negative is worse. NaN where the target
        does not differ from the constant.
    """
    predicted, target = _check_pair(predicted, target)
    if isinstance(baseline, str):
        centre = target.mean(0)
        total = _spread(target) ** 2
    else:
        centre = np.asarray(baseline, dtype=np.float64)
        total = ((target - centre) ** 2).mean(0)
    residual = ((target - predicted) ** 2).mean(0)
    return 1.0 - residual / np.where(total == 0, np.nan, total)


def _check_pair(predicted: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    predicted = np.asarray(predicted, dtype=np.float64)
    target = np.asarray(target, dtype=np.float64)
    problems = Problems("predicted and target")
    if predicted.shape != target.shape or predicted.ndim != 2:
        problems.add(
            f"have shapes {predicted.shape} and {target.shape}, expected twice (n_samples, n_dims)."
        )
    elif len(predicted) < 2:
        problems.add(f"hold {len(predicted)} samples, expected at least 2.")
    for name, array in (("predicted", predicted), ("target", target)):
        if not np.isfinite(array).all():
            problems.add(f"'{name}' holds {int((~np.isfinite(array)).sum())} NaN or infinite.")
    problems.raise_if_any()
    return predicted, target


def _spread(values: np.ndarray) -> np.ndarray:
    """Return the sd of every column, exactly 0 where it is only rounding."""
    variance = values.var(axis=0)
    flat = variance <= CONSTANT_SHARE * (values**2).mean(axis=0)
    return np.sqrt(np.where(flat, 0.0, variance))
