"""Two-tower models of transformers other than CLIP: SigLIP, Chinese CLIP, AltCLIP, ...

They are computed by transformers itself, with the processor that lies in their directory.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from PIL import Image

from braindecode_clip.clip.hf_clip import weight_files
from braindecode_clip.clip.hf_preprocess import PREPROCESSOR_FILE
from braindecode_clip.clip.hub import needs_extra
from braindecode_clip.clip.open_clip_models import own_words
from braindecode_clip.clip.parts import Parts, Request
from braindecode_clip.errors import ConfigError, DataError

_LIBRARIES = ("transformers", "tokenizers", "torch", "torchvision", "pillow")


class TwoTowers(torch.nn.Module):
    """A model of transformers with the methods of open_clip's.

    Parameters
    ----------
    model : Module
        With ``get_image_features`` and ``get_text_features``.
    """

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def encode_image(self, pictures: torch.Tensor) -> torch.Tensor:
        """Map pictures (n, 3, height, width) to vectors (n, n_dims)."""
        return self.model.get_image_features(pixel_values=pictures).pooler_output

    def encode_text(self, tokens: Any) -> torch.Tensor:
        """Map the tokenizer's output to vectors (n, n_dims)."""
        return self.model.get_text_features(**tokens).pooler_output


class PaddedTokenizer:
    """A tokenizer of transformers that pads every text to the model's length.

    SigLIP was trained on padded texts without a mask, so shorter batches change its vectors.
    """

    def __init__(self, tokenizer: Any, *, context_length: int) -> None:
        self.tokenizer, self.context_length = tokenizer, context_length

    def __call__(self, texts: list[str]) -> Any:
        """Return the ids (n, context_length), and the mask where the tokenizer makes one."""
        return self.tokenizer(
            texts,
            return_tensors="pt",
            padding="max_length",
            truncation=True,
            max_length=self.context_length,
        )


def wrapped_parts(
    directory: Path, request: Request, *, name: str | None = None, tag: str = "local"
) -> Parts:
    """Load a two-tower model in the layout of transformers.

    Raises
    ------
    ConfigError
        The request names weights, a tag or an activation: all are the directory's own.
    DataError
        transformers is not installed, files are missing or damaged, or the model has no two
        towers.
    """
    own_words(directory, request)
    if request.weights is not None:
        raise ConfigError(f"{directory}: is a model with its own weights; leave 'weights' out.")
    try:
        from transformers import AutoImageProcessor, AutoModel, AutoTokenizer
    except ModuleNotFoundError as error:
        raise DataError(needs_extra(str(directory), "transformers")) from error
    files = weight_files(directory)
    try:
        model = AutoModel.from_pretrained(str(directory), dtype=torch.float32)
        processor = AutoImageProcessor.from_pretrained(str(directory))
        tokenizer = AutoTokenizer.from_pretrained(str(request.tokenizer or directory))
    except Exception as error:
        # transformers raises a dozen types for damaged or missing files.
        raise DataError(
            f"{directory}: cannot be loaded through transformers ({type(error).__name__}: "
            f"{str(error).splitlines()[0]}). It needs config.json, {PREPROCESSOR_FILE}, weights "
            "and the tokenizer's files; fetch them from the model's source."
        ) from error
    if not (hasattr(model, "get_image_features") and hasattr(model, "get_text_features")):
        raise DataError(
            f"{directory}: {type(model).__name__} has no image and text tower in one space. Text "
            "models go by kind: sentence_transformers."
        )
    towers = TwoTowers(model).to(request.device).eval()
    length = model.config.text_config.max_position_embeddings
    pictures = processor(images=[Image.new("RGB", (8, 8))], return_tensors="pt")["pixel_values"]
    with torch.inference_mode():
        n_dims = towers.encode_image(pictures.to(request.device)).shape[-1]
    vision = model.config.vision_config
    return Parts(
        name=name or directory.name,
        tag=tag,
        model=towers,
        n_dims=int(n_dims),
        preprocess=lambda image: processor(images=[image], return_tensors="pt")["pixel_values"][0],
        tokenize=PaddedTokenizer(tokenizer, context_length=int(length)),
        files=files,
        preprocessing=_settings(processor),
        quick_gelu=getattr(vision, "hidden_act", "") == "quick_gelu",
        libraries=_LIBRARIES,
    )


def _settings(processor: Any) -> dict[str, Any]:
    sizes = ["size", "crop_size", "resample", "image_mean", "image_std", "rescale_factor"]
    keys = [*sizes, "do_resize", "do_center_crop", "do_rescale", "do_normalize"]
    given = processor.to_dict()
    found = {key: given[key] for key in keys if given.get(key) is not None}
    return {"processor": type(processor).__name__, **found}
