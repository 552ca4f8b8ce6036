"""Cleaning of runs: confounds and drifts regressed out, signals scaled."""

from braindecode_clip.preprocess.clean import clean_run
from braindecode_clip.preprocess.confounds import choose_confounds, expand_confounds
from braindecode_clip.preprocess.masks import intersect_masks

__all__ = ["choose_confounds", "clean_run", "expand_confounds", "intersect_masks"]
