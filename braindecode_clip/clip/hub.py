"""The hub's cache on this machine, and what to do when something is not in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from braindecode_clip.errors import DataError

HUB_PREFIX = "hf-hub:"
_SMALL_FILES = ("*.json", "*.txt", "*.model", "README.md")


def cache_folder() -> Path:
    """Return the folder of the hub's client: ``HF_HUB_CACHE``, or its default."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def repository_folder(repository: str) -> Path:
    """Return where the cache keeps a repository such as ``org/name``."""
    return cache_folder() / f"models--{repository.replace('/', '--')}"


def cached_file(repository: str, file: str) -> Path | None:
    """Return a file of a repository if it is in the cache; nothing is downloaded."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(repository, file, cache_dir=str(cache_folder()))
    return Path(found) if isinstance(found, str) else None


def cached_snapshots() -> Iterator[tuple[str, Path]]:
    """Yield (repository, newest snapshot folder) of all models in the cache, by name."""
    for folder in sorted(cache_folder().glob("models--*")):
        snapshots = sorted(folder.glob("snapshots/*/"), key=lambda path: path.stat().st_mtime)
        if snapshots:
            yield folder.name.removeprefix("models--").replace("--", "/"), snapshots[-1]


def snapshot(repository: str, *, weights: Sequence[str], label: str) -> Path:
    """Return the folder of a repository with its small files and its weights.

    Parameters
    ----------
    repository : str
        ``org/name``.
    weights : sequence of str
        File names, the first of which that the repository has is taken.
    label : str
        What the user asked for, for the message.

    Raises
    ------
    DataError
        It is neither in the cache nor can be downloaded.
    """
    from huggingface_hub import hf_hub_download, snapshot_download

    try:
        folder = Path(
            snapshot_download(
                repository, allow_patterns=list(_SMALL_FILES), cache_dir=str(cache_folder())
            )
        )
    except Exception as error:
        # The hub's client raises a dozen types without a network.
        raise DataError(missing_repository(label, repository, weights)) from error
    for name in weights:
        try:
            hf_hub_download(repository, name, cache_dir=str(cache_folder()))
            return folder
        except Exception:
            continue
    raise DataError(missing_repository(label, repository, weights))


def missing_repository(
    label: str,
    repository: str,
    weights: Sequence[str] = (),
    *,
    then: str = "kind: local, model: /path/to/the/folder",
) -> str:
    """Say what to download where, and how the encoder's config then names the folder."""
    files = f" (of the weights one of {', '.join(weights)} is enough)" if weights else ""
    return (
        f"{label}: is not on this machine and could not be downloaded. On a machine with network "
        f"run `hf download {repository}`, and bring the folder "
        f"{repository_folder(repository).name} of its cache to {cache_folder()} here; or bring "
        f"the files of https://huggingface.co/{repository}{files} into one folder here and name "
        f"it in the encoder's config: {then}."
    )


def needs_extra(what: str, package: str) -> str:
    """Say that a library is missing and how to get it."""
    return (
        f"{what}: needs the package {package}, which is not installed. Install it with "
        "`pip install 'braindecode-clip[encoders]'`."
    )
