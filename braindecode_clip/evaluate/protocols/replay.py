"""Rows of all protocols that the data support, and why the others are left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from braindecode_clip.config.evaluate import EvaluateConfig
from braindecode_clip.evaluate.permutation import permuted_labels
from braindecode_clip.evaluate.protocols.pools import (
    draw_joint,
    draw_own,
    joint_pool_sd,
    own_pools_sd,
)
from braindecode_clip.evaluate.protocols.presets import Measure
from braindecode_clip.evaluate.protocols.rounds import Replayed, Round, make_rounds
from braindecode_clip.evaluate.rows import Measured, make_rows
from braindecode_clip.resampling.bootstrap import resample, weighted_mean, wilson_of_mean

#: As MindEye draws; the others are given as many, so that the columns compare.
N_DRAWS = 30
#: Codes looked up at a time: 2**18 int32 (1 MiB) stay in a core's cache.
CHUNK_NUMBERS = 2**18


@dataclass
class Replay:
    """Rows of protocols, and notes on them and on those that were left out.

    Attributes
    ----------
    rows : list of dict
        As of :class:`braindecode_clip.evaluate.Evaluation`, and protocol, similarity, expectation
        (exact; it is the value), sd_of_a_draw (exact: the mean of d draws has it over the root of
        d), value_of_draws, n_draws and sd_of_draws. The last five are None where nothing is
        drawn.
    notes : list of str
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def replay_protocols(
    test: Replayed,
    *,
    rng: np.random.Generator,
    options: EvaluateConfig,
    labels: Mapping[str, Any],
) -> Replay:
    """Replay the protocols that ``options`` name, as far as the test set supports them.

    Parameters
    ----------
    test : Replayed
    rng : Generator
        Of the bootstrap, the permutations and the draws.
    options : EvaluateConfig
    labels : mapping
        Columns that all rows share.

    Returns
    -------
    Replay
    """
    found = Replay()
    left_out: dict[str, list[str]] = {}
    for round_ in make_rounds(test, options, left_out):
        boot_rng, null_rng, draw_rng = rng.spawn(3)
        found.notes += round_.notes
        found.rows += _rows(round_, options, labels, (boot_rng, null_rng, draw_rng))
    order = {name: place for place, name in enumerate(options.protocols)}
    found.rows.sort(key=lambda row: order[row["protocol"]])
    if left_out:
        said = "; ".join(f"{', '.join(names)} ({why})" for why, names in left_out.items())
        found.notes.append(f"protocols that were not replayed: {said}.")
    return found


def _rows(
    round_: Round,
    options: EvaluateConfig,
    labels: Mapping[str, Any],
    streams: tuple[np.random.Generator, ...],
) -> list[dict[str, Any]]:
    boot_rng, null_rng, draw_rng = streams
    scores = [round_.cells[m.similarity, m.direction].scores(m.hit) for m in round_.measures]
    values = np.stack(
        [
            score[round_.cells[m.similarity, m.direction].true_codes(round_.design.labels)]
            for m, score in zip(round_.measures, scores, strict=True)
        ],
        axis=1,
    )
    resamples = resample(
        weighted_mean(values), round_.design.clusters, n_bootstrap=options.n_bootstrap, rng=boot_rng
    )
    null = _null(round_, scores, options.n_permutations, null_rng)
    measured = [
        Measured(
            measure.metric,
            float(value),
            measure.chance,
            wilson_of_mean(
                float(value), (0.0, 1.0), resamples.n_clusters, confidence=options.confidence
            ),
            1,
            measure.definition,
        )
        for measure, value in zip(round_.measures, values.mean(axis=0), strict=True)
    ]
    rows = make_rows(measured, resamples, null, design=round_.design, options=options, labels={})
    draws = _draws(round_, values, draw_rng)
    return [
        {
            **labels,
            "protocol": measure.protocol,
            "direction": measure.direction,
            "n_gallery": measure.n_gallery,
            "similarity": measure.similarity,
            **row,
            **round_.words,
            **drawn,
        }
        for measure, row, drawn in zip(round_.measures, rows, draws, strict=True)
    ]


def _null(
    round_: Round, scores: list[np.ndarray], n_permutations: int, rng: np.random.Generator
) -> np.ndarray | None:
    """Return the measures under permuted labels, (n_permutations, n_measures)."""
    design = round_.design
    if not design.permutable:
        return None
    chunks = permuted_labels(
        design.labels,
        design.exchange.groups,
        unit=design.exchange.unit,
        strata=design.exchange.strata,
        n_permutations=n_permutations,
        rng=rng,
        chunk=max(1, CHUNK_NUMBERS // len(design.labels)),
    )
    found = []
    for labels in chunks:
        codes = {key: cells.true_codes(labels) for key, cells in round_.cells.items()}
        part = [
            score[codes[measure.similarity, measure.direction]].mean(axis=1)
            for measure, score in zip(round_.measures, scores, strict=True)
        ]
        found.append(np.stack(part, axis=1))
    return np.concatenate(found)


def _draws(round_: Round, values: np.ndarray, rng: np.random.Generator) -> list[dict[str, Any]]:
    """Return what published draws of pools would have given, and how far they scatter."""
    joint_rng, own_rng = rng.spawn(2)
    joint = [measure for measure in round_.measures if measure.pools == "joint"]
    drawn: dict[int, np.ndarray] = {}
    if joint:
        tables = tuple(round_.keeps[measure.direction] for measure in joint)
        found = draw_joint(tables, joint[0].n_gallery, n_draws=N_DRAWS, rng=joint_rng)
        drawn = {id(measure): part for measure, part in zip(joint, found, strict=True)}
    return [
        _drawn(round_, measure, values[:, place], drawn.get(id(measure)), own_rng)
        for place, measure in enumerate(round_.measures)
    ]


def _drawn(
    round_: Round,
    measure: Measure,
    hits: np.ndarray,
    joint: np.ndarray | None,
    rng: np.random.Generator,
) -> dict[str, Any]:
    names = ("expectation", "sd_of_a_draw", "value_of_draws", "n_draws", "sd_of_draws")
    if not measure.pools:
        return dict.fromkeys(names)
    if joint is not None:
        sd, draws = joint_pool_sd(round_.keeps[measure.direction], measure.n_gallery), joint
    else:
        cells = round_.cells[measure.similarity, measure.direction]
        own = cells.true_codes(round_.design.labels)
        sd = own_pools_sd(hits)
        draws = draw_own(
            cells.better[own],
            cells.tied[own],
            cells.n_distractors,
            k=measure.k,
            pool=measure.n_gallery,
            n_draws=N_DRAWS,
            rng=rng,
        )
    numbers = (float(hits.mean()), sd, float(draws.mean()), len(draws), float(draws.std(ddof=1)))
    return dict(zip(names, numbers, strict=True))
