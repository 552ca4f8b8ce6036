from __future__ import annotations

import pytest
import torch

from braindecode_clip.clip.models import build_model, save_model
from braindecode_clip.clip.open_clip_models import directory_parts
from braindecode_clip.clip.parts import Request
from braindecode_clip.clip.tokenizers import WordTokenizer
from braindecode_clip.clip.towers import PlainConvNet, braindecode_plain
from braindecode_clip.errors import ConfigError


@pytest.fixture
def plain_recipe(tiny_recipe):
    tower = {
        "timm_model_name": "braindecode_plain",
        "timm_pool": "max",
        "timm_proj": None,
        "image_size": 64,
    }
    model = tiny_recipe.model.model_copy(update={"vision_cfg": tower})
    return tiny_recipe.model_copy(update={"model": model})


@pytest.fixture
def tokenizer():
    return WordTokenizer(["red", "left"], context_length=7)


def test_open_clips_factory_builds_the_tower(plain_recipe, tokenizer):
    model = build_model(plain_recipe, tokenizer).eval()
    assert any(isinstance(module, PlainConvNet) for module in model.visual.modules())
    pictures = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        vectors = model.encode_image(pictures, normalize=True)
    assert vectors.shape == (3, plain_recipe.model.embed_dim)
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(3))


def test_a_saved_tower_comes_back_to_the_bit(plain_recipe, tokenizer, tmp_path):
    model = build_model(plain_recipe, tokenizer).eval()
    save_model(tmp_path, model, recipe=plain_recipe, tokenizer=tokenizer)
    loaded = directory_parts(tmp_path, Request()).model
    for name, value in model.state_dict().items():
        assert torch.equal(value, loaded.state_dict()[name]), name
    pictures = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        assert torch.equal(model.encode_image(pictures), loaded.encode_image(pictures))


def test_the_head_sees_what_and_where():
    torch.manual_seed(2)
    tower = PlainConvNet(num_classes=5).eval()
    left = torch.zeros(1, 3, 64, 64)
    left[:, 0, 24:40, 16:32] = 1.0
    # A step of 16 pixels is a whole number of strides, so the features move with the picture.
    right = torch.roll(left, 16, dims=3)
    with torch.inference_mode():
        maps = [tower.features(picture) for picture in (left, right)]
        torch.testing.assert_close(maps[0].amax(dim=(2, 3)), maps[1].amax(dim=(2, 3)))
        assert not torch.allclose(tower.position(maps[0]), tower.position(maps[1]))
        assert not torch.allclose(tower(left), tower(right))


def test_another_pool_and_pretrained_weights_are_refused():
    with pytest.raises(ConfigError, match="'max' only"):
        PlainConvNet(num_classes=5, global_pool="avg")
    with pytest.raises(ConfigError, match="no pretrained weights"):
        braindecode_plain(pretrained=True)
