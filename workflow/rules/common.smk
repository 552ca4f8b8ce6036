# The typed config, the sample sheet, file names, and the code digest of every stage.
import shlex
from pathlib import Path

from braindecode_clip.config.adaptations import starts_from_scenes
from braindecode_clip.config.datasets import DEFAULT_MASK
from braindecode_clip.config.simulate import expected_runs
from braindecode_clip.config.study import parse_study
from braindecode_clip.datasets.layout import (
    FIT,
    KEYS,
    MATRIX,
    RANKING,
    SEARCH,
    TARGETS,
    adapted_path,
    audit_path,
    candidates_path,
    comparison_path,
    embeddings_path,
    group_path,
    label_stem,
    result_path,
)
from braindecode_clip.datasets.bids import runs_from_bids
from braindecode_clip.datasets.sample_sheet import Run, fill_hemispheres, fill_pattern, map_ending
from braindecode_clip.datasets.table import runs_from_table
from braindecode_clip.errors import BraindecodeError
from braindecode_clip.provenance import code_digest
from snakemake.exceptions import WorkflowError

try:
    STUDY = parse_study(config, where="config")
except BraindecodeError as error:
    raise WorkflowError(str(error)) from None
# Numbers nested in a --config option arrive as text; the schema is held against typed values.
config.update(STUDY.model_dump(mode="json"))

# Used with --software-deployment-method conda alone; relative to the rule files.
ENVIRONMENT = "../envs/environment.yaml"
RESULTS = f"{STUDY.results}/{STUDY.study}"
LOGS = f"{RESULTS}/logs"
BENCHMARKS = f"{RESULTS}/benchmarks"
SIMULATED = f"{RESULTS}/simulate"
QUALITY = f"{RESULTS}/quality"
REALIGNED = f"{RESULTS}/realign/sub-{{subject}}"
EPI_MASK = f"{RESULTS}/preprocess/sub-{{subject}}/sub-{{subject}}_desc-epi_mask.nii.gz"


def simulated_run(subject, session, run):
    """The files that the simulation will write for one run."""
    name = f"sub-{subject}_ses-{session}_task-scenes_run-{run}"
    folder = f"{SIMULATED}/sub-{subject}/ses-{session}/func"
    return Run(
        subject=subject,
        session=session,
        run=run,
        task="scenes",
        bold=(f"{folder}/{name}_bold.nii.gz",),
        events=f"{folder}/{name}_events.tsv",
        confounds=f"{folder}/{name}_desc-confounds_timeseries.tsv",
        mask=(f"{SIMULATED}/{fill_pattern(DEFAULT_MASK, subject=subject)}",),
        tr_s=None,
    )


def sample_sheet():
    """Every run of the study; it fixes the graph, so no checkpoint is needed."""
    if STUDY.source == "simulate":
        return [
            simulated_run(subject, session, run)
            for subject in STUDY.simulate.subjects
            for session, run in expected_runs(STUDY.simulate)
        ]
    try:
        if STUDY.source == "table":
            return runs_from_table(STUDY.runs)
        return runs_from_bids(STUDY.bids)
    except BraindecodeError as error:
        raise WorkflowError(str(error)) from None


def resolved_encoder(encoder):
    """The encoder as commands take it: one that the study adapts is a model in a folder."""
    if encoder.kind != "adapted":
        return encoder
    folder = adapted_path(RESULTS, adaptation=encoder.adaptation, control=encoder.control)
    changed = {"kind": "local", "model": folder, "adaptation": None, "control": None}
    if starts_from_scenes(encoder.name, STUDY.encoders, STUDY.adaptations):
        changed["precision"] = "fp32"
    return encoder.model_copy(update=changed)


RUNS = {run.name: run for run in sample_sheet()}
if STUDY.realign.enabled and any(run.kind != "volume" for run in RUNS.values()):
    raise WorkflowError(
        "realign: motion and slice timing are corrected in volumes, and this study's runs lie on "
        "surfaces. Set 'realign: {enabled: false}'."
    )
SUBJECTS = list(dict.fromkeys(run.subject for run in RUNS.values()))
ROIS = {roi.name: roi for roi in STUDY.rois}
SPLITS = {split.name: split for split in STUDY.splits}
ENCODERS = {encoder.name: resolved_encoder(encoder) for encoder in STUDY.encoders}
DECODERS = {decoder.name: decoder for decoder in STUDY.decoders}
GALLERIES = {gallery.name: gallery for gallery in STUDY.galleries}
SEARCHES = {search.name: search for search in STUDY.searches}
# Candidates from elsewhere, each encoded once for every encoder.
WANTED = {f"gal-{name}": item.distractors for name, item in GALLERIES.items() if item.distractors}
WANTED |= {f"search-{name}": item.candidates for name, item in SEARCHES.items() if item.candidates}
ROOT = {
    "simulate": SIMULATED,
    "bids": STUDY.bids.root,
    "table": str(Path(STUDY.runs).parent),
}[STUDY.source]
MAP_ENDING = map_ending(list(RUNS.values()))
STIMULI = f"{SIMULATED}/stimuli/stimuli.tsv" if STUDY.source == "simulate" else STUDY.stimuli


def wildcards_of(labels):
    """The wildcards that stand for the labels in a path, e.g. roi -> {roi}."""
    return {key: f"{{{key}}}" for key in labels}


def result(kind):
    """The path of one kind of result, its labels as wildcards."""
    return result_path(
        RESULTS, kind, subject="{subject}", map_ending=MAP_ENDING, **wildcards_of(KEYS)
    )


def side_file(folder, stage, labels, ending):
    """The path of a log or a benchmark file of one job."""
    return f"{folder}/{stage}/{label_stem('{subject}', **wildcards_of(labels))}.{ending}"


def names_of_kind(decoders, *, shared):
    """A pattern for the decoders over several subjects, or for those of one subject."""
    names = [name for name, item in decoders.items() if (item.kind == "shared") == shared]
    # A pattern that no name matches, where the study has none.
    return "|".join(names) or "(?!)"


def all_subjects(path):
    """A path of one job for all subjects."""
    return path.replace("sub-{subject}", "sub-all")


def code(stage):
    """Digest of a stage's code: a change there re-runs that stage and what follows it."""
    return code_digest(f"braindecode_clip.cli.{stage}")


def as_json(section):
    """A config section as the JSON text that a command takes."""
    return section.model_dump_json()


def options(section):
    """The same as a parameter; a function, lest Snakemake takes {subject} for a wildcard."""
    return lambda wildcards: as_json(section)


def subject_runs(wildcards):
    """The names of a subject's runs."""
    return [name for name, run in RUNS.items() if run.subject == wildcards.subject]


def roi_masks(wildcards):
    """The mask of one ROI of one subject; for GIFTI one for each hemisphere."""
    pattern = ROIS[wildcards.roi].mask
    return [f"{ROOT}/{mask}" for mask in fill_hemispheres(pattern, subject=wildcards.subject)]


def voxels_of(wildcards, rois):
    """The voxels of other ROIs of the same subject and split."""
    return [result("voxels").format(**{**wildcards, "roi": roi}) for roi in rois]


def optional(path):
    """An input that may be absent from the study."""
    return [] if path is None else [path]


def option(flag, value):
    """A flag with its value, or nothing where there is no value."""
    return f"{flag} {value}" if value else ""


def first_run(wildcards):
    """The run that the reference of a subject's runs is made of."""
    return RUNS[subject_runs(wildcards)[0]]


def realigned(run, kind):
    """The path of a run that is realigned here, or of its confounds."""
    return f"{REALIGNED}/{run.name}_desc-{kind}".format(subject=run.subject)


def corrected(wildcards):
    """The run and its confounds as they go into preprocess: given so, or realigned here."""
    run = RUNS[wildcards.run_name]
    if not STUDY.realign.enabled:
        return {
            "bold": list(run.bold),
            "confounds": optional(run.confounds),
            # The strategies choose by it.
            "confounds_json": optional(
                run.confounds_json if STUDY.preprocess.strategy.names else None
            ),
        }
    return {
        "bold": [realigned(run, "realigned_bold.nii.gz")],
        "confounds": [realigned(run, "confounds_timeseries.tsv")],
    }


def subject_masks(wildcards):
    """The brain masks of all runs of the run's subject: they are intersected."""
    subject = RUNS[wildcards.run_name].subject
    runs = [run for run in RUNS.values() if run.subject == subject]
    computed = [EPI_MASK.format(subject=subject) for run in runs if needs_mask(run)]
    return list(dict.fromkeys([mask for run in runs for mask in run.mask] + computed))


def needs_mask(run):
    """Whether the mask of a run is to be computed."""
    return run.kind == "volume" and not run.mask


def runs_without_mask(wildcards):
    """The BOLD files of a subject from which its mask is computed."""
    runs = [run for run in RUNS.values() if run.subject == wildcards.subject and needs_mask(run)]
    if STUDY.realign.enabled:
        return [realigned(run, "realigned_bold.nii.gz") for run in runs]
    return [path for run in runs for path in run.bold]


def each(flag, paths):
    """A flag with each of several paths."""
    return " ".join(f"{flag} {shlex.quote(path)}" for path in paths)


def simulated_files():
    """All that the simulation of one subject writes, with {subject} left open."""
    runs = [simulated_run("{subject}", *run) for run in expected_runs(STUDY.simulate)]
    masks = [m for roi in STUDY.rois for m in fill_hemispheres(roi.mask, subject="{subject}")]
    return {
        "bold": [path for run in runs for path in run.bold],
        "events": [run.events for run in runs],
        "confounds": [run.confounds for run in runs],
        "mask": list(runs[0].mask),
        "rois": [f"{SIMULATED}/{mask}" for mask in masks],
        "anatomy": f"{SIMULATED}/derivatives/masks/sub-{{subject}}/sub-{{subject}}_desc-mean_T1w.nii.gz",
        "truth": f"{SIMULATED}/derivatives/truth/sub-{{subject}}_truth.h5",
    }


def candidate_files(candidates):
    """The files that a set of candidates is read from."""
    return [candidates.source, *optional(candidates.metadata)]


def distractors_of(wildcards):
    """The encoded distractors of a gallery, where it has any."""
    if not GALLERIES[wildcards.gallery].distractors:
        return []
    wanted = f"gal-{wildcards.gallery}"
    return [candidates_path(RESULTS, encoder=wildcards.encoder, wanted=wanted)]


def tokens_of(wildcards):
    """The predicted and the embedded tokens that a gallery is re-ranked by, where it is."""
    wanted = GALLERIES[wildcards.gallery].rerank
    if wanted is None:
        return []
    fit = {"encoder": wanted.encoder, "decoder": wanted.decoder or wildcards.decoder}
    predictions = result("predictions").format(**{**wildcards, **fit})
    return [predictions, embeddings_path(RESULTS, encoder=wanted.encoder)]


def token_flags(paths):
    """Predicted and embedded tokens as flags, where they are needed."""
    flags = zip(("--token-predictions", "--token-embeddings"), paths)
    return " ".join(f"{flag} {shlex.quote(path)}" for flag, path in flags)


def searched(wildcards):
    """The encoded candidates of an open search; the study's own where it names none."""
    wanted = f"search-{wildcards.search}"
    if wanted not in WANTED:
        return embeddings_path(RESULTS, encoder=wildcards.encoder)
    return candidates_path(RESULTS, encoder=wildcards.encoder, wanted=wanted)


def training_of(wildcards, needed):
    """The decoder and its voxels, where predictions of training samples are needed."""
    if not needed:
        return []
    return [result(kind).format(**wildcards) for kind in ("decoder", "voxels")]


def training_flags(paths):
    """The decoder and its voxels as flags, where they are needed."""
    flags = zip(("--decoder", "--voxels"), paths)
    return " ".join(f"{flag} {shlex.quote(path)}" for flag, path in flags)


REPORT = f"{RESULTS}/report/report.html"
LABELS = dict(subject=SUBJECTS, roi=ROIS, split=SPLITS, encoder=ENCODERS, decoder=DECODERS)


def every(pattern):
    """One path for each combination of the study's labels that the pattern names."""
    return expand(pattern, **LABELS, gallery=GALLERIES)


def every_decoder(kind):
    """The results of all decoders of one subject, ROI, split and encoder."""
    labels = {key: f"{{{key}}}" for key in ("subject", *TARGETS)}
    return expand(result(kind), **labels, decoder=DECODERS)


GROUP = {key: f"{{{key}}}" for key in ("split", "encoder", "gallery")}


def group_file(ending):
    """The path of what all subjects together gave, its labels as wildcards."""
    return group_path(RESULTS, ending, **GROUP)


GROUP_STEM = Path(group_file("group.json")).name.removesuffix("_group.json")


def groups(ending):
    """One path for every split, encoder and gallery."""
    return expand(group_file(ending), split=SPLITS, encoder=ENCODERS, gallery=GALLERIES)


def of_group(kind, wildcards):
    """The results of all subjects, ROIs and decoders of one split, encoder and gallery."""
    return expand(result(kind), **{**LABELS, **{key: [value] for key, value in wildcards.items()}})


def importance_tables():
    """The tables of the joint ROI, for decoders that can be fitted again by themselves."""
    if not STUDY.importance.enabled:
        return []
    labels = {"roi": [STUDY.importance.roi], "decoder": STUDY.single_decoders}
    return expand(result("importance"), **{**LABELS, **labels})


def surfaces():
    """Tables of accuracy against data, repeats and candidates."""
    return expand(result("surface"), **{**LABELS, **STUDY.surface_labels})


def curves():
    """The calibration curves of all subjects, where the study asks for them."""
    if not STUDY.calibration_curve.enabled:
        return []
    shared = [name for name, item in DECODERS.items() if item.kind == "shared"]
    return expand(result("curve"), **{**LABELS, "decoder": shared})


def searches():
    """The tables of all open searches."""
    return expand(result("nearest"), **LABELS, search=SEARCHES)


def backgrounds():
    """An image to show maps on for each subject, where there is one."""
    if STUDY.source == "simulate":
        pattern = "derivatives/masks/sub-{subject}/sub-{subject}_desc-mean_T1w.nii.gz"
    else:
        pattern = STUDY.bids.background if STUDY.source == "bids" else None
    if pattern is None or MAP_ENDING != "nii.gz":
        return {}
    return {s: f"{ROOT}/{fill_pattern(pattern, subject=s)}" for s in SUBJECTS}


def member_decoders(wildcards):
    """The decoders that an ensemble combines; none for other kinds."""
    labels = {key: value for key, value in wildcards.items() if key != "decoder"}
    names = getattr(DECODERS[wildcards.decoder], "members", ())
    return [result("decoder").format(**labels, decoder=name) for name in names]


def folder_of(position=0):
    """A parameter: the folder of one of a job's outputs."""
    return lambda wildcards, output: str(Path(output[position]).parent)
