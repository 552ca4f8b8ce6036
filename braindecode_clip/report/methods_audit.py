"""Methods text: how encoders were adapted, and whether that helped."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from braindecode_clip.config.study import StudyConfig
from braindecode_clip.report.numbers import count, percent
from braindecode_clip.report.results import metric_name
from braindecode_clip.report.sources import Citations


def describe_audit(audit: Mapping[str, Any], study: StudyConfig, cite: Citations) -> list[str]:
    """Say how original and adapted encoders were compared; nothing without an audit."""
    rows = audit.get("rows") or []
    if not rows:
        return []
    options = study.audit
    margins = ", ".join(
        f"{metric_name(name)} {percent(margin)}"
        for name, margin in options.equivalence_margins.items()
    )
    drawn = " or ".join(sorted({row["resampled"] for row in rows if row["level"] == "subject"}))
    sentences = [
        "Encoders were adapted to other pictures and captions, among which test pictures were "
        "looked for by file, by pixels and by their look (near duplicates, also re-encoded or "
        "rescaled). Decoders were fitted anew on the adapted targets, with the same folds, and "
        "both encoders were compared on the same test samples and candidates: p-values from "
        f"{count(max(row['n_exchanges'] for row in rows))} exchanges of the two in whole {drawn}, "
        f"{percent(options.confidence, digits=0)} intervals over {drawn} (over subjects for "
        f"means), false discovery rates over the table of an encoder {cite('bh')}, and equivalence "
        f"by two one-sided tests {cite('tost')} (margins: {margins})."
    ]
    if any(row["beyond_geometry"] is not None for row in rows):
        noise = {
            "isotropic": "isotropic noise",
            "residual": "noise of the covariance of the decoder's errors",
        }[options.geometry_noise]
        sentences.append(
            "How much of a difference the geometry of the spaces makes was estimated by a "
            f"synthetic decoder (true vectors and {noise}, {options.geometry_draws} draws) with "
            "the correlation of the original encoder's decoder in both spaces."
        )
    if any(row["original_space"] is not None for row in rows):
        sentences.append(
            "Both were also judged in one space, the other's predictions carried over by a ridge "
            f"regression {cite('ridge')} between the embeddings of the training pictures."
        )
    by_category = [s.name for s in study.splits if s.scheme == "leave_one_category_out"]
    if by_category:
        sentences.append(
            f"In the split {' and '.join(by_category)} every test picture is of a category that no "
            "decoder was trained on."
        )
    return sentences
