"""The list of a study's files, against the names that the workflow gives them."""

from __future__ import annotations

from pathlib import Path

from braindecode_clip.config.study import parse_study
from braindecode_clip.report.listing import list_results


def test_every_combination_is_listed_and_benchmarks_are_found(full, tmp_path: Path):
    config = {**full[0].config, "galleries": [{"name": "test"}, {"name": "all"}]}
    study = parse_study(config, where="study")
    done = tmp_path / "benchmarks" / "decode" / "sub-01.tsv"
    done.parent.mkdir(parents=True)
    done.write_text("s\n", encoding="utf-8")
    for name in ("sub-02/sub-02_run-1_quality.h5", "sub-01/sub-01_run-2_quality.h5", "sub-03/x.h5"):
        path = tmp_path / "quality" / name
        path.parent.mkdir(parents=True)
        path.touch()
    listing = list_results(
        study, str(tmp_path), subjects=["01", "02"], backgrounds={"01": "mean.nii"}, stimuli=None
    )
    counts = {key: len(listing[key]) for key in ("metrics", "retrievals", "voxels", "decoders")}
    # 2 subjects x 2 ROIs x 1 split x 1 encoder x 2 decoders x 2 galleries
    assert counts == {"metrics": 16, "retrievals": 16, "voxels": 4, "decoders": 8}
    assert listing["metrics"][1].endswith(
        "evaluate/sub-01/sub-01_roi-visual_split-stimulus_enc-scenes_dec-ridge_gal-all_metrics.json"
    )
    assert [(item["subject"], item["roi"]) for item in listing["maps"]] == [
        ("01", "visual"),
        ("01", "early"),
        ("02", "visual"),
        ("02", "early"),
    ]
    assert [Path(path).name for path in listing["quality"]] == [
        "sub-01_run-2_quality.h5",
        "sub-02_run-1_quality.h5",
    ]
    assert listing["benchmarks"] == [str(done)] and listing["stimuli"] is None
