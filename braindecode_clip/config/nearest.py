"""Options of ``nearest``: open searches."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from braindecode_clip.config.base import Section
from braindecode_clip.config.candidates import CandidatesConfig, IndexConfig
from braindecode_clip.config.datasets import LABEL
from braindecode_clip.config.retrieve import (
    CorrectionConfig,
    RetrieveConfig,
    refuse_hidden_transduction,
)


class SearchConfig(Section):
    """An open search: the candidates nearest to each prediction, among anything encoded."""

    name: str = Field(pattern=LABEL, description="Label in file names and tables.")
    candidates: CandidatesConfig | None = Field(
        None,
        description="What is searched; null takes every stimulus or name that has an embedding.",
    )
    k: int = Field(10, ge=1, description="Candidates listed for each prediction.")
    true_column: str | None = Field(
        None,
        description="Column of the stimulus table that names the true candidate of a stimulus "
        "(its caption, say), or its true category where there is a `category_column`; null when "
        "there is none.",
    )
    category_column: str | None = Field(
        None,
        description="Column of the candidates that holds their category: then categories are "
        "ranked in place of candidates.",
    )
    category_score: Literal["mean", "max"] = Field(
        "mean", description="Over the candidates of a category."
    )
    correction: CorrectionConfig | None = Field(
        None, description="Correction for hubs; null takes that of `retrieve`."
    )
    index: IndexConfig = Field(default_factory=IndexConfig, description="How they are found.")

    @model_validator(mode="after")
    def _categories_are_exact(self) -> SearchConfig:
        if self.index.kind != "exact" and self.category_column:
            raise ValueError(
                f"`category_column` needs all similarities, which index '{self.index.kind}' does "
                "not give; use 'exact'"
            )
        return self

    def options(self, common: RetrieveConfig) -> RetrieveConfig:
        """Return the study's options with what this search sets for itself.

        Raises
        ------
        ValueError
            They are transductive, and the search's name doesn't say so.
        """
        own = {} if self.correction is None else {"correction": self.correction}
        options = common.model_copy(update=own)
        refuse_hidden_transduction("search", self.name, options)
        return options
