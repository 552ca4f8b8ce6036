"""The shipped model, on scenes drawn for this test."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from braindecode_clip.cli.clip_sets import scene_tasks
from braindecode_clip.clip.encoders import load_encoder
from braindecode_clip.clip.evaluation import evaluate_model
from braindecode_clip.clip.zero_shot import class_vectors
from braindecode_clip.simulate.captions import CAPTION_WORDS
from braindecode_clip.simulate.pairs import make_pairs
from braindecode_clip.simulate.scenes import SHAPES

FOLDER = Path(__file__).resolve().parents[2] / "data" / "models" / "scenes"


@pytest.fixture(scope="module")
def encoder():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield load_encoder("scenes", device="cpu")
    torch.set_num_threads(before)


def test_bars_on_scenes_never_seen(encoder):
    """Half of the scenes hold a pair of colour and shape that training never showed."""
    parts = [
        make_pairs(400, rng=np.random.default_rng(90125 + held_out), held_out=held_out)
        for held_out in (False, True)
    ]
    pictures = [Image.fromarray(pixels) for part in parts for pixels in part.images]
    captions = [text for part in parts for text in part.captions[:, 0]]
    scenes = [text for part in parts for text in part.scenes]
    result = evaluate_model(encoder, pictures, captions, tasks=scene_tasks(scenes))
    recall = result["image_to_text"]
    assert (recall["pool_size"], recall["n"]) == (100, 800)
    assert recall["r1"] >= 0.6
    assert recall["r1"] <= recall["r5"] <= recall["r10"]
    for task in ("colour", "shape"):
        score = result["zero_shot"][task]
        assert score["n"] >= 200
        # The bar is 0.9 on 1,700 pictures; here a few errors more are chance.
        assert score["high"] >= 0.9
        assert score["accuracy"] >= 0.85


def test_vectors_follow_the_picture_and_not_chance(encoder):
    drawn = make_pairs(100, rng=np.random.default_rng(5))
    images = encoder.encode_image([Image.fromarray(picture) for picture in drawn.images])
    texts = encoder.encode_text(drawn.captions[:, 0].tolist())
    own = np.einsum("ij,ij->i", images, texts).mean()
    other = np.einsum("ij,ij->i", images, np.roll(texts, 7, axis=0)).mean()
    assert own > other + 0.2


def test_it_knows_every_word_of_the_captions(encoder, caplog):
    encoder.encode_text([" ".join(CAPTION_WORDS[k : k + 20]) for k in range(0, 100, 20)])
    assert not caplog.records
    classes = class_vectors(encoder, SHAPES, ["a {}"])
    assert classes.shape == (len(SHAPES), 128)


def test_what_ships_is_whole_and_small():
    names = {path.name for path in FOLDER.iterdir()}
    assert names == {
        "README.md",
        "metrics.json",
        "open_clip_config.json",
        "open_clip_model.safetensors",
        "recipe.yaml",
        "training_log.csv",
        "vocabulary.json",
    }
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 20e6
    with (FOLDER / "training_log.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"])
