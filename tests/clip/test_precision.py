"""bfloat16 only where it changes nothing that counts; batches side by side; their size."""

from __future__ import annotations

import copy
import os
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from braindecode_clip.clip import batch_size, precision
from braindecode_clip.clip.batch_size import bytes_for_one, choose_batch_size, free_memory_bytes
from braindecode_clip.clip.encoders import load_encoder
from braindecode_clip.clip.forward import side_by_side
from braindecode_clip.clip.models import build_model, save_model
from braindecode_clip.clip.precision import MIN_COSINE, settle_precision
from braindecode_clip.clip.tokenizers import WordTokenizer


@pytest.fixture
def encoder(tiny_recipe, tmp_path):
    tokenizer = WordTokenizer(["red", "blue", "left"], context_length=7)
    vision = {"layers": 2, "width": 64, "head_width": 32, "patch_size": 8, "image_size": 32}
    recipe = tiny_recipe.model_copy(
        update={"model": tiny_recipe.model.model_copy(update={"vision_cfg": vision})}
    )
    folder = tmp_path / "models" / "tiny"
    save_model(folder, build_model(recipe, tokenizer), recipe=recipe, tokenizer=tokenizer)
    return load_encoder(str(folder), device="cpu")


@pytest.fixture
def probes(encoder):
    rng = np.random.default_rng(3)
    sizes = [(32, 32), (40, 60), (33, 90), (77, 50), (32, 45)]
    pictures = [Image.fromarray(rng.integers(0, 256, (*s, 3), dtype=np.uint8)) for s in sizes]
    return [encoder.prepare_image(picture) for picture in pictures]


@pytest.fixture(autouse=True)
def _any_processor(monkeypatch):
    """Let every processor count as one with bfloat16: the others compute the same, slowly."""
    monkeypatch.setattr(precision, "_is_native", lambda device: True)


def weights(encoder):
    return [tensor.clone() for tensor in encoder.model.state_dict().values()]


def cosines(first, second):
    return (first.astype(np.float64) * second).sum(axis=1)


def test_float32_stays_as_it_was(encoder, probes):
    before, fingerprint = encoder.encode_prepared(probes), dict(encoder.fingerprint)
    assert settle_precision(encoder, "fp32", pictures=probes) is None
    np.testing.assert_array_equal(encoder.encode_prepared(probes), before)
    assert encoder.fingerprint == fingerprint


def test_auto_takes_bfloat16_where_it_agrees(encoder, probes, monkeypatch, caplog):
    caplog.set_level("INFO", "braindecode_clip")
    exact = encoder.encode_prepared(probes), encoder.encode_text(["red left", "blue"])
    reference = copy.deepcopy(encoder.model).to(torch.bfloat16)
    monkeypatch.setattr(precision, "MIN_COSINE", 0.99)
    lowest = settle_precision(encoder, "auto", pictures=probes, texts=["red left", "blue"])
    assert encoder.precision == encoder.fingerprint["precision"] == "bfloat16"
    assert {p.dtype for p in encoder.model.parameters()} == {torch.bfloat16}
    got = encoder.encode_prepared(probes), encoder.encode_text(["red left", "blue"])
    assert got[0].dtype == np.float32
    # torch's own conversion of the whole model, and the transform's numbers rounded to it.
    with torch.inference_mode():
        inputs = encoder._pixels.numbers(torch.from_numpy(np.stack(probes))).to(torch.bfloat16)
        want = torch.nn.functional.normalize(reference.encode_image(inputs).float(), dim=-1)
    np.testing.assert_array_equal(got[0], want.numpy())
    seen = min(cosines(exact[0], got[0]).min(), cosines(exact[1], got[1]).min())
    assert lowest <= seen + 1e-12
    assert lowest < 1 - 1e-7
    assert "precision: bfloat16" in caplog.text and f"{lowest:.6f}" in caplog.text


@pytest.mark.parametrize("modality", ["image", "text"])
def test_auto_falls_back_where_bfloat16_loses_digits(encoder, probes, modality, caplog):
    caplog.set_level("INFO", "braindecode_clip")
    # One large common part: what tells the vectors apart lies below bfloat16's last bit.
    plain = getattr(encoder.model, f"encode_{modality}")

    def with_large_part(inputs):
        features = plain(inputs)
        return features + 2.0**9 - 2.0**9

    setattr(encoder.model, f"encode_{modality}", with_large_part)
    before, exact = weights(encoder), encoder.encode_prepared(probes)
    fingerprint = dict(encoder.fingerprint)
    # The probes of the other modality alone would pass or fail by themselves: none are given.
    lowest = settle_precision(encoder, "auto")
    assert lowest < MIN_COSINE
    assert encoder.fingerprint == fingerprint
    assert all(map(torch.equal, weights(encoder), before))
    np.testing.assert_array_equal(encoder.encode_prepared(probes), exact)
    assert "precision: float32" in caplog.text and "bfloat16" in caplog.text


def test_one_bad_probe_of_the_job_is_enough(encoder, probes, monkeypatch):
    monkeypatch.setattr(precision, "MIN_COSINE", 0.99)
    plain = encoder.model.encode_image
    marked = encoder._pixels.numbers(torch.from_numpy(probes[3][None].copy()))[0, :, 5, 5]

    def picky(inputs):
        is_marked = (inputs[:, :, 5, 5].float() - marked).abs().amax(dim=1) < 0.02
        features = plain(inputs)
        if features.dtype == torch.bfloat16:
            features = torch.where(is_marked[:, None], features.flip(1), features)
        return features

    encoder.model.encode_image = picky
    assert settle_precision(encoder, "auto", pictures=probes[:3]) >= 0.99
    assert encoder.precision == "bfloat16"
    encoder.model.float()
    encoder.set_precision("float32")
    assert settle_precision(encoder, "auto", pictures=probes) < 0.99
    assert encoder.precision == "float32"


def test_bfloat16_by_order_is_kept_and_warned_of(encoder, monkeypatch, caplog):
    monkeypatch.setattr(precision, "MIN_COSINE", 1.5)
    settle_precision(encoder, "bf16")
    assert encoder.precision == "bfloat16"
    assert "Set 'precision: fp32'" in caplog.text


def test_auto_leaves_processors_without_bfloat16_alone(encoder, monkeypatch):
    monkeypatch.setattr(precision, "_is_native", lambda device: False)
    assert settle_precision(encoder, "auto") is None
    assert encoder.precision == "float32"


def test_vectors_do_not_depend_on_the_batch_beyond_rounding(encoder, probes):
    whole = encoder.encode_prepared(probes)
    parts = np.concatenate([encoder.encode_prepared(probes[k : k + 2]) for k in (0, 2, 4)])
    np.testing.assert_allclose(parts, whole, atol=64 * np.finfo(np.float32).eps)
    settle_precision(encoder, "bf16")
    lowered = encoder.encode_prepared(probes)
    parts = np.concatenate([encoder.encode_prepared(probes[k : k + 2]) for k in (0, 2, 4)])
    # bfloat16's spacing is 2^-8; a unit vector of 12 parts, rounded at the end.
    np.testing.assert_allclose(parts, lowered, atol=2.0**-8)


def test_side_by_side_gives_each_batch_one_thread_and_puts_it_back():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with pytest.raises(KeyError), side_by_side(torch.device("cpu")) as n:
            seen = []
            thread = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
            thread.start()
            thread.join()
            assert (n, torch.get_num_threads(), seen) == (3, 1, [1])
            raise KeyError
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("share_of_one", "n_items", "n_encoders", "expected"),
    [
        (1e9, 10**6, 1, 32),
        (1e9, 10**6, 4, 32),
        (1e9, 50, 4, 8),
        (1e9, 3, 4, 1),
        (23, 999, 1, 8),
        (46, 999, 2, 8),
    ],
)
def test_the_automatic_batch_fits_memory_and_list(
    encoder, monkeypatch, share_of_one, n_items, n_encoders, expected
):
    one = bytes_for_one(encoder, "image")
    monkeypatch.setattr(batch_size, "free_memory_bytes", lambda device: share_of_one * one)
    got = choose_batch_size(encoder, n_items, "image", n_encoders=n_encoders)
    assert got == expected


def test_one_picture_is_estimated_from_the_largest_layer(encoder):
    # 17 tokens, an MLP of width 256: its activation is the largest, float32 in and out.
    largest = 4 * 17 * (256 + 256)
    assert bytes_for_one(encoder, "image") == 4 * largest
    settle_precision(encoder, "bf16")
    assert bytes_for_one(encoder, "image") == 2 * largest
    assert not any(module._forward_hooks for module in encoder.model.modules())


def test_free_memory_is_what_the_system_says():
    if not Path("/proc/meminfo").is_file():
        pytest.skip("this system has no /proc/meminfo")
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert 0 < free_memory_bytes(torch.device("cpu")) <= total
