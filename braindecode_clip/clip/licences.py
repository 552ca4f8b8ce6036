"""Licences of published weights, as far as their source was read; a model's card decides.

A card in the cache or beside the weights is read first. The table holds what was found where it
says; everything else is "see model card".
"""

from __future__ import annotations

from pathlib import Path

import yaml

UNKNOWN = "see model card"

#: Repository (or name) to licence and where that stands.
_OF_REPOSITORY = {
    "scenes": ("BSD-3-Clause", "data/models/scenes/README.md"),
    "laion/CLIP-ViT-B-32-laion2B-s34B-b79K": ("MIT", "model card"),
    "laion/CLIP-ViT-B-16-laion2B-s34B-b88K": ("MIT", "model card"),
    "timm/ViT-B-16-SigLIP": ("Apache-2.0", "model card"),
    "timm/ViT-SO400M-14-SigLIP-384": ("Apache-2.0", "model card"),
    "timm/vit_base_patch16_clip_224.metaclip_400m": (
        "CC-BY-NC-4.0",
        "https://huggingface.co/facebook/metaclip-b16-400m",
    ),
    "apple/MobileCLIP-S2-OpenCLIP": ("apple-amlr", "model card"),
    "microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224": ("MIT", "model card"),
}
_OF_TAG = {"openai": ("MIT", "https://github.com/openai/CLIP/blob/main/LICENSE")}


def licence_of(
    repository: str, *, tag: str = "", card: Path | None = None, use_cache: bool = True
) -> str:
    """Return the licence of a model.

    Parameters
    ----------
    repository : str
        ``org/name``, or the name of a shipped model.
    tag : str
        open_clip's tag.
    card : Path, optional
        ``README.md`` beside the weights; the one in the hub's cache by default.
    use_cache : bool
        Whether the cache is looked into.

    Returns
    -------
    str
        :data:`UNKNOWN` where no source was read.
    """
    if card is None and use_cache and "/" in repository:
        from braindecode_clip.clip.hub import cached_file

        card = cached_file(repository, "README.md")
    if card is not None and card.is_file() and (found := _in_card(card)):
        return found
    return (_OF_REPOSITORY.get(repository) or _OF_TAG.get(tag) or (UNKNOWN, ""))[0]


def _in_card(path: Path) -> str | None:
    """Read ``license`` of the YAML head of a model card."""
    text = path.read_text(encoding="utf-8", errors="replace")
    if not text.startswith("---"):
        return None
    try:
        head = yaml.safe_load(text.split("---", 2)[1])
    except yaml.YAMLError:
        return None
    if not isinstance(head, dict):
        return None
    # "other" is explained by a name of its own.
    found = head.get("license")
    return head.get("license_name", found) if found == "other" else found
