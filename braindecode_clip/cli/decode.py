"""``braindecode-clip decode``: voxels and embeddings to a decoder and its predictions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from braindecode_clip.cli.common import options_help, read_mapping
from braindecode_clip.config.base import parse_section
from braindecode_clip.config.decode import (
    AlphaGrid,
    ContrastiveConfig,
    EnsembleConfig,
    MLPConfig,
    RidgeConfig,
)
from braindecode_clip.errors import ConfigError

_KINDS = {
    "ridge": RidgeConfig,
    "contrastive": ContrastiveConfig,
    "mlp": MLPConfig,
    "ensemble": EnsembleConfig,
}


def decode(
    voxels: Annotated[Path, typer.Option(help="Voxels of a subject and ROI, from `voxels`.")],
    embeddings: Annotated[Path, typer.Option(help="Targets, from `embed`.")],
    out: Annotated[Path, typer.Option(help="Predictions to write (HDF5).")],
    out_decoder: Annotated[
        Path | None, typer.Option(help="Fitted decoder to write (HDF5).")
    ] = None,
    decoder: Annotated[
        Path | None,
        typer.Option(help="Apply this decoder, written by --out-decoder, instead of fitting one."),
    ] = None,
    member: Annotated[
        list[Path] | None,
        typer.Option(
            help="Decoder to combine (kind: ensemble), written by --out-decoder; once for each "
            "of `members`, in their order."
        ),
    ] = None,
    options: Annotated[
        str | None, typer.Option(help="Options as YAML or JSON text, or a file with them.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Master seed.")] = 2026,
    state: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the state of an MLP's training: a run that was killed goes on where "
            "it was, with the same result. Emptied at the end."
        ),
    ] = None,
) -> None:
    """Fit a decoder on the training trials and predict the test trials."""
    from braindecode_clip.artifacts import Embeddings, VoxelSet
    from braindecode_clip.decode import FittedDecoder, apply_decoder, combine
    from braindecode_clip.decode import decode as fit_and_predict
    from braindecode_clip.io.hdf5 import load_artifact, read_provenance, save_artifact
    from braindecode_clip.io.training_state import TrainingState
    from braindecode_clip.logs import get_logger, milestone
    from braindecode_clip.provenance import (
        code_digest,
        file_sha256,
        library_versions,
        make_provenance,
    )

    logger = get_logger(__name__)
    if decoder is not None and (options or out_decoder):
        raise ConfigError(
            "--decoder applies a stored decoder as it is: leave out --options and --out-decoder."
        )
    config = _read_config(options)
    if bool(member) != (config.kind == "ensemble"):
        raise ConfigError(
            "--member names the decoders of an ensemble: give it together with 'kind: ensemble' "
            f"in --options. Got {len(member or [])} of them with 'kind: {config.kind}'."
        )
    samples = load_artifact(voxels, VoxelSet)
    targets = load_artifact(embeddings, Embeddings)
    inputs = [voxels, embeddings]
    store = None
    if decoder is not None:
        fitted = load_artifact(decoder, FittedDecoder)
        predictions = apply_decoder(fitted, samples, targets)
        inputs.append(decoder)
    elif isinstance(config, EnsembleConfig):
        inputs += member or []
        combined = [load_artifact(path, FittedDecoder) for path in member or []]
        predictions, fitted = combine(combined, samples, targets, config=config)
    else:
        made_with = read_provenance(embeddings)["options"]
        name = made_with.get("name") or targets.fingerprint.get("name") or embeddings.stem
        if state is not None:
            key = {"options": config.model_dump(mode="json"), "seed": seed}
            key |= {"data": [file_sha256(path) for path in inputs]}
            key |= {"code": code_digest("braindecode_clip.cli.decode")}
            store = TrainingState(state, key=key | {"libraries": dict(library_versions())})
        with milestone(logger, f"fitted {config.name} on {samples.roi}") as note:
            predictions, fitted = fit_and_predict(
                samples, targets, config=config, seed=seed, encoder=str(name), store=store
            )
            r2 = [fold.info["out_of_fold_r2"] for fold in fitted.folds]
            note(
                f"{len(fitted.folds)} folds, {len(samples.folds[0].train.data)} x "
                f"{len(samples.folds[0].voxel_index)} voxels to {targets.vectors.shape[1]} "
                f"dimensions, out-of-fold R2 {sum(r2) / len(r2):.3f}"
            )
    provenance = make_provenance(
        "decode", options=fitted.options, inputs=inputs, seed=None if decoder else seed
    )
    if out_decoder is not None:
        save_artifact(out_decoder, fitted, provenance)
        logger.info("wrote %s", out_decoder)
    save_artifact(out, predictions, provenance)
    logger.info("wrote %s", out)
    if store is not None:
        store.remove()


def _read_config(
    source: str | None,
) -> RidgeConfig | ContrastiveConfig | MLPConfig | EnsembleConfig:
    """Read the options of the kind that they name; ridge by default."""
    mapping, where = read_mapping(source)
    kind = mapping.get("kind", "ridge")
    if kind not in _KINDS:
        raise ConfigError(f"{where}: 'kind' is {kind!r}, expected one of {', '.join(_KINDS)}.")
    return parse_section(_KINDS[kind], mapping, where=where)


_SECTIONS = (RidgeConfig, AlphaGrid, ContrastiveConfig, MLPConfig, EnsembleConfig)
decode.__doc__ = f"{decode.__doc__}\n\n{options_help(*_SECTIONS)}"
