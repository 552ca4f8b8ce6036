"""A fitted MLP or contrastive estimator as an artefact: options, named arrays and facts, no pickle.

:func:`braindecode_clip.io.hdf5.save_artifact` writes it. The workflow stores the leaner
:class:`~braindecode_clip.decode.FittedDecoder`; this is for estimators used by themselves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from braindecode_clip.checks import Problems
from braindecode_clip.decode.contrastive import ContrastiveDecoder
from braindecode_clip.decode.fitted import NamedArray
from braindecode_clip.decode.mlp import MLPDecoder
from braindecode_clip.decode.targets import Shape
from braindecode_clip.errors import ArtifactError

#: Class to its fitted arrays, and to what else ``fit`` leaves, which is JSON-able.
_FITTED = {
    MLPDecoder: (("out_of_fold_",), ("cross_fitted_", "history_", "n_features_in_")),
    ContrastiveDecoder: (
        ("coef_", "intercept_", "alpha_", "at_edge_", "out_of_fold_"),
        (
            *("cross_fitted_", "best_epoch_", "temperature_", "validation_loss_"),
            *("flattening_", "ridge_loss_", "start_loss_", "n_features_in_"),
        ),
    ),
}
_CLASSES = {cls.__name__: cls for cls in _FITTED}


@dataclass(frozen=True)
class StoredEstimator:
    """What :func:`restore_estimator` makes an estimator of.

    Attributes
    ----------
    name : {"MLPDecoder", "ContrastiveDecoder"}
    options : dict
        Of the constructor, JSON-able.
    arrays : tuple of NamedArray
    facts : dict
        JSON-able; ``tail``: shape of a target.
    """

    name: str
    options: dict[str, Any]
    arrays: tuple[NamedArray, ...]
    facts: dict[str, Any]

    def __post_init__(self) -> None:
        problems = Problems("stored estimator")
        if self.name not in _CLASSES:
            problems.add(f"'name' is {self.name!r}, expected one of {', '.join(_CLASSES)}.")
        else:
            arrays, facts = _FITTED[_CLASSES[self.name]]
            held = {item.name for item in self.arrays} | set(self.facts)
            missing = [name for name in (*arrays, *facts, "tail") if name not in held]
            if missing:
                problems.add(f"lacks {', '.join(missing)}. Fit and store the estimator again.")
        problems.raise_if_any(ArtifactError)


def store_estimator(estimator: MLPDecoder | ContrastiveDecoder) -> StoredEstimator:
    """Return all of a fitted estimator.

    Raises
    ------
    ArtifactError
        Options that are no numbers or text: a splitter as ``cv``, a RandomState.
    """
    arrays, facts = _FITTED[type(estimator)]
    options = estimator.get_params(deep=False)
    if "alphas" in options:
        options["alphas"] = [float(alpha) for alpha in options["alphas"]]
    problems = Problems(f"store {type(estimator).__name__}")
    for name, value in options.items():
        value = options[name] = value.item() if isinstance(value, np.generic) else value
        if name != "alphas" and not isinstance(value, str | int | float | None):
            problems.add(
                f"'{name}' is a {type(value).__name__}, which is not stored: give a number or text."
            )
    problems.raise_if_any(ArtifactError)
    named = {name: getattr(estimator, name) for name in arrays}
    if isinstance(estimator, MLPDecoder):
        named |= {f"network.{name}": value for name, value in estimator.arrays_.items()}
    return StoredEstimator(
        name=type(estimator).__name__,
        options=options,
        arrays=tuple(NamedArray(name, np.asarray(value)) for name, value in named.items()),
        facts={name: getattr(estimator, name) for name in facts}
        | {"tail": list(estimator._shape.tail)},
    )


def restore_estimator(stored: StoredEstimator) -> MLPDecoder | ContrastiveDecoder:
    """Return the fitted estimator; it predicts on the CPU, wherever it was trained."""
    estimator = _CLASSES[stored.name](**stored.options)
    networks = {}
    for item in stored.arrays:
        if item.name.startswith("network."):
            networks[item.name.removeprefix("network.")] = item.data
        else:
            setattr(estimator, item.name, item.data)
    if isinstance(estimator, MLPDecoder):
        estimator.arrays_ = networks
    for name in _FITTED[type(estimator)][1]:
        setattr(estimator, name, stored.facts[name])
    estimator._shape = Shape(tuple(stored.facts["tail"]))
    return estimator
