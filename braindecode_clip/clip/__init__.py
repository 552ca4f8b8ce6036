"""CLIP: train, evaluate and load models that put pictures and texts into one space.

``from braindecode_clip.clip import load_encoder`` is the way in for users; torch and
open_clip are imported at that moment only.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from braindecode_clip.clip.encoders import ClipEncoder, load_encoder

__all__ = ["ClipEncoder", "load_encoder"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(importlib.import_module("braindecode_clip.clip.encoders"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
