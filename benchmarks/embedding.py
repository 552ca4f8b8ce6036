"""Embedding a folder of JPEGs against the plain open_clip loop.

python benchmarks/embedding.py [--quick] [--repeats N] [--out FILE.json]

2,000 JPEGs of 500 x 375 pixels, ViT-B/32 with random weights, two threads. The plain loop is
open_clip's own: its transform with Pillow, float32, one process, torch's threads inside every
operation, batches of 32. Ours is what ``braindecode-clip embed`` does. They take turns on slices
of the folder, each slice once, so a busy machine hits both alike. Figures are milliseconds a
picture, on the clock and of CPU; the ratio is plain over ours: of the sums, and the median over
slices. Preprocessing is measured by itself, its pixels compared; so are a JPEG decoder (simplejpeg,
where installed) and a resize (torchvision's of uint8) that are not used, to show why.
"""

from __future__ import annotations

import io
import logging
import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from measure import parse_arguments, write_figures
from PIL import Image

from braindecode_clip.clip.encoders import load_encoder
from braindecode_clip.clip.forward import side_by_side
from braindecode_clip.clip.precision import settle_precision
from braindecode_clip.clip.torchvision_compat import import_open_clip
from braindecode_clip.embed.encode import embed_images
from braindecode_clip.io.images import decode_rgb, picture_source
from braindecode_clip.io.shards import VectorShards

try:
    import simplejpeg
except ImportError:
    simplejpeg = None

open_clip = import_open_clip()
from torchvision.transforms import InterpolationMode, v2  # noqa: E402
from torchvision.transforms.functional import resize  # noqa: E402

MODEL, BATCH, N_THREADS = "ViT-B-32", 32, 2
WIDTH, HEIGHT = 500, 375


def write_jpegs(folder: Path, n: int) -> list[Path]:
    """Write pictures with smooth colours, edges and some noise, about 50 kB each."""
    rng = np.random.default_rng(0)
    paths = [folder / f"{k:05d}.jpg" for k in range(n)]
    for path in paths:
        coarse = rng.integers(0, 256, (HEIGHT // 20, WIDTH // 20, 3), dtype=np.uint8)
        smooth = Image.fromarray(coarse).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
        pixels = np.asarray(smooth).astype(np.int16)
        for _ in range(4):
            top, left = rng.integers(0, HEIGHT - 80), rng.integers(0, WIDTH - 120)
            pixels[top : top + 80, left : left + 120] = rng.integers(0, 256, 3)
        pixels += rng.integers(-8, 9, pixels.shape, dtype=np.int16)
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(path, quality=88)
    return paths


def plain_loop(model, transform, paths):
    """Encode as open_clip's own examples do."""
    found = []
    with torch.no_grad():
        for start in range(0, len(paths), BATCH):
            pictures = [Image.open(path).convert("RGB") for path in paths[start : start + BATCH]]
            batch = torch.stack([transform(picture) for picture in pictures])
            found.append(model.encode_image(batch, normalize=True))
    return torch.cat(found).numpy()


def timed(call):
    """Return what a call returns, its seconds on the clock, and its CPU seconds."""
    cpu, clock = time.process_time(), time.perf_counter()
    result = call()
    return result, time.perf_counter() - clock, time.process_time() - cpu


def cpu_ms(call, n):
    """Return CPU milliseconds a picture, the best of five."""
    return 1e3 * min(timed(call)[2] for _ in range(5)) / n


def preprocessing(paths, encoder, transform):
    """Compare preprocessing, on one thread; the difference is of normalised pixels."""
    contents = [path.read_bytes() for path in paths]

    def plain():
        opened = (Image.open(io.BytesIO(content)).convert("RGB") for content in contents)
        return torch.stack([transform(picture) for picture in opened])

    def ours():
        prepared = [encoder.prepare_image(decode_rgb(content)) for content in contents]
        return encoder._pixels.numbers(torch.from_numpy(np.stack(prepared)))

    return {
        "plain_ms": cpu_ms(plain, len(paths)),
        "ours_ms": cpu_ms(ours, len(paths)),
        "largest_difference": float((plain() - ours()).abs().max()),
    }


def other_libraries(paths):
    """Measure what is left out: another JPEG decoder, and torchvision's resize of uint8."""
    contents = [path.read_bytes() for path in paths]
    pictures = [decode_rgb(content) for content in contents]
    tensors = [torch.from_numpy(np.array(p)).permute(2, 0, 1) for p in pictures]
    how = {"interpolation": InterpolationMode.BICUBIC, "antialias": True}

    def with_pillow():
        return [np.asarray(resize(p, 224, InterpolationMode.BICUBIC)) for p in pictures]

    def with_torchvision():
        return [v2.functional.resize(t, [224], **how).permute(1, 2, 0).numpy() for t in tensors]

    off = [
        np.abs(one.astype(int) - other)
        for one, other in zip(with_pillow(), with_torchvision(), strict=True)
    ]
    figures = {
        "resize_pillow_ms": cpu_ms(with_pillow, len(paths)),
        "resize_torchvision_ms": cpu_ms(with_torchvision, len(paths)),
        "resize_largest_difference": int(max(o.max() for o in off)),
        "resize_share_that_differs": float(np.mean([(o > 0).mean() for o in off])),
        "decode_pillow_ms": cpu_ms(lambda: [decode_rgb(c) for c in contents], len(paths)),
    }
    if simplejpeg is not None:

        def decode():
            return [Image.fromarray(simplejpeg.decode_jpeg(c)) for c in contents]

        off = [
            np.abs(np.asarray(one).astype(int) - other).max()
            for one, other in zip(pictures, decode(), strict=True)
        ]
        figures["decode_simplejpeg_ms"] = cpu_ms(decode, len(paths))
        figures["decode_largest_difference"] = int(max(off))
    return figures


def slices(paths, encoder, model, transform, *, n_slice, cache):
    """Let both ways take turns on slices of the folder."""
    rows, plain_vectors, our_vectors = [], [], []
    for number, start in enumerate(range(0, len(paths), n_slice)):
        part = paths[start : start + n_slice]

        def ours(part=part, number=number):
            store = VectorShards(cache / str(number), encoder.n_dims)
            with side_by_side(encoder.device) as n_encoders:
                return embed_images(
                    encoder,
                    part,
                    [path.stem for path in part],
                    source=picture_source,
                    batch_size=BATCH,
                    cache=store,
                    n_readers=N_THREADS,
                    n_encoders=n_encoders,
                ).embeddings.vectors

        calls = {"plain": lambda part=part: plain_loop(model, transform, part), "ours": ours}
        times = {}
        # Who comes first changes from slice to slice.
        for name in sorted(calls, reverse=number % 2 == 0):
            vectors, clock, cpu = timed(calls[name])
            times[name] = {"clock": clock / len(part), "cpu": cpu / len(part), "n": len(part)}
            (plain_vectors if name == "plain" else our_vectors).append(vectors)
        rows.append(times)
        each = ", ".join(
            f"{name} {1e3 * row['clock']:.1f} (CPU {1e3 * row['cpu']:.1f})"
            for name, row in sorted(times.items())
        )
        print(f"slice {number}, ms a picture: {each}; load {os.getloadavg()[0]:.1f}", flush=True)
    return rows, np.concatenate(plain_vectors), np.concatenate(our_vectors)


def on_one_thread(paths, encoder, model, transform):
    """Compare CPU milliseconds a picture with one thread each, in turns.

    Threads that wait for each other inside an operation spin, so the CPU time of the plain loop
    grows with what else runs on the machine. With one thread it does not.
    """
    ids = [path.stem for path in paths]
    how = {"source": picture_source, "batch_size": BATCH, "n_readers": 1}
    calls = {
        "plain": lambda: plain_loop(model, transform, paths),
        "ours": lambda: embed_images(encoder, paths, ids, **how),
    }
    seconds = {name: [] for name in calls}
    with side_by_side(encoder.device):
        for _ in range(3):
            for name, call in calls.items():
                seconds[name].append(timed(call)[2])
    each = {name: 1e3 * statistics.median(s) / len(paths) for name, s in seconds.items()}
    return {f"{name}_ms": ms for name, ms in each.items()} | {"ratio": each["plain"] / each["ours"]}


def summary(rows, plain, ours):
    """Return the figures of all slices."""
    figures = {}
    for kind in ("clock", "cpu"):
        total = {
            name: sum(row[name][kind] * row[name]["n"] for row in rows)
            for name in ("plain", "ours")
        }
        n = sum(row["ours"]["n"] for row in rows)
        figures[kind] = {
            "plain_ms": 1e3 * total["plain"] / n,
            "ours_ms": 1e3 * total["ours"] / n,
            "ratio": total["plain"] / total["ours"],
            "median_ratio": statistics.median(
                row["plain"][kind] / row["ours"][kind] for row in rows
            ),
        }
    cosine = np.einsum("nd,nd->n", plain.astype(np.float64), ours.astype(np.float64))
    figures["cosine"] = {"min": float(cosine.min()), "median": float(np.median(cosine))}
    return figures


def main() -> None:
    arguments = parse_arguments(__doc__)
    n_pictures, n_slice = (128, 64) if arguments.quick else (2000, 250)
    logging.basicConfig(format="%(message)s")
    logging.getLogger("braindecode_clip.clip.precision").setLevel(logging.INFO)
    torch.set_num_threads(N_THREADS)
    torch.manual_seed(0)
    model, _, transform = open_clip.create_model_and_transforms(MODEL)
    model.eval()
    with tempfile.TemporaryDirectory() as folder:
        paths = write_jpegs(Path(folder), n_pictures)
        weights = Path(folder) / "weights.pt"
        torch.save(model.state_dict(), weights)
        # A tag with the default activation and preprocessing; its weights are the file's.
        encoder = load_encoder(MODEL, "laion2b_s34b_b79k", weights=weights, device="cpu")
        with side_by_side(encoder.device):
            figures = {
                "preprocessing": preprocessing(paths[:64], encoder, transform),
                "left out": other_libraries(paths[:64]),
            }
        probes = [encoder.prepare_image(Image.open(path)) for path in paths[:: n_pictures // 8]]
        settle_precision(encoder, "auto", pictures=probes)
        plain_loop(model, transform, paths[:BATCH])
        encoder.encode_image(paths[:BATCH])
        figures["one thread, CPU"] = on_one_thread(paths[: 2 * BATCH], encoder, model, transform)
        for kind, row in figures.items():
            print(kind, row, flush=True)
        found = slices(
            paths, encoder, model, transform, n_slice=n_slice, cache=Path(folder) / "cache"
        )
    figures |= summary(*found) | {"precision": encoder.precision}
    for kind, row in figures.items():
        print(kind, row)
    write_figures(arguments.out, figures)


if __name__ == "__main__":
    main()
