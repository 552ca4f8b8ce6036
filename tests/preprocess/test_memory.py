"""The memory that reading and cleaning a compressed run take, measured as the system sees it."""

import json
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from braindecode_clip.artifacts import Samples
from braindecode_clip.errors import ArtifactError

#: Read and clean a run in a fresh process: prints resident bytes before, at the peak, and of the
#: result.
SCRIPT = """
import json, sys
from pathlib import Path

import numpy as np
import pandas as pd

from braindecode_clip.config.preprocess import PreprocessConfig
from braindecode_clip.io.bold import read_bold
from braindecode_clip.io.nifti import read_mask
from braindecode_clip.preprocess import clean_run

def status(key):
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(key)).split()[1])

def run(bold, mask, options):
    space = read_mask(mask)
    config = PreprocessConfig(**options)
    before = status("VmRSS")
    data, tr_s = read_bold(bold, space)
    table = pd.DataFrame(np.random.default_rng(0).normal(size=(len(data), 6))).add_prefix("c")
    table["framewise_displacement"] = np.arange(len(data)) % 20 / 20
    signals = clean_run(
        data, space=space, tr_s=tr_s, config=config, confounds=table, overwrite=True
    )
    return before, signals.data.nbytes

small, bold, mask, options = sys.argv[1:]
options = json.loads(options)
run(*small.split("|"), options)  # so that imports and first calls do not count
Path("/proc/self/clear_refs").write_text("5")
before, result = run(bold, mask, options)
print(json.dumps({"before": before, "peak": status("VmHWM"), "result": result}))
"""


def write_run(folder, shape, n_volumes):
    folder.mkdir()
    rng = np.random.default_rng(1)
    axes = np.meshgrid(*(np.linspace(-1, 1, size) for size in shape), indexing="ij")
    inside = sum(axis**2 for axis in axes) < 0.8
    values = rng.integers(0, 64, size=(*shape, n_volumes), dtype=np.int16)
    values += np.where(inside, 800, 0).astype(np.int16)[..., None]
    image = nib.Nifti1Image(values, np.eye(4))
    image.header["pixdim"][4] = 2.0
    image.header.set_xyzt_units("mm", "sec")
    nib.save(image, folder / "sub-01_bold.nii.gz")
    nib.save(nib.Nifti1Image(inside.astype(np.uint8), np.eye(4)), folder / "mask.nii.gz")
    return str(folder / "sub-01_bold.nii.gz"), str(folder / "mask.nii.gz")


@pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="the peak is measured on Linux"
)
@pytest.mark.parametrize(("shape", "n_volumes"), [((48, 48, 30), 150), ((81, 96, 72), 20)])
@pytest.mark.parametrize("options", [{}, {"censor": {"fd_mm": 0.9}, "standardize": "raw"}])
def test_reading_and_cleaning_take_little_more_than_the_result(tmp_path, shape, n_volumes, options):
    small = write_run(tmp_path / "small", (9, 8, 7), 30)
    bold, mask = write_run(tmp_path / "large", shape, n_volumes)
    options = json.dumps({"confounds": ["c*"], **options})
    script = [sys.executable, "-c", SCRIPT, "|".join(small), bold, mask, options]
    done = subprocess.run(script, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    taken = found["peak"] - found["before"]
    volume = 4 * int(np.prod(shape))
    assert found["result"] <= taken <= 1.3 * found["result"] + volume


def test_numbers_that_are_not_finite_are_counted_in_every_block():
    data = np.zeros((700, 1000), np.float32)
    data[[0, 299, 699], [5, 0, 999]] = [np.nan, np.inf, -np.inf]
    names = np.full(700, "a")
    with pytest.raises(ArtifactError, match="'data' holds 3 NaN or infinite numbers of 700000"):
        Samples(data, names, names, np.ones(700, np.int64))
