"""``braindecode-clip zero-shot``: pictures to the classes whose names are nearest."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from braindecode_clip.cli.encoder_option import load_configured_encoder, read_encoder

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import pandas as pd

    from braindecode_clip.cli.candidates import Candidates

#: Between several labels of one picture.
_SEPARATOR = "|"
_LISTED = 5


def zero_shot(
    images: Annotated[
        Path,
        typer.Option(
            help="Pictures: a folder; a table (TSV: stimulus_id, image, label); pictures in HDF5; "
            "or vectors, written by `embed` or `gallery`."
        ),
    ],
    classes: Annotated[
        str,
        typer.Option(
            help="The classes: 'dog, cat, tea cup'; one a line (TXT); or a table (TSV: class, "
            "name) with a row for each name of a class."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder to write: tables, page, figures.")],
    templates: Annotated[
        str,
        typer.Option(
            help="Wordings that the names are put into: simple, generic (ours), openai (80, for "
            "ImageNet), or a file with '{}' in each line."
        ),
    ] = "simple",
    encoder: Annotated[
        str,
        typer.Option(help="scenes, a model folder, or options of `embed` (YAML text or a file)."),
    ] = "scenes",
    label_column: Annotated[
        str, typer.Option(help="Column with the label; several are separated by '|'.")
    ] = "label",
    folder_labels: Annotated[
        bool, typer.Option("--folder-labels", help="The folder of a picture is its label.")
    ] = False,
    logit_scale: Annotated[
        float | None,
        typer.Option(min=0, help="Factor on the cosines of the softmax; the model's by default."),
    ] = None,
    examples: Annotated[int, typer.Option(min=1, help="Pictures of each class on the page.")] = 12,
    n_bootstrap: Annotated[int, typer.Option(min=100, help="Bootstrap samples.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, help="Master seed, of the bootstrap.")] = 2026,
    dataset: Annotated[
        str | None, typer.Option(help="Array of pictures in HDF5; imgBrick or images by default.")
    ] = None,
    cache: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the index, by content and encoder; $BRAINDECODE_CLIP_CACHE or the "
            "user's cache folder by default."
        ),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures encoded at once.")] = 64,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
) -> None:
    """Classify pictures by the names of classes, and score it where there are labels.

    A class's vector is the mean over its prompts; a picture goes to the nearest. Probabilities
    are those of the model's own temperature, over the classes named.
    """
    from braindecode_clip.cli.candidates import read_candidates
    from braindecode_clip.cli.search import read_templates
    from braindecode_clip.clip.class_scores import truth_table
    from braindecode_clip.clip.prompts import check_prompts
    from braindecode_clip.clip.queries import require_text_tower
    from braindecode_clip.clip.zero_shot import class_vectors, probabilities
    from braindecode_clip.errors import ConfigError
    from braindecode_clip.io.prompts import read_classes
    from braindecode_clip.logs import get_logger, milestone

    logger = get_logger(__name__)
    named, wordings = read_classes(classes), read_templates(templates)
    check_prompts(list(named.values()), wordings, where=classes)
    model = load_configured_encoder(read_encoder(encoder), device=device)
    require_text_tower(model, list(named))
    scale = model.logit_scale if logit_scale is None else logit_scale
    if scale is None:
        raise ConfigError(
            f"encoder '{model.name}': tells no temperature, which probabilities need. Give "
            "--logit-scale, e.g. 100 as in CLIP."
        )
    with milestone(logger, f"read {images}") as note:
        candidates = read_candidates(
            images, lambda: model, cache=cache, batch_size=batch_size, dataset=dataset
        )
        note(f"{len(candidates)} pictures, {candidates.n_encoded} of them encoded now")
    labels = _labels(candidates, label_column, folder_labels)
    is_true = None if labels is None else truth_table(labels, list(named))
    with milestone(logger, "classified") as note:
        prototypes = class_vectors(model, list(named.values()), wordings)
        similarity = candidates.vectors @ prototypes.T
        probability = probabilities(similarity, scale)
        note(f"{len(named)} classes, {sum(map(len, named.values())) * len(wordings)} prompts")
    scored = None
    if is_true is not None:
        with milestone(logger, "scored") as note:
            scored = _scored(similarity, is_true, list(named), n_bootstrap=n_bootstrap, seed=seed)
            note(_summary(scored["metrics"]))
    predictions = _predictions(candidates, similarity, probability, list(named), labels, is_true)
    made = ", ".join(f"{key} {model.fingerprint[key]}" for key in ("name", "tag", "weights_sha256"))
    facts = [
        ("Encoder", made),
        ("Pictures", candidates.origin),
        ("Templates", f"{templates} ({len(wordings)})"),
        ("Temperature", f"cosines times {scale:.6g} before the softmax"),
    ]
    _write(out, predictions, probability, candidates, list(named), is_true, scored, facts, examples)


def _labels(candidates: Candidates, column: str, from_folder: bool) -> list[list[str]] | None:
    """Return the labels of each picture, or None where there are none."""
    from braindecode_clip.errors import ConfigError, DataError

    table = candidates.metadata
    if from_folder:
        if "folder" not in table.columns:
            raise ConfigError(
                f"--folder-labels: {candidates.origin} is no folder of pictures. Leave it out, and "
                "give the labels as a column."
            )
        return [[name.rpartition("/")[2]] if name else [] for name in table["folder"]]
    if column not in table.columns:
        if column != "label":
            raise DataError(
                f"{candidates.origin}: lacks the column '{column}'; it has "
                f"{', '.join(map(str, table.columns)) or 'none'}."
            )
        return None
    given = table[column]
    return [
        [] if value != value else [part.strip() for part in str(value).split(_SEPARATOR)]
        for value in given
    ]


def _scored(
    similarity: np.ndarray, is_true: np.ndarray, classes: list[str], *, n_bootstrap: int, seed: int
) -> dict[str, Any]:
    from braindecode_clip.clip.class_scores import class_table, confusion_counts, score_table
    from braindecode_clip.seeds import make_rng

    return {
        "metrics": score_table(
            similarity, is_true, rng=make_rng(seed, "zero-shot"), n_bootstrap=n_bootstrap
        ),
        "classes": class_table(similarity, is_true, classes),
        "confusion": confusion_counts(similarity, is_true),
    }


def _summary(metrics: pd.DataFrame) -> str:
    return ", ".join(
        f"{row.metric} {100 * row.value:.1f} % [{100 * row.ci_low:.1f}, {100 * row.ci_high:.1f}]"
        for row in metrics.itertuples()
    )


def _predictions(
    candidates: Candidates,
    similarity: np.ndarray,
    probability: np.ndarray,
    classes: list[str],
    labels: list[list[str]] | None,
    is_true: np.ndarray | None,
) -> pd.DataFrame:
    """One row a picture: its best classes with scores, and where its true one came out."""
    import numpy as np
    import pandas as pd

    from braindecode_clip.clip.zero_shot import true_ranks

    table = pd.DataFrame(
        {"stimulus_id": candidates.ids, "path": [path or None for path in candidates.paths]}
    )
    if labels is not None and is_true is not None:
        rank = np.where(is_true, true_ranks(similarity, is_true), np.inf).min(axis=1)
        table["label"] = [_SEPARATOR.join(own) or None for own in labels]
        table["rank"] = np.where(np.isfinite(rank), rank, np.nan)
    order = np.argsort(-similarity, axis=1, kind="stable")
    rows = np.arange(len(order))
    for place in range(min(_LISTED, len(classes))):
        column = order[:, place]
        table[f"class_{place + 1}"] = [classes[c] for c in column]
        table[f"score_{place + 1}"] = similarity[rows, column].astype(float)
        table[f"probability_{place + 1}"] = probability[rows, column]
    return table


def _write(
    out: Path,
    predictions: pd.DataFrame,
    probability: np.ndarray,
    candidates: Candidates,
    classes: list[str],
    is_true: np.ndarray | None,
    scored: dict[str, Any] | None,
    facts: Sequence[tuple[str, str]],
    n_examples: int,
) -> None:
    import pandas as pd

    from braindecode_clip.io.atomic import atomic_path, write_text
    from braindecode_clip.io.images import write_png
    from braindecode_clip.io.tables import write_tsv
    from braindecode_clip.logs import get_logger
    from braindecode_clip.report.confusion_figure import MOST_CLASSES, confusion_figure
    from braindecode_clip.report.grid import build_grid_page
    from braindecode_clip.report.grid_image import draw_grid
    from braindecode_clip.report.theme import to_png
    from braindecode_clip.report.zero_shot_page import zero_shot_page

    found = scored or {"metrics": None, "classes": None, "confusion": None}
    page = zero_shot_page(
        probability,
        classes,
        is_true=is_true,
        names=candidates.ids.tolist(),
        pictures=candidates.all_pictures,
        scores=found["metrics"],
        by_class=found["classes"],
        confusions=found["confusion"],
        facts=facts,
        n_examples=n_examples,
    )
    # All made before the first is written, so that a picture that is gone leaves no half result.
    text, drawn = build_grid_page(page), draw_grid(page)
    write_tsv(out / "predictions.tsv", predictions)
    for name in ("metrics", "classes"):
        if found[name] is not None:
            write_tsv(out / f"{name}.tsv", found[name])
    counts = found["confusion"]
    if counts is not None:
        table = pd.DataFrame(counts, columns=classes)
        table.insert(0, "true_class", classes)
        write_tsv(out / "confusion.tsv", table)
        if len(classes) <= MOST_CLASSES:
            with atomic_path(out / "confusion.png") as temporary:
                temporary.write_bytes(to_png(confusion_figure(counts, classes)))
    write_text(out / "zero-shot.html", text)
    write_png(out / "zero-shot.png", drawn)
    get_logger(__name__).info("wrote tables, zero-shot.html and figures in %s", out)
