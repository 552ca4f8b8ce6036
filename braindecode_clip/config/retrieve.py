"""Options of ``retrieve``: how candidates are compared, and which they are."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from braindecode_clip.checks import some
from braindecode_clip.config.base import Section
from braindecode_clip.config.candidates import CandidatesConfig
from braindecode_clip.config.datasets import LABEL

Similarity = Literal["cosine", "correlation", "euclidean"]


class CorrectionConfig(Section):
    """Correction for hubs: candidates that are near to every prediction."""

    method: Literal["csls", "inverted_softmax", "sinkhorn"] = Field(
        "csls",
        description="csls: half the mean similarity with the k nearest references is taken off "
        "a candidate; inverted_softmax: its soft maximum; sinkhorn: what gives all candidates the "
        "same mass.",
    )
    statistics: Literal["train", "test"] = Field(
        "train",
        description="train: from predictions of held-out training samples (inductive); test: from "
        "the test predictions, which makes every result depend on the whole test set and is "
        "labelled transductive: the name of the gallery or search must end so.",
    )
    k: int = Field(10, ge=1, description="csls: nearest references of a candidate.")
    temperature: float = Field(
        0.02,
        gt=0,
        description="inverted_softmax, sinkhorn: in units of the similarity; small ones look at "
        "the nearest references alone.",
    )


class CandidateSetsConfig(Section):
    """Sets of candidates that hold the true one with a stated probability (conformal)."""

    coverage: float = Field(
        0.9,
        gt=0,
        lt=1,
        description="Share of test samples whose set shall hold the true stimulus; calibrated on "
        "predictions of held-out training samples.",
    )
    max_size: int | None = Field(
        None, ge=1, description="Abstain where the set is larger. Null never abstains for size."
    )


class RetrieveConfig(Section):
    """How a prediction is compared with the candidates."""

    similarity: Similarity = Field(
        default="cosine",
        description="cosine (default), correlation over dimensions (each vector's mean is taken "
        "off first), or euclidean (minus the distance, which the predictions' length enters).",
    )
    n_top: int = Field(
        default=10,
        ge=1,
        description="Best candidates listed for each query, for the report. Default 10.",
    )
    average_predictions: bool = Field(
        default=False,
        description="Average the predictions of all repeats of a stimulus before they are ranked; "
        "`voxels` averages responses, before the prediction. Where runs are held out, within runs.",
    )
    correction: CorrectionConfig | None = Field(
        default=None, description="Correct for hubs. Null (default) doesn't."
    )
    candidate_sets: CandidateSetsConfig | None = Field(
        default=None, description="Add conformal sets of candidates. Null (default) doesn't."
    )

    @property
    def needs_inductive_correction(self) -> bool:
        """Whether a correction is estimated from training predictions."""
        return self.correction is not None and self.correction.statistics == "train"

    @property
    def needs_training(self) -> bool:
        """Whether predictions of held-out training samples are needed."""
        return self.needs_inductive_correction or self.candidate_sets is not None


def refuse_hidden_transduction(what: str, name: str, options: RetrieveConfig) -> None:
    """Refuse a label that hides that results depend on the whole test set.

    Raises
    ------
    ValueError
        The correction takes its statistics from the test, and the name does not end in
        "transductive"; the name stands in every table, figure and file name.
    """
    correction = options.correction
    hidden = correction is not None and correction.statistics == "test"
    if hidden and not name.endswith("transductive"):
        raise ValueError(
            f"{what} '{name}': correction statistics 'test' use the test predictions: give it a "
            f"name that ends in 'transductive', such as '{name}-transductive'"
        )


class RerankConfig(Section):
    """Order the best candidates of every brain sample again, by tokens."""

    encoder: str = Field(
        pattern=LABEL,
        description="Encoder of the study whose targets are tokens (or penultimate, or "
        "precomputed tokens). Predicted tokens, laid end to end, are compared with a candidate's "
        "by cosine.",
    )
    decoder: str | None = Field(
        default=None,
        pattern=LABEL,
        description="Decoder that predicts the tokens, fitted on that encoder; null (default) "
        "takes the decoder of the same name as the one that is ranked.",
    )
    shortlist: int = Field(
        default=50,
        ge=1,
        description="Candidates that are ordered by tokens: the best of each brain sample. All "
        "others keep their order below them. Where candidates level with one another don't all "
        "fit, none of them is taken, so 1 changes nothing. Default 50.",
    )


class GalleryConfig(Section):
    """A set of candidates that predictions are ranked against."""

    name: str = Field(
        pattern=r"^[A-Za-z0-9]+(-[A-Za-z0-9]+)*$", description="Label in file names and tables."
    )
    candidates: Literal["test", "all", "listed"] = Field(
        default="test",
        description="test: the stimuli of the test samples (default); all: every stimulus that "
        "has an embedding, training stimuli too; listed: those of `ids`.",
    )
    ids: tuple[str, ...] | None = Field(
        default=None,
        description="Stimulus ids of the candidates, for `candidates: listed` alone. They must "
        "hold every stimulus of the test samples. Default null.",
    )
    distractors: CandidatesConfig | None = Field(
        default=None,
        description="Candidates from elsewhere that are added, encoded as the stimuli are; "
        "pictures of candidates among them are left out. Default null.",
    )
    similarity: Similarity | None = Field(
        default=None, description="For this gallery; null (default) takes that of `retrieve`."
    )
    correction: CorrectionConfig | None = Field(
        default=None, description="For this gallery; null (default) takes that of `retrieve`."
    )

    rerank: RerankConfig | None = Field(
        default=None,
        description="Order the best candidates again by tokens, after the search by pooled "
        "vectors. brain_to_image alone; image_to_brain stays as the pooled vectors rank it. Not "
        "with distractors, corrections and candidate sets. Null (default) doesn't.",
    )

    @model_validator(mode="after")
    def _ids_belong_to_listed(self) -> GalleryConfig:
        if self.candidates == "listed" and not self.ids:
            raise ValueError("candidates 'listed' needs `ids: [...]`")
        if self.candidates != "listed" and self.ids is not None:
            raise ValueError(
                f"`ids` are used by candidates 'listed' alone, not by '{self.candidates}'; "
                "drop them, or set candidates to 'listed'"
            )
        twice = sorted({name for name in self.ids or () if (self.ids or ()).count(name) > 1})
        if twice:
            raise ValueError(f"`ids` must differ; more than once: {some(twice)}")
        return self

    def options(self, common: RetrieveConfig) -> RetrieveConfig:
        """Return the study's options with what this gallery sets for itself.

        Raises
        ------
        ValueError
            They are transductive, and the gallery's name doesn't say so; or they can't be
            combined with re-ranking.
        """
        own = {name: getattr(self, name) for name in ("similarity", "correction")}
        options = common.model_copy(update={k: v for k, v in own.items() if v is not None})
        refuse_hidden_transduction("gallery", self.name, options)
        self._refuse_with_rerank(options)
        return options

    def _refuse_with_rerank(self, options: RetrieveConfig) -> None:
        parts = {
            "distractors": self.distractors,
            "correction": options.correction,
            "candidate_sets": options.candidate_sets,
        }
        clashes = [f"`{name}`" for name, value in parts.items() if value is not None]
        if self.rerank is not None and clashes:
            raise ValueError(
                f"gallery '{self.name}': `rerank` can't be combined with {', '.join(clashes)}: "
                "distractors have no tokens, and corrections and candidate sets are of pooled "
                "similarities. Drop them here, or `rerank`; what `retrieve` sets is for every "
                "gallery"
            )
