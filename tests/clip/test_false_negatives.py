from __future__ import annotations

import numpy as np
import pytest
import torch

from braindecode_clip.clip.batch_order import conflicts_of, deal
from braindecode_clip.clip.false_negatives import (
    Marks,
    duplicates,
    equal_pictures,
    soft_targets,
    word_counts,
)
from braindecode_clip.clip.losses import WordLoss, info_nce
from braindecode_clip.clip.pairs import caption_groups
from braindecode_clip.clip.step import ContrastiveStep, StepInput
from braindecode_clip.clip.tokenizers import WordTokenizer
from braindecode_clip.config.clip import TrainConfig


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


# Pairs 0 and 1 have one caption, 2 says the same in other words, 3 says something else.
CAPTIONS = ("a red circle", "a red circle", "one red circle", "two blue stars")


@pytest.mark.parametrize(
    ("options", "duplicate", "paraphrase"),
    [
        ({"false_negatives": "none"}, "wrong", "wrong"),
        ({"false_negatives": "mask"}, "left out", "wrong"),
        ({"false_negatives": "mask", "duplicate_similarity": 0.6}, "left out", "left out"),
        ({"false_negatives": "soft", "soft_temperature": 0.3}, "right", "partly right"),
    ],
)
def test_what_each_option_does_to_the_answers_of_a_pair(options, duplicate, paraphrase):
    """The slope of pair 0's loss by its answers: share minus target, over 2 n."""
    tokenizer = WordTokenizer(sorted(set(" ".join(CAPTIONS).split())), context_length=5)
    words = WordLoss(3, tokenizer.vocab_size, ignored=(tokenizer.pad_id, tokenizer.end_id))
    training = TrainConfig(**options)
    step = ContrastiveStep(torch.nn.Linear(2, 3), words, training=training)
    tokens = torch.as_tensor(tokenizer(CAPTIONS))
    numbers = torch.from_numpy(caption_groups(CAPTIONS))
    found = step._false_negatives(StepInput(tokens, tokens, (numbers,)), None, first=0)
    rng = np.random.default_rng(6)
    answers = torch.from_numpy(rng.standard_normal((4, 4))).requires_grad_()
    other_way = torch.from_numpy(rng.standard_normal((4, 4)))
    loss = info_nce(answers, other_way, **found)
    (slopes,) = torch.autograd.grad(loss, answers)
    degree = {"wrong": 0.0, "left out": 0.0, "right": 1.0}
    # Two of three words are shared.
    degree["partly right"] = np.exp((2 / 3 - 1) / 0.3)
    target = np.array([1.0, degree[duplicate], degree[paraphrase], 0.0])
    if options["false_negatives"] == "soft":
        target[3] = np.exp(-1 / 0.3)
    kept = np.array([True, duplicate != "left out", paraphrase != "left out", True])
    share = np.exp(answers[0].detach().numpy()) * kept
    want = (share / share.sum() - target / target.sum()) / (2 * 4)
    np.testing.assert_allclose(slopes[0].numpy(), want, rtol=1e-6, atol=1e-9)
    assert bool(slopes[0, 1] == 0) is (duplicate == "left out")


def test_a_sampler_keeps_duplicates_out_of_each_others_answers():
    numbers = caption_groups(CAPTIONS * 3)
    conflicts = conflicts_of(12, [(np.arange(12), numbers)])
    dealt = deal(conflicts, batch_size=3, n_batches=3, rng=np.random.default_rng(0))
    assert all(len(set(numbers[rows])) == 3 for rows in dealt.batches)
