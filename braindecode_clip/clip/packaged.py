"""Files inside installed Python packages, named so that a recipe holds no path of a machine."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from braindecode_clip.errors import DataError

PREFIX = "package:"


def located(name: str) -> Path:
    """Return the path that a recipe means.

    Parameters
    ----------
    name : str
        A path, or ``package:NAME/PATH``: a file or folder inside the package NAME, as it is
        imported. The package is looked up and not run.

    Raises
    ------
    DataError
        The package is not installed, or holds no such file.
    """
    if not name.startswith(PREFIX):
        return Path(name)
    package, _, inside = name.removeprefix(PREFIX).partition("/")
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise DataError(
            f"{name}: the Python package {package} is not installed. Run "
            f"`pip install {package.replace('_', '-')}`."
        )
    folders = [Path(folder) for folder in spec.submodule_search_locations]
    found = [folder / inside for folder in folders if inside and (folder / inside).exists()]
    if not found:
        raise DataError(
            f"{name}: the package {package} in {folders[0]} holds no '{inside}'. Correct the "
            "name, or install another version."
        )
    return found[0]
