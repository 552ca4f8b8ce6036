"""The part of ``braindecode-clip decode`` for token targets, which stay in their files."""

from __future__ import annotations

import contextlib
from functools import partial
from pathlib import Path

from braindecode_clip.config.decoders import AnyDecoderConfig


def decode_tokens(
    voxels: Path,
    embeddings: Path,
    *,
    config: AnyDecoderConfig,
    seed: int,
    out: Path,
    out_decoder: Path | None,
    decoder: Path | None,
    state: Path | None,
) -> None:
    """Fit a decoder of tokens, or apply a stored one, and write its predictions.

    Parameters
    ----------
    voxels, embeddings : path
    config : section of a decoder
    seed : int
    out : path
        Predictions.
    out_decoder : path, optional
        With ridge's weights, which are written in blocks.
    decoder : path, optional
        Apply this one.
    state : path, optional
        Folder of the state of an MLP's training.
    """
    import h5py

    from braindecode_clip.artifacts import Embeddings, VoxelSet
    from braindecode_clip.cli.decode import encoder_name, training_state
    from braindecode_clip.decode.fitted import FittedDecoder
    from braindecode_clip.decode.token_apply import apply_tokens
    from braindecode_clip.decode.token_fit import decode_tokens as fit_and_predict
    from braindecode_clip.io.atomic import atomic_path
    from braindecode_clip.io.hdf5 import (
        LAZY_ABOVE,
        load_artifact,
        new_dataset,
        open_artifact,
        open_vectors,
        write_artifact,
    )
    from braindecode_clip.logs import get_logger, milestone
    from braindecode_clip.provenance import make_provenance

    logger = get_logger(__name__)
    samples = load_artifact(voxels, VoxelSet)
    inputs = [voxels, embeddings, *([decoder] if decoder else [])]
    record = partial(make_provenance, "decode", inputs=inputs, seed=None if decoder else seed)
    store = None
    # Both files are moved into place together, at the end.
    with contextlib.ExitStack() as stack:
        targets = stack.enter_context(open_vectors(embeddings, Embeddings))

        def new_file(path: Path) -> h5py.File:
            temporary = stack.enter_context(atomic_path(path))
            return stack.enter_context(h5py.File(temporary, "w"))

        stored = None
        if decoder is not None:
            stored = stack.enter_context(
                open_artifact(decoder, FittedDecoder, lazy_above=LAZY_ABOVE)
            )
        predicted = new_file(out)
        make_array = partial(new_dataset, predicted)
        if stored is not None:
            fitted = stored
            predictions = apply_tokens(stored, samples, targets, make_array=make_array)
        else:
            name = encoder_name(embeddings, targets)
            if state is not None and config.kind == "mlp":
                store = training_state(state, config, seed=seed, inputs=inputs)
            weights = new_file(out_decoder) if out_decoder is not None else None
            with milestone(logger, f"fitted {config.name} on {samples.roi}") as note:
                predictions, fitted = fit_and_predict(
                    samples,
                    targets,
                    config=config,
                    seed=seed,
                    encoder=name,
                    store=store,
                    make_array=make_array,
                    make_weights=None if weights is None else partial(new_dataset, weights),
                )
                r2 = [fold.info["out_of_fold_r2"] for fold in fitted.folds]
                note(
                    f"{len(fitted.folds)} folds, {len(samples.folds[0].train.data)} x "
                    f"{len(samples.folds[0].voxel_index)} voxels to {targets.vectors.shape[1]} "
                    f"tokens x {targets.vectors.shape[2]} dimensions, out-of-fold R2 "
                    f"{sum(r2) / len(r2):.3f}"
                )
            if weights is not None:
                write_artifact(weights, fitted, record(options=fitted.options))
        write_artifact(predicted, predictions, record(options=fitted.options))
    for path in (out_decoder, out):
        if path is not None:
            logger.info("wrote %s", path)
    if store is not None:
        store.remove()
