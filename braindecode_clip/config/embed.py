"""Options of ``embed``: what makes the target vectors."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from braindecode_clip.config.base import Section
from braindecode_clip.config.datasets import LABEL

#: Keys that each kind cannot do without.
_NEEDED = {"scenes": (), "open_clip": ("model",), "local": ("model",), "precomputed": ("vectors",)}
_USED = {
    "scenes": {"batch_size"},
    "open_clip": {"model", "pretrained", "weights", "quick_gelu", "precision", "batch_size"},
    "local": {"model", "precision", "batch_size"},
    "precomputed": {
        "vectors",
        "names",
        "names_column",
        "vectors_key",
        "names_key",
        "source",
    },
}


class EncoderConfig(Section):
    """One set of target vectors: an encoder for pictures or captions, or a file of vectors."""

    name: str = Field(pattern=LABEL, description="Label used in file names and tables.")
    kind: Literal["scenes", "open_clip", "local", "precomputed"] = Field(
        "scenes",
        description="scenes: the small CLIP that ships with the project; open_clip: a model of "
        "that library by name and pretrained tag; local: a model directory with "
        "open_clip_config.json; precomputed: vectors from a file.",
    )
    modality: Literal["image", "text"] = Field(
        "image", description="Encode the stimuli's pictures or their captions."
    )
    model: str | None = Field(
        None, description="open_clip: model name, e.g. ViT-B-32; local: the directory."
    )
    pretrained: str | None = Field(
        None, description="open_clip: pretrained tag, e.g. openai, or a checkpoint file."
    )
    weights: str | None = Field(
        None,
        description="open_clip: checkpoint file that holds the weights of the tag, for machines "
        "without network; preprocessing and activation still come from the tag.",
    )
    quick_gelu: bool | None = Field(
        None,
        description="open_clip: activation of a bare checkpoint file, which does not record "
        "it; null takes it from the tag or the model.",
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto",
        description="open_clip, local: number format of the model; part of the fingerprint. auto: "
        "bfloat16 (on a CPU about three times faster) where the processor has it and probe "
        "pictures and texts keep a cosine of 0.9999 to float32, else float32. Name one where "
        "machines of several kinds share a study.",
    )
    batch_size: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        "auto",
        description="Pictures or captions encoded at once; auto: what fits into memory. Halved "
        "when memory runs out. Other sizes change the last bits of the vectors at most.",
    )
    vectors: str | None = Field(
        None,
        description="precomputed: .npy matrix (n_names, n_dims), or .npz or .h5 that also holds "
        "the names.",
    )
    names: str | None = Field(
        None, description="precomputed: .tsv with the name of every row of an .npy matrix."
    )
    names_column: str = Field("name", description="precomputed: column of the names.")
    vectors_key: str = Field("vectors", description="precomputed: array in an .npz or .h5 file.")
    names_key: str = Field("names", description="precomputed: names in an .npz or .h5 file.")
    source: str = Field(
        "", description="precomputed: what made the vectors, in words; part of the fingerprint."
    )

    @model_validator(mode="after")
    def _keys_fit_the_kind(self) -> EncoderConfig:
        missing = [key for key in _NEEDED[self.kind] if not getattr(self, key)]
        if missing:
            raise ValueError(f"kind '{self.kind}' needs '{missing[0]}'")
        common = {"name", "kind", "modality"}
        extra = sorted(self.model_fields_set - common - _USED[self.kind])
        extra = [k for k in extra if getattr(self, k) != type(self).model_fields[k].default]
        if extra:
            raise ValueError(
                f"kind '{self.kind}' does not use {', '.join(map(repr, extra))}; it uses "
                f"{', '.join(sorted(_USED[self.kind]))}"
            )
        if self.kind == "open_clip" and not (self.pretrained or self.weights):
            raise ValueError("kind 'open_clip' needs 'pretrained' (a tag) or 'weights' (a file)")
        return self
