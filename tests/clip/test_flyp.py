"""FLYP: contrastive training on captions made of labels, by a recipe alone."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from scipy import stats
from sklearn.linear_model import LogisticRegression

from braindecode_clip.cli.clip_pairs import as_pairs, open_pairs
from braindecode_clip.clip.blueprint import settled
from braindecode_clip.clip.data import Pairs
from braindecode_clip.clip.encoders import load_encoder
from braindecode_clip.clip.train import Trainer
from braindecode_clip.clip.zero_shot import class_vectors
from braindecode_clip.config.clip import ClipRecipe
from braindecode_clip.errors import DataError
from braindecode_clip.simulate.pairs import make_pairs as make_scenes
from braindecode_clip.simulate.scenes import COLOURS, SHAPES, scene_from_json

RECIPE = Path(__file__).resolve().parents[2] / "config" / "clip" / "flyp.yaml"
TEMPLATES = [f"a {colour} {{}}" for colour in COLOURS]


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def flyp_recipe(templates, *, optimiser=None, split=None, **training):
    content = yaml.safe_load(RECIPE.read_text("utf-8"))
    content["data"] |= {"templates": templates, "split": split}
    content["training"] |= training
    content["optimiser"] |= optimiser or {}
    return ClipRecipe.model_validate(content)


def write_labelled(folder, images, labels):
    """A table of pictures with labels and no captions."""
    folder.mkdir()
    for k, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{k:03d}.png")
    lines = ["image,label", *(f"{k:03d}.png,{label}" for k, label in enumerate(labels))]
    (folder / "labels.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / "labels.csv"


def read_labelled(path, recipe):
    source = open_pairs(path, data=recipe.data, kind=None, split=None, images=None)
    return as_pairs(source, recipe, cache="auto", n_workers=1, is_training=True)


def test_the_recipe_is_flyp():
    recipe = ClipRecipe.model_validate(yaml.safe_load(RECIPE.read_text("utf-8")))
    assert recipe.model.is_taken_over
    assert (recipe.training.loss, recipe.training.false_negatives) == ("infonce", "none")
    assert recipe.adapt is None
    assert recipe.data.templates == "openai"


def test_each_visit_draws_one_wording_of_the_label_at_random(tmp_path, tiny_recipe):
    rng = np.random.default_rng(0)
    labels = ["sea_lion", "cup", "red cup"] * 8
    images = rng.integers(0, 256, (24, 32, 32, 3), dtype=np.uint8)
    templates = ["a {}", "the {} left", "no {} here", "one dark {}"]
    content = tiny_recipe.model_dump()
    content["data"]["templates"] = templates
    content["training"] |= {"epochs": 1, "max_shift_px": 0}
    recipe = ClipRecipe.model_validate(content)
    pairs = read_labelled(write_labelled(tmp_path / "set", images, labels), recipe)
    spaced = [label.replace("_", " ") for label in labels]
    assert [list(own) for own in pairs.captions] == [
        [template.format(label) for template in templates] for label in spaced
    ]
    assert len(set(zip(pairs.labels, labels, strict=True))) == 3
    trainer = Trainer(recipe, pairs, validation=pairs, state_dir=tmp_path / "run")
    tokens = np.asarray(trainer.tokenizer(pairs.wordings)).reshape(24, 4, -1)
    drawn = []
    for step in range(3 * 40):
        batch = trainer.batches[step]
        for row, own in zip(batch.rows, batch.tokens.numpy(), strict=True):
            (which,) = np.flatnonzero((tokens[row] == own).all(axis=1))
            drawn.append((int(row), int(which)))
    assert Counter(row for row, _ in drawn) == dict.fromkeys(range(24), 40)
    counts = Counter(drawn)
    assert len(counts) == 24 * 4
    assert stats.chisquare(list(Counter(which for _, which in drawn).values())).pvalue > 1e-3


def literal_loss(images, texts, scale, masked):
    """InfoNCE of both directions in float64, wrong answers of the same class left out."""
    logits = scale * images.double() @ texts.double().T
    logits = logits.masked_fill(masked & ~torch.eye(len(logits), dtype=torch.bool), -torch.inf)
    own = logits.diagonal()
    return (
        float((torch.logsumexp(logits, 1) - own).mean() + (torch.logsumexp(logits, 0) - own).mean())
        / 2
    )


@pytest.mark.parametrize("way", ["none", "mask"])
def test_pictures_of_a_class_are_wrong_answers_or_left_out(vit_recipe, tmp_path, way):
    rng = np.random.default_rng(0)
    numbers = np.array([0, 1, -1, 1, 0, -1, 2, 0])
    captions = [[f"w{rng.integers(50)} w{k}" for k in range(3)] for _ in numbers]
    content = vit_recipe.model_dump()
    content["training"] |= {
        "false_negatives": way,
        "false_negatives_by": ["label"],
        "word_loss_weight": 0.0,
        "max_shift_px": 0,
    }
    recipe = ClipRecipe.model_validate(content)
    pictures = rng.integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)
    pairs = Pairs(pictures, captions, labels=numbers)
    trainer = Trainer(recipe, pairs, validation=pairs, state_dir=tmp_path / "run")
    batch = trainer.batches[0]
    inputs = trainer._inputs(batch)
    with torch.no_grad():
        images, texts = trainer.learner.gradients.encode(*inputs.sides)
        images = torch.nn.functional.normalize(images, dim=-1)
        scale = float(trainer.model.logit_scale.exp())
    own = torch.from_numpy(numbers[batch.rows])
    same = (own[:, None] == own) & (own[:, None] >= 0)
    assert int(same.sum()) == 3 * 3 + 2 * 2 + 1
    want = literal_loss(images, texts, scale, same if way == "mask" else same & False)
    assert float(trainer.learner.gradients.backward(inputs)) == pytest.approx(want, rel=1e-5)
    other = literal_loss(images, texts, scale, same & False if way == "mask" else same)
    assert abs(want - other) > 1e-3


def test_labels_that_are_not_there_are_missed(tiny_recipe, make_pairs, tmp_path):
    training = tiny_recipe.training.model_copy(update={"false_negatives_by": ("label",)})
    recipe = tiny_recipe.model_copy(update={"training": training})
    with pytest.raises(DataError, match="the pairs have no labels"):
        Trainer(recipe, make_pairs(16, 1), validation=make_pairs(9, 2), state_dir=tmp_path)


def noisy_shapes(n_scenes):
    """Scenes of one object under noise that the scenes model has never seen."""
    drawn = make_scenes(n_scenes, rng=np.random.default_rng(0))
    scenes = [scene_from_json(text) for text in drawn.scenes]
    rows = [k for k, scene in enumerate(scenes) if len(scene.objects) == 1]
    noise = np.random.default_rng(1).normal(0, 40, (len(rows), *drawn.images.shape[1:]))
    images = np.clip(drawn.images[rows] + noise, 0, 255).astype(np.uint8)
    return images, np.array([scenes[k].objects[0].shape for k in rows])


def test_zero_shot_accuracy_rises_beyond_that_of_a_linear_head(tmp_path):
    images, labels = noisy_shapes(1000)
    n_train = 144
    asked = flyp_recipe(
        TEMPLATES, optimiser={"lr": 3e-4}, epochs=2, batch_size=24, validate_every=1000
    )
    recipe = settled(asked, "scenes")
    path = write_labelled(tmp_path / "set", images[:n_train], labels[:n_train])
    pairs = read_labelled(path, recipe)
    trainer = Trainer(recipe, pairs, validation=pairs, state_dir=tmp_path / "run", initial="scenes")
    trainer.run()
    trainer.export(tmp_path / "model")
    held_out, scores, vectors = labels[n_train:], {}, {}
    for name, model in (("before", "scenes"), ("flyp", str(tmp_path / "model"))):
        encoder = load_encoder(model, device="cpu")
        vectors[name] = encoder.encode_image([Image.fromarray(image) for image in images])
        classes = class_vectors(encoder, list(SHAPES), TEMPLATES)
        found = np.array(SHAPES)[(vectors[name][n_train:] @ classes.T).argmax(axis=1)]
        scores[name] = float((found == held_out).mean())
    head = LogisticRegression(C=100, max_iter=2000)
    head.fit(vectors["before"][:n_train], labels[:n_train])
    scores["linear head"] = float(head.score(vectors["before"][n_train:], held_out))
    # Chance is 1 / 6; a difference of 10 points is two standard errors of so many pictures.
    assert len(held_out) > 120
    assert 0.3 < scores["before"] < 0.75
    assert scores["flyp"] > scores["before"] + 0.1, scores
    assert scores["flyp"] > scores["linear head"], scores
