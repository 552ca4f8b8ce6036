"""Pairs from tar shards in webdataset's layout: ``key.jpg`` beside ``key.txt`` or ``key.json``."""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from braindecode_clip.checks import Problems, some
from braindecode_clip.errors import DataError
from braindecode_clip.io.pair_source import (
    PICTURE_ENDINGS,
    PairSource,
    clean_captions,
    empty_note,
    strings_of,
)

_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)$")
_CAPTION_KEYS = ("caption", "captions", "text", "texts")
_FACTS = ("label", "group", "split")


@dataclass
class _Sample:
    """What a key has gathered: where its picture lies, and its texts."""

    picture: tuple[Path, int, int] | None = None
    captions: list[str] = field(default_factory=list)
    facts: dict[str, str] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)


def expand_braces(pattern: str) -> list[str]:
    """Write out ``{000..012}`` (zeros kept) and ``{a,b}`` of a pattern, left to right.

    Examples
    --------
    >>> expand_braces("shard-{08..10}.tar")
    ['shard-08.tar', 'shard-09.tar', 'shard-10.tar']
    """
    match = _BRACES.search(pattern)
    if match is None:
        return [pattern]
    span = _RANGE.match(match[1])
    if span:
        first, last = int(span[1]), int(span[2])
        inner = [f"{k:0{len(span[1])}d}" for k in range(first, last + 1)]
    else:
        inner = match[1].split(",")
    head, tail = pattern[: match.start()], pattern[match.end() :]
    return [text for part in inner for text in expand_braces(head + part + tail)]


def shard_paths(path: Path) -> list[Path]:
    """Return the shards that a path names: a file, a brace pattern, or a folder of ``.tar``."""
    if path.is_dir():
        return sorted(path.glob("*.tar"))
    return [Path(text) for text in expand_braces(str(path))]


def read_tars(path: Path) -> PairSource:
    """Index the shards that ``path`` names; pictures are read at their place when asked for.

    A key is a member's name up to the first dot of its last part. Captions are the lines of
    ``key.txt``, and ``caption``, ``captions``, ``text`` or ``texts`` (a text or a list) of
    ``key.json``, which may also hold ``label``, ``group`` and ``split``. Of a key that stands
    twice the first is taken, and the number of others is noted.

    Raises
    ------
    DataError
        Missing, compressed or damaged shards, texts that are not UTF-8 or JSON, no pictures;
        all at once.
    """
    shards = shard_paths(path)
    problems = Problems(str(path))
    missing = [str(shard) for shard in shards if not shard.is_file()]
    if missing:
        problems.add(f"{len(missing)} of {len(shards)} shards are missing: {some(missing)}.")
    problems.raise_if_any()
    samples: dict[str, _Sample] = {}
    repeated: set[str] = set()
    for shard in shards:
        _index(shard, samples, repeated, problems)
    problems.raise_if_any()
    keys = tuple(key for key, sample in samples.items() if sample.picture is not None)
    if not keys:
        raise DataError(f"{path}: no pictures ({', '.join(PICTURE_ENDINGS)}) in the shards.")
    kept = [samples[key] for key in keys]
    captions, n_empty = clean_captions(sample.captions for sample in kept)
    notes = empty_note(n_empty)
    if repeated:
        notes += (
            f"{len(repeated)} keys stand twice, the first is taken: {some(sorted(repeated))}",
        )
    if len(keys) < len(samples):
        lonely = [key for key, sample in samples.items() if sample.picture is None]
        notes += (f"{len(lonely)} keys have no picture: {some(lonely)}",)
    places = [sample.picture for sample in kept]
    return PairSource(
        where=str(path),
        kind="tar",
        names=keys,
        captions=captions,
        read=lambda row: _bytes_at(*places[row]),
        sizes=np.array([size for _, _, size in places], dtype=np.int64),
        notes=notes,
        **{f"{name}s": _fact(kept, name) for name in _FACTS},
    )


def _index(
    shard: Path, samples: dict[str, _Sample], repeated: set[str], problems: Problems
) -> None:
    own: set[str] = set()
    try:
        with tarfile.open(shard, "r:") as archive:
            for member in archive:
                if not member.isfile():
                    continue
                folder, _, base = member.name.rpartition("/")
                stem, _, ending = base.partition(".")
                key = f"{folder}/{stem}" if folder else stem
                if not stem:
                    continue
                sample = samples.setdefault(key, _Sample())
                # The same key in a later shard, or a second picture or text of it in this one.
                is_picture = "." + ending.lower() in PICTURE_ENDINGS
                part = "picture" if is_picture else ending.lower()
                if part in sample.seen or (sample.seen and key not in own):
                    repeated.add(key)
                    continue
                sample.seen.add(part)
                own.add(key)
                if is_picture:
                    sample.picture = (shard, member.offset_data, member.size)
                elif part in ("txt", "json"):
                    text = archive.extractfile(member).read()
                    _take_text(sample, text, part, where=f"{shard}: {member.name}", into=problems)
    except tarfile.TarError as error:
        problems.add(
            f"{shard} is no whole, uncompressed tar ({error}). Fetch it again, or unpack what "
            "compresses it."
        )
    except OSError as error:
        problems.add(f"{shard} cannot be read ({error.strerror or error}).")


def _take_text(sample: _Sample, content: bytes, kind: str, *, where: str, into: Problems) -> None:
    try:
        text = content.decode("utf-8-sig")
        record: Any = json.loads(text) if kind == "json" else None
    except UnicodeDecodeError as error:
        into.add(f"{where} is no text in UTF-8 ({error}).")
        return
    except ValueError as error:
        into.add(f"{where} is no valid JSON ({error}).")
        return
    if kind == "txt":
        sample.captions.extend(text.splitlines() or [""])
    elif not isinstance(record, dict):
        into.add(f"{where} holds {type(record).__name__}, expected keys and values.")
    else:
        for name in _CAPTION_KEYS:
            sample.captions.extend(strings_of(record.get(name)))
        for name in _FACTS:
            if record.get(name) is not None:
                sample.facts[name] = str(record[name])


def _fact(samples: Iterable[_Sample], name: str) -> tuple[str, ...] | None:
    values = tuple(sample.facts.get(name, "") for sample in samples)
    return values if any(values) else None


def _bytes_at(path: Path, start: int, size: int) -> bytes:
    try:
        with path.open("rb") as stream:
            stream.seek(start)
            return stream.read(size)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from error
