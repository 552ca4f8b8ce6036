"""The study as a whole: over subjects, ROIs and decoders of one split, encoder and gallery."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from braindecode_clip.artifacts import Retrieval
from braindecode_clip.config.group import GroupConfig
from braindecode_clip.evaluate.group_conditions import Conditions, measure, shared_labels
from braindecode_clip.evaluate.group_labels import Exchange
from braindecode_clip.evaluate.group_pairs import pair_rows
from braindecode_clip.evaluate.group_rows import FEW_SUBJECTS, group_rows, subject_rows
from braindecode_clip.evaluate.rows import without_nan


@dataclass(frozen=True)
class GroupResult:
    """What ``group`` found.

    Attributes
    ----------
    rows : list of dict
        One a score. ``level`` "subject": value, chance, null_mean, p, p_corrected with family
        and n_family. ``level`` "group" (subject "all"): the mean over subjects with its
        interval, p and p_corrected of no information in anybody, how many and which subjects
        are above chance (n_above, share_above, subjects_above, and with ``_corrected``), and
        the prevalence.
    pairs : list of dict
        One a pair, score and direction, for each subject and for the group: difference (first
        less second), interval, p, q, margin, p_equivalence, bayes_factor_none, verdict.
    notes : list of str
        What a reader must know to read the numbers rightly.
    transductive : list of str
        Steps that saw the test set; empty when none did.
    """

    rows: list[dict[str, Any]]
    pairs: list[dict[str, Any]]
    notes: list[str]
    transductive: list[str]


def group(
    retrievals: Iterable[Retrieval],
    exchange: Exchange,
    *,
    options: GroupConfig | None = None,
    seed: int,
) -> GroupResult:
    """Compare subjects, ROIs and decoders.

    Parameters
    ----------
    retrievals : iterable of Retrieval
        Of every subject, ROI and decoder, in one or both directions; looked at one after
        another, so that they need not be in memory together.
    exchange : Exchange
        From :func:`braindecode_clip.evaluate.group_labels.exchange_of`, with all subjects.
    options : GroupConfig, optional
    seed : int
        Every stream derives from it.

    Returns
    -------
    GroupResult

    Raises
    ------
    DataError
        Retrievals of several splits, encoders or galleries; a subject without one of the ROIs
        or decoders; files that do not belong together.
    """
    options = options or GroupConfig()
    infos: list[Mapping[str, Any]] = []

    def measured() -> Iterable[Any]:
        for retrieval in retrievals:
            infos.append(retrieval.info)
            shared_labels(infos)
            yield measure(retrieval, exchange, options=options, seed=seed)

    conditions = Conditions(measured())
    labels = shared_labels(infos)
    rows = subject_rows(conditions, options=options, labels=labels)
    if len(conditions.names["subject"]) > 1:
        rows += group_rows(conditions, rows, exchange, options=options, labels=labels, seed=seed)
    pairs = pair_rows(conditions, exchange, options=options, labels=labels, seed=seed)
    return GroupResult(
        without_nan(rows),
        without_nan(pairs),
        _notes(conditions, exchange, options, labels) + _alike_note([*rows, *pairs], labels),
        _transductive(infos),
    )


def _alike_note(rows: Iterable[Mapping[str, Any]], labels: Mapping[str, str]) -> list[str]:
    if all(row["level"] != "group" or row["ci_method"] != "none" for row in rows):
        return []
    return [
        f"group, split {labels['split']}, gallery {labels['gallery']}: where all subjects have the "
        "same score (or difference) there is no interval over them: equal numbers of few subjects "
        "say nothing about the next one."
    ]


def _transductive(infos: Iterable[Mapping[str, Any]]) -> list[str]:
    found = []
    for info in infos:
        if info.get("calibration") == "transductive":
            found.append(f"decoder {info.get('decoder')}: standardised by its test predictions")
        if info.get("transductive"):
            found.append(
                f"gallery {info.get('gallery')}: correction for hubs ({info.get('correction')}) "
                "from the test set"
            )
    return list(dict.fromkeys(found))


def _notes(
    conditions: Conditions, exchange: Exchange, options: GroupConfig, labels: Mapping[str, str]
) -> list[str]:
    where = f"group, split {labels['split']}, gallery {labels['gallery']}"
    subjects = conditions.names["subject"]
    n = len(subjects)
    notes = []
    if n == 1:
        notes.append(
            f"{where}: one subject, so nothing is said about a group: corrected p-values and "
            "paired comparisons of this subject alone."
        )
    elif n < FEW_SUBJECTS and options.resample == "subjects":
        notes.append(
            f"{where}: intervals over {n} subjects are Student's t with {n - 1} "
            f"{'degree' if n == 2 else 'degrees'} of freedom, which takes the scores of subjects "
            "as normal; a bootstrap of so few would be too narrow."
        )
    if n > 1:
        notes.append(
            f"{where}: p of a mean tests that no subject has any information, and one strong "
            "subject can reject it. How widespread the effect is, prevalence says."
        )
    fixed = [name for name in subjects if not exchange.permutable(name)]
    if fixed:
        notes.append(
            f"{where}: no p-values of labels for subjects {', '.join(fixed)}, whose labels have no "
            "other arrangement."
        )
    if len(exchange.classes) > 1 and exchange.unit == "stimulus":
        notes.append(
            f"{where}: test stimuli differ in who saw them, or how often. Labels change places "
            f"among those that the same subjects saw equally often ({len(exchange.classes)} sets; "
            f"{exchange.share_fixed:.0%} of the stimuli are alone in theirs and stay)."
        )
    few = min(len(set(own.tolist())) for own in exchange.cluster_of.values())
    if 2.0 ** (1 - few) > options.alpha:
        notes.append(
            f"{where}: paired comparisons rest on {few} "
            f"{'stimuli' if exchange.unit == 'stimulus' else 'runs'}; the smallest p that a "
            f"two-sided exchange can give in a subject is {2.0 ** (1 - few):.3g}."
        )
    return notes
