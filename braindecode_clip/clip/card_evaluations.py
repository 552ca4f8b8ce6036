"""Figures of evaluations beside a model, whatever command wrote them, as parts of its card."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from braindecode_clip.clip.card_markdown import bullets, count, plain, section, table
from braindecode_clip.clip.models import CONFIG_FILE
from braindecode_clip.clip.run_files import DATA_FILE, RUN_FILE, read_json_object
from braindecode_clip.clip.tokenizers import VOCABULARY_FILE

#: JSON of the model itself, not of an evaluation.
_OWN_FILES = {RUN_FILE, DATA_FILE, CONFIG_FILE, VOCABULARY_FILE}
_OTHER_FILES = re.compile(r"(tokenizer.*|vocab.*|config.*|special_tokens_map|added_tokens)\.json")
_MOST_ROWS, _LONGEST_LIST, _LONGEST_TEXT = 120, 20, 60


@dataclass(frozen=True)
class _Table:
    title: str
    columns: list[str]
    rows: list[list[str]]


def evaluation_sections(folder: Path) -> list[str]:
    """Return a section for every JSON file of figures, whatever command wrote it.

    Objects of numbers become rows, siblings with a ``value`` and lists of objects become tables,
    and ``definitions`` are listed. Records of models (objects with ``weights_sha256``) and texts
    that may be paths are left out.
    """
    sections = []
    for path in sorted(folder.glob("*.json")):
        if path.name in _OWN_FILES or _OTHER_FILES.fullmatch(path.name):
            continue
        content = read_json_object(path)
        blocks = _shortened(_tables(content))
        texts = [f"{name}: {text}" for name, text in _definitions(content).items()]
        if blocks:
            blocks += [bullets(texts)] if texts else []
            sections.append(section(f"From `{path.name}`", "\n\n".join(blocks)))
    return sections


def _shortened(tables: Sequence[_Table]) -> list[str]:
    """Write tables until a card is long enough, and count what is left out."""
    blocks, n_left = [], _MOST_ROWS
    for own in tables:
        rows = own.rows[:n_left]
        n_left -= len(rows)
        if rows:
            title = f"{plain(own.title)}:\n\n" if own.title else ""
            blocks.append(f"{title}{table(own.columns, rows)}")
    n_out = sum(len(own.rows) for own in tables) - (_MOST_ROWS - n_left)
    return blocks + ([f"{count(n_out)} more rows are in the file."] if n_out else [])


def _tables(content: dict[str, Any]) -> list[_Table]:
    """Return the numbers of an object as tables: single ones, then scores, then lists."""
    single, figures, lists = [], [], []
    for path, item in _objects(content, ""):
        own = _scalars(item)
        if _has_number(item):
            said = ", ".join(f"{key} {value}" for key, value in own)
            single.append([path or "(file)", said])
        named = {key: value for key, value in item.items() if _is_figure(value)}
        if named:
            figures.append(_table_of(path, "score", named))
        for key, value in item.items():
            # Lists without a number name pictures or captions, which a card is not for.
            if _is_list_of(value, dict) and any(map(_has_number, value)):
                rows = {str(k): entry for k, entry in enumerate(value)}
                lists.append(_table_of(_joined(path, key), "", rows))
    return [_Table("", ["part", "figures"], single), *figures, *lists]


def _table_of(title: str, head: str, rows: dict[str, dict[str, Any]]) -> _Table:
    texts = {name: dict(_scalars(row)) for name, row in rows.items()}
    columns = list(dict.fromkeys(key for row in texts.values() for key in row))
    body = [
        [*([name] if head else []), *(row.get(column, "") for column in columns)]
        for name, row in texts.items()
    ]
    return _Table(title, [*([head] if head else []), *columns], body)


def _objects(content: dict[str, Any], where: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield an object and those in it, but for single figures and records of models."""
    yield where, content
    for key, value in content.items():
        if not isinstance(value, dict) or key == "definitions" or _is_figure(value):
            continue
        if "weights_sha256" not in value:
            yield from _objects(value, _joined(where, key))


def _has_number(item: dict[str, Any]) -> bool:
    return any(map(_is_number, item.values()))


def _is_figure(value: Any) -> bool:
    return isinstance(value, dict) and _is_number(value.get("value"))


def _joined(where: str, key: str) -> str:
    return f"{where} / {key}" if where else key


def _definitions(content: dict[str, Any]) -> dict[str, str]:
    found: dict[str, str] = {}
    for _, item in _objects(content, ""):
        own = item.get("definitions")
        if isinstance(own, dict):
            found |= {name: text for name, text in own.items() if isinstance(text, str)}
    return found


def _scalars(item: dict[str, Any]) -> list[tuple[str, str]]:
    """Return numbers and short words of an object; paths of a machine are left out."""
    found = []
    for key, value in item.items():
        if _is_number(value):
            found.append((key, f"{value:.4g}" if isinstance(value, float) else str(value)))
        elif isinstance(value, bool):
            found.append((key, str(value).lower()))
        elif isinstance(value, str) and _is_short_word(value):
            found.append((key, value))
        elif _is_list_of(value, int | float) and len(value) <= _LONGEST_LIST:
            numbers = ", ".join(f"{v:.4g}" for v in value)
            found.append((key, f"[{numbers}]"))
    return found


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_list_of(value: Any, kind: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(v, kind) for v in value)


def _is_short_word(text: str) -> bool:
    """Tell whether a text is neither prose nor a path."""
    return len(text) <= _LONGEST_TEXT and not re.search(r"[\\/\n]", text)
