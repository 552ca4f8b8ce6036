"""How well known motion is found, and the time it takes.

python benchmarks/realign.py [--quick] [--repeats N] [--out FILE.json]

Volumes are computed from a function of space, moved by up to 2 mm and 2 degrees, with noise of
1.3 %, on an oblique grid with unequal voxels; the reference is the first volume, as noisy.
Times are CPU seconds on one thread.
"""

from __future__ import annotations

import runpy
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from measure import parse_arguments, write_figures

from braindecode_clip.preprocess.realign import brain_mask
from braindecode_clip.preprocess.rigid import ReferenceImage, estimate_motion, undo_motion
from braindecode_clip.preprocess.slice_timing import shift_slices

HEAD = Path(__file__).resolve().parents[1] / "tests/preprocess/moving_head.py"


def main() -> None:
    arguments = parse_arguments(__doc__)
    head = SimpleNamespace(**runpy.run_path(str(HEAD)))
    shape, voxel_mm = (
        ((34, 38, 22), (4.0, 3.8, 4.6))
        if arguments.quick
        else (
            (64, 66, 34),
            (2.8, 2.7, 3.6),
        )
    )
    affine = head.oblique_affine(shape, voxel_mm)
    errors, seconds = [], {"estimate": [], "resample": [], "slice timing": []}
    for turn in range(arguments.repeats):
        known = head.known_motion(9, seed=turn)
        volumes = head.moving_run(known, shape, affine, seed=100 + turn)
        reference = ReferenceImage(volumes[0], affine)
        mask = brain_mask(reference)
        start = time.process_time()
        found = estimate_motion(volumes, affine, reference=reference, mask=mask)
        seconds["estimate"].append(time.process_time() - start)
        start = time.process_time()
        undo_motion(volumes, affine, found, reference=reference)
        seconds["resample"].append(time.process_time() - start)
        start = time.process_time()
        shift_slices(volumes, np.linspace(0, 1.9, shape[2]), axis=2, tr_s=2.0, reference_s=1.0)
        seconds["slice timing"].append(time.process_time() - start)
        errors.append(np.abs(found - known)[1:])
    error = np.concatenate(errors)
    figures = {
        "shape": shape,
        "volumes": len(error),
        "worst_mm": float(error[:, :3].max()),
        "mean_mm": float(error[:, :3].mean()),
        "worst_deg": float(np.rad2deg(error[:, 3:].max())),
        "mean_deg": float(np.rad2deg(error[:, 3:].mean())),
        "cpu_s_per_volume": {k: float(np.median(v)) / 9 for k, v in seconds.items()},
    }
    print(f"\nKnown motion of {len(error)} volumes of {shape}")
    for unit in ("mm", "deg"):
        worst, mean = figures[f"worst_{unit}"], figures[f"mean_{unit}"]
        print(f"error of one parameter: {mean:.4f} {unit} on average, {worst:.4f} {unit} at most")
    for name, value in figures["cpu_s_per_volume"].items():
        print(f"{name}: {value:.3f} CPU s a volume")
    write_figures(arguments.out, figures)


if __name__ == "__main__":
    main()
