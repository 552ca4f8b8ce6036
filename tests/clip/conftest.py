from __future__ import annotations

import numpy as np
import pytest

from braindecode_clip.clip.data import Pairs
from braindecode_clip.config.clip import ClipRecipe

WORDS = ("red", "green", "blue", "dark", "light", "stripe", "left", "right")


@pytest.fixture(autouse=True)
def _no_network(monkeypatch, tmp_path):
    """No test may reach a hub: an empty cache, and no network for its client."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


@pytest.fixture
def tiny_recipe() -> ClipRecipe:
    return ClipRecipe.model_validate(
        {
            "name": "tiny",
            "seed": 3,
            "model": {
                "embed_dim": 12,
                "vision_cfg": {
                    "layers": [1, 1, 1, 1],
                    "width": 8,
                    "head_width": 64,
                    "image_size": 32,
                },
                "text_cfg": {"context_length": 7, "width": 16, "heads": 2, "layers": 1},
            },
            "training": {
                "epochs": 3,
                "batch_size": 8,
                "max_shift_px": 1,
                "word_loss_weight": 0.5,
                "log_every": 2,
                "checkpoint_every": 4,
                "validate_every": 5,
            },
        }
    )


@pytest.fixture
def vit_recipe(tiny_recipe) -> ClipRecipe:
    """The tiny recipe with a vision transformer, which has no batch normalisation."""
    recipe = tiny_recipe.model_dump()
    recipe["model"]["vision_cfg"] = {
        "layers": 2,
        "width": 32,
        "head_width": 16,
        "patch_size": 8,
        "image_size": 32,
    }
    return ClipRecipe.model_validate(recipe)


@pytest.fixture
def changed():
    """Return a maker of recipes with other options of training and optimiser."""

    def change(recipe, *, optimiser=None, vision=None, adapt=None, **training):
        options = recipe.model_dump()
        options["adapt"] = options["adapt"] if adapt is None else adapt
        options["training"].update(training)
        options["optimiser"].update(optimiser or {})
        options["model"]["vision_cfg"].update(vision or {})
        return ClipRecipe.model_validate(options)

    return change


@pytest.fixture
def make_pairs():
    """Return a maker of pairs whose pictures and captions have nothing to do with each other."""

    def make(n: int, seed: int, size_px: int = 32) -> Pairs:
        rng = np.random.default_rng(seed)
        images = rng.integers(0, 256, (n, size_px, size_px, 3), dtype=np.uint8)
        captions = np.array([[" ".join(rng.choice(WORDS, 3)) for _ in range(2)] for _ in range(n)])
        return Pairs(images, captions)

    return make
