from __future__ import annotations

import numpy as np
import pytest
import torch

from braindecode_clip.clip.false_negatives import (
    Marks,
    duplicates,
    equal_pictures,
    soft_targets,
    word_counts,
)


def unit(rng, n, n_dims):
    return torch.nn.functional.normalize(torch.from_numpy(rng.standard_normal((n, n_dims))), dim=1)


@pytest.mark.parametrize("first", [0, 2])
def test_duplicates_by_caption_picture_and_likeness(first):
    captions = torch.tensor([0, 1, 2, 0, 3, 4])
    pictures = torch.tensor([0, 1, 2, 3, 1, 5])
    vectors = unit(np.random.default_rng(0), 6, 4)
    vectors[5] = torch.nn.functional.normalize(vectors[2] + 0.01 * vectors[1], dim=0)
    everyone = Marks((captions, pictures), vectors)
    rows = slice(first, first + 3)
    found = duplicates(everyone.rows(rows), everyone, first=first, similarity=0.99)
    want, by_number = np.zeros((2, 6, 6), dtype=bool)
    for i in range(6):
        for j in range(6):
            by_number[i, j] = i != j and bool(
                captions[i] == captions[j] or pictures[i] == pictures[j]
            )
            alike = i != j and float(vectors[i] @ vectors[j]) >= 0.99
            want[i, j] = by_number[i, j] or alike
    assert (want.sum(), by_number.sum()) == (6, 4)
    np.testing.assert_array_equal(found.numpy(), want[rows])
    found = duplicates(everyone.rows(rows), everyone, first=first)
    np.testing.assert_array_equal(found.numpy(), by_number[rows])


def test_a_teachers_pictures_mark_duplicates_too():
    pictures = unit(np.random.default_rng(3), 4, 5)
    pictures[3] = pictures[0]
    marks = Marks((torch.arange(4),), None, pictures)
    found = duplicates(marks, marks, first=0, similarity=1.0)
    assert found.nonzero().tolist() == [[0, 3], [3, 0]]


@pytest.mark.parametrize("first", [0, 1])
def test_soft_targets_are_a_softmax_of_the_captions_cosines(first):
    vectors = unit(np.random.default_rng(1), 5, 3)
    everyone = Marks((torch.tensor([0, 1, 2, 3, 2]),), vectors)
    rows = slice(first, first + 4)
    got = soft_targets(everyone.rows(rows), everyone, first=first, temperature=0.3).numpy()
    cosine = (vectors @ vectors.T).numpy()
    # Equal captions have equal vectors behind a tower; here the number alone says so.
    cosine[2, 4] = cosine[4, 2] = 1.0
    np.testing.assert_allclose(got, np.exp((cosine - 1) / 0.3)[rows], rtol=1e-12)
    exps = np.exp(cosine / 0.3)
    np.testing.assert_allclose(
        got / got.sum(axis=1, keepdims=True),
        (exps / exps.sum(axis=1, keepdims=True))[rows],
        rtol=1e-12,
    )
    assert (got.diagonal(first) == 1.0).all()


def test_word_counts_are_those_of_words_alone():
    # 0 pads, 9 ends; the third caption repeats a word.
    tokens = torch.tensor([[3, 4, 9, 0], [4, 3, 9, 0], [3, 3, 5, 9], [7, 9, 0, 0]])
    cosine = word_counts(tokens, ignored=(0, 9)) @ word_counts(tokens, ignored=(0, 9)).T
    half = 2 / np.sqrt(5 * 2)
    want = [[1, 1, half, 0], [1, 1, half, 0], [half, half, 1, 0], [0, 0, 0, 1]]
    np.testing.assert_allclose(cosine.numpy(), want, atol=1e-6)


def test_equal_pictures_are_equal_to_the_bit():
    images = np.random.default_rng(4).integers(0, 256, (5, 3, 4, 3), dtype=np.uint8)
    images[3] = images[1]
    images[4] = images[0]
    images[4, 2, 3, 2] ^= 1
    numbers = equal_pictures(images)
    assert [(i, j) for i in range(5) for j in range(i) if numbers[i] == numbers[j]] == [(3, 1)]
