"""Options of the data that a CLIP model is trained on: section ``data`` of a recipe."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from braindecode_clip.config.base import Section


class SplitConfig(Section):
    """Which pictures of the training source are held out."""

    by: Literal["group", "picture", "column"] = Field(
        "group",
        description="group: whole groups are held out, so that none is in both parts; picture: "
        "pictures one by one; column: as the source itself says (column 'split' of a table, "
        "'split' in a shard's JSON), train beside validation, val, valid or dev.",
    )
    validation: float = Field(
        0.1, gt=0, lt=1, description="Share of pictures held out, as near as whole groups allow."
    )
    seed: int = Field(0, ge=0, description="Deals the groups or pictures.")
    same_file_together: bool = Field(
        True,
        description="Pictures whose files are identical are held out together, though their "
        "groups differ; every file is read once for it.",
    )


class DataConfig(Section):
    """Captions, splits, augmentation and the order of training pictures."""

    templates: list[str] | str | None = Field(
        None,
        description="Captions from labels (column 'label', a shard's 'label', or the subfolder "
        "of a picture without captions): a list such as ['a photo of a {}'], a set (simple, "
        "generic, openai), or a text file with one template a line. Underscores of labels become "
        "blanks. Added to captions that are there. Null leaves labels unused.",
    )
    split: SplitConfig | None = Field(
        None, description="Hold out a part of the training source; null wants --validation."
    )
    background: str = Field(
        "white", description="Colour behind transparent pixels: a name or '#rrggbb'."
    )
    crop_scale: tuple[float, float] | None = Field(
        None,
        description="Range of the share of its area that is cut from each picture at random and "
        "resized, e.g. [0.9, 1.0]; aspect ratio 3/4 to 4/3. Null: the whole picture, prepared as "
        "at validation.",
    )
    on_corrupt: Literal["skip", "error"] = Field(
        "skip",
        description="skip: a picture that cannot be decoded is listed, and another takes its "
        "place in the batch; error: the run stops at it.",
    )
    max_corrupt_share: float = Field(
        0.02,
        ge=0,
        le=1,
        description="Under 'skip' the run stops when more than this share of the pictures turned "
        "out corrupt.",
    )
    no_duplicates: list[Literal["caption", "group", "file"]] = Field(
        [],
        description="Pictures that share any of these never stand in one batch: a wording of "
        "their captions, their group, the bytes of their file. Not together with "
        "training.kin_size.",
    )

    @field_validator("crop_scale")
    @classmethod
    def _range(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        if value is not None and not 0 < value[0] <= value[1] <= 1:
            raise ValueError("expected 0 < smallest <= largest <= 1")
        return value
