"""What out-of-fold predictions of very many targets tell, from some targets at a time."""

from __future__ import annotations

from typing import Any

import numpy as np

from braindecode_clip.decode.calibrate import apply_calibration, fit_calibration, standardise
from braindecode_clip.decode.identify import mean_of_known
from braindecode_clip.metrics import count_better, ranks

#: Training stimuli that out-of-fold predictions are told apart from, at most.
MAX_TOKEN_GALLERY = 1000


class HeldOut:
    """Calibration, explained variance and pairwise identification, block by block.

    The calibration of :func:`~braindecode_clip.decode.calibrate.fit_calibration` for each target
    needs that target alone, but the gain of "spread" is one for all. So products are summed of
    the mean and of deviations from it, and the gain comes in at the end: with
    ``p' = y_mean + g (p - p_mean)`` the products with a candidate are linear in g. (The length of
    p' is the same for all candidates, and orders none.)

    Parameters
    ----------
    stimulus_id : ndarray (n_samples,) str
    n_targets : int
    method : str
        Of the calibration.
    """

    def __init__(self, stimulus_id: np.ndarray, n_targets: int, *, method: str) -> None:
        self.method = method
        self.gain = np.ones(n_targets, dtype=np.float32)
        self.offset = np.zeros(n_targets, dtype=np.float32)
        self._means = np.zeros((2, n_targets))
        self._spread = np.zeros(2)
        self._residual = self._total = 0.0
        names, first, index = np.unique(stimulus_id, return_index=True, return_inverse=True)
        kept = np.arange(len(names))
        if len(names) > MAX_TOKEN_GALLERY:
            kept = np.linspace(0, len(names) - 1, MAX_TOKEN_GALLERY).astype(int)
        place = np.full(len(names), -1)
        place[kept] = np.arange(len(kept))
        self._gallery, self._own = first[kept], place[index]
        self._known: np.ndarray | None = None

    @property
    def known(self) -> np.ndarray:
        """Training rows with an out-of-fold prediction; (n_known,) int."""
        assert self._known is not None
        return self._known

    def add(self, part: slice, held: np.ndarray, target: np.ndarray) -> None:
        """Take the predictions and the targets (n_samples, n_block) of a block of targets."""
        if self._known is None:
            self._start(~np.isnan(held).any(axis=1))
        p = held[self._known].astype(np.float64)
        y = target[self._known].astype(np.float64)
        p_mean, y_mean = p.mean(axis=0), y.mean(axis=0)
        self._means[:, part] = p_mean, y_mean
        self._spread += p.var(axis=0).sum(), y.var(axis=0).sum()
        self._residual += float(np.square(y - p).sum())
        self._total += float(np.square(y - y_mean).sum())
        if self.method == "spread":
            base, deviation = y_mean, p[self._scored] - p_mean
        else:
            gain, offset = fit_calibration(held, target, method=self.method)
            self.gain[part], self.offset[part] = gain, offset
            raw = standardise(p) if self.method == "transductive" else p
            base = np.zeros_like(y_mean)
            deviation = apply_calibration(raw[self._scored], gain, offset).astype(np.float64)
        gallery = target[self._gallery].astype(np.float64)
        self._constant += gallery @ base
        self._linear += deviation @ gallery.T
        self._lengths += np.square(gallery).sum(axis=1)

    def finish(self) -> dict[str, Any]:
        """Settle :attr:`gain` and :attr:`offset`; return the scores, JSON-able."""
        gain = 1.0
        if self.method == "spread":
            p_var, y_var = self._spread
            gain = float(np.sqrt(y_var / p_var)) if p_var > np.finfo(np.float64).tiny else 1.0
            self.gain[:] = gain
            self.offset[:] = self._means[1] - gain * self._means[0]
        known = 1 - self._residual / self._total if self._total > 0 else 0.0
        return {
            "out_of_fold_r2": float(known),
            "mean_gain": float(self.gain.mean(dtype=np.float64)),
            "out_of_fold_pairwise": mean_of_known(self._shares(gain)),
        }

    def _start(self, known: np.ndarray) -> None:
        if known.sum() < 2:
            raise ValueError(f"{known.sum()} rows have an out-of-fold prediction, expected 2.")
        self._known = np.flatnonzero(known)
        # Positions among the known rows of those whose own stimulus is in the gallery.
        self._scored = np.flatnonzero(self._own[self._known] >= 0)
        shape = (len(self._scored), len(self._gallery))
        self._linear, self._constant = np.zeros(shape), np.zeros(shape[1])
        self._lengths = np.zeros(shape[1])

    def _shares(self, gain: float) -> np.ndarray:
        if len(self._gallery) < 2 or not len(self._scored):
            return np.full(1, np.nan)
        similarity = (self._constant + gain * self._linear) / np.sqrt(self._lengths)
        own = self._own[self._known[self._scored]]
        rank = ranks(*count_better(similarity.astype(np.float32), own))
        return 1 - (rank - 1) / (len(self._gallery) - 1)
