"""False alarms and coverage, on the simulated studies of the benchmark."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
from scipy import stats

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
N_NULLS, N_KNOWN = 300, 250

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    sys.path.insert(0, str(BENCHMARKS))
    try:
        path = BENCHMARKS / "honest_statistics.py"
        spec = importlib.util.spec_from_file_location("honest_statistics", path)
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
        return module
    finally:
        sys.path.remove(str(BENCHMARKS))


@pytest.mark.parametrize(
    "name",
    [
        "stimulus split, unequal repeats, run effects",
        "run split, run effects, 12 runs",
        "sessions of one kind of picture each, within session",
    ],
)
def test_false_alarms_are_as_many_as_promised(benchmark: ModuleType, name: str) -> None:
    assert benchmark.NULLS[name][2]
    found = benchmark.false_alarms(N_NULLS, n_permutations=199, names=[name])[name]
    assert "pairwise" in found and "correlation_mean" in found
    for score, (plain, ties_broken) in found.items():
        # Discrete scores reject less often; with ties broken at random the test is exact.
        assert stats.binom.sf(round(plain * N_NULLS) - 1, N_NULLS, 0.05) > 1e-3, score
        n_rejected = round(ties_broken * N_NULLS)
        assert stats.binomtest(n_rejected, N_NULLS, 0.05).pvalue > 1e-3, score


@pytest.mark.parametrize(
    "name",
    [
        "the same, exchanged whatever the repeats",
        "the same, exchanged across sessions",
    ],
)
def test_what_is_not_exchangeable_shows(benchmark: ModuleType, name: str) -> None:
    assert not benchmark.NULLS[name][2]
    found = benchmark.false_alarms(N_NULLS, n_permutations=199, names=[name])[name]
    assert found["pairwise"][0] > 0.09


@pytest.mark.parametrize("name", ["pictures, unequal repeats", "runs, 12"])
def test_intervals_hold_the_truth_as_often_as_promised(benchmark: ModuleType, name: str) -> None:
    found = benchmark.coverage(N_KNOWN, n_bootstrap=1000, names=[name])[name]
    assert {"top_1", "pairwise", "mean_rank", "mean_reciprocal_rank", "correlation_mean"} <= set(
        found
    )
    for score, row in found.items():
        n_held = round(row["coverage"] * N_KNOWN)
        assert stats.binomtest(n_held, N_KNOWN, 0.95).pvalue > 1e-3, (score, row)
