"""Adaptations in a study's config: encoders that use them, controls, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from braindecode_clip.config.adaptations import AuditConfig, starts_from_scenes
from braindecode_clip.config.embed import EncoderConfig
from braindecode_clip.config.study import StudyConfig, parse_study
from braindecode_clip.errors import ConfigError

ROOT = Path(__file__).resolve().parents[1]


def study(
    adaptation: dict | None = None, encoder: dict | None = None, **more: object
) -> StudyConfig:
    config = yaml.safe_load((ROOT / "config/demo.yaml").read_text())
    item = {"name": "few", "recipe": "r.yaml", "initial": "scenes", "pairs": {"source": "p.tsv"}}
    config["adaptations"] = [item | (adaptation or {})]
    tuned = {"name": "tuned", "kind": "adapted", "adaptation": "few"}
    config["encoders"].append(tuned | (encoder or {}))
    return parse_study(config | more, where="study")


def test_controls_become_encoders_once() -> None:
    made = study({"controls": ["shuffled_captions", "weight_noise"]})
    names = [item.name for item in made.encoders]
    assert names == ["scenes", "tuned", "tuned-shuffled-captions", "tuned-weight-noise"]
    assert [item.control for item in made.encoders[1:]] == [
        None,
        "shuffled_captions",
        "weight_noise",
    ]
    assert made.audited == dict.fromkeys(names[1:], "scenes")
    # What was resolved is resolved no further.
    assert parse_study(made.model_dump(mode="json"), where="again") == made
    assert study(audit={"enabled": False}).audited == {}
    assert study().audited == {"tuned": "scenes"}


def test_an_adapted_encoder_may_be_adapted_again() -> None:
    config = yaml.safe_load((ROOT / "config/demo.yaml").read_text())
    base = {"recipe": "r.yaml", "pairs": {"source": "p.tsv"}}
    config["adaptations"] = [
        base | {"name": "one", "initial": "scenes"},
        base | {"name": "two", "initial": "first"},
    ]
    config["encoders"] += [
        {"name": "first", "kind": "adapted", "adaptation": "one"},
        {"name": "second", "kind": "adapted", "adaptation": "two"},
    ]
    assert parse_study(config, where="x").audited == {"first": "scenes", "second": "first"}
    made = parse_study(config, where="x")
    for name in ("scenes", "first", "second"):
        assert starts_from_scenes(name, made.encoders, made.adaptations)
    config["encoders"][0] = {"name": "scenes", "kind": "local", "model": "m"}
    made = parse_study(config, where="x")
    assert not starts_from_scenes("second", made.encoders, made.adaptations)
    config["encoders"][2]["precision"] = "bf16"
    with pytest.raises(ConfigError, match=r"'second' differs from 'first'.* in precision"):
        parse_study(config, where="x")
    config["encoders"][2].pop("precision")
    config["adaptations"][0]["initial"] = "second"
    with pytest.raises(ConfigError, match="'first' is adapted from itself"):
        parse_study(config, where="x")


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"adaptation": {"initial": "vit"}}, "initial 'vit' is none of the study's encoders"),
        ({"encoder": {"adaptation": "many"}}, "'many' is none of the study's `adaptations`"),
        ({"source": "bids"}, "the study has no `stimuli`"),
        ({"audit": {"decoders": ["mlp2"]}}, "'audit.decoders' names 'mlp2'"),
        ({"adaptation": {"controls": ["weight_noise"] * 2}}, "names each control once"),
        ({"audit": {"equivalence_margins": {"top_1": 1.5}}}, "above 0 and below 1"),
        ({"encoder": {"modality": "text"}}, "differs from 'scenes'.* in modality; a difference"),
        ({"encoder": {"unit_norm": False}}, "in unit_norm"),
        ({"encoder": {"model": "m"}}, "kind 'adapted' does not use 'model'"),
    ],
)
def test_what_does_not_fit_is_refused(how: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        study(**how)


def test_a_name_that_a_control_needs_is_refused_for_others() -> None:
    with pytest.raises(ConfigError, match="'few-weight-noise'"):
        study(
            {"controls": ["weight_noise"]},
            {"name": "few"},
            encoders=[
                {"name": "scenes"},
                {"name": "few", "kind": "adapted", "adaptation": "few"},
                {"name": "few-weight-noise", "kind": "scenes"},
            ],
        )


def test_an_adapted_encoder_needs_an_adaptation() -> None:
    with pytest.raises(ValueError, match="kind 'adapted' needs 'adaptation'"):
        EncoderConfig(name="x", kind="adapted")
    assert AuditConfig().geometry_noise == "residual"
