r"""How much of a difference the space alone makes: a synthetic decoder of equal correlation.

An adapted space can be easier to identify pictures in with no more brain information in it. A
decoder that is equally good in both spaces tells how much: its prediction is

.. math:: \hat z = m + g \left(r \, \frac{z - m}{s} + \sqrt{1 - r^2} \, e\right)

with the true vector z, the mean m of the test pictures' vectors, their root mean square distance s
from it, noise e of mean square length 1, and the correlation r of the *original* encoder's decoder
with the truth (over test samples and dimensions, both centred), in both spaces. g over s, too, is
that of the original encoder's decoder in both: the spread of predictions over that of the truth,
which matters to a cosine where m is not 0.

Noise has the covariance of the real decoder's errors in each space, or is isotropic: then most of
it lies where the embedding hardly varies and harms nobody, and the synthetic decoder is far better
than the real one. Rows say what it scores in both spaces; the control tells something where that
is near the real score.

The control is of second moments. Where a decoder knows some directions much better than others,
equal r is not equal information: see :mod:`braindecode_clip.audit.common_space`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from braindecode_clip.metrics import count_better, ranks
from braindecode_clip.similarity import SimilarityKind, similarity_matrix


@dataclass(frozen=True)
class Decoded:
    """Predictions of test samples with their true vectors, in one space.

    Attributes
    ----------
    predicted, true : ndarray (n, n_dims) float64
    """

    predicted: np.ndarray
    true: np.ndarray

    @property
    def correlation(self) -> float:
        """Correlation over samples and dimensions, each dimension centred; 0 without spread."""
        p, t = self._centred()
        lengths = float(np.sqrt((p**2).sum() * (t**2).sum()))
        return float((p * t).sum() / lengths) if lengths > 0 else 0.0

    @property
    def relative_spread(self) -> float:
        """Root mean square distance of predictions from their mean, over that of the truth."""
        p, t = self._centred()
        power = float((t**2).sum())
        return float(np.sqrt((p**2).sum() / power)) if power > 0 else 0.0

    def errors(self) -> np.ndarray:
        """Return what is left of the centred predictions after the true ones, (n, n_dims)."""
        p, t = self._centred()
        power = float((t**2).sum())
        return p - (float((p * t).sum()) / power if power > 0 else 0.0) * t

    def _centred(self) -> tuple[np.ndarray, np.ndarray]:
        return self.predicted - self.predicted.mean(axis=0), self.true - self.true.mean(axis=0)


def synthetic_predictions(
    decoded: Decoded,
    correlation: float,
    *,
    relative_spread: float,
    noise: Literal["isotropic", "residual"],
    rng: np.random.Generator,
) -> np.ndarray:
    """Return predictions (n, n_dims) of a decoder of this correlation; see the module.

    Parameters
    ----------
    decoded : Decoded
        The space, and the errors for "residual".
    correlation : float
        Below 0 counts as 0: noise alone.
    relative_spread : float
        :attr:`Decoded.relative_spread` that the predictions get.
    noise : {"isotropic", "residual"}
    rng : Generator
    """
    true = decoded.true
    mean = true.mean(axis=0)
    centred = true - mean
    power = float((centred**2).sum(axis=1).mean())
    n, n_dims = true.shape
    if noise == "isotropic":
        drawn = rng.standard_normal((n, n_dims)) / np.sqrt(n_dims)
    else:
        errors = decoded.errors()
        drawn = rng.standard_normal((n, n)) @ errors
        length = float((errors**2).sum())
        drawn /= np.sqrt(length) if length > 0 else 1.0
    r = min(max(correlation, 0.0), 1.0)
    s = np.sqrt(power)
    return mean + relative_spread * (r * centred + s * np.sqrt(1.0 - r**2) * drawn)


def ranks_among(
    predicted: np.ndarray, gallery: np.ndarray, true_index: np.ndarray, *, kind: SimilarityKind
) -> np.ndarray:
    """Return the rank of the true candidate for every prediction (n,) float64."""
    table = similarity_matrix(predicted, gallery, similarity=kind)
    return ranks(*count_better(table, true_index))
