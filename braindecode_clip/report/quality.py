"""The quality of the runs on the page: warnings over runs, a table, and a figure a run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from braindecode_clip.checks import some
from braindecode_clip.config.report import ReportConfig
from braindecode_clip.quality import RunQuality
from braindecode_clip.quality.advice import (
    CENSORED_SHARE,
    FEW_DF,
    HIGH_FD_SHARE,
    HIGH_MEDIAN_VIF,
    HIGH_VIF,
    LOW_TSNR,
    MANY_REGRESSORS,
)
from braindecode_clip.quality.measures import FD_LIMIT_MM
from braindecode_clip.quality.record import LEVELS
from braindecode_clip.report.numbers import NOTHING, THIN, count, decimal, is_number, percent
from braindecode_clip.report.run_figure import run_figure
from braindecode_clip.report.sections import Drawing, Studio
from braindecode_clip.report.tables import Cell, Table


@dataclass(frozen=True)
class Measure:
    """A column of the table: one number, with another in small type after it.

    Attributes
    ----------
    head : str
        Heading with the unit.
    key, detail : str
        Of the run's numbers.
    text : callable
        Turns a number into text.
    meaning : str
    above, below, detail_above : float or None
        Limits.
    unless : str
        A flag of the run's numbers with which the limits do not hold.
    """

    head: str
    key: str
    text: Callable[[Any], str]
    meaning: str
    detail: str = ""
    above: float | None = None
    below: float | None = None
    detail_above: float | None = None
    unless: str = ""


def _digits(digits: int) -> Callable[[Any], str]:
    return lambda value: decimal(value, digits=digits)


def _share(value: Any) -> str:
    """Return a share as the number of a column whose heading has the %."""
    return percent(value, digits=1).removesuffix(f"{THIN}%")


_MEASURES = (
    Measure("Volumes", "n_volumes", count, "Volumes kept after the dummy scans."),
    Measure(
        "Censored (%)",
        "censored_share",
        _share,
        "Share of volumes left out of the estimation.",
        above=CENSORED_SHARE,
    ),
    Measure(
        "tSNR",
        "tsnr_median",
        _digits(1),
        "Mean over standard deviation of a voxel's signal before cleaning; median over voxels.",
        below=LOW_TSNR,
    ),
    Measure(
        "FD (mm): mean, max",
        "fd_mean_mm",
        _digits(2),
        "Framewise displacement of the head from one volume to the next (Power et al. 2012): sum "
        "of absolute changes of the six parameters, rotations on a sphere of 50 mm.",
        detail="fd_max_mm",
        above=FD_LIMIT_MM,
    ),
    Measure(
        f"FD > {FD_LIMIT_MM:g} mm (%)",
        "fd_high_share",
        _share,
        "Share of volumes above that displacement.",
        above=HIGH_FD_SHARE,
    ),
    Measure(
        "DVARS: mean, max",
        "dvars_mean",
        _digits(1),
        "Root mean square over voxels of the change from one volume to the next, before cleaning, "
        "in the scanner's unit; the largest as a multiple of the run's median.",
        detail="dvars_standardised_max",
    ),
    Measure("Trials", "n_trials", count, "Trials estimated."),
    Measure("ISI (s)", "isi_mean_s", _digits(1), "Mean time from one onset to the next."),
    Measure(
        "Regr.", "n_regressors", count, "Confounds and drifts regressed out, without the constant."
    ),
    Measure(
        "df left",
        "residual_df",
        count,
        "Residual degrees of freedom: volumes less one, less regressors, less trials (and less "
        f"events that are no trials). Cleaning should take less than {100 * MANY_REGRESSORS:.0f} "
        "% of them.",
        below=FEW_DF,
    ),
    Measure(
        "VIF: median, worst",
        "vif_median",
        _digits(1),
        "Variance inflation: how many times the variance of a trial's estimate grows because "
        "other trials and confounds overlap with it; 1 when it stands alone. Of least squares: "
        "where responses are shrunk the limits do not hold.",
        detail="vif_max",
        above=HIGH_MEDIAN_VIF,
        detail_above=HIGH_VIF,
        unless="shrunken",
    ),
    Measure(
        "Efficiency (%)",
        "efficiency",
        _share,
        "A-efficiency of the design: trials over the summed variance of their estimates, relative "
        "to trials that stand alone (100 %).",
    ),
    Measure(
        "Explained (%)",
        "r2_median",
        _share,
        "Share of the signals' variance, nuisance apart, that the responses explain; median and "
        "(small) 95th percentile over voxels. Below 0 where they fit worse than nothing.",
        detail="r2_p95",
    ),
)


def quality_part(
    runs: Sequence[RunQuality], options: ReportConfig, studio: Studio
) -> dict[str, Any] | None:
    """Return what the template lays out; None without runs.

    Parameters
    ----------
    runs : sequence of RunQuality
    options : ReportConfig
    studio : Studio

    Returns
    -------
    dict or None
        warnings, tables, definitions, figures, left_out.
    """
    if not runs:
        return None
    return {
        "warnings": grouped_warnings(runs),
        "tables": [
            quality_table(subject, [run for run in runs if run.subject == subject])
            for subject in dict.fromkeys(run.subject for run in runs)
        ],
        "definitions": [(item.head, item.meaning + _limit(item)) for item in _MEASURES],
        **_figures(runs, options, studio),
    }


def grouped_warnings(runs: Sequence[RunQuality]) -> list[dict[str, Any]]:
    """Return each kind of warning once, the most urgent first, with the runs that have it.

    Returns
    -------
    list of dict
        level, what, where, advice, and runs: name and amount of each.
    """
    groups: dict[tuple[str, str], dict[str, Any]] = {}
    for run in runs:
        for row in run.warnings.to_dict("records"):
            group = groups.setdefault(
                (row["kind"], row["advice"]),
                {"level": row["level"], "what": row["what"], "advice": row["advice"], "runs": []},
            )
            # One run of the group may be worse than another.
            group["level"] = min(group["level"], row["level"], key=LEVELS.index)
            group["runs"].append({"name": run.name, "amount": row["amount"]})
    found = sorted(
        groups.values(), key=lambda item: (LEVELS.index(item["level"]), -len(item["runs"]))
    )
    for group in found:
        names = list(dict.fromkeys(item["name"] for item in group["runs"]))
        group["where"] = f"{count(len(names))} of {count(len(runs))} runs"
        group["advice"] = f"{group['advice'][:1].upper()}{group['advice'][1:]}."
        group["level"] = group["level"].capitalize()
    return found


def quality_table(subject: str, runs: Sequence[RunQuality]) -> Table:
    """Return one row for each run of a subject."""
    has_sessions = any(run.session for run in runs)
    heads = ("Session", "Run") if has_sessions else ("Run",)
    rows = []
    for run in runs:
        labels = [run.session, run.run] if has_sessions else [run.run]
        cells = [Cell(label or NOTHING) for label in labels]
        cells += [_cell(run.numbers, item) for item in _MEASURES]
        rows.append(tuple(cells))
    columns = (*heads, *(item.head for item in _MEASURES))
    voxels = sorted({run.numbers["n_voxels"] for run in runs if run.numbers["n_voxels"]})
    caption = f"Subject {subject}: {count(len(runs))} runs"
    if voxels:
        caption += f", {NOTHING.join(dict.fromkeys(map(count, (voxels[0], voxels[-1]))))} voxels"
    return Table(caption, columns, tuple(rows), n_heads=len(heads))


def _cell(numbers: dict[str, Any], item: Measure) -> Cell:
    value, second = numbers.get(item.key), numbers.get(item.detail)
    free = bool(numbers.get(item.unless))
    mark = "" if free else _mark(value, item.above, item.below)
    second_mark = "" if free else _mark(second, item.detail_above, None)
    return Cell(
        item.text(value) + mark,
        number=True,
        clear=bool(mark or second_mark),
        detail=item.text(second) + second_mark if is_number(second) else "",
    )


def _mark(value: Any, above: float | None, below: float | None) -> str:
    """Say in a word that a number is beyond its limit."""
    if not is_number(value):
        return ""
    if above is not None and value > above:
        return f"{THIN}high"
    return f"{THIN}low" if below is not None and value < below else ""


def _limit(item: Measure) -> str:
    """Return the limits of a measure as sentences."""

    def text(limit: float) -> str:
        return f"{100 * limit:g}{THIN}%" if item.text is _share else f"{limit:g}"

    said = ""
    if item.above is not None:
        said += f" High above {text(item.above)}"
        said += f", the worst above {text(item.detail_above)}." if item.detail_above else "."
    return said + (f" Low below {text(item.below)}." if item.below is not None else "")


def _figures(runs: Sequence[RunQuality], options: ReportConfig, studio: Studio) -> dict[str, Any]:
    """Draw the runs that need a look most, in the order of the runs; the worst is open."""
    by_need = sorted(range(len(runs)), key=lambda place: _need(runs[place]))
    shown = sorted(by_need[: options.quality_runs])
    left_out = ""
    if len(shown) < len(runs):
        others = [runs[place].name for place in range(len(runs)) if place not in set(shown)]
        left_out = (
            f"{count(len(shown))} of {count(len(runs))} runs are drawn, those with the most "
            f"urgent warnings ('quality_runs'). Not drawn: {some(others)}. The figure of every "
            "run lies beside its numbers in the results folder 'quality'."
        )
    figures = [
        {
            "title": _title(runs[place]),
            "drawing": _drawing(runs[place], studio),
            "open": place == by_need[0],
        }
        for place in shown
    ]
    return {"figures": figures, "left_out": left_out}


def _need(run: RunQuality) -> tuple[float, ...]:
    """Return a key that sorts the runs by how much they need a look."""
    levels = run.warnings["level"].tolist()
    motion = run.numbers.get("fd_mean_mm")
    return (*(-levels.count(level) for level in LEVELS[:2]), -(motion or 0.0))


def _title(run: RunQuality) -> str:
    warned = list(dict.fromkeys(run.warnings["what"]))
    said = ", ".join(f"{text[:1].lower()}{text[1:]}" for text in warned) or "no warnings"
    return f"{run.name}: {said}"


def _drawing(run: RunQuality, studio: Studio) -> Drawing:
    numbers = run.numbers
    censored = f"{count(numbers['n_censored'])} of {count(numbers['n_volumes'])} volumes censored"
    motion = (
        f"mean displacement {decimal(numbers['fd_mean_mm'], digits=2)} mm, largest "
        f"{decimal(numbers['fd_max_mm'], digits=2)} mm"
        if is_number(numbers["fd_mean_mm"])
        else "displacement not known"
    )
    ratio = run.volumes["dvars_standardised"].to_numpy()
    if np.isfinite(ratio).any():
        place = int(np.nanargmax(ratio))
        jump = (
            f"largest DVARS {decimal(ratio[place], digits=2)} times the median, at "
            f"{decimal(run.volumes['time_s'][place], digits=0)} s"
        )
    else:
        jump = "DVARS not known"
    return studio.draw(
        run_figure(run),
        alt=f"{run.name} over time: {motion}; {jump}; {count(numbers['n_trials'])} trials; "
        f"{censored}.",
        caption=f"{run.name}: {motion}; {jump}; {censored}. Carpet: cleaned signals from −2 sd "
        "(black) to +2 sd (white), voxels alike in their correlation with the mean signal averaged "
        "into rows; a stripe from top to bottom is shared by all voxels, as motion is.",
    )
