"""Pretrained weights of a timm image tower, from a checkpoint file.

Files in timm's own names are taken as they are. Those of EfficientNet in the names of the
package ``efficientnet-pytorch`` and its kin (``_blocks.0._depthwise_conv.weight``) are renamed:
both list the same layers in the same order.
"""

from __future__ import annotations

import re

import torch

from braindecode_clip.clip.packaged import located
from braindecode_clip.clip.state_dicts import read_state_dict
from braindecode_clip.errors import DataError

_BLOCK = re.compile(r"_blocks\.(\d+)\.(.+)")
# From the other names to timm's, outside the blocks ...
_OUTSIDE = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2"}
# ... within a block without, and with expansion.
_SEPARABLE = {
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn1",
    "_project_conv": "conv_pw",
    "_bn2": "bn2",
}
_INVERTED = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
_CLASSIFIERS = ("_fc.", "classifier.", "fc.", "head.fc.", "head.")


def load_image_weights(trunk: torch.nn.Module, name: str, *, label: str) -> None:
    """Give a timm model the weights of a file, every one of them; a classifier is left out.

    Parameters
    ----------
    trunk : Module
        As timm builds it, without its classifier.
    name : str
        A path, or ``package:NAME/FILE``; see :func:`.packaged.located`.
    label : str
        Name of the architecture, for messages.

    Raises
    ------
    DataError
        The file is missing, damaged, or holds the weights of another architecture.
    """
    path = located(name)
    if not path.is_file():
        raise DataError(f"{name}: no such checkpoint file. Correct model.image_weights.")
    state, wanted = _in_timms_words(read_state_dict(path), trunk), trunk.state_dict()
    for key in [k for k in state if k not in wanted and k.startswith(_CLASSIFIERS)]:
        del state[key]
    reasons = [f"{key} is missing" for key in sorted(wanted.keys() - state.keys())]
    reasons += [f"{key} is too much" for key in sorted(state.keys() - wanted.keys())]
    reasons += [
        f"{key} is {tuple(state[key].shape)} in the file, {tuple(wanted[key].shape)} in the model"
        for key in wanted
        if key in state and state[key].shape != wanted[key].shape
    ]
    if reasons:
        raise DataError(
            f"{name}: these are not the weights of timm's {label}: {'; '.join(reasons[:3])} "
            f"({len(reasons)} differences). Name the architecture that the file was made with."
        )
    trunk.load_state_dict(state, strict=True)


def _in_timms_words(
    state: dict[str, torch.Tensor], trunk: torch.nn.Module
) -> dict[str, torch.Tensor]:
    if not any(_BLOCK.match(key) for key in state) or not hasattr(trunk, "blocks"):
        return state
    blocks = [
        (f"blocks.{i}.{j}", _INVERTED if hasattr(block, "conv_pwl") else _SEPARABLE)
        for i, stage in enumerate(trunk.blocks)
        for j, block in enumerate(stage)
    ]
    renamed = {}
    for key, value in state.items():
        found = _BLOCK.match(key)
        place, names, rest = "", _OUTSIDE, key
        if found and int(found[1]) < len(blocks):
            place, names = blocks[int(found[1])]
            place, rest = f"{place}.", found[2]
        layer, _, leaf = rest.rpartition(".")
        renamed[f"{place}{names.get(layer, layer)}.{leaf}"] = value
    return renamed
