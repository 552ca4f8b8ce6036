"""Evaluation sets: pairs read, encoded by one model or several, and their classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from braindecode_clip.errors import ConfigError, DataError

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

    from braindecode_clip.clip.evaluation import ZeroShotTask
    from braindecode_clip.clip.grouped_recall import Captioned
    from braindecode_clip.io.pair_source import PairSource

#: Pictures that are decoded at a time.
_PICTURES_AT_ONCE = 256


@dataclass(frozen=True)
class EvaluationSet:
    """Pairs to measure models on.

    Attributes
    ----------
    name, where : str
        What results are filed by, and where it comes from.
    names : tuple of str (n,)
        What names each picture.
    captions : tuple of tuple of str (n,)
        A picture may have none.
    files : tuple of str (n,)
        Hash of each picture's file.
    groups : tuple of str (n,), optional
    tasks : dict of str to ZeroShotTask
        Rows are those of the pictures.
    """

    name: str
    where: str
    names: tuple[str, ...]
    captions: tuple[tuple[str, ...], ...]
    files: tuple[str, ...]
    groups: tuple[str, ...] | None
    tasks: dict[str, ZeroShotTask]

    @cached_property
    def rows(self) -> np.ndarray:
        """Rows of the pictures with captions."""
        import numpy as np

        return np.flatnonzero([len(own) > 0 for own in self.captions])

    @cached_property
    def wordings(self) -> tuple[list[str], np.ndarray]:
        """All captions, and which of :attr:`rows` each belongs to."""
        from braindecode_clip.clip.grouped_recall import flatten_captions

        return flatten_captions([self.captions[row] for row in self.rows])

    def captioned(self, images: np.ndarray, texts: np.ndarray | None) -> Captioned | None:
        """Bind vectors of all pictures and all captions; None with fewer than two pictures."""
        import numpy as np

        from braindecode_clip.clip.grouped_recall import Captioned

        if texts is None or len(self.rows) < 2:
            return None
        captions, image_of_text = self.wordings
        files = np.array(self.files)[self.rows]
        return Captioned.of(images[self.rows], texts, image_of_text, captions, pictures=files)


def read_set(
    path: Path,
    *,
    kind: str | None = None,
    split: str | None = None,
    images: Path | None = None,
    label_by: str = "label",
    classes: str | None = None,
    templates: str = "simple",
) -> tuple[EvaluationSet, PairSource]:
    """Read pairs to evaluate on, and where their pictures come from.

    Parameters
    ----------
    path, kind, split, images
        See :func:`braindecode_clip.io.pairs.read_pairs`.
    label_by : {"label", "group", "none"}
        What the class of a picture is.
    classes : str, optional
        The candidates; see :func:`braindecode_clip.io.prompts.read_classes`.
    templates : str
        A set's name, or a file.
    """
    from braindecode_clip.io.pair_scan import content_digests
    from braindecode_clip.io.pairs import read_pairs
    from braindecode_clip.logs import get_logger

    if label_by not in ("label", "group", "none"):
        raise ConfigError(f"--label-by '{label_by}' is unknown. Use label, group or none.")
    source = read_pairs(path, kind=kind, split=split, images=images)
    for note in source.notes:
        get_logger(__name__).warning("%s: %s", path, note)
    tasks = _label_task(source, label_by, classes, templates)
    if source.scenes is not None:
        tasks |= scene_tasks(source.scenes.tolist())
    if not tasks and not any(source.captions):
        raise DataError(f"{path}: no picture has a caption or a label, so nothing to measure.")
    files = tuple(content_digests(source, n_workers=2))
    # What is a class is no group as well: all of a class would stay together.
    groups = None if label_by == "group" else source.groups
    found = EvaluationSet(
        path.stem, source.where, source.names, source.captions, files, groups, tasks
    )
    return found, source


def _label_task(
    source: PairSource, label_by: str, classes: str | None, templates: str
) -> dict[str, ZeroShotTask]:
    import re

    import numpy as np

    from braindecode_clip.cli.search import read_templates
    from braindecode_clip.clip.evaluation import ZeroShotTask
    from braindecode_clip.clip.prompts import check_prompts
    from braindecode_clip.io.prompts import read_classes

    labels = {"label": source.labels, "group": source.groups, "none": None}[label_by]
    rows = np.flatnonzero([bool(label) for label in labels or ()])
    if not len(rows):
        if classes is not None:
            raise DataError(
                f"{source.where}: --classes are given, and no picture has a {label_by}. Give a "
                "column 'label', or one subfolder for each class, or leave --classes out."
            )
        return {}
    own = [labels[row] for row in rows]
    if classes is None:
        # "sea_lion" reads "sea lion" in a prompt.
        wordings = {name: (re.sub(r"[_\s]+", " ", name).strip(),) for name in sorted(set(own))}
    else:
        wordings = read_classes(classes)
    if len(wordings) < 2:
        return {}
    prompts = read_templates(templates)
    check_prompts(list(wordings.values()), prompts, where=source.where)
    task = ZeroShotTask(rows, own, list(wordings), prompts, wordings)
    # Labels that are no class are named before anything is encoded.
    task.is_true()
    return {"label": task}


def scene_tasks(scenes: Sequence[str]) -> dict[str, ZeroShotTask]:
    """Return zero-shot colour and shape of the scenes that hold one object."""
    import numpy as np

    from braindecode_clip.clip.evaluation import ZeroShotTask
    from braindecode_clip.simulate.scenes import COLOURS, SHAPES, scene_from_json

    objects = [scene_from_json(text).objects for text in scenes]
    rows = np.flatnonzero([len(items) == 1 for items in objects])
    if not len(rows):
        return {}
    single = [objects[row][0] for row in rows]
    # A prompt names the other attribute too, over all its values, so that it reads as the
    # captions do; the mean over them leaves the class alone.
    return {
        "colour": ZeroShotTask(
            rows, [item.colour for item in single], COLOURS, [f"a {{}} {s}" for s in SHAPES]
        ),
        "shape": ZeroShotTask(
            rows, [item.shape for item in single], SHAPES, [f"a {c} {{}}" for c in COLOURS]
        ),
    }


def encode_set(
    data: EvaluationSet, source: PairSource, encoders: Sequence[Any]
) -> list[tuple[np.ndarray, np.ndarray | None]]:
    """Encode pictures and captions by several models; each picture is decoded once.

    Returns
    -------
    list of (images, texts)
        For each encoder: (n, n_dims) and (n_captions, n_dims) float32; no texts where no picture
        has a caption.

    Raises
    ------
    DataError
        Pictures that cannot be decoded, all of them named.
    """
    import numpy as np

    from braindecode_clip.checks import Problems
    from braindecode_clip.io.pair_scan import load_picture

    problems = Problems(data.where)
    vectors: list[list[np.ndarray]] = [[] for _ in encoders]
    for start in range(0, len(source), _PICTURES_AT_ONCE):
        pictures = []
        for row in range(start, min(start + _PICTURES_AT_ONCE, len(source))):
            try:
                pictures.append(load_picture(source, row))
            except DataError as error:
                problems.add(f"{source.names[row]}: {error}. Fetch it again, or take it out.")
        # After the first fault the rest is only looked through, so that all are named.
        if not problems:
            for own, encoder in zip(vectors, encoders, strict=True):
                own.append(encoder.encode_image(pictures))
    problems.raise_if_any()
    captions = data.wordings[0]
    return [
        (np.concatenate(own), encoder.encode_text(captions) if captions else None)
        for own, encoder in zip(vectors, encoders, strict=True)
    ]


def probe_test(data: EvaluationSet, task: ZeroShotTask, *, share: float, seed: int) -> np.ndarray:
    """Choose the pictures of a task that a probe is tested on, (n,) bool over the task's rows.

    ``share`` of the pictures are left to fit it; groups and equal files stay together.
    """
    from braindecode_clip.clip.splits import held_out, tied_units

    rows = task.rows.tolist()
    groups = None if data.groups is None else [data.groups[row] for row in rows]
    units = tied_units(len(rows), [groups, [data.files[row] for row in rows]])
    return held_out(units, [data.names[row] for row in rows], share=1.0 - share, seed=seed)


def joined_sets(parts: Sequence[EvaluationSet]) -> EvaluationSet:
    """Put sets behind each other; tasks that all of them have are joined too."""
    import numpy as np

    starts = np.cumsum([0, *(len(part.names) for part in parts)])
    shared = [name for name in parts[0].tasks if all(name in part.tasks for part in parts)]
    tasks = {}
    for name in shared:
        own = [part.tasks[name] for part in parts]
        classes = dict.fromkeys(label for task in own for label in task.class_names)
        wordings: dict[str, Sequence[str]] = {}
        for task in own:
            wordings |= dict(task.wordings or {})
        tasks[name] = replace(
            own[0],
            rows=np.concatenate([k + task.rows for k, task in zip(starts, own, strict=False)]),
            labels=[label for task in own for label in task.labels],
            class_names=list(classes),
            wordings=wordings or None,
        )
    names, captions, files = (
        tuple(item for part in parts for item in getattr(part, field))
        for field in ("names", "captions", "files")
    )
    return EvaluationSet("all", "all", names, captions, files, None, tasks)
