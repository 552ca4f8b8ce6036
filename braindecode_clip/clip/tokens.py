"""The tokens of a vision transformer's picture, where the pooled vector is the first of them.

=================  ==============================================================================
``tokens``         the last block's hidden states through the tower's last layer norm
                   (``ln_post``), each then multiplied by the projection to the shared space. For
                   ViT-L/14 257 x 768: the targets of Versatile Diffusion that Brain-Diffuser and
                   MindEye decode (Scotti et al., NeurIPS 2023), apart from one factor for each
                   picture: they divide by the class token's norm, here the root mean square norm
                   of the tokens is 1. The class token, normalised, is the pooled vector
``tokens``, not    the same without the projection, in the width of the tower. For ViT-bigG/14
projected          without the class token 256 x 1664: the targets of MindEye2
``penultimate``    hidden states after the last block but one, as they are; projected on request,
                   through ``ln_post`` too
=================  ==============================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image

from braindecode_clip.clip.torchvision_compat import import_open_clip
from braindecode_clip.errors import ConfigError

open_clip = import_open_clip()

TokenKind = Literal["tokens", "penultimate"]


class TokenEncoder:
    """The tokens of an image tower.

    Parameters
    ----------
    model : Module
        A CLIP model of open_clip in evaluation mode.
    preprocess : callable
        PIL image (RGB) to Tensor (3, height, width).
    fingerprint : dict
        Of the encoder that the model belongs to.
    name : str
        Of the encoder, for messages.
    kind : {"tokens", "penultimate"}
    projected : bool, optional
        By default for ``tokens`` alone.
    class_token : bool
        Keep the first token, which stands for the whole picture.

    Attributes
    ----------
    n_tokens, n_dims : int
    fingerprint : dict
        That of the encoder with the choices above.

    Raises
    ------
    ConfigError
        The image tower has no tokens, or no projection that fits them.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        preprocess: Callable[[Image.Image], torch.Tensor],
        *,
        fingerprint: dict[str, Any],
        name: str,
        kind: TokenKind = "tokens",
        projected: bool | None = None,
        class_token: bool = True,
    ) -> None:
        self._tower = check_tower(getattr(model, "visual", model), name)
        self._preprocess = preprocess
        self._projected = kind == "tokens" if projected is None else projected
        if self._projected and self._tower.proj is None:
            raise ConfigError(
                f"encoder '{name}': its image tower has no projection. Set 'token_projection: "
                "false'."
            )
        self._block = -1 if kind == "tokens" else -2
        self._normed = kind == "tokens" or self._projected
        self._class_token = class_token
        width = len(self._tower.positional_embedding[0])
        self.n_tokens = len(self._tower.positional_embedding) - (not class_token)
        self.n_dims = self._tower.proj.shape[1] if self._projected else width
        self.fingerprint = {
            **fingerprint,
            "targets": kind,
            "projected": self._projected,
            "class_token": class_token,
            "n_tokens": self.n_tokens,
            "n_dims": self.n_dims,
            "scale": "root mean square norm of the tokens",
        }

    def encode_image(self, images: Sequence[Image.Image]) -> np.ndarray:
        """Encode pictures as one batch.

        Parameters
        ----------
        images : sequence of PIL image
            RGB.

        Returns
        -------
        ndarray (n, n_tokens, n_dims) float32
            The root mean square norm of a picture's tokens is 1.
        """
        tower = self._tower
        pixels = torch.stack([self._preprocess(image) for image in images])
        weight = tower.conv1.weight
        with torch.inference_mode():
            found = tower.forward_intermediates(
                pixels.to(weight.device, weight.dtype),
                indices=[len(tower.transformer.resblocks) + self._block],
                stop_early=True,
                normalize_intermediates=self._normed,
                intermediates_only=True,
                output_fmt="NLC",
                output_extra_tokens=True,
            )
            tokens = found["image_intermediates"][0]
            if self._class_token:
                tokens = torch.cat([found["image_intermediates_prefix"][0], tokens], dim=1)
            if self._projected:
                tokens = tokens @ tower.proj
            tokens = tokens.float()
            tokens = tokens / tokens.square().sum(dim=2).mean(dim=1).sqrt()[:, None, None]
        return tokens.cpu().numpy()


def check_tower(tower: torch.nn.Module, name: str) -> open_clip.transformer.VisionTransformer:
    """Return a tower that has tokens.

    Raises
    ------
    ConfigError
        It is no vision transformer of open_clip's own, or pools by attention, after which its
        tokens are no longer those of places.
    """
    if not isinstance(tower, open_clip.transformer.VisionTransformer):
        raise ConfigError(
            f"encoder '{name}': its image tower is a {type(tower).__name__}, which has no tokens "
            "to decode. Choose a vision transformer of open_clip, such as ViT-L-14, or set "
            "'targets: pooled'."
        )
    if tower.attn_pool is not None:
        raise ConfigError(
            f"encoder '{name}': its image tower pools by attention, so its tokens do not lie in "
            "the shared space. Choose one that does not, such as ViT-L-14, or set 'targets: "
            "pooled'."
        )
    return tower
