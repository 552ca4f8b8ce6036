"""What every fitted statistic has seen: which stimuli, which runs, with labels or without.

A record is made where a statistic is fitted, from the very rows that it is fitted on, and goes
with the artefacts from stage to stage, so that :mod:`braindecode_clip.evaluate.sentinel` can
refuse what saw a test stimulus. Of :class:`Records` a file keeps the names once and a set of bits
for each different set of them: 40 folds of 10,000 stimuli take some 100 kB.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import pandas as pd

from braindecode_clip.errors import ArtifactError

_TEXTS = ("statistic", "stage", "source", "fold", "reason")
_COLUMNS = (*_TEXTS, "stimuli", "groups", "labels_used", "transductive", "digest")


class Rows(Protocol):
    """Rows with a stimulus and a run each: samples, predictions."""

    stimulus_id: np.ndarray
    group: np.ndarray


@dataclass(frozen=True)
class Fitted:
    """One fitted statistic, and what it saw.

    Attributes
    ----------
    statistic : str
        E.g. "mean", "penalty", "early stop".
    stage : str
        Command that fits it.
    source : str
        The artefact in words, e.g. "sub-01, ROI early, split all".
    fold : str
        The fold that it belongs to; "" for one that all folds share.
    stimuli, groups : frozenset of str
        Stimuli and runs of the rows that it was fitted on.
    labels_used : bool
        Whether it could know which stimulus a row shows.
    transductive : bool
        It sees test rows by its nature, which ``reason`` says; results then say so too.
    reason : str
    """

    statistic: str
    stage: str
    source: str
    fold: str
    stimuli: frozenset[str]
    groups: frozenset[str]
    labels_used: bool = True
    transductive: bool = False
    reason: str = ""


def names_of(values: Iterable[Any]) -> frozenset[str]:
    """Return distinct names."""
    values = values.tolist() if isinstance(values, np.ndarray) else values
    return frozenset(map(str, set(values)))


def runs_of(groups: np.ndarray) -> frozenset[str]:
    """Return the runs of rows; those of a mean over several are joined by "+"."""
    return frozenset(run for name in names_of(groups) for run in name.split("+"))


def run_name(session: str, run: str) -> str:
    """Return how rows name a run: ``ses-01_run-02``, or ``run-02`` without a session."""
    return f"ses-{session}_run-{run}" if session else f"run-{run}"


def digest(stimuli: Iterable[str], groups: Iterable[str] = ()) -> str:
    """Return the sha256 (hex) of the sorted stimuli and runs."""
    text = "\n".join(sorted(stimuli)) + "\0" + "\n".join(sorted(groups))
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Records:
    """All records of an artefact, as its file keeps them; made by :meth:`of`.

    Attributes
    ----------
    names : ndarray (n_names,) str
        Stimuli and runs, sorted.
    sets : ndarray (n_sets, ceil(n_names / 8)) uint8
        Bits: which names are in a set.
    table : DataFrame
        One row a statistic: statistic, stage, source, fold, reason, stimuli and groups
        (positions in ``sets``), labels_used, transductive, digest.
    seal : str
        sha256 of the rows of the table.
    """

    names: np.ndarray = field(default_factory=lambda: np.array([], dtype=str))
    sets: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.uint8))
    table: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(_COLUMNS)))
    seal: str = ""

    def __post_init__(self) -> None:
        if not len(self.table):
            return
        try:
            items = self.items
        except (IndexError, KeyError, ValueError) as error:
            raise ArtifactError(f"the records of what was fitted are damaged ({error}).") from error
        known = _digests(items)
        changed = [
            f"{item.statistic} ({item.stage})"
            for item, want in zip(items, self.table["digest"], strict=True)
            if known[item.stimuli, item.groups] != want
        ]
        if changed or self.seal != _seal(items, known):
            what = ", ".join(dict.fromkeys(changed)) or "its table"
            raise ArtifactError(
                "the records of what was fitted were changed after they were written: the digest "
                f"does not fit ({what}). Re-run the stage that wrote the file."
            )

    @classmethod
    def of(cls, items: Iterable[Fitted]) -> Records:
        """Pack records, equal ones once."""
        kept = list(dict.fromkeys(items))
        if not kept:
            return cls()
        names = sorted(frozenset().union(*(s for item in kept for s in _sets_of(item))))
        place = {name: i for i, name in enumerate(names)}
        sets = list(dict.fromkeys(s for item in kept for s in _sets_of(item)))
        bits = np.zeros((len(sets), len(names)), dtype=bool)
        for row, members in zip(bits, sets, strict=True):
            row[[place[name] for name in members]] = True
        position = {members: i for i, members in enumerate(sets)}
        known = _digests(kept)
        rows = [
            {name: getattr(item, name) for name in _TEXTS}
            | {
                "stimuli": position[item.stimuli],
                "groups": position[item.groups],
                "labels_used": item.labels_used,
                "transductive": item.transductive,
                "digest": known[item.stimuli, item.groups],
            }
            for item in kept
        ]
        return cls(
            names=np.array(names, dtype=str),
            sets=np.packbits(bits, axis=1),
            table=pd.DataFrame(rows, columns=list(_COLUMNS)),
            seal=_seal(kept, known),
        )

    @cached_property
    def items(self) -> tuple[Fitted, ...]:
        """The records; equal sets are one object."""
        n_names = len(self.names)
        bits = np.unpackbits(self.sets, axis=1, count=n_names).astype(bool)
        sets = [frozenset(self.names[row].tolist()) for row in bits]
        return tuple(
            Fitted(
                **{name: str(row[name]) for name in _TEXTS},
                stimuli=sets[row["stimuli"]],
                groups=sets[row["groups"]],
                labels_used=bool(row["labels_used"]),
                transductive=bool(row["transductive"]),
            )
            for row in self.table.to_dict("records")
        )

    def joined(self, *others: Iterable[Fitted]) -> Records:
        """Return these records with more, equal ones once."""
        return Records.of((*self.items, *(item for part in others for item in part)))


class Ledger:
    """Takes down what a stage fits, as it fits it.

    Parameters
    ----------
    stage : str
        Command.
    source : str
        See :class:`Fitted`.
    """

    def __init__(self, stage: str, source: str = "") -> None:
        self.stage, self.source = stage, source
        self.items: list[Fitted] = []

    def add(
        self, statistic: str, rows: Rows, which: Any = None, *, fold: str = "", **how: Any
    ) -> None:
        """Note a statistic with the rows that it was fitted on.

        Parameters
        ----------
        statistic : str
        rows : Samples, Predictions or alike
        which : index, optional
            Those of the rows that were used; all by default.
        fold : str
        **how
            labels_used, transductive and reason of :class:`Fitted`.
        """
        which = slice(None) if which is None else which
        stimuli, groups = names_of(rows.stimulus_id[which]), runs_of(rows.group[which])
        item = Fitted(statistic, self.stage, self.source, fold, stimuli, groups, **how)
        self.items.append(item)


def merged(items: Iterable[Fitted]) -> tuple[Fitted, ...]:
    """Join records that differ in nothing but what they saw, e.g. those of single runs."""
    found: dict[Fitted, list[Fitted]] = {}
    nothing: frozenset[str] = frozenset()
    for item in items:
        found.setdefault(replace(item, stimuli=nothing, groups=nothing), []).append(item)
    return tuple(
        replace(
            key,
            stimuli=nothing.union(*(item.stimuli for item in parts)),
            groups=nothing.union(*(item.groups for item in parts)),
        )
        for key, parts in found.items()
    )


def _sets_of(item: Fitted) -> tuple[frozenset[str], frozenset[str]]:
    return item.stimuli, item.groups


def _digests(items: Iterable[Fitted]) -> dict[tuple[frozenset[str], frozenset[str]], str]:
    return {pair: digest(*pair) for pair in dict.fromkeys(map(_sets_of, items))}


def _seal(items: Iterable[Fitted], known: dict[tuple[frozenset[str], frozenset[str]], str]) -> str:
    rows = [
        [
            *(getattr(item, name) for name in _TEXTS),
            item.labels_used,
            item.transductive,
            known[_sets_of(item)],
        ]
        for item in items
    ]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()
