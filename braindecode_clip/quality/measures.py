"""The numbers that describe a run, each with its formula and unit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from braindecode_clip.artifacts import Betas, Signals

#: Displacement (mm) from one volume to the next above which a volume counts as moved. Power et
#: al. (2012), NeuroImage 59:2142-2154.
FD_LIMIT_MM = 0.5

#: Time (s) from a trial's onset to the peak of the canonical response (SPM's and Glover's).
HRF_PEAK_S = 5.0


def tsnr_map(signals: Signals) -> np.ndarray:
    """Return the temporal signal-to-noise ratio of every voxel: mean / sd over the volumes.

    Both are of the data before cleaning, so drifts and motion count as noise.

    Parameters
    ----------
    signals : Signals

    Returns
    -------
    ndarray (n_voxels,) float32
        Without unit; NaN where the sd is 0.

    References
    ----------
    Murphy et al. (2007), NeuroImage 34:565-574; MRIQC's tSNR is the median over voxels.
    """
    mean, sd = signals.mean.astype(np.float64), signals.sd.astype(np.float64)
    return np.divide(mean, sd, out=np.full_like(mean, np.nan), where=sd > 0).astype(np.float32)


def describe_volumes(signals: Signals) -> pd.DataFrame:
    """Return time, displacement, DVARS and censoring of every volume.

    ``dvars_standardised`` is DVARS over its median in the run: the median is hardly moved by
    bad volumes, which is why Afyouni & Nichols (2018) take it for the level without artefacts.
    1 is an ordinary volume.

    Returns
    -------
    DataFrame
        time_s, framewise_displacement (mm), dvars (scanner's unit), dvars_standardised,
        censored.

    References
    ----------
    Afyouni & Nichols (2018), NeuroImage 172:291-312.
    """
    table = signals.volumes
    dvars = table["dvars"].to_numpy(np.float64)
    known = dvars[np.isfinite(dvars)]
    level = np.median(known) if len(known) else np.nan
    return pd.DataFrame(
        {
            "time_s": signals.first_volume_s + np.arange(len(table)) * signals.tr_s,
            "framewise_displacement": table["framewise_displacement"].to_numpy(np.float64),
            "dvars": dvars,
            "dvars_standardised": dvars / level if level > 0 else np.full(len(dvars), np.nan),
            "censored": table["censored"].to_numpy(bool),
        }
    )


def measure_run(
    signals: Signals, betas: Betas, *, volumes: pd.DataFrame, constant: np.ndarray
) -> dict[str, Any]:
    """Return all numbers of a run.

    Parameters
    ----------
    signals : Signals
    betas : Betas
        Of the same run.
    volumes : DataFrame
        Of :func:`describe_volumes`.
    constant : ndarray (n_voxels,) bool
        Voxels that do not vary after cleaning.

    Returns
    -------
    dict
        None where a number is not known.

        n_volumes, n_censored, censored_share
            Volumes kept after the dummy scans; those left out of the estimation, and their
            share (0 to 1).
        n_voxels, n_constant_voxels
        tsnr_median, tsnr_p5, tsnr_p95
            Of :func:`tsnr_map`, over voxels that vary.
        fd_mean_mm, fd_median_mm, fd_max_mm, fd_high_share
            Framewise displacement over volumes that have one; share (0 to 1) of these above
            :data:`FD_LIMIT_MM`.
        dvars_mean, dvars_max, dvars_standardised_max
            Root mean square over voxels of the change to the volume before, in the scanner's
            unit; largest over its median.
        n_regressors
            Confounds and drifts regressed out, without the constant.
        residual_df
            n_volumes - 1 - n_regressors - n_nuisance_events - n_trials: what is left to estimate
            noise from when every trial has its own regressor. Volumes that are censored without
            a regressor of their own are still in it.
        n_trials, isi_mean_s, isi_min_s
            Trials; mean and smallest time in seconds from one onset to the next.
        efficiency
            A-efficiency of the design, 0 to 1: n_trials over the summed variance of the trial
            estimates, relative to trials that stand alone.
        vif_median, vif_max
            Variance inflation of the trials' regressors in least squares, 1 or more.
        shrunken
            Whether the responses are shrunk: what least squares would make of overlapping trials
            does not matter then.
        r2_median, r2_p95
            Share of the variance, nuisance apart, that the responses explain, over voxels that
            vary; below 0 where they fit worse than nothing.
    """
    info, trials = betas.info, betas.trials
    n_volumes, n_trials = len(signals.data), len(trials)
    n_regressors = signals.regressors.shape[1]
    n_events = len(info.get("nuisance_events") or [])
    tsnr = tsnr_map(signals)[~constant]
    tsnr = tsnr[np.isfinite(tsnr)]
    displacement = _known(volumes["framewise_displacement"])
    gaps = np.diff(np.sort(trials["onset"].to_numpy(np.float64)))
    n_censored = int(volumes["censored"].sum())
    return {
        "n_volumes": n_volumes,
        "n_censored": n_censored,
        "censored_share": n_censored / n_volumes,
        "n_voxels": signals.data.shape[1],
        "n_constant_voxels": int(constant.sum()),
        **_percentiles("tsnr", tsnr, {"median": 50, "p5": 5, "p95": 95}),
        "fd_mean_mm": _reduced(np.mean, displacement),
        "fd_median_mm": _reduced(np.median, displacement),
        "fd_max_mm": _reduced(np.max, displacement),
        "fd_high_share": _reduced(np.mean, displacement > FD_LIMIT_MM),
        "dvars_mean": _reduced(np.mean, _known(volumes["dvars"])),
        "dvars_max": _reduced(np.max, _known(volumes["dvars"])),
        "dvars_standardised_max": _reduced(np.max, _known(volumes["dvars_standardised"])),
        "n_regressors": n_regressors,
        "residual_df": n_volumes - 1 - n_regressors - n_events - n_trials,
        "n_trials": n_trials,
        "isi_mean_s": _reduced(np.mean, gaps),
        "isi_min_s": _reduced(np.min, gaps),
        "efficiency": _number(info.get("efficiency")),
        "vif_median": _number(info.get("vif_median")),
        "vif_max": _number(info.get("vif_max")),
        "shrunken": info.get("shrinkage", "none") != "none",
        **_percentiles(
            "r2",
            np.empty(0) if betas.r2 is None else betas.r2[~constant],
            {"median": 50, "p95": 95},
        ),
    }


def late_trials(signals: Signals, betas: Betas) -> pd.DataFrame:
    """Return the trials whose response peaks after the last volume, with ``seen_s``.

    ``seen_s`` is the time in seconds from the onset to the end of the last volume; a trial is
    late when it is shorter than :data:`HRF_PEAK_S`.
    """
    end_s = signals.first_volume_s + len(signals.data) * signals.tr_s
    seen_s = end_s - betas.trials["onset"].to_numpy(np.float64)
    return betas.trials.assign(seen_s=seen_s)[seen_s < HRF_PEAK_S]


def _known(column: pd.Series) -> np.ndarray:
    values = column.to_numpy(np.float64)
    return values[np.isfinite(values)]


def _reduced(reduce: Any, values: np.ndarray) -> float | None:
    return float(reduce(values)) if len(values) else None


def _number(value: Any) -> float | None:
    return None if value is None or not np.isfinite(value) else float(value)


def _percentiles(
    name: str, values: np.ndarray, wanted: dict[str, float]
) -> dict[str, float | None]:
    found = np.percentile(values.astype(np.float64), list(wanted.values())) if len(values) else None
    return {
        f"{name}_{label}": None if found is None else float(found[place])
        for place, label in enumerate(wanted)
    }
