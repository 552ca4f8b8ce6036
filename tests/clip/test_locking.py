"""Locked towers: which weights learn, what stays in evaluation mode, what is kept."""

from __future__ import annotations

import csv
import logging

import numpy as np
import pytest
import torch
import yaml
from clip_reference import gradients, make_inputs, make_tokenizer
from pair_files import write_table
from PIL import Image
from safetensors.torch import load_file
from small_towers import LITE, PLAIN, RESNET, TINY, VIT, make_clip, make_hugging_face_tower

from braindecode_clip.cli.main import main
from braindecode_clip.clip.adapting import adapted
from braindecode_clip.clip.data import Pairs
from braindecode_clip.clip.locked_features import image_vectors, text_vectors, trunk_features
from braindecode_clip.clip.locking import TOWERS, LockedParts, lock_towers, tower_groups
from braindecode_clip.clip.losses import WordLoss
from braindecode_clip.clip.models import build_model
from braindecode_clip.clip.picture_store import PictureStore
from braindecode_clip.clip.step import ContrastiveStep
from braindecode_clip.clip.train import Trainer
from braindecode_clip.clip.training_log import LOG_FILE
from braindecode_clip.config.clip import ClipRecipe
from braindecode_clip.config.clip_adapt import AdaptConfig
from braindecode_clip.errors import ConfigError, DataError


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def with_adapt(recipe, *, vision=None, **options):
    content = recipe.model_dump()
    content["adapt"] = options.pop("adapt")
    if vision is not None:
        content["model"]["vision_cfg"] = vision
    for name, value in options.items():
        content[name].update(value)
    return ClipRecipe.model_validate(content)


def learning(model):
    return {name for name, p in model.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("custom", [False, True])
@pytest.mark.parametrize("n_unlocked", range(5))
def test_open_clips_own_towers_are_locked_as_open_clip_locks_them(custom, n_unlocked):
    ours, theirs = make_clip(VIT, custom=custom), make_clip(VIT, custom=custom)
    adapt = AdaptConfig(
        image_tower="lock",
        image_unlocked_groups=n_unlocked,
        text_tower="lock",
        text_unlocked_layers=4 - n_unlocked,
    )
    lock_towers(ours, adapt)
    theirs.lock_image_tower(n_unlocked)
    theirs.lock_text_tower(4 - n_unlocked)
    assert learning(ours) == learning(theirs)


def test_two_groups_are_the_last_block_and_the_projection():
    towers = {
        "vit": (VIT, {"transformer.resblocks.2", "ln_post", "proj"}),
        "resnet": (RESNET, {"layer4", "attnpool"}),
        "lite": (LITE, {"trunk.blocks.6", "trunk.conv_head", "trunk.bn2", "head.proj"}),
        "plain": (
            PLAIN,
            {f"trunk.features.{k}" for k in range(12, 18)} | {"trunk.position", "trunk.head"},
        ),
    }
    for name, (vision, want) in towers.items():
        model = make_clip(vision, custom=name in ("lite", "plain"))
        groups = tower_groups(model, "image")
        everything = [n for group in groups.trunk for n in group] + groups.projection
        assert sorted(everything) == sorted(n for n, _ in model.named_parameters() if "visual" in n)
        lock_towers(model, AdaptConfig(image_tower="lock", image_unlocked_groups=2))
        own = [n.removeprefix("visual.") for n in learning(model) if n.startswith("visual.")]
        # Every name begins with one of those wanted, and each of those has a name.
        begun = {w for w in want for n in own if n == w or n.startswith(f"{w}.")}
        last = max((w for w in want if "features" in w), default="", key=lambda w: int(w[15:]))
        without_weights = {f"trunk.features.{k}" for k in (14, 17)} if last else set()
        assert begun == want - without_weights, name
        assert all(any(n == w or n.startswith(f"{w}.") for w in want) for n in own), name


def test_a_head_that_open_clip_adds_always_learns():
    model = make_clip({**LITE, "timm_proj": "linear"}, custom=True)
    model.text = make_hugging_face_tower()
    lock_towers(model, AdaptConfig(image_tower="lock", text_tower="lock"))
    assert learning(model) == {"visual.head.proj.weight", "text.proj.weight", "logit_scale"}
    parts = LockedParts(model)
    model.train()
    parts.rest()
    assert not any(m.training for m in model.visual.trunk.modules())
    assert not any(m.training for m in model.text.transformer.modules())
    assert model.visual.head.drop.training
    assert model.text.proj.training


def test_a_classifier_of_a_trunk_is_locked_unless_it_is_asked_for():
    for n_unlocked, want in ((0, set()), (1, {"visual.trunk.head.weight"})):
        model = make_clip(PLAIN, custom=True)
        adapt = AdaptConfig(image_tower="lock", image_unlocked_groups=n_unlocked)
        lock_towers(model, adapt)
        assert {n for n in learning(model) if n.startswith("visual.")} == want


def test_hugging_face_towers_are_unlocked_from_the_output():
    model = make_clip(VIT, custom=True)
    model.text = make_hugging_face_tower()
    lock_towers(model, AdaptConfig(text_tower="lock", text_unlocked_layers=2))
    own = {n for n in learning(model) if n.startswith("text.")}
    names = [n for n, _ in model.named_parameters()]
    last = {n for n in names if n.startswith("text.transformer.encoder.layer.1.")}
    pooler = {n for n in names if ".pooler." in n}
    assert len(last) > 10
    assert own == last | pooler | {"text.proj.weight"}


def test_locks_that_make_no_sense_are_refused():
    everything = AdaptConfig(image_tower="lock", image_unlocked_groups=5)
    with pytest.raises(ConfigError, match=r"image_unlocked_groups is 5, and the tower has 5"):
        lock_towers(make_clip(VIT), everything)
    for options, message in (
        ({"image_unlocked_groups": 1}, "image_unlocked_groups is for image_tower: lock"),
        ({"text_unlocked_layers": 1}, "text_unlocked_layers is for text_tower: lock"),
        ({"text_tower": "lock", "lora": {}}, "lora.towers names it"),
    ):
        with pytest.raises(ValueError, match=message):
            AdaptConfig.model_validate(options)


def test_a_tower_that_stays_as_it_was_drawn_is_warned_of(vit_recipe, caplog):
    for adapt, towers in (
        ({"image_tower": "lock"}, ["image"]),
        ({"text_tower": "lock", "lora": {"rank": 2, "towers": ["image"]}}, ["image", "text"]),
    ):
        recipe = with_adapt(vit_recipe, adapt=adapt)
        for has_start in (False, True):
            caplog.clear()
            adapted(build_model(recipe, make_tokenizer()), recipe, has_start=has_start)
            found = [r.args[0] for r in caplog.records if "drawn at random" in r.message]
            assert found == ([] if has_start else towers)
    named = recipe.model.model_copy(update={"image_weights": "file.pt", "text_cfg": {}})
    caplog.clear()
    adapted(build_model(recipe, make_tokenizer()), recipe.model_copy(update={"model": named}))
    assert [r.args[0] for r in caplog.records if "drawn at random" in r.message] == ["text"]


def test_nothing_left_to_learn_is_refused(vit_recipe):
    recipe = with_adapt(vit_recipe, adapt={"image_tower": "lock", "text_tower": "lock"})
    with pytest.raises(ConfigError, match="nothing is left to learn"):
        adapted(build_model(recipe, make_tokenizer()), recipe)


@pytest.mark.parametrize("vision", [RESNET, TINY, PLAIN], ids=["resnet", "tiny", "plain"])
def test_locked_weights_and_batch_statistics_stay_and_the_others_move(
    tiny_recipe, make_pairs, tmp_path, vision
):
    recipe = with_adapt(
        tiny_recipe, vision=vision, adapt={"image_tower": "lock", "image_unlocked_groups": 2}
    )
    trainer = Trainer(
        recipe, make_pairs(16, 1), validation=make_pairs(9, 2), state_dir=tmp_path / "run"
    )
    before = {k: v.clone() for k, v in trainer.model.state_dict().items()}
    trainer.run(stop_after=2)
    learns = learning(trainer.model)
    groups = tower_groups(trainer.model, "image")
    locked = {n for group in groups.trunk[:-1] for n in group}
    assert locked
    owners = {n.rsplit(".", 1)[0] for n in locked}
    for name, value in trainer.model.state_dict().items():
        is_locked = name in locked or name.rsplit(".", 1)[0] in owners
        assert torch.equal(value, before[name]) == is_locked, name
        assert (name in learns) != is_locked or "running" in name or "num_batches" in name
    assert all(p.grad is None for n, p in trainer.model.named_parameters() if n in locked)
    moments = {id(p) for p in trainer.learner.optimiser.state}
    assert moments.isdisjoint(id(trainer.model.get_parameter(n)) for n in locked)


def test_a_locked_trunk_drops_no_patches_and_an_unlocked_one_does():
    pixels = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    for n_unlocked, is_same in ((0, True), (1, True), (2, False)):
        torch.manual_seed(0)
        model = make_clip({**VIT, "patch_dropout": 0.5})
        lock_towers(model, AdaptConfig(image_tower="lock", image_unlocked_groups=n_unlocked))
        parts = LockedParts(model)
        model.train()
        parts.rest()
        drawn = [model.encode_image(pixels) for _ in range(2)]
        assert torch.equal(*drawn) is is_same
        assert model.transformer.training


@pytest.mark.parametrize("n_unlocked", [0, 1])
def test_a_locked_tower_with_batch_normalisation_goes_through_gradcache(
    tiny_recipe, changed, n_unlocked
):
    tokenizer, inputs = make_tokenizer(), make_inputs()
    adapt = {"image_tower": "lock", "image_unlocked_groups": n_unlocked}
    found = []
    for memory in ("none", "gradcache"):
        recipe = with_adapt(
            changed(tiny_recipe, memory=memory, chunk_size=4, batch_size=10), adapt=adapt
        )
        model = build_model(recipe, tokenizer)
        parts = adapted(model, recipe)
        model.train()
        parts.rest()
        torch.manual_seed(1)
        words = WordLoss(12, tokenizer.vocab_size, ignored=(tokenizer.pad_id, tokenizer.end_id))
        ContrastiveStep(model, words, training=recipe.training).backward(inputs)
        found.append(gradients(model, words))
    assert found[0].keys() == found[1].keys()
    is_visual = [name for name in found[0] if "visual" in name]
    assert bool(is_visual) is bool(n_unlocked)
    for name, want in found[0].items():
        torch.testing.assert_close(found[1][name], want, rtol=1e-4, atol=1e-6)
    unlocked = with_adapt(
        changed(tiny_recipe, memory="gradcache", chunk_size=4, batch_size=10),
        adapt={"image_tower": "lock", "image_unlocked_groups": 2},
    )
    model = build_model(unlocked, tokenizer)
    adapted(model, unlocked)
    with pytest.raises(ConfigError, match="batch normalisation"):
        ContrastiveStep(model, words, training=unlocked.training)


KEPT = {
    "vit": (VIT, {"image_tower": "lock", "image_unlocked_groups": 1}, {}),
    "vit-dropping": ({**VIT, "patch_dropout": 0.5}, {"image_tower": "lock"}, {}),
    "resnet": (RESNET, {"image_tower": "lock"}, {}),
    "timm, its head drops": ({**TINY, "timm_drop": 0.3}, {"image_tower": "lock"}, {}),
    "plain": (PLAIN, {"image_tower": "lock", "image_unlocked_groups": 1}, {"ema_decay": 0.5}),
    "text": (VIT, {"text_tower": "lock", "text_unlocked_layers": 1}, {}),
    "both": (
        VIT,
        {
            "image_tower": "lock",
            "image_unlocked_groups": 1,
            "text_tower": "lock",
            "text_unlocked_layers": 1,
        },
        {"memory": "gradcache", "chunk_size": 4},
    ),
}


def log_rows(folder):
    with (folder / LOG_FILE).open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    timings = {"seconds", "pairs_per_second"}
    return [{k: v for k, v in row.items() if k not in timings} for row in rows]


@pytest.mark.parametrize("case", KEPT)
def test_kept_features_change_no_bit(tiny_recipe, make_pairs, tmp_path, caplog, case):
    vision, adapt, training = KEPT[case]
    training = {"max_shift_px": 0, "word_loss_weight": 0.5, "epochs": 2, **training}
    recipe = with_adapt(tiny_recipe, vision=vision, adapt=adapt, training=training)

    def start(folder, **options):
        return Trainer(
            recipe,
            make_pairs(26, 1),
            validation=make_pairs(11, 2),
            state_dir=tmp_path / folder,
            **options,
        )

    whole = start("whole")
    whole.run()
    with caplog.at_level(logging.INFO, logger="braindecode_clip"):
        kept = start("kept", keep_bytes=1e8)
    n_kept = sum("kept features" in r.message for r in caplog.records)
    assert n_kept == (2 if case == "both" else 1)
    assert "last bits" not in caplog.text
    image_batch = kept.batches[0].pixels
    assert (image_batch.ndim == 2) is (adapt.get("image_tower") == "lock")
    assert (kept.batches[0].texts is not None) is (adapt.get("text_tower") == "lock")
    # Neither pictures nor tokens are put through again, held-out ones after the first time.
    calls = []
    kept.run(stop_after=4)
    for tower in TOWERS:
        if adapt.get(f"{tower}_tower") == "lock":
            block = kept.learner.judged.visual if tower == "image" else kept.model.transformer
            block.register_forward_hook(lambda *_: calls.append(1))
    kept = start("kept", keep_bytes=1e8, resume=True)
    kept.run()
    for (name, a), b in zip(
        whole.learner.modules.state_dict().items(),
        kept.learner.modules.state_dict().values(),
        strict=True,
    ):
        assert torch.equal(a, b), name
    assert log_rows(tmp_path / "whole") == log_rows(tmp_path / "kept")


@pytest.mark.parametrize("custom", [False, True, "hugging face", "no projection"])
def test_a_tower_is_its_trunk_and_then_its_projection(custom):
    torch.manual_seed(0)
    model = make_clip({**TINY} if custom else VIT, custom=bool(custom)).eval()
    if custom == "hugging face":
        model.text = make_hugging_face_tower().eval()
    if custom == "no projection":
        model.text.text_projection = None
    names = [name for name, _ in model.named_parameters()]
    # Attention whose weights do not learn takes another way, with other last bits.
    for tower in TOWERS:
        for name in [n for group in tower_groups(model, tower).trunk for n in group]:
            model.get_parameter(name).requires_grad_(False)
    inputs = {"image": torch.randn(3, 3, 32, 32), "text": torch.randint(1, 30, (3, 7))}
    widths = {"image": model.visual.trunk.num_features if custom else 32, "text": 16}
    for tower, vectors in (("image", image_vectors), ("text", text_vectors)):
        features = trunk_features(model, tower, inputs[tower])
        assert not features.requires_grad
        assert features.shape == (3, widths[tower])
        assert torch.equal(vectors(model, features), vectors(model, inputs[tower]))
    # Projections are back in their places, and learn.
    assert [name for name, _ in model.named_parameters()] == names
    image_vectors(model, features.new_ones(3, widths["image"])).sum().backward()
    (name,) = tower_groups(model, "image").projection
    assert model.get_parameter(name).grad.abs().max() > 0


def test_kept_features_spare_the_trunk(tiny_recipe, make_pairs, tmp_path, monkeypatch):
    sizes = []

    def recorded(model, tower, inputs):
        sizes.append(len(inputs))
        return trunk_features(model, tower, inputs)

    monkeypatch.setattr("braindecode_clip.clip.locked_features.trunk_features", recorded)
    adapt = {"image_tower": "lock", "image_unlocked_groups": 1}
    training = {"max_shift_px": 0, "validate_every": 2, "epochs": 2}
    recipe = with_adapt(tiny_recipe, vision=VIT, adapt=adapt, training=training)
    seen = {}
    for room in (0, 1e8):
        trainer = Trainer(
            recipe,
            make_pairs(26, 1),
            validation=make_pairs(11, 2),
            state_dir=tmp_path / f"run-{room:.0f}",
            keep_bytes=room,
        )
        # 26 pictures and the probe in reverse order, all in the shape of a step's batch: another
        # one may give other last bits.
        assert sizes == ([8] * 5 if room else [])
        counts = seen[room] = []
        trainer.model.visual.conv1.register_forward_hook(
            lambda _, inputs, __, counts=counts: counts.append(len(inputs[0]))
        )
        trainer.run()
    # 6 steps of 8 pictures, and 11 held-out ones after every second.
    assert sum(seen[0]) == 6 * 8 + 3 * 11
    assert seen[1e8] == [11]


def test_features_are_kept_only_where_they_stay_the_same(tiny_recipe, make_pairs, tmp_path, caplog):
    lock = {"image_tower": "lock", "image_unlocked_groups": 1}
    cases = {
        "moved": (lock, {"max_shift_px": 1}, 1e8),
        "block": ({**lock, "image_unlocked_groups": 2}, {"max_shift_px": 0}, 1e8),
        "chunks": (lock, {"max_shift_px": 0, "memory": "gradcache", "chunk_size": 3}, 1e8),
        "little room": (lock, {"max_shift_px": 0}, 26 * 32 * 4 - 1),
        "no room for held-out pairs": (lock, {"max_shift_px": 0}, 26 * 32 * 4),
    }
    for name, (adapt, training, room) in cases.items():
        recipe = with_adapt(tiny_recipe, vision=VIT, adapt=adapt, training=training)
        with caplog.at_level(logging.INFO, logger="braindecode_clip"):
            trainer = Trainer(
                recipe,
                make_pairs(26, 1),
                validation=make_pairs(11, 2),
                state_dir=tmp_path / name,
                keep_bytes=room,
            )
        assert (trainer.batches[0].pixels.ndim == 2) is (name == "no room for held-out pairs")
        assert not trainer._remembered._towers
    assert "are not kept; --cache memory keeps them" in caplog.text
    both = {**lock, "text_tower": "lock", "text_unlocked_layers": 1}
    recipe = with_adapt(tiny_recipe, vision=VIT, adapt=both, training={"max_shift_px": 0})
    for room, is_kept in (
        (26 * 32 * 4 + 52 * 16 * 4 - 1, False),
        (26 * 32 * 4 + 52 * 16 * 4, True),
    ):
        trainer = Trainer(
            recipe,
            make_pairs(26, 1),
            validation=make_pairs(11, 2),
            state_dir=tmp_path / f"both-{room}",
            keep_bytes=room,
        )
        assert trainer.batches[0].pixels.ndim == 2
        assert (trainer.batches[0].texts is not None) is is_kept


def test_corrupt_pictures_are_replaced_as_without_kept_features(tiny_recipe, make_pairs, tmp_path):
    pairs = make_pairs(26, 1)

    def load(row):
        if row in (3, 17):
            raise DataError("cut off")
        return Image.fromarray(pairs.images[row])

    recipe = with_adapt(
        tiny_recipe,
        vision=VIT,
        adapt={"image_tower": "lock"},
        training={"max_shift_px": 0, "epochs": 1},
    )
    found = []
    for room in (0, 1e8):
        names = [f"{k}.png" for k in range(26)]
        store = PictureStore(load, names, prepare=np.asarray, side_px=32, keep=False)
        trainer = Trainer(
            recipe,
            Pairs(store, pairs.captions),
            validation=make_pairs(11, 2),
            state_dir=tmp_path / f"{room:.0f}",
            keep_bytes=room,
            n_workers=2,
        )
        trainer.run()
        rows = np.concatenate([trainer.batches[k].rows for k in range(3)])
        assert not {3, 17} & set(rows.tolist())
        found.append((rows, trainer.model.state_dict()))
    np.testing.assert_array_equal(found[0][0], found[1][0])
    assert len(set(found[0][0].tolist())) <= 24
    assert all(torch.equal(a, found[1][1][name]) for name, a in found[0][1].items())


def test_cache_says_whether_features_are_kept(tiny_recipe, tmp_path, capsys):
    pairs = write_table(tmp_path / "pairs", 24)
    recipe = with_adapt(
        tiny_recipe,
        vision=TINY,
        adapt={"image_tower": "lock"},
        training={"max_shift_px": 0, "epochs": 1, "validate_every": 2},
        data={"split": {"by": "group", "validation": 0.3}},
    )
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(recipe.model_dump(mode="json")), "utf-8")
    states = []
    for cache in ("none", "auto"):
        command = ["clip", "train", "--recipe", tmp_path / "r.yaml", "--pairs", pairs]
        command += ["--out", tmp_path / cache, "--cache", cache, "--threads", 1]
        assert main([str(word) for word in command]) == 0
        assert ("kept features" in capsys.readouterr().err) is (cache == "auto")
        states.append(load_file(tmp_path / cache / "open_clip_model.safetensors"))
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
