"""Templates filled and style sheets put in: one HTML text that fetches nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup


def render(template: str, context: Mapping[str, Any], *, styles: tuple[str, ...]) -> str:
    """Fill a template of this package.

    Parameters
    ----------
    template : str
        File in ``templates``.
    context : mapping
        What the template names; text is escaped.
    styles : tuple of str
        Style sheets in ``templates``, put in one after another.
    """
    environment = Environment(
        loader=PackageLoader("braindecode_clip.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    sheets = [environment.loader.get_source(environment, name)[0] for name in styles]  # type: ignore[union-attr]
    # Our own style sheets, not user text.
    page = environment.get_template(template).render(css=Markup("".join(sheets)), **context)
    return page + "\n"
