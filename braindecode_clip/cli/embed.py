"""``braindecode-clip embed``: pictures or captions to target vectors."""

from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from braindecode_clip.cli.common import options_help, read_options
from braindecode_clip.config.embed import EncoderConfig
from braindecode_clip.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from braindecode_clip.artifacts import Embeddings

_IDS, _IMAGE, _CAPTION = "stimulus_id", "image", "caption"


def embed(
    out: Annotated[Path, typer.Option(help="File to write (HDF5).")],
    options: Annotated[
        str, typer.Option(help="Options as YAML or JSON text, or a file with them.")
    ],
    stimuli: Annotated[
        Path | None,
        typer.Option(
            help="Table of the stimuli (TSV): stimulus_id, image (path beside the table), "
            "caption. With precomputed vectors: every stimulus must be among the names."
        ),
    ] = None,
    cache: Annotated[
        Path | None,
        typer.Option(help="Folder of vectors encoded before; only new pictures are encoded."),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
) -> None:
    """Turn pictures or captions into CLIP vectors, or read vectors from a file."""
    from braindecode_clip.io.hdf5 import save_artifact
    from braindecode_clip.logs import get_logger, milestone
    from braindecode_clip.provenance import make_provenance

    logger = get_logger(__name__)
    config = read_options(options, EncoderConfig)
    if config.targets != "pooled":
        from braindecode_clip.cli.embed_tokens import embed_tokens

        embed_tokens(config, stimuli, out=out, device=device)
        return
    with milestone(logger, f"embedded with {config.name}") as note:
        if config.kind == "precomputed":
            result = _precomputed(config, stimuli)
        else:
            result = _encoded(config, stimuli, cache, device)
        note(f"{result.vectors.shape[0]} {result.modality}s x {result.vectors.shape[1]} dims")
    files = [stimuli, config.vectors, config.names]
    provenance = make_provenance(
        "embed",
        options=config.model_dump(mode="json"),
        inputs=[Path(file) for file in files if file is not None],
    )
    save_artifact(out, result, provenance)
    logger.info("wrote %s", out)


embed.__doc__ = f"{embed.__doc__}\n\n{options_help(EncoderConfig)}"


def _encoded(
    config: EncoderConfig, stimuli: Path | None, cache: Path | None, device: str
) -> Embeddings:
    from braindecode_clip.clip.encoders import load_encoder
    from braindecode_clip.embed.encode import embed_images, embed_texts

    if stimuli is None:
        raise DataError(
            f"encoder '{config.name}': no stimuli. Pass --stimuli with the table of pictures."
        )
    column = _IMAGE if config.modality == "image" else _CAPTION
    table = read_stimuli(stimuli, column)
    encoder = load_encoder(
        "scenes" if config.kind == "scenes" else str(config.model),
        config.pretrained,
        device=device,
        weights=config.weights,
        quick_gelu=config.quick_gelu,
    )
    ids = table[_IDS].tolist()
    known = _read_cache(cache, encoder.fingerprint, config.modality)
    n_known = len(known)
    if config.modality == "image":
        pictures = [stimuli.parent / name for name in table[_IMAGE]]
        result = embed_images(encoder, pictures, ids, batch_size=config.batch_size, cache=known)
    else:
        captions = table[_CAPTION].tolist()
        result = embed_texts(encoder, captions, ids, batch_size=config.batch_size, cache=known)
    if len(known) > n_known:
        _write_cache(cache, encoder.fingerprint, config.modality, known)
    return result


def read_stimuli(path: Path, column: str) -> pd.DataFrame:
    """Read the table of stimuli: stimulus_id and a column; every fault in one message."""
    from braindecode_clip.checks import Problems, some
    from braindecode_clip.io.tables import read_tsv

    table = read_tsv(path, required=[_IDS, column], text=[_IDS, column])
    problems = Problems(str(path))
    twice = table[_IDS][table[_IDS].duplicated()]
    if len(twice):
        problems.add(f"stimulus_id must be unique; more than once: {some(twice)}.")
    empty = table.index[table[_IDS].isna() | table[column].isna()]
    if len(empty):
        lines = [int(row) + 2 for row in empty]
        problems.add(f"'{_IDS}' or '{column}' is empty in the lines {some(lines)}. Fill them.")
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
        result.rows(read_stimuli(stimuli, _IDS)[_IDS].to_numpy())
    return result


def _cache_file(folder: Path, fingerprint: dict[str, Any], modality: str) -> Path:
    text = json.dumps(fingerprint, sort_keys=True)
    return folder / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}_{modality}.npz"


def _read_cache(
    folder: Path | None, fingerprint: dict[str, Any], modality: str
) -> dict[str, np.ndarray]:
    """Return the vectors by content hash; a damaged cache counts as empty."""
    import numpy as np

    if folder is None:
        return {}
    path = _cache_file(folder, fingerprint, modality)
    if not path.is_file():
        return {}
    try:
        # numpy leaves a damaged archive open when it opens the file itself.
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as content:
            return dict(zip(content["keys"].tolist(), content["vectors"], strict=True))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        from braindecode_clip.logs import get_logger

        get_logger(__name__).warning("%s: damaged; everything is encoded again", path)
        return {}


def _write_cache(
    folder: Path | None, fingerprint: dict[str, Any], modality: str, known: dict[str, np.ndarray]
) -> None:
    import numpy as np

    from braindecode_clip.io.atomic import atomic_path

    if folder is None:
        return
    with atomic_path(_cache_file(folder, fingerprint, modality)) as temporary:
        np.savez(temporary, keys=np.array(list(known)), vectors=np.stack(list(known.values())))
