from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import expit, logsumexp, softmax

from braindecode_clip.clip.losses import (
    WordLoss,
    distillation,
    info_nce,
    pair_logits,
    sigmoid_loss,
)
from braindecode_clip.clip.torchvision_compat import import_open_clip

EPS = np.finfo(np.float64).eps


def unit_rows(rng, n, n_dims):
    rows = rng.standard_normal((n, n_dims))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def pair(seed, n=7, n_dims=5):
    rng = np.random.default_rng(seed)
    return unit_rows(rng, n, n_dims), unit_rows(rng, n, n_dims)


def logits(images, texts, scale, bias=None):
    images, texts = (torch.as_tensor(x) for x in (images, texts))
    scale = torch.tensor(scale, dtype=torch.float64)
    bias = None if bias is None else torch.tensor(bias, dtype=torch.float64)
    return (
        pair_logits(images, texts, scale=scale, bias=bias),
        pair_logits(texts, images, scale=scale, bias=bias),
    )


def same_groups(groups):
    same = groups[:, None] == groups[None, :]
    np.fill_diagonal(same, False)
    return same


def info_nce_by_terms(images, texts, scale, masked, targets):
    """The docstring's equation, term by term, in float64."""
    n, total = len(images), 0.0
    for a in (scale * images @ texts.T, scale * texts @ images.T):
        for i in range(n):
            kept = [k for k in range(n) if not masked[i, k]]
            log_sum = logsumexp(a[i, kept])
            share = targets[i] / targets[i].sum()
            total += sum(share[j] * (a[i, j] - log_sum) for j in kept)
    return -total / (2 * n)


@pytest.mark.parametrize("groups", [np.arange(7), np.array([0, 1, 0, 2, 1, 0, 3])])
def test_masked_infonce_equals_its_equation(groups):
    images, texts = pair(5)
    masked = same_groups(groups)
    got = info_nce(*logits(images, texts, 11.5), masked=torch.from_numpy(masked))
    want = info_nce_by_terms(images, texts, 11.5, masked, np.eye(7))
    assert float(got) == pytest.approx(want, rel=50 * EPS)


def test_soft_infonce_equals_its_equation():
    images, texts = pair(15)
    targets = np.random.default_rng(2).random((7, 7)) + np.eye(7)
    got = info_nce(*logits(images, texts, 9.0), targets=torch.from_numpy(targets))
    want = info_nce_by_terms(images, texts, 9.0, np.zeros((7, 7), bool), targets)
    assert float(got) == pytest.approx(want, rel=50 * EPS)


@pytest.mark.parametrize("kind", ["plain", "masked", "soft"])
def test_sigmoid_loss_equals_its_equation(kind):
    images, texts = pair(8)
    rng = np.random.default_rng(3)
    groups = np.array([0, 1, 0, 2, 1, 0, 3])
    targets, kept, options = np.eye(7), np.ones((7, 7)), {}
    if kind == "masked":
        kept = 1.0 - same_groups(groups)
        options = {"masked": torch.from_numpy(kept == 0)}
    if kind == "soft":
        targets = np.maximum(rng.random((7, 7)), np.eye(7))
        options = {"targets": torch.from_numpy(targets)}
    a = 10 * images @ texts.T - 3
    terms = targets * np.log(expit(a)) + (1 - targets) * np.log(expit(-a))
    got = sigmoid_loss(logits(images, texts, 10.0, -3.0)[0], **options)
    assert float(got) == pytest.approx(-(kept * terms).sum() / 7, rel=1e-13)


def test_plain_losses_and_gradients_are_open_clips():
    open_clip = import_open_clip()
    results = []
    for ours in (True, False):
        images, texts = (torch.from_numpy(x).requires_grad_() for x in pair(6, 9, 4))
        scale, bias = (
            torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in (20.0, -8.0)
        )
        if ours:
            a = pair_logits(images, texts, scale=scale)
            b = pair_logits(texts, images, scale=scale)
            found = [info_nce(a, b), sigmoid_loss(a + bias)]
        else:
            found = [
                open_clip.ClipLoss()(images, texts, scale),
                open_clip.loss.SigLipLoss()(images, texts, scale, bias),
            ]
        leaves = (images, texts, scale, bias)
        gradients = [
            torch.autograd.grad(x, leaves, allow_unused=True, retain_graph=True) for x in found
        ]
        results.append([*found, *(g for group in gradients for g in group if g is not None)])
    assert len(results[0]) == 9
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)


def test_distillation_is_open_clips_and_its_equation():
    (images, texts), (known_images, known_texts) = pair(1), pair(2, n_dims=3)
    got = distillation(logits(images, texts, 12.0), logits(known_images, known_texts, 30.0))
    reference = import_open_clip().loss.DistillClipLoss()(
        *map(torch.from_numpy, (images, texts)),
        torch.tensor(12.0, dtype=torch.float64),
        *map(torch.from_numpy, (known_images, known_texts)),
        torch.tensor(30.0, dtype=torch.float64),
    )[1]
    assert float(got) == pytest.approx(float(reference), rel=1e-12)
    total = 0.0
    ways = ((images, texts, known_images, known_texts), (texts, images, known_texts, known_images))
    for a, b, c, d in ways:
        ours, theirs = 12 * a @ b.T, softmax(30 * c @ d.T, axis=1)
        total += (theirs * (ours - logsumexp(ours, axis=1, keepdims=True))).sum()
    assert float(got) == pytest.approx(-total / 14, rel=1e-12)


@pytest.mark.parametrize("kind", ["plain", "masked", "soft"])
@pytest.mark.parametrize("loss", ["infonce", "siglip"])
def test_the_parts_of_two_processes_have_the_mean_of_the_whole(loss, kind):
    """Rows in columns ``first`` on: 3 + 3 pairs, each against all 6."""
    images, texts = (torch.from_numpy(x) for x in pair(4, n=6))
    options = {}
    if kind == "masked":
        options = {"masked": torch.from_numpy(same_groups(np.array([0, 1, 1, 0, 2, 0])))}
    if kind == "soft":
        values = np.random.default_rng(9).random((6, 6)) + np.eye(6)
        options = {"targets": torch.from_numpy(values)}
    scale = torch.tensor(7.0, dtype=torch.float64)

    def value(rows, first):
        a = pair_logits(images[rows], texts, scale=scale)
        b = pair_logits(texts[rows], images, scale=scale)
        own = {key: x[rows] for key, x in options.items()}
        if loss == "siglip":
            return sigmoid_loss(a, first=first, **own)
        return info_nce(a, b, first=first, **own)

    parts = [value(slice(k, k + 3), k) for k in (0, 3)]
    torch.testing.assert_close(sum(parts) / 2, value(slice(0, 6), 0), rtol=1e-13, atol=0)


def test_pairs_with_the_same_caption_do_not_repel_each_other():
    images, texts = pair(7, 4, 6)
    texts[1] = texts[0]
    masked = torch.from_numpy(same_groups(np.array([0, 0, 1, 2])))
    # With pairs 0 and 1 alone in the batch nothing is left to tell apart.
    two = info_nce(*logits(images[:2], texts[:2], 10.0), masked=masked[:2, :2])
    assert float(two) == 0.0
    leaf = torch.from_numpy(images).requires_grad_()
    (gradient,) = torch.autograd.grad(info_nce(*logits(leaf, texts, 10.0), masked=masked), leaf)
    assert torch.isfinite(gradient).all()
    plain = info_nce(*logits(leaf, texts, 10.0))
    assert plain.item() > info_nce(*logits(images, texts, 10.0), masked=masked).item()
    assert not torch.allclose(gradient, torch.autograd.grad(plain, leaf)[0])


def test_even_targets_over_equal_captions_change_nothing():
    """The trap: same loss and same gradient as without any care for duplicates.

    Captions are vectors of a table, so that pairs of one caption share a weight, as they do
    behind a text tower.
    """
    images, _ = pair(11, 7, 6)
    captions = np.array([0, 1, 0, 2, 1, 0, 3])
    table = unit_rows(np.random.default_rng(1), 4, 6)
    even = torch.from_numpy((captions[:, None] == captions[None, :]).astype(float))
    results = {}
    for kind in ("plain", "even", "masked"):
        leaves = [torch.tensor(x, requires_grad=True) for x in (images, table)]
        a, b = logits(leaves[0], leaves[1][captions], 12.0)
        options = {
            "plain": {},
            "even": {"targets": even},
            "masked": {"masked": torch.from_numpy(same_groups(captions))},
        }[kind]
        loss = info_nce(a, b, **options)
        results[kind] = [loss, *torch.autograd.grad(loss, leaves)]
    for a, b in zip(results["plain"], results["even"], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-15)
    for a, b in zip(results["plain"], results["masked"], strict=True):
        assert not torch.allclose(a, b, rtol=1e-3)


def test_word_loss_equals_its_equation():
    torch.manual_seed(1)
    loss = WordLoss(5, 9, ignored=(0, 8)).double()
    features = torch.randn(3, 5, dtype=torch.float64)
    # Padding 0, end 8, a word said twice, and rows of unequal length.
    tokens = torch.tensor([[3, 4, 3, 8, 0], [7, 8, 0, 0, 0], [1, 2, 5, 6, 8]])
    words = [{3, 4}, {7}, {1, 2, 5, 6}]
    weight, bias = (p.detach().numpy() for p in loss.head.parameters())
    scores = features.numpy() @ weight.T + bias
    log_share = scores - logsumexp(scores, axis=1, keepdims=True)
    want = -np.mean([np.mean([log_share[i, t] for t in row]) for i, row in enumerate(words)])
    assert loss(features, tokens).item() == pytest.approx(want, rel=1e-12)
