"""The one registry of encoders: from a name to a loaded model.

| name | what it is |
|---|---|
| ``scenes`` | the small CLIP that ships with the project |
| ``ViT-B-32`` and a tag or a file | a built-in model of open_clip |
| ``hf-hub:org/name`` | a repository on the hub, in open_clip's or transformers' layout |
| a path, ``local-dir:path`` | a directory in either layout, also what ``clip train`` wrote |
| ``timm:name.tag``, ``timm:path`` | an image encoder of timm |
| ``sentence-transformers:name`` or ``path`` | a text encoder |
"""

from __future__ import annotations

from pathlib import Path

from braindecode_clip.clip.hub import HUB_PREFIX
from braindecode_clip.clip.models import CONFIG_FILE
from braindecode_clip.clip.parts import Parts, Request
from braindecode_clip.clip.pretrained import EMBEDDED, embedded_model

#: Prefixes of names, by the kind of encoder in a config.
PREFIXES = {
    "hub": HUB_PREFIX,
    "timm": "timm:",
    "sentence_transformers": "sentence-transformers:",
}
_DIRECTORY_PREFIX = "local-dir:"


def registry_name(kind: str, model: str | None) -> str:
    """Return the registry's name of an encoder in a config."""
    if kind in EMBEDDED:
        return kind
    prefix = _DIRECTORY_PREFIX if kind == "local" else PREFIXES.get(kind, "")
    return prefix + str(model).removeprefix(prefix)


def load_parts(name: str, request: Request) -> Parts:
    """Load whatever a name of the registry stands for.

    Each family is imported when one of its models is asked for.

    Raises
    ------
    ConfigError
        Unknown name, or options that the family does not use.
    DataError
        Files that are not at hand and cannot be downloaded, are damaged, or do not fit.
    """
    if name.startswith(PREFIXES["timm"]):
        from braindecode_clip.clip.timm_images import timm_parts

        return timm_parts(name.removeprefix(PREFIXES["timm"]), request)
    if name.startswith(PREFIXES["sentence_transformers"]):
        from braindecode_clip.clip.sentence_texts import sentence_parts

        return sentence_parts(name.removeprefix(PREFIXES["sentence_transformers"]), request)
    if name.startswith(HUB_PREFIX):
        from braindecode_clip.clip.open_clip_models import hub_directory

        repository = name.removeprefix(HUB_PREFIX)
        return _from_directory(hub_directory(repository), request, name=repository, tag="hub")
    if name in EMBEDDED:
        return _from_directory(embedded_model(name), request, name=name)
    path = Path(name.removeprefix(_DIRECTORY_PREFIX))
    if name.startswith(_DIRECTORY_PREFIX) or path.is_dir() or len(path.parts) > 1:
        return _from_directory(path, request)
    from braindecode_clip.clip.open_clip_models import named_parts

    return named_parts(name, request)


def _from_directory(
    directory: Path, request: Request, *, name: str | None = None, tag: str = "local"
) -> Parts:
    """Choose the reader by the config that lies in the directory; open_clip's comes first."""
    from braindecode_clip.clip.hf_clip import hf_clip_parts, model_type

    kind = None if (directory / CONFIG_FILE).is_file() else model_type(directory)
    if kind == "clip":
        return hf_clip_parts(directory, request, name=name, tag=tag)
    if kind is not None:
        from braindecode_clip.clip.hf_wrapped import wrapped_parts

        return wrapped_parts(directory, request, name=name, tag=tag)
    from braindecode_clip.clip.open_clip_models import directory_parts

    return directory_parts(directory, request, name=name, tag=tag)
