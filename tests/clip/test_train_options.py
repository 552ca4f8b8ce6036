"""Options of training beside the plain step, and that a stopped run goes on with them."""

from __future__ import annotations

import copy
import csv
import math

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from braindecode_clip.clip.checkpoints import BEST_FILE, STATE_FILE, read_state
from braindecode_clip.clip.encoders import load_encoder
from braindecode_clip.clip.torchvision_compat import import_open_clip
from braindecode_clip.clip.train import Trainer
from braindecode_clip.clip.training_log import LOG_FILE
from braindecode_clip.config.clip import TrainConfig
from braindecode_clip.errors import ConfigError, DataError


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def start(make_pairs, tmp_path):
    def make(recipe, folder="run", **options):
        return Trainer(
            recipe,
            make_pairs(26, 1),
            validation=make_pairs(11, 2),
            state_dir=tmp_path / folder,
            **options,
        )

    return make


@pytest.fixture
def first_model(start, vit_recipe, tmp_path):
    trainer = start(vit_recipe.model_copy(update={"seed": 50}), "first-state")
    trainer.run(stop_after=1)
    trainer.export(tmp_path / "first")
    return tmp_path / "first"


def weights(trainer):
    return {name: value.clone() for name, value in trainer.model.state_dict().items()}


def all_equal(a, b):
    assert a.keys() == b.keys()
    return all(torch.equal(value, b[name]) for name, value in a.items())


RESUMED = {
    "gradcache": {"memory": "gradcache", "chunk_size": 3, "vision": {"patch_dropout": 0.5}},
    "siglip": {"loss": "siglip", "memory": "accumulate", "chunk_size": 4},
    "soft": {"false_negatives": "soft", "false_negatives_by": ["caption", "picture"]},
    "fp16": {"precision": "fp16"},
    "mean": {"ema_decay": 0.9, "l2_sp": 0.1, "early_stop_patience": 2, "validate_every": 2},
    "layers": {"optimiser": {"layer_decay": 0.7, "schedule": "cooldown"}},
    "taught": {"distill_weight": 1.0, "memory": "checkpoint"},
}


@pytest.mark.parametrize("name", RESUMED)
def test_a_stopped_run_goes_on_bit_by_bit(start, vit_recipe, changed, first_model, tmp_path, name):
    recipe = changed(vit_recipe, **RESUMED[name])
    options = {"initial": first_model} if name == "mean" else {}
    options |= {"teacher": first_model} if name == "taught" else {}
    whole = start(recipe, "whole", **options)
    whole.run()
    start(recipe, "cut", **options).run(stop_after=5)
    torch.manual_seed(99)
    cut = start(recipe, "cut", resume=True, **options)
    assert cut.step == 5
    assert cut.run()
    for file in (STATE_FILE, BEST_FILE):
        states = [read_state(tmp_path / folder / file) for folder in ("whole", "cut")]
        assert all_equal(states[0].tensors, states[1].tensors)
        assert states[0].progress == states[1].progress


def test_the_plain_step_is_open_clips_to_the_bit(start, tiny_recipe, changed):
    """Masking of equal captions apart, which no pair of these needs."""
    recipe = changed(tiny_recipe, false_negatives="none", word_loss_weight=0.0)
    trainer = start(recipe)
    model = copy.deepcopy(trainer.model)
    groups = [{"params": [], "weight_decay": decay} for decay in (0.05, 0.0)]
    for name, parameter in model.named_parameters():
        is_free = parameter.ndim < 2 or name in model.no_weight_decay()
        groups[is_free]["params"].append(parameter)
    optimiser = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.98), eps=1e-8, fused=True)
    loss = import_open_clip().ClipLoss()
    model.train()
    for step in range(3):
        batch = trainer.batches[step]
        for group in optimiser.param_groups:
            group["lr"] = trainer._rate()
        features = model(batch.pixels, batch.tokens)
        loss(*features[:3]).backward()
        torch.nn.utils.clip_grad_norm_([p for g in groups for p in g["params"]], 1.0)
        optimiser.step()
        optimiser.zero_grad()
        trainer.run(stop_after=step + 1)
    assert all_equal(weights(trainer), model.state_dict())


def test_equal_pictures_are_false_negatives_where_asked(tiny_recipe, changed, make_pairs, tmp_path):
    pairs = make_pairs(8, 1)
    pairs.images[5] = pairs.images[2]
    losses = {}
    for by in (("caption",), ("caption", "picture")):
        recipe = changed(tiny_recipe, false_negatives_by=by, max_shift_px=0)
        trainer = Trainer(recipe, pairs, validation=pairs, state_dir=tmp_path / str(len(by)))
        inputs = trainer._inputs(trainer.batches[0])
        assert len(inputs.equal) == len(by)
        losses[len(by)] = float(trainer.learner.gradients.backward(inputs))
    order = trainer.batches[0].rows.tolist()
    numbers = inputs.equal[1]
    assert numbers[order.index(5)] == numbers[order.index(2)]
    assert len(set(numbers.tolist())) == 7
    assert losses[2] < losses[1]


def test_the_running_mean_is_that_of_the_weights(start, vit_recipe, changed, tmp_path):
    recipe = changed(vit_recipe, ema_decay=0.3)
    trainer = start(recipe)
    mean = {name: value.double() for name, value in weights(trainer).items()}
    for step in range(1, 10):
        trainer.run(stop_after=step)
        decay = min(0.3, (1 + step) / (10 + step))
        now = weights(trainer)
        mean = {name: decay * m + (1 - decay) * now[name].double() for name, m in mean.items()}
        found = trainer.learner.judged.state_dict()
        for name, value in mean.items():
            torch.testing.assert_close(found[name].double(), value, rtol=1e-5, atol=1e-6)
    trainer.export(tmp_path / "model")
    exported = load_encoder(str(tmp_path / "model" / "ema"), device="cpu").model.state_dict()
    assert all_equal(exported, found)
    last = load_encoder(str(tmp_path / "model"), device="cpu").model.state_dict()
    assert all_equal(last, weights(trainer))
    assert not all_equal(last, exported)


def test_buffers_of_the_running_mean_are_the_models(start, tiny_recipe, changed):
    trainer = start(changed(tiny_recipe, ema_decay=0.9))
    trainer.run(stop_after=2)
    buffers = dict(trainer.model.named_buffers())
    assert "visual.bn1.running_mean" in buffers
    assert all_equal(buffers, dict(trainer.learner.judged.named_buffers()))


def test_l2_sp_is_the_gradient_of_its_penalty(start, vit_recipe, changed, first_model):
    """And pulls to the start of the run, not to where it was taken up."""
    recipe = changed(vit_recipe, l2_sp=0.25)
    trainer = start(recipe, initial=first_model)
    begin = weights(trainer)
    trainer.run(stop_after=4)
    again = start(recipe, initial=first_model, resume=True)
    pull, model = again.learner._pull, again.model
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    pull.add_gradient()
    moved = 0
    for name, parameter in model.named_parameters():
        want = torch.zeros_like(parameter)
        if not name.startswith("logit_"):
            want = 0.25 * (parameter.detach() - begin[name])
            moved += bool(want.abs().max() > 0)
        torch.testing.assert_close(parameter.grad, want)
    assert moved > 20
    free = start(vit_recipe, "free", initial=first_model)
    free.run()
    strong = start(changed(vit_recipe, l2_sp=1e4), "strong", initial=first_model)
    strong.run()
    distances = [
        math.sqrt(sum(float((v - begin[k]).square().sum()) for k, v in weights(t).items()))
        for t in (free, strong)
    ]
    assert distances[1] < distances[0]


def read_recalls(path):
    with (path / LOG_FILE).open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    kinds = ("val_image_to_text_r1", "val_text_to_image_r1")
    return {
        int(row["step"]): np.mean([float(row[k]) for k in kinds]) for row in rows if row[kinds[0]]
    }


def test_an_early_stop_keeps_the_best(start, vit_recipe, changed, tmp_path, monkeypatch):
    recipe = changed(
        vit_recipe, epochs=8, early_stop_patience=2, log_every=1, validate_every=2, ema_decay=0.5
    )
    trainer = start(recipe)
    scores = iter([0.1, 0.4, 0.3, 0.4, 0.9])
    seen = {}

    def validate():
        seen[trainer.step] = (weights(trainer), copy.deepcopy(trainer.learner.judged.state_dict()))
        value = next(scores)
        recall = type("Recall", (), {"r1": value})
        return recall, recall

    monkeypatch.setattr(trainer, "validate", validate)
    assert not trainer.run(stop_after=6)
    # What was best is remembered by a run that is taken up.
    trainer = start(recipe, resume=True)
    monkeypatch.setattr(trainer, "validate", validate)
    assert trainer.run()
    # An equal score is no better one: stopped by those of steps 6 and 8.
    assert (trainer.step, trainer.n_steps) == (8, 24)
    assert list(read_recalls(tmp_path / "run").values()) == [0.1, 0.4, 0.3, 0.4]
    assert (trainer.progress.best, trainer.progress.best_step) == (0.4, 4)
    trainer.export(tmp_path / "model")
    for folder, want in zip(("", "ema"), seen[4], strict=True):
        found = load_encoder(str(tmp_path / "model" / folder), device="cpu").model.state_dict()
        assert all_equal(found, want)
    again = start(recipe, resume=True)
    assert again.run() and again.step == 8
    assert all_equal(weights(again), seen[8][0])


def test_without_early_stop_the_last_is_written_and_the_best_kept(
    start, vit_recipe, changed, tmp_path
):
    trainer = start(changed(vit_recipe, log_every=1, validate_every=1))
    trainer.run()
    recalls = read_recalls(tmp_path / "run")
    best = read_state(tmp_path / "run" / BEST_FILE)
    assert best.step == max(recalls, key=lambda k: (recalls[k], -k))
    assert not any(name.startswith("optimiser.") for name in best.tensors)
    trainer.export(tmp_path / "model")
    found = load_encoder(str(tmp_path / "model"), device="cpu").model.state_dict()
    assert all_equal(found, weights(trainer))


def test_siglip_has_a_bias_that_comes_back_with_the_model(start, vit_recipe, changed, tmp_path):
    recipe = changed(vit_recipe, loss="siglip")
    trainer = start(recipe)
    assert float(trainer.model.logit_bias.detach()) == -10.0
    assert float(trainer.model.logit_scale.detach().exp()) == pytest.approx(10.0)
    trainer.run()
    trainer.export(tmp_path / "model")
    found = load_encoder(str(tmp_path / "model"), device="cpu").model
    assert torch.equal(found.logit_bias, trainer.model.logit_bias)
    assert float(found.logit_bias.detach()) != -10.0
    assert start(vit_recipe, "other").model.logit_bias is None


def test_fp16_skips_a_step_whose_gradient_overflows(start, vit_recipe, changed):
    trainer = start(changed(vit_recipe, precision="fp16"))
    trainer.run(stop_after=1)
    before, scaler = weights(trainer), trainer.learner.scaler
    scaler.load_state_dict({**scaler.state_dict(), "scale": 2.0**120})
    trainer.run(stop_after=2)
    assert all_equal(weights(trainer), before)
    assert scaler.get_scale() == 2.0**119
    with torch.no_grad():
        trainer.model.text_projection[0, 0] = torch.nan
    with pytest.raises(DataError, match="step 3 of 9 gave loss nan"):
        trainer.run()


@pytest.mark.slow
# Its own code warns, and stops at warnings that are errors.
@pytest.mark.filterwarnings("ignore")
def test_compiled_towers_train_as_plain_ones(start, vit_recipe, changed, tmp_path):
    trainers = [start(changed(vit_recipe, compile=flag), str(flag)) for flag in (False, True)]
    names = [list(trainer.model.state_dict()) for trainer in trainers]
    assert names[0] == names[1]
    inputs = trainers[0]._inputs(trainers[0].batches[0])
    losses = [float(trainer.learner.gradients.backward(inputs)) for trainer in trainers]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    for a, b in zip(*(trainer.model.parameters() for trainer in trainers), strict=True):
        torch.testing.assert_close(b.grad, a.grad, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("options", "given", "message"),
    [
        ({"l2_sp": 0.1}, {}, "l2_sp pulls towards a model: give --initial"),
        ({"distill_weight": 1.0}, {}, "imitates a teacher: give --teacher"),
        ({}, {"teacher": "nowhere"}, "nothing asks it"),
        (
            {"optimiser": {"layer_decay": 0.5}, "vision": {"timm_model_name": "braindecode_plain"}},
            {},
            "no numbered layers",
        ),
    ],
)
def test_options_that_need_something_else_are_named(
    start, vit_recipe, changed, options, given, message
):
    if "vision" in options:
        options["vision"] |= {"timm_pool": "max", "timm_proj": None}
    with pytest.raises(ConfigError, match=message):
        start(changed(vit_recipe, **options), **given)


def test_a_teacher_must_see_pictures_of_the_same_size(
    start, vit_recipe, changed, make_pairs, tmp_path
):
    large = changed(vit_recipe, vision={"image_size": 40})
    pairs = make_pairs(26, 1, size_px=40)
    teacher = Trainer(large, pairs, validation=pairs, state_dir=tmp_path / "teacher-state")
    teacher.export(tmp_path / "teacher")
    with pytest.raises(ConfigError, match=r"as a teacher: its size is 40, the recipe's is 32"):
        start(changed(vit_recipe, distill_weight=1.0), teacher=tmp_path / "teacher")


def test_another_start_or_teacher_is_not_taken_up(start, vit_recipe, changed, first_model):
    recipe = changed(vit_recipe, distill_weight=0.5)
    start(recipe, teacher=first_model, initial=first_model).run(stop_after=1)
    link = first_model.with_name("link")
    link.symlink_to(first_model)
    with pytest.raises(ConfigError, match="another start"):
        start(recipe, resume=True, teacher=first_model, initial=link)
    with pytest.raises(ConfigError, match="another teacher"):
        start(recipe, resume=True, teacher=link, initial=first_model)
    path = first_model / "open_clip_model.safetensors"
    tensors = load_file(path)
    tensors["text_projection"] += 1
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(ConfigError, match="other first weights"):
        start(recipe, resume=True, teacher=first_model, initial=first_model)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"duplicate_similarity": 0.9, "false_negatives": "soft"}, "for false_negatives: mask"),
        ({"memory": "accumulate", "batch_size": 10, "chunk_size": 4}, "does not divide"),
        ({"memory": "gradcache", "batch_size": 10, "chunk_size": 16}, "exceeds batch_size"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        TrainConfig(**options)


def test_the_earlier_name_of_masking_is_read():
    assert TrainConfig(mask_identical_captions=False).false_negatives == "none"
    assert TrainConfig(mask_identical_captions=True) == TrainConfig()
