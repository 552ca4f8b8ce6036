"""The part about adapted encoders: figure, table, methods, and what is read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from audit_sides import side_of
from matplotlib.figure import Figure

from braindecode_clip.artifacts import Embeddings
from braindecode_clip.audit import audit
from braindecode_clip.audit.compare import compare
from braindecode_clip.config.adaptations import AuditConfig
from braindecode_clip.config.embed import EncoderConfig
from braindecode_clip.config.study import StudyConfig, parse_study
from braindecode_clip.constants import SCHEMA_VERSION
from braindecode_clip.errors import DataError
from braindecode_clip.io.atomic import write_json
from braindecode_clip.report import theme
from braindecode_clip.report.audit import audit_topics
from braindecode_clip.report.html import build_page
from braindecode_clip.report.inputs import read_inputs
from braindecode_clip.report.listing import list_results
from braindecode_clip.report.methods_audit import describe_audit
from braindecode_clip.report.methods_targets import describe_targets
from braindecode_clip.report.numbers import THIN
from braindecode_clip.report.results import Order
from braindecode_clip.report.sections import Studio
from braindecode_clip.report.sources import Citations

OPTIONS = AuditConfig(n_bootstrap=200, n_permutations=99, geometry_draws=2, common_space=False)
LABELS = {"subject": ("01", "02"), "roi": ("visual",), "split": ("stimulus",)}
LABELS |= {"encoder": ("scenes", "tuned"), "decoder": ("ridge",), "gallery": ("test",)}
ORDER = Order(LABELS)


def content_of(subjects: tuple[str, ...] = ("01", "02"), noise: float = 0.2) -> dict:
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((60, 8))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    ids = np.array([f"s{k:02d}" for k in range(60)])
    items = []
    for subject in subjects:
        place = ("stimulus", "test", subject, "visual", "ridge")
        sides = [
            side_of(
                Embeddings(ids, vectors, "image", {"name": name}),
                scale * rng.standard_normal((40, 8)),
                encoder=name,
                n_test=40,
                place=place,
            )
            for name, scale in (("scenes", 0.6), ("tuned", noise))
        ]
        items += compare(("scenes", "tuned"), place, *sides, maps=None, options=OPTIONS, seed=1)
    result = audit(items, held_out=frozenset(ids[:12].tolist()), options=OPTIONS, seed=1)
    training = {"n_pairs": 1234, "n_shared_captions": 3}
    return {
        "schema_version": SCHEMA_VERSION,
        "provenance": {"stage": "audit"},
        "rows": result.rows,
        "findings": result.findings,
        "leakage": {"tuned": {"n_test_stimuli": 40, "training": training}},
        "notes": result.notes,
    }


@pytest.fixture(scope="module")
def content() -> dict:
    return content_of()


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    figures: list[Figure] = []
    to_svg = theme.to_svg

    def keep(figure: Figure, *, key: str) -> str:
        figures.append(figure)
        return to_svg(figure, key=key)

    monkeypatch.setattr(theme, "to_svg", keep)
    return figures


def test_the_figure_shows_differences_and_what_is_beyond_geometry(content, drawn) -> None:
    (topic,) = audit_topics(content, ORDER, Studio(), options=OPTIONS)
    axis = drawn[0].axes[1]
    labels = [label.get_text() for label in drawn[0].axes[0].get_yticklabels()]
    assert labels[:2] == ["visual · ridge", "visual · ridge, beyond geometry"]
    assert "visual · ridge, held-out pictures" in labels
    (row,) = [
        r
        for r in content["rows"]
        if (r["level"], r["direction"], r["metric"], r["subset"])
        == ("group", "brain_to_image", "pairwise", "all")
    ]
    for place, kind in enumerate(("", "beyond_geometry_")):
        value = row["difference"] if not kind else row["beyond_geometry"]
        at = {
            tuple(np.round(np.sort(np.asarray(line.get_xdata(), float)), 6))
            for line in axis.lines
            if np.allclose(np.mean(line.get_ydata()), place)
        }
        ends = sorted([100 * row[f"{kind}ci_low"], 100 * row[f"{kind}ci_high"]])
        assert (round(100 * value, 6),) in at
        assert tuple(np.round(ends, 6)) in at
    assert (
        "1,234" in topic.intro.replace(THIN, ",") and "None of the 40 test pictures" in topic.intro
    )
    assert "3 captions of test pictures" in topic.intro
    assert topic.intro.startswith("tuned against scenes: all test pictures, top-1")


def test_the_table_holds_every_score_with_its_verdict(content) -> None:
    (topic,) = audit_topics(content, ORDER, Studio(), options=OPTIONS)
    table = topic.table
    shown = [r for r in content["rows"] if r["level"] == "group"]
    assert len(table.rows) == len(shown) == 4 * 2 * 3
    at = {name: k for k, name in enumerate(table.columns)}
    for row, cells in zip(shown, table.rows, strict=True):
        text = [cell.text.replace(THIN, "") for cell in cells]
        assert text[at["Adapting"]] == row["verdict"]
        if row["metric"] in ("top_1", "pairwise"):
            assert text[at["Original"]] == f"{100 * row['original_value']:.1f}%"
            assert text[at["Adapted"]] == f"{100 * row['adapted_value']:.1f}%"
            sign = "+" if row["difference"] > 0 else ""
            expected = f"{sign}{100 * row['difference']:.1f}".replace("-", "−")
            assert text[at["Difference"]] == expected.replace("−0.0", "0.0")
        if row["metric"] == "mean_rank":
            assert text[at["Difference"]].lstrip("+−") == f"{abs(row['difference']):.2f}"
        is_back = row["direction"] == "image_to_brain"
        assert (text[at["Beyond geometry"]] == "–") == is_back
        assert text[at["In the original space"]] == "–"


def test_one_subject_is_shown_by_itself(drawn) -> None:
    (topic,) = audit_topics(content_of(("01",)), ORDER, Studio(), options=OPTIONS)
    assert all(not line.startswith("visual · ridge (") for line in topic.table.columns)
    assert "intervals over stimuli, n = 40" in topic.blocks[0].drawing.caption


def test_methods_say_what_was_done(content) -> None:
    study = StudyConfig.model_construct(
        audit=OPTIONS.model_copy(update={"geometry_noise": "isotropic"}), splits=[]
    )
    said = " ".join(describe_audit(content, study, Citations()))
    assert "from 99 exchanges of the two in whole stimuli" in said.replace(THIN, "")
    assert "isotropic noise, 2 draws" in said and "judged in one space" not in said
    assert describe_audit({}, study, Citations()) == []
    tuned = EncoderConfig(name="tuned", kind="adapted", adaptation="few")
    assert "adapted in this study (few)" in describe_targets(tuned, Citations())
    control = tuned.model_copy(update={"control": "weight_noise"})
    assert "random changes of its weights" in describe_targets(control, Citations())


def test_the_page_has_the_part_and_names_a_damaged_file(
    content, make_study, tmp_path: Path
) -> None:
    study = make_study(tmp_path, maps=False)
    adapted = {"name": "tuned", "kind": "adapted", "adaptation": "few"}
    config = study.config | {
        "adaptations": [
            {"name": "few", "recipe": "r.yaml", "initial": "scenes", "pairs": {"source": "p"}}
        ],
        "encoders": [*study.config["encoders"], adapted],
    }
    parsed = parse_study(config, where="study")
    listed = list_results(parsed, "results/x", subjects=["01"], backgrounds={}, stimuli=None)
    assert listed["audit"] == "results/x/audit/audit.json"
    plain = parse_study(study.config, where="study")
    listed = list_results(plain, "results/x", subjects=["01"], backgrounds={}, stimuli=None)
    assert listed["audit"] is None
    path = tmp_path / "audit.json"
    write_json(path, content)
    inputs = read_inputs(parsed, study.listing | {"audit": str(path)}, where="list")
    page = build_page(inputs)
    assert "Did adapting the encoder help?" in page and 'href="#audit"' in page
    assert audit_topics({}, ORDER, Studio(), options=OPTIONS) == []
    write_json(path, content | {"schema_version": -1})
    with pytest.raises(DataError, match="Re-run `audit`"):
        read_inputs(parsed, study.listing | {"audit": str(path)}, where="list")
