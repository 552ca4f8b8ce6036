"""A methods text from the options and numbers of the run."""

from __future__ import annotations

from dataclasses import dataclass

from braindecode_clip.report.content import Inputs
from braindecode_clip.report.results import Order
from braindecode_clip.report.sources import Citations


@dataclass(frozen=True)
class Methods:
    """Paragraphs, and the works they cite in the order of their numbers."""

    paragraphs: tuple[str, ...]
    references: tuple[str, ...]


def methods_text(inputs: Inputs, order: Order) -> Methods:
    """Write the methods of the study as it ran.

    Parameters
    ----------
    inputs : Inputs
    order : Order
    """
    cite = Citations()
    return Methods((), cite.references)
