"""Methods text: statistics over subjects, and pairs of decoders."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from braindecode_clip.config.group import GroupConfig
from braindecode_clip.report.numbers import count, percent, plain
from braindecode_clip.report.results import metric_name
from braindecode_clip.report.sources import Citations


def describe_group(
    group: Mapping[str, pd.DataFrame], options: GroupConfig, cite: Citations
) -> list[str]:
    """Say how scores were corrected, put together over subjects, and compared in pairs.

    Parameters
    ----------
    group : mapping
        Tables "rows" and "pairs" as they were read; nothing is said of an empty one.
    options : GroupConfig
    cite : Citations
    """
    rows, pairs = (group.get(name, pd.DataFrame()) for name in ("rows", "pairs"))
    sentences = []
    if len(rows) and rows["p_corrected"].notna().any():
        sizes = sorted({int(n) for n in rows["n_family"] if n})
        sentences.append(
            f"Within each subject p-values were corrected for {' or '.join(map(count, sizes))} "
            "combinations of ROI, decoder and direction by the largest standardised score under "
            f"{count(options.n_permutations)} permutations that all shared {cite('max_statistic')}."
        )
    means = rows[rows["level"] == "group"] if len(rows) else rows
    if len(means):
        methods = sorted({name for name in means["ci_method"] if name != "none"})
        by = {"t": "Student's t over subjects", "bca": "BCa bootstrap over subjects"}
        named = " or ".join(by.get(name, name) for name in methods) or "none, for want of spread"
        sentences.append(
            f"Means over {count(means['n'].iloc[0])} subjects have "
            f"{percent(options.confidence, digits=0)} intervals ({named}) and p-values of the "
            "hypothesis that no subject has any information, from the same permutations."
        )
    if len(means) and "prevalence" in means and means["prevalence"].notna().any():
        sentences.append(
            "The prevalence of the effect is the Bayesian estimate from the number of subjects "
            f"with p at most {plain(options.alpha)} {cite('prevalence')}."
        )
    if len(pairs):
        margins = ", ".join(
            f"{metric_name(name)} {percent(margin)}"
            for name, margin in options.equivalence_margins.items()
        )
        sentences.append(
            "Decoders and ROIs were compared in pairs on the same test samples, by exchanging the "
            f"two in whole {' or '.join(_clusters(pairs))} and by bootstrap over these, with false "
            f"discovery rates over all pairs {cite('bh')}; equivalence by two one-sided tests "
            f"{cite('tost')} (margins: {margins}) and a JZS Bayes factor {cite('jzs')}."
        )
    return sentences


def _clusters(pairs: pd.DataFrame) -> list[str]:
    return sorted(set(pairs.loc[pairs["level"] == "subject", "resampled"]))
