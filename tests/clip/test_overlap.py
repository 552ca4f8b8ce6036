"""Pictures that two collections share: same, re-encoded, rescaled, mirrored; and only those."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageOps

from braindecode_clip.clip.overlap import (
    MAX_DIFFERENCE,
    MIN_CORRELATION,
    MIN_LOCAL,
    N_CELLS,
    Looks,
    cells_of,
    local_correlation,
    look_at,
    normalised_caption,
    overlap,
    shared_captions,
)
from braindecode_clip.simulate.render import render
from braindecode_clip.simulate.scenes import sample_scene


def looks_of(pictures: list[Image.Image | None], *, files: list[str] | None = None) -> Looks:
    unknown = ("", np.full(N_CELLS, np.nan, np.float32), np.full(256, np.nan, np.float32))
    seen = [unknown if p is None else look_at(p) for p in pictures]
    names = tuple(f"p{i}" for i in range(len(pictures)))
    files = files or [f"{id(pictures)}-{i}" for i in range(len(pictures))]
    pixels, cells, details = zip(*seen, strict=True)
    return Looks(names, tuple(files), pixels, np.stack(cells), np.stack(details))


def as_jpeg(picture: Image.Image, quality: int, scale: float) -> Image.Image:
    side = tuple(round(scale * n) for n in picture.size)
    content = io.BytesIO()
    picture.resize(side, Image.Resampling.BICUBIC).save(content, "JPEG", quality=quality)
    return Image.open(io.BytesIO(content.getvalue())).convert("RGB")


@pytest.fixture(scope="module")
def scenes() -> tuple[list[Image.Image], list[Image.Image]]:
    rng = np.random.default_rng(21)
    drawn = [render(sample_scene(rng), size_px=64) for _ in range(560)]
    return drawn[:60], drawn[60:]


def test_cells_are_means_of_parts() -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (32, 64, 3), dtype=np.uint8)
    ycc = np.asarray(Image.fromarray(pixels).convert("YCbCr"), dtype=float)
    wanted = [
        ycc[4 * i : 4 * i + 4, 8 * j : 8 * j + 8, 0].mean() for i in range(8) for j in range(8)
    ]
    for channel in (1, 2):
        wanted += [
            ycc[8 * i : 8 * i + 8, 16 * j : 16 * j + 16, channel].mean()
            for i in range(4)
            for j in range(4)
        ]
    # Pillow rounds to whole grey levels, once for each side.
    np.testing.assert_allclose(cells_of(Image.fromarray(pixels)), wanted, atol=1.01)


@pytest.mark.parametrize(("quality", "scale"), [(90, 1), (30, 1), (75, 0.5), (60, 2.3)])
def test_copies_are_found(scenes, quality: int, scale: float) -> None:
    test, others = scenes
    copies = [as_jpeg(p, quality, scale) for p in test]
    found = overlap(looks_of(others + copies), looks_of(test))
    # All copies, and nothing else.
    assert sorted(found.near) == [(500 + i, i) for i in range(60)]
    assert not found.same_file and not found.same_pixels
    assert found.nearest.max() <= MAX_DIFFERENCE


def test_other_scenes_are_not_found(scenes) -> None:
    test, others = scenes
    first, second = looks_of(others), looks_of(test)
    found = overlap(first, second)
    assert not found.near and not found.same_file and not found.same_pixels
    # The nearest, by a literal loop.
    for j in range(0, 60, 13):
        best = np.inf
        for i in range(500):
            parts = [
                (x[s] - x[s].mean())
                for x in (first.cells[i].astype(float), second.cells[j].astype(float))
                for s in (slice(64), slice(64, 80), slice(80, 96))
            ]
            a, b = np.concatenate(parts[:3]), np.concatenate(parts[3:])
            if a @ b / np.linalg.norm(a) / np.linalg.norm(b) >= MIN_CORRELATION:
                best = min(best, np.abs(first.cells[i] - second.cells[j]).max())
        assert found.nearest[j] == best


def test_mirrored_copies_are_told_apart(scenes) -> None:
    test, others = scenes
    turned = [as_jpeg(ImageOps.mirror(p), 80, 1) for p in test[:20]]
    found = overlap(looks_of(others + turned), looks_of(test[:20]))
    copies = {(500 + i, i) for i in range(20)}
    # A scene that is symmetric looks like its mirrored copy.
    assert set(found.near) <= copies and len(found.near) <= 2
    assert copies <= set(found.mirrored) | set(found.near)


def test_a_mirrored_look_is_the_look_of_the_mirrored_picture() -> None:
    rng = np.random.default_rng(5)
    picture = Image.fromarray(rng.integers(0, 256, (32, 48, 3), dtype=np.uint8))
    turned, whole = looks_of([picture]).mirrored(), looks_of([ImageOps.mirror(picture)])
    np.testing.assert_allclose(turned.cells, whole.cells, atol=1)
    np.testing.assert_allclose(turned.details, whole.details, atol=1)


def test_outlines_on_the_same_ground_are_told_apart() -> None:
    """Thin outlines hardly change the mean of a cell; their windows do not correlate."""
    y, x = np.mgrid[:64, :64]
    ground = np.where((y // 3) % 2, 235, 180) - (y // 2)
    pictures = []
    for edge in (
        (abs(np.hypot(x - 40, y - 40) - 8) < 0.8),
        ((abs(x - 40) < 1) | (abs(y - 40) < 1)) & (np.maximum(abs(x - 40), abs(y - 40)) < 12),
    ):
        grey = np.where(edge, 90, ground).astype(np.uint8)
        pictures.append(Image.fromarray(np.repeat(grey[..., None], 3, axis=2)))
    first, second = (looks_of([p]) for p in pictures)
    assert np.abs(first.cells - second.cells).max() < 40
    correlation = local_correlation(first.details, second.details)[0]
    windows = []
    for i in range(0, 13, 2):
        for j in range(0, 13, 2):
            a, b = (
                own.details.reshape(16, 16)[i : i + 4, j : j + 4].ravel().astype(float)
                for own in (first, second)
            )
            if max(a.std(), b.std()) >= 6:
                windows.append(np.corrcoef(a, b)[0, 1])
    assert correlation == pytest.approx(min(windows)) and correlation < MIN_LOCAL
    copy = looks_of([as_jpeg(pictures[0], 75, 1)])
    assert local_correlation(copy.details, first.details)[0] > 0.9
    assert overlap(copy, first).near == ((0, 0),)
    alike = replace(second, cells=first.cells)
    assert overlap(alike, first).near == ()


def test_windows_without_contrast_say_nothing() -> None:
    flat, edge = np.full(256, 90.0), np.full(256, 90.0)
    edge.reshape(16, 16)[8:, :] = 200
    low = flat + np.random.default_rng(0).normal(0, 1, 256)
    pairs = ((flat, low), (flat, edge), (edge, edge + 3))
    found = local_correlation(*(np.stack(side) for side in zip(*pairs, strict=True)))
    np.testing.assert_allclose(found, [1, 0, 1])


def test_the_same_file_and_the_same_pixels_are_named_once() -> None:
    rng = np.random.default_rng(3)
    pictures = [
        Image.fromarray(rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)) for _ in range(4)
    ]
    first = looks_of([pictures[2], pictures[0], pictures[3]], files=["a", "b", "c"])
    second = looks_of([pictures[0], pictures[1], pictures[2]], files=["x", "y", "a"])
    found = overlap(first, second)
    assert found.same_file == ((0, 2),)
    assert found.same_pixels == ((1, 0),)
    assert not found.near and not found.mirrored
    assert first.digest() != second.digest()


def test_pictures_without_contrast_or_unread_are_no_duplicates() -> None:
    flat = [Image.new("RGB", (16, 16), (90, 90, 90)), Image.new("RGB", (8, 8), (91, 91, 91))]
    found = overlap(looks_of([flat[0], None]), looks_of([flat[1], None]))
    assert not found.near and not found.mirrored and not found.same_pixels
    assert np.isinf(found.nearest).all()
    assert looks_of([None, flat[0]]).is_known.tolist() == [False, True]


def test_blocks_do_not_matter(scenes, monkeypatch) -> None:
    test, others = scenes
    first = looks_of(others[:100] + [as_jpeg(p, 80, 1) for p in test])
    whole = overlap(first, looks_of(test))
    monkeypatch.setattr("braindecode_clip.clip.overlap.ROWS_AT_ONCE", 37)
    parts = overlap(first, looks_of(test))
    assert parts.near == whole.near and len(whole.near) == 60
    np.testing.assert_array_equal(parts.nearest, whole.nearest)


def test_captions_are_compared_by_their_words() -> None:
    assert normalised_caption("  A dog,\tRUNNING – fast! ") == "a dog running fast"
    assert normalised_caption("Straße ２") == "strasse 2"
    first = [["A dog.", "a cat"], ["two birds"], []]
    second = [["a  DOG"], ["bird", "Two birds!"], ["", "..."]]
    assert shared_captions(first, second) == ["a dog", "two birds"]
