"""A leak planted at the place of every fit is refused by its name; a clean chain is not."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from braindecode_clip.artifacts import Betas, Embeddings, Fitted, Records, Samples, VoxelSpace
from braindecode_clip.betas import estimate_subject
from braindecode_clip.config.decode import EnsembleConfig, SharedConfig
from braindecode_clip.config.decoders import SECTIONS
from braindecode_clip.config.evaluate import EvaluateConfig
from braindecode_clip.config.retrieve import CandidateSetsConfig, CorrectionConfig
from braindecode_clip.config.voxels import SplitConfig, VoxelsConfig
from braindecode_clip.decode import combine, decode, fit, mlp, token_fit
from braindecode_clip.decode.compare import compare_decoders
from braindecode_clip.decode.fit_records import FITTED_BY_KIND
from braindecode_clip.decode.fit_shared import decode_shared
from braindecode_clip.decode.held_out import held_out_predictions
from braindecode_clip.decode.token_fit import decode_tokens
from braindecode_clip.errors import LeakageError
from braindecode_clip.evaluate import evaluate
from braindecode_clip.evaluate.sentinel import check_fitted
from braindecode_clip.retrieve import gallery_ids, rank, retrieve
from braindecode_clip.voxels import build, build_voxel_set

N_VOXELS, N_TRAIN, N_TEST, N_RUNS = 23, 26, 7, 4
TRAIN = [f"train-{i:02d}" for i in range(N_TRAIN)]
TEST = [f"test-{i:02d}" for i in range(N_TEST)]
LEAK, LEAKED_RUN = "test-03", "ses-01_run-02"
STIMULI = pd.DataFrame(
    {"stimulus_id": TRAIN + TEST, "split": ["train"] * N_TRAIN + ["test"] * N_TEST}
)
SPACE = VoxelSpace(
    np.eye(4), np.array([N_VOXELS, 1, 1]), np.pad(np.arange(N_VOXELS)[:, None], ((0, 0), (0, 2)))
)
EVENTS = ["onset", "duration", "trial_type", "stimulus_id"]
QUICK = EvaluateConfig(n_bootstrap=200, n_permutations=99, n_permutations_dims=99, pool_sizes=4)
RELIABLE = {"reliability": {"top": 20}}
DECODERS = {
    "ridge": {},
    "banded": {"bands": ["a", "b"]},
    "kernel_ridge": {},
    "pca_ridge": {},
    "reduced_rank": {},
    "contrastive": {"max_epochs": 2, "cross_fit": False},
    "mlp": {"hidden": 4, "max_epochs": 2, "n_members": 1, "cross_fit": False},
}


def embeddings() -> Embeddings:
    vectors = np.random.default_rng(3).standard_normal((N_TRAIN + N_TEST, 6))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    ids = np.array(TRAIN + TEST)
    return Embeddings(ids, vectors.astype(np.float32), "image", {"model": "tiny"})


TARGETS = embeddings()


def make_betas(*, subject: str = "01", same: bool = False, seed: int = 0) -> list[Betas]:
    """Every stimulus twice over four runs, or with ``same`` eight of them in every run."""
    rng = np.random.default_rng(seed)
    shown = rng.permutation(TRAIN * 2 + TEST * 2)
    runs = [rng.permutation(TRAIN[:8]) for _ in range(N_RUNS)]
    runs = runs if same else np.array_split(shown, N_RUNS)
    found = []
    for number, names in enumerate(runs, 1):
        trials = pd.DataFrame({"onset": 4.0 * np.arange(len(names)), "duration": 2.0})
        trials = trials.assign(trial_type="picture", stimulus_id=names, subject=subject)
        trials = trials.assign(session="01", run=f"{number:02d}")
        signal = TARGETS.vectors[TARGETS.rows(names)] @ np.random.default_rng(9).standard_normal(
            (6, N_VOXELS)
        )
        data = (signal + rng.standard_normal(signal.shape)).astype(np.float32)
        record = Fitted(
            "cleaning of the run",
            "betas",
            "",
            "",
            frozenset(map(str, names)),
            frozenset({f"ses-01_run-{number:02d}"}),
            labels_used=False,
            transductive=True,
        )
        found.append(Betas(data, trials, SPACE, records=Records.of([record])))
    return found


def voxels_of(betas: list[Betas], *, scheme: str = "stimulus", **options: Any) -> Any:
    return build_voxel_set(
        betas,
        SPACE,
        roi="v1",
        config=VoxelsConfig(**options),
        split=SplitConfig(name="s", scheme=scheme),
        stimuli=STIMULI if scheme == "stimulus" else None,
    )


def decoded(voxels: Any, kind: str = "ridge", **options: Any) -> Any:
    config = SECTIONS[kind](kind=kind, **({"cv": 3} | DECODERS[kind] | options))
    bands = np.array(["a", "b"])[np.arange(N_VOXELS) % 2] if kind == "banded" else None
    return decode(voxels, TARGETS, config=config, seed=1, encoder="e", bands=bands)


def score(predictions: Any, *, training: Any = None, **options: Any) -> Any:
    ids = gallery_ids(predictions, TARGETS, candidates="test")
    ranked = [
        retrieve(predictions, TARGETS, ids, direction=name, training=training, **options)
        for name in ("brain_to_image", "image_to_brain")
    ]
    rng = np.random.default_rng(0)
    return evaluate(ranked, predictions, TARGETS, rng=rng, options=QUICK, records_required=True)


def culprits(call: Callable[[], Any]) -> set[str]:
    """Return the statistics that the refusal names; each with the stimulus that it saw."""
    with pytest.raises(LeakageError) as caught:
        call()
    text = str(caught.value)
    lines = text.splitlines()[1:] if "problems\n" in text else [text]
    for line in lines:
        assert f"tested stimuli: '{LEAK}'" in line or f"tested runs: '{LEAKED_RUN}'" in line, line
        assert "Re-run" in line or "Run" in line or "re-run" in line, line
    return {line.split("'")[1] for line in lines}


def enlarged(rows: Any) -> Samples:
    """Add a row of a test stimulus, of a run that all splits hold."""
    return Samples(
        np.concatenate([rows.data, rows.data[:1] + 1]),
        np.append(rows.stimulus_id, LEAK),
        np.append(rows.group, LEAKED_RUN),
        np.append(rows.n_repeats, 1),
    )


def with_target(targets: np.ndarray) -> np.ndarray:
    return np.concatenate([targets, TARGETS.vectors[TARGETS.rows(np.array([LEAK]))]])


def leak_into(monkeypatch: pytest.MonkeyPatch, module: Any, name: str, change: Callable) -> None:
    """Let one fit have other arguments than the stage gives it."""
    real = getattr(module, name)
    monkeypatch.setattr(module, name, lambda *args, **how: real(*change(*args), **how))


@pytest.mark.parametrize("kind", list(DECODERS))
@pytest.mark.parametrize("scheme", ["stimulus", "leave_one_run_out"])
def test_a_clean_chain_passes_and_lists_what_it_fitted(kind: str, scheme: str) -> None:
    voxels = voxels_of(make_betas(same=scheme != "stimulus"), scheme=scheme)
    result = score(decoded(voxels, kind)[0])
    fitted = pd.DataFrame(result.fitted)
    folds = set(fitted["fold"]) - {""}
    assert len(folds) == (1 if scheme == "stimulus" else N_RUNS)
    for statistic in ("voxel mask", "mean", "standard deviation", "decoder weights", "calibration"):
        assert set(fitted.loc[fitted["statistic"] == statistic, "fold"]) == folds
    assert not fitted.loc[~fitted["transductive"], "overlap"].any()
    chosen = {"mlp": {"early stop", "checkpoint"}, "contrastive": {"early stop", "penalty"}}
    assert chosen.get(kind, {"penalty"}) <= set(fitted["statistic"])
    assert result.transductive == ["cleaning of the run"]
    assert {row["transductive"] for row in result.rows} == {"cleaning of the run"}


def test_stimuli_of_other_folds_are_no_leak() -> None:
    voxels = voxels_of(make_betas(same=True), scheme="leave_one_category_out")
    predictions = decoded(voxels)[0]
    assert len(voxels.folds) == 8
    assert score(predictions).transductive == ["cleaning of the run"]
    own = [item for item in predictions.records.items if item.fold]
    tested_elsewhere = {item.fold: item.stimuli for item in own}
    assert set(tested_elsewhere) == set(TRAIN[:8])
    assert all(seen == set(TRAIN[:8]) - {fold} for fold, seen in tested_elsewhere.items())
    leak = replace(own[5], stimuli=own[5].stimuli | {own[5].fold})
    with pytest.raises(LeakageError, match=f"{leak.statistic}.*fold '{leak.fold}'"):
        check_fitted(replace(predictions, records=predictions.records.joined([leak])))


VOXEL_LEAKS = {
    "mean": {"mean", "voxel mask"},
    "sd": {"standard deviation", "voxel mask"},
    "mask": {"voxel mask"},
    "reliability": {"reliability"},
}


@pytest.mark.parametrize("what", list(VOXEL_LEAKS))
def test_leaks_into_the_voxels(monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    betas = make_betas()
    if what in ("mean", "sd"):
        leak_into(monkeypatch, build, f"fit_{what}", lambda rows: (enlarged(rows),))
    elif what == "reliability":
        leak_into(
            monkeypatch,
            build,
            "fit_reliability",
            lambda pool, trials: (pool, np.union1d(trials, np.flatnonzero(pool.label == LEAK))),
        )
    else:
        real, rows = build.fit_mask, []
        leak_into(monkeypatch, build, "fit_mean", lambda own: (rows.append(own) or own,))

        def leaky(mean: Any, sd: Any, fits: Any) -> Any:
            named = {"fold": fits[0].fold, "source": fits[0].source}
            sd, saw = build.fit_sd(enlarged(rows[-1]), **named)
            return real(mean, sd, [fits[0], saw])

        monkeypatch.setattr(build, "fit_mask", leaky)
    predictions = decoded(voxels_of(betas, **RELIABLE))[0]
    assert culprits(lambda: score(predictions)) == VOXEL_LEAKS[what]


def test_a_run_that_is_tested_is_a_leak_where_runs_are_held_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    betas = make_betas(same=True)
    leak_into(monkeypatch, build, "fit_mean", lambda rows: (enlarged(rows),))
    predictions = decoded(voxels_of(betas, scheme="leave_one_run_out"))[0]
    assert culprits(lambda: score(predictions)) == {"mean", "voxel mask"}


TUNINGS = {
    "HRF choice": {"hrf": "library"},
    "noise regressors": {"noise_regressors": 1},
    "shrinkage penalty": {"shrinkage": "ridge"},
}


def tuned_betas(seen: list[str], **options: Any) -> list[Betas]:
    rng = np.random.default_rng(5)
    events = [
        run.trials[["onset", "duration", "trial_type", "stimulus_id"]] for run in make_betas()
    ]
    signals = [1000 + rng.standard_normal((50, N_VOXELS)) for _ in events]
    found, tuning = estimate_subject(
        signals, events, tr_s=2.0, seen=seen, method="lsa", high_pass_hz=None, **options
    )
    assert tuning is not None
    cleaning = make_betas()[0].records.items
    return [
        replace(
            item,
            data=np.asarray(item.data, dtype=np.float32),
            space=SPACE,
            trials=item.trials.assign(subject="01", session="", run=f"{number:02d}"),
            records=item.records.joined(cleaning),
        )
        for number, item in enumerate(found, 1)
    ]


@pytest.mark.parametrize("statistic", list(TUNINGS))
def test_leaks_into_the_tuning(statistic: str) -> None:
    options = TUNINGS[statistic]
    clean = score(decoded(voxels_of(tuned_betas(TRAIN, **options)))[0])
    (row,) = [row for row in clean.fitted if row["statistic"] == statistic]
    assert (row["stage"], row["n_stimuli"], row["n_runs"]) == ("tune", N_TRAIN, N_RUNS)
    leaky = decoded(voxels_of(tuned_betas([*TRAIN, LEAK], **options)))[0]
    assert culprits(lambda: score(leaky)) == {statistic}


def test_renamed_stimuli_are_still_found_in_the_tuning() -> None:
    betas = tuned_betas([*TRAIN, LEAK], hrf="library")
    renamed = {"test-00": "seven"} | {LEAK: "three"}
    stimuli = STIMULI.replace({"stimulus_id": renamed})
    voxels = build_voxel_set(
        betas,
        SPACE,
        roi="v1",
        config=VoxelsConfig(rename=renamed),
        split=SplitConfig(name="s", scheme="stimulus"),
        stimuli=stimuli,
    )
    (item,) = [item for item in voxels.records.items if item.statistic == "HRF choice"]
    assert item.stimuli == {*TRAIN, "three"}


def leaky_estimator(monkeypatch: pytest.MonkeyPatch) -> None:
    real = fit.fit_estimator

    def leaky(estimator: Any, rows: Any, targets: Any, **how: Any) -> None:
        more = {"groups": LEAKED_RUN if how["groups"] is not None else None, "stimuli": LEAK}
        how |= {
            name: np.append(how[name], value)
            for name, value in more.items()
            if how.get(name) is not None
        }
        real(estimator, enlarged(rows), with_target(targets), **how)
        estimator.out_of_fold_ = estimator.out_of_fold_[:-1]

    monkeypatch.setattr(fit, "fit_estimator", leaky)


FIT_LEAKS = {
    "ridge": {"penalty"},
    "banded": {"penalty", "band weights"},
    "kernel_ridge": {"penalty", "kernel width"},
    "pca_ridge": {"penalty", "PCA of voxels"},
    "reduced_rank": {"penalty", "rank"},
    "contrastive": {"penalty", "flattening", "early stop"},
}


@pytest.mark.parametrize("kind", list(FIT_LEAKS))
def test_leaks_into_the_fit_of_a_decoder(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    leaky_estimator(monkeypatch)
    predictions = decoded(voxels_of(make_betas()), kind)[0]
    assert culprits(lambda: score(predictions)) == FIT_LEAKS[kind] | {"decoder weights"}


TOKENS = replace(TARGETS, vectors=TARGETS.vectors.reshape(-1, 2, 3) * np.float32(np.sqrt(2)))


@pytest.mark.parametrize("kind", ["ridge", "contrastive", "mlp"])
def test_decoders_of_tokens(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    voxels = voxels_of(make_betas())
    config = SECTIONS[kind](kind=kind, **({"cv": 3} | DECODERS[kind]))
    predictions = decode_tokens(voxels, TOKENS, config=config, seed=1)[0]
    ids = gallery_ids(predictions, TOKENS, candidates="test")
    ranked = [retrieve(predictions, TOKENS, ids)]
    found = check_fitted(predictions, ranked, required=True)
    names = {row["statistic"] for row in found.fitted}
    assert {"calibration", "decoder weights", "voxel mask"} <= names
    assert ("coordinates of targets" in names) == (kind != "ridge")
    assert ("early stop" in names) == (kind != "ridge")
    real = token_fit.note_calibration

    def leaky(ledger: Any, rows: Any, known: Any, **how: Any) -> None:
        real(ledger, enlarged(rows), np.append(known, len(rows.stimulus_id)), **how)

    monkeypatch.setattr(token_fit, "note_calibration", leaky)
    predictions = decode_tokens(voxels, TOKENS, config=config, seed=1)[0]
    assert culprits(lambda: check_fitted(predictions)) == {"calibration"}


def test_a_leak_into_early_stop_and_checkpoint_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    leaky_estimator(monkeypatch)

    def last_held_out(n_rows: int, groups: Any, **_: Any) -> np.ndarray:
        return (np.arange(n_rows) < n_rows - 5).astype(int)

    monkeypatch.setattr(mlp, "held_out_parts", last_held_out)
    # The scaling of the inputs is fitted on all rows that the network is given.
    monkeypatch.setitem(FITTED_BY_KIND, "mlp", ())
    predictions = decoded(voxels_of(make_betas()), "mlp")[0]
    assert culprits(lambda: score(predictions)) == {"early stop", "checkpoint"}


def test_leaks_into_target_space_and_calibration(monkeypatch: pytest.MonkeyPatch) -> None:
    voxels = voxels_of(make_betas())
    with monkeypatch.context() as patch:
        leak_into(
            patch,
            fit,
            "_target_space",
            lambda config, targets, rows: (config, with_target(targets), enlarged(rows)),
        )
        predictions = decoded(voxels, target_space={"method": "pca", "n_components": 4})[0]
    assert culprits(lambda: score(predictions)) == {"PCA of targets"}
    leak_into(
        monkeypatch,
        fit,
        "calibrated",
        lambda held, targets, rows: (
            np.concatenate([held, held[:1]]),
            with_target(targets),
            enlarged(rows),
        ),
    )
    predictions = decoded(voxels)[0]
    assert culprits(lambda: score(predictions)) == {"calibration"}


def test_leaks_into_an_ensemble(monkeypatch: pytest.MonkeyPatch) -> None:
    voxels = voxels_of(make_betas())
    members = [decoded(voxels, kind)[1] for kind in ("ridge", "pca_ridge")]
    config = EnsembleConfig(name="both", members=[member.name for member in members])
    clean = combine(members, voxels, TARGETS, config=config)[0]
    sources = {row["source"] for row in score(clean).fitted if row["statistic"] == "penalty"}
    assert len(sources) == 2
    leak_into(
        monkeypatch,
        sys.modules["braindecode_clip.decode.combine"],
        "_weights",
        lambda held, targets, rows: (
            [np.concatenate([part, part[:1]]) for part in held],
            with_target(targets),
            enlarged(rows),
        ),
    )
    leaky = combine(members, voxels, TARGETS, config=config)[0]
    assert culprits(lambda: score(leaky)) == {"ensemble weights"}


def test_leaks_in_another_subject_that_helps(monkeypatch: pytest.MonkeyPatch) -> None:
    first = voxels_of(make_betas())
    config = SharedConfig(kind="shared", cv=3, n_components=4)
    second = voxels_of(make_betas(subject="02", seed=4))
    clean = decode_shared([first, second], TARGETS, config=config)[0][0]
    names = {row["statistic"] for row in score(clean).fitted}
    assert {"shared space", "penalty", "calibration"} <= names
    leak_into(monkeypatch, build, "fit_mean", lambda rows: (enlarged(rows),))
    second = voxels_of(make_betas(subject="02", seed=4))
    predictions = decode_shared([first, second], TARGETS, config=config)[0][0]
    with pytest.raises(LeakageError, match=r"'mean' of stage `voxels` \(sub-02"):
        score(predictions)


@pytest.mark.parametrize(
    ("name", "statistic"),
    [
        ("correct_table", "hubness statistics"),
        ("add_candidate_sets", "thresholds of candidate sets"),
    ],
)
def test_leaks_into_the_retrieval(
    monkeypatch: pytest.MonkeyPatch, name: str, statistic: str
) -> None:
    voxels = voxels_of(make_betas())
    predictions, fitted = decoded(voxels)
    training = held_out_predictions(fitted, voxels)
    options: dict[str, Any] = {"training": training}
    if name == "correct_table":
        options["correction"] = CorrectionConfig(method="csls", k=3)
    else:
        options["sets"] = CandidateSetsConfig(coverage=0.8)
    assert any(row["statistic"] == statistic for row in score(predictions, **options).fitted)
    real = getattr(rank, name)

    def leaky(*args: Any, **how: Any) -> Any:
        more = replace(
            training,
            vectors=np.concatenate([training.vectors, training.vectors[:1]]),
            stimulus_id=np.append(training.stimulus_id, LEAK),
            group=np.append(training.group, LEAKED_RUN),
            fold=np.append(training.fold, "all"),
            n_repeats=np.append(training.n_repeats, 1),
        )
        if "training" in how:
            return real(*args, **how | {"training": more})
        return real(*args[:3], more, *args[4:], **how)

    monkeypatch.setattr(rank, name, leaky)
    assert culprits(lambda: score(predictions, **options)) == {statistic}


def test_transductive_steps_are_named_and_not_refused() -> None:
    voxels = voxels_of(make_betas(), normalise="run")
    predictions = decoded(voxels, name="r-transductive", calibration="transductive")[0]
    correction = CorrectionConfig(method="csls", k=3, statistics="test")
    result = score(predictions, correction=correction)
    own = ["cleaning of the run", "z-scoring within runs", "standardised predictions"]
    assert set(result.transductive) == {*own, "hubness statistics"}
    for row in result.rows:
        more = [] if row["direction"] == "none" else ["hubness statistics"]
        assert sorted(row["transductive"].split("; ")) == sorted(own + more)


def test_compare_names_the_transductive_steps() -> None:
    predictions, fitted = decoded(voxels_of(make_betas(), normalise="run"))
    table = compare_decoders([fitted], score(predictions).rows)
    steps = "cleaning of the run; z-scoring within runs"
    assert table["transductive_steps"].tolist() == [steps]
    assert table["transductive"].tolist() == [False]


def test_a_tuning_without_labels_is_transductive_and_one_with_them_is_not() -> None:
    def tuned(**options: Any) -> Any:
        rng = np.random.default_rng(5)
        betas = make_betas(same=True)
        events = [run.trials[EVENTS] for run in betas]
        signals = [1000 + rng.standard_normal((40, N_VOXELS)) for _ in events]
        return estimate_subject(
            signals, events, tr_s=2.0, method="lsa", hrf="library", high_pass_hz=None, **options
        )[1].records.items

    (item,) = tuned(use_labels=False)
    assert (item.transductive, item.labels_used) == (True, False)
    assert item.groups == {"run-01", "run-02", "run-03", "run-04"}
    (item,) = tuned()
    assert (item.transductive, item.labels_used) == (False, True)
    # With labels of runs that are tested, the scores are refused.
    predictions = decoded(voxels_of(make_betas(same=True), scheme="leave_one_run_out"))[0]
    groups = frozenset(f"ses-01_{name}" for name in item.groups)
    records = predictions.records.joined([replace(item, groups=groups)])
    with pytest.raises(LeakageError, match="'HRF choice' of stage `tune`"):
        check_fitted(replace(predictions, records=records))


def test_predictions_without_records() -> None:
    predictions = decoded(voxels_of(make_betas()))[0]
    bare = replace(predictions, records=Records())
    assert check_fitted(bare).fitted == []
    with pytest.raises(LeakageError, match=r"(?s)re-run `betas`.*`voxels`.*`decode`"):
        check_fitted(bare, required=True)
    ids = gallery_ids(predictions, TARGETS, candidates="test")
    with pytest.raises(LeakageError, match=r"brain_to_image ranks have no record.*`retrieve`"):
        check_fitted(predictions, [retrieve(bare, TARGETS, ids)], required=True)


def test_runs_whose_betas_have_no_record_are_missed() -> None:
    betas = make_betas()
    betas[2] = replace(betas[2], records=Records())
    predictions = decoded(voxels_of(betas))[0]
    with pytest.raises(LeakageError, match="re-run `betas`"):
        score(predictions)
