"""What identification loses when the voxels of one part of a region are left out."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from braindecode_clip.artifacts import Embeddings, VoxelSet
from braindecode_clip.config.decode_extras import ImportanceConfig
from braindecode_clip.config.decoders import AnyDecoderConfig
from braindecode_clip.decode.bands import label_bands, without_voxels
from braindecode_clip.decode.fit import decode
from braindecode_clip.decode.identify import cluster_means, clusters_of, pairwise_shares
from braindecode_clip.errors import DataError
from braindecode_clip.seeds import make_rng
from braindecode_clip.spaces import VoxelSpace


def leave_one_roi_out(
    voxels: VoxelSet,
    embeddings: Embeddings,
    parts: Mapping[str, VoxelSpace],
    *,
    decoder: AnyDecoderConfig,
    config: ImportanceConfig,
    seed: int,
    bands: np.ndarray | None = None,
) -> pd.DataFrame:
    """Fit again without the voxels of each part, and compare with the whole region.

    A part that others can stand in for loses nothing, so a loss of 0 does not mean that the
    part holds nothing: compare with the decoder of that ROI alone.

    Parameters
    ----------
    voxels : VoxelSet
        Of the joint region.
    embeddings : Embeddings
    parts : mapping of str to VoxelSpace
        Regions to leave out, one after another; they may overlap.
    decoder : section of a kind of decoder
    config : ImportanceConfig
    seed : int
        Master seed.
    bands : ndarray (n_voxels,) str, optional
        As for :func:`braindecode_clip.decode.decode`.

    Returns
    -------
    DataFrame
        Columns left_out ("" for the whole region), n_voxels (mean over folds),
        out_of_fold_pairwise, pairwise (among the test stimuli, chance 0.5), loss (of the whole
        minus this one), loss_ci_low, loss_ci_high (paired, percentiles over bootstrap samples
        of stimuli, or of runs where runs are held out), n.

    Raises
    ------
    DataError
        A part on another grid or without any voxel of the region, and as for
        :func:`braindecode_clip.decode.decode`.
    """
    sets = {"": voxels}
    for name, space in parts.items():
        dropped = label_bands(voxels.space, {name: space}) == name
        if not dropped.any():
            raise DataError(
                f"importance: '{name}' shares no voxel with '{voxels.roi}', so nothing can be left "
                "out. Name parts of the region."
            )
        sets[name] = without_voxels(voxels, dropped)
    shares, rows = [], []
    for name, used in sets.items():
        predictions, fitted = decode(used, embeddings, config=decoder, seed=seed, bands=bands)
        ids = predictions.stimulus_id
        truth = embeddings.vectors[embeddings.rows(ids)]
        shares.append(pairwise_shares(predictions.vectors, truth, ids))
        rows.append(
            {
                "left_out": name,
                "n_voxels": float(np.mean([len(fold.voxel_index) for fold in used.folds])),
                "out_of_fold_pairwise": float(
                    np.mean([fold.info["out_of_fold_pairwise"] for fold in fitted.folds])
                ),
                "pairwise": float(shares[-1].mean()),
            }
        )
    losses = shares[0][:, None] - np.stack(shares, axis=1)
    rng = make_rng(seed, "importance", voxels.subject, voxels.roi, voxels.split, decoder.name)
    draws = cluster_means(losses, clusters_of(voxels), n_bootstrap=config.n_bootstrap, rng=rng)
    tail = (1 - config.confidence) / 2
    table = pd.DataFrame(rows)
    table["loss"] = losses.mean(axis=0)
    table["loss_ci_low"], table["loss_ci_high"] = np.quantile(draws, [tail, 1 - tail], axis=0)
    return table.assign(n=len(losses))
