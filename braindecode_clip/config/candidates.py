"""Options of ``gallery``: candidates from elsewhere, and how they are searched."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from braindecode_clip.config.base import Section


class CandidatesConfig(Section):
    """Candidates beyond the study's stimuli: pictures, texts or vectors."""

    source: str = Field(
        description="A folder of pictures; a .tsv that names pictures or holds texts; an HDF5 file "
        "of pictures such as NSD's nsd_stimuli.hdf5; a .txt with one text a line; or a file of "
        "`gallery` or `embed`.",
    )
    id_column: str = Field("stimulus_id", description="Column of the names, in tables.")
    image_column: str = Field(
        "image", description="Column of the pictures' paths, beside the table."
    )
    text_column: str | None = Field(
        None,
        description="Column of the texts; null reads pictures. Without a column of names, the "
        "distinct texts are the candidates.",
    )
    dataset: str = Field("imgBrick", description="Array of the pictures in an HDF5 file.")
    metadata: str | None = Field(
        None,
        description="Table with more columns for a folder or HDF5 file, told by `id_column`; "
        "candidates that it doesn't list are left out.",
    )
    templates: tuple[str, ...] = Field(
        ("{}",),
        min_length=1,
        description="Wordings that a text is put into, with {} in its place; a candidate's vector "
        "is the mean over them.",
    )
    batch_size: int = Field(64, ge=1, description="Pictures or texts encoded at once.")

    @model_validator(mode="after")
    def _templates_have_a_place(self) -> CandidatesConfig:
        bad = [template for template in self.templates if template.count("{}") != 1]
        if bad:
            raise ValueError(f"`templates` need '{{}}' once, where the text goes; got {bad[0]!r}")
        return self


class IndexConfig(Section):
    """How the nearest candidates are found."""

    kind: Literal["exact", "flat", "ivf", "hnsw"] = Field(
        "exact",
        description="exact: all are compared, ties as ties; flat, ivf, hnsw: FAISS (extra "
        "'faiss'); ivf and hnsw are approximate, and their recall on the predictions is measured "
        "and written.",
    )
    n_lists: int | None = Field(
        None, ge=1, description="ivf: cells; null takes 4 times the root of the candidates."
    )
    n_probe: int = Field(32, ge=1, description="ivf: cells that a query looks into.")
    n_links: int = Field(32, ge=2, description="hnsw: links of a candidate.")
    ef: int = Field(256, ge=1, description="hnsw: candidates that a search keeps open.")
    n_check: int = Field(
        200, ge=1, description="Predictions that the recall is measured on, at most."
    )
