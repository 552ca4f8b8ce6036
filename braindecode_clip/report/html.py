"""The page itself: every part computed, then laid out by the templates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from braindecode_clip import __version__
from braindecode_clip.artifacts import Retrieval
from braindecode_clip.report import (
    controls,
    decoding,
    maps,
    protocols,
    quality,
    records,
    sections,
    statistics,
    tables,
)
from braindecode_clip.report.audit import audit_topics
from braindecode_clip.report.content import CONDITION, Inputs
from braindecode_clip.report.examples import Example, choose_examples, confusion
from braindecode_clip.report.fitted import fitted_table, with_steps
from braindecode_clip.report.group import group_topics
from braindecode_clip.report.headline import headlines
from braindecode_clip.report.layout import render
from braindecode_clip.report.methods import methods_text
from braindecode_clip.report.numbers import THIN, count, decimal
from braindecode_clip.report.pictures import Picture, embed_pictures
from braindecode_clip.report.results import DIRECTIONS, Order, interval_level, label_text, matching

_LARGEST_CONFUSION = 20
_GROUP_TITLES = {
    "best": "Best: the true one furthest ahead",
    "median": "Median: in the middle by rank",
    "worst": "Worst: the true one furthest behind",
}
_PARTS = (
    ("results", "Results", None),
    ("accuracy", "Accuracy", None),
    ("tests", "Tests", "tests"),
    ("decoders", "Decoders", "decoding"),
    ("controls", "Spurious?", "suspicions"),
    ("group", "Group", "group"),
    ("audit", "Adapted?", "audit"),
    ("protocols", "Protocols", "protocols"),
    ("examples", "Examples", "galleries"),
    ("pool", "Pool size", "pools"),
    ("brain", "Brain", "brains"),
    ("quality", "Data quality", "quality"),
    ("data", "Data", "flow"),
    ("methods", "Methods", None),
)


def build_page(inputs: Inputs) -> str:
    """Return the whole page as HTML text; the same inputs give the same text."""
    order = Order.of(inputs.study, inputs.metrics)
    studio = sections.Studio()
    chosen = _choose(inputs, order)
    pictures = _embed(inputs, chosen)
    has_pictures = bool(pictures)
    context: dict[str, Any] = {
        "title": inputs.study.report.title or inputs.study.study,
        "description": inputs.study.report.description,
        "overview": _overview(order),
        "lead": _lead(has_pictures),
        "headlines": headlines(
            inputs.study, inputs.metrics, order, things=_things(inputs, has_pictures)
        ),
        "notes": [_spell_out(note) for note in inputs.notes],
        "resampled": " or ".join(dict.fromkeys(map(str, inputs.metrics["resampled"]))),
        "level": interval_level(inputs.metrics),
        "accuracy": sections.accuracy_blocks(inputs, order, studio),
        "decoding": decoding.decoding_topics(inputs.decoding, order, studio, study=inputs.study),
        "suspicions": (suspicions := controls.suspicions(inputs.controls, order, studio)),
        "n_suspicious": controls.n_suspicious(suspicions),
        "group": group_topics(inputs.group, order, studio, options=inputs.study.group),
        "group_notes": _group_notes(inputs),
        "audit": audit_topics(inputs.audit, order, studio, options=inputs.study.audit),
        "audit_notes": [_spell_out(note) for note in inputs.audit.get("notes", [])],
        "protocols": protocols.protocol_blocks(inputs.protocols, order, studio),
        "tests": statistics.statistics_topics(inputs.statistics, order, studio),
        "metric_tables": _metric_tables(inputs, order),
        "definitions": tables.definitions(inputs.metrics),
        "galleries": _galleries(chosen, pictures, inputs, order),
        "pictures": has_pictures,
        "examples_intro": _examples_intro(has_pictures),
        "group_titles": _GROUP_TITLES,
        "columns": inputs.study.report.candidates,
        "confusions": _confusions(inputs, order),
        "pools": sections.pool_blocks(inputs, order, studio),
        "ranks": sections.rank_blocks(inputs, order, studio),
        "brains": maps.brain_blocks(inputs, order, studio),
        "quality": quality.quality_part(inputs.quality, inputs.study.report, studio),
        "flow": records.flow_table(inputs.counts) if inputs.counts else None,
        "folds": [records.fold_table(item) for item in inputs.counts if item.n_folds > 1],
        "methods": methods_text(inputs, order),
        "fitted": fitted_table(inputs.fitted),
        "fits": records.fits_table(sections.ordered_retrievals(inputs.retrievals, order)),
        "resources": records.resources_table(inputs.jobs) if len(inputs.jobs) else None,
        "code": [
            records.code_table(inputs.provenance),
        ],
        "libraries": records.library_versions(inputs.provenance),
        "config": yaml.safe_dump(
            inputs.study.model_dump(mode="json"), sort_keys=False, allow_unicode=True
        ),
        "library": list(pictures.values()),
        "version": __version__,
        "thin": THIN,
    }
    context["parts"] = [
        {"id": part, "short": short}
        for part, short, needs in _PARTS
        if needs is None or context[needs]
    ]
    return render("page.html.j2", context, styles=("style.css",))


def _group_notes(inputs: Inputs) -> list[str]:
    """Say what holds for several splits and galleries once."""
    where: dict[str, list[str]] = {}
    for note in inputs.group.get("notes", {}).get("note", ()):
        place, _, text = note.partition(": ")
        where.setdefault(text, []).append(place.removeprefix("group, "))
    n_places = len({place for places in where.values() for place in places})
    return [
        _spell_out(text if len(places) == n_places else f"{text} ({'; '.join(places)})")
        for text, places in where.items()
    ]


def _overview(order: Order) -> str:
    """Say what was compared, in one line."""
    counted = [
        (label, len(order.names[label])) for label in CONDITION if len(order.names[label]) != 1
    ]
    fixed = [
        label_text(label, order.names[label][0])
        for label in CONDITION
        if len(order.names[label]) == 1
    ]
    plural = {"gallery": "galleries", "roi": "ROIs"}
    many = [f"{n} {plural.get(label, label + 's')}" for label, n in counted]
    return "Compared here: " + ", ".join(many + fixed) + "."


def _spell_out(note: str) -> str:
    """Name directions as the rest of the page does."""
    for direction, name in DIRECTIONS.items():
        note = note.replace(direction, name)
    return note[:1].upper() + note[1:]


def _things(inputs: Inputs, has_pictures: bool) -> dict[tuple[str, ...], str]:
    """Call samples pictures or stimuli where each sample is another one."""
    found = {}
    for retrieval in inputs.retrievals:
        condition = tuple(str(retrieval.info.get(label)) for label in CONDITION)
        if retrieval.queries["stimulus_id"].is_unique:
            found[condition] = "pictures" if has_pictures else "stimuli"
    return found


def _lead(has_pictures: bool) -> str:
    thing = "picture" if has_pictures else "stimulus"
    return (
        f"From the brain's response to a {thing}, a decoder predicts the {thing}'s CLIP embedding; "
        f"the candidates are then ranked by their similarity to it. Found means that the {thing} "
        "really seen came first."
    )


def _examples_intro(has_pictures: bool) -> str:
    thing = "picture" if has_pictures else "stimulus"
    return (
        f"On the left the {thing} that was seen, on the right the candidates nearest to the "
        "embedding predicted from the brain, with their similarity. The true one carries a frame "
        "and the mark “✓ true”. Samples are chosen by rank alone: the best, the median and the "
        "worst."
    )


def _choose(inputs: Inputs, order: Order) -> list[tuple[Retrieval, dict[str, list[Example]]]]:
    """Choose examples of every subject, decoder, split and gallery, in the first region."""
    retrievals = sections.ordered_retrievals(
        inputs.retrievals, order, roi=order.names["roi"][0], encoder=order.names["encoder"][0]
    )
    options = inputs.study.report
    if not options.queries_per_group:
        return []
    chosen = [
        choose_examples(
            retrieval, per_group=options.queries_per_group, n_candidates=options.candidates
        )
        for retrieval in retrievals
    ]
    return list(zip(retrievals, chosen, strict=True))


def _embed(
    inputs: Inputs, chosen: Iterable[tuple[Retrieval, dict[str, list[Example]]]]
) -> dict[str, Picture]:
    """Embed the pictures that the examples show, each once."""
    paths = {
        row["stimulus_id"]: Path(row["image"])
        for row in inputs.stimuli.to_dict("records")
        if row["image"]
    }
    wanted = {
        name: paths[name]
        for _, groups in chosen
        for examples in groups.values()
        for example in examples
        for name in (example.stimulus_id, *(c.stimulus_id for c in example.candidates))
        if name in paths
    }
    if not wanted:
        return {}
    return embed_pictures(
        wanted,
        longer_side_px=inputs.study.report.picture_px,
        budget_mb=inputs.study.report.picture_budget_mb,
    )


def _galleries(
    chosen: Iterable[tuple[Retrieval, dict[str, list[Example]]]],
    pictures: Mapping[str, Picture],
    inputs: Inputs,
    order: Order,
) -> list[dict[str, Any]]:
    captions = dict(zip(inputs.stimuli["stimulus_id"], inputs.stimuli["caption"], strict=True))
    return [
        {
            "title": sections.labels_text(retrieval.info, order),
            "groups": {
                group: [_lay_out(example, pictures, captions) for example in examples]
                for group, examples in groups.items()
            },
        }
        for retrieval, groups in chosen
    ]


def _lay_out(
    example: Example, pictures: Mapping[str, Picture], captions: Mapping[str, str]
) -> dict[str, Any]:
    def thing(name: str) -> dict[str, Any]:
        return {"name": name, "picture": pictures.get(name), "alt": captions.get(name) or name}

    rank = decimal(example.rank, digits=0 if example.rank == int(example.rank) else 1)
    shown = any(candidate.is_true for candidate in example.candidates)
    repeats = f"mean of {example.n_repeats} repeats" if example.n_repeats > 1 else ""
    seen = thing(example.stimulus_id)
    what = [captions.get(example.stimulus_id, ""), repeats]
    if seen["picture"] is None and len(example.group) <= 24:
        what.append(example.group)
    return {
        "seen": seen,
        "rank": f"rank {rank} of {count(example.n_gallery)}",
        "what": " · ".join(part for part in what if part),
        "candidates": [
            {
                **thing(candidate.stimulus_id),
                "similarity": decimal(candidate.similarity, digits=3),
                "true": candidate.is_true,
            }
            for candidate in example.candidates
        ],
        "missed": ""
        if shown
        else f"The true one is at rank {rank}, similarity {decimal(example.true_similarity)}.",
    }


def _confusions(inputs: Inputs, order: Order) -> list[dict[str, Any]]:
    """Tabulate mistakes where few candidates come again and again."""
    found = []
    for retrieval in sections.ordered_retrievals(
        inputs.retrievals, order, roi=order.names["roi"][0]
    ):
        if len(retrieval.gallery_ids) > _LARGEST_CONFUSION:
            continue
        if len(retrieval.queries) < 2 * len(retrieval.gallery_ids):
            continue
        shares = confusion(retrieval)
        rows = [
            {
                "name": name,
                "cells": [
                    {
                        "text": f"{100 * share:.0f}" if np.isfinite(share) and share > 0 else "",
                        "share": f"{100 * share:.0f}" if np.isfinite(share) else "0",
                        "true": column == name,
                    }
                    for column, share in values.items()
                ],
            }
            for name, values in shares.iterrows()
        ]
        title = sections.labels_text(retrieval.info, order)
        found.append({"title": title, "names": list(shares.columns), "rows": rows})
    return found


def _metric_tables(inputs: Inputs, order: Order) -> list[tuple[str, tables.Table]]:
    """Return every condition's title and its table of scores."""
    rows = order.sort(inputs.metrics)
    conditions = rows[list(CONDITION)].astype(str).drop_duplicates().to_dict("records")
    found = []
    for condition in conditions:
        own = order.sort(matching(rows, **condition))
        title = sections.labels_text(condition, order)
        table = tables.metrics_table(own, order, title)
        found.append((title, with_steps(table, own.get("transductive", [""] * len(own)))))
    return found
