"""The part of ``braindecode-clip embed`` that writes tokens, batch by batch."""

from __future__ import annotations

from pathlib import Path

from braindecode_clip.config.embed import EncoderConfig
from braindecode_clip.errors import DataError


def embed_tokens(config: EncoderConfig, stimuli: Path | None, *, out: Path, device: str) -> None:
    """Encode the tokens of a table of pictures into a file.

    A run that was stopped goes on with the first picture that is not there yet.

    Parameters
    ----------
    config : EncoderConfig
        With targets other than pooled.
    stimuli : path or None
        Table of the pictures.
    out : path
    device : str

    Raises
    ------
    DataError
        No table, or pictures that are missing or damaged.
    ConfigError
        The model has no tokens.
    """
    import numpy as np

    from braindecode_clip.artifacts import Embeddings
    from braindecode_clip.cli.embed import encoder_of, read_stimuli
    from braindecode_clip.clip.batch_size import choose_batch_size
    from braindecode_clip.embed.tokens import encode_tokens, picture_digests
    from braindecode_clip.io.unfinished import unfinished
    from braindecode_clip.logs import get_logger, milestone
    from braindecode_clip.provenance import make_provenance

    logger = get_logger(__name__)
    if stimuli is None:
        raise DataError(
            f"encoder '{config.name}': no stimuli. Pass --stimuli with the table of pictures."
        )
    table = read_stimuli(stimuli, ["image"])
    pooled = encoder_of(config, device=device)
    encoder = pooled.token_encoder(
        kind=config.targets,
        projected=config.token_projection,
        class_token=config.class_token,
    )
    ids = table["stimulus_id"].tolist()
    pictures = [stimuli.parent / name for name in table["image"]]
    dtype = np.dtype(config.token_dtype)
    batch_size = config.batch_size
    if batch_size == "auto":
        batch_size = choose_batch_size(pooled, len(ids), "image", n_encoders=1)
    fingerprint = {**encoder.fingerprint, "dtype": dtype.name}
    key = {"fingerprint": fingerprint, "pictures": picture_digests(pictures, ids), "ids": ids}
    shape = (len(ids), encoder.n_tokens, encoder.n_dims)
    provenance = make_provenance("embed", options=config.model_dump(mode="json"), inputs=[stimuli])
    with (
        milestone(logger, f"embedded with {config.name}") as note,
        unfinished(out, key=key, shape=shape, dtype=dtype) as file,
    ):
        if file.n_done:
            logger.info("%d pictures were encoded before", file.n_done)
        encode_tokens(
            encoder,
            pictures,
            ids,
            out=file.data,
            n_done=file.n_done,
            batch_size=batch_size,
            after_batch=file.keep,
        )
        result = Embeddings(
            ids=np.asarray(ids).astype(str),
            vectors=file.data,
            modality="image",
            fingerprint=fingerprint,
        )
        file.finish(result, provenance)
        note(f"{shape[0]} images x {shape[1]} tokens x {shape[2]} dims")
    logger.info("wrote %s", out)
