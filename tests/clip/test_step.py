"""Gradients of a step, by every way of making a batch fit, against one graph in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from clip_reference import (
    assert_equal_gradients,
    gradients,
    literal_gradients,
    make_inputs,
    make_tokenizer,
)
from torch.nn import functional

from braindecode_clip.clip.grad_cache import CachedForward
from braindecode_clip.clip.losses import WordLoss
from braindecode_clip.clip.models import build_model
from braindecode_clip.clip.step import ContrastiveStep
from braindecode_clip.errors import ConfigError


@pytest.fixture
def tokenizer():
    return make_tokenizer()


@pytest.fixture
def inputs():
    return make_inputs()


@pytest.fixture
def parts(vit_recipe, tokenizer, changed):
    """Return a maker of model, words and step, the same weights each time."""

    def make(*, seed=3, teacher=None, vision=None, **training):
        recipe = changed(vit_recipe, vision=vision, **training)
        recipe = recipe.model_copy(update={"seed": seed})
        model = build_model(recipe, tokenizer)
        with torch.no_grad():
            model.logit_scale.fill_(math.log(9.0))
        torch.manual_seed(1)
        words = WordLoss(12, tokenizer.vocab_size, ignored=(tokenizer.pad_id, tokenizer.end_id))
        step = ContrastiveStep(model, words, training=recipe.training, teacher=teacher)
        return model, words, step

    return make


VARIANTS = {
    "plain": {"false_negatives": "none"},
    "masked": {"false_negatives": "mask"},
    "near": {"false_negatives": "mask", "duplicate_similarity": 0.7},
    "soft": {"false_negatives": "soft", "soft_temperature": 0.4},
    "words": {"word_loss_weight": 0.5},
}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("loss", ["infonce", "siglip"])
@pytest.mark.parametrize("memory", ["none", "gradcache", "checkpoint"])
def test_gradients_equal_one_graph_in_float64(parts, inputs, memory, loss, variant):
    options = {"word_loss_weight": 0.0, "loss": loss, **VARIANTS[variant]}
    model, words, step = parts(memory=memory, chunk_size=4, batch_size=10, **options)
    want_loss, want = literal_gradients(model, words, inputs, training=step.training)
    assert float(step.backward(inputs)) == pytest.approx(want_loss, rel=1e-5)
    assert_equal_gradients(gradients(model, words), want)
    assert ("0.logit_bias" in want) is (loss == "siglip")


@pytest.mark.parametrize("memory", ["none", "gradcache"])
@pytest.mark.parametrize(
    "options",
    [
        {"distill_weight": 2.0},
        {"duplicate_similarity": 0.5, "distill_weight": 0.3, "loss": "siglip"},
        {"false_negatives": "soft", "distill_weight": 0.0},
    ],
)
def test_a_teacher_is_imitated_and_asked(parts, inputs, memory, options):
    teacher, *_ = parts(seed=77)
    teacher.eval().requires_grad_(False)
    model, words, step = parts(
        memory=memory, chunk_size=3, batch_size=10, teacher=teacher, **options
    )
    _, want = literal_gradients(model, words, inputs, training=step.training, teacher=teacher)
    step.backward(inputs)
    assert_equal_gradients(gradients(model, words), want)
    assert all(p.grad is None for p in teacher.parameters())


def test_gradcache_repeats_dropout(parts, inputs):
    """With patch dropout: equal to one graph over the same chunks from the same seed."""
    options = {"vision": {"patch_dropout": 0.5}, "batch_size": 10, "chunk_size": 4}
    model, words, step = parts(memory="gradcache", **options)
    torch.manual_seed(5)
    loss = step.backward(inputs)
    after = torch.rand(1)
    found = gradients(model, words)

    model, words, step = parts(**options)
    torch.manual_seed(5)
    chunks = (inputs.rows(slice(k, k + 4)) for k in (0, 4, 8))
    pieces = [step.encode(chunk.pixels, chunk.tokens) for chunk in chunks]
    sides = type(pieces[0])(*map(torch.cat, zip(*pieces, strict=True)))
    contrast, extra = step.losses(sides, sides, inputs)
    (contrast + extra).backward()
    assert float(loss) == pytest.approx(float(contrast.detach()), rel=1e-6)
    assert_equal_gradients(found, gradients(model, words))
    # What is drawn after the step does not depend on the second pass.
    assert torch.equal(after, torch.rand(1))

    model, words, step = parts(**options)
    torch.manual_seed(6)
    step.backward(inputs)
    with pytest.raises(AssertionError):
        assert_equal_gradients(found, gradients(model, words))


def test_a_cache_goes_back_through_uneven_chunks():
    weight = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)
    rows = torch.randn(7, 3, dtype=torch.float64)
    cache = CachedForward(lambda x: (x @ weight,), (rows,), chunk_size=3)
    assert not cache.outputs[0].requires_grad
    leaf = cache.outputs[0].clone().requires_grad_()
    leaf.pow(3).sum().backward()
    cache.backward([leaf.grad])
    (want,) = torch.autograd.grad((rows @ weight).pow(3).sum(), weight)
    torch.testing.assert_close(weight.grad, want)


@pytest.mark.parametrize("loss", ["infonce", "siglip"])
def test_accumulation_is_the_mean_of_smaller_problems(parts, inputs, loss):
    """And not K times that for ``logit_scale`` and ``logit_bias``."""
    options = {"loss": loss, "chunk_size": 5, "batch_size": 10, "word_loss_weight": 0.25}
    model, words, step = parts(memory="accumulate", **options)
    loss = float(step.backward(inputs))
    chunks = [inputs.rows(slice(k, k + 5)) for k in (0, 5)]
    each = [literal_gradients(model, words, c, training=step.training) for c in chunks]
    assert loss == pytest.approx(np.mean([value for value, _ in each]), rel=1e-5)
    want = {name: (g + each[1][1][name]) / 2 for name, g in each[0][1].items()}
    assert_equal_gradients(gradients(model, words), want)


def test_checkpointing_computes_blocks_again(parts, inputs):
    model, _, step = parts(memory="checkpoint", batch_size=10, false_negatives="none")
    calls = []
    model.visual.transformer.resblocks[0].register_forward_pre_hook(lambda *_: calls.append(1))
    step.backward(inputs)
    assert len(calls) == 2


def test_bfloat16_keeps_weights_and_losses_in_float32(parts, inputs):
    model, words, step = parts(batch_size=10)
    want_loss, want = literal_gradients(model, words, inputs, training=step.training)
    low = ContrastiveStep(model, words, training=step.training, dtype=torch.bfloat16)
    assert low.encode(inputs.pixels, inputs.tokens).images.dtype == torch.float32
    loss = low.backward(inputs)
    assert loss.dtype == torch.float32
    assert float(loss) != pytest.approx(want_loss, rel=1e-6)
    assert float(loss) == pytest.approx(want_loss, rel=0.05)
    found = gradients(model, words)
    cosine = [
        float(functional.cosine_similarity(found[k].double().flatten(), g.flatten(), dim=0))
        for k, g in want.items()
        if k.endswith("in_proj_weight")
    ]
    assert min(cosine) > 0.95


def test_a_scaler_multiplies_all_gradients(parts, inputs):
    for memory in ("none", "gradcache", "accumulate"):
        options = {"memory": memory, "chunk_size": 5, "batch_size": 10}
        model, words, step = parts(**options)
        step.backward(inputs)
        plain = gradients(model, words)
        model, words, step = parts(**options)
        step.scaler = torch.amp.GradScaler("cpu", init_scale=64.0)
        step.backward(inputs)
        scaled = {name: g / 64 for name, g in gradients(model, words).items()}
        assert_equal_gradients(scaled, plain, rtol=1e-6)


@pytest.mark.parametrize("memory", ["gradcache", "accumulate", "checkpoint"])
def test_batch_normalisation_cannot_be_cut(tiny_recipe, tokenizer, changed, memory):
    recipe = changed(tiny_recipe, memory=memory, chunk_size=4)
    model = build_model(recipe, tokenizer)
    words = WordLoss(12, tokenizer.vocab_size, ignored=(0,))
    with pytest.raises(ConfigError, match=f"'{memory}'.*batch normalisation"):
        ContrastiveStep(model, words, training=recipe.training)
