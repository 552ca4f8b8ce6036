"""What is exchanged and drawn as one, for every option and design."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest

from braindecode_clip.config.evaluate import EvaluateConfig
from braindecode_clip.errors import DataError
from braindecode_clip.evaluate import evaluate
from braindecode_clip.evaluate.exchange import make_clusters, make_exchange, sessions_of

RUNS = np.array([f"ses-0{ses}_run-0{run}" for ses, run in zip("11211211", "12112121", strict=True)])
LABELS = np.array([0, 0, 1, 1, 2, 2, 3, 4])
ONES = np.ones(8, dtype=int)


def together(strata: np.ndarray) -> set[tuple[int, ...]]:
    return {tuple(np.flatnonzero(strata == name).tolist()) for name in np.unique(strata)}


@pytest.mark.parametrize(
    ("kind", "unequal", "expected", "description"),
    [
        (
            "auto",
            False,
            {(0, 1, 2), (3, 4)},
            "labels among all test stimuli shown equally often, repeats together",
        ),
        ("stimulus", True, {(0, 1, 2, 3, 4)}, "labels among all test stimuli, repeats together"),
        (
            "run",
            False,
            {(0,), (1,), (2,), (3,), (4,)},
            "labels among test stimuli of the same runs shown equally often, repeats together",
        ),
        (
            "session",
            False,
            {(0,), (1, 2), (3, 4)},
            "labels among test stimuli of the same sessions shown equally often, repeats together",
        ),
        (
            "session",
            True,
            {(0, 3, 4), (1, 2)},
            "labels among test stimuli of the same sessions, repeats together",
        ),
    ],
)
def test_whole_stimuli_change_places_with_their_like(
    kind: str, unequal: bool, expected: set, description: str
) -> None:
    how = make_exchange(LABELS, RUNS, ONES, unit="stimulus", kind=kind, unequal_repeats=unequal)
    assert how.unit == "stimulus"
    assert together(how.strata) == expected
    assert how.description == description
    assert how.n_fixed == sum(len(part) == 1 for part in expected)


def test_repeats_that_are_averaged_count_too() -> None:
    labels, groups = np.arange(4), np.array(["a", "a+b", "b", "b+c"])
    how = make_exchange(labels, groups, np.array([1, 2, 1, 2]), unit="stimulus")
    assert together(how.strata) == {(0, 2), (1, 3)}


@pytest.mark.parametrize(("kind", "n_groups"), [("auto", 3), ("run", 3), ("session", 2)])
def test_where_runs_are_held_out_labels_stay_within(kind: str, n_groups: int) -> None:
    how = make_exchange(LABELS, RUNS, ONES, unit="run", kind=kind)
    assert how.unit == "run"
    assert len(np.unique(how.groups)) == n_groups
    assert how.description == f"labels within each {'session' if kind == 'session' else 'run'}"


@pytest.mark.parametrize(("unit", "kind"), [("stimulus", "auto"), ("run", "run")])
def test_arrangements_are_counted(unit: str, kind: str) -> None:
    labels = np.array([0, 1, 2, 0, 0, 1])
    groups = np.array(list("aaabbb"))
    how = make_exchange(labels, groups, np.ones(6, dtype=int), unit=unit, kind=kind)
    if unit == "run":
        expected = len(set(permutations(labels[:3]))) * len(set(permutations(labels[3:])))
    else:
        expected = 1
    assert how.n_arrangements(labels) == expected
    assert make_exchange(np.arange(80), np.arange(80), np.ones(80), unit="stimulus").n_arrangements(
        np.arange(80)
    ) == float("inf")


@pytest.mark.parametrize(
    ("kind", "name", "n"),
    [("auto", "stimuli", 5), ("run", "runs", 3), ("session", "sessions", 2)],
)
def test_what_is_drawn(kind: str, name: str, n: int) -> None:
    clusters, drawn = make_clusters(LABELS, RUNS, unit="stimulus", kind=kind)
    assert drawn == name
    assert len(np.unique(clusters)) == n


def test_sessions_must_be_named() -> None:
    assert sessions_of(np.array(["ses-1_run-1+ses-1_run-2", "ses-2_run-1"])).tolist() == [
        "ses-1",
        "ses-2",
    ]
    with pytest.raises(DataError, match="'run-1' names none"):
        sessions_of(np.array(["run-1"]))
    with pytest.raises(DataError, match=r"averages over several sessions.*ses-1\+ses-2"):
        make_clusters(
            np.arange(1), np.array(["ses-2_run-1+ses-1_run-1"]), unit="stimulus", kind="session"
        )


def test_options_reach_the_rows(make_case: Callable) -> None:
    case = make_case(6, repeats=(1, 1, 1, 2, 2, 3))
    sessions = np.array([f"ses-0{i % 2}_run-0{i % 5}" for i in range(10)])
    predictions = replace(case.predictions, group=sessions)
    for exchange, resample in (("auto", "session"), ("session", "run")):
        options = EvaluateConfig(
            exchange=exchange, resample=resample, n_bootstrap=200, n_permutations=99
        )
        result = evaluate(
            case.both, predictions, case.embeddings, rng=np.random.default_rng(0), options=options
        )
        for row in result.rows:
            assert row["resampled"] == f"{resample}s"
            assert row["n_resampled"] == {"run": len(set(sessions)), "session": 2}[resample]
            assert ("same sessions" in row["permuted"]) == (exchange == "session")
    notes = " ".join(
        evaluate(
            case.both,
            case.predictions,
            case.embeddings,
            rng=np.random.default_rng(0),
            options=EvaluateConfig(n_bootstrap=200, n_permutations=99),
        ).notes
    )
    assert "1 of 6 test stimuli keep their labels" in notes
    assert "the labels have 12 arrangements" in notes
