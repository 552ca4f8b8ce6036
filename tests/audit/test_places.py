"""What the audit refuses: other trials or candidates, models of unknown training."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from audit_sides import PLACE

from braindecode_clip.audit.compare import compare
from braindecode_clip.audit.places import Side, check_comparable, check_record
from braindecode_clip.config.adaptations import AuditConfig
from braindecode_clip.errors import DataError, LeakageError


def changed(side: Side, direction: str = "brain_to_image", **how: object) -> Side:
    item = side.ranked[direction]
    if "info" in how:
        how["info"] = item.info | how["info"]
    return replace(side, ranked={**side.ranked, direction: replace(item, **how)})


def test_equal_trials_and_candidates_pass(make_sides) -> None:
    check_comparable(PLACE, *make_sides(repeats=2))


def test_every_difference_is_named_at_once(make_sides) -> None:
    one, two = make_sides(repeats=2)
    queries = two.ranked["brain_to_image"].queries.copy()
    queries.loc[[0, 3], "stimulus_id"] = "other"
    queries.loc[5, "fold"] = "z"
    gallery = two.ranked["brain_to_image"].gallery_ids.copy()
    gallery[2] = "new"
    two = changed(
        two, queries=queries, gallery_ids=gallery, info={"correction": "csls", "similarity": "x"}
    )
    two = replace(two, predictions=replace(two.predictions, train_ids=np.array(["s0050"])))
    two = replace(two, embeddings=replace(two.embeddings, fingerprint={"name": "third"}))
    with pytest.raises(DataError) as caught:
        check_comparable(PLACE, one, two)
    message = str(caught.value)
    assert "subject 01, roi visual, decoder ridge" in message
    for words in (
        "'stimulus_id' of the test samples differs in 2 of 28",
        "'fold' of the test samples differs in 1 of 28",
        "the candidates differ",
        "'new'",
        "'correction' is None of the original and 'csls'",
        "'similarity'",
        "trained on different stimuli",
        "predictions of the adapted encoder are of other embeddings",
    ):
        assert words in message, words


def test_other_order_of_candidates_and_a_missing_direction_are_refused(make_sides) -> None:
    one, two = make_sides()
    gallery = two.ranked["brain_to_image"].gallery_ids[::-1]
    with pytest.raises(DataError, match="their order"):
        check_comparable(PLACE, one, changed(two, gallery_ids=gallery))
    with pytest.raises(DataError, match="only one of the encoders has the direction"):
        forth = {"brain_to_image": two.ranked["brain_to_image"]}
        check_comparable(PLACE, one, replace(two, ranked=forth))


@pytest.mark.parametrize("kind", ["correction", "gallery"])
def test_controls_are_left_out_where_they_could_not_be_compared(make_sides, kind: str) -> None:
    sides = make_sides()
    if kind == "correction":
        sides = tuple(changed(s, info={"correction": "csls"}) for s in sides)
    else:
        names = sides[0].ranked["brain_to_image"].gallery_ids.astype("<U9").copy()
        names[3] = "elsewhere"
        sides = tuple(changed(s, gallery_ids=names) for s in sides)
    (item, back) = compare(
        ("a", "b"), PLACE, *sides, maps=None, options=AuditConfig(geometry_draws=1), seed=1
    )
    assert set(item.differences) == {"difference"} and set(back.differences) == {"difference"}
    assert "no controls of geometry" in item.notes[0]


RECORD = {
    "weights_sha256": "w",
    "test": {"pixels_sha256": ["p1", "p2", "p3"], "sha256": "t"},
    "training": {
        "n_pairs": 9,
        "n_shared": {"same_file": 0, "same_pixels": 0, "near_duplicate": 0, "mirrored": 2},
    },
    "validation": {
        "n_pairs": 3,
        "n_shared": {"same_file": 0, "same_pixels": 0, "near_duplicate": 0, "mirrored": 0},
    },
}
TESTED = {"s1": "p1", "s3": "p3"}


def test_a_record_that_covers_the_stimuli_passes() -> None:
    found = check_record("tuned", RECORD, weights_sha256="w", tested=TESTED)
    assert found["n_test_stimuli"] == 2 and found["n_covered"] == 3
    assert found["training"]["n_pairs"] == 9


@pytest.mark.parametrize(
    ("record", "weights", "words"),
    [
        (None, "w", "no leakage.json"),
        (RECORD, "v", "leakage.json is of weights w, the stimuli were encoded by v"),
        (
            RECORD | {"test": {"pixels_sha256": ["p1"]}},
            "w",
            "1 of 2 test stimuli were not looked for .*'s3'",
        ),
        ({"weights_sha256": "w", "test": RECORD["test"]}, "w", "or nobody looked"),
        (
            RECORD | {"validation": {"n_shared": {"same_file": 1, "same_pixels": 0}}},
            "w",
            "validation pairs hold test stimuli",
        ),
    ],
)
def test_models_of_unknown_training_are_refused(record, weights: str, words: str) -> None:
    with pytest.raises(LeakageError, match=words):
        check_record("tuned", record, weights_sha256=weights, tested=TESTED)
