"""Markdown of a model card: sections, lists and tables of plain text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def section(title: str, content: str | Sequence[str]) -> str:
    """Return a titled section of a text or a list; "" of nothing."""
    text = content if isinstance(content, str) else bullets(content)
    return f"## {title}\n\n{text}" if text else ""


def bullets(lines: Sequence[str]) -> str:
    """Return a list."""
    return "\n".join(f"- {plain(line)}" for line in lines)


def code(lines: Sequence[str]) -> str:
    """Return a block of Python."""
    return "\n".join(["```python", *lines, "```"])


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table."""
    head = [columns, ["---"] * len(columns)]
    return "\n".join(
        "| " + " | ".join(plain(text) for text in row) + " |" for row in [*head, *rows]
    )


def plain(text: str) -> str:
    """Keep a text in its cell or line: no breaks, no bars that part columns, no tags."""
    flat = " ".join(str(text).split())
    return flat.replace("|", "\\|").replace("<", "&lt;")


def cell(value: Any) -> str:
    """Return a text, or a whole number, as a cell."""
    return "" if value is None else value if isinstance(value, str) else count(value)


def count(n: float | None) -> str:
    """Return a whole number with thin blanks between thousands."""
    return "?" if n is None else f"{n:,}".replace(",", "\u202f")


def percent(share: float, *, digits: int = 1) -> str:
    """Return a share as percent."""
    return f"{100 * share:.{digits}f} %"
