"""Training of towers of every kind: what they start from, and what is written of them."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from tower_files import (
    IMAGE,
    WRITTEN_IMAGE,
    WRITTEN_TEXT,
    bert_towers,
    write_bert,
    write_config,
)

from braindecode_clip.clip.blueprint import settled
from braindecode_clip.clip.data import Pairs, normalised
from braindecode_clip.clip.data_report import describe_reading
from braindecode_clip.clip.encoders import load_encoder
from braindecode_clip.clip.models import build_model, save_model
from braindecode_clip.clip.optim import layer_scales
from braindecode_clip.clip.run_state import weights_digest
from braindecode_clip.clip.tokenizers import ByteTokenizer, WordTokenizer
from braindecode_clip.clip.torchvision_compat import import_open_clip
from braindecode_clip.clip.train import Trainer
from braindecode_clip.config.clip import ClipRecipe
from braindecode_clip.errors import ConfigError, DataError

open_clip = import_open_clip()

TEXTS = ["red left", "Dark blue, 3 dogs!", "a"]
TRAINING = {
    "epochs": 2,
    "batch_size": 6,
    "log_every": 2,
    "checkpoint_every": 2,
    "validate_every": 4,
}
# float32 sums of a few hundred terms in another order.
ATOL = 2e-6


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def make_recipe(model=None, *, preprocess=None, **training):
    return ClipRecipe.model_validate(
        {
            "name": "towers",
            "seed": 4,
            **({} if model is None else {"model": model}),
            **({} if preprocess is None else {"preprocess": preprocess}),
            "training": {**TRAINING, **training},
        }
    )


@pytest.fixture
def start(make_pairs, tmp_path):
    """Return a maker of trainers: 4 steps in 2 epochs."""

    def make(recipe, folder="run", *, size_px=32, pairs=None, **options):
        return Trainer(
            recipe,
            make_pairs(13, 1, size_px) if pairs is None else pairs,
            validation=make_pairs(5, 2, size_px),
            state_dir=tmp_path / folder,
            **options,
        )

    return make


@pytest.fixture
def towers(tmp_path):
    """Return a maker of the section ``model`` of each kind."""

    def make(kind):
        written = {"embed_dim": 12, "vision_cfg": WRITTEN_IMAGE, "text_cfg": WRITTEN_TEXT}
        if kind == "config":
            return {"config": str(write_config(tmp_path / "tiny.json"))}
        if kind == "huggingface":
            return bert_towers(write_bert(tmp_path / "bert"))
        return {**written, "tokenizer": kind}

    return make


def vectors_of(trainer, pixels):
    model = trainer.model.eval()
    tokens = torch.as_tensor(trainer.tokenizer(TEXTS))
    with torch.no_grad():
        return (
            model.encode_image(pixels, normalize=True).numpy(),
            model.encode_text(tokens, normalize=True).numpy(),
        )


def check_same_vectors(directory, trainer, pictures):
    """The directory gives the trained model's vectors, by load_encoder and by open_clip alone."""
    preprocess = trainer.recipe.preprocess
    want = vectors_of(trainer, normalised(pictures, preprocess.mean, preprocess.std))
    encoder = load_encoder(str(directory), device="cpu")
    images = [Image.fromarray(picture) for picture in pictures]
    np.testing.assert_allclose(encoder.encode_image(images), want[0], atol=ATOL)
    np.testing.assert_allclose(encoder.encode_text(TEXTS), want[1], atol=ATOL)
    model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{directory}")
    model.eval()
    own = trainer.tokenizer.kind in ("words", "bytes")
    # open_clip knows no tokenizer of words or bytes.
    tokenize = trainer.tokenizer if own else open_clip.get_tokenizer(f"local-dir:{directory}")
    with torch.no_grad():
        got = (
            model.encode_image(torch.stack([transform(i) for i in images]), normalize=True),
            model.encode_text(torch.as_tensor(tokenize(TEXTS)), normalize=True),
        )
    for found, wanted in zip(got, want, strict=True):
        np.testing.assert_allclose(found.numpy(), wanted, atol=ATOL)


@pytest.mark.parametrize("kind", ["words", "bytes", "config", "huggingface"])
def test_what_was_trained_is_what_is_written(start, towers, make_pairs, tmp_path, kind):
    recipe = make_recipe(towers(kind), preprocess={"mean": (0.4, 0.5, 0.6)})
    trainer = start(recipe)
    first = weights_digest(trainer.model)
    assert trainer.run()
    assert weights_digest(trainer.model) != first
    trainer.export(tmp_path / "model")
    pictures = make_pairs(3, 7).images
    check_same_vectors(tmp_path / "model", trainer, pictures)
    # Who starts there, and names no towers, has the same towers, tokenizer and preprocessing.
    again = start(make_recipe(), "again", initial=tmp_path / "model")
    assert again.recipe.preprocess.mean == (0.4, 0.5, 0.6)
    assert again.recipe.model.vision_cfg == trainer.recipe.model.vision_cfg
    for found, wanted in zip(
        vectors_of(again, normalised(pictures, (0.4, 0.5, 0.6), (0.25,) * 3)),
        vectors_of(trainer, normalised(pictures, (0.4, 0.5, 0.6), (0.25,) * 3)),
        strict=True,
    ):
        np.testing.assert_array_equal(found, wanted)
    assert settled(again.recipe, tmp_path / "model") == again.recipe


@pytest.mark.parametrize("options", [{}, {"memory": "gradcache", "chunk_size": 4}])
def test_a_run_with_dropout_goes_on_bit_by_bit(start, towers, options):
    model = {**towers("huggingface"), "vision_cfg": WRITTEN_IMAGE}
    recipe = make_recipe(model, **options)
    whole = start(recipe, "whole")
    dropout = [m for m in whole.model.text.modules() if isinstance(m, torch.nn.Dropout)]
    assert max(m.p for m in dropout) == 0.1
    whole.run()
    start(recipe, "cut").run(stop_after=2)
    torch.manual_seed(99)
    cut = start(recipe, "cut", resume=True)
    assert cut.step == 2
    cut.run()
    assert weights_digest(cut.model) == weights_digest(whole.model)


def test_a_directory_with_a_text_tower_of_transformers_may_be_moved(
    start, towers, make_pairs, tmp_path
):
    trainer = start(make_recipe(towers("huggingface")))
    trainer.run(stop_after=1)
    trainer.export(tmp_path / "model")
    encoder = load_encoder(str(tmp_path / "model"), device="cpu")
    want = encoder.encode_text(TEXTS)
    shutil.rmtree(tmp_path / "bert")
    moved = tmp_path / "elsewhere" / "moved"
    moved.parent.mkdir()
    (tmp_path / "model").rename(moved)
    again = load_encoder(str(moved), device="cpu")
    np.testing.assert_array_equal(again.encode_text(TEXTS), want)
    second = start(make_recipe(), "second", initial=moved)
    second.run(stop_after=1)
    second.export(tmp_path / "third")
    check_same_vectors(tmp_path / "third", second, make_pairs(2, 3).images)
    assert str(tmp_path) not in second.recipe.model_dump_json()


def test_a_text_tower_of_the_hub_is_read_from_what_lies_beside_it(start, towers, tmp_path):
    trainer = start(make_recipe(towers("huggingface")))
    trainer.export(tmp_path / "model")
    want = load_encoder(str(tmp_path / "model"), device="cpu").encode_text(TEXTS)
    path = tmp_path / "model" / "open_clip_config.json"
    content = json.loads(path.read_text())
    text = content["model_cfg"]["text_cfg"]
    assert text["hf_model_name"] == str(tmp_path / "model" / "text")
    text["hf_model_name"] = text["hf_tokenizer_name"] = "lab/nowhere"
    path.write_text(json.dumps(content))
    found = load_encoder(str(tmp_path / "model"), device="cpu").encode_text(TEXTS)
    np.testing.assert_array_equal(found, want)
    second = start(make_recipe(), "second", initial=tmp_path / "model")
    assert second.recipe.model.text_cfg["hf_model_name"] == "lab/nowhere"
    second.export(tmp_path / "third")
    written = json.loads((tmp_path / "third" / "open_clip_config.json").read_text())
    assert written["model_cfg"]["text_cfg"]["hf_model_name"] == "lab/nowhere"
    found = load_encoder(str(tmp_path / "third"), device="cpu").encode_text(TEXTS)
    np.testing.assert_array_equal(found, want)


def test_a_pretrained_text_tower_is_loaded_whole(start, towers, tmp_path):
    import transformers

    recipe = make_recipe(towers("huggingface"))
    tower = start(recipe).model.text.transformer
    bert = transformers.BertModel.from_pretrained(str(tmp_path / "bert"))
    wanted = {k: v for k, v in bert.state_dict().items() if not k.startswith("pooler")}
    found = tower.state_dict()
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    fresh = recipe.model.model_dump()
    fresh["text_cfg"]["hf_model_pretrained"] = False
    other = start(make_recipe(fresh), "fresh").model.text.transformer.state_dict()
    name = "encoder.layer.0.output.dense.weight"
    assert not torch.equal(other[name], wanted[name])
    state = {k: v for k, v in bert.state_dict().items() if k != name}
    save_file(state, tmp_path / "bert" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(DataError, match=f"lacks the weights {name}"):
        start(recipe, "lacking")


def test_words_that_the_start_does_not_know_are_read_as_unknown(start, towers, make_pairs):
    first = start(make_recipe(towers("words")))
    first.export(first.state_dir / "model")
    pairs = make_pairs(13, 1)
    captions = np.array([["red zebra"]] * 4 + [["blue okapi zebra left"]] * 9)
    second = start(
        make_recipe(),
        "second",
        pairs=Pairs(pairs.images, captions),
        initial=first.state_dir / "model",
    )
    assert second.tokenizer.words == first.tokenizer.words
    red, zebra, okapi = second.tokenizer(["red", "zebra", "okapi"])[:, 0]
    assert red != zebra == okapi == 1
    assert describe_reading(second.tokenizer, captions.ravel().tolist()) == {
        "n_captions_truncated": 0,
        "n_captions_with_unknown_words": 13,
        "n_unknown_words": 2,
        "unknown_words": {"zebra": 13, "okapi": 9},
    }
    with pytest.raises(ConfigError, match=r"model.tokenizer is 'bytes', and .* kind 'words'"):
        start(make_recipe({"tokenizer": "bytes"}), "third", initial=first.state_dir / "model")


@pytest.mark.parametrize(
    ("section", "changes", "message"),
    [
        ("vision_cfg", {"width": 48}, r"vision_cfg.width is 48, and 32 there"),
        ("text_cfg", {"context_length": 9}, r"text_cfg.context_length is 9, and 12 there"),
        (None, {"embed_dim": 20}, r"embed_dim is 20, and 12 there"),
        (None, {"quick_gelu": True}, r"quick_gelu is True, and False there"),
        ("vision_cfg", {"mlp_ratio": 2.0}, r"vision_cfg.mlp_ratio is 2.0, and 4.0 there"),
    ],
)
def test_written_towers_must_be_those_of_the_start(
    start, towers, tmp_path, section, changes, message
):
    start(make_recipe(towers("words"))).export(tmp_path / "model")
    model = json.loads(json.dumps(towers("words")))
    (model if section is None else model[section]).update(changes)
    with pytest.raises(ConfigError, match=message):
        start(make_recipe(model), "second", initial=tmp_path / "model")
    both = {**towers("words"), "embed_dim": 20, "quick_gelu": True}
    with pytest.raises(ConfigError, match="2 problems"):
        settled(make_recipe(both), tmp_path / "model")


@pytest.fixture
def named_model(monkeypatch, tmp_path):
    """A built-in model of open_clip's, tiny, with weights of a tag that has its own settings."""
    config = json.loads(write_config(tmp_path / "T.json", quick_gelu=False).read_text())
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "Tiny-B", config)
    torch.manual_seed(8)
    with torch.no_grad():
        model = open_clip.CLIP(**json.loads(json.dumps({**config, "quick_gelu": True})))
        model.logit_scale.fill_(3.0)
    save_file(model.state_dict(), tmp_path / "weights.safetensors")
    tag = {
        "file": str(tmp_path / "weights.safetensors"),
        "quick_gelu": True,
        "mean": (0.1, 0.2, 0.3),
        "interpolation": "bilinear",
    }
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "Tiny-B", {"lab": tag})
    return model.eval(), tmp_path / "weights.safetensors"


def test_a_named_model_brings_weights_activation_and_preprocessing(
    start, named_model, make_pairs, tmp_path
):
    model, _ = named_model
    recipe = make_recipe(
        {"open_clip": "Tiny-B", "pretrained": "lab"}, preprocess={"resize_mode": "squash"}
    )
    trainer = start(recipe)
    assert trainer.recipe.model.quick_gelu is True
    preprocess = trainer.recipe.preprocess
    assert preprocess.mean == (0.1, 0.2, 0.3)
    assert preprocess.std == pytest.approx(open_clip.OPENAI_DATASET_STD)
    assert (preprocess.interpolation, preprocess.resize_mode) == ("bilinear", "squash")
    pixels = normalised(make_pairs(3, 7).images, preprocess.mean, preprocess.std)
    tokens = open_clip.SimpleTokenizer(context_length=12)(TEXTS)
    with torch.no_grad():
        want = [model.encode_image(pixels, True), model.encode_text(tokens, True)]
    for found, wanted in zip(vectors_of(trainer, pixels), want, strict=True):
        np.testing.assert_allclose(found, wanted, atol=ATOL)
    assert float(trainer.model.logit_scale.detach()) == 3.0
    # What is written of the run stands for the same run.
    again = ClipRecipe.model_validate(trainer.recipe.model_dump(mode="json"))
    assert settled(again) == trainer.recipe
    trainer.run()
    trainer.export(tmp_path / "model")
    check_same_vectors(tmp_path / "model", trainer, make_pairs(2, 3).images)
    content = json.loads((tmp_path / "model" / "open_clip_config.json").read_text())
    assert content["model_cfg"]["quick_gelu"] is True
    assert content["preprocess_cfg"]["mean"] == [0.1, 0.2, 0.3]


def test_a_named_model_without_weights_is_fresh(start, named_model):
    _, file = named_model
    trainer = start(make_recipe({"open_clip": "Tiny-B"}))
    assert trainer.recipe.model.quick_gelu is False
    assert trainer.recipe.preprocess.mean == (0.5, 0.5, 0.5)
    from_file = start(
        make_recipe({"open_clip": "Tiny-B", "pretrained": "lab", "weights": str(file)}), "b"
    )
    assert weights_digest(from_file.model) != weights_digest(trainer.model)
    words = start(make_recipe({"open_clip": "Tiny-B", "tokenizer": "words"}), "c")
    assert words.model.vocab_size == words.tokenizer.vocab_size < 100
    with pytest.raises(ConfigError, match=r"tokenizer is 'words', and the text tower is pretr"):
        start(make_recipe({"open_clip": "Tiny-B", "pretrained": "lab", "tokenizer": "words"}), "d")


def test_without_a_network_the_recipe_is_told_what_to_do(start, tmp_path):
    recipe = make_recipe({"open_clip": "ViT-B-32", "pretrained": "openai"})
    with pytest.raises(DataError) as caught:
        settled(recipe)
    message = str(caught.value)
    assert "https://huggingface.co/timm/vit_base_patch32_clip_224.openai" in message
    assert "open_clip: ViT-B-32, pretrained: openai, weights: /path/to/the/file" in message
    assert str(tmp_path / "hub") in message
    model = bert_towers("lab/nowhere")
    with pytest.raises(DataError, match=r"lab/nowhere.*hf_tokenizer_name: /path/to/the/folder"):
        start(make_recipe(model))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (None, "names no towers. Give model.open_clip"),
        ({"open_clip": "ViT-B32"}, r"Did you mean .*'ViT-B-32'"),
        ({"config": "nowhere.json"}, r"nowhere.json: cannot be read as a model config"),
    ],
)
def test_recipes_without_towers_are_refused(model, message):
    with pytest.raises((ConfigError, DataError), match=message):
        settled(make_recipe(model))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"open_clip": "A", "config": "b"}, "both name towers"),
        ({"vision_cfg": WRITTEN_IMAGE}, "belong together"),
        ({"pretrained": "openai"}, "need towers"),
        ({"config": "a", "pretrained": "a.pt", "weights": "b.pt"}, "both name a file"),
        ({"vision_cfg": WRITTEN_IMAGE, "text_cfg": {}}, "context_length is missing"),
        ({"vision_cfg": {"layers": 1}, "text_cfg": WRITTEN_TEXT}, "image_size is missing"),
    ],
)
def test_model_sections_that_contradict_themselves_are_refused(model, message):
    with pytest.raises(ValueError, match=message):
        make_recipe(model)


def test_two_sources_of_weights_are_refused(start, towers, named_model, tmp_path):
    start(make_recipe(towers("words"))).export(tmp_path / "model")
    with pytest.raises(ConfigError, match=r"model.pretrained and --initial both name weights"):
        settled(make_recipe({"open_clip": "Tiny-B", "pretrained": "lab"}), tmp_path / "model")


@pytest.mark.parametrize("loss", ["infonce", "siglip"])
def test_either_loss_starts_from_a_model_of_the_other(start, towers, tmp_path, loss):
    other = "siglip" if loss == "infonce" else "infonce"
    first = start(make_recipe(towers("words"), loss=other))
    first.run(stop_after=1)
    first.export(tmp_path / "model")
    second = start(make_recipe(loss=loss), "second", initial=tmp_path / "model")
    if loss == "infonce":
        assert second.model.logit_bias is None
    else:
        assert float(second.model.logit_bias.detach()) == -10.0
    assert torch.equal(second.model.text_projection, first.model.text_projection)
    second.run()
    # The same from a checkpoint file of both towers.
    model = {**towers("config"), "pretrained": str(tmp_path / "weights.pt")}
    torch.save(
        start(make_recipe(towers("config"), loss=other), "c").model.state_dict(),
        tmp_path / "weights.pt",
    )
    third = start(make_recipe(model, loss=loss), "d")
    assert (third.model.logit_bias is None) is (loss == "infonce")
    third.run(stop_after=1)


def test_a_config_of_another_vocabulary_asks_for_its_tokenizer(start, tmp_path):
    path = write_config(tmp_path / "a.json", text_cfg={**WRITTEN_TEXT, "vocab_size": 60})
    with pytest.raises(ConfigError, match=r"has 60 ids, CLIP's own tokenizer 49408"):
        start(make_recipe({"config": str(path)}))
    trainer = start(make_recipe({"config": str(path), "tokenizer": "bytes"}), "bytes")
    assert trainer.model.vocab_size == 258


def test_the_embedded_model_is_a_start_by_its_name(start, make_pairs):
    trainer = start(make_recipe(), size_px=64, initial="scenes")
    assert trainer.recipe.model.vision_cfg["timm_model_name"] == IMAGE["timm_model_name"]
    assert isinstance(trainer.tokenizer, WordTokenizer)
    encoder = load_encoder("scenes", device="cpu")
    for name, value in encoder.model.state_dict().items():
        assert torch.equal(trainer.model.state_dict()[name], value), name
    with pytest.raises(DataError, match=r"nowhere: no open_clip_config.json there"):
        settled(make_recipe(), "nowhere")


def test_other_preprocessing_than_the_starts_is_told(start, towers, tmp_path, caplog):
    start(make_recipe(towers("words"))).export(tmp_path / "model")
    settled(make_recipe(preprocess={"mean": (0.5, 0.5, 0.4)}), tmp_path / "model")
    assert "preprocess.mean is [0.5, 0.5, 0.4], the weights were trained with" in caplog.text


def test_other_fields_of_a_config_are_kept(tmp_path):
    path = write_config(tmp_path / "a.json", custom_text=True)
    recipe = settled(make_recipe({"config": str(path), "tokenizer": "bytes"}))
    assert recipe.model.other_cfg == {"custom_text": True}
    assert settled(recipe) == recipe
    more = {"config": str(path), "other_cfg": {"custom_text": False}}
    with pytest.raises(ConfigError, match=r"model.other_cfg: custom_text is not that"):
        settled(make_recipe(more))
    tokenizer = ByteTokenizer(context_length=12)
    model = build_model(recipe, tokenizer)
    assert isinstance(model, open_clip.CustomTextCLIP)
    save_model(tmp_path / "model", model, recipe=recipe, tokenizer=tokenizer)
    again, _, _ = open_clip.create_model_and_transforms(f"local-dir:{tmp_path / 'model'}")
    assert isinstance(again, open_clip.CustomTextCLIP)
    assert weights_digest(again) == weights_digest(model)


def test_a_tokenizer_that_does_not_fit_the_text_tower_is_refused(tmp_path, start):
    few = write_bert(tmp_path / "few", vocab_size=50)
    with pytest.raises(ConfigError, match=r"tokenizer has \d+ ids, the text tower 50"):
        start(make_recipe(bert_towers(few)))
    long = bert_towers(write_bert(tmp_path / "long"))
    long["text_cfg"]["context_length"] = 30
    with pytest.raises(ConfigError, match=r"context_length is 30, the text tower has 20"):
        start(make_recipe(long))
    filler = bert_towers(write_bert(tmp_path / "filler", pad_token_id=3))
    with pytest.raises(ConfigError, match=r"filler is 0, the text tower leaves 3 out"):
        start(make_recipe(filler))
    words = {**bert_towers(tmp_path / "long"), "tokenizer": "words"}
    with pytest.raises(ConfigError, match=r"the text tower is of transformers"):
        start(make_recipe(words))
    with pytest.raises(DataError, match=r"'/no/such/folder': no such folder"):
        start(
            make_recipe(
                {
                    **bert_towers("/no/such/folder"),
                    "text_cfg": {
                        **bert_towers("/no/such/folder")["text_cfg"],
                        "hf_tokenizer_name": str(tmp_path / "long"),
                    },
                }
            )
        )


def test_layers_of_transformers_and_timm_learn_at_their_own_rates(start, tmp_path):
    model = bert_towers(write_bert(tmp_path / "bert", num_hidden_layers=2))
    model["vision_cfg"] = {"timm_model_name": "test_efficientnet", "image_size": 32}
    recipe = make_recipe(model).model_dump()
    recipe["optimiser"]["layer_decay"] = 0.5
    trainer = start(ClipRecipe.model_validate(recipe))
    found = layer_scales(trainer.model, 0.5)
    text = "text.transformer."
    assert found[f"{text}embeddings.word_embeddings.weight"] == 0.5**3
    assert found[f"{text}embeddings.LayerNorm.bias"] == 0.5**3
    assert found[f"{text}encoder.layer.0.output.dense.weight"] == 0.25
    assert found[f"{text}encoder.layer.1.output.dense.weight"] == 0.5
    assert found["text.proj.weight"] == 1
    n_stages = len(trainer.model.visual.trunk.blocks)
    assert found["visual.trunk.conv_stem.weight"] == 0.5 ** (n_stages + 1)
    assert found["visual.trunk.bn1.weight"] == 0.5 ** (n_stages + 1)
    first = [v for k, v in found.items() if k.startswith("visual.trunk.blocks.0.")]
    assert set(first) == {0.5**n_stages}
    head = ("conv_head", "bn2")
    assert {
        v for k, v in found.items() if k.startswith("visual.trunk.") and k.split(".")[2] in head
    } == {1}
    assert found["visual.head.proj.weight"] == 1
    trainer.run(stop_after=1)


def test_blocks_of_transformers_computed_again_give_the_same_gradient(start, towers):
    found = []
    model = {**towers("huggingface"), "vision_cfg": WRITTEN_IMAGE}
    for k, memory in enumerate(("none", "checkpoint")):
        trainer = start(make_recipe(model, memory=memory), f"run{k}")
        trainer.model.train()
        torch.manual_seed(5)
        trainer.learner.gradients.backward(trainer._inputs(trainer.batches[0]))
        found.append([p.grad for p in trainer.model.parameters()])
    blocks = trainer.model.text.transformer.modules()
    assert any(getattr(block, "gradient_checkpointing", False) for block in blocks)
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(b, a, rtol=1e-5, atol=1e-7)


def test_a_pull_to_the_start_is_for_pretrained_towers_too(start, towers):
    trainer = start(make_recipe(towers("huggingface"), l2_sp=0.1))
    trainer.run(stop_after=2)
    with pytest.raises(ConfigError, match="l2_sp pulls towards a model: give --initial"):
        start(make_recipe(towers("words"), l2_sp=0.1), "fresh")


def test_every_built_in_model_settles_and_what_is_written_of_it_too():
    names = open_clip.list_models()
    assert len(names) > 100
    for name in names:
        recipe = settled(make_recipe({"open_clip": name}))
        config = open_clip.get_model_config(name)
        assert recipe.model.embed_dim == config["embed_dim"], name
        size = config["vision_cfg"].get("image_size", 224)
        assert recipe.model.vision_cfg["image_size"] == size, name
        assert recipe.model.quick_gelu is config.get("quick_gelu", False), name
        written = ClipRecipe.model_validate(recipe.model_dump(mode="json"))
        assert settled(written) == recipe, name
