"""Figures of evaluations beside a model, whatever command wrote them, as parts of its card."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from braindecode_clip.clip.card_markdown import bullets, count, section, table
from braindecode_clip.clip.models import CONFIG_FILE
from braindecode_clip.clip.run_files import DATA_FILE, RUN_FILE, read_json_object
from braindecode_clip.clip.tokenizers import VOCABULARY_FILE

#: JSON of the model itself, not of an evaluation.
_OWN_FILES = {RUN_FILE, DATA_FILE, CONFIG_FILE, VOCABULARY_FILE}
_OTHER_FILES = re.compile(r"(tokenizer.*|vocab.*|config.*|special_tokens_map|added_tokens)\.json")
_MOST_ROWS, _LONGEST_LIST, _LONGEST_TEXT = 60, 20, 60


def evaluation_sections(folder: Path) -> list[str]:
    """Return a section for every JSON file of figures, whatever command wrote it."""
    sections = []
    for path in sorted(folder.glob("*.json")):
        if path.name in _OWN_FILES or _OTHER_FILES.fullmatch(path.name):
            continue
        content = read_json_object(path)
        blocks = list(_blocks(content, ""))
        if blocks:
            sections.append(section(f"From `{path.name}`", "\n\n".join(blocks)))
    return sections


def _blocks(content: dict[str, Any], where: str) -> Iterable[str]:
    """Yield tables of an object's numbers; nested objects with their path."""
    rows = [
        [path, ", ".join(f"{key} {value}" for key, value in scalars)]
        for path, scalars in _numbers(content, where)
    ]
    if rows:
        left_out = len(rows) - _MOST_ROWS
        yield table(["part", "figures"], rows[:_MOST_ROWS])
        if left_out > 0:
            yield f"{count(left_out)} more parts are in the file."
    for path, items in _lists_of_objects(content, where):
        columns = list(dict.fromkeys(key for item in items for key, _ in _scalars(item)))
        body = [[dict(_scalars(item)).get(key, "") for key in columns] for item in items]
        yield f"{path}:\n\n{table(columns, body[:_MOST_ROWS])}"
    texts = [f"{name}: {text}" for name, text in _definitions(content)]
    if texts:
        yield bullets(texts)


def _numbers(content: dict[str, Any], where: str) -> Iterable[tuple[str, list[tuple[str, str]]]]:
    own = _scalars(content)
    if any(_is_number(content[key]) for key, _ in own):
        yield where or "(file)", own
    for key, value in content.items():
        if isinstance(value, dict) and key not in ("definitions", "model"):
            yield from _numbers(value, f"{where} / {key}" if where else key)


def _lists_of_objects(content: dict[str, Any], where: str) -> Iterable[tuple[str, list[dict]]]:
    for key, value in content.items():
        path = f"{where} / {key}" if where else key
        if isinstance(value, dict):
            yield from _lists_of_objects(value, path)
        elif _is_list_of(value, dict) and any(map(_scalars, value)):
            yield path, value


def _definitions(content: dict[str, Any]) -> Iterable[tuple[str, str]]:
    found: dict[str, str] = {}
    for key, value in content.items():
        if isinstance(value, dict):
            own = value if key == "definitions" else dict(_definitions(value))
            found |= {name: text for name, text in own.items() if isinstance(text, str)}
    yield from found.items()


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
