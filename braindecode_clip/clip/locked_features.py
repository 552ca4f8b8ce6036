"""What a locked trunk makes of every picture and caption, computed once and kept.

A trunk of which nothing learns gives the same features at every visit, as long as pictures are
not changed at random. They are computed before the first step, in batches of the shape that a
step has, and take the place of pixels and tokens: a step then runs the projection alone. A
feature depends on its own row and, through the blocking of matrix products, on the shape of the
batch, so the numbers are those that the steps would have computed, to the bit; a probe of the
first batch in reverse order looks whether that holds on this machine.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from braindecode_clip.clip.locking import Tower, is_trunk_locked, tower_groups
from braindecode_clip.clip.pairs import Pairs, normalised
from braindecode_clip.clip.picture_store import PictureStore
from braindecode_clip.clip.torchvision_compat import import_open_clip
from braindecode_clip.config.clip import ClipRecipe

open_clip = import_open_clip()

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class KeptFeatures:
    """Inputs of the projections, in place of pictures and captions.

    Attributes
    ----------
    images : Tensor (n_pictures, n_features) or None
        Rows of corrupt pictures are 0.
    is_corrupt : ndarray (n_pictures,) of bool
    texts : Tensor (n_wordings, n_features) or None
        By position among all wordings.
    """

    images: torch.Tensor | None = None
    is_corrupt: np.ndarray | None = None
    texts: torch.Tensor | None = None

    @property
    def n_bytes(self) -> int:
        """The room that they take."""
        kept = [t for t in (self.images, self.texts) if t is not None]
        return sum(tensor.numel() * tensor.element_size() for tensor in kept)

    def held_out_bytes(self, n_pairs: int) -> int:
        """Return the room that the same features of held-out pairs would take, in float32."""
        kept = [t for t in (self.images, self.texts) if t is not None]
        return sum(4 * n_pairs * tensor.shape[1] for tensor in kept)

    @property
    def towers(self) -> tuple[Tower, ...]:
        """Those whose features are kept."""
        parts = {"image": self.images, "text": self.texts}
        return tuple(tower for tower, tensor in parts.items() if tensor is not None)


def image_vectors(model: nn.Module, inputs: torch.Tensor) -> torch.Tensor:
    """Return a model's image vectors from pixels (n, 3, height, width) or features (n, d)."""
    if inputs.ndim == 2:
        return _projected(model, "image", inputs)
    return model.encode_image(inputs)


def text_vectors(model: nn.Module, inputs: torch.Tensor) -> torch.Tensor:
    """Return unit text vectors from tokens (n, context_length) int64 or features (n, d)."""
    if inputs.is_floating_point():
        return functional.normalize(_projected(model, "text", inputs), dim=-1)
    return model.encode_text(inputs, normalize=True)


def trunk_features(model: nn.Module, tower: Tower, inputs: torch.Tensor) -> torch.Tensor:
    """Return what a tower gives to its projection: its vectors where that is to be left out."""
    encode = model.encode_image if tower == "image" else model.encode_text
    place = _projection(model, tower)
    with torch.no_grad(), contextlib.nullcontext() if place is None else _left_out(*place):
        return encode(inputs)


def can_be_kept(model: nn.Module, tower: Tower, recipe: ClipRecipe) -> bool:
    """Tell whether a tower's features are the same at every visit, and all that a step needs."""
    training = recipe.training
    if training.compile or training.loss not in ("infonce", "siglip"):
        return False
    if training.memory in ("gradcache", "accumulate") and training.batch_size % training.chunk_size:
        # The last part of a batch would be computed in another shape.
        return False
    is_changed = training.max_shift_px > 0 or recipe.data.crop_scale is not None
    if tower == "image" and is_changed:
        return False
    if not is_trunk_locked(model, tower):
        return False
    if _projection(model, tower) is not None:
        return True
    groups = tower_groups(model, tower)
    return not any(model.get_parameter(name).requires_grad for name in groups.projection)


class Remembered:
    """Features of batches that come again and again, such as those of held-out pairs.

    Parameters
    ----------
    towers : collection of str
        Whose features are kept; inputs of the others pass through.
    """

    def __init__(self, towers: Collection[Tower] = ()) -> None:
        self._towers = frozenset(towers)
        self._found: dict[tuple[str, int], torch.Tensor] = {}

    def inputs(
        self, model: nn.Module, tower: Tower, start: int, read: Callable[[], torch.Tensor]
    ) -> torch.Tensor:
        """Return the features of the batch that begins at a row, or what ``read`` gives."""
        if tower not in self._towers:
            return read()
        key = (tower, start)
        if key not in self._found:
            self._found[key] = trunk_features(model, tower, read())
        return self._found[key]


def kept_features(
    model: nn.Module,
    pairs: Pairs,
    tokens: np.ndarray,
    *,
    recipe: ClipRecipe,
    towers: tuple[Tower, ...],
    budget_bytes: float,
    dtype: torch.dtype,
) -> KeptFeatures:
    """Compute the features of locked trunks, as far as they fit.

    Parameters
    ----------
    model : Module
        In training, its locked parts in evaluation mode.
    pairs : Pairs
    tokens : ndarray (n_wordings, context_length) int64
    recipe : ClipRecipe
    towers : tuple of str
        Those for which :func:`can_be_kept` holds.
    budget_bytes : float
        Room for all of them together.
    dtype : torch.dtype
        What the towers multiply in.
    """
    training = recipe.training
    in_chunks = training.memory in ("gradcache", "accumulate")
    size = training.chunk_size if in_chunks else training.batch_size
    found: dict[str, torch.Tensor] = {}
    is_corrupt = np.zeros(len(pairs), dtype=bool)

    def pixels(rows: np.ndarray) -> torch.Tensor:
        pictures, missing = _prepared(pairs, rows)
        is_corrupt[missing] = True
        return normalised(pictures, recipe.preprocess.mean, recipe.preprocess.std)

    def words(rows: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(tokens[rows])

    for tower in towers:
        read, n = (pixels, len(pairs)) if tower == "image" else (words, len(tokens))
        kept = _Trunk(model, tower, read, dtype).all_rows(n, size, budget_bytes)
        if kept is not None:
            found[tower] = kept
            budget_bytes -= kept.numel() * kept.element_size()
    return KeptFeatures(found.get("image"), is_corrupt, found.get("text"))


@dataclass(frozen=True)
class _Trunk:
    """A locked trunk, and how its input is read."""

    model: nn.Module
    tower: Tower
    read: Callable[[np.ndarray], torch.Tensor]
    dtype: torch.dtype

    def all_rows(self, n: int, size: int, budget_bytes: float) -> torch.Tensor | None:
        """Compute all rows in batches of one shape; None where they do not fit."""
        first = np.arange(size) % n
        start = self._features(first)
        if start.ndim != 2 or not self._is_split(first, start):
            logger.info("the locked %s tower has no known projection; nothing is kept", self.tower)
            return None
        n_bytes = n * start.shape[1] * start.element_size()
        if n_bytes > budget_bytes:
            logger.info(
                "features of the locked %s tower would take %.0f MiB and are not kept; --cache "
                "memory keeps them",
                self.tower,
                n_bytes / 2**20,
            )
            return None
        if not torch.equal(self._features(first[::-1].copy()).flip(0), start):
            logger.warning(
                "features of the locked %s tower depend on the place in a batch in their last "
                "bits; they are kept, and the run differs by that from one with --cache none",
                self.tower,
            )
        kept = torch.empty(n, start.shape[1], dtype=start.dtype)
        kept[:size] = start[:n]
        for begin in range(size, n, size):
            # The last batch is filled up, for another shape gives other last bits.
            own = self._features(np.arange(begin, begin + size) % n)
            kept[begin : begin + size] = own[: n - begin]
        logger.info("kept features of the locked %s tower: %d x %d", self.tower, *kept.shape)
        return kept

    def _features(self, rows: np.ndarray) -> torch.Tensor:
        with self._precision():
            return trunk_features(self.model, self.tower, self._input(rows)).cpu()

    def _is_split(self, rows: np.ndarray, features: torch.Tensor) -> bool:
        """Tell whether a tower is its trunk and then its projection, by its vectors' bits."""
        vectors = image_vectors if self.tower == "image" else text_vectors
        found = []
        for inputs in (self._input(rows), features.to(_device_of(self.model))):
            # A projection that learns may drop some of its input: the same for both.
            with torch.random.fork_rng(), torch.no_grad(), self._precision():
                found.append(vectors(self.model, inputs))
        return torch.equal(*found)

    def _input(self, rows: np.ndarray) -> torch.Tensor:
        return self.read(rows).to(_device_of(self.model))

    def _precision(self) -> contextlib.AbstractContextManager[object]:
        enabled = self.dtype != torch.float32
        return torch.autocast(_device_of(self.model).type, dtype=self.dtype, enabled=enabled)


def _device_of(model: nn.Module) -> torch.device:
    return next(model.parameters()).device


def _prepared(pairs: Pairs, rows: np.ndarray) -> tuple[np.ndarray, list[int]]:
    """Return pictures (n, side, side, 3), black where corrupt, and the rows that are."""
    images = pairs.images
    if not isinstance(images, PictureStore):
        return images[rows], []
    pixels = [images.prepared(int(row)) for row in rows]
    missing = [int(row) for row, own in zip(rows, pixels, strict=True) if own is None]
    black = np.zeros((images.side_px, images.side_px, 3), dtype=np.uint8)
    return np.stack([black if own is None else own for own in pixels]), missing


def _projected(model: nn.Module, tower: Tower, features: torch.Tensor) -> torch.Tensor:
    place = _projection(model, tower)
    if place is None:
        return features
    projection = getattr(*place)
    return features @ projection if isinstance(projection, nn.Parameter) else projection(features)


def _projection(model: nn.Module, tower: Tower) -> tuple[nn.Module, str] | None:
    """Return the module that holds a tower's projection, and its name there."""
    if tower == "image":
        visual = model.visual
        if isinstance(visual, open_clip.transformer.VisionTransformer):
            return (visual, "proj") if visual.proj is not None else None
        if isinstance(visual, open_clip.timm_model.TimmModel):
            if next(visual.head.parameters(), None) is not None:
                return visual, "head"
            return _classifier(visual.trunk)
        return None
    text = getattr(model, "text", model)
    if isinstance(text, open_clip.hf_model.HFTextEncoder):
        return text, "proj"
    return (text, "text_projection") if text.text_projection is not None else None


def _classifier(trunk: nn.Module) -> tuple[nn.Module, str] | None:
    head = trunk.get_classifier()
    for owner in trunk.modules():
        for name, module in owner.named_children():
            if module is head:
                return owner, name
    return None


@contextlib.contextmanager
def _left_out(owner: nn.Module, name: str) -> Iterator[None]:
    """Take a projection out of its tower for a while."""
    projection = getattr(owner, name)
    # open_clip leaves these out where they are None; other projections are always called.
    is_optional = isinstance(projection, nn.Parameter) or name == "text_projection"
    setattr(owner, name, None if is_optional else nn.Identity())
    try:
        yield
    finally:
        setattr(owner, name, projection)
