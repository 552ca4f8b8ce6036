"""Noise ceilings against oracles: simulated responses of which everything is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest
from scipy.stats import norm

from braindecode_clip.artifacts import Embeddings, Predictions
from braindecode_clip.config.evaluate import EvaluateConfig
from braindecode_clip.evaluate import evaluate, identification
from braindecode_clip.evaluate.ceiling import usable_repeats
from braindecode_clip.evaluate.ceiling_dprime import (
    dprime_of_hits,
    dprime_of_pairwise,
    hit_rate,
    pairwise_rate,
)
from braindecode_clip.evaluate.ceiling_noise_free import _noise
from braindecode_clip.evaluate.ceiling_observer import Observer
from braindecode_clip.evaluate.ceiling_signal import Repeats, eigenvalues, measure_signal
from braindecode_clip.retrieve import gallery_ids, retrieve

FAST = EvaluateConfig(n_bootstrap=200, n_permutations=99, n_permutations_dims=99, pool_sizes=4)
N_REPEATS = 3


@dataclass
class World:
    """Targets, the voxels' code and noise, and two linear decoders, all Gaussian."""

    noise: float
    seed: int
    n_test: int = 60
    n_dims: int = 24
    n_voxels: int = 80
    n_train: int = 400

    def __post_init__(self) -> None:
        rng = np.random.default_rng(self.seed)
        spectrum = 0.85 ** np.arange(self.n_dims)
        turn = np.linalg.qr(rng.standard_normal((self.n_dims, self.n_dims)))[0]
        self.code = rng.standard_normal((self.n_dims, self.n_voxels)) / np.sqrt(self.n_voxels)
        mix = np.eye(self.n_voxels) + 0.35 * rng.standard_normal(
            (self.n_voxels, self.n_voxels)
        ) / np.sqrt(self.n_voxels)
        mix *= self.noise
        draw = rng.standard_normal((self.n_test + self.n_train, self.n_dims))
        targets = draw * np.sqrt(spectrum) @ turn.T
        self.targets, train = targets[: self.n_test], targets[self.n_test :]
        self.signal = self.targets @ self.code
        shape = (self.n_test, N_REPEATS, self.n_voxels)
        self.trials = self.signal[:, None] + rng.standard_normal(shape) @ mix.T
        trained = train @ self.code + rng.standard_normal((self.n_train, self.n_voxels)) @ mix.T
        of_targets, of_noise = turn * spectrum @ turn.T, mix @ mix.T
        self.precision = np.linalg.inv(of_noise)
        of_signal = self.code.T @ of_targets @ self.code
        self.spectrum = np.linalg.eigvals(self.precision @ of_signal).real
        self.best = np.linalg.solve(of_signal + of_noise / N_REPEATS, self.code.T @ of_targets)
        penalty = 30 * self.noise**2 * np.eye(self.n_voxels)
        self.ridge = np.linalg.solve(trained.T @ trained + penalty, trained.T @ train)

    def repeats(self, decoder: np.ndarray) -> Repeats:
        names = np.repeat([f"stim-{i:03d}" for i in range(self.n_test)], N_REPEATS)
        return Repeats((self.trials @ decoder).reshape(len(names), -1), names)

    def oracle(self) -> tuple[float, float]:
        """Rank by the true likelihood, knowing the code: top-1 and pairwise."""
        away = self.trials.mean(axis=1)[:, None] - self.signal[None]
        distance = np.einsum("ijk,kl,ijl->ij", away, self.precision, away)
        better = (distance < np.diag(distance)[:, None]).sum(axis=1)
        return float((better == 0).mean()), float(1 - better.mean() / (self.n_test - 1))

    def score(self, decoder: np.ndarray, *, noise_free: bool = False) -> tuple[float, float]:
        voxels = self.signal if noise_free else self.trials.mean(axis=1)
        found = identification(voxels @ decoder, self.targets, np.arange(self.n_test))
        return found.top_k(1), found.pairwise

    def evaluated(self, decoder: np.ndarray, **given: object) -> dict[tuple[str, str], dict]:
        names = np.array([f"stim-{i:03d}" for i in range(self.n_test)])
        predictions = Predictions(
            vectors=(self.trials.mean(axis=1) @ decoder).astype(np.float32),
            stimulus_id=names,
            group=np.full(self.n_test, "run-1"),
            fold=np.full(self.n_test, "all"),
            n_repeats=np.full(self.n_test, N_REPEATS),
            train_ids=np.array(["other"]),
            unit="stimulus",
            fingerprint={"unit_norm": False},
            info={"decoder": "linear"},
        )
        embeddings = Embeddings(
            names, self.targets.astype(np.float32), "image", {"unit_norm": False}
        )
        chosen = gallery_ids(predictions, embeddings, candidates="test")
        ranked = [
            retrieve(predictions, embeddings, chosen, direction=name, gallery="test")
            for name in ("brain_to_image", "image_to_brain")
        ]
        given = {"repeats": self.repeats(decoder)} | given
        result = evaluate(
            ranked, predictions, embeddings, rng=np.random.default_rng(0), options=FAST, **given
        )
        return {(row["direction"], row["metric"]): row for row in result.rows}


def mean_over_worlds(noise: float, *, n_worlds: int) -> dict[str, np.ndarray]:
    found: dict[str, list] = {}
    for seed in range(n_worlds):
        world = World(noise, seed)
        found.setdefault("oracle", []).append(world.oracle())
        for name, decoder in (("best", world.best), ("ridge", world.ridge)):
            signal = measure_signal(world.repeats(decoder), inverse_n=1 / N_REPEATS)
            observer = Observer(
                signal.n_components,
                world.n_test - 1,
                inverse_n=1 / N_REPEATS,
                n_queries=400,
                rng=np.random.default_rng(seed),
            )
            seen = observer.scores(
                signal.total, signal.width, direction="brain_to_image", top_k=(1,)
            )
            found.setdefault(f"ceiling {name}", []).append((seen["top_1"], seen["pairwise"]))
            found.setdefault(name, []).append(world.score(decoder))
            r = np.corrcoef((world.trials.mean(axis=1) @ decoder).T, world.targets.T)
            r = np.diagonal(r[: world.n_dims, world.n_dims :]).mean()
            found.setdefault(f"r {name}", []).append((np.sqrt(signal.reliability).mean(), r))
    return {name: np.mean(values, axis=0) for name, values in found.items()}


@pytest.mark.parametrize("noise", [0.6, 1.2, 2.0, 3.0])
def test_the_ceiling_of_the_best_decoder_is_the_oracle_and_above_every_decoder(
    noise: float,
) -> None:
    found = mean_over_worlds(noise, n_worlds=12)
    # Mean of 12 worlds of 60 stimuli: standard error of top-1 at most 0.02.
    np.testing.assert_allclose(found["ceiling best"], found["oracle"], atol=0.05)
    for name in ("best", "ridge"):
        assert (found[f"ceiling {name}"] >= found[name] - 0.02).all(), name
        assert found[f"r {name}"][0] >= found[f"r {name}"][1] - 0.02, name
    # And the trained decoder has lost signal, which its ceiling shows.
    assert found["ceiling ridge"][1] < found["ceiling best"][1] + 0.01


def test_sum_and_width_of_the_eigenvalues_are_unbiased() -> None:
    sums, widths = [], []
    true = np.array([3.0, 1.5, 0.7, 0.3, 0.1, 0.1])
    for seed in range(150):
        rng = np.random.default_rng(seed)
        counts = rng.integers(2, 5, size=40)
        signals = rng.standard_normal((40, 6)) * np.sqrt(true)
        label = np.repeat(np.arange(40), counts)
        trials = signals[label] + rng.standard_normal((len(label), 6))
        turn = np.linalg.qr(rng.standard_normal((6, 6)))[0]
        found = measure_signal(Repeats(trials @ turn, label.astype(str)), inverse_n=0.3)
        if found.n_components == 6:
            sums.append(found.total)
            widths.append(found.width)
    assert len(sums) > 50
    error = np.std(sums) / np.sqrt(len(sums))
    assert abs(np.mean(sums) - true.sum()) < 3 * error
    assert np.median(widths) == pytest.approx(true.sum() ** 2 / (true**2).sum(), rel=0.15)


def test_the_jackknife_knows_how_far_the_sum_is_off() -> None:
    found = [
        measure_signal(World(1.2, seed).repeats(World(1.2, seed).best), inverse_n=1 / 3)
        for seed in range(25)
    ]
    spread = np.std([item.total for item in found])
    claimed = np.sqrt(np.mean([item.covariance[0, 0] for item in found]))
    assert 0.6 < claimed / spread < 1.7


def test_reliability_is_that_of_the_analysis_of_variance() -> None:
    rng = np.random.default_rng(3)
    trials = rng.standard_normal((9, 4, 1, 5)) + rng.standard_normal((9, 1, 1, 5))
    names = np.repeat([str(i) for i in range(9)], 4)
    found = measure_signal(Repeats(trials.reshape(36, 5), names), inverse_n=1 / 4)
    for dim in range(5):
        x = trials[:, :, 0, dim]
        between = 4 * x.mean(axis=1).var(ddof=1)
        within = x.var(axis=1, ddof=1).mean()
        assert found.reliability[dim] == pytest.approx(max(between - within, 0) / between)
        assert found.noise[dim] == pytest.approx(within)
    one = measure_signal(Repeats(trials.reshape(36, 5), names), inverse_n=1.0).reliability
    # Spearman-Brown takes single trials to means of four.
    np.testing.assert_allclose(found.reliability, 4 * one / (1 + 3 * one))


def test_nothing_repeats_and_nothing_is_claimed() -> None:
    rng = np.random.default_rng(1)
    scores = []
    for _ in range(30):
        names = np.repeat([str(i) for i in range(40)], 3)
        noise = Repeats(rng.standard_normal((120, 8)), names)
        signal = measure_signal(noise, inverse_n=1 / 3)
        observer = Observer(8, 39, inverse_n=1 / 3, n_queries=200, rng=np.random.default_rng(0))
        kind = {"direction": "brain_to_image", "top_k": (1, 5)}
        scores.append(observer.scores(signal.total, signal.width, **kind))
    pairwise = [item["pairwise"] for item in scores]
    assert np.median(pairwise) < 0.62
    item = observer.scores(0.0, 1.0, **kind)
    assert item["top_1"] == pytest.approx(1 / 40, abs=0.003)
    assert item["top_5"] == pytest.approx(5 / 40, abs=0.003)
    assert item["pairwise"] == pytest.approx(0.5, abs=0.002)
    assert item["mean_rank"] == pytest.approx(20.5, abs=0.1)


@pytest.mark.parametrize("n_others", [9, 40])
def test_the_observer_scores_as_a_literal_simulation(n_others: int) -> None:
    rng = np.random.default_rng(5)
    spectrum, g = eigenvalues(4.0, 2.5, 5), 0.5
    forth, back = [], []
    prior = 1 / (spectrum + g)
    for _ in range(4000):
        signals = rng.standard_normal((n_others + 1, 5)) * np.sqrt(spectrum)
        rows = signals + rng.standard_normal(signals.shape) * np.sqrt(g)
        likelihood = -((rows[0] - signals) ** 2).sum(axis=1) / (2 * g)
        forth.append((likelihood > likelihood[0]).sum())
        ratio = -((rows - signals[0]) ** 2).sum(axis=1) / (2 * g) + (rows**2 @ prior) / 2
        back.append((ratio > ratio[0]).sum())
    observer = Observer(5, n_others, inverse_n=g, n_queries=4000, rng=rng)
    for name, counts in (("brain_to_image", forth), ("image_to_brain", back)):
        found = observer.scores(4.0, 2.5, direction=name, top_k=(1, 5))
        better = np.array(counts)
        assert found["top_1"] == pytest.approx((better < 1).mean(), abs=0.03)
        assert found["top_5"] == pytest.approx((better < 5).mean(), abs=0.03)
        assert found["pairwise"] == pytest.approx(1 - better.mean() / n_others, abs=0.01)
        assert found["mean_rank"] == pytest.approx(1 + better.mean(), rel=0.05)
        assert found["mean_reciprocal_rank"] == pytest.approx((1 / (1 + better)).mean(), abs=0.03)
        assert abs(found["median_rank"] - np.median(1 + better)) <= 1


def test_eigenvalues_have_the_sum_and_the_width() -> None:
    for width in (1.0, 2.3, 6.9, 7.0):
        values = eigenvalues(5.0, width, 7)
        assert values.sum() == pytest.approx(5)
        assert values.sum() ** 2 / (values**2).sum() == pytest.approx(width, rel=1e-6)
        assert (np.diff(values) <= 1e-12).all()


def test_dprime_is_what_a_simulation_says_and_can_be_undone() -> None:
    rng = np.random.default_rng(0)
    for d, k, pool in ((1.0, 1, 2), (2.0, 3, 17), (1.5, 1, 60)):
        others = rng.standard_normal((40000, pool - 1))
        hits = (others > (d + rng.standard_normal(40000))[:, None]).sum(axis=1) < k
        rate = float(hit_rate(np.array(d), k=k, pool=pool))
        assert rate == pytest.approx(hits.mean(), abs=0.01)
        assert float(dprime_of_hits(rate, k=k, pool=pool)) == pytest.approx(d, abs=1e-6)
    assert float(hit_rate(np.array(1.0), k=1, pool=2)) == pytest.approx(norm.cdf(1 / np.sqrt(2)))
    assert float(dprime_of_pairwise(pairwise_rate(1.3))) == pytest.approx(1.3)


@pytest.mark.parametrize(("noise", "least"), [(0.6, 0.8), (1.2, 0.65)])
def test_noise_free_is_what_the_decoder_scores_without_noise(noise: float, least: float) -> None:
    found, true, measured, r, true_r = [], [], [], [], []
    for seed in range(8):
        world = World(noise, seed)
        rows = world.evaluated(world.ridge)
        found.append([rows["brain_to_image", m]["noise_free"] for m in ("top_1", "pairwise")])
        true.append(world.score(world.ridge, noise_free=True))
        measured.append(world.score(world.ridge))
        r.append(rows["none", "correlation_mean"]["noise_free"])
        p = world.signal @ world.ridge
        both = np.corrcoef(p.T, world.targets.T)[: world.n_dims, world.n_dims :]
        true_r.append(np.diagonal(both).mean())
        plain = rows["brain_to_image", "top_1"]
        assert plain["noise_free_low"] <= plain["noise_free"] <= plain["noise_free_high"]
        assert plain["noise_free"] >= plain["value"]
    # Of the way from the score with noise to the one without, most, and not more than all.
    start, end = np.mean(measured, axis=0), np.mean(true, axis=0)
    part = (np.mean(found, axis=0) - start) / (end - start)
    assert (part > least).all() and (part < 1.05).all(), part
    assert np.mean(r) == pytest.approx(np.mean(true_r), abs=0.05)


def test_added_noise_has_the_measured_covariance() -> None:
    world = World(1.2, 0)
    repeats = world.repeats(world.ridge)
    signal = measure_signal(repeats, inverse_n=1 / 3)
    trials = repeats.vectors.reshape(world.n_test, N_REPEATS, -1)
    away = (trials - trials.mean(axis=1, keepdims=True)).reshape(len(repeats.vectors), -1)
    measured = away.T @ away / (world.n_test * (N_REPEATS - 1))
    drawn = _noise(signal, np.full(20_000, 0.25), np.random.default_rng(0))
    scale = np.trace(measured) / world.n_dims
    np.testing.assert_allclose(np.cov(drawn.T) / 0.25 / scale, measured / scale, atol=0.08)


def test_rows_have_a_ceiling_its_interval_and_the_share_of_it() -> None:
    rows = World(1.2, 0).evaluated(World(1.2, 0).best)
    for row in rows.values():
        assert row["ceiling_low"] <= row["ceiling"] <= row["ceiling_high"]
        assert row["ceiling_uses"] == "test repeats"
        gained, possible = row["value"] - row["chance"], row["ceiling"] - row["chance"]
        assert row["ceiling_share"] == pytest.approx(gained / possible)
    signal = measure_signal(World(1.2, 0).repeats(World(1.2, 0).best), inverse_n=1 / N_REPEATS)
    for (direction, metric), row in rows.items():
        assert row["signal_to_noise"] == pytest.approx(signal.total)
        assert row["n_signal_dims"] == pytest.approx(signal.width)
        if metric == "percentile_rank":
            n, mean_rank = row["n_gallery"], rows[direction, "mean_rank"]["ceiling"]
            assert row["ceiling"] == pytest.approx((n - mean_rank + 0.5) / n)
    assert rows["none", "r2_mean"]["ceiling_method"] == "reliability"
    assert rows["none", "correlation_median"]["ceiling_method"] == "square root of reliability"
    assert rows["image_to_brain", "mean_rank"]["ceiling_method"] == "ideal observer"
    assert 0.5 < rows["brain_to_image", "top_5"]["ceiling_share"] < 1.1


def test_a_share_of_a_ceiling_at_chance_is_not_given() -> None:
    world = World(60.0, 2)
    rows = world.evaluated(world.ridge)
    row = rows["brain_to_image", "pairwise"]
    assert row["ceiling_low"] == pytest.approx(0.5, abs=0.01)
    assert row["ceiling_share"] is None


def test_the_ceiling_is_none_with_the_reason() -> None:
    world = World(1.2, 0)
    row = world.evaluated(world.best, repeats=None)["brain_to_image", "top_1"]
    assert row["ceiling"] is None and row["noise_free"] is None
    assert row["ceiling_method"].startswith("none: no test stimulus repeats")
    names = np.repeat(np.array(["a", "b", "c", "d"]), 2)
    plain = Predictions(
        vectors=np.eye(8, 3, dtype=np.float32),
        stimulus_id=names,
        group=np.tile(["run-1", "run-2"], 4),
        fold=np.tile(["run-1", "run-2"], 4),
        n_repeats=np.ones(8, dtype=np.int64),
        train_ids=names,
        unit="run",
        fingerprint={},
        info={},
    )
    found, inverse_n, reason = usable_repeats(plain, None)
    assert (len(found.vectors), inverse_n.tolist(), reason) == (8, [1.0] * 8, "")
    tokens = replace(plain, vectors=np.zeros((8, 2, 3), np.float32))
    moving = replace(plain, info={"calibration": "transductive"})
    own = replace(plain, fold=names)
    for case, word in ((tokens, "tokens"), (moving, "transductive"), (own, "of their own")):
        found, _, reason = usable_repeats(case, None)
        assert found is None and word in reason
    given = Repeats(np.zeros((24, 3)), np.repeat(names, 3))
    averaged = replace(plain, n_repeats=np.full(8, 3))
    assert usable_repeats(averaged, given)[1].tolist() == [1 / 3] * 8


def test_an_observer_may_know_what_is_never_shown() -> None:
    observer = Observer(3, 6, inverse_n=1.0, n_queries=500, rng=np.random.default_rng(0))
    kind = {"direction": "brain_to_image", "top_k": (1, 5, 10)}
    few = observer.scores(3.0, 2.0, **kind)
    many = observer.scores(3.0, 2.0, n_below=100, **kind)
    assert "top_10" not in few
    assert many["top_10"] == 1
    for metric in ("top_1", "top_5", "mean_rank", "mean_reciprocal_rank"):
        assert many[metric] == few[metric]
    assert many["pairwise"] == pytest.approx(1 - (many["mean_rank"] - 1) / 106)


def test_whole_runs_held_out_repeat_in_the_predictions(make_case: Callable) -> None:
    case = make_case(8, runs=6, signal=1.0, n_embedded=60, candidates="all")
    rng = np.random.default_rng(0)
    result = evaluate(case.both, case.predictions, case.embeddings, rng=rng, options=FAST)
    rows = {(row["direction"], row["metric"]): row for row in result.rows}
    row = rows["brain_to_image", "top_1"]
    assert (row["n_gallery"], row["ceiling_uses"]) == (60, "test repeats")
    # Of 8 that are ever shown one is right; 60 candidates would be another question.
    assert row["ceiling"] > row["value"]
    assert rows["brain_to_image", "mean_rank"]["ceiling"] < 4
    assert any("knows which candidates are ever shown" in note for note in result.notes)
