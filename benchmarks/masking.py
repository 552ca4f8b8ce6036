"""A compressed run to cleaned signals, against nilearn's NiftiMasker.

python benchmarks/masking.py [--quick] [--repeats N] [--out FILE.json]
"""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
from measure import parse_arguments, print_table, side_by_side, write_figures
from nilearn.maskers import NiftiMasker

from braindecode_clip.artifacts import VoxelSpace
from braindecode_clip.config.preprocess import PreprocessConfig
from braindecode_clip.io.bold import read_bold
from braindecode_clip.io.nifti import read_mask, write_bold_int16
from braindecode_clip.preprocess import clean_run

TR_S = 2.0


def write_run(folder: Path, shape: tuple[int, int, int], n_volumes: int) -> tuple[Path, Path]:
    """Write a run of int16 with a brain-like ellipsoid, and its mask."""
    rng = np.random.default_rng(0)
    axes = np.meshgrid(*(np.linspace(-1, 1, size) for size in shape), indexing="ij")
    inside = sum(axis**2 for axis in axes) < 0.8
    level = np.where(inside, rng.uniform(600, 1000, size=shape), 20.0)
    values = np.empty((*shape, n_volumes), dtype=np.float32)
    for volume in range(n_volumes):
        values[..., volume] = level + rng.normal(size=shape) * np.where(inside, 15.0, 5.0)
    affine = np.diag([3.0, 3.0, 3.0, 1.0])
    write_bold_int16(folder / "sub-01_bold.nii.gz", values, affine, tr_s=TR_S)
    nib.save(nib.Nifti1Image(inside.astype(np.uint8), affine), folder / "mask.nii.gz")
    return folder / "sub-01_bold.nii.gz", folder / "mask.nii.gz"


def compare(shape: tuple[int, int, int], n_volumes: int, *, repeats: int) -> dict[str, object]:
    """Measure one size of run against nilearn; print and return the figures."""
    # No random walk: nilearn drops its cosines when a confound looks like one of them.
    motion = np.random.default_rng(1).normal(size=(n_volumes, 6))
    table = pd.DataFrame(motion).add_prefix("motion_")
    config = PreprocessConfig(confounds=("motion_*",))
    with tempfile.TemporaryDirectory() as folder:
        bold, mask = write_run(Path(folder), shape, n_volumes)

        space = read_mask(mask)

        def ours(space: VoxelSpace | None = None) -> np.ndarray:
            space = space or read_mask(mask)
            data, tr_s = read_bold(bold, space)
            return clean_run(
                data, space=space, tr_s=tr_s, config=config, confounds=table, overwrite=True
            ).data

        def masker(**options) -> np.ndarray:
            return NiftiMasker(mask, **options).fit_transform(
                str(bold), confounds=motion if options else None
            )

        cleaning = {
            "standardize": "zscore_sample",
            "t_r": TR_S,
            "high_pass": 0.01,
            "clean_args": {"filter": "cosine"},
        }
        cleaned = side_by_side(
            {
                "braindecode_clip, read and cleaned": ours,
                "nilearn NiftiMasker, read and cleaned": lambda: masker(**cleaning),
            },
            repeats=repeats,
        )
        read = side_by_side(
            {
                "braindecode_clip, read": lambda: read_bold(bold, read_mask(mask))[0],
                "nilearn NiftiMasker, read": masker,
            },
            repeats=repeats,
        )
        with_mask = side_by_side({"with the mask at hand": lambda: ours(space)}, repeats=repeats)
        found = ours()
        difference, n_bytes = float(np.abs(found - masker(**cleaning)).max()), found.nbytes
    title = f"{n_volumes} volumes of {' x '.join(map(str, shape))}, .nii.gz, int16"
    print_table(title, cleaned)
    print(f"largest difference (sd of the signals is 1): {difference:.1e}")
    print_table(title, read)
    result_mb = n_bytes / 2**20
    volume_mb = 4 * int(np.prod(shape)) / 2**20
    bound_mb = 1.3 * result_mb + volume_mb
    print(
        f"\nmasked output {result_mb:.1f} MB, a float32 volume {volume_mb:.1f} MB; 1.3 outputs and "
        f"a volume are {bound_mb:.1f} MB"
    )
    memory_mb = with_mask["with the mask at hand"]["memory_mb"]
    if memory_mb is not None:
        part = (memory_mb - volume_mb) / result_mb
        print(
            f"read and cleaned, the mask at hand: {memory_mb:.1f} MB = {part:.2f} outputs and a "
            "volume"
        )
    return {
        "title": title,
        "cleaned": cleaned,
        "read": read,
        "difference": difference,
        "memory_mb": memory_mb,
        "bound_mb": bound_mb,
    }


def main() -> None:
    arguments = parse_arguments(__doc__)
    warnings.simplefilter("ignore")
    sizes = [((64, 64, 32), 200), ((81, 104, 83), 24)]
    if arguments.quick:
        sizes = [((32, 32, 16), 100)]
    runs = [compare(*size, repeats=arguments.repeats) for size in sizes]
    write_figures(arguments.out, runs)


if __name__ == "__main__":
    main()
