"""Linear and kernel decoders by their kind: building, storing and predicting."""

from __future__ import annotations

from typing import Any

import numpy as np

from braindecode_clip.config.decode import RidgeConfig
from braindecode_clip.config.decode_linear import (
    BandedConfig,
    KernelRidgeConfig,
    PCARidgeConfig,
    ReducedRankConfig,
)
from braindecode_clip.decode.banded import BandedRidgeDecoder
from braindecode_clip.decode.kernels import KernelRidgeDecoder, predict_from_rows
from braindecode_clip.decode.low_rank import PCARidgeDecoder, ReducedRankDecoder
from braindecode_clip.decode.ridge import RidgeDecoder

ClosedFormConfig = (
    RidgeConfig | BandedConfig | KernelRidgeConfig | PCARidgeConfig | ReducedRankConfig
)
ClosedForm = (
    RidgeDecoder | BandedRidgeDecoder | KernelRidgeDecoder | PCARidgeDecoder | ReducedRankDecoder
)
_ESTIMATORS = {
    "ridge": RidgeDecoder,
    "banded": BandedRidgeDecoder,
    "kernel_ridge": KernelRidgeDecoder,
    "pca_ridge": PCARidgeDecoder,
    "reduced_rank": ReducedRankDecoder,
}
#: Kinds whose penalties stand in the config as a grid, and that are fitted in closed form.
CLOSED_FORM = tuple(_ESTIMATORS)


def closed_form_estimator(
    config: ClosedFormConfig, *, n_groups: int, seed: int, bands: np.ndarray | None
) -> ClosedForm:
    """Build the unfitted estimator of a config; inner folds are at most the groups.

    Parameters
    ----------
    config : section of a kind in :data:`CLOSED_FORM`
    n_groups : int
    seed : int
    bands : ndarray (n_kept,) str, or None
        For the kind "banded".
    """
    grid = config.alphas
    left_out = {"name", "kind", "calibration", "bands", "weight_by_repeats", "target_space"}
    options = config.model_dump(exclude=left_out)
    options |= {
        "alphas": np.geomspace(grid.low, grid.high, grid.count),
        "cv": min(config.cv, n_groups),
        "out_of_fold": True,
    }
    if config.kind == "ridge" and config.alpha_groups == "dimension":
        options["alpha_groups"] = None
    if config.kind == "banded":
        options |= {"bands": bands, "random_state": seed}
    return _ESTIMATORS[config.kind](**options)


def closed_form_arrays(estimator: ClosedForm) -> dict[str, np.ndarray]:
    """Return all arrays that a fitted estimator needs to predict, and its curves."""
    found = {
        "intercept": estimator.intercept_,
        "alpha": np.atleast_1d(estimator.alpha_),
        "alphas": np.asarray(estimator.alphas, dtype=np.float64),
        "cv_mse": estimator.cv_mse_,
    }
    if isinstance(estimator, KernelRidgeDecoder):
        found |= {"rows": estimator.rows_, "dual_coef": estimator.dual_coef_}
        if estimator.gamma_ is not None:
            found["gamma"] = np.array([estimator.gamma_])
        return found
    if isinstance(estimator, BandedRidgeDecoder):
        found |= {"weights": estimator.weights_, "weights_mse": estimator.weights_mse_}
    return {"coef": estimator.coef_, **found}


def predict_closed_form(arrays: dict[str, np.ndarray], X: np.ndarray) -> np.ndarray:
    """Predict with the arrays of :func:`closed_form_arrays`; (n_samples, n_dims)."""
    if "coef" in arrays:
        return X @ arrays["coef"] + arrays["intercept"]
    return predict_from_rows(
        X,
        arrays["rows"],
        gamma=float(arrays["gamma"][0]) if "gamma" in arrays else None,
        dual_coef=arrays["dual_coef"],
        intercept=arrays["intercept"],
    )


def closed_form_report(estimator: ClosedForm) -> dict[str, Any]:
    """Return what the cross-validation chose, JSON-able."""
    low, middle, high = np.quantile(estimator.alpha_, [0, 0.5, 1])
    found: dict[str, Any] = {
        "alpha_min": float(low),
        "alpha_median": float(middle),
        "alpha_max": float(high),
    }
    if isinstance(estimator, RidgeDecoder):
        found["share_at_edge"] = float(estimator.at_edge_.mean())
    elif isinstance(estimator, BandedRidgeDecoder):
        means = estimator.weights_.mean(axis=1)
        names = map(str, estimator.bands_)
        found["mean_band_weights"] = dict(zip(names, map(float, means), strict=True))
    elif isinstance(estimator, KernelRidgeDecoder):
        found["gamma"] = estimator.gamma_
    elif isinstance(estimator, PCARidgeDecoder):
        found["n_components"] = estimator.n_components_
    else:
        found["rank"] = estimator.rank_
    return found
