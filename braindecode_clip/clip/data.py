"""Batches of pairs in an order that can be taken up again at any step."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from PIL import Image

from braindecode_clip.checks import Problems, some
from braindecode_clip.clip.augment import random_cut, shifted
from braindecode_clip.clip.batch_order import (
    Conflicts,
    Dealt,
    conflicts_of,
    deal,
    kin_order,
    n_batches_for,
)
from braindecode_clip.clip.locked_features import KeptFeatures
from braindecode_clip.clip.pairs import Batch, Pairs, caption_groups, normalised
from braindecode_clip.clip.picture_store import PictureStore
from braindecode_clip.clip.tokenizers import Tokenizer
from braindecode_clip.config.clip_data import DataConfig
from braindecode_clip.errors import DataError
from braindecode_clip.seeds import make_rng

# Steps whose pictures are decoded before they are asked for.
_STEPS_AHEAD = 2
# Draws of a stand-in for a corrupt picture before the data set counts as unusable.
_STAND_INS_TRIED = 1000

# Stands for a picture whose features are kept.
_KEPT = np.empty(0)

logger = logging.getLogger(__name__)


class PairBatches:
    """Batches of a data set; batch ``step`` depends on the seed and on ``step`` alone.

    Every epoch is a fresh permutation, its last incomplete batch dropped; one caption of
    each picture is drawn for each visit. Since nothing is carried from step to step, a run
    that starts again at a step sees what the first run would have seen. Threads decode ahead,
    and change no number: what is drawn for a picture depends on seed, epoch and row.

    A corrupt picture's place is taken by another, drawn by seed, step and place. Which ones
    are known to be corrupt before has no influence.

    Parameters
    ----------
    pairs : Pairs
        At least one batch of them.
    tokenizer : Tokenizer
        Reads the captions, once, at the start.
    teacher_tokenizer : Tokenizer, optional
        Reads them for a teacher as well.
    batch_size, seed, max_shift_px, kin_size : int
        See :class:`braindecode_clip.config.clip.TrainConfig`.
    mean, std : sequence of 3 floats
        Normalisation of RGB in 0 to 1.
    data : DataConfig
        Cuts and who may not meet in a batch.
    interpolation : {"bicubic", "bilinear", "nearest"}
        How random cuts are resized.
    n_workers : int
        Threads that decode ahead; 0 decodes when a batch is asked for.

    Raises
    ------
    DataError
        Fewer pairs than one batch: such a run would do no step at all. Or the options ask
        for what these pairs do not have.
    """

    def __init__(
        self,
        pairs: Pairs,
        tokenizer: Tokenizer,
        *,
        batch_size: int,
        seed: int,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        max_shift_px: int = 0,
        kin_size: int = 1,
        data: DataConfig | None = None,
        interpolation: str = "bicubic",
        n_workers: int = 0,
        teacher_tokenizer: Tokenizer | None = None,
    ) -> None:
        self._data = DataConfig() if data is None else data
        _check(pairs, self._data, batch_size=batch_size, kin_size=kin_size)
        self.pairs = pairs
        self._kin_size = kin_size
        self._tokens = tokenizer(pairs.wordings)
        self._teacher_tokens = None
        if teacher_tokenizer is not None:
            self._teacher_tokens = torch.from_numpy(teacher_tokenizer(pairs.wordings))
        self._caption_groups = caption_groups(pairs.wordings)
        self._starts = np.concatenate([[0], np.cumsum(pairs.counts)[:-1]])
        self._batch_size, self._seed, self._shift = batch_size, seed, max_shift_px
        self._mean, self._std, self._interpolation = mean, std, interpolation
        self._orders: dict[int, np.ndarray] = {}
        self._conflicts: Conflicts | None = None
        self.steps_per_epoch = len(pairs) // batch_size
        if self._data.no_duplicates:
            self._separate()
        self._ahead: dict[int, list[Future]] = {}
        self._kept = KeptFeatures()
        self._pool = ThreadPoolExecutor(n_workers) if n_workers and self._decodes else None
        if self._pool is not None:
            weakref.finalize(self, self._pool.shutdown, wait=False, cancel_futures=True)

    @property
    def _decodes(self) -> bool:
        return isinstance(self.pairs.images, PictureStore) or self._data.crop_scale is not None

    def order(self, epoch: int) -> np.ndarray:
        """Return the rows of an epoch, batch by batch."""
        if epoch not in self._orders:
            rng = make_rng(self._seed, "order", epoch)
            while len(self._orders) > 1:
                del self._orders[next(iter(self._orders))]
            self._orders[epoch] = self._drawn_order(rng)
        return self._orders[epoch]

    def dealt(self, epoch: int) -> Dealt:
        """Return the batches of an epoch whose pictures share nothing (no_duplicates)."""
        return deal(
            self._conflicts,
            batch_size=self._batch_size,
            n_batches=self.steps_per_epoch,
            rng=make_rng(self._seed, "order", epoch),
        )

    def order_record(self) -> dict[str, int]:
        """Return how the pictures of an epoch fill its batches; facts for a record."""
        n_seen = len(np.unique(self.order(0)[: self.steps_per_epoch * self._batch_size]))
        return {
            "steps_per_epoch": self.steps_per_epoch,
            "n_left_out_of_first_epoch": len(self.pairs) - n_seen,
        }

    def __getitem__(self, step: int) -> Batch:
        rows = self._rows(step)
        rng = make_rng(self._seed, "batch", step)
        wording = rng.integers(self.pairs.counts[rows])
        if self._decodes:
            images, rows, wording = self._decoded(step, rows, wording)
        elif self._kept.images is not None:
            images = self._kept.images[rows]
        else:
            images = self.pairs.images[rows]
        if self._shift:
            images = shifted(images, self._shift, rng)
        at = self._starts[rows] + wording
        is_feature = isinstance(images, torch.Tensor)
        return Batch(
            pixels=images if is_feature else normalised(images, self._mean, self._std),
            tokens=torch.from_numpy(self._tokens[at]),
            groups=torch.from_numpy(self._caption_groups[at]),
            rows=rows,
            teacher_tokens=None if self._teacher_tokens is None else self._teacher_tokens[at],
            texts=None if self._kept.texts is None else self._kept.texts[at],
        )

    def keep(self, features: KeptFeatures) -> None:
        """Give features of locked towers in place of pixels, and beside tokens, from now on."""
        self._kept = features
        if features.images is not None and self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None

    @property
    def tokens(self) -> np.ndarray:
        """Tokens of all wordings (n_wordings, context_length) int64."""
        return self._tokens

    def _rows(self, step: int) -> np.ndarray:
        epoch, position = divmod(step, self.steps_per_epoch)
        start = position * self._batch_size
        return self.order(epoch)[start : start + self._batch_size]

    def _drawn_order(self, rng: np.random.Generator) -> np.ndarray:
        if self._conflicts is not None:
            return deal(
                self._conflicts,
                batch_size=self._batch_size,
                n_batches=self.steps_per_epoch,
                rng=rng,
            ).batches.ravel()
        if self.pairs.kin is None or self._kin_size == 1:
            return rng.permutation(len(self.pairs))
        return kin_order(self.pairs.kin, self._kin_size, rng)

    def _separate(self) -> None:
        """Find who may not meet, and how many batches that leaves."""
        rows = np.arange(len(self.pairs))
        facts = {
            "caption": (np.repeat(rows, self.pairs.counts), self._caption_groups),
            "group": (rows, self.pairs.groups),
            "file": (rows, self.pairs.files),
        }
        chosen = [facts[name] for name in dict.fromkeys(self._data.no_duplicates)]
        self._conflicts = conflicts_of(len(rows), chosen)
        rng = make_rng(self._seed, "batches")
        n_batches = n_batches_for(self._conflicts, batch_size=self._batch_size, rng=rng)
        if not n_batches:
            raise DataError(
                f"data.no_duplicates: there are no {self._batch_size} pictures that share none of "
                f"{', '.join(self._data.no_duplicates)}, so no batch of that size can be made. "
                "Lower training.batch_size, or change data.no_duplicates."
            )
        self.steps_per_epoch = n_batches
        first = self.dealt(0)
        logger.info(
            "no_duplicates (%s): %d of %d pictures cannot be placed in an epoch of %d batches "
            "of %d, and %d are seen twice",
            ", ".join(self._data.no_duplicates),
            first.n_left_out,
            len(rows),
            n_batches,
            self._batch_size,
            first.n_repeated,
        )

    def _decoded(
        self, step: int, rows: np.ndarray, wording: np.ndarray
    ) -> tuple[np.ndarray | torch.Tensor, np.ndarray, np.ndarray]:
        """Return the pixels of a step, and its rows and wordings with stand-ins put in."""
        epoch = step // self.steps_per_epoch
        if self._pool is None:
            pixels = [self._pixels(epoch, int(row)) for row in rows]
        else:
            self._look_ahead(step)
            pixels = [future.result() for future in self._ahead.pop(step)]
        if any(own is None for own in pixels):
            self.pairs.images.check()
            rows, wording = rows.copy(), wording.copy()
            for place, own in enumerate(pixels):
                if own is None:
                    found = self._stand_in(step, place, rows)
                    rows[place], wording[place], pixels[place] = found
        if self._kept.images is not None:
            return self._kept.images[rows], rows, wording
        return np.stack(pixels), rows, wording

    def _look_ahead(self, step: int) -> None:
        wanted = range(step, step + 1 + _STEPS_AHEAD)
        for old in [known for known in self._ahead if known not in wanted]:
            for future in self._ahead.pop(old):
                future.cancel()
        for near in wanted:
            if near not in self._ahead:
                epoch = near // self.steps_per_epoch
                self._ahead[near] = [
                    self._pool.submit(self._pixels, epoch, int(row)) for row in self._rows(near)
                ]

    def _pixels(self, epoch: int, row: int) -> np.ndarray | None:
        """Return one picture (side, side, 3) uint8 as this epoch shows it; None if corrupt."""
        if self._kept.images is not None:
            return None if self._kept.is_corrupt[row] else _KEPT
        images, scale = self.pairs.images, self._data.crop_scale
        if scale is None:
            return images.prepared(row)
        if isinstance(images, PictureStore):
            picture = images.whole(row)
        else:
            picture = Image.fromarray(images[row])
        if picture is None:
            return None
        return random_cut(
            picture,
            self.pairs.shape_px[0],
            scale=scale,
            interpolation=self._interpolation,
            rng=make_rng(self._seed, "cut", epoch, row),
        )

    def _stand_in(self, step: int, place: int, rows: np.ndarray) -> tuple[int, int, np.ndarray]:
        """Draw a picture for the place of a corrupt one: its row, wording and pixels."""
        rng = make_rng(self._seed, "stand-in", step, place)
        others = set(np.delete(rows, place).tolist())
        for _ in range(_STAND_INS_TRIED):
            row = int(rng.integers(len(self.pairs)))
            if row in others or not self._may_join(row, others):
                continue
            pixels = self._pixels(step // self.steps_per_epoch, row)
            if pixels is not None:
                return row, int(rng.integers(self.pairs.counts[row])), pixels
        store = self.pairs.images
        raise DataError(
            f"step {step}: no stand-in was found for the corrupt {store.names[rows[place]]}; "
            f"corrupt are {some(store.listed())}. Restore them, or lower training.batch_size."
        )

    def _may_join(self, row: int, others: set[int]) -> bool:
        if self._conflicts is None:
            return True
        keys = self._conflicts.keys
        return all(keys[row].isdisjoint(keys[other]) for other in others)


def _check(pairs: Pairs, data: DataConfig, *, batch_size: int, kin_size: int) -> None:
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
    if data.no_duplicates and kin_size > 1:
        problems.add(
            f"data.no_duplicates keeps look-alikes apart and training.kin_size {kin_size} puts "
            "them together. Use one of the two."
        )
    _check_facts(pairs, data.no_duplicates, problems)
    problems.raise_if_any()


def _check_facts(pairs: Pairs, wanted: Sequence[str], problems: Problems) -> None:
    if "group" in wanted and pairs.groups is None:
        problems.add(
            "data.no_duplicates names 'group', and the pairs have no groups. Give a table with "
            "a column 'group', or shards with 'group' in their JSON."
        )
    if "file" in wanted and pairs.files is None:
        problems.add("data.no_duplicates names 'file', and identical files were not looked for.")
