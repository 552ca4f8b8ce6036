from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import GridSearchCV, StratifiedKFold

from braindecode_clip.clip import probe as module
from braindecode_clip.clip.probe import PENALTIES, linear_probe
from braindecode_clip.errors import DataError

NAMES = np.array(["cat", "dog", "owl"])


def make_classes(rng, n, *, noise=1.1, n_dims=10, weights=(0.5, 0.3, 0.2)):
    label = rng.choice(3, n, p=weights)
    rows = np.eye(3, n_dims)[label] * 2 + noise * rng.standard_normal((n, n_dims))
    return rows, NAMES[label].tolist()


@pytest.fixture(scope="module")
def parts():
    rng = np.random.default_rng(0)
    return (*make_classes(rng, 130), *make_classes(rng, 90))


def test_it_is_scikit_learns_search_and_fit(parts):
    train, train_labels, test, test_labels = parts
    found = linear_probe(*parts, rng=np.random.default_rng(5), n_bootstrap=200)
    rows, others = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (train, test))
    seed = int(np.random.default_rng(5).integers(2**31))
    folds = StratifiedKFold(5, shuffle=True, random_state=seed)
    # GridSearchCV means over folds of equal size, and takes the first of the best.
    search = GridSearchCV(LogisticRegression(max_iter=2000), {"C": list(PENALTIES)}, cv=folds)
    search.fit(rows, train_labels)
    assert found.penalty == search.best_params_["C"]
    predicted = search.best_estimator_.predict(others)
    metrics = found.metrics.set_index("metric")
    accuracy = (predicted == np.array(test_labels)).mean()
    assert metrics.loc["top_1", "value"] == pytest.approx(accuracy)
    assert 0.5 < accuracy < 0.99
    assert metrics.loc["mean_per_class_top_1", "value"] == pytest.approx(
        balanced_accuracy_score(test_labels, predicted)
    )
    assert metrics.loc["top_1", "chance"] == pytest.approx(1 / 3)
    assert metrics.loc["top_1", "ci_low"] < accuracy < metrics.loc["top_1", "ci_high"]
    assert found.train_accuracy == pytest.approx(search.score(rows, train_labels))
    most = max(set(train_labels), key=train_labels.count)
    assert found.chance_majority == test_labels.count(most) / 90
    assert (found.n_train, found.n_test, found.n_classes) == (130, 90, 3)
    assert found.converged


def test_the_penalty_never_sees_the_test_pictures(parts):
    train, train_labels, test, test_labels = parts
    rng = np.random.default_rng(1)
    shuffled = rng.permutation(test_labels).tolist()
    one = linear_probe(*parts, rng=np.random.default_rng(5), n_bootstrap=100)
    two = linear_probe(
        train, train_labels, test[::-1], shuffled, rng=np.random.default_rng(5), n_bootstrap=100
    )
    assert one.penalty == two.penalty
    assert one.train_accuracy == two.train_accuracy


def test_labels_without_meaning_are_at_chance_and_the_control_too():
    rng = np.random.default_rng(3)
    train, test = rng.standard_normal((200, 8)), rng.standard_normal((300, 8))
    labels = [NAMES[rng.integers(0, 3, n)].tolist() for n in (200, 300)]
    found = linear_probe(train, labels[0], test, labels[1], rng=rng, n_bootstrap=100)
    top = found.metrics.set_index("metric").loc["top_1"]
    assert top["ci_low"] < 1 / 3 < top["ci_high"]
    assert found.control_types == "pictures"
    assert abs(found.control_accuracy - 1 / 3) < 0.08
    assert abs(found.selectivity) < 0.12


def test_a_probe_that_remembers_groups_is_not_selective():
    """Every group has a direction of its own and a label by chance: the control does as well."""
    rng = np.random.default_rng(4)
    n_groups = 24
    label_of_group = NAMES[np.arange(n_groups) % 3]
    directions = 4 * np.eye(n_groups, 40)

    def draw(n):
        group = np.arange(n) % n_groups
        rows = directions[group] + 0.5 * rng.standard_normal((n, 40))
        return rows, label_of_group[group].tolist(), [f"g{k}" for k in group]

    (train, a, train_groups), (test, b, test_groups) = draw(240), draw(120)
    groups = {"train_groups": train_groups, "test_groups": test_groups}
    found = linear_probe(train, a, test, b, rng=rng, n_bootstrap=100, **groups)
    top = found.metrics.set_index("metric").loc["top_1", "value"]
    assert found.control_types == "groups"
    # Folds hold whole groups out, so that remembering them does not pay in cross-validation.
    assert found.control_accuracy > 0.9
    assert found.selectivity == pytest.approx(top - found.control_accuracy)
    assert found.selectivity < 0.1


def test_groups_stay_together_in_the_folds(monkeypatch, parts):
    seen = []

    class Spy(module.StratifiedGroupKFold):
        def split(self, x, y, groups):
            for fitted, left in super().split(x, y, groups):
                seen.append(set(groups[fitted]) & set(groups[left]))
                yield fitted, left

    monkeypatch.setattr(module, "StratifiedGroupKFold", Spy)
    groups = [f"g{k // 2}" for k in range(130)]
    linear_probe(*parts, rng=np.random.default_rng(0), train_groups=groups, n_bootstrap=100)
    assert len(seen) == 5
    assert not set().union(*seen)


def test_two_classes_and_json(parts):
    train, train_labels, test, test_labels = parts
    a, b = np.array(train_labels) != "owl", np.array(test_labels) != "owl"
    two = (
        train[a],
        np.array(train_labels)[a].tolist(),
        test[b],
        np.array(test_labels)[b].tolist(),
    )
    found = linear_probe(*two, rng=np.random.default_rng(0), n_bootstrap=100)
    record = json.loads(json.dumps(found.record(), allow_nan=False))
    assert record["metrics"]["top_1"]["value"] > 0.7
    assert [row["class"] for row in record["classes"]] == ["cat", "dog"]
    assert record["n_classes"] == 2


def test_faults_are_all_named():
    rows = np.eye(5)
    with pytest.raises(DataError, match="2 problems") as caught:
        linear_probe(
            rows, ["a", "a", "b", "b", "c"], rows[:2], ["a", "x"], rng=np.random.default_rng(0)
        )
    assert "'c'" in str(caught.value)
    assert "'x'" in str(caught.value)
    with pytest.raises(DataError, match="1 classes"):
        linear_probe(rows[:2], ["a", "a"], rows[:1], ["a"], rng=np.random.default_rng(0))
    with pytest.raises(DataError, match="5 train vectors and 2 labels"):
        linear_probe(rows, ["a", "a"], rows[:1], ["a"], rng=np.random.default_rng(0))
