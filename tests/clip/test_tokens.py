from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from small_vit import N_DIMS, N_TOKENS, WIDTH, write_small_vit

from braindecode_clip.clip import load_encoder
from braindecode_clip.errors import ConfigError

EPS = float(np.finfo(np.float32).eps)


@pytest.fixture
def encoder(tmp_path):
    return load_encoder(str(write_small_vit(tmp_path / "vit")), device="cpu")


@pytest.fixture
def pictures():
    rng = np.random.default_rng(2)
    sizes = [(32, 32), (45, 60), (80, 30), (20, 20), (33, 32)]
    return [Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)) for size in sizes]


def scaled(tokens):
    """Divide by the root mean square norm of the tokens, in float64."""
    tokens = tokens.astype(np.float64)
    return tokens / np.sqrt(np.square(tokens).sum(axis=2).mean(axis=1))[:, None, None]


def block_outputs(encoder, pictures):
    """Hidden states (n, n_tokens, width) after every block, by hooks on the blocks."""
    tower, found = encoder.model.visual, []
    hooks = [
        block.register_forward_hook(lambda module, inputs, output: found.append(output))
        for block in tower.transformer.resblocks
    ]
    with torch.inference_mode():
        tower(torch.stack([encoder._preprocess(picture) for picture in pictures]))
    for hook in hooks:
        hook.remove()
    return [states.double().numpy() for states in found]


def normed(encoder, states):
    """Layer norm written out."""
    norm = encoder.model.visual.ln_post
    mean, variance = states.mean(axis=2, keepdims=True), states.var(axis=2, keepdims=True)
    weight, bias = (value.detach().double().numpy() for value in (norm.weight, norm.bias))
    return (states - mean) / np.sqrt(variance + norm.eps) * weight + bias


@pytest.mark.parametrize(
    ("choices", "block", "is_normed", "is_projected"),
    [
        ({}, -1, True, True),
        ({"projected": False}, -1, True, False),
        ({"kind": "penultimate"}, -2, False, False),
        ({"kind": "penultimate", "projected": True}, -2, True, True),
    ],
)
@pytest.mark.parametrize("class_token", [True, False])
def test_tokens_are_the_hidden_states_of_their_block(
    encoder, pictures, choices, block, is_normed, is_projected, class_token
):
    tokens = encoder.token_encoder(**choices, class_token=class_token)
    found = tokens.encode_image(pictures)
    expected = block_outputs(encoder, pictures)[block]
    if is_normed:
        expected = normed(encoder, expected)
    if is_projected:
        expected = expected @ encoder.model.visual.proj.detach().double().numpy()
    expected = scaled(expected[:, 0 if class_token else 1 :])
    assert found.dtype == np.float32
    assert found.shape == (5, tokens.n_tokens, tokens.n_dims) == expected.shape
    assert tokens.n_tokens == N_TOKENS - (not class_token)
    assert tokens.n_dims == (N_DIMS if is_projected else WIDTH)
    np.testing.assert_allclose(found, expected, atol=100 * EPS * np.abs(expected).max())


def test_the_class_token_points_where_the_pooled_vector_does(encoder, pictures):
    first = encoder.token_encoder().encode_image(pictures)[:, 0].astype(np.float64)
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    np.testing.assert_allclose(first, encoder.encode_image(pictures), atol=16 * EPS)


def test_every_choice_has_a_fingerprint_of_its_own(encoder):
    choices = [
        {},
        {"projected": False},
        {"class_token": False},
        {"kind": "penultimate"},
        {"kind": "penultimate", "projected": True},
    ]
    found = [encoder.token_encoder(**choice).fingerprint for choice in choices]
    assert all(a != b for i, a in enumerate(found) for b in found[:i])
    assert all(encoder.fingerprint != one for one in found)
    assert found[0]["weights_sha256"] == encoder.fingerprint["weights_sha256"]


def test_towers_without_tokens_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"scenes.*TimmModel.*no tokens.*ViT-L-14"):
        load_encoder("scenes", device="cpu").token_encoder()
    pooler = write_small_vit(tmp_path / "coca", attentional_pool=True, attn_pooler_heads=2)
    with pytest.raises(ConfigError, match=r"coca.*pools by attention"):
        load_encoder(str(pooler), device="cpu").token_encoder()
