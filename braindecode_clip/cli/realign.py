"""``braindecode-clip realign``: motion and slice-timing correction of one raw run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from braindecode_clip.cli.common import options_help, read_options
from braindecode_clip.config.realign import RealignConfig

if TYPE_CHECKING:
    import numpy as np

    from braindecode_clip.preprocess.realign import RealignedRun

#: Stands in the log and in the file beside every realigned run.
ADVICE = (
    "fMRIPrep is the better way: it also corrects susceptibility distortion, aligns the run with "
    "the anatomy and a template, applies all of it in one interpolation, and gives CompCor and "
    "tissue signals and a report to judge it by. Use this only where fMRIPrep cannot be run."
)


def realign(
    bold: Annotated[Path, typer.Option(help="The raw run: 4-D NIfTI (.nii, .nii.gz).")],
    out_bold: Annotated[
        Path | None,
        typer.Option(help="The corrected run to write (NIfTI); a JSON file comes beside it."),
    ] = None,
    out_confounds: Annotated[
        Path | None,
        typer.Option(help="The confounds to write (TSV, fMRIPrep's names); JSON beside it."),
    ] = None,
    reference: Annotated[
        Path | None,
        typer.Option(
            help="Image to align to, e.g. of the subject's first run; made of this run if left out."
        ),
    ] = None,
    out_reference: Annotated[
        Path | None,
        typer.Option(help="The reference image to write. Without --out-bold nothing else is done."),
    ] = None,
    sidecar: Annotated[
        list[Path] | None,
        typer.Option(
            help="JSON file with SliceTiming; may be repeated, the first that names a key counts. "
            "The file beside the run comes before all."
        ),
    ] = None,
    tr_s: Annotated[
        float | None,
        typer.Option(
            help="Repetition time in seconds, where neither the JSON file beside the run nor its "
            "header has it."
        ),
    ] = None,
    options: Annotated[
        str | None, typer.Option(help="Options as YAML or JSON text, or a file with them.")
    ] = None,
) -> None:
    """Correct head motion and slice timing of one raw run; fMRIPrep is the better way."""
    from braindecode_clip.io.nifti import read_volume, write_volume
    from braindecode_clip.logs import get_logger, milestone
    from braindecode_clip.preprocess.realign import make_reference, realign_run
    from braindecode_clip.preprocess.rigid import ReferenceImage, load_simpleitk
    from braindecode_clip.preprocess.slice_timing import find_slice_times

    logger = get_logger(__name__)
    config = read_options(options, RealignConfig)
    _check_flags(config, out_bold, out_confounds, reference, out_reference)
    if config.motion:
        load_simpleitk()
    given = ReferenceImage(*read_volume(reference)) if reference is not None else None
    metadata = _metadata(bold, sidecar or [])
    with milestone(logger, f"read {bold.name}") as note:
        volumes, affine, tr_s = _read_run(bold, tr_s)
        note(f"{len(volumes)} volumes of {volumes.shape[1:]}, TR {tr_s:g} s")
    if out_bold is None or out_confounds is None:
        made = make_reference(volumes, affine, choice=config.reference, where=str(bold))
        write_volume(out_reference, made.volume, made.affine)
        logger.info("wrote %s", out_reference)
        return
    times_s, axis = None, 2
    if config.slice_timing:
        times_s, axis = find_slice_times(metadata, volumes.shape[1:], tr_s=tr_s, where=str(bold))
    logger.warning(ADVICE)
    with milestone(logger, "realigned") as note:
        run = realign_run(
            volumes,
            affine,
            tr_s=tr_s,
            config=config,
            slice_times_s=times_s,
            slice_axis=axis,
            reference=given,
            where=str(bold),
        )
        note(_summary(run, config))
    if out_reference is not None:
        write_volume(out_reference, run.reference.volume, run.reference.affine)
    inputs = [bold, *([reference] if reference is not None else [])]
    record = _record(config, tr_s=tr_s, task=metadata.get("TaskName"), inputs=inputs)
    _write(run, record, out_bold=out_bold, out_confounds=out_confounds, tr_s=tr_s)
    logger.info("wrote %s and %s", out_bold, out_confounds)


def _check_flags(
    config: RealignConfig,
    out_bold: Path | None,
    out_confounds: Path | None,
    reference: Path | None,
    out_reference: Path | None,
) -> None:
    from braindecode_clip.checks import Problems
    from braindecode_clip.errors import ConfigError

    problems = Problems("realign")
    if (out_bold is None) != (out_confounds is None):
        problems.add("--out-bold and --out-confounds belong together. Give both.")
    elif out_bold is None and out_reference is None:
        problems.add("nothing to write. Give --out-bold and --out-confounds, or --out-reference.")
    elif out_bold is None and reference is not None:
        problems.add("--reference is only for runs that are written. Give --out-bold too.")
    if out_bold is not None and not out_bold.name.endswith((".nii", ".nii.gz")):
        problems.add(f"--out-bold is {out_bold.name}, expected a name in .nii.gz or .nii.")
    if out_confounds is not None and out_confounds.suffix != ".tsv":
        problems.add(f"--out-confounds is {out_confounds.name}, expected a name in .tsv.")
    if not config.motion and (reference is not None or out_reference is not None):
        problems.add("a reference is for motion correction, which 'motion: false' turns off.")
    problems.raise_if_any(ConfigError)


def _json_beside(path: Path) -> Path:
    stem = path.name.removesuffix(".gz").removesuffix(".nii").removesuffix(".tsv")
    return path.with_name(f"{stem}.json")


def _metadata(bold: Path, sidecars: list[Path]) -> dict[str, Any]:
    """Return the BIDS metadata of a run; the nearest file wins."""
    from braindecode_clip.errors import DataError
    from braindecode_clip.io.tables import read_json

    beside = _json_beside(bold)
    merged: dict[str, Any] = {}
    for path in reversed([*([beside] if beside.is_file() else []), *sidecars]):
        content = read_json(path)
        if not isinstance(content, dict):
            raise DataError(f"{path}: holds no keys and values, expected a BIDS JSON file.")
        merged.update(content)
    return merged


def _read_run(bold: Path, tr_s: float | None) -> tuple[np.ndarray, np.ndarray, float]:
    """Return the whole volumes (n_volumes, nx, ny, nz) float32, the affine and the TR."""
    from functools import partial

    import numpy as np

    from braindecode_clip.artifacts import VoxelSpace
    from braindecode_clip.io.bold import read_bold
    from braindecode_clip.io.nifti import load_image

    image = load_image(bold)
    shape = tuple(int(size) for size in image.shape[:3])
    affine = np.asarray(image.affine, dtype=np.float64)
    everywhere = np.stack([axis.ravel() for axis in np.indices(shape, dtype=np.int32)], axis=1)
    space = VoxelSpace(affine, np.array(shape, dtype=np.int64), everywhere)
    # Some scanners' exports hold NaN around the head; splines would spread it.
    finite = partial(np.nan_to_num, nan=0.0, posinf=0.0, neginf=0.0)
    data, tr_s = read_bold(bold, space, mask_name="itself", tr_s=tr_s, volume_filter=finite)
    return data.reshape(len(data), *shape), affine, tr_s


def _summary(run: RealignedRun, config: RealignConfig) -> str:
    """Return what was done and how much the head moved, in one line."""
    import numpy as np

    from braindecode_clip.nuisance import framewise_displacement

    parts = []
    if run.parameters is not None:
        moved = framewise_displacement(run.parameters)[1:]
        parts.append(
            f"motion undone: framewise displacement {moved.mean():.3f} mm on average, "
            f"{moved.max():.3f} mm at most; farthest {np.abs(run.parameters[:, :3]).max():.2f} mm, "
            f"{np.rad2deg(np.abs(run.parameters[:, 3:]).max()):.2f} degrees from the reference"
        )
    if config.slice_timing:
        parts.append(f"slices shifted to {config.slice_time_ref:g} TR")
    return "; ".join(parts)


def _record(
    config: RealignConfig, *, tr_s: float, task: str | None, inputs: list[Path]
) -> dict[str, Any]:
    """Return the JSON beside the run: what was done, in BIDS' words."""
    from braindecode_clip import __version__
    from braindecode_clip.preprocess.rigid import load_simpleitk

    steps = []
    if config.motion:
        steps.append(
            "Rigid motion was estimated on the volumes as acquired, and undone with cubic splines "
            "onto the reference image's grid."
        )
    if config.slice_timing:
        steps.append(
            "Slices were shifted in time with cubic splines"
            + (", before motion was undone." if config.motion else ".")
        )
    tools = [{"Name": "braindecode_clip", "Version": __version__}]
    if config.motion:
        version = load_simpleitk().Version_VersionString()
        tools.append({"Name": "SimpleITK", "Version": version})
    record: dict[str, Any] = {
        "Description": " ".join([*steps, ADVICE]),
        **({"TaskName": task} if task else {}),
        "RepetitionTime": tr_s,
        "SliceTimingCorrected": config.slice_timing,
        **({"StartTime": config.slice_time_ref * tr_s} if config.slice_timing else {}),
        "MotionCorrected": config.motion,
        "SkullStripped": False,
        "Sources": [path.name for path in inputs],
        "GeneratedBy": tools,
        "Options": config.model_dump(mode="json", exclude={"enabled"}),
    }
    return record


def _write(
    run: RealignedRun,
    record: dict[str, Any],
    *,
    out_bold: Path,
    out_confounds: Path,
    tr_s: float,
) -> None:
    import numpy as np

    from braindecode_clip.io.atomic import write_json
    from braindecode_clip.io.nifti import write_bold_int16
    from braindecode_clip.io.tables import write_tsv
    from braindecode_clip.preprocess.realign_confounds import confounds_of, describe_confounds

    table = confounds_of(run.volumes[:, run.brain], run.parameters)
    write_tsv(out_confounds, table)
    write_json(_json_beside(out_confounds), describe_confounds(table))
    write_json(_json_beside(out_bold), record)
    moved = np.moveaxis(run.volumes, 0, -1)
    write_bold_int16(out_bold, moved, run.reference.affine, tr_s=tr_s)


realign.__doc__ = f"{realign.__doc__}\n\n{options_help(RealignConfig)}"
