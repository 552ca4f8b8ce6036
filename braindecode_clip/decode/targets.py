"""Targets as decoders are fitted to them: as one matrix, and in principal components."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from braindecode_clip.errors import DataError

#: Singular values below this share of the largest one are rounding.
_NO_VARIANCE = 1e-7


@dataclass(frozen=True)
class Shape:
    """What the axes of the targets after the first one were.

    Attributes
    ----------
    tail : tuple of int
        () for a vector, (n_dims,), or (n_tokens, n_dims).
    """

    tail: tuple[int, ...]

    @property
    def n_tokens(self) -> int:
        """Number of tokens; 1 without a token axis."""
        return self.tail[0] if len(self.tail) == 2 else 1

    def restore(self, flat: np.ndarray) -> np.ndarray:
        """Give (n, n_targets) the axes back."""
        return flat.reshape(len(flat), *self.tail)


def flattened(Y: Any) -> tuple[Any, Shape]:
    """Flatten the tokens of (n_samples, n_tokens, n_dims); leave other targets as they are."""
    array = np.asarray(Y)
    shape = Shape(tuple(array.shape[1:]))
    return (array.reshape(len(array), -1) if array.ndim == 3 else Y), shape


@dataclass(frozen=True)
class TargetSpace:
    """Principal components of the training targets, and the way there and back.

    Attributes
    ----------
    mean : ndarray (n_dims,) float64
    forward : ndarray (n_dims, n_components) float64
    backward : ndarray (n_components, n_dims) float64
    explained : float
        Share of the training targets' variance that lies in the components.
    """

    mean: np.ndarray
    forward: np.ndarray
    backward: np.ndarray
    explained: float

    def apply(self, targets: np.ndarray) -> np.ndarray:
        """Return the components (n, n_components) of targets (n, n_dims), in their dtype."""
        return ((targets - self.mean) @ self.forward).astype(targets.dtype)


def fit_target_space(
    targets: np.ndarray,
    stimulus_id: np.ndarray,
    *,
    method: str,
    n_components: int | None = None,
    shrinkage: float = 0.1,
) -> TargetSpace:
    r"""Fit principal components to the training targets, every stimulus counted once.

    With the singular value decomposition :math:`Y - \bar y = U S V^\top` of n stimuli and
    :math:`\lambda = S^2 / n`,

    - ``pca``: :math:`z = V^\top (y - \bar y)`;
    - ``whiten``: :math:`z = (\Lambda + \epsilon \bar\lambda)^{-1/2} V^\top (y - \bar y)` with
      the mean :math:`\bar\lambda` of the kept :math:`\lambda` and the shrinkage
      :math:`\epsilon`.

    Both are undone exactly within the span of the components: a prediction is mapped back
    before it is calibrated and compared, so that candidates stay as they are whatever the fold.

    Parameters
    ----------
    targets : ndarray (n_samples, n_dims)
        Training rows alone.
    stimulus_id : ndarray (n_samples,)
        Rows of one stimulus have one target.
    method : {"pca", "whiten"}
    n_components : int, optional
        All that vary by default; never more than those.
    shrinkage : float
        For "whiten", at least 0; the smaller, the more directions are equalised that hardly
        vary.

    Raises
    ------
    DataError
        The targets do not vary.
    """
    _, first = np.unique(stimulus_id, return_index=True)
    distinct = targets[np.sort(first)].astype(np.float64)
    mean = distinct.mean(axis=0)
    _, values, rows = np.linalg.svd(distinct - mean, full_matrices=False)
    n_varying = int((values > _NO_VARIANCE * max(values[0], 1e-300)).sum())
    if values[0] <= _NO_VARIANCE:
        raise DataError(
            f"target_space: the targets of {len(distinct)} training stimuli do not vary. Check the "
            "embeddings."
        )
    kept = min(n_components or n_varying, n_varying)
    variance = values**2 / len(distinct)
    scale = np.ones(kept)
    if method == "whiten":
        scale = np.sqrt(variance[:kept] + shrinkage * variance[:kept].mean())
    return TargetSpace(
        mean=mean,
        forward=rows[:kept].T / scale,
        backward=rows[:kept] * scale[:, None],
        explained=float(variance[:kept].sum() / variance.sum()),
    )


def restore_targets(components: np.ndarray, backward: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Map components (n, n_components) back to targets (n, n_dims); NaN rows stay NaN."""
    return components @ backward + mean
