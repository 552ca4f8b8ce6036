"""``braindecode-clip audit``: did adapting the encoder help decoding?"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from braindecode_clip.cli.common import options_help, read_options
from braindecode_clip.config.adaptations import AuditConfig
from braindecode_clip.errors import ConfigError

if TYPE_CHECKING:
    from braindecode_clip.artifacts import Embeddings
    from braindecode_clip.audit.compare import Compared
    from braindecode_clip.audit.places import Place, Side

_STIMULI_COLUMNS = ("stimulus_id", "image")
_TRUE = ("true", "1", "1.0", "yes")


def audit(
    pair: Annotated[
        list[str],
        typer.Option(help="ADAPTED=ORIGINAL: labels of two encoders; once for each adapted one."),
    ],
    retrieval: Annotated[
        list[Path],
        typer.Option(
            help="Ranks, brain to image, from `retrieve`; of every subject, ROI, split, decoder, "
            "gallery and encoder."
        ),
    ],
    predictions: Annotated[list[Path], typer.Option(help="Predictions, from `decode`.")],
    embeddings: Annotated[
        list[str], typer.Option(help="ENCODER=FILE: embeddings, from `embed`; of each encoder.")
    ],
    leakage: Annotated[
        list[str],
        typer.Option(
            help="ADAPTED=FILE: leakage.json of each adapted model, from `clip train --forbid`."
        ),
    ],
    stimuli: Annotated[Path, typer.Option(help="Table of the stimuli: stimulus_id, image.")],
    seed: Annotated[int, typer.Option(help="Seed of exchanges, resamples and synthetic noise.")],
    out: Annotated[Path, typer.Option(help="File to write (JSON).")],
    reverse: Annotated[
        list[Path] | None, typer.Option(help="Ranks, image to brain; once for each.")
    ] = None,
    out_table: Annotated[
        Path | None, typer.Option(help="The rows of the JSON as a table too (TSV).")
    ] = None,
    options: Annotated[
        str | None, typer.Option(help="Options as YAML or JSON text, or a file with them.")
    ] = None,
) -> None:
    """Compare decoding with an adapted and with the original encoder on the same test samples.

    Refused: models of which it is not known that they saw no test stimulus, and results that are
    not of the same trials, candidates and split.
    """
    from dataclasses import asdict

    import pandas as pd

    from braindecode_clip.audit import audit as put_together
    from braindecode_clip.constants import SCHEMA_VERSION
    from braindecode_clip.io.atomic import write_json
    from braindecode_clip.io.tables import write_tsv
    from braindecode_clip.logs import get_logger, milestone
    from braindecode_clip.provenance import make_provenance

    logger = get_logger(__name__)
    config = read_options(options, AuditConfig)
    pairs = _named(pair, "--pair")
    files = _Files.of(
        [*retrieval, *(reverse or [])], predictions, _named(embeddings, "--embeddings")
    )
    records = _named(leakage, "--leakage")
    with milestone(logger, "audited") as note:
        table = _read_stimuli(stimuli, config.held_out_column)
        seen = _check_records(pairs, records, files, table)
        result = put_together(
            _compared(pairs, files, options=config, seed=seed),
            held_out=table.held_out,
            options=config,
            seed=seed,
        )
        note(f"{len(pairs)} adapted encoders, {len(result.rows)} comparisons")
    for item in result.findings:
        logger.info("%s", item["sentence"])
    inputs = [*files.ranked, *predictions, *files.embeddings.values(), stimuli]
    provenance = make_provenance(
        "audit",
        options=config.model_dump(mode="json"),
        inputs=[*inputs, *(Path(path) for path in records.values())],
        seed=seed,
    )
    if out_table is not None:
        write_tsv(out_table, pd.DataFrame(result.rows))
    write_json(
        out,
        {
            "schema_version": SCHEMA_VERSION,
            "provenance": asdict(provenance),
            "rows": result.rows,
            "findings": result.findings,
            "leakage": seen,
            "notes": result.notes,
        },
    )
    logger.info("wrote %s", out)


audit.__doc__ = f"{audit.__doc__}\n\n{options_help(AuditConfig)}"


def _named(values: list[str], flag: str) -> dict[str, str]:
    """Read ``NAME=VALUE`` options."""
    wrong = [value for value in values if not all(value.partition("="))]
    if wrong:
        raise ConfigError(f"{flag} {wrong[0]}: expected NAME=VALUE.")
    return dict(value.split("=", 1) for value in values)


@dataclass(frozen=True)
class _Files:
    """Which file holds what, by its labels.

    Attributes
    ----------
    ranked : dict of Path to (encoder, place, direction)
    stimuli : dict of str to set of str
        Encoder to its test stimuli.
    predictions : dict of (encoder, split, subject, roi, decoder) to Path
    embeddings : dict of str to Path
    """

    ranked: dict[Path, tuple[str, Place, str]]
    stimuli: dict[str, set[str]]
    predictions: dict[tuple[str, ...], Path]
    embeddings: dict[str, Path]

    @classmethod
    def of(cls, ranked: list[Path], predictions: list[Path], embeddings: dict[str, str]) -> _Files:
        """Look at the labels in every file."""
        from braindecode_clip.artifacts import Predictions, Retrieval
        from braindecode_clip.audit.places import place_of
        from braindecode_clip.io.hdf5 import open_artifact, open_vectors

        found, stimuli = {}, {}
        for path in ranked:
            with open_artifact(path, Retrieval, lazy=("similarity",)) as item:
                encoder = str(item.info.get("encoder", ""))
                found[path] = (encoder, place_of(item.info), item.direction)
                shown = set(item.queries["stimulus_id"].astype(str))
                stimuli[encoder] = stimuli.get(encoder, set()) | shown
        predicted = {}
        for path in predictions:
            with open_vectors(path, Predictions) as item:
                predicted[_fit_of(item.info)] = path
        return cls(found, stimuli, predicted, {k: Path(v) for k, v in embeddings.items()})


def _fit_of(info: Mapping[str, Any]) -> tuple[str, ...]:
    keys = ("encoder", "split", "subject", "roi", "decoder")
    return tuple(str(info.get(key, "")) for key in keys)


@dataclass(frozen=True)
class _Stimuli:
    """The stimuli's table: pictures, and which are held out."""

    where: Path
    pictures: dict[str, Path]
    held_out: frozenset[str]


def _read_stimuli(path: Path, column: str) -> _Stimuli:
    from braindecode_clip.io.tables import read_tsv

    table = read_tsv(path, required=_STIMULI_COLUMNS, text=[*_STIMULI_COLUMNS, column])
    flagged = frozenset()
    if column in table:
        is_true = table[column].astype(str).str.lower().isin(_TRUE)
        flagged = frozenset(table.loc[is_true, "stimulus_id"].astype(str))
    pictures = {
        str(name): path.parent / str(image)
        for name, image in zip(table["stimulus_id"], table["image"], strict=True)
        if isinstance(image, str)
    }
    return _Stimuli(path, pictures, flagged)


def _check_records(
    pairs: dict[str, str], records: dict[str, str], files: _Files, stimuli: _Stimuli
) -> dict[str, Any]:
    """Refuse adapted models that may have seen a test stimulus; return their records in short."""
    from braindecode_clip.artifacts import Embeddings
    from braindecode_clip.audit.places import check_record
    from braindecode_clip.checks import Problems, some
    from braindecode_clip.clip.overlap import pixel_digest
    from braindecode_clip.io.hdf5 import open_vectors
    from braindecode_clip.io.images import read_picture
    from braindecode_clip.io.tables import read_json

    problems = Problems("audit")
    tested = sorted(set().union(*(files.stimuli.get(name, set()) for name in pairs)))
    unknown = [name for name in tested if name not in stimuli.pictures]
    if unknown:
        problems.add(
            f"{stimuli.where}: lacks the pictures of {some(unknown)}, so nothing says whether a "
            "model was trained on them. Add them."
        )
    lacking = sorted({*pairs, *pairs.values()} - files.embeddings.keys())
    if lacking:
        problems.add(f"no --embeddings of the encoders {some(lacking)}.")
    problems.raise_if_any()
    digests = {name: pixel_digest(read_picture(stimuli.pictures[name])) for name in tested}
    found = {}
    for adapted in pairs:
        with open_vectors(files.embeddings[adapted], Embeddings) as item:
            weights = _weights_of(item.fingerprint)
        path = records.get(adapted)
        record = read_json(path) if path is not None and Path(path).is_file() else None
        found[adapted] = check_record(adapted, record, weights_sha256=weights, tested=digests)
    return found


def _weights_of(fingerprint: Mapping[str, Any]) -> str:
    """Return the weights' hash, which stands deeper where pictures and captions are joined."""
    if "weights_sha256" in fingerprint:
        return str(fingerprint["weights_sha256"])
    inner = [_weights_of(part) for part in fingerprint.values() if isinstance(part, Mapping)]
    return next((value for value in inner if value), "")


def _compared(
    pairs: dict[str, str], files: _Files, *, options: AuditConfig, seed: int
) -> Iterator[Compared]:
    """Read both sides of every place, one after another, and compare them."""
    from braindecode_clip.artifacts import Embeddings
    from braindecode_clip.audit.common_space import SpaceMap
    from braindecode_clip.audit.compare import compare
    from braindecode_clip.audit.places import said
    from braindecode_clip.checks import Problems
    from braindecode_clip.io.hdf5 import load_artifact

    by_side: dict[tuple[str, Place], dict[str, Path]] = {}
    for path, (encoder, place, direction) in files.ranked.items():
        by_side.setdefault((encoder, place), {})[direction] = path
    for adapted, original in pairs.items():
        problems = Problems(f"audit, {adapted} against {original}")
        places = [place for encoder, place in by_side if encoder == adapted]
        wanted = options.decoders
        if not isinstance(wanted, str):
            places = [place for place in places if place[4] in wanted]
        if not places:
            problems.add("no ranks of the adapted encoder were given.")
        for place in places:
            if (original, place) not in by_side:
                problems.add(f"no ranks of the original encoder for {said(place)}.")
        problems.raise_if_any()
        targets = {
            name: load_artifact(files.embeddings[name], Embeddings) for name in (original, adapted)
        }
        maps = None
        if options.common_space and not any(item.has_tokens for item in targets.values()):
            maps = (
                SpaceMap(targets[adapted], targets[original]),
                SpaceMap(targets[original], targets[adapted]),
            )
        for place in places:
            with contextlib.ExitStack() as stack:
                sides = [
                    _read_side(stack, name, place, by_side[name, place], files, targets[name])
                    for name in (original, adapted)
                ]
                yield from compare(
                    (original, adapted), place, *sides, maps=maps, options=options, seed=seed
                )


def _read_side(
    stack: contextlib.ExitStack,
    encoder: str,
    place: Place,
    ranked: dict[str, Path],
    files: _Files,
    targets: Embeddings,
) -> Side:
    """Read ranks and predictions; those that saw a test stimulus are refused."""
    from braindecode_clip.artifacts import Predictions, Retrieval
    from braindecode_clip.audit.places import KEYS, Side, said
    from braindecode_clip.errors import DataError
    from braindecode_clip.evaluate.sentinel import check_fitted
    from braindecode_clip.io.hdf5 import load_artifact, open_artifact

    info = dict(zip(KEYS, place, strict=True)) | {"encoder": encoder}
    path = files.predictions.get(_fit_of(info))
    if path is None:
        raise DataError(f"audit: no predictions of encoder {encoder} for {said(place)}.")
    predictions = load_artifact(path, Predictions)
    found = {
        direction: stack.enter_context(open_artifact(file, Retrieval, lazy=("similarity",)))
        for direction, file in ranked.items()
    }
    check_fitted(predictions, list(found.values()), required=True)
    return Side(found, predictions, targets)
