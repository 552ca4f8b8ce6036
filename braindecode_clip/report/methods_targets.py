"""Methods text: what the decoders' targets are made of."""

from __future__ import annotations

from braindecode_clip.config.embed import EncoderConfig
from braindecode_clip.report.numbers import plain
from braindecode_clip.report.sources import Citations


def describe_targets(encoder: EncoderConfig, cite: Citations) -> str:
    """Return a sentence about one set of targets."""
    maker = {
        "scenes": "the small CLIP model that ships with the package",
        "open_clip": f"{encoder.model} ({encoder.pretrained or 'weights from a file'})",
        "hub": f"{encoder.model} (Hugging Face)",
        "local": "a CLIP model from a local directory",
        "timm": f"{encoder.model} (timm)",
        "sentence_transformers": f"{encoder.model} (sentence-transformers)",
        "adapted": _adapted(encoder),
        "precomputed": "a file of vectors that were computed beforehand",
    }[encoder.kind]
    one_tower = encoder.kind in ("timm", "sentence_transformers")
    what = "embeddings" if one_tower else f"CLIP embeddings {cite('clip')}"
    through = f" through open_clip {cite('openclip')}" if encoder.kind == "open_clip" else ""
    source = f" ({encoder.source})" if encoder.source else ""
    if encoder.targets != "pooled":
        return (
            f"Targets {encoder.name} are {describe_tokens(encoder)} of the {_stimuli(encoder)} "
            f"from {maker}{through} {cite('clip')}, as {cite('mindeye')} decode tokens; those of a "
            "picture have a root mean square norm of 1 and were compared laid end to end. "
            "Contrastive and MLP decoders predicted them by their principal components over the "
            "training pictures."
        )
    scaled = "scaled to unit norm" if encoder.unit_norm else "with the lengths that they have"
    return (
        f"Targets {encoder.name} are {what} of the {_stimuli(encoder)} from {maker}{through}"
        f"{source}, {scaled}{_together(encoder)}."
    )


def _adapted(encoder: EncoderConfig) -> str:
    """Name a model that the study adapted, or a control of it."""
    return {
        None: f"a CLIP model adapted in this study ({encoder.adaptation})",
        "shuffled_captions": "a CLIP model adapted in this study to pictures with the captions of "
        f"others ({encoder.adaptation}), as a control",
        "weight_noise": "a CLIP model with random changes of its weights as large as those of an "
        f"adaptation ({encoder.adaptation}), as a control",
    }[encoder.control]


def describe_tokens(encoder: EncoderConfig) -> str:
    """Name the hidden states of a vision transformer that are targets."""
    last = encoder.targets == "tokens"
    projected = last if encoder.token_projection is None else encoder.token_projection
    parts = [
        "the hidden states of the last block" + ("" if last else " but one"),
        "layer-normed" if last or projected else "",
        "projected to the shared space" if projected else "",
        "" if encoder.class_token else "without the class token",
    ]
    return ", ".join(part for part in parts if part)


def _stimuli(encoder: EncoderConfig) -> str:
    if encoder.kind == "precomputed":
        return {"image": "pictures", "text": "texts"}[encoder.modality]
    captions = "captions" if encoder.modality == "both" else "texts"
    n_columns = len(encoder.caption_columns)
    if n_columns > 1:
        joined = "averaged" if encoder.captions == "average" else "one after another"
        captions = f"captions ({n_columns} of a stimulus, {joined})"
    return {"image": "pictures", "text": captions, "both": f"pictures and the {captions}"}[
        encoder.modality
    ]


def _together(encoder: EncoderConfig) -> str:
    if encoder.modality != "both":
        return ""
    joined = encoder.combine == "concatenate"
    how = "joined, so that their cosines are averaged" if joined else "averaged"
    return f"; both were {how} with a weight of {plain(encoder.text_weight)} for the captions"
