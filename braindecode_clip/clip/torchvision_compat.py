"""Import open_clip beside a torch that lacks torchvision's compiled operators.

The wheels of torchvision on the package index are compiled for the CUDA build of torch.
Beside the CPU build their extension cannot be loaded, and torchvision then fails at
import, for it attaches shape rules to two operators that nobody defined
("operator torchvision::nms does not exist"). open_clip needs only torchvision's Python
transforms. So the two operators are declared here, without an implementation, and only
where the plain import fails.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from types import ModuleType

_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_OPERATORS = ("nms", "qnms")

# A torch.library.Library takes its operators with it when it is collected.
_keep_alive: list[object] = []


def import_torchvision() -> ModuleType:
    """Import torchvision, with the two missing operators declared if need be.

    Returns
    -------
    module
        ``torchvision``. Calling ``torchvision.ops.nms`` still fails where the compiled
        extension is missing: it is declared, not implemented.

    Raises
    ------
    RuntimeError
        The import failed for another reason.
    """
    if "torchvision" in sys.modules:
        return sys.modules["torchvision"]
    with warnings.catch_warnings():
        # torchvision.io says that its own image reader is missing; Pillow is ours.
        warnings.filterwarnings("ignore", message="Failed to load", category=UserWarning)
        try:
            return importlib.import_module("torchvision")
        except RuntimeError as error:
            if "torchvision::nms" not in str(error):
                raise
        for name in [m for m in sys.modules if m.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        _declare_operators()
        return importlib.import_module("torchvision")


def import_open_clip() -> ModuleType:
    """Import open_clip, after torchvision has been made importable.

    Every module of this package that needs open_clip gets it from here.
    """
    import_torchvision()
    return importlib.import_module("open_clip")


def _declare_operators() -> None:
    import torch

    library = torch.library.Library("torchvision", "DEF")
    for name in _OPERATORS:
        if not hasattr(torch.ops.torchvision, name):
            library.define(name + _SCHEMA)
    _keep_alive.append(library)
