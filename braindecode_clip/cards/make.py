"""The card of a result, from the artefacts that it was made of."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from braindecode_clip.artifacts import Predictions, VoxelSet
from braindecode_clip.cards.card import OWN_GALLERY, Card, parse_card
from braindecode_clip.checks import Problems

#: Parts of a fingerprint that say how vectors were made, not of what they are.
NOT_IDENTITY = ("libraries", "probe")
_SCORE_KEYS = (
    *("direction", "metric", "gallery", "n_gallery", "value", "ci_low", "ci_high", "ci_method"),
    *("confidence", "p", "n_permutations", "null_mean", "ceiling", "chance", "n", "n_unit"),
    *("resampled", "correction", "definition"),
)


def ids_digest(ids: Iterable[str]) -> str:
    """Return 16 hex digits over the distinct ids, sorted, one a line."""
    text = "\n".join(sorted({str(name) for name in ids}))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def fingerprint_digest(fingerprint: Mapping[str, Any]) -> str:
    """Return 16 hex digits over what identifies an encoder, without libraries and probe."""
    parts = {key: value for key, value in fingerprint.items() if key not in NOT_IDENTITY}
    text = json.dumps(parts, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def make_card(
    metrics: Mapping[str, Any],
    predictions: Predictions,
    voxels: VoxelSet,
    *,
    voxels_record: Mapping[str, Any],
    decoder_record: Mapping[str, Any],
    averaged_predictions: bool = False,
    dataset: str,
    files: Mapping[str, str],
) -> Card:
    """Put together the card of one subject, region, split, encoder, decoder and gallery.

    Parameters
    ----------
    metrics : mapping
        Content of the JSON that `evaluate` writes.
    predictions : Predictions
        As `decode` wrote them.
    voxels : VoxelSet
    voxels_record, decoder_record : mapping
        Provenance of the voxels and of the predictions.
    averaged_predictions : bool
        `retrieve` averaged the predictions of a stimulus.
    dataset : str
    files : mapping of str to str
        Names to paths relative to the card.

    Raises
    ------
    DataError
        Files that do not belong together, all problems at once.
    """
    rows = [*metrics["rows"], *(metrics.get("protocols") or [])]
    _check(rows, predictions, voxels)
    first, info = rows[0], predictions.info
    repeats, averaged = _repeats(predictions, averaged_predictions)
    runs = _runs(voxels_record)
    options = dict(decoder_record.get("options") or {})
    trained = predictions.train_ids.astype(str)
    tested = predictions.stimulus_id.astype(str)
    kept = [len(fold.voxel_index) for fold in voxels.folds]
    n_train = [len(fold.train.stimulus_id) for fold in voxels.folds]
    provenance = metrics.get("provenance") or {}
    labels = [f"subject {info['subject']}", first["roi"], f"split {first['split']}"]
    labels += [first["encoder"], first["decoder"], f"gallery {first['gallery']}"]
    steps = metrics.get("transductive")
    content = {
        "kind": "measured",
        "title": f"{dataset}: " + ", ".join(map(str, labels)),
        "data": {
            "dataset": dataset,
            "subjects": [str(info["subject"])],
            "n_sessions": len({session for session, _ in runs}) or None,
            "n_runs": len(runs) or None,
            "n_train_pictures": len(np.unique(trained)),
            "n_test_pictures": len(np.unique(tested)),
            "n_train_samples": round(float(np.mean(n_train))),
            "n_test_samples": int(first["n"]),
            "train_digest": ids_digest(trained),
            "test_digest": ids_digest(tested),
            "repeats": repeats,
            "averaged": averaged,
        },
        "voxels": {
            "roi": voxels.roi,
            "n_voxels": voxels.space.n_voxels,
            "n_kept": (min(kept), max(kept)),
            "options": (voxels_record.get("options") or {}).get("voxels") or {},
        },
        "encoder": {
            "name": str(info.get("encoder", "")),
            "digest": fingerprint_digest(predictions.fingerprint),
            "parts": {k: v for k, v in predictions.fingerprint.items() if k != "probe"},
        },
        "decoder": {
            "name": str(info["decoder"]),
            "kind": info.get("kind"),
            "calibration": info.get("calibration"),
            "options": options,
        },
        "split": {
            "name": voxels.split,
            "unit": voxels.unit,
            "n_folds": len(voxels.folds),
        },
        "scores": [_score(row) for row in rows],
        "pool_curve": [_point(point) for point in metrics.get("pool_curve") or []],
        "transductive": _transductive(info, rows) if steps is None else list(steps),
        "notes": list(metrics.get("notes") or []),
        "origin": {
            "version": provenance.get("version"),
            "code": {
                str(record["stage"]): str(record["code_digest"])
                for record in (voxels_record, decoder_record, provenance)
                if record.get("stage")
            },
            "seed": provenance.get("seed"),
            "files": dict(files),
        },
    }
    return parse_card(content, where="card")


def _check(rows: Any, predictions: Predictions, voxels: VoxelSet) -> None:
    problems = Problems("card: the files do not belong together")
    if not rows:
        problems.add("the metrics hold no rows. Pass the JSON that `evaluate` wrote.")
    for key in ("subject", "roi", "split", "encoder", "decoder"):
        said = {str(row.get(key)) for row in rows}
        own = str(predictions.info.get(key, ""))
        if said - {own}:
            problems.add(f"the metrics are of {key} {sorted(said)}, the predictions of '{own}'.")
    for key in ("subject", "roi", "split", "unit"):
        own = predictions.unit if key == "unit" else str(predictions.info.get(key, ""))
        if getattr(voxels, key) != own:
            problems.add(
                f"the voxels are of {key} '{getattr(voxels, key)}', the predictions of '{own}'."
            )
    problems.raise_if_any()


def _repeats(predictions: Predictions, averaged_predictions: bool) -> tuple[float, str]:
    shown = predictions.n_repeats
    if averaged_predictions:
        # Every query is the mean prediction of all rows of its stimulus.
        n_queries = len(np.unique(predictions.stimulus_id))
        return float(shown.sum() / n_queries), "predictions"
    return float(shown.mean()), "responses" if shown.max() > 1 else "none"


def _runs(record: Mapping[str, Any]) -> set[tuple[str, str]]:
    """Return (session, run's file) of every beta file that the voxels were made of."""
    names = [name for name in record.get("inputs") or {} if name.endswith("_betas.h5")]
    found = set()
    for name in names:
        session = re.search(r"_ses-([A-Za-z0-9]+)", name)
        found.add((session.group(1) if session else "", name))
    return found


def _transductive(info: Mapping[str, Any], rows: Any) -> list[str]:
    steps = []
    if info.get("calibration") == "transductive":
        steps.append("calibration of the predictions")
    corrections = {str(row["correction"]) for row in rows if row.get("correction")}
    steps += [f"correction {name}" for name in sorted(corrections) if "transductive" in name]
    return steps


def _score(row: Mapping[str, Any]) -> dict[str, Any]:
    protocol = row.get("protocol") or OWN_GALLERY
    return {"protocol": protocol} | {key: row[key] for key in _SCORE_KEYS if key in row}


def _point(point: Mapping[str, Any]) -> dict[str, Any]:
    return {key: point[key] for key in ("direction", "k", "pool_size", "value", "chance")}
