"""``braindecode-clip gallery``: candidates from elsewhere to vectors with their metadata."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from braindecode_clip.cli.common import options_help, read_options
from braindecode_clip.config.candidates import CandidatesConfig
from braindecode_clip.config.embed import EncoderConfig
from braindecode_clip.errors import DataError

if TYPE_CHECKING:
    from braindecode_clip.artifacts import Gallery
    from braindecode_clip.io.galleries import GallerySource


def gallery(
    candidates: Annotated[
        str, typer.Option(help="What they are (CandidatesConfig): YAML or JSON text, or a file.")
    ],
    out: Annotated[Path, typer.Option(help="File to write (HDF5).")],
    options: Annotated[
        str,
        typer.Option(help="The study's encoder (EncoderConfig): YAML or JSON text, or a file."),
    ],
    state: Annotated[
        Path | None,
        typer.Option(
            help="Folder of parts that are encoded already: a run that was stopped goes on where "
            "it was. Emptied at the end."
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
) -> None:
    """Encode candidates beyond the study's stimuli: pictures or texts."""
    from braindecode_clip.io.hdf5 import save_artifact
    from braindecode_clip.logs import get_logger, milestone
    from braindecode_clip.provenance import make_provenance

    logger = get_logger(__name__)
    wanted = read_options(candidates, CandidatesConfig, flag="--candidates")
    encoder = read_options(options, EncoderConfig)
    with milestone(logger, f"encoded {wanted.source}") as note:
        result = encode_candidates(wanted, encoder, state=state, device=device)
        note(f"{len(result.ids)} {result.modality}s x {result.vectors.shape[1]} dimensions")
    files = [wanted.source, wanted.metadata]
    provenance = make_provenance(
        "gallery",
        options={
            "candidates": wanted.model_dump(mode="json"),
            "encoder": encoder.model_dump(mode="json"),
        },
        inputs=[Path(file) for file in files if file is not None and Path(file).is_file()],
    )
    save_artifact(out, result, provenance)
    logger.info("wrote %s", out)


gallery.__doc__ = f"{gallery.__doc__}\n\n{options_help(CandidatesConfig, EncoderConfig)}"


def encode_candidates(
    wanted: CandidatesConfig,
    encoder: EncoderConfig,
    *,
    state: Path | None = None,
    device: str = "auto",
) -> Gallery:
    """Read candidates and encode them as the study does; vectors are taken as they are."""
    from braindecode_clip.clip.encoders import load_encoder
    from braindecode_clip.embed.candidates import embed_candidates
    from braindecode_clip.io.encoded import is_encoded, load_candidates
    from braindecode_clip.io.galleries import read_gallery
    from braindecode_clip.io.images import picture_source
    from braindecode_clip.io.training_state import TrainingState

    if is_encoded(wanted.source):
        return load_candidates(Path(wanted.source))
    if encoder.kind == "precomputed":
        raise DataError(
            f"{wanted.source}: encoder '{encoder.name}' is a file of vectors and can't encode "
            "anything. Put the candidates into that file, or give a file of `embed`."
        )
    source = read_gallery(
        wanted.source,
        id_column=wanted.id_column,
        image_column=wanted.image_column,
        text_column=wanted.text_column,
        dataset=wanted.dataset,
        metadata=wanted.metadata,
    )
    loaded = load_encoder(
        "scenes" if encoder.kind == "scenes" else str(encoder.model),
        encoder.pretrained,
        device=device,
        weights=encoder.weights,
        quick_gelu=encoder.quick_gelu,
    )
    store = None
    if state is not None:
        key = {
            "encoder": loaded.fingerprint,
            "templates": list(wanted.templates),
            "source": _describe(source),
        }
        store = TrainingState(state, key=key)
    result = embed_candidates(
        loaded,
        source.ids,
        pictures=source.pictures,
        texts=source.texts,
        source=None if source.pictures is None else picture_source,
        templates=wanted.templates,
        metadata=source.metadata,
        origin=source.origin,
        batch_size=wanted.batch_size,
        store=store,
    )
    if store is not None:
        store.remove()
    return result


def _describe(source: GallerySource) -> dict[str, Any]:
    """Tell a source from others, and from itself after a change, without reading the pictures."""
    import hashlib

    path = Path(source.origin)
    files = source.pictures if path.is_dir() and source.pictures is not None else [path]
    marks = [(str(file), *_mark(Path(str(file)))) for file in files]
    text = json.dumps([source.ids.tolist(), marks, source.texts])
    return {"digest": hashlib.sha256(text.encode()).hexdigest()}


def _mark(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns
