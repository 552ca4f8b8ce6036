"""Warnings about a run: what is wrong, where, how much, and what to do.

Limits are conventions: they say where to look, not what to throw away.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import pandas as pd

from braindecode_clip.quality.measures import FD_LIMIT_MM, HRF_PEAK_S
from braindecode_clip.quality.record import LEVELS

#: Share of volumes above :data:`FD_LIMIT_MM` that counts as high motion. Parkes et al. (2018),
#: NeuroImage 171:415-436, leave such runs out (counting from 0.2 mm).
HIGH_FD_SHARE = 0.2

#: Share of censored volumes from which a run loses more than cleaning gains. The same 20 %.
CENSORED_SHARE = 0.2

#: Median tSNR from which a run counts as noisy. Murphy et al. (2007), NeuroImage 34:565-574: at
#: 50 a change of 1 % takes about 860 volumes; the number goes with 1 / tSNR^2, so at 20 it is
#: six times as many.
LOW_TSNR = 20.0

#: Variance inflation from which a regressor counts as collinear, for the median and for the
#: worst trial. James et al. (2013), An Introduction to Statistical Learning, section 3.3.3:
#: "exceeds 5 or 10".
HIGH_MEDIAN_VIF, HIGH_VIF = 5.0, 10.0

#: Residual degrees of freedom below which a run counts as short: a variance estimated from 20
#: has a relative standard error of sqrt(2 / 20) = 32 %.
FEW_DF = 20

#: Share of the volumes' degrees of freedom that cleaning may take: at one half it takes half of
#: any signal with it.
MANY_REGRESSORS = 0.5


@dataclass(frozen=True)
class Finding:
    """One warning; see :class:`~braindecode_clip.quality.record.RunQuality` for the fields."""

    kind: str
    level: str
    what: str
    amount: str
    advice: str


def as_sentence(warning: Mapping[str, Any]) -> str:
    """Return a row of the warnings as one sentence."""
    return f"{warning['what']}: {warning['amount']}; {warning['advice']}."


def advise(
    numbers: Mapping[str, Any], *, late: pd.DataFrame, from_betas: list[str]
) -> pd.DataFrame:
    """Return the warnings of a run, the most urgent first.

    Parameters
    ----------
    numbers : mapping
        Of :func:`braindecode_clip.quality.measures.measure_run`.
    late : DataFrame
        Of :func:`braindecode_clip.quality.measures.late_trials`.
    from_betas : list of str
        What the estimation of the trials warned of.

    Returns
    -------
    DataFrame
        kind, level, what, amount, advice.
    """
    checks = (
        _motion(numbers),
        _few_volumes(numbers),
        _collinear(numbers),
        _censored(numbers),
        _late(late),
        _low_tsnr(numbers),
        _constant(numbers),
        *(_of_betas(message) for message in from_betas),
        _unknown_motion(numbers),
    )
    found = [finding for finding in checks if finding is not None]
    found.sort(key=lambda finding: LEVELS.index(finding.level))
    columns = [field.name for field in fields(Finding)]
    return pd.DataFrame([asdict(finding) for finding in found], columns=columns, dtype=object)


def _motion(numbers: Mapping[str, Any]) -> Finding | None:
    mean, share = numbers["fd_mean_mm"], numbers["fd_high_share"]
    if mean is None or (mean <= FD_LIMIT_MM and share <= HIGH_FD_SHARE):
        return None
    return Finding(
        "motion",
        "problem",
        "High motion",
        f"mean displacement {mean:.2f} mm, {100 * share:.0f} % of volumes above {FD_LIMIT_MM:g} "
        f"mm (limits {FD_LIMIT_MM:g} mm and {100 * HIGH_FD_SHARE:.0f} %), largest "
        f"{numbers['fd_max_mm']:.2f} mm",
        "add the motion parameters to 'confounds', censor these volumes, or leave the run out",
    )


def _few_volumes(numbers: Mapping[str, Any]) -> Finding | None:
    df, n_volumes = numbers["residual_df"], numbers["n_volumes"]
    taken = numbers["n_regressors"] / max(n_volumes - 1, 1)
    if df >= FEW_DF and taken <= MANY_REGRESSORS:
        return None
    return Finding(
        "few_volumes",
        "problem" if df <= 0 else "warning",
        "Too few volumes",
        f"{n_volumes} volumes less {numbers['n_regressors']} confounds and drifts and "
        f"{numbers['n_trials']} trials leave {df} degrees of freedom (limit {FEW_DF}), and "
        f"cleaning takes {100 * taken:.0f} % of them (limit {100 * MANY_REGRESSORS:.0f} %)",
        "choose fewer 'confounds' or a lower 'high_pass_hz', or record longer runs",
    )


def _collinear(numbers: Mapping[str, Any]) -> Finding | None:
    median, worst = numbers["vif_median"], numbers["vif_max"]
    median_high = median is not None and median > HIGH_MEDIAN_VIF
    if numbers["shrunken"] or not (median_high or (worst is not None and worst > HIGH_VIF)):
        return None
    amount = (
        f"variance inflation of the {numbers['n_trials']} trials {_number(median)} in the median "
        f"(limit {HIGH_MEDIAN_VIF:g}), {_number(worst)} in the worst (limit {HIGH_VIF:g})"
    )
    if numbers["isi_min_s"] is not None:
        amount += f", onsets {numbers['isi_min_s']:.3g} s apart at the closest"
    return Finding(
        "collinear",
        "problem" if median_high else "warning",
        "Collinear trials",
        amount,
        "space the trials further apart or at uneven times, estimate with 'method: lss' or "
        "'shrinkage: ridge', or join trials that follow each other into one",
    )


def _censored(numbers: Mapping[str, Any]) -> Finding | None:
    if numbers["censored_share"] <= CENSORED_SHARE:
        return None
    return Finding(
        "censored",
        "warning",
        "Many censored volumes",
        f"{numbers['n_censored']} of {numbers['n_volumes']} volumes, "
        f"{100 * numbers['censored_share']:.0f} % (limit {100 * CENSORED_SHARE:.0f} %)",
        "trials in censored stretches have little data: raise the limit of censoring, or leave "
        "the run out",
    )


def _late(late: pd.DataFrame) -> Finding | None:
    if len(late) == 0:
        return None
    last = late.iloc[-1]
    return Finding(
        "late",
        "warning",
        "Trials that the run barely sees",
        f"{len(late)} trials begin less than {HRF_PEAK_S:g} s before the end of the last volume, "
        f"the last at {last['onset']:.5g} s, {last['seen_s']:.3g} s before it",
        f"their response peaks {HRF_PEAK_S:g} s after the onset: take them out of the events",
    )


def _low_tsnr(numbers: Mapping[str, Any]) -> Finding | None:
    median = numbers["tsnr_median"]
    if median is None or median >= LOW_TSNR:
        return None
    return Finding(
        "tsnr",
        "warning",
        "Low signal-to-noise",
        f"tSNR {median:.3g} in the median voxel (limit {LOW_TSNR:g})",
        "look at the raw run for artefacts, take voxels without signal out of the mask, or smooth "
        "('fwhm_mm'); pay no heed if the mean was removed before",
    )


def _constant(numbers: Mapping[str, Any]) -> Finding | None:
    n_constant = numbers["n_constant_voxels"]
    if n_constant == 0:
        return None
    return Finding(
        "constant",
        "warning",
        "Constant voxels",
        f"{n_constant} of {numbers['n_voxels']} voxels do not vary",
        "they hold no data in this run: take them out of the mask",
    )


def _of_betas(message: str) -> Finding:
    text = message.strip().rstrip(".")
    return Finding("betas", "warning", "Estimation of the trials", text, "see the log of `betas`")


def _unknown_motion(numbers: Mapping[str, Any]) -> Finding | None:
    if numbers["fd_mean_mm"] is not None:
        return None
    return Finding(
        "unknown_motion",
        "note",
        "Motion unknown",
        "no framewise displacement",
        "give `preprocess` a confounds file with 'framewise_displacement' or the six motion "
        "parameters (trans_x to rot_z)",
    )


def _number(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.3g}"
