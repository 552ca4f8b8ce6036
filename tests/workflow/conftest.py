"""A copy of the project that Snakemake may run in, and that a test may edit."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("Snakefile", "workflow", "config", "profiles", "braindecode_clip")
Snakemake = Callable[..., subprocess.CompletedProcess]


def copy_project(target: Path) -> Path:
    """Copy what a run needs; the weights and the shared data are linked."""
    target.mkdir()
    for part in PARTS:
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, target / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, target / part)
    (target / "data").symlink_to(ROOT / "data")
    shared = ROOT.parent / "shared"
    if shared.is_dir():
        (target.parent / "shared").symlink_to(shared)
    return target


def snakemake_in(project: Path) -> Snakemake:
    """Return a function that runs Snakemake on the copy, with the copy's own package."""
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(project),
        "OMP_NUM_THREADS": "1",
    }

    def run(*arguments: str) -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", "snakemake", "--profile", "profiles/default"]
        return subprocess.run(
            [*command, *arguments],
            cwd=project,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the project of this test module's own."""
    return copy_project(tmp_path_factory.mktemp("workflow") / "project")


@pytest.fixture(scope="module")
def snakemake(project: Path) -> Snakemake:
    """Return Snakemake bound to the copy."""
    return snakemake_in(project)
