from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from model_files import TINY, write_directory
from safetensors.torch import save_file

from braindecode_clip.cli.main import main
from braindecode_clip.clip import load_encoder
from braindecode_clip.clip.catalogue import document_encoders, entries, parameters
from braindecode_clip.clip.models import quiet_open_clip
from braindecode_clip.clip.torchvision_compat import import_open_clip

open_clip = import_open_clip()
ROOT = Path(__file__).resolve().parents[2]


def run(capsys, *options):
    code = main(["encoders", *map(str, options)])
    printed = capsys.readouterr()
    assert "Traceback" not in printed.err
    return code, printed.out, printed.err


def rows(text):
    return list(csv.DictReader(io.StringIO(text), delimiter="\t"))


def cached(cache, repository, **files):
    folder = cache / f"models--{repository.replace('/', '--')}" / "snapshots" / ("b" * 40)
    folder.mkdir(parents=True)
    refs = folder.parents[1] / "refs"
    refs.mkdir()
    (refs / "main").write_text("b" * 40)
    for name, content in files.items():
        name = name.replace("__", ".")
        if isinstance(content, str):
            (folder / name).write_text(content, encoding="utf-8")
        else:
            save_file(content, folder / name)
    return folder


def test_every_tag_of_open_clip_is_listed_once(capsys):
    code, text, _ = run(capsys, "--kind", "open_clip", "--tsv")
    assert code == 0
    listed = [(row["model"], row["tag"]) for row in rows(text)]
    assert listed == open_clip.list_pretrained()
    assert len(listed) == len(set(listed)) > 150


@pytest.mark.parametrize(
    ("model", "n_dims", "size"),
    [
        ("ViT-B-32", 512, 224),
        ("ViT-L-14", 768, 224),
        ("ViT-L-14-336", 768, 336),
        ("ViT-bigG-14", 1280, 224),
        ("ViT-B-16-SigLIP", 768, 224),
        ("MobileCLIP-S2", 512, 256),
    ],
)
def test_sizes_of_well_known_models(model, n_dims, size, capsys):
    _, text, _ = run(capsys, "--name", model, "--tsv")
    for row in rows(text):
        assert (int(row["n_dims"]), int(row["image_size_px"])) == (n_dims, size)
    assert f"| open_clip | `{model}` | {n_dims} | {size} |" in document_encoders()


def counted(model):
    with quiet_open_clip(), torch.device("meta"):
        built = open_clip.create_model(
            model, load_weights=False, pretrained_text=False, device="meta"
        )
    return sum(parameter.numel() for parameter in built.parameters())


@pytest.mark.parametrize(
    "model", ["RN50", "ViT-B-32", "ViT-bigG-14", "ViT-B-16-SigLIP", "MobileCLIP-S2", "EVA02-B-16"]
)
def test_numbers_of_weights_are_those_of_the_built_model(model):
    assert parameters()[model] == counted(model)


@pytest.mark.slow
def test_all_numbers_of_weights():
    assert len(parameters()) > 130
    for model, n_parameters in parameters().items():
        assert n_parameters == counted(model), model


def test_the_docs_table_is_in_sync():
    assert (ROOT / "config/encoders.md").read_text() == document_encoders(), "run `make schema`"


def test_weights_and_card_in_the_cache_are_seen(tmp_path, capsys):
    name = "laion/CLIP-ViT-L-14-laion2B-s32B-b82K"
    card = "---\nlicense: other\nlicense_name: my-terms\n---\n# A model\n"
    folder = cached(
        tmp_path / "hub",
        name,
        open_clip_model__safetensors={"a": torch.zeros(2)},
        README__md=card,
    )
    _, text, _ = run(capsys, "--name", "ViT-L-14", "--tsv")
    found = {row["tag"]: row for row in rows(text)}
    assert found["laion2b_s32b_b82k"]["on_machine"] == str(folder / "open_clip_model.safetensors")
    assert found["laion2b_s32b_b82k"]["licence"] == "my-terms"
    assert found["openai"]["on_machine"] == "n/a"
    assert found["openai"]["licence"] == "MIT"
    assert found["datacomp_xl_s13b_b90k"]["licence"] == "see model card"
    _, text, _ = run(capsys, "--here", "--kind", "open_clip")
    assert text.splitlines()[-1] == "1 encoders, 1 on this machine"


def test_other_repositories_of_the_cache_are_listed(tmp_path, capsys):
    hub = tmp_path / "hub"
    clip = {
        "model_type": "clip",
        "projection_dim": 24,
        "vision_config": {"image_size": 32},
        "text_config": {},
    }
    weights = {"a": torch.zeros(3, 5), "b": torch.zeros(7)}
    cached(hub, "lab/clip", config__json=json.dumps(clip), model__safetensors=weights)
    cached(hub, "lab/open", open_clip_config__json=json.dumps({"model_cfg": TINY}))
    bert = {"model_type": "bert", "hidden_size": 40}
    cached(hub, "lab/sentences", config__json=json.dumps(bert), modules__json="[]")
    cached(hub, "lab/no-encoder", config__json=json.dumps(bert))
    cached(hub, "lab/damaged", config__json="{")
    found = {entry.model: entry for entry in entries(kinds=["hub", "sentence_transformers"])}
    assert (found["lab/clip"].n_dims, found["lab/clip"].n_parameters) == (24, 22)
    assert found["lab/clip"].on_machine.endswith("model.safetensors")
    assert (found["lab/open"].n_dims, found["lab/open"].image_size_px) == (24, 32)
    assert found["lab/open"].on_machine == ""
    assert (found["lab/sentences"].kind, found["lab/sentences"].n_dims) == (
        "sentence_transformers",
        40,
    )
    assert not {"lab/no-encoder", "lab/damaged"} & found.keys()
    assert any("BiomedCLIP" in name for name in found)


def test_a_listed_directory_is_what_loads(tmp_path, capsys):
    write_directory(tmp_path / "deep" / "mine")
    _, text, _ = run(capsys, "--kind", "local", "--folder", tmp_path, "--tsv")
    (row,) = rows(text)
    encoder = load_encoder(row["model"], device="cpu")
    assert encoder.n_dims == int(row["n_dims"])
    numbers = sum(value.numel() for value in encoder.model.state_dict().values())
    assert numbers == int(row["n_parameters"])
    assert encoder.encode_text(["a"]).dtype == np.float32


def test_the_shipped_model(capsys):
    code, text, _ = run(capsys, "--name", "scenes", "--tsv")
    (row,) = rows(text)
    assert (code, row["n_dims"], row["licence"]) == (0, "128", "BSD-3-Clause")
    assert Path(row["on_machine"]).is_file()


def test_timm_is_listed_when_it_is_asked_for(capsys):
    _, text, _ = run(capsys, "--kind", "timm", "--filter", "test_vit", "--tsv")
    assert {row["kind"] for row in rows(text)} == {"timm"}
    assert "test_vit.r160_in1k" in {row["model"] for row in rows(text)}


def test_mistakes_have_one_message(tmp_path, capsys):
    code, _, error = run(capsys, "--name", "ViT-B32")
    assert code == 1 and "Did you mean 'ViT-B-32'" in error
    code, _, error = run(capsys, "--kind", "clip")
    assert code == 1 and "Known: scenes, open_clip" in error
    code, _, error = run(capsys, "--kind", "local", "--folder", tmp_path / "gone")
    assert code == 1 and "no such folder" in error
    code, _, error = run(capsys, "--here", "--kind", "hub")
    assert code == 1 and "on this machine" in error


def test_the_table_goes_into_a_file(tmp_path, capsys):
    out = tmp_path / "list.tsv"
    code, printed, _ = run(capsys, "--filter", "BIGG", "--out", out)
    assert (code, printed) == (0, "")
    assert all("bigg" in row["model"].lower() for row in rows(out.read_text()))
