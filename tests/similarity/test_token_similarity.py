from __future__ import annotations

import numpy as np
import pytest

from braindecode_clip import similarity as module
from braindecode_clip.artifacts import TokenRows
from braindecode_clip.errors import ConfigError, DataError
from braindecode_clip.similarity import similarity_matrix, token_similarity


def reference(queries, gallery, kind):
    """Cosines (or correlations) of the tokens laid end to end, in float64."""
    sides = []
    for side in (queries, gallery):
        flat = side.reshape(len(side), -1).astype(np.float64)
        if kind == "correlation":
            flat = flat - flat.mean(axis=1, keepdims=True)
        sides.append(flat / np.linalg.norm(flat, axis=1, keepdims=True))
    return sides[0] @ sides[1].T


@pytest.mark.parametrize("kind", ["cosine", "correlation"])
@pytest.mark.parametrize("block", [1, 500, 2**23])
def test_it_is_the_similarity_of_tokens_laid_end_to_end(monkeypatch, kind, block):
    monkeypatch.setattr(module, "BLOCK_NUMBERS", block)
    rng = np.random.default_rng(0)
    queries = (rng.standard_normal((9, 6, 5)) * 30 + 4).astype(np.float32)
    gallery = rng.standard_normal((14, 6, 5)).astype(np.float16)
    found = similarity_matrix(queries, TokenRows(gallery), similarity=kind)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, reference(queries, gallery, kind), atol=1e-7)


def test_identical_candidates_tie():
    rng = np.random.default_rng(3)
    gallery = rng.standard_normal((40, 7, 11)).astype(np.float32)
    gallery[[5, 17, 39]] = gallery[0]
    found = token_similarity(rng.standard_normal((23, 7, 11)), gallery)
    np.testing.assert_array_equal(found[:, [5, 17, 39]], found[:, [0, 0, 0]])


def test_what_cannot_be_compared_is_refused():
    rng = np.random.default_rng(1)
    good = rng.standard_normal((4, 3, 2))
    zeros, nan, flat = good.copy(), good.copy(), good.copy()
    zeros[2], nan[1, 2, 1], flat[3] = 0, np.nan, 0.7
    with pytest.raises(DataError, match=r"gallery.*only zeros.*'2'"):
        token_similarity(good, zeros)
    with pytest.raises(DataError, match=r"predicted.*NaN.*'1'"):
        token_similarity(nan, good)
    with pytest.raises(DataError, match=r"equal numbers.*'3'"):
        token_similarity(flat, good, similarity="correlation")
    with pytest.raises(DataError, match=r"\(4, 3, 2\).*\(4, 2, 3\)"):
        token_similarity(good, good.reshape(4, 2, 3))
    with pytest.raises(DataError):
        similarity_matrix(good, good.reshape(4, 6))
    with pytest.raises(ConfigError, match="cosinus"):
        token_similarity(good, good, similarity="cosinus")
