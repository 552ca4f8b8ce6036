"""How well pictures are classified: top-k, mean per class, average precision, with intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from scipy.special import digamma
from scipy.stats import hypergeom

from braindecode_clip.checks import Problems, some
from braindecode_clip.clip.zero_shot import true_ranks
from braindecode_clip.metrics import wilson

#: Bootstrap weights held at a time: 2**22 float64 are 32 MiB.
_WEIGHTS_AT_ONCE = 2**22
#: Samples x pictures x classes that the bootstrap of average precision may cost: about a minute.
_MOST_WORK = 2e9


def truth_table(labels: Sequence[Sequence[str]], classes: Sequence[str]) -> np.ndarray:
    """Turn labels into a table of what is true of which picture.

    Parameters
    ----------
    labels : sequence of sequence of str (n,)
        The labels of each picture; none for a picture whose class is not known.
    classes : sequence of str (n_classes,)

    Returns
    -------
    ndarray (n, n_classes) bool

    Raises
    ------
    DataError
        Labels that are no class, or no picture with a label.
    """
    column = {name: k for k, name in enumerate(classes)}
    problems = Problems("labels")
    unknown = sorted({label for own in labels for label in own} - column.keys())
    if unknown:
        problems.add(
            f"{len(unknown)} labels are none of the {len(classes)} classes: {some(unknown)}. Add "
            f"them to --classes, or correct them; the classes are {some(classes)}."
        )
    if not any(labels):
        problems.add("no picture has one. Fill the column, or leave the labels out.")
    problems.raise_if_any()
    table = np.zeros((len(labels), len(classes)), dtype=bool)
    for row, own in enumerate(labels):
        table[row, [column[label] for label in own]] = True
    return table


def score_table(
    similarity: np.ndarray,
    is_true: np.ndarray,
    *,
    rng: np.random.Generator,
    ks: tuple[int, ...] = (1, 5),
    n_bootstrap: int = 1000,
) -> pd.DataFrame:
    """Score a classification.

    Parameters
    ----------
    similarity : ndarray (n, n_classes)
        Of pictures with classes.
    is_true : bool ndarray (n, n_classes)
        Pictures without a true class are left out.
    rng : numpy.random.Generator
        Draws the bootstrap samples.
    ks : tuple of int
        A hit at k is a picture with a true class that fewer than k false classes surpass;
        those not below n_classes are left out.
    n_bootstrap : int
        Samples.

    Returns
    -------
    DataFrame
        metric, value, ci_low, ci_high (95 %), ci_method, chance, n (pictures), n_classes (with
        a picture). ``top_k``: share of pictures, Wilson's interval. ``mean_per_class_top_k``:
        mean over classes of the share of their pictures. ``mean_average_precision``: mean over
        classes of :func:`average_precision`. The latter two have the percentiles of a bootstrap
        over pictures, drawn within each class where every picture has one class, n - 1 of n
        (Rao & Wu 1988), which leaves the variance of small classes unbiased; Wilson's interval
        where no sample differs, and none for the average precision of very many pictures.
    """
    labelled = is_true.any(axis=1)
    similarity, is_true = np.asarray(similarity)[labelled], is_true[labelled]
    rank = true_ranks(similarity, is_true)
    n, n_all = is_true.shape
    is_true, rank, scored = _present(is_true, rank, similarity)
    best = np.nanmin(rank, axis=1)
    n_true = is_true.sum(axis=1)
    statistics: dict[str, tuple[Callable[[np.ndarray], np.ndarray], float]] = {}
    rows = []
    for k in [k for k in ks if k < n_all]:
        hits = int((best <= k).sum())
        low, high = wilson(hits / n, n)
        chance = float(np.mean(_chance_any(n_true, n_all, k)))
        rows.append((f"top_{k}", hits / n, low, high, "wilson", chance))
        guess = np.where(is_true, np.minimum(1.0, k / (n_all - n_true + 1))[:, None], 0.0)
        statistics[f"mean_per_class_top_{k}"] = (
            _class_means(rank <= k, is_true),
            float(np.mean(guess.sum(axis=0) / is_true.sum(axis=0))),
        )
    precision = [_weighted_precision(scored[:, c], is_true[:, c]) for c in range(is_true.shape[1])]
    statistics["mean_average_precision"] = (
        lambda weights: np.nanmean([of(weights) for of in precision], axis=0),
        float(np.mean(chance_average_precision(is_true.sum(axis=0), n))),
    )
    if float(n_bootstrap) * is_true.size > _MOST_WORK:
        of, chance = statistics.pop("mean_average_precision")
        value = float(of(np.ones((1, n)))[0])
        rows.append(("mean_average_precision", value, np.nan, np.nan, "none", chance))
    draws = _bootstrap([of for of, _ in statistics.values()], is_true, n_bootstrap, rng)
    effective = is_true.shape[1] ** 2 / float(np.sum(1 / is_true.sum(axis=0)))
    for (name, (of, chance)), drawn in zip(statistics.items(), draws, strict=True):
        value = float(of(np.ones((1, n)))[0])
        low, high, method = _percentiles(value, drawn, effective)
        rows.append((name, value, low, high, method, chance))
    table = pd.DataFrame(
        rows, columns=["metric", "value", "ci_low", "ci_high", "ci_method", "chance"]
    )
    return table.assign(n=n, n_classes=is_true.shape[1])


def class_table(
    similarity: np.ndarray, is_true: np.ndarray, classes: Sequence[str], *, k: int = 5
) -> pd.DataFrame:
    """Score every class.

    Parameters
    ----------
    similarity : ndarray (n, n_classes)
    is_true : bool ndarray (n, n_classes)
        Pictures without a true class are left out.
    classes : sequence of str (n_classes,)
    k : int
        For ``top_k``; left out when not below n_classes.

    Returns
    -------
    DataFrame
        One row a class: class, n (pictures of it), top_1 with ci_low and ci_high (Wilson),
        top_k, n_predicted (pictures that it was the first class of), precision (share of those
        that are of it), average_precision, chance_average_precision. NaN where nothing counts.
    """
    labelled = is_true.any(axis=1)
    similarity, is_true = np.asarray(similarity)[labelled], is_true[labelled]
    rank = true_ranks(similarity, is_true)
    chosen = np.argmax(similarity, axis=1)
    rows = []
    for c, name in enumerate(classes):
        own, first = rank[is_true[:, c], c], chosen == c
        n, hits = len(own), int((own <= 1).sum())
        low, high = wilson(hits / n, n) if n else (np.nan, np.nan)
        weights = np.ones((1, len(similarity)))
        found = _weighted_precision(similarity[:, c], is_true[:, c])(weights)[0] if n else np.nan
        rows.append(
            {
                "class": name,
                "n": n,
                "top_1": hits / n if n else np.nan,
                "ci_low": low,
                "ci_high": high,
                f"top_{k}": (own <= k).mean() if n else np.nan,
                "n_predicted": int(first.sum()),
                "precision": is_true[first, c].mean() if first.any() else np.nan,
                "average_precision": found,
                "chance_average_precision": float(
                    chance_average_precision(np.array([n]), len(similarity))[0]
                )
                if n
                else np.nan,
            }
        )
    table = pd.DataFrame(rows)
    return table if k < len(classes) else table.drop(columns=f"top_{k}")


def confusion_counts(similarity: np.ndarray, is_true: np.ndarray) -> np.ndarray | None:
    """Count what was taken for what.

    Returns
    -------
    ndarray (n_classes, n_classes) int64, or None
        Rows are true classes, columns the nearest ones; pictures without a class are left out.
        None where a picture has more than one class.
    """
    if (is_true.sum(axis=1) > 1).any():
        return None
    labelled = is_true.any(axis=1)
    counts = np.zeros((is_true.shape[1],) * 2, dtype=np.int64)
    chosen = np.argmax(similarity[labelled], axis=1)
    np.add.at(counts, (np.argmax(is_true[labelled], axis=1), chosen), 1)
    return counts


def average_precision(similarity: np.ndarray, is_true: np.ndarray) -> float:
    r"""Return the mean precision at the places of the true pictures, best first.

    .. math:: AP = \sum_t (R_t - R_{t-1})\, P_t

    over the distinct similarities from the highest down, with recall R and precision P of all
    pictures at least as similar; pictures that tie come in together.

    Parameters
    ----------
    similarity : ndarray (n,)
        Of all pictures with one class.
    is_true : bool ndarray (n,)
        At least one.
    """
    return float(_weighted_precision(similarity, is_true)(np.ones((1, len(similarity))))[0])


def chance_average_precision(n_true: np.ndarray, n: int) -> np.ndarray:
    r"""Return the expected average precision of a random order without ties.

    .. math:: E = \frac{1}{n}\left[H_n + \frac{(R - 1)(n - H_n)}{n - 1}\right]

    for R true of n pictures and the harmonic number :math:`H_n`: place i is true with
    probability R / n, and then (i - 1)(R - 1) / (n - 1) of those before it are.
    """
    harmonic = digamma(n + 1.0) + np.euler_gamma
    return (harmonic + (np.asarray(n_true) - 1) * (n - harmonic) / max(n - 1, 1)) / n


def _present(is_true: np.ndarray, *others: np.ndarray) -> tuple[np.ndarray, ...]:
    """Keep the classes that have a picture."""
    kept = is_true.any(axis=0)
    return tuple(array[:, kept] for array in (is_true, *others))


def _chance_any(n_true: np.ndarray, n_all: int, k: int) -> np.ndarray:
    """Return the chance that one of ``n_true`` of ``n_all`` classes is among k random ones."""
    return 1.0 - hypergeom.pmf(0, n_all, n_true, k)


def _class_means(hits: np.ndarray, is_true: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Return the statistic: weights (b, n) to the mean over classes (b,) of their hit rates."""
    correct, members = (hits & is_true).astype(np.float64), is_true.astype(np.float64)

    def statistic(weights: np.ndarray) -> np.ndarray:
        size = weights @ members
        share = np.divide(weights @ correct, size, out=np.full_like(size, np.nan), where=size > 0)
        return np.nanmean(share, axis=1)

    return statistic


def _weighted_precision(
    similarity: np.ndarray, is_true: np.ndarray
) -> Callable[[np.ndarray], np.ndarray]:
    """Return the statistic: weights (b, n) to average precisions (b,); NaN without a true one."""
    order = np.argsort(-similarity, kind="stable")
    falling, true = similarity[order], is_true[order].astype(np.float64)
    ends = np.flatnonzero(np.r_[falling[1:] != falling[:-1], True])

    def statistic(weights: np.ndarray) -> np.ndarray:
        drawn = weights[:, order]
        counted = np.cumsum(drawn, axis=1)[:, ends]
        found = np.cumsum(drawn * true, axis=1)[:, ends]
        total = found[:, -1:]
        precision = np.divide(found, counted, out=np.zeros_like(found), where=counted > 0)
        gained = np.diff(found, axis=1, prepend=0.0)
        area = (gained * precision).sum(axis=1, keepdims=True)
        return np.divide(area, total, out=np.full_like(total, np.nan), where=total > 0)[:, 0]

    return statistic


def _bootstrap(
    statistics: Sequence[Callable[[np.ndarray], np.ndarray]],
    is_true: np.ndarray,
    n_bootstrap: int,
    rng: np.random.Generator,
) -> list[np.ndarray]:
    """Return the replicates (n_bootstrap,) of each statistic."""
    n = len(is_true)
    single = (is_true.sum(axis=1) == 1).all()
    strata = np.argmax(is_true, axis=1) if single else np.zeros(n, dtype=np.int64)
    step = max(1, _WEIGHTS_AT_ONCE // n)
    found: list[list[np.ndarray]] = [[] for _ in statistics]
    for start in range(0, n_bootstrap, step):
        weights = _rescaled_weights(strata, min(step, n_bootstrap - start), rng)
        for replicates, statistic in zip(found, statistics, strict=True):
            replicates.append(statistic(weights))
    return [np.concatenate(replicates) for replicates in found]


def _rescaled_weights(strata: np.ndarray, n_samples: int, rng: np.random.Generator) -> np.ndarray:
    """Draw m - 1 of the m members of every stratum, scaled so that they weigh m."""
    weights = np.ones((n_samples, len(strata)))
    for stratum in np.unique(strata):
        rows = np.flatnonzero(strata == stratum)
        m = len(rows)
        if m > 1:
            counts = rng.multinomial(m - 1, np.full(m, 1.0 / m), size=n_samples)
            weights[:, rows] = counts * (m / (m - 1))
    return weights


def _percentiles(value: float, draws: np.ndarray, n_effective: float) -> tuple[float, float, str]:
    draws = draws[np.isfinite(draws)]
    if len(draws) and np.ptp(draws) > 1e-12:
        low, high = np.quantile(draws, [0.025, 0.975])
        return float(min(low, value)), float(max(high, value)), "bootstrap"
    return *wilson(value, n_effective), "wilson"
