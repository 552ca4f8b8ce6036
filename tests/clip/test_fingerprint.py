"""A decoder refuses embeddings of another encoder, whichever part of it differs."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
import torch
from model_files import TEXTS, TINY, pictures, tiny_model, write_directory
from safetensors.torch import load_file, save_file

from braindecode_clip.checks import differences
from braindecode_clip.clip import load_encoder
from braindecode_clip.clip.precision import settle_precision
from braindecode_clip.decode.fit import check_fingerprint
from braindecode_clip.errors import DataError

PARTS = {
    "name",
    "tag",
    "weights_sha256",
    "preprocessing",
    "quick_gelu",
    "activation",
    "precision",
    "tokenizer",
    "unit_norm",
    "n_dims",
    "libraries",
    "probe",
}


@pytest.fixture
def folder(tmp_path):
    write_directory(tmp_path / "tiny", model=tiny_model())
    return tmp_path / "tiny"


def fingerprint(folder, **options):
    return load_encoder(str(folder), device="cpu", **options).fingerprint


def edit(folder, section, **changes):
    path = folder / "open_clip_config.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content[section].update(changes)
    path.write_text(json.dumps(content), encoding="utf-8")


def differing(first, second):
    return {part.split(":")[0].split(".")[0] for part in differences(first, second)}


def test_all_parts_are_there_and_loading_again_gives_the_same(folder):
    first = fingerprint(folder)
    assert set(first) == PARTS
    assert not differences(first, fingerprint(folder))
    check_fingerprint(json.loads(json.dumps(first)), fingerprint(folder))
    assert {"open_clip_torch", "torch", "torchvision", "pillow"} == set(first["libraries"])
    assert first["libraries"]["torch"] == torch.__version__.split("+")[0]
    assert (len(first["probe"]), len(first["probe"][0])) == (3, 16)


def test_the_probe_holds_the_vectors_of_three_pictures(folder):
    from braindecode_clip.clip.fingerprint import probe_pictures

    encoder = load_encoder(str(folder), device="cpu")
    want = encoder.encode_image(probe_pictures()).astype(np.float64)[:, :16]
    np.testing.assert_allclose(encoder.fingerprint["probe"], want, atol=0.5e-5 + 1e-9)
    assert np.abs(want[0] - want[1]).max() > 0.01 and np.abs(want[1] - want[2]).max() > 0.01


def weights(folder):
    path = folder / "open_clip_model.safetensors"
    state = load_file(path)
    # The text tower is not probed: the digest alone tells.
    state["ln_final.bias"][0] += 1e-4
    save_file(state, path)


def mean(folder):
    edit(folder, "preprocess_cfg", mean=[0.5, 0.4, 0.31])


def resize_mode(folder):
    edit(folder, "preprocess_cfg", resize_mode="squash")


def interpolation(folder):
    edit(folder, "preprocess_cfg", interpolation="bilinear")


def activation(folder):
    edit(folder, "model_cfg", quick_gelu=False)


def vocabulary(folder):
    from braindecode_clip.clip.tokenizers import VOCABULARY_FILE, WordTokenizer

    text = json.dumps(WordTokenizer(["red", "dog"], context_length=16).to_json())
    (folder / VOCABULARY_FILE).write_text(text, encoding="utf-8")


def shorter_texts(folder):
    edit(folder, "model_cfg", text_cfg={**TINY["text_cfg"], "context_length": 15})
    path = folder / "open_clip_model.safetensors"
    state = load_file(path)
    state["positional_embedding"] = state["positional_embedding"][:15].clone()
    save_file(state, path)


@pytest.mark.parametrize(
    ("plant", "parts"),
    [
        (weights, {"weights_sha256"}),
        (mean, {"preprocessing", "probe"}),
        (resize_mode, {"preprocessing", "probe"}),
        (interpolation, {"preprocessing", "probe"}),
        (activation, {"quick_gelu", "activation", "probe"}),
        (vocabulary, {"tokenizer"}),
        (shorter_texts, {"tokenizer", "weights_sha256"}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_change_of_the_model_is_caught_and_named(folder, plant, parts):
    before = fingerprint(folder)
    plant(folder)
    after = fingerprint(folder)
    assert differing(before, after) == parts
    with pytest.raises(DataError) as caught:
        check_fingerprint(before, after)
    assert all(part in str(caught.value) for part in parts)


def test_precision_norm_library_and_code_are_caught(folder, monkeypatch):
    before = fingerprint(folder)
    encoder = load_encoder(str(folder), device="cpu")
    settle_precision(encoder, "bf16")
    assert differing(before, encoder.fingerprint) == {"precision"}
    assert differing(before, fingerprint(folder, unit_norm=False)) == {"unit_norm"}
    versions = {"torch": "2.99.0"}
    real = __import__("importlib.metadata").metadata.version
    with monkeypatch.context() as patch:
        patch.setattr("importlib.metadata.version", lambda name: versions.get(name, real(name)))
        after = fingerprint(folder)
    assert differences(before, after) == [
        f"libraries.torch: {before['libraries']['torch']!r} != '2.99.0'"
    ]
    # Another code path that no record tells: a kernel that leaves out the last layer norm.
    with monkeypatch.context() as patch:
        visual = type(tiny_model().visual)
        patch.setattr(visual, "_global_pool", lambda self, x: (x[:, 1], x[:, 1:]))
        assert differing(before, fingerprint(folder)) == {"probe"}


@pytest.mark.parametrize("part", sorted(PARTS))
def test_each_part_alone_is_refused(folder, part):
    before = fingerprint(folder)
    after = copy.deepcopy(before)
    after[part] = [[0.5] * 16] * 3 if part == "probe" else "planted"
    with pytest.raises(DataError, match=rf"differ|another encoder.*in {part}"):
        check_fingerprint(before, after)
    del after[part]
    with pytest.raises(DataError, match="absent"):
        check_fingerprint(before, after)


def test_probes_agree_within_rounding_and_no_further(folder):
    before = fingerprint(folder)
    near, far = copy.deepcopy(before), copy.deepcopy(before)
    near["probe"][2][5] += 9e-4
    far["probe"][2][5] += 1.1e-3
    assert not differences(before, near)
    assert differing(before, far) == {"probe"}
    short = {**before, "probe": before["probe"][:2]}
    assert differing(before, short) == {"probe"}
    # The tolerance is for probes alone.
    other = copy.deepcopy(before)
    other["preprocessing"]["mean"][0] += 9e-4
    assert differing(before, other) == {"preprocessing"}


def test_a_broken_probe_is_no_number():
    assert differences({"probe": [[0.1]]}, {"probe": [["0.1"]]})
    assert differences({"probe": [[0.1]]}, {"probe": 0.1})


def test_texts_stand_in_where_there_is_no_image_tower(tmp_path):
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("sentence_transformers")
    from model_files import write_bert_tokenizer

    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.BertConfig(vocab_size=100, intermediate_size=32, **sizes)
    transformers.BertModel(config).save_pretrained(str(tmp_path / "bert"))
    write_bert_tokenizer(tmp_path / "bert")
    name = f"sentence-transformers:{tmp_path / 'bert'}"
    first = load_encoder(name, device="cpu")
    assert not differences(first.fingerprint, load_encoder(name, device="cpu").fingerprint)
    assert len(first.fingerprint["probe"]) == 3
    assert first.encode_text(TEXTS, batch_size=2).shape == (3, 32)


def test_vectors_do_not_depend_on_the_batch(folder):
    encoder = load_encoder(str(folder), device="cpu")
    np.testing.assert_allclose(
        encoder.encode_image(pictures(), batch_size=2), encoder.encode_image(pictures()), atol=1e-6
    )
