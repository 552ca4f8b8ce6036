"""Open searches against loops: pictures, texts, categories, and the ranks of the true ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import rankdata

from braindecode_clip.artifacts import Embeddings, Gallery, Predictions
from braindecode_clip.config.candidates import IndexConfig
from braindecode_clip.config.retrieve import CorrectionConfig
from braindecode_clip.errors import DataError
from braindecode_clip.retrieve import hub_offsets
from braindecode_clip.retrieve.open_search import open_search

Study = tuple[Predictions, Embeddings]


def make_gallery(embeddings: Embeddings, n: int = 40, *, seed: int = 1) -> Gallery:
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((n, embeddings.vectors.shape[1]))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    metadata = pd.DataFrame(
        {"kind": [f"k{i % 7}" for i in range(n)], "score": np.arange(n), "n": np.arange(n) * 2}
    )
    ids = np.array([f"word {i}" for i in range(n)])
    return Gallery(
        ids, vectors.astype(np.float32), "text", embeddings.fingerprint, metadata, "words.txt"
    )


def cosines(predictions: Predictions, gallery: Gallery) -> np.ndarray:
    own = predictions.vectors.astype(float)
    return (own / np.linalg.norm(own, axis=1, keepdims=True)) @ gallery.vectors.T.astype(float)


def test_lists_the_nearest_with_what_is_known_of_them(make_study: Callable[..., Study]) -> None:
    predictions, embeddings = make_study((2, 1, 3))
    gallery = make_gallery(embeddings)
    found = open_search(predictions, gallery, k=4)
    table = cosines(predictions, gallery)
    order = np.argsort(-table, axis=1)[:, :4]
    nearest = found.nearest
    assert nearest["candidate"].tolist() == [f"word {i}" for i in order.ravel()]
    assert nearest["n"].tolist() == (2 * order.ravel()).tolist()
    # A column of the gallery never hides one of the search.
    assert nearest["candidate_score"].tolist() == order.ravel().tolist()
    np.testing.assert_allclose(nearest["score"], np.take_along_axis(table, order, 1).ravel(), 1e-6)
    assert nearest["place"].tolist() == [1, 2, 3, 4] * 6
    assert nearest["stimulus_id"].tolist() == np.repeat(predictions.stimulus_id, 4).tolist()
    assert found.samples["best"].tolist() == [f"word {i}" for i in order[:, 0]]
    assert "rank" not in found.samples and "correction" not in nearest
    assert found.facts["n_candidates"] == 40 and found.facts["recall"] == 1.0


def test_ranks_the_true_caption(make_study: Callable[..., Study]) -> None:
    predictions, embeddings = make_study((2, 1, 3))
    gallery = make_gallery(embeddings)
    # Two stimuli share a caption: it is one candidate, so sharing costs nothing.
    names = sorted(set(predictions.stimulus_id))
    truth = {names[0]: "word 3", names[1]: "word 3", names[2]: "word 11", "other": "word 0"}
    found = open_search(predictions, gallery, truth=truth)
    expected = rankdata(-cosines(predictions, gallery), axis=1)
    for i, name in enumerate(predictions.stimulus_id):
        column = int(truth[name].split()[1])
        assert found.samples["rank"][i] == expected[i, column]
        assert found.samples["true_candidate"][i] == truth[name]
    assert (found.samples["n_candidates"] == 40).all()


@pytest.mark.parametrize("score", ["mean", "max"])
def test_ranks_categories(make_study: Callable[..., Study], score: str) -> None:
    predictions, embeddings = make_study((2, 1, 3))
    gallery = make_gallery(embeddings)
    labels = gallery.metadata["kind"].to_numpy().astype(str)
    truth = {name: f"k{i % 7}" for i, name in enumerate(sorted(set(predictions.stimulus_id)))}
    found = open_search(
        predictions, gallery, k=3, truth=truth, categories=labels, category_score=score
    )
    table = cosines(predictions, gallery)
    merge = np.mean if score == "mean" else np.max
    names = sorted(set(labels))
    scores = np.stack([merge(table[:, labels == name], axis=1) for name in names], axis=1)
    order = np.argsort(-scores, axis=1)[:, :3]
    assert found.nearest["candidate"].tolist() == [names[i] for i in order.ravel()]
    expected = rankdata(-scores, axis=1)
    for i, name in enumerate(predictions.stimulus_id):
        assert found.samples["rank"][i] == expected[i, names.index(truth[name])]
    assert found.facts["n_categories"] == 7


@pytest.mark.parametrize("statistics", ["train", "test"])
@pytest.mark.parametrize("categories", [False, True])
def test_corrections_enter_and_are_labelled(
    make_study: Callable[..., Study], statistics: str, categories: bool
) -> None:
    predictions, embeddings = make_study((2, 1, 3, 2))
    predictions = replace(predictions, fold=np.array(list("abababab")))
    training = replace(
        predictions,
        vectors=np.random.default_rng(5).standard_normal((8, 5)).astype(np.float32),
        stimulus_id=predictions.train_ids[np.arange(8) % 5],
    )
    gallery = make_gallery(embeddings)
    labels = np.array([f"k{i}" for i in range(40)]) if categories else None
    found = open_search(
        predictions,
        gallery,
        k=5,
        correction=CorrectionConfig(method="csls", k=2, statistics=statistics),
        training=training,
        categories=labels,
        truth=dict.fromkeys(predictions.stimulus_id, "k7" if categories else "word 7"),
    )
    table = cosines(predictions, gallery)
    for fold in "ab":
        rows = predictions.fold == fold
        reference = training.vectors[rows] if statistics == "train" else predictions.vectors
        offset = hub_offsets(reference, gallery.vectors, method="csls", k=2)
        best = np.argmax(table[rows] - offset, axis=1)
        prefix = "k" if categories else "word "
        assert found.samples["best"][rows].tolist() == [f"{prefix}{i}" for i in best]
        expected = rankdata(offset - table[rows], axis=1)[:, 7]
        assert found.samples["rank"][rows].tolist() == expected.tolist()
    label = "csls" if statistics == "train" else "csls, transductive"
    assert set(found.nearest["correction"]) == set(found.samples["correction"]) == {label}
    assert found.facts["transductive"] is (statistics == "test")


def test_an_index_is_measured(make_study: Callable[..., Study]) -> None:
    pytest.importorskip("faiss", reason="the extra 'faiss' is not installed")
    predictions, embeddings = make_study((2, 1, 3))
    gallery = make_gallery(embeddings, 300)
    exact = open_search(predictions, gallery, k=6)
    index = IndexConfig(kind="ivf", n_lists=30, n_probe=2)
    found = open_search(predictions, gallery, k=6, index=index, truth=None)
    both = [
        len(set(a["candidate"]) & set(b["candidate"])) / 6
        for (_, a), (_, b) in zip(
            exact.nearest.groupby("sample"), found.nearest.groupby("sample"), strict=True
        )
    ]
    assert found.facts["recall"] == pytest.approx(np.mean(both))
    assert 0 < found.facts["recall"] < 1
    wide = open_search(predictions, gallery, k=6, index=IndexConfig(kind="flat"))
    assert wide.facts["recall"] == 1.0
    pd.testing.assert_frame_equal(wide.nearest, exact.nearest)


def test_places_that_an_index_leaves_empty_are_not_listed(
    make_study: Callable[..., Study],
) -> None:
    pytest.importorskip("faiss", reason="the extra 'faiss' is not installed")
    predictions, embeddings = make_study()
    gallery = make_gallery(embeddings, 60)
    index = IndexConfig(kind="ivf", n_lists=30, n_probe=1)
    found = open_search(predictions, gallery, k=50, index=index)
    assert 0 < len(found.nearest) < 6 * 50
    assert np.isfinite(found.nearest["score"]).all()


def test_what_does_not_fit_is_named_at_once(make_study: Callable[..., Study]) -> None:
    predictions, embeddings = make_study()
    gallery = make_gallery(embeddings)
    other = replace(gallery, fingerprint={"library": "7"})
    first = predictions.stimulus_id[0]
    with pytest.raises(DataError) as caught:
        open_search(predictions, other, truth={first: "nowhere"})
    for words in ("words.txt", "another encoder", "no true candidate", "'nowhere'"):
        assert words in str(caught.value)
    with pytest.raises(DataError, match="Pass --decoder and --voxels"):
        open_search(predictions, gallery, correction=CorrectionConfig())
