"""``braindecode-clip clip perturb``: a model with random changes as large as an adaptation's."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

#: Files of a model folder that tell of its training.
_ABOUT_TRAINING = ("README.md", "data.json", "metrics.json", "recipe.yaml", "training_log.csv")


def perturb(
    initial: Annotated[Path, typer.Option(help="Model folder before the adaptation.")],
    adapted: Annotated[Path, typer.Option(help="Model folder after it.")],
    out: Annotated[Path, typer.Option(help="Folder of the model to write.")],
    seed: Annotated[int, typer.Option(min=0, help="Draws the changes.")] = 2026,
) -> None:
    """Change every weight tensor at random, by as much as adaptation changed it.

    A control for the audit: what a model loses (or wins) by any change of this size. The record
    of test stimuli is that of the adapted model, from which only the sizes of changes are taken.
    """
    import shutil

    from safetensors.numpy import load_file, save_file

    from braindecode_clip.cli.clip_leaks import LEAKAGE_FILE, write_leakage
    from braindecode_clip.clip.checkpoints import replacing
    from braindecode_clip.clip.models import CONFIG_FILE, WEIGHTS_FILE
    from braindecode_clip.clip.perturb import perturbed
    from braindecode_clip.errors import ConfigError, DataError
    from braindecode_clip.io.atomic import write_json
    from braindecode_clip.io.tables import read_json
    from braindecode_clip.logs import get_logger
    from braindecode_clip.seeds import make_rng

    logger = get_logger(__name__)
    if out.resolve() in (initial.resolve(), adapted.resolve()):
        raise ConfigError(f"--out {out}: is one of the models to read. Name another folder.")
    states = []
    for folder in (initial, adapted):
        lacking = [name for name in (WEIGHTS_FILE, CONFIG_FILE) if not (folder / name).is_file()]
        if lacking:
            raise DataError(f"{folder}: no {' and no '.join(lacking)}. Name a model folder.")
        states.append(load_file(folder / WEIGHTS_FILE))
    weights, norms = perturbed(*states, rng=make_rng(seed, "perturb"))
    out.mkdir(parents=True, exist_ok=True)
    with replacing(out / WEIGHTS_FILE) as temporary:
        save_file(weights, temporary, metadata={"format": "pt"})
    # Config, vocabulary and tokenizer: all that lies beside the initial weights, but for what
    # was written about their training.
    about_training = {WEIGHTS_FILE, LEAKAGE_FILE, *_ABOUT_TRAINING}
    for path in sorted(initial.iterdir()):
        if path.is_file() and path.name not in about_training:
            shutil.copy2(path, out / path.name)
    write_json(
        out / "perturbed.json",
        {"seed": seed, "n_tensors_changed": len(norms), "change_norms": norms},
    )
    record = None
    if (adapted / LEAKAGE_FILE).is_file():
        record = read_json(adapted / LEAKAGE_FILE)
        record = {k: v for k, v in record.items() if k not in ("schema_version", "weights_sha256")}
    write_leakage(out, record)
    logger.info("wrote %s: %d tensors changed", out, len(norms))
