"""Options of ``embed``: what makes the target vectors."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from braindecode_clip.config.base import Section
from braindecode_clip.config.datasets import LABEL

#: Keys that say what is taken of an image tower.
_TOKENS = {"targets", "token_projection", "class_token", "token_dtype"}
#: Keys that each kind cannot do without.
_NEEDED = {
    "scenes": (),
    "open_clip": ("model",),
    "hub": ("model",),
    "local": ("model",),
    "timm": ("model",),
    "sentence_transformers": ("model",),
    "adapted": ("adaptation",),
    "precomputed": ("vectors",),
}
#: Keys of everything that is encoded here.
_ENCODED = {
    "batch_size",
    "unit_norm",
    "caption_columns",
    "captions",
    "combine",
    "text_weight",
}
_USED = {
    "scenes": _ENCODED,
    "open_clip": _ENCODED
    | _TOKENS
    | {"model", "pretrained", "weights", "quick_gelu", "tokenizer", "precision"},
    "hub": _ENCODED | _TOKENS | {"model", "tokenizer", "precision"},
    "local": _ENCODED | _TOKENS | {"model", "weights", "tokenizer", "precision"},
    "adapted": _ENCODED | _TOKENS | {"adaptation", "control", "tokenizer", "precision"},
    "timm": {"model", "weights", "precision", "batch_size", "unit_norm"},
    "sentence_transformers": {
        "model",
        "precision",
        "batch_size",
        "unit_norm",
        "caption_columns",
        "captions",
    },
    "precomputed": {
        "vectors",
        "names",
        "names_column",
        "vectors_key",
        "names_key",
        "source",
    },
}
#: Kinds with one tower.
_ONE_TOWER = {"timm": "image", "sentence_transformers": "text"}


class EncoderConfig(Section):
    """One set of target vectors: an encoder for pictures or captions, or a file of vectors."""

    name: str = Field(pattern=LABEL, description="Label used in file names and tables.")
    kind: Literal[
        "scenes",
        "open_clip",
        "hub",
        "local",
        "timm",
        "sentence_transformers",
        "adapted",
        "precomputed",
    ] = Field(
        "scenes",
        description="scenes: the small CLIP that ships with the project; open_clip: a model of "
        "that library by name and pretrained tag; hub: a repository of Hugging Face in "
        "open_clip's or transformers' layout, e.g. BiomedCLIP; local: a directory in either "
        "layout, also what `clip train` wrote; timm: an image encoder of that library; "
        "sentence_transformers: a text encoder; adapted: a model that the study adapts "
        "(`adaptations`); precomputed: vectors from a file. "
        "`braindecode-clip encoders` lists them.",
    )
    modality: Literal["image", "text", "both"] = Field(
        "image",
        description="Encode the stimuli's pictures, their captions, or both into one target.",
    )
    model: str | None = Field(
        None,
        description="open_clip: model name, e.g. ViT-B-32; hub: repository, e.g. org/name; local: "
        "the directory; timm: architecture and tag, e.g. vit_base_patch16_224.dino, or a "
        "directory; sentence_transformers: repository or directory.",
    )
    adaptation: str | None = Field(
        None, description="adapted: name of the adaptation whose model encodes."
    )
    control: Literal["shuffled_captions", "weight_noise"] | None = Field(
        None,
        description="adapted: take a control model of the adaptation instead; those that the "
        "adaptation lists in `controls` are added by themselves.",
    )
    pretrained: str | None = Field(
        None, description="open_clip: pretrained tag, e.g. openai, or a checkpoint file."
    )
    weights: str | None = Field(
        None,
        description="open_clip, timm: checkpoint file that holds the weights of the tag, for "
        "machines without network; preprocessing and activation still come from the tag. local: "
        "checkpoint file, or training state, in place of the directory's own weights.",
    )
    quick_gelu: bool | None = Field(
        None,
        description="open_clip: activation of a bare checkpoint file, which does not record "
        "it; null takes it from the tag or the model.",
    )
    targets: Literal["pooled", "penultimate", "tokens"] = Field(
        "pooled",
        description="open_clip, hub, local; pictures. pooled: one vector a stimulus. tokens: the "
        "last hidden states of a vision transformer, layer-normed and projected to the shared "
        "space (257 x 768 for ViT-L-14, as Brain-Diffuser and MindEye decode). penultimate: hidden "
        "states after the last block but one, as they are. Tokens are scaled to a root mean "
        "square norm of 1 in each picture, and decoded by ridge, contrastive and mlp.",
    )
    token_projection: bool | None = Field(
        None,
        description="tokens, penultimate: apply the last layer norm and the projection to the "
        "shared space. null: for tokens alone. False with tokens: layer-normed, in the width of "
        "the tower (256 x 1664 for ViT-bigG-14 without the class token, as MindEye2 decodes).",
    )
    class_token: bool = Field(
        True, description="tokens, penultimate: keep the token of the whole picture, the first."
    )
    token_dtype: Literal["float16", "float32"] = Field(
        "float16", description="tokens, penultimate: number format in the file."
    )
    tokenizer: str | None = Field(
        None,
        description="Folder with the tokenizer's files, where the model's own would have to be "
        "downloaded (SigLIP, BiomedCLIP, multilingual models).",
    )
    unit_norm: bool = Field(
        True,
        description="Divide every vector by its norm. false keeps the model's own lengths, which "
        "decoders then predict too; candidates are ranked by cosine all the same.",
    )
    caption_columns: list[str] = Field(
        default_factory=lambda: ["caption"],
        min_length=1,
        description="Columns of the stimulus table that hold captions. Default caption alone.",
    )
    captions: Literal["average", "each"] = Field(
        "average",
        description="Several captions of a stimulus: average of their vectors (empty cells are "
        "left out), or each: all vectors one after another, so that a cosine is the mean over "
        "captions.",
    )
    combine: Literal["average", "concatenate"] = Field(
        "concatenate",
        description="modality both. concatenate: the vectors one after another, so that a cosine "
        "is the weighted mean of both; average: their weighted mean, in the shared space.",
    )
    text_weight: float = Field(
        0.5,
        gt=0,
        lt=1,
        description="modality both: weight of the captions; the picture's is the rest.",
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto",
        description="All but scenes and precomputed: number format of the model; part of the "
        "fingerprint. auto: bfloat16 (on a CPU about three times faster) where the processor has "
        "it and probe pictures and texts keep a cosine of 0.9999 to float32, else float32. Name "
        "one where machines of several kinds share a study.",
    )
    batch_size: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        "auto",
        description="Pictures or captions encoded at once; auto: what fits into memory. Halved "
        "when memory runs out. Other sizes change the last bits of the vectors at most.",
    )
    vectors: str | None = Field(
        None,
        description="precomputed: .npy matrix (n_names, n_dims), or tokens (n_names, n_tokens, "
        "n_dims), or .npz or .h5 that also holds the names.",
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
        defaults = type(self).model_construct(name=self.name)
        extra = [k for k in extra if getattr(self, k) != getattr(defaults, k)]
        if extra:
            raise ValueError(
                f"kind '{self.kind}' does not use {', '.join(map(repr, extra))}; it uses "
                f"{', '.join(sorted(_USED[self.kind]))}"
            )
        if self.targets != "pooled" and self.modality != "image":
            raise ValueError(
                f"targets '{self.targets}' are of pictures; set 'modality: image' or 'targets: "
                "pooled'"
            )
        if self.targets != "pooled" and (not self.unit_norm or self.precision == "bf16"):
            raise ValueError(
                f"targets '{self.targets}' are made in float32 and scaled in each picture; leave "
                "'unit_norm' and 'precision' at their defaults"
            )
        unused = sorted((_TOKENS - {"targets"}) & self.model_fields_set)
        unused = [k for k in unused if getattr(self, k) != type(self).model_fields[k].default]
        if self.targets == "pooled" and unused:
            raise ValueError(f"targets 'pooled' do not use {', '.join(map(repr, unused))}")
        if self.kind == "open_clip" and not (self.pretrained or self.weights):
            raise ValueError("kind 'open_clip' needs 'pretrained' (a tag) or 'weights' (a file)")
        return self

    @model_validator(mode="after")
    def _modality_fits(self) -> EncoderConfig:
        tower = _ONE_TOWER.get(self.kind)
        if tower and self.modality != tower:
            raise ValueError(
                f"kind '{self.kind}' has no {'text' if tower == 'image' else 'image'} tower: set "
                f"'modality' to {tower}"
            )
        if self.kind == "precomputed" and self.modality == "both":
            raise ValueError("kind 'precomputed' is of one modality: 'image' or 'text'")
        if len(set(self.caption_columns)) < len(self.caption_columns):
            raise ValueError(f"'caption_columns' must differ, got {self.caption_columns}")
        several = self.captions == "each" and len(self.caption_columns) > 1
        if several and self.modality == "both" and self.combine == "average":
            raise ValueError(
                "'captions: each' has more dimensions than a picture: choose 'combine: "
                "concatenate' or 'captions: average'"
            )
        return self

    @property
    def modalities(self) -> tuple[Literal["image", "text"], ...]:
        """What is encoded: pictures, captions, or both."""
        return ("image", "text") if self.modality == "both" else (self.modality,)
