"""``braindecode-clip preprocess``: one run of volumes to cleaned signals."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from braindecode_clip.cli.common import options_help, read_options
from braindecode_clip.config.preprocess import PreprocessConfig, StrategyConfig

if TYPE_CHECKING:
    import pandas as pd


def preprocess(
    bold: Annotated[
        list[Path],
        typer.Option(
            help="The run: 4-D NIfTI (.nii, .nii.gz), CIFTI (.dtseries.nii), or GIFTI "
            "(.func.gii), once for each hemisphere."
        ),
    ],
    subject: Annotated[str, typer.Option(help="Label without 'sub-'.")],
    run: Annotated[str, typer.Option(help="Label without 'run-'.")],
    out: Annotated[Path, typer.Option(help="File to write (HDF5).")],
    mask: Annotated[
        list[Path] | None,
        typer.Option(
            help="Mask of the voxels to keep, on the run's grid or surfaces; of several, the "
            "voxels in all of them (hemispheres are joined). Volumes need one."
        ),
    ] = None,
    confounds: Annotated[
        Path | None,
        typer.Option(
            help="Table with one row a volume (fMRIPrep's *_timeseries.tsv, its JSON file beside "
            "it where the strategy has CompCor)."
        ),
    ] = None,
    session: Annotated[str, typer.Option(help="Label without 'ses-'; none by default.")] = "",
    tr_s: Annotated[
        float | None,
        typer.Option(
            help="Repetition time in seconds, where neither the JSON file beside the "
            "run nor its header has it."
        ),
    ] = None,
    options: Annotated[
        str | None, typer.Option(help="Options as YAML or JSON text, or a file with them.")
    ] = None,
) -> None:
    """Clean one run: mask it, regress confounds and drifts out, scale every voxel."""
    import numpy as np

    from braindecode_clip.io.fmriprep import sidecar_files
    from braindecode_clip.io.hdf5 import save_artifact
    from braindecode_clip.io.runs import read_any_mask, read_run
    from braindecode_clip.logs import get_logger, milestone
    from braindecode_clip.preprocess import clean_run, intersect_masks
    from braindecode_clip.provenance import make_provenance

    logger = get_logger(__name__)
    config = read_options(options, PreprocessConfig)
    masks = mask or []
    mask_names = [str(path) for path in masks]
    space = None
    if masks:
        space = intersect_masks([read_any_mask(path) for path in masks], mask_names)
    table, chosen = _read_confounds(confounds, config.strategy)
    volume_filter = None
    if config.fwhm_mm is not None:
        # Loads nilearn, which takes seconds that other runs need not spend.
        from braindecode_clip.preprocess.smoothing import make_smoother

        affine = np.eye(4) if space is None else space.affine
        volume_filter = make_smoother(affine, config.fwhm_mm)
    with milestone(logger, f"read {bold[0].name}") as note:
        data, space, tr_s = read_run(
            bold,
            space,
            mask_name=", ".join(mask_names),
            tr_s=tr_s,
            volume_filter=volume_filter,
        )
        note(f"{data.shape[0]} volumes x {data.shape[1]} voxels, TR {tr_s:g} s")
    with milestone(logger, "cleaned") as note:
        signals = clean_run(
            data,
            space=space,
            tr_s=tr_s,
            config=config,
            confounds=table,
            strategy_columns=chosen,
            subject=subject,
            session=session,
            run=run,
            where=" + ".join(str(path) for path in bold),
            confounds_where=str(confounds),
            overwrite=True,
        )
        note(f"{signals.regressors.shape[1]} regressors out, unit {signals.unit}")
    inputs = [*bold, *masks]
    if confounds is not None:
        inputs += [confounds, *sidecar_files(confounds, config.strategy)]
    provenance = make_provenance(
        "preprocess", options=config.model_dump(mode="json"), inputs=inputs
    )
    save_artifact(out, signals, provenance)
    logger.info("wrote %s", out)


def _read_confounds(
    path: Path | None, strategy: StrategyConfig
) -> tuple[pd.DataFrame | None, tuple[str, ...]]:
    """Return the table of confounds and the columns that the strategy names."""
    from braindecode_clip.errors import DataError
    from braindecode_clip.io.tables import read_tsv

    if path is None:
        if strategy.names:
            raise DataError(
                f"strategy.names is {list(strategy.names)}, but there is no confounds file. Give "
                "one (--confounds), or set 'strategy: {names: []}'."
            )
        return None, ()
    table = read_tsv(path)
    if not strategy.names:
        return table, ()
    from braindecode_clip.io.fmriprep import strategy_columns
    from braindecode_clip.preprocess import expand_confounds

    table = expand_confounds(table)
    return table, strategy_columns(table, strategy, path=path)


preprocess.__doc__ = f"{preprocess.__doc__}\n\n{options_help(PreprocessConfig)}"
