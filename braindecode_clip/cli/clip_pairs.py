"""From a source of pairs on disk to what the trainer takes; used by ``clip train``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from braindecode_clip.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    from PIL import Image

    from braindecode_clip.clip.pairs import Pairs
    from braindecode_clip.config.clip import ClipRecipe
    from braindecode_clip.config.clip_data import DataConfig, SplitConfig
    from braindecode_clip.io.pair_source import PairSource

#: Prepared pictures up to this many bytes stay in memory under ``--cache auto``.
AUTO_CACHE_BYTES = 2**30

_TRAINING, _VALIDATION = ("train", "training"), ("validation", "val", "valid", "dev")


def open_pairs(
    path: Path, *, data: DataConfig, kind: str | None, split: str | None, images: Path | None
) -> PairSource:
    """Read a source, make captions of labels where asked, and log what is left out."""
    from braindecode_clip.io.pair_source import captioned
    from braindecode_clip.io.pairs import read_pairs
    from braindecode_clip.logs import get_logger

    source = read_pairs(path, kind=kind, split=split, images=images)
    source = captioned(with_templates(source, data))
    for note in source.notes:
        get_logger(__name__).warning("%s: %s", path, note)
    return source


def with_templates(source: PairSource, data: DataConfig) -> PairSource:
    """Add the captions that the recipe's templates make of labels, if it has templates."""
    from braindecode_clip.io.pair_source import with_label_captions

    if data.templates is None:
        return source
    return with_label_captions(source, _templates(data.templates))


def divide(
    source: PairSource, config: SplitConfig, *, n_workers: int
) -> tuple[PairSource, PairSource]:
    """Divide a source into a training and a held-out part."""
    import numpy as np

    from braindecode_clip.clip.splits import held_out, tied_units
    from braindecode_clip.io.pair_scan import content_digests

    if config.by == "column":
        parts = _by_column(source)
        _warn_of_leaks(parts, with_files=config.same_file_together, n_workers=n_workers)
        return parts
    if config.by == "group" and source.groups is None:
        raise DataError(
            f"{source.where}: data.split.by is 'group', and there are no groups. Give a column "
            "'group', or split by 'picture'."
        )
    ties: list[Sequence[str] | None] = [source.groups if config.by == "group" else None]
    if config.same_file_together:
        ties.append(content_digests(source, n_workers=n_workers))
    units = tied_units(len(source), ties)
    is_held = held_out(units, source.names, share=config.validation, seed=config.seed)
    return source.take(np.flatnonzero(~is_held)), source.take(np.flatnonzero(is_held))


def as_pairs(
    source: PairSource, recipe: ClipRecipe, *, cache: str, n_workers: int, is_training: bool
) -> Pairs:
    """Bind captions to pictures that are decoded as the recipe says.

    Pictures that stay in memory are decoded now; of held-out ones the corrupt are left out.
    """
    from braindecode_clip.clip.pairs import Pairs
    from braindecode_clip.io.pair_scan import content_digests
    from braindecode_clip.io.pair_source import spaced
    from braindecode_clip.logs import get_logger

    if source.pixels is not None:
        images = source.pixels
    else:
        images = _store(source, recipe, cache=cache, is_training=is_training)
        if images.keeps or not is_training:
            images.look_at_all(n_workers)
        if images.corrupt and not is_training:
            get_logger(__name__).warning(
                "%s: %d of %d held-out pictures cannot be decoded and are left out: %s",
                source.where,
                len(images.corrupt),
                len(source),
                "; ".join(images.listed()),
            )
            whole = [row for row in range(len(source)) if row not in images.corrupt]
            how = {"cache": cache, "n_workers": n_workers, "is_training": False}
            return as_pairs(source.take(whole), recipe, **how)
    by_file = "file" in recipe.data.no_duplicates
    wants_files = is_training and (by_file or "picture" in recipe.training.false_negatives_by)
    return Pairs(
        images,
        source.captions,
        kin=_kin(source),
        groups=_numbered(source.groups),
        files=_numbered(content_digests(source, n_workers=n_workers)) if wants_files else None,
        labels=_numbered(source.labels and [spaced(label) for label in source.labels]),
    )


def cache_bytes(cache: str) -> float:
    """Return the room that ``--cache`` leaves for features of locked towers."""
    return {"none": 0, "auto": AUTO_CACHE_BYTES, "memory": float("inf")}[cache]


def whole_pictures(source: PairSource) -> list[Image.Image]:
    """Decode all pictures of a source; those that cannot be are all named in one error."""
    from braindecode_clip.checks import Problems
    from braindecode_clip.io.pair_scan import load_picture

    problems = Problems(source.where)
    pictures = []
    for row, name in enumerate(source.names):
        try:
            pictures.append(load_picture(source, row))
        except DataError as error:
            problems.add(f"{name}: {error}. Fetch it again, or take it out.")
    problems.raise_if_any()
    return pictures


def _templates(given: Sequence[str] | str) -> tuple[str, ...]:
    from pathlib import Path

    from braindecode_clip.clip.prompts import SETS, check_templates, templates_named
    from braindecode_clip.io.prompts import read_lines

    if isinstance(given, str):
        if given in SETS:
            return templates_named(given)
        return check_templates(read_lines(Path(given)), where=given)
    return check_templates(given, where="data.templates")


def _by_column(source: PairSource) -> tuple[PairSource, PairSource]:
    if source.splits is None:
        raise DataError(
            f"{source.where}: data.split.by is 'column', and there are no splits. Give a column "
            "'split', or split by 'group' or 'picture'."
        )
    parts = []
    for names in (_TRAINING, _VALIDATION):
        rows = [row for row, own in enumerate(source.splits) if own.lower() in names]
        if not rows:
            raise DataError(
                f"{source.where}: no rows of split {' or '.join(names)}; it has "
                f"{', '.join(sorted(set(source.splits)))}."
            )
        parts.append(source.take(rows))
    return parts[0], parts[1]


def _warn_of_leaks(
    parts: tuple[PairSource, PairSource], *, with_files: bool, n_workers: int
) -> None:
    """Warn of groups and identical files that a source's own split leaves in both parts."""
    from braindecode_clip.io.pair_scan import content_digests
    from braindecode_clip.logs import get_logger

    values = {"groups": [part.groups or () for part in parts]}
    if with_files:
        values["identical files"] = [content_digests(part, n_workers=n_workers) for part in parts]
    for name, (training, held) in values.items():
        n_both = len((set(training) & set(held)) - {""})
        if n_both:
            get_logger(__name__).warning(
                "%s: %d %s stand in the training and in the held-out part of the column 'split', "
                "so held-out scores are too good. Split by group instead, or mend the column.",
                parts[0].where,
                n_both,
                name,
            )


def _store(source: PairSource, recipe: ClipRecipe, *, cache: str, is_training: bool):
    from PIL import ImageColor

    from braindecode_clip.clip.picture_store import PictureStore
    from braindecode_clip.clip.pictures import preparation
    from braindecode_clip.io.pair_scan import load_picture

    data, side = recipe.data, recipe.model.vision_cfg["image_size"]
    try:
        ImageColor.getrgb(data.background)
    except ValueError as error:
        raise ConfigError(f"data.background: {error}. Use a name or '#rrggbb'.") from error
    is_cut = is_training and data.crop_scale is not None
    if is_cut and cache == "memory":
        raise ConfigError(
            "--cache memory keeps pictures of the model's size, and data.crop_scale cuts from "
            "whole pictures, so they are decoded at every visit. Use --cache none, or no cuts."
        )
    fits = 3 * side * side * len(source) <= AUTO_CACHE_BYTES
    return PictureStore(
        lambda row: load_picture(source, row, background=data.background),
        source.names,
        prepare=preparation(recipe),
        side_px=side,
        keep=not is_cut and (cache == "memory" or (cache == "auto" and fits)),
        sizes=source.sizes,
        skip_corrupt=data.on_corrupt == "skip",
        max_corrupt_share=data.max_corrupt_share,
    )


def _numbered(values: Sequence[str] | None) -> np.ndarray | None:
    """Number equal values; -1 for the empty one."""
    import numpy as np

    if values is None:
        return None
    found = {value: k for k, value in enumerate(dict.fromkeys(v for v in values if v))}
    return np.array([found.get(value, -1) for value in values], dtype=np.int64)


def _kin(source: PairSource) -> np.ndarray | None:
    """Number the pairs that are alike: by the source's groups, or by what scenes share."""
    import numpy as np

    from braindecode_clip.simulate.scenes import scene_from_json

    if source.groups is not None:
        keys = np.array(source.groups)
    elif source.scenes is not None:
        scenes = [scene_from_json(text) for text in source.scenes]
        # What is left to tell kin apart: shapes, sizes, textures and the relation.
        keys = np.array(
            [
                " ".join(
                    [
                        scene.background,
                        scene.background_colour,
                        *sorted(item.colour for item in scene.objects),
                    ]
                )
                for scene in scenes
            ]
        )
    else:
        return None
    return np.unique(keys, return_inverse=True)[1].astype(np.int64)
