"""The option tables of ``config/README.md``, generated from the typed config."""

from __future__ import annotations

from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel

from braindecode_clip.config.study import StudyConfig

HEADER = """# Options of a study

Made by `make schema` from the typed config (`braindecode_clip/config/`); edit it there.
Unknown keys are refused. `braindecode-clip config check FILE` checks a file.
"""


def document_study() -> str:
    """Return one Markdown table for each section of :class:`StudyConfig`."""
    blocks = [HEADER]
    queue: list[tuple[str, type[BaseModel]]] = [("study", StudyConfig)]
    seen: set[type[BaseModel]] = set()
    while queue:
        title, model = queue.pop(0)
        if model in seen:
            continue
        seen.add(model)
        intro = (model.__doc__ or "").strip().splitlines()[0]
        lines = [
            f"## {title}",
            "",
            intro,
            "",
            "| key | type | default | meaning |",
            "|---|---|---|---|",
        ]
        for name, field in model.model_fields.items():
            nested = _models_in(field.annotation)
            for inner in nested:
                label = name if len(nested) == 1 else f"{name}: {inner.__name__}"
                queue.append((label if title == "study" else f"{title}.{label}", inner))
            cells = [
                f"`{name}`",
                _type_name(field.annotation),
                _default_text(field),
                field.description or "",
            ]
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
        blocks.append("\n".join(lines) + "\n")
    return "\n".join(blocks)


def _default_text(field: Any) -> str:
    if field.is_required():
        return "required"
    default = field.get_default(call_default_factory=True)
    if isinstance(default, BaseModel):
        return "see below"
    return f"`{'null' if default is None else default}`"


def _type_name(annotation: Any) -> str:
    if get_origin(annotation) is Literal:
        return ", ".join(f"`{arg}`" for arg in get_args(annotation))
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "section"
    arguments = get_args(annotation)
    if get_origin(annotation) in (list, tuple):
        return f"list of {_type_name(arguments[0])}"
    if get_origin(annotation) is dict:
        return "mapping"
    if arguments:
        names = [
            _type_name(arg)
            for arg in arguments
            if arg is type(None) or isinstance(arg, type) or get_args(arg)
        ]
        return " or ".join(dict.fromkeys(names))
    if annotation is type(None):
        return "null"
    return getattr(annotation, "__name__", str(annotation))


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for arg in get_args(annotation) for model in _models_in(arg)]
