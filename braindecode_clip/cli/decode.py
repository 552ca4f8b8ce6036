"""``braindecode-clip decode``: voxels and embeddings to a decoder and its predictions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from braindecode_clip.cli.common import options_help, read_mapping
from braindecode_clip.config.base import parse_section
from braindecode_clip.config.decode import AlphaGrid, EnsembleConfig, SharedConfig
from braindecode_clip.config.decoders import SECTIONS, AnyDecoderConfig
from braindecode_clip.errors import ConfigError

if TYPE_CHECKING:
    from braindecode_clip.artifacts import Embeddings, VoxelSet
    from braindecode_clip.io.training_state import TrainingState


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
    band: Annotated[
        list[Path] | None,
        typer.Option(
            help="Voxels of an ROI that is a band (kind banded), from `voxels`; once for each of "
            "the option `bands`."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Master seed.")] = 2026,
    state: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the state of the training (kinds mlp and contrastive): a run that was "
            "killed goes on where it was, with the same result. Emptied at the end."
        ),
    ] = None,
) -> None:
    """Fit a decoder on the training trials and predict the test trials."""
    from braindecode_clip.artifacts import Embeddings, VoxelSet
    from braindecode_clip.decode import FittedDecoder, apply_decoder, combine
    from braindecode_clip.decode import decode as fit_and_predict
    from braindecode_clip.io.hdf5 import holds_tokens, load_artifact, save_artifact
    from braindecode_clip.logs import get_logger, milestone
    from braindecode_clip.provenance import make_provenance

    logger = get_logger(__name__)
    if decoder is not None and (options or out_decoder or band):
        raise ConfigError(
            "--decoder applies a stored decoder as it is: leave out --options, --out-decoder "
            "and --band."
        )
    config = read_decoder_config(options)
    if isinstance(config, SharedConfig):
        raise ConfigError("--options: kind 'shared' is fitted on all subjects: use decode-shared.")
    if bool(member) != (config.kind == "ensemble"):
        raise ConfigError(
            "--member names the decoders of an ensemble: give it together with 'kind: ensemble' "
            f"in --options. Got {len(member or [])} of them with 'kind: {config.kind}'."
        )
    if holds_tokens(embeddings):
        from braindecode_clip.cli.decode_tokens import decode_tokens

        decode_tokens(
            voxels,
            embeddings,
            config=config,
            seed=seed,
            out=out,
            out_decoder=out_decoder,
            decoder=decoder,
            state=state,
        )
        return
    samples = load_artifact(voxels, VoxelSet)
    targets = load_artifact(embeddings, Embeddings)
    inputs = [voxels, embeddings, *(band or [])]
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
        name = encoder_name(embeddings, targets)
        bands = band_labels(samples, band or [], config=config)
        if state is not None:
            store = training_state(state, config, seed=seed, inputs=inputs)
        with milestone(logger, f"fitted {config.name} on {samples.roi}") as note:
            predictions, fitted = fit_and_predict(
                samples,
                targets,
                config=config,
                seed=seed,
                encoder=name,
                store=store,
                bands=bands,
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


def training_state(
    folder: Path, config: AnyDecoderConfig, *, seed: int, inputs: list[Path]
) -> TrainingState:
    """Return the state of this very fit: of its data, options, seed and code."""
    from braindecode_clip.io.training_state import TrainingState
    from braindecode_clip.provenance import code_digest, file_sha256, library_versions

    key = {"options": config.model_dump(mode="json"), "seed": seed}
    key |= {"data": [file_sha256(path) for path in inputs]}
    key |= {"code": code_digest("braindecode_clip.cli.decode")}
    return TrainingState(folder, key=key | {"libraries": dict(library_versions())})


def encoder_name(path: Path, embeddings: Embeddings) -> str:
    """Return the label of the encoder that an embedding file was made with."""
    from braindecode_clip.io.hdf5 import read_provenance

    made_with = read_provenance(path)["options"]
    return str(made_with.get("name") or embeddings.fingerprint.get("name") or path.stem)


def band_labels(samples: VoxelSet, paths: list[Path], *, config: AnyDecoderConfig) -> Any:
    """Label the voxels of the ROI by the bands that a banded decoder names; None for others."""
    from braindecode_clip.artifacts import VoxelSet
    from braindecode_clip.decode.bands import label_bands
    from braindecode_clip.io.hdf5 import load_artifact

    wanted = list(getattr(config, "bands", []))
    spaces = {item.roi: item.space for item in (load_artifact(p, VoxelSet) for p in paths)}
    if sorted(spaces) != sorted(wanted):
        raise ConfigError(
            f"--band: got voxels of {sorted(spaces) or 'no ROI'}, expected those of the option "
            f"'bands': {wanted or 'none, as the decoder has no bands'}."
        )
    if not wanted:
        return None
    return label_bands(samples.space, {name: spaces[name] for name in wanted})


def read_decoder_config(source: str | None, *, flag: str = "--options") -> AnyDecoderConfig:
    """Read the options of the kind that they name; ridge by default."""
    mapping, where = read_mapping(source, flag=flag)
    kind = mapping.get("kind", "ridge")
    if kind not in SECTIONS:
        raise ConfigError(f"{where}: 'kind' is {kind!r}, expected one of {', '.join(SECTIONS)}.")
    return parse_section(SECTIONS[kind], mapping, where=where)


decode.__doc__ = f"{decode.__doc__}\n\n{options_help(AlphaGrid, *SECTIONS.values())}"
