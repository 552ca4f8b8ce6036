"""Batches for CLIP training: threads that decode ahead, against torch's DataLoader; batch orders.

python benchmarks/clip_data.py [--quick] [--repeats N] [--out FILE.json]

JPEG files are decoded and resized to 224 pixels as open_clip does. The order without duplicates is
timed on captions of which some are shared by many pictures; the competitor is a plain permutation.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch
from measure import parse_arguments, print_table, side_by_side, write_figures
from PIL import Image

from braindecode_clip.clip.batch_order import conflicts_of, deal, n_batches_for
from braindecode_clip.clip.data import PairBatches
from braindecode_clip.clip.pairs import Pairs
from braindecode_clip.clip.picture_store import PictureStore
from braindecode_clip.clip.pictures import preparation
from braindecode_clip.clip.tokenizers import WordTokenizer
from braindecode_clip.clip.torchvision_compat import import_open_clip
from braindecode_clip.config.clip import ClipRecipe
from braindecode_clip.io.images import decode_rgb

open_clip = import_open_clip()
BATCH_SIZE, MEAN, STD = 32, (0.5,) * 3, (0.25,) * 3
RECIPE = ClipRecipe.model_validate(
    {
        "name": "benchmark",
        "model": {"vision_cfg": {"image_size": 224}, "text_cfg": {"context_length": 8}},
        "preprocess": {"resize_mode": "shortest"},
    }
)


class Files(torch.utils.data.Dataset):
    """What a map-style data set of open_clip does."""

    def __init__(self, files: list[Path]) -> None:
        config = open_clip.transform.PreprocessCfg(size=224, mean=MEAN, std=STD)
        self.transform = open_clip.transform.image_transform_v2(config, is_train=False)
        self.files = files

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, row: int) -> torch.Tensor:
        return self.transform(Image.open(self.files[row]))


def write_files(folder: Path, n: int) -> list[Path]:
    rng = np.random.default_rng(0)
    files = [folder / f"{k}.jpg" for k in range(n)]
    for file in files:
        small = Image.fromarray(rng.integers(0, 256, (30, 40, 3), dtype=np.uint8))
        small.resize((640, 480), Image.Resampling.BICUBIC).save(file, quality=90)
    return files


def ours(files: list[Path], n_workers: int) -> None:
    store = PictureStore(
        lambda row: decode_rgb(files[row].read_bytes()),
        [file.name for file in files],
        prepare=preparation(RECIPE),
        side_px=224,
        keep=False,
    )
    pairs = Pairs(store, [["a picture"]] * len(files))
    batches = PairBatches(
        pairs,
        WordTokenizer(["a", "picture"], context_length=8),
        batch_size=BATCH_SIZE,
        seed=0,
        mean=MEAN,
        std=STD,
        n_workers=n_workers,
    )
    for step in range(batches.steps_per_epoch):
        batches[step]


def data_loader(files: list[Path], n_workers: int) -> None:
    for _ in torch.utils.data.DataLoader(
        Files(files), batch_size=BATCH_SIZE, shuffle=True, num_workers=n_workers
    ):
        pass


def separated(captions: np.ndarray) -> None:
    rows = np.repeat(np.arange(len(captions)), captions.shape[1])
    conflicts = conflicts_of(len(captions), [(rows, captions.ravel())])
    rng = np.random.default_rng(0)
    n_batches = n_batches_for(conflicts, batch_size=256, rng=rng)
    deal(conflicts, batch_size=256, n_batches=n_batches, rng=rng)


def main() -> None:
    arguments = parse_arguments(__doc__)
    n = 128 if arguments.quick else 512
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        files = write_files(Path(folder), n)
        decoding = side_by_side(
            {
                "DataLoader, in the process": lambda: data_loader(files, 0),
                "DataLoader, 2 processes": lambda: data_loader(files, 2),
                "ours, in the process": lambda: ours(files, 0),
                "ours, 2 threads": lambda: ours(files, 2),
            },
            repeats=arguments.repeats,
        )
    print_table(f"{n} JPEG files of 640 x 480, an epoch in batches of {BATCH_SIZE}", decoding)
    orders = {}
    for rows in (10_000, 100_000) if arguments.quick else (10_000, 100_000, 1_000_000):
        rng = np.random.default_rng(0)
        captions = rng.zipf(1.3, (rows, 2)) % rows
        captions[:, 1] = rng.integers(0, rows, rows)
        orders[str(rows)] = side_by_side(
            {
                "permutation": lambda rows=rows: np.random.default_rng(0).permutation(rows),
                "no_duplicates, with its preparation": lambda captions=captions: separated(
                    captions
                ),
            },
            repeats=arguments.repeats,
        )
        print_table(
            f"order of {rows} pictures, two captions each, batches of 256", orders[str(rows)]
        )
    write_figures(arguments.out, {"decoding": decoding, "orders": orders})


if __name__ == "__main__":
    main()
