"""Towers of which a part, or all, stays as it is (Zhai et al. 2022, "LiT", section 3).

A tower's parameters form groups from the input to the output: what lies before the first block,
each block (the last together with the normalisation and pooling behind it), and the projection
into the shared space. These are the groups of open_clip's ``lock_image_tower`` and
``lock_text_tower`` for its own transformers. Its locks of other towers are not used:

- timm towers: their groups do not count the head that open_clip adds, so that "2" means two
  blocks; and ``freeze_bn_stats`` puts plain normalisations in place of timm's
  ``BatchNormAct2d``, which drops the activation in them.
- ModifiedResNet: it has no partial lock, and its frozen normalisations have other names in the
  weights file.
- Hugging Face towers: a partial lock fails for BERT (``layer_attr`` is not in open_clip's
  table), and prints to the terminal.
- More groups than there are unlock all in silence.

Locked modules are in evaluation mode, so batch normalisations use their running mean and
variance and do not change them, and nothing in them is dropped.
"""

from __future__ import annotations

import importlib
import re
from typing import Literal, NamedTuple

from torch import nn

from braindecode_clip.checks import Problems
from braindecode_clip.clip.batch_norm import freeze_batch_norm
from braindecode_clip.clip.torchvision_compat import import_open_clip
from braindecode_clip.config.clip_adapt import AdaptConfig
from braindecode_clip.errors import ConfigError

open_clip = import_open_clip()
timm_models = importlib.import_module("timm.models")

Tower = Literal["image", "text"]
TOWERS: tuple[Tower, ...] = ("image", "text")

_PLAIN_TEXT = (
    *("token_embedding", "positional_embedding", "cls_emb"),
    *("transformer", "ln_final", "text_projection"),
)
_OPTIONS = {"image": "adapt.image_unlocked_groups", "text": "adapt.text_unlocked_layers"}


class Groups(NamedTuple):
    """Names of a tower's parameters, in the model's own words.

    Attributes
    ----------
    trunk : list of list of str
        From the input to the last block.
    projection : list of str
        Into the shared space; may be empty.
    is_added : bool
        Whether open_clip put the projection on a tower of another library.
    """

    trunk: list[list[str]]
    projection: list[str]
    is_added: bool

    def locked(self, n_unlocked: int) -> list[str]:
        """Return what a lock keeps as it is, with so many groups unlocked from the output."""
        groups = [*self.trunk, *([self.projection] if self.projection else [])]
        kept = {name for group in groups[: len(groups) - n_unlocked] for name in group}
        if self.is_added:
            kept -= set(self.projection)
        return [name for group in groups for name in group if name in kept]


class _Layout(NamedTuple):
    """Where the names of a kind of tower put a parameter."""

    #: Matches the number of a block, from 0.
    block: str
    #: Beginnings of names that belong to the last block, and to the projection.
    tail: tuple[str, ...]
    projection: tuple[str, ...]


_TRANSFORMER = r"transformer\.resblocks\.(\d+)\."
_VISION = _Layout(_TRANSFORMER, ("ln_post", "attn_pool"), ("proj",))
_TEXT = _Layout(_TRANSFORMER, ("ln_final",), ("text_projection",))
_RESNET = _Layout(r"layer(\d+)\.", (), ("attnpool",))


def tower_groups(model: nn.Module, tower: Tower) -> Groups:
    """Return the groups of a tower's parameters.

    Parameters
    ----------
    model : Module
        An open_clip model (CLIP, CustomTextCLIP or CoCa, whose decoder is in no tower).
    tower : {"image", "text"}

    Raises
    ------
    ConfigError
        The tower's layers are not known.
    """
    if tower == "text" and not hasattr(model, "text"):
        names = [n for n, _ in model.named_parameters() if n.split(".")[0] in _PLAIN_TEXT]
        return _by_layout(names, "", _TEXT)
    prefix = "visual." if tower == "image" else "text."
    module = model.visual if tower == "image" else model.text
    names = [name for name, _ in module.named_parameters()]
    if isinstance(module, open_clip.timm_model.TimmModel):
        return _timm_groups(module, prefix)
    if isinstance(module, open_clip.hf_model.HFTextEncoder):
        return _hugging_face_groups(module, prefix)
    layouts = {
        open_clip.transformer.VisionTransformer: _VISION,
        open_clip.modified_resnet.ModifiedResNet: _RESNET,
        open_clip.transformer.TextTransformer: _TEXT,
    }
    if type(module) not in layouts:
        raise ConfigError(
            f"adapt: the layers of the {tower} tower ({type(module).__name__}) are not known, so "
            f"it cannot be locked in part or changed. Leave adapt.{tower}_tower at 'train'."
        )
    return _by_layout(names, prefix, layouts[type(module)])


def lock_towers(model: nn.Module, adapt: AdaptConfig) -> None:
    """Take ``requires_grad`` from what the recipe locks; towers under LoRA are left alone.

    Raises
    ------
    ConfigError
        More groups are to learn than a tower has, or nothing would be left to learn.
    """
    problems = Problems("recipe")
    for tower in TOWERS:
        if adapt.how(tower) != "lock":
            continue
        groups, n_unlocked = tower_groups(model, tower), adapt.n_unlocked(tower)
        n_groups = len(groups.trunk) + bool(groups.projection)
        if n_unlocked >= n_groups:
            problems.add(
                f"{_OPTIONS[tower]} is {n_unlocked}, and the tower has {n_groups} groups, so "
                f"nothing would be locked. Lower it, or set adapt.{tower}_tower to 'train'."
            )
            continue
        for name in groups.locked(n_unlocked):
            model.get_parameter(name).requires_grad_(False)
    problems.raise_if_any(ConfigError)


def check_something_learns(model: nn.Module) -> None:
    """Refuse a model of which nothing but ``logit_scale`` and ``logit_bias`` would learn.

    Raises
    ------
    ConfigError
    """
    learns = [n for n, p in model.named_parameters() if p.requires_grad]
    if all(name.startswith("logit_") for name in learns):
        raise ConfigError(
            "adapt: both towers are locked, and nothing is left to learn. Unlock groups "
            f"({_OPTIONS['image']}, {_OPTIONS['text']}), or train one tower."
        )


class LockedParts:
    """The modules of a model that stay in evaluation mode while the rest learns.

    Parameters
    ----------
    model : Module
        After :func:`lock_towers`, and after LoRA. Its locked batch normalisations are frozen.
    """

    def __init__(self, model: nn.Module) -> None:
        self._rest = _locked_modules(model)
        for part in self._rest:
            freeze_batch_norm(part)
        self._learn: list[nn.Module] = []
        for tower in TOWERS:
            whole = model.visual if tower == "image" else getattr(model, "text", None)
            # What drops patches has no parameters, so it is in no locked module.
            if whole is not None and is_trunk_locked(model, tower):
                self._rest.append(whole)
                self._learn += _learning_heads(model, tower)

    def rest(self) -> None:
        """Put them into evaluation mode; to be called after ``model.train()``."""
        for module in self._rest:
            module.eval()
        for module in self._learn:
            module.train()


def is_trunk_locked(model: nn.Module, tower: Tower) -> bool:
    """Tell whether nothing of a tower learns but, perhaps, its projection."""
    try:
        groups = tower_groups(model, tower)
    except ConfigError:
        return False
    return not any(
        model.get_parameter(name).requires_grad for group in groups.trunk for name in group
    )


def _learning_heads(model: nn.Module, tower: Tower) -> list[nn.Module]:
    """Return the modules of a projection that learns."""
    groups = tower_groups(model, tower)
    owners = [name.rsplit(".", 1)[0] for name in groups.projection]
    if groups.is_added:
        owners = [".".join(name.split(".")[:2]) for name in groups.projection]
    modules = [model.get_submodule(owner) for owner in dict.fromkeys(owners) if "." in owner]
    return [module for module in modules if _learns(module)]


def _learns(module: nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in module.parameters())


def _locked_modules(module: nn.Module) -> list[nn.Module]:
    """Return the outermost modules that have parameters, none of which learns."""
    if next(module.parameters(), None) is not None and not _learns(module):
        return [module]
    return [part for child in module.children() for part in _locked_modules(child)]


def _by_layout(names: list[str], prefix: str, layout: _Layout) -> Groups:
    blocks = {n: int(m.group(1)) for n in names if (m := re.match(layout.block, n))}
    last = max(blocks.values(), default=-1)
    trunk: dict[int, list[str]] = {}
    projection = []
    for name in names:
        if name not in blocks and name.split(".")[0].startswith(layout.projection):
            projection.append(prefix + name)
            continue
        depth = blocks.get(name, last if name.startswith(layout.tail) else -1)
        trunk.setdefault(depth, []).append(prefix + name)
    return Groups([trunk[depth] for depth in sorted(trunk)], projection, is_added=False)


def _timm_groups(tower: nn.Module, prefix: str) -> Groups:
    trunk, added = tower.trunk, [f"head.{n}" for n, _ in tower.head.named_parameters()]
    if not hasattr(trunk, "group_matcher"):
        raise ConfigError(
            f"adapt: timm does not know the layers of {type(trunk).__name__}, so the image tower "
            "cannot be locked in part or changed. Leave adapt.image_tower at 'train'."
        )
    found = timm_models.group_parameters(trunk, trunk.group_matcher(coarse=False))
    groups = [found[depth] for depth in sorted(found)]
    projection = added
    if not added:
        # The trunk's own classifier makes the vectors.
        own = {id(p) for p in trunk.get_classifier().parameters()}
        projection = [f"trunk.{n}" for n, p in trunk.named_parameters() if id(p) in own]
    kept = [[f"trunk.{name}" for name in group] for group in groups]
    kept = [[name for name in group if name not in projection] for group in kept]
    return Groups(
        [[prefix + name for name in group] for group in kept if group],
        [prefix + name for name in projection],
        is_added=bool(added),
    )


def _hugging_face_groups(tower: nn.Module, prefix: str) -> Groups:
    lists = {n: m for n, m in tower.transformer.named_modules() if isinstance(m, nn.ModuleList)}
    if not lists:
        raise ConfigError(
            f"adapt: the layers of {type(tower.transformer).__name__} are not known, so the text "
            "tower cannot be locked in part. Leave adapt.text_tower at 'train'."
        )
    blocks = max(lists, key=lambda name: sum(p.numel() for p in lists[name].parameters()))
    names = [f"transformer.{name}" for name, _ in tower.transformer.named_parameters()]
    # Positions that all layers share are made before the first.
    tail = tuple(name for name in names if not re.search("embed|relative", name))
    layout = _Layout(rf"transformer\.{re.escape(blocks)}\.(\d+)\.", tail, ())
    groups = _by_layout(names, prefix, layout)
    projection = [f"{prefix}proj.{name}" for name, _ in tower.proj.named_parameters()]
    return Groups(groups.trunk, projection, is_added=bool(projection))
