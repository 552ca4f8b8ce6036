"""What each protocol measures: scores with their pools, chance and definition."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from braindecode_clip.evaluate.protocols.cells import Hit
from braindecode_clip.metrics import expected_top_k

BRAIN_TO_IMAGE, IMAGE_TO_BRAIN = DIRECTIONS = ("brain_to_image", "image_to_brain")
#: Pictures of the pools of MindEye and Lite-Mind.
POOL = 300
#: Pools of BrainFLORA; top-5 from the second number on.
WAYS, FIRST_WAY_OF_TOP_5 = (2, 4, 10, 50, 100, 200), 50
ASKED = {
    BRAIN_TO_IMAGE: "the prediction of a picture ranks the pictures",
    IMAGE_TO_BRAIN: "a picture ranks the predictions of the pictures",
}


@dataclass(frozen=True)
class Measure:
    """One score of a protocol in one direction.

    Attributes
    ----------
    protocol, metric, direction, similarity : str
    n_gallery : int
        Candidates of a query, the true one included.
    hit : callable
        (n_better, n_tied) to the score of a query.
    chance : float
    definition : str
        One sentence.
    k : int
        Of top-k; 0 for other scores.
    pools : str
        "joint" where one pool is queries and candidates, "own" where each query has its own, ""
        where all candidates are ranked.
    """

    protocol: str
    metric: str
    direction: str
    similarity: str
    n_gallery: int
    hit: Hit
    chance: float
    definition: str
    k: int = 0
    pools: str = ""


def picture_measures(protocol: str, n: int, top_k: Sequence[int]) -> list[Measure] | str:
    """Return what a protocol measures with n test pictures, or why it can't."""
    if protocol in ("mindeye-300", "lite-mind-300"):
        if n < POOL:
            return f"{n} test pictures, {POOL} are needed"
        joint = protocol == "mindeye-300"
        return [_pooled(protocol, 1, POOL, n, way, joint=joint) for way in DIRECTIONS]
    if protocol == "brainflora-kway":
        ways = [m for m in WAYS if m <= n]
        wanted = [(1, m) for m in ways] + [(5, m) for m in ways if m >= FIRST_WAY_OF_TOP_5]
        return [_pooled(protocol, k, m, n, way) for way in DIRECTIONS for k, m in wanted]
    if protocol == "kamitani-pairwise":
        return [_pairwise(protocol, "correlation", n, way) for way in DIRECTIONS]
    return [
        measure
        for way in DIRECTIONS
        for measure in (
            *(_top(protocol, k, n, way) for k in top_k if k < n),
            _pairwise(protocol, "cosine", n, way),
        )
    ]


def _pooled(
    protocol: str, k: int, pool: int, n: int, direction: str, *, joint: bool = False
) -> Measure:
    if joint:
        column = "Brain" if direction == BRAIN_TO_IMAGE else "Image"
        how = (
            f"one pool of {pool} of {n} test pictures is queries and candidates at once, and "
            f'{ASKED[direction]} (the column that MindEye calls "{column}")'
        )
    else:
        how = (
            f"{ASKED[direction]}, among the true one and {pool - 1} others, drawn of {n} for each "
            "query anew"
        )
    return Measure(
        protocol=protocol,
        metric=f"top_{k}",
        direction=direction,
        similarity="cosine",
        n_gallery=pool,
        hit=lambda better, tied: expected_top_k(better, tied, n - 1, k=k, pool=pool),
        chance=min(1.0, k / pool),
        definition=f"Share of queries with rank {k} or better: {how}; the value is the exact mean "
        "over all pools.",
        k=k,
        pools="joint" if joint else "own",
    )


def _top(protocol: str, k: int, n: int, direction: str) -> Measure:
    return Measure(
        protocol=protocol,
        metric=f"top_{k}",
        direction=direction,
        similarity="cosine",
        n_gallery=n,
        hit=lambda better, tied: 1.0 + better + tied / 2.0 <= k,
        chance=k / n,
        definition=f"Share of queries with rank {k} or better: {ASKED[direction]}, all {n} of the "
        "test.",
        k=k,
    )


def _pairwise(protocol: str, similarity: str, n: int, direction: str) -> Measure:
    return Measure(
        protocol=protocol,
        metric=f"pairwise_{similarity}",
        direction=direction,
        similarity=similarity,
        n_gallery=n,
        hit=lambda better, tied: 1.0 - (better + tied / 2.0) / (n - 1),
        chance=0.5,
        definition=f"Share of pairs in which the true one has the larger {similarity}, a tie one "
        f"half: {ASKED[direction]}, each of all {n - 1} others against the true one.",
    )


def category_measures(n_test: int, n_candidates: int) -> list[Measure]:
    """Return what god-category measures."""
    n = n_test + n_candidates
    return [
        Measure(
            protocol="god-category",
            metric="pairwise_correlation",
            direction=BRAIN_TO_IMAGE,
            similarity="correlation",
            n_gallery=n,
            hit=lambda better, tied: 1.0 - (better + tied / 2.0) / (n - 1),
            chance=0.5,
            definition="Share of pairs in which the mean prediction of a category correlates more "
            f"with its own mean embedding than with another's, a tie one half, of {n_test} test "
            f"categories stacked with {n_candidates} candidate categories.",
        )
    ]


def n_way_measures(n: int, ks: Sequence[int]) -> list[Measure]:
    """Return what haxby-nway measures."""
    shared = {
        "protocol": "haxby-nway",
        "direction": BRAIN_TO_IMAGE,
        "similarity": "cosine",
        "n_gallery": n,
    }
    text = f"each sample of a held-out run ranks all {n} categories"
    tops = [
        Measure(
            metric=f"top_{k}",
            hit=lambda better, tied, k=k: 1.0 + better + tied / 2.0 <= k,
            chance=k / n,
            definition=f"{n}-way: share of samples with rank {k} or better; {text}.",
            k=k,
            **shared,
        )
        for k in ks
        if k < n
    ]
    return [
        *tops,
        Measure(
            metric="pairwise_cosine",
            hit=lambda better, tied: 1.0 - (np.asarray(better) + tied / 2.0) / (n - 1),
            chance=0.5,
            definition=f"Share of the other categories that the true one beats, a tie one half; "
            f"{text}.",
            **shared,
        ),
    ]
