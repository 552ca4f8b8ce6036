"""All subjects' labels move together, as far as they may."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from braindecode_clip.evaluate.group_labels import Exchange, exchange_of, shared_null
from braindecode_clip.evaluate.permutation import null_scores, rank_table
from braindecode_clip.evaluate.scores import identification_scores


def names(text: str) -> np.ndarray:
    return np.array(list(text))


def drawn(exchange: Exchange, subject: str, n: int = 300, seed: int = 0) -> np.ndarray:
    blocks = exchange.labels(subject, n_permutations=n, rng=np.random.default_rng(seed))
    return np.concatenate(list(blocks))


def test_shared_stimuli_move_alike_whatever_their_order() -> None:
    samples = {"01": (names("cabdd"), names("xxyyz")), "02": (names("dcbaa"), names("zzzxx"))}
    exchange = exchange_of(samples, "stimulus", unequal=True)
    assert len(exchange.classes) == 1 and exchange.n_items == 4
    stimuli = np.array(list("abcd"))
    first, second = (drawn(exchange, s) for s in ("01", "02"))
    for one, two in zip(first, second, strict=True):
        taken_1 = dict(zip("cabdd", stimuli[one], strict=True))
        taken_2 = dict(zip("dcbaa", stimuli[two], strict=True))
        assert taken_1 == taken_2 and sorted(taken_1.values()) == list("abcd")
        # Repeats of a stimulus move together.
        assert one[3] == one[4] and two[3] == two[4]
    assert len({tuple(row) for row in first}) == 24


def test_stimuli_change_places_with_those_that_the_same_subjects_saw() -> None:
    samples = {"01": (names("abcde"), names("xxxxx")), "02": (names("cdef"), names("xxxx"))}
    exchange = exchange_of(samples, "stimulus")
    assert sorted(map(sorted, (c.tolist() for c in exchange.classes))) == [[0, 1], [2, 3, 4], [5]]
    assert exchange.share_fixed == pytest.approx(1 / 6)
    one, two = drawn(exchange, "01"), drawn(exchange, "02")
    assert set(map(tuple, np.sort(one[:, :2], axis=1).tolist())) == {(0, 1)}
    # c, d, e are 2, 3, 4 among the stimuli of the first and 0, 1, 2 among those of the second.
    assert np.array_equal(one[:, 2:] - 2, two[:, :3])
    assert (two[:, 3] == 3).all()
    assert len({tuple(row) for row in one}) == 12
    assert exchange.permutable("01") and exchange.permutable("02")
    alone = exchange_of(
        {"01": (names("ab"), names("xx")), "02": (names("b"), names("x"))}, "stimulus"
    )
    assert not alone.permutable("01") and not alone.permutable("02")


def test_stimuli_shown_more_often_stay_among_themselves() -> None:
    samples = {"01": (names("aabbcde"), names("xxxxxxx")), "02": (names("abcdde"), names("xxxxxx"))}
    exchange = exchange_of(samples, "stimulus")
    found = sorted(sorted(members.tolist()) for members in exchange.classes)
    # a, b: twice and once; c, e: once each; d: once and twice.
    assert found == [[0, 1], [2, 4], [3]]
    labels = drawn(exchange, "01")
    assert set(labels[:, 0].tolist()) == {0, 1} and set(labels[:, 4].tolist()) == {2, 4}
    assert len(exchange_of(samples, "stimulus", unequal=True).classes) == 1


def test_runs_keep_their_labels() -> None:
    samples = {
        "01": (names("abcacbb"), names("xxxyyyy")),
        "02": (names("cbabbca"), names("xxxyyyy")),
    }
    exchange = exchange_of(samples, "run")
    assert len(exchange.classes) == 2 and exchange.n_items == 7
    found = {s: drawn(exchange, s) for s in samples}
    for subject, (stimuli, _) in samples.items():
        labels = np.unique(stimuli, return_inverse=True)[1]
        for row in found[subject]:
            for part in (slice(0, 3), slice(3, 7)):
                assert sorted(row[part]) == sorted(labels[part])
    # Run x: the same exchange of names; a run of two subjects is two clusters.
    x_1 = [dict(zip("abc", row, strict=True)) for row in found["01"][:, :3]]
    x_2 = [dict(zip("cba", row, strict=True)) for row in found["02"][:, :3]]
    assert x_1 == x_2 and len({tuple(row) for row in found["01"][:, :3]}) == 6
    assert exchange.n_clusters == 4
    assert not set(exchange.cluster_of["01"]) & set(exchange.cluster_of["02"])


def test_pictures_are_clusters_that_subjects_share() -> None:
    samples = {"01": (names("abb"), names("xyx")), "02": (names("bc"), names("xy"))}
    exchange = exchange_of(samples, "stimulus")
    assert exchange.n_clusters == 3
    assert exchange.cluster_of["01"].tolist() == [0, 1, 1]
    assert exchange.cluster_of["02"].tolist() == [1, 2]


@pytest.mark.parametrize(
    ("design", "unit"),
    [({"n_stimuli": 6, "repeats": (2,) * 6}, "stimulus"), ({"n_stimuli": 9}, "stimulus")],
)
@pytest.mark.parametrize("direction", ["forth", "back"])
def test_a_single_subject_gets_the_null_of_evaluate(
    make_case: Callable, design: dict, unit: str, direction: str
) -> None:
    case = make_case(**design)
    retrieval = getattr(case, direction)
    table = rank_table(retrieval, unit)
    scores = identification_scores((1, 2), np.array([9.0]))
    groups = case.predictions.group
    exchange = exchange_of({"01": (case.predictions.stimulus_id, groups)}, unit)
    found = shared_null(
        table, scores, exchange, "01", n_permutations=150, rng=np.random.default_rng(4)
    )
    expected = null_scores(
        table, scores, groups, unit=unit, n_permutations=150, rng=np.random.default_rng(4)
    )
    assert np.array_equal(found, expected)


def test_conditions_draw_the_same_however_many_are_looked_at_in_one_go(
    make_case: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = make_case(n_stimuli=4, runs=3)
    exchange = exchange_of({"01": (case.predictions.stimulus_id, case.predictions.group)}, "run")
    scores = identification_scores((1,), np.array([3.0]))

    def null() -> np.ndarray:
        table = rank_table(case.back, "run")
        rng = np.random.default_rng(0)
        return shared_null(table, scores, exchange, "01", n_permutations=50, rng=rng)

    expected = null()
    monkeypatch.setattr("braindecode_clip.evaluate.permutation.CHUNK_NUMBERS", 100)
    assert np.array_equal(null(), expected)
