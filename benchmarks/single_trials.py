"""LSS of all trials of a run as one operator, against nilearn with one model a trial.

Ordinary least squares, then with AR(1) noise; of the latter nilearn fits few trials, whose time
is scaled up, and on part of the voxels all trials, to compare the betas.

python benchmarks/single_trials.py [--quick] [--repeats N] [--out FILE.json]
"""

from __future__ import annotations

import os
import warnings
from itertools import pairwise

import nibabel as nib
import numpy as np
import pandas as pd
from measure import parse_arguments, print_table, side_by_side, write_figures
from nilearn.glm.first_level import FirstLevelModel, make_first_level_design_matrix, run_glm

from braindecode_clip.betas import estimate_single_trials

TR_S = 2.0


def make_run(shape: tuple[int, int, int], n_volumes: int, n_trials: int):
    rng = np.random.default_rng(0)
    signals = rng.normal(0, 20, size=(n_volumes, int(np.prod(shape)))).astype(np.float32)
    # Autocorrelated, by another coefficient in every voxel.
    rho = rng.uniform(0.0, 0.6, signals.shape[1]).astype(np.float32)
    for before, now in pairwise(signals):
        now += rho * before
    signals += 1000.0
    onsets = np.linspace(4.0, n_volumes * TR_S - 20.0, n_trials) + rng.uniform(0, 1.5, n_trials)
    events = pd.DataFrame({"onset": onsets, "duration": 2.0, "trial_type": "picture"})
    confounds = rng.normal(size=(n_volumes, 6)).cumsum(axis=0)
    return signals, events, confounds


def names_of(trial: int, n_trials: int) -> list[str]:
    return ["target" if i == trial else "other" for i in range(n_trials)]


def first_level_models(image, mask, events, confounds) -> np.ndarray:
    table = pd.DataFrame(confounds).add_prefix("c")
    betas = []
    for trial in range(len(events)):
        model = FirstLevelModel(
            t_r=TR_S,
            hrf_model="spm",
            noise_model="ols",
            signal_scaling=False,
            mask_img=mask,
            high_pass=0.01,
        )
        named = events.assign(trial_type=names_of(trial, len(events)))
        model.fit(image, events=named, confounds=table)
        contrast = model.compute_contrast("target", output_type="effect_size")
        betas.append(np.asarray(contrast.dataobj).ravel())
    return np.array(betas)


def glms_on_the_array(signals, events, confounds) -> np.ndarray:
    frames = np.arange(len(signals)) * TR_S
    betas = []
    for trial in range(len(events)):
        named = events.assign(trial_type=names_of(trial, len(events)))
        design = make_first_level_design_matrix(
            frames, named, hrf_model="spm", high_pass=0.01, add_regs=confounds
        )
        _, results = run_glm(signals, design.to_numpy(), noise_model="ols")
        betas.append(results[0.0].theta[design.columns.get_loc("target")])
    return np.array(betas)


def with_ar1(signals, events, confounds, *, repeats: int, n_timed: int, n_compared: int) -> dict:
    """Time LSS with AR(1) noise, and compare with the exact fit of every trial."""
    frames = np.arange(len(signals)) * TR_S
    matrices = []
    for trial in range(len(events)):
        named = events.assign(trial_type=names_of(trial, len(events)))
        matrices.append(
            make_first_level_design_matrix(
                frames, named, hrf_model="spm", high_pass=0.01, add_regs=confounds
            )
        )

    def theirs(data: np.ndarray, chosen) -> np.ndarray:
        betas = []
        for matrix in chosen:
            labels, results = run_glm(data, matrix.to_numpy(), noise_model="ar1")
            row = np.empty(data.shape[1])
            for label in np.unique(labels):
                row[labels == label] = results[label].theta[matrix.columns.get_loc("target")]
            betas.append(row)
        return np.array(betas)

    def ours(data: np.ndarray) -> np.ndarray:
        return estimate_single_trials(
            data, events, tr_s=TR_S, noise_model="ar1", confounds=confounds
        ).data

    figures = side_by_side(
        {
            "braindecode_clip, AR(1)": lambda: ours(signals),
            f"nilearn run_glm, AR(1), {n_timed} trials": lambda: theirs(
                signals, matrices[:n_timed]
            ),
        },
        repeats=repeats,
    )
    slow = figures[f"nilearn run_glm, AR(1), {n_timed} trials"]
    scaled = {
        key: value * len(events) / n_timed for key, value in slow.items() if key != "memory_mb"
    }
    figures["nilearn, all trials (scaled up)"] = slow | scaled
    part = signals[:, :n_compared].astype(np.float64)
    found, exact = ours(part), theirs(part, matrices)
    agreement = {
        "correlation": float(np.corrcoef(found.ravel(), exact.ravel())[0, 1]),
        "relative_difference": float(np.linalg.norm(found - exact) / np.linalg.norm(exact)),
    }
    print_table("the same with AR(1) noise", figures)
    print("; ".join(f"{name} with nilearn's {value:.4f}" for name, value in agreement.items()))
    return {"figures": figures, **agreement}


def main() -> None:
    arguments = parse_arguments(__doc__)
    warnings.simplefilter("ignore")
    shape, n_volumes, n_trials = ((64, 64, 32), 200, 50)
    if arguments.quick:
        shape, n_volumes, n_trials = ((32, 32, 16), 150, 8)
    signals, events, confounds = make_run(shape, n_volumes, n_trials)
    image = nib.Nifti1Image(signals.T.reshape(*shape, n_volumes), np.eye(4))
    mask = nib.Nifti1Image(np.ones(shape, np.int8), np.eye(4))

    def ours() -> np.ndarray:
        return estimate_single_trials(signals, events, tr_s=TR_S, confounds=confounds).data

    competitors = {
        "braindecode_clip, one operator": ours,
        "nilearn run_glm on the array, one model a trial": lambda: glms_on_the_array(
            signals, events, confounds
        ),
        "nilearn FirstLevelModel, one model a trial": lambda: first_level_models(
            image, mask, events, confounds
        ),
    }
    figures = side_by_side(competitors, repeats=arguments.repeats)
    n_cores = os.cpu_count() or 1
    on_all = side_by_side(competitors, repeats=arguments.repeats, threads=n_cores)
    reference = glms_on_the_array(signals.astype(np.float64), events, confounds)
    error = float(np.linalg.norm(ours() - reference) / np.linalg.norm(reference))
    title = f"LSS of {n_trials} trials, {n_volumes} volumes x {np.prod(shape)} voxels, float32"
    print_table(f"{title}, one thread", figures)
    print_table(f"{title}, {n_cores} threads", on_all)
    print(f"relative difference from nilearn in float64: {error:.1e}")
    ar1 = with_ar1(
        signals, events, confounds, repeats=arguments.repeats, n_timed=2, n_compared=2048
    )
    content = {"title": title, "difference": error, "figures": figures, "ar1": ar1}
    content["threads"] = {"n": n_cores, "figures": on_all}
    write_figures(arguments.out, content)


if __name__ == "__main__":
    main()
