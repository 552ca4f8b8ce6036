"""Fixtures that several stages' tests share."""

from __future__ import annotations

import os
from pathlib import Path

# Before any numerical library starts its threads: the suite runs in parallel processes.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

import pytest  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
SHARED_DATA = ROOT.parent / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of real data that lies beside the project, or skip."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"no real data at ../{SHARED_DATA.parent.name}/{SHARED_DATA.name}")
    return SHARED_DATA
