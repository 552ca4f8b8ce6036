"""Options of ``adaptations``: CLIP models that a study adapts, to decode with them as well."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field, field_validator

from braindecode_clip.checks import some
from braindecode_clip.config.base import Section
from braindecode_clip.config.datasets import LABEL
from braindecode_clip.config.embed import EncoderConfig

#: Kinds of encoders that can be adapted: those with both towers in a folder.
ADAPTABLE = ("scenes", "local", "adapted")
Control = Literal["shuffled_captions", "weight_noise"]
#: What the targets of an adapted encoder and of its initial one must agree in to be compared.
ALIKE = (
    "modality",
    "targets",
    "token_projection",
    "class_token",
    "unit_norm",
    "caption_columns",
    "captions",
    "combine",
    "text_weight",
)


class PairsConfig(Section):
    """Where pairs of pictures and captions are, as `clip train` reads them."""

    source: str = Field(
        description="A table (image, caption), a folder, COCO's JSON, tar shards, a saved data set "
        "or HDF5 of `simulate scenes`."
    )
    format: Literal["table", "folder", "coco", "tar", "datasets", "scenes"] | None = Field(
        None, description="Kind of the pairs; null recognises it by the path."
    )
    split: str | None = Field(None, description="Take the pairs of this split; null takes all.")
    images: str | None = Field(None, description="Folder of the pictures of COCO's JSON.")


class AdaptationConfig(Section):
    """One CLIP model that is adapted by the workflow, never on a test stimulus."""

    name: str = Field(pattern=LABEL, description="Label used in folder names and tables.")
    recipe: str = Field(description="Recipe of `clip train`: a YAML file.")
    initial: str = Field(
        description="Name of the encoder to start from (kind scenes, local or adapted); the audit "
        "compares with it."
    )
    pairs: PairsConfig = Field(description="Training pairs.")
    validation: PairsConfig | None = Field(
        None,
        description="Held-out pairs, of the same format; null where data.split of the recipe takes "
        "them from the training pairs.",
    )
    test_captions: Literal["error", "warn", "ignore"] = Field(
        "warn",
        description="Training captions that a test stimulus has too, word by word: error refuses "
        "them, warn counts them (short captions recur by right), ignore does not look.",
    )
    controls: list[Control] = Field(
        default_factory=list,
        description="Further models, each an encoder of its own: shuffled_captions (the same "
        "training, every picture with the captions of another), weight_noise (the initial weights "
        "with random changes as large as those of adaptation).",
    )

    @field_validator("controls")
    @classmethod
    def _controls_differ(cls, value: list[str]) -> list[str]:
        if len(set(value)) < len(value):
            raise ValueError("names each control once")
        return value


class AuditConfig(Section):
    """Did adaptation help decoding? Original and adapted encoder on the same test samples."""

    enabled: bool = Field(
        True, description="Whether to audit; nothing is done without an encoder of kind 'adapted'."
    )
    decoders: Literal["all"] | list[str] = Field(
        "all", description="Decoders to compare, by name. Default all."
    )
    top_k: tuple[int, ...] = Field(
        (1, 5),
        min_length=1,
        description="The k of top-k accuracy, beside pairwise identification and the mean rank. "
        "Default 1, 5.",
    )
    confidence: float = Field(
        0.95, gt=0.5, lt=1.0, description="Level of the intervals. Default 0.95."
    )
    alpha: float = Field(
        0.05, gt=0, lt=0.5, description="Level of q and of equivalence for a verdict. Default 0.05."
    )
    n_bootstrap: int = Field(
        5000, ge=200, description="Bootstrap resamples of pictures or runs. Default 5000."
    )
    n_permutations: int = Field(
        10000,
        ge=99,
        description="Exchanges of the two models in whole pictures or runs; all of them where "
        "there are no more. Default 10000.",
    )
    equivalence_margins: dict[str, float] = Field(
        {"top_1": 0.05, "top_5": 0.05, "pairwise": 0.02},
        description="For a score, the largest difference that still counts as none. Default top_1 "
        "0.05, top_5 0.05, pairwise 0.02.",
    )
    held_out_column: str = Field(
        "held_out",
        min_length=1,
        description="Column of the stimuli's table that flags pictures of held-out categories or "
        "compositions (True/False or 1/0); they are compared by themselves too. Default held_out.",
    )
    geometry_draws: int = Field(
        20,
        ge=0,
        description="Draws of a synthetic decoder of the same correlation in both spaces, which "
        "says how much of a difference the space alone makes; 0 leaves it out. Default 20.",
    )
    geometry_noise: Literal["residual", "isotropic"] = Field(
        "residual",
        description="Noise of that decoder: residual (default) has the covariance of the real "
        "decoder's errors in each space; isotropic is alike in all directions, which makes "
        "identification too easy where an embedding varies in few of its dimensions.",
    )
    common_space: bool = Field(
        True,
        description="Also judge both in the original space and both in the adapted one, through a "
        "linear map learnt on the training pictures.",
    )

    @field_validator("equivalence_margins")
    @classmethod
    def _margins_are_shares(cls, value: dict[str, float]) -> dict[str, float]:
        if any(not 0 < margin < 1 for margin in value.values()):
            raise ValueError("each margin must be above 0 and below 1")
        return value


def control_label(encoder: str, control: str) -> str:
    """Return the name of a control's encoder, e.g. ``adapted-weight-noise``."""
    return f"{encoder}-{control.replace('_', '-')}"


def with_controls(
    encoders: Sequence[EncoderConfig], adaptations: Sequence[AdaptationConfig]
) -> list[EncoderConfig]:
    """Return the encoders with one for each control of an adaptation that they use, once each.

    Raises
    ------
    ValueError
        Another encoder has the name of a control.
    """
    wanted = {item.name: item.controls for item in adaptations}
    named = {item.name: item for item in encoders}
    found = list(encoders)
    for item in encoders:
        if item.kind != "adapted" or item.control is not None:
            continue
        for control in wanted.get(str(item.adaptation), ()):
            label = control_label(item.name, control)
            made = item.model_copy(update={"name": label, "control": control})
            if label not in named:
                found.append(made)
            elif named[label] != made:
                raise ValueError(
                    f"the control {control} of encoder '{item.name}' is called '{label}', and so "
                    "is another encoder. Call that one otherwise"
                )
    return found


def check_adaptations(
    adaptations: Sequence[AdaptationConfig],
    encoders: Sequence[EncoderConfig],
    *,
    has_stimuli: bool,
) -> None:
    """Refuse adaptations and adapted encoders that do not name each other.

    Raises
    ------
    ValueError
        The first problem.
    """
    by_name = {item.name: item for item in encoders}
    known = {item.name: item for item in adaptations}
    for item in adaptations:
        start = by_name.get(item.initial)
        able = [e.name for e in encoders if e.kind in ADAPTABLE]
        if start is None or start.kind not in ADAPTABLE:
            raise ValueError(
                f"adaptation '{item.name}': initial '{item.initial}' is none of the study's "
                f"encoders of kind {', '.join(ADAPTABLE)}, which are {some(able) or 'none'}"
            )
        if not has_stimuli:
            raise ValueError(
                f"adaptation '{item.name}': the study has no `stimuli`, so nothing says which "
                "pictures are tested and must not be trained on. Name the table"
            )
    for encoder in encoders:
        if encoder.kind != "adapted":
            continue
        if encoder.adaptation not in known:
            raise ValueError(
                f"encoder '{encoder.name}': '{encoder.adaptation}' is none of the study's "
                f"`adaptations`, which are {some(known) or 'none'}"
            )
        start = by_name[known[encoder.adaptation].initial]
        apart = [key for key in ALIKE if getattr(encoder, key) != getattr(start, key)]
        if start.kind != "scenes" and encoder.precision != start.precision:
            apart.append("precision")
        if apart:
            raise ValueError(
                f"encoder '{encoder.name}' differs from '{start.name}', which it is adapted from, "
                f"in {', '.join(apart)}; a difference in decoding would not be one of adaptation. "
                "Set them alike"
            )
        if _leads_to(encoder.name, by_name, known):
            raise ValueError(
                f"encoder '{encoder.name}' is adapted from itself, directly or through others. "
                "Start from an encoder of another kind"
            )


def starts_from_scenes(
    name: str, encoders: Sequence[EncoderConfig], adaptations: Sequence[AdaptationConfig]
) -> bool:
    """Tell whether an encoder is the scenes CLIP, or was adapted from it, perhaps through others.

    The scenes CLIP always encodes in float32, and so does what is compared with it.
    """
    by_name = {item.name: item for item in encoders}
    start = {item.name: item.initial for item in adaptations}
    at = by_name[name]
    while at.kind == "adapted":
        at = by_name[start[str(at.adaptation)]]
    return at.kind == "scenes"


def _leads_to(
    name: str, encoders: dict[str, EncoderConfig], adaptations: dict[str, AdaptationConfig]
) -> bool:
    """Tell whether the chain of initial encoders comes back to where it began."""
    seen: set[str] = set()
    at = encoders.get(name)
    while at is not None and at.kind == "adapted" and at.adaptation in adaptations:
        if at.name in seen:
            return True
        seen.add(at.name)
        at = encoders.get(adaptations[str(at.adaptation)].initial)
    return False
