"""Candidates ranked by their similarity to predicted embeddings."""

from braindecode_clip.retrieve.hubness import hub_offsets
from braindecode_clip.retrieve.pool import count_duplicates, gallery_ids, make_pool
from braindecode_clip.retrieve.rank import retrieve
from braindecode_clip.retrieve.repeats import average_repeats
from braindecode_clip.retrieve.search import ExactSearch, Neighbours, nearest

__all__ = [
    "ExactSearch",
    "Neighbours",
    "average_repeats",
    "count_duplicates",
    "gallery_ids",
    "hub_offsets",
    "make_pool",
    "nearest",
    "retrieve",
]
