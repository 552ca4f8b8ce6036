"""The preprocessing in two halves gives the whole transform's numbers to the bit."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from braindecode_clip.clip.forward import Buffer
from braindecode_clip.clip.pixels import Pixels, stack
from braindecode_clip.clip.torchvision_compat import import_open_clip
from braindecode_clip.errors import DataError
from braindecode_clip.io.images import decode_rgb, picture_source

open_clip = import_open_clip()


def scene(rng, height, width):
    """Smooth colours, an edge and noise, as in a photograph."""
    coarse = rng.integers(0, 256, (height // 16 + 2, width // 16 + 2, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))
    pixels = smooth.astype(int)
    pixels[height // 3 : height // 2, width // 4 : width // 2] = rng.integers(0, 256, 3)
    return np.clip(pixels + rng.normal(0, 9, pixels.shape), 0, 255).astype(np.uint8)


def contents():
    """Return files of many kinds: sizes, formats, colour modes, JPEG variants."""
    rng = np.random.default_rng(8)
    found = {}

    def add(name, picture, kind, **options):
        stream = io.BytesIO()
        picture.save(stream, format=kind, **options)
        found[name] = stream.getvalue()

    for k, (height, width) in enumerate([(375, 500), (500, 375), (224, 224), (61, 90), (900, 640)]):
        picture = Image.fromarray(scene(rng, height, width))
        options = {"quality": 60 + 8 * k, "subsampling": k % 3, "progressive": k % 2 == 1}
        add(f"jpeg-{height}x{width}", picture, "JPEG", **options)
    picture = Image.fromarray(scene(rng, 123, 201))
    turned = Image.Exif()
    turned[0x0112] = 6
    add("jpeg-turned", picture, "JPEG", exif=turned.tobytes())
    add("jpeg-grey", picture.convert("L"), "JPEG")
    add("jpeg-cmyk", picture.convert("CMYK"), "JPEG")
    add("png", picture, "PNG")
    add("png-alpha", picture.convert("RGBA"), "PNG")
    add("png-palette", picture.convert("P"), "PNG")
    add("png-16bit", Image.fromarray(rng.integers(0, 65536, (99, 80), dtype=np.uint16)), "PNG")
    add("webp", picture, "WEBP")
    add("gif", picture.convert("P"), "GIF")
    add("bmp", picture, "BMP")
    add("tiff", picture, "TIFF")
    return found


CONTENTS = contents()


@pytest.mark.parametrize(
    ("size", "options"),
    [
        (224, {}),
        (96, {"interpolation": "bilinear", "mean": (0.5, 0.4, 0.3), "std": (0.2, 0.3, 0.4)}),
        (64, {"resize_mode": "squash"}),
        (64, {"resize_mode": "longest"}),
        ((48, 80), {}),
    ],
    ids=["shortest", "bilinear", "squash", "longest", "oblong"],
)
def test_the_two_halves_are_the_whole_transform(size, options):
    transform = open_clip.image_transform(size, is_train=False, **options)
    pixels = Pixels(transform)
    assert pixels.is_split
    prepared = [pixels.prepare(decode_rgb(content)) for content in CONTENTS.values()]
    assert {item.dtype for item in prepared} == {np.dtype(np.uint8)}
    got = pixels.numbers(stack(prepared))
    for row, (name, content) in zip(got, CONTENTS.items(), strict=True):
        # open_clip's own way, from the file on, once the picture is upright.
        picture = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
        if name == "png-16bit":
            # Pillow would cut all above 255.
            picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
        want = transform(picture.convert("RGB"))
        assert torch.equal(row, want)


def test_a_transform_of_another_form_is_run_whole():
    pixels = Pixels(lambda picture: torch.full((3, 4, 4), float(picture.width)))
    prepared = [pixels.prepare(Image.new("RGB", (width, 5))) for width in (2, 7)]
    assert not pixels.is_split
    got = pixels.numbers(stack(prepared))
    assert got.dtype == torch.float32
    assert torch.equal(got[:, 0, 0, 0], torch.tensor([2.0, 7.0]))


@pytest.mark.parametrize("name", CONTENTS)
def test_pictures_cut_anywhere_are_refused_with_a_reason(name):
    content = CONTENTS[name]
    for share in (0.0, 0.3, 0.9):
        with pytest.raises(DataError, match=r"empty|no picture|cannot be decoded") as caught:
            decode_rgb(content[: int(len(content) * share)])
        assert "\n" not in str(caught.value)


def test_the_key_is_of_the_content_and_decoding_waits(tmp_path):
    (tmp_path / "a.jpg").write_bytes(CONTENTS["jpeg-61x90"])
    (tmp_path / "b.jpg").write_bytes(CONTENTS["jpeg-61x90"])
    (tmp_path / "c.jpg").write_bytes(CONTENTS["jpeg-61x90"][:-500])
    keys = {name: picture_source(tmp_path / f"{name}.jpg")[0] for name in "abc"}
    assert keys["a"] == keys["b"] != keys["c"]
    _, decode = picture_source(tmp_path / "a.jpg")
    (tmp_path / "a.jpg").unlink()
    assert decode().size == (90, 61)
    with pytest.raises(DataError, match="no such file"):
        picture_source(tmp_path / "a.jpg")
    with pytest.raises(DataError, match="directory"):
        picture_source(tmp_path)


def test_a_buffer_is_used_again_and_grows():
    rng = np.random.default_rng(1)
    buffer, places = Buffer(pinned=False), []
    for n, shape, kind in [
        (3, (5, 4, 3), np.uint8),
        (2, (5, 4, 3), np.uint8),
        (6, (5, 4, 3), np.uint8),
        (6, (3, 5, 4), np.float32),
        (1, (3, 5, 4), np.float32),
    ]:
        batch = [(255 * rng.random(shape)).astype(kind) for _ in range(n)]
        for array in batch:
            # As arrays of Pillow's pictures are.
            array.flags.writeable = False
        got = buffer.fill(batch)
        np.testing.assert_array_equal(got.numpy(), np.stack(batch))
        assert got.numpy().dtype == kind
        places.append(got.data_ptr())
    assert places[0] == places[1] and places[3] == places[4]
    assert places[1] != places[2]
