"""``braindecode-clip clip report``: what a training run did, as one page."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from braindecode_clip.cli.clip_options import (
    CaptionsOption,
    DeviceOption,
    ImagesOption,
    KindOption,
    PicturesOption,
)
from braindecode_clip.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL import Image

    from braindecode_clip.clip.held_out import HeldOut
    from braindecode_clip.clip.pairs import Pairs
    from braindecode_clip.clip.run_files import Run

REPORT_FILE = "report.html"


@dataclass(frozen=True)
class Shown:
    """Held-out pairs as a page shows them.

    Attributes
    ----------
    held_out : HeldOut
    figures : dict
        ``source`` and ``model``, as in ``run.json``.
    pairs : Pairs
        The same pairs, for their pictures.
    with_pictures, with_captions : bool
    """

    held_out: HeldOut
    figures: dict[str, Any]
    pairs: Pairs
    with_pictures: bool
    with_captions: bool

    def pictures(self, rows: Sequence[int]) -> dict[int, Image.Image]:
        """Return the pictures of some rows; none where they are not to be shown."""
        from PIL import Image

        from braindecode_clip.clip.picture_store import PictureStore

        if not self.with_pictures:
            return {}
        images = self.pairs.images
        if isinstance(images, PictureStore):
            found = {row: images.whole(row) for row in rows}
            return {row: picture for row, picture in found.items() if picture is not None}
        return {row: Image.fromarray(images[row]) for row in rows}


def report(
    model: Annotated[
        Path,
        typer.Option(
            help="Folder that `clip train` wrote, or the folder of its state (curves alone)."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Page to write (HTML).")],
    pairs: Annotated[
        Path | None,
        typer.Option(
            help="Held-out pairs of any kind that `clip train` reads, for the similarity matrix "
            "and the examples. Without them the figures are those of the run."
        ),
    ] = None,
    split: Annotated[str | None, typer.Option(help="Show this split of the pairs.")] = None,
    kind: KindOption = None,
    images: ImagesOption = None,
    pictures: PicturesOption = True,
    captions: CaptionsOption = True,
    device: DeviceOption = "auto",
) -> None:
    """Write the report of a training run: curves, held-out retrieval, examples, data, recipe."""
    from braindecode_clip.clip.run_files import read_run
    from braindecode_clip.logs import get_logger

    run = read_run(model)
    shown = None
    if pairs is not None:
        if not run.is_model:
            raise ConfigError(
                f"{model}: is the state of a run and holds no model, so --pairs cannot be shown. "
                "Leave it out, or name the folder of the model."
            )
        found = _read_pairs(run, pairs, split=split, kind=kind, images=images)
        held_out, figures = measured(
            model, found[0], source=pairs.name, names=found[1], device=device
        )
        shown = Shown(held_out, figures, found[0], pictures, captions)
    write_page(run, shown, out)
    get_logger(__name__).info("wrote %s", out)


def measured(
    folder: Path, pairs: Pairs, *, source: str, names: Sequence[str], device: str
) -> tuple[HeldOut, dict[str, Any]]:
    """Encode pairs with the model in a folder, and measure retrieval.

    Parameters
    ----------
    folder : path
        Model directory; the running mean in it, where there is one, is measured too.
    pairs : Pairs
        Of the size that the model takes.
    source : str
        Name of the pairs.
    names : sequence of str
        Of the pictures, where ``pairs`` holds pixels and no files.
    device : str

    Returns
    -------
    HeldOut
    dict
        ``source``, ``model`` and perhaps ``ema``; see
        :meth:`braindecode_clip.clip.held_out.HeldOut.figures`.
    """
    from braindecode_clip.clip.export import MEAN_FOLDER

    found = _held_out_of(folder, pairs, names=names, device=device)
    figures = {"source": source, "model": found.figures()}
    if (folder / MEAN_FOLDER).is_dir():
        mean = _held_out_of(folder / MEAN_FOLDER, pairs, names=names, device=device)
        figures[MEAN_FOLDER] = mean.figures()
    return found, figures


def write_page(run: Run, shown: Shown | None, out: Path) -> None:
    """Lay a run out and write the page."""
    from braindecode_clip.io.atomic import write_text
    from braindecode_clip.report.training_examples import choose_queries, shown_rows
    from braindecode_clip.report.training_page import TrainingPage, build_training_page

    if shown is None:
        write_text(out, build_training_page(TrainingPage(run, run.record.get("held_out"))))
        return
    queries = choose_queries(shown.held_out) if shown.with_captions else None
    rows = [] if queries is None else shown_rows(shown.held_out, queries)
    page = TrainingPage(
        run,
        shown.figures,
        held_out=shown.held_out,
        queries=queries,
        pictures=shown.pictures(rows),
        with_captions=shown.with_captions,
    )
    write_text(out, build_training_page(page))


def _read_pairs(
    run: Run, path: Path, *, split: str | None, kind: str | None, images: Path | None
) -> tuple[Pairs, tuple[str, ...]]:
    """Read pairs as the run's recipe says; return them and the names of the pictures."""
    from braindecode_clip.cli.clip_pairs import as_pairs, open_pairs
    from braindecode_clip.config.base import parse_section
    from braindecode_clip.config.clip import ClipRecipe

    recipe = parse_section(ClipRecipe, run.recipe, where=f"recipe of the run '{run.name}'")
    source = open_pairs(path, data=recipe.data, kind=kind, split=split, images=images)
    pairs = as_pairs(source, recipe, cache="auto", n_workers=2, is_training=False)
    return pairs, source.names


def _held_out_of(folder: Path, pairs: Pairs, *, names: Sequence[str], device: str) -> HeldOut:
    """Encode pairs with the model in a folder."""
    from braindecode_clip.clip.encoders import choose_device
    from braindecode_clip.clip.held_out import HeldOut
    from braindecode_clip.clip.initial import read_start
    from braindecode_clip.clip.picture_store import PictureStore
    from braindecode_clip.clip.train import encode_pairs

    loaded = read_start(folder)
    model = loaded.model.to(choose_device(device))
    how = {key: tuple(loaded.preprocessing[key]) for key in ("mean", "std")}
    images, texts = encode_pairs(model, pairs, loaded.tokenizer, **how)
    if isinstance(pairs.images, PictureStore):
        names = pairs.images.names
    return HeldOut(
        images,
        texts,
        captions=tuple(pairs.first_wordings),
        names=tuple(map(str, names)),
        groups=None if pairs.groups is None else tuple(map(str, pairs.groups)),
    )
