"""A CLIP training run as one page: what came out, how it went, and what it was made of."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml
from PIL import Image

from braindecode_clip import __version__
from braindecode_clip.clip.held_out import HeldOut
from braindecode_clip.clip.run_files import Run, log_columns, without_places
from braindecode_clip.clip.run_notes import notes
from braindecode_clip.report.layout import render
from braindecode_clip.report.numbers import THIN, count, decimal, percent
from braindecode_clip.report.pictures import Picture, embed_pictures
from braindecode_clip.report.sections import Drawing, Studio
from braindecode_clip.report.tables import Cell, Table
from braindecode_clip.report.training_examples import (
    N_CANDIDATES,
    Queries,
    image_examples,
    text_examples,
)
from braindecode_clip.report.training_figures import Curve, curve_figure, matrix_figure
from braindecode_clip.report.training_tables import (
    changed_options,
    data_table,
    figure_tables,
    findings,
    log_table,
    run_table,
)
from braindecode_clip.report.training_words import lead, status_text

#: Pairs of the similarity matrix.
N_MATRIX = 32
_PICTURE_PX, _BUDGET_MB = 160, 4.0
_PARTS = (
    ("results", "Result", None),
    ("curves", "Curves", "curves"),
    ("matrix", "Similarity", "matrix"),
    ("examples", "Examples", "examples"),
    ("data", "Data", "data"),
    ("recipe", "Recipe", None),
    ("run", "Run", None),
)


@dataclass(frozen=True)
class TrainingPage:
    """What stands on the page.

    Attributes
    ----------
    run : Run
    figures : dict or None
        ``source``, ``model`` and perhaps ``ema``: held-out retrieval, from
        :meth:`braindecode_clip.clip.held_out.HeldOut.figures`. None of a run without.
    held_out : HeldOut, optional
        For the similarity matrix and the examples.
    queries : Queries, optional
        Those of the examples; None shows none.
    pictures : mapping of int to PIL image
        By row of ``held_out``; may be empty.
    with_captions : bool
        Whether captions may be shown.
    """

    run: Run
    figures: dict[str, Any] | None
    held_out: HeldOut | None = None
    queries: Queries | None = None
    pictures: Mapping[int, Image.Image] = field(default_factory=dict)
    with_captions: bool = True


def build_training_page(page: TrainingPage) -> str:
    """Return the page as HTML text; the same content gives the same text."""
    studio, run = Studio(), page.run
    recipe = without_places(run.recipe)
    wanted = {str(row): picture for row, picture in page.pictures.items()}
    embedded = embed_pictures(wanted, longer_side_px=_PICTURE_PX, budget_mb=_BUDGET_MB)
    pictures = {int(name): picture for name, picture in embedded.items()}
    context: dict[str, Any] = {
        "name": run.name,
        "lead": lead(run),
        "status": status_text(run),
        "findings": findings(page.figures),
        "source": (page.figures or {}).get("source"),
        "no_figures": _no_figures(run),
        "notes": notes(run, page.figures),
        "figure_tables": figure_tables(page.figures),
        "definitions": (page.figures or {}).get("model", {}).get("definitions", {}),
        "curves": _curves(run, page.figures, studio),
        "log": log_table(run.log) if run.log else None,
        "matrix": _matrix(page, studio),
        "examples": _examples(page, pictures),
        "columns": N_CANDIDATES,
        "data": data_table(run.data) if run.data else None,
        "changed": changed_options(recipe),
        "recipe": yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True),
        "run_table": run_table(run),
        "versions": run.record.get("versions", {}),
        "library": list(embedded.values()),
        "version": __version__,
        "thin": THIN,
    }
    context["parts"] = [
        {"id": part, "short": short}
        for part, short, needs in _PARTS
        if needs is None or context[needs]
    ]
    styles = ("style.css", "training.css")
    return render("training.html.j2", context, styles=styles)


def _no_figures(run: Run) -> str:
    if run.is_model:
        return "this run did not record them; give --pairs."
    if run.status in ("unfinished", "interrupted"):
        return "the run has not ended."
    return "this is the state of a run; the folder of the model has them."


def _curves(run: Run, figures: dict[str, Any] | None, studio: Studio) -> list[Drawing]:
    if not run.log:
        return []
    columns, training = log_columns(run.log), run.recipe.get("training", {})
    best = run.record.get("best_step") if training.get("early_stop_patience") else None
    mean = " Measured on the running mean of the weights." if training.get("ema_decay") else ""
    retrieval = {
        "picture → caption": columns["val_image_to_text_r1"],
        "caption → picture": columns["val_text_to_image_r1"],
    }
    candidates = run.record.get("n_pool_candidates")
    chance = (1 / candidates, f"chance, {percent(1 / candidates)}") if candidates else None
    panels = [
        Curve("Loss", "nats", {"loss": columns["loss"]}, reference=_guessing(run)),
        Curve("Held-out R@1 in pools", "%", retrieval, reference=chance, percent=True),
        Curve("Learning rate", "", {"learning rate": columns["lr"]}, is_from_zero=True),
        Curve(
            "Factor on the cosines (logit_scale)",
            "",
            {"logit_scale": columns["logit_scale"]},
            reference=(limit, "limit") if _is_near(columns, limit := _limit(run)) else None,
        ),
        Curve(
            "Gradient norm before clipping",
            "",
            {"gradient norm": columns["grad_norm"]},
            reference=(clip, f"clipped at {clip:g}") if (clip := _clip(run)) else None,
            is_from_zero=True,
        ),
        Curve(
            "Speed",
            "pairs per second",
            {"pairs per second": columns["pairs_per_second"]},
            is_from_zero=True,
        ),
    ]
    return [
        studio.draw(
            curve_figure(panel, columns["step"], best_step=best),
            alt=_spoken(panel, columns["step"]),
            caption=_CAPTIONS[panel.title] + (mean if panel.percent else ""),
            small=True,
        )
        for panel in panels
        if any(value is not None for values in panel.lines.values() for value in values)
    ]


_CAPTIONS = {
    "Loss": "Mean over the steps since the last row of the log.",
    "Held-out R@1 in pools": "Share of held-out queries whose partner comes first in its pool.",
    "Learning rate": "Of the last step, the highest of all groups of weights.",
    "Factor on the cosines (logit_scale)": "The higher, the sharper the choice among candidates.",
    "Gradient norm before clipping": "Of the last step.",
    "Speed": "Without held-out retrieval.",
}


def _guessing(run: Run) -> tuple[float, str] | None:
    """Return the loss of a model for which all answers are equally likely."""
    training = run.recipe.get("training", {})
    n = run.record.get("pairs_per_step", training.get("batch_size"))
    if training.get("memory") == "accumulate":
        n = training.get("chunk_size")
    if not n or training.get("loss") != "infonce":
        return None
    return math.log(n), f"guessing, ln {count(n)}"


def _limit(run: Run) -> float | None:
    return run.recipe.get("training", {}).get("logit_scale_max")


def _clip(run: Run) -> float | None:
    return run.recipe.get("optimiser", {}).get("grad_clip_norm")


def _is_near(columns: dict[str, list[Any]], limit: float | None) -> bool:
    """Tell whether a limit is near enough to be worth a line."""
    return limit is not None and max(columns["logit_scale"]) > 0.6 * limit


def _spoken(panel: Curve, steps: list[int]) -> str:
    parts = []
    for name, values in panel.lines.items():
        known = [(s, v) for s, v in zip(steps, values, strict=True) if v is not None]
        if known:
            (first, start), (last, end) = known[0], known[-1]
            tell = percent if panel.percent else lambda value: f"{value:.4g}"
            parts.append(f"{name} from {tell(start)} at step {first} to {tell(end)} at step {last}")
    return f"{panel.title}: {'; '.join(parts)}."


def _matrix(page: TrainingPage, studio: Studio) -> dict[str, Any] | None:
    held_out = page.held_out
    if held_out is None:
        return None
    rows = held_out.sample(N_MATRIX)
    similarity = held_out.texts[rows] @ held_out.images[rows].T
    labels = [held_out.captions[row] for row in rows] if page.with_captions else None
    n = len(rows)
    own = similarity.diagonal()
    others = (similarity.sum() - own.sum()) / (n * n - n)
    order = "sorted by group and caption" if held_out.groups else "sorted by caption"
    n_right = int((similarity.argmax(axis=0) == range(n)).sum())
    drawing = studio.draw(
        matrix_figure(similarity, labels),
        alt=f"Cosines of {n} captions and their pictures: {decimal(float(own.mean()))} on average "
        f"of pairs, {decimal(float(others))} of all others.",
        caption=f"{n} held-out pairs of distinct captions, drawn at random, {order}. Mean cosine "
        f"of a pair {decimal(float(own.mean()))}, of all other combinations "
        f"{decimal(float(others))}. Among these {n}, the own caption is the nearest of "
        f"{n_right} pictures.",
    )
    return {"drawing": drawing, "table": _matrix_table(similarity, labels)}


def _matrix_table(similarity: Any, labels: list[str] | None) -> Table | None:
    if labels is None:
        return None
    rows = []
    for k, label in enumerate(labels):
        nearest = int(similarity[:, k].argmax())
        is_own = nearest == k
        text = "its own" if is_own else f"{nearest + 1}: {labels[nearest]}"
        cells = (
            Cell(str(k + 1)),
            Cell(label),
            Cell(decimal(float(similarity[k, k])), number=True),
            Cell(text, clear=is_own),
        )
        rows.append(cells)
    columns = ("Pair", "Caption", "Cosine of the pair", "Caption nearest to the picture")
    return Table("The pairs of the matrix", columns, tuple(rows))


def _examples(page: TrainingPage, pictures: Mapping[int, Picture]) -> dict[str, Any] | None:
    held_out, queries = page.held_out, page.queries
    if held_out is None or queries is None:
        return None
    by_image = (held_out, queries.text_ranks, pictures)
    by_text = (held_out, queries.image_ranks, pictures)
    return {
        "images": [
            (title, image_examples(by_image[0], rows, *by_image[1:]))
            for title, rows in (
                ("Drawn at random", queries.images_drawn),
                ("Worst misses", queries.images_missed),
            )
        ],
        "texts": [
            (title, text_examples(by_text[0], rows, *by_text[1:]))
            for title, rows in (
                ("Drawn at random", queries.texts_drawn),
                ("Worst misses", queries.texts_missed),
            )
        ],
        "n_captions": count(len(held_out.first_of_caption)),
        "n_pictures": count(len(held_out)),
        "has_pictures": bool(pictures),
    }
