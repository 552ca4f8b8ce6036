"""Averaging several maps into shared coordinates by how well each identifies held-out rows."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from braindecode_clip.decode.calibrate import apply_calibration, fit_calibration
from braindecode_clip.decode.direction import Judge, unit_rows
from braindecode_clip.decode.shared_space import SharedSpace

#: Shares of the maps go in steps of one over this.
STEPS = 4
#: How much of its log-likelihood a candidate is believed: a row's InfoNCE counts for so many rows.
TRUST = 0.25


@dataclass(frozen=True)
class Blend:
    """What every map is multiplied by, coordinate by coordinate.

    Attributes
    ----------
    gains : ndarray (n_maps, n_components) float64
    shares : ndarray (n_maps,) float64
        Of every map in the mean, together 1.
    whitening : float
        Mean ρ of the candidates, by their weights.
    """

    gains: np.ndarray
    shares: np.ndarray
    whitening: float


def blend(
    held: Sequence[np.ndarray],
    Y: np.ndarray,
    *,
    space: SharedSpace,
    judge: Judge,
    whitenings: Sequence[float],
) -> Blend:
    r"""Average mixtures of maps by their held-out InfoNCE.

    A candidate is a mixture of the maps, in quarters, each scaled to equal spread of its held-out
    predictions, with the head ``1 / (variance_k / mean variance + ρ)`` of one ρ. With N stimuli
    and the loss L_c of candidate c at the temperature that suits it best, its weight is
    proportional to :math:`\exp(-N L_c / 4)`: pseudo-Bayesian model averaging (Yao et al. 2018,
    Bayesian Analysis 13:917-1007, section 2.3) with tempered likelihoods. With few stimuli all
    candidates count about the same, with many the best alone, so that no choice is made that
    the data cannot make.

    Parameters
    ----------
    held : sequence of ndarray (n_samples, n_components)
        Held-out coordinates by every map; rows never held out are NaN in all of them.
    Y : ndarray (n_samples, n_dims)
    space : SharedSpace
    judge : Judge
    whitenings : sequence of float
        Values of ρ.
    """
    shares, heads, losses, sizes = [], [], [], []
    truth = unit_rows(judge.averaged(Y))
    for rho in whitenings:
        head = 1 / (space.variance / space.variance.mean() + rho)
        scaled = [part * head / spread(part * head) for part in held]
        for counts in itertools.product(range(STEPS + 1), repeat=len(held)):
            if sum(counts) != STEPS:
                continue
            share = np.array(counts) / STEPS
            mixture = sum(w * part for w, part in zip(share, scaled, strict=True) if w)
            vectors = judge.averaged(space.mean + mixture @ space.basis.T)
            line = fit_calibration(vectors, judge.averaged(Y))
            losses.append(judge.loss(unit_rows(apply_calibration(vectors, *line)), truth)[0])
            sizes.append(spread(mixture))
            shares.append(share)
            heads.append((rho, [head / spread(part * head) for part in held]))
    distance = np.array(losses) - min(losses)
    weights = np.exp(-TRUST * len(truth) * distance)
    weights /= weights.sum()
    gains = np.zeros((len(held), len(space.variance)))
    for weight, share, size, (_, scales) in zip(weights, shares, sizes, heads, strict=True):
        gains += weight / size * share[:, None] * np.array(scales)
    return Blend(
        gains=gains,
        shares=weights @ np.array(shares),
        whitening=float(weights @ [rho for rho, _ in heads]),
    )


def spread(predicted: np.ndarray) -> float:
    """Return the root mean square around the mean of the rows that were held out."""
    known = predicted[~np.isnan(predicted).any(axis=1)]
    size = float(np.sqrt(np.square(known - known.mean(axis=0)).mean()))
    return size if size > 0 else 1.0
