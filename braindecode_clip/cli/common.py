"""What all commands share: reading options, and options' help from the schema."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml

from braindecode_clip.config.base import Section, parse_section
from braindecode_clip.errors import ConfigError

SectionT = TypeVar("SectionT", bound=Section)


def read_options(source: str | None, cls: type[SectionT], *, flag: str = "--options") -> SectionT:
    """Read options from YAML or JSON text, or from a file with it.

    Parameters
    ----------
    source : str or None
        Text such as ``'method: lss'`` or ``'{"method": "lss"}'``, or a path. None or ""
        gives the defaults.
    cls : type of Section
        What to check it against.
    flag : str
        Named in messages.
    """
    mapping, where = read_mapping(source, flag=flag)
    return parse_section(cls, mapping, where=where)


def read_mapping(source: str | None, *, flag: str = "--options") -> tuple[dict[str, Any], str]:
    """Read a mapping from YAML or JSON text or a file; return it and its origin's name."""
    if not source:
        return {}, flag
    where, text = flag, source
    if _names_a_file(source):
        where, text = source, Path(source).read_text(encoding="utf-8")
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{where}: is no valid YAML or JSON: {error}") from error
    if content is None:
        content = {}
    if not isinstance(content, Mapping):
        raise ConfigError(
            f"{where}: got {content!r}, expected keys and values such as 'key: value', or the "
            "path of a YAML or JSON file."
        )
    return dict(content), where


def _names_a_file(source: str) -> bool:
    try:
        return Path(source).is_file()
    except OSError:
        # Longer than a file name may be, so it is the text itself.
        return False


def options_help(*sections: type[Section]) -> str:
    """Return a help text that lists every option with its default and meaning."""
    blocks = []
    for section in sections:
        lines = [f"Options ({section.__name__}), as YAML or JSON:"]
        for name, item in section.model_fields.items():
            if item.is_required():
                default = "required"
            else:
                default = f"default {item.get_default(call_default_factory=True)!r}"
            choices = [str(arg) for arg in get_args(item.annotation) if isinstance(arg, str)]
            chosen = f" one of {', '.join(choices)};" if choices else ""
            lines.append(
                f"  {name}: {item.description or ''} ({chosen.strip()} {default})".replace(
                    "( ", "("
                )
            )
        blocks.append("\n\n".join(lines))
    return "\n\n".join(blocks)
