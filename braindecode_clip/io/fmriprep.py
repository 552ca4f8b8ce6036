"""Which columns of an fMRIPrep confounds file a strategy stands for, by nilearn's rules."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd

from braindecode_clip.config.preprocess import StrategyConfig
from braindecode_clip.errors import DataError
from braindecode_clip.io.tables import read_json, write_tsv

#: nilearn's word for each of our names of motion, the largest first.
_MOTION = {"motion24": "full", "motion12": "derivatives", "motion6": "basic"}

#: The columns that strategies choose from. Others stay away from nilearn, which refuses names in
#: camel case and turns outlier columns into a mask.
_FAMILIES = r"^(?:trans|rot|csf|white_matter|global_signal|cosine)|^[atwc]_comp_cor_"

_STEM = "sub-x_task-x_desc-"


def strategy_columns(
    table: pd.DataFrame, config: StrategyConfig, *, path: str | Path
) -> tuple[str, ...]:
    """Return the names of the columns that a strategy regresses out.

    nilearn's ``load_confounds`` chooses; it is loaded only when there is something to choose.

    Parameters
    ----------
    table : DataFrame
        The confounds, one row a volume; with all derivatives and squares, which
        :func:`braindecode_clip.preprocess.expand_confounds` adds to a table that lacks them.
    config : StrategyConfig
    path : path
        The table's file: fMRIPrep's JSON file lies beside it, which CompCor needs.

    Returns
    -------
    tuple of str
        Columns of ``table``; for non_steady_state the pattern of the columns, which many runs lack.

    Raises
    ------
    DataError
        When the table lacks columns, or the JSON file is missing or tells nothing of CompCor.

    References
    ----------
    Wang et al. (2024), PLOS Computational Biology 20:e1011942, on the strategies.
    """
    steady = ("non_steady_state_outlier*",) if "non_steady_state" in config.names else ()
    options = _nilearn_options(config)
    if not options["strategy"]:
        return steady
    sidecars = sidecar_files(path, config)
    meta = _compcor_meta(sidecars[0], path) if sidecars else {}
    return (*_chosen_by_nilearn(table, options, meta, path=path), *steady)


def sidecar_files(path: str | Path, config: StrategyConfig) -> list[Path]:
    """Return the JSON file beside a confounds table if the strategy looks into it."""
    with_compcor = {"acompcor", "tcompcor"} & set(config.names)
    return [Path(path).with_suffix(".json")] if with_compcor else []


def _nilearn_options(config: StrategyConfig) -> dict[str, Any]:
    strategy: list[str] = []
    options: dict[str, Any] = {"demean": False}
    motion = [word for name, word in _MOTION.items() if name in config.names]
    if motion:
        strategy.append("motion")
        options["motion"] = motion[0]
    for name in ("wm_csf", "global_signal"):
        if name in config.names:
            strategy.append(name)
            options[name] = config.signals
    temporal = "tcompcor" in config.names
    anatomical = "acompcor" in config.names
    if temporal or anatomical:
        # The components are made from data without the file's cosines, which must leave with them.
        strategy += ["high_pass", "compcor"]
        parts = ["temporal"] * temporal + [f"anat_{config.compcor_mask}"] * anatomical
        options |= {"compcor": "_".join(parts), "n_compcor": config.n_compcor}
    return options | {"strategy": tuple(strategy)}


def _compcor_meta(sidecar: Path, path: str | Path) -> dict[str, Any]:
    if not sidecar.is_file():
        raise DataError(
            f"{path}: acompcor and tcompcor need {sidecar.name} beside it, where fMRIPrep (1.4 and "
            "later) says which component is of which mask. Put it there, or name columns in "
            "'confounds' instead, e.g. 'a_comp_cor_0[0-4]'."
        )
    meta = read_json(sidecar)
    names = [name for name in meta if "_comp_cor_" in name] if isinstance(meta, dict) else []
    if not names:
        raise DataError(
            f"{sidecar}: names no CompCor component (a_comp_cor_00, ...). Is it the JSON file of "
            "fMRIPrep's confounds?"
        )
    return {name: meta[name] for name in names}


def _chosen_by_nilearn(
    table: pd.DataFrame, options: dict[str, Any], meta: dict[str, Any], *, path: str | Path
) -> tuple[str, ...]:
    from nilearn.interfaces.fmriprep import load_confounds

    needed = table.filter(regex=_FAMILIES)
    with tempfile.TemporaryDirectory() as folder:
        # nilearn finds the table by the name of a run beside it, which need not exist.
        write_tsv(Path(folder, f"{_STEM}confounds_timeseries.tsv"), needed)
        text = json.dumps(meta)
        Path(folder, f"{_STEM}confounds_timeseries.json").write_text(text, encoding="utf-8")
        try:
            confounds, _ = load_confounds(
                str(Path(folder, f"{_STEM}preproc_bold.nii.gz")), **options
            )
        except (KeyError, TypeError, ValueError) as error:
            families = ", ".join(options["strategy"])
            raise DataError(
                f"{path}: lacks columns of the strategy {families} ({error}). Choose other "
                "names in 'strategy', or give fMRIPrep's own file."
            ) from error
    return tuple(str(name) for name in confounds.columns)
