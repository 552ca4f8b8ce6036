"""Which held-out pairs a training report shows, and what stands beside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from braindecode_clip.clip.held_out import HeldOut
from braindecode_clip.report.numbers import count, decimal
from braindecode_clip.report.pictures import Picture

#: Queries of each kind and direction, and candidates shown for each.
N_QUERIES, N_CANDIDATES = 4, 5


@dataclass(frozen=True)
class Queries:
    """Chosen by rank and chance alone, never by their looks.

    Attributes
    ----------
    images_drawn, images_missed : tuple of int
        Rows of pictures: drawn at random, and those whose caption ranks lowest.
    texts_drawn, texts_missed : tuple of int
        Numbers of distinct captions, likewise.
    image_ranks, text_ranks : ndarray
        Of every distinct caption's best picture, and of every picture's caption.
    """

    images_drawn: tuple[int, ...]
    images_missed: tuple[int, ...]
    texts_drawn: tuple[int, ...]
    texts_missed: tuple[int, ...]
    text_ranks: np.ndarray
    image_ranks: np.ndarray


def choose_queries(held_out: HeldOut, *, seed: int = 0) -> Queries:
    """Draw queries of both directions, and find the worst misses (rank above 1)."""
    rng = np.random.default_rng(seed)
    chosen: list[tuple[int, ...]] = []
    ranks = held_out.text_ranks(), held_out.image_ranks()
    for own in ranks:
        worst = np.argsort(-own, kind="stable")[:N_QUERIES]
        missed = [int(row) for row in worst if own[row] > 1]
        others = np.setdiff1d(np.arange(len(own)), missed)
        drawn = rng.permutation(others)[:N_QUERIES]
        chosen += [tuple(int(row) for row in drawn), tuple(missed)]
    return Queries(*chosen, *ranks)


def shown_rows(held_out: HeldOut, queries: Queries) -> list[int]:
    """Return the rows of all pictures that the examples show, each once."""
    rows = [*queries.images_drawn, *queries.images_missed]
    for number in (*queries.texts_drawn, *queries.texts_missed):
        rows += [row for row, _ in held_out.nearest_images(number, N_CANDIDATES)]
    return list(dict.fromkeys(rows))


def image_examples(
    held_out: HeldOut, rows: tuple[int, ...], ranks: np.ndarray, pictures: Mapping[int, Picture]
) -> list[dict[str, Any]]:
    """Lay pictures out with the captions nearest to them."""
    found = []
    texts = held_out.texts[held_out.first_of_caption]
    for row in rows:
        own = int(held_out.caption_of[row])
        nearest = held_out.nearest_texts(row, N_CANDIDATES)
        found.append(
            {
                "seen": _thing(held_out, row, pictures),
                "rank": _rank_text(ranks[row], len(texts)),
                "is_right": ranks[row] <= 1,
                "candidates": [
                    {
                        "text": _caption(held_out, number),
                        "cosine": decimal(cosine),
                        "true": number == own,
                    }
                    for number, cosine in nearest
                ],
                "missed": ""
                if own in [number for number, _ in nearest]
                else f"Its own, “{_caption(held_out, own)}”, has cosine "
                f"{decimal(float(texts[own] @ held_out.images[row]))}.",
            }
        )
    return found


def text_examples(
    held_out: HeldOut,
    numbers: tuple[int, ...],
    ranks: np.ndarray,
    pictures: Mapping[int, Picture],
) -> list[dict[str, Any]]:
    """Lay captions out with the pictures nearest to them."""
    found = []
    for number in numbers:
        nearest = held_out.nearest_images(number, N_CANDIDATES)
        own = np.flatnonzero(held_out.caption_of == number)
        text = held_out.texts[held_out.first_of_caption[number]]
        best = float((held_out.images[own] @ text).max())
        is_shown = any(held_out.caption_of[row] == number for row, _ in nearest)
        found.append(
            {
                "text": _caption(held_out, number),
                "rank": _rank_text(ranks[number], len(held_out)),
                "is_right": ranks[number] <= 1,
                "candidates": [
                    {
                        **_thing(held_out, row, pictures),
                        "similarity": decimal(cosine),
                        "true": held_out.caption_of[row] == number,
                    }
                    for row, cosine in nearest
                ],
                "missed": "" if is_shown else f"Its own picture has cosine {decimal(best)}.",
            }
        )
    return found


def _thing(held_out: HeldOut, row: int, pictures: Mapping[int, Picture]) -> dict[str, Any]:
    # Names of files stay away with the pictures: they may tell of persons.
    picture = pictures.get(row)
    name = f"picture {count(row + 1)}"
    return {"name": name, "picture": picture, "alt": f"{name}: {held_out.captions[row]}"}


def _caption(held_out: HeldOut, number: int) -> str:
    return held_out.captions[held_out.first_of_caption[number]]


def _rank_text(rank: float, n: int) -> str:
    return f"rank {decimal(rank, digits=0 if rank == int(rank) else 1)} of {count(n)}"
