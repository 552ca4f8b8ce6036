"""Bootstrap over clusters and exchange tests, which every stage that scores shares."""

from braindecode_clip.resampling.bootstrap import (
    Resamples,
    interval,
    resample,
    weighted_mean,
    weighted_median,
)
from braindecode_clip.resampling.exchanges import Exchanges, draw_exchanges, exchanged_means

__all__ = [
    "Exchanges",
    "Resamples",
    "draw_exchanges",
    "exchanged_means",
    "interval",
    "resample",
    "weighted_mean",
    "weighted_median",
]
