"""One table of all decoders on the runs of Haxby et al. (2001), banded ridge among them.

make study CONFIG=config/haxby-decoders.yaml
python benchmarks/haxby_decoders.py [--results FOLDER] [--out FILE.json]

Reads the scores of that study. One region has no parts that the config could name, so banded
ridge is fitted here, with the voxels left and right of the midline as bands, and scored by the
same code and the same random numbers.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import yaml

from braindecode_clip.artifacts import Embeddings, VoxelSet
from braindecode_clip.config.decode_linear import BandedConfig
from braindecode_clip.config.study import parse_study
from braindecode_clip.decode import FittedDecoder, decode
from braindecode_clip.decode.compare import compare_decoders
from braindecode_clip.evaluate import evaluate
from braindecode_clip.io.hdf5 import load_artifact
from braindecode_clip.retrieve import gallery_ids, retrieve
from braindecode_clip.seeds import make_rng

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / "config/haxby-decoders.yaml"
ENCODER = "vit-b-32-names"
BANDED = BandedConfig(bands=["left", "right"])


def hemispheres(voxels: VoxelSet) -> np.ndarray:
    """Return "left" or "right" for every voxel, by the sign of x in mm (RAS)."""
    homogeneous = np.c_[voxels.space.ijk, np.ones(voxels.space.n_voxels)]
    return np.where((homogeneous @ voxels.space.affine.T)[:, 0] < 0, "left", "right")


def banded_scores(voxels, targets, study) -> tuple[FittedDecoder, list[dict]]:
    """Fit and score banded ridge as the workflow does the other decoders."""
    predictions, fitted = decode(
        voxels,
        targets,
        config=BANDED,
        seed=study.seed,
        encoder=ENCODER,
        bands=hemispheres(voxels),
    )
    rows = []
    for gallery in study.galleries:
        ids = gallery_ids(predictions, targets, candidates=gallery.candidates)
        ranked = retrieve(
            predictions, targets, ids, direction="brain_to_image", gallery=gallery.name
        )
        rng = make_rng(study.seed, "evaluate")
        rows += evaluate([ranked], predictions, targets, rng=rng, options=study.evaluate).rows
    return fitted, rows


def print_table(table, scores, *, split: str, gallery: str) -> None:
    columns = ("decoder", "validation pairwise", "top-1 [95 %]", "pairwise [95 %]", "p", "n")
    print(f"\nheld out: {split}, candidates: {gallery}\n")
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    part = table[(table["split"] == split) & (table["gallery"] == gallery)]
    for row in part.to_dict("records"):
        own = {
            score["metric"]: score
            for score in scores
            if score["direction"] == "brain_to_image"
            and (score["split"], score["gallery"], score["decoder"])
            == (split, gallery, row["decoder"])
        }
        cells = [f"{row['decoder']}{' (chosen)' if row['best'] else ''}"]
        cells += [f"{100 * row['validation_pairwise']:.1f} %"]
        for name in ("top_1", "pairwise"):
            value, low, high = (100 * own[name][key] for key in ("value", "ci_low", "ci_high"))
            cells.append(f"{value:.1f} % [{low:.1f}, {high:.1f}]")
        ps = [f"{own[name]['p']:.4f}" for name in ("top_1", "pairwise")]
        print(f"| {' | '.join([*cells, ', '.join(ps), str(own['top_1']['n'])])} |")
    chance = own["top_1"]["chance"]
    print(f"\nchance: top-1 {100 * chance:.2f} %, pairwise 50 %; p: top-1, pairwise")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=ROOT / "results/haxby-decoders")
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    arguments = parser.parse_args()
    results = arguments.results
    if not (results / "compare/compare.tsv").is_file():
        print(f"not measured: run `make study CONFIG=config/{CONFIG.name}` first")
        return
    study = parse_study(yaml.safe_load(CONFIG.read_text()), where=CONFIG.name)
    fitted = [load_artifact(path, FittedDecoder) for path in results.glob("decode/*/*_decoder.h5")]
    order = [item.name for item in study.decoders]
    fitted.sort(key=lambda item: order.index(item.name))
    scores = [
        row
        for path in sorted(results.glob("evaluate/*/*_metrics.json"))
        for row in json.loads(path.read_text())["rows"]
    ]
    targets = load_artifact(results / f"embed/enc-{ENCODER}_embeddings.h5", Embeddings)
    for path in sorted(results.glob("voxels/*/*_voxels.h5")):
        decoder, rows = banded_scores(load_artifact(path, VoxelSet), targets, study)
        fitted.append(decoder)
        scores += rows
    table = compare_decoders(fitted, scores)
    for split in study.splits:
        for gallery in study.galleries:
            print_table(table, scores, split=split.name, gallery=gallery.name)
    if arguments.out is not None:
        arguments.out.write_text(table.to_json(orient="records", indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
