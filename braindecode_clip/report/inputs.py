"""Reading what the study left on disk."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from braindecode_clip.artifacts import Retrieval, VoxelSet
from braindecode_clip.checks import Problems, some
from braindecode_clip.config.study import StudyConfig
from braindecode_clip.constants import SCHEMA_VERSION
from braindecode_clip.errors import BraindecodeError, DataError
from braindecode_clip.io.hdf5 import load_artifact, read_provenance
from braindecode_clip.io.nifti import read_volume
from braindecode_clip.io.runs import read_map
from braindecode_clip.io.tables import read_json, read_tsv
from braindecode_clip.quality import RunQuality
from braindecode_clip.report.content import CONDITION, Counts, Inputs, VoxelMap
from braindecode_clip.spaces import VoxelSpace

LIST_KEYS = {
    "metrics",
    "retrievals",
    "reverse",
    "voxels",
    "maps",
    "backgrounds",
    "stimuli",
    "benchmarks",
    "decoders",
    "quality",
    "comparison",
    "bottleneck",
    "curves",
    "importance",
    "controls",
    "group",
    "surfaces",
    "audit",
}
#: Labels of a calibration curve, which stand in its file's name, and the columns that are read.
CURVE_LABELS = ("subject", "roi", "split", "encoder", "decoder")
CURVE_COLUMNS = ("decoder", "metric", "minutes", "value", "low", "high", "chance")
#: What a file of ``controls`` holds.
CONTROL_KEYS = ("provenance", "subject", "roi", "split", "encoder", "rows", "overlap")
CONTROL_KEYS += ("spectra", "verdicts")
MAP_KINDS = ("reliability", "noise_ceiling", "pattern")


def read_inputs(study: StudyConfig, listing: Mapping[str, Any], *, where: str) -> Inputs:
    """Read every file of the list; all that is missing or damaged in one message.

    Parameters
    ----------
    study : StudyConfig
    listing : mapping
        Keys metrics, retrievals, reverse, voxels, maps, backgrounds, stimuli, benchmarks,
        decoders, quality, comparison, bottleneck, curves, importance, surfaces, controls,
        group, audit; each but
        ``metrics`` may be absent or empty.
    where : str
        Where the list comes from; it heads messages.

    Raises
    ------
    DataError
        Naming every file at once.
    """
    reader = _Reader(Problems(where))
    unknown = sorted(set(listing) - LIST_KEYS)
    if unknown:
        reader.problems.add(f"unknown keys {unknown}; known are {sorted(LIST_KEYS)}.")
    if not listing.get("metrics"):
        reader.problems.add("'metrics' names no file. Run `evaluate` first.")
    metrics, pools, notes, statistics = reader.metrics(listing.get("metrics") or [])
    retrievals = reader.artifacts(listing.get("retrievals") or [], Retrieval)
    reverse = reader.artifacts(listing.get("reverse") or [], Retrieval)
    counts, voxel_maps = reader.voxel_sets(listing.get("voxels") or [])
    maps = reader.maps(listing.get("maps") or [])
    drawn = {(item.subject, item.roi, item.kind) for item in maps}
    maps += [item for item in voxel_maps if (item.subject, item.roi, item.kind) not in drawn]
    backgrounds = reader.backgrounds(listing.get("backgrounds") or {})
    quality = reader.artifacts(listing.get("quality") or [], RunQuality)
    stimuli = reader.stimuli(listing.get("stimuli"))
    decoding = {
        "comparison": reader.tables(filter(None, [listing.get("comparison")])),
        "bottleneck": reader.tables(listing.get("bottleneck") or []),
        "curves": reader.curves(listing.get("curves") or []),
        "importance": reader.tables(listing.get("importance") or []),
        "surface": reader.tables(listing.get("surfaces") or []),
    }
    controls = reader.controls(listing.get("controls") or [])
    group = reader.groups(listing.get("group") or [])
    audit = reader.audit(listing.get("audit"))
    jobs = reader.jobs(listing.get("benchmarks") or [])
    reader.provenance_of(listing.get("decoders") or [])
    reader.problems.raise_if_any()
    return Inputs(
        study=study,
        metrics=metrics,
        pools=pools,
        notes=notes,
        retrievals=retrievals,
        reverse=reverse,
        counts=counts,
        maps=maps,
        backgrounds=backgrounds,
        quality=quality,
        stimuli=stimuli,
        decoding=decoding,
        statistics=statistics,
        jobs=jobs,
        provenance=reader.records,
        controls=controls,
        group=group,
        protocols=pd.DataFrame(reader.protocols),
        fitted=pd.DataFrame(reader.fitted),
        audit=audit,
    )


class _Reader:
    """Reads files one after another, and notes problems instead of stopping at the first."""

    def __init__(self, problems: Problems) -> None:
        self.problems = problems
        self.records: list[dict[str, Any]] = []
        self.protocols: list[dict[str, Any]] = []
        self.fitted: list[dict[str, Any]] = []

    def _try(self, read: Any, path: str | Path) -> Any:
        try:
            return read(path)
        except BraindecodeError as error:
            self.problems.add(str(error))
            return None

    def metrics(
        self, paths: Iterable[str]
    ) -> tuple[pd.DataFrame, pd.DataFrame, list[str], dict[str, pd.DataFrame]]:
        rows: list[dict[str, Any]] = []
        pools: list[dict[str, Any]] = []
        notes: list[str] = []
        statistics: dict[str, list[dict[str, Any]]] = {"nulls": [], "power": [], "dimensions": []}
        for path in paths:
            content = self._try(_read_metrics, path)
            if content is None:
                continue
            labels = _shared_labels(content["rows"])
            rows += content["rows"]
            pools += [{**labels, **point} for point in content.get("pool_curve") or []]
            notes += content.get("notes") or []
            self.protocols += content.get("protocols") or []
            for name in ("nulls", "power"):
                statistics[name] += content.get(name) or []
            if content.get("dimensions"):
                statistics["dimensions"].append({**labels, **content["dimensions"]})
            self.fitted += content.get("fitted") or []
            self.records.append(_as_record(content.get("provenance") or {}))
        tables = {name: pd.DataFrame(part) for name, part in statistics.items()}
        return pd.DataFrame(rows), pd.DataFrame(pools), list(dict.fromkeys(notes)), tables

    def artifacts(self, paths: Iterable[str], cls: type) -> list[Any]:
        found = []
        for path in paths:
            artefact = self._try(lambda p: load_artifact(p, cls), path)
            if artefact is not None:
                found.append(artefact)
                self.records.append(read_provenance(path))
        return found

    def voxel_sets(self, paths: Iterable[str]) -> tuple[list[Counts], list[VoxelMap]]:
        """Keep the tables and the maps: the matrices of many subjects would not fit."""
        counts: list[Counts] = []
        maps: list[VoxelMap] = []
        for path in paths:
            artefact = self._try(lambda p: load_artifact(p, VoxelSet), path)
            if artefact is None:
                continue
            self.records.append(read_provenance(path))
            counts.append(_count(artefact))
            for kind in ("reliability", "noise_ceiling"):
                values, space = getattr(artefact, kind), artefact.space
                if space.is_volume:
                    values = space.to_volume(values, fill=np.nan)
                maps.append(
                    VoxelMap(
                        artefact.subject,
                        artefact.roi,
                        kind,
                        values,
                        space.affine,
                        space=None if space.is_volume else space,
                    )
                )
        return counts, maps

    def maps(self, items: Iterable[Mapping[str, str]]) -> list[VoxelMap]:
        found = []
        for item in items:
            lacking = [key for key in ("subject", "roi", "kind", "path") if key not in item]
            if lacking or item["kind"] not in MAP_KINDS:
                self.problems.add(
                    f"map {dict(item)}: expected subject, roi, path and a kind of {MAP_KINDS}."
                )
                continue
            found_map = self._try(read_map, item["path"])
            if found_map is None:
                continue
            values, where = found_map
            space = where if isinstance(where, VoxelSpace) else None
            if space is None and not np.isnan(values).any():
                # A map of another program holds zero outside its region, ours NaN.
                values = np.where(values == 0, np.float32(np.nan), values)
            labels = {key: str(item[key]) for key in ("split", "encoder", "decoder") if key in item}
            found.append(
                VoxelMap(
                    str(item["subject"]),
                    item["roi"],
                    item["kind"],
                    values,
                    where if space is None else space.affine,
                    labels,
                    space,
                )
            )
        return found

    def backgrounds(self, paths: Mapping[str, str | None]) -> dict[str, Any]:
        volumes = {s: self._try(read_volume, path) for s, path in paths.items() if path}
        return {str(subject): volume for subject, volume in volumes.items() if volume is not None}

    def stimuli(self, path: str | None) -> pd.DataFrame:
        empty = pd.DataFrame({"stimulus_id": [], "image": [], "caption": []}, dtype=object)
        if not path:
            return empty
        table = self._try(
            lambda p: read_tsv(
                p, required=["stimulus_id"], text=["stimulus_id", "image", "caption"]
            ),
            path,
        )
        if table is None:
            return empty
        table = table.reindex(columns=["stimulus_id", "image", "caption"]).fillna("").astype(str)
        folder = Path(path).parent
        table["image"] = [str(folder / image) if image else "" for image in table["image"]]
        return table

    def tables(self, paths: Iterable[str]) -> pd.DataFrame:
        text = ["subject", "roi", "split", "encoder", "decoder", "gallery", "left_out"]
        found = [self._try(lambda p: read_tsv(p, text=text), path) for path in paths]
        known = [table for table in found if table is not None]
        return pd.concat(known, ignore_index=True) if known else pd.DataFrame()

    def curves(self, items: Iterable[Mapping[str, str]]) -> pd.DataFrame:
        """Read calibration curves, with the labels of their files beside their columns."""
        found = []
        for item in items:
            lacking = [key for key in (*CURVE_LABELS, "path") if key not in item]
            if lacking:
                self.problems.add(f"curve {dict(item)}: {some(lacking)} missing.")
                continue
            table = self._try(
                lambda p: read_tsv(p, required=CURVE_COLUMNS, text=["decoder", "metric"]),
                item["path"],
            )
            if table is not None:
                # "decoder" in the table is what a row scores: alone, or with help by "fitted".
                own = {key: str(item[key]) for key in CURVE_LABELS if key != "decoder"}
                found.append(table.assign(**own, fitted=str(item["decoder"])))
        return pd.concat(found, ignore_index=True) if found else pd.DataFrame()

    def controls(self, paths: Iterable[str]) -> list[dict[str, Any]]:
        found = []
        for path in paths:
            content = self._try(read_json, path)
            if content is None:
                continue
            lacking = [key for key in CONTROL_KEYS if key not in content]
            if lacking:
                self.problems.add(f"{path}: lacks {some(lacking)}. Re-run `controls`.")
                continue
            found.append(content)
            self.records.append(_as_record(content["provenance"]))
        return found

    def groups(self, paths: Iterable[str]) -> dict[str, pd.DataFrame]:
        """Read what all subjects together gave."""
        found: dict[str, list[Any]] = {"rows": [], "pairs": [], "notes": []}
        for path in paths:
            content = self._try(lambda p: _read_metrics(p, stage="group"), path)
            if content is None:
                continue
            for name in ("rows", "pairs"):
                found[name] += content.get(name) or []
            found["notes"] += [{"note": note} for note in content.get("notes") or []]
            self.records.append(_as_record(content.get("provenance") or {}))
        return {name: pd.DataFrame(rows) for name, rows in found.items()}

    def audit(self, path: str | None) -> dict[str, Any]:
        """Read whether adapting an encoder helped; nothing without adapted encoders."""
        content = self._try(lambda p: _read_metrics(p, stage="audit"), path) if path else None
        if content is None:
            return {}
        self.records.append(_as_record(content.get("provenance") or {}))
        return content

    def jobs(self, paths: Iterable[str]) -> pd.DataFrame:
        rows = []
        for path in paths:
            table = self._try(lambda p: read_tsv(p, required=["s", "max_rss"]), path)
            if table is None or not len(table):
                continue
            numbers = table.apply(pd.to_numeric, errors="coerce")
            rule, job = _rule_of(Path(path))
            rows.append(
                {
                    "rule": rule,
                    "job": job,
                    "seconds": float(numbers["s"].mean()),
                    "cpu_s": float(numbers["cpu_time"].mean()) if "cpu_time" in numbers else np.nan,
                    "max_mb": float(numbers["max_rss"].max()),
                }
            )
        return pd.DataFrame(rows, columns=["rule", "job", "seconds", "cpu_s", "max_mb"])

    def provenance_of(self, paths: Iterable[str]) -> None:
        for path in paths:
            record = self._try(read_provenance, path)
            if record is not None:
                self.records.append(record)


def _read_metrics(path: str | Path, *, stage: str = "evaluate") -> dict[str, Any]:
    content = read_json(path)
    if not isinstance(content, dict) or not isinstance(content.get("rows"), list):
        raise DataError(f"{path}: holds no metrics. Expected the JSON that `{stage}` writes.")
    version = content.get("schema_version")
    if version != SCHEMA_VERSION:
        raise DataError(
            f"{path}: written with schema version {version}, this version reads "
            f"{SCHEMA_VERSION}. Re-run `{stage}`."
        )
    return content


def _as_record(provenance: Any) -> dict[str, Any]:
    return dict(provenance) if isinstance(provenance, Mapping) else {}


def _shared_labels(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the labels that all rows of one file share: they hold for its pool curve too."""
    first = rows[0] if rows else {}
    return {
        key: first[key]
        for key in CONDITION
        if key in first and all(row.get(key) == first[key] for row in rows)
    }


def _count(voxels: VoxelSet) -> Counts:
    return Counts(
        subject=voxels.subject,
        roi=voxels.roi,
        split=voxels.split,
        unit=voxels.unit,
        n_folds=len(voxels.folds),
        n_voxels=voxels.space.n_voxels,
        n_kept=tuple(len(fold.voxel_index) for fold in voxels.folds),
        n_train=tuple(len(fold.train.stimulus_id) for fold in voxels.folds),
        n_test=tuple(len(fold.test.stimulus_id) for fold in voxels.folds),
        table=voxels.table,
    )


def _rule_of(path: Path) -> tuple[str, str]:
    """Return rule and job of ``benchmarks/<rule>/.../<wildcards>.tsv`` or ``<rule>.tsv``."""
    parts = list(path.with_suffix("").parts)
    if "benchmarks" in parts[:-1]:
        below = parts[len(parts) - parts[::-1].index("benchmarks") :]
        return below[0], "/".join(below[1:])
    return (*path.stem.split("_", 1), "")[:2]  # type: ignore[return-value]
