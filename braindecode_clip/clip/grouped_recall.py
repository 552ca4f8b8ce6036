"""Retrieval with several captions for each picture, and pictures that share captions.

The protocol of COCO's captions (Karpathy & Fei-Fei, CVPR 2015): all captions of all pictures are
candidates for a picture, and a hit at k is one where any of its captions is among the first k;
every caption asks once for its picture among all pictures.

There, a caption on two pictures makes one of them wrong, and a perfect model scores 1/2. Here
hits are grouped: a candidate is right when its picture is the query's and its caption is one of
that picture's, where pictures with the same file count as one, and captions with the same words
(:func:`~braindecode_clip.clip.caption_text.normalised_caption`) too. The figures without groups
stand beside, to compare with published ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from braindecode_clip.checks import Problems, some
from braindecode_clip.clip.caption_text import number_captions
from braindecode_clip.clip.first_ranks import FirstRanks, joined
from braindecode_clip.clip.score import Measure, Score, mean_measure, scored
from braindecode_clip.resampling.bootstrap import CHUNK_NUMBERS, weighted_median
from braindecode_clip.similarity import similarity_blocks

KS = (1, 5, 10)
#: Pictures tied to one another by shared captions are drawn together while they are at most this
#: share of all; captions shared here and there tie nearly all pictures, and nothing would be drawn.
LARGEST_CLUSTER = 0.1
BY_TIES = "pictures that share a caption or a file, directly or by others between them"
BY_CAPTION = "pictures that share the caption that most others have too, or a file"


@dataclass(frozen=True)
class Captioned:
    """Vectors of pictures and captions, and which belong together.

    Attributes
    ----------
    images : ndarray (n_images, n_dims)
    texts : ndarray (n_texts, n_dims)
    image_of_text : ndarray (n_texts,) int64
        Row of the picture of each caption; every picture has one at least.
    picture : ndarray (n_images,) int64
        Equal for pictures that count as one.
    caption : ndarray (n_texts,) int64
        Equal for captions that count as one.
    cluster : ndarray (n_images,) int64
        Equal for pictures that a bootstrap draws together.
    drawn_together : str
        Which those are: :data:`BY_TIES`, or :data:`BY_CAPTION` where ties would put more than
        :data:`LARGEST_CLUSTER` of all pictures into one cluster. The two are the same where
        every picture has one caption.
    """

    images: np.ndarray
    texts: np.ndarray
    image_of_text: np.ndarray
    picture: np.ndarray
    caption: np.ndarray
    cluster: np.ndarray
    drawn_together: str

    @classmethod
    def of(
        cls,
        images: np.ndarray,
        texts: np.ndarray,
        image_of_text: np.ndarray,
        captions: Sequence[str],
        *,
        pictures: Sequence[Any] | None = None,
    ) -> Captioned:
        """Check vectors and captions, and find what is the same.

        Parameters
        ----------
        images, texts, image_of_text
            As the attributes.
        captions : sequence of str (n_texts,)
        pictures : sequence (n_images,), optional
            Equal for pictures of the same file, e.g. its hash; all differ by default.

        Raises
        ------
        DataError
            Lengths that do not fit, rows outside, or pictures without a caption; all at once.
        """
        image_of_text = np.asarray(image_of_text)
        _check(images, texts, image_of_text, captions, pictures)
        n = len(images)
        if pictures is None:
            picture = np.arange(n)
        else:
            picture = np.unique(np.asarray(pictures), return_inverse=True)[1].reshape(-1)
        caption = number_captions(captions)
        image_of_text = image_of_text.astype(np.int64)
        clusters = _clusters(picture, caption, image_of_text)
        return cls(
            np.asarray(images), np.asarray(texts), image_of_text, picture, caption, *clusters
        )

    def ungrouped(self) -> Captioned:
        """Return the same where every picture and every caption counts by itself."""
        own = np.arange(len(self.images)), np.arange(len(self.texts))
        return replace(self, picture=own[0], caption=own[1])

    def take(self, rows: np.ndarray) -> Captioned:
        """Return some pictures with their captions."""
        place = np.full(len(self.images), -1, dtype=np.int64)
        place[rows] = np.arange(len(rows))
        kept = np.flatnonzero(place[self.image_of_text] >= 0)
        return Captioned(
            self.images[rows],
            self.texts[kept],
            place[self.image_of_text[kept]],
            self.picture[rows],
            self.caption[kept],
            self.cluster[rows],
            self.drawn_together,
        )

    def belongs(self) -> sparse.csr_array:
        """Return which caption is one of which picture, (n_pictures, n_captions) bool."""
        shape = int(self.picture.max()) + 1, int(self.caption.max()) + 1
        places = self.picture[self.image_of_text], self.caption
        return sparse.csr_array((np.ones(len(self.caption), dtype=bool), places), shape=shape)


def _check(
    images: np.ndarray,
    texts: np.ndarray,
    image_of_text: np.ndarray,
    captions: Sequence[str],
    pictures: Sequence[Any] | None,
) -> None:
    problems = Problems("retrieval")
    n, n_texts = len(images), len(texts)
    if len(captions) != n_texts or image_of_text.shape != (n_texts,):
        problems.add(
            f"{n_texts} vectors of captions, {len(captions)} captions and image_of_text of shape "
            f"{image_of_text.shape}; expected one of each for every caption."
        )
    elif image_of_text.dtype.kind not in "iu":
        problems.add(f"image_of_text has dtype {image_of_text.dtype}, expected integers.")
    elif ((image_of_text < 0) | (image_of_text >= n)).any():
        problems.add(f"image_of_text has rows outside the {n} pictures. Count from 0.")
    else:
        bare = np.flatnonzero(np.bincount(image_of_text, minlength=n) == 0)
        if len(bare):
            problems.add(f"no caption for the pictures in rows {some(bare.tolist())}. Leave out.")
    if pictures is not None and len(pictures) != n:
        problems.add(f"{len(pictures)} names of files for {n} pictures.")
    if n < 2:
        problems.add(f"got {n} pictures; retrieval needs two at least.")
    problems.raise_if_any()


def _clusters(
    picture: np.ndarray, caption: np.ndarray, image_of_text: np.ndarray
) -> tuple[np.ndarray, str]:
    """Return the cluster of each picture (n_images,) int64, and which rule made it."""
    n_pictures, n_captions = int(picture.max()) + 1, int(caption.max()) + 1
    ends = picture[image_of_text], n_pictures + caption
    size = n_pictures + n_captions
    links = sparse.coo_array((np.ones(len(caption), dtype=bool), ends), shape=(size, size))
    tied = connected_components(links, directed=False)[1][picture].astype(np.int64)
    if np.bincount(tied).max() <= LARGEST_CLUSTER * len(picture):
        return tied, BY_TIES
    pairs = np.unique(np.stack([picture[image_of_text], caption]), axis=1)
    n_sharing = np.bincount(pairs[1], minlength=n_captions)
    # The last of each picture's captions in this order is the one that most share.
    order = np.lexsort((-pairs[1], n_sharing[pairs[1]]))
    chosen = np.empty(n_pictures, dtype=np.int64)
    chosen[pairs[0, order]] = pairs[1, order]
    return chosen[picture], BY_CAPTION


def first_ranks(data: Captioned, *, also_ungrouped: bool = False) -> list[dict[str, FirstRanks]]:
    """Rank the first right candidate of every query.

    Parameters
    ----------
    data : Captioned
    also_ungrouped : bool
        Rank without groups too, from the same similarities.

    Returns
    -------
    list of dict
        "image_to_text" (n_images queries) and "text_to_image" (n_texts queries); then, where
        asked for, the same without groups.

    Raises
    ------
    DataError
        Vectors with NaN or without a direction.

    Notes
    -----
    Similarities are formed in blocks of queries (:mod:`braindecode_clip.similarity`), so memory
    grows with the number of pictures and captions and not with their product: about 200 MB
    beside the vectors. Equal vectors tie exactly.
    """
    relations = [data, data.ungrouped()] if also_ungrouped else [data]
    found: list[dict[str, FirstRanks]] = [{} for _ in relations]
    text_cluster = data.cluster[data.image_of_text]
    for direction, queries, candidates, clusters in (
        ("image_to_text", data.images, data.texts, data.cluster),
        ("text_to_image", data.texts, data.images, text_cluster),
    ):
        tables = [np.empty((5, len(queries)), dtype=np.int64) for _ in relations]
        belongs = [relation.belongs() for relation in relations]
        if direction == "text_to_image":
            belongs = [own.T.tocsr() for own in belongs]
        for rows, block in similarity_blocks(queries, candidates):
            for relation, table, own in zip(relations, tables, belongs, strict=True):
                if direction == "image_to_text":
                    right = own[relation.picture[rows]].toarray()[:, relation.caption]
                else:
                    right = own[relation.caption[rows]].toarray()[:, relation.picture]
                table[:, rows] = _count(block, right)
        for ranks, table in zip(found, tables, strict=True):
            ranks[direction] = FirstRanks(*table, clusters)
    return found


def _count(block: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return n_better, n_tied, n_level, n_right and n_candidates of a block, (5, n)."""
    best = np.where(right, block, -np.inf).max(axis=1, keepdims=True)
    level = block == best
    n_level = np.count_nonzero(level & right, axis=1)
    # No right one is above the best right one, so all that are above are wrong.
    n_better = np.count_nonzero(block > best, axis=1)
    n_tied = np.count_nonzero(level, axis=1) - n_level
    n_right = np.count_nonzero(right, axis=1)
    return np.stack([n_better, n_tied, n_level, n_right, np.full(len(block), block.shape[1])])


def fold_ranks(
    data: Captioned, fold_size: int, *, rng: np.random.Generator, also_ungrouped: bool = False
) -> list[dict[str, FirstRanks]]:
    """Rank within random folds of ``fold_size`` pictures, as COCO's 1K protocol does.

    The pictures that do not fill a fold are left out.

    Returns
    -------
    list of dict
        As :func:`first_ranks`, the folds behind each other.
    """
    n_folds = len(data.images) // fold_size
    order = rng.permutation(len(data.images))[: n_folds * fold_size]
    parts = [
        first_ranks(data.take(np.sort(rows)), also_ungrouped=also_ungrouped)
        for rows in order.reshape(n_folds, fold_size)
    ]
    return [
        {direction: joined([part[k][direction] for part in parts]) for direction in ranks}
        for k, ranks in enumerate(parts[0])
    ]


def query_values(ranks: FirstRanks, ks: Sequence[int] = KS) -> dict[str, np.ndarray]:
    """Return the scores of each query, (n,) each: r1, r5, ..., mean_reciprocal_rank."""
    hits = {f"r{k}": ranks.hits(k) for k in ks}
    return {**hits, "mean_reciprocal_rank": ranks.reciprocal_rank()}


def recall_measures(ranks: FirstRanks, *, ks: Sequence[int] = KS) -> list[Measure]:
    """Return r1, r5, r10 (by ``ks``), mean_reciprocal_rank and median_rank of one direction."""
    chance = {f"r{k}": float(ranks.chance_hits(k).mean()) for k in ks}
    chance["mean_reciprocal_rank"] = float(ranks.chance_reciprocal_rank().mean())
    names, cluster_of = np.unique(ranks.clusters, return_inverse=True)
    median, step = weighted_median(ranks.rank()), max(1, CHUNK_NUMBERS // len(ranks))

    def median_rank(weights: np.ndarray) -> np.ndarray:
        starts = range(0, len(weights), step)
        return np.concatenate([median(weights[k : k + step, cluster_of]) for k in starts])

    return [
        mean_measure(query_values(ranks, ks), ranks.clusters, chance=chance),
        Measure(
            ("median_rank",),
            median_rank,
            n_clusters=len(names),
            n=len(ranks),
            chance=(ranks.chance_median_rank(),),
            jackknife=False,
        ),
    ]


def recall_scores(
    ranks: FirstRanks,
    *,
    ks: Sequence[int] = KS,
    rng: np.random.Generator | None = None,
    n_bootstrap: int = 1000,
) -> dict[str, Score]:
    """Summarise one direction.

    Parameters
    ----------
    ranks : FirstRanks
    ks : sequence of int
        For the recalls.
    rng : Generator, optional
        Of the bootstrap over clusters; None leaves the intervals out.
    n_bootstrap : int

    Returns
    -------
    dict of str to Score
        See :func:`recall_measures`.
    """
    return scored(recall_measures(ranks, ks=ks), rng=rng, n_bootstrap=n_bootstrap)


def grouped_recall(
    images: np.ndarray,
    texts: np.ndarray,
    image_of_text: np.ndarray,
    captions: Sequence[str],
    *,
    pictures: Sequence[Any] | None = None,
    ks: Sequence[int] = KS,
    rng: np.random.Generator | None = None,
    n_bootstrap: int = 1000,
) -> dict[str, dict[str, Score]]:
    """Score retrieval in both directions, hits grouped by caption.

    Parameters
    ----------
    images : ndarray (n_images, n_dims)
        Vectors of pictures; compared by their cosines.
    texts : ndarray (n_texts, n_dims)
        Vectors of captions.
    image_of_text : int ndarray (n_texts,)
        Row of the picture of each caption.
    captions : sequence of str (n_texts,)
    pictures : sequence (n_images,), optional
        Equal for pictures of the same file; all differ by default.
    ks : sequence of int
        For the recalls.
    rng : Generator, optional
        Of the bootstrap; without it there are no intervals, which costs little.
    n_bootstrap : int

    Returns
    -------
    dict of str to dict of str to Score
        "image_to_text" and "text_to_image", see :func:`recall_scores`.

    Raises
    ------
    DataError
        Parts that do not fit each other, or vectors with NaN; all at once.

    Examples
    --------
    >>> vectors = np.eye(3)
    >>> found = grouped_recall(vectors, vectors, np.arange(3), ["a dog", "A dog.", "a cat"])
    >>> found["text_to_image"]["r1"].value
    1.0
    """
    data = Captioned.of(images, texts, image_of_text, captions, pictures=pictures)
    return {
        direction: recall_scores(ranks, ks=ks, rng=rng, n_bootstrap=n_bootstrap)
        for direction, ranks in first_ranks(data)[0].items()
    }


def score_records(scores: Mapping[str, Score]) -> dict[str, dict[str, Any]]:
    """Return scores for JSON, by name."""
    return {name: score.record() for name, score in scores.items()}


def flatten_captions(captions: Sequence[Sequence[str]]) -> tuple[list[str], np.ndarray]:
    """Return all captions, and the row of each one's picture (n_texts,) int64."""
    counts = [len(own) for own in captions]
    return (
        [str(text) for own in captions for text in own],
        np.repeat(np.arange(len(counts), dtype=np.int64), counts),
    )
