"""The tables about decoders: who is marked as chosen, what is called transductive."""

from __future__ import annotations

import pandas as pd
import pytest

from braindecode_clip.report.decoding import decoding_tables
from braindecode_clip.report.results import Order


@pytest.fixture
def order() -> Order:
    names = {key: (key,) for key in ("subject", "split", "encoder", "gallery")}
    return Order({**names, "roi": ("visual", "early"), "decoder": ("ridge", "b-transductive")})


def compared(**columns: object) -> dict[str, object]:
    labels = {key: key for key in ("subject", "split", "encoder", "gallery")}
    scores = {
        "validation_pairwise": 0.8,
        "validation_r2": 0.1,
        "validation_by": "cross_fit",
        "test_pairwise": 0.75,
    }
    scores |= {"test_pairwise_ci_low": 0.7, "test_pairwise_ci_high": 0.8, "test_top_1": 0.2}
    return {**labels, **scores, "transductive": False, "best": False, **columns}


def test_the_choice_of_validation_is_marked_and_transductive_named(order: Order) -> None:
    table = pd.DataFrame(
        [
            compared(roi="early", decoder="ridge", best_of_roi=True),
            compared(roi="visual", decoder="ridge", best_of_roi=True, best=True),
            compared(roi="visual", decoder="b-transductive", best_of_roi=False, transductive=True),
        ]
    )
    (made,) = decoding_tables({"comparison": table, "bottleneck": pd.DataFrame()}, order)
    chosen = [(row[1].text, row[4].text, row[4].detail, row[-1].text) for row in made.rows]
    assert chosen[0] == ("visual", "ridge", "", "of all")
    assert chosen[1][:3] == ("visual", "b-transductive", "transductive")
    assert chosen[1][3] not in ("of all", "in its ROI")
    assert chosen[2] == ("early", "ridge", "", "in its ROI")
    assert [row[6].clear for row in made.rows] == [True, False, False]
    assert made.rows[0][8].detail.startswith("70.0")


def test_the_whole_region_stands_without_a_name(order: Order) -> None:
    table = pd.DataFrame(
        [
            {"left_out": left_out, "n_voxels": 10.0, "out_of_fold_pairwise": 0.8, "pairwise": 0.7}
            | {"loss": 0.1, "loss_ci_low": 0.0, "loss_ci_high": 0.2, "roi": "visual"}
            | {"subject": "subject", "split": "split", "decoder": "ridge"}
            for left_out in (float("nan"), "early")
        ]
    )
    (made,) = decoding_tables({"importance": table}, order)
    assert [row[4].text for row in made.rows] == ["–", "early"]
