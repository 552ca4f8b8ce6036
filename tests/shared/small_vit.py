"""A vision transformer of three blocks with random weights, as a model directory."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from braindecode_clip.clip.models import CONFIG_FILE, WEIGHTS_FILE, quiet_open_clip
from braindecode_clip.clip.torchvision_compat import import_open_clip

#: 17 tokens: 16 places and the class token.
N_TOKENS, N_DIMS, WIDTH = 17, 12, 24
TOWER = {"layers": 3, "width": WIDTH, "head_width": 8, "patch_size": 8, "image_size": 32}


def write_small_vit(folder: Path, *, seed: int = 0, **tower: object) -> Path:
    """Write the directory; further options are open_clip's of the image tower."""
    open_clip = import_open_clip()
    folder.mkdir(parents=True)
    config = {
        "model_cfg": {
            "embed_dim": N_DIMS,
            "vision_cfg": TOWER | tower,
            "text_cfg": {
                "context_length": 9,
                "vocab_size": 49408,
                "width": 16,
                "heads": 2,
                "layers": 1,
            },
        },
        "preprocess_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.3, 0.3, 0.3]},
    }
    (folder / CONFIG_FILE).write_text(json.dumps(config), encoding="utf-8")
    with quiet_open_clip(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = open_clip.create_model(f"local-dir:{folder}", load_weights=False)
        # Fresh blocks add almost nothing to a random picture; these mix their tokens.
        with torch.no_grad():
            for name, value in model.visual.named_parameters():
                if "ln_post" in name:
                    value.add_(0.3 * torch.randn_like(value))
    weights = {name: value.contiguous() for name, value in model.state_dict().items()}
    save_file(weights, folder / WEIGHTS_FILE, metadata={"format": "pt"})
    return folder
