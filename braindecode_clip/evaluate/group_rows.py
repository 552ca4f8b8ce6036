"""Rows of subjects, with corrected p-values, and rows of the whole group."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.special import stdtrit

from braindecode_clip.config.group import GroupConfig
from braindecode_clip.evaluate.group_conditions import Condition, Conditions
from braindecode_clip.evaluate.group_labels import Exchange
from braindecode_clip.evaluate.max_statistic import corrected_p
from braindecode_clip.evaluate.permutation import p_value
from braindecode_clip.evaluate.prevalence import prevalence
from braindecode_clip.resampling.bootstrap import Resamples, interval, resample, weighted_mean
from braindecode_clip.seeds import make_rng

#: Below this many subjects a bootstrap over them says too little: Student's t instead.
FEW_SUBJECTS = 10
#: Probability of the interval of the prevalence (Ince et al. 2021 report 96 %).
PREVALENCE_LEVEL = 0.96
EVERYBODY = "all"


def subject_rows(
    conditions: Conditions, *, options: GroupConfig, labels: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Return a row for each score of each subject, its p corrected within the subject's family.

    The family is one score over all ROIs, decoders and directions of the subject.
    """
    rows = []
    for subject in conditions.names["subject"]:
        own = conditions.of_subject(subject)
        corrected = _corrected([[condition] for condition in own])
        for condition in own:
            for metric, chance in zip(condition.metrics, condition.chance, strict=True):
                null = condition.null_of(metric)
                value = condition.value(metric)
                rows.append(
                    {
                        "level": "subject",
                        **_named(condition, subject, labels),
                        "metric": metric,
                        "value": value,
                        "chance": float(chance),
                        "null_mean": None if null is None else float(null.mean()),
                        "p": None if null is None else p_value(value, null),
                        **corrected.get((*condition.key[1:], metric), _UNCORRECTED),
                        "n_permutations": 0 if null is None else options.n_permutations,
                        "n": len(condition.per_query),
                        "n_unit": "brain samples",
                    }
                )
    return rows


_UNCORRECTED: dict[str, Any] = {"p_corrected": None, "family": None, "n_family": 0}


def _named(condition: Condition, subject: str, labels: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "subject": subject,
        "roi": condition.roi,
        **{name: labels[name] for name in ("split", "encoder")},
        "decoder": condition.decoder,
        "gallery": labels["gallery"],
        "direction": condition.direction,
    }


def _corrected(family: list[list[Condition]]) -> dict[tuple[str, ...], dict[str, Any]]:
    """Return corrected p by ROI, decoder, direction and score of means over conditions.

    Parameters
    ----------
    family : list of list of Condition
        For each member the conditions (of all subjects) whose mean is tested.
    """
    found = {}
    metrics = dict.fromkeys(m for member in family for c in member for m in c.metrics)
    for metric in metrics:
        members = [
            member
            for member in family
            if all(c.null is not None and metric in c.metrics for c in member)
        ]
        if not members:
            continue
        values = np.array([np.mean([c.value(metric) for c in member]) for member in members])
        null = np.stack([_mean_null(member, metric) for member in members], axis=1)
        for member, p in zip(members, corrected_p(values, null), strict=True):
            found[(*member[0].key[1:], metric)] = {
                "p_corrected": float(p),
                "family": "ROIs x decoders x directions, one score",
                "n_family": len(members),
            }
    return found


def _mean_null(member: list[Condition], metric: str) -> np.ndarray:
    total = np.zeros(len(member[0].null))  # type: ignore[arg-type]
    for condition in member:
        total += condition.null_of(metric)
    return total / len(member)


def group_rows(
    conditions: Conditions,
    subjects: list[dict[str, Any]],
    exchange: Exchange,
    *,
    options: GroupConfig,
    labels: Mapping[str, Any],
    seed: int,
) -> list[dict[str, Any]]:
    """Return a row for each score of the group.

    p tests that no subject has any information: the mean over subjects is compared with the
    means under permutations that all subjects share. Prevalence says how many would.

    Parameters
    ----------
    conditions : Conditions
        Of at least two subjects.
    subjects : list of dict
        From :func:`subject_rows`.
    exchange : Exchange
    options : GroupConfig
    labels : mapping
    seed : int
    """
    names = conditions.names
    places = [
        (roi, decoder, direction)
        for roi in names["roi"]
        for decoder in names["decoder"]
        for direction in names["direction"]
    ]
    corrected = _corrected([conditions.over_subjects(*place) for place in places])
    rows = []
    for place in places:
        members = conditions.over_subjects(*place)
        for metric in conditions.metrics(place[-1]):
            values = np.array([c.value(metric) for c in members])
            limits = mean_interval(
                [c.values(metric) for c in members],
                exchange,
                names["subject"],
                options=options,
                limits=(0, 1),
                seed=seed,
            )
            own = [
                row
                for row in subjects
                if (row["roi"], row["decoder"], row["direction"]) == place
                and row["metric"] == metric
            ]
            permutable = all(c.null is not None for c in members)
            null = _mean_null(members, metric) if permutable else None
            rows.append(
                {
                    "level": "group",
                    **_named(members[0], EVERYBODY, labels),
                    "metric": metric,
                    "value": float(values.mean()),
                    "sd_subjects": float(values.std(ddof=1)),
                    "chance": float(np.mean([row["chance"] for row in own])),
                    "null_mean": None if null is None else float(null.mean()),
                    **limits,
                    "p": None if null is None else p_value(float(values.mean()), null),
                    **corrected.get((*place, metric), _UNCORRECTED),
                    "n_permutations": 0 if null is None else len(null),
                    "n": len(members),
                    "n_unit": "subjects",
                    **_above(own, options.alpha),
                }
            )
    return rows


def _above(own: list[dict[str, Any]], alpha: float) -> dict[str, Any]:
    """Count the subjects above chance, and estimate how many of all people would be."""
    if any(row["p"] is None for row in own):
        return {}
    found = {
        key: [row["subject"] for row in own if row[column] is not None and row[column] <= alpha]
        for key, column in (("above", "p"), ("above_corrected", "p_corrected"))
    }
    spread = prevalence(len(found["above"]), len(own), alpha=alpha, level=PREVALENCE_LEVEL)
    return {
        "alpha": alpha,
        **{f"n_{key}": len(names) for key, names in found.items()},
        **{f"share_{key}": len(names) / len(own) for key, names in found.items()},
        **{f"subjects_{key}": " ".join(names) for key, names in found.items()},
        "prevalence": spread.mode,
        "prevalence_low": spread.low,
        "prevalence_high": spread.high,
        "prevalence_level": spread.level,
    }


def mean_interval(
    per_query: list[np.ndarray],
    exchange: Exchange,
    subjects: list[str],
    *,
    options: GroupConfig,
    limits: tuple[float, float],
    seed: int,
) -> dict[str, Any]:
    r"""Return the interval of a mean over subjects.

    Below ten subjects :math:`\bar v \pm t_{S-1} s / \sqrt S` over the subjects' scores ("t",
    with two subjects one degree of freedom, and so very wide), from ten on BCa over subjects
    ("bca", :func:`braindecode_clip.resampling.bootstrap.interval`). With
    ``resample="subjects_and_pictures"`` the standard error is that of :func:`two_level`, with
    the same t ("t, two-level bootstrap").

    Parameters
    ----------
    per_query : list of ndarray (n_queries,)
        One for each subject.
    exchange : Exchange
    subjects : list of str
    options : GroupConfig
    limits : (low, high)
        The lowest and the highest possible mean, where the interval ends.
    seed : int

    Returns
    -------
    dict
        ci_low, ci_high, ci_method ("none" with one subject, or without any spread), confidence,
        n_resampled, resampled.
    """
    values = np.array([own.mean() for own in per_query])
    n, mean = len(values), float(np.mean([own.mean() for own in per_query]))
    rng = make_rng(seed, "group", "subjects")
    low, high, method, drawn = float("nan"), float("nan"), "none", "subjects"
    reach = float(stdtrit(n - 1, (1 + options.confidence) / 2)) if n > 1 else float("nan")
    # Equal scores of few subjects, as all right or all wrong, say nothing about others.
    alike = np.ptp(values) <= 1e-12
    if options.resample == "subjects_and_pictures" and n > 1:
        drawn = "subjects, then " + ("stimuli" if exchange.unit == "stimulus" else "runs")
        draws = two_level(per_query, exchange, subjects, n_bootstrap=options.n_bootstrap, rng=rng)
        half = reach * np.sqrt(n / (n - 1)) * float(draws.std())
        if half > 1e-12:
            low, high, method = mean - half, mean + half, "t, two-level bootstrap"
    elif 1 < n < FEW_SUBJECTS and not alike:
        half = reach * float(values.std(ddof=1)) / np.sqrt(n)
        low, high, method = mean - half, mean + half, "t"
    elif n > 1 and not alike:
        resamples: Resamples = resample(
            weighted_mean(values[:, None]), np.arange(n), n_bootstrap=options.n_bootstrap, rng=rng
        )
        low, high, method = interval(mean, resamples, 0, confidence=options.confidence)
    return {
        "ci_low": float(np.maximum(low, limits[0])),
        "ci_high": float(np.minimum(high, limits[1])),
        "ci_method": method,
        "confidence": options.confidence,
        "n_resampled": n,
        "resampled": drawn,
    }


def two_level(
    per_query: list[np.ndarray],
    exchange: Exchange,
    subjects: list[str],
    *,
    n_bootstrap: int,
    rng: np.random.Generator,
) -> np.ndarray:
    r"""Return bootstrap means over subjects and their pictures (or runs).

    Subjects are drawn with replacement; pictures get exponential weights (the Bayesian
    bootstrap of Rubin 1981, which leaves no subject without a picture), the same for all
    subjects that share a picture, as rows and columns of a table are drawn (Owen 2007, "The
    pigeonhole bootstrap"). A subject's deviations are stretched by :math:`\sqrt{(C + 1) /
    (C - 1)}` for its C clusters, which makes their variance that of a mean. The scores of
    subjects already vary with the pictures, so the sum is rather too wide than too narrow.

    Parameters
    ----------
    per_query : list of ndarray (n_queries,)
        One for each subject.
    exchange : Exchange
    subjects : list of str
    n_bootstrap : int
    rng : Generator

    Returns
    -------
    ndarray (n_bootstrap,) float64
    """
    n = len(subjects)
    counts = rng.multinomial(n, np.full(n, 1 / n), size=n_bootstrap)
    # Sums of a cluster, so that weights are drawn for clusters and never for samples.
    sums, sizes = np.zeros((n, exchange.n_clusters)), np.zeros((n, exchange.n_clusters))
    for i, (subject, values) in enumerate(zip(subjects, per_query, strict=True)):
        own = exchange.cluster_of[subject]
        sums[i] = np.bincount(own, weights=values, minlength=exchange.n_clusters)
        sizes[i] = np.bincount(own, minlength=exchange.n_clusters)
    means = sums.sum(axis=1) / sizes.sum(axis=1)
    n_own = (sizes > 0).sum(axis=1)
    stretch = np.sqrt((n_own + 1) / np.maximum(n_own - 1, 1))
    found = []
    step = max(1, 2**22 // exchange.n_clusters)
    for start in range(0, n_bootstrap, step):
        drawn = counts[start : start + step]
        weights = rng.standard_exponential((len(drawn), exchange.n_clusters))
        replicates = (weights @ sums.T) / (weights @ sizes.T)
        replicates = means + stretch * (replicates - means)
        found.append((drawn * replicates).sum(axis=1) / n)
    return np.concatenate(found)
