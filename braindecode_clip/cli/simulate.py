"""``braindecode-clip simulate``: scenes, the pictures of an experiment, simulated subjects."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from braindecode_clip.cli.common import options_help, read_options
from braindecode_clip.config.simulate import SimulateConfig

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from braindecode_clip.simulate.pairs import ScenePairs
    from braindecode_clip.simulate.scenes import Scene
    from braindecode_clip.simulate.subject import SimulatedRun, Subject

BIDS_VERSION = "1.9.0"

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Make the embedded data set: scenes, and subjects with known truth, in BIDS.",
)

Options = Annotated[
    str | None,
    typer.Option(help="Options as YAML or JSON text, or the path of a file; listed below."),
]
Seed = Annotated[int, typer.Option(min=0, help="Master seed.")]
Root = Annotated[Path, typer.Option(help="Root folder of the data set.")]


@app.command()
def scenes(
    n: Annotated[int, typer.Option(min=1, help="Number of scenes.")],
    out: Annotated[Path, typer.Option(help="HDF5 file to write.")],
    seed: Seed = 2026,
    held_out: Annotated[
        bool,
        typer.Option("--held-out", help="Each scene holds a composition unseen in training."),
    ] = False,
    size_px: Annotated[int, typer.Option(min=64, help="Side of the pictures in pixels.")] = 64,
    captions: Annotated[int, typer.Option(min=1, help="Captions for each scene.")] = 3,
    style: Annotated[
        str,
        typer.Option(
            help="filled: what the scenes CLIP was trained on; lines: coloured pencil on paper. "
            "A seed gives the same scenes and captions in both."
        ),
    ] = "filled",
    leave_out: Annotated[
        Path | None,
        typer.Option(
            help="stimuli.tsv of a study: scenes that look like one of its test pictures are "
            "left out, by the measure of `clip train --forbid`; fewer than N remain."
        ),
    ] = None,
) -> None:
    """Draw scenes with captions, as training pairs of a CLIP model."""
    from functools import partial

    from braindecode_clip.io.hdf5 import save_artifact
    from braindecode_clip.logs import get_logger, milestone, progress
    from braindecode_clip.provenance import make_provenance
    from braindecode_clip.seeds import make_rng
    from braindecode_clip.simulate.pairs import ScenePairs, make_pairs

    options = {"n": n, "held_out": held_out, "size_px": size_px, "captions": captions}
    options["style"] = style
    with milestone(get_logger(__name__), "simulate scenes") as note:
        pairs = make_pairs(
            n,
            rng=make_rng(seed, "scenes", "held out" if held_out else "seen"),
            size_px=size_px,
            captions_per_scene=captions,
            held_out=held_out,
            style=style,
            progress=partial(progress, what="scenes", total=n),
        )
        inputs = [] if leave_out is None else [leave_out]
        n_left_out = 0
        if leave_out is not None:
            kept = _unlike_test_pictures(pairs, leave_out)
            n_left_out = len(pairs) - len(kept)
            pairs = ScenePairs(pairs.images[kept], pairs.captions[kept], pairs.scenes[kept])
        provenance = make_provenance("simulate", options=options, inputs=inputs, seed=seed)
        save_artifact(out, pairs, provenance)
        note(
            f"pictures {pairs.images.shape}, captions {pairs.captions.shape}"
            + (f"; {n_left_out} left out" if leave_out is not None else "")
        )


def _unlike_test_pictures(pairs: ScenePairs, stimuli: Path) -> np.ndarray:
    """Return the rows of the pairs that are no test picture, nor a near duplicate of one."""
    import numpy as np

    from braindecode_clip.cli.clip_leaks import read_forbidden, read_looks
    from braindecode_clip.clip.overlap import overlap
    from braindecode_clip.io.pair_source import PairSource

    source = PairSource(
        where="scenes",
        kind="scenes",
        names=tuple(map(str, range(len(pairs)))),
        captions=tuple(map(tuple, pairs.captions)),
        read=lambda row: pairs.images[row].tobytes(),
        sizes=np.full(len(pairs), pairs.images[0].nbytes, dtype=np.int64),
        pixels=pairs.images,
    )
    tested = read_forbidden(stimuli, split="test", n_workers=1).looks
    found = overlap(read_looks(source, n_workers=1)[0], tested).shared
    alike = {row for rows in found.values() for row, _ in rows}
    return np.setdiff1d(np.arange(len(pairs)), list(alike)).astype(np.int64)


@app.command(epilog=options_help(SimulateConfig))
def stimuli(out: Root, options: Options = None, seed: Seed = 2026) -> None:
    """Draw and render the pictures of the experiment, and describe the data set."""
    from braindecode_clip.io.images import write_png
    from braindecode_clip.io.tables import write_tsv
    from braindecode_clip.logs import get_logger, milestone, progress
    from braindecode_clip.seeds import make_rng
    from braindecode_clip.simulate.render import render
    from braindecode_clip.simulate.stimuli import make_stimuli, stimuli_table

    config = read_options(options, SimulateConfig)
    with milestone(get_logger(__name__), "simulate stimuli") as note:
        drawn = make_stimuli(config, rng=make_rng(seed, "stimuli"))
        table = stimuli_table(drawn)
        for item, name in zip(progress(drawn, what="pictures"), table["image"], strict=True):
            picture = render(item.scene, size_px=config.image_size_px, style=config.style)
            write_png(out / "stimuli" / name, picture)
        _describe_dataset(out, config)
        # Last: whoever finds the table finds its pictures too.
        write_tsv(out / "stimuli" / "stimuli.tsv", table)
        note(f"{len(table)} pictures of {config.image_size_px} px")


@app.command(epilog=options_help(SimulateConfig))
def subject(
    subject: Annotated[str, typer.Option(help="Label, without 'sub-'.")],
    stimuli: Annotated[Path, typer.Option(help="stimuli.tsv of `simulate stimuli`.")],
    out: Root,
    options: Options = None,
    seed: Seed = 2026,
) -> None:
    """Scan one simulated subject: runs, events, confounds, masks, and what is true."""
    from braindecode_clip.logs import get_logger, milestone, progress
    from braindecode_clip.simulate.features import picture_features
    from braindecode_clip.simulate.subject import make_subject, simulate_runs

    config = read_options(options, SimulateConfig)
    with milestone(get_logger(__name__), f"simulate sub-{subject}") as note:
        table, images, shown = _read_stimuli(stimuli, subject, config)
        made = make_subject(
            subject,
            picture_features(images, shown),
            table["stimulus_id"].tolist(),
            table["split"].tolist(),
            config=config,
            seed=seed,
        )
        runs = progress(simulate_runs(made), what="runs", total=len(made.design))
        for run in runs:
            _write_run(out, made, run)
        _write_anatomy(out, made)
        _write_truth(out, made, stimuli)
        responsive = made.truth.reliability[made.truth.mean_response > 0]
        note(
            f"{len(made.design)} runs, {len(made.truth.trials)} trials, "
            f"{int(made.anatomy.brain.sum())} voxels, {len(made.truth.region)} visual; mean "
            f"reliability {responsive.mean() if len(responsive) else 0.0:.3f}"
        )


def _read_stimuli(
    path: Path, subject: str, config: SimulateConfig
) -> tuple[pd.DataFrame, np.ndarray, tuple[Scene, ...]]:
    """Read the pictures that this subject sees."""
    from braindecode_clip.checks import Problems, some
    from braindecode_clip.errors import ConfigError
    from braindecode_clip.io.images import read_rgb
    from braindecode_clip.io.tables import read_tsv
    from braindecode_clip.simulate.scenes import scene_from_json
    from braindecode_clip.simulate.stimuli import SHOWN_TO_ALL

    if subject not in config.subjects:
        raise ConfigError(
            f"--subject {subject}: not among the subjects {some(config.subjects)} of the "
            "options. Choose one of them, or add it to simulate.subjects."
        )
    columns = ("stimulus_id", "image", "split", "shown_to", "scene")
    table = read_tsv(path, required=columns, text=columns)
    table = table[table["shown_to"].isin([SHOWN_TO_ALL, subject])].reset_index(drop=True)
    problems = Problems(str(path))
    wanted = {"train": config.n_train_pictures, "test": config.n_test_pictures}
    for split, n_wanted in wanted.items():
        n_found = int((table["split"] == split).sum())
        if n_found != n_wanted:
            problems.add(
                f"{n_found} {split} pictures for sub-{subject}, the options say {n_wanted}. Run "
                "`simulate stimuli` with the same options."
            )
    problems.raise_if_any()
    images = read_rgb([path.parent / name for name in table["image"]])
    return table, images, tuple(scene_from_json(text) for text in table["scene"])


def _write_run(out: Path, made: Subject, run: SimulatedRun) -> None:
    from braindecode_clip.config.simulate import TASK, run_stem
    from braindecode_clip.io.atomic import write_json
    from braindecode_clip.io.nifti import write_bold_int16
    from braindecode_clip.io.tables import write_tsv
    from braindecode_clip.simulate.confounds import compcor_meta

    tr_s = made.config.tr_s
    stem = run_stem(made.label, run.design.session, run.design.run)
    write_tsv(out / f"{stem}_events.tsv", run.design.events)
    write_tsv(out / f"{stem}_desc-confounds_timeseries.tsv", run.confounds)
    write_json(out / f"{stem}_desc-confounds_timeseries.json", compcor_meta(run.confounds))
    sidecar = {
        "TaskName": TASK,
        "RepetitionTime": tr_s,
        "SkullStripped": True,
        "SliceTimingCorrected": True,
        "Description": "Simulated; realigned, with residual effects of motion.",
    }
    write_json(out / f"{stem}_bold.json", sidecar)
    write_bold_int16(out / f"{stem}_bold.nii.gz", run.bold, made.anatomy.affine, tr_s=tr_s)


def _write_anatomy(out: Path, made: Subject) -> None:
    import numpy as np

    from braindecode_clip.io.nifti import write_volume

    anatomy, name = made.anatomy, f"sub-{made.label}"
    folder = out / "derivatives" / "masks" / name
    masks = {"desc-brain": anatomy.brain}
    masks |= {f"roi-{roi}": mask for roi, mask in anatomy.rois.items()}
    for label, mask in masks.items():
        path = folder / f"{name}_{label}_mask.nii.gz"
        write_volume(path, mask.astype(np.uint8), anatomy.affine)
    write_volume(folder / f"{name}_desc-mean_T1w.nii.gz", anatomy.t1w, anatomy.t1w_affine)


def _write_truth(out: Path, made: Subject, stimuli: Path) -> None:
    from braindecode_clip.io.atomic import write_json
    from braindecode_clip.io.hdf5 import save_artifact
    from braindecode_clip.io.nifti import write_volume
    from braindecode_clip.provenance import make_provenance

    truth, folder = made.truth, out / "derivatives" / "truth"
    ceiling = truth.space.to_volume(truth.noise_ceiling)
    stem = folder / f"sub-{made.label}_noiseceiling"
    write_volume(stem.with_suffix(".nii.gz"), ceiling, made.anatomy.affine)
    sidecar = {
        "Units": "percent of variance",
        "Description": f"Explainable variance of the mean of {truth.n_repeats} single-trial LSS "
        "betas with the canonical response, before any confound is regressed out.",
    }
    write_json(stem.with_suffix(".json"), sidecar)
    provenance = make_provenance(
        "simulate", options=made.config.model_dump(mode="json"), inputs=[stimuli], seed=made.seed
    )
    save_artifact(folder / f"sub-{made.label}_truth.h5", truth, provenance)


def _describe_dataset(out: Path, config: SimulateConfig) -> None:
    """Write what BIDS asks for at the roots, once for all subjects."""
    import pandas as pd

    from braindecode_clip import __version__
    from braindecode_clip.config.simulate import TASK
    from braindecode_clip.io.atomic import write_json, write_text
    from braindecode_clip.io.tables import write_tsv

    generated = [{"Name": "braindecode_clip", "Version": __version__}]
    about = {"BIDSVersion": BIDS_VERSION, "License": "CC0", "GeneratedBy": generated}
    raw = {"Name": "Simulated subjects looking at scenes", "DatasetType": "raw", **about}
    write_json(out / "dataset_description.json", raw)
    for folder in ("masks", "truth"):
        derivative = {"Name": f"Simulated subjects: {folder}", "DatasetType": "derivative"}
        write_json(out / "derivatives" / folder / "dataset_description.json", derivative | about)
    names = [f"sub-{label}" for label in config.subjects]
    write_tsv(out / "participants.tsv", pd.DataFrame({"participant_id": names}))
    write_json(
        out / f"task-{TASK}_events.json",
        {
            "trial_type": {"Levels": {"picture": "A picture is shown."}},
            "stimulus_id": {"Description": "Row of stimuli/stimuli.tsv."},
        },
    )
    write_text(
        out / "README",
        "Simulated fMRI of subjects who look at rendered scenes. Voxels respond to the pictures\n"
        "themselves; derivatives/truth holds what is true of them. No person was scanned.\n",
    )
