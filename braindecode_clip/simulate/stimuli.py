"""The pictures of the simulated experiment: which are shown, to whom, in which part."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from braindecode_clip.config.simulate import SimulateConfig
from braindecode_clip.simulate.captions import caption
from braindecode_clip.simulate.scenes import (
    Scene,
    sample_scene,
    scene_attributes,
    scene_to_json,
)

#: In the column ``shown_to``: every subject sees this picture.
SHOWN_TO_ALL = "all"


@dataclass(frozen=True)
class Stimulus:
    """One picture of the experiment.

    Attributes
    ----------
    stimulus_id : str
        Such as "stim-00001".
    scene : Scene
    caption : str
    split : str
        "train" or "test".
    shown_to : str
        A subject's label, or "all".
    """

    stimulus_id: str
    scene: Scene
    caption: str
    split: str
    shown_to: str


def make_stimuli(config: SimulateConfig, *, rng: np.random.Generator) -> list[Stimulus]:
    """Draw the test pictures of all subjects and the training pictures of each.

    No two pictures are the same scene, and no two test pictures have the same caption.

    Parameters
    ----------
    config : SimulateConfig
        ``n_test_pictures``, of which ``test_held_out_share`` hold an unseen composition, and
        ``n_train_pictures`` for each of ``subjects``.
    rng : numpy.random.Generator
        Source of the scenes and captions.

    Returns
    -------
    list of Stimulus
        The test pictures in random order, then the training pictures subject by subject.
    """
    n_held_out = round(config.test_held_out_share * config.n_test_pictures)
    kinds = rng.permutation(np.arange(config.n_test_pictures) < n_held_out)
    plan = [("test", SHOWN_TO_ALL, bool(kind)) for kind in kinds]
    for subject in config.subjects:
        plan += [("train", subject, False)] * config.n_train_pictures
    stimuli: list[Stimulus] = []
    scenes: set[str] = set()
    captions: set[str] = set()
    for split, shown_to, held_out in plan:
        scene, words = _new_scene(rng, held_out, scenes, captions if split == "test" else set())
        name = f"stim-{len(stimuli) + 1:05d}"
        stimuli.append(Stimulus(name, scene, words, split, shown_to))
    return stimuli


def _new_scene(
    rng: np.random.Generator, held_out: bool, scenes: set[str], captions: set[str]
) -> tuple[Scene, str]:
    """Draw until scene and caption are new, and note both."""
    while True:
        scene = sample_scene(rng, held_out=held_out)
        words = caption(scene, rng)
        text = scene_to_json(scene)
        if text not in scenes and words not in captions:
            scenes.add(text)
            captions.add(words)
            return scene, words


def stimuli_table(stimuli: Iterable[Stimulus]) -> pd.DataFrame:
    """Lay the stimuli out as the table ``stimuli.tsv``.

    Returns
    -------
    DataFrame
        stimulus_id, image (path beside the table), caption, split, shown_to, the flat
        attributes of :func:`~braindecode_clip.simulate.scenes.scene_attributes`, and the
        whole scene as JSON in ``scene``.
    """
    return pd.DataFrame(list(_rows(stimuli)))


def _rows(stimuli: Iterable[Stimulus]) -> Iterator[dict[str, object]]:
    for item in stimuli:
        yield {
            "stimulus_id": item.stimulus_id,
            "image": f"{item.stimulus_id}.png",
            "caption": item.caption,
            "split": item.split,
            "shown_to": item.shown_to,
            **scene_attributes(item.scene),
            "scene": scene_to_json(item.scene),
        }
