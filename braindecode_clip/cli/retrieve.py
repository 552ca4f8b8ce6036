"""``braindecode-clip retrieve``: predictions and candidates to ranks, in both directions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from braindecode_clip.cli.common import options_help, read_options
from braindecode_clip.config.retrieve import GalleryConfig, RetrieveConfig


def retrieve(
    predictions: Annotated[Path, typer.Option(help="Predictions, written by `decode`.")],
    embeddings: Annotated[
        Path, typer.Option(help="The embeddings that the decoder was trained on.")
    ],
    gallery: Annotated[
        str, typer.Option(help="The candidates (GalleryConfig): YAML or JSON text, or a file.")
    ],
    out: Annotated[
        Path, typer.Option(help="File to write (HDF5): each brain sample ranks the candidates.")
    ],
    out_reverse: Annotated[
        Path | None,
        typer.Option(help="File to write (HDF5): each shown picture ranks the brain samples."),
    ] = None,
    options: Annotated[
        str | None, typer.Option(help="Options as YAML or JSON text, or a file with them.")
    ] = None,
) -> None:
    """Rank candidates by their similarity to each prediction."""
    from braindecode_clip.artifacts import Embeddings, Predictions
    from braindecode_clip.io.hdf5 import open_vectors, save_artifact
    from braindecode_clip.logs import get_logger, milestone
    from braindecode_clip.provenance import make_provenance
    from braindecode_clip.retrieve import gallery_ids
    from braindecode_clip.retrieve import retrieve as rank_candidates

    logger = get_logger(__name__)
    config = read_options(options, RetrieveConfig)
    chosen = read_options(gallery, GalleryConfig, flag="--gallery")
    files = {"brain_to_image": out, "image_to_brain": out_reverse}
    with (
        open_vectors(predictions, Predictions) as predicted,
        open_vectors(embeddings, Embeddings) as targets,
        milestone(logger, f"ranked gallery {chosen.name}") as note,
    ):
        ids = gallery_ids(predicted, targets, candidates=chosen.candidates, ids=chosen.ids)
        found = {
            path: rank_candidates(
                predicted,
                targets,
                ids,
                direction=direction,
                gallery=chosen.name,
                similarity=config.similarity,
                n_top=config.n_top,
            )
            for direction, path in files.items()
            if path is not None
        }
        note(f"{len(predicted.stimulus_id)} brain samples x {len(ids)} candidates")
    provenance = make_provenance(
        "retrieve",
        options={
            "gallery": chosen.model_dump(mode="json"),
            "retrieve": config.model_dump(mode="json"),
        },
        inputs=[predictions, embeddings],
    )
    for path, retrieval in found.items():
        save_artifact(path, retrieval, provenance)
        logger.info("wrote %s", path)


retrieve.__doc__ = f"{retrieve.__doc__}\n\n{options_help(RetrieveConfig, GalleryConfig)}"
