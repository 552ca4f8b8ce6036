"""Which candidates compete: those of the study, and distractors from elsewhere."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

import numpy as np

from braindecode_clip.artifacts import Embeddings, Gallery, Predictions
from braindecode_clip.checks import Problems, differences, some
from braindecode_clip.errors import ConfigError, DataError
from braindecode_clip.logs import get_logger
from braindecode_clip.retrieve.search import nearest

logger = get_logger(__name__)

#: Rows looked at together when duplicates are counted.
ROWS_AT_ONCE = 64
#: Cosine from which two vectors count as those of one picture: encoding it twice differs by less.
SAME_PICTURE = 1.0 - 1e-6


@dataclass(frozen=True)
class Pool:
    """Candidates of a ranking.

    Attributes
    ----------
    names : ndarray (n_gallery,) str
        Distinct; those of the study first.
    vectors : ndarray (n_gallery, n_dims) float32
    facts : dict
        Of the distractors, empty without any: n_distractors_added, n_same_dropped (they were
        pictures of candidates) and n_trained (pictures that the decoder was trained on).
    """

    names: np.ndarray
    vectors: np.ndarray
    facts: dict[str, int]


def gallery_ids(
    predictions: Predictions,
    embeddings: Embeddings,
    *,
    candidates: Literal["test", "all", "listed"] = "test",
    ids: tuple[str, ...] | None = None,
) -> np.ndarray:
    """Choose the candidates.

    Parameters
    ----------
    predictions : Predictions
    embeddings : Embeddings
    candidates : {"test", "all", "listed"}
        "test": the stimuli of the test samples, sorted; "all": every stimulus with an
        embedding, in its order; "listed": ``ids``, in their order.
    ids : tuple of str, optional
        For "listed".

    Returns
    -------
    ndarray (n_gallery,) str

    Raises
    ------
    DataError
        The true stimulus of a test sample is not among the candidates, or a candidate has no
        embedding.
    """
    shown = np.unique(predictions.stimulus_id.astype(str))
    if candidates == "test":
        chosen = shown
    elif candidates == "all":
        chosen = embeddings.ids.astype(str)
    elif candidates == "listed":
        chosen = np.asarray(ids or (), dtype=str)
    else:
        raise ConfigError(f"candidates: got {candidates!r}, expected test, all or listed.")
    embeddings.rows(chosen)
    missing = shown[~np.isin(shown, chosen)]
    if len(missing):
        raise DataError(
            f"gallery: {len(missing)} of {len(shown)} stimuli of the test samples are not among "
            f"the {len(chosen)} candidates: {some(missing.tolist())}. A true stimulus outside the "
            "gallery can't be found: add them, or choose `candidates: test`."
        )
    return chosen


def make_pool(
    predictions: Predictions,
    embeddings: Embeddings,
    candidates: np.ndarray,
    *,
    distractors: Gallery | None = None,
) -> Pool:
    """Put the study's candidates and the distractors together.

    A distractor that is the picture of a candidate (cosine of 1 within 1e-6) is left out: it
    would tie with the true one under another name.

    Parameters
    ----------
    predictions, embeddings
    candidates : ndarray (n,) str
        Of :func:`gallery_ids`.
    distractors : Gallery, optional
        Made by the same encoder, of the same modality.

    Returns
    -------
    Pool

    Raises
    ------
    DataError
        Distractors of another encoder or modality, or with names of candidates.
    """
    vectors = embeddings.vectors[embeddings.rows(candidates)]
    if distractors is None:
        return Pool(candidates, vectors, {})
    _check_distractors(embeddings, distractors)
    same = nearest(distractors.vectors, vectors, k=1).score[:, 0] >= SAME_PICTURE
    rest, names = distractors.vectors[~same], distractors.ids[~same].astype(str)
    both = np.intersect1d(names, candidates)
    if len(both):
        raise DataError(
            f"distractors ({distractors.origin}): {len(both)} have names of candidates, but other "
            f"pictures: {some(both.tolist())}. Rename them, or leave them out."
        )
    known = set(embeddings.ids.astype(str))
    trained = [name for name in predictions.train_ids.astype(str) if name in known]
    n_trained = 0
    if trained and len(rest):
        seen = nearest(rest, embeddings.vectors[embeddings.rows(np.array(trained))], k=1)
        n_trained = int((seen.score[:, 0] >= SAME_PICTURE).sum())
    facts = {
        "n_distractors_added": len(rest),
        "n_same_dropped": int(same.sum()),
        "n_trained": n_trained,
    }
    if facts["n_same_dropped"]:
        logger.info("%d distractors are pictures of candidates: left out", facts["n_same_dropped"])
    if n_trained:
        logger.warning(
            "%d of %d distractors are pictures that the decoder was trained on; predictions lean "
            "towards them",
            n_trained,
            len(rest),
        )
    return Pool(
        np.concatenate([candidates, names]),
        np.concatenate([vectors, rest]),
        facts,
    )


def _check_distractors(embeddings: Embeddings, distractors: Gallery) -> None:
    problems = Problems(f"distractors ({distractors.origin})")
    parts = differences(embeddings.fingerprint, distractors.fingerprint)
    if parts:
        problems.add(
            "they were encoded otherwise than the study's stimuli; stimuli != distractors in "
            f"{'; '.join(parts)}. Encode them with the study's encoder."
        )
    if distractors.modality != embeddings.modality:
        problems.add(
            f"they are {distractors.modality}s, the candidates {embeddings.modality}s. Vectors of "
            "the two lie apart, so they would be no distractors."
        )
    if distractors.vectors.shape[1] != embeddings.vectors.shape[1]:
        problems.add(
            f"they have {distractors.vectors.shape[1]} dimensions, the candidates "
            f"{embeddings.vectors.shape[1]}."
        )
    problems.raise_if_any()


def count_duplicates(vectors: np.ndarray, tokens: np.ndarray | None = None) -> int:
    """Count the rows that equal at least one other row, byte for byte; in their tokens too."""
    rows = _duplicates(vectors)
    if tokens is not None and len(rows):
        # Most tokens lie in a file: those of other rows needn't be read.
        rows = _duplicates(vectors[rows], tokens[rows])
    return len(rows)


def _duplicates(*parts: np.ndarray) -> np.ndarray:
    members: dict[bytes, list[int]] = {}
    # Tokens may lie in a file: some rows at a time, and their digests instead of their bytes.
    for start in range(0, len(parts[0]), ROWS_AT_ONCE):
        blocks = [np.ascontiguousarray(part[start : start + ROWS_AT_ONCE]) for part in parts]
        for row, values in enumerate(zip(*blocks, strict=True), start=start):
            digest = hashlib.blake2b(digest_size=16)
            for value in values:
                digest.update(value.tobytes())
            members.setdefault(digest.digest(), []).append(row)
    return np.array([row for rows in members.values() if len(rows) > 1 for row in rows], dtype=int)
