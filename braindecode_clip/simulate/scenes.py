"""Scenes of one to three objects: what may stand in a picture, and how it is drawn by lot.

A scene is pure data, the ground truth of everything that follows: the picture
(:mod:`~braindecode_clip.simulate.render`), the caption
(:mod:`~braindecode_clip.simulate.captions`), the simulated brain responses and, later,
the probing of what a decoder has read. Coordinates run from 0 to 1, ``x`` to the right
and ``y`` downwards, as in the picture.

Some compositions, pairs of a shape and a colour, are held out: no training scene holds
one, so that a test can ask for what was never seen together.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import groupby

import numpy as np

from braindecode_clip.errors import DataError

SHAPES: tuple[str, ...] = ("circle", "square", "triangle", "star", "heart", "cross")
COLOURS: tuple[str, ...] = (
    "red",
    "orange",
    "yellow",
    "green",
    "turquoise",
    "blue",
    "purple",
    "pink",
)
SIZES: tuple[str, ...] = ("small", "medium", "large")
TEXTURES: tuple[str, ...] = ("plain", "striped", "dotted", "checked")
BACKGROUNDS: tuple[str, ...] = ("plain", "shaded", "tiled", "speckled")
BACKGROUND_COLOURS: tuple[str, ...] = ("white", "grey", "black", "beige", "navy")
RELATIONS: tuple[str, ...] = ("left of", "right of", "above", "below")
INVERSE_RELATION: dict[str, str] = {
    "left of": "right of",
    "right of": "left of",
    "above": "below",
    "below": "above",
}

#: Half the side of the box that an object fills, as a share of the picture's side.
RADIUS: dict[str, float] = {"small": 0.12, "medium": 0.165, "large": 0.22}

#: Clear space at the edges of the picture and between the boxes of two objects.
MARGIN = 0.02

#: The nearer axis of a relation is at most this share of the further one, so that
#: "left of" never describes what looks like "above".
RELATION_SLOPE = 0.8

# One shape for each colour: every shape and every colour is still seen in training, in
# other company.
_HELD_OUT: frozenset[tuple[str, str]] = frozenset(
    (SHAPES[(5 * index + 2) % len(SHAPES)], colour) for index, colour in enumerate(COLOURS)
)

# How often a scene has these counts in its groups of identical objects.
_GROUP_COUNTS: tuple[tuple[int, ...], ...] = ((1,), (2,), (3,), (1, 1), (1, 2), (2, 1))
_GROUP_SHARES = np.array([0.22, 0.12, 0.08, 0.26, 0.16, 0.16])

_PLACEMENTS_AT_ONCE = 192


@dataclass(frozen=True)
class SceneObject:
    """One object.

    Attributes
    ----------
    shape, colour, size, texture : str
        One of ``SHAPES``, ``COLOURS``, ``SIZES``, ``TEXTURES``.
    x, y : float
        The centre, 0 to 1, ``y`` downwards.
    """

    shape: str
    colour: str
    size: str
    texture: str
    x: float
    y: float

    @property
    def look(self) -> tuple[str, str, str, str]:
        """All but the place; objects of one group share it."""
        return (self.shape, self.colour, self.size, self.texture)

    @property
    def radius(self) -> float:
        """Half the side of the box that the object fills, as a share of the picture."""
        return RADIUS[self.size]


@dataclass(frozen=True)
class Scene:
    """Objects on a ground.

    Attributes
    ----------
    objects : tuple of SceneObject
        One to three; objects of the same look stand next to each other and form a group.
    background, background_colour : str
        One of ``BACKGROUNDS`` and of ``BACKGROUND_COLOURS``.
    relation : str or None
        One of ``RELATIONS``: the first group stands ``relation`` the second one. None
        when there is one group.
    """

    objects: tuple[SceneObject, ...]
    background: str
    background_colour: str
    relation: str | None

    @property
    def groups(self) -> tuple[tuple[SceneObject, ...], ...]:
        """The objects in groups of the same look, in their order."""
        return tuple(tuple(group) for _, group in groupby(self.objects, key=lambda o: o.look))


def held_out_compositions() -> tuple[tuple[str, str], ...]:
    """Return the (shape, colour) pairs that no training scene holds, sorted."""
    return tuple(sorted(_HELD_OUT))


def is_held_out(scene: Scene) -> bool:
    """Tell whether any object of the scene is a held-out pair of shape and colour."""
    return any((item.shape, item.colour) in _HELD_OUT for item in scene.objects)


def sample_scene(rng: np.random.Generator, *, held_out: bool = False) -> Scene:
    """Draw one scene.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of every choice.
    held_out : bool
        False: no object is a held-out pair of shape and colour. True: at least one is.

    Returns
    -------
    Scene
        Objects inside the picture, boxes apart by at least ``MARGIN``; with two groups,
        which always differ in shape or colour, the relation is true for every pair of
        objects across them.
    """
    while True:
        counts = _GROUP_COUNTS[rng.choice(len(_GROUP_COUNTS), p=_GROUP_SHARES)]
        looks = _sample_looks(rng, len(counts), held_out=held_out)
        relation = _pick(rng, RELATIONS) if len(counts) == 2 else None
        background = _pick(rng, BACKGROUNDS)
        background_colour = _pick(rng, BACKGROUND_COLOURS)
        centres = _place(rng, counts, [look[2] for look in looks], relation)
        # A crowd that found no room is drawn anew as a whole, with its looks.
        if centres is None:
            continue
        spread = [look for look, count in zip(looks, counts, strict=True) for _ in range(count)]
        objects = tuple(
            SceneObject(*look, x=round(float(x), 4), y=round(float(y), 4))
            for look, (x, y) in zip(spread, centres, strict=True)
        )
        return Scene(objects, background, background_colour, relation)


def rearranged(scene: Scene, rng: np.random.Generator) -> Scene:
    """Return the same objects at other places, drawn anew.

    Ground and relation stay, so every caption of the one is true of the other.
    """
    groups = scene.groups
    counts, sizes = tuple(map(len, groups)), [group[0].size for group in groups]
    centres = None
    while centres is None:
        centres = _place(rng, counts, sizes, scene.relation)
    objects = tuple(
        replace(item, x=round(float(x), 4), y=round(float(y), 4))
        for item, (x, y) in zip(scene.objects, centres, strict=True)
    )
    return replace(scene, objects=objects)


def _pick(rng: np.random.Generator, options: tuple[str, ...]) -> str:
    return options[int(rng.integers(len(options)))]


def _sample_looks(
    rng: np.random.Generator, n_groups: int, *, held_out: bool
) -> list[tuple[str, str, str, str]]:
    """Draw shape, colour, size and texture of each group, by the rule of compositions."""
    # Which group carries the held-out pair; the other one stays a seen composition.
    carrier = int(rng.integers(n_groups)) if held_out else -1
    looks: list[tuple[str, str, str, str]] = []
    while len(looks) < n_groups:
        shape, colour = _pick(rng, SHAPES), _pick(rng, COLOURS)
        if ((shape, colour) in _HELD_OUT) != (len(looks) == carrier):
            continue
        if looks and (shape, colour) == looks[0][:2]:
            continue
        looks.append((shape, colour, _pick(rng, SIZES), _pick(rng, TEXTURES)))
    return looks


def _place(
    rng: np.random.Generator, counts: tuple[int, ...], sizes: list[str], relation: str | None
) -> np.ndarray | None:
    """Find centres (n_objects, 2) that keep the objects apart and the relation true."""
    radius = np.repeat([RADIUS[size] for size in sizes], counts)
    low = MARGIN + radius
    unit = rng.random((_PLACEMENTS_AT_ONCE, len(radius), 2))
    centres = low[:, None] + unit * (1.0 - 2.0 * low)[:, None]
    good = np.ones(len(centres), dtype=bool)
    for i, j in _index_pairs(len(radius)):
        gap = np.abs(centres[:, i] - centres[:, j]).max(axis=1)
        good &= gap > radius[i] + radius[j] + MARGIN
    if relation is not None:
        for i in range(counts[0]):
            for j in range(counts[0], sum(counts)):
                good &= _relation_holds(centres[:, i], centres[:, j], relation)
    hits = np.flatnonzero(good)
    return centres[hits[0]] if len(hits) else None


def _index_pairs(n: int) -> Iterator[tuple[int, int]]:
    return ((i, j) for i in range(n) for j in range(i + 1, n))


def _relation_holds(first: np.ndarray, second: np.ndarray, relation: str) -> np.ndarray:
    """Tell for centres (..., 2) whether ``first`` stands ``relation`` ``second``."""
    along, across = (0, 1) if relation in ("left of", "right of") else (1, 0)
    step = second[..., along] - first[..., along]
    if relation in ("right of", "below"):
        step = -step
    return np.abs(second[..., across] - first[..., across]) < RELATION_SLOPE * step


def scene_attributes(scene: Scene) -> dict[str, str | int | float | bool]:
    """Flatten a scene into columns of a table: the ground truth for probing.

    Returns
    -------
    dict
        ``n_objects``, ``n_groups``, ``background``, ``background_colour``, ``relation``
        ("none" for one group), ``held_out`` and, for both groups, ``count_k``,
        ``shape_k``, ``colour_k``, ``size_k``, ``texture_k`` ("none" and 0 for a missing
        second group); ``x_k``, ``y_k`` are the mean centre of group k (-1 when missing).
    """
    groups = scene.groups
    flat: dict[str, str | int | float | bool] = {
        "n_objects": len(scene.objects),
        "n_groups": len(groups),
        "background": scene.background,
        "background_colour": scene.background_colour,
        "relation": scene.relation or "none",
        "held_out": is_held_out(scene),
    }
    for k in (1, 2):
        group = groups[k - 1] if k <= len(groups) else ()
        look = group[0].look if group else ("none",) * 4
        flat[f"count_{k}"] = len(group)
        flat.update(
            {
                f"{name}_{k}": value
                for name, value in zip(("shape", "colour", "size", "texture"), look, strict=True)
            }
        )
        flat[f"x_{k}"] = round(float(np.mean([o.x for o in group])), 4) if group else -1.0
        flat[f"y_{k}"] = round(float(np.mean([o.y for o in group])), 4) if group else -1.0
    return flat


def scene_to_json(scene: Scene) -> str:
    """Write a scene as one line of JSON; :func:`scene_from_json` reads it back equal."""
    return json.dumps(asdict(scene), separators=(",", ":"))


def scene_from_json(text: str) -> Scene:
    """Read a scene that :func:`scene_to_json` wrote.

    Raises
    ------
    DataError
        If the text is no scene, or names a shape, colour ... that does not exist.
    """
    try:
        raw = json.loads(text)
        objects = tuple(SceneObject(**item) for item in raw.pop("objects"))
        scene = Scene(objects=objects, **raw)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataError(
            f"scene {text[:60]!r}: not a scene in JSON ({error}). Use the text in the column "
            "'scene' of a stimuli.tsv written by `simulate stimuli`."
        ) from error
    known = [(scene.background, BACKGROUNDS), (scene.background_colour, BACKGROUND_COLOURS)]
    known += [(scene.relation, RELATIONS)] if scene.relation is not None else []
    for item in objects:
        known += list(zip(item.look, (SHAPES, COLOURS, SIZES, TEXTURES), strict=True))
    unknown = [value for value, options in known if value not in options]
    if unknown or not objects:
        raise DataError(f"scene {text[:60]!r}: unknown {unknown or 'objects'} in it.")
    return scene
