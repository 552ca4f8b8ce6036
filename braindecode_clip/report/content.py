"""What the page is made of, read from disk once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from braindecode_clip.artifacts import Retrieval
from braindecode_clip.config.study import StudyConfig
from braindecode_clip.quality import RunQuality
from braindecode_clip.spaces import VoxelSpace

#: The labels of a condition, in the order in which they are named to the reader.
CONDITION = ("subject", "roi", "split", "encoder", "decoder", "gallery")


@dataclass(frozen=True)
class VoxelMap:
    """A map on the brain, and what it belongs to.

    Attributes
    ----------
    subject, roi, kind : str
    values : ndarray (nx, ny, nz), or (n_columns,) of data on surfaces
        NaN outside the map.
    affine : ndarray (4, 4)
        Voxel indices to mm.
    labels : dict
        Split, encoder and decoder, where the map belongs to some.
    space : VoxelSpace or None
        Where the values lie, of data on surfaces; None for a volume.
    """

    subject: str
    roi: str
    kind: str
    values: np.ndarray
    affine: np.ndarray
    labels: dict[str, str] = field(default_factory=dict)
    space: VoxelSpace | None = None


@dataclass(frozen=True)
class Counts:
    """What a voxel matrix says of itself, without its data.

    Attributes
    ----------
    subject, roi, split, unit : str
        As in :class:`~braindecode_clip.artifacts.VoxelSet`.
    n_folds : int
    n_voxels : int
        In the ROI, before selection.
    n_kept : tuple of int
        Voxels kept in each fold.
    n_train, n_test : tuple of int
        Rows of each fold.
    table : DataFrame
        Where every trial, picture, repeat and voxel went.
    """

    subject: str
    roi: str
    split: str
    unit: str
    n_folds: int
    n_voxels: int
    n_kept: tuple[int, ...]
    n_train: tuple[int, ...]
    n_test: tuple[int, ...]
    table: pd.DataFrame


@dataclass(frozen=True)
class Inputs:
    """Everything the page is made of.

    Attributes
    ----------
    study : StudyConfig
    metrics : DataFrame
        One row a metric, condition and direction.
    pools : DataFrame
        Accuracy against pool size, with the labels of its condition.
    notes : list of str
        What the stages want the reader to know, each once.
    retrievals, reverse : list of Retrieval
        brain_to_image and image_to_brain.
    counts : list of Counts
    maps : list of VoxelMap
    backgrounds : dict
        Subject to (data, affine).
    quality : list of RunQuality
        One for each run.
    stimuli : DataFrame
        Columns stimulus_id, image (path or ""), caption; empty without a table.
    decoding : dict
        Tables by name: "comparison" of decoders, "bottleneck", "curves" (calibration curves),
        "importance" and "surface"; empty where not measured.
    statistics : dict
        Tables of `evaluate` by name: "nulls" (scores under permutation), "power" and
        "dimensions"; empty where not measured.
    jobs : DataFrame
        Columns rule, job, seconds, cpu_s, max_mb; one row a benchmark file.
    provenance : list of dict
        One record for each file read.
    controls : list of dict
        Contents of the files of ``controls``.
    group : dict
        Tables "rows" and "pairs" over subjects, and "notes" (column "note"); empty without.
    protocols : DataFrame
        Rows of published protocols; empty where none was replayed.
    fitted : DataFrame
        What was fitted on what, of all metrics.
    audit : dict
        Content of ``audit.json``; empty without adapted encoders.
    """

    study: StudyConfig
    metrics: pd.DataFrame
    pools: pd.DataFrame
    notes: list[str]
    retrievals: list[Retrieval]
    reverse: list[Retrieval]
    counts: list[Counts]
    maps: list[VoxelMap]
    backgrounds: dict[str, tuple[np.ndarray, np.ndarray]]
    quality: list[RunQuality]
    stimuli: pd.DataFrame
    decoding: dict[str, pd.DataFrame]
    statistics: dict[str, pd.DataFrame]
    jobs: pd.DataFrame
    provenance: list[dict[str, Any]]
    controls: list[dict[str, Any]] = field(default_factory=list)
    group: dict[str, pd.DataFrame] = field(default_factory=dict)
    protocols: pd.DataFrame = field(default_factory=pd.DataFrame)
    fitted: pd.DataFrame = field(default_factory=pd.DataFrame)
    audit: dict[str, Any] = field(default_factory=dict)
