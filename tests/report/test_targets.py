from __future__ import annotations

import pytest

from braindecode_clip.config.decode import RidgeConfig
from braindecode_clip.config.embed import EncoderConfig
from braindecode_clip.report.methods_decode import describe_target_space
from braindecode_clip.report.methods_targets import describe_targets
from braindecode_clip.report.sources import Citations


@pytest.mark.parametrize(
    ("options", "wanted", "unwanted"),
    [
        ({}, ["CLIP embeddings", "of the pictures", "unit norm"], ["captions", "texts"]),
        (
            {"kind": "open_clip", "model": "ViT-B-32", "pretrained": "openai", "modality": "text"},
            ["of the texts from ViT-B-32 (openai) through open_clip"],
            ["pictures"],
        ),
        (
            {"modality": "text", "caption_columns": ["a", "b", "c"], "captions": "each"},
            ["captions (3 of a stimulus, one after another)"],
            ["averaged"],
        ),
        (
            {"modality": "both", "caption_columns": ["a", "b"], "text_weight": 0.25},
            ["pictures and the captions (2 of a stimulus, averaged)", "cosines", "0.25"],
            [],
        ),
        (
            {"modality": "both", "combine": "average", "unit_norm": False},
            ["both were averaged with a weight of 0.5", "lengths that they have"],
            ["unit norm"],
        ),
        (
            {"kind": "timm", "model": "vit.dino"},
            ["are embeddings of the pictures from vit.dino (timm)"],
            ["CLIP"],
        ),
        ({"kind": "hub", "model": "lab/x"}, ["CLIP embeddings", "lab/x (Hugging Face)"], []),
    ],
)
def test_targets_are_named(options, wanted, unwanted):
    text = describe_targets(EncoderConfig(name="x", **options), Citations())
    assert all(part in text for part in wanted), text
    assert not any(part in text for part in unwanted), text


def test_components_are_named_and_nothing_else():
    assert describe_target_space(RidgeConfig()) == ""
    text = describe_target_space(RidgeConfig(target_space={"method": "pca", "n_components": 9}))
    assert "up to 9 principal components" in text and "training stimuli" in text
    assert "deviations" in describe_target_space(RidgeConfig(target_space={"method": "whiten"}))
