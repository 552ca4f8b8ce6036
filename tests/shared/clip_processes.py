"""Run by torchrun: gradients of every kind of step, each process with its half of a batch.

python -m torch.distributed.run --nproc-per-node 2 clip_processes.py RECIPE.json CASES.json OUT
"""

from __future__ import annotations

import copy
import json
import sys
from pathlib import Path

import torch
from clip_reference import gradients, make_inputs, make_tokenizer, with_decoder

from braindecode_clip.clip.distributed import Processes, joined
from braindecode_clip.clip.losses import WordLoss
from braindecode_clip.clip.models import build_model
from braindecode_clip.clip.step import ContrastiveStep
from braindecode_clip.config.clip import ClipRecipe


def make_parts(recipe: ClipRecipe, processes: Processes, *, has_teacher: bool):
    tokenizer = make_tokenizer()
    model = build_model(recipe, tokenizer)
    torch.manual_seed(1)
    words = WordLoss(12, tokenizer.vocab_size, ignored=(tokenizer.pad_id, tokenizer.end_id))
    teacher = None
    if has_teacher:
        other = recipe.model_copy(update={"seed": 77})
        teacher = build_model(other, tokenizer).eval().requires_grad_(False)
    step = ContrastiveStep(
        model, words, training=recipe.training, processes=processes, teacher=teacher
    )
    return model, words, step


def recipe_of(recipe: dict, case: dict) -> ClipRecipe:
    """Return the recipe with a case's options of training, and a decoder where it needs one."""
    changed = copy.deepcopy(recipe)
    changed["training"].update(case)
    return ClipRecipe.model_validate(
        with_decoder(changed) if case.get("loss") == "coca" else changed
    )


def main() -> None:
    recipe, cases = (json.loads(Path(path).read_text()) for path in sys.argv[1:3])
    found = []
    with joined(2, torch.device("cpu")) as processes:
        own = make_inputs().rows(slice(5 * processes.rank, 5 * processes.rank + 5))
        for case in cases:
            parts = make_parts(
                recipe_of(recipe, case),
                processes,
                has_teacher=bool(case.get("distill_weight")),
            )
            loss = parts[2].backward(own)
            found.append((float(loss), gradients(*parts[:2])))
        torch.save(found, f"{sys.argv[3]}-{processes.rank}.pt")


if __name__ == "__main__":
    main()
