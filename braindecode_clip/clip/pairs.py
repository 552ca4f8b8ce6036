"""Pairs of picture and captions, and one step's share of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from braindecode_clip.checks import Problems, some
from braindecode_clip.clip.picture_store import PictureStore


@dataclass(frozen=True)
class Pairs:
    """Pictures with one or several captions each.

    Attributes
    ----------
    images : ndarray (n, height, width, 3) uint8, or PictureStore (n,)
        RGB.
    captions : ndarray (n, n_captions) of str, or sequence of sequences of str (n,)
        Wordings of each picture; in a sequence, any number but none.
    kin : ndarray (n,) of int64, optional
        Pairs of one number are much alike, and so hard to tell apart.
    groups : ndarray (n,) of int64, optional
        Groups of the source; -1 for a picture of none.
    files : ndarray (n,) of int64, optional
        Equal for identical files.
    labels : ndarray (n,) of int64, optional
        Equal for equal labels; -1 for a picture without.
    """

    images: np.ndarray | PictureStore
    captions: np.ndarray | Sequence[Sequence[str]]
    kin: np.ndarray | None = None
    groups: np.ndarray | None = None
    files: np.ndarray | None = None
    labels: np.ndarray | None = None

    def __post_init__(self) -> None:
        problems = Problems("pairs")
        images = self.images
        if isinstance(images, np.ndarray) and (
            images.ndim != 4 or images.shape[-1] != 3 or images.dtype != np.uint8
        ):
            problems.add(
                f"images have shape {images.shape} and type {images.dtype}, expected "
                "(n, height, width, 3) uint8."
            )
        is_array = isinstance(self.captions, np.ndarray)
        if len(self.captions) != len(images) or (is_array and self.captions.ndim != 2):
            shape = self.captions.shape if is_array else (len(self.captions),)
            problems.add(f"captions have shape {shape}, expected ({len(images)}, n_captions).")
        else:
            bare = [k for k, row in enumerate(self.captions) if not len(row)]
            if bare:
                problems.add(f"no caption in rows {some(bare)}.")
            empty = np.flatnonzero([any(not str(c).strip() for c in row) for row in self.captions])
            if len(empty):
                problems.add(f"empty captions in rows {some(empty.tolist())}.")
        for name in ("kin", "groups", "files", "labels"):
            numbers = getattr(self, name)
            if numbers is not None and numbers.shape != (len(images),):
                problems.add(f"{name} has shape {numbers.shape}, expected ({len(images)},).")
        problems.raise_if_any()

    def __len__(self) -> int:
        return len(self.images)

    @property
    def shape_px(self) -> tuple[int, int]:
        """Height and width of the pictures as the model gets them."""
        if isinstance(self.images, PictureStore):
            return self.images.side_px, self.images.side_px
        return self.images.shape[1], self.images.shape[2]

    @cached_property
    def wordings(self) -> list[str]:
        """All captions, those of the first picture first."""
        return [str(caption) for row in self.captions for caption in row]

    @cached_property
    def counts(self) -> np.ndarray:
        """Number of captions of each picture (n,) int64."""
        return np.array([len(row) for row in self.captions], dtype=np.int64)

    @property
    def first_wordings(self) -> list[str]:
        """The first caption of each picture."""
        return [str(row[0]) for row in self.captions]


@dataclass(frozen=True)
class Batch:
    """One step's input.

    Attributes
    ----------
    pixels : Tensor (n, 3, height, width) float32
        Normalised; or features (n, d) of a locked image tower.
    tokens : Tensor (n, context_length) int64
    groups : Tensor (n,) int64
        Equal for equal captions.
    rows : ndarray (n,) int64
        Positions in the data set.
    teacher_tokens : Tensor (n, context_length) int64, optional
        The captions as a teacher reads them, where its tokenizer is another.
    texts : Tensor (n, d), optional
        Features of a locked text tower.
    """

    pixels: torch.Tensor
    tokens: torch.Tensor
    groups: torch.Tensor
    rows: np.ndarray
    teacher_tokens: torch.Tensor | None = None
    texts: torch.Tensor | None = None


def normalised(images: np.ndarray, mean: tuple[float, ...], std: tuple[float, ...]) -> torch.Tensor:
    """Turn (n, height, width, 3) uint8 into (n, 3, height, width) float32, normalised.

    The memory layout is channels-last, which convolutions on a CPU prefer. The numbers are
    those of open_clip's transform for pictures that need no resizing.
    """
    pixels = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float().div_(255)
    shift = torch.tensor(mean, dtype=torch.float32)[None, :, None, None]
    scale = torch.tensor(std, dtype=torch.float32)[None, :, None, None]
    return pixels.sub_(shift).div_(scale)


def caption_groups(captions: np.ndarray | Sequence[str]) -> np.ndarray:
    """Number captions so that equal ones, and only they, have equal numbers; same shape."""
    captions = np.asarray(captions)
    _, inverse = np.unique(captions.astype(str), return_inverse=True)
    return inverse.reshape(captions.shape).astype(np.int64)
