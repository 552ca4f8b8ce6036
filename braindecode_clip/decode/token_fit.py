"""Fitting decoders of tokens: targets, predictions and weights in blocks, from file to file.

Ridge has a penalty for every target and goes through the targets block by block, on one
decomposition of the voxels' Gram matrix. The contrastive decoder and the MLP learn coordinates of
the targets (:mod:`braindecode_clip.decode.token_space`), of which there are fewer than training
stimuli: the MLP's last layer has 4096 x 8,999 weights for 9,000 stimuli, not 4096 x 197,376 (3 GB).
Contrastive and squared losses are the same as on whole targets; the MLP's ``cosine`` is that of
all tokens in a row, and ridge's penalties at the contrastive start are those of coordinates.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from braindecode_clip.artifacts import Embeddings, Fold, Ledger, Predictions, VoxelSet
from braindecode_clip.config.decode import ContrastiveConfig, MLPConfig, RidgeConfig
from braindecode_clip.config.decoders import SingleConfig
from braindecode_clip.decode.cross_fit import out_of_fold_by
from braindecode_clip.decode.fit import (
    check_groups,
    check_leakage,
    choices_of,
    make_estimator,
    predictions_of,
)
from braindecode_clip.decode.fit_records import decoder_ledger, fit_estimator, note_calibration
from braindecode_clip.decode.fitted import FittedDecoder, FoldDecoder, NamedArray, named_arrays
from braindecode_clip.decode.token_apply import (
    MakeArray,
    calibrate_tokens,
    mixed_blocks,
    n_queries,
    raw_token_blocks,
    test_rows,
    write_blocks,
)
from braindecode_clip.decode.token_check import HeldOut
from braindecode_clip.decode.token_space import TargetSpace, tokens_of
from braindecode_clip.errors import ConfigError
from braindecode_clip.logs import get_logger
from braindecode_clip.seeds import derive_seed

if TYPE_CHECKING:
    from braindecode_clip.decode.training import Store

TokenConfig = RidgeConfig | ContrastiveConfig | MLPConfig
logger = get_logger(__name__)


def decode_tokens(
    voxels: VoxelSet,
    embeddings: Embeddings,
    *,
    config: SingleConfig,
    seed: int,
    encoder: str = "",
    store: Store | None = None,
    make_array: MakeArray = np.empty,
    make_weights: MakeArray | None = None,
) -> tuple[Predictions, FittedDecoder]:
    """Fit on the training rows of every fold and predict the tokens of its test rows.

    Parameters
    ----------
    voxels : VoxelSet
    embeddings : Embeddings
        Tokens of every stimulus of the voxels; they may lie in a file.
    config : RidgeConfig, ContrastiveConfig or MLPConfig
    seed, encoder, store
        As for :func:`braindecode_clip.decode.decode`.
    make_array : callable
        Given a shape and a dtype, makes room for the predictions.
    make_weights : callable, optional
        The same for ridge's weights (n_kept, n_tokens, n_dims); without it they are not kept, and
        the decoder cannot be applied again.

    Returns
    -------
    predictions : Predictions
        Tokens (n_queries, n_tokens, n_dims), calibrated.
    decoder : FittedDecoder

    Raises
    ------
    ConfigError
        Another kind of decoder.
    DataError, LeakageError
        As :func:`braindecode_clip.decode.decode`.
    """
    if not isinstance(config, TokenConfig):
        raise ConfigError(
            f"decoder '{config.name}': kind '{config.kind}' does not take token targets; ridge, "
            "contrastive and mlp do. Choose one of them, or an encoder of 'targets: pooled'."
        )
    parts = [part for fold in voxels.folds for part in (fold.train, fold.test)]
    embeddings.rows(np.unique(np.concatenate([part.stimulus_id for part in parts])))
    check_leakage({fold.name: fold.train.stimulus_id for fold in voxels.folds}, voxels)
    out = make_array((n_queries(voxels), *embeddings.vectors.shape[1:]), np.float32)
    folds, ledger = [], decoder_ledger(config.name, voxels)
    for rows, fold in test_rows(voxels):
        fit = _Fit(voxels, fold, embeddings, config=config, seed=seed, ledger=ledger)
        if isinstance(config, RidgeConfig):
            folds.append(fit.ridge(out, rows, make_weights=make_weights))
        else:
            folds.append(fit.reduced(out, rows, store=store))
    fitted = FittedDecoder(
        kind=config.kind,
        name=config.name,
        encoder=encoder,
        subject=voxels.subject,
        roi=voxels.roi,
        split=voxels.split,
        unit=voxels.unit,
        space=voxels.space,
        fingerprint=embeddings.fingerprint,
        options=config.model_dump(mode="json"),
        folds=tuple(folds),
        records=voxels.records.joined(ledger.items),
    )
    return predictions_of(fitted, voxels, out), fitted


class _Fit:
    """The fit of one fold."""

    def __init__(
        self,
        voxels: VoxelSet,
        fold: Fold,
        embeddings: Embeddings,
        *,
        config: TokenConfig,
        seed: int,
        ledger: Ledger,
    ) -> None:
        self.noted = {"fold": fold.name, "ledger": ledger}
        self.fold, self.embeddings, self.config = fold, embeddings, config
        self.groups, self.n_groups = check_groups(fold, voxels.unit)
        labels = (voxels.subject, voxels.roi, voxels.split, fold.name, config.name)
        self.seed = derive_seed(seed, "decode", *labels) % 2**31
        self.estimator: Any = make_estimator(config, n_groups=self.n_groups, seed=self.seed)
        self.n_targets = int(np.prod(embeddings.vectors.shape[1:]))
        self.held = HeldOut(fold.train.stimulus_id, self.n_targets, method=config.calibration)

    def ridge(self, out: Any, rows: slice, *, make_weights: MakeArray | None) -> FoldDecoder:
        """Fit ridge, with the predictions of the test rows on the way."""
        train, estimator = self.fold.train, self.estimator
        targets = self.embeddings.vectors[self.embeddings.rows(train.stimulus_id)]
        shape = (train.data.shape[1], *targets.shape[1:])
        weights = make_weights(shape, np.float32) if make_weights is not None else None
        weighted = isinstance(self.config, RidgeConfig) and self.config.weight_by_repeats
        fit_estimator(
            estimator,
            train,
            _Watched(targets),
            kind=self.config.kind,
            **self.noted,
            groups=self.groups,
            sample_weight=train.n_repeats if weighted else None,
            coef_out=_Predicting(self.fold.test.data, out=out, rows=rows, weights=weights),
            held_out=_Checking(targets, self.held),
        )
        scores = self.held.finish()
        self._calibrate(out, rows, intercept=estimator.intercept_)
        arrays = {
            "intercept": estimator.intercept_,
            "alpha": estimator.alpha_,
            "alphas": np.asarray(estimator.alphas, dtype=np.float64),
            "cv_mse": estimator.cv_mse_,
        }
        if weights is not None:
            arrays["coef"] = weights
        named = tuple(NamedArray(name, data) for name, data in arrays.items())
        return self._decoder(named, scores)

    def reduced(self, out: Any, rows: slice, *, store: Store | None) -> FoldDecoder:
        """Fit a decoder of the targets' coordinates."""
        train, estimator, config = self.fold.train, self.estimator, self.config
        names, index = np.unique(train.stimulus_id.astype(str), return_inverse=True)
        targets = self.embeddings.vectors[self.embeddings.rows(names)]
        components = getattr(config, "target_components", None)
        space = TargetSpace(targets, n_components=components, seed=self.seed)
        logger.info(
            "%d coordinates for %d targets of %d stimuli",
            *(len(space.mix), self.n_targets, len(names)),
        )
        more = {"store": store.part(self.fold.name)} if store else {}
        self.noted["ledger"].add("coordinates of targets", train, fold=self.fold.name)
        fit_estimator(
            estimator,
            train,
            space.coordinates[index],
            kind=config.kind,
            **self.noted,
            groups=self.groups,
            stimuli=train.stimulus_id,
            **more,
        )
        for part, block in mixed_blocks(estimator.out_of_fold_, space.mix, targets):
            tokens = tokens_of(part, out.shape[2])
            truth = np.asarray(targets[:, tokens]).reshape(len(names), -1)[index]
            self.held.add(part, block, truth)
        scores = self.held.finish()
        named = (
            *named_arrays(estimator),
            NamedArray("token_mix", space.mix),
            NamedArray("token_stimuli", names),
        )
        decoder = self._decoder(named, scores)
        blocks = raw_token_blocks(
            decoder, self.fold.test.data, kind=config.kind, embeddings=self.embeddings
        )
        write_blocks(out, rows, blocks)
        self._calibrate(out, rows)
        return decoder

    def _calibrate(self, out: Any, rows: slice, *, intercept: np.ndarray | None = None) -> None:
        calibrate_tokens(
            out,
            rows,
            gain=self.held.gain,
            offset=self.held.offset,
            intercept=intercept,
            transductive=self.config.calibration == "transductive",
        )

    def _decoder(self, arrays: tuple[NamedArray, ...], scores: dict[str, Any]) -> FoldDecoder:
        fold, method = self.fold, self.config.calibration
        note_calibration(**self.noted, rows=fold.train, known=self.held.known, method=method)
        found = {
            "n_train": len(fold.train.data),
            "n_voxels": int(self.estimator.n_features_in_),
            "n_inner_groups": self.n_groups,
            "out_of_fold_by": out_of_fold_by(self.estimator),
        }
        return FoldDecoder(
            fold=fold.name,
            voxel_index=fold.voxel_index,
            mean=fold.mean,
            sd=fold.sd,
            arrays=arrays,
            gain=self.held.gain,
            offset=self.held.offset,
            seen=np.union1d(fold.seen, fold.train.stimulus_id),
            info=found | scores | choices_of(self.estimator),
        )


class _Predicting:
    """Takes the weights of some voxels and targets: adds them up to predictions, keeps them."""

    def __init__(self, X: np.ndarray, *, out: Any, rows: slice, weights: Any) -> None:
        self.shape = (X.shape[1], out.shape[1] * out.shape[2])
        self._X, self._out, self._rows, self._weights = X, out, rows, weights
        self._n_seen = 0

    def __setitem__(self, key: tuple[slice, slice], block: np.ndarray) -> None:
        voxels, part = key
        if self._n_seen == 0:
            self._total = np.zeros((len(self._X), block.shape[1]))
        self._total += self._X[:, voxels] @ block
        self._n_seen += len(block)
        if self._weights is not None:
            n_dims = self._out.shape[2]
            whole = block.reshape(len(block), -1, n_dims)
            self._weights[voxels, tokens_of(part, n_dims)] = whole
        if self._n_seen == self.shape[0]:
            write_blocks(self._out, self._rows, iter([(part, self._total)]))
            self._n_seen = 0


class _Checking:
    """Takes the out-of-fold predictions of some targets and compares them with these."""

    def __init__(self, targets: Any, held: HeldOut) -> None:
        self._targets, self._held = targets, held

    def __setitem__(self, key: tuple[slice, slice], block: np.ndarray) -> None:
        tokens = tokens_of(key[1], self._targets.shape[2])
        truth = np.asarray(self._targets[:, tokens])
        self._held.add(key[1], block, truth.reshape(len(truth), -1))


class _Watched:
    """Targets that log how far they have been read: the penalties' pass, then the weights'."""

    def __init__(self, targets: Any) -> None:
        self.shape, self.dtype, self._targets = targets.shape, targets.dtype, targets
        self._tenth = self._pass = 0

    def __getitem__(self, key: tuple[slice, slice]) -> Any:
        share = key[1].stop / self.shape[1]
        if int(10 * share) < self._tenth:
            self._pass, self._tenth = 1, 0
        if self.shape[1] >= 20 and int(10 * share) > self._tenth:
            what = "weights" if self._pass else "penalties"
            logger.info("ridge: %s of %.0f %% of the targets", what, 100 * share)
        self._tenth = int(10 * share)
        return self._targets[key]
