"""Decoders side by side: scores on validation and on test, and which one validation chooses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from braindecode_clip.decode.fitted import FittedDecoder

FIT_LABELS = ("subject", "roi", "split", "encoder", "decoder")


def compare_decoders(
    decoders: Sequence[FittedDecoder], scores: Sequence[Mapping[str, Any]]
) -> pd.DataFrame:
    """Put out-of-fold scores of the training part beside the scores of the test part.

    Parameters
    ----------
    decoders : sequence of FittedDecoder
    scores : sequence of mapping
        Rows of ``evaluate``: metric, direction, value, ci_low, ci_high, chance and the labels.

    Returns
    -------
    DataFrame
        One row for each decoder and gallery: subject, roi, split, encoder, decoder, gallery,
        transductive (the calibration of the decoder), transductive_steps (all steps on the way
        that see test trials without labels, joined by "; "), validation_pairwise and
        validation_r2 (out-of-fold, mean over folds; the gallery is the training stimuli; NaN for
        kinds that keep no out-of-fold predictions, which are never chosen), validation_by
        (:func:`~braindecode_clip.decode.cross_fit.out_of_fold_by`;
        of an ensemble those of its members, on whose predictions its weights were chosen too;
        several ways are joined by "+"; "unknown" in files of older versions, "none" without
        predictions; cross_validation scores rows that had a part in the choice of penalties,
        cross_fit rows that had none), test_pairwise, test_pairwise_ci_low,
        test_pairwise_ci_high, test_top_1, chance_top_1 (brain to image; NaN where not scored),
        best_of_roi and best: the decoder with the highest validation_pairwise of its subject,
        ROI, split and encoder, and that of all ROIs. The test scores have no part in it, and a
        transductive decoder is never chosen, as it looks at the test set.
    """
    rows = []
    for decoder in decoders:
        labels = dict(zip(FIT_LABELS, _labels(decoder), strict=True))
        known = {
            **labels,
            "transductive": decoder.transductive,
            "validation_pairwise": _mean(decoder, "out_of_fold_pairwise"),
            "validation_r2": _mean(decoder, "out_of_fold_r2"),
            "validation_by": _made_by(decoder),
        }
        own = [
            row
            for row in scores
            if row["direction"] == "brain_to_image"
            and all(str(row[key]) == value for key, value in labels.items())
        ]
        for gallery in dict.fromkeys(str(row["gallery"]) for row in own):
            found = {row["metric"]: row for row in own if str(row["gallery"]) == gallery}
            steps = [name for row in found.values() for name in _steps(row)]
            steps_text = "; ".join(dict.fromkeys(steps))
            rows.append(
                {
                    **known,
                    "gallery": gallery,
                    "transductive_steps": steps_text,
                    **_test_scores(found),
                }
            )
    table = pd.DataFrame(rows)
    if not len(table):
        return table
    setting = ["subject", "split", "encoder"]
    table["best_of_roi"] = _chosen(table, [*setting, "roi"])
    table["best"] = _chosen(table, setting)
    order = [*FIT_LABELS, "gallery"]
    return table[[*order, *(name for name in table if name not in order)]]


def _labels(decoder: FittedDecoder) -> tuple[str, ...]:
    return (decoder.subject, decoder.roi, decoder.split, decoder.encoder, decoder.name)


def _mean(decoder: FittedDecoder, name: str) -> float:
    return float(np.mean([fold.info.get(name, np.nan) for fold in decoder.folds]))


def _made_by(decoder: FittedDecoder) -> str:
    if all("out_of_fold_pairwise" not in fold.info for fold in decoder.folds):
        return "none"
    ways = {str(fold.info.get("out_of_fold_by", "unknown")) for fold in decoder.folds}
    return "+".join(sorted(ways))


def _test_scores(found: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    def number(metric: str, key: str) -> float:
        value = found.get(metric, {}).get(key)
        return np.nan if value is None else float(value)

    return {
        "test_pairwise": number("pairwise", "value"),
        "test_pairwise_ci_low": number("pairwise", "ci_low"),
        "test_pairwise_ci_high": number("pairwise", "ci_high"),
        "test_top_1": number("top_1", "value"),
        "chance_top_1": number("top_1", "chance"),
    }


def _steps(row: Mapping[str, Any]) -> list[str]:
    return [name for name in str(row.get("transductive") or "").split("; ") if name]


def _chosen(table: pd.DataFrame, within: list[str]) -> np.ndarray:
    """Mark the decoder that validation chooses within each group; the first of equals."""
    chosen = np.zeros(len(table), dtype=bool)
    eligible = ~table["transductive"] & table["validation_pairwise"].notna()
    for _, group in table[eligible].groupby(within, sort=False):
        first = group.loc[group["validation_pairwise"].idxmax()]
        same = (group["roi"] == first["roi"]) & (group["decoder"] == first["decoder"])
        chosen[group.index[same]] = True
    return chosen
