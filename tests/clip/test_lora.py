"""Low-rank adaptation against explicit matrices in float64."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from clip_reference import gradients, make_inputs, make_tokenizer
from small_towers import LITE, PLAIN, RESNET, VIT, make_clip, make_hugging_face_tower
from torch.nn import functional

from braindecode_clip.clip.encoders import load_encoder
from braindecode_clip.clip.lora import LowRank, add_lora, merged_state
from braindecode_clip.clip.losses import WordLoss
from braindecode_clip.clip.models import build_model
from braindecode_clip.clip.run_state import check_options
from braindecode_clip.clip.step import ContrastiveStep
from braindecode_clip.clip.train import Trainer
from braindecode_clip.config.clip import ClipRecipe
from braindecode_clip.config.clip_adapt import AdaptConfig
from braindecode_clip.errors import ConfigError


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def lora_recipe(vit_recipe):
    """Return a maker of recipes with low-rank changes."""

    def make(training=None, optimiser=None, **lora):
        content = vit_recipe.model_dump()
        content["adapt"] = {"lora": {"rank": 3, "alpha": 6.0, **lora}}
        content["training"] |= {"max_shift_px": 0, **(training or {})}
        content["optimiser"] |= optimiser or {}
        return ClipRecipe.model_validate(content)

    return make


def changed_model(*, custom=False, vision=VIT, text=None, **lora):
    torch.manual_seed(0)
    model = make_clip(vision, custom=custom)
    if text is not None:
        model.text = text
    adapt = AdaptConfig.model_validate({"lora": {"rank": 3, "alpha": 6.0, **lora}})
    add_lora(model, adapt, seed=5)
    return model


def stir(model, seed=0):
    """Give every B numbers, as training would."""
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, LowRank):
                drawn = torch.randn(module.lora_b.shape, generator=rng)
                module.lora_b.copy_(0.1 * drawn)


def test_the_first_step_sees_the_model_as_it_was():
    torch.manual_seed(0)
    base = make_clip(VIT)
    changed = changed_model()
    pixels = torch.randn(3, 3, 32, 32)
    tokens = torch.randint(1, 30, (3, 7))
    # Two blocks of three matrices and three others, in three layers of two towers.
    assert sum(isinstance(m, LowRank) for m in changed.modules()) == 2 * 3 * 4
    for train in (True, False):
        base.train(train)
        changed.train(train)
        assert torch.equal(base.encode_image(pixels), changed.encode_image(pixels))
        assert torch.equal(base.encode_text(tokens), changed.encode_text(tokens))
    stir(changed)
    assert not torch.allclose(base.encode_image(pixels), changed.encode_image(pixels), atol=1e-3)
    assert not torch.allclose(base.encode_text(tokens), changed.encode_text(tokens), atol=1e-3)


def literal_block(block, x, changes, scale):
    """One residual block with W + s B A written out; queries, keys and values apart."""
    n_heads, width = block.attn.num_heads, x.shape[-1]

    def weight(plain, key, part=0):
        a, b = changes[key]
        return plain + scale * (b[part] @ a[part])

    normed = functional.layer_norm(x, (width,), block.ln_1.weight, block.ln_1.bias)
    w_in = block.attn.parametrizations.in_proj_weight.original.chunk(3)
    sides = [
        normed @ weight(w, "in", part).T + bias
        for part, (w, bias) in enumerate(zip(w_in, block.attn.in_proj_bias.chunk(3), strict=True))
    ]
    n, length = x.shape[:2]
    q, k, v = (s.view(n, length, n_heads, -1).transpose(1, 2) for s in sides)
    choice = (q @ k.transpose(-1, -2) / (width // n_heads) ** 0.5).softmax(dim=-1)
    heads = (choice @ v).transpose(1, 2).reshape(n, length, width)
    w_out = weight(block.attn.out_proj.parametrizations.weight.original, "out")
    x = x + heads @ w_out.T + block.attn.out_proj.bias
    normed = functional.layer_norm(x, (width,), block.ln_2.weight, block.ln_2.bias)
    w_fc = weight(block.mlp.c_fc.parametrizations.weight.original, "fc")
    w_proj = weight(block.mlp.c_proj.parametrizations.weight.original, "proj")
    hidden = functional.gelu(normed @ w_fc.T + block.mlp.c_fc.bias)
    return x + hidden @ w_proj.T + block.mlp.c_proj.bias


def test_a_block_and_its_gradients_equal_the_matrices_written_out():
    model = changed_model().double()
    stir(model)
    block = model.visual.transformer.resblocks[1]
    places = {
        "in": block.attn.parametrizations.in_proj_weight[0],
        "out": block.attn.out_proj.parametrizations.weight[0],
        "fc": block.mlp.c_fc.parametrizations.weight[0],
        "proj": block.mlp.c_proj.parametrizations.weight[0],
    }
    changes = {
        key: tuple(p.detach().clone().requires_grad_() for p in (place.lora_a, place.lora_b))
        for key, place in places.items()
    }
    assert [tuple(p.shape) for p in changes["in"]] == [(3, 3, 32), (3, 32, 3)]
    x = torch.randn(2, 5, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    target = torch.randn(2, 5, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    got = block(x)
    want = literal_block(block, x, changes, scale=6.0 / 3)
    torch.testing.assert_close(got, want, rtol=1e-11, atol=1e-12)
    (got * target).sum().backward()
    (want * target).sum().backward()
    for key, place in places.items():
        for name, own, literal in zip(
            "ab", (place.lora_a, place.lora_b), changes[key], strict=True
        ):
            assert own.grad.abs().amax(dim=(1, 2)).min() > 1e-3, (key, name)
            torch.testing.assert_close(own.grad, literal.grad, rtol=1e-10, atol=1e-12)
    plain = block.attn.out_proj.parametrizations.weight.original
    assert not plain.requires_grad
    assert plain.grad is None


TOWERS_AND_COUNTS = {
    # Per block: queries, keys and values; what mixes the heads; two layers of the mlp.
    "vit": ({"vision": VIT}, 3 * 4, 3 * 4),
    "attention only": ({"vision": VIT, "layers": ["attention_in", "attention_out"]}, 6, 6),
    "resnet": ({"vision": RESNET}, 4, 12),
    "timm": (
        {
            "vision": {"timm_model_name": "test_vit", "timm_pool": "token", "image_size": 160},
            "custom": True,
        },
        None,
        12,
    ),
}


@pytest.mark.parametrize("case", TOWERS_AND_COUNTS)
def test_every_layer_of_every_kind_of_tower_is_found(case):
    options, n_image, n_text = TOWERS_AND_COUNTS[case]
    model = changed_model(**options)
    found = [n for n, m in model.named_modules() if isinstance(m, LowRank)]
    n_visual = sum(n.startswith("visual.") for n in found)
    if n_image is None:
        n_image = 4 * len(model.visual.trunk.blocks)
        assert model.visual.trunk.blocks[0].attn.qkv.parametrizations.weight[0].lora_a.shape[0] == 3
    assert (n_visual, len(found) - n_visual) == (n_image, n_text)


def test_a_hugging_face_tower_is_changed_and_its_head_learns():
    model = changed_model(custom=True, text=make_hugging_face_tower(), towers=["text"], norms=True)
    found = [n for n, m in model.named_modules() if isinstance(m, LowRank)]
    # Queries, keys, values, their mixture and two layers of the mlp, in two blocks.
    assert len(found) == 6 * 2
    learns = {n for n, p in model.text.named_parameters() if p.requires_grad}
    others = {n for n in learns if "lora" not in n}
    assert "proj.weight" in others
    assert all("LayerNorm" in n for n in others - {"proj.weight"})
    assert len(others) == 1 + 2 * 5
    tokens = torch.randint(1, 30, (3, 7))
    model.encode_text(tokens).sum().backward()
    grads = [m.lora_b.grad for m in model.modules() if isinstance(m, LowRank)]
    assert all(g is not None and g.abs().max() > 0 for g in grads)


def test_only_what_the_recipe_names_learns():
    for options, extra in (
        ({}, set()),
        ({"projections": True}, {"visual.proj", "text_projection"}),
        ({"towers": ["image"], "projections": True}, {"visual.proj"}),
    ):
        model = changed_model(**options)
        learns = {n for n, p in model.named_parameters() if p.requires_grad and "lora" not in n}
        text = {n for n, _ in model.named_parameters() if "visual" not in n and "lora" not in n}
        full = text if options.get("towers") == ["image"] else {"logit_scale"}
        assert learns == extra | full
    norms = changed_model(norms=True)
    learns = {n for n, p in norms.named_parameters() if p.requires_grad and "lora" not in n}
    assert learns - {"logit_scale"} == {n for n, _ in norms.named_parameters() if "ln_" in n}


def test_towers_without_such_layers_and_high_ranks_are_refused():
    with pytest.raises(ConfigError, match="image tower has none of the layers attention_in"):
        changed_model(vision=PLAIN, custom=True)
    with pytest.raises(ConfigError, match="image tower has none of the layers"):
        changed_model(vision=LITE, custom=True)
    with pytest.raises(ConfigError, match=r"rank is 16.*matrices of rank 16 at most"):
        changed_model(rank=16, towers=["text"])
    with pytest.raises(ConfigError, match=r"none of the layers mlp"):
        changed_model(vision=RESNET, layers=["mlp"])


def test_l2_sp_is_refused(lora_recipe, tmp_path):
    with pytest.raises(ConfigError, match=r"l2_sp pulls weights to where they were"):
        check_options(lora_recipe(training={"l2_sp": 0.1}), tmp_path, None)


@pytest.mark.parametrize("options", [{}, {"projections": True, "norms": True}])
def test_training_moves_the_changes_alone_and_exports_a_plain_model(
    lora_recipe, make_pairs, tmp_path, options
):
    recipe = lora_recipe(training={"ema_decay": 0.5}, optimiser={"layer_decay": 0.7}, **options)
    trainer = Trainer(
        recipe, make_pairs(26, 1), validation=make_pairs(11, 2), state_dir=tmp_path / "run"
    )
    before = {k: v.clone() for k, v in trainer.model.state_dict().items()}
    trainer.run()
    learns = {n for n, p in trainer.model.named_parameters() if p.requires_grad}
    for name, value in trainer.model.state_dict().items():
        assert torch.equal(value, before[name]) == (name not in learns), name
    words = set(trainer.learner.words.parameters())
    assert set(trainer.learner.optimiser.state) - words == {
        p for p in trainer.model.parameters() if p.requires_grad
    }
    # A lower layer learns more slowly.
    scales = {
        id(p): g["lr_scale"] for g in trainer.learner.optimiser.param_groups for p in g["params"]
    }
    blocks = trainer.model.visual.transformer.resblocks
    rates = [scales[id(b.mlp.c_fc.parametrizations.weight[0].lora_a)] for b in blocks]
    assert rates == pytest.approx([0.7**2, 0.7])

    trainer.export(tmp_path / "model")
    pairs = make_pairs(5, 4)
    pixels = trainer.batches[0].pixels
    for folder, own in (("model", trainer.model), ("model/ema", trainer.learner.judged)):
        loaded = load_encoder(str(tmp_path / folder), device="cpu")
        plain = build_model(recipe.model_copy(update={"adapt": None}), trainer.tokenizer)
        assert loaded.model.state_dict().keys() == plain.state_dict().keys()
        own.eval()
        with torch.no_grad():
            torch.testing.assert_close(
                loaded.model.encode_image(pixels), own.encode_image(pixels), rtol=1e-5, atol=1e-6
            )
            tokens = torch.as_tensor(trainer.tokenizer(pairs.first_wordings))
            torch.testing.assert_close(
                loaded.model.encode_text(tokens), own.encode_text(tokens), rtol=1e-5, atol=1e-6
            )
        started = plain.visual.transformer.resblocks[0].attn.out_proj.weight
        ended = loaded.model.visual.transformer.resblocks[0].attn.out_proj.weight
        rank = np.linalg.matrix_rank((ended - started).detach().double().numpy(), tol=1e-6)
        assert rank == 3


def test_merging_equals_w_plus_ba_and_leaves_the_model_alone():
    model = changed_model()
    stir(model)
    block = model.transformer.resblocks[2]
    parts = block.attn.parametrizations.in_proj_weight
    original, change = parts.original.double(), parts[0]
    want = original + 2.0 * torch.cat(
        [b.double() @ a.double() for b, a in zip(change.lora_b, change.lora_a, strict=True)]
    )
    copied = copy.deepcopy(model)
    state = merged_state(model)
    got = state["transformer.resblocks.2.attn.in_proj_weight"]
    torch.testing.assert_close(got.double(), want, rtol=1e-5, atol=1e-7)
    plain = make_clip(VIT)
    plain.load_state_dict(state)
    pixels = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    for own in (model, copied):
        torch.testing.assert_close(
            own.encode_image(pixels), plain.encode_image(pixels), rtol=1e-5, atol=1e-6
        )
    untouched = merged_state(plain)
    assert untouched.keys() == plain.state_dict().keys()
    assert all(torch.equal(value, untouched[name]) for name, value in state.items())


def test_a_stopped_run_goes_on_bit_by_bit(lora_recipe, make_pairs, tmp_path):
    def start(folder, **options):
        return Trainer(
            lora_recipe(),
            make_pairs(26, 1),
            validation=make_pairs(11, 2),
            state_dir=tmp_path / folder,
            **options,
        )

    whole = start("whole")
    whole.run()
    start("cut").run(stop_after=4)
    torch.manual_seed(99)
    cut = start("cut", resume=True)
    cut.run()
    for (name, a), b in zip(
        whole.model.state_dict().items(), cut.model.state_dict().values(), strict=True
    ):
        assert torch.equal(a, b), name


@pytest.mark.parametrize("memory", ["gradcache", "checkpoint"])
def test_gradients_in_parts_equal_those_at_once(lora_recipe, memory):
    tokenizer, inputs = make_tokenizer(), make_inputs()
    found = []
    for way in ("none", memory):
        recipe = lora_recipe(training={"memory": way, "chunk_size": 4, "batch_size": 10})
        model = build_model(recipe, tokenizer)
        add_lora(model, recipe.adapt, seed=recipe.seed)
        stir(model)
        torch.manual_seed(1)
        words = WordLoss(12, tokenizer.vocab_size, ignored=(tokenizer.pad_id, tokenizer.end_id))
        ContrastiveStep(model, words, training=recipe.training).backward(inputs)
        found.append(gradients(model, words))
    names = [n for n in found[0] if "lora_" in n]
    assert len(names) == 2 * 4 * 3
    assert found[0].keys() == found[1].keys()
    for name, want in found[0].items():
        largest = float(want.abs().max())
        assert largest > 0, name
        torch.testing.assert_close(found[1][name], want, rtol=1e-4, atol=1e-5 * largest)


def test_a_runs_seed_draws_the_changes(vit_recipe):
    drawn = []
    for seed in (5, 5, 6):
        model = make_clip(VIT)
        add_lora(model, AdaptConfig.model_validate({"lora": {"rank": 2}}), seed=seed)
        drawn.append(model.visual.transformer.resblocks[0].mlp.c_fc.parametrizations.weight[0])
    assert torch.equal(drawn[0].lora_a, drawn[1].lora_a)
    assert not torch.equal(drawn[0].lora_a, drawn[2].lora_a)
    # Variance 1 / n, over 3 * 2 * 32 and more numbers.
    assert float(drawn[0].lora_a.detach().var()) == pytest.approx(1 / 32, rel=0.5)
