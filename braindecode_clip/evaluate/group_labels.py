"""Permutations of the true labels that are the same for all subjects, ROIs and decoders.

What is exchanged is called an item. Where no stimulus is in train and test (unit "stimulus"),
an item is a stimulus, with all its repeats; where whole runs are held out (unit "run"), it is
one presentation of a stimulus in a run. Items change places only with items that the same
subjects have, equally often each (and, with runs, only within their run). Under the null
hypothesis that no subject's predictions depend on what was shown, the predictions of all
subjects for an item may still resemble each other; moving them together keeps that
resemblance, so that pictures that subjects share do not count as independent evidence.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from braindecode_clip.evaluate.permutation import RankTable
from braindecode_clip.evaluate.scores import Score

#: Numbers of a block of permutations; the block's size may depend on the items alone, lest
#: conditions of other chunk sizes draw other permutations.
BLOCK_NUMBERS = 2**20


@dataclass(frozen=True)
class Exchange:
    """Which labels may change places, for all subjects together.

    Attributes
    ----------
    unit : {"stimulus", "run"}
    n_items : int
    classes : tuple of ndarray int64
        Items that may change places with each other; together they are all items.
    item_of : dict of str to ndarray (n_queries,) int64
        Subject to the item of each of its samples.
    label_of : dict of str to ndarray (n_items,) int64
        Subject to the place of each item's stimulus among its sorted stimuli; -1 where the
        subject does not have the item.
    cluster_of : dict of str to ndarray (n_queries,) int64
        Subject to what is drawn as one when test pictures are drawn: its stimulus, which
        subjects may share, or its own run where whole runs are held out.
    """

    unit: str
    n_items: int
    classes: tuple[np.ndarray, ...]
    item_of: dict[str, np.ndarray]
    label_of: dict[str, np.ndarray]
    cluster_of: dict[str, np.ndarray]

    @property
    def n_clusters(self) -> int:
        """Number of clusters of all subjects together."""
        return 1 + max(int(own.max()) for own in self.cluster_of.values())

    def permutable(self, subject: str) -> bool:
        """Tell whether a subject's labels have another arrangement."""
        label_of = self.label_of[subject]
        return any(len(np.unique(label_of[members])) > 1 for members in self.classes)

    @property
    def share_fixed(self) -> float:
        """Share of the items that can change places with none."""
        return sum(len(members) == 1 for members in self.classes) / self.n_items

    def labels(
        self, subject: str, *, n_permutations: int, rng: np.random.Generator
    ) -> Iterator[np.ndarray]:
        """Yield permuted labels (block, n_queries) int64 of a subject.

        A generator of the same seed gives all subjects the same permutations of items.
        """
        block = max(1, BLOCK_NUMBERS // self.n_items)
        item_of, label_of = self.item_of[subject], self.label_of[subject]
        for start in range(0, n_permutations, block):
            size = min(block, n_permutations - start)
            moved = np.tile(np.arange(self.n_items), (size, 1))
            for members in self.classes:
                moved[:, members] = rng.permuted(moved[:, members], axis=1)
            yield label_of[moved[:, item_of]]


def exchange_of(
    samples: Mapping[str, tuple[np.ndarray, np.ndarray]], unit: str, *, unequal: bool = False
) -> Exchange:
    """Find out which labels may change places.

    Parameters
    ----------
    samples : mapping
        Subject to stimulus and run (each (n_queries,) str) of its test samples.
    unit : {"stimulus", "run"}
        Of the split.
    unequal : bool
        Whether stimuli with different numbers of repeats may change places too.

    Returns
    -------
    Exchange
    """
    items = {subject: _items(*named, unit=unit) for subject, named in samples.items()}
    names = sorted({item for own in items.values() for item in own})
    place = {item: i for i, item in enumerate(names)}
    seen: dict[tuple[str, ...], dict[str, int]] = {item: {} for item in names}
    for subject, own in items.items():
        for item in own:
            seen[item][subject] = 1 if unequal else seen[item].get(subject, 0) + 1
    alike: dict[tuple[object, ...], list[int]] = {}
    for item in names:
        within = item[0] if unit == "run" else ""
        alike.setdefault((within, *sorted(seen[item].items())), []).append(place[item])
    classes = tuple(np.array(members) for _, members in sorted(alike.items()))
    item_of, label_of = {}, {}
    for subject, own in items.items():
        item_of[subject] = np.array([place[item] for item in own])
        label_of[subject] = np.full(len(names), -1)
        labels = np.unique(samples[subject][0].astype(str), return_inverse=True)[1]
        label_of[subject][item_of[subject]] = labels
    return Exchange(
        unit,
        len(names),
        classes,
        item_of,
        label_of,
        _clusters(samples, unit),
    )


def _clusters(
    samples: Mapping[str, tuple[np.ndarray, np.ndarray]], unit: str
) -> dict[str, np.ndarray]:
    named = {}
    for subject, (stimuli, runs) in samples.items():
        # Runs of two subjects are different runs, even under one name.
        own = stimuli if unit == "stimulus" else runs
        named[subject] = [("" if unit == "stimulus" else subject, str(name)) for name in own]
    place = {name: i for i, name in enumerate(sorted({n for own in named.values() for n in own}))}
    return {subject: np.array([place[name] for name in own]) for subject, own in named.items()}


def _items(stimuli: np.ndarray, runs: np.ndarray, *, unit: str) -> list[tuple[str, ...]]:
    if unit == "stimulus":
        return [(str(name),) for name in stimuli]
    seen: dict[tuple[str, str], int] = {}
    items = []
    for run, name in zip(runs.astype(str), stimuli.astype(str), strict=True):
        times = seen[run, name] = seen.get((run, name), -1) + 1
        items.append((run, name, f"{times:06d}"))
    return items


def shared_null(
    table: RankTable,
    scores: list[Score],
    exchange: Exchange,
    subject: str,
    *,
    n_permutations: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Return the scores under the permutations that all subjects share.

    Parameters
    ----------
    table : RankTable
        Of one ROI, decoder and direction.
    scores : list of Score
    exchange : Exchange
    subject : str
    n_permutations : int
    rng : Generator
        Of the same seed for all subjects, ROIs, decoders and directions.

    Returns
    -------
    ndarray (n_permutations, n_scores) float64
    """
    found = []
    for block in exchange.labels(subject, n_permutations=n_permutations, rng=rng):
        for start in range(0, len(block), table.chunk):
            rank, n_distractors = table.under(block[start : start + table.chunk])
            found.append(np.stack([score.value(rank, n_distractors) for score in scores], axis=1))
    return np.concatenate(found)
