"""Options of ``retrieve``: how candidates are compared, and which they are."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from braindecode_clip.checks import some
from braindecode_clip.config.base import Section


class RetrieveConfig(Section):
    """How a prediction is compared with the candidates."""

    similarity: Literal["cosine", "correlation"] = Field(
        default="cosine",
        description="cosine (default), or correlation over dimensions (each vector's mean is "
        "taken off first).",
    )
    n_top: int = Field(
        default=10,
        ge=1,
        description="Best candidates listed for each query, for the report. Default 10.",
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
