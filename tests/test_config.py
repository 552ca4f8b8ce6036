"""The typed config: messages, schema in sync, every option documented and used."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from braindecode_clip.cli.main import main
from braindecode_clip.config.base import Section, parse_section
from braindecode_clip.config.decoders import SECTIONS
from braindecode_clip.config.document import document_study
from braindecode_clip.config.study import StudyConfig, json_schema, parse_study
from braindecode_clip.errors import ConfigError

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = sorted((ROOT / "config").glob("*.yaml"))


def sections(model: type[BaseModel] = StudyConfig) -> set[type[BaseModel]]:
    """Return a section with all sections below it."""
    from braindecode_clip.config.document import _models_in

    found = {model}
    for field in model.model_fields.values():
        for inner in _models_in(field.annotation):
            found |= sections(inner)
    return found


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_shipped_configs_are_valid(path: Path) -> None:
    study = parse_study(yaml.safe_load(path.read_text()), where=path.name)
    assert study.rois and study.decoders


def test_haxby_by_every_decoder_reads_the_same_data() -> None:
    one, all_ = (
        yaml.safe_load((ROOT / f"config/{name}.yaml").read_text())
        for name in ("haxby", "haxby-decoders")
    )
    own = {"study", "decoders", "bottleneck", "report"}
    assert {k: v for k, v in all_.items() if k not in own} == {
        k: v for k, v in one.items() if k not in own
    }
    kinds = {item["kind"] for item in all_["decoders"]}
    # Banded ridge needs several regions, the shared decoder several subjects.
    assert kinds == set(SECTIONS) - {"banded", "shared"}


def test_schema_is_in_sync_with_the_typed_config() -> None:
    written = json.loads((ROOT / "workflow/schemas/config.schema.json").read_text())
    assert written == json_schema(), "run `make schema`"


def test_option_tables_are_in_sync() -> None:
    assert (ROOT / "config/README.md").read_text() == document_study(), "run `make schema`"


def test_schema_refuses_unknown_keys_everywhere() -> None:
    schema = json_schema()
    objects = [schema, *schema["$defs"].values()]
    closed = [item for item in objects if item.get("type") == "object"]
    assert len(closed) >= 15
    assert all(item["additionalProperties"] is False for item in closed)


def test_typo_gets_a_suggestion_and_all_problems_come_at_once() -> None:
    config = yaml.safe_load((ROOT / "config/demo.yaml").read_text())
    config["preproces"] = {}
    config["betas"] = {"metod": "lss"}
    config["seed"] = -1
    with pytest.raises(ConfigError) as caught:
        parse_study(config, where="demo.yaml")
    message = str(caught.value)
    assert "demo.yaml: 3 problems" in message
    assert "Did you mean 'preprocess'?" in message
    assert "'betas.metod'. Did you mean 'method'?" in message
    assert "'seed'" in message


def test_double_names_are_refused() -> None:
    config = yaml.safe_load((ROOT / "config/demo.yaml").read_text())
    config["rois"] = [config["rois"][0], config["rois"][0]]
    with pytest.raises(ConfigError, match="names in 'rois' must differ"):
        parse_study(config, where="demo.yaml")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"decoders": [{"name": "own", "kind": "kernel_ridge"}]}, "'own'"),
        ({"bottleneck": {"enabled": True}}, "'bottleneck'"),
    ],
)
def test_tokens_are_for_the_decoders_that_take_them(change: dict, named: str) -> None:
    config = yaml.safe_load((ROOT / "config/demo.yaml").read_text())
    vit = {"name": "vit", "kind": "open_clip", "model": "ViT-L-14", "pretrained": "openai"}
    config["encoders"].append(vit | {"targets": "tokens"})
    assert parse_study(config, where="demo.yaml").encoders[-1].targets == "tokens"
    with pytest.raises(ConfigError, match=f"'vit' has token targets, which {named} do not take"):
        parse_study(config | change, where="demo.yaml")


@pytest.mark.parametrize(
    ("rerank", "change", "words"),
    [
        ({"encoder": "vit"}, {}, None),
        ({"encoder": "own", "decoder": "ridge"}, {}, None),
        ({"encoder": "scenes"}, {}, "'scenes' is none of the study's encoders with token"),
        ({"encoder": "vit", "decoder": "mlp2"}, {}, "decoder 'mlp2' is none of the study's"),
        ({"encoder": "x", "decoder": "y"}, {}, "encoder 'x' .*; decoder 'y' "),
        ({"encoder": "vit"}, {"retrieve": {"candidate_sets": {}}}, "with `candidate_sets`"),
    ],
)
def test_reranking_names_an_encoder_of_tokens(
    rerank: dict, change: dict, words: str | None
) -> None:
    config = yaml.safe_load((ROOT / "config/demo.yaml").read_text())
    config["encoders"] = [
        {"name": "scenes"},
        {"name": "own", "kind": "precomputed", "vectors": "tokens.npz"},
        {"name": "vit", "kind": "local", "model": "models/vit", "targets": "penultimate"},
    ]
    config["decoders"] = [{"name": "ridge", "kind": "ridge"}]
    config["galleries"] = [{"name": "test"}, {"name": "by-tokens", "rerank": rerank}]
    if words is None:
        assert parse_study(config | change, where="demo.yaml").galleries[1].rerank is not None
        return
    with pytest.raises(ConfigError, match=f"gallery 'by-tokens'.*{words}"):
        parse_study(config | change, where="demo.yaml")


def test_check_command(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text((ROOT / "config/demo.yaml").read_text())
    bad.write_text("rois: 3\nstudee: x\n")
    assert main(["config", "check", str(good)]) == 0
    assert main(["config", "check", str(good), str(bad)]) == 1
    message = capsys.readouterr().err
    assert "Did you mean 'study'?" in message and "Traceback" not in message


def test_every_option_is_documented() -> None:
    undocumented = [
        f"{model.__name__}.{name}"
        for model in sections()
        for name, field in model.model_fields.items()
        if not (field.description or "").strip()
    ]
    assert not undocumented


def test_every_option_is_used() -> None:
    read: set[str] = set()
    code = [p for p in (ROOT / "braindecode_clip").rglob("*.py") if "config" not in p.parts]
    code.append(ROOT / "braindecode_clip/config/simulate.py")
    for path in code:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute):
                read.add(node.attr)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                read.add(node.value)
            elif isinstance(node, ast.keyword) and node.arg:
                read.add(node.arg)
    rules = "".join(p.read_text() for p in (ROOT / "workflow/rules").glob("*.smk"))
    unused = [
        f"{model.__name__}.{name}"
        for model in sections()
        for name in model.model_fields
        if name not in read and f".{name}" not in rules
    ]
    assert not unused


def test_section_is_frozen_and_closed() -> None:
    class Small(Section):
        size: int = 1

    section = parse_section(Small, {"size": 2}, where="x")
    with pytest.raises(ValueError, match="frozen"):
        section.size = 3
    with pytest.raises(ConfigError, match="unknown key 'sizes'"):
        parse_section(Small, {"sizes": 2}, where="x")


@pytest.mark.parametrize(
    ("surface", "words"),
    [
        (
            {"enabled": True, "decoders": ["mlp2"]},
            "names 'mlp2'; decoders that fit again by themselves of the study are 'ridge', 'mlp'",
        ),
        ({"enabled": True, "rois": ["v9"]}, "names 'v9'; ROIs of the study are 'visual'"),
        ({"enabled": True, "fractions": [1.0, 0.5]}, "ascending"),
        ({"enabled": False, "decoders": ["mlp2"]}, None),
    ],
)
def test_the_surface_names_what_the_study_has(surface, words) -> None:
    config = yaml.safe_load((ROOT / "config/demo.yaml").read_text()) | {"surface": surface}
    if words is None:
        assert parse_study(config, where="demo").surface_labels["roi"] == []
    else:
        with pytest.raises(ConfigError, match=words):
            parse_study(config, where="demo")
