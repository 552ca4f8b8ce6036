"""Single-trial responses: LSS, LSA, and window averages."""

from braindecode_clip.betas.estimate import estimate_run, estimate_single_trials

__all__ = ["estimate_run", "estimate_single_trials"]
