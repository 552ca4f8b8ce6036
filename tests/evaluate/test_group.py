"""Rows of a study in small, against numbers made by hand and literal loops."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from braindecode_clip.artifacts import Retrieval
from braindecode_clip.config.group import GroupConfig
from braindecode_clip.config.study import parse_study
from braindecode_clip.errors import ConfigError, DataError
from braindecode_clip.evaluate import evaluate
from braindecode_clip.evaluate.group import GroupResult, group
from braindecode_clip.evaluate.group_labels import Exchange, exchange_of
from braindecode_clip.evaluate.group_rows import _above, mean_interval, two_level
from braindecode_clip.resampling.exchanges import draw_exchanges, exchanged_means
from braindecode_clip.seeds import make_rng

FAST = GroupConfig(n_bootstrap=200, n_permutations=199, top_k=(1, 3))
Study = dict[tuple[str, ...], Retrieval]


@pytest.fixture(scope="module")
def make_study(make_case: Callable) -> Callable[..., Study]:
    """Return a function that makes retrievals by (subject, ROI, decoder, direction)."""

    def make(
        subjects: Iterable[str] = ("01", "02", "03"),
        *,
        signal: float = 0.6,
        rois: Iterable[str] = ("early", "higher"),
        **design: Any,
    ) -> Study:
        found = {}
        for i, subject in enumerate(subjects):
            for j, roi in enumerate(rois):
                for k, decoder in enumerate(("ridge", "mlp")):
                    case = make_case(
                        **({"n_stimuli": 12} | design),
                        signal=signal * (1 + j + 0.2 * k),
                        seed=100 * i,
                    )
                    for item in case.both:
                        info = {"subject": subject, "roi": roi, "decoder": decoder}
                        info |= {"split": "s", "encoder": "e", "gallery": "test"}
                        key = (subject, roi, decoder, item.direction)
                        found[key] = replace(item, info={**item.info, **info})
        return found

    return make


def exchange_for(study: Study, unit: str = "stimulus") -> Exchange:
    samples = {
        key[0]: tuple(item.queries[c].to_numpy().astype(str) for c in ("stimulus_id", "group"))
        for key, item in study.items()
    }
    return exchange_of(samples, unit)


def run(study: Study, *, unit: str = "stimulus", seed: int = 3, **options: Any) -> GroupResult:
    config = FAST.model_copy(update=options)
    return group(study.values(), exchange_for(study, unit), options=config, seed=seed)


def pick(rows: list[dict], **labels: Any) -> list[dict]:
    return [row for row in rows if all(row.get(k) == v for k, v in labels.items())]


@pytest.fixture(scope="module")
def study(make_study: Callable) -> Study:
    return make_study(repeats=(1, 2, 1, 3, 1, 1, 2, 1, 1, 1, 2, 1))


@pytest.fixture(scope="module")
def found(study: Study) -> GroupResult:
    return run(study)


def test_a_subjects_scores_are_those_of_evaluate(make_case: Callable, found: GroupResult) -> None:
    case = make_case(12, repeats=(1, 2, 1, 3, 1, 1, 2, 1, 1, 1, 2, 1), signal=0.6, seed=100)
    rows = evaluate(case.both, case.predictions, case.embeddings, rng=np.random.default_rng(0)).rows
    for direction in ("brain_to_image", "image_to_brain"):
        for metric in ("top_1", "pairwise", "mean_reciprocal_rank"):
            (expected,) = pick(rows, metric=metric, direction=direction)
            (row,) = pick(
                found.rows,
                level="subject",
                subject="02",
                roi="early",
                decoder="ridge",
                direction=direction,
                metric=metric,
            )
            for key in ("value", "chance", "n"):
                assert row[key] == pytest.approx(expected[key])
            assert row["p"] == pytest.approx(expected["p"], abs=0.1)


def test_group_p_and_corrected_p_are_what_loops_give(study: Study, found: GroupResult) -> None:
    exchange = exchange_for(study)
    n = FAST.n_permutations
    labels = {
        s: np.concatenate(
            list(exchange.labels(s, n_permutations=n, rng=make_rng(3, "group", "labels")))
        )
        for s in ("01", "02", "03")
    }

    def hits(item: Retrieval, own: np.ndarray) -> float:
        """Return top-1, ranked anew with the stimuli that the labels name."""
        shown = item.queries["stimulus_id"].to_numpy().astype(str)
        stimuli = np.unique(shown)
        right = []
        for i, name in enumerate(stimuli[own]):
            if item.direction == "brain_to_image":
                row = item.similarity[i]
                true, others = row[item.gallery_ids == name][0], row[item.gallery_ids != name]
            else:
                row = item.similarity[np.flatnonzero(shown == name)[0]]
                true, others = row[i], row[stimuli[own] != name]
            right.append((others > true).sum() + (others == true).sum() / 2 == 0)
        return float(np.mean(right))

    places = [key[1:] for key in study if key[0] == "01"]
    observed, null = [], []
    for place in places:
        items = {s: study[(s, *place)] for s in labels}
        true = {s: exchange.label_of[s][exchange.item_of[s]] for s in labels}
        observed.append(np.mean([hits(items[s], true[s]) for s in labels]))
        null.append([np.mean([hits(items[s], labels[s][b]) for s in labels]) for b in range(n)])
    every = np.vstack([observed, np.array(null).T])
    z = (every - every.mean(axis=0)) / every.std(axis=0)
    for j, (roi, decoder, direction) in enumerate(places):
        (row,) = pick(
            found.rows, level="group", metric="top_1", roi=roi, decoder=decoder, direction=direction
        )
        assert row["value"] == pytest.approx(observed[j])
        assert row["p"] == pytest.approx(np.mean(every[:, j] >= observed[j] - 1e-9))
        assert row["p_corrected"] == pytest.approx(np.mean(z.max(axis=1) >= z[0, j] - 1e-9))
        assert row["n_family"] == 8


def test_group_means_have_students_intervals(found: GroupResult) -> None:
    rows = pick(found.rows, level="group")
    assert len(rows) == 2 * 2 * 2 * 4
    for row in rows:
        labels = {k: row[k] for k in ("roi", "decoder", "direction", "metric")}
        own = pick(found.rows, level="subject", **labels)
        values = [r["value"] for r in own]
        assert row["value"] == pytest.approx(np.mean(values))
        if np.ptp(values):
            low, high = stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))
            assert (row["ci_low"], row["ci_high"]) == pytest.approx((max(low, 0), min(high, 1)))
        assert row["n"] == 3 and row["n_unit"] == row["resampled"] == "subjects"
        above = [r["subject"] for r in own if r["p"] <= 0.05]
        assert row["subjects_above"] == " ".join(above)
        assert row["share_above"] == pytest.approx(len(above) / 3)
        kept = [r["subject"] for r in own if r["p_corrected"] <= 0.05]
        assert row["subjects_above_corrected"] == " ".join(kept)
        assert row["prevalence_low"] <= row["prevalence"] <= row["prevalence_high"]


def test_who_is_above_chance_by_p_and_by_corrected_p() -> None:
    p = {"01": (0.01, 0.04), "02": (0.05, 0.2), "03": (0.06, 0.3)}
    rows = [{"subject": s, "p": own, "p_corrected": kept} for s, (own, kept) in p.items()]
    found = _above(rows, 0.05)
    assert (found["subjects_above"], found["n_above"]) == ("01 02", 2)
    assert (found["subjects_above_corrected"], found["n_above_corrected"]) == ("01", 1)
    assert found["share_above_corrected"] == pytest.approx(1 / 3)
    # Prevalence rests on the uncorrected ones, whose level is known.
    assert found["prevalence"] == pytest.approx((2 / 3 - 0.05) / 0.95)


def test_notes_say_what_few_subjects_mean(found: GroupResult, make_study: Callable) -> None:
    assert any("Student's t with 2 degrees" in note for note in found.notes)
    assert any("one strong subject can reject it" in note for note in found.notes)
    one = run(make_study(["01"]))
    assert not pick(one.rows, level="group") and not pick(one.pairs, level="group")
    assert any("one subject" in note for note in one.notes)
    assert {row["n_family"] for row in one.rows} == {8}


def test_pairs_are_differences_on_the_same_samples(study: Study, found: GroupResult) -> None:
    # Per subject: 2 ROIs x 1 pair of decoders and 2 decoders x 1 pair of ROIs.
    assert len(found.pairs) == 4 * 4 * 2 * 3
    (row,) = pick(
        found.pairs,
        subject="01",
        compared="rois",
        within="mlp",
        direction="brain_to_image",
        metric="pairwise",
    )
    first, second = (
        1 - (study["01", roi, "mlp", "brain_to_image"].queries["rank"].to_numpy() - 1) / 11
        for roi in ("early", "higher")
    )
    assert (row["first"], row["second"]) == ("early", "higher")
    assert row["difference"] == pytest.approx(np.mean(first - second))
    shown = study["01", "early", "mlp", "brain_to_image"].queries["stimulus_id"].to_numpy()
    _, place = np.unique(shown, return_inverse=True)
    assert row["n_resampled"] == 12 and row["n"] == len(shown) == 17
    # 12 pictures have 4,096 arrangements, more than the 199 drawn: the exact p is near.
    every = draw_exchanges(12, 5000, np.random.default_rng(0))
    null = exchanged_means((first - second)[:, None], place, every)
    exact = every.p(np.array([np.mean(first - second)]), null)[0]
    assert row["p"] == pytest.approx(exact, abs=0.08)
    (overall,) = pick(
        found.pairs,
        **{
            **{k: row[k] for k in ("compared", "within", "first")},
            "direction": "brain_to_image",
            "metric": "pairwise",
            "level": "group",
        },
    )
    same = {k: row[k] for k in ("compared", "within", "direction", "metric")}
    own = [r["difference"] for r in pick(found.pairs, level="subject", **same)]
    assert overall["difference"] == pytest.approx(np.mean(own))
    low, high = stats.t.interval(0.95, 2, np.mean(own), stats.sem(own))
    assert (overall["ci_low"], overall["ci_high"]) == pytest.approx((low, high))


def test_p_of_a_pair_over_subjects_exchanges_shared_pictures_alike(
    study: Study, found: GroupResult
) -> None:
    signs = draw_exchanges(12, FAST.n_permutations, make_rng(3, "group", "exchanges")).signs
    names = exchange_for(study).item_of
    for within in ("early", "higher"):
        observed, null = [], np.zeros(len(signs))
        for subject in names:
            ridge, mlp = (
                1 / study[subject, within, d, "brain_to_image"].queries["rank"].to_numpy()
                for d in ("ridge", "mlp")
            )
            shown = study[subject, within, "mlp", "brain_to_image"].queries["stimulus_id"]
            place = np.unique(shown, return_inverse=True)[1]
            observed.append(np.mean(ridge - mlp))
            for b, row in enumerate(signs):
                null[b] += np.mean(row[place] * (ridge - mlp)) / len(names)
        (row,) = pick(
            found.pairs,
            level="group",
            compared="decoders",
            within=within,
            direction="brain_to_image",
            metric="mean_reciprocal_rank",
        )
        hits = (np.abs(null) >= abs(np.mean(observed)) - 1e-12).sum()
        assert row["p"] == pytest.approx((1 + hits) / (1 + len(signs)))
        assert row["n_exchanges"] == 199 and not row["all_exchanges"]


def test_q_is_of_all_pairs_of_a_subject(found: GroupResult) -> None:
    rows = pick(found.pairs, subject="02", direction="image_to_brain", metric="top_1")
    p = np.array([row["p"] for row in rows])
    assert len(rows) == 4 and {row["n_pairs"] for row in rows} == {4}
    order = np.argsort(p)
    stepped = np.minimum.accumulate((p[order] * 4 / np.arange(1, 5))[::-1])[::-1]
    assert [rows[i]["q"] for i in order] == pytest.approx(np.minimum(stepped, 1))


def test_runs_are_exchanged_whole_and_exactly(make_study: Callable) -> None:
    result = run(make_study(["01", "02"], n_stimuli=4, runs=5), unit="run")
    rows = pick(result.pairs, level="subject")
    assert {row["n_resampled"] for row in rows} == {5} and {row["resampled"] for row in rows} == {
        "runs"
    }
    assert all(row["all_exchanges"] and row["n_exchanges"] == 32 for row in rows)
    # Runs of two subjects are ten different ones: 1,024 arrangements are too many to list.
    assert {row["n_exchanges"] for row in pick(result.pairs, level="group")} == {199}
    assert any("the smallest p" in note and "0.0625" in note for note in result.notes)


def test_the_same_seed_gives_the_same_rows_in_any_order(study: Study, found: GroupResult) -> None:
    again = run(dict(reversed(study.items())))
    key = ("level", "subject", "roi", "decoder", "direction", "metric")
    by_key = {tuple(row[k] for k in key): row for row in again.rows}
    for row in found.rows:
        other = by_key[tuple(row[k] for k in key)]
        assert other["p"] == row["p"] and other["p_corrected"] == row["p_corrected"]
    assert run(study).rows == found.rows and run(study).pairs == found.pairs
    assert run(study, seed=4).rows != found.rows


def test_compare_takes_the_decoders_named(study: Study) -> None:
    result = run(study, compare=["mlp", "ridge"], equivalence_margins={"pairwise": 0.1})
    assert {(r["first"], r["second"]) for r in pick(result.pairs, compared="decoders")} == {
        ("mlp", "ridge")
    }
    assert {row["metric"] for row in result.pairs} == {"pairwise"}
    assert {row["margin"] for row in result.pairs} == {0.1}
    with pytest.raises(DataError, match="no results of 'svm'"):
        run(study, compare=["ridge", "svm"])


def changed(study: Study, key: tuple[str, ...], **info: Any) -> Study:
    return {**study, key: replace(study[key], info={**study[key].info, **info})}


def test_what_does_not_belong_together_is_refused(study: Study, make_study: Callable) -> None:
    first, second = list(study)[:2]
    with pytest.raises(DataError, match=r"one gallery, got 'all', 'test'"):
        run(changed(study, second, gallery="all"))
    with pytest.raises(DataError, match="missing: subject 01, roi early, decoder ridge, direction"):
        run({key: item for key, item in study.items() if key != first})
    with pytest.raises(DataError, match="given twice"):
        group([*study.values(), study[first]], exchange_for(study), options=FAST, seed=0)
    with pytest.raises(DataError, match="got no retrievals"):
        group([], exchange_for(study), options=FAST, seed=0)
    other = {**study, second: make_study(["01"])[second]}
    with pytest.raises(DataError, match="other test samples than in the subject's first file"):
        run(dict(reversed(other.items())))


def test_transductive_steps_are_named(study: Study, found: GroupResult) -> None:
    first = next(iter(study))
    assert found.transductive == []
    result = run(changed(study, first, transductive=True, correction="csls, transductive"))
    assert len(result.transductive) == 1 and "csls, transductive" in result.transductive[0]
    result = run(changed(study, first, calibration="transductive"))
    assert result.transductive == ["decoder ridge: standardised by its test predictions"]


def two_level_se(per_query: list[np.ndarray], exchange: Exchange) -> float:
    names = list(exchange.item_of)
    rng = np.random.default_rng(0)
    return float(two_level(per_query, exchange, names, n_bootstrap=20_000, rng=rng).std())


def test_two_levels_let_subjects_and_shared_pictures_vary() -> None:
    rng = np.random.default_rng(1)
    n, n_subjects = 30, 6
    pictures, people = rng.standard_normal(n), 0.3 * rng.standard_normal(n_subjects)
    names = np.array([f"p{i:02d}" for i in range(n)])
    runs = np.full(n, "x")
    shared = exchange_of({f"{i}": (names, runs) for i in range(n_subjects)}, "stimulus")
    own = exchange_of(
        {f"{i}": (np.char.add(names, f"-{i}"), runs) for i in range(n_subjects)}, "stimulus"
    )
    same = [pictures] * n_subjects
    # Subjects that answer alike: the error of a mean over pictures, however many they are.
    assert two_level_se(same, shared) == pytest.approx(stats.sem(pictures), rel=0.03)
    # Each with pictures of his own: divided by their number (and drawn subjects repeat).
    repeated = 1 / n_subjects + (1 - 1 / n_subjects) / n_subjects
    assert two_level_se(same, own) == pytest.approx(
        stats.sem(pictures) * np.sqrt(repeated), rel=0.03
    )
    # Nothing varies but people: the bootstrap over subjects.
    flat = [np.full(n, value) for value in people]
    assert two_level_se(flat, shared) == pytest.approx(people.std() / np.sqrt(n_subjects), rel=0.03)


def test_intervals_over_subjects_by_their_number() -> None:
    rng = np.random.default_rng(2)
    names, runs = np.array(list("abcdefgh")), np.full(8, "x")
    seen = {}
    for n in (1, 2, 9, 12):
        exchange = exchange_of({f"{i}": (names, runs) for i in range(n)}, "stimulus")
        values = [rng.uniform(0, 1, 8) for _ in range(n)]
        for resample in ("subjects", "subjects_and_pictures"):
            options = FAST.model_copy(update={"resample": resample})
            seen[n, resample] = mean_interval(
                values, exchange, list(exchange.item_of), options=options, limits=(0, 1), seed=0
            )
    assert [seen[n, "subjects"]["ci_method"] for n in (1, 2, 9, 12)] == ["none", "t", "t", "bca"]
    assert np.isnan(seen[1, "subjects"]["ci_low"])
    assert seen[1, "subjects_and_pictures"]["ci_method"] == "none"
    wide = seen[9, "subjects_and_pictures"]
    assert wide["ci_method"] == "t, two-level bootstrap"
    assert wide["resampled"] == "subjects, then stimuli"
    assert wide["ci_high"] - wide["ci_low"] > (
        seen[9, "subjects"]["ci_high"] - seen[9, "subjects"]["ci_low"]
    )


@pytest.mark.parametrize("limits", [(0, 1), (-1, 1), (-9, 9)])
def test_intervals_end_at_the_limits_of_the_score(limits: tuple[float, float]) -> None:
    names, runs = np.array(list("ab")), np.full(2, "x")
    exchange = exchange_of({"1": (names, runs), "2": (names, runs)}, "stimulus")
    values = [np.full(2, 0.3), np.full(2, 0.7)]
    found = mean_interval(values, exchange, ["1", "2"], options=FAST, limits=limits, seed=0)
    low, high = stats.t.interval(0.95, 1, 0.5, 0.2)
    expected = (max(low, limits[0]), min(high, limits[1]))
    assert (found["ci_low"], found["ci_high"]) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"compare": ["ridge", "svm"]}, "'group.compare' names 'svm', no decoders of the study"),
        ({"compare": ["ridge"]}, "at least two different"),
        ({"equivalence_margins": {"top_1": 1.5}}, "less than 1"),
        ({"top_k": [5, 1]}, "ascending"),
    ],
)
def test_options_are_checked(change: dict, words: str) -> None:
    named = {"rois": "visual", "splits": "s", "galleries": "test"}
    config: dict[str, Any] = {key: [{"name": name}] for key, name in named.items()}
    config["rois"][0]["mask"] = "m.nii.gz"
    config["splits"][0]["scheme"] = "stimulus"
    config["encoders"] = [{"name": "scenes", "kind": "scenes"}]
    config["decoders"] = [{"name": n, "kind": "ridge"} for n in ("ridge", "other")]
    assert parse_study({"study": "x", **config}, where="x").group.compare == "all"
    with pytest.raises(ConfigError, match=words):
        parse_study({"study": "x", **config, "group": change}, where="x")


def test_one_run_and_labels_that_cannot_move_leave_gaps(make_study: Callable) -> None:
    result = run(make_study(["01", "02"], n_stimuli=5, runs=1), unit="run")
    for row in pick(result.pairs, level="subject"):
        assert row["ci_low"] is None and row["ci_method"] == "none"
        assert row["p"] == 1.0 and row["p_equivalence"] is None
        assert row["verdict"] == "undecided"
    assert all(0 < row["p"] <= 1 for row in result.rows)
    study = make_study(["01", "02"], n_stimuli=2, repeats=(1, 2))
    result = run(study, top_k=(1,))
    assert all(row["p"] is None and row["p_corrected"] is None for row in result.rows)
    assert "prevalence" not in pick(result.rows, level="group")[0]
    assert any("whose labels have no other arrangement" in note for note in result.notes)
