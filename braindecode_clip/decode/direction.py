"""One ridge penalty for all targets and a flattening of the embedding, chosen by InfoNCE.

Squared error chooses the penalty of a target by how far it is to be shrunk, and where there is
much noise that is all the way. Identification takes only directions; what they cost is the noise
that voxels share, so that the best penalty is another one, and one for all targets. The second
number, s, divides principal coordinate k of the embedding, of variance λ_k, by ``1 + s λ_k / λ_1``:
the few directions in which all pictures differ most do not decide every rank.

With one penalty for all targets the held-out predictions of the principal coordinates are all
that is needed, of which there are fewer than rows, however many targets there are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.sparse import csr_array

from braindecode_clip.decode.downdate import Route, choose_route
from braindecode_clip.decode.grams import mean_of_folds
from braindecode_clip.decode.row_space import RowSpace
from braindecode_clip.decode.tables import VoxelTable, column_means
from braindecode_clip.decode.targets import Shape

#: Values of s that are tried; 0 leaves the coordinates as they are.
FLATTENINGS = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
#: Stimuli that are each other's distractors, at most.
BLOCK_ROWS = 256
#: Logit scales (one over the temperature) between which the best one is sought.
SCALES = (1.0, 300.0)
#: Bytes of held-out residuals that are kept; beyond, they are computed again.
KEPT_BYTES = 2**29
#: Neighbours on the grid of penalties that are tried again once s is chosen, on either side.
NEIGHBOURS = 2


class Embedded:
    """Principal coordinates of the training targets, and the vectors that are compared.

    Parameters
    ----------
    Y : ndarray (n_samples, n_targets)
    shape : Shape
        Of the targets: with ``pooled`` the mean over tokens is compared.
    pooled : bool

    Attributes
    ----------
    mean : ndarray (n_targets,) float64
    coordinates : ndarray (n_samples, k) float64
        Of the centred targets, by decreasing variance.
    basis : ndarray (n_targets, k)
        Orthonormal columns, in the dtype of Y.
    """

    def __init__(self, Y: np.ndarray, *, shape: Shape, pooled: bool) -> None:
        space = RowSpace(Y)
        self.mean, self.coordinates = space.mean, space.scores
        self.basis = space.weights(np.eye(self.coordinates.shape[1]))
        variance = np.square(self.coordinates).mean(axis=0)
        self._shares = variance / variance.max(initial=np.finfo(float).tiny)
        self._pool = pooled and shape.n_tokens > 1
        if self._pool:
            tokens = (shape.n_tokens, -1)
            self._offset = self.mean.reshape(tokens).mean(axis=0)
            self._map = self.basis.reshape(*tokens, self.basis.shape[1]).mean(axis=0).T
        else:
            along = self.basis.T.astype(np.float64) @ self.mean
            beyond = np.sqrt(max(np.square(self.mean).sum() - np.square(along).sum(), 0.0))
            self._offset = np.append(along, beyond)

    def gains(self, flattening: float) -> np.ndarray:
        """Return ``1 / (1 + s λ_k / λ_1)``; (k,)."""
        return 1 / (1 + flattening * self._shares)

    def flattened(self, vectors: np.ndarray, flattening: float) -> np.ndarray:
        """Apply the gains to deviations or weights (n, n_targets)."""
        along = vectors @ self.basis
        return vectors - (along * (1 - self.gains(flattening))) @ self.basis.T

    def vectors(self, coordinates: np.ndarray) -> np.ndarray:
        """Return the unit vectors of targets (n, k); (n, q)."""
        return self._unit(coordinates)

    def predicted(self, coordinates: np.ndarray, like: np.ndarray) -> np.ndarray:
        """Return the unit vectors of predictions, given the spread of their targets; (n, q).

        As the calibration by spread does, so that the mean vector counts as much as it will.
        """
        spread = np.square(like - like.mean(axis=0)).sum()
        power = float(np.square(coordinates - coordinates.mean(axis=0)).sum())
        return self._unit(coordinates * (np.sqrt(spread / power) if power > 0 else 0.0))

    def _unit(self, coordinates: np.ndarray) -> np.ndarray:
        if self._pool:
            vectors = coordinates @ self._map + self._offset
        else:
            # The mean has one direction more than the coordinates.
            vectors = np.hstack([coordinates, np.zeros((len(coordinates), 1))]) + self._offset
        return unit_rows(vectors)


class Judge:
    """InfoNCE of the held-out predictions at the temperature that suits them best.

    Symmetric InfoNCE (Radford et al., ICML 2021, fig. 3) is convex in the logit scale, so that
    one search finds the best. What is compared are stimuli, their repeats averaged, as test
    trials are; they are distractors of each other in random blocks.

    Parameters
    ----------
    labels : ndarray (n_samples,) int
        Stimulus of every row.
    rows : ndarray (n_judged,) int
        Rows that count: those with a held-out prediction.
    rng : numpy.random.Generator
        Deals the stimuli to the blocks.
    """

    def __init__(self, labels: np.ndarray, *, rows: np.ndarray, rng: np.random.Generator) -> None:
        shown, position = np.unique(labels[rows], return_inverse=True)
        share = 1 / np.bincount(position)[position]
        self._mean = csr_array((share, (position, rows)), shape=(len(shown), len(labels)))
        n_blocks = -(-len(shown) // BLOCK_ROWS)
        self.blocks = np.array_split(rng.permutation(len(shown)), n_blocks)

    def averaged(self, values: np.ndarray) -> np.ndarray:
        """Average the rows of each stimulus; (n_stimuli, n_columns)."""
        return self._mean @ values

    def loss(self, predicted: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
        """Return the mean loss of unit vectors (n_stimuli, q), and the best logit scale."""
        parts = [predicted[block] @ truth[block].T for block in self.blocks]

        def at(log_scale: float) -> float:
            scale, total = np.exp(log_scale), 0.0
            for cosines in parts:
                # Cosines are at most 1, so that nothing overflows.
                weights = np.exp(scale * (cosines - 1))
                by_row, by_column = np.log(weights.sum(axis=1)), np.log(weights.sum(axis=0))
                right = scale * (cosines.diagonal() - 1)
                total += float((by_row + by_column).sum() / 2 - right.sum())
            return total / len(predicted)

        bounds = (np.log(SCALES[0]), np.log(SCALES[1]))
        found = minimize_scalar(at, bounds=bounds, method="bounded", options={"xatol": 0.02})
        return float(found.fun), float(np.exp(found.x))

    def loss_of(self, coordinates: np.ndarray, truth: np.ndarray) -> float:
        """Return the loss of centred coordinates (n_samples, k), compared by their direction."""
        vectors = [self.averaged(part) for part in (coordinates, truth)]
        return self.loss(*(unit_rows(part - part.mean(axis=0)) for part in vectors))[0]


def unit_rows(vectors: np.ndarray) -> np.ndarray:
    """Scale every row to length 1; a row of zeros stays."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-300)


@dataclass(frozen=True)
class Direction:
    """The best of the family, and what it predicts.

    Attributes
    ----------
    alpha : float or None
        None: the penalties of ridge, one for every target.
    flattening : float
    loss : float
        Held-out InfoNCE.
    scale : float
        Logit scale that suits it best.
    held : ndarray (n_samples, k)
        Held-out predictions of the coordinates, flattened; NaN for rows never held out.
    """

    alpha: float | None
    flattening: float
    loss: float
    scale: float
    held: np.ndarray


class DirectionSearch:
    """Ridge of the principal coordinates at one penalty for all, for every penalty of a grid.

    Parameters
    ----------
    X : ndarray (n_samples, n_voxels)
    embedded : Embedded
    alphas : ndarray (n_alphas,)
    folds : sequence of ndarray
        Held-out rows of every fold.
    dtype : type
        Of the held-out residuals.
    """

    def __init__(
        self,
        X: np.ndarray,
        embedded: Embedded,
        *,
        alphas: np.ndarray,
        folds: Sequence[np.ndarray],
        dtype: np.dtype,
    ) -> None:
        self.embedded, self.alphas = embedded, np.sort(alphas)
        self.mean = column_means(X, root=None)
        table = VoxelTable(X, mean=self.mean, root=None)
        sizes = [len(rows) for rows in folds]
        route_type = choose_route(*table.shape, fold_sizes=sizes, n_alphas=len(alphas))
        self._route: Route = route_type(
            table,
            direction=np.full(len(X), len(X) ** -0.5),
            alphas=self.alphas,
            folds=folds,
            dtype=dtype,
        )
        self._route.load(np.ascontiguousarray(embedded.coordinates.T, dtype=dtype))
        self._kept: dict[int, list[np.ndarray]] = {}

    def best_penalty(self, judge: Judge) -> Direction:
        """Return the best of all penalties, nothing flattened."""
        tried = [self._at(i, 0.0, judge) for i in range(len(self.alphas))]
        return min(tried, key=lambda item: item.loss)

    def best(self, judge: Judge) -> Direction:
        """Search the penalties, then the flattenings, then the penalties near the best again."""
        first = self.best_penalty(judge)
        chosen = int(np.flatnonzero(self.alphas == first.alpha)[0])
        tried = [first, *(self._at(chosen, s, judge) for s in FLATTENINGS[1:])]
        flattening = min(tried, key=lambda item: item.loss).flattening
        tried += [self._at(i, flattening, judge) for i in self._near(chosen)]
        return min(tried, key=lambda item: item.loss)

    def coefficients(self, found: Direction) -> np.ndarray:
        """Return the weights of all voxels for all targets; (n_voxels, n_targets)."""
        embedded = self.embedded
        right = (embedded.basis * embedded.gains(found.flattening)).T
        coef = np.empty((self._route.table.shape[1], right.shape[1]), dtype=right.dtype)
        best = np.full(self._n_targets, int(np.flatnonzero(self.alphas == found.alpha)[0]))
        for part, weights in self._route.coefficients_at(best):
            coef[part] = weights.astype(right.dtype, copy=False) @ right
        return coef

    def best_of_ridge(self, judge: Judge) -> tuple[Direction, Direction]:
        """Return ridge with a penalty for every target, and the same with the best flattening.

        The penalties that predict a fold are those of least squared error in the other folds.
        Chosen in the same fold, hundreds of them would look better than one that was not.
        """
        basis = self.embedded.basis.astype(np.float64)
        errors = np.array([self._squared_errors(i, basis) for i in range(len(self.alphas))])
        total = np.zeros(self.embedded.coordinates.shape)
        for fold, rows in enumerate(self._route.folds):
            chosen = np.delete(errors, fold, axis=1).sum(axis=1).argmin(axis=0)
            for i in np.unique(chosen):
                targets = basis[chosen == i]
                # What the chosen targets say about the coordinates: ``(ŷ - ȳ) V``.
                total[rows] += self._predicted(i, fold) @ targets.T @ targets
        held = mean_of_folds(total, self._route.folds)
        tried = [self._judged(held, judge, flattening=s) for s in FLATTENINGS]
        return tried[0], min(tried, key=lambda item: item.loss)

    def _squared_errors(self, position: int, basis: np.ndarray) -> list[np.ndarray]:
        """Return the summed squared residuals of every target in every fold."""
        return [np.square(basis @ residuals).sum(axis=1) for residuals in self._residuals(position)]

    def _residuals(self, position: int) -> list[np.ndarray]:
        """Return the held-out residuals at one penalty; each (k, n_fold)."""
        if position in self._kept:
            return self._kept[position]
        found = self._route.errors_at(np.full(self._n_targets, position))
        if (len(self._kept) + 1) * sum(part.nbytes for part in found) <= KEPT_BYTES:
            self._kept[position] = found
        return found

    def _predicted(self, position: int, fold: int) -> np.ndarray:
        """Return the held-out predictions of a fold; (n_fold, k)."""
        rows = self._route.folds[fold]
        return self.embedded.coordinates[rows] - self._residuals(position)[fold].T

    def _at(self, position: int, flattening: float, judge: Judge) -> Direction:
        total = np.zeros(self.embedded.coordinates.shape)
        for fold, rows in enumerate(self._route.folds):
            total[rows] += self._predicted(position, fold)
        held = mean_of_folds(total, self._route.folds)
        alpha = float(self.alphas[position])
        return self._judged(held, judge, flattening=flattening, alpha=alpha)

    def _judged(
        self, held: np.ndarray, judge: Judge, *, flattening: float, alpha: float | None = None
    ) -> Direction:
        held = held * self.embedded.gains(flattening)
        mean, wanted = judge.averaged(held), judge.averaged(self.embedded.coordinates)
        vectors = self.embedded.predicted(mean, wanted), self.embedded.vectors(wanted)
        loss, scale = judge.loss(*vectors)
        return Direction(alpha, flattening, loss, scale, held)

    def _near(self, chosen: int) -> Iterator[int]:
        for i in range(chosen - NEIGHBOURS, chosen + NEIGHBOURS + 1):
            if i != chosen and 0 <= i < len(self.alphas):
                yield i

    @property
    def _n_targets(self) -> int:
        return self.embedded.coordinates.shape[1]
