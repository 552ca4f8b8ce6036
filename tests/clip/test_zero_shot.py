"""Prompts, ensembles and scores of zero-shot classification, against other people's code."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import (
    average_precision_score,
    balanced_accuracy_score,
    confusion_matrix,
    precision_score,
    recall_score,
    top_k_accuracy_score,
)

from braindecode_clip.clip import class_scores, zero_shot
from braindecode_clip.clip.class_scores import (
    average_precision,
    chance_average_precision,
    class_table,
    confusion_counts,
    score_table,
    truth_table,
)
from braindecode_clip.clip.prompts import GENERIC, SIMPLE, check_prompts, templates_named
from braindecode_clip.clip.zero_shot import (
    class_vectors,
    probabilities,
    true_ranks,
    zero_shot_accuracy,
)
from braindecode_clip.errors import ConfigError, DataError


class Words:
    """An encoder whose vector of a text follows from its letters alone."""

    n_dims = 11

    def __init__(self):
        self.n_texts = 0
        self.longest = 0

    def encode_text(self, texts):
        self.n_texts += len(texts)
        self.longest = max(self.longest, len(texts))
        rows = [np.random.default_rng(list(t.encode())).standard_normal(self.n_dims) for t in texts]
        rows = np.stack(rows)
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def drawn(n, n_classes, seed, *, step=None):
    """Return similarities that know a little, and labels of unequal frequency."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(n_classes, n, p=(w := np.arange(1, n_classes + 1)) / w.sum())
    similarity = rng.standard_normal((n, n_classes))
    similarity[np.arange(n), labels] += 1.0
    if step is not None:
        similarity = np.round(similarity / step) * step
    return similarity, labels


def one_hot(labels, n_classes):
    return np.eye(n_classes, dtype=bool)[labels]


def test_synonyms_and_templates_are_averaged_as_unit_vectors(monkeypatch):
    encoder = Words()
    classes = [["sofa", "couch", "settee"], "dog", ["car", "automobile"]]
    templates = ["a {}", "one side of a {}", "{} {}"]
    want = []
    for own in (["sofa", "couch", "settee"], ["dog"], ["car", "automobile"]):
        prompts = []
        for name in own:
            prompts += [f"a {name}", f"one side of a {name}", f"{name} {name}"]
        mean = Words().encode_text(prompts).astype(np.float64).mean(axis=0)
        want.append(mean / np.sqrt((mean**2).sum()))
    found = class_vectors(encoder, classes, templates)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, want, rtol=0, atol=2e-7)
    assert encoder.n_texts == 18
    # In small parts the same comes out, and never more prompts at once than asked for.
    monkeypatch.setattr(zero_shot, "_PROMPTS_AT_ONCE", 9)
    small = Words()
    np.testing.assert_array_equal(class_vectors(small, classes, templates), found)
    assert (small.n_texts, small.longest) == (18, 9)


def test_braces_in_a_name_stay():
    a = class_vectors(Words(), ["set {1}", "x"], ["a {}"])[0]
    np.testing.assert_allclose(a, Words().encode_text(["a set {1}"])[0], atol=1e-7)


def test_openai_templates_are_those_of_open_clip():
    from braindecode_clip.clip.torchvision_compat import import_open_clip

    found = templates_named("openai")
    original = import_open_clip().OPENAI_IMAGENET_TEMPLATES
    assert len(found) == len(original) == 80
    for ours, theirs in zip(found, original, strict=True):
        assert ours.replace("{}", "green cat") == theirs("green cat")


def test_our_templates_are_our_own_and_make_sense():
    assert templates_named("simple") == SIMPLE and templates_named("generic") == GENERIC
    assert len(set(GENERIC)) == len(GENERIC) >= 20
    assert all(template.count("{}") == 1 for template in GENERIC)
    theirs = {template.rstrip(".") for template in templates_named("openai")}
    assert not theirs & set(GENERIC)
    with pytest.raises(ConfigError, match="simple, generic, openai"):
        templates_named("imagenet")


def test_ensemble_equals_open_clips_classifier():
    """With a real model: open_clip's own code builds the same vectors from the same prompts."""
    torch = pytest.importorskip("torch")
    from braindecode_clip.clip.encoders import load_encoder
    from braindecode_clip.clip.torchvision_compat import import_open_clip

    encoder = load_encoder("scenes", device="cpu")
    names, templates = ["red circle", "blue star", "green cross"], ["a {}", "a picture of a {}"]
    with torch.inference_mode():
        want = import_open_clip().build_zero_shot_classifier(
            encoder.model,
            lambda texts: torch.as_tensor(encoder._tokenize(texts)),
            names,
            templates,
            device="cpu",
            num_classes_per_batch=2,
        )
    found = class_vectors(encoder, names, templates)
    np.testing.assert_allclose(found, want.T.numpy(), rtol=0, atol=1e-6)


def test_prompts_that_cannot_work_are_all_named():
    with pytest.raises(DataError) as caught:
        check_prompts([["a", "b"], ["b"], []], ["a {}", "plain"], where="x")
    message = str(caught.value)
    assert "3 problems" in message
    assert "numbers '2'" in message and "more than once: 'b'" in message and "'plain'" in message
    with pytest.raises(DataError, match="2 problems"):
        check_prompts([], [], where="x")

    class Opposite:
        def encode_text(self, texts):
            return np.array([[1.0, 0.0], [-1.0, 0.0]] * (len(texts) // 2), dtype=np.float32)

    with pytest.raises(DataError, match="of 'dog' have no mean direction"):
        class_vectors(Opposite(), ["dog"], ["a {}", "b {}"])


def test_probabilities_are_the_softmax_of_scaled_cosines():
    similarity = np.array([[0.31, 0.28, -0.4], [0.1, 0.1, 0.1]], dtype=np.float32)
    found = probabilities(similarity, 100.0)
    wide = similarity.astype(np.float64)
    want = np.exp(100 * wide) / np.exp(100 * wide).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found, want, rtol=1e-12)
    np.testing.assert_allclose(found.sum(axis=1), 1.0, rtol=1e-12)
    assert np.isfinite(probabilities(np.array([[1.0, -1.0]]), 1e4)).all()


@pytest.mark.parametrize("k", [1, 2, 5])
def test_top_k_and_mean_per_class_equal_sklearn(k):
    similarity, labels = drawn(157, 7, seed=k)
    table = score_table(
        similarity, one_hot(labels, 7), rng=np.random.default_rng(0), ks=(k,), n_bootstrap=200
    ).set_index("metric")
    want = top_k_accuracy_score(labels, similarity, k=k, labels=range(7))
    assert table.loc[f"top_{k}", "value"] == pytest.approx(want, abs=1e-12)
    hits = round(want * 157)
    interval = stats.binomtest(hits, 157).proportion_ci(method="wilson")
    row = table.loc[f"top_{k}"]
    assert (row.ci_low, row.ci_high) == pytest.approx((interval.low, interval.high), abs=1e-12)
    assert row.chance == pytest.approx(k / 7, abs=1e-12)
    row = table.loc[f"mean_per_class_top_{k}"]
    by_class = [
        top_k_accuracy_score(labels[labels == c], similarity[labels == c], k=k, labels=range(7))
        for c in range(7)
    ]
    assert row.value == pytest.approx(np.mean(by_class), abs=1e-12)
    assert row.chance == pytest.approx(k / 7, abs=1e-12)
    if k == 1:
        guessed = similarity.argmax(axis=1)
        assert row.value == pytest.approx(balanced_accuracy_score(labels, guessed), abs=1e-12)
    assert row.ci_low < row.value < row.ci_high and row.ci_method == "bootstrap"


def test_bootstrap_has_the_unbiased_variance_of_small_classes():
    """Against the closed form: var = mean over classes of p (1 - p) / (n_c - 1) / n_classes."""
    sizes, shares = [2, 3, 9, 30], [0.5, 2 / 3, 5 / 9, 0.8]
    labels = np.repeat(np.arange(4), sizes)
    similarity = np.zeros((len(labels), 4))
    for c, (size, share) in enumerate(zip(sizes, shares, strict=True)):
        rows = np.flatnonzero(labels == c)
        hits = round(size * share)
        similarity[rows[:hits], c] = 1.0
        similarity[rows[hits:], (c + 1) % 4] = 1.0
    is_true = one_hot(labels, 4)
    statistic = class_scores._class_means(
        similarity.argmax(axis=1)[:, None] == np.arange(4), is_true
    )
    (draws,) = class_scores._bootstrap([statistic], is_true, 40_000, np.random.default_rng(3))
    p = np.array(shares)
    want = (p * (1 - p) / (np.array(sizes) - 1)).sum() / 16
    assert draws.var() == pytest.approx(want, rel=0.03)
    assert draws.mean() == pytest.approx(p.mean(), abs=4 * np.sqrt(want / 40_000))


def test_every_class_keeps_its_weight_in_every_sample():
    strata = np.repeat([0, 1, 2], [1, 2, 9])
    weights = class_scores._rescaled_weights(strata, 50, np.random.default_rng(0))
    for stratum, size in enumerate([1, 2, 9]):
        np.testing.assert_allclose(weights[:, strata == stratum].sum(axis=1), size, rtol=1e-12)
    # m - 1 draws, each of the weight m / (m - 1).
    drawn_counts = weights[:, 3:] * 8 / 9
    np.testing.assert_allclose(drawn_counts, np.round(drawn_counts), atol=1e-12)


def test_classes_without_a_picture_compete_but_are_not_averaged():
    similarity, labels = drawn(80, 5, seed=6)
    labels = np.where(labels == 2, 4, labels)
    table = score_table(
        similarity, one_hot(labels, 5), rng=np.random.default_rng(0), ks=(1,), n_bootstrap=100
    ).set_index("metric")
    assert (table["n_classes"] == 4).all()
    row = table.loc["mean_per_class_top_1"]
    present = [0, 1, 3, 4]
    want = recall_score(labels, similarity.argmax(axis=1), labels=present, average="macro")
    assert row.value == pytest.approx(want, abs=1e-12)
    assert row.chance == pytest.approx(1 / 5)
    want = np.mean([average_precision_score(labels == c, similarity[:, c]) for c in present])
    assert table.loc["mean_average_precision", "value"] == pytest.approx(want, abs=1e-12)


def test_intervals_cover_what_they_should():
    covered = {"top_1": 0, "mean_per_class_top_1": 0}
    # Two classes with these hit rates, 25 and 60 pictures.
    p, runs = (0.6, 0.85), 300
    for seed in range(runs):
        rng = np.random.default_rng(seed)
        labels = np.repeat([0, 1], [25, 60])
        right = rng.random(85) < np.repeat(p, [25, 60])
        similarity = one_hot(np.where(right, labels, 1 - labels), 2).astype(float)
        table = score_table(
            similarity, one_hot(labels, 2), rng=rng, ks=(1,), n_bootstrap=400
        ).set_index("metric")
        for name, truth in (
            ("top_1", (25 * p[0] + 60 * p[1]) / 85),
            ("mean_per_class_top_1", (p[0] + p[1]) / 2),
        ):
            covered[name] += table.loc[name, "ci_low"] <= truth <= table.loc[name, "ci_high"]
    # Binomial noise of 300 runs at 95 %: one standard error is 1.3 %.
    assert all(0.91 <= n / runs <= 0.985 for n in covered.values()), covered


def test_perfect_scores_get_wilsons_interval_and_not_none():
    labels = np.repeat([0, 1, 2], [4, 8, 2])
    table = score_table(
        np.eye(3)[labels], one_hot(labels, 3), rng=np.random.default_rng(0), n_bootstrap=50
    ).set_index("metric")
    row = table.loc["mean_per_class_top_1"]
    n_effective = 9 / (1 / 4 + 1 / 8 + 1 / 2)
    z2 = stats.norm.ppf(0.975) ** 2
    assert (row.value, row.ci_high, row.ci_method) == (1.0, pytest.approx(1.0), "wilson")
    assert row.ci_low == pytest.approx(n_effective / (n_effective + z2), abs=1e-12)


@pytest.mark.parametrize("step", [None, 0.5])
def test_average_precision_equals_sklearn_with_and_without_ties(step):
    similarity, labels = drawn(90, 5, seed=2, step=step)
    for c in range(5):
        want = average_precision_score(labels == c, similarity[:, c])
        assert average_precision(similarity[:, c], labels == c) == pytest.approx(want, abs=1e-12)
    table = score_table(
        similarity, one_hot(labels, 5), rng=np.random.default_rng(0), n_bootstrap=100
    ).set_index("metric")
    want = average_precision_score(one_hot(labels, 5), similarity, average="macro")
    assert table.loc["mean_average_precision", "value"] == pytest.approx(want, abs=1e-12)


def test_weighted_average_precision_equals_sklearns_sample_weight():
    """The bootstrap's weights: a picture drawn twice counts twice."""
    similarity, labels = drawn(40, 3, seed=8, step=0.5)
    weights = np.random.default_rng(1).integers(0, 4, (6, 40)).astype(float)
    found = class_scores._weighted_precision(similarity[:, 2], labels == 2)(weights)
    want = [
        average_precision_score(labels == 2, similarity[:, 2], sample_weight=w) for w in weights
    ]
    np.testing.assert_allclose(found, want, rtol=1e-12)


@pytest.mark.parametrize(("n", "n_true"), [(6, 1), (6, 2), (7, 4), (5, 5)])
def test_chance_of_average_precision_over_all_orders(n, n_true):
    falling = -np.arange(n, dtype=float)
    found = [
        average_precision_score(np.isin(np.arange(n), rows), falling)
        for rows in itertools.combinations(range(n), n_true)
    ]
    assert chance_average_precision(np.array([n_true]), n)[0] == pytest.approx(np.mean(found))


def test_many_labels_count_a_hit_for_any_and_compete_only_with_false_classes():
    similarity = np.array([[0.9, 0.8, 0.7, 0.1], [0.2, 0.9, 0.5, 0.4], [0.1, 0.2, 0.3, 0.4]])
    is_true = np.array([[0, 1, 1, 0], [1, 0, 0, 1], [0, 0, 0, 0]], dtype=bool)
    rank = true_ranks(similarity, is_true)
    np.testing.assert_array_equal(rank[0], [np.nan, 2, 2, np.nan])
    np.testing.assert_array_equal(rank[1], [3, np.nan, np.nan, 3])
    assert np.isnan(rank[2]).all()
    table = score_table(
        similarity, is_true, rng=np.random.default_rng(0), ks=(1, 2), n_bootstrap=100
    ).set_index("metric")
    assert table.loc["top_1", "value"] == 0 and table.loc["top_2", "value"] == 0.5
    assert table.loc["top_2", "n"] == 2
    # Chance by counting: 2 true ones of 4 classes; of 6 pairs one holds neither of them.
    assert table.loc["top_1", "chance"] == pytest.approx(1 / 2)
    assert table.loc["top_2", "chance"] == pytest.approx(5 / 6)
    assert confusion_counts(similarity, is_true) is None
    want = average_precision_score(is_true[:2], similarity[:2], average="macro")
    assert table.loc["mean_average_precision", "value"] == pytest.approx(want)


def test_chance_is_what_random_similarities_score():
    rng = np.random.default_rng(5)
    is_true = rng.random((40, 6)) < 0.3
    is_true[np.arange(40), rng.integers(0, 6, 40)] = True
    means = pd.concat(
        score_table(rng.standard_normal((40, 6)), is_true, rng=rng, ks=(1, 3), n_bootstrap=2)
        for _ in range(400)
    ).groupby("metric")[["value", "chance"]]
    mean, error = means.mean(), means.std()["value"] / np.sqrt(400)
    assert ((mean["value"] - mean["chance"]).abs() < 4 * error).all(), mean


def test_class_table_and_confusion_equal_sklearn():
    similarity, labels = drawn(120, 6, seed=4)
    names = [f"class {c}" for c in range(7)]
    # A seventh class that no picture has, and three pictures without a label.
    similarity = np.column_stack([similarity, np.random.default_rng(1).standard_normal(120)])
    is_true = one_hot(labels, 7)
    unlabelled = np.zeros((3, 7), dtype=bool)
    table = class_table(
        np.vstack([similarity, np.full((3, 7), 9.0)]), np.vstack([is_true, unlabelled]), names, k=3
    )
    chosen = similarity.argmax(axis=1)
    recall = recall_score(labels, chosen, labels=range(7), average=None, zero_division=np.nan)
    precision = precision_score(labels, chosen, labels=range(7), average=None, zero_division=np.nan)
    np.testing.assert_allclose(table["top_1"], recall, rtol=1e-12)
    np.testing.assert_allclose(table["precision"], precision, rtol=1e-12)
    assert table["n"].tolist() == np.bincount(labels, minlength=7).tolist()
    for c in range(6):
        want = average_precision_score(labels == c, similarity[:, c])
        assert table["average_precision"][c] == pytest.approx(want, abs=1e-12)
        own = labels == c
        want = top_k_accuracy_score(labels[own], similarity[own], k=3, labels=range(7))
        assert table["top_3"][c] == pytest.approx(want)
    assert np.isnan(table.loc[6, ["top_1", "average_precision", "ci_low"]].astype(float)).all()
    np.testing.assert_array_equal(
        confusion_counts(similarity, is_true), confusion_matrix(labels, chosen, labels=range(7))
    )
    assert "top_7" not in class_table(similarity, is_true, names, k=7)


def test_a_collapsed_model_finds_nothing_and_nan_is_refused():
    is_true = one_hot(np.array([0, 1, 0]), 2)
    assert (true_ranks(np.ones((3, 2)), is_true)[is_true] == 1.5).all()
    score = zero_shot_accuracy(np.ones((3, 4)) / 2, np.ones((2, 4)) / 2, [0, 1, 0])
    assert score.accuracy == 0
    with pytest.raises(DataError, match="NaN"):
        true_ranks(np.array([[np.nan, 1.0]]), np.array([[True, False]]))


def test_labels_become_a_table_and_unknown_ones_are_named():
    table = truth_table([["cat"], [], ["dog", "cat"]], ["dog", "cat"])
    assert table.tolist() == [[False, True], [False, False], [True, True]]
    with pytest.raises(DataError, match="2 labels are none of the 1 classes: 'cow', 'dog'"):
        truth_table([["cow"], ["dog", "cat"]], ["cat"])
    with pytest.raises(DataError, match="no picture has one"):
        truth_table([[], []], ["cat"])
