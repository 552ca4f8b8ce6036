from __future__ import annotations

import logging

import pytest
from safetensors.torch import save_file

from braindecode_clip.cli.main import main
from braindecode_clip.clip.encoders import load_encoder
from braindecode_clip.clip.models import quiet_open_clip
from braindecode_clip.clip.pretrained import resolve
from braindecode_clip.clip.torchvision_compat import import_open_clip
from braindecode_clip.errors import ConfigError, DataError


def test_offline_weights_come_with_the_whole_remedy(tmp_path):
    with pytest.raises(DataError) as caught:
        load_encoder("ViT-B-32", "openai")
    message = str(caught.value)
    assert "https://huggingface.co/timm/vit_base_patch32_clip_224.openai" in message
    assert "weights: /path/to/the/file" in message
    assert str(tmp_path / "hub") in message


def test_offline_on_the_command_line_is_one_message(tmp_path, capsys):
    (tmp_path / "stimuli.tsv").write_text("stimulus_id\timage\na\ta.png\n", encoding="utf-8")
    out = tmp_path / "enc.h5"
    options = "{name: b32, kind: open_clip, model: ViT-B-32, pretrained: openai}"
    code = main(
        ["embed", "--out", str(out), "--options", options, "--stimuli", f"{tmp_path}/stimuli.tsv"]
    )
    printed = capsys.readouterr()
    assert code == 1
    assert "could not be downloaded" in printed.err
    assert "Traceback" not in printed.err
    assert not out.exists()


def test_unknown_names_come_with_the_nearest():
    with pytest.raises(ConfigError, match=r"'ViT-B32'. Did you mean .*'ViT-B-32'"):
        load_encoder("ViT-B32", "openai")
    with pytest.raises(ConfigError, match=r"'opnai'. Did you mean 'openai'"):
        load_encoder("ViT-B-32", "opnai")
    with pytest.raises(ConfigError, match=r"no weights named.*openai"):
        load_encoder("ViT-B-32")


@pytest.fixture
def checkpoint(tmp_path):
    """A checkpoint of a built-in model with random weights."""
    with quiet_open_clip():
        model = import_open_clip().create_model("RN50", device="cpu")
    path = tmp_path / "rn50.safetensors"
    save_file({k: v.half() for k, v in model.state_dict().items()}, path)
    return path


def test_the_tag_settles_activation_and_preprocessing(tmp_path):
    file = tmp_path / "w.safetensors"
    file.write_bytes(b"")
    quick = resolve("ViT-B-32", "openai", weights=file)
    plain = resolve("ViT-B-32", "laion2b_s34b_b79k", weights=file)
    assert (quick.quick_gelu, plain.quick_gelu) == (True, False)
    assert resolve("ViT-B-32-quickgelu", "openai", weights=file).quick_gelu
    # Its tag is silent, its only config is not.
    assert resolve("roberta-ViT-B-32", "laion2b_s12b_b32k", weights=file).quick_gelu
    half = resolve("ViT-L-14", "laion2b_s32b_b82k", weights=file)
    assert tuple(half.preprocess["mean"]) == (0.5, 0.5, 0.5)


def test_an_activation_that_does_not_fit_is_refused(tmp_path):
    file = tmp_path / "w.safetensors"
    file.write_bytes(b"")
    with pytest.raises(ConfigError, match="trained with quick_gelu True"):
        resolve("ViT-B-32", "openai", quick_gelu=False)
    with pytest.raises(ConfigError, match="trained with quick_gelu False"):
        resolve("ViT-B-32", "laion2b_s34b_b79k", quick_gelu=True)
    with pytest.raises(ConfigError, match="without '-quickgelu'"):
        resolve("ViT-B-32-quickgelu", str(file), quick_gelu=False)


def test_a_bare_file_must_say_its_activation_where_both_exist(tmp_path):
    file = tmp_path / "w.safetensors"
    file.write_bytes(b"")
    with pytest.raises(ConfigError, match="Set quick_gelu to true or false"):
        resolve("ViT-B-32", str(file))
    assert resolve("ViT-B-32", str(file), quick_gelu=True).quick_gelu
    with pytest.raises(DataError, match="no such checkpoint"):
        resolve("ViT-B-32", str(tmp_path / "absent.pt"))


@pytest.mark.slow
def test_weights_from_a_file_load_with_the_tags_activation(checkpoint):
    encoder = load_encoder("RN50", "openai", weights=checkpoint, device="cpu")
    kinds = {type(module).__name__ for module in encoder.model.modules()}
    assert "QuickGELU" in kinds
    assert encoder.fingerprint["quick_gelu"] is True
    assert encoder.encode_text(["a dog"]).shape == (1, 1024)


def test_a_file_that_is_no_checkpoint_is_named(tmp_path):
    file = tmp_path / "w.safetensors"
    file.write_bytes(b"no tensors at all")
    with pytest.raises(DataError, match=r"w\.safetensors: cannot be read as a checkpoint"):
        load_encoder("ViT-S-32-alt", str(file), device="cpu")


def test_texts_longer_than_open_clips_context_are_named(caplog):
    from braindecode_clip.clip.encoders import ClipEncoder

    encoder = ClipEncoder.__new__(ClipEncoder)
    encoder._tokenize = import_open_clip().get_tokenizer("RN50")
    with caplog.at_level(logging.WARNING):
        encoder._warn_if_cut(["a dog"])
        assert not caplog.records
        encoder._warn_if_cut(["word " * 80])
    assert "75 tokens" in caplog.text


def test_root_logger_stays_as_it_was():
    root = logging.getLogger()
    before = (list(root.handlers), list(root.filters))
    with quiet_open_clip():
        logging.warning("unheard")
    assert (root.handlers, root.filters) == before


@pytest.mark.parametrize("model", ["ViT-B-32", "ViT-L-14", "ViT-H-14", "MobileCLIP-S2"])
def test_every_tag_takes_activation_and_preprocessing_from_its_own_config(model, tmp_path):
    open_clip = import_open_clip()
    file = tmp_path / "w.safetensors"
    file.write_bytes(b"")
    for tag in open_clip.list_pretrained_tags_by_model(model):
        source = resolve(model, tag, weights=file)
        settings = open_clip.get_pretrained_cfg(model, tag)
        assert source.quick_gelu is bool(settings.get("quick_gelu"))
        for key in ("mean", "std", "interpolation", "resize_mode"):
            assert source.preprocess[key] == settings[key]
