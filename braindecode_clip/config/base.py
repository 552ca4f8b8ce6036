"""The base class of every config section, and readable messages for its mistakes."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from braindecode_clip.checks import Problems
from braindecode_clip.errors import ConfigError


class Section(BaseModel):
    """A group of options: frozen, and closed to unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


SectionT = TypeVar("SectionT", bound=Section)


def parse_section(cls: type[SectionT], options: Mapping[str, Any], *, where: str) -> SectionT:
    """Check ``options`` against a section and return it typed.

    Parameters
    ----------
    cls : type of Section
        The section.
    options : mapping
        Keys and values as read from YAML or JSON.
    where : str
        The file or the flag they come from; it heads the message.

    Raises
    ------
    ConfigError
        With every problem at once; an unknown key comes with the nearest known one.
    """
    try:
        return cls.model_validate(dict(options))
    except ValidationError as error:
        problems = Problems(where)
        for item in error.errors():
            problems.add(_explain(cls, item))
        problems.raise_if_any(ConfigError)
        raise


def _explain(cls: type[Section], item: Mapping[str, Any]) -> str:
    location = list(item["loc"])
    key = ".".join(str(part) for part in location)
    if item["type"] == "extra_forbidden":
        known = sorted(_keys_at(cls, location[:-1]))
        near = difflib.get_close_matches(str(location[-1]), known, n=1, cutoff=0.5)
        hint = f"Did you mean '{near[0]}'? " if near else ""
        return f"unknown key '{key}'. {hint}Known here: {', '.join(known)}."
    if item["type"] == "missing":
        return f"'{key}' is missing. Add it."
    got = item.get("input")
    return f"'{key}': got {got!r}; {item['msg'][0].lower()}{item['msg'][1:]}."


def _keys_at(cls: type[BaseModel], location: list[Any]) -> set[str]:
    """Return the keys known at a place of the config, list positions skipped."""
    models = [cls]
    for part in location:
        if isinstance(part, int):
            continue
        nested: list[type[BaseModel]] = []
        for model in models:
            field = model.model_fields.get(str(part))
            if field is not None:
                nested.extend(_models_in(field.annotation))
        # A part that names the branch of a tagged union is no field: stay where we are.
        models = nested or models
    return {(field.alias or name) for model in models for name, field in model.model_fields.items()}


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for arg in get_args(annotation) for model in _models_in(arg)]
