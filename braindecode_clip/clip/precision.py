"""Half the bits where they cost nothing: bfloat16, checked on the job's own pictures or texts.

bfloat16 keeps 8 significant bits. A CLIP tower's errors average out (cosine 0.99995 for ViT-B/32
with random weights), but large single activations can spoil that, so it is measured each time.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Literal

import numpy as np
import torch
from PIL import Image

from braindecode_clip.clip.encoders import ClipEncoder
from braindecode_clip.clip.fingerprint import probe_pictures

#: A vector in bfloat16 must keep this cosine to the one in float32.
MIN_COSINE = 0.9999

#: Looked at in every job, so that a job of pictures and one of captions agree more often.
#: Numbers, for a small vocabulary holds no word for sure.
_TEXTS = ("1", "2 4", "7 8 9", "3 0 5")
_N_PICTURES = 4

logger = logging.getLogger(__name__)


def settle_precision(
    encoder: ClipEncoder,
    wanted: Literal["auto", "fp32", "bf16"],
    *,
    pictures: Sequence[np.ndarray] = (),
    texts: Sequence[str] = (),
) -> float | None:
    """Choose between float32 and bfloat16, and set the encoder to it.

    On a CPU the weights themselves become bfloat16; on CUDA the forward pass runs under
    autocast. The fingerprint's "precision" follows.

    Parameters
    ----------
    encoder : ClipEncoder
        In float32.
    wanted : str
        fp32: nothing is done. bf16: set without condition. auto: bfloat16 where the
        processor multiplies it natively and every probe keeps a cosine of
        :data:`MIN_COSINE` to its float32 vector.
    pictures : sequence of ndarray
        Probes of the job, from :meth:`ClipEncoder.prepare_image`.
    texts : sequence of str
        Probes of the job. A few fixed pictures and texts are looked at beside them.

    Returns
    -------
    float or None
        The lowest cosine of all probes; None where nothing was measured.
    """
    if wanted == "fp32" or (wanted == "auto" and not _is_native(encoder.device)):
        return None
    sees, reads = ("image" in encoder.modalities, "text" in encoder.modalities)
    probes = [*map(encoder.prepare_image, _fixed_pictures()), *pictures] if sees else []
    captions = [*_TEXTS, *texts] if reads else []

    def vectors() -> np.ndarray:
        parts = [encoder.encode_prepared(probes)] if sees else []
        found = np.concatenate([*parts, encoder.encode_text(captions)] if reads else parts)
        # A vector that vanished has the cosine 0, which fails.
        norms = np.linalg.norm(found, axis=1, keepdims=True)
        return found / np.maximum(norms, np.finfo(np.float32).tiny)

    exact = vectors()
    restore = _lower(encoder)
    # float64: the rounding of the sum itself must not count.
    lowest = float(np.einsum("nd,nd->n", exact.astype(np.float64), vectors()).min())
    # A comparison with NaN is false, so NaN counts as a failure.
    fits = lowest >= MIN_COSINE
    if not fits and wanted == "auto":
        restore()
        logger.info(
            "precision: float32, for the cosine of %s to it falls to %.6f (below %g) on %d probes",
            "bfloat16",
            lowest,
            MIN_COSINE,
            len(exact),
        )
        return lowest
    log = logger.info if fits else logger.warning
    log(
        "precision: %s, cosine to float32 at least %.6f on %d probes%s",
        encoder.precision,
        lowest,
        len(exact),
        "" if fits else f"; below {MIN_COSINE}. Set 'precision: fp32' for exact vectors.",
    )
    return lowest


def _lower(encoder: ClipEncoder) -> Callable[[], None]:
    """Set an encoder to bfloat16; return what takes it back."""
    if encoder.device.type == "cuda":
        encoder.set_precision("bfloat16 autocast")
        return lambda: encoder.set_precision("float32")
    # The old storage is kept aside, which needs half as much again, not a second model.
    tensors = chain(encoder.model.parameters(), encoder.model.buffers())
    kept = [(tensor, tensor.data) for tensor in tensors if tensor.is_floating_point()]
    for tensor, data in kept:
        tensor.data = data.to(torch.bfloat16)
    encoder.set_precision("bfloat16")

    def restore() -> None:
        for tensor, data in kept:
            tensor.data = data
        encoder.set_precision("float32")

    return restore


def training_dtype(
    wanted: Literal["fp32", "auto", "bf16", "fp16"], device: torch.device
) -> torch.dtype:
    """Return what the towers multiply in while they are trained; see ``TrainConfig``."""
    if wanted == "auto" and not _is_native(device):
        return torch.float16 if device.type == "cuda" else torch.float32
    names = {"fp32": torch.float32, "fp16": torch.float16}
    return names.get(wanted, torch.bfloat16)


def _is_native(device: torch.device) -> bool:
    """Whether a device multiplies bfloat16 itself; where it does not, float32 is faster."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu":
        return False
    with contextlib.suppress(AttributeError, RuntimeError):
        found = torch.cpu.get_capabilities()
        # On x86, oneDNN also takes bfloat16 without the instruction, but slowly.
        if found.get("architecture") == "x86_64":
            return bool(found.get("avx512_bf16") or found.get("amx_bf16"))
        return bool(found.get("bf16"))
    return False


def _fixed_pictures() -> list[Image.Image]:
    """Return a picture of edges and all hues, and the same turned and coarser."""
    base = probe_pictures()[0]
    turned = [base.rotate(90 * k) for k in range(_N_PICTURES - 1)]
    return [*turned, base.resize((29, 23)).resize((200, 150), Image.Resampling.NEAREST)]
