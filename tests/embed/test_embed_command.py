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
