"""Zero-shot classification: pictures are compared with prompts that name the classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from braindecode_clip.checks import Problems, some
from braindecode_clip.metrics import wilson


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
    encoder: TextEncoder, class_names: Sequence[str], templates: Sequence[str]
) -> np.ndarray:
    """Return one unit vector for each class: the mean over its prompts.

    Parameters
    ----------
    encoder : TextEncoder
        Turns prompts into unit vectors.
    class_names : sequence of str
        Distinct names.
    templates : sequence of str
        Prompts with ``{}`` where the name goes, e.g. "a picture of a {}". Averaging over
        several wordings is the prompt ensemble of Radford et al. (2021), section 3.1.4.

    Returns
    -------
    ndarray (n_classes, n_dims) float32
        Unit norm.

    Raises
    ------
    DataError
        No classes, double names, or a template without ``{}``.
    """
    problems = Problems("zero-shot prompts")
    if not class_names or len(set(class_names)) < len(class_names):
        problems.add(f"class names must be distinct and at least one; got {some(class_names)}.")
    if not templates or any("{}" not in template for template in templates):
        problems.add(f"every template needs '{{}}' for the name; got {some(templates)}.")
    problems.raise_if_any()
    prompts = [template.format(name) for name in class_names for template in templates]
    vectors = encoder.encode_text(prompts).reshape(len(class_names), len(templates), -1)
    mean = vectors.mean(axis=1)
    return mean / np.linalg.norm(mean, axis=1, keepdims=True)


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
    chosen = np.argmax(image_vectors @ classes.T, axis=1)
    n = len(image_vectors)
    n_correct = int((chosen == np.asarray(labels)).sum())
    low, high = wilson(n_correct / n, n)
    return Accuracy(n_correct / n, low, high, n, len(classes), 1 / len(classes))
