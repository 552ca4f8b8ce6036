"""Bottleneck curve, leave-one-ROI-out importance, and the comparison of decoders."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from braindecode_clip.artifacts import VoxelSpace
from braindecode_clip.cli.main import main
from braindecode_clip.config.decode import AlphaGrid, RidgeConfig
from braindecode_clip.config.decode_extras import BottleneckConfig, ImportanceConfig
from braindecode_clip.decode import decode
from braindecode_clip.decode.bands import without_voxels
from braindecode_clip.decode.bottleneck import bottleneck_curve
from braindecode_clip.decode.compare import compare_decoders
from braindecode_clip.decode.importance import leave_one_roi_out
from braindecode_clip.errors import DataError
from braindecode_clip.io.atomic import write_json
from braindecode_clip.io.hdf5 import save_artifact
from braindecode_clip.io.tables import read_tsv
from braindecode_clip.provenance import Provenance

GRID = AlphaGrid(low=1, high=1e5, count=6)
RIDGE = RidgeConfig(alphas=GRID)
CURVE = BottleneckConfig(ranks=[1, 6, 999], alphas=GRID, n_random=20, n_bootstrap=300)
MAPS = ("reliability", "ncsnr", "noise_ceiling")
PROVENANCE = Provenance(stage="decode", options={}, inputs={}, seed=1, code_digest="")


def part_of(space, index):
    return VoxelSpace(affine=space.affine, shape=space.shape, ijk=space.ijk[index])


@pytest.fixture
def curve(picture_set, toy):
    return bottleneck_curve(picture_set, toy.embeddings(), config=CURVE, seed=0)


def test_curve_rises_with_rank_and_random_maps_need_more(curve):
    assert list(curve["map"]) == ["prior", *["learned"] * 3, *["random"] * 3]
    assert list(curve["rank"]) == [0, 1, 6, 32, 1, 6, 32]
    learned = curve[curve["map"] == "learned"].set_index("rank")
    random = curve[curve["map"] == "random"].set_index("rank")
    assert learned["pairwise"][6] > learned["pairwise"][1] + 0.05
    assert (learned["pairwise"] > random["pairwise"] + 0.03).all()
    assert (curve["ci_low"] < curve["pairwise"]).all()
    assert (curve["pairwise"] < curve["ci_high"]).all()
    assert (curve["n"] == 40).all()


def test_the_prior_is_at_chance_though_it_resembles_the_targets(curve):
    """The embeddings share a mean direction, so cosine alone flatters it."""
    prior = curve.iloc[0]
    assert prior["pairwise"] == pytest.approx(0.5, abs=0.05)
    assert prior["cosine"] > 0.5


def test_without_a_limit_the_curve_ends_at_one_penalty_for_all(curve, picture_set, toy):
    """Rank 32 of 32 dimensions is no limit: near ridge with a penalty a dimension."""
    predictions, _ = decode(picture_set, toy.embeddings(), config=RIDGE, seed=0)
    from braindecode_clip.decode.identify import pairwise_shares

    shares = pairwise_shares(predictions.vectors, toy.vectors[160:], predictions.stimulus_id)
    full = curve[(curve["map"] == "learned") & (curve["rank"] == 32)]["pairwise"].item()
    assert full == pytest.approx(shares.mean(), abs=0.03)


def test_importance_is_the_loss_of_refitted_decoders(picture_set, toy):
    """Voxels 100 to 149 carry no signal here; without the others nothing is left."""
    fold = picture_set.folds[0]
    rng = np.random.default_rng(0)

    def blank(samples):
        data = samples.data.copy()
        data[:, 100:] = rng.standard_normal((len(data), 50))
        return dataclasses.replace(samples, data=data)

    blanked = dataclasses.replace(fold, train=blank(fold.train), test=blank(fold.test))
    voxels = dataclasses.replace(picture_set, folds=(blanked,))
    space = voxels.space
    parts = {"signal": part_of(space, np.arange(100)), "noise": part_of(space, np.arange(100, 150))}
    table = leave_one_roi_out(
        voxels,
        toy.embeddings(),
        parts,
        decoder=RIDGE,
        config=ImportanceConfig(n_bootstrap=300),
        seed=0,
    ).set_index("left_out")
    assert list(table["n_voxels"]) == [150, 50, 100]
    assert table["loss"][""] == table["loss_ci_low"][""] == 0
    assert table["loss_ci_low"]["signal"] > 0.1
    assert table["loss"]["noise"] == pytest.approx(0, abs=0.05)
    expected, _ = decode(
        without_voxels(voxels, np.arange(150) >= 100), toy.embeddings(), config=RIDGE, seed=0
    )
    from braindecode_clip.decode.identify import pairwise_shares

    shares = pairwise_shares(expected.vectors, toy.vectors[160:], expected.stimulus_id)
    assert table["pairwise"]["noise"] == shares.mean()
    assert table["loss"]["noise"] == pytest.approx(table["pairwise"][""] - shares.mean())


def test_importance_refuses_a_part_outside_the_region(picture_set, toy):
    voxels = without_voxels(picture_set, np.arange(150) >= 60)
    index = np.arange(60)
    voxels = dataclasses.replace(
        voxels,
        space=part_of(picture_set.space, index),
        **{name: getattr(voxels, name)[index] for name in MAPS},
    )
    options = {"decoder": RIDGE, "config": ImportanceConfig(), "seed": 0}
    with pytest.raises(DataError, match="'far' shares no voxel with 'visual'"):
        leave_one_roi_out(
            voxels, toy.embeddings(), {"far": part_of(picture_set.space, [80])}, **options
        )


@pytest.fixture
def fitted(picture_set, toy):
    return decode(picture_set, toy.embeddings(), config=RIDGE, seed=0, encoder="toy")[1]


def scored(decoder, *, gallery="test", pairwise):
    labels = {key: getattr(decoder, key) for key in ("subject", "roi", "split", "encoder")}
    common = {**labels, "decoder": decoder.name, "gallery": gallery, "chance": 0.1}
    numbers = {"value": pairwise, "ci_low": None, "ci_high": 0.99}
    return [
        {**common, "direction": "brain_to_image", "metric": "pairwise", **numbers},
        {**common, "direction": "image_to_brain", "metric": "pairwise", "value": 0.1},
        {**common, "direction": "brain_to_image", "metric": "top_1", "value": 0.3},
    ]


def variant(fitted, *, validation, **labels):
    fold = fitted.folds[0]
    fold = dataclasses.replace(fold, info=fold.info | {"out_of_fold_pairwise": validation})
    return dataclasses.replace(fitted, folds=(fold,), **labels)


def test_the_best_decoder_is_chosen_on_validation_never_on_test(fitted):
    decoders = [
        variant(fitted, validation=0.8, name="a"),
        variant(fitted, validation=0.7, name="b"),
        variant(fitted, validation=0.9, name="c", roi="early"),
        variant(fitted, validation=0.6, name="a", subject="02"),
        variant(
            fitted,
            validation=0.99,
            name="d-transductive",
            options=fitted.options | {"calibration": "transductive"},
        ),
    ]
    scores = []
    # The worse on validation, the better on test.
    for decoder, pairwise in zip(decoders, (0.6, 0.9, 0.5, 0.8, 1.0), strict=True):
        scores += scored(decoder, pairwise=pairwise)
    scores += scored(decoders[0], gallery="all", pairwise=0.55)
    table = compare_decoders(decoders, scores)
    assert len(table) == 6
    best = table[table["best"]][["subject", "roi", "decoder"]].values.tolist()
    assert best == [["01", "early", "c"], ["02", "visual", "a"]]
    chosen = table[table["best_of_roi"]][["subject", "roi", "decoder", "gallery"]].values.tolist()
    assert chosen == [
        ["01", "visual", "a", "test"],
        ["01", "visual", "a", "all"],
        ["01", "early", "c", "test"],
        ["02", "visual", "a", "test"],
    ]
    first = table.iloc[0]
    assert (first["test_pairwise"], first["test_top_1"], first["chance_top_1"]) == (0.6, 0.3, 0.1)
    assert np.isnan(first["test_pairwise_ci_low"]) and first["test_pairwise_ci_high"] == 0.99
    assert first["validation_r2"] == fitted.folds[0].info["out_of_fold_r2"]
    assert table["transductive"].tolist() == [False] * 5 + [True]


def test_a_decoder_without_validation_is_never_chosen(fitted):
    unknown = variant(fitted, validation=np.nan, name="shared")
    decoders = [unknown, variant(fitted, validation=0.55, name="a")]
    scores = [row for item in decoders for row in scored(item, pairwise=0.9)]
    table = compare_decoders(decoders, scores)
    assert table.set_index("decoder")["best"].to_dict() == {"shared": False, "a": True}
    alone = compare_decoders([unknown], scored(unknown, pairwise=0.9))
    assert not alone["best"].any()


def test_importance_needs_names():
    with pytest.raises(ValidationError, match="needs the joint ROI"):
        ImportanceConfig(enabled=True)


def test_commands(tmp_path, picture_set, toy, fitted):
    left = without_voxels(picture_set, np.arange(150) >= 60)
    index = np.arange(60)
    left = dataclasses.replace(
        left,
        roi="left",
        space=part_of(picture_set.space, index),
        **{name: getattr(left, name)[index] for name in MAPS},
    )
    paths = {}
    artefacts = {"voxels": picture_set, "left": left, "embeddings": toy.embeddings(), "fit": fitted}
    for name, artefact in artefacts.items():
        paths[name] = str(tmp_path / f"{name}.h5")
        save_artifact(paths[name], artefact, PROVENANCE)
    shared = ["--voxels", paths["voxels"], "--embeddings", paths["embeddings"]]
    out = tmp_path / "curve.tsv"
    options = "{ranks: [2], n_random: 1, alphas: {count: 3}}"
    assert main(["bottleneck", *shared, "--options", options, "--out", str(out)]) == 0
    table = read_tsv(out)
    assert list(table["map"]) == ["prior", "learned", "random"]
    assert set(table["encoder"]) == {"toy"}
    out = tmp_path / "importance.tsv"
    arguments = ["importance", *shared, "--part", paths["left"], "--out", str(out)]
    assert main([*arguments, "--decoder", "{name: mine, alphas: {count: 3}}"]) == 0
    table = read_tsv(out)
    assert list(table["left_out"])[1:] == ["left"] and set(table["decoder"]) == {"mine"}
    write_json(tmp_path / "metrics.json", {"rows": scored(fitted, pairwise=0.7)})
    out = tmp_path / "compare.tsv"
    arguments = ["compare", "--decoder", paths["fit"], "--metrics", str(tmp_path / "metrics.json")]
    assert main([*arguments, "--out", str(out)]) == 0
    assert read_tsv(out)["best"].astype(str).tolist() == ["True"]


def test_compare_refuses_foreign_scores(tmp_path, fitted, capsys):
    save_artifact(tmp_path / "fit.h5", fitted, PROVENANCE)
    write_json(
        tmp_path / "m.json", {"rows": scored(dataclasses.replace(fitted, name="x"), pairwise=1)}
    )
    arguments = ["--decoder", str(tmp_path / "fit.h5"), "--metrics", str(tmp_path / "m.json")]
    assert main(["compare", *arguments, "--out", str(tmp_path / "t.tsv")]) == 1
    assert "none of the metrics is of one of the decoders" in capsys.readouterr().err
    assert pd.DataFrame(compare_decoders([fitted], [])).empty
