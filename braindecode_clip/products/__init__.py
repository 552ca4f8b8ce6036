"""Products of queries with a gallery: fast in float32, exact where float32 can't tell."""

from braindecode_clip.products.count import count_pairs
from braindecode_clip.products.scaled import ScaledGallery, Scorer

__all__ = ["ScaledGallery", "Scorer", "count_pairs"]
