"""Memory and time of a step on a large batch: at once, by GradCache, by checkpointing.

python benchmarks/gradcache.py [--quick] [--repeats N] [--out FILE.json]

The scenes model with a vision transformer as image tower and half of its patches dropped; its
own image tower has batch normalisation, which cannot be cut into chunks. Each way runs in a
process of its own, in turn, for a peak of memory that nothing before it has shaped.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
import yaml
from measure import make_parser, measured, print_table, write_figures

from braindecode_clip.clip.losses import WordLoss
from braindecode_clip.clip.models import build_model
from braindecode_clip.clip.run_state import seed_step
from braindecode_clip.clip.step import ContrastiveStep, StepInput
from braindecode_clip.clip.tokenizers import WordTokenizer
from braindecode_clip.config.clip import ClipRecipe

RECIPE = Path(__file__).resolve().parents[1] / "config" / "clip" / "scenes.yaml"
TOWER = {
    "layers": 4,
    "width": 128,
    "head_width": 32,
    "patch_size": 8,
    "image_size": 64,
    "patch_dropout": 0.5,
}
WAYS = ("none", "gradcache", "checkpoint")
MEMORY_BAR, TIME_BAR = 1 / 3, 1.6


def make_step(memory: str, n: int, chunk: int) -> tuple[ContrastiveStep, StepInput]:
    options = yaml.safe_load(RECIPE.read_text(encoding="utf-8"))
    options["model"]["vision_cfg"] = TOWER
    options["training"].update(batch_size=n, memory=memory, chunk_size=chunk)
    recipe = ClipRecipe.model_validate(options)
    vocabulary = [a + b for a in "abcdefghijkl" for b in "abcdefghij"]
    tokenizer = WordTokenizer(vocabulary, context_length=32)
    model = build_model(recipe, tokenizer).train()
    ignored = (tokenizer.pad_id, tokenizer.end_id)
    words = WordLoss(recipe.model.embed_dim, tokenizer.vocab_size, ignored=ignored)
    rng = np.random.default_rng(0)
    captions = [" ".join(rng.choice(vocabulary, 20)) for _ in range(n)]
    pixels = torch.from_numpy(rng.standard_normal((n, 3, 64, 64), dtype=np.float32))
    tokens = torch.as_tensor(tokenizer(captions))
    return (
        ContrastiveStep(model, words, training=recipe.training),
        StepInput(pixels, tokens, (torch.arange(n),)),
    )


def run_one(memory: str, n: int, chunk: int) -> dict[str, float | None]:
    """Measure one step, after a small one that makes the libraries take what they keep."""
    torch.set_num_threads(1)
    step, inputs = make_step(memory, n, chunk)
    step.backward(inputs.rows(slice(0, chunk)))
    step.model.zero_grad()

    def call() -> None:
        seed_step(0, 0, 0)
        step.backward(inputs)

    return measured(call)


def main() -> None:
    parser = make_parser(__doc__.splitlines()[0])
    parser.add_argument("--one", choices=WAYS, help="measure this way alone, and print it")
    arguments = parser.parse_args()
    n, chunk = (512, 64) if arguments.quick else (4096, 128)
    if arguments.one:
        print(json.dumps(run_one(arguments.one, n, chunk)))
        return
    found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for _ in range(arguments.repeats):
        for way in WAYS:
            command = [sys.executable, __file__, "--one", way]
            command += ["--quick"] if arguments.quick else []
            printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            found[way].append(json.loads(printed.splitlines()[-1]))
            print(way, found[way][-1], flush=True)
    rows = {
        way: {
            "cpu_s": statistics.median(run["cpu_s"] for run in runs),
            "wall_s": statistics.median(run["wall_s"] for run in runs),
            "memory_mb": max(run["memory_mb"] for run in runs),
        }
        for way, runs in found.items()
    }
    for row in rows.values():
        row["ratio"] = row["cpu_s"] / rows["none"]["cpu_s"]
        row["wall_ratio"] = row["wall_s"] / rows["none"]["wall_s"]
        row["memory_ratio"] = row["memory_mb"] / rows["none"]["memory_mb"]
    print_table(f"One step of {n} pairs, chunks of {chunk}", rows)
    ours = rows["gradcache"]
    print(
        f"GradCache: {ours['memory_ratio']:.2f} of the memory (at most {MEMORY_BAR:.2f}), "
        f"{ours['ratio']:.2f} times the time (at most {TIME_BAR})"
    )
    write_figures(arguments.out, rows)
    if ours["memory_ratio"] > MEMORY_BAR or ours["ratio"] > TIME_BAR:
        sys.exit("GradCache misses a bar.")


if __name__ == "__main__":
    main()
