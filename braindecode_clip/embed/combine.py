"""One target for each stimulus from several captions, or from its picture and its captions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from braindecode_clip.artifacts import Embeddings
from braindecode_clip.checks import differences, some
from braindecode_clip.errors import DataError

#: A mean of unit vectors shorter than this is rounding, and has no direction.
_NO_LENGTH = 1e-6

CaptionsAs = Literal["average", "each"]
CombineAs = Literal["average", "concatenate"]


def join_captions(
    captions: Embeddings, owner: np.ndarray, ids: Sequence[str], *, how: CaptionsAs = "average"
) -> Embeddings:
    r"""Make one vector of the captions of every stimulus.

    - ``average``: the mean of the captions' vectors, of unit norm where they are; it lies in
      the encoder's own space, and the number of captions may differ.
    - ``each``: the k vectors one after another, divided by :math:`\sqrt k` where they are of
      unit norm. The cosine of two targets is then the mean over captions of the cosine of the
      first captions, of the second ones, and so on.

    Parameters
    ----------
    captions : Embeddings
        One row for each caption.
    owner : ndarray (n_captions,) int64
        Row of the stimulus in ``ids``, from 0.
    ids : sequence of str (n_stimuli,)
        Unique.
    how : {"average", "each"}

    Returns
    -------
    Embeddings
        (n_stimuli, n_dims), or (n_stimuli, k · n_dims) for "each", whose fingerprint then
        names the layout.

    Raises
    ------
    DataError
        A stimulus without a caption; for "each", another number of captions; for "average",
        captions whose vectors cancel out. All stimuli are listed.
    """
    owner = np.asarray(owner)
    counts = np.bincount(owner, minlength=len(ids))
    _refuse(ids, counts == 0, "have no caption. Fill the column, or leave them out")
    if how == "each":
        k = int(counts.max())
        _refuse(
            ids,
            counts != k,
            f"have fewer than {k} captions, and `captions: each` needs the same number for all. "
            "Fill them, or choose `captions: average`",
        )
        rows = np.argsort(owner, kind="stable").reshape(len(ids), k)
        vectors = captions.vectors[rows].reshape(len(ids), -1)
        if _is_unit(captions):
            vectors = vectors / np.sqrt(k)
        layout = {"layout": f"{k} captions, one after another"} if k > 1 else {}
        return _embeddings(captions, ids, vectors, layout)
    total = np.zeros((len(ids), captions.vectors.shape[1]), dtype=np.float64)
    np.add.at(total, owner, captions.vectors)
    mean = total / counts[:, None]
    if _is_unit(captions):
        mean = _unit(mean, ids, "captions")
    return _embeddings(captions, ids, mean, {})


def join_modalities(
    image: Embeddings,
    text: Embeddings,
    *,
    how: CombineAs = "average",
    text_weight: float = 0.5,
) -> Embeddings:
    r"""Make one target of a picture's vector and its captions' vector.

    With w the weight of the text, and i and t the vectors:

    - ``average``: :math:`(1 - w) i + w t`, of unit norm where both are; in the shared space.
    - ``concatenate``: :math:`(\sqrt{1 - w}\, i, \sqrt w\, t)`. The cosine of two targets is
      then the mean of both cosines, weighted by 1 - w and w, so that the gap between the two
      modalities of CLIP does not enter it.

    Parameters
    ----------
    image, text : Embeddings
        Of one encoder and of the same stimuli in the same order.
    how : {"average", "concatenate"}
    text_weight : float
        In (0, 1).

    Returns
    -------
    Embeddings
        Modality "image+text".

    Raises
    ------
    DataError
        Other stimuli, other encoders, other numbers of dimensions for "average", or vectors
        that cancel out.
    """
    if not 0 < text_weight < 1:
        raise DataError(f"text_weight is {text_weight}; it must lie between 0 and 1.")
    if not np.array_equal(image.ids, text.ids):
        raise DataError("pictures and captions are not of the same stimuli in the same order.")
    first, second = dict(image.fingerprint), dict(text.fingerprint)
    layout = [first.pop("layout", "picture"), second.pop("layout", "captions")]
    if parts := differences(first, second):
        raise DataError(f"pictures and captions were encoded otherwise: {'; '.join(parts)}.")
    if how == "concatenate":
        weights = np.sqrt([1 - text_weight, text_weight])
        vectors = np.hstack([weights[0] * image.vectors, weights[1] * text.vectors])
        found = {"layout": f"{layout[0]}, then {layout[1]}", "text_weight": text_weight}
        return _embeddings(image, image.ids, vectors, found, modality="image+text")
    if image.vectors.shape != text.vectors.shape:
        raise DataError(
            f"pictures have {image.vectors.shape[1]} dimensions, captions "
            f"{text.vectors.shape[1]}: they cannot be averaged. Choose `combine: concatenate`."
        )
    mean = (1 - text_weight) * image.vectors.astype(np.float64) + text_weight * text.vectors
    if _is_unit(image):
        mean = _unit(mean, image.ids, "picture and captions")
    return _embeddings(image, image.ids, mean, {}, modality="image+text")


def _is_unit(embeddings: Embeddings) -> bool:
    return bool(embeddings.fingerprint.get("unit_norm", True))


def _unit(vectors: np.ndarray, ids: Sequence[str], what: str) -> np.ndarray:
    norm = np.linalg.norm(vectors, axis=1)
    # A comparison with NaN is false, so NaN counts as bad here.
    _refuse(ids, ~(norm > _NO_LENGTH), f"have {what} whose vectors cancel out. Leave them out")
    return vectors / norm[:, None]


def _refuse(ids: Sequence[str], bad: np.ndarray, reason: str) -> None:
    if bad.any():
        names = np.asarray(ids).astype(str)[bad]
        raise DataError(f"{len(names)} stimuli {reason}: {some(names)}.")


def _embeddings(
    like: Embeddings,
    ids: Sequence[str],
    vectors: np.ndarray,
    layout: dict[str, object],
    *,
    modality: str | None = None,
) -> Embeddings:
    fingerprint = {**like.fingerprint, **layout}
    if layout:
        fingerprint["n_dims"] = int(vectors.shape[1])
    return Embeddings(
        ids=np.asarray(ids).astype(str),
        vectors=vectors.astype(np.float32),
        modality=modality or like.modality,
        fingerprint=fingerprint,
    )
