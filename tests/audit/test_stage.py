"""The table of the audit, against literal loops, and its errors of the first kind."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from audit_sides import PLACE, side_of
from scipy import stats

from braindecode_clip.audit import audit
from braindecode_clip.audit.compare import Compared, compare
from braindecode_clip.audit.verdicts import finding, kind_of, verdict_of
from braindecode_clip.config.adaptations import AuditConfig
from braindecode_clip.errors import DataError
from braindecode_clip.evaluate.scores import identification_scores

FAST = AuditConfig(n_bootstrap=200, n_permutations=199, geometry_draws=0, common_space=False)
NAMES = ("scenes", "tuned")


def compared(sides, place=PLACE, options=FAST) -> list[Compared]:
    return compare(NAMES, place, *sides, maps=None, options=options, seed=1)


def literal_p(differences: np.ndarray, clusters: np.ndarray) -> float:
    """Two-sided p over all exchanges of whole clusters."""
    names = sorted(set(clusters))
    own = abs(differences.mean())
    hits = 0
    for signs in product((1, -1), repeat=len(names)):
        sign = dict(zip(names, signs, strict=True))
        flipped = np.mean([sign[c] * d for c, d in zip(clusters, differences, strict=True)])
        hits += abs(flipped) >= own - 1e-12
    return hits / 2 ** len(names)


def made(differences: np.ndarray, *, roi: str = "visual", subject: str = "01") -> Compared:
    """Top-1 and pairwise differences without any ranks; two samples a picture."""
    n = len(differences)
    others = np.full(n, 19.0)
    known = {s.name: s for s in identification_scores((1, 5), others)}
    scores = (known["pairwise"],)
    values = differences[:, None]
    return Compared(
        *NAMES,
        ("stimulus", "test", subject, roi, "ridge"),
        "brain_to_image",
        "stimulus",
        scores,
        np.array([f"s{i // 2:03d}" for i in range(n)]),
        np.array(["run-1"] * n),
        others,
        {"original": np.full_like(values, 0.5), "adapted": 0.5 + values},
        {"difference": values},
    )


def test_the_same_model_makes_no_difference_at_all(make_sides) -> None:
    sides = make_sides(same=True)
    result = audit(compared(sides), options=FAST, seed=1)
    assert len(result.rows) == 8
    for row in result.rows:
        assert row["difference"] == 0 and row["p"] == row["q"] == 1
        assert row["original_value"] == row["adapted_value"]
        assert row["ci_low"] is None and row["p_equivalence"] is None
        assert row["verdict"] == "no difference shown"
    assert result.findings[0]["all"]["n_not_shown"] == 2


@pytest.mark.parametrize(("unit", "repeats"), [("stimulus", 1), ("stimulus", 3), ("run", 3)])
def test_rows_against_literal_loops(make_sides, unit: str, repeats: int) -> None:
    sides = make_sides(n_test=6, noise=(0.9, 0.4), repeats=repeats, unit=unit, seed=3)
    rows = audit(compared(sides), options=FAST, seed=1).rows
    for row in rows:
        one, two = (side.ranked[row["direction"]].queries for side in sides)
        score = {
            "top_1": lambda q: (q["rank"] <= 1).astype(float),
            "top_5": lambda q: (q["rank"] <= 5).astype(float),
            "pairwise": lambda q: q["n_beaten"] / q["n_distractors"],
            "mean_rank": lambda q: q["rank"],
        }[row["metric"]]
        difference = (score(two) - score(one)).to_numpy()
        clusters = one["stimulus_id" if unit == "stimulus" else "group"].to_numpy()
        assert row["difference"] == pytest.approx(difference.mean(), abs=1e-12)
        assert row["adapted_value"] == pytest.approx(score(two).mean())
        assert row["n"] == 6 * repeats and row["n_clusters"] == len(set(clusters))
        assert row["p"] == pytest.approx(literal_p(difference, clusters)), row["metric"]
        assert row["all_exchanges"] and row["resampled"] == (
            "stimuli" if unit == "stimulus" else "runs"
        )
    p = [row["p"] for row in rows]
    np.testing.assert_allclose(
        [row["q"] for row in rows], stats.false_discovery_control(p, method="bh")
    )
    assert {row["n_family"] for row in rows} == {len(rows)}


def test_intervals_are_those_of_scipy() -> None:
    rng = np.random.default_rng(0)
    pictures = rng.normal(0.1, 0.3, 60)
    row = audit(
        [made(np.repeat(pictures, 2))],
        options=FAST.model_copy(update={"n_bootstrap": 4000}),
        seed=2,
    ).rows[0]
    found = stats.bootstrap(
        (pictures,), np.mean, n_resamples=4000, method="BCa", rng=np.random.default_rng(1)
    ).confidence_interval
    assert row["ci_low"] == pytest.approx(found.low, abs=0.012)
    assert row["ci_high"] == pytest.approx(found.high, abs=0.012)
    t = stats.ttest_1samp(pictures, 0.02, alternative="less").pvalue
    assert row["margin"] == 0.02 and row["p_equivalence"] == pytest.approx(t, abs=1e-9)


def test_errors_of_the_first_kind_are_at_the_level_named() -> None:
    """400 ROIs without any difference: pictures differ, samples of a picture go together."""
    rng = np.random.default_rng(7)
    items = []
    for k in range(400):
        pictures = rng.standard_normal(50) * rng.choice([0.2, 0.3], 50)
        items.append(made(np.repeat(pictures, 2) + 0.02 * rng.standard_normal(100), roi=f"r{k}"))
    rows = audit(items, options=FAST, seed=3).rows
    p = np.array([row["p"] for row in rows])
    # Three standard errors of a share of 0.05 among 400.
    assert (p <= 0.05).mean() <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 400)
    assert (p <= 0.05).mean() >= 0.05 - 3 * np.sqrt(0.05 * 0.95 / 400)
    assert sum(row["verdict"] in ("helped", "hurt") for row in rows) <= 1
    outside = [not row["ci_low"] <= 0 <= row["ci_high"] for row in rows]
    # 200 resamples of 50 pictures: a little above the nominal 0.05.
    assert 0.02 < np.mean(outside) < 0.1


def test_real_differences_are_found_with_their_sign(make_sides) -> None:
    good = make_sides(n_test=60, noise=(0.8, 0.25), seed=5)
    rows = audit(compared(good), options=FAST, seed=1).rows
    words = {row["metric"]: row["verdict"] for row in rows if row["direction"] == "brain_to_image"}
    assert {kind_of(word) for word in words.values()} == {"helped"}
    below = next(row for row in rows if row["metric"] == "mean_rank")
    assert below["difference"] < 0 and below["sign"] == -1
    (one, two) = compared(tuple(reversed(good)))
    rows = audit([one, two], options=FAST, seed=1).rows
    assert {kind_of(row["verdict"]) for row in rows} == {"hurt"}


def test_held_out_pictures_are_compared_by_themselves(make_sides) -> None:
    sides = make_sides(n_test=12, noise=(0.9, 0.5), repeats=2, seed=6)
    flagged = frozenset(sides[0].embeddings.ids[[1, 4, 5, 9]].tolist())
    rows = audit(compared(sides), held_out=flagged, options=FAST, seed=1).rows
    item = next(c for c in compared(sides) if c.direction == "brain_to_image")
    is_flagged = np.isin(item.stimuli, sorted(flagged))
    for subset, kept in (
        ("all", np.ones(24, bool)),
        ("held_out", is_flagged),
        ("not_held_out", ~is_flagged),
    ):
        own = [r for r in rows if r["subset"] == subset and r["direction"] == "brain_to_image"]
        assert [r["metric"] for r in own] == [s.name for s in item.scores]
        for j, row in enumerate(own):
            difference = item.differences["difference"][kept, j]
            assert row["difference"] == pytest.approx(difference.mean(), abs=1e-12)
            assert row["n"] == kept.sum() and row["n_clusters"] == kept.sum() // 2
            if subset == "held_out":
                assert row["p"] == pytest.approx(literal_p(difference, item.stimuli[kept]))
    assert {r["subset"] for r in audit(compared(sides), options=FAST, seed=1).rows} == {"all"}
    everything = frozenset(sides[0].embeddings.ids.tolist())
    rows = audit(compared(sides), held_out=everything, options=FAST, seed=1).rows
    assert {r["subset"] for r in rows} == {"all"}


def test_subjects_are_put_together_with_shared_pictures() -> None:
    rng = np.random.default_rng(9)
    values = {name: np.repeat(rng.normal(0.05, 0.1, 6), 2) for name in ("01", "02", "03")}
    items = [made(own, subject=name) for name, own in values.items()]
    rows = audit(items, options=FAST, seed=1).rows
    (row,) = [r for r in rows if r["level"] == "group"]
    means = [own.mean() for own in values.values()]
    assert row["subject"] == "all" and row["n"] == 3
    assert row["difference"] == pytest.approx(np.mean(means))
    half = stats.t.ppf(0.975, 2) * np.std(means, ddof=1) / np.sqrt(3)
    assert row["ci_low"] == pytest.approx(np.mean(means) - half)
    assert row["ci_high"] == pytest.approx(np.mean(means) + half)
    # A picture that all saw is exchanged in all at once.
    together = np.mean(list(values.values()), axis=0)
    assert row["p"] == pytest.approx(literal_p(together, items[0].stimuli))
    assert row["adapted_value"] == pytest.approx(0.5 + np.mean(means))
    assert row["p_equivalence"] == pytest.approx(
        max(
            stats.ttest_1samp(means, 0.02, alternative="less").pvalue,
            stats.ttest_1samp(means, -0.02, alternative="greater").pvalue,
        )
    )
    assert len([r for r in rows if r["level"] == "subject"]) == 3
    wide = [made(np.repeat(k, 12), subject=f"0{i}") for i, k in enumerate((0.9, 0.1))]
    (row,) = [r for r in audit(wide, options=FAST, seed=1).rows if r["level"] == "group"]
    assert (row["ci_low"], row["ci_high"]) == (-1, 1)
    # Differences of ranks are not held to those of shares.
    known = {s.name: s for s in identification_scores((1,), items[0].n_distractors)}
    ranks = [replace(item, scores=(known["mean_rank"],)) for item in items]
    ranks = [
        replace(item, differences={"difference": 9 + 20 * item.differences["difference"]})
        for item in ranks
    ]
    (row,) = [r for r in audit(ranks, options=FAST, seed=1).rows if r["level"] == "group"]
    assert row["ci_high"] == pytest.approx(9 + 20 * (np.mean(means) + half)) and row["sign"] == -1
    assert row["margin"] is None and row["p_equivalence"] is None


def test_other_samples_in_another_roi_are_refused() -> None:
    one, two = made(np.zeros(8)), made(np.zeros(8), roi="early")
    with pytest.raises(DataError, match=r"roi early.*other test samples"):
        audit([one, replace(two, stimuli=two.stimuli[::-1])], options=FAST, seed=1)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, "helped"),
        ({"difference": -0.1, "ci_low": -0.2, "ci_high": -0.05}, "hurt"),
        ({"sign": -1}, "hurt"),
        ({"q": 0.2}, "no difference shown"),
        ({"q": 0.2, "p_equivalence": 0.01}, "equivalent within ±0.05"),
        ({"p_equivalence": 0.01}, "helped, within the margin"),
        ({"level": "group", "ci_low": -0.1}, "helped in these subjects"),
        ({"level": "group", "ci_low": None, "ci_high": None}, "helped in these subjects"),
        ({"level": "group"}, "helped"),
    ],
)
def test_verdicts(change: dict, words: str) -> None:
    row = {"difference": 0.1, "sign": 1, "q": 0.01, "p_equivalence": 0.4, "margin": 0.05}
    row |= {"level": "subject", "ci_low": 0.05, "ci_high": 0.2}
    assert verdict_of(row | change, 0.05) == words


def test_findings_count_what_helped_beyond_the_space() -> None:
    base = {"original": "a", "adapted": "b", "direction": "brain_to_image", "metric": "top_1"}
    base |= {"subset": "all", "level": "subject", "roi": "v", "decoder": "d", "q": 0.01}
    base |= {"original_value": 0.2, "adapted_value": 0.3, "difference": 0.1}
    base |= {"ci_low": 0.05, "ci_high": 0.15, "verdict": "helped", "beyond_geometry_ci_low": 0.01}
    base |= {"original_space_ci_low": 0.01, "adapted_space_ci_low": None}
    base |= {"beyond_geometry": 0.1, "original_space": 0.1}
    rows = [base, base | {"adapted_space_ci_low": 0.02}, base | {"beyond_geometry_ci_low": -0.1}]
    rows += [base | {"direction": "image_to_brain"}, base | {"metric": "top_5"}]
    rows += [base | {"subset": "held_out", "verdict": "hurt"}]
    found = finding(rows, "a", "b")
    assert found["all"] == {
        "n_comparisons": 3,
        "n_helped": 3,
        "n_hurt": 0,
        "n_equivalent": 0,
        "n_not_shown": 0,
        "n_helped_beyond_geometry": 2,
        "n_helped_in_both_spaces": 1,
    }
    assert found["held_out"]["n_hurt"] == 1
    assert "top-1 20.0 to 30.0 % (+10.0 points, 5.0 to 15.0, q = 0.01): helped" in found["sentence"]
    assert "Of the 3 that helped, 2 did more than geometry gives" in found["sentence"]
    assert "(interval above 0) and 1 helped in each of the two spaces." in found["sentence"]
    bare = [row | {"beyond_geometry": None, "original_space": None} for row in rows]
    assert "that helped" not in finding(bare, "a", "b")["sentence"]
    two = [base | {"gallery": "test"}, base | {"gallery": "all"}]
    said = finding(two, "a", "b")["sentence"]
    assert "gallery test, top-1 20.0" in said and "; gallery all, top-1 20.0" in said
    many = finding(rows * 2, "a", "b")["sentence"]
    assert "6 comparisons: helped in 6, hurt in 0, equivalent in 0" in many
    grouped = finding([*rows, base | {"level": "group", "verdict": "hurt"}], "a", "b")
    assert grouped["all"]["n_comparisons"] == 1 and grouped["all"]["n_hurt"] == 1


def test_a_decoder_at_chance_is_told(make_sides) -> None:
    sides = make_sides(n_test=20, seed=2)
    away = -3.0 * (sides[0].embeddings.vectors[:20] - sides[0].embeddings.vectors[:20].mean(0))
    bad = side_of(sides[0].embeddings, away, encoder="scenes", n_test=20)
    options = FAST.model_copy(update={"geometry_draws": 2})
    notes = audit(compared((bad, sides[1]), options=options), options=options, seed=1).notes
    assert any("original encoder do not correlate" in note for note in notes)
    assert any("one subject" in note for note in notes)
