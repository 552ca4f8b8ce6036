"""Memory and time of the commands on one session of the size of NSD's (Allen et al. 2022).

python benchmarks/nsd_session.py [--quick] [--scales S ...] [--runs N] [--whole-grid] [--out FILE]

750 trials in 12 runs of 300 volumes, 1.8 mm, a grid of 81 x 104 x 83 of which a third is brain.
A run is written, preprocessed and deleted before the next one; all files lie in a temporary
folder that goes at the end (about 4 GB at scale 1, 11 GB with the whole grid). Every command is a
process of its own with one BLAS thread; its memory is VmHWM, the peak of its resident set.
"""

from __future__ import annotations

import argparse
import gzip
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from measure import write_figures

GRID = (81, 104, 83)
VOXEL_MM = 1.8
N_VOLUMES, TR_S = 300, 1.0
TRIAL_S, STIMULUS_S = 4.0, 3.0
TRIALS_OF_RUN = (62, 63)
N_FEATURES = 20
MOTION = ("trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z")

#: Starts the command line and leaves its memory and CPU time in a file when it ends.
_CHILD = """
import atexit, json, os, resource, sys

def record():
    with open("/proc/self/status") as status:
        peak = next(line for line in status if line.startswith("VmHWM"))
    usage = resource.getrusage(resource.RUSAGE_SELF)
    figures = {"peak_mb": int(peak.split()[1]) / 1024, "cpu_s": usage.ru_utime + usage.ru_stime}
    with open(os.environ["FIGURES_OF_CHILD"], "w") as file:
        json.dump(figures, file)

atexit.register(record)
from braindecode_clip.cli.main import run
sys.argv[0] = "braindecode-clip"
run()
"""


@dataclass(frozen=True)
class Session:
    """What all runs of the session share."""

    folder: Path
    shape: tuple[int, int, int]
    affine: np.ndarray
    level: np.ndarray
    """(n_grid,) float32, mean image in Fortran order."""
    maps: np.ndarray
    """(n_maps, n_grid) float32, loadings of the courses."""
    mask: Path
    n_voxels: int


def make_session(folder: Path, *, scale: float, whole_grid: bool) -> Session:
    """Draw the brain: a grid with ``scale`` times the voxels of NSD's, and an ellipsoid in it."""
    rng = np.random.default_rng(0)
    shape = tuple(max(4, round(size * scale ** (1 / 3))) for size in GRID)
    affine = np.diag([VOXEL_MM, VOXEL_MM, VOXEL_MM, 1.0])
    axes = [(np.arange(size) + 0.5) / size * 2 - 1 for size in shape]
    radius = np.sqrt(sum(axis**2 for axis in np.meshgrid(*axes, indexing="ij")))
    brain = radius < 0.844
    level = np.where(brain, 1000.0, 100.0) * rng.uniform(0.7, 1.3, shape)
    # Features of the pictures, each with an early and a late response, so that the HRF of a
    # voxel is a mixture of its own; and five courses of noise.
    maps = rng.normal(size=(2 * N_FEATURES + 5, brain.size)).astype(np.float32)
    maps *= np.float32(0.15) * brain.ravel(order="F")
    mask = folder / "mask.nii.gz"
    kept = np.ones(shape, dtype=np.uint8) if whole_grid else brain.astype(np.uint8)
    nib.save(nib.Nifti1Image(kept, affine), mask)
    flat_level = level.ravel(order="F").astype(np.float32)
    return Session(folder, shape, affine, flat_level, maps, mask, int(kept.sum()))


def write_run(session: Session, run: int) -> dict[str, Path]:
    """Write the volumes, the events and the confounds of one run."""
    rng = np.random.default_rng([1, run])
    n_trials = TRIALS_OF_RUN[run % 2]
    slots = np.arange(12.0, N_VOLUMES * TR_S - 16.0, TRIAL_S)
    onsets = np.sort(rng.permutation(slots)[:n_trials])
    # 350 pictures come twice and 50 once.
    pictures = np.random.default_rng(2).permutation(np.arange(750) % 400)
    first = sum(TRIALS_OF_RUN[earlier % 2] for earlier in range(run))
    shown = pictures[first : first + n_trials]
    endings = {
        "bold": "bold.nii.gz",
        "events": "events.tsv",
        "confounds": "confounds.tsv",
        "signals": "signals.h5",
        "betas": "betas.h5",
    }
    paths = {name: session.folder / f"run-{run:02d}_{ending}" for name, ending in endings.items()}
    pd.DataFrame(
        {
            "onset": onsets,
            "duration": STIMULUS_S,
            "trial_type": "picture",
            "stimulus_id": [f"nsd-{picture:05d}" for picture in shown],
        }
    ).to_csv(paths["events"], sep="\t", index=False)
    motion = 0.02 * rng.normal(size=(N_VOLUMES, len(MOTION))).cumsum(axis=0)
    pd.DataFrame(motion, columns=list(MOTION)).to_csv(paths["confounds"], sep="\t", index=False)
    _write_volumes(session, paths["bold"], _courses(onsets, shown, rng), rng)
    return paths


def _courses(onsets: np.ndarray, shown: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return (n_volumes, n_maps) float32 courses: features early and late, and noise."""
    features = np.random.default_rng(3).normal(0.3, 1.0, size=(750, N_FEATURES))[shown]
    times = np.arange(N_VOLUMES) * TR_S
    since = times[:, None] - onsets
    parts = []
    for peak_s in (5.0, 8.0):
        kernel = np.clip(since / peak_s, 0, None) ** 5 * np.exp(5 - 5 * since / peak_s)
        parts.append(np.where(since > 0, kernel, 0.0) @ features)
    walks = rng.normal(size=(N_VOLUMES, 5)).cumsum(axis=0)
    parts.append((walks - walks.mean(axis=0)) / walks.std(axis=0))
    return np.column_stack(parts).astype(np.float32)


def _write_volumes(
    session: Session, path: Path, courses: np.ndarray, rng: np.random.Generator
) -> None:
    """Write int16 volumes one by one, so that the whole run is never in memory."""
    header = nib.Nifti1Header()
    header.set_data_dtype(np.int16)
    header.set_data_shape((*session.shape, len(courses)))
    header.set_qform(session.affine, code=1)
    header.set_sform(session.affine, code=1)
    header.set_zooms((VOXEL_MM,) * 3 + (TR_S,))
    header.set_xyzt_units("mm", "sec")
    header.set_slope_inter(1, 0)
    header["vox_offset"], header["magic"] = 352, b"n+1"
    if importlib.util.find_spec("isal") is not None:
        from isal import igzip

        opener = igzip.open
    else:
        opener = gzip.open
    with opener(path, "wb", compresslevel=1) as stream:
        stream.write(header.binaryblock + bytes(4))
        for course in courses:
            percent = course @ session.maps + rng.standard_normal(session.level.size, np.float32)
            volume = session.level * (1 + percent / 100)
            stream.write(np.clip(volume, 0, 32767).astype(np.int16).tobytes())


def run_command(*arguments: str | Path) -> dict[str, float]:
    """Run ``braindecode-clip`` and return peak_mb, cpu_s and wall_s of its process."""
    with tempfile.TemporaryDirectory() as folder:
        figures = Path(folder) / "figures.json"
        environment = os.environ | {
            "FIGURES_OF_CHILD": str(figures),
            **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
        }
        command = [sys.executable, "-c", _CHILD, *map(str, arguments)]
        start = time.perf_counter()
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        wall_s = time.perf_counter() - start
        if done.returncode:
            raise SystemExit(f"{' '.join(command[3:])} failed:\n{done.stdout}{done.stderr}")
        return json.loads(figures.read_text()) | {"wall_s": wall_s}


#: Everything that is chosen from all runs, with the labels of the stimuli.
ALL_OPTIONS = (
    "{method: lsa, hrf: library, noise_regressors: auto, shrinkage: ridge, tune: {trials: all}}"
)


def measure_session(session: Session, n_runs: int) -> dict[str, list[dict[str, float]]]:
    """Run the commands on all runs; the signals of all runs lie there until the session ends."""
    measured: dict[str, list[dict[str, float]]] = {"preprocess": [], "betas": []}
    session_files = []
    for run in range(n_runs):
        paths = write_run(session, run)
        session_files.append(paths)
        measured["preprocess"].append(
            run_command(
                *("preprocess", "--bold", paths["bold"], "--mask", session.mask),
                *("--confounds", paths["confounds"], "--subject", "01", "--session", "01"),
                *("--run", f"{run:02d}", "--out", paths["signals"]),
            )
        )
        paths["bold"].unlink()
        measured["betas"].append(
            run_command(
                *("betas", "--signals", paths["signals"], "--events", paths["events"]),
                *("--out", paths["betas"]),
            )
        )
        paths["betas"].unlink()
    tuning = session_files[0]["signals"].with_name("sub-01_tuning.h5")
    arguments: list[object] = []
    for paths in session_files:
        arguments += ["--signals", paths["signals"], "--events", paths["events"]]
    options = ("--options", ALL_OPTIONS)
    measured["tune"] = [run_command("tune", *arguments, *options, "--out", tuning)]
    last = session_files[-1]
    measured["betas, all"] = [
        run_command(
            *("betas", "--signals", last["signals"], "--events", last["events"]),
            *("--tuning", tuning, *options, "--out", last["betas"]),
        )
    ]
    return measured


def summary(command: str, session: Session, figures: Sequence[dict[str, float]]) -> dict:
    """Largest memory and median times of the calls of one command."""
    return {
        "command": command,
        "n_voxels": session.n_voxels,
        "n_volumes": N_VOLUMES,
        "n_calls": len(figures),
        "peak_mb": max(row["peak_mb"] for row in figures),
        "cpu_s": statistics.median(row["cpu_s"] for row in figures),
        "wall_s": statistics.median(row["wall_s"] for row in figures),
        "wall_s_of_all_calls": sum(row["wall_s"] for row in figures),
    }


def print_law(rows: Sequence[dict]) -> dict[str, dict[str, float]]:
    """Fit peak = base + bytes x voxels x volumes over the scales."""
    laws = {}
    print(f"\nmemory of a command = base + bytes x voxels x volumes ({N_VOLUMES} a run)")
    for command, group in pd.DataFrame(rows).groupby("command", sort=False):
        sizes = (group["n_voxels"] * group["n_volumes"]).to_numpy(np.float64)
        slope, base = np.polyfit(sizes, group["peak_mb"].to_numpy(), 1)
        laws[str(command)] = {"base_mb": base, "bytes_per_voxel_volume": slope * 2**20}
        print(f"{command:11} base {base:5.0f} MB, {slope * 2**20:5.2f} bytes")
    return laws


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small data, for a first look")
    parser.add_argument(
        "--scales", type=float, nargs="+", help="shares of NSD's grid (default 0.1 0.3 1)"
    )
    parser.add_argument("--runs", type=int, help="runs of the session (default 12)")
    parser.add_argument("--whole-grid", action="store_true", help="all voxels, not the brain alone")
    parser.add_argument("--folder", type=Path, help="where the temporary folder is made")
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    arguments = parser.parse_args()
    scales = arguments.scales or ([0.02, 0.05] if arguments.quick else [0.1, 0.3, 1.0])
    n_runs = arguments.runs or (2 if arguments.quick else 12)

    rows: list[dict] = []
    for scale in scales:
        with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
            session = make_session(Path(folder), scale=scale, whole_grid=arguments.whole_grid)
            print(
                f"\nscale {scale:g}: grid {' x '.join(map(str, session.shape))}, "
                f"{session.n_voxels} voxels, {n_runs} runs of {N_VOLUMES} volumes"
            )
            print(f"{'':11} {'calls':>5} {'peak MB':>8} {'CPU s':>7} {'wall s':>7} {'in all':>7}")
            for command, figures in measure_session(session, n_runs).items():
                row = summary(command, session, figures)
                rows.append({"scale": scale} | row)
                print(
                    f"{command:11} {row['n_calls']:5} {row['peak_mb']:8.0f} {row['cpu_s']:7.1f} "
                    f"{row['wall_s']:7.1f} {row['wall_s_of_all_calls']:7.1f}",
                    flush=True,
                )
    laws = print_law(rows) if len(scales) > 1 else {}
    write_figures(arguments.out, {"figures": rows, "laws": laws})


if __name__ == "__main__":
    main()
