"""``braindecode-clip embed``: pictures or captions to target vectors."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from braindecode_clip.cli.common import options_help, read_options
from braindecode_clip.config.embed import EncoderConfig
from braindecode_clip.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from braindecode_clip.artifacts import Embeddings
    from braindecode_clip.clip.encoders import ClipEncoder
    from braindecode_clip.embed.encode import Embedded
    from braindecode_clip.io.shards import VectorShards

_IDS, _IMAGE = "stimulus_id", "image"
#: Between the stimulus and the column in the id of a caption.
_CAPTION_OF = "|"
#: Stimuli of the job on which the precision is checked, evenly spaced in the list.
_N_PROBES = 8
#: Beside the vectors of an unfinished run: the size of its batches.
_UNFINISHED = "unfinished.json"


def embed(
    out: Annotated[Path, typer.Option(help="File to write (HDF5).")],
    options: Annotated[
        str, typer.Option(help="Options as YAML or JSON text, or a file with them.")
    ],
    stimuli: Annotated[
        Path | None,
        typer.Option(
            help="Table of the stimuli (TSV): stimulus_id, image (path beside the table), "
            "caption, or the columns that `caption_columns` names. With precomputed vectors: "
            "every stimulus must be among the names."
        ),
    ] = None,
    cache: Annotated[
        Path | None,
        typer.Option(
            help="Folder of vectors encoded before, for any jobs; only new contents are encoded. "
            "Without it, the vectors of an unfinished run lie beside the output until it is done."
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    threads: Annotated[
        int | None,
        typer.Option(min=1, help="Threads; torch's own choice by default (OMP_NUM_THREADS)."),
    ] = None,
) -> None:
    """Turn pictures or captions into CLIP vectors, or read vectors from a file.

    Every batch is kept as soon as it is encoded: a run that was stopped goes on where it was.
    """
    from braindecode_clip.io.hdf5 import save_artifact
    from braindecode_clip.logs import get_logger, milestone
    from braindecode_clip.provenance import make_provenance

    logger = get_logger(__name__)
    config = read_options(options, EncoderConfig)
    if config.targets != "pooled":
        from braindecode_clip.cli.embed_tokens import embed_tokens

        embed_tokens(config, stimuli, out=out, device=device)
        return
    parts = out.with_name(f".{out.name}.parts")
    contents: dict[str, str] = {}
    with milestone(logger, f"embedded with {config.name}") as note:
        if config.kind == "precomputed":
            result = _precomputed(config, stimuli)
        else:
            found = _encoded(config, stimuli, cache or parts, device=device, threads=threads)
            contents = {f"{key}s": item.contents_sha256 for key, item in found.items()}
            result = _joined(config, found)
            note(f"{sum(item.n_encoded for item in found.values())} encoded now")
        note(f"{result.vectors.shape[0]} {result.modality}s x {result.vectors.shape[1]} dims")
    files = [stimuli, config.vectors, config.names]
    provenance = make_provenance(
        "embed",
        options=config.model_dump(mode="json"),
        inputs=[Path(file) for file in files if file is not None],
    )
    provenance = dataclasses.replace(provenance, inputs={**provenance.inputs, **contents})
    save_artifact(out, result, provenance)
    if cache is None:
        shutil.rmtree(parts, ignore_errors=True)
    logger.info("wrote %s", out)


embed.__doc__ = f"{embed.__doc__}\n\n{options_help(EncoderConfig)}"


def encoder_of(config: EncoderConfig, *, device: str) -> ClipEncoder:
    """Load the encoder that the options name."""
    from braindecode_clip.clip.encoders import load_encoder
    from braindecode_clip.clip.registry import registry_name

    return load_encoder(
        registry_name(config.kind, config.model),
        config.pretrained,
        device=device,
        weights=config.weights,
        quick_gelu=config.quick_gelu,
        tokenizer=config.tokenizer,
        unit_norm=config.unit_norm,
    )


def _encoded(
    config: EncoderConfig, stimuli: Path | None, cache: Path, *, device: str, threads: int | None
) -> dict[str, Embedded]:
    """Encode pictures, captions or both; captions have ids ``stimulus|column``."""
    import torch

    from braindecode_clip.clip.forward import side_by_side
    from braindecode_clip.io.shards import VectorShards

    if stimuli is None:
        raise DataError(
            f"encoder '{config.name}': no stimuli. Pass --stimuli with the table of pictures."
        )
    work = {key: _items(config, stimuli, key) for key in config.modalities}
    if threads is not None:
        torch.set_num_threads(threads)
    encoder = encoder_of(config, device=device)
    n_readers = threads or max(1, torch.get_num_threads())
    _settle_precision(config, encoder, {key: items for key, (_, items) in work.items()})
    text = json.dumps(encoder.fingerprint, sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    found = {}
    for modality, (ids, items) in work.items():
        store = VectorShards(cache / f"{digest}_{modality}", encoder.n_dims)
        with side_by_side(encoder.device) as n_encoders:
            found[modality] = _embed(
                config,
                encoder,
                items,
                ids,
                modality=modality,
                store=store,
                n_readers=n_readers,
                n_encoders=n_encoders,
            )
    return found


def _items(
    config: EncoderConfig, stimuli: Path, modality: Literal["image", "text"]
) -> tuple[list[str], list[Any]]:
    """Return ids and items: a path for each stimulus, or every caption that is there."""
    if modality == "image":
        table = read_stimuli(stimuli, [_IMAGE])
        return table[_IDS].tolist(), [stimuli.parent / name for name in table[_IMAGE]]
    table = read_stimuli(stimuli, config.caption_columns)
    cells = [
        (f"{row[_IDS]}{_CAPTION_OF}{column}", row[column])
        for _, row in table.iterrows()
        for column in config.caption_columns
        if isinstance(row[column], str)
    ]
    return [name for name, _ in cells], [text for _, text in cells]


def _joined(config: EncoderConfig, found: dict[str, Embedded]) -> Embeddings:
    """Return one target for each stimulus."""
    import numpy as np

    from braindecode_clip.embed.combine import join_captions, join_modalities

    if "text" not in found:
        return found["image"].embeddings
    captions = found["text"].embeddings
    owners = [name.rpartition(_CAPTION_OF)[0] for name in captions.ids]
    ids = list(dict.fromkeys(owners))
    rows = {name: row for row, name in enumerate(ids)}
    owner = np.array([rows[name] for name in owners], dtype=np.int64)
    text = join_captions(captions, owner, ids, how=config.captions)
    if "image" not in found:
        return text
    image = found["image"].embeddings
    return join_modalities(image, text, how=config.combine, text_weight=config.text_weight)


def _embed(
    config: EncoderConfig,
    encoder: ClipEncoder,
    items: Sequence[Any],
    ids: Sequence[str],
    *,
    modality: Literal["image", "text"],
    store: VectorShards,
    n_readers: int,
    n_encoders: int,
) -> Embedded:
    from braindecode_clip.embed.encode import embed_images, embed_texts
    from braindecode_clip.io.images import picture_source
    from braindecode_clip.logs import get_logger

    batch_size = _batch_size(
        config, encoder, len(items), modality=modality, store=store, n_encoders=n_encoders
    )
    how = {"batch_size": batch_size, "cache": store, "n_encoders": n_encoders}
    try:
        if modality == "image":
            embedded = embed_images(
                encoder, items, ids, source=picture_source, n_readers=n_readers, **how
            )
        else:
            embedded = embed_texts(encoder, items, ids, **how)
    except (DataError, KeyboardInterrupt):
        get_logger(__name__).info(
            "%d vectors are kept in %s; the next start takes them from there",
            len(store),
            store.folder,
        )
        raise
    store.merge()
    (store.folder / _UNFINISHED).unlink(missing_ok=True)
    return embedded


def _batch_size(
    config: EncoderConfig,
    encoder: ClipEncoder,
    n_items: int,
    *,
    modality: Literal["image", "text"],
    store: VectorShards,
    n_encoders: int,
) -> int:
    """Return the size asked for, or that of the unfinished run, or what fits.

    The free memory may be another at the second start, and the batches must not be.
    """
    from braindecode_clip.clip.batch_size import choose_batch_size
    from braindecode_clip.io.atomic import write_json
    from braindecode_clip.logs import get_logger

    if config.batch_size != "auto":
        return config.batch_size
    run = {"device": str(encoder.device), "n_items": n_items, "n_encoders": n_encoders}
    path = store.folder / _UNFINISHED
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        size = int(found.pop("batch_size"))
        if found == run and size >= 1:
            return size
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        # None there, or one that was damaged: what fits is asked anew.
        pass
    size = choose_batch_size(encoder, n_items, modality, n_encoders=n_encoders)
    write_json(path, {**run, "batch_size": size})
    get_logger(__name__).info("batches of %d, %d side by side", size, n_encoders)
    return size


def _settle_precision(
    config: EncoderConfig, encoder: ClipEncoder, items: dict[str, list[Any]]
) -> None:
    from braindecode_clip.clip.precision import settle_precision
    from braindecode_clip.io.images import picture_source

    # The small model of the project gains nothing, and its vectors are the same everywhere.
    wanted = "fp32" if config.kind == "scenes" else config.precision
    if wanted == "fp32":
        return
    probes = {key: part[:: max(1, len(part) // _N_PROBES)] for key, part in items.items()}
    pictures: list[np.ndarray] = []
    for item in probes.get("image", [])[:_N_PROBES]:
        try:
            pictures.append(encoder.prepare_image(picture_source(item)[1]()))
        except DataError:
            # It is named with all other damaged pictures at the end.
            continue
    texts = probes.get("text", [])[:_N_PROBES]
    settle_precision(encoder, wanted, pictures=pictures, texts=texts)


def read_stimuli(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """Read the table; of ``columns`` at least one must be filled in every line."""
    from braindecode_clip.checks import Problems, some
    from braindecode_clip.io.tables import read_tsv

    needed = list(dict.fromkeys([_IDS, *columns]))
    table = read_tsv(path, required=needed, text=needed)
    problems = Problems(str(path))
    twice = table[_IDS][table[_IDS].duplicated()]
    if len(twice):
        problems.add(f"stimulus_id must be unique; more than once: {some(twice)}.")
    blank = table[list(columns)].isna().all(axis=1)
    empty = table.index[table[_IDS].isna() | blank]
    if len(empty):
        lines = [int(row) + 2 for row in empty]
        names = " and ".join(f"'{column}'" for column in columns)
        problems.add(f"'{_IDS}' or {names} is empty in the lines {some(lines)}. Fill them.")
    if not len(table):
        problems.add("has no rows.")
    problems.raise_if_any()
    return table


def _precomputed(config: EncoderConfig, stimuli: Path | None) -> Embeddings:
    from braindecode_clip.embed.precomputed import precomputed_embeddings
    from braindecode_clip.io.vectors import read_vectors
    from braindecode_clip.provenance import file_sha256

    path = Path(str(config.vectors))
    vectors, names = read_vectors(
        path,
        names=None if config.names is None else Path(config.names),
        names_column=config.names_column,
        vectors_key=config.vectors_key,
        names_key=config.names_key,
    )
    digests = [file_sha256(file) for file in (path, config.names) if file is not None]
    sha256 = hashlib.sha256("".join(digests).encode()).hexdigest()
    try:
        result = precomputed_embeddings(
            vectors, names, modality=config.modality, sha256=sha256, source=config.source
        )
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    if stimuli is not None:
        result.rows(read_stimuli(stimuli, [_IDS])[_IDS].to_numpy())
    return result
