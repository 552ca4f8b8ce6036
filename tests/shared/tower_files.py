"""Tiny towers of every kind that training takes, written where a test asks for them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from model_files import write_bert_tokenizer

#: A timm tower that needs few pixels, and one layer of CLIP's text tower.
IMAGE = {"timm_model_name": "braindecode_plain", "timm_pool": "max", "timm_proj": None}
WRITTEN_IMAGE = {
    "layers": 1,
    "width": 32,
    "head_width": 16,
    "patch_size": 16,
    "image_size": 32,
}
WRITTEN_TEXT = {"context_length": 12, "width": 16, "heads": 2, "layers": 1}


def write_bert(folder: Path, *, seed: int = 0, **sizes: int) -> Path:
    """Write a BERT of one layer, random weights, and its tokenizer; skip without the library."""
    transformers = pytest.importorskip("transformers", reason="extra 'encoders' is absent")
    folder.mkdir(parents=True)
    config = transformers.BertConfig(
        **{
            "vocab_size": 100,
            "hidden_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 24,
            "max_position_embeddings": 20,
            **sizes,
        }
    )
    torch.manual_seed(seed)
    transformers.BertModel(config).save_pretrained(str(folder))
    write_bert_tokenizer(folder)
    return folder


def bert_towers(folder: str | Path) -> dict:
    """Return the section ``model`` of a recipe with our image tower and a BERT."""
    return {
        "embed_dim": 12,
        "vision_cfg": {**IMAGE, "image_size": 32},
        "text_cfg": {
            "context_length": 12,
            "hf_model_name": str(folder),
            "hf_pooler_type": "mean_pooler",
            "hf_proj_type": "linear",
        },
    }


def write_config(path: Path, **fields: object) -> Path:
    """Write a config in open_clip's form, of towers with CLIP's own tokenizer."""
    content = {
        "embed_dim": 12,
        "quick_gelu": True,
        "vision_cfg": dict(WRITTEN_IMAGE),
        "text_cfg": {**WRITTEN_TEXT, "vocab_size": 49408},
        **fields,
    }
    path.write_text(json.dumps(content), encoding="utf-8")
    return path
