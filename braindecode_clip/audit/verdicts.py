"""What the rows amount to, in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from braindecode_clip.evaluate.paired import verdict

HELPED, HURT, NOT_SHOWN = "helped", "hurt", "no difference shown"


def verdict_of(row: Mapping[str, Any], alpha: float) -> str:
    """Say what q, interval and equivalence of a row amount to.

    Parameters
    ----------
    row : mapping
        difference, sign (of the score: 1 where more is better), q, p_equivalence, margin, level,
        ci_low and ci_high.
    alpha : float

    Returns
    -------
    str
        "helped" or "hurt" (q at most alpha), of a group "in these subjects" where the interval
        over subjects does not leave out 0; "equivalent within ±..." where two one-sided tests say
        so alone; "no difference shown".
    """
    ends = [row[key] if row[key] is not None else float("nan") for key in ("ci_low", "ci_high")]
    better = dict(row) | {
        "difference": row["sign"] * row["difference"],
        "ci_low": ends[0],
        "ci_high": ends[1],
    }
    words = verdict(better, alpha)
    if words == "undecided":
        return NOT_SHOWN
    if words == "equivalent":
        return f"equivalent within ±{row['margin']:g}"
    return words.replace("better", HELPED).replace("worse", HURT)


def kind_of(words: str) -> str:
    """Return helped, hurt, equivalent or no difference shown."""
    for kind in (HELPED, HURT, "equivalent"):
        if words.startswith(kind):
            return kind
    return NOT_SHOWN


def finding(rows: Sequence[Mapping[str, Any]], original: str, adapted: str) -> dict[str, Any]:
    """Count the verdicts of an adapted encoder, and say them in a sentence.

    Counted are top-1 and pairwise identification, brain to image, of all test pictures: over
    subjects, or of the only one.
    """
    own = [row for row in rows if (row["original"], row["adapted"]) == (original, adapted)]
    has_group = any(row["level"] == "group" for row in own)
    counted = [
        row
        for row in own
        if row["direction"] == "brain_to_image"
        and row["metric"] in ("top_1", "pairwise")
        and row["subset"] == "all"
        and row["level"] == ("group" if has_group else "subject")
    ]
    counts = Counter(kind_of(row["verdict"]) for row in counted)
    beyond = sum(
        kind_of(row["verdict"]) == HELPED and _is_above(row, "beyond_geometry") for row in counted
    )
    both = sum(
        kind_of(row["verdict"]) == HELPED
        and _is_above(row, "original_space")
        and _is_above(row, "adapted_space")
        for row in counted
    )
    n_helped = counts[HELPED]
    said = ", ".join(
        f"{kind} in {counts[kind]}" for kind in (HELPED, HURT, "equivalent", NOT_SHOWN)
    )
    sentence = (
        f"{adapted} against {original}, top-1 and pairwise identification, {len(counted)} "
        f"comparisons: {said}."
    )
    if n_helped:
        sentence += (
            f" Of the {n_helped} that helped, {beyond} did more than geometry gives (interval "
            f"above 0), {both} also in each of the two spaces."
        )
    return {
        "original": original,
        "adapted": adapted,
        "n_comparisons": len(counted),
        **{f"n_{kind.replace(' ', '_')}": counts[kind] for kind in (HELPED, HURT, "equivalent")},
        "n_not_shown": counts[NOT_SHOWN],
        "n_helped_beyond_geometry": beyond,
        "n_helped_in_both_spaces": both,
        "sentence": sentence,
    }


def _is_above(row: Mapping[str, Any], kind: str) -> bool:
    low = row.get(f"{kind}_ci_low")
    return low is not None and low > 0
