r"""Between a model and what it became: weights mixed, and each mixture measured.

.. math:: \theta_\alpha = (1 - \alpha) \theta_0 + \alpha \theta_1

with the weights before and after an adaptation (Wortsman et al. 2022, "Robust fine-tuning of
zero-shot models", section 3). Running statistics of batch normalisations are mixed too, and
``logit_scale`` as it is stored, a logarithm. Counters take the value of the nearer end.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from braindecode_clip.checks import Problems, some
from braindecode_clip.clip.blueprint import model_folder
from braindecode_clip.clip.checkpoints import replacing
from braindecode_clip.clip.encoders import ClipEncoder
from braindecode_clip.clip.initial import read_start
from braindecode_clip.clip.models import CONFIG_FILE, WEIGHTS_FILE
from braindecode_clip.clip.recall import POOL_SIZE, pooled_recall
from braindecode_clip.clip.text_towers import TEXT_FOLDER
from braindecode_clip.clip.zero_shot import class_vectors, zero_shot_accuracy
from braindecode_clip.errors import DataError

#: What is mixed, beside the weights in the folder of a mixed model.
RECORD_FILE = "wise_ft.json"
#: Options of towers that matter in training alone.
_TRAINING_ONLY = frozenset(
    {
        *("patch_dropout", "timm_drop", "timm_drop_path", "timm_model_pretrained"),
        *("hf_model_pretrained", "init_logit_scale", "init_logit_bias"),
    }
)
#: Files of a model's folder that tell of its training.
_OF_TRAINING = frozenset({WEIGHTS_FILE, "recipe.yaml", "data.json", "README.md", RECORD_FILE})
_BATCH = 64


@dataclass(frozen=True)
class Ends:
    """Two models of the same towers and vocabulary.

    Attributes
    ----------
    before, after : dict of str to Tensor
        Their states, on the CPU.
    """

    before: dict[str, torch.Tensor]
    after: dict[str, torch.Tensor]

    def mixed(self, alpha: float) -> dict[str, torch.Tensor]:
        """Return the state at ``alpha``: 0 gives the bits of ``before``, 1 those of ``after``."""
        if not 0 <= alpha <= 1:
            raise DataError(f"alpha {alpha:g}: expected 0 (before) to 1 (after).")
        if alpha in (0, 1):
            return dict(self.after if alpha else self.before)
        state = {}
        for name, start in self.before.items():
            end = self.after[name]
            if start.is_floating_point():
                mix = (1 - alpha) * start.double() + alpha * end.double()
                state[name] = mix.to(start.dtype)
            else:
                state[name] = start if alpha < 0.5 else end
        return state


@dataclass(frozen=True)
class HeldOut:
    """Pairs that the mixtures are measured on.

    Attributes
    ----------
    prepared : sequence of ndarray (n,)
        Pictures, from :meth:`ClipEncoder.prepare_image`.
    captions : sequence of str (n,)
        "" where a picture has none.
    labels : sequence of str (n,)
        "" where a picture has none.
    """

    prepared: Sequence[np.ndarray]
    captions: Sequence[str]
    labels: Sequence[str]


def read_ends(before: str | Path, after: str | Path) -> Ends:
    """Read two model directories.

    Raises
    ------
    DataError
        One is damaged, or they differ in towers, preprocessing, vocabulary or weights' shapes;
        all differences are named.
    """
    start, end = read_start(before), read_start(after)
    configs = [json.loads((s.folder / CONFIG_FILE).read_text("utf-8")) for s in (start, end)]
    problems = Problems(
        f"{before} and {after} cannot be mixed (give a model and one that was trained from it)"
    )
    for part, what in (("model_cfg", "towers"), ("preprocess_cfg", "preprocessing")):
        differing = _differences(*(config.get(part, {}) for config in configs))
        if differing:
            problems.add(f"their {what} differ in {'; '.join(differing)}.")
    if start.tokenizer.record() != end.tokenizer.record():
        problems.add("their text towers read other words: the vocabularies differ.")
    states = [s.model.state_dict() for s in (start, end)]
    shapes = [{name: tuple(v.shape) for name, v in state.items()} for state in states]
    names = [name for name in shapes[0] | shapes[1] if shapes[0].get(name) != shapes[1].get(name)]
    if names:
        problems.add(f"weights of other names or shapes: {some(names)}.")
    problems.raise_if_any()
    return Ends(*states)


def measured(
    encoder: ClipEncoder,
    held_out: HeldOut,
    *,
    templates: Sequence[str],
    seed: int,
    pool_size: int = POOL_SIZE,
) -> dict[str, Any]:
    """Measure retrieval where there are captions, and zero-shot accuracy where there are labels.

    Parameters
    ----------
    encoder : ClipEncoder
    held_out : HeldOut
    templates : sequence of str
        Prompts with ``{}`` for the labels.
    seed : int
        Deals the pools, the same at each call.
    pool_size : int

    Returns
    -------
    dict
        ``n_pictures``; ``image_to_text`` and ``text_to_image`` (fields of
        :class:`~braindecode_clip.clip.recall.Recall` and ``chance``) and ``zero_shot`` (fields
        of :class:`~braindecode_clip.clip.zero_shot.Accuracy`) as far as they can be had.
    """
    prepared = held_out.prepared
    images = np.concatenate(
        [encoder.encode_prepared(prepared[k : k + _BATCH]) for k in range(0, len(prepared), _BATCH)]
    )
    found: dict[str, Any] = {"n_pictures": len(prepared)}
    captioned = np.flatnonzero([bool(caption) for caption in held_out.captions])
    captions = np.array([held_out.captions[row] for row in captioned], dtype=str)
    if len(set(captions)) > 1:
        texts = encoder.encode_text(captions.tolist())
        found |= retrieval(images[captioned], texts, captions, seed=seed, pool_size=pool_size)
    labelled = np.flatnonzero([bool(label) for label in held_out.labels])
    names = sorted({held_out.labels[row] for row in labelled})
    if len(names) > 1:
        index = {name: k for k, name in enumerate(names)}
        truth = [index[held_out.labels[row]] for row in labelled]
        classes = class_vectors(encoder, names, templates)
        found["zero_shot"] = asdict(zero_shot_accuracy(images[labelled], classes, truth))
    return found


def retrieval(
    images: np.ndarray, texts: np.ndarray, captions: np.ndarray, *, seed: int, pool_size: int
) -> dict[str, dict[str, float]]:
    """Return recall in both directions, with the chance of R@1."""
    both = pooled_recall(
        images, texts, captions, rng=np.random.default_rng(seed), pool_size=pool_size
    )
    return {
        name: {**asdict(recall), "chance": 1 / recall.pool_size}
        for name, recall in zip(("image_to_text", "text_to_image"), both, strict=True)
    }


def sweep(
    encoder: ClipEncoder,
    ends: Ends,
    sets: Mapping[str, HeldOut],
    *,
    alphas: Sequence[float],
    templates: Sequence[str],
    seed: int,
    pool_size: int = POOL_SIZE,
) -> list[dict[str, Any]]:
    """Measure every mixture on every set.

    Parameters
    ----------
    encoder : ClipEncoder
        Of either end; its weights are replaced.
    ends : Ends
    sets : mapping of str to HeldOut
    alphas : sequence of float
    templates, seed, pool_size
        See :func:`measured`.

    Returns
    -------
    list of dict
        For each alpha ``alpha`` and ``sets``: what :func:`measured` returns, by name.
    """
    points = []
    for alpha in alphas:
        encoder.model.load_state_dict(ends.mixed(alpha))
        found = {
            name: measured(encoder, own, templates=templates, seed=seed, pool_size=pool_size)
            for name, own in sets.items()
        }
        points.append({"alpha": alpha, "sets": found})
    return points


def score(found: Mapping[str, Any]) -> float:
    """Return one number of a set: the mean R@1 of both directions, or zero-shot accuracy."""
    if "image_to_text" in found:
        return (found["image_to_text"]["r1"] + found["text_to_image"]["r1"]) / 2
    return found["zero_shot"]["accuracy"]


def chosen_alpha(points: Sequence[Mapping[str, Any]], names: Sequence[str]) -> float:
    """Return the alpha of the highest mean score over sets; of equal ones the lowest.

    Parameters
    ----------
    points : sequence of dict
        From :func:`sweep`.
    names : sequence of str
        The sets that decide.
    """
    scores = {p["alpha"]: float(np.mean([score(p["sets"][n]) for n in names])) for p in points}
    best = max(scores.values())
    return min(alpha for alpha, own in scores.items() if own == best)


def check_apart(sets: Mapping[str, HeldOut], deciding: Sequence[str]) -> None:
    """Refuse pictures that help to choose alpha and are reported on as well.

    Raises
    ------
    DataError
    """
    digests = {name: [picture.tobytes() for picture in own.prepared] for name, own in sets.items()}
    problems = Problems("pictures")
    for name in deciding:
        for other in set(sets) - set(deciding):
            n_both = sum(digest in set(digests[other]) for digest in digests[name])
            if n_both:
                problems.add(
                    f"{n_both} of the {len(digests[name])} pictures of '{name}' are in '{other}' "
                    "too. Alpha must be chosen on other pictures than those it is reported on."
                )
    problems.raise_if_any()


def write_mixed(
    folder: str | Path, ends: Ends, alpha: float, *, before: str | Path, after: str | Path
) -> None:
    """Write a mixture as a model directory, with the files that ``after`` reads texts with."""
    target, source = Path(folder), model_folder(after)
    target.mkdir(parents=True, exist_ok=True)
    weights = {name: value.contiguous() for name, value in ends.mixed(alpha).items()}
    with replacing(target / WEIGHTS_FILE) as temporary:
        save_file(weights, temporary, metadata={"format": "pt"})
    for path in sorted(source.iterdir()):
        is_of_training = path.name in _OF_TRAINING or path.suffix in (".csv", ".html", ".png")
        if path.is_file() and not is_of_training:
            with replacing(target / path.name) as temporary:
                shutil.copyfile(path, temporary)
    _copy_text_config(source, target)
    record = {"alpha": alpha, "before": Path(before).name, "after": source.name}
    with replacing(target / RECORD_FILE) as temporary:
        temporary.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def _copy_text_config(source: Path, target: Path) -> None:
    """Copy what a Hugging Face tower's sizes are read from, and name it where it is now."""
    if not (source / TEXT_FOLDER).is_dir():
        return
    shutil.copytree(source / TEXT_FOLDER, target / TEXT_FOLDER, dirs_exist_ok=True)
    config = json.loads((target / CONFIG_FILE).read_text("utf-8"))
    text = config["model_cfg"]["text_cfg"]
    if _are_folders("hf_model_name", text.get("hf_model_name")):
        text["hf_model_name"] = str((target / TEXT_FOLDER).resolve())
        with replacing(target / CONFIG_FILE) as temporary:
            temporary.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _differences(first: Mapping[str, Any], second: Mapping[str, Any], place: str = "") -> list[str]:
    found = []
    for key in sorted({*first, *second} - _TRAINING_ONLY):
        a, b = first.get(key), second.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            found += _differences(a, b, f"{place}{key}.")
        elif a != b and not _are_folders(key, a, b):
            found.append(f"{place}{key} ({a} and {b})")
    return found


def _are_folders(key: str, *names: Any) -> bool:
    """Tell whether names of a text tower are folders of this machine, which say nothing."""
    return key == "hf_model_name" and any(name and Path(name).is_absolute() for name in names)
