r"""CoCa: a decoder behind the towers writes the caption of a picture, word by word.

Yu et al. (2022, "CoCa: contrastive captioners are image-text foundation models", equation 4)
add to the contrastive loss the cross-entropy of each token t of a caption, given those before it
and the picture x,

.. math:: \ell = \lambda_1 \ell_{\mathrm{contrast}}
    - \lambda_2 \frac{1}{T} \sum_{i} \sum_{t} \log p(y_{i,t} \mid y_{i,<t}, x_i)

with T the tokens of the whole batch that are predicted. The model is open_clip's ``CoCa``: its
decoder reads the text tower's tokens causally and looks at the image tower's tokens. A caption's
first token is given and not predicted; padding is no target.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional

from braindecode_clip.config.clip import TrainConfig
from braindecode_clip.errors import ConfigError


def has_decoder(model: torch.nn.Module) -> bool:
    """Tell whether a model can write captions."""
    return hasattr(model, "text_decoder")


def with_decoder(model_cfg: dict[str, Any]) -> dict[str, Any]:
    """Complete an open_clip model config that has a ``multimodal_cfg``; return others as is.

    Both towers are asked for their tokens. Width and heads of the decoder are the text tower's
    unless they are given; context length, vocabulary and filler always are.
    """
    if model_cfg.get("multimodal_cfg") is None:
        return model_cfg
    text = {**model_cfg["text_cfg"], "output_tokens": True}
    from_text = {key: text[key] for key in ("width", "heads") if key in text}
    shared = {key: text[key] for key in ("context_length", "vocab_size") if key in text}
    return {
        **model_cfg,
        "custom_text": True,
        "pad_id": text.get("pad_id", 0),
        "vision_cfg": {**model_cfg["vision_cfg"], "output_tokens": True},
        "text_cfg": text,
        "multimodal_cfg": {**from_text, **model_cfg["multimodal_cfg"], **shared},
    }


def initialise_decoder(model: torch.nn.Module) -> None:
    """Draw the decoder's last weights, which open_clip leaves as it finds them in memory.

    Its ``MultimodalTransformer`` never calls ``init_parameters``; its other weights are drawn
    by PyTorch. As there, the deviation is the width to the power of -1/2.
    """
    projection = model.text_decoder.text_projection
    torch.nn.init.normal_(projection, std=len(projection) ** -0.5)


def check_decoder(model: torch.nn.Module, training: TrainConfig) -> None:
    """Refuse a loss that does not fit the model's decoder, or a decoder that cannot run.

    Raises
    ------
    ConfigError
    """
    if training.loss != "coca":
        if has_decoder(model):
            raise ConfigError(
                f"training.loss '{training.loss}': the model has a decoder of captions, which "
                "would stay as it is while the towers change. Set training.loss: coca, or use a "
                "model without (no model.multimodal_cfg)."
            )
        return
    if not has_decoder(model):
        raise ConfigError(
            "training.loss 'coca': the model has no decoder of captions. Give "
            "model.multimodal_cfg (layers: a number), take a CoCa model of open_clip, or set "
            "training.loss: infonce."
        )
    was_training = model.training
    model.eval()
    try:
        is_shown_the_answer = _sees_later_tokens(model)
    except (RuntimeError, TypeError, ValueError, AttributeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"training.loss 'coca': the decoder cannot read the towers ({reason}). It needs "
            "tokens of both (open_clip's vision transformer and text transformer), and its "
            "width must be that of the text tower and of the image tower's tokens: "
            "vision_cfg.width, or embed_dim with vision_cfg.attentional_pool."
        ) from error
    finally:
        model.train(was_training)
    if is_shown_the_answer:
        raise ConfigError(
            "training.loss 'coca': the text tower reads captions in both directions, so the "
            "decoder would be shown the tokens that it is to predict. Use a causal one: "
            "open_clip's without text_cfg.no_causal_mask, and no hf_model_name."
        )


@torch.no_grad()
def _sees_later_tokens(model: torch.nn.Module) -> bool:
    """Tell whether a caption's last token changes what is predicted from those before it."""
    device = model.logit_scale.device
    size = model.visual.image_size
    height, width = (size, size) if isinstance(size, int) else size
    tokens = torch.ones(2, model.text.context_length, dtype=torch.int64, device=device)
    tokens[1, -1] = 0
    logits = captioned(model, torch.zeros(2, 3, height, width, device=device), tokens)[2]
    return not torch.allclose(logits[0], logits[1], rtol=1e-3, atol=1e-4)


def captioned(
    model: torch.nn.Module, pixels: torch.Tensor, tokens: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Put pairs through towers and decoder once.

    Parameters
    ----------
    model : Module
        open_clip's ``CoCa``.
    pixels : Tensor (n, 3, height, width)
    tokens : Tensor (n, context_length) int64

    Returns
    -------
    images : Tensor (n, n_dims)
        Before normalisation.
    texts : Tensor (n, n_dims)
        Of unit norm.
    logits : Tensor (n, context_length - 1, vocab_size)
        Of all tokens of a caption but the first.
    """
    images, patches = model.visual(pixels)
    texts, words = model.text(tokens)
    logits = model.text_decoder(patches, words[:, :-1])
    return images, functional.normalize(texts, dim=-1), logits
