"""Scores of identification and of single dimensions, with chance, interval and p-value."""

from braindecode_clip.evaluate.identify import Identification, identification
from braindecode_clip.evaluate.stage import Evaluation, evaluate

__all__ = ["Evaluation", "Identification", "evaluate", "identification"]
