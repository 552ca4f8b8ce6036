"""Tokens that stay in their file until some rows or tokens of them are asked for."""

from __future__ import annotations

from typing import Any

import numpy as np

#: Rows between two wanted ones that are read along rather than asked for apart.
LARGEST_GAP = 16
#: Stored rows that are read in one step at most.
MOST_ROWS = 1024


class TokenRows:
    """Rows of stored tokens, in any order and with repeats, that are read as they are sliced.

    Parameters
    ----------
    data : array-like (n_stored, n_tokens, n_dims)
        With ``shape``, ``dtype`` and slices: an HDF5 data set, an array.
    rows : ndarray (n_rows,) int, optional
        Which rows; all by default.

    Notes
    -----
    ``tokens[rows]`` with an array of positions is another :class:`TokenRows` and reads nothing.
    ``tokens[row]``, ``tokens[3:9]`` and ``tokens[:, 4:8]`` (all rows of some tokens) are arrays
    in the stored type. Rows that stand near one another in the file are read together, those
    between them too.

    Examples
    --------
    >>> stored = np.arange(24.0).reshape(4, 3, 2)
    >>> chosen = TokenRows(stored)[np.array([3, 0, 3])]
    >>> chosen.shape, chosen[:, 1:2].ravel().tolist()
    ((3, 3, 2), [20.0, 21.0, 2.0, 3.0, 20.0, 21.0])
    """

    def __init__(self, data: Any, rows: np.ndarray | None = None) -> None:
        self._data = data
        self._rows = np.arange(data.shape[0]) if rows is None else np.asarray(rows, dtype=np.int64)
        self.shape = (len(self._rows), *map(int, data.shape[1:]))
        self.dtype = data.dtype
        self.ndim = len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, tuple):
            rows, tokens = key
            return self._read(self._rows[rows], tokens)
        if isinstance(key, slice):
            return self._read(self._rows[key], slice(None))
        if np.ndim(key) == 0:
            return self._read(self._rows[[key]], slice(None))[0]
        return TokenRows(self._data, self._rows[np.asarray(key)])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self[:].astype(dtype or self.dtype, copy=False)

    def _read(self, rows: np.ndarray, tokens: slice) -> np.ndarray:
        wanted, place = np.unique(rows, return_inverse=True)
        n_tokens = len(range(*tokens.indices(self.shape[1])))
        found = np.empty((len(rows), n_tokens, *self.shape[2:]), dtype=self.dtype)
        order = np.argsort(place, kind="stable")
        # Where every wanted row's first user stands among the sorted users.
        starts = np.searchsorted(place[order], np.arange(len(wanted) + 1))
        apart = (np.diff(wanted) > LARGEST_GAP) | (np.diff(wanted // MOST_ROWS) > 0)
        breaks = np.flatnonzero(apart) + 1
        for run in np.split(np.arange(len(wanted)), breaks):
            if not len(run):
                continue
            first, last = wanted[run[0]], wanted[run[-1]]
            block = np.asarray(self._data[first : last + 1, tokens])
            users = order[starts[run[0]] : starts[run[-1] + 1]]
            found[users] = block[rows[users] - first]
        return found
