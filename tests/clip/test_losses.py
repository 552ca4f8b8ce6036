from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import logsumexp

from braindecode_clip.clip.losses import MaskedClipLoss, WordLoss
from braindecode_clip.clip.torchvision_compat import import_open_clip


def unit_rows(rng, n, n_dims):
    rows = rng.standard_normal((n, n_dims))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def closed_form(images, texts, scale, groups):
    """The docstring's equation, term by term, in float64."""
    n, total = len(images), 0.0
    logits = scale * images @ texts.T
    for i in range(n):
        kept = [j for j in range(n) if j == i or groups[j] != groups[i]]
        total += logits[i, i] - logsumexp(logits[i, kept])
        total += logits[i, i] - logsumexp(logits[kept, i])
    return -total / (2 * n)


@pytest.mark.parametrize("groups", [np.arange(7), np.array([0, 1, 0, 2, 1, 0, 3])])
def test_equals_the_closed_form(groups):
    rng = np.random.default_rng(5)
    images, texts = unit_rows(rng, 7, 5), unit_rows(rng, 7, 5)
    got = MaskedClipLoss()(
        torch.from_numpy(images),
        torch.from_numpy(texts),
        torch.tensor(11.5, dtype=torch.float64),
        torch.from_numpy(groups),
    )
    want = closed_form(images, texts, 11.5, groups)
    assert float(got) == pytest.approx(want, rel=50 * np.finfo(np.float64).eps)


def test_without_groups_it_is_open_clips_loss():
    rng = np.random.default_rng(6)
    images, texts = (torch.from_numpy(unit_rows(rng, 9, 4)) for _ in range(2))
    scale = torch.tensor(20.0, dtype=torch.float64)
    reference = import_open_clip().ClipLoss()(images, texts, scale)
    assert float(MaskedClipLoss()(images, texts, scale)) == pytest.approx(float(reference))


def test_pairs_with_the_same_caption_do_not_repel_each_other():
    rng = np.random.default_rng(7)
    images, texts = unit_rows(rng, 4, 6), unit_rows(rng, 4, 6)
    texts[1] = texts[0]
    images = torch.from_numpy(images).requires_grad_()
    loss = MaskedClipLoss()
    arguments = (torch.from_numpy(texts), torch.tensor(10.0, dtype=torch.float64))
    groups = torch.tensor([0, 0, 1, 2])
    # With pairs 0 and 1 alone in the batch nothing is left to tell apart: no gradient.
    two = loss(images[:2], arguments[0][:2], arguments[1], groups[:2])
    assert float(two.detach()) == 0.0
    (gradient,) = torch.autograd.grad(loss(images, *arguments, groups), images)
    assert torch.isfinite(gradient).all()
    (plain,) = torch.autograd.grad(loss(images, *arguments), images)
    assert loss(images, *arguments).item() > loss(images, *arguments, groups).item()
    assert not torch.allclose(gradient, plain)


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
