"""The rule that fits a decoder on all subjects together, in a dry run."""

from __future__ import annotations

import re
from pathlib import Path

import yaml


def test_one_job_fits_all_subjects(project: Path, snakemake) -> None:
    study = {
        "study": "several",
        "simulate": {"subjects": ["01", "02", "03"], "n_sessions": 1, "runs_per_session": 3},
        "decoders": [{"name": "ridge", "kind": "ridge"}, {"name": "together", "kind": "shared"}],
    }
    study["calibration_curve"] = {"enabled": True, "trial_s": 4.0}
    path = project / "several.yaml"
    path.write_text(yaml.safe_dump(study))
    done = snakemake(
        "--configfile", "config/demo.yaml", str(path), "--dry-run", "--quiet", "reason"
    )
    text = done.stdout + done.stderr
    assert done.returncode == 0, text
    jobs = {name: int(n) for name, n in re.findall(r"^(\w+) +(\d+)$", text, flags=re.MULTILINE)}
    # Three regions: ridge once for each subject, the other decoder once for all.
    assert (jobs["decode"], jobs["decode_shared"]) == (9, 3)
    assert jobs["calibration_curve"] == 9
    # What follows runs for each subject and decoder, with two galleries.
    assert jobs["retrieve"] == 3 * 3 * 2 * 2


def test_a_split_by_runs_stops_with_a_message(snakemake) -> None:
    done = snakemake(
        *("--configfile", "config/demo.yaml", "--dry-run", "--config"),
        "decoders=[{name: together, kind: shared}]",
        "splits=[{name: run, scheme: leave_one_run_out}]",
    )
    text = done.stdout + done.stderr
    assert done.returncode == 1
    assert "holds out runs" in text and "Traceback" not in text
