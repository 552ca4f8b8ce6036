"""Names of result files: one folder for each stage and subject, the labels in the name.

The workflow fills them with its wildcards, the report with labels, so there is one place
where a name is made.
"""

from __future__ import annotations

#: Short key of every label in a file name, in the order in which they stand.
KEYS = {
    "roi": "roi",
    "split": "split",
    "encoder": "enc",
    "decoder": "dec",
    "gallery": "gal",
    "search": "search",
}
#: Labels that tell the files of a stage apart, beside the subject.
MATRIX = ("roi", "split")
TARGETS = (*MATRIX, "encoder")
FIT = (*TARGETS, "decoder")
RANKING = (*FIT, "gallery")
SEARCH = (*FIT, "search")
#: Maps end as the input's space asks: nii.gz for volumes, dscalar.nii for data on surfaces.
MAPS = ("reliability", "ncsnr", "noise_ceiling", "pattern")
#: The ending of each kind of file, with its stage and its labels.
ENDINGS = {
    "voxels": ("voxels", MATRIX, "voxels.h5"),
    "predictions": ("decode", FIT, "predictions.h5"),
    "decoder": ("decode", FIT, "decoder.h5"),
    "curve": ("decode", FIT, "curve.tsv"),
    "curve_figure": ("decode", FIT, "curve.png"),
    "bottleneck": ("bottleneck", TARGETS, "bottleneck.tsv"),
    "importance": ("importance", FIT, "importance.tsv"),
    "surface": ("surface", FIT, "surface.tsv"),
    "surface_figure": ("surface", FIT, "surface.png"),
    "retrieval": ("retrieve", RANKING, "retrieval.h5"),
    "reverse": ("retrieve", RANKING, "reverse.h5"),
    "nearest": ("nearest", SEARCH, "nearest.tsv"),
    "nearest_samples": ("nearest", SEARCH, "samples.tsv"),
    "nearest_facts": ("nearest", SEARCH, "search.json"),
    "metrics": ("evaluate", RANKING, "metrics.json"),
    "metrics_table": ("evaluate", RANKING, "metrics.tsv"),
    "card": ("cards", RANKING, "card.json"),
    "card_text": ("cards", RANKING, "card.md"),
    "controls": ("controls", TARGETS, "controls.json"),
    "controls_table": ("controls", TARGETS, "controls.tsv"),
    "items": ("evaluate", RANKING, "items.tsv"),
    "dimension_table": ("evaluate", RANKING, "dimensions.tsv"),
    "reliability": ("interpret", FIT, "reliability"),
    "ncsnr": ("interpret", FIT, "ncsnr"),
    "noise_ceiling": ("interpret", FIT, "noiseceiling"),
    "pattern": ("interpret", FIT, "pattern"),
    "dimensions": ("interpret", FIT, "dimensions.tsv"),
}


def label_stem(subject: str, **labels: str) -> str:
    """Return e.g. ``sub-01_roi-visual_split-stimulus`` for the labels given."""
    parts = [f"{short}-{labels[key]}" for key, short in KEYS.items() if key in labels]
    return "_".join([f"sub-{subject}", *parts])


def result_path(
    results: str, kind: str, *, subject: str, map_ending: str = "nii.gz", **labels: str
) -> str:
    """Return the path of one result file.

    Parameters
    ----------
    results : str
        The study's results folder.
    kind : str
        A key of :data:`ENDINGS`.
    subject : str
        Label without prefix.
    map_ending : str
        How maps end; see :func:`braindecode_clip.datasets.sample_sheet.map_ending`.
    **labels : str
        roi, split, encoder, decoder, gallery, search, as far as the kind has them.
    """
    stage, wanted, ending = ENDINGS[kind]
    if kind in MAPS:
        ending = f"{ending}.{map_ending}"
    stem = label_stem(subject, **{key: labels[key] for key in wanted})
    return f"{results}/{stage}/sub-{subject}/{stem}_{ending}"


def comparison_path(results: str) -> str:
    """Return the path of the table of all decoders."""
    return f"{results}/compare/compare.tsv"


def group_path(results: str, ending: str, *, split: str, encoder: str, gallery: str) -> str:
    """Return the path of what all subjects together gave; ``ending`` is e.g. ``group.json``."""
    labels = f"split-{split}_enc-{encoder}_gal-{gallery}"
    return f"{results}/group/{labels}_{ending}"


def audit_path(results: str, ending: str) -> str:
    """Return the path of the audit of all adapted encoders; ``ending`` is ``json`` or ``tsv``."""
    return f"{results}/audit/audit.{ending}"


def adapted_path(results: str, *, adaptation: str, control: str | None) -> str:
    """Return the folder of a model that the study adapted, or of a control of it."""
    label = adaptation if control is None else f"{adaptation}_{control.replace('_', '-')}"
    return f"{results}/clip/{label}"


def embeddings_path(results: str, *, encoder: str) -> str:
    """Return the path of the target embeddings, which all subjects share."""
    return f"{results}/embed/enc-{encoder}_embeddings.h5"


def candidates_path(results: str, *, encoder: str, wanted: str) -> str:
    """Return the path of encoded candidates; ``wanted`` is e.g. ``gal-all`` or ``search-words``."""
    return f"{results}/gallery/enc-{encoder}_{wanted}_gallery.h5"
