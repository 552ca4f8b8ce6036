"""Options of how a pretrained CLIP model is adapted: section ``adapt`` of a recipe."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from braindecode_clip.config.base import Section


class LoraConfig(Section):
    """Low-rank changes of weights that themselves stay as they are."""

    rank: int = Field(8, ge=1, description="Rank r of the change of each weight matrix.")
    alpha: float = Field(16.0, gt=0, description="The change is alpha / rank * B A.")
    towers: tuple[Literal["image", "text"], ...] = Field(
        ("image", "text"),
        min_length=1,
        description="Towers that learn so. The other one does what image_tower or text_tower says.",
    )
    layers: tuple[Literal["attention_in", "attention_out", "mlp"], ...] = Field(
        ("attention_in", "attention_out", "mlp"),
        min_length=1,
        description="Weights that change. attention_in: queries, keys and values, each by a "
        "change of its own; attention_out: what mixes the heads; mlp: both layers behind the "
        "attention.",
    )
    projections: bool = Field(
        False, description="The projections into the shared space learn as well, in full."
    )
    norms: bool = Field(
        False,
        description="Gains and biases of layer normalisations learn as well. Batch "
        "normalisations stay as they are.",
    )


class AdaptConfig(Section):
    """Which weights of a pretrained model learn."""

    image_tower: Literal["train", "lock"] = Field(
        "train",
        description="lock: the image tower stays as it is, and the text tower learns to fit it "
        "(LiT).",
    )
    image_unlocked_groups: int = Field(
        0,
        ge=0,
        description="With 'lock': so many groups of layers, counted from the output, learn all "
        "the same. Groups are what lies before the first block, each block, and the projection: "
        "1 is the projection, 2 the last block too. A head that open_clip puts on a tower of timm "
        "always learns.",
    )
    text_tower: Literal["train", "lock"] = Field(
        "train", description="lock: the text tower stays as it is."
    )
    text_unlocked_layers: int = Field(
        0,
        ge=0,
        description="The same for the text tower. A head that open_clip puts on a tower of "
        "Hugging Face always learns.",
    )
    lora: LoraConfig | None = Field(
        None, description="Low-rank changes in place of full training. Null for none."
    )

    @model_validator(mode="after")
    def _options_agree(self) -> AdaptConfig:
        counts = {
            "image": ("image_unlocked_groups", self.image_unlocked_groups, self.image_tower),
            "text": ("text_unlocked_layers", self.text_unlocked_layers, self.text_tower),
        }
        for tower, (name, n_unlocked, how) in counts.items():
            if n_unlocked and how == "train":
                raise ValueError(f"{name} is for {tower}_tower: lock; set that, or leave it out")
            if how == "lock" and self.lora is not None and tower in self.lora.towers:
                raise ValueError(
                    f"{tower}_tower is locked, and lora.towers names it; take it out of one"
                )
        return self

    @property
    def changes_nothing(self) -> bool:
        """Whether all weights learn in full."""
        return self.lora is None and "lock" not in (self.image_tower, self.text_tower)

    def how(self, tower: Literal["image", "text"]) -> Literal["train", "lock", "lora"]:
        """Return how a tower learns."""
        if self.lora is not None and tower in self.lora.towers:
            return "lora"
        return self.image_tower if tower == "image" else self.text_tower

    def n_unlocked(self, tower: Literal["image", "text"]) -> int:
        """Return how many groups of a locked tower learn."""
        return self.image_unlocked_groups if tower == "image" else self.text_unlocked_layers
