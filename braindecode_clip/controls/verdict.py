"""Sentences about what the controls found, from stated rules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from braindecode_clip.controls.scores import JUDGED

FINE, NOTE, SUSPICIOUS = "fine", "note", "suspicious"
NOT_APPLICABLE = "not applicable"
LEVELS = (SUSPICIOUS, NOTE, FINE, NOT_APPLICABLE)
#: Below this share of the targets' effective rank, predictions count as narrow.
NARROW_SHARE = 0.25


@dataclass(frozen=True)
class Verdict:
    """One finding.

    Attributes
    ----------
    control : str
        As in the rows; also "overlap" and "effective_rank".
    decoder : str
        "" where it is of no decoder.
    level : {"suspicious", "note", "fine", "not applicable"}
    sentence : str
        What was found.
    advice : str
        What to do; "" where there is nothing.
    """

    control: str
    decoder: str
    level: str
    sentence: str
    advice: str


def judge(
    rows: Sequence[dict[str, Any]],
    overlap: dict[str, Any] | None,
    spectra: Sequence[dict[str, Any]],
    *,
    confidence: float,
) -> list[Verdict]:
    """Apply the rules; each is on pairwise identification from brain to image.

    - shuffled: suspicious when its whole interval lies above chance.
    - nearest_train: suspicious when the real score is above chance and the interval of the
      paired difference (real - nearest) reaches 0.
    - held_out_cluster: suspicious when its interval reaches down to chance while the matched
      control's does not; a note when the matched control is better by a whole interval.
    - overlap: suspicious when a test picture has a near duplicate in train; a note when test
      pictures lie nearer to train (mean percentile .75 or more) than training pictures do to
      one another.
    - constant: a note when its interval does not hold chance.
    - effective_rank: a note when predictions have less than a quarter of the targets'.

    Parameters
    ----------
    rows, overlap, spectra
        As in :class:`braindecode_clip.controls.stage.Controls`.
    confidence : float
        Level of the intervals, for the sentences.

    Returns
    -------
    list of Verdict
    """
    judged = [row for row in rows if (row["direction"], row["metric"]) == JUDGED]
    by = {(row["control"], row["decoder"]): row for row in judged}
    level = f"{100 * confidence:g} %"
    found = [
        _nearest(by["real", name], row, level)
        for (control, name), row in by.items()
        if control == "nearest_train"
    ]
    for (control, name), row in by.items():
        if control == "held_out_cluster":
            found.append(_held_out(by["matched", name], row))
        elif control == "shuffled":
            found.append(_shuffled(row))
        elif control == "constant":
            found.append(_constant(row))
    if overlap is not None:
        found.append(_overlap(overlap))
    return found + _narrow(spectra)


def _pc(
    row: dict[str, Any], value: str = "value", low: str = "ci_low", high: str = "ci_high"
) -> str:
    return f"{100 * row[value]:.1f} % [{100 * row[low]:.1f}, {100 * row[high]:.1f}]"


def _apart(row: dict[str, Any]) -> str:
    ends = (100 * row[name] for name in ("difference", "difference_low", "difference_high"))
    return "{:+.1f} [{:+.1f}, {:+.1f}] points".format(*ends)


def _nearest(real: dict[str, Any], row: dict[str, Any], level: str) -> Verdict:
    numbers = (
        f"pairwise identification is {_pc(real)}; with every prediction replaced by the nearest "
        f"training picture {_pc(row)} remain (difference {_apart(row)}, {level} interval)"
    )
    name = row["decoder"]
    if real["ci_low"] <= real["chance"]:
        text = f"There is no identification above chance to be explained: {numbers}."
        return Verdict("nearest_train", name, FINE, text, "")
    if row["difference_low"] <= 0:
        return Verdict(
            "nearest_train",
            name,
            SUSPICIOUS,
            f"Recognising the nearest training picture reaches the score: {numbers}.",
            "Do not conclude that unseen pictures are decoded. Test on pictures unlike those "
            "trained on: hold out whole categories, or leave out test pictures near train.",
        )
    text = f"The score is more than recognising the nearest training picture: {numbers}."
    return Verdict("nearest_train", name, FINE, text, "")


def _held_out(matched: dict[str, Any], row: dict[str, Any]) -> Verdict:
    numbers = (
        f"without the training pictures of the test picture's cluster pairwise identification is "
        f"{_pc(row)}, without as many random ones {_pc(matched)} (difference {_apart(row)}; "
        f"{row['n_clusters']} clusters)"
    )
    name = row["decoder"]
    if matched["ci_low"] <= matched["chance"]:
        text = f"The matched control is itself not above chance, so nothing can fall: {numbers}."
        return Verdict("held_out_cluster", name, NOTE, text, "")
    if row["ci_low"] <= row["chance"]:
        return Verdict(
            "held_out_cluster",
            name,
            SUSPICIOUS,
            f"Identification falls to chance: {numbers}.",
            "The decoder tells known kinds of pictures apart and does not generalise beyond "
            "them. Report this score beside the other, and train on more varied pictures.",
        )
    if row["difference_low"] > 0:
        return Verdict(
            "held_out_cluster",
            name,
            NOTE,
            f"Part of the score needs training pictures like the test picture: {numbers}.",
            "Report both scores.",
        )
    text = f"The score does not need training pictures like the test picture: {numbers}."
    return Verdict("held_out_cluster", name, FINE, text, "")


def _shuffled(row: dict[str, Any]) -> Verdict:
    numbers = (
        f"on shuffled pairs pairwise identification is {_pc(row)}, "
        f"{100 * row['lowest']:.1f} to {100 * row['highest']:.1f} % over {row['n_seeds']} shuffles"
    )
    if row["ci_low"] > row["chance"]:
        return Verdict(
            "shuffled",
            row["decoder"],
            SUSPICIOUS,
            f"A decoder that was taught nothing is above chance: {numbers}.",
            "Something of the test set reaches the training part or the candidates. Look for "
            "test rows in train, for statistics over all trials, and for unequal candidates.",
        )
    text = f"A decoder that was taught nothing finds nothing: {numbers}."
    return Verdict("shuffled", row["decoder"], FINE, text, "")


def _constant(row: dict[str, Any]) -> Verdict:
    numbers = (
        f"the mean of the training targets scores {_pc(row)}, a guess {100 * row['chance']:g} %"
    )
    if row["ci_low"] <= row["chance"] <= row["ci_high"]:
        text = f"A prediction without data scores as a guess: {numbers} (pairwise)."
        return Verdict("constant", row["decoder"], FINE, text, "")
    return Verdict(
        "constant",
        row["decoder"],
        NOTE,
        f"A prediction without data does not score as a guess: {numbers} (pairwise).",
        "Hold scores of this split against the constant prediction as well: where categories "
        "are held out in turn, the mean of the others is unlike the one that is tested.",
    )


def _overlap(found: dict[str, Any]) -> Verdict:
    numbers = (
        f"the median test picture has a cosine of {found['test_to_train']['q50']:.3f} with its "
        f"nearest training picture, the median training picture "
        f"{found['train_to_train']['q50']:.3f} with its nearest other one"
    )
    if found["near_duplicates"] > 0:
        n = len(found["near_duplicate_ids"])
        return Verdict(
            "overlap",
            "",
            SUSPICIOUS,
            f"{n} of {found['n_test']} test pictures have a near duplicate in the training part "
            f"(cosine {found['threshold']:g} or more); {numbers}.",
            "Leave them out of the test part (they are listed under near_duplicate_ids) and "
            "compare the scores.",
        )
    if found["mean_percentile"] >= 0.75:
        return Verdict(
            "overlap",
            "",
            NOTE,
            f"Test pictures lie nearer to train than training pictures to one another: {numbers}.",
            "Read the held-out-cluster score.",
        )
    text = f"No near duplicates of test pictures in train: {numbers}."
    return Verdict("overlap", "", FINE, text, "")


def _narrow(spectra: Sequence[dict[str, Any]]) -> list[Verdict]:
    targets = next(item for item in spectra if item["what"] == "targets")
    found = []
    for item in spectra:
        if item["what"] != "predictions":
            continue
        numbers = (
            f"effective rank {item['effective_rank']:.1f}, of the true embeddings "
            f"{targets['effective_rank']:.1f} (n = {item['n']})"
        )
        if item["effective_rank"] < NARROW_SHARE * targets["effective_rank"]:
            level, advice = NOTE, "Look at the bottleneck curve: few features may carry the score."
            text = f"Predictions vary along few directions: {numbers}."
        else:
            level, advice = FINE, ""
            text = f"Predictions vary along many directions: {numbers}."
        found.append(Verdict("effective_rank", str(item["decoder"]), level, text, advice))
    return found
