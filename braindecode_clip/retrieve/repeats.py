"""Averaging the predictions of a stimulus' repeats."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from braindecode_clip.artifacts import Predictions


def average_repeats(predictions: Predictions) -> Predictions:
    """Average the predictions of all samples of a stimulus in a fold.

    ``voxels`` may average responses before the prediction; here predictions are averaged after
    it. Of a linear decoder both are the same, as long as samples weigh alike; of an MLP they
    are not. Where runs are held out, samples of different runs stay apart, since runs are what
    the statistics draw and exchange.

    Parameters
    ----------
    predictions : Predictions
        Of vectors or tokens.

    Returns
    -------
    Predictions
        One row for each stimulus and fold (and run), in the order of their first samples:
        mean vector; the runs joined by "+"; ``n_repeats`` summed, each sample weighing as many
        repeats as it is the mean of. ``info`` has ``averaged_predictions: True``.
    """
    keys = [predictions.fold.astype(str), predictions.stimulus_id.astype(str)]
    if predictions.unit == "run":
        keys.append(predictions.group.astype(str))
    places: dict[tuple[str, ...], list[int]] = {}
    for row, key in enumerate(zip(*keys, strict=True)):
        places.setdefault(key, []).append(row)
    members = [np.array(rows) for rows in places.values()]
    first = np.array([rows[0] for rows in members], dtype=np.int64)
    weight = predictions.n_repeats.astype(np.float64)
    # Filled in place: tokens in float64 would be twice as large.
    vectors = np.empty((len(members), *predictions.vectors.shape[1:]), dtype=np.float32)
    for place, rows in enumerate(members):
        own = np.asarray(predictions.vectors[rows])
        vectors[place] = np.average(own.astype(np.float64), axis=0, weights=weight[rows])
    groups = ["+".join(dict.fromkeys(predictions.group[rows].astype(str))) for rows in members]
    return replace(
        predictions,
        vectors=vectors,
        stimulus_id=predictions.stimulus_id[first],
        group=np.array(groups, dtype=str),
        fold=predictions.fold[first],
        n_repeats=np.array([predictions.n_repeats[rows].sum() for rows in members], dtype=np.int64),
        info={**predictions.info, "averaged_predictions": True},
    )
