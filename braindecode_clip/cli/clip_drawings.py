"""``braindecode-clip clip drawings``: pair tables of drawings that Debian packages hold."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import pandas as pd


def drawings(
    out: Annotated[Path, typer.Option(help="Folder for the tables, and counts.json.")],
    stamps: Annotated[
        Path, typer.Option(help="Folder of Tux Paint's stamps (package tuxpaint-stamps-default).")
    ] = Path("/usr/share/tuxpaint/stamps"),
    clipart: Annotated[
        Path,
        typer.Option(help="Folder with png/ and svg/ of openclipart-png and openclipart-svg."),
    ] = Path("/usr/share/openclipart"),
    workers: Annotated[int, typer.Option(min=1, help="Threads that read and decode.")] = 2,
) -> None:
    """Write tables of picture, captions, label, group and split for two sets of drawings.

    Families of drawings (numbered or coloured variants, equal captions, near duplicates) stand
    in one split; held-out ones have tables of their own too. Dropped are computer icons, bare
    shapes, flags, playing cards, letters, drawings without a title of their own, repeats, and
    clip art that nearly equals a stamp. The tables name the pictures where they lie; nothing is
    copied.
    """
    from braindecode_clip.clip.drawings import choose_clipart, choose_stamps, count_dropped
    from braindecode_clip.io.atomic import write_json
    from braindecode_clip.io.drawings import read_clipart, read_stamps
    from braindecode_clip.io.tables import write_tsv

    listed = {"stamps": choose_stamps(read_stamps(stamps))}
    listed["clipart"] = choose_clipart(read_clipart(clipart))
    counts: dict[str, Any] = {}
    for name, (chosen, table) in _tables(listed, n_workers=workers).items():
        dropped = count_dropped(chosen)
        parts = table["split"].value_counts()
        counts[name] = {
            "n_listed": len(chosen),
            "dropped": dropped,
            "n_kept": len(table),
            "n_families": int(table["group"].nunique()),
            "splits": {part: int(parts[part]) for part in ("train", "validation", "test")},
        }
        reasons = ", ".join(f"{n} {why}" for why, n in dropped.items()) or "none"
        dealt = ", ".join(f"{n} {part}" for part, n in counts[name]["splits"].items())
        typer.echo(f"{name}: {len(chosen)} listed; dropped: {reasons}")
        typer.echo(f"{name}: {len(table)} kept in {counts[name]['n_families']} families: {dealt}")
        write_tsv(out / f"{name}.tsv", table)
        for part in ("validation", "test"):
            write_tsv(out / f"{name}-{part}.tsv", table[table["split"] == part])
    write_json(out / "counts.json", counts)


def _tables(
    listed: dict[str, pd.DataFrame], *, n_workers: int
) -> dict[str, tuple[pd.DataFrame, pd.DataFrame]]:
    """Return for each set what was listed, with why it was dropped, and its table of pairs."""
    from braindecode_clip.clip.drawings import (
        CLIPART_SHARES,
        STAMP_SHARES,
        drop_near,
        drop_repeats,
        families,
        near_rows,
        pair_table,
        splits,
    )
    from braindecode_clip.io.drawings import look_at_drawings, mirrored

    shares = {"stamps": STAMP_SHARES, "clipart": CLIPART_SHARES}
    thumbnails: dict[str, Any] = {}
    found = {}
    for name, chosen in listed.items():
        digests, seen = look_at_drawings(
            [
                None if why else image
                for image, why in zip(chosen["image"], chosen["dropped"], strict=True)
            ],
            n_workers=n_workers,
        )
        chosen = drop_repeats(chosen, digests)
        if thumbnails:
            stamps = thumbnails["stamps"]
            chosen = drop_near(chosen, seen, [stamps, mirrored(stamps)], why="nearly a stamp")
        is_kept = (chosen["dropped"] == "").to_numpy()
        kept, thumbnails[name] = chosen[is_kept].reset_index(drop=True), seen[is_kept]
        own = thumbnails[name]
        near = [*near_rows(own, own), *near_rows(own, mirrored(own))]
        groups = families(kept, near)
        found[name] = chosen, pair_table(kept, groups, splits(groups, shares[name]))
    return found
