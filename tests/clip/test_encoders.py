from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from braindecode_clip.clip import load_encoder
from braindecode_clip.clip.models import build_model, save_model
from braindecode_clip.clip.tokenizers import WordTokenizer
from braindecode_clip.errors import ConfigError, DataError


@pytest.fixture
def model_directory(tiny_recipe, tmp_path):
    tokenizer = WordTokenizer(["red", "blue", "left"], context_length=7)
    folder = tmp_path / "models" / "tiny"
    save_model(folder, build_model(tiny_recipe, tokenizer), recipe=tiny_recipe, tokenizer=tokenizer)
    return folder


@pytest.fixture
def pictures():
    rng = np.random.default_rng(0)
    sizes = [(32, 32), (45, 60), (80, 30), (32, 33), (20, 20)]
    return [Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)) for size in sizes]


def test_vectors_are_float32_of_unit_norm(model_directory, pictures):
    encoder = load_encoder(str(model_directory), device="cpu")
    images = encoder.encode_image(pictures)
    texts = encoder.encode_text(["red", "blue left", "red left blue"])
    assert (images.shape, texts.shape) == ((5, encoder.n_dims), (3, encoder.n_dims))
    for vectors in (images, texts):
        assert vectors.dtype == np.float32
        norms = np.linalg.norm(vectors.astype(np.float64), axis=1)
        np.testing.assert_allclose(norms, 1.0, atol=8 * np.finfo(np.float32).eps)
    assert encoder.encode_image([]).shape == (0, encoder.n_dims)
    assert str(encoder.device) == "cpu"


def test_paths_pictures_and_batch_sizes_agree(model_directory, pictures, tmp_path):
    encoder = load_encoder(str(model_directory), device="cpu")
    paths = [tmp_path / f"{i}.png" for i in range(len(pictures))]
    for path, picture in zip(paths, pictures, strict=True):
        picture.save(path)
    whole = encoder.encode_image(pictures)
    np.testing.assert_array_equal(encoder.encode_image(paths), whole)
    np.testing.assert_array_equal(encoder.encode_image([str(path) for path in paths]), whole)
    np.testing.assert_allclose(
        encoder.encode_image(paths, batch_size=2), whole, atol=64 * np.finfo(np.float32).eps
    )
    np.testing.assert_array_equal(encoder.encode_image(paths[1]), encoder.encode_image(paths[1:2]))


def test_grey_and_transparent_pictures_are_read_as_rgb(model_directory, pictures):
    encoder = load_encoder(str(model_directory), device="cpu")
    grey = pictures[0].convert("L")
    opaque = pictures[0].convert("RGBA")
    got = encoder.encode_image([grey, opaque])
    want = encoder.encode_image([grey.convert("RGB"), pictures[0]])
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_is_encoded_as_white(model_directory, tmp_path, mode):
    """Black line art on transparent black, as drawing programs save it, is not black all over."""
    encoder = load_encoder(str(model_directory), device="cpu")
    drawing = Image.new("RGBA", (40, 40), (0, 0, 0, 0))
    drawing.paste((0, 0, 0, 255), (10, 5, 20, 35))
    drawing = drawing.convert("LA").convert(mode) if mode != "P" else drawing.quantize(4)
    on_white = np.full((40, 40, 3), 255, dtype=np.uint8)
    on_white[5:35, 10:20] = 0
    drawing.save(tmp_path / "x.png")
    found = encoder.encode_image([drawing, tmp_path / "x.png"])
    white = Image.fromarray(on_white)
    np.testing.assert_array_equal(found, encoder.encode_image([white, white]))


def test_every_unreadable_picture_is_listed(model_directory, pictures, tmp_path):
    encoder = load_encoder(str(model_directory), device="cpu")
    pictures[1].save(tmp_path / "good.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "good.png").read_bytes()[:400])
    (tmp_path / "text.png").write_text("no picture", encoding="utf-8")
    paths = [tmp_path / f"{name}.png" for name in ("good", "cut", "absent", "text")]
    with pytest.raises(DataError, match="3 problems") as caught:
        encoder.encode_image(paths, batch_size=2)
    assert all(f"{name}.png" in str(caught.value) for name in ("cut", "absent", "text"))
    assert "good.png" not in str(caught.value)


def test_fingerprints_tell_models_apart(model_directory, tiny_recipe, tmp_path):
    first = load_encoder(str(model_directory), device="cpu").fingerprint
    assert first == load_encoder(f"local-dir:{model_directory}", device="cpu").fingerprint
    assert first == json.loads(json.dumps(first))
    keys = {"name", "tag", "weights_sha256", "preprocessing", "precision", "n_dims", "probe"}
    assert keys < first.keys()
    tokenizer = WordTokenizer(["red", "blue", "left"], context_length=7)
    other = tiny_recipe.model_copy(update={"seed": 4})
    folder = tmp_path / "other" / "tiny"
    save_model(folder, build_model(other, tokenizer), recipe=other, tokenizer=tokenizer)
    second = load_encoder(str(folder), device="cpu").fingerprint
    assert first["weights_sha256"] != second["weights_sha256"]
    assert first["probe"] != second["probe"]


def test_preprocessing_is_part_of_the_fingerprint(model_directory):
    before = load_encoder(str(model_directory), device="cpu").fingerprint
    path = model_directory / "open_clip_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["preprocess_cfg"]["mean"] = [0.1, 0.2, 0.3]
    path.write_text(json.dumps(config), encoding="utf-8")
    after = load_encoder(str(model_directory), device="cpu").fingerprint
    assert before["preprocessing"] != after["preprocessing"]
    assert before["probe"] != after["probe"]


def test_embedded_models_are_found_through_the_environment(model_directory, monkeypatch):
    model_directory.rename(model_directory.with_name("scenes"))
    monkeypatch.setenv("BRAINDECODE_CLIP_MODELS", str(model_directory.parent))
    encoder = load_encoder("scenes", device="cpu")
    assert (encoder.name, encoder.n_dims) == ("scenes", 12)


def test_a_missing_embedded_model_says_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setattr("braindecode_clip.clip.pretrained._CHECKOUT_MODELS", tmp_path)
    with pytest.raises(DataError, match="BRAINDECODE_CLIP_MODELS"):
        load_encoder("scenes")


def test_incomplete_and_damaged_directories_are_named(model_directory):
    weights = model_directory / "open_clip_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    with pytest.raises(DataError, match="cannot be read"):
        load_encoder(str(model_directory))
    weights.unlink()
    with pytest.raises(DataError, match=r"no open_clip_model\.safetensors"):
        load_encoder(str(model_directory))
    with pytest.raises(DataError, match="nowhere"):
        load_encoder("some/where/nowhere")


def test_a_directory_takes_no_other_weights(model_directory):
    with pytest.raises(ConfigError, match="its own weights"):
        load_encoder(str(model_directory), "openai")


@pytest.mark.parametrize("device", ["gpu", "cuda:99"])
def test_unknown_devices_are_refused(model_directory, device):
    with pytest.raises(ConfigError, match=device):
        load_encoder(str(model_directory), device=device)


def test_importing_the_package_imports_no_torch():
    code = (
        "import sys, braindecode_clip.clip; "
        "assert not {'torch', 'open_clip'} & set(sys.modules); "
        "assert 'load_encoder' in braindecode_clip.clip.__all__"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
