"""Load a CLIP model as an encoder: pictures or texts in, unit vectors out."""

from __future__ import annotations

import importlib.metadata
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from braindecode_clip.checks import Problems, some
from braindecode_clip.clip.models import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    LoadedModel,
    load_model_directory,
    quiet_open_clip,
)
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
        self._model, self._preprocess = loaded.model, loaded.preprocess
        self._tokenize = loaded.tokenize
        self.n_dims = int(loaded.config["model_cfg"]["embed_dim"])
        self.fingerprint: dict[str, Any] = {
            "name": name,
            "tag": tag,
            "weights_sha256": file_sha256(weights),
            "preprocessing": _jsonable(loaded.config["preprocess_cfg"]),
            "quick_gelu": bool(loaded.config["model_cfg"].get("quick_gelu", False)),
            "precision": "float32",
            "n_dims": self.n_dims,
            "open_clip": importlib.metadata.version("open_clip_torch"),
            "torch": torch.__version__.split("+")[0],
        }
        probe = self.encode_image([_probe_picture()])[0, :_PROBE_VALUES]
        self.fingerprint["probe"] = [round(float(v), _PROBE_DECIMALS) + 0.0 for v in probe]

    @property
    def logit_scale(self) -> float | None:
        """The factor on the cosines that the model was trained with, e.g. 100; None without."""
        scale = getattr(self._model, "logit_scale", None)
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
            Unit norm.

        Raises
        ------
        DataError
            Pictures are missing or damaged; all of them are listed.
        """
        if isinstance(images, str | Path | Image.Image):
            images = [images]

        def prepare(part: Sequence[Picture]) -> torch.Tensor:
            return torch.stack([self._preprocess(image) for image in _opened(part, images)])

        return self._encode(images, prepare, self._model.encode_image, batch_size)

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

        def prepare(part: Sequence[str]) -> torch.Tensor:
            return torch.as_tensor(self._tokenize(list(part)))

        return self._encode(texts, prepare, self._model.encode_text, batch_size)

    def _encode(
        self,
        items: Sequence[Any],
        prepare: Callable[[Sequence[Any]], torch.Tensor],
        encode: Callable[[torch.Tensor], torch.Tensor],
        batch_size: int,
    ) -> np.ndarray:
        vectors = np.empty((len(items), self.n_dims), dtype=np.float32)
        with torch.inference_mode():
            for start in range(0, len(items), batch_size):
                part = slice(start, start + batch_size)
                features = encode(prepare(items[part]).to(self.device)).float()
                unit = torch.nn.functional.normalize(features, dim=-1)
                vectors[part] = unit.cpu().numpy()
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
    """Return a picture as RGB, read in full; what is transparent becomes white.

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
    if not image.has_transparency_data:
        return image.convert("RGB")
    layer = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")


def _probe_picture() -> Image.Image:
    """Return a fixed picture with edges and all hues: two models rarely agree on it."""
    x, y = np.meshgrid(np.arange(_PROBE_SIZE_PX), np.arange(_PROBE_SIZE_PX))
    pixels = np.stack([2 * x, 2 * y, 255 * ((x // 8 + y // 8) % 2)], axis=-1)
    return Image.fromarray(pixels.astype(np.uint8))


def _jsonable(config: dict[str, Any]) -> dict[str, Any]:
    return {k: list(v) if isinstance(v, tuple) else v for k, v in sorted(config.items())}
