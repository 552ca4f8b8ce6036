"""Ranks in both directions against loops, and everything that must be refused."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from braindecode_clip.artifacts import Embeddings, Predictions
from braindecode_clip.errors import ConfigError, DataError
from braindecode_clip.retrieve import count_duplicates, gallery_ids, retrieve

Study = tuple[Predictions, Embeddings]
MakeStudy = Callable[..., Study]
REPEATS = (3, 1, 4, 2)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a.astype(float), b.astype(float)
    return float(a @ b / np.sqrt(a @ a) / np.sqrt(b @ b))


@pytest.mark.parametrize("candidates", ["test", "all"])
def test_brain_to_image_is_its_definition(make_study: MakeStudy, candidates: str) -> None:
    predictions, embeddings = make_study(REPEATS)
    ids = gallery_ids(predictions, embeddings, candidates=candidates)
    result = retrieve(predictions, embeddings, ids, n_top=3)
    vector = dict(zip(embeddings.ids, embeddings.vectors, strict=True))
    for i, name in enumerate(predictions.stimulus_id):
        scores = {other: cosine(predictions.vectors[i], vector[other]) for other in ids}
        row = result.queries.iloc[i]
        assert row["rank"] == 1 + sum(s > scores[name] for o, s in scores.items() if o != name)
        assert row["n_beaten"] == len(ids) - row["rank"]
        assert row["n_distractors"] == len(ids) - 1
        assert row["stimulus_id"] == name
        assert row["similarity"] == pytest.approx(scores[name], abs=1e-6)
        assert result.top_id[i].tolist() == sorted(ids, key=lambda o: -scores[o])[:3]
        assert result.gallery_ids[result.true_index[i]] == name
    assert (np.diff(result.top_similarity, axis=1) <= 0).all()


def test_image_to_brain_is_its_definition(make_study: MakeStudy) -> None:
    predictions, embeddings = make_study(REPEATS)
    ids = gallery_ids(predictions, embeddings, candidates="all")
    result = retrieve(predictions, embeddings, ids, direction="image_to_brain", n_top=4)
    names = predictions.stimulus_id
    vector = dict(zip(embeddings.ids, embeddings.vectors, strict=True))
    for i, name in enumerate(names):
        scores = [cosine(vector[name], sample) for sample in predictions.vectors]
        others = [scores[j] for j in range(len(names)) if names[j] != name]
        row = result.queries.iloc[i]
        assert row["rank"] == 1 + sum(other > scores[i] for other in others)
        assert row["n_distractors"] == len(others) == len(names) - sum(names == name)
        best = np.argsort(-np.array(scores))[:4]
        assert result.top_id[i].tolist() == names[best].tolist()
        assert result.true_index[i] == i
    assert np.array_equal(result.gallery_ids, names)


def test_with_one_sample_a_picture_the_directions_are_transposed(make_study: MakeStudy) -> None:
    predictions, embeddings = make_study()
    ids = predictions.stimulus_id
    forth = retrieve(predictions, embeddings, ids)
    back = retrieve(predictions, embeddings, ids, direction="image_to_brain")
    assert np.array_equal(forth.similarity.T, back.similarity)
    assert np.array_equal(forth.true_index, back.true_index)
    assert (forth.direction, back.direction) == ("brain_to_image", "image_to_brain")


def test_labels_go_with_the_result(make_study: MakeStudy) -> None:
    predictions, embeddings = make_study(REPEATS)
    ids = gallery_ids(predictions, embeddings)
    info = retrieve(predictions, embeddings, ids, gallery="test").info
    assert info == {
        **predictions.info,
        "gallery": "test",
        "similarity": "cosine",
        "unit": "stimulus",
        "n_gallery": 4,
        "n_duplicates": 0,
    }


def test_correlation_takes_the_mean_off(make_study: MakeStudy) -> None:
    predictions, embeddings = make_study()
    shifted = replace(predictions, vectors=predictions.vectors + 100)
    ids = gallery_ids(predictions, embeddings)
    plain = retrieve(predictions, embeddings, ids, similarity="correlation")
    moved = retrieve(shifted, embeddings, ids, similarity="correlation")
    assert np.array_equal(plain.queries["rank"], moved.queries["rank"])
    moved = retrieve(shifted, embeddings, ids, similarity="cosine")
    assert not np.array_equal(plain.queries["rank"], moved.queries["rank"])


def test_identical_pictures_tie_and_are_counted(
    make_study: MakeStudy, caplog: pytest.LogCaptureFixture
) -> None:
    predictions, embeddings = make_study(noise=0.0)
    vectors = embeddings.vectors.copy()
    vectors[2] = vectors[0]
    same = replace(embeddings, vectors=vectors)
    exact = replace(predictions, vectors=vectors[same.rows(predictions.stimulus_id)])
    # Attached here, since the command line stops messages below the root logger.
    logger = logging.getLogger("braindecode_clip.retrieve")
    logger.addHandler(caplog.handler)
    result = retrieve(exact, same, gallery_ids(exact, same, candidates="all"))
    logger.removeHandler(caplog.handler)
    assert result.info["n_duplicates"] == 2
    assert "2 of 11 candidates have the same vector" in caplog.text
    twins = np.isin(exact.stimulus_id, same.ids[[0, 2]])
    assert result.queries["rank"].tolist() == np.where(twins, 1.5, 1.0).tolist()
    assert result.queries["n_beaten"].tolist() == np.where(twins, 9.5, 10.0).tolist()


def test_the_same_prediction_for_all_ties_in_image_to_brain(make_study: MakeStudy) -> None:
    predictions, embeddings = make_study()
    same = replace(predictions, vectors=np.tile(predictions.vectors[0], (6, 1)))
    ids = gallery_ids(predictions, embeddings)
    back = retrieve(same, embeddings, ids, direction="image_to_brain")
    assert set(back.queries["rank"]) == {3.5}
    forth = retrieve(same, embeddings, ids)
    assert sorted(forth.queries["rank"]) == [1, 2, 3, 4, 5, 6]


def test_galleries(make_study: MakeStudy) -> None:
    predictions, embeddings = make_study(REPEATS)
    shown = sorted(set(predictions.stimulus_id))
    assert gallery_ids(predictions, embeddings).tolist() == shown
    everything = gallery_ids(predictions, embeddings, candidates="all")
    assert everything.tolist() == embeddings.ids.tolist()
    listed = (*reversed(shown), embeddings.ids[-1])
    chosen = gallery_ids(predictions, embeddings, candidates="listed", ids=listed)
    assert chosen.tolist() == list(listed)
    with pytest.raises(DataError, match=rf"2 of 4 stimuli .* '{shown[1]}', '{shown[2]}'\. A true"):
        gallery_ids(predictions, embeddings, candidates="listed", ids=(shown[0], shown[3]))
    with pytest.raises(DataError, match="1 of 5 stimuli have no embedding: 'nowhere'"):
        gallery_ids(predictions, embeddings, candidates="listed", ids=(*shown, "nowhere"))
    with pytest.raises(ConfigError, match="candidates"):
        gallery_ids(predictions, embeddings, candidates="none")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"library": "2.0"}, "library: '1.0' != '2.0'"),
        ({"model": {"name": "other", "layers": [1, 2]}}, "model.name: 'tiny' != 'other'"),
        ({"model": {"name": "tiny"}}, r"model.layers: \[1, 2\] != absent"),
        ({"extra": 1}, "extra: absent != 1"),
    ],
)
def test_embeddings_of_another_encoder_are_refused(
    make_study: MakeStudy, change: dict, words: str
) -> None:
    predictions, embeddings = make_study()
    other = replace(embeddings, fingerprint={**embeddings.fingerprint, **change})
    with pytest.raises(DataError, match=words):
        retrieve(predictions, other, gallery_ids(predictions, embeddings))


def test_a_fingerprint_that_went_through_a_file_is_the_same(make_study: MakeStudy) -> None:
    predictions, embeddings = make_study()
    tuples = {**embeddings.fingerprint, "model": {"name": "tiny", "layers": (1, 2)}}
    ids = gallery_ids(predictions, embeddings)
    retrieve(predictions, replace(embeddings, fingerprint=tuples), ids)


def test_all_faults_are_named_at_once(make_study: MakeStudy) -> None:
    predictions, embeddings = make_study()
    bad = replace(predictions, vectors=predictions.vectors[:, :3], fingerprint={"library": "0"})
    ids = np.array([predictions.stimulus_id[0]] * 2)
    with pytest.raises(DataError) as caught:
        retrieve(bad, embeddings, ids)
    for words in ("another encoder", "3 dimensions", "more than once", "at least 2", "not among"):
        assert words in str(caught.value)


def test_a_prediction_of_zeros_is_refused(make_study: MakeStudy) -> None:
    predictions, embeddings = make_study()
    vectors = predictions.vectors.copy()
    vectors[4] = 0
    with pytest.raises(DataError, match=r"only zeros.*'4'"):
        retrieve(
            replace(predictions, vectors=vectors), embeddings, gallery_ids(predictions, embeddings)
        )


def test_one_stimulus_leaves_nothing_to_tell_apart_in_reverse(make_study: MakeStudy) -> None:
    predictions, embeddings = make_study((4,))
    ids = gallery_ids(predictions, embeddings, candidates="all")
    assert len(retrieve(predictions, embeddings, ids).queries) == 4
    with pytest.raises(DataError, match="nothing to tell apart"):
        retrieve(predictions, embeddings, ids, direction="image_to_brain")
    with pytest.raises(DataError, match="got 1 candidates"):
        retrieve(predictions, embeddings, gallery_ids(predictions, embeddings))


def test_a_direction_has_one_of_two_names(make_study: MakeStudy) -> None:
    predictions, embeddings = make_study()
    with pytest.raises(ConfigError, match="direction"):
        retrieve(predictions, embeddings, predictions.stimulus_id, direction="forward")


def test_count_duplicates() -> None:
    rows = np.array([[1, 2], [3, 4], [1, 2], [5, 6], [3, 4], [1, 2]], dtype=np.float32)
    assert count_duplicates(rows) == 5
    assert count_duplicates(rows[[0, 1, 3]]) == 0
