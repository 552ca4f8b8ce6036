"""``--encoder`` of the commands that use CLIP for its own sake."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from braindecode_clip.cli.common import read_mapping
from braindecode_clip.config.base import parse_section
from braindecode_clip.config.embed import EncoderConfig
from braindecode_clip.errors import ConfigError

if TYPE_CHECKING:
    from braindecode_clip.clip import ClipEncoder

_FLAG = "--encoder"
_LABEL_GAP = re.compile(r"[^a-zA-Z0-9]+")


def read_encoder(text: str) -> EncoderConfig:
    """Read what the user named as encoder.

    Parameters
    ----------
    text : str
        "scenes", a model folder, or the options of `embed`'s encoders as YAML or JSON text or
        in a file; 'name' may be missing there.

    Raises
    ------
    ConfigError
        None of these, or vectors from a file, which encode nothing.
    """
    if text == "scenes":
        return EncoderConfig(name="scenes")
    if Path(text).is_dir():
        label = _LABEL_GAP.sub("-", Path(text).resolve().name).strip("-") or "model"
        return EncoderConfig(name=label, kind="local", model=text)
    if not Path(text).is_file() and ":" not in text:
        raise ConfigError(
            f"{_FLAG} '{text}': is neither 'scenes' nor a folder with a model. A model of "
            "open_clip is named by options, e.g. '{kind: open_clip, model: ViT-B-32, pretrained: "
            "openai}'."
        )
    options, where = read_mapping(text, flag=_FLAG)
    config = parse_section(EncoderConfig, {"name": "encoder", **options}, where=where)
    if config.kind == "precomputed":
        raise ConfigError(
            f"{where}: kind 'precomputed' holds vectors and encodes nothing. Name a model."
        )
    return config


def load_configured_encoder(config: EncoderConfig, *, device: str) -> ClipEncoder:
    """Load the encoder of a config."""
    from braindecode_clip.clip import load_encoder

    return load_encoder(
        "scenes" if config.kind == "scenes" else str(config.model),
        config.pretrained,
        device=device,
        weights=config.weights,
        quick_gelu=config.quick_gelu,
    )
