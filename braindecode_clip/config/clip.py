"""Options of CLIP training: the recipe files in ``config/clip``."""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_validator

from braindecode_clip.config.base import Section
from braindecode_clip.config.clip_data import DataConfig


class ModelConfig(Section):
    """The towers, in the words of an open_clip model config."""

    embed_dim: int = Field(128, ge=2, description="Dimensions of the shared space.")
    quick_gelu: bool = Field(
        False, description="x * sigmoid(1.702 x) in place of GELU; stored with the weights."
    )
    vision_cfg: dict[str, Any] = Field(
        description="Image tower: fields of open_clip's CLIPVisionCfg (layers, width, ...)."
    )
    text_cfg: dict[str, Any] = Field(
        description="Text tower: fields of open_clip's CLIPTextCfg; vocab_size, eos_id and "
        "pad_id come from the tokenizer."
    )
    residual_gain: float | None = Field(
        None,
        ge=0,
        description="Gain of every residual branch of a ModifiedResNet at the start. Null "
        "leaves open_clip's 0, with which 3 x 3 convolutions, and so shapes, come in late.",
    )


class PreprocessConfig(Section):
    """From a picture to the image tower's input."""

    mean: tuple[float, float, float] = Field(
        (0.5, 0.5, 0.5), description="Subtracted from RGB values in 0 to 1."
    )
    std: tuple[float, float, float] = Field(
        (0.25, 0.25, 0.25), description="Divides RGB values after the mean is subtracted."
    )
    interpolation: str = Field("bicubic", description="How pictures of other sizes are resized.")
    resize_mode: str = Field(
        "longest",
        description="shortest: resize and crop the centre; longest: resize and pad; "
        "squash: ignore the aspect ratio.",
    )


class OptimiserConfig(Section):
    """AdamW, warm-up and cosine decay."""

    lr: float = Field(1e-3, gt=0, description="Peak learning rate.")
    weight_decay: float = Field(
        0.05, ge=0, description="Decay of matrices; gains, biases and logit_scale have none."
    )
    beta1: float = Field(0.9, ge=0, lt=1, description="Decay of the first moment.")
    beta2: float = Field(0.98, ge=0, lt=1, description="Decay of the second moment.")
    eps: float = Field(1e-8, gt=0, description="Added to the root of the second moment.")
    warmup_fraction: float = Field(
        0.05, ge=0, lt=1, description="Share of all steps in which the rate rises from 0."
    )
    final_lr_fraction: float = Field(
        0.0, ge=0, le=1, description="Share of the peak rate that is left at the last step."
    )
    grad_clip_norm: float = Field(
        1.0, gt=0, description="Largest norm of the gradient; longer ones are shortened."
    )


class TrainConfig(Section):
    """The run."""

    epochs: int = Field(6, ge=1, description="Passes over the training pairs.")
    batch_size: int = Field(128, ge=2, description="Pairs in a step, all contrasted.")
    max_shift_px: int = Field(
        0,
        ge=0,
        description="Pictures are moved by up to this many pixels in x and y, edges repeated. "
        "Mirroring and colour changes are not offered: captions speak of left, right and "
        "colours.",
    )
    mask_identical_captions: bool = Field(
        True, description="Pairs of one batch with the same caption are no negatives."
    )
    word_loss_weight: float = Field(
        0.0,
        ge=0,
        description="Weight of a second loss: the caption's words are predicted from the "
        "picture by a linear layer that is thrown away after training. It teaches words that "
        "the contrast of random pairs hardly needs. 0 for none.",
    )
    kin_size: int = Field(
        1,
        ge=1,
        description="Pairs that are alike (same colours, number and background of scenes; same "
        "'group' of a table) and stand together in a batch: hard negatives, which only the rest "
        "of the caption tells apart. 1 draws batches at random.",
    )
    logit_scale_init: float = Field(
        1 / 0.07, gt=0, le=100, description="Factor on the cosines at the start."
    )
    logit_scale_max: float = Field(100.0, gt=0, description="The factor never exceeds this.")
    log_every: int = Field(20, ge=1, description="Steps between two rows of the log.")
    checkpoint_every: int = Field(100, ge=1, description="Steps between two saved states.")
    validate_every: int = Field(200, ge=1, description="Steps between held-out retrievals.")


class ClipRecipe(Section):
    """Everything that decides what a training run computes, but for the pairs."""

    name: str = Field(
        pattern=r"^[a-zA-Z0-9-]+$", description="Name of the model; letters, digits and hyphens."
    )
    seed: int = Field(0, ge=0, description="Seed of the weights, the order and the wordings.")
    model: ModelConfig = Field(description="The towers.")
    preprocess: PreprocessConfig = Field(
        default_factory=PreprocessConfig, description="From a picture to the input."
    )
    optimiser: OptimiserConfig = Field(
        default_factory=OptimiserConfig, description="AdamW and its schedule."
    )
    training: TrainConfig = Field(default_factory=TrainConfig, description="The run.")
    data: DataConfig = Field(
        default_factory=DataConfig, description="Captions, splits, augmentation and order."
    )

    @model_validator(mode="after")
    def _text_context_is_given(self) -> ClipRecipe:
        if "context_length" not in self.model.text_cfg:
            raise ValueError("model.text_cfg.context_length is missing; captions need it")
        if "image_size" not in self.model.vision_cfg:
            raise ValueError("model.vision_cfg.image_size is missing; pictures need it")
        return self
