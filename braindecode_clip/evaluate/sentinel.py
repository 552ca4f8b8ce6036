"""The leakage sentinel: scores are refused where a fitted statistic saw what is tested.

Every statistic on the way from the signals to the ranks comes with a record of the stimuli and
runs that it was fitted on (:mod:`braindecode_clip.artifacts.records`). Where stimuli are held out
none of a fold's test stimuli may be among them, where runs are held out none of its test runs.
What sees test trials by its nature, and never their labels, says that it is transductive: it is
named in every row instead.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from braindecode_clip.artifacts import Fitted, Predictions, Retrieval
from braindecode_clip.artifacts.records import digest, names_of, runs_of
from braindecode_clip.checks import Problems, some
from braindecode_clip.errors import LeakageError

#: What to do about a leak, by the stage that fitted the statistic.
CURES = {
    "tune": "Run `tune` with the stimulus table, so that it sees training stimuli alone (or "
    "without one, so that it uses no label), then `betas` and what follows.",
    "betas": "Re-run `betas` and what follows.",
    "voxels": "Re-run `voxels` with a split that keeps them apart, and what follows.",
    "decode": "Fit the decoder again on training rows without them, and re-run what follows.",
    "retrieve": "Re-run `retrieve` with the predictions of training samples alone, or with "
    "`statistics: test`, which says that it is transductive.",
}
#: A record that every file of a stage has.
ALWAYS = {"betas": "cleaning of the run", "voxels": "voxel mask", "decode": "decoder weights"}
#: Column of the rows, and what stands between the names in it.
COLUMN, BETWEEN = "transductive", "; "


@dataclass(frozen=True)
class Findings:
    """What was fitted on what.

    Attributes
    ----------
    fitted : list of dict
        One for each statistic: statistic, stage, source, fold ("" for all), n_stimuli and n_runs
        that it saw, digest (sha256 of both), overlap (tested stimuli, or tested runs where runs
        are held out, that it saw), labels_used, transductive, reason.
    steps : dict
        Direction of a retrieval, or "none", to the names of its transductive steps.
    """

    fitted: list[dict[str, Any]]
    steps: dict[str, list[str]]

    @property
    def transductive(self) -> list[str]:
        """All transductive steps."""
        return list(dict.fromkeys(name for names in self.steps.values() for name in names))

    def label(self, rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return the rows with the column "transductive": steps joined by "; ", or ""."""
        return [
            row | {COLUMN: BETWEEN.join(self.steps.get(row["direction"], self.transductive))}
            for row in rows
        ]


def check_fitted(
    predictions: Predictions,
    retrievals: Sequence[Retrieval] = (),
    *,
    required: bool = False,
) -> Findings:
    """Refuse predictions or ranks of which a statistic saw a test stimulus or test run.

    Parameters
    ----------
    predictions : Predictions
    retrievals : sequence of Retrieval
        Of these predictions.
    required : bool
        Whether records that are missing are a problem too.

    Raises
    ------
    LeakageError
        One message with every culprit: statistic, stage, stimuli or runs, and what to do.
    """
    tested = _Tested(predictions)
    labels = [
        str(predictions.info.get(name, "")) for name in ("subject", "roi", "split", "decoder")
    ]
    problems = Problems(f"evaluate ({', '.join(filter(None, labels))})")
    if required:
        for problem in _missing(predictions, retrievals, tested):
            problems.add(problem)
    own = predictions.records.items
    items = list(dict.fromkeys([*own, *(i for r in retrievals for i in r.records.items)]))
    both = {item: tested.overlap(item) for item in items}
    _add_culprits(problems, both, tested)
    problems.raise_if_any(LeakageError)
    digests = {pair: digest(*pair) for pair in dict.fromkeys((i.stimuli, i.groups) for i in items)}
    return Findings(
        [
            {
                "statistic": item.statistic,
                "stage": item.stage,
                "source": item.source,
                "fold": item.fold,
                "n_stimuli": len(item.stimuli),
                "n_runs": len(item.groups),
                "digest": digests[item.stimuli, item.groups],
                "overlap": len(both[item]),
                "labels_used": item.labels_used,
                "transductive": item.transductive,
                "reason": item.reason,
            }
            for item in items
        ],
        {"none": _steps(own, both)}
        | {r.direction: _steps([*own, *r.records.items], both) for r in retrievals},
    )


class _Tested:
    """The test stimuli and test runs of every fold."""

    def __init__(self, predictions: Predictions) -> None:
        folds = predictions.fold.astype(str)
        self.folds = list(dict.fromkeys(folds.tolist()))
        self.unit = predictions.unit
        names = predictions.stimulus_id if self.unit == "stimulus" else predictions.group
        self._names: dict[str, frozenset[str]] = {}
        for fold in self.folds:
            own = names[np.flatnonzero(folds == fold)]
            self._names[fold] = names_of(own) if self.unit == "stimulus" else runs_of(own)
        self._names[""] = frozenset().union(*self._names.values())

    @property
    def what(self) -> str:
        return "stimuli" if self.unit == "stimulus" else "runs"

    def overlap(self, item: Fitted) -> frozenset[str]:
        """Return what was tested of what a statistic saw, in its own fold."""
        seen = item.stimuli if self.unit == "stimulus" else item.groups
        return self._names.get(item.fold, frozenset()) & seen


def _add_culprits(problems: Problems, both: dict[Fitted, frozenset[str]], tested: _Tested) -> None:
    culprits: dict[tuple[str, str, str], list[Fitted]] = {}
    for item, names in both.items():
        if names and not item.transductive:
            culprits.setdefault((item.stage, item.statistic, item.source), []).append(item)
    for (stage, statistic, source), items in culprits.items():
        names = sorted(frozenset().union(*(both[item] for item in items)))
        folds = [item.fold for item in items if item.fold]
        in_folds = f", fold {some(folds, limit=3)}" if folds else ""
        problems.add(
            f"'{statistic}' of stage `{stage}` ({source}{in_folds}) was fitted on {len(names)} "
            f"tested {tested.what}: {some(names)}. {CURES.get(stage, '')}"
        )


def _missing(
    predictions: Predictions, retrievals: Sequence[Retrieval], tested: _Tested
) -> Iterable[str]:
    """Name the stages whose files lack a record that they must have."""
    records = predictions.records.items
    for stage, statistic in (*ALWAYS.items(), *_by_options(predictions)):
        have = {item.fold for item in records if (item.stage, item.statistic) == (stage, statistic)}
        lacking = [fold for fold in tested.folds if not have & {"", fold}]
        if lacking:
            yield (
                f"the predictions have no record of what '{statistic}' was fitted on (fold "
                f"{some(lacking, limit=3)}), so nothing says that it saw no test trial. Files of "
                f"an older version lack it: re-run `{stage}` and what follows."
            )
    for retrieval in retrievals:
        found = {item.statistic for item in retrieval.records.items}
        wanted = {item.statistic for item in records}
        wanted |= {"hubness statistics"} if "correction" in retrieval.info else set()
        wanted |= {"thresholds of candidate sets"} if "candidate_sets" in retrieval.info else set()
        if wanted - found:
            yield (
                f"the {retrieval.direction} ranks have no record of what {some(wanted - found)} "
                "was fitted on. Re-run `retrieve`."
            )


def _by_options(predictions: Predictions) -> list[tuple[str, str]]:
    """Return the records that the options of the decoder call for."""
    info = predictions.info
    wanted = [] if info.get("calibration", "none") == "none" else ["calibration"]
    wanted += ["early stop", "checkpoint"] if info.get("kind") == "mlp" else []
    wanted += ["ensemble weights"] if info.get("kind") == "ensemble" else []
    wanted += ["standardised predictions"] if info.get("calibration") == "transductive" else []
    return [("decode", statistic) for statistic in wanted]


def _steps(items: Iterable[Fitted], both: dict[Fitted, frozenset[str]]) -> list[str]:
    return list(dict.fromkeys(i.statistic for i in items if i.transductive and both[i]))
