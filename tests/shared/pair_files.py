"""Real files of picture-caption pairs for tests: every kind of source with the same content."""

from __future__ import annotations

import io
import json
import sys
import tarfile
import types
from pathlib import Path

import h5py
import numpy as np
from PIL import Image


def picture(k: int, size: tuple[int, int] = (40, 36)) -> Image.Image:
    rng = np.random.default_rng(k)
    small = rng.integers(0, 256, (5, 6, 3), dtype=np.uint8)
    return Image.fromarray(small).resize(size, Image.Resampling.BILINEAR)


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format=kind, **options)
    return stream.getvalue()


def captions_of(k: int) -> list[str]:
    """One to three wordings of picture k."""
    return [f"a red thing {k}", f"thing {k} left", f"{k} is a dark thing"][: 1 + k % 3]


def content(k: int) -> tuple[str, bytes]:
    """Ending and bytes of picture k: PNG and JPEG in turn."""
    return ("jpg", encoded(picture(k), "JPEG")) if k % 2 else ("png", encoded(picture(k)))


def write_pictures(folder: Path, n: int) -> list[str]:
    folder.mkdir(parents=True, exist_ok=True)
    names = []
    for k in range(n):
        ending, data = content(k)
        names.append(f"p{k:02d}.{ending}")
        (folder / names[-1]).write_bytes(data)
    return names


def write_table(folder: Path, n: int, *, name: str = "pairs.csv") -> Path:
    """A table whose group is k // 3 and whose every fourth picture is held out."""
    separator = "\t" if name.endswith(".tsv") else ","
    lines = [separator.join(["image", "caption", "group", "split"])]
    for k, file in enumerate(write_pictures(folder, n)):
        split = "val" if k % 4 == 3 else "train"
        lines += [separator.join([file, own, f"g{k // 3}", split]) for own in captions_of(k)]
    (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / name


def write_folder(folder: Path, n: int) -> Path:
    for k, file in enumerate(write_pictures(folder, n)):
        text = folder / f"{Path(file).stem}.txt"
        text.write_text("\n".join(captions_of(k)) + "\n", encoding="utf-8")
    return folder


def write_coco(folder: Path, n: int) -> Path:
    names = write_pictures(folder / "val2017", n)
    path = folder / "annotations" / "captions_val2017.json"
    path.parent.mkdir()
    annotations = [
        {"id": 100 * k + j, "image_id": 7 * k, "caption": own}
        for k in range(n)
        for j, own in enumerate(captions_of(k))
    ]
    images = [{"id": 7 * k, "file_name": name} for k, name in enumerate(names)]
    path.write_text(json.dumps({"images": images, "annotations": annotations}), encoding="utf-8")
    return path


def write_tar(path: Path, members: list[tuple[str, bytes]]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def write_tars(folder: Path, n: int, *, n_shards: int = 2) -> Path:
    """Shards of which the odd pictures have .txt, the even ones .json; returns the pattern."""
    for shard in range(n_shards):
        members = []
        for k in range(shard * n // n_shards, (shard + 1) * n // n_shards):
            ending, data = content(k)
            members.append((f"p{k:02d}.{ending}", data))
            if k % 2:
                members.append((f"p{k:02d}.txt", "\n".join(captions_of(k)).encode()))
            else:
                record = {"caption": captions_of(k), "group": f"g{k // 3}"}
                members.append((f"p{k:02d}.json", json.dumps(record).encode()))
        write_tar(folder / f"shard-{shard:03d}.tar", members)
    return folder / f"shard-{{000..{n_shards - 1:03d}}}.tar"


def write_scenes(path: Path, n: int, side_px: int = 32) -> Path:
    """What `simulate scenes` writes, but for the ground truth."""
    images = np.stack([np.asarray(picture(k, (side_px, side_px))) for k in range(n)])
    captions = [[captions_of(k)[0], f"{k} seen again"] for k in range(n)]
    with h5py.File(path, "w") as file:
        file["images"] = images
        file.create_dataset("captions", data=captions, dtype=h5py.string_dtype())
    return path


class SavedPart:
    """The part of a datasets.Dataset that is used, held in memory."""

    def __init__(self, columns, names=None):
        self.columns, self.column_names = columns, list(columns)
        self.features = {"label": types.SimpleNamespace(names=names)} if names else {}

    def __len__(self):
        return len(self.columns["image"])

    def __getitem__(self, key):
        if isinstance(key, str):
            return self.columns[key]
        return {name: values[key] for name, values in self.columns.items()}

    def cast_column(self, name, feature):
        assert (name, feature) == ("image", "as stored")
        return self


def stand_in_for_datasets(monkeypatch, folder: Path, parts: dict[str, SavedPart]) -> Path:
    """Put a stand-in for the library in place, which loads ``parts`` from any folder."""
    (folder / "dataset_dict.json").write_text("{}", encoding="utf-8")
    module = types.ModuleType("datasets")
    module.load_from_disk = lambda path: parts
    module.Image = lambda decode: {False: "as stored"}[decode]
    monkeypatch.setitem(sys.modules, "datasets", module)
    return folder
