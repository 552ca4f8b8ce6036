"""How many pictures or captions at once: as many as fit, up to where more gain nothing.

The answer depends on memory and on the length of the list alone. A search by the clock would
answer differently from run to run, and with it the last bits of the vectors.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any, Literal

import torch

from braindecode_clip.clip.encoders import ClipEncoder
from braindecode_clip.clip.fingerprint import probe_pictures

#: Beyond these, throughput gains nothing: rows of a matrix product on one core, or on a GPU.
_MOST_ON_CPU, _MOST_ON_CUDA = 32, 512
#: Inputs, outputs and work space of an operation, in units of its largest input and output.
_WORK_SPACE = 4
#: The share of the free memory that batches may take.
_SHARE = 0.5


def choose_batch_size(
    encoder: ClipEncoder, n_items: int, modality: Literal["image", "text"], *, n_encoders: int
) -> int:
    """Choose the size of batches for a list.

    Parameters
    ----------
    encoder : ClipEncoder
        At its final precision.
    n_items : int
        Length of the list; a short one is shared among the encoders.
    modality : str
    n_encoders : int
        Batches encoded at once; they share the memory.

    Returns
    -------
    int
        A power of two, so that halves of batches line up with those of another start.
    """
    most = _MOST_ON_CUDA if encoder.device.type == "cuda" else _MOST_ON_CPU
    fitting = _SHARE * free_memory_bytes(encoder.device) / n_encoders
    limit = min(most, n_items / n_encoders, fitting / max(1, bytes_for_one(encoder, modality)))
    size = 1
    while size * 2 <= limit:
        size *= 2
    return size


def bytes_for_one(encoder: ClipEncoder, modality: Literal["image", "text"]) -> int:
    """Estimate what one more picture or caption in a batch needs while it is encoded, in bytes.

    CUDA: measured. CPU: from the largest layer's input and output, since nothing there
    counts what is allocated.
    """
    if encoder.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(encoder.device)
        before = torch.cuda.memory_allocated(encoder.device)
        _encode_one(encoder, modality)
        return torch.cuda.max_memory_allocated(encoder.device) - before
    largest = 0

    def note(module: torch.nn.Module, inputs: Any, output: Any) -> None:
        nonlocal largest
        tensors = [t for t in (*inputs, output) if isinstance(t, torch.Tensor)]
        largest = max(largest, sum(t.numel() * t.element_size() for t in tensors))

    leaves = [module for module in encoder.model.modules() if not list(module.children())]
    handles = [module.register_forward_hook(note) for module in leaves]
    try:
        _encode_one(encoder, modality)
    finally:
        for handle in handles:
            handle.remove()
    return _WORK_SPACE * largest


def free_memory_bytes(device: torch.device) -> float:
    """Return the memory that a device has left; infinite where the system does not say.

    On a CPU also within the limit of a container or a job (cgroup).
    """
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    free = [float("inf")]
    with contextlib.suppress(OSError, StopIteration, ValueError):
        lines = Path("/proc/meminfo").read_text().splitlines()
        line = next(line for line in lines if line.startswith("MemAvailable"))
        free.append(float(line.split()[1]) * 1024)
    with contextlib.suppress(OSError, ValueError):
        group = Path("/sys/fs/cgroup")
        limit = float((group / "memory.max").read_text())
        used = float((group / "memory.current").read_text())
        # Cached files count as used there, and go when the memory is wanted.
        stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        free.append(limit - used + float(stat.get("file", 0)))
    return min(free)


def _encode_one(encoder: ClipEncoder, modality: Literal["image", "text"]) -> None:
    if modality == "image":
        encoder.encode_prepared([encoder.prepare_image(probe_pictures()[0])])
    else:
        encoder.encode_text(["1"])
