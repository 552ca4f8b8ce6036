"""Random changes of weights as large as those of an adaptation."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from braindecode_clip.cli.main import main
from braindecode_clip.clip.encoders import load_encoder
from braindecode_clip.clip.perturb import perturbed
from braindecode_clip.errors import DataError

SCENES = Path(__file__).resolve().parents[2] / "data/models/scenes"


def state(rng: np.random.Generator) -> dict[str, np.ndarray]:
    return {
        "a.weight": rng.standard_normal((30, 7)).astype(np.float32),
        "b.weight": rng.standard_normal(11).astype(np.float32),
        "bn.running_var": rng.random(5).astype(np.float32),
        "bn.num_batches_tracked": np.array(3),
        "logit_scale": np.float32(4.0).reshape(()),
    }


def test_changes_have_the_norm_and_nothing_else_of_adaptation() -> None:
    rng = np.random.default_rng(0)
    before = state(rng)
    after = {k: v + (0.3 * rng.standard_normal(v.shape)).astype(v.dtype) for k, v in before.items()}
    after["b.weight"] = before["b.weight"]
    found, norms = perturbed(before, after, rng=np.random.default_rng(1))
    change = (found["a.weight"] - before["a.weight"]).astype(float)
    wanted = (after["a.weight"] - before["a.weight"]).astype(float)
    assert np.linalg.norm(change) == pytest.approx(np.linalg.norm(wanted), rel=1e-5)
    cosine = (change * wanted).sum() / np.linalg.norm(change) / np.linalg.norm(wanted)
    # Of 210 random numbers: three standard errors.
    assert abs(cosine) < 3 / np.sqrt(210)
    assert set(norms) == {"a.weight"}
    for name in before.keys() - {"a.weight"}:
        np.testing.assert_array_equal(found[name], before[name], err_msg=name)
        assert found[name].dtype == before[name].dtype
    again, _ = perturbed(before, after, rng=np.random.default_rng(1))
    np.testing.assert_array_equal(again["a.weight"], found["a.weight"])


def test_other_towers_are_refused() -> None:
    rng = np.random.default_rng(0)
    before, after = state(rng), state(rng)
    after["a.weight"] = after["a.weight"][:, :3]
    after["c"] = after.pop("b.weight")
    with pytest.raises(DataError) as caught:
        perturbed(before, after, rng=rng)
    assert "'b.weight', 'c'" in str(caught.value) and "(30, 7) before" in str(caught.value)


def test_the_command_writes_a_model_with_the_record_of_the_adapted_one(tmp_path: Path) -> None:
    adapted, out = tmp_path / "adapted", tmp_path / "out"
    shutil.copytree(SCENES, adapted)
    weights = load_file(SCENES / "open_clip_model.safetensors")
    moved = {
        k: v + np.float32(0.01) if v.dtype == np.float32 and v.ndim > 1 else v
        for k, v in weights.items()
    }
    save_file(moved, adapted / "open_clip_model.safetensors", metadata={"format": "pt"})
    record = {"schema_version": 1, "weights_sha256": "old", "test": {"n_stimuli": 4}}
    (adapted / "leakage.json").write_text(json.dumps(record))
    command = ["clip", "perturb", f"--initial={SCENES}", f"--adapted={adapted}", f"--out={out}"]
    assert main([*command, "--seed=3"]) == 0
    names = {path.name for path in out.iterdir()}
    assert "vocabulary.json" in names and not names & {"recipe.yaml", "training_log.csv"}
    encoder = load_encoder(str(out))
    found = json.loads((out / "leakage.json").read_text())
    assert found["weights_sha256"] == encoder.fingerprint["weights_sha256"] != "old"
    assert found["test"] == {"n_stimuli": 4}
    assert encoder.fingerprint["probe"] != load_encoder(str(SCENES)).fingerprint["probe"]
    assert main([*command[:-1], f"--out={adapted}"]) == 1
    (adapted / "open_clip_model.safetensors").unlink()
    assert main(command) == 1
