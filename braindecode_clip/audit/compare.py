"""Outcomes of both encoders for every test sample of one place, and of the controls."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from braindecode_clip.artifacts import Predictions, Retrieval
from braindecode_clip.audit.common_space import SpaceMap
from braindecode_clip.audit.geometry import Decoded, ranks_among, synthetic_predictions
from braindecode_clip.audit.places import Place, Side, check_comparable, outcomes, said, scores_of
from braindecode_clip.config.adaptations import AuditConfig
from braindecode_clip.evaluate.scores import Score
from braindecode_clip.retrieve.repeats import average_repeats
from braindecode_clip.seeds import make_rng

#: Differences (adapted less original) that are measured: as they are, less what the geometry of
#: the spaces gives, and judged in one space.
KINDS = ("difference", "beyond_geometry", "original_space", "adapted_space")


@dataclass(frozen=True)
class Compared:
    """Both encoders in one place and direction.

    Attributes
    ----------
    original, adapted : str
        Encoders.
    place : tuple of str
        See :data:`braindecode_clip.audit.places.KEYS`.
    direction, unit : str
    scores : tuple of Score
    stimuli, groups : ndarray (n_queries,) str
    n_distractors : ndarray (n_queries,)
    outcomes : dict of str to ndarray (n_queries, n_scores)
        "original" and "adapted"; where the synthetic decoder was drawn, its mean in both spaces:
        "synthetic_original" and "synthetic_adapted".
    differences : dict of str to ndarray (n_queries, n_scores)
        Of :data:`KINDS`, as far as they could be measured.
    correlations : tuple of float
        Of predictions with the truth in the original and in the adapted space.
    """

    original: str
    adapted: str
    place: Place
    direction: str
    unit: str
    scores: tuple[Score, ...]
    stimuli: np.ndarray
    groups: np.ndarray
    n_distractors: np.ndarray
    outcomes: dict[str, np.ndarray]
    differences: dict[str, np.ndarray]
    correlations: tuple[float, float] = (np.nan, np.nan)
    notes: tuple[str, ...] = field(default=())


def compare(
    names: tuple[str, str],
    place: Place,
    original: Side,
    adapted: Side,
    *,
    maps: tuple[SpaceMap, SpaceMap] | None,
    options: AuditConfig,
    seed: int,
) -> list[Compared]:
    """Compare both encoders in one place, in every direction.

    Parameters
    ----------
    names : (str, str)
        Original and adapted encoder.
    place : tuple of str
    original, adapted : Side
    maps : (SpaceMap, SpaceMap) or None
        From the adapted space to the original one, and back; None leaves them out.
    options : AuditConfig
    seed : int
        The study's.

    Raises
    ------
    DataError
        They are not of the same trials, candidates and split.
    """
    check_comparable(place, original, adapted)
    found = []
    for direction, first in original.ranked.items():
        second = adapted.ranked[direction]
        scores = scores_of(first, options.top_k)
        both = {"original": outcomes(first, scores), "adapted": outcomes(second, scores)}
        differences = {"difference": both["adapted"] - both["original"]}
        correlations, notes = (np.nan, np.nan), ()
        if direction == "brain_to_image":
            more, correlations, notes = _controls(
                place, original, adapted, scores, both, maps=maps, options=options, seed=seed
            )
            differences |= more
        queries = first.queries
        found.append(
            Compared(
                *names,
                place,
                direction,
                original.predictions.unit,
                tuple(scores),
                queries["stimulus_id"].to_numpy().astype(str),
                queries["group"].to_numpy().astype(str),
                queries["n_distractors"].to_numpy(dtype=np.float64),
                both,
                differences,
                correlations,
                notes,
            )
        )
    return found


def _controls(
    place: Place,
    original: Side,
    adapted: Side,
    scores: list[Score],
    both: dict[str, np.ndarray],
    *,
    maps: tuple[SpaceMap, SpaceMap] | None,
    options: AuditConfig,
    seed: int,
) -> tuple[dict[str, np.ndarray], tuple[float, float], tuple[str, ...]]:
    """Return the differences that the controls leave, the correlations, and notes."""
    retrievals = [side.ranked["brain_to_image"] for side in (original, adapted)]
    why = _why_not(retrievals[0], original)
    if why:
        return {}, (np.nan, np.nan), (f"{said(place)}: no controls of geometry, as {why}.",)
    sides = [
        _Shown.of(side, item) for side, item in zip((original, adapted), retrievals, strict=True)
    ]
    correlations = (sides[0].decoded.correlation, sides[1].decoded.correlation)
    found = {}
    if options.geometry_draws:
        means = [
            shown.synthetic(scores, sides[0].decoded, options=options, seed=seed) for shown in sides
        ]
        both["synthetic_original"], both["synthetic_adapted"] = means
        found["beyond_geometry"] = both["adapted"] - both["original"] - (means[1] - means[0])
    if maps is not None:
        to_original, to_adapted = maps
        carried = to_original.carry(sides[1].predictions)
        found["original_space"] = sides[0].outcomes_of(carried, scores) - both["original"]
        carried = to_adapted.carry(sides[0].predictions)
        found["adapted_space"] = both["adapted"] - sides[1].outcomes_of(carried, scores)
    return found, correlations, ()


def _why_not(retrieval: Retrieval, side: Side) -> str:
    """Say why what the controls rank could not be compared with the real ranks; "" if it can."""
    if len(side.embeddings.vectors.shape) == 3:
        return "targets are tokens"
    if retrieval.info.get("rerank") or retrieval.info.get("correction"):
        return "candidates are ranked again or corrected for hubs"
    known = set(side.embeddings.ids.astype(str))
    if not set(retrieval.gallery_ids.astype(str)) <= known:
        return "the gallery holds candidates that are no stimuli of the study"
    return ""


@dataclass(frozen=True)
class _Shown:
    """Predictions of a side with their true vectors and the candidates."""

    predictions: Predictions
    decoded: Decoded
    gallery: np.ndarray
    true_index: np.ndarray
    retrieval: Retrieval

    @classmethod
    def of(cls, side: Side, retrieval: Retrieval) -> _Shown:
        predictions = side.predictions
        if retrieval.info.get("averaged_predictions"):
            predictions = average_repeats(predictions)
        vectors = side.embeddings.vectors
        true = vectors[side.embeddings.rows(predictions.stimulus_id)]
        return cls(
            predictions,
            Decoded(predictions.vectors.astype(np.float64), true.astype(np.float64)),
            vectors[side.embeddings.rows(retrieval.gallery_ids)],
            retrieval.true_index,
            retrieval,
        )

    def outcomes_of(self, predicted: np.ndarray, scores: list[Score]) -> np.ndarray:
        """Return each score of other predictions of the same samples (n_queries, n_scores)."""
        kind = self.retrieval.info["similarity"]
        rank = ranks_among(predicted, self.gallery, self.true_index, kind=kind)
        others = np.full(len(rank), len(self.gallery) - 1.0)
        return np.stack([s.per_query(rank, others) for s in scores], axis=1).astype(np.float64)

    def synthetic(
        self, scores: list[Score], like: Decoded, *, options: AuditConfig, seed: int
    ) -> np.ndarray:
        """Return what a decoder as good as another one scores on average (n_queries, n_scores)."""
        # The same stream in both spaces, so that equal spaces give equal scores.
        rng = make_rng(seed, "audit", "geometry")
        total = np.zeros((len(self.true_index), len(scores)))
        for _ in range(options.geometry_draws):
            drawn = synthetic_predictions(
                self.decoded,
                like.correlation,
                relative_spread=like.relative_spread,
                noise=options.geometry_noise,
                rng=rng,
            )
            total += self.outcomes_of(drawn, scores)
        return total / options.geometry_draws
