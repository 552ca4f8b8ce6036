from __future__ import annotations

import json

import numpy as np
import pytest
import yaml
from PIL import Image

from braindecode_clip.artifacts import Embeddings
from braindecode_clip.cli.main import main
from braindecode_clip.config.base import parse_section
from braindecode_clip.config.embed import EncoderConfig
from braindecode_clip.errors import ConfigError
from braindecode_clip.io.hdf5 import load_artifact, read_provenance


@pytest.fixture
def stimuli(tmp_path):
    rng = np.random.default_rng(4)
    lines = ["stimulus_id\timage\tcaption\tsplit"]
    for k in range(6):
        picture = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(picture).save(tmp_path / f"{k}.png")
        lines.append(f"00{k}\t{k}.png\ta small red circle\ttrain")
    path = tmp_path / "stimuli.tsv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def embed(out, options, *more):
    return main(["embed", "--out", str(out), "--options", yaml.safe_dump(options), *map(str, more)])


def test_embedded_model_with_cache(stimuli, tmp_path):
    options = {"name": "scenes"}
    table = ("--stimuli", stimuli)
    cache = tmp_path / "cache"
    assert embed(tmp_path / "plain.h5", options, *table) == 0
    assert embed(tmp_path / "first.h5", options, *table, "--cache", cache) == 0
    (folder,) = cache.iterdir()
    (stored,) = folder.iterdir()
    with np.load(stored, allow_pickle=False) as content:
        assert len(content["keys"]) == 6
    before = stored.stat().st_mtime_ns
    assert embed(tmp_path / "second.h5", options, *table, "--cache", cache) == 0
    assert stored.stat().st_mtime_ns == before
    results = [
        load_artifact(tmp_path / f"{n}.h5", Embeddings) for n in ("plain", "first", "second")
    ]
    for result in results:
        assert result.ids.tolist() == [f"00{k}" for k in range(6)]
        np.testing.assert_array_equal(result.vectors, results[0].vectors)
        assert result.fingerprint == results[0].fingerprint
    provenance = read_provenance(tmp_path / "plain.h5")
    assert provenance["options"]["kind"] == "scenes"
    assert "stimuli.tsv" in provenance["inputs"]
    assert (tmp_path / "plain.h5").read_bytes() == (tmp_path / "second.h5").read_bytes()
    assert not list(tmp_path.glob(".*"))
    stored.write_bytes(b"damaged")
    assert embed(tmp_path / "third.h5", options, *table, "--cache", cache) == 0
    assert (tmp_path / "third.h5").read_bytes() == (tmp_path / "plain.h5").read_bytes()


def test_captions_have_the_same_fingerprint_as_pictures(stimuli, tmp_path):
    for modality in ("image", "text"):
        options = {"name": "x", "modality": modality}
        assert embed(tmp_path / f"{modality}.h5", options, "--stimuli", stimuli) == 0
    image, text = (load_artifact(tmp_path / f"{m}.h5", Embeddings) for m in ("image", "text"))
    assert (image.modality, text.modality) == ("image", "text")
    assert image.fingerprint == text.fingerprint
    np.testing.assert_array_equal(text.vectors[0], text.vectors[5])


def test_missing_pictures_leave_the_old_file(stimuli, tmp_path, capsys):
    out = tmp_path / "enc.h5"
    assert embed(out, {"name": "scenes"}, "--stimuli", stimuli) == 0
    before = out.read_bytes()
    (tmp_path / "2.png").unlink()
    (tmp_path / "4.png").write_bytes(b"")
    capsys.readouterr()
    assert embed(out, {"name": "scenes"}, "--stimuli", stimuli) == 1
    printed = capsys.readouterr().err
    assert all(part in printed for part in ("2.png", "4.png", "002", "004", "2 problems"))
    assert "Traceback" not in printed
    assert out.read_bytes() == before


def test_table_mistakes_are_named(tmp_path, capsys):
    table = tmp_path / "stimuli.tsv"
    table.write_text("stimulus_id\timage\na\tx.png\na\t\n", encoding="utf-8")
    assert embed(tmp_path / "o.h5", {"name": "scenes"}, "--stimuli", table) == 1
    printed = capsys.readouterr().err
    assert "more than once: 'a'" in printed
    assert "lines '3'" in printed
    assert embed(tmp_path / "o.h5", {"name": "scenes"}) == 1
    assert "--stimuli" in capsys.readouterr().err


def test_precomputed_vectors(tmp_path, capsys):
    rng = np.random.default_rng(0)
    np.save(tmp_path / "v.npy", rng.standard_normal((3, 4)).astype(np.float16))
    (tmp_path / "n.tsv").write_text("name\tsource\nhouse\tx\nhuman face\tx\ncat\tx\n")
    options = {
        "name": "names",
        "kind": "precomputed",
        "modality": "text",
        "vectors": str(tmp_path / "v.npy"),
        "names": str(tmp_path / "n.tsv"),
        "source": "a model",
    }
    out = tmp_path / "names.h5"
    assert embed(out, options) == 0
    first = load_artifact(out, Embeddings)
    assert first.ids.tolist() == ["house", "human face", "cat"]
    assert first.fingerprint["source"] == "a model"
    (tmp_path / "n.tsv").write_text("name\tsource\ncat\tx\nhuman face\tx\nhouse\tx\n")
    assert embed(out, options) == 0
    assert load_artifact(out, Embeddings).fingerprint["sha256"] != first.fingerprint["sha256"]
    table = tmp_path / "stimuli.tsv"
    table.write_text("stimulus_id\ncat\nshoe\n", encoding="utf-8")
    assert embed(out, options, "--stimuli", table) == 1
    assert "'shoe'" in capsys.readouterr().err


def test_real_name_vectors(shared_data, tmp_path):
    folder = shared_data / "clip_vit_b32_names"
    options = {
        "name": "vit-b-32-names",
        "kind": "precomputed",
        "modality": "text",
        "vectors": str(folder / "text_vectors.npy"),
        "names": str(folder / "names.tsv"),
    }
    assert embed(tmp_path / "names.h5", options) == 0
    names = load_artifact(tmp_path / "names.h5", Embeddings)
    assert names.vectors.shape == (1466, 512)
    rows = names.rows(np.array(["cat", "kitten", "scissors"]))
    similarity = names.vectors[rows] @ names.vectors[rows].T
    assert similarity[0, 1] > similarity[0, 2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "a", "kind": "open_clip"}, "needs 'model'"),
        ({"name": "a", "kind": "open_clip", "model": "ViT-B-32"}, "needs 'pretrained'"),
        ({"name": "a", "kind": "precomputed"}, "needs 'vectors'"),
        ({"name": "a", "kind": "scenes", "model": "ViT-B-32"}, "does not use 'model'"),
        ({"name": "a", "modalty": "text"}, "Did you mean 'modality'"),
        ({"name": "a b"}, "name"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        parse_section(EncoderConfig, options, where="test")


def test_options_survive_the_way_through_json():
    config = EncoderConfig(name="b32", kind="open_clip", model="ViT-B-32", pretrained="openai")
    text = json.loads(config.model_dump_json())
    assert parse_section(EncoderConfig, text, where="json") == config


@pytest.fixture
def local_model(tmp_path):
    """A vision transformer small enough for tests, in the directory form of open_clip."""
    from braindecode_clip.clip.models import build_model, save_model
    from braindecode_clip.clip.tokenizers import WordTokenizer
    from braindecode_clip.config.clip import ClipRecipe

    recipe = ClipRecipe.model_validate(
        {
            "name": "tiny",
            "seed": 5,
            "model": {
                "embed_dim": 16,
                "vision_cfg": {
                    "layers": 2,
                    "width": 64,
                    "head_width": 32,
                    "patch_size": 8,
                    "image_size": 32,
                },
                "text_cfg": {"context_length": 7, "width": 32, "heads": 2, "layers": 1},
            },
            "training": {"epochs": 1, "batch_size": 2},
        }
    )
    tokenizer = WordTokenizer(["a", "small", "red", "circle"], context_length=7)
    folder = tmp_path / "models" / "tiny"
    save_model(folder, build_model(recipe, tokenizer), recipe=recipe, tokenizer=tokenizer)
    return folder


def test_precision_is_part_of_the_fingerprint_and_of_the_cache(stimuli, local_model, tmp_path):
    found = {}
    for precision in ("fp32", "bf16"):
        for modality in ("image", "text"):
            out = tmp_path / f"{precision}-{modality}.h5"
            options = {
                "name": "x",
                "kind": "local",
                "model": str(local_model),
                "precision": precision,
                "modality": modality,
            }
            more = ("--stimuli", stimuli, "--cache", tmp_path / "cache", "--threads", "2")
            assert embed(out, options, *more) == 0
            found[precision, modality] = load_artifact(out, Embeddings)
    for precision, name in (("fp32", "float32"), ("bf16", "bfloat16")):
        image, text = found[precision, "image"], found[precision, "text"]
        assert image.fingerprint == text.fingerprint
        assert image.fingerprint["precision"] == name
    exact, lowered = found["fp32", "image"], found["bf16", "image"]
    without = [
        {k: v for k, v in e.fingerprint.items() if k != "precision"} for e in (exact, lowered)
    ]
    assert without[0] == without[1]
    assert not np.array_equal(exact.vectors, lowered.vectors)
    # Eight significant bits: each of 16 parts is off by 2^-9 of its size, a few layers on.
    assert (exact.vectors * lowered.vectors).sum(axis=1).min() > 0.999
    assert len(list((tmp_path / "cache").iterdir())) == 4


@pytest.mark.parametrize(("threshold", "name"), [(0.99, "bfloat16"), (1.01, "float32")])
def test_auto_looks_at_the_pictures_of_the_job(
    stimuli, local_model, tmp_path, monkeypatch, caplog, threshold, name
):
    from braindecode_clip.clip import precision

    monkeypatch.setattr("braindecode_clip.logs.set_up_logging", lambda **_: None)
    monkeypatch.setattr("braindecode_clip.cli.main.set_up_logging", lambda **_: None)
    caplog.set_level("INFO", "braindecode_clip")
    monkeypatch.setattr(precision, "_is_native", lambda device: True)
    monkeypatch.setattr(precision, "MIN_COSINE", threshold)
    options = {"name": "x", "kind": "local", "model": str(local_model)}
    assert embed(tmp_path / "a.h5", options, "--stimuli", stimuli) == 0
    assert load_artifact(tmp_path / "a.h5", Embeddings).fingerprint["precision"] == name
    # Four pictures and four texts that are always there, and all six of the job.
    assert f"precision: {name}" in caplog.text and "on 14 probes" in caplog.text
    # A damaged probe is no reason to stop there: it is named at the end.
    (tmp_path / "0.png").write_bytes(b"")
    caplog.clear()
    assert embed(tmp_path / "b.h5", options, "--stimuli", stimuli) == 1
    assert "on 13 probes" in caplog.text
    assert not (tmp_path / "b.h5").exists()


def test_the_shipped_model_is_always_float32(stimuli, tmp_path, monkeypatch):
    from braindecode_clip.clip import precision

    monkeypatch.setattr(precision, "_is_native", lambda device: True)
    assert embed(tmp_path / "a.h5", {"name": "x"}, "--stimuli", stimuli) == 0
    assert load_artifact(tmp_path / "a.h5", Embeddings).fingerprint["precision"] == "float32"
    with pytest.raises(ConfigError, match="does not use 'precision'"):
        parse_section(EncoderConfig, {"name": "x", "precision": "bf16"}, where="test")


def test_threads_are_put_back_and_change_no_vector(stimuli, tmp_path):
    import torch

    before = torch.get_num_threads()
    results = []
    for threads in (1, 3):
        out = tmp_path / f"{threads}.h5"
        options = {"name": "x", "batch_size": 2}
        assert embed(out, options, "--stimuli", stimuli, "--threads", threads) == 0
        results.append(out.read_bytes())
        assert torch.get_num_threads() == threads
    torch.set_num_threads(before)
    assert results[0] == results[1]
