"""What passes between the stages: frozen dataclasses that check themselves.

Arrays have samples first. Every class can be written to HDF5 and read back by
:mod:`braindecode_clip.io.hdf5`, field by field, which is why a field is an array, a
table (``pandas.DataFrame``), a JSON-able dict, a number, a string, or one of these
classes, or a tuple of them.
"""

from braindecode_clip.artifacts.gallery import Gallery
from braindecode_clip.artifacts.matrices import Fold, Samples, VoxelSet
from braindecode_clip.artifacts.records import Fitted, Ledger, Records
from braindecode_clip.artifacts.responses import Betas, RunRegressors, Signals, Tuning
from braindecode_clip.artifacts.token_rows import TokenRows
from braindecode_clip.artifacts.vectors import Embeddings, Predictions, Retrieval
from braindecode_clip.spaces import VoxelSpace

__all__ = [
    "Betas",
    "Embeddings",
    "Fitted",
    "Fold",
    "Gallery",
    "Ledger",
    "Predictions",
    "Records",
    "Retrieval",
    "RunRegressors",
    "Samples",
    "Signals",
    "TokenRows",
    "Tuning",
    "VoxelSet",
    "VoxelSpace",
]
