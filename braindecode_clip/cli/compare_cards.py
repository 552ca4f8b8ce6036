"""What ``compare CARD CARD`` does: whether two numbers may be compared at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import typer

from braindecode_clip.checks import Problems
from braindecode_clip.errors import BraindecodeError, DataError

if TYPE_CHECKING:
    from braindecode_clip.artifacts import Retrieval
    from braindecode_clip.cards import Card, Comparison
    from braindecode_clip.cards.card import Score

#: Exit code where two cards' numbers are not comparable.
NOT_COMPARABLE = 3
_FILES = {"brain_to_image": "retrieval", "image_to_brain": "reverse"}


def compare_two_cards(
    paths: Sequence[Path], *, metric: str, direction: str | None, out: Path | None
) -> None:
    """Print every part's verdict, and the difference where there is one; exit 3 where not."""
    from braindecode_clip.cards import compare_cards
    from braindecode_clip.cards.compare import choose_scores
    from braindecode_clip.io.atomic import write_json

    first, second = read_cards(paths)
    chosen = choose_scores(first, second, metric=metric, direction=direction)
    ranked, notes = [], []
    for path, card, score in zip(paths, (first, second), chosen, strict=True):
        item, note = ranks_of(path, card, score)
        ranked.append(item)
        notes += [note] if note else []
    found = compare_cards(
        first,
        second,
        metric=metric,
        direction=direction,
        retrievals=(ranked[0], ranked[1]),
        rng=np.random.default_rng(0),
    )
    typer.echo(as_text(found, (first, second), notes))
    if out is not None:
        content = asdict(found) | {
            "first": found.first.model_dump(mode="json"),
            "second": found.second.model_dump(mode="json"),
            "cards": [str(path) for path in paths],
            "notes": notes,
        }
        write_json(out, content)
    if not found.comparable:
        raise typer.Exit(NOT_COMPARABLE)


def read_cards(paths: Sequence[Path]) -> list[Card]:
    """Read cards; the problems of all of them in one message."""
    from braindecode_clip.cards import parse_card
    from braindecode_clip.io.tables import read_json

    problems = Problems("compare")
    cards = []
    for path in paths:
        try:
            cards.append(parse_card(read_json(path), where=str(path)))
        except BraindecodeError as error:
            problems.add(str(error))
    problems.raise_if_any()
    return cards


def ranks_of(path: Path, card: Card, score: Score) -> tuple[Retrieval | None, str]:
    """Return the ranks that a card points to, or None; with what is to be said about them."""
    from braindecode_clip.artifacts import Retrieval
    from braindecode_clip.cards.card import OWN_GALLERY
    from braindecode_clip.cards.compare import per_query
    from braindecode_clip.io.hdf5 import load_artifact

    named = card.origin.files.get(_FILES.get(str(score.direction), ""))
    if named is None or score.protocol != OWN_GALLERY:
        return None, ""
    file = path.parent / named
    if not file.is_file():
        return None, f"{path.name}: its ranks are not there ({named}), so nothing is paired."
    try:
        found = load_artifact(file, Retrieval)
    except DataError as error:
        return None, f"{path.name}: its ranks cannot be read: {error}"
    own = per_query(found, score.metric)
    if own is not None and abs(float(own.mean()) - score.value) > 1e-6:
        return None, f"{path.name}: {named} is of another result than the card. Re-run `card`."
    return found, ""


def as_text(found: Comparison, cards: Sequence[Card], notes: Sequence[str]) -> str:
    """Return a comparison as lines to read."""
    from braindecode_clip.cards.fields import UNKNOWN
    from braindecode_clip.cards.markdown import number

    metric = found.first.metric
    lines = []
    for position, card, score in zip(
        ("first", "second"), cards, (found.first, found.second), strict=True
    ):
        direction = (score.direction or "direction unknown").replace("_", " ")
        value = number(metric, score.value)
        lines.append(f"{position}: {card.title}: {metric}, {direction}, {value}")
    width = max(len(field.name) for field in found.fields)
    lines.append("")
    for field in found.fields:
        if field.effect == "none" and field.first == field.second == UNKNOWN:
            continue
        pair = field.first if field.verdict == "same" else f"{field.first} | {field.second}"
        mark = {"blocks": "!!", "unpairs": " !", "choice": " !"}.get(field.effect, "  ")
        lines.append(f"{mark} {field.name:<{width}}  {field.verdict}: {pair}")
        if field.why and field.verdict != "same":
            lines.append(f"   {'':<{width}}  {field.why}")
    lines += ["", *found.advice, *notes]
    lines.append("The numbers are comparable." if found.comparable else "Not comparable.")
    if found.difference is not None:
        lines.append(_difference(found, metric))
    return "\n".join(lines)


def _difference(found: Comparison, metric: str) -> str:
    from braindecode_clip.cards.markdown import number

    apart = found.difference
    assert apart is not None
    text = f"difference {number(metric, apart.value)}"
    if apart.low is None or apart.confidence is None:
        return f"{text}; without intervals in both cards nothing says how sure it is."
    ends = f"[{number(metric, apart.low)}, {number(metric, apart.high)}]"
    of = "" if apart.n is None else f", n = {apart.n}"
    return f"{text} {ends} ({100 * apart.confidence:g} % interval, {apart.how}{of})"
