from __future__ import annotations

import numpy as np
import pytest
import yaml
from PIL import Image
from small_vit import N_DIMS, N_TOKENS, write_small_vit

from braindecode_clip.artifacts import Embeddings
from braindecode_clip.cli.main import main
from braindecode_clip.clip import load_encoder
from braindecode_clip.clip.tokens import TokenEncoder
from braindecode_clip.config.base import parse_section
from braindecode_clip.config.embed import EncoderConfig
from braindecode_clip.errors import ConfigError
from braindecode_clip.io.hdf5 import holds_tokens, load_artifact, open_vectors, read_provenance

N = 11


@pytest.fixture
def stimuli(tmp_path):
    rng = np.random.default_rng(4)
    lines = ["stimulus_id\timage\tcaption"]
    for k in range(N):
        picture = rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)
        Image.fromarray(picture).save(tmp_path / f"{k}.png")
        lines.append(f"s{k:02d}\t{k}.png\ta circle")
    path = tmp_path / "stimuli.tsv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def options(tmp_path):
    model = write_small_vit(tmp_path / "vit")
    return {"name": "vit", "kind": "local", "model": str(model), "targets": "tokens"}


def embed(out, options, stimuli):
    flags = ["--options", yaml.safe_dump(options), "--stimuli", str(stimuli), "--device", "cpu"]
    return main(["embed", "--out", str(out), *flags])


@pytest.mark.parametrize(("dtype", "tolerance"), [("float16", 2**-10), ("float32", 1e-6)])
def test_tokens_go_to_a_file(options, stimuli, tmp_path, dtype, tolerance):
    out = tmp_path / "tokens.h5"
    assert embed(out, {**options, "token_dtype": dtype, "batch_size": 4}, stimuli) == 0
    result = load_artifact(out, Embeddings)
    encoder = load_encoder(options["model"], device="cpu")
    pictures = [Image.open(tmp_path / f"{k}.png").convert("RGB") for k in range(N)]
    expected = encoder.token_encoder().encode_image(pictures)
    assert result.vectors.shape == (N, N_TOKENS, N_DIMS) and result.vectors.dtype == dtype
    np.testing.assert_allclose(result.vectors, expected, atol=tolerance * np.abs(expected).max())
    assert result.ids.tolist() == [f"s{k:02d}" for k in range(N)]
    assert result.fingerprint["targets"] == "tokens" and result.fingerprint["dtype"] == dtype
    assert "stimuli.tsv" in read_provenance(out)["inputs"]
    assert holds_tokens(out)
    # The last row of two, so that order and repeats count.
    with open_vectors(out, Embeddings) as stored:
        rows = stored.rows(np.array(["s10", "s03", "s10"]))
        np.testing.assert_array_equal(stored.vectors[rows][:, 3:9], result.vectors[rows][:, 3:9])
    assert not list(tmp_path.glob(".tokens.h5*"))


def test_a_run_that_was_stopped_goes_on(options, stimuli, tmp_path, monkeypatch):
    out, whole = tmp_path / "tokens.h5", tmp_path / "whole.h5"
    options["batch_size"] = 3
    assert embed(whole, options, stimuli) == 0
    real, seen = TokenEncoder.encode_image, []

    def until_stopped(self, images):
        seen.append(len(images))
        if len(seen) == 3:
            raise KeyboardInterrupt
        return real(self, images)

    monkeypatch.setattr(TokenEncoder, "encode_image", until_stopped)
    with pytest.raises(KeyboardInterrupt):
        main_without_exit(out, options, stimuli)
    assert not out.exists()
    seen.clear()
    monkeypatch.setattr(
        TokenEncoder, "encode_image", lambda self, x: seen.append(len(x)) or real(self, x)
    )
    assert embed(out, options, stimuli) == 0
    assert seen == [3, 2]
    np.testing.assert_array_equal(
        load_artifact(out, Embeddings).vectors, load_artifact(whole, Embeddings).vectors
    )


def main_without_exit(out, options, stimuli):
    from braindecode_clip.cli.embed_tokens import embed_tokens

    config = parse_section(EncoderConfig, options, where="test")
    embed_tokens(config, stimuli, out=out, device="cpu")


def test_other_pictures_or_choices_start_anew(options, stimuli, tmp_path, monkeypatch):
    out = tmp_path / "tokens.h5"
    options["batch_size"] = 3
    real, seen = TokenEncoder.encode_image, []

    def once(self, images):
        seen.append(len(images))
        if len(seen) == 2:
            raise KeyboardInterrupt
        return real(self, images)

    for change in ("picture", "choice"):
        seen.clear()
        monkeypatch.setattr(TokenEncoder, "encode_image", once)
        with pytest.raises(KeyboardInterrupt):
            main_without_exit(out, options, stimuli)
        if change == "picture":
            Image.new("RGB", (32, 32), "red").save(tmp_path / "0.png")
        else:
            options["class_token"] = False
        again = []
        monkeypatch.setattr(
            TokenEncoder,
            "encode_image",
            lambda self, x, again=again: again.append(len(x)) or real(self, x),
        )
        assert embed(out, options, stimuli) == 0
        assert sum(again) == N


def test_damaged_pictures_are_listed_and_the_old_file_stays(options, stimuli, tmp_path, capsys):
    out = tmp_path / "tokens.h5"
    assert embed(out, options, stimuli) == 0
    before = out.read_bytes()
    (tmp_path / "2.png").unlink()
    (tmp_path / "4.png").write_bytes(b"no picture")
    capsys.readouterr()
    assert embed(out, options, stimuli) == 1
    printed = capsys.readouterr().err
    assert all(part in printed for part in ("2.png", "4.png", "s02", "s04", "2 problems"))
    assert "Traceback" not in printed
    assert out.read_bytes() == before


def test_a_tower_without_tokens_gets_a_message(options, stimuli, tmp_path, capsys):
    options["model"] = str(
        write_small_vit(tmp_path / "c", attentional_pool=True, attn_pooler_heads=2)
    )
    assert embed(tmp_path / "x.h5", options, stimuli) == 1
    printed = capsys.readouterr().err
    assert "pools by attention" in printed and "Traceback" not in printed
    assert not (tmp_path / "x.h5").exists()


def test_numbers_that_overflow_are_named(options, stimuli, tmp_path, monkeypatch, capsys):
    real = TokenEncoder.encode_image

    def broken(self, images):
        tokens = real(self, images)
        tokens[1, 0, 0] = np.nan
        return tokens

    monkeypatch.setattr(TokenEncoder, "encode_image", broken)
    assert embed(tmp_path / "x.h5", {**options, "batch_size": 6}, stimuli) == 1
    printed = capsys.readouterr().err
    assert "'s01'" in printed and "s00" not in printed and "float16" in printed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"modality": "text"}, "are of pictures"),
        ({"kind": "scenes", "model": None}, "does not use 'targets'"),
        ({"targets": "pooled", "class_token": False}, "do not use 'class_token'"),
        ({"targets": "token"}, "targets"),
    ],
)
def test_options_that_make_no_sense_are_refused(change, message):
    options = {"name": "a", "kind": "local", "model": "m", "targets": "tokens"} | change
    with pytest.raises(ConfigError, match=message):
        parse_section(EncoderConfig, options, where="test")
