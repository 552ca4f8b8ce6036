"""Small open_clip models with every kind of tower, their weights drawn at random."""

from __future__ import annotations

from braindecode_clip.clip.models import open_clip

TEXT = {"context_length": 7, "width": 16, "heads": 2, "layers": 3, "vocab_size": 30}
VIT = {"layers": 3, "width": 32, "head_width": 16, "patch_size": 8, "image_size": 32}
RESNET = {"layers": [1, 1, 1, 1], "width": 8, "head_width": 64, "image_size": 32}
LITE = {"timm_model_name": "tf_efficientnet_lite0", "timm_pool": "avg", "image_size": 32}
#: timm's own model for tests, with ``BatchNormAct2d`` and a head that open_clip adds.
TINY = {"timm_model_name": "test_efficientnet", "timm_pool": "avg", "image_size": 32}
PLAIN = {
    "timm_model_name": "braindecode_plain",
    "timm_pool": "max",
    "timm_proj": None,
    "image_size": 32,
}


def make_clip(vision, *, custom=False):
    kind = open_clip.model.CustomTextCLIP if custom else open_clip.model.CLIP
    return kind(12, dict(vision), dict(TEXT))


def make_hugging_face_tower():
    import transformers

    config = transformers.BertConfig(
        vocab_size=30,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=16,
    )
    return open_clip.hf_model.HFTextEncoder(
        "none", 12, config=config, pooler_type="mean_pooler", proj_type="linear"
    )
