"""Options of the report."""

from __future__ import annotations

from pydantic import Field

from braindecode_clip.config.base import Section


class ReportConfig(Section):
    """What the page shows, and how much of it."""

    title: str = Field(
        default="", description="Heading of the page; the study's name when empty (default)."
    )
    description: str = Field(
        default="", description="One or two sentences under the heading; none by default."
    )
    queries_per_group: int = Field(
        default=3,
        ge=0,
        le=20,
        description="Test samples shown of the best, the median and the worst; default 3 of each.",
    )
    candidates: int = Field(
        default=5, ge=1, le=10, description="Nearest candidates shown for each; default 5."
    )
    picture_px: int = Field(
        default=144,
        ge=32,
        le=512,
        description="Longer side of an embedded picture in pixels; default 144.",
    )
    picture_budget_mb: float = Field(
        default=5.0,
        gt=0,
        le=50,
        description=(
            "Most that all embedded pictures may take together, in megabytes; pictures are made "
            "smaller until they fit. Default 5."
        ),
    )
    quality_runs: int = Field(
        default=24,
        ge=0,
        description="Runs whose figure (motion, DVARS, trials, carpet) is on the page, those with "
        "the most urgent warnings first; about 0.1 MB each. The table has every run. Default 24.",
    )
    slices: int = Field(
        default=7, ge=1, le=12, description="Axial slices in a row of a brain map; default 7."
    )
