"""``braindecode-clip interpret``: voxels and decoder to maps and a table of dimensions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from braindecode_clip.cli.common import options_help, read_options
from braindecode_clip.config.interpret import InterpretConfig
from braindecode_clip.errors import DataError

if TYPE_CHECKING:
    import numpy as np

    from braindecode_clip.artifacts import Embeddings, VoxelSet
    from braindecode_clip.decode import FittedDecoder


def interpret(
    voxels: Annotated[Path, typer.Option(help="Voxels, written by `voxels`.")],
    decoder: Annotated[Path, typer.Option(help="Decoder, written by `decode`.")],
    predictions: Annotated[Path, typer.Option(help="Predictions, written by `decode`.")],
    embeddings: Annotated[
        Path, typer.Option(help="The embeddings that the decoder was trained on.")
    ],
    out_reliability: Annotated[Path, typer.Option(help="Map to write: split-half reliability.")],
    out_ncsnr: Annotated[
        Path, typer.Option(help="Map to write: signal-to-noise ratio of single trials (ncsnr).")
    ],
    out_noise_ceiling: Annotated[
        Path, typer.Option(help="Map to write: noise ceiling, % variance.")
    ],
    out_pattern: Annotated[
        Path, typer.Option(help="Map to write: strength of the activation pattern.")
    ],
    out_table: Annotated[
        Path, typer.Option(help="Table to write (TSV): the best-predicted dimensions.")
    ],
    options: Annotated[
        str | None, typer.Option(help="Options as YAML or JSON text, or a file with them.")
    ] = None,
) -> None:
    """Map what was decoded, and from where.

    Maps lie in the space of the input: volumes as .nii or .nii.gz (NaN outside), data on
    surfaces as .dscalar.nii.
    """
    import numpy as np

    from braindecode_clip.artifacts import Embeddings, Predictions, VoxelSet
    from braindecode_clip.decode import FittedDecoder
    from braindecode_clip.interpret import dimension_table, voxel_maps
    from braindecode_clip.io.hdf5 import (
        LAZY_ABOVE,
        holds_tokens,
        load_artifact,
        open_artifact,
        open_vectors,
    )
    from braindecode_clip.io.runs import write_map
    from braindecode_clip.io.tables import write_tsv
    from braindecode_clip.logs import get_logger, milestone

    logger = get_logger(__name__)
    config = read_options(options, InterpretConfig)
    voxel_set = load_artifact(voxels, VoxelSet)
    lazy = LAZY_ABOVE if holds_tokens(embeddings) else None
    with (
        open_artifact(decoder, FittedDecoder, lazy_above=lazy) as fitted,
        open_vectors(predictions, Predictions) as predicted,
        open_vectors(embeddings, Embeddings) as targets,
        milestone(logger, f"interpreted {decoder.name}") as note,
    ):
        table = dimension_table(
            predicted, targets, n_dims=config.n_dims, n_pictures=config.n_pictures
        )
        maps = voxel_maps(
            voxel_set,
            _predict_train(fitted, voxel_set, targets, where=str(decoder)),
            variance=config.pattern_variance,
        )
        n_mapped = int(np.isfinite(maps.pattern).sum())
        note(f"{n_mapped} of {voxel_set.space.n_voxels} voxels, {len(table)} dimensions")
    space = voxel_set.space
    for path, values in (
        (out_reliability, maps.reliability),
        (out_ncsnr, maps.ncsnr),
        (out_noise_ceiling, maps.noise_ceiling),
        (out_pattern, maps.pattern),
    ):
        write_map(path, space, values)
        logger.info("wrote %s", path)
    write_tsv(out_table, table)
    logger.info("wrote %s", out_table)


interpret.__doc__ = f"{interpret.__doc__}\n\n{options_help(InterpretConfig)}"


def _predict_train(
    fitted: FittedDecoder, voxels: VoxelSet, embeddings: Embeddings, *, where: str
) -> list[np.ndarray]:
    """Predict the training samples of every fold with the decoder of that fold.

    Of tokens, which memory may not hold, coordinates that vary together as they do.
    """
    import numpy as np

    from braindecode_clip.decode import predict_samples
    from braindecode_clip.decode.token_apply import prediction_coordinates

    pairs = list(zip(fitted.folds, voxels.folds, strict=False))
    fits = len(fitted.folds) == len(voxels.folds) and all(
        decoder.fold == fold.name and np.array_equal(decoder.voxel_index, fold.voxel_index)
        for decoder, fold in pairs
    )
    if not fits or not fitted.space.same_columns(voxels.space):
        raise DataError(
            f"{where}: was fitted on sub-{fitted.subject} roi-{fitted.roi} split-{fitted.split} "
            f"({len(fitted.folds)} folds), which are other folds or voxels than those of "
            f"sub-{voxels.subject} roi-{voxels.roi} split-{voxels.split} "
            f"({len(voxels.folds)} folds). Pass the voxels that it was fitted on."
        )
    if embeddings.has_tokens:
        return [
            prediction_coordinates(
                decoder, fold.train.data, kind=fitted.kind, embeddings=embeddings
            )
            for decoder, fold in pairs
        ]
    return [predict_samples(decoder, fold.train.data, kind=fitted.kind) for decoder, fold in pairs]
