"""Where a result comes from: code digest, input hashes, library versions."""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.metadata
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from braindecode_clip import __version__
from braindecode_clip.constants import SCHEMA_VERSION

PACKAGE = "braindecode_clip"
LIBRARIES = (
    "numpy",
    "scipy",
    "torch",
    "scikit-learn",
    "nibabel",
    "nilearn",
    "open-clip-torch",
    "h5py",
    "SimpleITK",
)


@dataclass(frozen=True)
class Provenance:
    """What is written into every artefact.

    Attributes
    ----------
    stage : str
    options : dict
        The slice of the config that the stage was given.
    inputs : dict
        File name to sha256 of every input.
    seed : int or None
    code_digest : str
        :func:`code_digest` of the stage's command.
    version, schema_version, python, libraries
        Of this package, its files, Python, and the libraries that are installed.
    """

    stage: str
    options: dict[str, Any]
    inputs: dict[str, str]
    seed: int | None
    code_digest: str
    version: str = __version__
    schema_version: int = SCHEMA_VERSION
    python: str = field(default_factory=lambda: sys.version.split()[0])
    libraries: dict[str, str] = field(default_factory=lambda: dict(library_versions()))

    def as_json(self) -> str:
        """Return the record as JSON text."""
        return json.dumps(asdict(self), sort_keys=True)


def make_provenance(
    stage: str,
    *,
    options: Mapping[str, Any],
    inputs: Mapping[str, str | Path] | list[str | Path],
    seed: int | None = None,
) -> Provenance:
    """Hash the inputs and the code of a stage.

    Parameters
    ----------
    stage : str
        Name of the command (``braindecode_clip.cli.<stage>``).
    options : mapping
        The stage's options, JSON-able.
    inputs : mapping or list of paths
        Files read; a list is named by file name.
    seed : int, optional
    """
    if not isinstance(inputs, Mapping):
        inputs = {Path(path).name: path for path in inputs}
    return Provenance(
        stage=stage,
        options=dict(options),
        inputs={name: file_sha256(path) for name, path in inputs.items()},
        seed=seed,
        code_digest=code_digest(f"{PACKAGE}.cli.{stage}"),
    )


def file_sha256(path: str | Path) -> str:
    """Return the sha256 of a file's bytes as hex."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@functools.lru_cache(maxsize=1)
def library_versions() -> tuple[tuple[str, str], ...]:
    """Return (name, version) of the libraries that numbers depend on, as installed."""
    found = []
    for name in LIBRARIES:
        try:
            found.append((name, importlib.metadata.version(name)))
        except importlib.metadata.PackageNotFoundError:
            continue
    return tuple(found)


def code_digest(module: str, *, root: str | Path | None = None) -> str:
    """Hash a module together with every module of this package that it imports.

    The hash is over the syntax trees without docstrings, so a comment, a docstring or the
    layout of the code changes nothing, and any other edit does. Imports inside functions
    count. No module is executed.

    Parameters
    ----------
    module : str
        Dotted name, e.g. ``"braindecode_clip.cli.decode"``.
    root : path, optional
        The folder that holds the package; the installed package by default.

    Returns
    -------
    str
        16 hex digits.
    """
    base = Path(root) if root is not None else Path(__file__).resolve().parent.parent
    seen: dict[str, str] = {}
    queue = [module]
    while queue:
        name = queue.pop()
        path = _module_path(base, name)
        if name in seen or path is None:
            continue
        digest, imported = _tree_digest(path, name)
        seen[name] = digest
        queue.extend(imported)
    if module not in seen:
        raise ModuleNotFoundError(f"no module {module} under {base}")
    joined = "\n".join(f"{name} {seen[name]}" for name in sorted(seen))
    return hashlib.sha256(joined.encode()).hexdigest()[:16]


def _module_path(base: Path, name: str) -> Path | None:
    path = base.joinpath(*name.split("."))
    if (path / "__init__.py").is_file():
        return path / "__init__.py"
    path = path.with_suffix(".py")
    return path if path.is_file() else None


def _tree_digest(path: Path, name: str) -> tuple[str, list[str]]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    is_package = path.name == "__init__.py"
    imported = _first_party_imports(tree, name, is_package)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if (
            isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            and body
            and isinstance(body[0], ast.Expr)
            and isinstance(body[0].value, ast.Constant)
            and isinstance(body[0].value.value, str)
        ):
            node.body = body[1:]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest(), imported


def _first_party_imports(tree: ast.Module, name: str, is_package: bool) -> list[str]:
    found: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [a.name for a in node.names if a.name.split(".")[0] == PACKAGE]
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                parts = name.split(".")
                parts = parts[: len(parts) - node.level + is_package]
                origin = ".".join(parts + ([node.module] if node.module else []))
            else:
                origin = node.module or ""
            if origin.split(".")[0] == PACKAGE:
                # "from package import name": the name may be a module of its own.
                found += [origin, *(f"{origin}.{a.name}" for a in node.names)]
    # A package's __init__ runs before its modules, so it belongs to the code of each.
    parents = {p.rsplit(".", 1)[0] for p in found if p.count(".") > 1}
    return [*found, *sorted(parents)]
