"""``braindecode-clip clip evaluate``: what a model can do on held-out pairs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from braindecode_clip.errors import ConfigError, DataError

if TYPE_CHECKING:
    import numpy as np

    from braindecode_clip.cli.clip_sets import EvaluationSet

PairsKindOption = Annotated[
    str | None,
    typer.Option("--format", help="Kind of the pairs; recognised by default."),
]
LabelByOption = Annotated[
    str,
    typer.Option(
        help="What the class of a picture is: label (a column, or the subfolder), group, or none."
    ),
]
ClassesOption = Annotated[
    str | None,
    typer.Option(
        help="Candidates: 'dog, cat', one a line (TXT), or a table (TSV: class, name); the labels "
        "that occur by default."
    ),
]
TemplatesOption = Annotated[
    str,
    typer.Option(
        help="Wordings of the classes, averaged: simple, generic, openai (80), or a file with "
        "'{}' in each line."
    ),
]
ProbeShareOption = Annotated[
    float | None,
    typer.Option(
        min=0.05,
        max=0.95,
        help="Fit a linear probe on this share of the pictures with labels, test it on the rest; "
        "groups and equal files stay together.",
    ),
]
BootstrapOption = Annotated[int, typer.Option(min=100, help="Bootstrap samples.")]


def evaluate(
    model: Annotated[str, typer.Option(help="Model directory, or the name of an embedded model.")],
    pairs: Annotated[
        list[Path],
        typer.Option(
            help="Held-out pairs, with captions, labels or both; of several files each is "
            "measured, and all together."
        ),
    ],
    out: Annotated[Path, typer.Option(help="File to write (JSON).")],
    split: Annotated[str | None, typer.Option(help="Measure this split of the pairs.")] = None,
    kind: PairsKindOption = None,
    images: Annotated[
        Path | None, typer.Option(help="Folder of the pictures of COCO's JSON.")
    ] = None,
    pool_size: Annotated[int, typer.Option(min=2, help="Distinct captions in a pool.")] = 100,
    fold_size: Annotated[
        int | None,
        typer.Option(min=2, help="Score retrieval in folds of so many pictures too (COCO: 1000)."),
    ] = None,
    label_by: LabelByOption = "label",
    classes: ClassesOption = None,
    templates: TemplatesOption = "simple",
    probe_train: Annotated[
        Path | None,
        typer.Option(help="Pairs with labels to fit a linear probe on; --pairs are its test."),
    ] = None,
    probe_train_split: Annotated[
        str | None, typer.Option(help="The split of them; e.g. train, where PAIRS hold both.")
    ] = None,
    probe_share: ProbeShareOption = None,
    n_bootstrap: BootstrapOption = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Of pools, folds, bootstrap, probe.")] = 2026,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
) -> None:
    """Measure retrieval, zero-shot classification, a linear probe and the geometry of the space.

    Every figure has n, chance and a 95 % interval; 'definitions' in the file says what it is.
    """
    from braindecode_clip.cli.clip_sets import encode_set, joined_sets, read_set
    from braindecode_clip.clip.definitions import DEFINITIONS
    from braindecode_clip.clip.encoders import load_encoder
    from braindecode_clip.io.atomic import write_json
    from braindecode_clip.logs import get_logger, milestone

    logger = get_logger(__name__)
    if probe_train is not None and probe_share is not None:
        raise ConfigError("--probe-train and --probe-share exclude each other. Use one of them.")
    _refuse_equal_names(pairs)
    how = {"kind": kind, "label_by": label_by, "classes": classes, "templates": templates}
    sets = [read_set(path, split=split, images=images, **how) for path in pairs]
    training = []
    if probe_train is not None:
        training = [read_set(probe_train, split=probe_train_split, images=images, **how)]
    encoder = load_encoder(model, device=device)
    with milestone(logger, "encoded the pairs"):
        vectors = [encode_set(*own, [encoder])[0] for own in sets]
        fitted = next(((own[0], encode_set(*own, [encoder])[0][0]) for own in training), None)
    parts = [part for part, _ in sets]
    if len(parts) > 1:
        parts, vectors = [*parts, joined_sets(parts)], [*vectors, _joined(vectors)]
    metrics: dict[str, Any] = {"model": encoder.fingerprint, "seed": seed}
    options = {"seed": seed, "n_bootstrap": n_bootstrap}
    for part, own in zip(parts, vectors, strict=True):
        with milestone(logger, f"measured {part.name}") as note:
            found = _measured(
                part, own, encoder, pool_size=pool_size, fold_size=fold_size, **options
            )
            if fitted is not None or probe_share is not None:
                found["probe"] = _probed(part, own[0], fitted, probe_share, **options)
            note(_summary(found))
        metrics[part.name] = found
    metrics["definitions"] = DEFINITIONS
    write_json(out, metrics)
    logger.info("wrote %s", out)


def _refuse_equal_names(pairs: list[Path]) -> None:
    from braindecode_clip.checks import some

    names = [path.stem for path in pairs]
    taken = {"model", "seed", "definitions", *(["all"] if len(names) > 1 else [])}
    bad = sorted({name for name in names if names.count(name) > 1 or name in taken})
    if bad:
        raise ConfigError(
            f"--pairs: the file names {some(bad)} stand twice, or are taken in the JSON that is "
            "written. Rename them, since results are filed by name."
        )


def _joined(
    vectors: list[tuple[np.ndarray, np.ndarray | None]],
) -> tuple[np.ndarray, np.ndarray | None]:
    import numpy as np

    texts = [own for _, own in vectors if own is not None]
    return np.concatenate([own for own, _ in vectors]), np.concatenate(texts) if texts else None


def _measured(
    part: EvaluationSet,
    vectors: tuple[np.ndarray, np.ndarray | None],
    encoder: Any,
    *,
    pool_size: int,
    fold_size: int | None,
    seed: int,
    n_bootstrap: int,
) -> dict[str, Any]:
    import numpy as np

    from braindecode_clip.clip.evaluation import (
        classification_record,
        geometry_record,
        pooled_record,
        retrieval_record,
        zero_shot_record,
    )

    images, texts = vectors
    options = {"seed": seed, "n_bootstrap": n_bootstrap}
    found: dict[str, Any] = {"n_pairs": len(part.rows)}
    captioned = part.captioned(images, texts)
    if captioned is not None:
        captions, image_of_text = part.wordings
        first = np.unique(image_of_text, return_index=True)[1]
        own = images[part.rows], captioned.texts[first], [captions[row] for row in first]
        if len(set(own[2])) > 1:
            found |= pooled_record(*own, seed=seed, pool_size=pool_size)
    found["zero_shot"] = zero_shot_record(encoder, images, part.tasks)
    if captioned is not None:
        found["retrieval"] = retrieval_record(captioned, fold_size=fold_size, **options)
    found["classification"] = classification_record(encoder, images, part.tasks, **options)
    if captioned is not None:
        found["geometry"] = geometry_record(captioned, **options)
    return found


def _probed(
    part: EvaluationSet,
    images: np.ndarray,
    fitted: tuple[EvaluationSet, np.ndarray] | None,
    share: float | None,
    *,
    seed: int,
    n_bootstrap: int,
) -> dict[str, Any]:
    """Probe every task of a set; training pictures whose file is tested are left out."""
    import numpy as np

    from braindecode_clip.cli.clip_sets import probe_test
    from braindecode_clip.clip.probe import linear_probe
    from braindecode_clip.seeds import make_rng

    found = {}
    for name, task in part.tasks.items():
        rows, labels = task.rows, np.array(task.labels)
        files = np.array(part.files)[rows]
        if fitted is None:
            is_test = probe_test(part, task, share=float(share or 0.5), seed=seed)
            train = images[rows[~is_test]], labels[~is_test], files[~is_test]
            test = images[rows[is_test]], labels[is_test], files[is_test]
        else:
            other = fitted[0].tasks.get(name)
            if other is None:
                raise DataError(
                    f"{fitted[0].where}: has no classes '{name}', which {part.where} has, so no "
                    "probe can be fitted. Give labels to both."
                )
            train = (
                fitted[1][other.rows],
                np.array(other.labels),
                np.array(fitted[0].files)[other.rows],
            )
            test = images[rows], labels, files
        kept = ~np.isin(train[2], test[2])
        probe = linear_probe(
            train[0][kept],
            train[1][kept].tolist(),
            test[0],
            test[1].tolist(),
            rng=make_rng(seed, "probe", name),
            n_bootstrap=n_bootstrap,
        )
        found[name] = {**probe.record(), "n_train_left_out_as_tested": int((~kept).sum())}
    return found


def _summary(found: dict[str, Any]) -> str:
    parts = []
    if "retrieval" in found:
        grouped = found["retrieval"]["grouped"]
        for direction, words in (("image_to_text", "image to text"), ("text_to_image", "back")):
            score = grouped[direction]["r1"]
            parts.append(f"{words} R@1 {100 * score['value']:.1f} %")
        parts[0] += f" of {found['retrieval']['n_captions']}"
        parts[1] += f" of {found['retrieval']['n_images']}"
    if "image_to_text" in found:
        recall = found["image_to_text"]
        parts.append(f"R@1 in pools of {recall['pool_size']} {100 * recall['r1']:.1f} %")
    for name, score in found["zero_shot"].items():
        parts.append(f"zero-shot {name} {100 * score['accuracy']:.1f} %")
    for name, probe in found.get("probe", {}).items():
        parts.append(f"probe {name} {100 * probe['metrics']['top_1']['value']:.1f} %")
    return ", ".join(parts)
