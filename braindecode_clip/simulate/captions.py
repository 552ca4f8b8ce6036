"""Captions of scenes: true, in varied wording, from a small closed vocabulary.

Words are in lower case and separated by single blanks, without punctuation: a tokeniser
that splits at blanks and knows ``CAPTION_WORDS`` reads every caption.
"""

from __future__ import annotations

import numpy as np

from braindecode_clip.simulate.scenes import INVERSE_RELATION, Scene, SceneObject

#: Words for each shape: (one, many), the plainest first.
SHAPE_WORDS: dict[str, tuple[tuple[str, str], ...]] = {
    "circle": (("circle", "circles"), ("disc", "discs")),
    "square": (("square", "squares"), ("box", "boxes")),
    "triangle": (("triangle", "triangles"),),
    "star": (("star", "stars"),),
    "heart": (("heart", "hearts"),),
    "cross": (("cross", "crosses"), ("plus", "pluses")),
}
COLOUR_WORDS: dict[str, tuple[str, ...]] = {
    "red": ("red",),
    "orange": ("orange",),
    "yellow": ("yellow",),
    "green": ("green",),
    "turquoise": ("turquoise", "cyan"),
    "blue": ("blue",),
    "purple": ("purple", "violet"),
    "pink": ("pink",),
}
SIZE_WORDS: dict[str, tuple[str, ...]] = {
    "small": ("small", "little", "tiny"),
    "medium": ("medium",),
    "large": ("large", "big", "huge"),
}
TEXTURE_WORDS: dict[str, tuple[str, ...]] = {
    "plain": ("plain", "solid"),
    "striped": ("striped",),
    "dotted": ("dotted", "spotted"),
    "checked": ("checked", "chequered"),
}
BACKGROUND_WORDS: dict[str, tuple[str, ...]] = {
    "plain": ("plain", "even"),
    "shaded": ("shaded", "graded"),
    "tiled": ("tiled",),
    "speckled": ("speckled", "grainy"),
}
BACKGROUND_COLOUR_WORDS: dict[str, tuple[str, ...]] = {
    "white": ("white",),
    "grey": ("grey",),
    "black": ("black",),
    "beige": ("beige", "sandy"),
    "navy": ("navy",),
}
RELATION_WORDS: dict[str, tuple[str, ...]] = {
    "left of": ("left of", "to the left of"),
    "right of": ("right of", "to the right of"),
    "above": ("above", "over"),
    "below": ("below", "under"),
}
COUNT_WORDS: dict[int, tuple[str, ...]] = {
    1: ("a", "one"),
    2: ("two", "a pair of"),
    3: ("three", "a trio of"),
}
GROUND_WORDS: tuple[str, ...] = ("ground", "background")
OPENINGS: tuple[str, ...] = (
    "",
    "a picture of",
    "an image of",
    "a drawing of",
    "a scene with",
    "we see",
)

# Share of captions that mention an attribute. Plain and medium are what one leaves unsaid.
_MENTION_SIZE = {"small": 0.92, "medium": 0.5, "large": 0.92}
_MENTION_TEXTURE = {"plain": 0.5, "striped": 0.95, "dotted": 0.95, "checked": 0.95}
_MENTION_BACKGROUND = 0.9
_MENTION_BACKGROUND_KIND = {"plain": 0.5, "shaded": 0.9, "tiled": 0.9, "speckled": 0.9}
_MENTION_COLOUR = 0.97


def _all_words() -> tuple[str, ...]:
    phrases: list[str] = ["a an on there is are", *GROUND_WORDS, *OPENINGS]
    phrases += [word for forms in SHAPE_WORDS.values() for form in forms for word in form]
    for table in (
        COLOUR_WORDS,
        SIZE_WORDS,
        TEXTURE_WORDS,
        BACKGROUND_WORDS,
        BACKGROUND_COLOUR_WORDS,
        RELATION_WORDS,
        COUNT_WORDS,
    ):
        phrases += [word for words in table.values() for word in words]
    return tuple(sorted({word for phrase in phrases for word in phrase.split()}))


#: Every word that a caption can hold, sorted.
CAPTION_WORDS: tuple[str, ...] = _all_words()


def caption(scene: Scene, rng: np.random.Generator) -> str:
    """Describe a scene in one sentence without punctuation.

    Parameters
    ----------
    scene : Scene
        What to describe.
    rng : numpy.random.Generator
        Chooses the template, the synonyms and which attributes stay unsaid.

    Returns
    -------
    str
        For example "two small striped red triangles left of a large blue circle on a
        tiled grey ground". Every statement is true of the scene; at most 28 words.
    """
    groups = scene.groups
    if scene.relation is None:
        subject = _group_phrase(groups[0], rng)
        first = groups[0]
    else:
        relation, first, second = scene.relation, groups[0], groups[1]
        # The same place seen from the other group: "a below b" is "b above a".
        if rng.random() < 0.35:
            relation, first, second = INVERSE_RELATION[relation], second, first
        subject = " ".join(
            (
                _group_phrase(first, rng),
                _pick(rng, RELATION_WORDS[relation]),
                _group_phrase(second, rng),
            )
        )
    ground = _ground_phrase(scene, rng)
    if ground and rng.random() < 0.2:
        is_one = subject.startswith(("a ", "an ", "one "))
        return f"{ground} there {'is' if is_one else 'are'} {subject}"
    opening = _pick(rng, OPENINGS) if rng.random() < 0.6 else ""
    return " ".join(part for part in (opening, subject, ground) if part)


def _pick(rng: np.random.Generator, options: tuple[str, ...]) -> str:
    return options[int(rng.integers(len(options)))]


def _group_phrase(group: tuple[SceneObject, ...], rng: np.random.Generator) -> str:
    item = group[0]
    words: list[str] = []
    if rng.random() < _MENTION_SIZE[item.size]:
        words.append(_pick(rng, SIZE_WORDS[item.size]))
    if rng.random() < _MENTION_TEXTURE[item.texture]:
        words.append(_pick(rng, TEXTURE_WORDS[item.texture]))
    if rng.random() < _MENTION_COLOUR:
        words.append(_pick(rng, COLOUR_WORDS[item.colour]))
    forms = SHAPE_WORDS[item.shape]
    one, many = forms[int(rng.integers(len(forms)))]
    words.append(one if len(group) == 1 else many)
    return _with_count(words, _pick(rng, COUNT_WORDS[len(group)]))


def _ground_phrase(scene: Scene, rng: np.random.Generator) -> str:
    if rng.random() >= _MENTION_BACKGROUND:
        return ""
    words: list[str] = []
    if rng.random() < _MENTION_BACKGROUND_KIND[scene.background]:
        words.append(_pick(rng, BACKGROUND_WORDS[scene.background]))
    words.append(_pick(rng, BACKGROUND_COLOUR_WORDS[scene.background_colour]))
    words.append(_pick(rng, GROUND_WORDS))
    return "on " + _with_count(words, "a")


def _with_count(words: list[str], count: str) -> str:
    if count == "a" and words[0][0] in "aeiou":
        count = "an"
    return " ".join([count, *words])
