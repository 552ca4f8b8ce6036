"""CIFTI and GIFTI against nibabel's own arrays: runs, masks, maps, and messages."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import surface_files as files
from nibabel import cifti2

from braindecode_clip.artifacts import VoxelSpace
from braindecode_clip.errors import ArtifactError, DataError
from braindecode_clip.io.cifti import BLOCK_COLUMNS
from braindecode_clip.io.hdf5 import load_artifact, save_artifact
from braindecode_clip.io.runs import read_any_mask, read_map, read_run, write_map
from braindecode_clip.preprocess import intersect_masks
from braindecode_clip.provenance import Provenance
from braindecode_clip.spaces import image_kind, join_spaces, surface_space

N_COLUMNS = len(files.brain_models())


@pytest.fixture
def series() -> np.ndarray:
    return np.random.default_rng(0).normal(100, 7, size=(13, N_COLUMNS)).astype(np.float32)


@pytest.fixture
def hemispheres(tmp_path: Path) -> tuple[list[Path], dict[str, np.ndarray]]:
    rng = np.random.default_rng(1)
    data = {
        side: rng.normal(100, 7, size=(11, n)).astype(np.float32) for side, n in files.SIZES.items()
    }
    paths = [
        files.write_gifti(tmp_path / f"sub-1_task-x_hemi-{side}_bold.func.gii", part)
        for side, part in data.items()
    ]
    return paths, data


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a_bold.nii.gz", "volume"),
        ("a_bold.dtseries.nii", "cifti"),
        ("a.dlabel.nii", "cifti"),
        ("lh.func.gii", "gifti"),
        ("mask.nii", "volume"),
    ],
)
def test_kinds_by_ending(name: str, kind: str) -> None:
    assert image_kind(f"/some/where/{name}") == kind


class TestCifti:
    @pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16])
    def test_numbers_and_places_equal_nibabels(self, tmp_path, series, dtype) -> None:
        path = files.write_cifti_run(tmp_path / "r.dtseries.nii", series.astype(dtype))
        data, space, tr_s = read_run([path])
        image = nib.load(path)
        assert data.dtype == np.float32 and tr_s == 1.5
        expected = image.get_fdata()
        np.testing.assert_allclose(data, expected, rtol=np.finfo(np.float32).eps)
        models = image.header.get_axis(1)
        assert list(space.structure) == list(models.name)
        on_surface = models.surface_mask
        np.testing.assert_array_equal(space.ijk[on_surface, 0], models.vertex[on_surface])
        np.testing.assert_array_equal(space.ijk[~on_surface], models.voxel[~on_surface])
        np.testing.assert_array_equal(space.affine, models.affine)
        assert space.n_vertices == {files.LEFT: 37, files.RIGHT: 41}

    def test_scaled_integers(self, tmp_path, series) -> None:
        path = files.write_cifti_run(tmp_path / "r.dtseries.nii", series.astype(np.int16))
        content = bytearray(path.read_bytes())
        # scl_slope and scl_inter of NIfTI-2 lie at bytes 176 and 184.
        content[176:192] = np.array([0.25, -3.0], "<f8").tobytes()
        path.write_bytes(content)
        data, _, _ = read_run([path])
        np.testing.assert_allclose(data, 0.25 * series.astype(np.int16) - 3.0, rtol=1e-6)

    def test_a_mask_chooses_columns_in_its_order(self, tmp_path, series) -> None:
        path = files.write_cifti_run(tmp_path / "r.dtseries.nii", series)
        chosen = np.random.default_rng(2).random(N_COLUMNS) > 0.6
        # The mask file lists the structures in another order than the run.
        models = files.brain_models()
        order = np.r_[np.arange(29, N_COLUMNS), np.arange(29)]
        mask = files.write_cifti_mask(tmp_path / "m.dscalar.nii", chosen[order], models[order])
        space = read_any_mask(mask)
        data, kept, _ = read_run([path], space)
        np.testing.assert_array_equal(data, series[:, order][:, chosen[order]])
        assert kept.same_columns(space)

    def test_a_label_file_is_a_mask(self, tmp_path) -> None:
        labels = np.arange(N_COLUMNS)[None] % 3
        table = cifti2.LabelAxis(["rois"], [{i: (f"l{i}", (0, 0, 0, 1)) for i in range(3)}])
        path = tmp_path / "m.dlabel.nii"
        cifti2.Cifti2Image(labels.astype(np.float32), (table, files.brain_models())).to_filename(
            path
        )
        assert read_any_mask(path).n_voxels == np.count_nonzero(labels)

    def test_grayordinates_of_the_mask_that_the_run_lacks_are_left_out(
        self, tmp_path, series
    ) -> None:
        path = files.write_cifti_run(tmp_path / "r.dtseries.nii", series)
        whole = surface_space(files.LEFT, np.arange(37), 37)
        data, kept, _ = read_run([path], whole)
        np.testing.assert_array_equal(data, series[:, :29])
        assert kept.n_voxels == 29

    @pytest.mark.parametrize("exponent", [-3, 0, 2])
    def test_the_unit_of_the_series_has_an_exponent(self, tmp_path, series, exponent) -> None:
        path = files.write_cifti_run(
            tmp_path / "r.dtseries.nii", series, tr_s=0.72, exponent=exponent
        )
        assert read_run([path])[2] == pytest.approx(0.72)

    def test_other_units_contradictions_and_no_tr(self, tmp_path, series) -> None:
        path = files.write_cifti_run(tmp_path / "r.dtseries.nii", series, unit="HERTZ")
        with pytest.raises(DataError, match="counts in hertz, expected seconds"):
            read_run([path])
        path = files.write_cifti_run(tmp_path / "s.dtseries.nii", series)
        with pytest.raises(DataError, match=r"2 s by --tr-s, 1.5 s by the header"):
            read_run([path], tr_s=2.0)
        (tmp_path / "s.dtseries.json").write_text(json.dumps({"RepetitionTime": 1.8}))
        with pytest.raises(DataError, match=r"1.8 s by s.dtseries.json, 1.5 s by the header"):
            read_run([path])
        path = files.write_cifti_run(tmp_path / "t.dtseries.nii", series, tr_s=0.0)
        with pytest.raises(DataError, match="no repetition time"):
            read_run([path])
        (tmp_path / "t.json").write_text(json.dumps({"RepetitionTime": 1.8}))
        assert read_run([path])[2] == 1.8

    def test_truncated_compressed_and_wrong_files(self, tmp_path, series) -> None:
        path = files.write_cifti_run(tmp_path / "r.dtseries.nii", series)
        path.write_bytes(path.read_bytes()[:-400])
        n_bytes = series.nbytes
        with pytest.raises(DataError, match=rf"truncated: {n_bytes - 400} of {n_bytes} bytes"):
            read_run([path])
        mask = files.write_cifti_mask(tmp_path / "m.dscalar.nii", np.ones(N_COLUMNS))
        with pytest.raises(DataError, match=r"holds Scalar x BrainModel .* dense time series"):
            read_run([mask])
        volume = tmp_path / "v.dtseries.nii"
        nib.save(nib.Nifti1Image(np.ones((2, 2, 2, 3), np.float32), np.eye(4)), volume)
        with pytest.raises(DataError, match="is a Nifti1Image file, expected CIFTI-2"):
            read_run([volume])
        (tmp_path / "x.dtseries.nii.gz").write_bytes(b"1")
        with pytest.raises(DataError, match="gunzip"):
            read_run([tmp_path / "x.dtseries.nii.gz"])
        with pytest.raises(DataError, match="no such file"):
            read_run([tmp_path / "none.dtseries.nii"])
        files.write_cifti_mask(tmp_path / "e.dscalar.nii", np.zeros(N_COLUMNS))
        with pytest.raises(DataError, match="mask is empty"):
            read_any_mask(tmp_path / "e.dscalar.nii")

    def test_masks_of_other_surfaces(self, tmp_path, series) -> None:
        path = files.write_cifti_run(tmp_path / "r.dtseries.nii", series)
        other = surface_space(files.LEFT, np.arange(5), 99)
        with pytest.raises(DataError, match=r"CORTEX_LEFT with 37 .* CORTEX_LEFT with 99 vertices"):
            read_run([path], other)
        with pytest.raises(DataError, match="none of the 3 grayordinates of hippo"):
            read_run(
                [path],
                surface_space("CIFTI_STRUCTURE_HIPPOCAMPUS_LEFT", np.arange(3), 9),
                mask_name="hippo",
            )
        volume = VoxelSpace(np.eye(4), np.array([2, 2, 2]), np.zeros((1, 3), np.int32))
        with pytest.raises(DataError, match=r"but brain.nii is a volume"):
            read_run([path], volume, mask_name="brain.nii")

    def test_nan_is_an_error_unless_it_marks_the_medial_wall(self, tmp_path, series) -> None:
        series[:, 4] = np.nan
        series[:, 30] = 0
        path = files.write_cifti_run(tmp_path / "r.dtseries.nii", series)
        data, space, _ = read_run([path])
        measured = np.setdiff1d(np.arange(N_COLUMNS), [4, 30])
        np.testing.assert_array_equal(data, series[:, measured])
        assert space.n_voxels == N_COLUMNS - 2
        everything = read_any_mask(
            files.write_cifti_mask(tmp_path / "m.dscalar.nii", np.ones(N_COLUMNS))
        )
        with pytest.raises(DataError, match=r"1 of 73 .*first: CORTEX_LEFT vertex 6"):
            read_run([path], everything)
        series[3, 40] = np.nan
        files.write_cifti_run(path, series)
        with pytest.raises(DataError, match=r"1 of 71 .*CORTEX_RIGHT vertex 13"):
            read_run([path])
        files.write_cifti_run(path, np.zeros_like(series))
        with pytest.raises(DataError, match="NaN or zero everywhere"):
            read_run([path])

    def test_memory_is_about_the_result(self, tmp_path) -> None:
        n_columns, n_volumes = 6 * BLOCK_COLUMNS + 77, 60
        models = cifti2.BrainModelAxis.from_surface(np.arange(n_columns), n_columns, files.LEFT)
        data = np.random.default_rng(0).normal(9, 1, (n_volumes, n_columns)).astype(np.float32)
        path = files.write_cifti_run(tmp_path / "r.dtseries.nii", data, models=models)
        space = surface_space(files.LEFT, np.arange(0, n_columns, 4), n_columns)
        read_run([path], space)
        tracemalloc.start()
        try:
            found, _, _ = read_run([path], space)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        np.testing.assert_array_equal(found, data[:, ::4])
        block = BLOCK_COLUMNS * n_volumes * 4
        # Places of all columns (structure names, indices) come on top of a block.
        assert peak < found.nbytes + 3 * block + 400 * n_columns


class TestGifti:
    def test_two_hemispheres_make_one_run(self, hemispheres) -> None:
        paths, data = hemispheres
        found, space, tr_s = read_run(paths, tr_s=2.0)
        expected = np.concatenate([nib.load(p).agg_data().T for p in paths], axis=1)
        np.testing.assert_array_equal(found, expected)
        np.testing.assert_array_equal(found, np.concatenate(list(data.values()), axis=1))
        assert tr_s == 2.0 and found.shape == (11, 78)
        assert [space.place(36), space.place(37)] == [
            "CORTEX_LEFT vertex 36",
            "CORTEX_RIGHT vertex 0",
        ]
        assert space.n_vertices == {files.LEFT: 37, files.RIGHT: 41}

    def test_all_volumes_in_one_array(self, tmp_path, hemispheres) -> None:
        (left, _), data = hemispheres
        one = files.write_gifti(tmp_path / "lh.x.func.gii", data["L"], one_array=True)
        np.testing.assert_array_equal(read_run([one], tr_s=2.0)[0], read_run([left], tr_s=2.0)[0])

    def test_masks_of_hemispheres_are_joined_and_those_of_runs_intersected(
        self, tmp_path, hemispheres
    ) -> None:
        paths, data = hemispheres
        rng = np.random.default_rng(5)
        inside = {
            (run, side): rng.random(n) > 0.4 for run in "12" for side, n in files.SIZES.items()
        }
        masks = [
            files.write_gifti(
                tmp_path / f"run-{run}_hemi-{side}_mask.shape.gii",
                values[None].astype(np.float32),
                intent="NIFTI_INTENT_SHAPE",
            )
            for (run, side), values in inside.items()
        ]
        space = intersect_masks([read_any_mask(m) for m in masks], [m.name for m in masks])
        found, _, _ = read_run(paths, space, tr_s=2.0)
        expected = [data[side][:, inside["1", side] & inside["2", side]] for side in files.SIZES]
        np.testing.assert_array_equal(found, np.concatenate(expected, axis=1))

    def test_hemisphere_by_metadata_by_name_or_not_at_all(self, tmp_path, hemispheres) -> None:
        _, data = hemispheres
        named = files.write_gifti(tmp_path / "a.func.gii", data["R"], structure="CortexRight")
        assert read_run([named], tr_s=2.0)[1].n_vertices == {files.RIGHT: 41}
        with pytest.raises(DataError, match="tells the hemisphere"):
            read_run([files.write_gifti(tmp_path / "b.func.gii", data["R"])], tr_s=2.0)
        both = files.write_gifti(tmp_path / "lh.c.func.gii", data["R"], structure="CortexRight")
        with pytest.raises(DataError, match="CORTEX_LEFT and CIFTI_STRUCTURE_CORTEX_RIGHT"):
            read_run([both], tr_s=2.0)

    @pytest.mark.parametrize(("time_step", "expected"), [(1.4, 1.4), (1400.0, 1.4)])
    def test_time_step_and_sidecar(self, tmp_path, hemispheres, time_step, expected) -> None:
        (left, _), data = hemispheres
        files.write_gifti(left, data["L"], time_step=time_step)
        assert read_run([left])[2] == pytest.approx(expected)
        left.with_name("sub-1_task-x_hemi-L_bold.json").write_text('{"RepetitionTime": 2.0}')
        with pytest.raises(DataError, match=r"2 s by .*hemi-L_bold.json, 1.4 s by .*func.gii"):
            read_run([left])

    def test_hemispheres_that_do_not_belong_together(self, tmp_path, hemispheres) -> None:
        (left, right), data = hemispheres
        files.write_gifti(right, data["R"][:7])
        with pytest.raises(DataError) as caught:
            read_run([left, right])
        assert "11 in CORTEX_LEFT, 7 in CORTEX_RIGHT" in str(caught.value)
        assert "no repetition time" in str(caught.value)
        with pytest.raises(DataError, match="Give each hemisphere once"):
            read_run([left, left], tr_s=2.0)

    def test_damaged_files(self, tmp_path, hemispheres) -> None:
        (left, right), _ = hemispheres
        left.write_bytes(left.read_bytes()[:3000])
        right.write_text("onset\tduration\n")
        for path in (left, right):
            with pytest.raises(DataError, match="no readable GIFTI file, or is truncated"):
                read_run([path], tr_s=2.0)
        with pytest.raises(DataError, match="no such file"):
            read_run([tmp_path / "hemi-L_none.func.gii"], tr_s=2.0)
        triangle = tmp_path / "lh.surf.gii"
        arrays = [
            nib.gifti.GiftiDataArray(np.ones(shape, np.float32)) for shape in ((5, 3), (4, 3))
        ]
        nib.save(nib.GiftiImage(darrays=arrays), triangle)
        with pytest.raises(DataError, match="expected one value a vertex"):
            read_any_mask(triangle)

    def test_nan(self, tmp_path, hemispheres) -> None:
        (left, right), data = hemispheres
        data["L"][:, :5] = np.nan
        files.write_gifti(left, data["L"])
        assert read_run([left, right], tr_s=2.0)[0].shape == (11, 73)
        data["L"][3, 9] = np.nan
        files.write_gifti(left, data["L"])
        with pytest.raises(DataError, match=r"1 of 73 .*CORTEX_LEFT vertex 9"):
            read_run([left, right], tr_s=2.0)


class TestMaps:
    def test_grayordinates_round_trip_as_nibabel_reads_them(self, tmp_path, series) -> None:
        path = files.write_cifti_run(tmp_path / "r.dtseries.nii", series)
        space = read_run([path])[1].subset(np.arange(1, N_COLUMNS, 2))
        values = np.random.default_rng(6).normal(size=space.n_voxels)
        values[3] = np.nan
        write_map(tmp_path / "m.dscalar.nii", space, values)
        image = nib.load(tmp_path / "m.dscalar.nii")
        models = image.header.get_axis(1)
        np.testing.assert_array_equal(image.get_fdata()[0], values.astype(np.float32))
        expected = files.brain_models()[1::2]
        np.testing.assert_array_equal(models.name, expected.name)
        np.testing.assert_array_equal(models.vertex, expected.vertex)
        np.testing.assert_array_equal(models.voxel, expected.voxel)
        assert models.nvertices == expected.nvertices
        assert image.nifti_header.get_intent()[0] == "ConnDenseScalar"
        back, found = read_map(tmp_path / "m.dscalar.nii")
        np.testing.assert_array_equal(back, values.astype(np.float32))
        assert found.same_columns(space)

    def test_hemispheres_in_any_order_share_one_file(self, tmp_path) -> None:
        space = join_spaces(
            [
                surface_space(files.RIGHT, np.array([4, 2]), 41),
                surface_space(files.LEFT, np.array([7]), 37),
            ]
        ).subset(np.array([0, 2, 1]))
        write_map(tmp_path / "m.dscalar.nii", space, np.array([1.0, 2.0, 3.0]))
        image = nib.load(tmp_path / "m.dscalar.nii")
        found = {}
        for name, part, models in image.header.get_axis(1).iter_structures():
            found[name] = dict(zip(models.vertex, image.get_fdata()[0, part], strict=True))
        assert found == {files.RIGHT: {4: 1.0, 2: 3.0}, files.LEFT: {7: 2.0}}

    def test_the_ending_must_suit_the_space(self, tmp_path) -> None:
        surface = surface_space(files.LEFT, np.arange(3), 37)
        volume = VoxelSpace(np.eye(4), np.array([2, 2, 2]), np.zeros((1, 3), np.int32))
        with pytest.raises(DataError, match=r"ends with .dscalar.nii"):
            write_map(tmp_path / "m.nii.gz", surface, np.zeros(3))
        with pytest.raises(DataError, match=r"ends with .nii.gz"):
            write_map(tmp_path / "m.dscalar.nii", volume, np.zeros(1))


class TestSpace:
    def test_it_survives_hdf5(self, tmp_path, series) -> None:
        path = files.write_cifti_run(tmp_path / "r.dtseries.nii", series)
        space = read_run([path])[1]
        record = Provenance(stage="t", options={}, inputs={}, seed=None, code_digest="0")
        save_artifact(tmp_path / "s.h5", space, record)
        back = load_artifact(tmp_path / "s.h5", VoxelSpace)
        assert back.same_columns(space) and back.n_vertices == space.n_vertices

    def test_vertices_outside_the_surface_are_refused(self) -> None:
        with pytest.raises(ArtifactError, match="outside the grid or the surface"):
            surface_space(files.LEFT, np.array([37]), 37)

    def test_locate_is_a_dictionary_of_places(self, tmp_path, series) -> None:
        space = read_run([files.write_cifti_run(tmp_path / "r.dtseries.nii", series)])[1]
        rng = np.random.default_rng(7)
        first = space.subset(rng.permutation(space.n_voxels)[:50])
        second = space.subset(rng.permutation(space.n_voxels)[:40])
        places = {second.place(i): i for i in range(second.n_voxels)}
        expected = [places.get(first.place(i), -1) for i in range(first.n_voxels)]
        np.testing.assert_array_equal(first.locate(second), expected)
        assert -1 in expected and max(expected) > 0
        assert (first.locate(second.subset(np.arange(0))) == -1).all()

    def test_no_grid_is_made_of_surfaces(self) -> None:
        with pytest.raises(ArtifactError, match="is no plain volume"):
            surface_space(files.LEFT, np.arange(3), 37).to_volume(np.zeros(3))


class TestDispatch:
    def test_several_files_for_one_run(self, tmp_path) -> None:
        with pytest.raises(DataError, match="2 files for one run"):
            read_run([tmp_path / "a.nii", tmp_path / "b.nii"])
        with pytest.raises(DataError, match="2 files for one run"):
            read_run([tmp_path / "a.func.gii", tmp_path / "b.dtseries.nii"])

    def test_a_volume_needs_a_mask_in_a_volume(self, tmp_path) -> None:
        with pytest.raises(DataError, match="needs a mask"):
            read_run([tmp_path / "a.nii"])
        with pytest.raises(DataError, match="Give a mask in NIfTI"):
            read_run([tmp_path / "a.nii"], surface_space(files.LEFT, np.arange(3), 37))

    def test_surfaces_are_not_smoothed(self, hemispheres) -> None:
        with pytest.raises(DataError, match="Set fwhm_mm to null"):
            read_run(hemispheres[0], tr_s=2.0, volume_filter=lambda volume: volume)
