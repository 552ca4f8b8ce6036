"""One seed for a study, and independent streams of it for every purpose."""

from __future__ import annotations

import hashlib

import numpy as np


def derive_seed(seed: int, *labels: str | int) -> int:
    """Derive a 63-bit seed from a master seed and labels, the same on every machine.

    Streams of different labels are independent, so adding a stage or a subject leaves the
    random numbers of all others as they were.
    """
    text = "\x1f".join([str(seed), *map(str, labels)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def make_rng(seed: int, *labels: str | int) -> np.random.Generator:
    """Return a NumPy generator for :func:`derive_seed` of the same arguments."""
    return np.random.default_rng(derive_seed(seed, *labels))
