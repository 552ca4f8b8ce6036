"""Distractors: joined, told from candidates' own pictures, refused where they do not fit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import rankdata

from braindecode_clip.artifacts import Embeddings, Gallery, Predictions
from braindecode_clip.errors import DataError
from braindecode_clip.retrieve import gallery_ids, make_pool, retrieve

Study = tuple[Predictions, Embeddings]


def make_gallery(embeddings: Embeddings, vectors: np.ndarray, **changes) -> Gallery:
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    content = {
        "ids": np.array([f"far-{i}" for i in range(len(vectors))]),
        "vectors": vectors.astype(np.float32),
        "modality": embeddings.modality,
        "fingerprint": embeddings.fingerprint,
        "metadata": pd.DataFrame({"place": np.arange(len(vectors))}),
        "origin": "elsewhere",
    }
    return Gallery(**(content | changes))


def test_distractors_compete(make_study: Callable[..., Study]) -> None:
    predictions, embeddings = make_study((2, 1, 3))
    far = np.random.default_rng(1).standard_normal((29, 5))
    ids = gallery_ids(predictions, embeddings)
    plain = retrieve(predictions, embeddings, ids)
    result = retrieve(predictions, embeddings, ids, distractors=make_gallery(embeddings, far))
    vectors = np.concatenate([embeddings.vectors[embeddings.rows(ids)], far])
    own = predictions.vectors / np.linalg.norm(predictions.vectors, axis=1, keepdims=True)
    table = own @ (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).T
    expected = rankdata(-table, axis=1)[np.arange(6), plain.true_index]
    assert result.queries["rank"].tolist() == expected.tolist()
    assert (result.queries["rank"] >= plain.queries["rank"]).all()
    assert (result.queries["n_distractors"] == 3 + 29 - 1).all()
    assert result.gallery_ids.tolist() == [*ids, *(f"far-{i}" for i in range(29))]
    assert (result.info["n_distractors_added"], result.info["n_gallery"]) == (29, 32)
    back = retrieve(
        predictions,
        embeddings,
        ids,
        direction="image_to_brain",
        distractors=make_gallery(embeddings, far),
    )
    assert back.similarity.shape == (6, 6)
    assert "n_distractors_added" not in back.info


def test_pictures_of_candidates_are_left_out_and_trained_ones_counted(
    make_study: Callable[..., Study],
) -> None:
    predictions, embeddings = make_study((1, 1, 1, 1))
    rng = np.random.default_rng(2)
    ids = gallery_ids(predictions, embeddings)
    candidates = embeddings.vectors[embeddings.rows(ids)]
    trained = embeddings.vectors[embeddings.rows(predictions.train_ids[:3])]
    # As when a picture is encoded twice, in batches of other sizes.
    again = candidates[[0, 2]] + 1e-5 * rng.standard_normal((2, 5))
    near = candidates[[1]] + 0.02 * rng.standard_normal((1, 5))
    gallery = make_gallery(embeddings, np.concatenate([again, near, trained]))
    pool = make_pool(predictions, embeddings, ids, distractors=gallery)
    assert pool.names.tolist() == [*ids, "far-2", "far-3", "far-4", "far-5"]
    assert pool.facts == {"n_distractors_added": 4, "n_same_dropped": 2, "n_trained": 3}
    np.testing.assert_array_equal(pool.vectors[4:], gallery.vectors[2:])


def test_the_same_name_is_fine_for_the_same_picture_alone(
    make_study: Callable[..., Study],
) -> None:
    predictions, embeddings = make_study((1, 1, 1))
    ids = gallery_ids(predictions, embeddings)
    rows = embeddings.rows(ids)
    far = np.random.default_rng(3).standard_normal((2, 5))
    names = np.array([ids[0], "far-1"])
    same = make_gallery(embeddings, np.stack([embeddings.vectors[rows[0]], far[1]]), ids=names)
    pool = make_pool(predictions, embeddings, ids, distractors=same)
    assert pool.names.tolist() == [*ids, "far-1"]
    with pytest.raises(DataError, match=f"1 have names of candidates.*'{ids[0]}'"):
        make_pool(
            predictions, embeddings, ids, distractors=make_gallery(embeddings, far, ids=names)
        )


def test_all_that_does_not_fit_is_named(make_study: Callable[..., Study]) -> None:
    predictions, embeddings = make_study()
    ids = gallery_ids(predictions, embeddings)
    far = np.random.default_rng(4).standard_normal((2, 4))
    other = {**embeddings.fingerprint, "library": "9"}
    gallery = make_gallery(embeddings, far, modality="text", fingerprint=other)
    with pytest.raises(DataError) as caught:
        retrieve(predictions, embeddings, ids, distractors=gallery)
    for words in ("elsewhere", "library: '1.0' != '9'", "texts", "4 dimensions"):
        assert words in str(caught.value)


def test_a_gallery_checks_itself(make_study: Callable[..., Study]) -> None:
    _, embeddings = make_study()
    gallery = Gallery.from_embeddings(embeddings, origin="here")
    assert np.array_equal(gallery.as_embeddings().vectors, embeddings.vectors)
    with pytest.raises(DataError, match="3 rows for 11 candidates"):
        replace(gallery, metadata=pd.DataFrame({"a": range(3)}))
    with pytest.raises(DataError, match="unit norm"):
        replace(gallery, vectors=2 * embeddings.vectors)
