"""One subject, ROI, decoder, split and gallery of both encoders, held to be comparable."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from braindecode_clip.artifacts import Embeddings, Predictions, Retrieval
from braindecode_clip.checks import Problems, differences, some
from braindecode_clip.errors import LeakageError
from braindecode_clip.evaluate.scores import Score, identification_scores

#: What names a place.
KEYS = ("split", "gallery", "subject", "roi", "decoder")
#: What ranking was done with; both encoders must agree in it.
RANKED_WITH = ("similarity", "unit", "correction", "correction_statistics", "averaged_predictions")
#: Scores beside top-k.
OTHER_SCORES = ("pairwise", "mean_rank")

Place = tuple[str, ...]


@dataclass(frozen=True)
class Side:
    """What one encoder gave in one place.

    Attributes
    ----------
    ranked : dict of str to Retrieval
        By direction.
    predictions : Predictions
    embeddings : Embeddings
        Of this encoder.
    """

    ranked: dict[str, Retrieval]
    predictions: Predictions
    embeddings: Embeddings


def place_of(info: Mapping[str, Any]) -> Place:
    """Return the labels of a retrieval that name its place."""
    return tuple(str(info.get(key, "")) for key in KEYS)


def said(place: Place) -> str:
    """Name a place for a message."""
    return ", ".join(f"{key} {name}" for key, name in zip(KEYS, place, strict=True) if name)


def scores_of(retrieval: Retrieval, ks: tuple[int, ...]) -> list[Score]:
    """Return the scores that are compared: top-k, pairwise identification and mean rank."""
    found = identification_scores(ks, retrieval.queries["n_distractors"].to_numpy())
    return [s for s in found if s.name.startswith("top_") or s.name in OTHER_SCORES]


def outcomes(retrieval: Retrieval, scores: Iterable[Score]) -> np.ndarray:
    """Return each score of every query (n_queries, n_scores) float64."""
    rank = retrieval.queries["rank"].to_numpy(dtype=np.float64)
    others = retrieval.queries["n_distractors"].to_numpy(dtype=np.float64)
    return np.stack([s.per_query(rank, others) for s in scores], axis=1).astype(np.float64)


def check_comparable(place: Place, original: Side, adapted: Side) -> None:
    """Refuse two sides that are not of the same trials, candidates and split.

    Raises
    ------
    DataError
        Every difference at once.
    """
    problems = Problems(f"audit ({said(place)})")
    apart = sorted(original.ranked.keys() ^ adapted.ranked.keys())
    if apart:
        problems.add(f"only one of the encoders has the direction {some(apart)}.")
    for direction in sorted(original.ranked.keys() & adapted.ranked.keys()):
        first, second = original.ranked[direction], adapted.ranked[direction]
        for column in ("stimulus_id", "group", "fold", "n_repeats"):
            own, other = (item.queries[column].astype(str).tolist() for item in (first, second))
            if own != other:
                n = sum(a != b for a, b in zip(own, other, strict=False)) or abs(
                    len(own) - len(other)
                )
                problems.add(
                    f"{direction}: '{column}' of the test samples differs in {n} of {len(own)} and "
                    f"{len(other)} rows. Both encoders must be decoded from the same voxels and "
                    "split."
                )
        if first.gallery_ids.astype(str).tolist() != second.gallery_ids.astype(str).tolist():
            only = set(first.gallery_ids.astype(str)) ^ set(second.gallery_ids.astype(str))
            what = f"{some(sorted(only))} in one alone" if only else "their order"
            problems.add(
                f"{direction}: the candidates differ ({what}), so one task may be easier. Use the "
                "same gallery."
            )
        for key in RANKED_WITH:
            if first.info.get(key) != second.info.get(key):
                problems.add(
                    f"{direction}: '{key}' is {first.info.get(key)!r} of the original and "
                    f"{second.info.get(key)!r} of the adapted encoder. Rank both alike."
                )
    if set(original.predictions.train_ids.astype(str)) != set(
        adapted.predictions.train_ids.astype(str)
    ):
        problems.add("the decoders were trained on different stimuli. Use the same split.")
    for name, side in (("original", original), ("adapted", adapted)):
        parts = differences(side.predictions.fingerprint, side.embeddings.fingerprint)
        if parts:
            problems.add(
                f"the predictions of the {name} encoder are of other embeddings than those given: "
                f"{'; '.join(parts)}."
            )
    problems.raise_if_any()


def check_record(
    encoder: str,
    record: Mapping[str, Any] | None,
    *,
    weights_sha256: str,
    tested: Mapping[str, str],
) -> dict[str, Any]:
    """Refuse an adapted model of which it is not known that it saw no test stimulus.

    Parameters
    ----------
    encoder : str
    record : mapping or None
        ``leakage.json`` of the model, which ``clip train --forbid`` writes.
    weights_sha256 : str
        Of the weights that encoded the stimuli, from the embeddings' fingerprint.
    tested : mapping
        Test stimulus to the hash of its pixels
        (:func:`braindecode_clip.clip.overlap.pixel_digest`).

    Returns
    -------
    dict
        The record in short, for the results.

    Raises
    ------
    LeakageError
        There is no record, it is of another model, covers other stimuli, or holds a shared one.
    """
    problems = Problems(f"audit, encoder {encoder}")
    if record is None:
        problems.add(
            "its model folder has no leakage.json, so nothing says that it was not trained on test "
            "stimuli. Train it with `clip train --forbid STIMULI.tsv`."
        )
        problems.raise_if_any(LeakageError)
        return {}
    if record.get("weights_sha256") != weights_sha256:
        problems.add(
            f"leakage.json is of weights {str(record.get('weights_sha256'))[:12]}, the stimuli "
            f"were encoded by {weights_sha256[:12]}. Re-run `embed` with the model beside it."
        )
    covered = set(record.get("test", {}).get("pixels_sha256", ()))
    missing = sorted(name for name, digest in tested.items() if digest not in covered)
    if missing:
        problems.add(
            f"{len(missing)} of {len(tested)} test stimuli were not looked for among its training "
            f"pairs: {some(missing)}. Train it with `clip train --forbid` and this study's "
            "stimuli."
        )
    kinds = ("same_file", "same_pixels", "near_duplicate")
    for part in ("training", "validation"):
        counts = record.get(part, {}).get("n_shared", {})
        if any(counts.get(kind, 1) for kind in kinds):
            problems.add(f"its {part} pairs hold test stimuli, or nobody looked ({dict(counts)}).")
    problems.raise_if_any(LeakageError)
    return {
        "n_test_stimuli": len(tested),
        "n_covered": len(covered),
        "test_sha256": record["test"].get("sha256"),
        **{
            part: {
                key: record[part].get(key)
                for key in ("n_pairs", "sha256", "n_shared", "n_shared_captions")
            }
            | {"nearest_grey_levels": record[part].get("nearest_grey_levels")}
            for part in ("training", "validation")
        },
    }
