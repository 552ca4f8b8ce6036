"""The files of a study's results, from its config and the layout of file names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from braindecode_clip.config.study import StudyConfig
from braindecode_clip.datasets.layout import (
    FIT,
    MATRIX,
    RANKING,
    TARGETS,
    audit_path,
    comparison_path,
    group_path,
    result_path,
)
from braindecode_clip.report.results import SETTING


def list_results(
    study: StudyConfig,
    results: str,
    *,
    subjects: Sequence[str],
    backgrounds: Mapping[str, str],
    stimuli: str | None,
    map_ending: str = "nii.gz",
) -> dict[str, Any]:
    """Name every file that the report of a study is made from.

    Parameters
    ----------
    study : StudyConfig
    results : str
        The study's results folder.
    subjects : sequence of str
        Labels without prefix.
    backgrounds : mapping
        Subject to the image that maps are drawn on.
    stimuli : str or None
        The table of the stimuli.
    map_ending : str
        How maps end: nii.gz, or dscalar.nii for data on surfaces.

    Returns
    -------
    dict
        As :func:`braindecode_clip.report.inputs.read_inputs` takes it. The activation
        patterns are those of the first split, encoder and decoder of the config.
    """
    labels = {
        "roi": [item.name for item in study.rois],
        "split": [item.name for item in study.splits],
        "encoder": [item.name for item in study.encoders],
        "decoder": [item.name for item in study.decoders],
        "gallery": [item.name for item in study.galleries],
    }

    def every(kind: str, keys: Sequence[str]) -> list[str]:
        return [
            result_path(results, kind, subject=subject, **dict(zip(keys, values, strict=True)))
            for subject in subjects
            for values in product(*(labels[key] for key in keys))
        ]

    first = {key: labels[key][0] for key in FIT}
    patterns = [
        {
            "subject": subject,
            "roi": roi,
            "kind": "pattern",
            "path": result_path(
                results,
                "pattern",
                subject=subject,
                map_ending=map_ending,
                **{**first, "roi": roi},
            ),
            **{key: first[key] for key in ("split", "encoder", "decoder")},
        }
        for subject in subjects
        for roi in labels["roi"]
    ]
    return {
        "metrics": every("metrics", RANKING),
        "retrievals": every("retrieval", RANKING),
        "reverse": every("reverse", RANKING),
        "voxels": every("voxels", MATRIX),
        "decoders": every("decoder", FIT),
        "comparison": comparison_path(results),
        "group": [
            group_path(results, "group.json", **dict(zip(SETTING, values, strict=True)))
            for values in product(*(labels[key] for key in SETTING))
        ],
        "audit": audit_path(results, "json") if study.audited else None,
        "bottleneck": every("bottleneck", TARGETS) if study.bottleneck.enabled else [],
        "importance": [
            path
            for path in (every("importance", FIT) if study.importance.enabled else [])
            if f"_roi-{study.importance.roi}_" in path
            and any(f"_dec-{name}_" in path for name in study.single_decoders)
        ],
        "controls": every("controls", TARGETS) if study.controls.enabled else [],
        "surfaces": [
            result_path(results, "surface", subject=subject, **dict(zip(FIT, values, strict=True)))
            for subject in subjects
            for values in product(*({**labels, **study.surface_labels}[key] for key in FIT))
        ],
        "curves": _curves(study, results, subjects) if study.calibration_curve.enabled else [],
        "maps": patterns,
        "quality": [
            str(path)
            for subject in subjects
            for path in sorted(Path(results).glob(f"quality/sub-{subject}/*_quality.h5"))
        ],
        "backgrounds": dict(backgrounds),
        "stimuli": stimuli,
        "benchmarks": [str(path) for path in sorted(Path(results).glob("benchmarks/**/*.tsv"))],
    }


def _curves(study: StudyConfig, results: str, subjects: Sequence[str]) -> list[dict[str, str]]:
    """Name the calibration curves of every decoder over several subjects, with their labels."""
    shared = [item.name for item in study.decoders if item.kind == "shared"]
    found = []
    for subject, roi, split, encoder, name in product(
        subjects, study.rois, study.splits, study.encoders, shared
    ):
        labels = {"roi": roi.name, "split": split.name, "encoder": encoder.name, "decoder": name}
        path = result_path(results, "curve", subject=subject, **labels)
        found.append({"subject": subject, **labels, "path": path})
    return found
