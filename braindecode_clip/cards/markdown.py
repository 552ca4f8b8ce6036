"""A card as text to read."""

from __future__ import annotations

from typing import Any

from braindecode_clip.cards.card import OWN_GALLERY, Card, Score

_SHARES = ("pairwise",)
_HELD_OUT = {"stimulus": "whole stimuli", "run": "whole runs"}


def card_text(card: Card) -> str:
    """Return a card as Markdown: a table of the scores, and a list of what they are of."""
    lines = [f"# {card.title}", ""]
    if card.kind == "published":
        checked = str(card.origin.checked).replace("_", " ")
        lines += [f"Published number ({checked}): {card.origin.source}", ""]
    lines += _scores(card.scores)
    lines += ["", "## What it is of", ""]
    lines += [f"- {name}: {text}" for name, text in _facts(card) if text]
    lines += [f"- note: {note}" for note in card.notes]
    lines += [
        f"- {score.metric}, {_arrow(score)}: {score.note}" for score in card.scores if score.note
    ]
    definitions = {score.metric: score.definition for score in card.scores if score.definition}
    if definitions:
        lines += ["", "## Definitions", ""]
        lines += [f"- {metric}: {text}" for metric, text in definitions.items()]
    return "\n".join(lines) + "\n"


def number(metric: str, value: float | None) -> str:
    """Return a score as its metric is read: shares in percent, the others plain."""
    if value is None:
        return "unknown"
    if metric.startswith("top_") or metric in _SHARES:
        return f"{100 * value:.1f} %"
    return f"{value:.3g}"


def _arrow(score: Score) -> str:
    return "unknown" if score.direction is None else score.direction.replace("_to_", " → ")


def _scores(scores: list[Score]) -> list[str]:
    head = ("protocol", "direction", "metric", "value", "interval", "chance", "p", "ceiling")
    head = (*head, "candidates", "n")
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for score in scores:
        # Protocols have candidates of their own, whatever gallery they stand beside.
        is_own = score.protocol == OWN_GALLERY and score.gallery is not None
        name = f"{score.protocol} {score.gallery}" if is_own else score.protocol
        ends = ""
        if score.ci_low is not None and score.confidence is not None:
            low, high = (number(score.metric, end) for end in (score.ci_low, score.ci_high))
            ends = f"[{low}, {high}] ({100 * score.confidence:g} %)"
        cells = (
            name,
            _arrow(score),
            score.metric,
            number(score.metric, score.value),
            ends or "unknown",
            number(score.metric, score.chance),
            "unknown" if score.p is None else f"{score.p:.2g}",
            number(score.metric, score.ceiling),
            _plain(score.n_gallery),
            _plain(score.n),
        )
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _plain(value: Any) -> str:
    return "unknown" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _facts(card: Card) -> list[tuple[str, str]]:
    data, voxels, encoder = card.data, card.voxels, card.encoder
    decoder, split, origin = card.decoder, card.split, card.origin
    kept = ""
    if voxels.n_kept is not None:
        low, high = voxels.n_kept
        kept = f", {low} kept" if low == high else f", {low} to {high} kept in each fold"
    steps = "not known" if card.transductive is None else ", ".join(card.transductive) or "none"
    code = ", ".join(f"{stage} {digest}" for stage, digest in origin.code.items())
    return [
        ("data set", data.dataset),
        ("subjects", ", ".join(data.subjects or ["unknown"])),
        ("sessions, runs", f"{_plain(data.n_sessions)}, {_plain(data.n_runs)}"),
        ("training part", _part(data.n_train_pictures, data.n_train_samples, data.train_digest)),
        ("test part", _part(data.n_test_pictures, data.n_test_samples, data.test_digest)),
        ("repeats of a test query", f"{_plain(data.repeats)}, averaged: {_plain(data.averaged)}"),
        ("voxels", f"{_plain(voxels.roi)}, {_plain(voxels.n_voxels)}{kept}"),
        ("selection and scaling", _options(voxels.options)),
        ("encoder", f"{encoder.name}, digest {_plain(encoder.digest)}"),
        ("decoder", f"{decoder.name} ({_plain(decoder.kind)})"),
        ("calibration", _plain(decoder.calibration)),
        ("split", f"{_plain(split.name)}, folds: {_plain(split.n_folds)}"),
        ("held out", "unknown" if split.unit is None else _HELD_OUT[split.unit]),
        ("steps that used the test set", steps),
        ("seed", "" if origin.seed is None else str(origin.seed)),
        ("version, code", "" if origin.version is None else f"{origin.version}; {code}"),
        ("source", "" if origin.url is None else origin.url),
    ]


def _part(pictures: int | None, samples: int | None, digest: str | None) -> str:
    text = f"{_plain(pictures)} pictures, {_plain(samples)} samples"
    return text if digest is None else f"{text}, ids {digest}"


def _options(options: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in sorted(options.items()))
