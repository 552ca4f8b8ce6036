"""The code digest: what changes it and what does not."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from braindecode_clip.provenance import code_digest, file_sha256, make_provenance


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A little package of the same name: a -> b -> c, and d on its own."""
    package = tmp_path / "braindecode_clip"
    (package / "sub").mkdir(parents=True)
    (package / "__init__.py").write_text('"""Doc."""\n')
    (package / "sub/__init__.py").write_text("")
    (package / "a.py").write_text("from braindecode_clip import b\n\nX = 1\n")
    (package / "b.py").write_text(
        '"""Doc of b."""\n\ndef f():\n    """Doc."""\n    from .sub.c import Y\n    return Y\n'
    )
    (package / "sub/c.py").write_text("Y = 2  # comment\n")
    (package / "d.py").write_text("Z = 3\n")
    return tmp_path


def digest(tree: Path) -> str:
    return code_digest("braindecode_clip.a", root=tree)


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("sub/c.py", "Y = 3\n"),
        ("b.py", "def f():\n    from .sub.c import Y\n    return Y + 1\n"),
        ("a.py", "from braindecode_clip import b\n\nX = 2\n"),
        ("sub/__init__.py", "import os\n"),
    ],
)
def test_a_change_of_code_changes_the_digest(tree: Path, file: str, text: str) -> None:
    before = digest(tree)
    (tree / "braindecode_clip" / file).write_text(text)
    assert digest(tree) != before


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("sub/c.py", "# other comment\nY = (2)\n"),
        ("b.py", '"""New doc."""\ndef f():\n    from .sub.c import Y\n    return Y\n'),
        ("d.py", "Z = 4\n"),
    ],
)
def test_comments_docstrings_and_other_modules_do_not(tree: Path, file: str, text: str) -> None:
    before = digest(tree)
    (tree / "braindecode_clip" / file).write_text(text)
    assert digest(tree) == before


def test_unknown_module(tree: Path) -> None:
    with pytest.raises(ModuleNotFoundError, match="nothing"):
        code_digest("braindecode_clip.nothing", root=tree)


def test_stages_are_told_apart() -> None:
    digests = {
        stage: code_digest(f"braindecode_clip.cli.{stage}")
        for stage in ("preprocess", "betas", "voxels", "decode", "evaluate", "report")
    }
    assert len(set(digests.values())) == len(digests)


def test_record_names_inputs_options_and_libraries(tmp_path: Path) -> None:
    file = tmp_path / "x.bin"
    file.write_bytes(b"abc")
    record = make_provenance("betas", options={"method": "lss"}, inputs=[file], seed=3)
    content = json.loads(record.as_json())
    assert content["inputs"] == {"x.bin": hashlib.sha256(b"abc").hexdigest()}
    assert content["inputs"]["x.bin"] == file_sha256(file)
    assert content["options"] == {"method": "lss"}
    assert content["seed"] == 3
    assert {"numpy", "torch", "nibabel"} <= content["libraries"].keys()
