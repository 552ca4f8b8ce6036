"""Single-trial responses: LSS, LSA, and window averages, tuned over the runs of a subject."""

from braindecode_clip.betas.estimate import estimate_run, estimate_single_trials
from braindecode_clip.betas.subject import estimate_subject
from braindecode_clip.betas.tune import tune_subject

__all__ = ["estimate_run", "estimate_single_trials", "estimate_subject", "tune_subject"]
