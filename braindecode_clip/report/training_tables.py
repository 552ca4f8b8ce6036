"""Tables of a training report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from braindecode_clip.clip.run_files import Run
from braindecode_clip.clip.training_log import LogRow
from braindecode_clip.config.clip import ClipRecipe
from braindecode_clip.report.numbers import NOTHING, count, decimal, percent, quantity
from braindecode_clip.report.tables import Cell, Table
from braindecode_clip.report.training_words import interval_text, seconds_text

DIRECTIONS = {"image_to_text": "picture → caption", "text_to_image": "caption → picture"}
_WORDS = {"image_to_text": ("pictures", "caption"), "text_to_image": ("captions", "picture")}
#: Rows of a log beyond this are thinned for the page; the CSV has them all.
_MOST_ROWS = 100
_WEIGHTS = {"model": "model", "ema": "running mean (folder ema)"}


def findings(figures: dict[str, Any] | None) -> list[dict[str, Any]]:
    """Return the headline of each direction: R@1 in pools, with its chance and interval."""
    if not figures:
        return []
    found = []
    for direction, name in DIRECTIONS.items():
        own = figures["model"]["pools"][direction]
        r1 = own["r1"]
        query, partner = (
            ("pictures", "caption") if "image_to" in direction else ("captions", "picture")
        )
        found.append(
            {
                "value": percent(r1["value"]),
                "name": name,
                "percent": 100 * r1["value"],
                "low": 100 * r1["low"],
                "high": 100 * r1["high"],
                "chance": 100 * r1["chance"],
                "null": None,
                "sentence": f"of {count(own['n'])} held-out {query} find their {partner} first "
                f"among {count(own['n_candidates'])} (95 % interval {interval_text(r1)}; chance "
                f"{percent(r1['chance'])}).",
            }
        )
    return found


def figure_tables(figures: dict[str, Any] | None) -> list[Table]:
    """Return held-out retrieval in full, one table for each kind of weights."""
    if not figures:
        return []
    tables = []
    for key, name in _WEIGHTS.items():
        if key in figures:
            rows = [row for direction in DIRECTIONS for row in _rows(figures[key], direction)]
            columns = ("Query → candidates", "Score", "Value", "95 % interval", "Chance")
            columns += ("Queries", "Candidates")
            caption = f"Held-out retrieval of the {name}; bold where the interval lies above chance"
            tables.append(Table(caption, columns, tuple(rows), n_heads=2))
    return tables


def _rows(figures: dict[str, Any], direction: str) -> list[tuple[Cell, ...]]:
    pools, whole = figures["pools"][direction], figures[direction]
    title = DIRECTIONS[direction]
    n_pools = f"{count(pools['n_pools'])} pool{'s' if pools['n_pools'] > 1 else ''}"
    rows = [_row(title, "R@1 in pools", pools["r1"], pools, detail=n_pools, how=pools["interval"])]
    how = "Wilson, over queries"
    rows += [_row(title, f"R@{k}", whole[f"r{k}"], whole, how=how) for k in (1, 5, 10)]
    chance = (whole["n_candidates"] + 1) / 2
    # With several right pictures for a caption the best of them ranks higher by chance.
    is_one = direction == "image_to_text" or whole["n"] == whole["n_candidates"]
    guess = quantity(chance) if is_one else NOTHING
    rows.append(
        (
            Cell(title),
            Cell("median rank"),
            Cell(quantity(whole["median_rank"]), number=True),
            Cell(NOTHING, number=True),
            Cell(guess, number=True),
            Cell(count(whole["n"]), number=True),
            Cell(count(whole["n_candidates"]), number=True),
        )
    )
    return rows


def _row(
    title: str,
    score: str,
    figure: Mapping[str, float],
    sizes: Mapping[str, Any],
    *,
    how: str,
    detail: str = "",
) -> tuple[Cell, ...]:
    return (
        Cell(title),
        Cell(score, detail=detail),
        Cell(percent(figure["value"]), number=True, clear=figure["low"] > figure["chance"]),
        Cell(interval_text(dict(figure)), number=True, title=how),
        Cell(percent(figure["chance"], digits=2), number=True),
        Cell(count(sizes["n"]), number=True),
        Cell(count(sizes["n_candidates"]), number=True),
    )


def log_table(log: Sequence[LogRow]) -> Table:
    """Return the log; of a long one evenly spaced rows, those with retrieval before others."""
    rows = list(log)
    if len(rows) > _MOST_ROWS:
        rows = [row for row in rows if row.val_image_to_text_r1 is not None] or rows
        stride = -(-len(rows) // _MOST_ROWS)
        rows = rows[::-1][::stride][::-1]
    cells = tuple(
        (
            Cell(count(row.step), number=True),
            Cell(decimal(row.epoch, digits=2), number=True),
            Cell(decimal(row.loss), number=True),
            Cell(f"{row.lr:.2e}", number=True),
            Cell(decimal(row.logit_scale, digits=1), number=True),
            Cell(quantity(row.grad_norm), number=True),
            Cell(percent(row.val_image_to_text_r1), number=True),
            Cell(percent(row.val_text_to_image_r1), number=True),
            Cell(quantity(row.pairs_per_second), number=True),
        )
        for row in rows
    )
    columns = ("Step", "Epoch", "Loss", "Learning rate", "logit_scale", "Gradient norm")
    columns += ("R@1 picture → caption", "R@1 caption → picture", "Pairs per second")
    shown = f"{count(len(rows))} of {count(len(log))} rows of the log"
    return Table(shown if len(rows) < len(log) else "The log", columns, cells)


_DATA_ROWS = {
    "source": "Source",
    "kind": "Kind",
    "n_pictures": "Pictures",
    "n_captions": "Captions",
    "n_captions_truncated": "Captions longer than the context",
    "n_captions_with_unknown_words": "Captions with words unknown to the tokenizer",
    "n_corrupt": "Corrupt pictures",
    "steps_per_epoch": "Steps of an epoch",
    "n_left_out_of_first_epoch": "Pictures left out of the first epoch",
    "n_first_captions_in_training": "First captions that training has too",
    "n_pictures_in_training": "Pictures that training has too (identical files)",
}


def data_table(data: dict[str, Any]) -> Table:
    """Return what both parts of the data hold, side by side."""
    parts = [data.get(name, {}) for name in ("training", "validation")]
    rows = []
    for key, name in _DATA_ROWS.items():
        if any(key in part for part in parts):
            rows.append((Cell(name), *(_data_cell(key, part) for part in parts)))
    return Table("What the run was given", ("", "Training", "Held-out"), tuple(rows))


def _data_cell(key: str, part: Mapping[str, Any]) -> Cell:
    if key not in part:
        return Cell("", number=True)
    value = part[key]
    if value is None:
        return Cell("not looked for", number=True)
    return Cell(value if isinstance(value, str) else count(value), number=True)


def changed_options(recipe: Mapping[str, Any]) -> Table:
    """Return the options of a recipe that are not the defaults, the towers in full."""
    rows = []
    for section, info in ClipRecipe.model_fields.items():
        if section not in recipe or section == "name":
            continue
        default = info.get_default(call_default_factory=True)
        if hasattr(default, "model_dump"):
            default = default.model_dump(mode="json")
        # A section without a default, such as the model's, differs in all that it says.
        base = default if isinstance(default, dict) else {}
        own = recipe[section]
        if not isinstance(own, dict):
            if own != default:
                rows.append((section, own, default))
            continue
        is_model = not isinstance(default, dict)
        for key, value in _flat(own, section):
            known = dict(_flat(base, section)).get(key)
            if value != known and not (is_model and value is None):
                rows.append((key, value, known))
    cells = tuple(
        (Cell(key), Cell(_shown(value)), Cell(NOTHING if default is None else _shown(default)))
        for key, value, default in rows
    )
    return Table("Options that are not the defaults", ("Option", "Here", "Default"), cells)


def _flat(options: Mapping[str, Any], prefix: str) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in options.items():
        name = f"{prefix}.{key}"
        found += _flat(value, name) if isinstance(value, dict) and value else [(name, value)]
    return found


def _shown(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(_shown(item) for item in value)
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)


def run_table(run: Run) -> Table:
    """Return how the run was made and how long it took."""
    record = run.record
    weights = record.get("parameters", {})
    start = record.get("start", {})
    facts = [
        ("Status", run.status),
        ("Steps", count(run.step)),
        ("Steps in all", count(record.get("n_steps"))),
        ("Pairs of a step", count(record.get("pairs_per_step"))),
        ("Weights of the image tower", count(weights.get("image_tower"))),
        ("Weights of the text tower", count(weights.get("text_tower"))),
        ("Weights of the text decoder", count(weights.get("text_decoder"))),
        ("Weights in all", count(weights.get("total"))),
        ("Weights that were trained", count(weights.get("trained"))),
        ("Started from", start.get("name") or start.get("kind") or NOTHING),
        ("SHA-256 of the first weights", start.get("weights_sha256", NOTHING)[:16]),
        ("Teacher", record.get("teacher") or NOTHING),
        ("Seed", str(run.recipe.get("seed", NOTHING))),
        ("Device", record.get("device", NOTHING)),
        ("Processes", count(record.get("n_processes"))),
        ("Threads of each", count(record.get("n_threads"))),
        ("Time of all steps", seconds_text(run)),
        ("Time of a step", _seconds_per_step(run)),
        ("Pairs per second", _pairs_per_second(run)),
    ]
    rows = tuple((Cell(name), Cell(text)) for name, text in facts if text not in (NOTHING, ""))
    return Table("The run", ("", ""), rows)


def _seconds_per_step(run: Run) -> str:
    rates = [row.pairs_per_second for row in run.log if row.pairs_per_second]
    n = run.record.get("pairs_per_step")
    return f"{decimal(n / (sum(rates) / len(rates)), digits=3)} s" if rates and n else NOTHING


def _pairs_per_second(run: Run) -> str:
    rates = sorted(row.pairs_per_second for row in run.log if row.pairs_per_second)
    if not rates:
        return NOTHING
    middle = rates[len(rates) // 2]
    return f"{quantity(middle)} (median over the log)"
