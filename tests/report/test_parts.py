"""The parts of the page against answers worked out by hand."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from braindecode_clip.artifacts import Retrieval
from braindecode_clip.config.betas import BetasConfig
from braindecode_clip.config.study import parse_study
from braindecode_clip.report import numbers
from braindecode_clip.report.brains import MapStyle, brain_figure
from braindecode_clip.report.examples import choose_examples, confusion
from braindecode_clip.report.figures import Dot, accuracy_figure, pool_figure
from braindecode_clip.report.headline import headlines
from braindecode_clip.report.inputs import read_inputs
from braindecode_clip.report.methods import methods_text
from braindecode_clip.report.methods_betas import betas_sentences
from braindecode_clip.report.results import Order, is_clear, is_share
from braindecode_clip.report.sources import SOURCES, Citations
from braindecode_clip.report.tables import metrics_table
from braindecode_clip.report.theme import to_svg


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (numbers.percent(31 / 60), "51.7 %"),
        (numbers.percent(None), "–"),
        (numbers.decimal(-0.0004), "0.000"),
        (numbers.decimal(-1.25, digits=1), "−1.2"),
        (numbers.count(15724), "15 724"),
        (numbers.quantity(0.01234), "0.0123"),
        (numbers.quantity(1234.5), "1 234"),
        (numbers.quantity(2.5e-7), "2.5 × 10^−7"),
        (numbers.plain(0.01), "0.01"),
        (numbers.p_value(1 / 10001, n_permutations=10000), "< 0.001"),
        (numbers.p_value(1 / 100, n_permutations=99), "≤ 0.010"),
        (numbers.p_value(0.0316, n_permutations=99), "= 0.032"),
        (numbers.p_value(1.0), "= 1"),
        (numbers.duration(0.42), "0.4 s"),
        (numbers.duration(200), "3 min 20 s"),
        (numbers.duration(7500), "2 h 05 min"),
        (numbers.megabytes(2048), "2.0 GB"),
    ],
)
def test_numbers(text, expected):
    assert text.replace(numbers.THIN, " ") == expected


def make_retrieval(similarity: np.ndarray, true_index: np.ndarray, rank: np.ndarray) -> Retrieval:
    ids = np.array([f"s{i}" for i in range(similarity.shape[1])])
    queries = pd.DataFrame(
        {"stimulus_id": ids[true_index], "group": "1", "n_repeats": 1, "rank": rank}
    )
    return Retrieval(
        direction="brain_to_image",
        queries=queries,
        top_id=ids[np.argsort(-similarity, axis=1)],
        top_similarity=-np.sort(-similarity, axis=1),
        gallery_ids=ids,
        similarity=similarity,
        true_index=true_index,
        info={},
    )


def test_examples_are_chosen_by_rank_then_margin():
    # Seven queries of three candidates; the margin decides between equal ranks.
    true = np.array([0, 1, 2, 0, 1, 2, 0])
    rank = np.array([1, 1, 3, 2, 1, 2, 3.0])
    margin = np.array([0.3, 0.5, -0.6, -0.1, 0.1, -0.2, -0.4])
    similarity = np.zeros((7, 3))
    similarity[np.arange(7), true] = margin
    chosen = choose_examples(make_retrieval(similarity, true, rank), per_group=2, n_candidates=2)
    found = {
        group: [(example.stimulus_id, example.rank) for example in examples]
        for group, examples in chosen.items()
    }
    # In order: rows 1, 0, 4 (rank 1), 3, 5 (rank 2), 6, 2 (rank 3).
    assert found["best"] == [("s1", 1.0), ("s0", 1.0)]
    assert found["median"] == [("s1", 1.0), ("s0", 2.0)]
    assert found["worst"] == [("s0", 3.0), ("s2", 3.0)]


def test_no_example_is_shown_twice_when_there_are_few():
    similarity = np.eye(2)
    retrieval = make_retrieval(similarity, np.array([0, 1]), np.array([1.0, 1.0]))
    chosen = choose_examples(retrieval, per_group=3, n_candidates=5)
    shown = [example.stimulus_id for examples in chosen.values() for example in examples]
    assert sorted(shown) == ["s0", "s1"]
    assert all(len(example.candidates) == 2 for group in chosen.values() for example in group)


def test_true_candidate_stands_last_among_equals():
    similarity = np.array([[0.5, 0.5, 0.1], [0.2, 0.1, 0.9], [0.3, 0.4, 0.5]])
    retrieval = make_retrieval(similarity, np.array([0, 2, 1]), np.array([1.5, 1.0, 2.0]))
    chosen = choose_examples(retrieval, per_group=1, n_candidates=3)
    (example,) = chosen["median"]
    assert [c.stimulus_id for c in example.candidates] == ["s1", "s0", "s2"]
    assert [c.is_true for c in example.candidates] == [False, True, False]


def test_confusion_shares_ties_and_leaves_unseen_rows_empty():
    similarity = np.array([[0.9, 0.9, 0.0], [0.1, 0.8, 0.3], [0.0, 0.2, 0.6]])
    table = confusion(make_retrieval(similarity, np.array([0, 0, 1]), np.array([1.5, 3, 2])))
    np.testing.assert_allclose(table.to_numpy()[0], [0.25, 0.75, 0])
    np.testing.assert_allclose(table.to_numpy()[1], [0, 0, 1])
    assert np.isnan(table.to_numpy()[2]).all()


@pytest.mark.parametrize("sign_x", [1, -1])
def test_brain_map_keeps_left_and_front(sign_x):
    """A voxel at the right front is drawn at the right top, however the grid is stored."""
    shape = (10, 12, 5)
    affine = np.diag([3.0 * sign_x, 3.0, 4.0, 1.0])
    affine[:3, 3] = [-15 * sign_x, -18, -8]
    values = np.full(shape, np.nan)
    right_front = np.linalg.inv(affine) @ [9.0, 12.0, 0.0, 1.0]
    values[tuple(np.round(right_front[:3]).astype(int))] = 2.0
    finer = np.zeros((21, 25, 9), dtype=np.float32)
    finer[2:-2, 2:-2, :] = 100.0
    finer_affine = np.diag([1.5, 1.5, 2.0, 1.0])
    finer_affine[:3, 3] = [-15, -18, -8]
    figure = brain_figure(
        values, affine, MapStyle("r", "viridis"), background=(finer, finer_affine), n_slices=3
    )
    image = np.asarray(figure.axes[0].images[0].get_array()).astype(int)
    coloured = np.ptp(image[..., :3], axis=2) > 40
    rows, columns = np.nonzero(coloured & (image[..., 3] > 200))
    assert len(rows) and columns.min() > image.shape[1] / 2 and rows.max() < image.shape[0] / 2
    assert (image[..., 3] == 0).any() and (image[..., 3] == 255).mean() > 0.5
    assert [text.get_text() for text in figure.axes[0].texts] == ["z = 0 mm", "L", "R"]


def test_svg_has_no_foreign_names_and_unique_ids():
    dots = {"Top-1": [Dot("a & <b>", "ridge", 0.5, 0.4, 0.6, 0.1)]}
    texts = [to_svg(accuracy_figure(dots, ["ridge"]), key=key) for key in ("one", "two")]
    for key, text in zip(("one", "two"), texts, strict=True):
        ids = re.findall(r'\bid="([^"]+)"', text)
        assert len(ids) == len(set(ids)) and all(name.startswith(f"{key}-") for name in ids)
        assert "http" not in text and "xmlns" not in text and "#0" not in text
        assert "a &amp; &lt;b&gt;" in text and "var(--series-1)" in text
    assert not set(re.findall(r'\bid="([^"]+)"', texts[0])) & set(
        re.findall(r'\bid="([^"]+)"', texts[1])
    )


@pytest.fixture(scope="session")
def small(words):
    """Return the study of one subject, read."""
    study, _ = words
    return read_inputs(parse_study(study.config, where="study"), study.listing, where="list")


def test_names_stand_in_the_order_of_the_config(small):
    rows = pd.DataFrame(
        [
            {"subject": s, "roi": r, "split": "x", "encoder": "e", "decoder": d, "gallery": "g"}
            for s, r, d in [("02", "v", "new"), ("01", "gray", "ridge"), ("02", "gray", "ridge")]
        ]
    )
    order = Order.of(small.study, rows)
    assert order.names["decoder"] == ("ridge", "new") and order.names["roi"] == ("gray", "v")
    assert order.varying() == ["subject", "roi", "decoder"]
    assert list(order.sort(rows)["subject"]) == ["01", "02", "02"]
    assert list(order.sort(rows)["roi"]) == ["gray", "gray", "v"]


def test_statement_tells_a_null_away_from_chance(small):
    order = Order.of(small.study, small.metrics)

    def only(metrics: pd.DataFrame):
        (group,) = headlines(small.study, metrics, order, things={})["1"]
        assert "7 candidates" in group.note
        return group.statements[0]

    usual = only(small.metrics)
    assert "permuted labels" not in usual.sentence and usual.null is None
    told = only(small.metrics.assign(null_mean=0.3))
    assert "permuted labels 30.0" in told.sentence and told.null == pytest.approx(30)
    bare = only(small.metrics.assign(p=None, ci_low=None, ci_high=None))
    assert "no permutation test" in bare.sentence and "CI" not in bare.sentence
    assert bare.low is None


def test_less_is_better_for_ranks_alone():
    row = {"ci_low": 0.6, "ci_high": 0.8, "chance": 0.5}
    assert is_clear({"metric": "mean_reciprocal_rank", **row})
    assert not is_clear({"metric": "mean_rank", **row})
    assert not is_clear({"metric": "top_1", "null_mean": 0.7, **row})
    assert is_clear({"metric": "top_1", "null_mean": 0.1, **row})
    assert is_clear({"metric": "median_rank", "ci_low": 1.0, "ci_high": 3.0, "chance": 4.0})
    assert is_share("top_10") and not is_share("r2_mean")


def test_scores_of_dimensions_have_no_direction(small):
    order = Order.of(small.study, small.metrics)
    table = metrics_table(small.metrics, order, "all")
    directions = {row[0].text: row[1].text for row in table.rows}
    assert directions["R², mean"] == "–" and directions["Pairwise"] != "–"


def test_methods_follow_the_config(words, small):
    study, _ = words
    text = " ".join(methods_text(small, Order.of(small.study, small.metrics)).paragraphs)
    assert "least squares separate" in text and "SPM's" in text and "0.01" in text
    config = {
        **study.config,
        "betas": {"method": "average", "window": {"start_s": 3.5}},
        "preprocess": {"high_pass_hz": None, "confounds": [], "polynomial_order": 2},
        "evaluate": {"n_bootstrap": 777, "confidence": 0.9},
        "retrieve": {"similarity": "correlation"},
    }
    other = read_inputs(parse_study(config, where="study"), study.listing, where="list")
    methods = methods_text(other, Order.of(other.study, other.metrics))
    text = " ".join(methods.paragraphs)
    assert "least squares" not in text.split("Targets")[0] and "3.5" in text
    assert "confounds" not in text and "degree 2" in text and "cosine drifts" not in text
    assert "censored" not in text and "CompCor" not in text
    assert "777 bootstrap samples of runs" in text and "90" in text
    assert "ranked by their correlation with" in text
    cited = {int(n) for group in re.findall(r"\[([\d, ]+)\]", text) for n in group.split(",")}
    assert cited == set(range(1, len(methods.references) + 1))


@pytest.mark.parametrize(
    ("betas", "wanted", "unwanted"),
    [
        ({"hrf": "glover + derivative"}, ["Glover's", "its derivative in time"], ["These choices"]),
        ({"hrf": "spm + derivative + dispersion"}, ["in time and dispersion"], ["autoregression"]),
        ({"hrf": "fir", "noise_model": "ar1"}, ["from 4 to 8", "autoregression"], ["library"]),
        (
            {"method": "lsa", "hrf": "library", "noise_regressors": "auto", "shrinkage": "ridge"},
            ["library of 20", "up to 8", "ridge penalty", "training stimuli alone"],
            ["SPM"],
        ),
        (
            {"noise_regressors": 3, "tune": {"trials": "all"}},
            ["(3 a subject", "test stimuli among them"],
            ["ridge penalty"],
        ),
    ],
)
def test_methods_name_every_option_of_the_betas(words, betas, wanted, unwanted):
    study, _ = words
    other = read_inputs(
        parse_study({**study.config, "betas": betas}, where="study"), study.listing, where="list"
    )
    methods = methods_text(other, Order.of(other.study, other.metrics))
    text = methods.paragraphs[1].replace("\u2009", " ")
    assert all(part in text for part in wanted)
    assert not any(part in text for part in unwanted)


def test_methods_say_that_a_tuning_without_a_table_sees_test_runs():
    options = BetasConfig(method="lsa", shrinkage="ridge")
    text = " ".join(betas_sentences(options, Citations(), by_stimulus=False))
    assert "no labels (transductive)" in text and "training stimuli" not in text


def test_methods_name_a_gallery_that_is_ranked_again(words, small):
    plain = " ".join(methods_text(small, Order.of(small.study, small.metrics)).paragraphs)
    assert "were then ordered" not in plain
    facts = {"encoder": "vit", "shortlist": 25, "mean_ordered": 25.0, "true_ordered": 0.5}
    retrievals = [
        replace(item, info={**item.info, "rerank": {**facts, "decoder": item.info["decoder"]}})
        for item in small.retrievals
    ]
    other = replace(small, retrievals=retrievals)
    text = " ".join(methods_text(other, Order.of(other.study, other.metrics)).paragraphs)
    gallery = retrievals[0].info["gallery"]
    assert text.count("were then ordered") == len({r.info["gallery"] for r in retrievals})
    assert f"In gallery {gallery} the best 25 candidates of each brain sample" in text
    decoders = " and ".join(dict.fromkeys(str(item.info["decoder"]) for item in retrievals))
    assert f"(encoder vit, decoder {decoders})" in text


def test_methods_name_realigning(words):
    study, _ = words
    config = {**study.config, "realign": {"enabled": True}, "betas": {"slice_time_ref": 0.5}}
    other = read_inputs(parse_study(config, where="study"), study.listing, where="list")
    text = " ".join(methods_text(other, Order.of(other.study, other.metrics)).paragraphs)
    assert "rigid head motion" in text and "slice timing" in text and "SimpleITK" in text


def test_methods_name_strategies_and_censoring(words, small):
    study, _ = words
    strategy = {"names": ["motion24", "acompcor"], "n_compcor": "all"}
    censor = {"fd_mm": 0.5, "dvars": 1.5, "n_after": 2, "min_segment": 5}
    config = {**study.config, "preprocess": {"strategy": strategy, "censor": censor}}
    other = read_inputs(parse_study(config, where="study"), study.listing, where="list")
    methods = methods_text(other, Order.of(other.study, other.metrics))
    text = " ".join(methods.paragraphs).replace("\u202f", " ").replace("\u2009", " ")
    assert "24 motion parameters and anatomical CompCor (all components, combined mask)" in text
    assert (
        "framewise displacement above 0.5 mm or standardised DVARS above 1.5, with 2 after each "
        "and kept segments of fewer than 5 volumes, were censored" in text
    )


def test_citations_are_numbered_as_they_come():
    cite = Citations()
    assert (cite("ridge"), cite("clip", "ridge"), cite("nsd")) == ("[1]", "[2, 1]", "[3]")
    assert cite.references == (SOURCES["ridge"], SOURCES["clip"], SOURCES["nsd"])
    assert all(re.search(r"doi:|arXiv:|Chapman", text) for text in SOURCES.values())


def test_legend_names_series_that_the_first_panel_lacks():
    sizes = pd.DataFrame({"pool_size": [2, 60], "value": 0.9, "ci_low": 0.8, "ci_high": 1.0})
    curve = sizes.assign(chance=1 / sizes["pool_size"])
    panels = {"one": {"ridge": curve}, "two": {"mlp": curve}}
    figure = pool_figure(panels, ["ridge", "mlp"], columns=2)
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["ridge", "mlp", "chance"]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, "the hidden states of the last block, layer-normed, projected to the shared space"),
        (
            {"token_projection": False, "class_token": False},
            "the hidden states of the last block, layer-normed, without the class token",
        ),
        ({"targets": "penultimate"}, "the hidden states of the last block but one"),
        (
            {"targets": "penultimate", "token_projection": True},
            "the hidden states of the last block but one, layer-normed, projected to the shared "
            "space",
        ),
    ],
)
def test_tokens_are_described(options, text):
    from braindecode_clip.config.embed import EncoderConfig
    from braindecode_clip.report.methods_targets import describe_tokens

    given = {"name": "vit", "kind": "local", "model": "m", "targets": "tokens"} | options
    assert describe_tokens(EncoderConfig(**given)) == text
