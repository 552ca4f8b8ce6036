"""Load a CLIP model as an encoder: pictures or texts in, unit vectors out."""

from __future__ import annotations

import importlib.metadata
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from braindecode_clip.checks import Problems, some
from braindecode_clip.clip.forward import Forward
from braindecode_clip.clip.models import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    LoadedModel,
    load_model_directory,
    quiet_open_clip,
)
from braindecode_clip.clip.pixels import Pixels
from braindecode_clip.clip.pretrained import Source, embedded_model, resolve
from braindecode_clip.clip.torchvision_compat import import_open_clip
from braindecode_clip.errors import ConfigError, DataError
from braindecode_clip.provenance import file_sha256

open_clip = import_open_clip()

#: Names of the models that ship with the project.
EMBEDDED = ("scenes",)

_PROBE_SIZE_PX = 96
_PROBE_VALUES = 4
_PROBE_DECIMALS = 3

logger = logging.getLogger(__name__)

Picture = str | Path | Image.Image


class ClipEncoder:
    """A CLIP model in evaluation mode.

    Made by :func:`load_encoder`.

    Attributes
    ----------
    name : str
        The model's name.
    device : torch.device
        Where it computes.
    model : Module
        open_clip's, in evaluation mode.
    n_dims : int
        Dimensions of the shared space.
    fingerprint : dict
        What the vectors depend on: model, tag, sha256 of the weights, preprocessing,
        precision, library versions, dimensions, and the first values of the vector of a
        fixed probe picture (rounded, so that they agree between machines). Vectors may be
        compared only when their fingerprints are equal.
    """

    def __init__(
        self, loaded: LoadedModel, *, name: str, tag: str, weights: Path, device: torch.device
    ) -> None:
        self.name, self.device = name, device
        self.model, self._tokenize = loaded.model, loaded.tokenize
        self._pixels = Pixels(loaded.preprocess)
        self._forward = Forward(device, self._pixels)
        self.n_dims = int(loaded.config["model_cfg"]["embed_dim"])
        self.fingerprint: dict[str, Any] = {
            "name": name,
            "tag": tag,
            "weights_sha256": file_sha256(weights),
            "preprocessing": _jsonable(loaded.config["preprocess_cfg"]),
            "quick_gelu": bool(loaded.config["model_cfg"].get("quick_gelu", False)),
            "precision": self.precision,
            "n_dims": self.n_dims,
            "open_clip": importlib.metadata.version("open_clip_torch"),
            "torch": torch.__version__.split("+")[0],
        }
        probe = self.encode_image([probe_picture()])[0, :_PROBE_VALUES]
        self.fingerprint["probe"] = [round(float(v), _PROBE_DECIMALS) + 0.0 for v in probe]

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
            Unit norm.

        Raises
        ------
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
            Unit norm.
        """
        texts = [texts] if isinstance(texts, str) else list(texts)
        self._warn_if_cut(texts)

        vectors = np.empty((len(texts), self.n_dims), dtype=np.float32)
        for start in range(0, len(texts), batch_size):
            part = slice(start, start + batch_size)
            tokens = torch.as_tensor(self._tokenize(texts[part]))
            vectors[part] = self._forward.texts(self.model.encode_text, tokens)
        return vectors

    def _warn_if_cut(self, texts: list[str]) -> None:
        # Our own tokenizer warns by itself; open_clip's cuts in silence.
        if not isinstance(self._tokenize, open_clip.SimpleTokenizer):
            return
        limit = self._tokenize.context_length - 2
        cut = [text for text in texts if len(self._tokenize.encode(text)) > limit]
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
) -> ClipEncoder:
    """Load an encoder.

    Parameters
    ----------
    name : str
        ``"scenes"`` (ships with the project), a directory with ``open_clip_config.json``
        and ``open_clip_model.safetensors``, or a model name of open_clip.
    pretrained : str, optional
        For open_clip's models: a pretrained tag, or a checkpoint file.
    device : str
        "auto" (CUDA where there is one, else CPU) or a torch device.
    weights : path, optional
        A checkpoint file with the weights of the tag; no network is used then.
    quick_gelu : bool, optional
        Activation of a bare checkpoint file, which does not record it.

    Returns
    -------
    ClipEncoder
        With ``encode_image``, ``encode_text``, ``n_dims``, ``name``, ``device`` and
        ``fingerprint``.

    Raises
    ------
    ConfigError
        Unknown model, tag or device, or an activation that does not fit the weights.
    DataError
        Weights that are not at hand and cannot be downloaded, or are damaged.

    Examples
    --------
    >>> encoder = load_encoder("scenes")
    >>> vectors = encoder.encode_text(["a small red circle"])
    >>> vectors.shape, vectors.dtype
    ((1, 128), dtype('float32'))
    """
    place = choose_device(device)
    directory = _directory(name)
    if directory is not None:
        if pretrained or weights:
            raise ConfigError(
                f"{name}: is a model with its own weights; leave 'pretrained' and 'weights' out."
            )
        loaded = load_model_directory(directory, device=place)
        label = name if name in EMBEDDED else directory.name
        return ClipEncoder(
            loaded, name=label, tag="local", weights=directory / WEIGHTS_FILE, device=place
        )
    source = resolve(name, pretrained, weights=weights, quick_gelu=quick_gelu)
    loaded = _load(source, place)
    return ClipEncoder(loaded, name=name, tag=source.tag, weights=source.weights, device=place)


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


def _directory(name: str) -> Path | None:
    """Return the model directory that a name stands for, or None for open_clip's names."""
    if name in EMBEDDED:
        return embedded_model(name)
    path = Path(name.removeprefix("local-dir:"))
    is_path = name.startswith("local-dir:") or (path / CONFIG_FILE).is_file()
    return path if is_path or len(path.parts) > 1 else None


def _load(source: Source, device: torch.device) -> LoadedModel:
    forced = {f"image_{key}": value for key, value in source.preprocess.items()}
    try:
        with quiet_open_clip():
            model, _, preprocess = open_clip.create_model_and_transforms(
                source.model,
                pretrained=str(source.weights),
                force_quick_gelu=source.quick_gelu,
                device=device,
                **forced,
            )
            tokenizer = open_clip.get_tokenizer(source.model)
    except Exception as error:
        # torch, safetensors, open_clip and the hub's client raise a dozen types here.
        raise DataError(
            f"{source.weights}: cannot be loaded as {source.model} ({type(error).__name__}: "
            f"{str(error).splitlines()[0] if str(error) else 'no message'}). Is the file whole, "
            "and is it a checkpoint of this model?"
        ) from error
    config = open_clip.get_model_config(source.model)
    config["quick_gelu"] = source.quick_gelu
    preprocess_cfg = dict(model.visual.preprocess_cfg)
    return LoadedModel(
        model.eval(), preprocess, tokenizer, {"model_cfg": config, "preprocess_cfg": preprocess_cfg}
    )


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
    """Return a picture as RGB, read in full.

    Raises
    ------
    OSError
        The file is missing, cut off, or no picture.
    """
    if isinstance(picture, Image.Image):
        return picture.convert("RGB")
    with Image.open(picture) as image:
        return image.convert("RGB")


def probe_picture() -> Image.Image:
    """Return a fixed picture with edges and all hues: two models rarely agree on it."""
    x, y = np.meshgrid(np.arange(_PROBE_SIZE_PX), np.arange(_PROBE_SIZE_PX))
    pixels = np.stack([2 * x, 2 * y, 255 * ((x // 8 + y // 8) % 2)], axis=-1)
    return Image.fromarray(pixels.astype(np.uint8))


def _jsonable(config: dict[str, Any]) -> dict[str, Any]:
    return {k: list(v) if isinstance(v, tuple) else v for k, v in sorted(config.items())}
