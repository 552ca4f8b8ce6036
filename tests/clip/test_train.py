from __future__ import annotations

import csv
import itertools
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml

from braindecode_clip.clip.checkpoints import STATE_FILE, read_state
from braindecode_clip.clip.data import Pairs
from braindecode_clip.clip.encoders import load_encoder
from braindecode_clip.clip.models import build_model
from braindecode_clip.clip.tokenizers import WordTokenizer
from braindecode_clip.clip.train import Trainer
from braindecode_clip.clip.training_log import LOG_FILE, read_log
from braindecode_clip.errors import ConfigError, DataError


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def start(tiny_recipe, make_pairs, tmp_path):
    """Return a maker of trainers on the same pairs; 9 steps in 3 epochs."""

    def make(folder="run", *, recipe=None, pairs=None, **options):
        return Trainer(
            recipe or tiny_recipe,
            pairs or make_pairs(26, 1),
            validation=make_pairs(11, 2),
            state_dir=tmp_path / folder,
            **options,
        )

    return make


def log_rows(folder):
    """The log without wall time and speed, which no run repeats."""
    with (folder / LOG_FILE).open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    timings = {"seconds", "pairs_per_second"}
    return [{k: v for k, v in row.items() if k not in timings} for row in rows]


@pytest.mark.parametrize("stop", [3, 4, 7])
def test_a_stopped_run_goes_on_bit_by_bit(start, tmp_path, stop):
    whole = start("whole")
    assert whole.run()
    assert not start("cut").run(stop_after=stop)
    torch.manual_seed(99)
    cut = start("cut", resume=True)
    assert cut.step == stop
    assert cut.run()
    for (name, a), b in zip(
        whole.model.state_dict().items(), cut.model.state_dict().values(), strict=True
    ):
        assert torch.equal(a, b), name
    states = [read_state(tmp_path / f / STATE_FILE).tensors for f in ("whole", "cut")]
    assert states[0].keys() == states[1].keys()
    moments = [name for name in states[0] if name.startswith("optimiser.")]
    assert len(moments) == 3 * len(list(whole.learner.modules.parameters()))
    assert all(torch.equal(states[0][name], states[1][name]) for name in moments)
    # Also where the stop falls between two rows, whose loss is a mean over both sides of it.
    assert log_rows(tmp_path / "whole") == log_rows(tmp_path / "cut")


def test_speed_is_that_of_the_steps_that_were_timed(start, tmp_path, monkeypatch):
    ticks = itertools.count()
    # Each look at the clock is a second later: one before and one after the steps of a row.
    clock = SimpleNamespace(perf_counter=lambda: next(ticks))
    monkeypatch.setattr("braindecode_clip.clip.train.time", clock)
    start("run").run(stop_after=3)
    start("run", resume=True).run()
    rows = read_log(tmp_path / "run" / LOG_FILE)
    assert [row.step for row in rows] == [2, 4, 6, 8, 9]
    assert {row.seconds for row in rows} == {1}
    # Eight pairs a step; of the row of step 4 one step came before the run was taken up.
    assert [row.pairs_per_second for row in rows] == [16, 8, 16, 16, 8]


def test_a_killed_run_repeats_the_steps_since_its_last_state(start, tmp_path):
    whole = start("whole")
    whole.run()

    def kill(step, n_steps, row):
        if step == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        start("killed").run(on_step=kill)
    assert [row["step"] for row in log_rows(tmp_path / "killed")] == ["2", "4", "6"]
    unfinished = tmp_path / "killed" / f".{STATE_FILE}.1.part"
    unfinished.touch()
    again = start("killed", resume=True)
    assert again.step == 4
    assert not unfinished.exists()
    again.run()
    assert log_rows(tmp_path / "killed") == log_rows(tmp_path / "whole")
    assert torch.equal(again.model.text_projection, whole.model.text_projection)


def test_same_seed_same_weights_other_seed_other_weights(start, tiny_recipe):
    first, second = start("a"), start("b")
    other = start("c", recipe=tiny_recipe.model_copy(update={"seed": 4}))
    for trainer in (first, second, other):
        trainer.run(stop_after=2)
    weights = [trainer.model.visual.conv1.weight for trainer in (first, second, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_training_learns_the_pairs(start, tiny_recipe, make_pairs):
    training = tiny_recipe.training.model_copy(
        update={"epochs": 25, "log_every": 1, "max_shift_px": 0, "validate_every": 1000}
    )
    pairs = make_pairs(16, 1)
    losses = []
    trainer = start(
        recipe=tiny_recipe.model_copy(update={"training": training}),
        pairs=Pairs(pairs.images, pairs.captions[:, :1]),
    )
    trainer.run(on_step=lambda step, n, row: losses.append(row.loss))
    # Without knowledge the loss is log(8) = 2.08 at best.
    assert np.mean(losses[-5:]) < 1.0
    scale = float(trainer.model.logit_scale.detach().exp())
    assert 0 < scale <= tiny_recipe.training.logit_scale_max


def test_logit_scale_never_exceeds_its_limit(start, tiny_recipe):
    training = tiny_recipe.training.model_copy(
        update={"logit_scale_init": 50.0, "logit_scale_max": 40.0}
    )
    trainer = start(recipe=tiny_recipe.model_copy(update={"training": training}))
    trainer.run(stop_after=1)
    assert float(trainer.model.logit_scale.detach().exp()) == pytest.approx(40.0, rel=1e-6)


def test_a_state_is_not_overwritten_by_accident(start):
    start().run(stop_after=2)
    with pytest.raises(ConfigError, match="--resume"):
        start()


def test_a_state_of_another_recipe_or_of_other_pairs_is_refused(start, tiny_recipe, make_pairs):
    start().run(stop_after=2)
    other = tiny_recipe.model_copy(update={"seed": 8})
    with pytest.raises(ConfigError, match="another recipe"):
        start(recipe=other, resume=True)
    with pytest.raises(ConfigError, match="from other pairs"):
        start(pairs=make_pairs(26, 9), resume=True)


def test_a_damaged_state_is_named(start, tmp_path):
    start().run(stop_after=2)
    path = tmp_path / "run" / STATE_FILE
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(DataError, match="no readable training state"):
        start(resume=True)


def test_a_loss_that_is_no_number_names_the_batch(start, tmp_path):
    trainer = start()
    trainer.run(stop_after=4)
    with torch.no_grad():
        trainer.model.text_projection[0, 0] = torch.nan
    rows = trainer.batches[4].rows
    with pytest.raises(DataError, match=rf"step 5 of 9 gave loss nan.*\D{rows[0]}\D+{rows[1]}\D"):
        trainer.run()
    state = read_state(tmp_path / "run" / STATE_FILE)
    assert state.step == 4
    assert torch.isfinite(state.tensors["model.clip.text_projection"]).all()


def test_pictures_of_another_size_are_refused(start, make_pairs):
    with pytest.raises(DataError, match=r"40 x 40 pixels, the model takes 32 x 32"):
        start(pairs=make_pairs(26, 1, size_px=40))


def test_validation_that_cannot_be_ranked_is_refused_at_the_start(
    tiny_recipe, make_pairs, tmp_path
):
    pairs = make_pairs(26, 1)
    same = Pairs(pairs.images[:4], np.array([["red"]] * 4))
    with pytest.raises(DataError, match="fewer than two distinct captions"):
        Trainer(tiny_recipe, pairs, validation=same, state_dir=tmp_path / "run")


def test_exported_models_come_back_to_the_bit(start, tmp_path, tiny_recipe):
    trainer = start()
    trainer.run()
    trainer.export(tmp_path / "model")
    encoder = load_encoder(str(tmp_path / "model"), device="cpu")
    loaded = encoder.model.state_dict()
    for name, value in trainer.model.state_dict().items():
        assert torch.equal(value, loaded[name]), name
    recipe = yaml.safe_load((tmp_path / "model" / "recipe.yaml").read_text(encoding="utf-8"))
    assert recipe == tiny_recipe.model_dump(mode="json")
    config = json.loads((tmp_path / "model" / "open_clip_config.json").read_text("utf-8"))
    assert config["model_cfg"]["quick_gelu"] is False
    assert (tmp_path / "model" / LOG_FILE).read_bytes() == (
        tmp_path / "run" / LOG_FILE
    ).read_bytes()


def test_quick_gelu_is_recorded_with_the_weights(start, tmp_path, tiny_recipe):
    vectors = {}
    for quick in (False, True):
        model = tiny_recipe.model.model_copy(update={"quick_gelu": quick})
        trainer = start(f"gelu-{quick}", recipe=tiny_recipe.model_copy(update={"model": model}))
        trainer.export(tmp_path / f"model-{quick}")
        encoder = load_encoder(str(tmp_path / f"model-{quick}"), device="cpu")
        assert encoder.fingerprint["quick_gelu"] is quick
        vectors[quick] = encoder.encode_text(["red left"])
    # Same weights by the same seed; the activation alone differs.
    assert not np.allclose(vectors[False], vectors[True], atol=1e-6)


def word_loss(trainer, step):
    inputs = trainer._inputs(trainer.batches[step])
    sides = trainer.learner.gradients.encode(inputs.pixels, inputs.tokens)
    return trainer.learner.gradients.losses(sides, sides, inputs)[1]


def test_the_word_loss_reaches_the_image_tower_alone(start, tiny_recipe):
    models = {}
    for weight in (0.0, 0.5):
        training = tiny_recipe.training.model_copy(update={"word_loss_weight": weight})
        recipe = tiny_recipe.model_copy(update={"training": training})
        trainer = start(f"words-{weight}", recipe=recipe)
        words = word_loss(trainer, 0)
        assert (words.item() > 0) is (weight > 0)
        trainer.run(stop_after=1)
        models[weight] = trainer.model.state_dict()
    assert not torch.equal(models[0.0]["visual.conv1.weight"], models[0.5]["visual.conv1.weight"])
    embedding = trainer.model.token_embedding.weight
    loss = word_loss(trainer, 1)
    assert torch.autograd.grad(loss, embedding, allow_unused=True) == (None,)


def test_residual_gains_start_where_the_recipe_says(tiny_recipe):
    tokenizer = WordTokenizer(["red"], context_length=7)
    for gain, want in ((None, 0.0), (0.7, 0.7)):
        model = tiny_recipe.model.model_copy(update={"residual_gain": gain})
        built = build_model(tiny_recipe.model_copy(update={"model": model}), tokenizer)
        gains = [p for n, p in built.visual.named_parameters() if n.endswith("bn3.weight")]
        assert len(gains) == 5
        # The stem's own third normalisation is no residual branch; it starts at 1.
        assert [float(g.detach().mean()) for g in gains[1:]] == pytest.approx([want] * 4)
        assert float(gains[0].detach().mean()) == 1.0
    transformer = tiny_recipe.model.model_copy(
        update={
            "residual_gain": 1.0,
            "vision_cfg": {"layers": 1, "width": 64, "patch_size": 16, "image_size": 32},
        }
    )
    with pytest.raises(ConfigError, match="residual_gain"):
        build_model(tiny_recipe.model_copy(update={"model": transformer}), tokenizer)


def test_training_starts_from_another_models_weights(tiny_recipe, make_pairs, tmp_path):
    pairs = make_pairs(24, 0)
    first = Trainer(tiny_recipe, pairs, validation=pairs, state_dir=tmp_path / "a")
    first.run()
    first.export(tmp_path / "first")
    recipe = tiny_recipe.model_copy(update={"seed": 99})
    second = Trainer(
        recipe, pairs, validation=pairs, state_dir=tmp_path / "b", initial=tmp_path / "first"
    )
    start = second.model.state_dict()
    for name, value in first.model.state_dict().items():
        assert torch.equal(start[name], value), name
    other = Pairs(pairs.images, np.array([["words unknown before"]] * 24))
    third = Trainer(
        recipe, other, validation=pairs, state_dir=tmp_path / "c", initial=tmp_path / "first"
    )
    assert third.tokenizer.words == first.tokenizer.words
