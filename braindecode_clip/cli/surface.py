"""``braindecode-clip surface``: accuracy against training data, repeats and candidates."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer

from braindecode_clip.cli.common import options_help, read_options
from braindecode_clip.cli.decode import encoder_name, read_decoder_config
from braindecode_clip.config.decoders import SECTIONS, AnyDecoderConfig
from braindecode_clip.config.surface import SurfaceConfig
from braindecode_clip.errors import ConfigError

if TYPE_CHECKING:
    from braindecode_clip.artifacts import Embeddings, Fold, VoxelSet
    from braindecode_clip.evaluate.surface import Cut


def surface(
    voxels: Annotated[Path, typer.Option(help="Voxels of a subject and ROI, from `voxels`.")],
    embeddings: Annotated[Path, typer.Option(help="Targets, from `embed`.")],
    out: Annotated[Path, typer.Option(help="Table to write (TSV).")],
    decoder: Annotated[
        str | None,
        typer.Option(help="Options of the decoder, as YAML or JSON text, or a file. Ridge if not."),
    ] = None,
    options: Annotated[
        str | None, typer.Option(help="Options as YAML or JSON text, or a file with them.")
    ] = None,
    out_figure: Annotated[Path | None, typer.Option(help="Figure to write (PNG).")] = None,
    seed: Annotated[int, typer.Option(help="Master seed.")] = 2026,
) -> None:
    """Fit a decoder on random parts of the training data, and score fewer repeats and candidates.

    The table also extrapolates: to more training data, more repeats and more candidates, with
    intervals; and it checks itself by predicting the scores with all training data from at most
    half of them.
    """
    from braindecode_clip.artifacts import Embeddings, VoxelSet
    from braindecode_clip.evaluate.surface import surface_table
    from braindecode_clip.io.hdf5 import load_artifact
    from braindecode_clip.io.tables import write_tsv
    from braindecode_clip.logs import get_logger, milestone
    from braindecode_clip.seeds import make_rng

    logger = get_logger(__name__)
    config = read_options(options, SurfaceConfig)
    fitted = read_decoder_config(decoder, flag="--decoder")
    if fitted.kind in ("ensemble", "shared") or getattr(fitted, "bands", None):
        raise ConfigError(
            f"--decoder: got kind '{fitted.kind}', which other decoders, subjects or regions take "
            "part in. Expected a decoder of one subject and region, such as 'kind: ridge'."
        )
    if fitted.calibration == "transductive":
        raise ConfigError(
            "--decoder: 'calibration: transductive' would make each score depend on the other "
            "test rows. Choose another, such as 'spread'."
        )
    samples, targets = load_artifact(voxels, VoxelSet), load_artifact(embeddings, Embeddings)
    labels = {"subject": samples.subject, "roi": samples.roi, "split": samples.split}
    labels |= {"encoder": encoder_name(embeddings, targets), "decoder": fitted.name}
    rng = make_rng(seed, "surface", *labels.values())
    fit_rng, score_rng = rng.spawn(2)
    with milestone(logger, f"surface of {fitted.name} on {samples.roi}") as note:
        cuts, n_others = measure_cuts(
            samples, targets, decoder=fitted, config=config, seed=seed, rng=fit_rng
        )
        tests = [fold.test for fold in samples.folds]
        named = [t.group if samples.unit == "run" else t.stimulus_id for t in tests]
        table = surface_table(
            cuts, np.concatenate(named), n_others=n_others, config=config, rng=score_rng
        )
        checked = table[table["kind"] == "check"]
        held = f", {int(checked['inside'].sum())} of {len(checked)} checks held"
        note(f"{len(cuts)} cuts, {n_others + 1} candidates{held if len(checked) else ''}")
    write_tsv(out, table.assign(**labels))
    logger.info("wrote %s", out)
    if out_figure is not None:
        from braindecode_clip.io.atomic import atomic_path
        from braindecode_clip.report.surface_figure import surface_figure
        from braindecode_clip.report.theme import to_png

        with atomic_path(out_figure) as temporary:
            temporary.write_bytes(to_png(surface_figure(table)))
        logger.info("wrote %s", out_figure)


surface.__doc__ = f"{surface.__doc__}\n\n{options_help(SurfaceConfig, *SECTIONS.values())}"


def measure_cuts(
    voxels: VoxelSet,
    embeddings: Embeddings,
    *,
    decoder: AnyDecoderConfig,
    config: SurfaceConfig,
    seed: int,
    rng: np.random.Generator,
) -> tuple[list[Cut], int]:
    """Fit on every part of the training data, and rank means of every number of repeats.

    Returns
    -------
    cuts : list of Cut
        From little training data to much, and from one repeat to all.
    n_others : int
        Distractors of every test row.
    """
    from braindecode_clip.decode import decode, predict_samples
    from braindecode_clip.decode.train_subset import nested_subsets
    from braindecode_clip.evaluate.surface import Cut
    from braindecode_clip.metrics import count_better
    from braindecode_clip.similarity import similarity_matrix

    tests = [fold.test for fold in voxels.folds]
    shown = np.concatenate([test.stimulus_id for test in tests]).astype(str)
    ids = np.unique(shown) if config.candidates == "test" else embeddings.ids.astype(str)
    gallery = embeddings.vectors[embeddings.rows(ids)]
    true_index = np.searchsorted(ids, shown) if config.candidates == "test" else None
    if true_index is None:
        true_index = embeddings.rows(shown)
    choices = repeat_choices(voxels, config, rng.spawn(1)[0])
    found: dict[tuple[float, int], list[tuple[int, float, np.ndarray, np.ndarray]]] = {}
    for order, stream in enumerate(rng.spawn(config.seeds)):
        # All training data are the same in every order.
        wanted = [f for f in config.fractions if f < 1 or order == 0]
        for fraction, part in zip(wanted, nested_subsets(voxels, wanted, stream), strict=True):
            _, fitted = decode(part, embeddings, config=decoder, seed=seed)
            n_train = float(np.mean([fold.train.n_repeats.sum() for fold in part.folds]))
            for n_repeats, draws in choices.items():
                for draw in draws:
                    vectors = [
                        predict_samples(own, _averaged(fold, rows), kind=fitted.kind)
                        for own, fold, rows in zip(fitted.folds, part.folds, draw, strict=True)
                    ]
                    table = similarity_matrix(np.concatenate(vectors), gallery)
                    counted = count_better(table, true_index)
                    found.setdefault((fraction, n_repeats), []).append((order, n_train, *counted))
    cuts = []
    for (fraction, n_repeats), parts in sorted(found.items(), key=lambda item: item[0]):
        orders, amounts, better, tied = zip(*parts, strict=True)
        cuts.append(
            Cut(
                fraction=fraction,
                n_train=float(np.mean(amounts)),
                n_repeats=n_repeats,
                n_better=np.stack(better),
                n_tied=np.stack(tied),
                seed=np.array(orders),
            )
        )
    return cuts, len(ids) - 1


def repeat_choices(
    voxels: VoxelSet, config: SurfaceConfig, rng: np.random.Generator
) -> dict[int, list[list[list[np.ndarray]]]]:
    """Choose which trials of each test row are averaged.

    Returns
    -------
    dict
        Number of repeats to choices; a choice has a list for each fold, of the positions of the
        trials in ``test_trials`` for each row of ``test`` (of the row itself in ``test`` where
        nothing was averaged).
    """
    per_fold = [_trials_of_rows(fold) for fold in voxels.folds]
    fewest = min(len(rows) for fold in per_fold for rows in fold)
    most = min(fewest, config.max_repeats or fewest)
    choices: dict[int, list[list[list[np.ndarray]]]] = {}
    for n_repeats in range(1, most + 1):
        # All repeats of every row can be chosen in one way.
        alone = all(len(rows) == n_repeats for fold in per_fold for rows in fold)
        choices[n_repeats] = [
            [[rng.permutation(rows)[:n_repeats] for rows in fold] for fold in per_fold]
            for _ in range(1 if alone else config.repeat_draws)
        ]
    return choices


def _trials_of_rows(fold: Fold) -> list[np.ndarray]:
    if fold.test_trials is None:
        return [np.array([row]) for row in range(len(fold.test.data))]
    names = fold.test_trials.stimulus_id
    return [np.flatnonzero(names == name) for name in fold.test.stimulus_id]


def _averaged(fold: Fold, rows: list[np.ndarray]) -> np.ndarray:
    """Return the mean of the chosen trials of every test row, (n_rows, n_kept) float32."""
    data = (fold.test if fold.test_trials is None else fold.test_trials).data
    means = [data[own].mean(axis=0, dtype=np.float64) for own in rows]
    return np.array(means).astype(np.float32)
