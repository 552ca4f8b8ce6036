"""Vectors of held-out pairs, as the model in training makes them."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

from braindecode_clip.clip.locked_features import Remembered, image_vectors, text_vectors
from braindecode_clip.clip.pairs import Pairs, normalised
from braindecode_clip.clip.picture_store import prepared_rows
from braindecode_clip.clip.tokenizers import Tokenizer


def encode_pairs(
    model: torch.nn.Module,
    pairs: Pairs,
    tokenizer: Tokenizer,
    *,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    batch_size: int = 256,
    remembered: Remembered | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return unit vectors of pictures and of first wordings, both (n, n_dims) float32.

    Parameters
    ----------
    model : Module
        An open_clip model; in evaluation mode meanwhile.
    pairs : Pairs
        None of their pictures is corrupt.
    tokenizer : Tokenizer
    mean, std : tuple of 3 floats
        Normalisation of RGB in 0 to 1.
    batch_size : int
        Pairs at once.
    remembered : Remembered, optional
        Keeps features of locked towers from one call to the next.
    """
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    images, texts = [], []
    captions = pairs.first_wordings
    remembered = Remembered() if remembered is None else remembered
    with torch.inference_mode():
        for start in range(0, len(pairs), batch_size):
            rows = range(start, min(start + batch_size, len(pairs)))

            def pixels(rows: range = rows) -> torch.Tensor:
                return normalised(prepared_rows(pairs.images, rows), mean, std).to(device)

            def tokens(rows: range = rows) -> torch.Tensor:
                return torch.as_tensor(tokenizer(captions[rows.start : rows.stop])).to(device)

            side = image_vectors(model, remembered.inputs(model, "image", start, pixels))
            images.append(functional.normalize(side, dim=-1).float().cpu().numpy())
            side = text_vectors(model, remembered.inputs(model, "text", start, tokens))
            texts.append(side.float().cpu().numpy())
    model.train(was_training)
    return np.concatenate(images), np.concatenate(texts)
