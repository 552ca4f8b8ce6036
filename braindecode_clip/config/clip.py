"""Options of CLIP training: the recipe files in ``config/clip``."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from braindecode_clip.config.base import Section
from braindecode_clip.config.clip_adapt import AdaptConfig
from braindecode_clip.config.clip_data import DataConfig


class ModelConfig(Section):
    """The towers: written out, open_clip's by name, of its JSON file, or those of `--initial`.

    Where they are named and written out as well, both must agree.
    """

    open_clip: str | None = Field(
        None, description="Name of a built-in model of open_clip, e.g. ViT-B-32."
    )
    pretrained: str | None = Field(
        None,
        description="Weights to start from: a pretrained tag of that model, whose activation "
        "and preprocessing are taken over, or a checkpoint file of the towers.",
    )
    weights: str | None = Field(None, description="Checkpoint file in place of the tag's download.")
    config: str | None = Field(
        None, description="File of a model config in open_clip's form (JSON)."
    )
    embed_dim: int | None = Field(
        None, ge=2, description="Dimensions of the shared space. Written out: 128 by default."
    )
    quick_gelu: bool | None = Field(
        None,
        description="x * sigmoid(1.702 x) in place of GELU; stored with the weights. Null: as "
        "the named weights or towers have it; written out: false.",
    )
    vision_cfg: dict[str, Any] | None = Field(
        None,
        description="Image tower: fields of open_clip's CLIPVisionCfg (layers, width, ..., or "
        "timm_model_name).",
    )
    text_cfg: dict[str, Any] | None = Field(
        None,
        description="Text tower: fields of open_clip's CLIPTextCfg (context_length, width, ..., "
        "or hf_model_name: a name on the hub, a folder, or package:NAME/FOLDER); of small "
        "vocabularies vocab_size, eos_id and pad_id come from the tokenizer.",
    )
    other_cfg: dict[str, Any] = Field(
        default_factory=dict,
        description="Further fields of open_clip's model config, e.g. custom_text.",
    )
    image_weights: str | None = Field(
        None,
        description="Pretrained weights of a timm image tower: a checkpoint file, or "
        "package:NAME/FILE of an installed Python package.",
    )
    tokenizer: Literal["auto", "words", "bytes"] = Field(
        "auto",
        description="words: the words of the training captions; bytes: UTF-8 bytes, for any "
        "language; auto: the model's own, and words for written-out towers, which have none.",
    )
    residual_gain: float | None = Field(
        None,
        ge=0,
        description="Gain of every residual branch of a ModifiedResNet at the start. Null "
        "leaves open_clip's 0, with which 3 x 3 convolutions, and so shapes, come in late.",
    )

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_written_towers(cls, options: Any) -> Any:
        """Fill in what towers that are written out, and named nowhere else, leave open."""
        if not isinstance(options, dict) or options.get("open_clip") or options.get("config"):
            return options
        if options.get("vision_cfg") and options.get("text_cfg"):
            options = dict(options)
            if options.get("embed_dim") is None:
                options["embed_dim"] = 128
            if options.get("quick_gelu") is None:
                options["quick_gelu"] = False
        return options

    @model_validator(mode="after")
    def _sources_agree(self) -> ModelConfig:
        if self.open_clip and self.config:
            raise ValueError("open_clip and config both name towers; leave one of them out")
        if (self.vision_cfg is None) != (self.text_cfg is None):
            raise ValueError("vision_cfg and text_cfg belong together; give both, or none")
        if (self.pretrained or self.weights) and self.is_taken_over:
            raise ValueError(
                "pretrained and weights need towers: give open_clip, config, or vision_cfg and "
                "text_cfg"
            )
        if self.pretrained and self.weights and not self.open_clip:
            raise ValueError("pretrained and weights both name a file; leave one of them out")
        if self.text_cfg is not None and "context_length" not in self.text_cfg:
            raise ValueError("text_cfg.context_length is missing; captions need it")
        if self.vision_cfg is not None and "image_size" not in self.vision_cfg:
            raise ValueError("vision_cfg.image_size is missing; pictures need it")
        return self

    @property
    def is_pretrained(self) -> bool:
        """Whether a tower starts from weights of another training that the recipe names."""
        text = self.text_cfg or {}
        has_text = text.get("hf_model_name") and text.get("hf_model_pretrained", True)
        return bool(self.pretrained or self.weights or self.image_weights or has_text)

    @property
    def is_taken_over(self) -> bool:
        """Whether the recipe names no towers: they are those of `--initial`."""
        return not (self.open_clip or self.config or self.vision_cfg)


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
    """AdamW, and the schedule of its rate."""

    lr: float = Field(1e-3, gt=0, description="Peak learning rate.")
    weight_decay: float = Field(
        0.05, ge=0, description="Decay of matrices; gains, biases and logit_scale have none."
    )
    beta1: float = Field(0.9, ge=0, lt=1, description="Decay of the first moment.")
    beta2: float = Field(0.98, ge=0, lt=1, description="Decay of the second moment.")
    eps: float = Field(1e-8, gt=0, description="Added to the root of the second moment.")
    schedule: Literal["cosine", "constant", "cooldown"] = Field(
        "cosine",
        description="After the warm-up: cosine: half a cosine down to the last step; constant: "
        "no change; cooldown: no change, then a straight line down in the last steps.",
    )
    warmup_fraction: float = Field(
        0.05, ge=0, lt=1, description="Share of all steps in which the rate rises from 0."
    )
    cooldown_fraction: float = Field(
        0.2, gt=0, le=1, description="Share of all steps in which 'cooldown' falls, at the end."
    )
    final_lr_fraction: float = Field(
        0.0, ge=0, le=1, description="Share of the peak rate that is left at the last step."
    )
    layer_decay: float = Field(
        1.0,
        gt=0,
        le=1,
        description="Each layer of a tower learns at this share of the rate of the layer above "
        "it, so that what lies near the input changes least. 1 for one rate.",
    )
    grad_clip_norm: float = Field(
        1.0, gt=0, description="Largest norm of the gradient; longer ones are shortened."
    )


class TrainConfig(Section):
    """The run."""

    epochs: int = Field(6, ge=1, description="Passes over the training pairs.")
    batch_size: int = Field(
        128, ge=2, description="Pairs in a step of one process, all contrasted."
    )
    loss: Literal["infonce", "siglip"] = Field(
        "infonce",
        description="infonce: each picture chooses among all captions of the batch, and each "
        "caption among all pictures; siglip: every combination is judged by itself, with a "
        "learnt logit_bias.",
    )
    max_shift_px: int = Field(
        0,
        ge=0,
        description="Pictures are moved by up to this many pixels in x and y, edges repeated. "
        "Mirroring and colour changes are not offered: captions speak of left, right and "
        "colours.",
    )
    false_negatives: Literal["none", "mask", "soft"] = Field(
        "mask",
        description="Pairs of one batch that mean the same. none: wrong answers like all "
        "others; mask: no answers at all; soft: right answers to the degree that their captions "
        "are alike.",
    )
    false_negatives_by: tuple[Literal["caption", "picture", "label"], ...] = Field(
        ("caption",),
        min_length=1,
        description="What makes two pairs mean the same: an equal caption, an equal picture, an "
        "equal label (of any wording of data.templates).",
    )
    duplicate_similarity: float | None = Field(
        None,
        gt=0,
        le=1,
        description="With 'mask', pairs whose captions have at least this cosine mean the same "
        "as well; with a teacher, pictures too. Vectors are the teacher's, or without one the "
        "captions' word counts.",
    )
    soft_temperature: float = Field(
        0.1,
        gt=0,
        description="With 'soft', captions of cosine c are right to the degree "
        "exp((c - 1) / temperature).",
    )
    distill_weight: float = Field(
        0.0,
        ge=0,
        description="Weight of a further loss: the choices of a teacher (`--teacher`) in the "
        "same batch are imitated. 0 for none.",
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
    memory: Literal["none", "gradcache", "accumulate", "checkpoint"] = Field(
        "none",
        description="How a batch is made to fit. none: all at once; gradcache: towers in chunks, "
        "all pairs contrasted, the exact gradient, a third more time; accumulate: chunks "
        "contrasted by themselves, an easier task; checkpoint: blocks of the towers are computed "
        "again on the way back.",
    )
    chunk_size: int = Field(
        32, ge=2, description="Pairs that 'gradcache' and 'accumulate' put through at a time."
    )
    gather_negatives: bool = Field(
        True,
        description="With several processes: contrast with the pairs of all; false: with a "
        "process's own alone, an easier task.",
    )
    precision: Literal["fp32", "auto", "bf16", "fp16"] = Field(
        "fp32",
        description="Numbers that the towers multiply; weights and losses stay fp32. fp16 scales "
        "the loss. auto: bf16 where the processor has it, else fp16 on a GPU, else fp32.",
    )
    compile: bool = Field(False, description="Compile the towers (torch.compile).")
    freeze_batch_norm: bool = Field(
        False,
        description="Batch normalisation keeps the mean and variance it started with, so that "
        "a picture's vector depends on no other: small batches, 'gradcache', 'accumulate' and "
        "several processes then train the same model. Gains and biases are trained.",
    )
    ema_decay: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Share of the running mean of the weights that each step keeps. Held-out "
        "retrieval is then of the mean, which is written to the folder 'ema' in the model's. 0 "
        "for none.",
    )
    l2_sp: float = Field(
        0.0,
        ge=0,
        description="Pull of the weights towards those of `--initial` or of pretrained towers, "
        "against forgetting. 0 for none.",
    )
    early_stop_patience: int | None = Field(
        None,
        ge=1,
        description="Stop after so many held-out retrievals without a better one, and write "
        "the best model. Null runs to the end and writes the last.",
    )
    logit_scale_init: float | None = Field(
        None,
        gt=0,
        le=100,
        description="Factor on the cosines at the start. Null: 1 / 0.07, with siglip 10.",
    )
    logit_bias_init: float = Field(
        -10.0, description="Added to the scaled cosines by siglip, at the start."
    )
    logit_scale_max: float = Field(100.0, gt=0, description="The factor never exceeds this.")
    log_every: int = Field(20, ge=1, description="Steps between two rows of the log.")
    checkpoint_every: int = Field(100, ge=1, description="Steps between two saved states.")
    validate_every: int = Field(200, ge=1, description="Steps between held-out retrievals.")

    @model_validator(mode="before")
    @classmethod
    def _earlier_name(cls, options: Any) -> Any:
        """Read recipes from before ``false_negatives`` had three values."""
        if isinstance(options, dict) and "mask_identical_captions" in options:
            options = dict(options)
            masked = options.pop("mask_identical_captions")
            options.setdefault("false_negatives", "mask" if masked else "none")
        return options

    @model_validator(mode="after")
    def _options_agree(self) -> TrainConfig:
        if self.duplicate_similarity is not None and self.false_negatives != "mask":
            raise ValueError(
                "duplicate_similarity is for false_negatives: mask; leave it out, or set that"
            )
        in_chunks = self.memory in ("gradcache", "accumulate")
        if self.memory == "accumulate" and self.batch_size % self.chunk_size:
            raise ValueError(
                f"chunk_size {self.chunk_size} does not divide batch_size {self.batch_size}; "
                "accumulated chunks must be equal"
            )
        if in_chunks and self.chunk_size > self.batch_size:
            raise ValueError(
                f"chunk_size {self.chunk_size} exceeds batch_size {self.batch_size}; lower it"
            )
        return self

    @property
    def scale_at_start(self) -> float:
        """Factor on the cosines at the start."""
        if self.logit_scale_init is not None:
            return self.logit_scale_init
        return 10.0 if self.loss == "siglip" else 1 / 0.07


class ClipRecipe(Section):
    """Everything that decides what a training run computes, but for the pairs."""

    name: str = Field(
        pattern=r"^[a-zA-Z0-9-]+$", description="Name of the model; letters, digits and hyphens."
    )
    seed: int = Field(0, ge=0, description="Seed of the weights, the order and the wordings.")
    model: ModelConfig = Field(
        default_factory=ModelConfig,
        description="The towers; left out, those of the model that `--initial` names.",
    )
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
    adapt: AdaptConfig | None = Field(
        None, description="Which weights of a pretrained model learn. Null: all, in full."
    )
