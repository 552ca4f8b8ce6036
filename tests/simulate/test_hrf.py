"""Response shapes against SPM's formula and a plain convolution."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import gamma

from braindecode_clip.simulate.hrf import (
    CANONICAL_PEAK_S,
    CANONICAL_WIDTH_S,
    hrf,
    hrf_library,
    trial_regressors,
)


def test_canonical_is_spm() -> None:
    t = np.arange(0, 32, 0.05)
    spm = gamma.pdf(t, 6) - gamma.pdf(t, 16) / 6
    np.testing.assert_allclose(
        hrf(CANONICAL_PEAK_S, CANONICAL_WIDTH_S), spm / spm.sum(), rtol=1e-9, atol=1e-12
    )


@pytest.mark.parametrize("peak_s", [4.0, 5.0, 6.3])
@pytest.mark.parametrize("width_s", [2.0, 2.9])
def test_peak_and_width_are_as_asked(peak_s: float, width_s: float) -> None:
    fine = hrf(peak_s, width_s, step_s=0.01)
    assert fine.argmax() * 0.01 == pytest.approx(peak_s, abs=0.12)
    wider = hrf(peak_s, width_s + 0.4, step_s=0.01)
    assert (wider > wider.max() / 2).sum() > (fine > fine.max() / 2).sum()


def test_library_has_the_spread_that_was_asked() -> None:
    library = hrf_library(0.6, 0.25)
    assert library.shape == (15, 2)
    np.testing.assert_allclose(library.mean(axis=0), [CANONICAL_PEAK_S, CANONICAL_WIDTH_S])
    np.testing.assert_allclose(library.std(axis=0), [0.6, 0.25])
    assert len(np.unique(library, axis=0)) == 15
    np.testing.assert_allclose(hrf_library(0, 0), [[CANONICAL_PEAK_S, CANONICAL_WIDTH_S]] * 15)


def test_regressors_equal_a_plain_convolution() -> None:
    step, onsets, duration, n_volumes, tr = 0.05, np.array([2.0, 7.5, 30.0]), 3.0, 25, 1.7
    response = hrf(5.4, 2.2, step_s=step)
    got = trial_regressors(onsets, duration, response, n_volumes=n_volumes, tr_s=tr, step_s=step)
    time = np.arange(0, n_volumes * tr, step)
    for column, onset in enumerate(onsets):
        box = ((time > onset - step / 2) & (time < onset + duration - step / 2)).astype(float)
        convolved = np.convolve(box, response)[: len(time)]
        at = np.rint(np.arange(n_volumes) * tr / step).astype(int)
        np.testing.assert_allclose(got[:, column], convolved[at], atol=1e-12)
