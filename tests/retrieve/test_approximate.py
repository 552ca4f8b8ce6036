"""FAISS indices: the flat one is exact, the others as good as their settings, all measured."""

from __future__ import annotations

import builtins

import numpy as np
import pytest

from braindecode_clip.errors import ConfigError
from braindecode_clip.retrieve import ExactSearch, nearest
from braindecode_clip.retrieve.approximate import ApproximateSearch, measure_recall

KINDS = ("cosine", "correlation", "euclidean")


def data(seed: int, n: int = 2000, d: int = 12) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((40, d))
    gallery = centres[rng.integers(0, 40, n)] + 0.4 * rng.standard_normal((n, d))
    return rng.standard_normal((30, d)), gallery.astype(np.float32)


@pytest.fixture
def faiss() -> None:
    pytest.importorskip("faiss", reason="the extra 'faiss' is not installed")


@pytest.mark.usefixtures("faiss")
@pytest.mark.parametrize("similarity", KINDS)
def test_flat_and_exhaustive_cells_find_what_the_exact_search_finds(similarity: str) -> None:
    queries, gallery = data(0)
    expected = nearest(queries, gallery, k=7, similarity=similarity)
    for settings in ({"kind": "flat"}, {"kind": "ivf", "n_lists": 9, "n_probe": 9}):
        found = ApproximateSearch(gallery, similarity=similarity, **settings).nearest(queries, 7)
        assert np.array_equal(found.index, expected.index)
        assert np.array_equal(found.score, expected.score)


@pytest.mark.usefixtures("faiss")
@pytest.mark.parametrize("kind", ["flat", "ivf", "hnsw"])
def test_offsets_enter_the_search(kind: str) -> None:
    queries, gallery = data(1)
    offset = np.random.default_rng(2).normal(0, 0.5, len(gallery))
    expected = nearest(queries, gallery, k=5, offset=offset)
    settings = {"n_lists": 8, "n_probe": 8, "ef": 2000}
    search = ApproximateSearch(gallery, kind=kind, offset=offset, **settings)
    found = search.nearest(queries, 5)
    assert (found.index == expected.index).mean() > 0.98
    plain = nearest(queries, gallery, k=5)
    assert (plain.index == expected.index).mean() < 0.2


@pytest.mark.usefixtures("faiss")
@pytest.mark.parametrize("kind", ["ivf", "hnsw"])
def test_recall_is_the_share_found_and_grows_with_effort(kind: str) -> None:
    queries, gallery = data(3)
    exact = ExactSearch(gallery)
    true = exact.nearest(queries, 10)
    recalls = []
    for effort in (1, 4, 512):
        search = ApproximateSearch(
            gallery, kind=kind, n_lists=64, n_probe=min(effort, 64), n_links=4, ef=effort
        )
        found = search.nearest(queries, 10)
        literal = np.mean(
            [len(set(a) & set(b)) / 10 for a, b in zip(found.index, true.index, strict=True)]
        )
        recalls.append(measure_recall(search, exact, queries, k=10))
        assert recalls[-1] == pytest.approx(literal)
        assert (found.score[:, 1:] <= found.score[:, :-1]).all()
    assert recalls[0] < recalls[1] < recalls[2]
    assert recalls[0] < 0.9 < recalls[2]


@pytest.mark.usefixtures("faiss")
def test_cells_that_hold_too_few_leave_gaps() -> None:
    queries, gallery = data(4, n=60)
    search = ApproximateSearch(gallery, kind="ivf", n_lists=30, n_probe=1)
    found = search.nearest(queries, 40)
    missing = found.index < 0
    assert missing.any()
    assert (found.score[missing] == -np.inf).all() and np.isfinite(found.score[~missing]).all()


@pytest.mark.usefixtures("faiss")
def test_bad_settings() -> None:
    with pytest.raises(ConfigError, match="expected one of"):
        ApproximateSearch(np.eye(3), kind="lsh")
    with pytest.raises(ConfigError, match="k: got 0"):
        ApproximateSearch(np.eye(3)).nearest(np.eye(3), 0)


def test_without_faiss_one_message_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__

    def without(name: str, *rest, **more):
        if name == "faiss":
            raise ImportError(name)
        return original(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError, match=r"pip install 'braindecode-clip\[faiss\]'"):
        ApproximateSearch(np.eye(3), kind="hnsw")
