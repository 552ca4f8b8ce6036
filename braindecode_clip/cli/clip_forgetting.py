"""``braindecode-clip clip forgetting``: what adapting a model gained, and what it cost."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from braindecode_clip.cli.clip_evaluate import (
    BootstrapOption,
    ClassesOption,
    LabelByOption,
    PairsKindOption,
    ProbeShareOption,
    TemplatesOption,
)
from braindecode_clip.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from braindecode_clip.cli.clip_sets import EvaluationSet
    from braindecode_clip.io.pair_source import PairSource

#: What is shown of each set; all else is in the files.
_SHOWN = frozenset(
    {"r1", "r5", "r10", "top_1", "top_5", "mean_per_class_top_1", "cosine_margin", "modality_gap"}
)


def forgetting(
    before: Annotated[str, typer.Option(help="Model directory, or name, before adapting.")],
    after: Annotated[str, typer.Option(help="Model directory, or name, after adapting.")],
    general: Annotated[
        list[Path],
        typer.Option(
            help="Pairs with captions, labels or both that the model was not adapted to; may be "
            "given several times."
        ),
    ],
    out: Annotated[
        Path, typer.Option(help="Folder to write: forgetting.json, forgetting.csv, forgetting.md.")
    ],
    domain: Annotated[
        list[Path] | None,
        typer.Option(help="Held-out pairs of what it was adapted to; may be given several times."),
    ] = None,
    general_split: Annotated[
        str | None, typer.Option(help="Measure this split of the general pairs.")
    ] = None,
    domain_split: Annotated[
        str | None, typer.Option(help="The same for the pairs of the domain.")
    ] = None,
    kind: PairsKindOption = None,
    images: Annotated[
        Path | None, typer.Option(help="Folder of the pictures of COCO's JSON.")
    ] = None,
    label_by: LabelByOption = "label",
    general_classes: ClassesOption = None,
    templates: TemplatesOption = "simple",
    probe_share: ProbeShareOption = None,
    n_bootstrap: BootstrapOption = 1000,
    n_permutations: Annotated[
        int, typer.Option(min=99, help="Exchanges of the two models, for p.")
    ] = 9999,
    seed: Annotated[int, typer.Option(min=0, help="Of bootstrap and exchanges.")] = 2026,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
) -> None:
    """Compare two models on the same pictures: retrieval, zero-shot classes, geometry.

    Differences have 95 % intervals of a bootstrap over pictures, which both models share, and
    p-values of exchanging the models within pictures.
    """
    from braindecode_clip.cli.clip_sets import read_set
    from braindecode_clip.clip.encoders import load_encoder
    from braindecode_clip.clip.forgetting import with_verdicts
    from braindecode_clip.logs import get_logger, milestone

    logger = get_logger(__name__)
    paths = [*(("domain", path) for path in domain or ()), *(("general", path) for path in general)]
    sets = []
    for role, path in paths:
        with milestone(logger, f"read {path}"):
            data, source = read_set(
                path,
                kind=kind,
                split=general_split if role == "general" else domain_split,
                images=images if path.suffix == ".json" else None,
                label_by=label_by,
                classes=general_classes if role == "general" else None,
                templates=templates,
            )
        sets.append((role, data, source))
    _refuse_shared_names([data for _, data, _ in sets])
    encoders = [load_encoder(name, device=device) for name in (before, after)]
    same = encoders[0].fingerprint["weights_sha256"] == encoders[1].fingerprint["weights_sha256"]
    if same:
        logger.warning("--before and --after have the same weights, so nothing can differ.")
    rows: list[dict[str, Any]] = []
    options = {"seed": seed, "n_bootstrap": n_bootstrap, "n_permutations": n_permutations}
    for role, data, source in sets:
        with milestone(logger, f"compared on {data.name}"):
            facts = {"set": data.name, "role": role}
            found = _compared(data, source, encoders, probe_share, **options)
            rows += [{**facts, **row} for row in found]
    rows = with_verdicts(rows)
    _write(out, rows, encoders, sets, {**options, "probe_share": probe_share})


def _refuse_shared_names(sets: Sequence[EvaluationSet]) -> None:
    from braindecode_clip.checks import some

    names = [data.name for data in sets]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(
            f"--domain, --general: the file names {some(twice)} stand twice. Rename one, since "
            "results are filed by name."
        )


def _compared(
    data: EvaluationSet,
    source: PairSource,
    encoders: Sequence[Any],
    probe_share: float | None,
    **options: Any,
) -> list[dict[str, Any]]:
    import numpy as np

    from braindecode_clip.cli.clip_sets import encode_set, probe_test
    from braindecode_clip.clip.forgetting import ModelOnSet, compare_on_set

    probe_tests = {}
    if probe_share is not None:
        probe_tests = {
            name: probe_test(data, task, share=probe_share, seed=options["seed"])
            for name, task in data.tasks.items()
        }

    models = [
        ModelOnSet(encoder, pictures, data.captioned(pictures, texts))
        for encoder, (pictures, texts) in zip(
            encoders, encode_set(data, source, encoders), strict=True
        )
    ]
    return compare_on_set(
        *models, data.tasks, np.array(data.files), probe_tests=probe_tests, **options
    )


def _write(
    out: Path,
    rows: list[dict[str, Any]],
    encoders: Sequence[Any],
    sets: Sequence[tuple[str, EvaluationSet, PairSource]],
    options: dict[str, Any],
) -> None:
    import pandas as pd

    from braindecode_clip.clip.definitions import DEFINITIONS
    from braindecode_clip.clip.score import without_nan
    from braindecode_clip.io.atomic import write_json, write_text
    from braindecode_clip.logs import get_logger

    record = {
        "before": encoders[0].fingerprint,
        "after": encoders[1].fingerprint,
        **options,
        "sets": [
            {
                "name": data.name,
                "role": role,
                "n_pictures": len(data.names),
                "n_captions": len(data.wordings[0]),
                "tasks": {name: len(task.class_names) for name, task in data.tasks.items()},
            }
            for role, data, _ in sets
        ],
        "rows": [without_nan(row) for row in rows],
        "definitions": DEFINITIONS,
    }
    text = _page(rows, [encoder.name for encoder in encoders])
    write_json(out / "forgetting.json", record)
    write_text(out / "forgetting.csv", pd.DataFrame(rows).to_csv(index=False, lineterminator="\n"))
    write_text(out / "forgetting.md", text)
    typer.echo(_page([row for row in rows if row["metric"] in _SHOWN], [e.name for e in encoders]))
    get_logger(__name__).info("wrote forgetting.json, forgetting.csv and forgetting.md in %s", out)


def _page(rows: Sequence[dict[str, Any]], names: Sequence[str]) -> str:
    """Return the tables as Markdown, one for each set."""
    lines = [f"# What it gained and what it cost: {names[0]} → {names[1]}", ""]
    for name in dict.fromkeys(row["set"] for row in rows):
        own = [row for row in rows if row["set"] == name]
        lines += [f"## {name} ({own[0]['role']})", ""]
        lines += [
            "| measure | before | after | difference [95 %] | chance | n | p | q | verdict |",
            "|---|---|---|---|---|---|---|---|---|",
            *map(_line, own),
            "",
        ]
    lines += [
        "Shares are in %. p: the models exchanged within pictures at random, two-sided; q: "
        "corrected for all rows that have a p. A verdict needs q of at most 0.05 and an interval "
        "that leaves out 0; where there is no p, the interval alone.",
        "",
    ]
    return "\n".join(lines)


def _line(row: dict[str, Any]) -> str:
    import math

    metric = row["metric"]
    is_share = (metric[:1] == "r" and metric[1:].isdigit()) or "top_" in metric
    scale, digits = (100.0, 1) if is_share else (1.0, 3)

    def shown(value: float, sign: str = "") -> str:
        return f"{scale * value:{sign}.{digits}f}" if math.isfinite(value) else "–"

    def probability(value: float) -> str:
        if not math.isfinite(value):
            return "–"
        return f"{value:.4f}" if value >= 1e-4 else "<0.0001"

    ends = "none"
    if math.isfinite(row["ci_low"]):
        ends = f"{shown(row['ci_low'], '+')}, {shown(row['ci_high'], '+')}"
    chance = shown(row["chance_before"])
    if chance != shown(row["chance_after"]):
        chance += f" → {shown(row['chance_after'])}"
    cells = (
        f"{row['kind']} {metric}",
        shown(row["before"]),
        shown(row["after"]),
        f"{shown(row['difference'], '+')} [{ends}]",
        chance,
        str(row["n"]),
        probability(row["p"]),
        probability(row["q"]),
        row["verdict"],
    )
    return f"| {' | '.join(cells)} |"
