"""The schema of a result card: typed, closed to unknown keys, checked whenever it is read."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from braindecode_clip.config.base import Section, parse_section
from braindecode_clip.errors import ConfigError, DataError

CARD_VERSION = 1
Direction = Literal["brain_to_image", "image_to_brain", "none"]
#: The protocol of scores whose gallery the study itself names.
OWN_GALLERY = "gallery"


class Score(Section):
    """One number with all that it needs to be read.

    Attributes
    ----------
    protocol : str
        Name of a published protocol, or "gallery" for a gallery of the study.
    direction : {"brain_to_image", "image_to_brain", "none"} or None
        "none" for scores without candidates; None where it is not known.
    metric : str
        "top_1", "top_5", "pairwise", ...
    n_gallery : int or None
        Candidates of a query, the true one among them.
    value : float
    ci_low, ci_high, confidence, p, null_mean, ceiling : float or None
    chance : float or None
        Of a guess.
    n : int or None
        Queries; ``n_unit`` says of what, ``resampled`` what the bootstrap drew.
    correction : str or None
        Hubness correction of the similarities.
    definition, note : str
    """

    protocol: str = OWN_GALLERY
    direction: Direction | None
    metric: str = Field(min_length=1)
    gallery: str | None = None
    n_gallery: int | None = Field(default=None, ge=2)
    value: float
    ci_low: float | None = None
    ci_high: float | None = None
    ci_method: str | None = None
    confidence: float | None = Field(default=None, gt=0, lt=1)
    p: float | None = Field(default=None, ge=0, le=1)
    n_permutations: int | None = None
    null_mean: float | None = None
    ceiling: float | None = None
    chance: float | None = None
    n: int | None = Field(default=None, ge=1)
    n_unit: str | None = None
    resampled: str | None = None
    correction: str | None = None
    definition: str = ""
    note: str = ""

    @model_validator(mode="after")
    def _inside_its_interval(self) -> Score:
        if (self.ci_low is None) != (self.ci_high is None):
            raise ValueError("needs both ends of the interval, ci_low and ci_high, or neither")
        if self.ci_low is not None and self.ci_high is not None:
            slack = 1e-9 * max(1.0, abs(self.value))
            if not self.ci_low - slack <= self.value <= self.ci_high + slack:
                raise ValueError("the value must lie within ci_low and ci_high")
        return self


class PoolPoint(Section):
    """Top-k expected in a smaller pool of the same gallery."""

    direction: Direction
    k: int = Field(ge=1)
    pool_size: int = Field(ge=2)
    value: float = Field(ge=0, le=1)
    chance: float


class Data(Section):
    """Whose data, and which pictures.

    ``repeats`` is the mean number of presentations behind a test query; ``averaged`` says where
    they were put together: nowhere ("none"), as responses before decoding ("responses"), or as
    predictions after it ("predictions"). Digests are over the sorted stimulus ids.
    """

    dataset: str
    subjects: list[str] | None = Field(min_length=1)
    n_sessions: int | None = Field(default=None, ge=1)
    n_runs: int | None = Field(default=None, ge=1)
    n_train_pictures: int | None = Field(default=None, ge=1)
    n_test_pictures: int | None = Field(default=None, ge=1)
    n_train_samples: int | None = Field(default=None, ge=1)
    n_test_samples: int | None = Field(default=None, ge=1)
    train_digest: str | None = None
    test_digest: str | None = None
    repeats: float | None = Field(default=None, ge=1)
    averaged: Literal["none", "responses", "predictions"] | None = None


class Voxels(Section):
    """The region: its voxels, those kept (fewest and most over folds), and how."""

    roi: str | None = None
    n_voxels: int | None = Field(default=None, ge=1)
    n_kept: tuple[int, int] | None = None
    options: dict[str, Any] = Field(default_factory=dict)


class Encoder(Section):
    """What made the targets; the digest is over ``parts`` without libraries and probe."""

    name: str
    digest: str | None = None
    parts: dict[str, Any] = Field(default_factory=dict)


class Decoder(Section):
    """What was fitted."""

    name: str
    kind: str | None = None
    calibration: str | None = None
    options: dict[str, Any] = Field(default_factory=dict)


class Split(Section):
    """What was held out: whole stimuli, or whole runs."""

    name: str | None = None
    unit: Literal["stimulus", "run"] | None = None
    n_folds: int | None = Field(default=None, ge=1)


class Origin(Section):
    """Where the numbers come from.

    Of a measured card version, code digests, seed and files (relative to the card); of a published
    one the source, and how far it was checked.
    """

    version: str | None = None
    code: dict[str, str] = Field(default_factory=dict)
    seed: int | None = None
    files: dict[str, str] = Field(default_factory=dict)
    source: str = ""
    url: str | None = None
    checked: Literal["read", "second_hand", "unverified"] | None = None


class Card(Section):
    """Everything that decides whether a number may stand beside another."""

    card_version: Literal[1] = 1
    kind: Literal["measured", "published"]
    title: str = Field(min_length=1)
    data: Data
    voxels: Voxels = Field(default_factory=Voxels)
    encoder: Encoder
    decoder: Decoder
    split: Split = Field(default_factory=Split)
    scores: list[Score] = Field(min_length=1)
    pool_curve: list[PoolPoint] = Field(default_factory=list)
    transductive: list[str] | None = Field(
        default=None, description="Steps that used the test set; null where not known."
    )
    notes: list[str] = Field(default_factory=list)
    origin: Origin

    @field_validator("scores")
    @classmethod
    def _scores_differ(cls, value: list[Score]) -> list[Score]:
        seen = [
            (s.protocol, s.direction, s.metric, s.n_gallery, s.gallery, s.correction, s.definition)
            for s in value
        ]
        twice = sorted({str(key) for key in seen if seen.count(key) > 1})
        if twice:
            raise ValueError(f"more than one score of {', '.join(twice)}")
        return value

    @model_validator(mode="after")
    def _published_has_a_source(self) -> Card:
        if self.kind == "published" and not (self.origin.source and self.origin.checked):
            raise ValueError(
                "a published card names its source in origin.source, and in origin.checked whether "
                "it was read there (read), quoted by others (second_hand) or is unverified"
            )
        return self


def parse_card(content: Any, *, where: str) -> Card:
    """Check the content of a card and return it typed.

    Raises
    ------
    DataError
        With every problem at once.
    """
    if not isinstance(content, dict):
        raise DataError(f"{where}: is no result card. Expected the JSON that `card` writes.")
    version = content.get("card_version", CARD_VERSION)
    if version != CARD_VERSION:
        raise DataError(
            f"{where}: is a card of version {version!r}, this version reads {CARD_VERSION}. "
            "Make it again with `card`."
        )
    try:
        return parse_section(Card, content, where=where)
    except ConfigError as error:
        raise DataError(str(error)) from error
