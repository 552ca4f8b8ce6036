"""List encoders: dimensions, sizes, licences, and whether the weights are on this machine."""

from __future__ import annotations

import csv
import functools
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from braindecode_clip.clip.hub import cached_file, cached_snapshots, repository_folder
from braindecode_clip.clip.licences import licence_of
from braindecode_clip.clip.pretrained import embedded_model
from braindecode_clip.clip.registry import EMBEDDED
from braindecode_clip.clip.state_dicts import DIRECTORY_WEIGHTS
from braindecode_clip.clip.torchvision_compat import import_open_clip
from braindecode_clip.errors import BraindecodeError, DataError

open_clip = import_open_clip()

_PARAMETERS = Path(__file__).with_name("parameters.tsv")
_OPEN_CLIP_CONFIG, _CONFIG = "open_clip_config.json", "config.json"
_WEIGHTS = ("model.safetensors", "pytorch_model.bin", "model.safetensors.index.json")


@dataclass(frozen=True)
class Entry:
    """One encoder of the registry.

    Attributes
    ----------
    kind : str
        As in an encoder's config.
    model, tag : str
        As in an encoder's config; the tag is empty where there is none.
    modalities : str
        "image+text", "image" or "text".
    n_dims, image_size_px, n_parameters : int or None
        None where only the weights would tell.
    licence : str
        "see model card" where it is not known.
    on_machine : str
        Path of the weights; empty where they would have to be downloaded.
    """

    kind: str
    model: str
    tag: str
    modalities: str
    n_dims: int | None
    image_size_px: int | None
    n_parameters: int | None
    licence: str
    on_machine: str


#: Models that are often asked for and that no library lists, with the sizes of their configs.
_KNOWN = (
    Entry(
        "hub",
        "microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224",
        "",
        "image+text",
        512,
        224,
        None,
        "",
        "",
    ),
    Entry(
        "hub",
        "flaviagiammarino/pubmed-clip-vit-base-patch32",
        "",
        "image+text",
        512,
        224,
        None,
        "",
        "",
    ),
    Entry(
        "sentence_transformers",
        "sentence-transformers/all-MiniLM-L6-v2",
        "",
        "text",
        384,
        None,
        None,
        "",
        "",
    ),
    Entry(
        "sentence_transformers",
        "sentence-transformers/all-mpnet-base-v2",
        "",
        "text",
        768,
        None,
        None,
        "",
        "",
    ),
)


def entries(
    *,
    kinds: Sequence[str] | None = None,
    folders: Sequence[Path] = (),
    use_cache: bool = True,
) -> Iterator[Entry]:
    """Yield encoders: shipped, open_clip's, known and cached ones of the hub, local folders.

    Parameters
    ----------
    kinds : sequence of str, optional
        Only these; the tags of timm, about two thousand, are listed only where they are named
        here.
    folders : sequence of path
        Searched for model directories, at any depth.
    use_cache : bool
        Look for weights, model cards and further repositories in the caches of this machine.

    Yields
    ------
    Entry
    """

    def wanted(kind: str) -> bool:
        return kinds is None or kind in kinds

    if wanted("scenes"):
        yield from map(_embedded, EMBEDDED)
    if wanted("open_clip"):
        for model, tag in open_clip.list_pretrained():
            yield _built_in(model, tag, use_cache=use_cache)
    if wanted("hub") or wanted("sentence_transformers"):
        found = _of_the_hub(use_cache=use_cache)
        yield from (entry for entry in found if wanted(entry.kind))
    if wanted("local"):
        for folder in folders:
            yield from _local(folder)
    if kinds is not None and "timm" in kinds:
        yield from _timm()


def write_rows(found: Sequence[Entry]) -> list[list[str]]:
    """Return a header and one row of text for each entry, for a TSV."""
    names = [item.name for item in fields(Entry)]
    rows = [[_cell(getattr(entry, name)) for name in names] for entry in found]
    return [names, *rows]


def document_encoders() -> str:
    """Return a Markdown table with one row for each model, whatever lies on this machine."""
    models: dict[tuple[str, str], list[Entry]] = {}
    for entry in entries(use_cache=False):
        models.setdefault((entry.kind, entry.model), []).append(entry)
    lines = [
        "# Encoders",
        "",
        "Made by `make schema` from the registry (`braindecode_clip/clip/catalogue.py`).",
        "`braindecode-clip encoders` lists every tag, and which weights are on your machine. Kind,",
        "model and tag go into an encoder's config as `kind`, `model` and `pretrained`. Image",
        "encoders of timm: `braindecode-clip encoders --kind timm`.",
        "",
        "| kind | model | dimensions | input, px | weights | licence | tags |",
        "|---|---|---|---|---|---|---|",
    ]
    for (kind, model), own in models.items():
        first = own[0]
        millions = "" if first.n_parameters is None else f"{first.n_parameters / 1e6:.1f} M"
        cells = [
            kind,
            f"`{model}`",
            str(first.n_dims or ""),
            str(first.image_size_px or ""),
            millions,
            ", ".join(dict.fromkeys(entry.licence for entry in own)),
            ", ".join(f"`{entry.tag}`" for entry in own if entry.tag),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


@functools.cache
def parameters() -> dict[str, int]:
    """Return the number of weights of every built-in model of open_clip that can be built here.

    Counted once with open_clip 3.3 on torch's meta device; models whose text tower is a
    repository on the hub are missing.
    """
    with _PARAMETERS.open(encoding="utf-8", newline="") as stream:
        rows = csv.DictReader(stream, delimiter="\t")
        return {row["model"]: int(row["n_parameters"]) for row in rows}


def weights_on_machine(settings: dict[str, Any]) -> Path | None:
    """Return where open_clip would find the weights of a tag without a network.

    Parameters
    ----------
    settings : dict
        From ``open_clip.get_pretrained_cfg``.
    """
    hub = settings.get("hf_hub", "")
    if hub:
        repository, _, file = hub.rpartition("/")
        names = [file] if file else ["open_clip_model.safetensors", "open_clip_pytorch_model.bin"]
        if file.endswith((".bin", ".pth")):
            names.insert(0, f"{file[:-4]}.safetensors")
        found = [path for name in names if (path := cached_file(repository, name))]
        return found[0] if found else None
    path = Path(os.path.expanduser("~/.cache/clip")) / os.path.basename(settings.get("url", ""))
    return path if path.is_file() else None


def _embedded(name: str) -> Entry:
    try:
        directory = embedded_model(name)
    except DataError:
        return Entry(name, name, "", "image+text", None, None, None, licence_of(name), "")
    entry = _described(directory, kind=name, model=name)
    return replace(entry, licence=licence_of(name))


def _built_in(model: str, tag: str, *, use_cache: bool) -> Entry:
    config = open_clip.get_model_config(model)
    settings = open_clip.get_pretrained_cfg(model, tag)
    repository = settings.get("hf_hub", "").rpartition("/")[0]
    path = weights_on_machine(settings) if use_cache else None
    return Entry(
        kind="open_clip",
        model=model,
        tag=tag,
        modalities="image+text",
        n_dims=int(config["embed_dim"]),
        image_size_px=_largest(config["vision_cfg"].get("image_size", 224)),
        n_parameters=parameters().get(model),
        licence=licence_of(repository, tag=tag, use_cache=use_cache),
        on_machine=str(path or ""),
    )


def _of_the_hub(*, use_cache: bool) -> Iterator[Entry]:
    """Yield the known repositories, then all others of the cache that can be loaded."""
    cached = dict(cached_snapshots()) if use_cache else {}
    tags = [open_clip.get_pretrained_cfg(*item) for item in open_clip.list_pretrained()]
    listed = {settings.get("hf_hub", "").rpartition("/")[0] for settings in tags}
    for entry in _KNOWN:
        snapshot = cached.pop(entry.model, None)
        found = None if snapshot is None else _try(snapshot, kind=entry.kind, model=entry.model)
        yield found or replace(entry, licence=licence_of(entry.model, use_cache=use_cache))
    for repository, snapshot in cached.items():
        if repository in listed:
            continue
        is_sentences = (snapshot / "modules.json").is_file()
        kind = "sentence_transformers" if is_sentences else "hub"
        if (entry := _try(snapshot, kind=kind, model=repository)) is not None:
            yield entry


def _local(folder: Path) -> Iterator[Entry]:
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder. Correct --folder.")
    configs = {p.parent for n in (_OPEN_CLIP_CONFIG, _CONFIG) for p in folder.rglob(n)}
    for directory in sorted(configs):
        is_sentences = (directory / "modules.json").is_file()
        kind = "sentence_transformers" if is_sentences else "local"
        if (entry := _try(directory, kind=kind, model=str(directory))) is not None:
            yield entry


def _timm() -> Iterator[Entry]:
    import timm

    for name in timm.list_pretrained():
        config = timm.get_pretrained_cfg(name)
        repository = str(config.hf_hub_id or "")
        repository += name if repository.endswith("/") else ""
        snapshot = repository_folder(repository) if repository else None
        yield Entry(
            kind="timm",
            model=name,
            tag="",
            modalities="image",
            n_dims=None,
            image_size_px=_largest(config.input_size[1:]),
            n_parameters=None,
            licence=config.license or licence_of(repository),
            on_machine=str(snapshot) if snapshot is not None and snapshot.is_dir() else "",
        )


def _try(directory: Path, *, kind: str, model: str) -> Entry | None:
    """Describe a directory; None where it is no encoder or cannot be read."""
    try:
        return _described(directory, kind=kind, model=model)
    except (BraindecodeError, OSError, ValueError, KeyError, TypeError):
        return None


def _described(directory: Path, *, kind: str, model: str) -> Entry:
    """Describe a directory by its config; raises KeyError where it is of another kind."""
    weights = [
        directory / name for name in (*DIRECTORY_WEIGHTS, *_WEIGHTS) if (directory / name).is_file()
    ]
    modalities = "image+text"
    if (directory / _OPEN_CLIP_CONFIG).is_file():
        config = _read(directory / _OPEN_CLIP_CONFIG)["model_cfg"]
        n_dims, size = config["embed_dim"], config["vision_cfg"].get("image_size", 224)
    else:
        config = _read(directory / _CONFIG)
        if kind == "sentence_transformers":
            n_dims, size, modalities = config["hidden_size"], None, "text"
        else:
            size = config["vision_config"].get("image_size", 224)
            n_dims = config.get("projection_dim", 512)
            if config["model_type"] != "clip":
                n_dims = config.get("projection_dim") or config["vision_config"]["hidden_size"]
    return Entry(
        kind=kind,
        model=model,
        tag="",
        modalities=modalities,
        n_dims=int(n_dims),
        image_size_px=None if size is None else _largest(size),
        n_parameters=_counted(weights[0]) if weights else None,
        licence=licence_of(model, card=directory / "README.md"),
        on_machine=str(weights[0]) if weights else "",
    )


def _counted(path: Path) -> int | None:
    """Count the numbers in a safetensors file from its header alone."""
    if path.suffix != ".safetensors":
        return None
    from safetensors import safe_open

    with safe_open(path, framework="np") as stream:
        shapes = [stream.get_slice(name).get_shape() for name in stream.keys()]  # noqa: SIM118
    total = 0
    for shape in shapes:
        size = 1
        for side in shape:
            size *= side
        total += size
    return total


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def _largest(size: Any) -> int:
    return int(max(size)) if isinstance(size, list | tuple) else int(size)


def _cell(value: object) -> str:
    return "n/a" if value is None or value == "" else str(value)
