"""The columns about noise ceilings: what could be scored at the reliability of the repeats.

Two questions, two columns. ``ceiling``: how well could any reader of outputs as noisy as these
do, who knew exactly what each candidate evokes (:mod:`.ceiling_observer`)? ``noise_free``: how
well would this very decoder do if every stimulus were shown infinitely often
(:mod:`.ceiling_noise_free`)? The first is limited by noise alone, the second by the decoder's own
mistakes alone.

Assumptions: noise is Gaussian, alike for all stimuli and independent between repeats; signals of
the candidates scatter as a Gaussian with the covariance of the test stimuli's, so candidates that
look alike make the true ceiling lower; what repeats is about the stimulus, so anything else that
comes again with it (its place in every run, say) makes the ceiling too high.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.special import stdtrit

from braindecode_clip.artifacts import Embeddings, Predictions, Retrieval
from braindecode_clip.config.evaluate import EvaluateConfig
from braindecode_clip.evaluate.ceiling_noise_free import (
    Found,
    noise_free_correlation,
    noise_free_ranks,
)
from braindecode_clip.evaluate.ceiling_observer import Observer
from braindecode_clip.evaluate.ceiling_signal import Repeats, Signal, measure_signal
from braindecode_clip.metrics import CONSTANT_SHARE

#: Draws of the signal-to-noise ratio for an interval.
N_DRAWS = 60
#: Simulated queries for a value and for each draw of its interval.
N_QUERIES, N_QUERIES_DRAWN = 2000, 250
#: Resamples for the intervals of ``noise_free``.
N_BOOTSTRAP = 500
OBSERVER = "ideal observer"
COLUMNS = (
    *("ceiling", "ceiling_low", "ceiling_high", "ceiling_share", "ceiling_method", "ceiling_uses"),
    *("noise_free", "noise_free_low", "noise_free_high", "signal_to_noise", "n_signal_dims"),
)
_ROOT, _SHARE = "square root of reliability", "reliability"


def usable_repeats(
    predictions: Predictions, repeats: Repeats | None
) -> tuple[Repeats | None, np.ndarray, str]:
    """Return decoded repeats, the noise of every row, and why there are none.

    Without ``repeats`` the predictions themselves are taken, where they hold several rows of a
    stimulus.

    Returns
    -------
    repeats : Repeats or None
    inverse_n : ndarray (n_queries,) float64
        Noise variance of each scored row in units of that of a repeat.
    reason : str
        "" where there are repeats.
    """
    single = np.ones(len(predictions.stimulus_id))
    shown = predictions.stimulus_id.astype(str)
    if len(predictions.vectors.shape) == 3:
        return None, single, "targets are tokens"
    if predictions.info.get("calibration") == "transductive":
        return None, single, "predictions depend on one another (transductive)"
    folds = {name: set() for name in np.unique(shown)}
    for name, fold in zip(shown, predictions.fold.astype(str), strict=True):
        folds[name].add(fold)
    if len(np.unique(predictions.fold)) > 1 and all(len(seen) == 1 for seen in folds.values()):
        return None, single, "stimuli have decoders of their own, whose differences repeat too"
    if repeats is not None:
        return repeats, 1.0 / predictions.n_repeats, ""
    if len(np.unique(shown)) < len(shown):
        return Repeats(predictions.vectors, shown), single, ""
    return None, single, "no test stimulus repeats, or its single trials were not given"


def add_ceilings(
    rows: Sequence[Mapping[str, Any]],
    retrievals: Sequence[Retrieval],
    predictions: Predictions,
    embeddings: Embeddings,
    *,
    clusters: np.ndarray,
    options: EvaluateConfig,
    repeats: Repeats | None,
    rng: np.random.Generator,
) -> tuple[list[dict[str, Any]], list[str]]:
    """Fill the columns :data:`COLUMNS` of rows of scores.

    Parameters
    ----------
    rows : sequence of mapping
        With metric, direction, value, chance.
    retrievals, predictions, embeddings
        That were scored.
    clusters : ndarray (n_queries,)
        What the bootstrap draws.
    options : EvaluateConfig
    repeats : Repeats, optional
        Decoded single trials of the test stimuli, where the predictions are means.
    rng : Generator

    Returns
    -------
    rows : list of dict
        With the columns; None where a number is not defined, and ``ceiling_method`` says why.
    notes : list of str
    """
    found, inverse_n, reason = usable_repeats(predictions, repeats)
    signal = None if found is None else measure_signal(found, inverse_n=float(inverse_n.mean()))
    if signal is None:
        reason = reason or "too few repeated stimuli, or their decoded trials do not vary"
        return [{**row, **_blank(reason)} for row in rows], []
    attainable: dict[tuple[str, str], tuple[float, float, float]] = {}
    free: dict[str, Found] = {}
    # Who was trained on the very stimuli of the test may know that no other comes.
    known = predictions.unit == "run"
    for retrieval, stream in zip(retrievals, rng.spawn(len(retrievals)), strict=True):
        attainable |= _observed(
            retrieval, signal, inverse_n, options=options, known=known, rng=stream
        )
        if _plain(retrieval, embeddings):
            free[retrieval.direction] = noise_free_ranks(
                retrieval,
                predictions,
                embeddings,
                signal,
                top_k=options.top_k,
                inverse_n=inverse_n,
                clusters=clusters,
                confidence=options.confidence,
                n_bootstrap=N_BOOTSTRAP,
                rng=stream,
            )
    targets = embeddings.vectors[embeddings.rows(predictions.stimulus_id)]
    attainable |= _of_dimensions(signal, targets, options)
    free["none"] = noise_free_correlation(
        predictions,
        targets,
        signal,
        inverse_n=inverse_n,
        clusters=clusters,
        confidence=options.confidence,
        n_bootstrap=N_BOOTSTRAP,
    )
    measured = {"signal_to_noise": signal.total, "n_signal_dims": signal.width}
    filled = [_filled(row, attainable, free) | measured for row in rows]
    return filled, [_note(signal, known=known)]


def _observed(
    retrieval: Retrieval,
    signal: Signal,
    inverse_n: np.ndarray,
    *,
    options: EvaluateConfig,
    known: bool,
    rng: np.random.Generator,
) -> dict[tuple[str, str], tuple[float, float, float]]:
    """Return the ideal observer's scores with intervals, by direction and metric.

    ``known``: the observer knows which candidates were shown at all, and ranks the others below.
    """
    value_rng, draw_rng, size_rng = rng.spawn(3)
    names = retrieval.gallery_ids.astype(str)
    shown = retrieval.queries["stimulus_id"].to_numpy().astype(str)
    n_gallery = round(float((names != shown[:, None]).sum(axis=1).mean()))
    n_others = n_gallery
    if known:
        n_others = round(float((names[np.isin(names, shown)] != shown[:, None]).sum(1).mean()))

    def observer(n_queries: int, stream: np.random.Generator) -> Observer:
        return Observer(
            signal.n_components,
            n_others,
            inverse_n=float(inverse_n.mean()),
            n_queries=n_queries,
            rng=stream,
        )

    wanted = {
        "direction": retrieval.direction,
        "top_k": options.top_k,
        "n_below": n_gallery - n_others,
    }
    value = observer(N_QUERIES, value_rng).scores(signal.total, signal.width, **wanted)
    small = observer(N_QUERIES_DRAWN, draw_rng)
    # Student's t of as many degrees of freedom as there are stimuli, less one.
    dof = signal.n_stimuli - 1
    reach = np.sqrt(dof / size_rng.chisquare(dof, size=(N_DRAWS, 1)))
    draws = size_rng.multivariate_normal([0, 0], signal.covariance, size=N_DRAWS) * reach
    sizes = np.maximum(signal.total + draws[:, 0], 0.0)
    widths = np.clip(signal.width + draws[:, 1], 1.0, signal.n_components)
    drawn = [small.scores(size, width, **wanted) for size, width in zip(sizes, widths, strict=True)]
    levels = [(1 - options.confidence) / 2, (1 + options.confidence) / 2]
    found = {}
    for metric, own in value.items():
        low, high = np.quantile([item[metric] for item in drawn], levels)
        found[retrieval.direction, metric] = (own, min(float(low), own), max(float(high), own))
    return found


def _of_dimensions(
    signal: Signal, targets: np.ndarray, options: EvaluateConfig
) -> dict[tuple[str, str], tuple[float, float, float]]:
    """Return the classical ceilings of correlation and R² with jackknife intervals."""
    values = targets.astype(np.float64)
    varies = values.var(axis=0) > CONSTANT_SHARE * (values**2).mean(axis=0)
    if not varies.any():
        return {}
    every = np.concatenate([signal.reliability[None], signal.reliability_left_out])[:, varies]
    wanted = {
        "correlation_mean": np.sqrt(every).mean(axis=1),
        "correlation_median": np.sqrt(np.median(every, axis=1)),
    }
    if options.r2_baseline == "test_mean":
        wanted |= {"r2_mean": every.mean(axis=1), "r2_median": np.median(every, axis=1)}
    found = {}
    for metric, numbers in wanted.items():
        own, left = float(numbers[0]), numbers[1:]
        error = np.sqrt((len(left) - 1) / len(left) * ((left - left.mean()) ** 2).sum())
        half = float(stdtrit(signal.n_stimuli - 1, (1 + options.confidence) / 2) * error)
        found["none", metric] = (own, max(own - half, 0.0), min(own + half, 1.0))
    return found


def _plain(retrieval: Retrieval, embeddings: Embeddings) -> bool:
    """Tell whether the table is nothing but similarities with embedded candidates."""
    known = np.isin(retrieval.gallery_ids.astype(str), embeddings.ids.astype(str)).all()
    return bool(known) and not {"correction", "rerank"} & set(retrieval.info)


def _blank(reason: str) -> dict[str, Any]:
    return dict.fromkeys(COLUMNS) | {"ceiling_method": f"none: {reason}"}


def _filled(
    row: Mapping[str, Any],
    attainable: Mapping[tuple[str, str], tuple[float, float, float]],
    free: Mapping[str, Found],
) -> dict[str, Any]:
    direction, metric = row["direction"], row["metric"]
    columns = _blank("not defined for this score")
    if (direction, metric) in attainable:
        ceiling, low, high = attainable[direction, metric]
        columns |= {"ceiling": ceiling, "ceiling_low": low, "ceiling_high": high}
        columns |= {"ceiling_method": OBSERVER, "ceiling_uses": "test repeats"}
        if direction == "none":
            columns["ceiling_method"] = _ROOT if metric.startswith("correlation") else _SHARE
        above, value = abs(ceiling - row["chance"]), row["value"]
        # A share of nothing is no share: the interval of the ceiling must leave chance out.
        if value is not None and above > 1e-9 and not low <= row["chance"] <= high:
            columns["ceiling_share"] = (value - row["chance"]) / (ceiling - row["chance"])
    if metric in free.get(direction, {}):
        value, low, high = free[direction][metric]
        columns |= {"noise_free": value, "noise_free_low": low, "noise_free_high": high}
    return {**row, **columns}


def _note(signal: Signal, *, known: bool) -> str:
    return (
        f"noise ceilings rest on the test repeats of {signal.n_stimuli} stimuli, which nothing "
        "that predicts was fitted on. The ceiling is what an observer scores who knows what each "
        "candidate evokes; without noise means this decoder with infinitely many repeats. Both "
        "take noise as Gaussian and alike for all stimuli, and what repeats as being about the "
        "stimulus." + (" The observer knows which candidates are ever shown." if known else "")
    )
