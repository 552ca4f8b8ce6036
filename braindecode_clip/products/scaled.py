"""A gallery ready for float32 products whose error is bounded, and the exact scores of pairs.

For a query only the order of the candidates matters, so each kind of similarity becomes a
product with a scale and a summand for each candidate:

==============  ==========================  ===================
similarity      scale of q · g              summand
==============  ==========================  ===================
cosine          1 / ‖g‖                     minus the offset
correlation     1 / ‖g - mean(g)‖           minus the offset
euclidean       1                           -‖g‖² / 2
==============  ==========================  ===================

The query is scaled (and centred) beforehand; a centred query needs no centred candidates.

The error of a float32 product of n terms is at most ``(n + 2) u ‖q‖ ‖g‖`` with u = 2**-24
(Higham, Accuracy and Stability of Numerical Algorithms, 2002, section 3.1). :attr:`Scorer.slack`
holds that bound with the rounding of the scale, the summand and the stored similarity.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import get_args

import numpy as np

from braindecode_clip.checks import Problems
from braindecode_clip.errors import ConfigError
from braindecode_clip.products.blocks import Block, Products, make_products
from braindecode_clip.similarity import (
    ROUNDER,
    SimilarityKind,
    check_vectors,
    prepared_rows,
    rounded_distances,
    squared_lengths,
)

#: Unit roundoff of float32.
ROUNDOFF = 2.0**-24
#: Lengths this near to 1 are taken as 1, and what they lack goes into the error bound.
NEARLY_UNIT = 1e-6
#: Rows of the gallery that are looked at together while it is prepared, and pairs in float64.
ROW_STEP, PAIR_STEP = 8192, 4096
#: Lengths outside are brought near 1 first: squares of them leave float32.
SMALLEST_LENGTH, LARGEST_LENGTH = 1e-12, 1e12


class ScaledGallery:
    """A gallery with what makes similarities of products.

    Parameters
    ----------
    gallery : array (n_gallery, n_dims)
        Float32 is used in place (a memory map too); other types are copied to float32.
    similarity : {"cosine", "correlation", "euclidean"}
    offset : array (n_gallery,), optional
        Taken off each candidate's similarity; not with "euclidean".
    device : str
        "cpu" is numpy; "torch" is torch on the CPU; else a torch device.
    """

    def __init__(
        self,
        gallery: np.ndarray,
        *,
        similarity: SimilarityKind,
        offset: np.ndarray | None,
        device: str,
    ) -> None:
        if similarity not in get_args(SimilarityKind):
            raise ConfigError(
                f"similarity: got {similarity!r}, expected one of {get_args(SimilarityKind)}."
            )
        if similarity == "euclidean" and offset is not None:
            raise ConfigError("offsets are taken off cosines and correlations, not off distances.")
        gallery, _ = check_vectors(gallery, gallery)
        self.vectors, self.similarity = gallery, similarity
        self.offset = check_offset(offset, len(gallery))
        self.unit = 1.0
        self.lengths, self._spread = self._measure()
        self._products = self._prepare(device)

    @property
    def n_gallery(self) -> int:
        """Number of candidates."""
        return len(self.vectors)

    def _measure(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the length of every row as stored, and the length that the similarity takes."""
        lengths = np.empty(self.n_gallery)
        taken = np.empty(self.n_gallery)
        for start in range(0, self.n_gallery, ROW_STEP):
            part = slice(start, start + ROW_STEP)
            # Refuses what has no similarity, with the numbers of the rows.
            rows = np.asarray(self.vectors[part], dtype=np.float64)
            prepared_rows(rows, self.similarity, "gallery", first_row=start)
            largest = np.abs(rows).max(axis=1, keepdims=True)
            largest[largest == 0] = 1.0
            rows = rows / largest
            lengths[part] = np.sqrt(squared_lengths(rows)) * largest[:, 0]
            if self.similarity == "correlation":
                rows = rows - rows.mean(axis=1, keepdims=True)
                taken[part] = np.sqrt(squared_lengths(rows)) * largest[:, 0]
            else:
                taken[part] = lengths[part]
        return lengths, taken

    def _prepare(self, device: str) -> Products:
        longest = float(self.lengths.max())
        vectors, scale, summand = self.vectors, None, None
        self.deviation = 0.0
        self.reach = longest
        if self.similarity == "euclidean":
            if not SMALLEST_LENGTH < longest < LARGEST_LENGTH and longest > 0:
                self.unit = 2.0 ** -np.round(np.log2(longest))
            if self.unit != 1.0 or vectors.dtype != np.float32:
                vectors = (vectors * np.float64(self.unit)).astype(np.float32)
            summand = -((self.lengths * self.unit) ** 2) / 2.0
            self.reach = longest * self.unit
        else:
            self.reach = float((self.lengths / self._spread).max())
            usual = self.lengths.min() > SMALLEST_LENGTH and longest < LARGEST_LENGTH
            if vectors.dtype != np.float32 or not usual:
                vectors = self._unit_copy()
                self.reach = 1.0
            elif np.abs(self._spread - 1.0).max() > NEARLY_UNIT:
                scale = 1.0 / self._spread
            else:
                self.deviation = float(np.abs(self._spread - 1.0).max())
            if self.offset is not None:
                summand = -self.offset
        return make_products(vectors, scale=scale, summand=summand, device=device)

    def _unit_copy(self) -> np.ndarray:
        vectors = np.empty(self.vectors.shape, dtype=np.float32)
        for start in range(0, self.n_gallery, ROW_STEP):
            part = slice(start, start + ROW_STEP)
            vectors[part] = prepared_rows(self.vectors[part], self.similarity, "gallery")
        return vectors

    def scorer(self, queries: np.ndarray, *, first_row: int = 0) -> Scorer:
        """Return what scores these queries (n_queries, n_dims)."""
        rows = prepared_rows(queries, self.similarity, "predicted", first_row=first_row)
        return Scorer(self, self._products, rows)


class Scorer:
    """Scores of a few queries: all of them in float32, some of them exactly.

    Attributes
    ----------
    slack : ndarray (n_queries,) float64
        A float32 score and the exact one differ by less, in the unit of the float32 scores.
    """

    def __init__(self, gallery: ScaledGallery, products: Products, rows: np.ndarray) -> None:
        self._gallery, self._products, self._rows = gallery, products, rows
        lengths = np.sqrt(squared_lengths(rows)) * gallery.unit
        reach = gallery.reach
        bound = (rows.shape[1] + 16) * ROUNDOFF * lengths * reach
        bound += gallery.deviation * lengths * reach
        if gallery.similarity == "euclidean":
            # Half the square of a distance, which is stored as a float32 root.
            bound += 4 * ROUNDOFF * (lengths + reach) ** 2
        else:
            largest = 0.0 if gallery.offset is None else np.abs(gallery.offset).max()
            bound += 4 * ROUNDOFF * (1.0 + largest)
        self.slack = 1.1 * bound

    def blocks(self) -> Iterator[tuple[int, Block]]:
        """Yield the first column and the float32 scores of block after block of candidates."""
        queries = (self._rows * self._gallery.unit).astype(np.float32)
        yield from self._products.blocks(queries)

    def linear(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Return float32's scores of pairs, but in float64; (n,)."""
        gallery = self._gallery
        if gallery.similarity == "euclidean":
            found = np.asarray(gallery.vectors[columns], dtype=np.float64) * gallery.unit
            product = np.einsum("ij,ij->i", self._rows[rows] * gallery.unit, found)
            return product - squared_lengths(found) / 2.0
        found = prepared_rows(gallery.vectors[columns], gallery.similarity, "gallery")
        product = np.einsum("ij,ij->i", self._rows[rows], found)
        return product if gallery.offset is None else product - gallery.offset[columns]

    def exact(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Return the scores of pairs as the whole table would hold them; (n,) float32."""
        result = np.empty(len(rows), dtype=np.float32)
        for start in range(0, len(rows), PAIR_STEP):
            part = slice(start, start + PAIR_STEP)
            result[part] = self._exact(rows[part], columns[part])
        return result

    def _exact(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        gallery = self._gallery
        queries = self._rows[rows]
        found = prepared_rows(gallery.vectors[columns], gallery.similarity, "gallery")
        if gallery.similarity == "euclidean":
            longest = float(gallery.lengths.max()) ** 2
            return rounded_distances(
                squared_lengths(queries - found), squared_lengths(queries) + longest
            ).astype(np.float32)
        product = np.einsum("ij,ij->i", queries, found)
        product += ROUNDER
        product -= ROUNDER
        score = np.clip(product, -1.0, 1.0).astype(np.float32)
        if gallery.offset is None:
            return score
        return (score - gallery.offset[columns]).astype(np.float32)


def check_offset(offset: np.ndarray | None, n_gallery: int) -> np.ndarray | None:
    """Return offsets as float64 (n_gallery,) after checking them."""
    if offset is None:
        return None
    offset = np.asarray(offset, dtype=np.float64)
    problems = Problems("offset")
    if offset.shape != (n_gallery,):
        problems.add(f"has shape {offset.shape}, expected one number for each of {n_gallery}.")
    elif not np.isfinite(offset).all():
        problems.add("holds NaN or infinite numbers.")
    problems.raise_if_any()
    return offset
