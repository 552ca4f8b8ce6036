"""What a training report says in sentences."""

from __future__ import annotations

from typing import Any

from braindecode_clip.clip.run_files import Run
from braindecode_clip.report.numbers import count, duration, percent


def lead(run: Run) -> str:
    """Say what was trained, from what, on what, for how long."""
    record, n_weights = run.record, run.record.get("parameters", {}).get("total")
    size = f" of {weights_text(n_weights)}" if n_weights else ""
    text = f"A CLIP model{size}, {start_text(record)}" if record else "A CLIP model"
    if "n_pictures" in record:
        text += (
            f"trained on {count(record['n_pictures'])} pictures with "
            f"{count(record['n_captions'])} captions"
        )
    of = f" of {count(record['n_steps'])}" if "n_steps" in record else ""
    text += f"{': ' if 'n_pictures' in record else ', '}{count(run.step)}{of} steps"
    if "pairs_per_step" in record:
        text += f" of {count(record['pairs_per_step'])} pairs"
    return f"{text}."


def start_text(record: dict[str, Any]) -> str:
    """Say what a model was started from, as the beginning of a sentence's part."""
    start = record.get("start", {})
    if not start:
        return ""
    if start["kind"] == "fresh weights":
        return "from fresh weights, "
    return f"started from the {start['kind']} “{start['name']}”, "


def weights_text(n: int) -> str:
    """Return a number of weights as ``0.82 million weights``."""
    if n < 100_000:
        return f"{count(n)} weights"
    return f"{n / 1e6:.2f} million weights" if n < 1e7 else f"{n / 1e6:.0f} million weights"


def status_text(run: Run) -> str:
    """Say how a run stands that has not simply ended; "" of one that has."""
    record = run.record
    of = f" of {count(record['n_steps'])}" if "n_steps" in record else ""
    if run.status == "stopped early":
        return (
            f"Stopped early at step {count(run.step)}{of}: held-out retrieval had not become "
            f"better since step {count(record.get('best_step'))}, whose weights were kept."
        )
    if run.status == "interrupted":
        return (
            f"Interrupted at step {count(run.step)}{of}. The same command with --resume goes on; "
            "there is no model yet."
        )
    if run.status == "unfinished":
        return (
            f"Unfinished: step {count(run.step)}{of} is the last in its log. The run goes on, or "
            "was killed; then the same command with --resume takes it up. There is no model yet."
        )
    return ""


def seconds_text(run: Run) -> str:
    """Return the time of all steps."""
    return duration(sum(row.seconds for row in run.log))


def interval_text(figure: dict[str, float]) -> str:
    """Return the interval of a figure."""
    return f"{percent(figure['low'])} to {percent(figure['high'])}"
