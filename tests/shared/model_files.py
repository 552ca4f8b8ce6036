"""Tiny models with random weights, written as the published ones are."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

from braindecode_clip.clip.models import quiet_open_clip
from braindecode_clip.clip.torchvision_compat import import_open_clip

open_clip = import_open_clip()

TINY = {
    "embed_dim": 24,
    "quick_gelu": True,
    "vision_cfg": {
        "image_size": 32,
        "layers": 2,
        "width": 64,
        "head_width": 32,
        "patch_size": 8,
    },
    "text_cfg": {
        "context_length": 16,
        "vocab_size": 49408,
        "width": 32,
        "heads": 2,
        "layers": 2,
    },
}
#: Texts of different lengths, all shorter than the context.
TEXTS = ["a dog", "Two red circles, left of a square!", "naïve 3 cats"]


def tiny_model(config=TINY, seed=0):
    """Build an open_clip model whose weights are large enough to tell activations apart."""
    torch.manual_seed(seed)
    with quiet_open_clip():
        model = open_clip.CLIP(**config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(3)
    return model


def pictures():
    rng = np.random.default_rng(5)
    # Square, wide, tall, with odd margins of both kinds, and smaller than the model's input.
    sizes = [(32, 32), (47, 90), (91, 40), (64, 65), (20, 21), (32, 35), (39, 32)]
    return [Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)) for size in sizes]


def write_torchscript(path: Path, state: dict[str, torch.Tensor]) -> None:
    """Write weights as OpenAI did: an archive in half precision, with sizes as buffers."""
    root = torch.nn.Module()
    for name, value in state.items():
        *parents, leaf = name.split(".")
        node = root
        for part in parents:
            if part not in dict(node.named_children()):
                node.add_module(part, torch.nn.Module())
            node = getattr(node, part)
        value = value.half() if value.ndim else value
        node.register_parameter(leaf, torch.nn.Parameter(value, requires_grad=False))
    for name, size in (("input_resolution", 32), ("context_length", 16), ("vocab_size", 49408)):
        root.register_buffer(name, torch.tensor(size))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(torch.jit.script(root), str(path))


def write_directory(folder: Path, config=TINY, *, model=None, preprocess=None, name=None) -> None:
    """Write an open_clip directory; ``name`` ends in .safetensors or .bin."""
    folder.mkdir(parents=True)
    model = tiny_model(config) if model is None else model
    content = {
        "model_cfg": config,
        "preprocess_cfg": preprocess
        or {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4], "resize_mode": "shortest"},
    }
    (folder / "open_clip_config.json").write_text(json.dumps(content), encoding="utf-8")
    file = folder / (name or "open_clip_model.safetensors")
    state = {k: v.contiguous() for k, v in model.state_dict().items()}
    if file.suffix == ".bin":
        torch.save(state, file)
    else:
        save_file(state, file, metadata={"format": "pt"})


def write_clip_vocabulary(folder: Path) -> None:
    """Write CLIP's own vocabulary as transformers has it: vocab.json and merges.txt."""
    tokenizer = open_clip.SimpleTokenizer()
    ends = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    vocabulary = {ends.get(token, token): i for token, i in tokenizer.encoder.items()}
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    merges = [" ".join(pair) for pair in sorted(tokenizer.bpe_ranks, key=tokenizer.bpe_ranks.get)]
    text = "\n".join(["#version: 0.2", *merges]) + "\n"
    (folder / "merges.txt").write_text(text, encoding="utf-8")
    settings = {
        "tokenizer_class": "CLIPTokenizer",
        "bos_token": "<|startoftext|>",
        "eos_token": "<|endoftext|>",
        "unk_token": "<|endoftext|>",
        "pad_token": "<|endoftext|>",
        "model_max_length": 16,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")


def write_bert_tokenizer(folder: Path) -> None:
    """Write the vocabulary of a small BERT, with single letters for every other word."""
    letters = list("abcdefghijklmnopqrstuvwxyz0123456789,.!")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "dog", "red", "left", *letters]
    words += [f"##{letter}" for letter in letters]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    from transformers import BertTokenizerFast

    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(str(folder))


def unit(vectors: torch.Tensor) -> np.ndarray:
    """Normalise in float64."""
    wide = vectors.detach().double().numpy()
    return wide / np.linalg.norm(wide, axis=1, keepdims=True)
