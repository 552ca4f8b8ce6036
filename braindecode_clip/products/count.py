"""Candidates above and level with the true one, without the table of similarities."""

from __future__ import annotations

import numpy as np

from braindecode_clip.products.scaled import Scorer


def count_pairs(
    scorer: Scorer, true_index: np.ndarray, *, most_exact: int | None = None
) -> tuple[np.ndarray, np.ndarray] | None:
    """Count block by block; pairs that float32 can't tell apart are scored exactly.

    Parameters
    ----------
    scorer : Scorer
        Of the queries.
    true_index : int array (n_queries,)
        Row of the true candidate in the gallery.
    most_exact : int, optional
        Give up when more pairs than this have to be scored exactly: each costs as much as
        hundreds in a product.

    Returns
    -------
    n_better, n_tied : ndarray (n_queries,) int64
        As :func:`braindecode_clip.metrics.count_better` finds them in the whole table. None
        where ``most_exact`` was exceeded.
    """
    n = len(true_index)
    everyone = np.arange(n)
    true = scorer.exact(everyone, true_index)
    level = scorer.linear(everyone, true_index)
    high, low = level + scorer.slack, level - scorer.slack
    better, tied = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.int64)
    n_exact = 0
    for start, block in scorer.blocks():
        n_above, row, column = block.split(low, high)
        better += n_above
        n_exact += len(row)
        if most_exact is not None and n_exact > most_exact:
            return None
        other = column + start != true_index[row]
        row, column = row[other], column[other] + start
        score = scorer.exact(row, column)
        better += np.bincount(row[score > true[row]], minlength=n)
        tied += np.bincount(row[score == true[row]], minlength=n)
    return better, tied
