"""Captions as a second loss: gradients against one graph in float64, and open_clip's CoCaLoss."""

from __future__ import annotations

import dataclasses
import logging
import math

import numpy as np
import pytest
import torch
from clip_reference import (
    assert_equal_gradients,
    gradients,
    literal_gradients,
    make_inputs,
    with_decoder,
)
from PIL import Image

from braindecode_clip.clip.encoders import load_encoder
from braindecode_clip.clip.losses import WordLoss, caption_loss
from braindecode_clip.clip.lr_range import lr_range
from braindecode_clip.clip.models import build_model, open_clip
from braindecode_clip.clip.optim import layer_scales, parameter_groups
from braindecode_clip.clip.step import ContrastiveStep
from braindecode_clip.clip.tokenizers import WordTokenizer
from braindecode_clip.clip.train import Trainer
from braindecode_clip.clip.training_log import LOG_FILE, read_log
from braindecode_clip.config.clip import ClipRecipe
from braindecode_clip.errors import ConfigError

WORDS = ("red", "green", "blue", "left", "right")


@pytest.fixture
def coca_recipe(vit_recipe) -> ClipRecipe:
    recipe = with_decoder(vit_recipe.model_dump())
    recipe["training"].update(loss="coca", word_loss_weight=0.0)
    return ClipRecipe.model_validate(recipe)


@pytest.fixture
def tokenizer():
    return WordTokenizer(WORDS, context_length=7)


@pytest.fixture
def inputs(tokenizer):
    """Ten pairs whose captions have 1 to 5 words, so that parts differ in their tokens."""
    rng = np.random.default_rng(4)
    captions = [" ".join(rng.choice(WORDS, n)) for n in (1, 1, 1, 1, 2, 5, 5, 5, 5, 3)]
    captions[8], captions[1] = captions[6], captions[0]
    _, numbers = np.unique(captions, return_inverse=True)
    return dataclasses.replace(
        make_inputs(),
        tokens=torch.as_tensor(tokenizer(captions)),
        equal=(torch.from_numpy(numbers), torch.arange(10)),
    )


@pytest.fixture
def parts(coca_recipe, tokenizer, changed):
    """Return a maker of model, words and step, the same weights each time."""

    def make(*, teacher=None, vision=None, **training):
        recipe = changed(coca_recipe, vision=vision, **{"batch_size": 10, **training})
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
    "weights": {"caption_loss_weight": 0.7, "contrastive_loss_weight": 1.9},
    "soft": {"false_negatives": "soft", "word_loss_weight": 0.4},
    "captions": {"contrastive_loss_weight": 0.0},
}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("memory", ["none", "gradcache", "checkpoint"])
def test_gradients_equal_one_graph_in_float64(parts, inputs, memory, variant):
    model, words, step = parts(memory=memory, chunk_size=4, **VARIANTS[variant])
    want_loss, want = literal_gradients(model, words, inputs, training=step.training)
    assert float(step.backward(inputs)) == pytest.approx(want_loss, rel=1e-5)
    assert_equal_gradients(gradients(model, words), want)
    assert "0.text_decoder.cross_attn.1.mlp.c_fc.weight" in want


@pytest.mark.parametrize("memory", ["none", "gradcache", "accumulate"])
def test_both_losses_are_open_clips(parts, inputs, memory):
    model, _, step = parts(memory=memory, false_negatives="none", chunk_size=10)
    with torch.no_grad():
        out = model(inputs.pixels, inputs.tokens)
    names = ("image_features", "text_features", "logits", "labels", "logit_scale")
    reference = open_clip.CoCaLoss(caption_loss_weight=1.0, clip_loss_weight=1.0)
    theirs = reference(*(out[name] for name in names))
    assert float(step.backward(inputs)) == pytest.approx(float(theirs[0]), rel=1e-5)
    assert float(step.caption_loss) == pytest.approx(float(theirs[1]), rel=1e-5)


def test_accumulated_captions_count_the_tokens_of_the_whole_batch(parts, inputs):
    """Chunks have 5 to 26 predicted tokens; the contrast alone is a mean over chunks."""
    options = {"chunk_size": 5, "false_negatives": "none", "caption_loss_weight": 1.5}
    model, words, step = parts(memory="accumulate", **options)
    step.backward(inputs)
    one, no_words, whole = parts(**{**options, "contrastive_loss_weight": 0.0})
    _, want = literal_gradients(one, no_words, inputs, training=whole.training)
    for k in (0, 5):
        chunk = inputs.rows(slice(k, k + 5))
        alone = whole.training.model_copy(update={"loss": "infonce"})
        _, part = literal_gradients(one, no_words, chunk, training=alone)
        want = {n: want.get(n, 0) + part.get(n, 0) / 2 for n in want.keys() | part.keys()}
    assert_equal_gradients(gradients(model, words), want)


def test_the_summed_loss_skips_padding():
    logits = torch.randn(3, 4, 6, dtype=torch.float64, requires_grad=True)
    targets = torch.tensor([[5, 1, 2, 2], [3, 2, 2, 2], [2, 2, 2, 2]])
    got = caption_loss(logits, targets, pad_id=2)
    share = logits.softmax(dim=2).log()
    want = torch.stack([-(share[0, 0, 5] + share[0, 1, 1]), -share[1, 0, 3], got.new_zeros(())])
    torch.testing.assert_close(got, want)
    got.sum().backward()
    assert (logits.grad[targets == 2] == 0).all()


def test_gradcache_repeats_patch_dropout(parts, inputs):
    options = {"vision": {"patch_dropout": 0.5}, "chunk_size": 5}
    model, words, step = parts(memory="gradcache", **options)
    assert model.training
    torch.manual_seed(5)
    step.backward(inputs)
    found = gradients(model, words)
    model, words, step = parts(**options)
    torch.manual_seed(5)
    step._n_targets = (inputs.tokens[:, 1:] != 0).sum()
    step.caption_loss = torch.zeros(())
    pieces = [
        step._outputs(part.pixels, part.tokens)
        for part in (inputs.rows(slice(0, 5)), inputs.rows(slice(5, 10)))
    ]
    images, texts, own = map(torch.cat, zip(*pieces, strict=True))
    sides = type(step.encode(inputs.pixels[:2], inputs.tokens[:2]))(images, texts)
    contrast, _ = step.losses(sides, sides, inputs)
    (contrast + 2.0 * own.sum()).backward()
    assert_equal_gradients(found, gradients(model, words))


def test_a_scaler_multiplies_captions_too(parts, inputs):
    for memory in ("none", "gradcache", "accumulate"):
        model, words, step = parts(memory=memory, chunk_size=5)
        step.backward(inputs)
        plain = gradients(model, words)
        model, words, step = parts(memory=memory, chunk_size=5)
        step.scaler = torch.amp.GradScaler("cpu", init_scale=64.0)
        step.backward(inputs)
        scaled = {name: g / 64 for name, g in gradients(model, words).items()}
        assert_equal_gradients(scaled, plain, rtol=1e-6)


def test_bfloat16_multiplies_and_float32_sums(parts, inputs):
    model, words, step = parts()
    step.backward(inputs)
    want = float(step.caption_loss)
    low = ContrastiveStep(model, words, training=step.training, dtype=torch.bfloat16)
    low.caption_loss = torch.zeros(())
    assert {x.dtype for x in low._outputs(inputs.pixels, inputs.tokens)} == {torch.float32}
    low.backward(inputs)
    assert float(low.caption_loss) != pytest.approx(want, rel=1e-7)
    assert float(low.caption_loss) == pytest.approx(want, rel=0.02)


def test_the_decoders_last_weights_come_from_the_seed(coca_recipe, tokenizer):
    """open_clip leaves them as they lie in memory."""
    first = build_model(coca_recipe, tokenizer).text_decoder.text_projection
    litter = [torch.full((16, tokenizer.vocab_size), 7.0) for _ in range(50)]
    del litter
    second = build_model(coca_recipe, tokenizer).text_decoder.text_projection
    assert torch.equal(first, second)
    assert float(first.detach().std()) == pytest.approx(16**-0.5, rel=0.1)
    other = build_model(coca_recipe.model_copy(update={"seed": 4}), tokenizer)
    assert not torch.equal(first, other.text_decoder.text_projection)


def test_layers_of_the_decoder_are_counted_by_themselves(coca_recipe, tokenizer):
    scales = layer_scales(build_model(coca_recipe, tokenizer), 0.5)
    want = {
        "text.token_embedding.weight": 0.25,
        "text.transformer.resblocks.0.ln_1.weight": 0.5,
        "text.ln_final.weight": 1.0,
        "text_decoder.resblocks.0.ln_1.weight": 0.25,
        "text_decoder.cross_attn.0.ln_1.weight": 0.25,
        "text_decoder.cross_attn.1.ln_1.weight": 0.5,
        "text_decoder.text_projection": 1.0,
        "logit_scale": 1.0,
    }
    assert {name: scales[name] for name in want} == want


@pytest.mark.parametrize(
    ("model", "training", "message"),
    [
        ({"multimodal_cfg": None}, {}, "no decoder of captions"),
        ({}, {"loss": "infonce"}, "'infonce'.*would stay as it is"),
        ({}, {"loss": "siglip"}, "'siglip'.*would stay as it is"),
        ({"multimodal_cfg": {"layers": 1, "width": 24, "heads": 2}}, {}, "cannot read the towers"),
        ({"vision_cfg": {"width": 32, "head_width": 16}}, {}, "cannot read the towers"),
        ({"vision_cfg": {"layers": [1, 1, 1, 1], "width": 8, "head_width": 64}}, {}, "cannot"),
        ({"multimodal_cfg": {"layers": 1, "depth": 2}}, {}, "open_clip cannot build it.*depth"),
        ({"text_cfg": {"no_causal_mask": True}}, {}, "shown the tokens that it is to predict"),
    ],
)
def test_what_does_not_fit_is_refused(coca_recipe, tokenizer, model, training, message):
    recipe, model = coca_recipe.model_dump(), dict(model)
    vision = {**recipe["model"]["vision_cfg"], **model.pop("vision_cfg", {})}
    if isinstance(vision["layers"], list):
        del vision["patch_size"]
    text = {**recipe["model"]["text_cfg"], **model.pop("text_cfg", {})}
    recipe["model"].update(model, vision_cfg=vision, text_cfg=text)
    recipe["training"].update(training)
    recipe = ClipRecipe.model_validate(recipe)
    words = WordLoss(12, tokenizer.vocab_size, ignored=(0,))
    with pytest.raises(ConfigError, match=message):
        ContrastiveStep(build_model(recipe, tokenizer), words, training=recipe.training)


@pytest.mark.parametrize("pooled", [False, True])
def test_a_trained_model_is_open_clips_coca_and_an_encoder(
    coca_recipe, make_pairs, changed, tmp_path, pooled
):
    recipe = changed(coca_recipe, epochs=2, batch_size=8, memory="gradcache", chunk_size=3)
    if pooled:
        options = recipe.model_dump()
        options["model"]["embed_dim"] = 16
        options["model"]["vision_cfg"].update(attentional_pool=True, attn_pooler_heads=2)
        recipe = ClipRecipe.model_validate(options)
    trainer = Trainer(
        recipe, make_pairs(24, 1), validation=make_pairs(9, 2), state_dir=tmp_path / "state"
    )
    before = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
    assert trainer.run()
    still = [n for n, p in trainer.model.named_parameters() if torch.equal(p, before[n])]
    assert still == []
    trainer.export(tmp_path / "model")
    logging.disable(logging.CRITICAL)
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{tmp_path / 'model'}")
    logging.disable(logging.NOTSET)
    assert isinstance(model, open_clip.CoCa)
    picture = Image.fromarray(make_pairs(1, 5).images[0])
    captions = ["red dark", "left stripe blue"]
    tokens = torch.as_tensor(trainer.tokenizer(captions))
    trainer.model.eval()
    model.eval()
    with torch.no_grad():
        pixels = preprocess(picture)[None]
        theirs = model(pixels, tokens[:1])
        ours = trainer.model(pixels, tokens[:1])
    assert torch.equal(theirs["logits"], ours["logits"])
    encoder = load_encoder(str(tmp_path / "model"))
    np.testing.assert_allclose(
        encoder.encode_image([picture]), ours["image_features"].numpy(), atol=1e-6
    )
    np.testing.assert_allclose(
        encoder.encode_text(captions)[:1], ours["text_features"].numpy(), atol=1e-6
    )


def test_captions_are_learnt(coca_recipe, make_pairs, changed, tmp_path):
    """The loss of a token falls from that of a guess to that of a caption known by heart."""
    options = {"epochs": 60, "batch_size": 8, "contrastive_loss_weight": 0.0}
    recipe = changed(coca_recipe, optimiser={"lr": 1e-2}, **options)
    pairs = make_pairs(8, 1)
    pairs = dataclasses.replace(pairs, captions=pairs.captions[:, :1])
    trainer = Trainer(recipe, pairs, validation=make_pairs(9, 2), state_dir=tmp_path)
    losses = []
    trainer.run(on_step=lambda *_: losses.append(float(trainer.learner.gradients.caption_loss)))
    assert losses[0] > 2.5 and losses[-1] < 0.5
    assert read_log(tmp_path / LOG_FILE)[-1].caption_loss == pytest.approx(losses[-1], rel=1e-5)


def test_a_plain_clip_teaches_towers_with_a_decoder(parts, inputs, vit_recipe, tokenizer):
    teacher = build_model(vit_recipe, tokenizer).eval().requires_grad_(False)
    model, words, step = parts(
        memory="gradcache", chunk_size=4, teacher=teacher, distill_weight=0.6
    )
    _, want = literal_gradients(model, words, inputs, training=step.training, teacher=teacher)
    step.backward(inputs)
    assert_equal_gradients(gradients(model, words), want)


def test_positions_are_not_decayed(coca_recipe, tokenizer):
    model = build_model(coca_recipe, tokenizer)
    decayed, free = parameter_groups(model, weight_decay=0.1)
    names = {id(p): name for name, p in model.named_parameters()}
    assert [group["weight_decay"] for group in (decayed, free)] == [0.1, 0.0]
    kept = {names[id(p)] for p in free["params"]}
    assert {"text.positional_embedding", "visual.positional_embedding", "logit_scale"} <= kept
    taken = {names[id(p)] for p in decayed["params"]}
    assert {"text_decoder.text_projection", "text.token_embedding.weight"} <= taken


@pytest.mark.slow
# PyTorch's compiler warns, and stops at warnings that are errors.
@pytest.mark.filterwarnings("ignore")
def test_a_compiled_decoder_trains_as_a_plain_one(coca_recipe, make_pairs, changed, tmp_path):
    trainers = [
        Trainer(
            changed(coca_recipe, compile=flag),
            make_pairs(24, 1),
            validation=make_pairs(9, 2),
            state_dir=tmp_path / str(flag),
        )
        for flag in (False, True)
    ]
    inputs = trainers[0]._inputs(trainers[0].batches[0])
    losses = []
    for trainer in trainers:
        step = trainer.learner.gradients
        losses.append((float(step.backward(inputs)), float(step.caption_loss)))
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    plain, compiled = (dict(trainer.model.named_parameters()) for trainer in trainers)
    assert plain.keys() == compiled.keys()
    for name, weights in plain.items():
        torch.testing.assert_close(compiled[name].grad, weights.grad, rtol=1e-3, atol=1e-4)
    assert trainers[1].model.text_decoder._compiled_call_impl is not None


def test_a_range_test_runs(coca_recipe, make_pairs, tmp_path):
    trainer = Trainer(
        coca_recipe, make_pairs(24, 1), validation=make_pairs(9, 2), state_dir=tmp_path
    )
    found = lr_range(trainer, lowest=1e-5, highest=1e-2, n_steps=4)
    assert len(found.loss) == 4 and np.isfinite(found.loss).all()
