"""Pairs of picture and caption, and batches of them in an order that can be taken up again."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from braindecode_clip.checks import Problems, some
from braindecode_clip.clip.tokenizers import WordTokenizer
from braindecode_clip.seeds import make_rng


@dataclass(frozen=True)
class Pairs:
    """Pictures with one or several captions each.

    Attributes
    ----------
    images : ndarray (n, height, width, 3) uint8
        RGB.
    captions : ndarray (n, n_captions) of str
        Each row holds wordings of the same picture.
    kin : ndarray (n,) of int64, optional
        Pairs of one number are much alike, and so hard to tell apart.
    """

    images: np.ndarray
    captions: np.ndarray
    kin: np.ndarray | None = None

    def __post_init__(self) -> None:
        problems = Problems("pairs")
        if self.images.ndim != 4 or self.images.shape[-1] != 3 or self.images.dtype != np.uint8:
            problems.add(
                f"images have shape {self.images.shape} and type {self.images.dtype}, expected "
                "(n, height, width, 3) uint8."
            )
        if self.captions.ndim != 2 or len(self.captions) != len(self.images):
            problems.add(
                f"captions have shape {self.captions.shape}, expected ({len(self.images)}, "
                "n_captions)."
            )
        elif self.captions.size:
            empty = np.flatnonzero([any(not str(c).strip() for c in row) for row in self.captions])
            if len(empty):
                problems.add(f"empty captions in rows {some(empty.tolist())}.")
        if self.kin is not None and self.kin.shape != (len(self.images),):
            problems.add(f"kin has shape {self.kin.shape}, expected ({len(self.images)},).")
        problems.raise_if_any()

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True)
class Batch:
    """One step's input.

    Attributes
    ----------
    pixels : Tensor (n, 3, height, width) float32
        Normalised.
    tokens : Tensor (n, context_length) int64
    groups : Tensor (n,) int64
        Equal for equal captions.
    rows : ndarray (n,) int64
        Positions in the data set.
    """

    pixels: torch.Tensor
    tokens: torch.Tensor
    groups: torch.Tensor
    rows: np.ndarray


class PairBatches:
    """Batches of a data set; batch ``step`` depends on the seed and on ``step`` alone.

    Every epoch is a fresh permutation, its last incomplete batch dropped; one caption of
    each picture is drawn for each visit. Since nothing is carried from step to step, a run
    that starts again at a step sees what the first run would have seen.

    Parameters
    ----------
    pairs : Pairs
        At least one batch of them.
    tokenizer : WordTokenizer
        Reads the captions, once, at the start.
    batch_size, seed, max_shift_px, kin_size : int
        See :class:`braindecode_clip.config.clip.TrainConfig`.
    mean, std : sequence of 3 floats
        Normalisation of RGB in 0 to 1.

    Raises
    ------
    DataError
        Fewer pairs than one batch: such a run would do no step at all.
    """

    def __init__(
        self,
        pairs: Pairs,
        tokenizer: WordTokenizer,
        *,
        batch_size: int,
        seed: int,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        max_shift_px: int = 0,
        kin_size: int = 1,
    ) -> None:
        problems = Problems("training pairs")
        if len(pairs) < batch_size:
            problems.add(
                f"{len(pairs)} pairs are fewer than one batch of {batch_size}: no step could be "
                "taken. Give more pairs, or lower training.batch_size."
            )
        if kin_size > 1 and pairs.kin is None:
            problems.add(
                f"training.kin_size is {kin_size}, and nothing tells which pairs are alike. Give "
                "pairs of `simulate scenes`, or a table with a column 'group', or set it to 1."
            )
        if batch_size % kin_size:
            problems.add(f"training.kin_size {kin_size} does not divide the batch {batch_size}.")
        problems.raise_if_any()
        self._images = pairs.images
        self._kin, self._kin_size = pairs.kin, kin_size
        self._tokens, self._groups = _tokenise(pairs.captions, tokenizer)
        self._batch_size, self._seed, self._shift = batch_size, seed, max_shift_px
        self._mean, self._std = mean, std
        self._epoch, self._order = -1, np.empty(0, dtype=np.int64)

    @property
    def steps_per_epoch(self) -> int:
        """Full batches in one pass."""
        return len(self._images) // self._batch_size

    def _permuted(self, rng: np.random.Generator) -> np.ndarray:
        order = rng.permutation(len(self._images))
        if self._kin is None or self._kin_size == 1:
            return order
        # Kin stand together, in random order, and are cut into pieces, which are then mixed.
        # A piece on the border of two kin holds some of both.
        rank = rng.permutation(int(self._kin.max()) + 1)[self._kin]
        order = order[np.argsort(rank[order], kind="stable")]
        n_whole = len(order) // self._kin_size * self._kin_size
        pieces = order[:n_whole].reshape(-1, self._kin_size)
        return np.concatenate([rng.permutation(pieces).ravel(), order[n_whole:]])

    def __getitem__(self, step: int) -> Batch:
        epoch, position = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            rng = make_rng(self._seed, "order", epoch)
            self._epoch, self._order = epoch, self._permuted(rng)
        start = position * self._batch_size
        rows = self._order[start : start + self._batch_size]
        rng = make_rng(self._seed, "batch", step)
        wording = rng.integers(self._tokens.shape[1], size=len(rows))
        images = _shifted(self._images[rows], self._shift, rng) if self._shift else None
        images = self._images[rows] if images is None else images
        return Batch(
            pixels=normalised(images, self._mean, self._std),
            tokens=torch.from_numpy(self._tokens[rows, wording]),
            groups=torch.from_numpy(self._groups[rows, wording]),
            rows=rows,
        )


def normalised(images: np.ndarray, mean: tuple[float, ...], std: tuple[float, ...]) -> torch.Tensor:
    """Turn (n, height, width, 3) uint8 into (n, 3, height, width) float32, normalised.

    The memory layout is channels-last, which convolutions on a CPU prefer. The numbers are
    those of open_clip's transform for pictures that need no resizing.
    """
    pixels = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float().div_(255)
    shift = torch.tensor(mean, dtype=torch.float32)[None, :, None, None]
    scale = torch.tensor(std, dtype=torch.float32)[None, :, None, None]
    return pixels.sub_(shift).div_(scale)


def caption_groups(captions: np.ndarray) -> np.ndarray:
    """Number captions so that equal ones, and only they, have equal numbers; same shape."""
    _, inverse = np.unique(captions.astype(str), return_inverse=True)
    return inverse.reshape(captions.shape).astype(np.int64)


def _tokenise(captions: np.ndarray, tokenizer: WordTokenizer) -> tuple[np.ndarray, np.ndarray]:
    groups = caption_groups(captions)
    tokens = tokenizer(captions.ravel().tolist())
    return tokens.reshape(*captions.shape, -1), groups


def _shifted(images: np.ndarray, max_shift_px: int, rng: np.random.Generator) -> np.ndarray:
    """Move each picture by up to ``max_shift_px``, repeating its edge pixels."""
    n, height, width = images.shape[:3]
    dy, dx = rng.integers(-max_shift_px, max_shift_px + 1, size=(2, n))
    y = np.clip(np.arange(height)[None, :] + dy[:, None], 0, height - 1)
    x = np.clip(np.arange(width)[None, :] + dx[:, None], 0, width - 1)
    return images[np.arange(n)[:, None, None], y[:, :, None], x[:, None, :]]
