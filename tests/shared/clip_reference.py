"""The gradient of a batch of CLIP in one graph and in float64, written out."""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch.nn import functional

from braindecode_clip.clip.false_negatives import word_counts
from braindecode_clip.clip.step import StepInput
from braindecode_clip.clip.tokenizers import WordTokenizer

WORDS = ("red", "green", "blue", "left", "right")


def make_tokenizer():
    return WordTokenizer(WORDS, context_length=7)


def with_decoder(recipe):
    """Make a recipe's record one of a CoCa whose parts are of one width."""
    recipe["model"]["vision_cfg"].update(width=16, head_width=8, layers=1)
    recipe["model"]["text_cfg"]["embed_cls"] = True
    recipe["model"]["multimodal_cfg"] = {"layers": 2}
    return recipe


def make_inputs():
    """Ten pairs; captions 0 and 3, and 4 and 8, are equal, pictures 1 and 2 are.

    The second half has fewer words.
    """
    rng = np.random.default_rng(8)
    captions = [" ".join(rng.choice(WORDS, 3)) for _ in range(10)]
    captions[3], captions[8] = captions[0], captions[4]
    captions[7], captions[9] = "blue left", "red"
    pixels = torch.from_numpy(rng.standard_normal((10, 3, 32, 32)).astype(np.float32))
    pixels[2] = pixels[1]
    _, numbers = np.unique(captions, return_inverse=True)
    pictures = torch.tensor([0, 1, 1, 3, 4, 5, 6, 7, 8, 9])
    tokens = torch.as_tensor(make_tokenizer()(captions))
    return StepInput(pixels, tokens, (torch.from_numpy(numbers), pictures))


def gradients(*modules):
    return {
        f"{k}.{name}": p.grad
        for k, module in enumerate(modules)
        for name, p in module.named_parameters()
        if p.grad is not None
    }


def mean_token_loss(model, inputs, pad_id=0):
    """Caption loss of a CoCa, from open_clip's own forward pass, token by token."""
    out = model(inputs.pixels.to(model.logit_scale.dtype), inputs.tokens)
    shares = out["logits"].exp() / out["logits"].exp().sum(dim=2, keepdim=True)
    terms = [
        -shares[i, t - 1, token].log()
        for i, row in enumerate(inputs.tokens.tolist())
        for t, token in enumerate(row)
        if t > 0 and token != pad_id
    ]
    return sum(terms) / len(terms)


def literal_gradients(model, words, inputs, *, training, teacher=None):
    """The whole loss in one graph and in float64, written out."""
    model, words = copy.deepcopy(model).double(), copy.deepcopy(words).double()
    raw = model.encode_image(inputs.pixels.double(), normalize=False)
    images = raw / raw.norm(dim=1, keepdim=True)
    texts = model.encode_text(inputs.tokens, normalize=True)
    cosine = images @ texts.T
    n = len(cosine)
    logits = model.logit_scale.exp() * cosine
    if model.logit_bias is not None:
        logits = logits + model.logit_bias
    target, kept = torch.eye(n, dtype=torch.float64), torch.ones(n, n, dtype=torch.bool)
    same = (inputs.equal[0][:, None] == inputs.equal[0]) | (
        inputs.equal[1][:, None] == inputs.equal[1]
    )
    known = None
    if teacher is not None:
        teacher = copy.deepcopy(teacher).double()
        known = (
            teacher.encode_image(inputs.pixels.double(), normalize=True).detach(),
            teacher.encode_text(inputs.tokens, normalize=True).detach(),
        )
    if training.false_negatives == "mask":
        if training.duplicate_similarity is not None:
            vectors = known or [word_counts(inputs.tokens, ignored=words.ignored).double()]
            for v in vectors:
                same = same | (v @ v.T >= training.duplicate_similarity - 1e-6)
        kept = ~same | torch.eye(n, dtype=torch.bool)
    if training.false_negatives == "soft":
        v = known[1] if known else word_counts(inputs.tokens, ignored=words.ignored).double()
        target = ((v @ v.T - 1) / training.soft_temperature).exp().masked_fill(same, 1.0)
    if training.loss == "siglip":
        odds = torch.sigmoid(logits)
        terms = target * odds.log() + (1 - target) * (1 - odds).log()
        loss = -(terms * kept).sum() / n
    else:
        loss = 0.0
        for a in (logits, logits.T):
            log_share = a - (a.exp() * kept).sum(dim=1, keepdim=True).log()
            share = target / target.sum(dim=1, keepdim=True)
            loss = loss - (share * log_share * kept).sum() / (2 * n)
    total = loss
    if training.loss == "coca":
        total = training.contrastive_loss_weight * loss
        total = total + training.caption_loss_weight * mean_token_loss(model, inputs)
    if training.word_loss_weight:
        total = total + training.word_loss_weight * words(raw, inputs.tokens)
    if training.distill_weight:
        theirs = teacher.logit_scale.exp() * known[0] @ known[1].T
        for a, b in ((logits, theirs), (logits.T, theirs.T)):
            mean = (functional.softmax(b, 1) * functional.log_softmax(a, 1)).sum() / n
            total = total - training.distill_weight * mean / 2
    total.backward()
    return float(loss.detach()), gradients(model, words)


def assert_equal_gradients(found, want, rtol=1e-5):
    """Each weight's gradient, by the norm of its difference."""
    assert found.keys() == want.keys()
    largest = max(float(g.norm()) for g in want.values())
    for name, gradient in want.items():
        error = float((found[name].double() - gradient).norm())
        # A gradient that is 0 by symmetry (a key's bias) has no relative error.
        assert error <= rtol * max(float(gradient.norm()), 1e-3 * largest), (name, error)
