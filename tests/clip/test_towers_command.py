from __future__ import annotations

import csv
import json
import os
import subprocess
import sys

import pytest
import yaml
from pair_files import write_folder
from tower_files import WRITTEN_IMAGE, WRITTEN_TEXT, bert_towers, write_bert

from braindecode_clip.cli.main import main

TRAINING = {"epochs": 1, "batch_size": 4, "validate_every": 9}
TOWERS = {"embed_dim": 12, "vision_cfg": WRITTEN_IMAGE, "text_cfg": WRITTEN_TEXT}


@pytest.fixture
def write_recipe(tmp_path):
    def make(**sections):
        content = {
            "name": "towers",
            "data": {"split": {"by": "picture", "validation": 0.25}},
            "training": TRAINING,
            **sections,
        }
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump(content), encoding="utf-8")
        return str(path)

    return make


def train(recipe, pairs, out, *more):
    command = ["clip", "train", "--recipe", recipe, "--pairs", str(pairs), "--out", str(out)]
    return main([*command, "--threads", "1", *map(str, more)])


def test_a_recipe_without_towers_goes_on_from_a_model(write_recipe, tmp_path, capsys):
    pairs = write_folder(tmp_path / "f", 12)
    # Single letters are in every vocabulary.
    texts = dict(zip(sorted(pairs.glob("*.txt")), "bcdefghijklm", strict=True))
    for path, letter in texts.items():
        path.write_text(f"a red thing {letter}", encoding="utf-8")
    assert train(write_recipe(model=TOWERS), pairs, tmp_path / "first") == 0
    for path, letter in texts.items():
        path.write_text(f"red okapi {letter}\nred quagga {'red ' * 12}", encoding="utf-8")
    for path in list(texts)[3:5]:
        path.write_text("a red thing", encoding="utf-8")
    recipe = write_recipe()
    capsys.readouterr()
    assert train(recipe, pairs, tmp_path / "second", "--initial", tmp_path / "first") == 0
    assert "unknown words, read as <unk>: 'okapi', 'quagga'" in capsys.readouterr().err
    record = json.loads((tmp_path / "second" / "data.json").read_text(encoding="utf-8"))
    parts = [record[name] for name in ("training", "validation")]
    assert sum(part["n_captions"] for part in parts) == 22
    assert sum(part["n_captions_with_unknown_words"] for part in parts) == 20
    assert sum(part["n_captions_truncated"] for part in parts) == 10
    assert sum(part["unknown_words"]["okapi"] for part in parts) == 10
    words = [
        json.loads((tmp_path / name / "vocabulary.json").read_text(encoding="utf-8"))
        for name in ("first", "second")
    ]
    assert words[0] == words[1]
    # The same model again, by what was written of the run.
    written = tmp_path / "second" / "recipe.yaml"
    assert train(str(written), pairs, tmp_path / "third", "--initial", tmp_path / "first") == 0
    second, third = (
        (tmp_path / name / "open_clip_model.safetensors").read_bytes()
        for name in ("second", "third")
    )
    assert second == third
    found = tmp_path / "d.json"
    command = ["clip", "data", str(pairs), "--recipe", recipe, "--out", str(found)]
    for more, want in (([], 77), (["--initial", str(tmp_path / "first")], 12)):
        assert main([*command, *more]) == 0
        assert json.loads(found.read_text())["captions"]["context_length"] == want
    recipe = write_recipe(model={**TOWERS, "tokenizer": "bytes"})
    assert main([*command[:4], recipe, "--out", str(found)]) == 0
    assert json.loads(found.read_text())["captions"]["tokens_per_caption"]["max"] == 59


def test_mistakes_with_towers_end_with_one_message(write_recipe, tmp_path, capsys):
    pairs = write_folder(tmp_path / "f", 12)
    for sections, more, words in (
        ({}, (), "names no towers"),
        ({}, ("--initial", tmp_path / "none"), "none: no open_clip_config.json there"),
        ({"model": {"open_clip": "ViT-B-32", "pretrained": "openai"}}, (), "weights: /path/to/the"),
        ({"model": {"open_clip": "ViT-B-32", "config": "a"}}, (), "both name towers"),
        ({"model": {**TOWERS, "vision_cfg": {**WRITTEN_IMAGE, "widht": 3}}}, (), "widht"),
    ):
        assert train(write_recipe(**sections), pairs, tmp_path / "m", *more) == 1
        printed = capsys.readouterr().err
        assert words in printed and "Traceback" not in printed
    assert not (tmp_path / "m").exists()


@pytest.mark.slow
def test_two_processes_train_frozen_batch_norm_as_one_does(write_recipe, tmp_path, request):
    """Towers of timm and transformers; without dropout, which each process draws for itself."""
    pytest.importorskip("transformers")
    pairs = write_folder(tmp_path / "f", 24)
    none = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    model = bert_towers(write_bert(tmp_path / "bert", **none))
    model["vision_cfg"] = {"timm_model_name": "test_efficientnet", "image_size": 32}
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(request.config.rootpath),
    }
    logs = []
    for n, size in ((2, 4), (1, 8)):
        training = {**TRAINING, "epochs": 2, "batch_size": size, "freeze_batch_norm": True}
        recipe = write_recipe(model=model, training={**training, "log_every": 1})
        out = tmp_path / f"m{n}"
        command = [sys.executable, "-m"]
        if n > 1:
            command += ["torch.distributed.run", "--nproc-per-node", str(n), "-m"]
        command += ["braindecode_clip.cli.main", "clip", "train", "--recipe", recipe]
        command += ["--pairs", str(pairs), "--out", str(out), "--threads", "1", "--device", "cpu"]
        subprocess.run(command, check=True, env=environment, timeout=300)
        with (out / "training_log.csv").open(newline="", encoding="utf-8") as file:
            logs.append(
                [(float(row["loss"]), float(row["grad_norm"])) for row in csv.DictReader(file)]
            )
    assert len(logs[0]) == 4
    for two, one in zip(*logs, strict=True):
        assert two == pytest.approx(one, rel=1e-4)
