"""`embed` with several captions, both modalities, raw vectors and other families."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import yaml
from model_files import tiny_model, write_directory
from PIL import Image

from braindecode_clip.artifacts import Embeddings
from braindecode_clip.cli.main import main
from braindecode_clip.clip import load_encoder
from braindecode_clip.config.base import parse_section
from braindecode_clip.config.embed import EncoderConfig
from braindecode_clip.errors import ConfigError
from braindecode_clip.io.hdf5 import load_artifact, read_provenance

ATOL = 16 * np.finfo(np.float32).eps
CAPTIONS = [("a red dog", "two cats"), ("a blue house", "snow"), ("a cup", "a cup of tea")]


@pytest.fixture
def stimuli(tmp_path):
    rng = np.random.default_rng(6)
    lines = ["stimulus_id\timage\tcaption\tsecond"]
    for k, (first, second) in enumerate(CAPTIONS):
        picture = rng.integers(0, 256, (40, 50 + k, 3), dtype=np.uint8)
        Image.fromarray(picture).save(tmp_path / f"{k}.png")
        lines.append(f"0{k}\t{k}.png\t{first}\t{second}")
    (tmp_path / "stimuli.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    write_directory(tmp_path / "model", model=tiny_model())
    return tmp_path


def embed(stimuli, **options):
    options = {"name": "x", "kind": "local", "model": str(stimuli / "model"), **options}
    options = {"precision": "fp32", **options}
    out = stimuli / "out.h5"
    table = str(stimuli / "stimuli.tsv")
    code = main(
        ["embed", "--out", str(out), "--options", yaml.safe_dump(options), "--stimuli", table]
    )
    return load_artifact(out, Embeddings) if code == 0 else code


def test_both_captions_and_the_picture(stimuli):
    encoder = load_encoder(str(stimuli / "model"), device="cpu")
    i = encoder.encode_image([stimuli / f"{k}.png" for k in range(3)]).astype(np.float64)
    first = encoder.encode_text([pair[0] for pair in CAPTIONS]).astype(np.float64)
    second = encoder.encode_text([pair[1] for pair in CAPTIONS]).astype(np.float64)
    columns = ["caption", "second"]
    mean = first + second
    mean /= np.linalg.norm(mean, axis=1, keepdims=True)
    got = embed(stimuli, modality="text", caption_columns=columns)
    np.testing.assert_allclose(got.vectors, mean, atol=ATOL)
    assert got.ids.tolist() == ["00", "01", "02"]
    got = embed(stimuli, modality="text", caption_columns=columns, captions="each")
    np.testing.assert_allclose(got.vectors, np.hstack([first, second]) / np.sqrt(2), atol=ATOL)
    got = embed(stimuli, modality="both", caption_columns=columns, text_weight=0.25)
    want = np.hstack([np.sqrt(0.75) * i, np.sqrt(0.25) * mean])
    np.testing.assert_allclose(got.vectors, want, atol=ATOL)
    provenance = read_provenance(stimuli / "out.h5")
    assert {"images", "texts"} < provenance["inputs"].keys()
    assert provenance["options"]["text_weight"] == 0.25


def test_raw_vectors_keep_their_lengths(stimuli):
    raw = embed(stimuli, unit_norm=False)
    unit = embed(stimuli)
    lengths = np.linalg.norm(raw.vectors.astype(np.float64), axis=1, keepdims=True)
    assert np.abs(lengths - 1).min() > 0.1
    np.testing.assert_allclose(raw.vectors / lengths, unit.vectors, atol=ATOL)
    assert (raw.fingerprint["unit_norm"], unit.fingerprint["unit_norm"]) == (False, True)


def test_an_empty_cell_is_left_out_of_the_average_alone(stimuli, capsys):
    table = stimuli / "stimuli.tsv"
    table.write_text(table.read_text().replace("\tsnow", "\t"))
    columns = ["caption", "second"]
    got = embed(stimuli, modality="text", caption_columns=columns)
    encoder = load_encoder(str(stimuli / "model"), device="cpu")
    np.testing.assert_allclose(got.vectors[1], encoder.encode_text(["a blue house"])[0], atol=ATOL)
    assert embed(stimuli, modality="text", caption_columns=columns, captions="each") == 1
    assert "fewer than 2 captions" in capsys.readouterr().err
    assert load_artifact(stimuli / "out.h5", Embeddings).vectors.shape == got.vectors.shape
    table.write_text(table.read_text().replace("a blue house", ""))
    assert embed(stimuli, modality="text", caption_columns=columns) == 1
    assert "'caption' and 'second' is empty in the lines '3'" in capsys.readouterr().err


def test_a_timm_encoder_from_a_file(stimuli):
    import timm

    model = timm.create_model("test_vit", pretrained=False).eval()
    torch.save({"state_dict": model.state_dict()}, stimuli / "w.pth")
    options = {"kind": "timm", "model": "test_vit", "weights": str(stimuli / "w.pth")}
    got = embed(stimuli, **options)
    assert got.vectors.shape == (3, model.num_features)
    assert got.fingerprint["tokenizer"] is None
    got = embed(stimuli, **options, precision="bf16")
    assert got.fingerprint["precision"] == "bfloat16"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "timm", "model": "x", "modality": "text"}, "has no text tower"),
        ({"kind": "sentence_transformers", "model": "x"}, "has no image tower"),
        ({"kind": "timm", "model": "x", "captions": "each"}, "does not use 'captions'"),
        ({"kind": "hub", "model": "a/b", "weights": "x"}, "does not use 'weights'"),
        ({"caption_columns": ["a", "a"], "modality": "text"}, "must differ"),
        (
            {
                "caption_columns": ["a", "b"],
                "captions": "each",
                "modality": "both",
                "combine": "average",
            },
            "more dimensions than a picture",
        ),
        ({"kind": "precomputed", "vectors": "x", "modality": "both"}, "of one modality"),
    ],
)
def test_options_that_do_not_go_together(options, message):
    with pytest.raises(ConfigError, match=message):
        parse_section(EncoderConfig, {"name": "a", **options}, where="test")
