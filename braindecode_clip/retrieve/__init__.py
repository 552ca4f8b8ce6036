"""Candidates ranked by their similarity to predicted embeddings."""

from braindecode_clip.retrieve.rank import count_duplicates, gallery_ids, retrieve
from braindecode_clip.retrieve.search import ExactSearch, Neighbours, nearest

__all__ = [
    "ExactSearch",
    "Neighbours",
    "count_duplicates",
    "gallery_ids",
    "nearest",
    "retrieve",
]
