"""Which parts of two cards must agree before their numbers may stand side by side."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from braindecode_clip.cards.card import Card, Score

Verdict = Literal["same", "differs and matters", "differs and does not matter", "unknown"]
#: Stands for what a card does not say.
UNKNOWN = "unknown"
#: What a difference does: rules the comparison out, rules out pairing by picture, is itself part
#: of what is compared, or nothing.
Effect = Literal["blocks", "unpairs", "choice", "none"]


@dataclass(frozen=True)
class Field:
    """One part of the two cards.

    Attributes
    ----------
    name : str
    first, second : str
        As the cards have it; "unknown" where they do not say.
    verdict : {"same", "differs and matters", "differs and does not matter", "unknown"}
    effect : {"blocks", "unpairs", "choice", "none"}
        "none" where the parts are the same, or nothing follows.
    why : str
    """

    name: str
    first: str
    second: str
    verdict: Verdict
    effect: Effect
    why: str


@dataclass(frozen=True)
class _Rule:
    name: str
    read: Callable[[Card, Score], Any]
    effect: Effect
    why: str
    #: What follows when one card does not say.
    unknown: Effect = "none"


_RULES = (
    _Rule("metric", lambda c, s: s.metric, "blocks", "Another metric is another quantity."),
    _Rule(
        "protocol",
        lambda c, s: s.protocol,
        "blocks",
        "Protocols draw candidates and average in their own ways.",
    ),
    _Rule(
        "direction",
        lambda c, s: s.direction,
        "blocks",
        "Brain to image ranks images, image to brain ranks brain samples.",
        "blocks",
    ),
    _Rule(
        "candidates",
        lambda c, s: s.n_gallery,
        "blocks",
        "The more candidates, the lower the score of the same predictions.",
        "blocks",
    ),
    _Rule("data set", lambda c, s: c.data.dataset, "blocks", "Other data, another task.", "blocks"),
    _Rule(
        "number of subjects",
        lambda c, s: c.data.subjects and len(c.data.subjects),
        "blocks",
        "One person's score is no mean over people.",
        "blocks",
    ),
    _Rule(
        "subjects",
        lambda c, s: c.data.subjects and tuple(sorted(c.data.subjects)),
        "choice",
        "The difference is between people as well.",
    ),
    _Rule(
        "sessions",
        lambda c, s: c.data.n_sessions,
        "choice",
        "The decoders had unequal amounts of data, and the test pictures may be others: NSD "
        "released 37 of the 40 sessions, which leaves 982 instead of 1000 shared pictures.",
    ),
    _Rule(
        "training pictures",
        lambda c, s: c.data.n_train_pictures,
        "choice",
        "The decoders had unequal amounts of data.",
    ),
    _Rule(
        "number of test pictures",
        lambda c, s: c.data.n_test_pictures,
        "choice",
        "Another test set; the score may differ by its pictures alone.",
    ),
    _Rule(
        "test pictures",
        lambda c, s: c.data.test_digest,
        "unpairs",
        "Without the same pictures nothing can be paired: the difference holds their luck too.",
        "unpairs",
    ),
    _Rule(
        "repeats",
        lambda c, s: c.data.repeats,
        "blocks",
        "A query of more repeats has less noise.",
        "blocks",
    ),
    _Rule(
        "where they were averaged",
        lambda c, s: c.data.averaged,
        "blocks",
        "Averaging responses and averaging predictions do not give the same score.",
        "blocks",
    ),
    _Rule(
        "held out",
        lambda c, s: c.split.unit,
        "blocks",
        "Telling known stimuli apart is not identifying unseen ones.",
        "blocks",
    ),
    _Rule(
        "steps that used the test set",
        lambda c, s: None if c.transductive is None else tuple(sorted(c.transductive)),
        "blocks",
        "A number that used the test set stands beside others of its kind alone.",
    ),
    _Rule(
        "hubness correction",
        lambda c, s: s.correction or "none",
        "choice",
        "The correction is part of the system.",
    ),
    _Rule(
        "encoder",
        lambda c, s: c.encoder.digest or c.encoder.name,
        "choice",
        "Only as a choice of system: encoder and decoder are compared together.",
    ),
    _Rule("region", lambda c, s: c.voxels.roi, "choice", "The region is part of the system."),
    _Rule(
        "voxels",
        lambda c, s: c.voxels.n_kept or c.voxels.n_voxels,
        "choice",
        "The selection of voxels is part of the system.",
    ),
    _Rule("decoder", lambda c, s: c.decoder.name, "none", "It is what is compared."),
    _Rule("calibration", lambda c, s: c.decoder.calibration, "none", "Part of the decoder."),
    _Rule(
        "level of the interval",
        lambda c, s: s.confidence,
        "none",
        "The numbers compare, their intervals do not.",
    ),
    _Rule("seed", lambda c, s: c.origin.seed, "none", "Another draw of the same streams."),
    _Rule(
        "version",
        lambda c, s: c.origin.version,
        "none",
        "The definitions above are what has to agree.",
    ),
    _Rule(
        "code",
        lambda c, s: tuple(sorted(c.origin.code.items())) or None,
        "none",
        "The definitions above are what has to agree.",
    ),
)


def compare_fields(first: tuple[Card, Score], second: tuple[Card, Score]) -> list[Field]:
    """Return a verdict about every part of two cards and their scores."""
    found = []
    for rule in _RULES:
        one, two = rule.read(*first), rule.read(*second)
        texts = (_text(one), _text(two))
        if one is None or two is None:
            why = rule.why if rule.unknown != "none" else ""
            found.append(Field(rule.name, *texts, "unknown", rule.unknown, why))
        elif one == two:
            found.append(Field(rule.name, *texts, "same", "none", ""))
        else:
            matters = rule.effect != "none"
            verdict: Verdict = "differs and matters" if matters else "differs and does not matter"
            found.append(Field(rule.name, *texts, verdict, rule.effect, rule.why))
    return found


def _text(value: Any) -> str:
    if value is None:
        return UNKNOWN
    if isinstance(value, tuple):
        if not value:
            return "none"
        return ", ".join(" ".join(map(str, v)) if isinstance(v, tuple) else _text(v) for v in value)
    return f"{value:g}" if isinstance(value, float) else str(value)
