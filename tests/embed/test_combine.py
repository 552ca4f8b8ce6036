from __future__ import annotations

import numpy as np
import pytest

from braindecode_clip.artifacts import Embeddings
from braindecode_clip.embed.combine import join_captions, join_modalities
from braindecode_clip.errors import DataError

EPS = np.finfo(np.float32).eps


def vectors(n, n_dims, *, seed, unit=True):
    rng = np.random.default_rng(seed)
    found = rng.standard_normal((n, n_dims))
    return found / np.linalg.norm(found, axis=1, keepdims=True) if unit else 3 * found


def made(array, *, unit=True, modality="text", ids=None, **more):
    ids = [f"c{i}" for i in range(len(array))] if ids is None else ids
    fingerprint = {"name": "x", "unit_norm": unit, "n_dims": array.shape[1], **more}
    return Embeddings(np.array(ids), array.astype(np.float32), modality, fingerprint)


def test_average_of_unequal_numbers_of_captions():
    array = vectors(6, 5, seed=0)
    owner = np.array([2, 0, 1, 2, 0, 2])
    got = join_captions(made(array), owner, ["a", "b", "c"])
    want = np.stack([array[[1, 4]].mean(0), array[2], array[[0, 3, 5]].mean(0)])
    want /= np.linalg.norm(want, axis=1, keepdims=True)
    np.testing.assert_allclose(got.vectors, want, atol=4 * EPS)
    # The same space: pictures of the encoder may be compared with it.
    assert got.fingerprint == made(array).fingerprint
    assert got.ids.tolist() == ["a", "b", "c"]


def test_average_of_raw_vectors_is_the_plain_mean():
    array = vectors(4, 3, seed=1, unit=False)
    got = join_captions(made(array, unit=False), np.array([0, 1, 1, 0]), ["a", "b"])
    want = np.stack([(array[0] + array[3]) / 2, (array[1] + array[2]) / 2])
    np.testing.assert_allclose(got.vectors, want, rtol=4 * EPS)


def test_each_makes_the_cosine_the_mean_of_cosines():
    array = vectors(6, 7, seed=2)
    got = join_captions(made(array), np.array([0, 1, 0, 1, 0, 1]), ["a", "b"], how="each")
    first, second = array[[0, 2, 4]], array[[1, 3, 5]]
    want = np.mean(np.sum(first * second, axis=1))
    assert got.vectors.shape == (2, 21)
    np.testing.assert_allclose(got.vectors[0] @ got.vectors[1], want, atol=8 * EPS)
    np.testing.assert_allclose(got.vectors[0, 7:14] * np.sqrt(3), array[2], atol=4 * EPS)
    assert got.fingerprint["layout"] == "3 captions, one after another"
    assert got.fingerprint["n_dims"] == 21


@pytest.mark.parametrize("how", ["average", "concatenate"])
@pytest.mark.parametrize("weight", [0.5, 0.2])
def test_pictures_and_captions_together(how, weight):
    i, t = vectors(4, 6, seed=3), vectors(4, 6, seed=4)
    ids = list("wxyz")
    image, text = made(i, modality="image", ids=ids), made(t, ids=ids)
    got = join_modalities(image, text, how=how, text_weight=weight)
    assert got.modality == "image+text"
    gram = got.vectors @ got.vectors.T
    if how == "concatenate":
        want = (1 - weight) * i @ i.T + weight * t @ t.T
        assert got.fingerprint["layout"] == "picture, then captions"
    else:
        mean = (1 - weight) * i + weight * t
        mean /= np.linalg.norm(mean, axis=1, keepdims=True)
        want = mean @ mean.T
        assert "layout" not in got.fingerprint
    np.testing.assert_allclose(gram, want, atol=8 * EPS)


def test_faults_are_named():
    array = vectors(4, 5, seed=5)
    with pytest.raises(DataError, match=r"1 stimuli have no caption.*'c'"):
        join_captions(made(array), np.array([0, 1, 1, 0]), ["a", "b", "c"])
    with pytest.raises(DataError, match=r"fewer than 3 captions.*'a'"):
        join_captions(made(array), np.array([0, 1, 1, 1]), ["a", "b"], how="each")
    opposite = np.stack([array[0], -array[0], array[1]])
    with pytest.raises(DataError, match=r"cancel out.*'a'"):
        join_captions(made(opposite), np.array([0, 0, 1]), ["a", "b"])
    image = made(array, modality="image")
    with pytest.raises(DataError, match="not of the same stimuli"):
        join_modalities(image, made(array, ids=list("abcd")))
    with pytest.raises(DataError, match=r"encoded otherwise: precision"):
        join_modalities(image, made(array, precision="bfloat16"))
    wide = made(vectors(4, 10, seed=0), layout="2 captions, one after another")
    wide.fingerprint["n_dims"] = 5
    with pytest.raises(DataError, match="cannot be averaged"):
        join_modalities(image, wide, how="average")
    with pytest.raises(DataError, match="text_weight is 1"):
        join_modalities(image, made(array), text_weight=1)
