"""What the rows amount to, in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from braindecode_clip.evaluate.paired import verdict

#: Labels of a comparison.
PLACE = ("subject", "split", "gallery", "roi", "decoder")
#: Comparisons that are said with their numbers.
MOST_SAID = 4
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
    """Count the verdicts of an adapted encoder, and say them in words.

    Counted are top-1 and pairwise identification, brain to image: over subjects, or of the only
    one; of all test pictures, and of those held out by themselves.
    """
    own = [row for row in rows if (row["original"], row["adapted"]) == (original, adapted)]
    has_group = any(row["level"] == "group" for row in own)
    counted = [
        row
        for row in own
        if row["direction"] == "brain_to_image"
        and row["metric"] in ("top_1", "pairwise")
        and row["level"] == ("group" if has_group else "subject")
    ]
    found: dict[str, Any] = {"original": original, "adapted": adapted}
    sentences = []
    for subset, name in (("all", "all test pictures"), ("held_out", "held-out pictures")):
        part = [row for row in counted if row["subset"] == subset]
        if part:
            found[subset] = _counts(part)
            sentences.append(_sentence(part, found[subset], name))
    return found | {"sentence": f"{adapted} against {original}: {' '.join(sentences)}"}


def _counts(rows: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    kinds = Counter(kind_of(row["verdict"]) for row in rows)
    helped = [row for row in rows if kind_of(row["verdict"]) == HELPED]
    return {
        "n_comparisons": len(rows),
        "n_helped": kinds[HELPED],
        "n_hurt": kinds[HURT],
        "n_equivalent": kinds["equivalent"],
        "n_not_shown": kinds[NOT_SHOWN],
        "n_helped_beyond_geometry": sum(_is_above(row, "beyond_geometry") for row in helped),
        "n_helped_in_both_spaces": sum(
            _is_above(row, "original_space") and _is_above(row, "adapted_space") for row in helped
        ),
    }


def _sentence(rows: Sequence[Mapping[str, Any]], counts: Mapping[str, int], name: str) -> str:
    """Give each of a few comparisons with its numbers, and count many."""
    text = f"{name}, "
    if len(rows) <= MOST_SAID:
        apart = [key for key in PLACE if len({row.get(key) for row in rows}) > 1]
        text += "; ".join(_numbers(row, apart) for row in rows)
    else:
        text += f"top-1 and pairwise identification, {counts['n_comparisons']} comparisons: "
        kinds = ((HELPED, "helped"), (HURT, "hurt"), ("equivalent", "equivalent"))
        text += ", ".join(f"{kind} in {counts[f'n_{key}']}" for kind, key in kinds)
        text += f", {NOT_SHOWN} in {counts['n_not_shown']}"
    text += "."
    more = []
    if any(row.get("beyond_geometry") is not None for row in rows):
        more.append(
            f"{counts['n_helped_beyond_geometry']} did more than geometry gives (interval above 0)"
        )
    if any(row.get("original_space") is not None for row in rows):
        more.append(f"{counts['n_helped_in_both_spaces']} helped in each of the two spaces")
    if counts["n_helped"] and more:
        text += f" Of the {counts['n_helped']} that helped, {' and '.join(more)}."
    return text


def _numbers(row: Mapping[str, Any], apart: Sequence[str]) -> str:
    """Give a comparison with its numbers, named by the labels that tell it from the others."""
    where = "".join(f"{key} {row[key]}, " for key in apart)
    metric = {"top_1": "top-1"}.get(row["metric"], row["metric"])
    ends = [row["ci_low"], row["ci_high"]]
    known = all(end is not None and end == end for end in ends)
    # Rounding must not make a negative nothing.
    points = round(100 * row["difference"], 1) + 0.0
    between = f", {100 * ends[0]:.1f} to {100 * ends[1]:.1f}" if known else ""
    return (
        f"{where}{metric} {100 * row['original_value']:.1f} to "
        f"{100 * row['adapted_value']:.1f} % ({points:+.1f} points{between}, q = "
        f"{row['q']:.3g}): {row['verdict']}"
    )


def _is_above(row: Mapping[str, Any], kind: str) -> bool:
    low = row.get(f"{kind}_ci_low")
    return low is not None and low > 0
