"""Which labels a permutation may exchange, and which samples a bootstrap draws as one.

A permutation test is exact when, without information, every arrangement that it draws was as
likely as the one that was seen. So a picture's repeats move together (they share whatever a
picture evokes, decodable or not), and pictures change places only with pictures that were shown
equally often: those shown more often weigh more in every score and may be of another kind. Where
runs or sessions shift all predictions of theirs, labels stay within them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from braindecode_clip.checks import some
from braindecode_clip.errors import DataError

#: Below this many arrangements a reader is told what the smallest possible p is.
FEW_ARRANGEMENTS = 1000


@dataclass(frozen=True)
class Exchange:
    """How labels move.

    Attributes
    ----------
    unit : {"stimulus", "run"}
        "stimulus": stimuli move with all their samples, within ``strata``. "run": samples move
        one by one, within ``groups``.
    groups : ndarray (n_samples,) str
    strata : ndarray (n_stimuli,) int64
    description : str
        For the column ``permuted``.
    """

    unit: str
    groups: np.ndarray
    strata: np.ndarray
    description: str

    @property
    def n_fixed(self) -> int:
        """Number of stimuli that no other one may change places with."""
        return int((np.bincount(self.strata) == 1).sum()) if self.unit == "stimulus" else 0

    def n_arrangements(self, labels: np.ndarray) -> float:
        """Return the number of different arrangements of ``labels``; infinite when huge."""
        if self.unit == "stimulus":
            log = sum(math.lgamma(size + 1) for size in np.bincount(self.strata))
        else:
            log = 0.0
            for group in np.unique(self.groups):
                counts = np.bincount(labels[self.groups == group])
                log += math.lgamma(counts.sum() + 1) - sum(math.lgamma(c + 1) for c in counts)
        return round(math.exp(log)) if log < 50 else math.inf


def make_exchange(
    labels: np.ndarray,
    groups: np.ndarray,
    n_repeats: np.ndarray,
    *,
    unit: str,
    kind: str = "auto",
    unequal_repeats: bool = False,
) -> Exchange:
    """Decide what is exchanged.

    Parameters
    ----------
    labels : int array (n_samples,)
        Stimulus of each sample, 0 to n_stimuli - 1.
    groups : array (n_samples,) str
        Runs; an average over several is named "a+b".
    n_repeats : int array (n_samples,)
        Trials in each sample.
    unit : {"stimulus", "run"}
        What the split holds out.
    kind : {"auto", "stimulus", "run", "session"}
        As of :class:`braindecode_clip.config.evaluate.EvaluateConfig`.
    unequal_repeats : bool
        Stimuli may change places whatever their numbers of repeats.

    Returns
    -------
    Exchange

    Raises
    ------
    DataError
        Sessions asked for, but runs that name none.
    """
    kind = unit if kind == "auto" else kind
    if kind == "stimulus":
        held = np.full(len(labels), "")
    else:
        held = sessions_of(groups) if kind == "session" else groups.astype(str)
    if unit == "run" and kind != "stimulus":
        strata = np.zeros(int(labels.max()) + 1, dtype=np.int64)
        return Exchange("run", held, strata, f"labels within each {kind}")
    strata = _strata(labels, held, n_repeats, unequal_repeats=unequal_repeats)
    among = "among all test stimuli"
    if kind != "stimulus":
        among = f"among test stimuli of the same {kind}s"
    if unequal_repeats or len(np.unique(strata)) == 1:
        description = f"labels {among}, repeats together"
    else:
        description = f"labels {among} shown equally often, repeats together"
    return Exchange("stimulus", held, strata, description)


def _strata(
    labels: np.ndarray, held: np.ndarray, n_repeats: np.ndarray, *, unequal_repeats: bool
) -> np.ndarray:
    """Return the stratum (n_stimuli,) of stimuli that were shown alike."""
    patterns = []
    for label in range(int(labels.max()) + 1):
        own = labels == label
        shown = sorted(zip(held[own].tolist(), n_repeats[own].tolist(), strict=True))
        patterns.append(str(sorted(set(held[own].tolist())) if unequal_repeats else shown))
    return np.unique(patterns, return_inverse=True)[1]


def make_clusters(
    labels: np.ndarray, groups: np.ndarray, *, unit: str, kind: str = "auto"
) -> tuple[np.ndarray, str]:
    """Return what the bootstrap draws as one, (n_samples,), and its name in the plural.

    Parameters
    ----------
    labels, groups, unit
        See :func:`make_exchange`.
    kind : {"auto", "stimulus", "run", "session"}

    Raises
    ------
    DataError
        Runs or sessions asked for, but samples that are averages over several of them.
    """
    kind = unit if kind == "auto" else kind
    if kind == "stimulus":
        return labels, "stimuli"
    clusters = sessions_of(groups) if kind == "session" else groups.astype(str)
    mixed = sorted({name for name in clusters.tolist() if "+" in name})
    if mixed:
        raise DataError(
            f"evaluate.resample: {kind}, but {len(mixed)} kinds of samples are averages over "
            f"several {kind}s, such as {some(mixed)}. Set `evaluate.resample: stimulus`, or do not "
            "average repeats."
        )
    return clusters, f"{kind}s"


def sessions_of(groups: np.ndarray) -> np.ndarray:
    """Return the sessions (n_samples,) str of runs such as "ses-01_run-02".

    Raises
    ------
    DataError
        A run that names no session.
    """
    sessions = []
    for group in groups.astype(str).tolist():
        parts = [part.partition("_run-")[0] for part in group.split("+")]
        if not all(part.startswith("ses-") for part in parts):
            raise DataError(
                f"evaluate: sessions asked for, but the run {group!r} names none; expected e.g. "
                "'ses-01_run-02'. Set `exchange` and `resample` to `auto`, `stimulus` or `run`."
            )
        sessions.append("+".join(sorted(set(parts))))
    return np.array(sessions)
