"""Rules of the code base that no linter knows."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "braindecode_clip"
MODULES = sorted(PACKAGE.rglob("*.py"))
STAGES = (
    "preprocess",
    "betas",
    "quality",
    "voxels",
    "embed",
    "decode",
    "retrieve",
    "evaluate",
    "controls",
    "audit",
    "interpret",
)
OTHER_COMMANDS = (
    *("realign", "simulate", "report", "clip", "config", "search", "zero-shot"),
    *("card", "compare"),
)
HEAVY = {"torch", "nilearn", "open_clip", "sklearn", "matplotlib", "pandas", "torchvision"}


def run_python(code: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True
    )
    return done.stdout


@pytest.mark.parametrize("stage", [*STAGES, "simulate", "report"])
def test_a_stage_has_its_module_its_command_its_rules_and_its_tests(stage: str) -> None:
    assert (PACKAGE / stage).is_dir() or (PACKAGE / f"{stage}.py").is_file()
    assert (PACKAGE / "cli" / f"{stage}.py").is_file()
    assert (ROOT / "workflow/rules" / f"{stage}.smk").is_file()
    assert list((ROOT / "tests" / stage).glob("test_*.py"))


def test_help_starts_without_heavy_imports() -> None:
    loaded = run_python(
        "import sys; from braindecode_clip.cli.main import main; main(['--help']); "
        "print('LOADED', *sorted(sys.modules))"
    )
    modules = set(loaded.split("LOADED")[1].split())
    assert not modules & HEAVY


@pytest.mark.parametrize("stage", [*STAGES, *OTHER_COMMANDS])
def test_a_commands_help_needs_no_torch_and_no_nilearn(stage: str) -> None:
    loaded = run_python(
        "import sys; from braindecode_clip.cli.main import main; "
        f"code = main(['{stage}', '--help']); print('LOADED', code, *sorted(sys.modules))"
    )
    words = loaded.split("LOADED")[1].split()
    assert words[0] == "0"
    assert not set(words) & {"torch", "nilearn", "open_clip", "sklearn", "matplotlib"}


def test_stages_never_touch_the_disk() -> None:
    forbidden = re.compile(
        r"(?<![.\w])open\(|\.write_text\(|\.write_bytes\(|h5py\.|nib\.load|\.to_csv\("
    )
    found = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for stage in STAGES
        for path in [*(PACKAGE / stage).rglob("*.py"), PACKAGE / f"{stage}.py"]
        if path.is_file()
        for line in path.read_text().splitlines()
        if forbidden.search(line)
    ]
    assert not found


def test_nothing_imports_snakemake_and_nothing_pickles() -> None:
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            assert not {name.split(".")[0] for name in names} & {"snakemake", "pickle", "joblib"}, (
                path
            )
        assert "weights_only=False" not in path.read_text(), path


def test_modules_stay_readable() -> None:
    long = {
        str(path.relative_to(ROOT)): n
        for path in MODULES
        if (n := len(path.read_text().splitlines())) > 450
    }
    assert not long


def test_every_module_has_a_docstring() -> None:
    assert not [path for path in MODULES if not ast.get_docstring(ast.parse(path.read_text()))]
