"""Duplicated or paraphrased captions in training: what each answer to them is worth.

python benchmarks/false_negatives.py [--quick] [--seeds N] [--out FOLDER]

Scenes with one caption each. 30 % of the pictures stand in clusters of 30 that show the same
objects in the same relation on the same ground, at other places. ``duplicated``: a cluster has one
caption, word for word; ``paraphrased``: each of its pictures has a wording of its own. The others
are scenes drawn one by one. Small models are trained from scratch on them with every answer that a
recipe has; per seed all arms have the same pictures, captions and first weights, and all but
``no_duplicates``, which draws its own batches, the same order. In ``paraphrased`` that arm goes by
the cluster (a column 'group' of a table), which the other arms do not know.

Held out are scenes drawn one by one: recall at 1 in pools of 100, and among all of them at once,
where any picture or text of an equal caption is a hit; the mean of both directions. Differences
are paired by seed, with Student's 95 % interval over seeds.

A finished run is appended to runs.jsonl in --out; a study that was stopped goes on from there.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
import yaml
from measure import write_figures
from scipy import stats
from threadpoolctl import threadpool_limits

from braindecode_clip.clip.data import Pairs
from braindecode_clip.clip.recall import POOL_SIZE, pooled_recall
from braindecode_clip.clip.step import ContrastiveStep, StepInput
from braindecode_clip.clip.train import Trainer, encode_pairs
from braindecode_clip.config.clip import ClipRecipe
from braindecode_clip.seeds import make_rng
from braindecode_clip.simulate.captions import caption
from braindecode_clip.simulate.render import SMALLEST_PX, render
from braindecode_clip.simulate.scenes import Scene, rearranged, sample_scene

RECIPE = Path(__file__).resolve().parents[1] / "config" / "clip" / "scenes.yaml"
CONDITIONS = ("duplicated", "paraphrased")
#: Options of ``training`` of each arm; the last has its own of ``data``.
ARMS: dict[str, dict[str, object]] = {
    "none": {"false_negatives": "none"},
    "mask": {"false_negatives": "mask"},
    "mask, similar": {"false_negatives": "mask", "duplicate_similarity": 0.8},
    "soft": {"false_negatives": "soft"},
    "no_duplicates": {"false_negatives": "none"},
}
KEPT_APART = {"duplicated": ["caption"], "paraphrased": ["group"]}
MEASURES = ("r1_pools", "r1_all")
FACTS = ("false_negatives_per_batch", "share_marked", "others_marked_per_batch")


@dataclass(frozen=True)
class Settings:
    """What all runs of a study share."""

    n_pairs: int = 4000
    share: float = 0.3
    cluster_size: int = 30
    n_held_out: int = 1000
    epochs: int = 2
    batch_size: int = 128
    word_loss_weight: float = 0.0


@lru_cache(maxsize=1)
def make_data(settings: Settings, condition: str, seed: int) -> Pairs:
    """Return training pairs; pictures depend on the seed alone, groups are -1 or the cluster."""
    rng = make_rng(seed, "clusters")
    n_clusters = round(settings.share * settings.n_pairs / settings.cluster_size)
    scenes: list[Scene] = []
    captions: list[str] = []
    for _ in range(n_clusters):
        one = sample_scene(rng)
        scenes += [rearranged(one, rng) for _ in range(settings.cluster_size)]
        wordings = [caption(one, rng) for _ in range(settings.cluster_size)]
        shared = [wordings[0]] * settings.cluster_size
        captions += wordings if condition == "paraphrased" else shared
    groups = np.full(settings.n_pairs, -1, dtype=np.int64)
    groups[: len(scenes)] = np.repeat(np.arange(n_clusters), settings.cluster_size)
    pairs = _drawn(settings.n_pairs - len(scenes), make_rng(seed, "others"), scenes, captions)
    return replace(pairs, groups=groups)


@lru_cache(maxsize=1)
def held_out(settings: Settings, seed: int) -> Pairs:
    return _drawn(settings.n_held_out, make_rng(seed, "held-out"), [], [])


def _drawn(n: int, rng: np.random.Generator, scenes: list[Scene], captions: list[str]) -> Pairs:
    new = [sample_scene(rng) for _ in range(n)]
    texts = [*captions, *(caption(scene, rng) for scene in new)]
    images = np.stack([np.asarray(render(s, size_px=SMALLEST_PX)) for s in [*scenes, *new]])
    return Pairs(images, np.array(texts, dtype=object)[:, None])


def make_recipe(settings: Settings, condition: str, arm: str, seed: int) -> ClipRecipe:
    options = yaml.safe_load(RECIPE.read_text(encoding="utf-8"))
    options["seed"] = seed
    options["training"].update(
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        word_loss_weight=settings.word_loss_weight,
        checkpoint_every=10**6,
        validate_every=10**6,
        **ARMS[arm],
    )
    if arm == "no_duplicates":
        options["data"] = {"no_duplicates": KEPT_APART[condition]}
    return ClipRecipe.model_validate(options)


def train(settings: Settings, condition: str, arm: str, seed: int) -> dict[str, float]:
    """Train one model; return its held-out recalls and what was marked in its batches."""
    started = time.process_time()
    recipe = make_recipe(settings, condition, arm, seed)
    pairs, clean = make_data(settings, condition, seed), held_out(settings, seed)
    with tempfile.TemporaryDirectory() as folder:
        few = Pairs(clean.images[:64], clean.captions[:64])
        trainer = Trainer(recipe, pairs, validation=few, state_dir=folder)
        marked = _marks(trainer, pairs.groups)
        trainer.run()
    found = encode_pairs(
        trainer.model,
        clean,
        trainer.tokenizer,
        mean=recipe.preprocess.mean,
        std=recipe.preprocess.std,
    )
    captions = np.array(clean.first_wordings)
    pools = pooled_recall(*found, captions, rng=np.random.default_rng(0))
    return {
        "r1_pools": (pools[0].r1 + pools[1].r1) / 2,
        "n_pools": pools[0].n,
        "r1_all": _recall_among_all(*found, captions),
        "n_all": len(captions),
        "steps": trainer.n_steps,
        **marked,
        "cpu_s": time.process_time() - started,
    }


def _marks(trainer: Trainer, groups: np.ndarray, n_batches: int = 20) -> dict[str, float]:
    """Return the false negatives of the first batches, and how many of them an arm marks.

    Of ordered pairs in a batch: those of one cluster; of these the share that is masked, or has
    a target of at least 0.5; and as many marked pairs that are of no cluster.
    """
    step: ContrastiveStep = trainer.learner.gradients
    totals = np.zeros(3)
    for k in range(n_batches):
        batch = trainer.batches[k]
        own = groups[batch.rows]
        false = (own[:, None] == own) & (own >= 0)
        np.fill_diagonal(false, val=False)
        inputs = StepInput(batch.pixels, batch.tokens, (batch.groups,))
        options = step._false_negatives(inputs, None, first=0)
        marks = torch.zeros(len(own), len(own), dtype=torch.bool)
        if "masked" in options:
            marks = options["masked"]
        elif "targets" in options:
            marks = options["targets"] >= 0.5
        marks = marks.numpy() & ~np.eye(len(own), dtype=bool)
        totals += (false.sum(), (false & marks).sum(), (marks & ~false).sum())
    values = (totals[0] / n_batches, totals[1] / max(totals[0], 1), totals[2] / n_batches)
    return dict(zip(FACTS, map(float, values), strict=True))


def _recall_among_all(images: np.ndarray, texts: np.ndarray, captions: np.ndarray) -> float:
    """Return recall at 1, both directions' mean; an equal caption is a hit."""
    similarity = images @ texts.T
    hits = [captions[s.argmax(axis=1)] == captions for s in (similarity, similarity.T)]
    return float(np.mean(hits))


def read_runs(path: Path | None, settings: Settings) -> dict[tuple[str, str, int], dict]:
    """Return the finished runs of the same settings by condition, arm and seed."""
    runs = {}
    if path is not None and path.is_file():
        for line in path.read_text(encoding="utf-8").splitlines():
            run = json.loads(line)
            if run["settings"] == asdict(settings):
                runs[run["condition"], run["arm"], run["seed"]] = run
    return runs


def report(runs: dict[tuple[str, str, int], dict], seeds: Sequence[int]) -> dict[str, object]:
    """Print and return, per condition and arm, means and paired differences to ``none``.

    An arm counts on the seeds that it and ``none`` were finished on; how many is said.
    """
    content: dict[str, object] = {}
    for condition in CONDITIONS:
        table = {}
        print(f"\n{condition}: mean (difference to none [95 % interval over seeds])")
        for arm in ARMS:
            shared = [s for s in seeds if all((condition, a, s) in runs for a in ("none", arm))]
            if shared:
                rows = [runs[condition, arm, s] for s in shared]
                table[arm] = _figures(rows, [runs[condition, "none", s] for s in shared])
                _print_arm(arm, table[arm])
        if table:
            n = next(run for key, run in runs.items() if key[0] == condition)
            chance = f"r1_pools {1 / POOL_SIZE:.3f}, r1_all {1 / n['n_all']:.4f}"
            print(f"chance: {chance}; n {n['n_pools']} and {n['n_all']} pairs, both directions")
        content[condition] = table
    return content


def _figures(rows: Sequence[dict], base: Sequence[dict]) -> dict[str, object]:
    figures: dict[str, object] = {"n_seeds": len(rows)}
    for measure in MEASURES:
        values = np.array([row[measure] for row in rows])
        gains = values - np.array([row[measure] for row in base])
        low, high = _interval(gains)
        figures[measure] = {
            "mean": values.mean(),
            "by_seed": values.tolist(),
            "difference": gains.mean(),
            "low": low,
            "high": high,
        }
    for name in (*FACTS, "cpu_s"):
        figures[name] = float(np.mean([row[name] for row in rows]))
    return figures


def _print_arm(arm: str, figures: dict) -> None:
    line = f"{arm:14s} {figures['n_seeds']} seeds"
    for measure in MEASURES:
        own = figures[measure]
        line += f"  {measure} {own['mean']:.3f}"
        if arm != "none":
            line += f" ({own['difference']:+.3f} [{own['low']:+.3f}, {own['high']:+.3f}])"
    false, marked, others = (figures[name] for name in FACTS)
    print(
        f"{line}  | a batch: {false:.1f} false negatives (ordered pairs), {marked:.0%} of them "
        f"marked, {others:.1f} others marked; {figures['cpu_s']:.0f} CPU s a run"
    )


def _interval(gains: np.ndarray) -> tuple[float, float]:
    if len(gains) < 2:
        return float("nan"), float("nan")
    half = stats.t.ppf(0.975, len(gains) - 1) * gains.std(ddof=1) / np.sqrt(len(gains))
    return float(gains.mean() - half), float(gains.mean() + half)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="2 seeds of small runs")
    parser.add_argument("--seeds", type=int, default=5, help="first weights and data (default 5)")
    parser.add_argument("--out", type=Path, help="folder for runs.jsonl and figures.json")
    arguments = parser.parse_args()
    settings, seeds = Settings(), range(arguments.seeds)
    if arguments.quick:
        settings = replace(settings, n_pairs=500, n_held_out=200, epochs=1)
        seeds = range(2)
    path = None
    if arguments.out is not None:
        arguments.out.mkdir(parents=True, exist_ok=True)
        path = arguments.out / "runs.jsonl"
    runs = read_runs(path, settings)
    todo = [(c, a, s) for s in seeds for c in CONDITIONS for a in ARMS if (c, a, s) not in runs]
    with threadpool_limits(1):
        torch.set_num_threads(1)
        for k, key in enumerate(todo):
            condition, arm, seed = key
            figures = train(settings, condition, arm, seed)
            run = {"condition": condition, "arm": arm, "seed": seed, **figures}
            runs[key] = run | {"settings": asdict(settings)}
            if path is not None:
                with path.open("a", encoding="utf-8") as stream:
                    stream.write(json.dumps(runs[key]) + "\n")
            print(
                f"{k + 1}/{len(todo)} {condition}, {arm}, seed {seed}: "
                + ", ".join(f"{name} {figures[name]:.3f}" for name in MEASURES),
                flush=True,
            )
    content = {"settings": asdict(settings), "conditions": report(runs, seeds)}
    write_figures(None if arguments.out is None else arguments.out / "figures.json", content)


if __name__ == "__main__":
    main()
