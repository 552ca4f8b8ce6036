"""Every option of the single-trial estimation on the runs of Haxby et al. (2001), decoded.

python benchmarks/haxby_betas.py [--data FOLDER] [--out FILE.json]

Each option is compared with its own ablation, the same estimation without it: 7-way
identification of CLIP text vectors by ridge, whole runs held out. The interval is of the
difference, by bootstrap over the 12 runs.
"""

from __future__ import annotations

import argparse
import json
import warnings
from pathlib import Path

import numpy as np
import yaml

from braindecode_clip.artifacts import Signals
from braindecode_clip.betas import estimate_run, tune_subject
from braindecode_clip.betas.run_inputs import signals_inputs
from braindecode_clip.betas.tuned_run import RunToTune
from braindecode_clip.config.betas import BetasConfig
from braindecode_clip.config.decode import RidgeConfig
from braindecode_clip.config.preprocess import PreprocessConfig
from braindecode_clip.config.voxels import SplitConfig, VoxelsConfig
from braindecode_clip.decode import decode
from braindecode_clip.embed.precomputed import precomputed_embeddings
from braindecode_clip.io.bold import read_bold
from braindecode_clip.io.nifti import read_mask
from braindecode_clip.io.tables import read_tsv
from braindecode_clip.io.vectors import read_vectors
from braindecode_clip.preprocess import clean_run
from braindecode_clip.retrieve import gallery_ids, retrieve
from braindecode_clip.voxels import build_voxel_set

ROOT = Path(__file__).resolve().parents[1]
N_BOOTSTRAP = 10_000

#: Name to its options and the name of its ablation.
OPTIONS: dict[str, tuple[dict[str, object], str | None]] = {
    "average": ({"method": "average"}, None),
    "average, AR(1)": ({"method": "average", "noise_model": "ar1"}, "average"),
    "average, noise regressors": ({"method": "average", "noise_regressors": "auto"}, "average"),
    "lss": ({"method": "lss"}, None),
    "lss, glover": ({"method": "lss", "hrf": "glover"}, "lss"),
    "lss, derivative": ({"method": "lss", "hrf": "spm + derivative"}, "lss"),
    "lss, derivative + dispersion": (
        {"method": "lss", "hrf": "spm + derivative + dispersion"},
        "lss, derivative",
    ),
    "lss, fir": (
        {"method": "lss", "hrf": "fir", "fir": {"length_s": 27.5, "start_s": 5.0, "end_s": 25.0}},
        "lss",
    ),
    "lss, AR(1)": ({"method": "lss", "noise_model": "ar1"}, "lss"),
    "lss, library": ({"method": "lss", "hrf": "library"}, "lss"),
    "lss, noise regressors": ({"method": "lss", "noise_regressors": "auto"}, "lss"),
    "lss, ridge": ({"method": "lss", "shrinkage": "ridge"}, "lss"),
    "lss, all three": (
        {"method": "lss", "hrf": "library", "noise_regressors": "auto", "shrinkage": "ridge"},
        "lss",
    ),
    "lsa": ({"method": "lsa"}, None),
    "lsa, AR(1)": ({"method": "lsa", "noise_model": "ar1"}, "lsa"),
    "lsa, library": ({"method": "lsa", "hrf": "library"}, "lsa"),
    "lsa, noise regressors": ({"method": "lsa", "noise_regressors": "auto"}, "lsa"),
    "lsa, ridge": ({"method": "lsa", "shrinkage": "ridge"}, "lsa"),
    "lsa, all three": (
        {"method": "lsa", "hrf": "library", "noise_regressors": "auto", "shrinkage": "ridge"},
        "lsa",
    ),
}


def read_runs(data: Path, study: dict) -> list[tuple[Signals, object]]:
    """Read and clean all runs as config/haxby.yaml says."""
    space = read_mask(data / "derivatives/masks/sub-1/sub-1_desc-gray_mask.nii.gz")
    config = PreprocessConfig(**study["preprocess"])
    runs = []
    for bold in sorted(data.glob("sub-1/func/*_bold.nii.gz")):
        values, tr_s = read_bold(bold, space)
        label = bold.name.split("run-")[1][:2]
        signals = clean_run(values, space=space, tr_s=tr_s, config=config, subject="1", run=label)
        runs.append((signals, read_tsv(str(bold).replace("_bold.nii.gz", "_events.tsv"))))
    return runs


def estimate(runs, config: BetasConfig):
    tuning = None
    if config.needs_tuning:
        inputs = [
            RunToTune(
                signals_inputs(signals, events, config=config, where="events"),
                signals.data,
                signals.mean,
                signals.session,
                signals.run,
            )
            for signals, events in runs
        ]
        # Runs are held out, so the tuning, which sees them all, may use no label.
        tuning = tune_subject(
            inputs, config=config, use_labels=False, subject="1", space=runs[0][0].space
        )
    return [estimate_run(s, e, config=config, tuning=tuning) for s, e in runs], tuning


def hits_by_run(betas, targets, study: dict) -> np.ndarray:
    """Return the share of right answers (n_runs,)."""
    voxels = build_voxel_set(
        betas,
        betas[0].space,
        roi="gray",
        config=VoxelsConfig(**study["voxels"]),
        split=SplitConfig(name="run", scheme="leave_one_run_out"),
    )
    predictions, _ = decode(voxels, targets, config=RidgeConfig(name="ridge", kind="ridge"), seed=1)
    ids = gallery_ids(predictions, targets, candidates="test")
    found = retrieve(
        predictions, targets, ids, direction="brain_to_image", gallery="categories"
    ).queries
    return (found["rank"] <= 1).groupby(found["group"]).mean().to_numpy()


def interval(values: np.ndarray, rng: np.random.Generator) -> list[float]:
    draws = rng.integers(0, len(values), (N_BOOTSTRAP, len(values)))
    return np.percentile(values[draws].mean(axis=1), [2.5, 97.5]).tolist()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared/data")
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    arguments = parser.parse_args()
    if not (arguments.data / "haxby2001").is_dir():
        print(f"not measured: no folder {arguments.data / 'haxby2001'}; see data/README.md")
        return
    warnings.simplefilter("ignore")
    study = yaml.safe_load((ROOT / "config/haxby.yaml").read_text())
    runs = read_runs(arguments.data / "haxby2001", study)
    names = arguments.data / "clip_vit_b32_names"
    vectors, ids = read_vectors(names / "text_vectors.npy", names=names / "names.tsv")
    targets = precomputed_embeddings(vectors, ids, modality="text", sha256="")
    rng = np.random.default_rng(0)
    hits: dict[str, np.ndarray] = {}
    rows = []
    print("| option | top-1 of 7 | against | difference [95 %] | chosen |\n|---|---|---|---|---|")
    for name, (options, ablation) in OPTIONS.items():
        betas, tuning = estimate(runs, BetasConfig(**options))
        hits[name] = hits_by_run(betas, targets, study)
        row: dict[str, object] = {"option": name, "top_1": float(hits[name].mean())}
        difference = ""
        if ablation is not None:
            change = hits[name] - hits[ablation]
            row |= {"against": ablation, "difference": float(change.mean())}
            row["interval"] = interval(change, rng)
            low, high = (100 * x for x in row["interval"])
            difference = f"{100 * change.mean():+.1f} [{low:+.1f}, {high:+.1f}]"
        chosen = ""
        if tuning is not None:
            row["chosen"] = tuning.info
            chosen = f"{tuning.info.get('n_noise_regressors', 0)} regressors"
        rows.append(row)
        cells = [name, f"{100 * hits[name].mean():.1f} %", ablation or "", difference, chosen]
        print("| " + " | ".join(cells) + " |", flush=True)
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
