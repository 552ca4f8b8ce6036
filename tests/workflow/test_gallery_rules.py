"""Distractors, corrections and open searches in a dry run: which jobs, with which inputs."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

STUDY = {
    "study": "wide",
    "simulate": {"subjects": ["01", "02"], "n_sessions": 1, "runs_per_session": 3},
    "rois": [
        {
            "name": "visual",
            "mask": "derivatives/masks/sub-{subject}/sub-{subject}_roi-visual_mask.nii.gz",
        }
    ],
    "decoders": [{"name": "ridge", "kind": "ridge"}],
    "galleries": [
        {"name": "test"},
        {"name": "far", "distractors": {"source": "words.txt"}},
        {"name": "csls", "correction": {"method": "csls"}},
        {"name": "csls-transductive", "correction": {"method": "csls", "statistics": "test"}},
    ],
    "searches": [
        {"name": "words", "candidates": {"source": "words.txt"}},
        {"name": "own", "true_column": "stimulus_id"},
    ],
}


def test_candidates_are_encoded_once_and_corrections_wait_for_the_decoder(
    project: Path, snakemake
) -> None:
    (project / "words.txt").write_text("circle\nsquare\n")
    path = project / "wide.yaml"
    path.write_text(yaml.safe_dump(STUDY))
    done = snakemake("--configfile", "config/demo.yaml", str(path), "--dry-run", "--printshellcmds")
    text = done.stdout + done.stderr
    assert done.returncode == 0, text
    jobs = {name: int(n) for name, n in re.findall(r"^(\w+) +(\d+)$", text, flags=re.MULTILINE)}
    assert (jobs["gallery"], jobs["nearest"], jobs["retrieve"]) == (2, 4, 8)
    calls = [line for line in text.splitlines() if "braindecode-clip retrieve" in line]
    flags = {
        name: [("--distractors" in c, "--decoder" in c) for c in calls if f"gal-{name}_retr" in c]
        for name in ("test", "far", "csls", "csls-transductive")
    }
    assert flags == {
        "test": [(False, False)] * 2,
        "far": [(True, False)] * 2,
        "csls": [(False, True)] * 2,
        "csls-transductive": [(False, False)] * 2,
    }
    searches = [line for line in text.splitlines() if "braindecode-clip nearest" in line]
    assert sum("_embeddings.h5" in line and "--stimuli" in line for line in searches) == 2
    assert sum("search-words_gallery.h5" in line for line in searches) == 2


def test_a_shared_decoder_has_nothing_to_correct_from(snakemake) -> None:
    done = snakemake(
        *("--configfile", "config/demo.yaml", "--dry-run", "--config"),
        "decoders=[{name: together, kind: shared}]",
        "retrieve={correction: {method: csls}}",
    )
    text = done.stdout + done.stderr
    assert done.returncode == 1
    assert "gallery 'test' needs predictions of held-out training samples" in text
    assert "Traceback" not in text


def test_a_hidden_transduction_stops_with_a_message(snakemake) -> None:
    done = snakemake(
        *("--configfile", "config/demo.yaml", "--dry-run", "--config"),
        "retrieve={correction: {method: csls, statistics: test}}",
    )
    text = done.stdout + done.stderr
    assert done.returncode == 1
    assert "such as 'test-transductive'" in text and "Traceback" not in text
