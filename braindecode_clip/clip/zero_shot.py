"""Zero-shot classification: pictures are compared with prompts that name the classes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.special import softmax

from braindecode_clip.checks import some
from braindecode_clip.clip.prompts import check_prompts, prompts_of
from braindecode_clip.errors import DataError
from braindecode_clip.logs import progress
from braindecode_clip.metrics import ranks, wilson

_PROMPTS_AT_ONCE = 4096
#: A mean of unit vectors shorter than this is rounding.
_NO_LENGTH = 1e-6


class TextEncoder(Protocol):
    """Anything that turns texts into vectors."""

    def encode_text(self, texts: Sequence[str]) -> np.ndarray:
        """Return (n, n_dims) float32 of unit norm."""


@dataclass(frozen=True)
class Accuracy:
    """A share of correct answers.

    Attributes
    ----------
    accuracy, low, high : float
        Share correct and its 95 % interval (Wilson 1927), 0 to 1.
    n, n_classes : int
        Pictures and classes.
    chance : float
        1 / n_classes.
    """

    accuracy: float
    low: float
    high: float
    n: int
    n_classes: int
    chance: float


def class_vectors(
    encoder: TextEncoder,
    classes: Sequence[str | Sequence[str]],
    templates: Sequence[str],
) -> np.ndarray:
    r"""Return one unit vector for each class: the mean over its prompts, normalised.

    .. math:: c = \frac{\sum_p t_p}{\lVert \sum_p t_p \rVert}

    over the unit vectors :math:`t_p` of all prompts of the class (Radford et al. 2021,
    section 3.1.4).

    Parameters
    ----------
    encoder : TextEncoder
        Turns prompts into unit vectors.
    classes : sequence of str or of sequence of str (n_classes,)
        A name for each class, or several names of it; no name stands for two classes.
    templates : sequence of str
        Prompts with ``{}`` where the name goes, e.g. "a picture of a {}".

    Returns
    -------
    ndarray (n_classes, n_dims) float32
        Unit norm. Prompts are encoded a few thousand at a time, so that memory does not grow
        with their number.

    Raises
    ------
    DataError
        Faults of classes or templates, all at once, or prompts whose vectors cancel out.
    """
    check_prompts(classes, templates, where="zero-shot prompts")
    names = [[item] if isinstance(item, str) else list(item) for item in classes]
    return prompt_means(encoder, names, templates)


def prompt_means(
    encoder: TextEncoder, names: Sequence[Sequence[str]], templates: Sequence[str]
) -> np.ndarray:
    """Return the normalised mean over all prompts of each item.

    Parameters
    ----------
    encoder : TextEncoder
    names : sequence of sequence of str (n,)
        At least one name for each item; items may share names.
    templates : sequence of str
        With ``{}``.

    Returns
    -------
    ndarray (n, n_dims) float32
        Unit norm.

    Raises
    ------
    DataError
        Prompts whose vectors cancel out.
    """
    parts = list(_parts(names, max(1, _PROMPTS_AT_ONCE // len(templates))))
    means = []
    for part in progress(parts, what="encoding prompts"):
        vectors = encoder.encode_text(prompts_of([n for own in part for n in own], templates))
        starts = np.cumsum([0, *(len(own) * len(templates) for own in part)])
        means += [
            vectors[first:last].mean(axis=0) for first, last in itertools.pairwise(starts.tolist())
        ]
    return _normalised(np.stack(means), [own[0] for own in names])


def _parts(names: Sequence[Sequence[str]], n_names: int) -> Iterator[list[Sequence[str]]]:
    """Split items into parts that have at most ``n_names`` names together, or one item."""
    part: list[Sequence[str]] = []
    for own in names:
        if part and sum(map(len, part)) + len(own) > n_names:
            yield part
            part = []
        part.append(own)
    yield part


def _normalised(mean: np.ndarray, names: Sequence[str]) -> np.ndarray:
    norm = np.linalg.norm(mean, axis=1, keepdims=True)
    # A comparison with NaN is false, so NaN counts as bad here.
    bad = [name for name, length in zip(names, norm[:, 0], strict=True) if not length > _NO_LENGTH]
    if bad:
        raise DataError(
            f"prompts: the vectors of {some(bad)} have no mean direction or are NaN. "
            "Use other templates, and check the weights."
        )
    return mean / norm


def probabilities(similarity: np.ndarray, logit_scale: float) -> np.ndarray:
    r"""Return the model's own probabilities of the classes.

    .. math:: p_{ic} = \frac{e^{s\, x_i^\top c_c}}{\sum_k e^{s\, x_i^\top c_k}}

    They sum to 1 over the classes that were named, whether or not one of them fits.

    Parameters
    ----------
    similarity : ndarray (n, n_classes)
        Cosines.
    logit_scale : float
        The inverse temperature of the contrastive loss that the model was trained with, e.g.
        100.

    Returns
    -------
    ndarray (n, n_classes) float64
    """
    return softmax(logit_scale * np.asarray(similarity, dtype=np.float64), axis=1)


def true_ranks(similarity: np.ndarray, is_true: np.ndarray) -> np.ndarray:
    """Rank every true class of every picture among the classes that are not true of it.

    Parameters
    ----------
    similarity : ndarray (n, n_classes)
        Finite.
    is_true : bool ndarray (n, n_classes)

    Returns
    -------
    ndarray (n, n_classes) float64
        1 is best; ties have their mean rank, so that a collapsed model finds nothing. NaN
        where the class is not true.

    Raises
    ------
    DataError
        NaN or infinite similarities.
    """
    similarity = np.asarray(similarity)
    if not np.isfinite(similarity).all():
        raise DataError(
            "zero-shot: similarities that are NaN or infinite. Look at the pictures' vectors."
        )
    found = np.full(similarity.shape, np.nan)
    # By column, so that no (n, n_classes, n_classes) array comes to be.
    for column in np.flatnonzero(is_true.any(axis=0)):
        rows = np.flatnonzero(is_true[:, column])
        own, others = similarity[rows, column, None], ~is_true[rows]
        better = ((similarity[rows] > own) & others).sum(axis=1)
        tied = ((similarity[rows] == own) & others).sum(axis=1)
        found[rows, column] = ranks(better, tied)
    return found


def zero_shot_accuracy(
    image_vectors: np.ndarray, classes: np.ndarray, labels: Sequence[int]
) -> Accuracy:
    """Give each picture the nearest class and count how often it is the true one.

    Parameters
    ----------
    image_vectors : ndarray (n, n_dims)
        Unit norm.
    classes : ndarray (n_classes, n_dims)
        From :func:`class_vectors`.
    labels : sequence of int (n,)
        Row of the true class.
    """
    n = len(image_vectors)
    is_true = np.zeros((n, len(classes)), dtype=bool)
    is_true[np.arange(n), np.asarray(labels)] = True
    rank = true_ranks(image_vectors @ classes.T, is_true)[is_true]
    n_correct = int((rank <= 1).sum())
    low, high = wilson(n_correct / n, n)
    return Accuracy(n_correct / n, low, high, n, len(classes), 1 / len(classes))
