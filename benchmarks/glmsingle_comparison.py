"""Single-trial betas against the truth, beside GLMsingle on the same simulated subjects.

python benchmarks/glmsingle_comparison.py [--quick] [--repeats N] [--out FILE.json]

GLMsingle (Prince et al. 2022, eLife 11:e77599) is on no package index. To measure it too:

    git clone https://github.com/cvnlab/GLMsingle ../GLMsingle
    pip install fracridge
    PYTHONPATH=../GLMsingle python benchmarks/glmsingle_comparison.py
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import io
import logging
import os
import tempfile
import warnings
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import pandas as pd
from measure import parse_arguments, print_table, side_by_side, write_figures
from simulated_runs import NOISE_LEVELS, SimulatedRuns, simulate_runs
from threadpoolctl import threadpool_limits

from braindecode_clip.betas import estimate_single_trials, estimate_subject

#: From simulated runs to betas (n_trials, n_voxels) by name, and what the method chose.
Estimator = Callable[[SimulatedRuns], tuple[dict[str, np.ndarray], dict[str, object]]]


def one_model_a_run(runs: SimulatedRuns, method: str):
    """Estimate with the canonical HRF, each run for itself."""
    betas = [
        estimate_single_trials(signals, events, tr_s=runs.tr_s, method=method).data
        for signals, events in zip(runs.signals, runs.events, strict=True)
    ]
    return {f"{method.upper()}, canonical HRF": np.concatenate(betas)}, {}


def all_options(runs: SimulatedRuns, method: str):
    """Estimate with everything: library, noise regressors, ridge, chosen over the runs."""
    betas, tuning = estimate_subject(
        runs.signals,
        runs.events,
        tr_s=runs.tr_s,
        method=method,
        hrf="library",
        noise_regressors="auto",
        shrinkage="ridge",
    )
    chosen = {
        "n_components": tuning.info["n_noise_regressors"],
        "n_noise_pool": int(tuning.noise_pool.sum()),
        "responsive_in_noise_pool": int(tuning.noise_pool[runs.responsive].sum()),
        "penalty_responsive": float(np.median(tuning.penalty[runs.responsive])),
        "penalty_others": float(np.median(tuning.penalty[~runs.responsive])),
        "n_voxels_of_hrf": np.bincount(tuning.hrf_index[runs.responsive], minlength=20).tolist(),
    }
    name = f"{method.upper()}, all options"
    return {name: np.concatenate([run.data for run in betas])}, chosen


def glmsingle(runs: SimulatedRuns, wanted: str = "bcd"):
    """Run GLMsingle with the options that its README names as the default, all but figures."""
    from glmsingle.glmsingle import GLM_single

    labels, stimulus = np.unique(runs.stimulus_ids, return_inverse=True)
    designs, trial = [], 0
    for signals, events in zip(runs.signals, runs.events, strict=True):
        design = np.zeros((len(signals), len(labels)), dtype=np.float32)
        volumes = np.round(events["onset"].to_numpy() / runs.tr_s).astype(int)
        design[volumes, stimulus[trial : trial + len(events)]] = 1
        designs.append(design)
        trial += len(events)
    options = {
        "wantlibrary": 1,
        "wantglmdenoise": 1,
        "wantfracridge": 1,
        "wantfileoutputs": [0, 0, 0, 0],
        "wantmemoryoutputs": [int(kind in wanted) for kind in "abcd"],
    }
    # It makes folders in the working directory whatever it is told, and prints its progress.
    with (
        tempfile.TemporaryDirectory() as folder,
        contextlib.chdir(folder),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        results = GLM_single(options).fit(
            designs,
            [np.ascontiguousarray(signals.T) for signals in runs.signals],
            runs.stimulus_s,
            runs.tr_s,
            outputdir=os.path.join(folder, "outputs"),
            figuredir=None,
        )
    betas = {
        f"GLMsingle type {kind.upper()}": results[f"type{kind}"]["betasmd"].reshape(-1, trial).T
        for kind in wanted
    }
    ridge = results["typed"]
    chosen = {
        "n_components": int(ridge["pcnum"]),
        "n_noise_pool": int(ridge["noisepool"].sum()),
        "responsive_in_noise_pool": int(ridge["noisepool"].ravel()[runs.responsive].sum()),
        "mean_fraction_responsive": float(ridge["FRACvalue"].ravel()[runs.responsive].mean()),
        "mean_fraction_others": float(ridge["FRACvalue"].ravel()[~runs.responsive].mean()),
        "n_voxels_of_hrf": np.bincount(
            ridge["HRFindex"].ravel()[runs.responsive], minlength=20
        ).tolist(),
    }
    return betas, chosen


def correlations(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Correlate the columns of two matrices."""
    first, second = first - first.mean(axis=0), second - second.mean(axis=0)
    lengths = np.linalg.norm(first, axis=0) * np.linalg.norm(second, axis=0)
    return np.einsum("ij,ij->j", first, second) / lengths


def scores(runs: SimulatedRuns, betas: np.ndarray) -> dict[str, float]:
    """Correlate with the truth, for each responsive voxel: over trials, and repeats averaged."""
    estimated = np.asarray(betas, dtype=np.float64)[:, runs.responsive]
    true = np.concatenate(runs.true_betas).astype(np.float64)[:, runs.responsive]
    of_trials = correlations(estimated, true)
    _, stimulus, counts = np.unique(runs.stimulus_ids, return_inverse=True, return_counts=True)
    averages = []
    for values in (estimated, true):
        sums = np.zeros((len(counts), values.shape[1]))
        np.add.at(sums, stimulus, values)
        averages.append((sums / counts[:, None])[counts > 1])
    of_averages = correlations(*averages)
    return {
        "median": float(np.median(of_trials)),
        "mean": float(of_trials.mean()),
        "averaged_median": float(np.median(of_averages)),
        "averaged_mean": float(of_averages.mean()),
    }


def compare(
    estimators: Mapping[str, Estimator], *, families: list[str], seeds: list[int], n_voxels: int
) -> tuple[list[dict[str, object]], list[dict[str, object]]]:
    """Score all estimators on the same subjects: families x noise levels x seeds."""
    rows, choices = [], []
    for family in families:
        for level in NOISE_LEVELS:
            here: list[dict[str, object]] = []
            for seed in seeds:
                subject = {"family": family, "noise": level, "seed": seed}
                runs = simulate_runs(n_voxels, noise_level=level, hrf_family=family, seed=seed)
                for name, estimate in estimators.items():
                    with threadpool_limits(1):
                        betas, chosen = estimate(runs)
                    for kind, values in betas.items():
                        here.append(subject | {"betas": kind} | scores(runs, values))
                    if chosen:
                        choices.append(subject | {"of": name} | chosen)
            print_scores(pd.DataFrame(here))
            rows += here
    return rows, choices


def print_scores(table: pd.DataFrame) -> None:
    """Print the means over seeds of one family and noise level."""
    first = table.iloc[0]
    print(f"\nHRF family {first['family']}, noise {first['noise']}: correlation with the truth")
    print(f"{'':26} {'single trials':>17} {'repeats averaged':>17}")
    print(f"{'':26} {'median':>8} {'mean':>8} {'median':>8} {'mean':>8}")
    numbers = ["median", "mean", "averaged_median", "averaged_mean"]
    for name, row in table.groupby("betas", sort=False)[numbers].mean().iterrows():
        print(f"{name:26} " + " ".join(f"{value:8.3f}" for value in row), flush=True)


def main() -> None:
    arguments = parse_arguments(__doc__)
    warnings.simplefilter("ignore")
    logging.getLogger("braindecode_clip").setLevel(logging.ERROR)
    families, seeds, n_voxels = ["gamma", "inverse_logit"], [1, 2, 3], 1000
    if arguments.quick:
        families, seeds, n_voxels = ["gamma"], [1], 200

    estimators: dict[str, Estimator] = {
        "LSS": partial(one_model_a_run, method="lss"),
        "LSA": partial(one_model_a_run, method="lsa"),
        "LSS, all options": partial(all_options, method="lss"),
        "LSA, all options": partial(all_options, method="lsa"),
    }
    has_glmsingle = importlib.util.find_spec("glmsingle") is not None
    if has_glmsingle:
        estimators["GLMsingle"] = glmsingle
        families = families if arguments.quick else [*families, "glmsingle"]
    else:
        how = __doc__.split("\n\n", 2)[2]
        print(f"GLMsingle cannot be imported and was NOT MEASURED.\n{how}")
    rows, choices = compare(estimators, families=families, seeds=seeds, n_voxels=n_voxels)
    for choice in choices:
        print(choice)

    runs = simulate_runs(n_voxels, seed=seeds[0])
    timed = {
        "LSA, all options": partial(estimators["LSA, all options"], runs),
        "LSS, canonical HRF": partial(estimators["LSS"], runs),
    }
    if has_glmsingle:
        timed["GLMsingle type D"] = partial(glmsingle, runs, wanted="d")
    title = (
        f"{len(runs.stimulus_ids)} trials in {len(runs.signals)} runs of "
        f"{len(runs.signals[0])} volumes x {n_voxels} voxels, float32"
    )
    figures = side_by_side(timed, repeats=arguments.repeats)
    print_table(title, figures)
    versions = {name: importlib.metadata.version(name) for name in ("numpy", "scipy")}
    write_figures(
        arguments.out,
        {
            "title": title,
            "glmsingle_measured": has_glmsingle,
            "versions": versions,
            "scores": rows,
            "choices": choices,
            "figures": figures,
        },
    )


if __name__ == "__main__":
    main()
