"""Every published format, read by our loader, against the library that wrote it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from model_files import (
    TEXTS,
    TINY,
    pictures,
    tiny_model,
    unit,
    write_bert_tokenizer,
    write_clip_vocabulary,
    write_directory,
    write_torchscript,
)
from safetensors.torch import load_file, save_file

from braindecode_clip.clip import load_encoder
from braindecode_clip.clip.models import quiet_open_clip
from braindecode_clip.clip.torchvision_compat import import_open_clip
from braindecode_clip.errors import ConfigError, DataError

open_clip = import_open_clip()
# Products of up to 64 terms, four layers: rounding of float32 with room for another order.
TOLERANCE = 5e-6


@pytest.fixture
def builtin(monkeypatch):
    """A built-in model of open_clip with tags of both activations and preprocessings."""
    plain = {"mean": (0.5, 0.4, 0.3), "std": (0.2, 0.3, 0.4), "interpolation": "bicubic"}
    tags = {
        "quick": {"quick_gelu": True, "resize_mode": "shortest", **plain},
        "exact": {"resize_mode": "shortest", **plain},
    }
    config = {**TINY, "quick_gelu": False}
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "ViT-test", config)
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "ViT-test", tags)
    return tags


def reference(model, tag, preprocess=None):
    """Vectors by open_clip itself, its own transform and tokenizer."""
    settings = dict(preprocess or tag)
    settings.pop("quick_gelu", None)
    transform = open_clip.transform.image_transform_v2(
        open_clip.transform.PreprocessCfg(size=32, **settings), is_train=False
    )
    batch = torch.stack([transform(picture) for picture in pictures()])
    tokens = open_clip.SimpleTokenizer(context_length=16)(TEXTS)
    with torch.inference_mode():
        return unit(model.encode_image(batch)), unit(model.encode_text(tokens))


def assert_same(encoder, images, texts):
    np.testing.assert_allclose(encoder.encode_image(pictures()), images, atol=TOLERANCE)
    np.testing.assert_allclose(encoder.encode_text(TEXTS), texts, atol=TOLERANCE)


def halved(model):
    """Round weights to half precision, as they are published."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim:
                parameter.copy_(parameter.half().float())
    return model


def test_openais_torchscript_archive(builtin, tmp_path):
    model = halved(tiny_model())
    write_torchscript(tmp_path / "ViT-test.pt", model.state_dict())
    encoder = load_encoder("ViT-test", "quick", weights=tmp_path / "ViT-test.pt", device="cpu")
    assert_same(encoder, *reference(model, builtin["quick"]))
    assert encoder.fingerprint["activation"] == ["QuickGELU"]


@pytest.mark.parametrize("layout", ["bare", "state_dict", "module", "safetensors", "openai"])
def test_state_dicts(builtin, tmp_path, layout):
    model = halved(tiny_model({**TINY, "quick_gelu": False}))
    state = {k: v.clone() for k, v in model.state_dict().items()}
    path = tmp_path / ("w.safetensors" if layout == "safetensors" else "w.pt")
    if layout == "safetensors":
        save_file(state, path)
    elif layout == "openai":
        sizes = {"input_resolution": torch.tensor(32), "context_length": torch.tensor(16)}
        torch.save({k: v.half() for k, v in state.items()} | sizes, path)
    else:
        if layout == "module":
            state = {f"module.{k}": v for k, v in state.items()}
        if layout != "bare":
            state = {"epoch": 3, "name": "run", "state_dict": state, "optimizer": {"lr": 0.1}}
        torch.save(state, path)
    encoder = load_encoder("ViT-test", "exact", weights=path, device="cpu")
    assert_same(encoder, *reference(model, builtin["exact"]))
    assert encoder.fingerprint["activation"] == ["GELU"]


@pytest.mark.parametrize("name", ["open_clip_model.safetensors", "open_clip_pytorch_model.bin"])
def test_open_clip_directories(tmp_path, name):
    model = tiny_model()
    write_directory(tmp_path / "m", model=model, name=name)
    encoder = load_encoder(str(tmp_path / "m"), device="cpu")
    settings = {"mean": (0.5, 0.4, 0.3), "std": (0.2, 0.3, 0.4), "resize_mode": "shortest"}
    assert_same(encoder, *reference(model, {}, settings))
    assert encoder.fingerprint["preprocessing"]["mean"] == [0.5, 0.4, 0.3]


def test_a_training_state_gives_a_directory_its_weights(tmp_path):
    from braindecode_clip.clip.checkpoints import TrainingState, write_state

    write_directory(tmp_path / "m", model=tiny_model(seed=1))
    later = tiny_model(seed=2)
    tensors = {f"model.{k}": v for k, v in later.state_dict().items()}
    tensors["optimiser.exp_avg.visual.proj"] = torch.ones(3)
    tensors["rng.torch"] = torch.get_rng_state()
    write_state(tmp_path / "state.safetensors", TrainingState(7, tensors, {}))
    encoder = load_encoder(
        str(tmp_path / "m"), weights=tmp_path / "state.safetensors", device="cpu"
    )
    settings = {"mean": (0.5, 0.4, 0.3), "std": (0.2, 0.3, 0.4), "resize_mode": "shortest"}
    assert_same(encoder, *reference(later, {}, settings))


def test_weights_of_another_architecture_name_what_they_fit(builtin, tmp_path, monkeypatch):
    wide = {**TINY, "vision_cfg": {**TINY["vision_cfg"], "image_size": 64}}
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "ViT-test-64", wide)
    save_file(dict(tiny_model(wide).state_dict()), tmp_path / "w.safetensors")
    with pytest.raises(DataError) as caught:
        load_encoder("ViT-test", "quick", weights=tmp_path / "w.safetensors", device="cpu")
    message = str(caught.value)
    assert "they fit ViT-test-64" in message
    assert "visual.positional_embedding (65, 64) in the file, (17, 64) in the model" in message


def test_missing_and_unknown_weights_are_listed(builtin, tmp_path):
    state = dict(tiny_model().state_dict())
    state["unheard.of"] = state.pop("ln_final.bias")
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(DataError, match="2 problems") as caught:
        load_encoder("ViT-test", "quick", weights=tmp_path / "w.safetensors", device="cpu")
    assert all(name in str(caught.value) for name in ("ln_final.bias", "unheard.of"))


def test_a_file_without_tensors_is_no_checkpoint(builtin, tmp_path):
    torch.save({"epoch": 3}, tmp_path / "w.pt")
    with pytest.raises(DataError, match="holds no state dict"):
        load_encoder("ViT-test", "quick", weights=tmp_path / "w.pt", device="cpu")
    (tmp_path / "cut.pt").write_bytes((tmp_path / "w.pt").read_bytes()[:90])
    with pytest.raises(DataError, match="cannot be read as a checkpoint"):
        load_encoder("ViT-test", "quick", weights=tmp_path / "cut.pt", device="cpu")


def test_a_bare_file_needs_a_tag_where_preprocessing_differs(builtin, tmp_path):
    save_file(dict(tiny_model().state_dict()), tmp_path / "w.safetensors")
    path = str(tmp_path / "w.safetensors")
    assert load_encoder("ViT-test", path, quick_gelu=True, device="cpu").n_dims == 24
    builtin["exact"]["mean"] = (0.1, 0.1, 0.1)
    with pytest.raises(ConfigError, match=r"2 kinds of preprocessing.*quick; exact"):
        load_encoder("ViT-test", path, quick_gelu=True, device="cpu")


def test_a_tag_of_another_architecture_is_an_error():
    with pytest.raises(
        ConfigError, match=r"ViT-L-14: has no weights with the tag 'laion2b_s34b_b79k'; .*ViT-B-32"
    ):
        load_encoder("ViT-L-14", "laion2b_s34b_b79k")


# --- transformers ---------------------------------------------------------------------------


def hf_config(act="quick_gelu", end=49407, eps=1e-5, length=16):
    common = {"num_hidden_layers": 2, "hidden_act": act, "layer_norm_eps": eps}
    return {
        "text_config": {
            "hidden_size": 32,
            "intermediate_size": 96,
            "num_attention_heads": 4,
            "max_position_embeddings": length,
            "vocab_size": 49408,
            "eos_token_id": end,
            "bos_token_id": 49406,
            **common,
        },
        "vision_config": {
            "hidden_size": 64,
            "intermediate_size": 192,
            "num_attention_heads": 2,
            "image_size": 32,
            "patch_size": 8,
            **common,
        },
        "projection_dim": 24,
    }


@pytest.fixture
def write_hf_clip(tmp_path):
    """Write a CLIP of transformers with its processor and tokenizer; return model and folder."""
    transformers = pytest.importorskip("transformers")

    def write(folder="pubmed", size=None, **options):
        torch.manual_seed(3)
        config = transformers.CLIPConfig(**hf_config(**options))
        model = transformers.CLIPModel(config).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim > 1:
                    parameter.mul_(8)
        path = tmp_path / folder
        model.save_pretrained(str(path))
        transformers.CLIPImageProcessor(
            size=size or {"shortest_edge": 32},
            crop_size={"height": 32, "width": 32},
            image_mean=[0.45, 0.4, 0.35],
        ).save_pretrained(str(path))
        write_clip_vocabulary(path)
        return model, path

    return write


def by_transformers(model, path):
    """Vectors by transformers itself: its own processor (by way of Pillow) and tokenizer."""
    from transformers import AutoImageProcessor, AutoTokenizer

    processor = AutoImageProcessor.from_pretrained(str(path), backend="pil")
    pixels = processor(images=pictures(), return_tensors="pt")["pixel_values"]
    tokens = AutoTokenizer.from_pretrained(str(path))(TEXTS, padding=True, return_tensors="pt")
    with torch.inference_mode():
        images = model.get_image_features(pixel_values=pixels).pooler_output
        texts = model.get_text_features(**tokens).pooler_output
    return unit(images), unit(texts)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"act": "gelu"},
        {"end": 2},
        {"eps": 1e-3},
        {"size": {"height": 32, "width": 32}, "folder": "squashed"},
    ],
    ids=str,
)
def test_clip_of_transformers(write_hf_clip, options):
    model, path = write_hf_clip(**options)
    encoder = load_encoder(str(path), device="cpu")
    images, texts = by_transformers(model, path)
    np.testing.assert_allclose(encoder.encode_text(TEXTS), texts, atol=TOLERANCE)
    np.testing.assert_allclose(encoder.encode_image(pictures()), images, atol=TOLERANCE)
    act = options.get("act", "quick_gelu")
    assert encoder.fingerprint["quick_gelu"] is (act == "quick_gelu")
    # CLIP's own vocabulary needs nothing of transformers.
    assert "transformers" not in encoder.fingerprint["libraries"]


def test_clip_of_transformers_as_bin_in_parts_and_with_old_keys(write_hf_clip):
    _, path = write_hf_clip()
    want = load_encoder(str(path), device="cpu").encode_image(pictures())
    state = load_file(path / "model.safetensors")
    (path / "model.safetensors").unlink()
    names = sorted(state)
    save_file({k: state[k] for k in names[::2]}, path / "model-00001-of-00002.safetensors")
    save_file({k: state[k] for k in names[1::2]}, path / "model-00002-of-00002.safetensors")
    files = {k: f"model-0000{1 + i % 2}-of-00002.safetensors" for i, k in enumerate(names)}
    index = {"weight_map": files}
    (path / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    encoder = load_encoder(str(path), device="cpu")
    np.testing.assert_array_equal(encoder.encode_image(pictures()), want)
    old = state | {"text_model.embeddings.position_ids": torch.arange(16)[None]}
    torch.save(old, path / "pytorch_model.bin")
    encoder = load_encoder(str(path), device="cpu")
    np.testing.assert_array_equal(encoder.encode_image(pictures()), want)


def test_what_open_clip_cannot_express_is_refused(write_hf_clip):
    _, path = write_hf_clip()
    settings = json.loads((path / "preprocessor_config.json").read_text())
    for change, message in {
        "size": ({"size": {"shortest_edge": 40}}, "must be the 32 pixels"),
        "rescale": ({"rescale_factor": 1 / 127.5}, "rescale_factor"),
        "no crop": ({"do_center_crop": False}, "shortest edge only"),
    }.values():
        (path / "preprocessor_config.json").write_text(json.dumps(settings | change))
        with pytest.raises(DataError, match=message):
            load_encoder(str(path), device="cpu")
    (path / "preprocessor_config.json").unlink()
    with pytest.raises(DataError, match="no preprocessor_config"):
        load_encoder(str(path), device="cpu")
    (path / "preprocessor_config.json").write_text(json.dumps(settings))
    config = json.loads((path / "config.json").read_text())
    config["text_config"]["hidden_act"] = "gelu"
    (path / "config.json").write_text(json.dumps(config))
    with pytest.raises(DataError, match="hidden_act is 'gelu', 'quick_gelu'"):
        load_encoder(str(path), device="cpu")


def test_another_vocabulary_goes_through_transformers(write_hf_clip):
    _, path = write_hf_clip()
    for name in ("vocab.json", "merges.txt", "tokenizer_config.json"):
        (path / name).unlink()
    write_bert_tokenizer(path)
    encoder = load_encoder(str(path), device="cpu")
    assert encoder.fingerprint["tokenizer"]["kind"] == "HFTokenizer"
    assert "transformers" in encoder.fingerprint["libraries"]


def test_siglip_of_transformers(tmp_path):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    common = {"num_hidden_layers": 2, "intermediate_size": 64, "num_attention_heads": 2}
    text = {"hidden_size": 32, "vocab_size": 90, "max_position_embeddings": 16, **common}
    vision = {"hidden_size": 32, "image_size": 32, "patch_size": 8, **common}
    config = transformers.SiglipConfig(text_config=text, vision_config=vision)
    model = transformers.SiglipModel(config).eval()
    path = tmp_path / "siglip"
    model.save_pretrained(str(path))
    transformers.SiglipImageProcessor(size={"height": 32, "width": 32}).save_pretrained(str(path))
    write_bert_tokenizer(path)
    encoder = load_encoder(str(path), device="cpu")
    processor = transformers.AutoImageProcessor.from_pretrained(str(path))
    pixels = torch.cat(
        [processor(images=p, return_tensors="pt")["pixel_values"] for p in pictures()]
    )
    tokens = transformers.AutoTokenizer.from_pretrained(str(path))(
        TEXTS, padding="max_length", max_length=16, truncation=True, return_tensors="pt"
    )
    with torch.inference_mode():
        images = unit(model.get_image_features(pixel_values=pixels).pooler_output)
        texts = unit(model.get_text_features(**tokens).pooler_output)
    assert_same(encoder, images, texts)
    assert encoder.fingerprint["preprocessing"]["processor"].startswith("SiglipImageProcessor")


# --- timm and sentence-transformers -----------------------------------------------------------


@pytest.mark.parametrize("name", ["test_vit.r160_in1k", "test_convnext.r160_in1k"])
def test_timm_checkpoint(tmp_path, name):
    import timm

    torch.manual_seed(0)
    model = timm.create_model(name, pretrained=False).eval()
    save_file(dict(model.state_dict()), tmp_path / "w.safetensors")
    encoder = load_encoder(f"timm:{name}", weights=tmp_path / "w.safetensors", device="cpu")
    config = timm.data.resolve_data_config({}, model=model)
    transform = timm.data.create_transform(**config)
    batch = torch.stack([transform(picture) for picture in pictures()])
    with torch.inference_mode():
        want = unit(model.forward_head(model.forward_features(batch), pre_logits=True))
    np.testing.assert_allclose(encoder.encode_image(pictures()), want, atol=TOLERANCE)
    assert (encoder.name, encoder.fingerprint["tag"]) == (name.split(".")[0], "r160_in1k")
    with pytest.raises(ConfigError, match="no text tower"):
        encoder.encode_text(["a dog"])


def test_timm_directory_and_its_mistakes(tmp_path):
    import timm
    from timm.models import save_for_hf

    model = timm.create_model("test_vit", pretrained=False, num_classes=7).eval()
    save_for_hf(model, str(tmp_path / "mine"), safe_serialization=True)
    encoder = load_encoder(f"timm:{tmp_path / 'mine'}", device="cpu")
    assert encoder.n_dims == model.num_features
    other = timm.create_model("test_resnet", pretrained=False)
    save_file(dict(other.state_dict()), tmp_path / "w.safetensors")
    with pytest.raises(DataError, match="not the weights of timm's test_vit"):
        load_encoder("timm:test_vit", weights=tmp_path / "w.safetensors", device="cpu")
    with pytest.raises(ConfigError, match=r"no such model. Did you mean .*test_vit"):
        load_encoder("timm:test_vitt", device="cpu")
    with pytest.raises(ConfigError, match="unknown tag"):
        load_encoder("timm:test_vit.nothing", device="cpu")
    with pytest.raises(DataError, match="weights: /path/to/the/file"):
        load_encoder("timm:test_vit.r160_in1k", device="cpu")


@pytest.mark.parametrize("modules", [True, False], ids=["modules", "plain transformers"])
def test_sentence_encoders(tmp_path, modules):
    transformers = pytest.importorskip("transformers")
    sentence_transformers = pytest.importorskip("sentence_transformers")
    torch.manual_seed(1)
    config = transformers.BertConfig(
        vocab_size=100,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
    )
    bert = transformers.BertModel(config).eval()
    path = tmp_path / "bert"
    bert.save_pretrained(str(path))
    write_bert_tokenizer(path)
    source = path
    if modules:
        source = tmp_path / "sentences"
        sentence_transformers.SentenceTransformer(str(path), device="cpu").save(str(source))
    encoder = load_encoder(f"sentence-transformers:{source}", device="cpu")
    tokens = transformers.AutoTokenizer.from_pretrained(str(path))(
        TEXTS, padding=True, return_tensors="pt"
    )
    with torch.inference_mode():
        states = bert(**tokens).last_hidden_state
    mask = tokens["attention_mask"][:, :, None]
    want = unit((states * mask).sum(dim=1) / mask.sum(dim=1))
    np.testing.assert_allclose(encoder.encode_text(TEXTS), want, atol=TOLERANCE)
    assert encoder.modalities == {"text"}
    with pytest.raises(ConfigError, match="no image tower"):
        encoder.encode_image(pictures())


# --- the hub's cache -----------------------------------------------------------------------------


def hub_folder(cache, repository):
    """Make the folders of a repository as the hub's client lays them out."""
    root = cache / f"models--{repository.replace('/', '--')}"
    snapshot = root / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text("a" * 40)
    return snapshot


def write_biomed(cache):
    """Write a model whose text tower is a BERT of another repository, as BiomedCLIP's is."""
    transformers = pytest.importorskip("transformers")
    text = hub_folder(cache, "lab/tiny-bert")
    bert = transformers.BertConfig(
        vocab_size=100,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
    )
    bert.save_pretrained(str(text))
    write_bert_tokenizer(text)
    vision = {"timm_model_name": "test_vit", "timm_pool": "", "image_size": 160}
    towers = {
        "hf_tokenizer_name": "lab/tiny-bert",
        "hf_proj_type": "mlp",
        "hf_pooler_type": "cls_last_hidden_state_pooler",
        "context_length": 20,
    }
    with quiet_open_clip():
        torch.manual_seed(0)
        own = {**towers, "hf_model_name": str(text), "hf_model_pretrained": False}
        model = open_clip.CustomTextCLIP(24, vision, own).eval()
    config = {
        "embed_dim": 24,
        "vision_cfg": vision,
        "text_cfg": {**towers, "hf_model_name": "lab/tiny-bert"},
    }
    snapshot = hub_folder(cache, "lab/tiny-biomed")
    content = {"model_cfg": config, "preprocess_cfg": {"mean": [0.48, 0.45, 0.4]}}
    (snapshot / "open_clip_config.json").write_text(json.dumps(content))
    state = model.state_dict()
    state["text.transformer.embeddings.position_ids"] = torch.arange(512)[None]
    torch.save(state, snapshot / "open_clip_pytorch_model.bin")
    return model, text


BY_NAME = """
import sys
import numpy as np
from model_files import TEXTS, pictures
from braindecode_clip.clip import load_encoder
encoder = load_encoder("hf-hub:lab/tiny-biomed", device="cpu")
images, texts = encoder.encode_image(pictures()), encoder.encode_text(TEXTS)
np.savez(sys.argv[1], images=images, texts=texts, name=encoder.name, tag=encoder.fingerprint["tag"])
"""


def test_biomedclip_like_model_from_the_cache(tmp_path):
    model, text = write_biomed(tmp_path / "hub")
    # transformers settles on the cache when it is imported: a process of its own.
    environment = {**os.environ, "HF_HUB_CACHE": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1"}
    root = Path(__file__).resolve().parents[2]
    environment["PYTHONPATH"] = f"{root}{os.pathsep}{root / 'tests/shared'}"
    out = tmp_path / "vectors.npz"
    subprocess.run([sys.executable, "-c", BY_NAME, str(out)], env=environment, check=True)
    transform = open_clip.transform.image_transform_v2(
        open_clip.transform.PreprocessCfg(size=160, mean=(0.48, 0.45, 0.4)), is_train=False
    )
    tokens = open_clip.tokenizer.HFTokenizer(str(text), context_length=20)(TEXTS)
    with torch.inference_mode():
        images = unit(model.encode_image(torch.stack([transform(p) for p in pictures()])))
        texts = unit(model.encode_text(tokens))
    with np.load(out) as got:
        np.testing.assert_allclose(got["images"], images, atol=TOLERANCE)
        np.testing.assert_allclose(got["texts"], texts, atol=TOLERANCE)
        assert (str(got["name"]), str(got["tag"])) == ("lab/tiny-biomed", "hub")


def test_clip_of_transformers_from_the_cache(write_hf_clip, tmp_path):
    _, path = write_hf_clip()
    snapshot = hub_folder(tmp_path / "hub", "lab/pubmed")
    for file in path.iterdir():
        file.rename(snapshot / file.name)
    encoder = load_encoder("hf-hub:lab/pubmed", device="cpu")
    assert encoder.name == "lab/pubmed"
    assert encoder.encode_text(["a dog"]).shape == (1, 24)


@pytest.mark.parametrize(
    "name",
    ["hf-hub:microsoft/BiomedCLIP", "sentence-transformers:sentence-transformers/MiniLM"],
)
def test_a_model_that_is_nowhere_comes_with_one_remedy(name, tmp_path):
    repository = name.split(":", 1)[1]
    with pytest.raises(DataError) as caught:
        load_encoder(name, device="cpu")
    message = str(caught.value)
    assert f"https://huggingface.co/{repository}" in message
    assert str(tmp_path / "hub") in message
    assert "could not be downloaded" in message


# --- what cannot be had here ---------------------------------------------------------------------


def test_a_tokenizer_that_is_nowhere_comes_with_a_remedy_that_works(builtin, tmp_path, monkeypatch):
    config = {**TINY, "quick_gelu": True}
    config["text_cfg"] = {**TINY["text_cfg"], "vocab_size": 100, "hf_tokenizer_name": "lab/words"}
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "ViT-test", config)
    model = tiny_model(config)
    save_file(dict(model.state_dict()), tmp_path / "w.safetensors")
    options = {"weights": tmp_path / "w.safetensors", "device": "cpu"}
    with pytest.raises(DataError) as caught:
        load_encoder("ViT-test", "quick", **options)
    message = str(caught.value)
    assert "its tokenizer lab/words" in message
    assert "tokenizer: /path/to/the/folder" in message
    folder = tmp_path / "words"
    folder.mkdir()
    write_bert_tokenizer(folder)
    encoder = load_encoder("ViT-test", "quick", tokenizer=folder, **options)
    tokens = open_clip.tokenizer.HFTokenizer(str(folder), context_length=16)(TEXTS)
    with torch.inference_mode():
        want = unit(model.encode_text(tokens))
    np.testing.assert_allclose(encoder.encode_text(TEXTS), want, atol=TOLERANCE)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no tokenizer can be read from it"):
        load_encoder("ViT-test", "quick", tokenizer=tmp_path / "empty", **options)


def test_a_text_tower_of_the_hub_that_is_nowhere(tmp_path):
    with quiet_open_clip():
        model = open_clip.CLIP(**TINY)
    save_file(dict(model.state_dict()), tmp_path / "w.safetensors")
    with pytest.raises(DataError, match=r"its text tower roberta-base: is not on this machine"):
        load_encoder(
            "roberta-ViT-B-32",
            "laion2b_s12b_b32k",
            weights=tmp_path / "w.safetensors",
            device="cpu",
        )


def test_texts_longer_than_a_tokenizer_of_transformers_reads_are_named(write_hf_clip, caplog):
    _, path = write_hf_clip()
    for name in ("vocab.json", "merges.txt", "tokenizer_config.json"):
        (path / name).unlink()
    write_bert_tokenizer(path)
    encoder = load_encoder(str(path), device="cpu")
    assert not caplog.records
    encoder.encode_text(["dog", "red " * 40])
    assert "1 texts are longer than the model's 16 tokens" in caplog.text


@pytest.mark.parametrize(
    ("package", "name"),
    [
        ("transformers", "{siglip}"),
        ("sentence_transformers", "sentence-transformers:any/thing"),
    ],
)
def test_a_missing_package_is_named(package, name, tmp_path, monkeypatch):
    (tmp_path / "config.json").write_text('{"model_type": "siglip"}')
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(DataError, match=r"pip install 'braindecode-clip\[encoders\]'"):
        load_encoder(name.format(siglip=tmp_path), device="cpu")
