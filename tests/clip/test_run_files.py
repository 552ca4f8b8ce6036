"""What `clip train` leaves beside its model: record, data, card and page."""

from __future__ import annotations

import json
import shutil
from importlib.metadata import version
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from scipy import stats

from braindecode_clip.cli.main import main
from braindecode_clip.clip.checkpoints import Progress
from braindecode_clip.clip.encoders import load_encoder
from braindecode_clip.clip.licences import UNKNOWN
from braindecode_clip.clip.model_card import MARK
from braindecode_clip.clip.run_files import (
    progress_record,
    read_run,
    start_of,
    without_places,
)
from braindecode_clip.clip.training_log import LOG_FILE, LogRow, write_log
from braindecode_clip.errors import DataError

RECIPE = {
    "name": "tiny-run",
    "seed": 3,
    "model": {
        "embed_dim": 12,
        "vision_cfg": {
            "layers": 1,
            "width": 16,
            "head_width": 8,
            "patch_size": 8,
            "image_size": 16,
        },
        "text_cfg": {"context_length": 5, "width": 16, "heads": 2, "layers": 1},
    },
    "optimiser": {"lr": 0.002},
    "training": {
        "epochs": 2,
        "batch_size": 8,
        "log_every": 2,
        "validate_every": 2,
        "ema_decay": 0.5,
    },
    "data": {"max_corrupt_share": 0.2},
}
TRAINING, HELD_OUT = 18, 8


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A folder with pairs, a model trained on them, and the state of the run.

    The training pairs hold a corrupt picture, a caption beyond the context; the held-out ones
    a training picture, a training caption and a word that is not in the vocabulary.
    """
    folder = tmp_path_factory.mktemp("secret-laboratory")
    rng = np.random.default_rng(5)
    lines = ["image,caption,group,split"]
    for k in range(TRAINING + HELD_OUT):
        Image.fromarray(rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)).save(folder / f"{k}.png")
        words, split = f"red dot {chr(97 + k % 26)}", "train" if k < TRAINING else "val"
        words += " on a large green ground" if k == 4 else ""
        words = {TRAINING + 1: "red dot c", TRAINING + 2: "purple dot"}.get(k, words)
        lines.append(f"{k}.png,{words},g{k % 2},{split}")
    (folder / "3.png").write_bytes(b"no picture")
    shutil.copy(folder / "5.png", folder / f"{TRAINING}.png")
    (folder / "pairs.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "recipe.yaml").write_text(yaml.safe_dump(RECIPE), encoding="utf-8")
    before = torch.get_num_threads()
    command = ["clip", "train", "--recipe", folder / "recipe.yaml", "--pairs", folder / "pairs.csv"]
    command += ["--split", "train", "--validation-split", "val", "--out", folder / "model"]
    assert main([*map(str, command), "--threads", "1", "--tensorboard"]) == 0
    torch.set_num_threads(before)
    return folder


@pytest.fixture
def model(work, tmp_path):
    """A copy that a test may change."""
    return shutil.copytree(work / "model", tmp_path / "model")


def record_of(folder):
    return json.loads((folder / "run.json").read_text(encoding="utf-8"))


def test_the_record_says_what_ran(work):
    record = record_of(work / "model")
    assert (record["status"], record["step"], record["n_steps"]) == ("finished", 4, 4)
    assert (record["n_pictures"], record["n_captions"], record["n_held_out"]) == (18, 18, 8)
    assert (record["pairs_per_step"], record["device"], record["n_threads"]) == (8, "cpu", 1)
    # No two held-out pictures share a caption.
    assert record["n_pool_candidates"] == 8
    weights = record["parameters"]
    loaded = load_encoder(str(work / "model"), device="cpu").model
    assert weights["total"] == sum(p.numel() for p in loaded.parameters())
    assert weights["image_tower"] == sum(p.numel() for p in loaded.visual.parameters())
    # All but the image tower and the scalar logit_scale.
    assert weights["text_tower"] == weights["total"] - weights["image_tower"] - 1
    assert (
        record["start"]["kind"] == "fresh weights" and len(record["start"]["weights_sha256"]) == 64
    )
    assert record["versions"]["open-clip-torch"] == version("open-clip-torch")
    assert list((work / "model-state" / "tensorboard").glob("events.*"))


@pytest.mark.parametrize(
    ("patience", "is_stopped", "is_ended", "status", "kept"),
    [
        (None, False, True, "finished", 90),
        (None, False, False, "interrupted", 90),
        (2, True, True, "stopped early", 40),
        (2, False, True, "finished", 40),
    ],
)
def test_the_record_names_the_step_of_the_weights(
    patience, is_stopped, is_ended, status, kept, tmp_path
):
    training = SimpleNamespace(early_stop_patience=patience)
    write_log(tmp_path / LOG_FILE, [LogRow(k, 0.1, 1, 1, 1, 1, None, None, 2.5) for k in (40, 90)])
    trainer = SimpleNamespace(
        recipe=SimpleNamespace(training=training),
        progress=Progress(best=0.5, best_step=40, is_stopped=is_stopped),
        step=90,
        state_dir=tmp_path,
    )
    assert progress_record(trainer, is_ended=is_ended) == {
        "status": status,
        "step": 90,
        "best_step": 40,
        "weights_of_step": kept,
        "training_seconds": 5.0,
    }


def test_held_out_figures_are_those_of_the_model_in_the_folder(work):
    found = record_of(work / "model")["held_out"]
    assert found["source"] == "pairs.csv" and set(found) == {"source", "model", "ema"}
    rows = [line.split(",") for line in (work / "pairs.csv").read_text().splitlines()[1:]]
    rows = [row for row in rows if row[3] == "val"]
    for key, folder in (("model", work / "model"), ("ema", work / "model" / "ema")):
        encoder = load_encoder(str(folder), device="cpu")
        images = encoder.encode_image([Image.open(work / row[0]) for row in rows])
        texts = encoder.encode_text([row[1] for row in rows])
        rank = 1 + (images @ texts.T > (images * texts).sum(1)[:, None] + 1e-6).sum(1)
        for k in (1, 5):
            own, hits = found[key]["image_to_text"][f"r{k}"], int((rank <= k).sum())
            interval = stats.binomtest(hits, 8).proportion_ci(method="wilson")
            assert own["value"] == pytest.approx(hits / 8)
            assert own["chance"] == pytest.approx(k / 8)
            assert (own["low"], own["high"]) == pytest.approx(tuple(interval))


def test_the_data_record_counts_faults_and_what_both_parts_share(work):
    data = json.loads((work / "model" / "data.json").read_text(encoding="utf-8"))
    training, held = data["training"], data["validation"]
    assert (training["n_corrupt"], training["n_captions_truncated"]) == (1, 1)
    assert training["n_captions_with_unknown_words"] == 0
    assert held["n_captions_with_unknown_words"] == 1
    assert (held["n_first_captions_in_training"], held["n_pictures_in_training"]) == (1, 1)


def test_nothing_that_is_handed_on_names_a_place_of_the_machine(work):
    for name in ("run.json", "data.json", "README.md", "report.html", "recipe.yaml"):
        assert "secret-laboratory" not in (work / "model" / name).read_text(encoding="utf-8"), name


def card_parts(text):
    head, body = text.split("---\n", 2)[1:]
    sections = {part.split("\n", 1)[0]: part for part in body.split("\n## ")[1:]}
    return yaml.safe_load(head), sections


def test_the_card_says_what_the_run_knows(work):
    head, parts = card_parts((work / "model" / "README.md").read_text(encoding="utf-8"))
    assert head["library_name"] == "open_clip" and "license" not in head
    assert "clip" in head["tags"]
    assert list(parts) == [
        "Model",
        "Training data",
        "Training",
        "Held-out retrieval",
        "Limits",
        "How to load it",
        "Versions",
    ]
    assert "| pictures | 18 | 8 |" in parts["Training data"]
    assert "| corrupt pictures | 1 | 0 |" in parts["Training data"]
    assert "4 of 4 steps of 8 pairs, finished" in parts["Training"]
    assert "fresh weights, seed 3" in parts["Model"]
    own = record_of(work / "model")["held_out"]["model"]["image_to_text"]["r5"]
    row = (
        f"| picture → caption | R@5 | {100 * own['value']:.1f} % | {100 * own['low']:.1f} % to "
        f"{100 * own['high']:.1f} % | 62.50 % | 8 | 8 |"
    )
    assert row in parts["Held-out retrieval"]
    for said in ("identical files", "longer than the context", "does not know", "single pool"):
        assert said in parts["Limits"], said


def test_the_code_on_the_card_loads_the_model(work, monkeypatch):
    text = (work / "model" / "README.md").read_text(encoding="utf-8")
    ours, theirs = (
        block.split("```")[0].replace("FOLDER", str(work / "model"))
        for block in text.split("```python\n")[1:]
    )
    names: dict = {}
    exec(ours.replace("picture.png", str(work / "0.png")), names)
    assert names["cosine"].shape == (1, 1)
    exec(theirs, names)
    mine = names["encoder"].model.state_dict()
    assert all(torch.equal(value, mine[key]) for key, value in names["model"].state_dict().items())


def test_evaluations_in_the_folder_come_onto_the_card(model):
    files = {
        "metrics.json": {
            "after": {"name": "tiny-run", "weights_sha256": "ab", "precision": 32},
            "seed": 2026,
            "stamps": {"n_pairs": 90, "image_to_text": {"r1": 0.123456, "low": 0.1, "n": 90}},
            "definitions": {"r1": "Share of | queries."},
        },
        "wise_ft.json": {"sweep": [{"alpha": 0.0, "r1": 0.25}, {"alpha": 1.0, "r1": 0.5}]},
        "grouped.json": {
            "set": {
                "r1": {"value": 0.5, "ci_low": 0.25, "n": 9},
                "r5": {"value": 1, "n": 9},
            },
            "rows": [{"k": k} for k in range(130)],
        },
        "leakage.json": {
            "weights_sha256": "ab",
            "shared": [{"pair": "anna.png", "found_as": "mirrored"}],
            "n_leaks": 0,
            "where": "/home/somebody/pictures",
        },
        "tokenizer_config.json": {"n": 7},
        "empty.json": {},
    }
    for name, content in files.items():
        (model / name).write_text(json.dumps(content), encoding="utf-8")
    assert main(["clip", "card", "--model", str(model), "--license", "mit"]) == 0
    text = (model / "README.md").read_text(encoding="utf-8")
    head, parts = card_parts(text)
    assert head["license"] == "mit"
    assert "| stamps / image_to_text | r1 0.1235, low 0.1, n 90 |" in parts["From `metrics.json`"]
    assert "| stamps | n_pairs 90 |" in parts["From `metrics.json`"]
    assert "- r1: Share of \\| queries." in parts["From `metrics.json`"]
    assert (
        "| alpha | r1 |\n| --- | --- |\n| 0 | 0.25 |\n| 1 | 0.5 |" in parts["From `wise_ft.json`"]
    )
    grouped = "set:\n\n| score | value | ci_low | n |\n| --- | --- | --- | --- |\n"
    grouped += "| r1 | 0.5 | 0.25 | 9 |\n| r5 | 1 |  | 9 |\n"
    assert grouped in parts["From `grouped.json`"]
    # 120 rows in all.
    assert "| 117 |" in parts["From `grouped.json`"] and "| 118 |" not in text
    assert "| (file) | seed 2026 |" in parts["From `metrics.json`"]
    assert "12 more rows are in the file." in parts["From `grouped.json`"]
    assert "precision" not in parts["From `metrics.json`"]
    assert "anna" not in text
    assert "| (file) | weights_sha256 ab, n_leaks 0 |" in parts["From `leakage.json`"]
    assert "somebody" not in text and "From `empty.json`" not in parts
    assert "From `tokenizer_config.json`" not in parts and "From `run.json`" not in parts


def test_somebodys_own_readme_stays(model, capsys):
    (model / "README.md").write_text("# Mine\n", encoding="utf-8")
    assert main(["clip", "card", "--model", str(model)]) == 1
    assert "written by somebody" in capsys.readouterr().err
    assert (model / "README.md").read_text(encoding="utf-8") == "# Mine\n"
    assert main(["clip", "card", "--model", str(model), "--out", str(model / "card.md")]) == 0
    assert MARK in (model / "card.md").read_text(encoding="utf-8")


def test_models_of_earlier_versions_have_a_card_that_claims_nothing(model):
    (model / "run.json").unlink()
    (model / "data.json").unlink()
    assert main(["clip", "card", "--model", str(model)]) == 0
    _, parts = card_parts((model / "README.md").read_text(encoding="utf-8"))
    assert parts["Held-out retrieval"].strip().endswith("Not recorded by the run.")
    assert parts["Training data"].strip().endswith("Not recorded.")
    assert "not recorded" in parts["Model"]
    # Recipes of earlier versions lack options; what is missing is not said to be something.
    recipe = yaml.safe_load((model / "recipe.yaml").read_text(encoding="utf-8"))
    del recipe["training"]["loss"], recipe["optimiser"]["schedule"]
    (model / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    assert main(["clip", "card", "--model", str(model)]) == 0
    assert "None" not in (model / "README.md").read_text(encoding="utf-8")
    assert read_run(model).status == "finished"


def test_a_state_is_read_from_its_record_or_its_header(work, tmp_path):
    state = shutil.copytree(work / "model-state", tmp_path / "state")
    run = read_run(state)
    assert (run.is_model, run.status, run.step, run.name) == (False, "finished", 4, "tiny-run")
    (state / "run.json").unlink()
    run = read_run(state)
    assert (run.status, run.step, run.recipe["seed"]) == ("unfinished", 4, 3)
    assert [row.step for row in run.log] == [2, 4]


FACTS = {"initial": "", "weights_sha256": "ab"}
HEAD = "---\nlicense: cc-by-4.0\n---\n"


@pytest.mark.parametrize(
    ("model", "kind", "name", "licence"),
    [
        ({}, "fresh weights", None, UNKNOWN),
        (
            {"open_clip": "ViT-B-32", "pretrained": "openai"},
            "pretrained model",
            "ViT-B-32 openai",
            "MIT",
        ),
        (
            {"open_clip": "ViT-B-32", "pretrained": "openai", "weights": "/home/me/w.pt"},
            "pretrained model",
            "ViT-B-32 w.pt",
            "MIT",
        ),
        (
            {"image_weights": "/home/me/lite.pth", "text_cfg": {"hf_model_name": "org/bert"}},
            "pretrained towers",
            "image lite.pth, text org/bert",
            UNKNOWN,
        ),
        (
            {
                "vision_cfg": {"timm_model_name": "resnet", "timm_model_pretrained": True},
                "text_cfg": {"hf_model_name": "org/bert", "hf_model_pretrained": False},
            },
            "pretrained towers",
            "image resnet",
            UNKNOWN,
        ),
        ({"vision_cfg": None, "text_cfg": None}, "fresh weights", None, UNKNOWN),
    ],
)
def test_what_a_run_was_started_from_is_named_without_a_path(model, kind, name, licence):
    found = start_of(FACTS, model)
    wanted = {"kind": kind, "name": name, "licence": licence, "weights_sha256": "ab"}
    assert found == wanted


def test_a_folder_that_a_run_was_started_from_lends_its_licence(tmp_path):
    facts = {**FACTS, "initial": str(tmp_path)}
    assert start_of(facts, {})["licence"] == UNKNOWN
    (tmp_path / "README.md").write_text(HEAD, encoding="utf-8")
    found = start_of(facts, {})
    assert (found["kind"], found["name"]) == ("model folder", tmp_path.name)
    assert found["licence"] == "cc-by-4.0"


def test_options_lose_the_places_of_a_machine():
    options = {"a": ["/home/me/x.json", "rel/y.json"], "b": {"c": "~/z"}, "n": 1, "o": "org/name"}
    wanted = {"a": ["x.json", "rel/y.json"], "b": {"c": "z"}, "n": 1, "o": "org/name"}
    assert without_places(options) == wanted


def test_other_folders_and_damaged_files_are_named(model, tmp_path):
    with pytest.raises(DataError, match="no training run"):
        read_run(tmp_path)
    (model / "run.json").write_text("{", encoding="utf-8")
    with pytest.raises(DataError, match=r"run\.json: no readable JSON"):
        read_run(model)
    (model / "run.json").write_text("[]", encoding="utf-8")
    with pytest.raises(DataError, match=r"run\.json: holds a list"):
        read_run(model)


def test_the_report_command_shows_other_pairs_and_leaves_pictures_out(work, tmp_path):
    command = ["clip", "report", "--model", str(work / "model"), "--out", str(tmp_path / "r.html")]
    pairs = ["--pairs", str(work / "pairs.csv"), "--split", "val"]
    assert main(command) == 0
    bare = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert 'id="examples"' not in bare and 'id="curves"' in bare
    assert main([*command, *pairs]) == 0
    # The command with the held-out pairs of the run gives the page of the run.
    assert (tmp_path / "r.html").read_bytes() == (work / "model" / "report.html").read_bytes()
    assert main([*command, *pairs, "--no-pictures"]) == 0
    without = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "purple dot" in without and '<image id="picture-' not in without
    assert ".png" not in without
    assert main([*command, *pairs, "--no-captions"]) == 0
    without = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "purple dot" not in without and 'id="matrix"' in without
    assert '<image id="picture-' not in without


def test_a_state_has_a_page_of_curves_and_no_model_to_show(work, tmp_path, capsys):
    out = tmp_path / "state.html"
    command = ["clip", "report", "--model", str(work / "model-state"), "--out", str(out)]
    assert main(command) == 0
    assert 'id="curves"' in out.read_text(encoding="utf-8")
    assert main([*command, "--pairs", str(work / "pairs.csv")]) == 1
    assert "holds no model" in capsys.readouterr().err
