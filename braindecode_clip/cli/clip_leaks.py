"""Test stimuli and held-out pairs among training pairs; used by ``clip train``."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from braindecode_clip.errors import ConfigError, DataError, LeakageError

if TYPE_CHECKING:
    from braindecode_clip.clip.overlap import Looks, Overlap
    from braindecode_clip.io.pair_source import PairSource

#: The record in a model's folder.
LEAKAGE_FILE = "leakage.json"
POLICIES = ("error", "warn", "ignore")
#: Names that a record lists of each kind; counts are of all.
_LISTED = 50


@dataclass(frozen=True)
class Forbidden:
    """The test stimuli of a study.

    Attributes
    ----------
    where : str
        The table.
    looks : Looks
        Named by stimulus id.
    captions : tuple of tuple of str
        Of each stimulus; empty where the table has none.
    """

    where: str
    looks: Looks
    captions: tuple[tuple[str, ...], ...]


def read_forbidden(path: Path, *, split: str | None, n_workers: int) -> Forbidden:
    """Read the stimuli that must not be trained on.

    Parameters
    ----------
    path : Path
        Table of a study's stimuli: stimulus_id, image (path beside the table), and captions in
        columns whose names begin with "caption".
    split : str, optional
        Only the rows with this value in the column "split".
    n_workers : int

    Raises
    ------
    DataError
        No such rows, or pictures that cannot be read: what was not seen cannot be ruled out.
    """
    from braindecode_clip.checks import Problems
    from braindecode_clip.io.pair_source import PairSource, file_sizes, read_files
    from braindecode_clip.io.tables import read_tsv

    needed = ["stimulus_id", "image", *(["split"] if split else [])]
    table = read_tsv(path, required=needed, text=needed)
    if split is not None:
        table = table[table["split"] == split]
    if not len(table):
        raise DataError(f"{path}: no stimuli{f' of split {split}' if split else ''}.")
    columns = [name for name in table.columns if str(name).startswith("caption")]
    captions = tuple(
        tuple(str(row[name]) for name in columns if isinstance(row[name], str))
        for _, row in table.iterrows()
    )
    files = [path.parent / str(name) for name in table["image"]]
    source = PairSource(
        where=str(path),
        kind="table",
        names=tuple(table["stimulus_id"].astype(str)),
        captions=captions,
        read=read_files(files),
        sizes=file_sizes(files),
    )
    looks, errors = read_looks(source, n_workers=n_workers)
    problems = Problems(f"{path}, test stimuli")
    for name, error in errors.items():
        problems.add(f"{name}: {error}. Restore it: what cannot be read cannot be ruled out.")
    problems.raise_if_any()
    return Forbidden(str(path), looks, captions)


def read_looks(source: PairSource, *, n_workers: int) -> tuple[Looks, dict[str, str]]:
    """Look at every picture of a source once; return what was seen, and why some were not."""
    import numpy as np
    from PIL import Image

    from braindecode_clip.clip.overlap import DETAIL_GRID, N_CELLS, Looks, look_at
    from braindecode_clip.io.images import decode_rgb

    nothing = (np.full(n, np.nan, dtype=np.float32) for n in (N_CELLS, DETAIL_GRID**2))
    unknown = ("", *nothing)
    errors: dict[str, str] = {}

    def look(row: int) -> tuple[str, str, np.ndarray, np.ndarray]:
        file = ""
        try:
            if source.pixels is not None:
                content = np.ascontiguousarray(source.pixels[row])
                picture = Image.fromarray(content)
                file = hashlib.sha256(content.tobytes()).hexdigest()
            else:
                content = source.read(row)
                file = hashlib.sha256(content).hexdigest()
                picture = decode_rgb(content)
            return (file, *look_at(picture))
        except DataError as error:
            errors[source.names[row]] = str(error)
            return (file, *unknown)

    with ThreadPoolExecutor(max(n_workers, 1)) as pool:
        found = list(pool.map(look, range(len(source))))
    files, pixels, cells, details = zip(*found, strict=True)
    looks = Looks(tuple(source.names), files, pixels, np.stack(cells), np.stack(details))
    return looks, errors


def check_leaks(
    sources: Sequence[PairSource],
    *,
    forbid: Path | None,
    forbid_split: str | None,
    captions: str,
    is_separate: bool,
    n_workers: int,
) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """Refuse test stimuli among the pairs; count what training and held-out pairs share.

    Parameters
    ----------
    sources : (PairSource, PairSource)
        Training and held-out pairs.
    forbid : path, optional
        Table of the stimuli that must not be among either.
    forbid_split : str, optional
        Only those of this split.
    captions : {"error", "warn", "ignore"}
        What to do about captions that a test stimulus has too.
    is_separate : bool
        Whether the held-out pairs come from elsewhere than the training pairs, so that nobody has
        taken care that they share no picture.
    n_workers : int

    Returns
    -------
    dict or None
        What was looked for among the pairs: the content of ``leakage.json``.
    dict or None
        What the two share: for ``data.json``.

    Raises
    ------
    LeakageError
        Pairs are test stimuli; names them all, up to a number.
    """
    from braindecode_clip.checks import Problems
    from braindecode_clip.clip.overlap import overlap

    if captions not in POLICIES:
        raise ConfigError(f"--forbid-captions '{captions}' is unknown. Use {', '.join(POLICIES)}.")
    if forbid is None and not is_separate:
        return None, None
    parts = dict(zip(("training", "validation"), sources, strict=True))
    looks = {name: read_looks(part, n_workers=n_workers)[0] for name, part in parts.items()}
    shared = None
    if is_separate:
        found = overlap(looks["training"], looks["validation"])
        shared = _counts(found, looks["training"], looks["validation"])
        _warn_of_shared(found, parts, looks)
    if forbid is None:
        return None, shared
    test = read_forbidden(forbid, split=forbid_split, n_workers=n_workers)
    problems = Problems("clip train: pairs that are test stimuli")
    record: dict[str, Any] = {
        "test": {
            "table": Path(test.where).name,
            "split": forbid_split,
            "n_stimuli": len(test.looks),
            "sha256": test.looks.digest(),
            "pixels_sha256": sorted(test.looks.pixels),
        },
        "thresholds": _thresholds(),
        "test_captions": captions,
    }
    for name, part in parts.items():
        found = overlap(looks[name], test.looks)
        _add_shared(problems, found, part, looks[name], test)
        record[name] = {
            "source": Path(part.where).name,
            "n_pairs": len(part),
            "n_unreadable": int((~looks[name].is_known).sum()),
            "sha256": looks[name].digest(),
            **_counts(found, looks[name], test.looks),
            **_captions(problems, part, test, captions),
        }
    problems.raise_if_any(LeakageError)
    return record, shared


def write_leakage(folder: Path, record: dict[str, Any] | None) -> None:
    """Write what was looked for into a model's folder, with the hash of the model's weights.

    Without a record, one that an earlier model left there is taken away.
    """
    from braindecode_clip.clip.models import WEIGHTS_FILE
    from braindecode_clip.constants import SCHEMA_VERSION
    from braindecode_clip.io.atomic import write_json
    from braindecode_clip.provenance import file_sha256

    if record is None:
        (folder / LEAKAGE_FILE).unlink(missing_ok=True)
        return
    about = {
        "schema_version": SCHEMA_VERSION,
        "weights_sha256": file_sha256(folder / WEIGHTS_FILE),
    }
    write_json(folder / LEAKAGE_FILE, about | record)


def _thresholds() -> dict[str, float]:
    from braindecode_clip.clip.overlap import MAX_DIFFERENCE, MIN_CORRELATION, MIN_LOCAL

    return {
        "max_difference_grey_levels": MAX_DIFFERENCE,
        "min_correlation": MIN_CORRELATION,
        "min_local_correlation": MIN_LOCAL,
    }


def _counts(found: Overlap, first: Looks, second: Looks) -> dict[str, Any]:
    """Return what two collections share, as numbers and with the first names of each kind."""
    import numpy as np

    kinds = {**found.shared, "mirrored": found.mirrored}
    finite = found.nearest[np.isfinite(found.nearest)]
    return {
        "n_shared": {
            kind.replace(" ", "_"): len({j for _, j in pairs}) for kind, pairs in kinds.items()
        },
        "shared": [
            {"pair": first.names[i], "other": second.names[j], "found_as": kind}
            for kind, pairs in kinds.items()
            for i, j in pairs[:_LISTED]
        ],
        # Largest difference of a cell, of the most similar picture.
        "nearest_grey_levels": float(finite.min()) if len(finite) else None,
    }


def _add_shared(
    problems: Any, found: Overlap, part: PairSource, looks: Looks, test: Forbidden
) -> None:
    from braindecode_clip.checks import some
    from braindecode_clip.logs import get_logger

    for kind, pairs in found.shared.items():
        if pairs:
            named = [f"{looks.names[i]} = {test.looks.names[j]}" for i, j in pairs]
            problems.add(
                f"{part.where}: {len({i for i, _ in pairs})} pictures are test stimuli of "
                f"{test.where} ({kind}): {some(named, limit=10)}. Take them out of the pairs: a "
                "model that has seen a test picture cannot be judged on it."
            )
    if found.mirrored:
        named = [f"{looks.names[i]} ~ {test.looks.names[j]}" for i, j in found.mirrored]
        get_logger(__name__).warning(
            "%s: %d pictures look like a test stimulus turned left to right: %s. Take them out if "
            "they are the same picture.",
            part.where,
            len({i for i, _ in found.mirrored}),
            some(named, limit=10),
        )


def _captions(problems: Any, part: PairSource, test: Forbidden, policy: str) -> dict[str, Any]:
    from braindecode_clip.checks import some
    from braindecode_clip.clip.overlap import normalised_caption, shared_captions
    from braindecode_clip.logs import get_logger

    if policy == "ignore" or not any(test.captions):
        return {"n_shared_captions": None}
    shared = shared_captions(part.captions, test.captions)
    if not shared:
        return {"n_shared_captions": 0}
    both = set(shared)
    rows = [
        name
        for name, own in zip(test.looks.names, test.captions, strict=True)
        if any(normalised_caption(text) in both for text in own)
    ]
    if policy == "error":
        problems.add(
            f"{part.where}: {len(shared)} captions are those of test stimuli of {test.where}: "
            f"{some(shared, limit=5)} (stimuli {some(rows, limit=5)}). Take them out, or set "
            "--forbid-captions warn where short captions recur by right."
        )
    else:
        get_logger(__name__).warning(
            "%s: %d captions are word by word those of %d of %d test stimuli: %s",
            part.where,
            len(shared),
            len(rows),
            len(test.looks),
            some(shared, limit=5),
        )
    return {
        "n_shared_captions": len(shared),
        "n_test_stimuli_with_them": len(rows),
        "shared_captions": shared[:_LISTED],
    }


def _warn_of_shared(found: Overlap, parts: dict[str, PairSource], looks: dict[str, Looks]) -> None:
    from braindecode_clip.checks import some
    from braindecode_clip.logs import get_logger

    for kind, pairs in found.shared.items():
        if pairs:
            named = [
                f"{looks['training'].names[i]} = {looks['validation'].names[j]}" for i, j in pairs
            ]
            get_logger(__name__).warning(
                "%d of %d held-out pictures of %s are among the training pictures of %s (%s), so "
                "held-out scores are too good: %s. Take them out of one.",
                len({j for _, j in pairs}),
                len(parts["validation"]),
                parts["validation"].where,
                parts["training"].where,
                kind,
                some(named, limit=5),
            )
