"""Two encoders of the same stimuli, decoded with known noise."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from audit_sides import embeddings_of, side_of

from braindecode_clip.audit.places import Side


@pytest.fixture(scope="session")
def make_sides() -> Callable[..., tuple[Side, Side]]:
    """Return a function that makes an original and an adapted side of one subject."""

    def make(
        *,
        seed: int = 0,
        n_test: int = 14,
        n_train: int = 40,
        noise: tuple[float, float] = (0.3, 0.3),
        vectors: tuple[np.ndarray, np.ndarray] | None = None,
        same: bool = False,
        **how: object,
    ) -> tuple[Side, Side]:
        rng = np.random.default_rng(seed)
        n = n_test + n_train
        if vectors is None:
            first = rng.standard_normal((n, 9))
            second = first if same else rng.standard_normal((n, 11))
            vectors = (first, second)
        sides = []
        repeats = int(how.get("repeats", 1))
        shape = n_test * repeats
        draws = [rng.standard_normal((shape, v.shape[1])) for v in vectors]
        if same:
            draws[1] = draws[0]
        for name, own, drawn, scale in zip(("scenes", "tuned"), vectors, draws, noise, strict=True):
            known = embeddings_of(own, name)
            sides.append(side_of(known, scale * drawn, encoder=name, n_test=n_test, **how))
        return sides[0], sides[1]

    return make
