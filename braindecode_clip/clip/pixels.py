"""A model's preprocessing in two halves: integer pixels one by one, numbers batch by batch.

open_clip's evaluation transform resizes and crops with Pillow, then turns each picture into
float32 and normalises it. The first half is run as it is, in many threads at once (Pillow lets
others run meanwhile), so the pixels are the model's own to the bit. The second half is done once
for a whole batch and on the model's device: a quarter of the bytes travels there.

torchvision's resize of uint8 tensors would be six times faster than Pillow's. It is left out: it
rounds its weights to 16 bits, and 0.4 % of the values come out one level apart.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image


class Pixels:
    """The two halves of a transform.

    Parameters
    ----------
    transform : callable
        open_clip's: a PIL image in, Tensor (3, height, width) float32 out. One that does
        not end with "to tensor" and "normalise" is run whole for each picture.
    """

    def __init__(self, transform: Callable[[Image.Image], torch.Tensor]) -> None:
        self._whole = transform
        steps = list(getattr(transform, "transforms", ()))
        ending = [type(step).__name__ for step in steps[-2:]]
        self.is_split = ending in (["MaybeToTensor", "Normalize"], ["ToTensor", "Normalize"])
        self._steps: list[Callable[[Image.Image], Image.Image]] = []
        if self.is_split:
            self._steps = steps[:-2]
            self._mean, self._std = (
                torch.as_tensor(values, dtype=torch.float32)[:, None, None]
                for values in (steps[-1].mean, steps[-1].std)
            )

    def prepare(self, picture: Image.Image) -> np.ndarray:
        """Resize and crop an RGB picture; safe in threads.

        Returns
        -------
        ndarray (height, width, 3) uint8
            Or (3, height, width) float32, from a transform that cannot be split.
        """
        if not self.is_split:
            return self._whole(picture).numpy()
        for step in self._steps:
            picture = step(picture)
        return np.asarray(picture)

    def numbers(self, batch: torch.Tensor) -> torch.Tensor:
        """Turn stacked pixels into the model's input, on the device where they are.

        Parameters
        ----------
        batch : Tensor (n, height, width, 3) uint8
            Or what else :meth:`prepare` returned, stacked.

        Returns
        -------
        Tensor (n, 3, height, width) float32
            On a CPU bit for bit what the whole transform returns.
        """
        if not self.is_split:
            return batch
        mean, std = self._mean.to(batch.device), self._std.to(batch.device)
        planes = batch.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
        return planes.div_(255).sub_(mean).div_(std)


def stack(prepared: Sequence[np.ndarray], *, into: torch.Tensor | None = None) -> torch.Tensor:
    """Stack prepared pictures, into the first rows of a buffer where one is given."""
    arrays: Any = list(prepared)
    if into is None:
        return torch.from_numpy(np.stack(arrays))
    np.stack(arrays, out=into[: len(arrays)].numpy())
    return into[: len(arrays)]
