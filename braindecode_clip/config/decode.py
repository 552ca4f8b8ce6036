"""Options of ``decode``: the ridge and the MLP decoder."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from braindecode_clip.config.base import Section

NAME = r"^[A-Za-z0-9]+(-[A-Za-z0-9]+)*$"
Calibration = Literal["none", "spread", "spread_per_dimension", "least_squares", "transductive"]
CALIBRATION = (
    "What is undone of the decoder's shrinkage, fitted on out-of-fold predictions of the "
    "training part. spread (default): one gain that gives the predictions the total variance of "
    "the targets; spread_per_dimension: a gain for each dimension; least_squares: the gain of "
    "least squared error for each dimension; none. transductive: standardised by mean and standard "
    "deviation of the test predictions themselves, as Brain-Diffuser does, then given those of the "
    "training targets; a single test trial can then not be predicted, and the decoder's name must "
    "end in 'transductive', so that every table says so."
)


class CalibratedSection(Section):
    """A decoder's options: a calibration that looks at test predictions stands in the name."""

    @model_validator(mode="after")
    def _named_transductive(self) -> CalibratedSection:
        name, calibration = getattr(self, "name", ""), getattr(self, "calibration", "")
        if calibration == "transductive" and not name.endswith("transductive"):
            raise ValueError(
                f"calibration transductive uses the test predictions: give the decoder a name that "
                f"ends in 'transductive', such as '{name}-transductive'"
            )
        return self


class AlphaGrid(Section):
    """Ridge penalties in equal ratios."""

    low: float = Field(default=1.0, gt=0, description="Smallest penalty. Default 1.")
    high: float = Field(default=1e7, gt=0, description="Largest penalty. Default 1e7.")
    count: int = Field(default=20, ge=1, description="Number of penalties. Default 20.")

    @model_validator(mode="after")
    def _ordered(self) -> AlphaGrid:
        if self.high < self.low:
            raise ValueError(f"'high' ({self.high:g}) is below 'low' ({self.low:g})")
        return self


class RidgeConfig(CalibratedSection):
    """Ridge regression with a penalty for every dimension of the embedding."""

    name: str = Field(default="ridge", pattern=NAME, description="Label in file names.")
    kind: Literal["ridge"] = Field(default="ridge", description="Kind of decoder.")
    alphas: AlphaGrid = Field(
        default_factory=AlphaGrid,
        description="Penalties to choose from, on the scale of the eigenvalues of XᵀX.",
    )
    cv: int = Field(
        default=5,
        ge=2,
        description="Folds of the training part that choose the penalty. Default 5; fewer where "
        "there are fewer groups.",
    )
    calibration: Calibration = Field(default="spread", description=CALIBRATION)


class MLPConfig(CalibratedSection):
    """A residual multilayer perceptron, stopped early on a part of train."""

    name: str = Field(default="mlp", pattern=NAME, description="Label in file names.")
    kind: Literal["mlp"] = Field(default="mlp", description="Kind of decoder.")
    hidden: int = Field(default=256, ge=1, description="Width of the blocks. Default 256.")
    n_blocks: int = Field(default=1, ge=0, description="Number of residual blocks. Default 1.")
    dropout: float = Field(
        default=0.5, ge=0, lt=1, description="Share of hidden units dropped. Default 0.5."
    )
    input_dropout: float = Field(
        default=0.5, ge=0, lt=1, description="Share of voxels dropped. Default 0.5."
    )
    contrastive: float = Field(
        default=1.0, ge=0, description="Weight of the contrastive (SoftCLIP) loss. Default 1."
    )
    cosine: float = Field(
        default=0.0, ge=0, description="Weight of the cosine distance. Default 0."
    )
    mse: float = Field(
        default=0.0, ge=0, description="Weight of the mean squared error. Default 0."
    )
    temperature: float = Field(
        default=0.1, gt=0, description="Temperature of the contrastive loss. Default 0.1."
    )
    learning_rate: float = Field(
        default=2e-3, gt=0, description="Peak of the one-cycle schedule. Default 0.002."
    )
    weight_decay: float = Field(
        default=0.01, ge=0, description="Decoupled weight decay of AdamW. Default 0.01."
    )
    batch_size: int = Field(
        default=128,
        ge=2,
        description="Rows of a step, at most a quarter of the training rows. Default 128.",
    )
    max_epochs: int = Field(
        default=50, ge=1, description="Passes over the training rows. Default 50."
    )
    patience: int = Field(
        default=12,
        ge=1,
        description="Epochs without a better validation loss after which a fit stops. Default 12.",
    )
    validation: float = Field(
        default=0.125,
        gt=0,
        lt=1,
        description="Share of the training groups that a member holds out for early stopping "
        "and calibration. Default 0.125.",
    )
    n_members: int = Field(
        default=3,
        ge=1,
        description="Networks whose predictions are averaged; each holds out another part of "
        "train. Default 3.",
    )
    calibration: Calibration = Field(default="spread", description=CALIBRATION)

    @model_validator(mode="after")
    def _some_loss(self) -> MLPConfig:
        if self.contrastive + self.cosine + self.mse <= 0:
            raise ValueError("one of the losses 'contrastive', 'cosine', 'mse' must be above 0")
        return self
