"""Options of ``card``: the cards that say what a number is a number of."""

from __future__ import annotations

from pydantic import Field

from braindecode_clip.config.base import Section


class CardsConfig(Section):
    """Result cards."""

    enabled: bool = Field(default=True, description="Whether to write them. Default true.")
    dataset: str | None = Field(
        default=None,
        description="Name of the data set as other cards have it, e.g. NSD: cards of different "
        "data sets are not comparable. Default null: the name of the study.",
    )
