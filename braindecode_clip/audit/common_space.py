"""Both encoders judged in one space, through a linear map learnt on training pictures.

What a decoder predicts in the adapted space is mapped to the original one and ranked there among
the same candidates, so that the space can make no difference; and the other way round. The map is
a ridge regression from the embeddings of one encoder to those of the other, its penalty chosen by
leave-one-out error (:class:`sklearn.linear_model.RidgeCV`); no brain data and no test picture of
the fold take part. What a linear map cannot carry over is lost to the side that is mapped: judged
in the original space the adapted encoder is at a disadvantage, judged in the adapted space the
original one. A difference of the same sign in both is more than geometry.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from braindecode_clip.artifacts import Embeddings, Predictions

#: Penalties of the map.
PENALTIES = np.logspace(-6, 3, 19)


class SpaceMap:
    """Linear maps from one encoder's space to another's, each learnt once.

    Parameters
    ----------
    source, target : Embeddings
        Pooled vectors of the same stimuli.
    """

    def __init__(self, source: Embeddings, target: Embeddings) -> None:
        self.source, self.target = source, target
        self._known: dict[tuple[str, ...], Any] = {}

    def of(self, stimuli: np.ndarray) -> Any:
        """Return the map that was learnt on these stimuli (distinct, sorted)."""
        from sklearn.linear_model import RidgeCV

        key = tuple(stimuli.tolist())
        if key not in self._known:
            model = RidgeCV(alphas=PENALTIES)
            model.fit(
                self.source.vectors[self.source.rows(stimuli)].astype(np.float64),
                self.target.vectors[self.target.rows(stimuli)].astype(np.float64),
            )
            self._known[key] = model
        return self._known[key]

    def carry(self, predictions: Predictions) -> np.ndarray:
        """Return predictions in the target's space (n_queries, n_target_dims) float64.

        Each fold goes through a map that was learnt on its training stimuli alone; where runs are
        held out, these are those of all folds, for the same stimuli are in train and test.
        """
        mapped = np.empty((len(predictions.stimulus_id), self.target.vectors.shape[1]))
        folds = predictions.fold.astype(str)
        stimuli = predictions.stimulus_id.astype(str)
        # `train_ids` are those of all folds together.
        known = np.unique(predictions.train_ids.astype(str))
        for fold in dict.fromkeys(folds.tolist()):
            rows = np.flatnonzero(folds == fold)
            train = known
            if predictions.unit == "stimulus":
                train = np.setdiff1d(known, stimuli[rows])
            vectors = predictions.vectors[rows].astype(np.float64)
            mapped[rows] = self.of(train).predict(vectors)
        return mapped
