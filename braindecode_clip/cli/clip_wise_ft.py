"""``braindecode-clip clip wise-ft``: mix a model with what it became, and measure each mixture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from braindecode_clip.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from braindecode_clip.clip.encoders import ClipEncoder
    from braindecode_clip.clip.wise_ft import HeldOut

_GRID = "0 0.1 0.2 0.3 0.4 0.5 0.6 0.7 0.8 0.9 1"
#: Word for the alpha that the deciding sets choose.
_CHOSEN = "chosen"
_NOT_CHOSEN = (
    "No alpha was chosen. The best row of this table, picked by its own figures, is too good: "
    "choose on other pairs (--choose-on)."
)


def wise_ft(
    before: Annotated[Path, typer.Option(help="Model folder before the adaptation (alpha 0).")],
    after: Annotated[Path, typer.Option(help="Model folder after it (alpha 1).")],
    pairs: Annotated[Path, typer.Option(help="Held-out pairs of the domain, to report on.")],
    out: Annotated[
        Path, typer.Option(help="Folder to write: wise_ft.csv, wise_ft.json, wise_ft.png.")
    ],
    general: Annotated[
        Path | None, typer.Option(help="Held-out pairs of a general kind, to report on.")
    ] = None,
    choose_on: Annotated[
        Path | None,
        typer.Option(help="Pairs of the domain, other ones, that alpha is chosen on."),
    ] = None,
    split: Annotated[str | None, typer.Option(help="Report on this split of PAIRS.")] = None,
    choose_split: Annotated[
        str | None, typer.Option(help="Choose on this split of the pairs of --choose-on.")
    ] = None,
    choose_general_on: Annotated[
        Path | None,
        typer.Option(help="General pairs, other ones, that count as much in the choice."),
    ] = None,
    alphas: Annotated[str, typer.Option(help="Mixtures, 0 to 1.")] = _GRID,
    write: Annotated[
        str | None,
        typer.Option(help="Write the model of this alpha to OUT/model; 'chosen' for the chosen."),
    ] = None,
    templates: Annotated[
        str,
        typer.Option(
            help="Wordings for labels, where pairs have them: simple, generic, openai, or a file "
            "with '{}' in each line."
        ),
    ] = "simple",
    pool_size: Annotated[int, typer.Option(min=2, help="Distinct captions in a pool.")] = 100,
    seed: Annotated[int, typer.Option(min=0, help="Deals the pools.")] = 2026,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
) -> None:
    """Measure the mixtures (1 - alpha) * before + alpha * after of two models' weights.

    Retrieval is measured where there are captions, zero-shot accuracy where there are labels.
    Alpha is chosen by the mean of the two R@1 (or the accuracy, without captions).
    """
    from braindecode_clip.cli.search import read_templates
    from braindecode_clip.clip.encoders import load_encoder
    from braindecode_clip.clip.wise_ft import (
        check_apart,
        chosen_alpha,
        read_ends,
        sweep,
        write_mixed,
    )
    from braindecode_clip.logs import get_logger, milestone

    logger = get_logger(__name__)
    grid = _grid(alphas)
    paths = {"domain": pairs, "general": general}
    deciding = {"choose-on": choose_on, "choose-general-on": choose_general_on}
    if choose_general_on is not None and choose_on is None:
        raise ConfigError("--choose-general-on is given without --choose-on. Give both.")
    if choose_split is not None and choose_on is None:
        raise ConfigError("--choose-split is given without --choose-on. Give both.")
    splits = {"domain": split, "choose-on": choose_split}
    to_write = _to_write(write, chooses=choose_on is not None)
    wordings = read_templates(templates)
    with milestone(logger, "read the models and the pairs"):
        ends = read_ends(before, after)
        encoder = load_encoder(str(after), device=device)
        sets = {
            name: _held_out(path, encoder, split=splits.get(name))
            for name, path in {**paths, **deciding}.items()
            if path is not None
        }
    names = [name for name in deciding if name in sets]
    check_apart(sets, names)
    with milestone(logger, f"measured {len(grid)} mixtures"):
        points = sweep(
            encoder,
            ends,
            sets,
            alphas=grid,
            templates=wordings,
            seed=seed,
            pool_size=pool_size,
        )
    chosen = chosen_alpha(points, names) if names else None
    _write(
        out, points, chosen, names, {"before": before, "after": after, **paths, **deciding}, seed
    )
    for point in points:
        logger.info("%s", _line(point, chosen))
    logger.info("%s", _NOT_CHOSEN if chosen is None else f"alpha {chosen:g} chosen on {names}")
    if to_write is not None:
        alpha = chosen if to_write == _CHOSEN else float(to_write)
        write_mixed(out / "model", ends, alpha, before=before, after=after)
        logger.info("wrote %s (alpha %g)", out / "model", alpha)
    logger.info("wrote %s", out)


def _grid(text: str) -> list[float]:
    try:
        found = sorted({float(word) for word in text.replace(",", " ").split()})
    except ValueError as error:
        raise ConfigError(f"--alphas '{text}': {error}. Give numbers, e.g. '0 0.5 1'.") from error
    if not found or not all(0 <= alpha <= 1 for alpha in found):
        raise ConfigError(f"--alphas '{text}': expected numbers from 0 to 1, e.g. '0 0.5 1'.")
    return found


def _to_write(write: str | None, *, chooses: bool) -> str | None:
    if write == _CHOSEN and not chooses:
        raise ConfigError("--write chosen: nothing chooses. Give --choose-on, or a number.")
    if write is not None and write != _CHOSEN:
        try:
            is_share = 0 <= float(write) <= 1
        except ValueError:
            is_share = False
        if not is_share:
            raise ConfigError(f"--write '{write}': expected a number from 0 to 1, or 'chosen'.")
    return write


def _held_out(path: Path, encoder: ClipEncoder, *, split: str | None) -> HeldOut:
    """Read pairs whole; their pictures stay in memory as the model takes them."""
    from braindecode_clip.cli.clip_pairs import whole_pictures
    from braindecode_clip.clip.encoders import open_picture
    from braindecode_clip.clip.wise_ft import HeldOut
    from braindecode_clip.io.pair_source import spaced
    from braindecode_clip.io.pairs import read_pairs

    source = read_pairs(path, split=split)
    captions = [own[0] if own else "" for own in source.captions]
    labels = [spaced(label) for label in source.labels or [""] * len(source)]
    if len({*captions} - {""}) < 2 and len({*labels} - {""}) < 2:
        raise DataError(
            f"{path}: fewer than two distinct captions and fewer than two labels; nothing can be "
            "measured. Give pairs with captions, or pictures with labels."
        )
    pictures = [open_picture(picture) for picture in whole_pictures(source)]
    return HeldOut([encoder.prepare_image(picture) for picture in pictures], captions, labels)


def _rows(points: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row for each alpha, set and task."""
    rows = []
    for point in points:
        for name, found in point["sets"].items():
            tasks = {task: own for task, own in found.items() if isinstance(own, dict)}
            for task, own in tasks.items():
                is_accuracy = task == "zero_shot"
                value, low, high = (
                    ("accuracy", "low", "high") if is_accuracy else (*("r1", "r1_low", "r1_high"),)
                )
                rows.append(
                    {
                        "alpha": point["alpha"],
                        "set": name,
                        "task": task,
                        "metric": "accuracy" if is_accuracy else "r1",
                        "value": own[value],
                        "low": own[low],
                        "high": own[high],
                        "chance": own["chance"],
                        "r5": own.get("r5"),
                        "r10": own.get("r10"),
                        "n": own["n"],
                        "n_candidates": own["n_classes" if is_accuracy else "pool_size"],
                    }
                )
    return rows


def _write(
    out: Path,
    points: list[dict[str, Any]],
    chosen: float | None,
    deciding: list[str],
    sources: dict[str, Path | None],
    seed: int,
) -> None:
    import pandas as pd

    from braindecode_clip.io.atomic import atomic_path, write_json
    from braindecode_clip.report.theme import to_png
    from braindecode_clip.report.wise_ft_figure import wise_ft_figure

    table = pd.DataFrame(_rows(points))
    content = {
        "mixture": "(1 - alpha) * before + alpha * after, of all weights and of the running "
        "statistics; logit_scale as a logarithm",
        "metrics": "r1: share of queries whose partner is nearest among pool_size candidates of "
        "distinct captions, the mean over n_pools disjoint pools, with a 95 % interval from their "
        "spread (none for one pool); accuracy: share of pictures whose label's prompts are "
        "nearest, with Wilson's 95 % interval",
        # Names alone: results are handed on, and paths say where their maker works.
        "sources": {k: None if path is None else path.name for k, path in sources.items()},
        "seed": seed,
        "choice": {
            "alpha": chosen,
            "deciding_sets": deciding,
            "reported_sets": [name for name in ("domain", "general") if sources[name] is not None],
            "rule": "highest mean over the deciding sets of the mean R@1 of both directions, or "
            "of the accuracy where there are no captions; of equal ones the lowest alpha",
            "note": _NOT_CHOSEN
            if chosen is None
            else "The deciding sets chose alpha, so their own figures at it are too good; those "
            "of the reported sets, which share no picture with them, are not.",
        },
        "points": _without_nan(points),
    }
    out.mkdir(parents=True, exist_ok=True)
    with atomic_path(out / "wise_ft.csv") as temporary:
        table.to_csv(temporary, index=False, lineterminator="\n")
    write_json(out / "wise_ft.json", content)
    with atomic_path(out / "wise_ft.png") as temporary:
        temporary.write_bytes(to_png(wise_ft_figure(table, chosen=chosen)))


def _without_nan(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _without_nan(value) for key, value in content.items()}
    if isinstance(content, list):
        return [_without_nan(value) for value in content]
    return None if isinstance(content, float) and content != content else content


def _line(point: dict[str, Any], chosen: float | None) -> str:
    from braindecode_clip.clip.wise_ft import score

    scores = ", ".join(f"{name} {100 * score(own):.1f} %" for name, own in point["sets"].items())
    mark = " (chosen)" if point["alpha"] == chosen else ""
    return f"alpha {point['alpha']:g}{mark}: {scores}"
