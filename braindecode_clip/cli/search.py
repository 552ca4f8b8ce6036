"""``braindecode-clip search``: texts or pictures to the nearest pictures of a gallery."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from braindecode_clip.cli.encoder_option import load_configured_encoder, read_encoder

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    import pandas as pd

    from braindecode_clip.cli.candidates import Candidates
    from braindecode_clip.clip.queries import Query


def search(
    texts: Annotated[
        list[str] | None, typer.Argument(help="What to look for; each text is a query.")
    ] = None,
    gallery: Annotated[
        Path | None,
        typer.Option(
            help="Where to look: a folder of pictures; a table (TSV: stimulus_id, image); pictures "
            "in HDF5; texts (TXT); or vectors, written by `embed` or `gallery`."
        ),
    ] = None,
    encoder: Annotated[
        str,
        typer.Option(help="scenes, a model folder, or options of `embed` (YAML text or a file)."),
    ] = "scenes",
    image: Annotated[
        list[Path] | None, typer.Option(help="Picture to look for; each is a query.")
    ] = None,
    image_weight: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Look for text and picture together: each text with each picture, of which the "
            "picture has this share.",
        ),
    ] = None,
    queries: Annotated[
        Path | None,
        typer.Option(
            help="File of queries: one text a line (TXT), or a table (TSV) with the columns text, "
            "image, image_weight, negative."
        ),
    ] = None,
    negative: Annotated[
        str | None, typer.Option(help="Words to keep away from, for all queries.")
    ] = None,
    negative_weight: Annotated[
        float, typer.Option(min=0, help="How far to keep away from them.")
    ] = 0.5,
    templates: Annotated[
        str | None,
        typer.Option(
            help="Wordings that texts are put into: simple, generic, openai, or a file with '{}' "
            "in each line; by default the text as it is."
        ),
    ] = None,
    near_duplicates: Annotated[
        float | None,
        typer.Option(min=-1, max=1, help="Instead: list all pairs whose cosine is at least this."),
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(help="Second gallery: near duplicates between the two, not within one."),
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="Candidates listed for each query.")] = 20,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder to write: a table, a page and a picture; by default the table is printed."
        ),
    ] = None,
    text_column: Annotated[
        str | None, typer.Option(help="Column of a table whose texts are the gallery.")
    ] = None,
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
    """Find the pictures that are nearest to a text, to a picture, or to both.

    The search is exact. What was encoded once is kept in an index and found there again.
    """
    from braindecode_clip.errors import ConfigError

    if gallery is None:
        raise ConfigError("search: --gallery is missing. Name a folder, a table or a file.")
    config = read_encoder(encoder)
    get_encoder = functools.cache(lambda: load_configured_encoder(config, device=device))

    def read(path: Path, *, is_asked: bool) -> Candidates:
        from braindecode_clip.cli.candidates import read_candidates
        from braindecode_clip.logs import get_logger, milestone

        with milestone(get_logger(__name__), f"read {path}") as note:
            found = read_candidates(
                path,
                get_encoder,
                cache=cache,
                batch_size=batch_size,
                text_column=text_column,
                dataset=dataset,
                is_asked=is_asked,
            )
            note(f"{len(found)} candidates, {found.n_encoded} of them encoded now")
        return found

    if near_duplicates is not None:
        asked = [*(texts or ()), *(image or ()), queries, negative]
        if any(item is not None for item in asked):
            raise ConfigError("--near-duplicates compares the gallery alone; leave queries out.")
        _duplicates(gallery, against, near_duplicates, read, out)
        return
    if against is not None:
        raise ConfigError("--against belongs to --near-duplicates. Give a threshold.")
    wanted = _queries(texts or [], image or [], image_weight, queries, negative)
    _search(
        wanted, get_encoder(), read(gallery, is_asked=True), templates, negative_weight, top, out
    )


def _queries(
    texts: list[str],
    images: list[Path],
    image_weight: float | None,
    file: Path | None,
    negative: str | None,
) -> list[Query]:
    from braindecode_clip.checks import some
    from braindecode_clip.clip.queries import Query, check_queries
    from braindecode_clip.errors import ConfigError
    from braindecode_clip.io.prompts import read_queries

    files = [text for text in texts if Path(text).is_file()]
    if files:
        raise ConfigError(
            f"search: {some(files)} are files, not words. Give each with an --image of its own."
        )
    if image_weight is not None and not (texts and images):
        raise ConfigError("--image-weight mixes a text with an --image; give both.")
    if image_weight is None:
        found = [Query(text=text, negative=negative) for text in texts]
        found += [Query(image=path, negative=negative) for path in images]
    else:
        found = [Query(t, path, image_weight, negative) for t in texts for path in images]
    if file is not None:
        for row in read_queries(file).itertuples():
            weight = 0.5 if row.image_weight is None else float(row.image_weight)
            found.append(Query(row.text, row.image, weight, row.negative or negative))
    check_queries(found, where="search" if file is None else str(file))
    return found


def read_templates(source: str | None) -> tuple[str, ...]:
    """Return the templates of a set or of a file; those texts as they are by default."""
    from braindecode_clip.clip.prompts import PLACE, SETS, check_templates, templates_named
    from braindecode_clip.io.prompts import read_lines

    if source is None:
        return (PLACE,)
    if source in SETS or not Path(source).suffix:
        return templates_named(source)
    return check_templates(read_lines(source), where=source)


def _search(
    queries: list[Query],
    encoder: Any,
    candidates: Candidates,
    templates: str | None,
    negative_weight: float,
    top: int,
    out: Path | None,
) -> None:
    from braindecode_clip.clip.queries import query_vectors
    from braindecode_clip.logs import get_logger, milestone
    from braindecode_clip.report.search_page import search_page
    from braindecode_clip.retrieve import nearest

    wordings = read_templates(templates)
    with milestone(get_logger(__name__), f"searched for {len(queries)} queries"):
        vectors = query_vectors(
            encoder, queries, templates=wordings, negative_weight=negative_weight
        )
        found = nearest(vectors, candidates.vectors, k=top)
    results = _results(queries, candidates, found.index, found.score)
    rows = found.index.ravel()
    if out is None:
        _print(results)
        return
    page = search_page(
        results,
        asked=[(query.name, query.image) for query in queries],
        pictures=[candidates.picture(row) for row in rows],
        details=[candidates.detail(row) for row in rows],
        n_gallery=len(candidates),
        facts=_facts(encoder.fingerprint, candidates, templates or "the text as it is"),
    )
    _write(out, "results", results, page)


def _results(
    queries: list[Query], candidates: Candidates, index: np.ndarray, score: np.ndarray
) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(
        [
            {
                "query": query.name,
                "rank": rank,
                "id": candidates.ids[row],
                "path": candidates.paths[row] or None,
                "score": float(value),
            }
            for query, rows, values in zip(queries, index, score, strict=True)
            for rank, (row, value) in enumerate(zip(rows, values, strict=True), start=1)
        ]
    )


def _duplicates(
    gallery: Path,
    against: Path | None,
    threshold: float,
    read: Callable[..., Candidates],
    out: Path | None,
) -> None:
    import pandas as pd

    from braindecode_clip.checks import differences
    from braindecode_clip.errors import DataError
    from braindecode_clip.logs import get_logger, milestone
    from braindecode_clip.report.search_page import duplicates_page
    from braindecode_clip.retrieve.duplicates import near_duplicates

    first = read(gallery, is_asked=False)
    second = first if against is None else read(against, is_asked=False)
    parts = differences(first.fingerprint, second.fingerprint)
    if parts:
        raise DataError(
            f"{gallery} and {against}: vectors of two encoders, which cannot be compared; first "
            f"!= second in {'; '.join(parts)}."
        )
    with milestone(get_logger(__name__), f"near duplicates at {threshold:g}") as note:
        pairs = near_duplicates(
            first.vectors,
            threshold=threshold,
            against=None if against is None else second.vectors,
        )
        note(f"{len(pairs)} pairs")
    # Ids of two galleries may be the same; their files' places tell them apart.
    marks = ("", "") if against is None else (f"{gallery}: ", f"{against}: ")
    one, two = pairs["first"].to_numpy(), pairs["second"].to_numpy()
    table = pd.DataFrame(
        {
            "id_1": [marks[0] + str(first.ids[row]) for row in one],
            "path_1": [first.paths[row] or None for row in one],
            "id_2": [marks[1] + str(second.ids[row]) for row in two],
            "path_2": [second.paths[row] or None for row in two],
            "score": pairs["score"].astype(float),
            "group": pairs["group"],
        }
    )
    if out is None:
        _print(table)
        return
    pictures = dict(zip(table["id_1"], map(first.picture, one), strict=True))
    pictures |= dict(zip(table["id_2"], map(second.picture, two), strict=True))
    within = f"{len(first):,} candidates"
    page = duplicates_page(
        table,
        pictures=pictures,
        threshold=threshold,
        n_compared=within if against is None else f"{within} and {len(second):,} others",
        facts=_facts(first.fingerprint, first, "none"),
    )
    _write(out, "pairs", table, page)


def _facts(
    fingerprint: dict[str, Any], candidates: Candidates, templates: str
) -> list[tuple[str, str]]:
    names = ("name", "tag", "weights_sha256", "n_dims", "precision")
    made = ", ".join(f"{name} {fingerprint[name]}" for name in names if name in fingerprint)
    return [
        ("Encoder", made),
        ("Gallery", f"{candidates.origin}, {len(candidates):,} candidates"),
        ("Templates", templates),
    ]


def _print(table: pd.DataFrame) -> None:
    text = table.to_csv(sep="\t", index=False, na_rep="n/a", float_format="%.4f")
    typer.echo(text, nl=False)


def _write(out: Path, name: str, table: pd.DataFrame, page: Any) -> None:
    from braindecode_clip.io.atomic import write_text
    from braindecode_clip.io.images import write_png
    from braindecode_clip.io.tables import write_tsv
    from braindecode_clip.logs import get_logger
    from braindecode_clip.report.grid import build_grid_page
    from braindecode_clip.report.grid_image import draw_grid

    # All made before the first is written, so that a picture that is gone leaves no half result.
    text, drawn = build_grid_page(page), draw_grid(page)
    write_tsv(out / f"{name}.tsv", table)
    write_text(out / f"{name}.html", text)
    write_png(out / f"{name}.png", drawn)
    get_logger(__name__).info("wrote %s.tsv, .html and .png in %s", name, out)
