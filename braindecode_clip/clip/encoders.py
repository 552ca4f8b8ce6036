"""Load a model as an encoder: pictures or texts in, vectors out, whatever the model's origin."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps

from braindecode_clip.checks import Problems, some
from braindecode_clip.clip.fingerprint import make_fingerprint
from braindecode_clip.clip.forward import Forward
from braindecode_clip.clip.parts import Parts, Request
from braindecode_clip.clip.pixels import Pixels
from braindecode_clip.clip.registry import load_parts
from braindecode_clip.clip.tokens import TokenEncoder
from braindecode_clip.clip.torchvision_compat import import_open_clip
from braindecode_clip.errors import ConfigError

open_clip = import_open_clip()

logger = logging.getLogger(__name__)

Picture = str | Path | Image.Image


class ClipEncoder:
    """A model of pictures, texts or both, in evaluation mode.

    Made by :func:`load_encoder`.

    Attributes
    ----------
    name : str
        The model's name.
    device : torch.device
        Where it computes.
    model : Module
        In evaluation mode; with ``encode_image`` and ``encode_text`` as far as it has the
        towers. open_clip's own, but for models of other libraries.
    n_dims : int
        Dimensions of the vectors.
    n_tokens : int
        Vectors that a stimulus gets: 1, the pooled one.
    modalities : frozenset of str
        "image", "text" or both: which of the two methods it has a tower for.
    unit_norm : bool
        Whether vectors are divided by their norm.
    fingerprint : dict
        What the vectors depend on (:func:`~braindecode_clip.clip.fingerprint.make_fingerprint`).
        Vectors may be compared only when their fingerprints are equal.
    """

    n_tokens = 1

    def __init__(self, parts: Parts, *, device: torch.device, unit_norm: bool = True) -> None:
        self.name, self.device, self.unit_norm = parts.name, device, unit_norm
        self.model, self._tokenize = parts.model, parts.tokenize
        self._preprocess = parts.preprocess
        self._pixels = None if parts.preprocess is None else Pixels(parts.preprocess)
        self._forward = Forward(device, self._pixels, unit_norm=unit_norm)
        towers = {"image": parts.preprocess, "text": parts.tokenize}
        self.modalities = frozenset(key for key, tower in towers.items() if tower is not None)
        self.n_dims = parts.n_dims
        encode = self.encode_image if "image" in self.modalities else self.encode_text
        self.fingerprint: dict[str, Any] = make_fingerprint(parts, encode, unit_norm=unit_norm)

    @property
    def logit_scale(self) -> float | None:
        """The factor on the cosines that the model was trained with, e.g. 100; None without."""
        scale = getattr(self.model, "logit_scale", None)
        return None if scale is None else float(scale.detach().exp())

    def encode_image(self, images: Sequence[Picture], *, batch_size: int = 64) -> np.ndarray:
        """Encode pictures.

        Parameters
        ----------
        images : sequence of path or PIL image
            Any mode that Pillow converts to RGB.
        batch_size : int
            Pictures at once.

        Returns
        -------
        ndarray (n, n_dims) float32
            Unit norm, unless the encoder was loaded with ``unit_norm=False``.

        Raises
        ------
        ConfigError
            The model has no image tower.
        DataError
            Pictures are missing or damaged; all of them are listed.
        """
        if isinstance(images, str | Path | Image.Image):
            images = [images]

        vectors = np.empty((len(images), self.n_dims), dtype=np.float32)
        for start in range(0, len(images), batch_size):
            part = slice(start, start + batch_size)
            prepared = [self.prepare_image(image) for image in _opened(images[part], images)]
            vectors[part] = self.encode_prepared(prepared)
        return vectors

    def prepare_image(self, picture: Image.Image | np.ndarray) -> np.ndarray:
        """Resize and crop one RGB picture (also (height, width, 3) uint8); safe in threads.

        Returns
        -------
        ndarray
            What :meth:`encode_prepared` takes: usually (height, width, 3) uint8.
        """
        if self._pixels is None:
            raise self._lacks("image")
        is_array = isinstance(picture, np.ndarray)
        return self._pixels.prepare(Image.fromarray(picture) if is_array else picture)

    def encode_prepared(self, prepared: Sequence[np.ndarray]) -> np.ndarray:
        """Encode prepared pictures as one batch; safe in threads; see :meth:`encode_image`."""
        return self._forward.images(self.model.encode_image, prepared)

    @property
    def precision(self) -> str:
        """ "float32", "bfloat16" (weights) or "bfloat16 autocast"."""
        return self._forward.precision

    def set_precision(self, precision: str) -> None:
        """Follow the weights' precision; :func:`.precision.settle_precision` changes them."""
        self._forward.precision = self.fingerprint["precision"] = precision

    def encode_text(self, texts: Sequence[str], *, batch_size: int = 256) -> np.ndarray:
        """Encode texts.

        Parameters
        ----------
        texts : sequence of str
            Texts longer than the model's context are cut, with a warning in the log.
        batch_size : int
            Texts at once.

        Returns
        -------
        ndarray (n, n_dims) float32
            Unit norm, unless the encoder was loaded with ``unit_norm=False``.

        Raises
        ------
        ConfigError
            The model has no text tower.
        """
        tokenize = self._tokenize
        if tokenize is None:
            raise self._lacks("text")
        texts = [texts] if isinstance(texts, str) else list(texts)
        self._warn_if_cut(texts)

        vectors = np.empty((len(texts), self.n_dims), dtype=np.float32)
        for start in range(0, len(texts), batch_size):
            part = slice(start, start + batch_size)
            # Ids, or ids and mask together, which move to a device like a tensor.
            tokens = tokenize(texts[part])
            tokens = tokens if hasattr(tokens, "to") else torch.as_tensor(tokens)
            vectors[part] = self._forward.texts(self.model.encode_text, tokens)
        return vectors

    def token_encoder(self, **choices: Any) -> TokenEncoder:
        """Return the encoder of the image tower's tokens; see :class:`.tokens.TokenEncoder`."""
        if self._preprocess is None:
            raise self._lacks("image")
        return TokenEncoder(
            self.model,
            self._preprocess,
            fingerprint=self.fingerprint,
            name=self.name,
            **choices,
        )

    def _lacks(self, modality: str) -> ConfigError:
        return ConfigError(
            f"encoder {self.name}: has no {modality} tower. Set modality: "
            f"{' or '.join(sorted(self.modalities))}, or choose a CLIP model."
        )

    def _warn_if_cut(self, texts: list[str]) -> None:
        # Our own tokenizer warns by itself; open_clip's and transformers' cut in silence.
        tokenize = self._tokenize
        if isinstance(tokenize, open_clip.SimpleTokenizer):
            limit = tokenize.context_length - 2
            cut = [text for text in texts if len(tokenize.encode(text)) > limit]
        elif hasattr(tokenize, "tokenizer"):
            limit = tokenize.context_length
            ids = tokenize.tokenizer(texts, truncation=False, verbose=False)["input_ids"]
            cut = [text for text, own in zip(texts, ids, strict=True) if len(own) > limit]
        else:
            return
        if cut:
            logger.warning(
                "%d texts are longer than the model's %d tokens and are cut: %s. Shorten them.",
                len(cut),
                limit,
                some(cut, limit=2),
            )


def load_encoder(
    name: str,
    pretrained: str | None = None,
    *,
    device: str = "auto",
    weights: str | Path | None = None,
    quick_gelu: bool | None = None,
    tokenizer: str | Path | None = None,
    unit_norm: bool = True,
) -> ClipEncoder:
    """Load an encoder.

    Parameters
    ----------
    name : str
        Any name of :mod:`~braindecode_clip.clip.registry`: ``"scenes"`` (ships with the
        project), a model of open_clip, ``"hf-hub:org/name"``, a directory, ``"timm:name"`` or
        ``"sentence-transformers:name"``.
    pretrained : str, optional
        For open_clip's models: a pretrained tag, or a checkpoint file.
    device : str
        "auto" (CUDA where there is one, else CPU) or a torch device.
    weights : path, optional
        A checkpoint file in place of the model's own; no network is used for it.
    quick_gelu : bool, optional
        Activation of a bare checkpoint file, which does not record it.
    tokenizer : path, optional
        Folder with the files of the model's tokenizer, where it would have to be downloaded.
    unit_norm : bool
        Divide every vector by its norm.

    Returns
    -------
    ClipEncoder
        With ``encode_image``, ``encode_text``, ``n_dims``, ``n_tokens``, ``name``, ``device``
        and ``fingerprint``.

    Raises
    ------
    ConfigError
        Unknown model, tag or device, or an activation that does not fit the weights.
    DataError
        Weights that are not at hand and cannot be downloaded, are damaged, or are of another
        architecture.

    Examples
    --------
    >>> encoder = load_encoder("scenes")
    >>> vectors = encoder.encode_text(["a small red circle"])
    >>> vectors.shape, vectors.dtype
    ((1, 128), dtype('float32'))
    """
    place = choose_device(device)
    request = Request(
        pretrained=pretrained,
        weights=None if weights is None else Path(weights),
        quick_gelu=quick_gelu,
        tokenizer=None if tokenizer is None else Path(tokenizer),
        device=place,
    )
    return ClipEncoder(load_parts(name, request), device=place, unit_norm=unit_norm)


def choose_device(device: str) -> torch.device:
    """Return the torch device of a name; "auto" takes CUDA where there is one.

    Raises
    ------
    ConfigError
        Torch knows no such device, or this machine has none.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        place = torch.device(device)
    except RuntimeError as error:
        raise ConfigError(f"device '{device}': unknown. Use auto, cpu, cuda or cuda:N.") from error
    if place.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"device '{device}': this machine has no CUDA device. Use auto or cpu.")
    return place


def _opened(part: Sequence[Picture], whole: Sequence[Picture]) -> list[Image.Image]:
    """Open the pictures of a batch; on a failure look through all and list every one."""
    try:
        return [open_picture(item) for item in part]
    except OSError:
        problems = Problems("pictures")
        for item in whole:
            try:
                open_picture(item)
            except OSError as error:
                problems.add(f"{item}: cannot be read ({error}). Restore or leave it out.")
        problems.raise_if_any()
        raise


def open_picture(picture: Picture) -> Image.Image:
    """Return a picture as RGB, read in full and upright; what is transparent becomes white.

    White is what transparent pictures stood on when the large collections of pairs were made
    (img2dataset). Pillow's own conversion shows the colours hidden under the transparency,
    mostly black, so that black line art is black all over.

    Raises
    ------
    OSError
        The file is missing, cut off, or no picture.
    """
    if isinstance(picture, Image.Image):
        return _opaque(picture)
    with Image.open(picture) as image:
        return _opaque(image)


def _opaque(image: Image.Image) -> Image.Image:
    # As io.images.opaque does for training pictures: upright by EXIF, 16 bits scaled to 8.
    image = ImageOps.exif_transpose(image) or image
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8))
    if not image.has_transparency_data:
        return image.convert("RGB")
    layer = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
