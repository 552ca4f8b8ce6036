"""``braindecode-clip compare``: decoders side by side, the best one by validation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def compare(
    decoder: Annotated[
        list[Path], typer.Option(help="Fitted decoder, from `decode`; once for each.")
    ],
    metrics: Annotated[
        list[Path], typer.Option(help="Scores (JSON), from `evaluate`; once for each.")
    ],
    out: Annotated[Path, typer.Option(help="Table to write (TSV).")],
) -> None:
    """Compare decoders: out-of-fold scores of the training part beside those of the test part.

    The column `best` marks the decoder with the highest out-of-fold pairwise identification of
    a subject, split and encoder, `best_of_roi` that of an ROI. No test score has a part in it.
    `validation_by` says how out-of-fold predictions were made: cross_validation (closed forms:
    the rows were not trained on, but had a part in the choice of penalties), cross_fit (networks
    and contrastive decoders: the rows had a part in nothing), stopping_rows (by networks that
    stopped by the same rows: optimistic), or none (kind shared keeps no out-of-fold predictions
    and is never chosen).
    """
    from braindecode_clip.decode import FittedDecoder
    from braindecode_clip.decode.compare import compare_decoders
    from braindecode_clip.errors import DataError
    from braindecode_clip.io.hdf5 import load_artifact
    from braindecode_clip.io.tables import read_json, write_tsv
    from braindecode_clip.logs import get_logger, milestone

    logger = get_logger(__name__)
    with milestone(logger, "compared") as note:
        rows = []
        for path in metrics:
            content = read_json(path)
            if not isinstance(content, dict) or not isinstance(content.get("rows"), list):
                raise DataError(f"{path}: holds no metrics. Expected the JSON of `evaluate`.")
            rows += content["rows"]
        fitted = (load_artifact(path, FittedDecoder) for path in decoder)
        table = compare_decoders(fitted, rows)
        if not len(table):
            raise DataError("none of the metrics is of one of the decoders: pass those of each.")
        note(f"{len(decoder)} decoders, {len(table)} rows")
    write_tsv(out, table)
    logger.info("wrote %s", out)
