"""``braindecode-clip retrieve``: predictions and candidates to ranks, in both directions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from braindecode_clip.cli.common import options_help, read_options
from braindecode_clip.config.retrieve import (
    CandidateSetsConfig,
    CorrectionConfig,
    GalleryConfig,
    RerankConfig,
    RetrieveConfig,
)
from braindecode_clip.errors import ConfigError

if TYPE_CHECKING:
    from braindecode_clip.artifacts import Predictions
    from braindecode_clip.config.nearest import SearchConfig
    from braindecode_clip.retrieve.token_order import TokenOrder


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
    distractors: Annotated[
        Path | None,
        typer.Option(help="More candidates, written by `gallery` or `embed`: the gallery's."),
    ] = None,
    token_predictions: Annotated[
        Path | None,
        typer.Option(help="Predicted tokens of the same samples, for the gallery's `rerank`."),
    ] = None,
    token_embeddings: Annotated[
        Path | None, typer.Option(help="The tokens that their decoder was trained on.")
    ] = None,
    decoder: Annotated[
        Path | None,
        typer.Option(
            help="The decoder: its predictions of held-out training samples make corrections and "
            "candidate sets."
        ),
    ] = None,
    voxels: Annotated[
        Path | None, typer.Option(help="The voxels that the decoder was fitted on.")
    ] = None,
    options: Annotated[
        str | None, typer.Option(help="Options as YAML or JSON text, or a file with them.")
    ] = None,
) -> None:
    """Rank candidates by their similarity to each prediction."""
    from braindecode_clip.artifacts import Embeddings, Predictions
    from braindecode_clip.io.encoded import load_candidates
    from braindecode_clip.io.hdf5 import open_vectors, save_artifact
    from braindecode_clip.logs import get_logger, milestone
    from braindecode_clip.provenance import make_provenance
    from braindecode_clip.retrieve import average_repeats, gallery_ids
    from braindecode_clip.retrieve import retrieve as rank_candidates

    logger = get_logger(__name__)
    common = read_options(options, RetrieveConfig)
    chosen = read_options(gallery, GalleryConfig, flag="--gallery")
    config = own_options(chosen, common)
    if (chosen.distractors is None) != (distractors is None):
        raise ConfigError(
            "--distractors: give the encoded candidates exactly where the gallery has "
            "`distractors`; `braindecode-clip gallery` encodes them."
        )
    _check_token_files(chosen, token_predictions, token_embeddings)
    more = None if distractors is None else load_candidates(distractors)
    training, inputs = training_predictions(
        decoder, voxels, needed=config.needs_training, config=config
    )
    files = {"brain_to_image": out, "image_to_brain": out_reverse}
    with (
        open_vectors(predictions, Predictions) as predicted,
        open_vectors(embeddings, Embeddings) as targets,
        opened_tokens(
            chosen, token_predictions, token_embeddings, common=config, pooled=predicted
        ) as tokens,
        milestone(logger, f"ranked gallery {chosen.name}") as note,
    ):
        if config.average_predictions:
            predicted = average_repeats(predicted)
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
                distractors=more,
                correction=config.correction,
                sets=config.candidate_sets,
                training=training,
                rerank=tokens,
            )
            for direction, path in files.items()
            if path is not None
        }
        n_gallery = len(ids) if more is None else f"{len(ids)} + {len(more.ids)}"
        note(f"{len(predicted.stimulus_id)} brain samples x {n_gallery} candidates")
    provenance = make_provenance(
        "retrieve",
        options={
            "gallery": chosen.model_dump(mode="json"),
            "retrieve": config.model_dump(mode="json"),
        },
        inputs=[
            path
            for path in (predictions, embeddings, distractors, token_predictions, token_embeddings)
            if path is not None
        ]
        + inputs,
    )
    for path, retrieval in found.items():
        save_artifact(path, retrieval, provenance)
        logger.info("wrote %s", path)


retrieve.__doc__ = f"{retrieve.__doc__}\n\n" + options_help(
    RetrieveConfig, GalleryConfig, RerankConfig, CorrectionConfig, CandidateSetsConfig
)


def _check_token_files(
    chosen: GalleryConfig, predictions: Path | None, embeddings: Path | None
) -> None:
    given = {"--token-predictions": predictions, "--token-embeddings": embeddings}
    wrong = [flag for flag, path in given.items() if (path is None) != (chosen.rerank is None)]
    if wrong and chosen.rerank is None:
        raise ConfigError(
            f"{', '.join(wrong)}: gallery '{chosen.name}' has no `rerank`. Add it, or leave the "
            "files out."
        )
    if wrong:
        raise ConfigError(
            f"{', '.join(wrong)}: missing. Gallery '{chosen.name}' has `rerank`: give what "
            f"decoder '{chosen.rerank.decoder or 'of the same name'}' predicted of encoder "
            f"'{chosen.rerank.encoder}', and that encoder's embeddings."
        )


@contextmanager
def opened_tokens(
    chosen: GalleryConfig,
    predictions: Path | None,
    embeddings: Path | None,
    *,
    common: RetrieveConfig,
    pooled: Predictions,
) -> Iterator[TokenOrder | None]:
    """Open the tokens that a gallery is re-ranked by; None where it isn't."""
    from braindecode_clip.artifacts import Embeddings, Predictions
    from braindecode_clip.io.hdf5 import open_vectors
    from braindecode_clip.retrieve import average_repeats
    from braindecode_clip.retrieve.token_order import TokenOrder

    if chosen.rerank is None or predictions is None or embeddings is None:
        yield None
        return
    with (
        open_vectors(predictions, Predictions) as predicted,
        open_vectors(embeddings, Embeddings) as targets,
    ):
        yield TokenOrder(
            average_repeats(predicted) if common.average_predictions else predicted,
            targets,
            encoder=chosen.rerank.encoder,
            decoder=chosen.rerank.decoder or str(pooled.info.get("decoder", "")),
            shortlist=chosen.rerank.shortlist,
        )


def own_options(chosen: GalleryConfig | SearchConfig, common: RetrieveConfig) -> RetrieveConfig:
    """Return the options of a gallery or search; a hidden transduction is a ConfigError."""
    try:
        return chosen.options(common)
    except ValueError as error:
        raise ConfigError(f"{error}.") from error


def training_predictions(
    decoder: Path | None, voxels: Path | None, *, needed: bool, config: RetrieveConfig
) -> tuple[Predictions | None, list[Path]]:
    """Read what a decoder predicted of held-out training samples, where that is needed.

    Returns
    -------
    training : Predictions or None
        Averaged over repeats where the test predictions are.
    inputs : list of Path
        The files that were read.
    """
    from braindecode_clip.artifacts import VoxelSet
    from braindecode_clip.decode import FittedDecoder
    from braindecode_clip.decode.held_out import held_out_predictions
    from braindecode_clip.io.hdf5 import load_artifact
    from braindecode_clip.retrieve import average_repeats

    if not needed:
        return None, []
    if decoder is None or voxels is None:
        raise ConfigError(
            "corrections from training predictions and candidate sets need the decoder and the "
            "voxels that it was fitted on: pass --decoder and --voxels, or choose "
            "`statistics: test`, which is transductive."
        )
    training = held_out_predictions(
        load_artifact(decoder, FittedDecoder), load_artifact(voxels, VoxelSet)
    )
    if config.average_predictions:
        training = average_repeats(training)
    return training, [decoder, voxels]
