"""Identification against the rank of the map from voxels to embedding.

A score that a map of few dimensions reaches, or one without any data, says little about what
was read out of the brain (BrainBits: Mayo et al., NeurIPS 2024, arXiv:2411.02783).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from braindecode_clip.artifacts import Embeddings, Fold, VoxelSet
from braindecode_clip.config.decode_extras import BottleneckConfig
from braindecode_clip.decode.calibrate import apply_calibration, fit_calibration
from braindecode_clip.decode.fit import check_groups, check_inputs
from braindecode_clip.decode.identify import cluster_means, clusters_of, pairwise_shares
from braindecode_clip.decode.low_rank import ReducedRankDecoder
from braindecode_clip.decode.ridge import RidgeDecoder
from braindecode_clip.seeds import make_rng

#: Makes the test predictions of one fold.
Predictor = Callable[[Fold, np.ndarray, np.random.Generator], np.ndarray]


def bottleneck_curve(
    voxels: VoxelSet, embeddings: Embeddings, *, config: BottleneckConfig, seed: int
) -> pd.DataFrame:
    """Score reduced-rank ridge at every rank, a random map of that rank, and a random prior.

    - ``learned``: :class:`~braindecode_clip.decode.ReducedRankDecoder` of that rank, its penalty
      chosen within train;
    - ``random``: ridge on so many random combinations of voxels;
    - ``prior`` (rank 0): the embedding of a training stimulus drawn at random, no data at all.

    The first two get the spread of the targets back from out-of-fold predictions.

    Parameters
    ----------
    voxels : VoxelSet
    embeddings : Embeddings
    config : BottleneckConfig
    seed : int
        Master seed.

    Returns
    -------
    DataFrame
        Columns map, rank, pairwise (among the test stimuli, chance 0.5), ci_low, ci_high
        (percentiles over bootstrap samples of stimuli, or of runs where runs are held out),
        cosine (mean similarity with the true embedding), n.
    """
    check_inputs(voxels, embeddings)
    tests = [fold.test for fold in voxels.folds]
    ids = np.concatenate([test.stimulus_id for test in tests])
    truth = embeddings.vectors[embeddings.rows(ids)]
    clusters = clusters_of(voxels)
    rng = make_rng(seed, "bottleneck", voxels.subject, voxels.roi, voxels.split)
    full = min(
        truth.shape[1], *(min(len(f.train.data) - 1, len(f.voxel_index)) for f in voxels.folds)
    )
    ranks = sorted({min(rank, full) for rank in config.ranks})
    plan = [("prior", 0, _prior())]
    plan += [("learned", rank, _learned(rank, voxels.unit, config)) for rank in ranks]
    plan += [("random", rank, _random(rank, voxels.unit, config)) for rank in ranks]
    rows = []
    for name, rank, predict in plan:
        draws = 1 if name == "learned" else config.n_random
        shares, cosines = [], []
        for _ in range(draws):
            predicted = np.concatenate(
                [predict(f, _targets(f, embeddings), rng) for f in voxels.folds]
            )
            shares.append(pairwise_shares(predicted, truth, ids))
            cosines.append(_cosine(predicted, truth))
        mean = np.mean(shares, axis=0)[:, None]
        spread = cluster_means(mean, clusters, n_bootstrap=config.n_bootstrap, rng=rng)[:, 0]
        tail = (1 - config.confidence) / 2
        low, high = np.quantile(spread, [tail, 1 - tail])
        rows.append(
            {
                "map": name,
                "rank": rank,
                "pairwise": float(mean.mean()),
                "ci_low": float(low),
                "ci_high": float(high),
                "cosine": float(np.mean(cosines)),
                "n": len(ids),
            }
        )
    return pd.DataFrame(rows)


def _targets(fold: Fold, embeddings: Embeddings) -> np.ndarray:
    return embeddings.vectors[embeddings.rows(fold.train.stimulus_id)]


def _prior() -> Predictor:
    def predict(fold: Fold, targets: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return targets[rng.integers(len(targets), size=len(fold.test.data))]

    return predict


def _learned(rank: int, unit: str, config: BottleneckConfig) -> Predictor:
    def predict(fold: Fold, targets: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        groups, n_groups = check_groups(fold, unit)
        model = ReducedRankDecoder([rank], **_options(config, n_groups))
        model.fit(fold.train.data, targets, groups=groups)
        return _calibrated(model, fold.test.data, targets)

    return predict


def _random(rank: int, unit: str, config: BottleneckConfig) -> Predictor:
    def predict(fold: Fold, targets: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        groups, n_groups = check_groups(fold, unit)
        # With this variance a row keeps its expected length, and the grid its meaning.
        mixing = rng.standard_normal((len(fold.voxel_index), rank)) / np.sqrt(rank)
        model = RidgeDecoder(**_options(config, n_groups))
        model.fit(fold.train.data @ mixing, targets, groups=groups)
        return _calibrated(model, fold.test.data @ mixing, targets)

    return predict


def _options(config: BottleneckConfig, n_groups: int) -> dict[str, Any]:
    grid = config.alphas
    return {
        "alphas": np.geomspace(grid.low, grid.high, grid.count),
        "cv": min(config.cv, n_groups),
        "out_of_fold": True,
    }


def _calibrated(
    model: ReducedRankDecoder | RidgeDecoder, X: np.ndarray, targets: np.ndarray
) -> np.ndarray:
    return apply_calibration(model.predict(X), *fit_calibration(model.out_of_fold_, targets))


def _cosine(predicted: np.ndarray, truth: np.ndarray) -> float:
    """Return the mean cosine of predictions with their targets; 0 for a vector of zeros."""
    lengths = np.linalg.norm(predicted, axis=1) * np.linalg.norm(truth, axis=1)
    products = np.einsum("ij,ij->i", predicted, truth)
    return float(np.mean(products / np.where(lengths > 0, lengths, 1)))
