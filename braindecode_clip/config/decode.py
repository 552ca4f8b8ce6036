"""Options of ``decode``: ridge, the contrastive, the MLP, the shared decoder, ensembles."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from braindecode_clip.config.base import Section

NAME = r"^[A-Za-z0-9]+(-[A-Za-z0-9]+)*$"
Calibration = Literal["none", "spread", "spread_per_dimension", "least_squares", "transductive"]
#: Calibrations of decoders that are made of others, or of all subjects.
OwnCalibration = Literal["none", "spread", "spread_per_dimension", "least_squares"]
TARGET_COMPONENTS = (
    "Token targets alone: leading principal components of the training targets that are "
    "predicted. Default null: all, in which nothing of a training target is lost."
)
CALIBRATION = (
    "What is undone of the decoder's shrinkage, fitted on out-of-fold predictions of the "
    "training part. spread (default): one gain that gives the predictions the total variance of "
    "the targets; spread_per_dimension: a gain for each dimension; least_squares: the gain of "
    "least squared error for each dimension; none. transductive: standardised by mean and standard "
    "deviation of the test predictions themselves, as Brain-Diffuser does, then given those of the "
    "training targets; a single test trial can then not be predicted, and the decoder's name must "
    "end in 'transductive', so that every table says so."
)


class TargetSpaceConfig(Section):
    """Principal components of the training targets that a decoder predicts in their place."""

    method: Literal["none", "pca", "whiten"] = Field(
        default="none",
        description="none (default): the embedding itself. pca: its principal components over the "
        "training stimuli of the fold, so that every component has a penalty of its own; whiten: "
        "the same, divided by their standard deviations, so that all count alike. Predictions are "
        "mapped back to the embedding before they are calibrated and compared.",
    )
    n_components: int | None = Field(
        default=None, ge=1, description="Components kept. Default null: all that vary."
    )
    shrinkage: float = Field(
        default=0.1,
        ge=0,
        description="whiten: share of the mean variance that is added to every variance before "
        "its root divides. Default 0.1.",
    )


class CalibratedSection(Section):
    """A decoder's options: a calibration that looks at test predictions stands in the name."""

    target_space: TargetSpaceConfig = Field(
        default_factory=TargetSpaceConfig,
        description="What the decoder predicts, fitted on the training part.",
    )

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
    validation: Literal["kfold", "loo", "gcv"] = Field(
        default="kfold",
        description="What chooses the penalty. kfold (default): the folds of cv, which keep runs "
        "or the repeats of a stimulus together; loo (leave-one-out) and gcv (generalised "
        "cross-validation) know no groups.",
    )
    alpha_groups: Literal["dimension", "all"] = Field(
        default="dimension",
        description="What shares a penalty. dimension (default): every dimension of the embedding "
        "has its own; all: one for all.",
    )
    weight_by_repeats: bool = Field(
        default=False,
        description="Weight a training row by the number of repeats that it averages. "
        "Default false.",
    )
    fit_intercept: bool = Field(
        default=True, description="Fit an intercept, unpenalised. Default true."
    )
    device: Literal["cpu", "auto", "cuda", "torch"] = Field(
        default="cpu",
        description="cpu (default): NumPy; cuda: torch on the GPU; auto: cuda where there is one, "
        "else cpu; torch: the GPU's code on the CPU.",
    )
    calibration: Calibration = Field(default="spread", description=CALIBRATION)


class ContrastiveConfig(CalibratedSection):
    """A linear decoder whose penalty, head and, if asked for, weights are fitted under InfoNCE."""

    name: str = Field(default="contrastive", pattern=NAME, description="Label in file names.")
    kind: Literal["contrastive"] = Field(default="contrastive", description="Kind of decoder.")
    alphas: AlphaGrid = Field(
        default_factory=AlphaGrid,
        description="Penalties to choose from, one for all dimensions.",
    )
    cv: int = Field(
        default=5,
        ge=2,
        description="Folds of the training part that choose the penalty, the flattening of the "
        "embedding and the number of epochs. Default 5; fewer where there are fewer groups.",
    )
    loss: Literal["infonce", "softclip"] = Field(
        default="infonce",
        description="Of the epochs. infonce (default): every prediction has one right target; "
        "softclip: targets alike share the right answer.",
    )
    temperature: float | None = Field(
        default=None,
        gt=0,
        description="First temperature of the epochs. Default null: the one that suits the "
        "out-of-fold predictions best.",
    )
    learn_temperature: bool = Field(
        default=True, description="Train the temperature too (infonce alone). Default true."
    )
    noise: float = Field(
        default=1.0,
        ge=0,
        description="Noise on the voxels while training, in units of the noise that a ridge "
        "penalty stands for. Default 1.",
    )
    decay: float = Field(
        default=0.0, ge=0, description="Pull towards the weights of the start. Default 0."
    )
    optimizer: Literal["adamw", "lbfgs"] = Field(
        default="adamw", description="adamw (default), or lbfgs on all rows at each step."
    )
    learning_rate: float = Field(
        default=0.03,
        gt=0,
        description="Of adamw, in units of the root mean square of the first weights. "
        "Default 0.03.",
    )
    batch_size: int | None = Field(
        default=None, ge=2, description="Rows of a step. Default null: all."
    )
    cross_fit: bool = Field(
        default=True,
        description="Make the out-of-fold predictions, by which calibration, ensembles and "
        "`compare` go, with decoders whose choices (penalty, flattening, epoch) are made "
        "without the fold. Default true, which costs one more fit for each fold; false is free and "
        "optimistic.",
    )
    max_epochs: int = Field(
        default=0,
        ge=0,
        description="Most epochs of gradient descent on all weights, from what the penalty and "
        "the flattening give. Default 0: none.",
    )
    patience: int = Field(
        default=10,
        ge=1,
        description="Epochs without a smaller held-out loss that end the search. Default 10.",
    )
    n_components: int | None = Field(
        default=None,
        ge=1,
        description="Principal components of the training rows to work in. Default null: all, "
        "which is exact.",
    )
    target_components: int | None = Field(default=None, ge=1, description=TARGET_COMPONENTS)
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
    temperature_end: float | None = Field(
        default=None,
        gt=0,
        description="Temperature in the last epoch, reached on half a cosine. Default null: the "
        "same throughout.",
    )
    mixco_share: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Share of the epochs, from the first, that mix the voxels of rows and have "
        "BiMixCo as contrastive loss. Default 0; MindEye takes 0.33.",
    )
    mixco_beta: float = Field(
        default=0.15, gt=0, description="Both parameters of the shares' Beta. Default 0.15."
    )
    mixco_temperature: float = Field(
        default=0.006, gt=0, description="Temperature of BiMixCo. Default 0.006."
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
        description="Share of the training groups that a member holds out to stop by. "
        "Default 0.125.",
    )
    n_members: int = Field(
        default=3,
        ge=1,
        description="Networks whose predictions are averaged; each holds out another part of "
        "train. Default 3.",
    )
    cross_fit: bool = Field(
        default=True,
        description="Make the out-of-fold predictions, by which calibration, ensembles and "
        "`compare` go, with networks that neither trained on the fold nor stopped by it. Default "
        "true, which costs as much again as the fit for each fold of cv; false is free, and "
        "optimistic: the rows then chose the epoch, and only some have a prediction.",
    )
    cv: int = Field(
        default=5,
        ge=2,
        description="Folds of the cross-fit. Default 5; fewer where there are fewer groups.",
    )
    repeats: Literal["all", "draw", "average"] = Field(
        default="all",
        description="Rows of one stimulus in training: all (default), one drawn for each epoch, "
        "or their average.",
    )
    ema: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Decay a step of a moving average of the weights, kept in their place. "
        "Default 0: none.",
    )
    precision: Literal["float32", "bfloat16"] = Field(
        default="float32",
        description="float32 (default), or bfloat16 for the factors of the first layer's "
        "products while training.",
    )
    target_components: int | None = Field(default=None, ge=1, description=TARGET_COMPONENTS)
    calibration: Calibration = Field(default="spread", description=CALIBRATION)

    @model_validator(mode="after")
    def _some_loss(self) -> MLPConfig:
        if self.contrastive + self.cosine + self.mse <= 0:
            raise ValueError("one of the losses 'contrastive', 'cosine', 'mse' must be above 0")
        return self


class EnsembleConfig(Section):
    """A weighted mean of other decoders."""

    name: str = Field(default="ensemble", pattern=NAME, description="Label in file names.")
    kind: Literal["ensemble"] = Field(default="ensemble", description="Kind of decoder.")
    members: tuple[str, ...] = Field(
        min_length=2, description="Names of the other decoders that are combined."
    )
    method: Literal["identification", "error"] = Field(
        default="identification",
        description="What the weights (at least 0, together 1) are best for on out-of-fold "
        "predictions of the training part: pairwise identification (default), over a grid, or "
        "squared error, exactly.",
    )
    calibration: OwnCalibration = Field(
        default="spread",
        description="As of the other decoders (transductive is not offered): none, spread "
        "(default), spread_per_dimension, least_squares.",
    )


class SharedConfig(Section):
    """A decoder that is fitted on all subjects of the study together."""

    name: str = Field(default="shared", pattern=NAME, description="Label in file names.")
    kind: Literal["shared"] = Field(default="shared", description="Kind of decoder.")
    n_components: int = Field(
        default=128,
        ge=1,
        description="Dimensions of the space that subjects share: leading directions of the "
        "embedding over the training pictures of all. Default 128.",
    )
    alphas: AlphaGrid = Field(
        default_factory=AlphaGrid,
        description="Penalties of the ridges to choose from.",
    )
    cv: int = Field(
        default=5,
        ge=2,
        description="Folds of the training part that choose the penalty and calibrate. Default "
        "5; fewer where there are fewer groups.",
    )
    whitening: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        default=(1.0, 3.0, 10.0),
        min_length=1,
        description="Added to a coordinate's share of the variance before it is divided by it: "
        "the larger, the less the directions of the space are equalised. Several are averaged by "
        "how well they identify held-out rows. Default [1, 3, 10].",
    )
    residual_weight: float = Field(
        default=0.1,
        ge=0,
        lt=1,
        description="Share of the noise's covariance that is taken from the residuals of the "
        "encoding model; the rest is independent noise. Default 0.1.",
    )
    alignment: Literal["none", "procrustes", "hyperalignment"] = Field(
        default="none",
        description="Functional alignment by training stimuli that all subjects saw, by which "
        "the trials of the others train the subject's decoder too. none (default); procrustes: "
        "the others are rotated into the subject's responses; hyperalignment: all into a common "
        "space. Needs three or more such stimuli. On simulated subjects it identified no better "
        "than none (benchmarks/shared_subjects.py).",
    )
    calibration: OwnCalibration = Field(
        default="spread",
        description="As of the other decoders (transductive is not offered): none, spread "
        "(default), spread_per_dimension, least_squares.",
    )


class CurveConfig(Section):
    """How soon each subject can be decoded, with every decoder of kind shared."""

    enabled: bool = Field(
        default=False,
        description="Score every subject after its first runs, alone and helped by the others, "
        "and write a table and a figure for each. Default false.",
    )
    trial_s: float | None = Field(
        default=None,
        gt=0,
        description="Seconds from one trial to the next, pauses included, to count minutes of "
        "training trials by. Default null: the minutes that runs with training trials took.",
    )
    points: int = Field(
        default=10, ge=1, description="Most points of a curve above 0 minutes. Default 10."
    )
    max_minutes: float | None = Field(
        default=None, gt=0, description="End of the curves. Default null: all runs."
    )
