from __future__ import annotations

import io
import json
import sys
import zlib

import numpy as np
import pytest
from pair_files import (
    SavedPart,
    captions_of,
    content,
    encoded,
    picture,
    stand_in_for_datasets,
    write_coco,
    write_folder,
    write_pictures,
    write_scenes,
    write_table,
    write_tar,
    write_tars,
)
from PIL import Image

from braindecode_clip.errors import DataError
from braindecode_clip.io.images import decode_rgb
from braindecode_clip.io.pair_scan import load_picture, look_at_pictures
from braindecode_clip.io.pair_source import captioned, with_label_captions
from braindecode_clip.io.pair_tars import expand_braces
from braindecode_clip.io.pairs import kind_of, read_pairs

WRITERS = {
    "table": write_table,
    "folder": write_folder,
    "coco": write_coco,
    "tar": write_tars,
}


@pytest.mark.parametrize("kind", WRITERS)
def test_every_kind_gives_the_same_pictures_and_captions(kind, tmp_path):
    path = WRITERS[kind](tmp_path, 7)
    source = read_pairs(path)
    assert (source.kind, kind_of(path)) == (kind, kind)
    assert source.captions == tuple(tuple(captions_of(k)) for k in range(7))
    for k in range(7):
        _, data = content(k)
        assert source.read(k) == data
        assert source.sizes[k] == len(data)
        assert source.names[k].split(".")[0] == f"p{k:02d}"
        want = Image.open(io.BytesIO(data)).convert("RGB")
        np.testing.assert_array_equal(np.asarray(load_picture(source, k)), np.asarray(want))
    again = source.take([5, 0])
    assert again.captions == (source.captions[5], source.captions[0])
    np.testing.assert_array_equal(again.sizes, source.sizes[[5, 0]])
    assert (again.read(0), again.read(1)) == (source.read(5), source.read(0))


def test_scenes_are_arrays(tmp_path):
    source = read_pairs(write_scenes(tmp_path / "s.h5", 4))
    assert source.kind == "scenes"
    assert source.captions[3] == ("a red thing 3", "3 seen again")
    np.testing.assert_array_equal(
        np.asarray(load_picture(source.take([2, 3]), 1)), np.asarray(picture(3, (32, 32)))
    )


def test_columns_of_a_table(tmp_path):
    write_pictures(tmp_path, 3)
    path = tmp_path / "t.tsv"
    path.write_text(
        "image\tcaption1\tcaption_2\tlabel\tgroup\tsplit\tcaption_length\n"
        "p00.png\tone\ttwo\tsea_lion\t01\ttrain\t9\n"
        "p01.jpg\tn/a\tNA\ttea  cup\tn/a\tval\t9\n"
        "p00.png\tthree\t \tsea_lion\t01\ttrain\t9\n",
        encoding="utf-8",
    )
    source = read_pairs(path)
    # "NA" is a caption like any other; blanks and, in a TSV, "n/a" are none.
    assert source.captions == (("one", "two", "three"), ("NA",))
    assert source.groups == ("01", "")
    assert source.of_split("val").names == ("p01.jpg",)
    with pytest.raises(DataError, match="no rows of split 'test'; it has 'train', 'val'"):
        source.of_split("test")
    named = with_label_captions(source, ["a photo of a {}", "{}"])
    assert named.captions[0] == ("one", "two", "three", "a photo of a sea lion", "sea lion")
    assert named.captions[1][1] == "a photo of a tea cup"


def test_mistakes_in_a_table_are_listed_together(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("image,caption,group\na.png,x,1\na.png,y,2\n,z,1\n", encoding="utf-8")
    with pytest.raises(DataError) as caught:
        read_pairs(path)
    assert "2 problems" in str(caught.value)
    assert "line 4" in str(caught.value)
    assert "more than one 'group': 'a.png'" in str(caught.value)
    path.write_text("file,text\na.png,x\n", encoding="utf-8")
    with pytest.raises(DataError, match="lacks the column 'image'"):
        read_pairs(path)
    path.write_text("image,text\na.png,x\n", encoding="utf-8")
    with pytest.raises(DataError, match="lacks a column 'caption'"):
        read_pairs(path)
    path.write_bytes("image,caption\na.png,Käse\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"t\.csv: is no text in UTF-8"):
        read_pairs(path)


def test_empty_captions_are_counted_and_pictures_without_one_are_left_out(tmp_path):
    write_folder(tmp_path, 5)
    (tmp_path / "p01.txt").write_text("", encoding="utf-8")
    (tmp_path / "p02.txt").write_text("\n  \nstill here\n", encoding="utf-8")
    (tmp_path / "p03.txt").unlink()
    (tmp_path / "p99.txt").write_text("alone", encoding="utf-8")
    source = read_pairs(tmp_path)
    assert source.captions[1:4] == ((), ("still here",), ())
    assert "3 captions are empty" in source.notes[0]
    assert "1 text files have no picture: 'p99.txt'" in source.notes[1]
    kept = captioned(source)
    assert kept.names == ("p00.png", "p02.png", "p04.png")
    assert "2 pictures have no caption and are left out: 'p01.jpg', 'p03.jpg'" in kept.notes[2]


def test_subfolders_are_labels_and_texts_that_are_not_utf8_are_all_named(tmp_path):
    for k, label in enumerate(("tea_cup", "sea_lion")):
        write_pictures(tmp_path / label, 1 + k)
    source = read_pairs(tmp_path)
    assert source.labels == ("sea_lion", "sea_lion", "tea_cup")
    with pytest.raises(DataError, match=r"no picture has a caption\. It has labels"):
        captioned(source)
    assert with_label_captions(source, ["a {}"]).captions[2] == ("a tea cup",)
    for label in ("tea_cup", "sea_lion"):
        (tmp_path / label / "p00.txt").write_bytes(b"K\xe4se")
    (tmp_path / "tea_cup" / "p00.webp").write_bytes(b"")
    with pytest.raises(DataError) as caught:
        read_pairs(tmp_path)
    assert str(caught.value).count("p00.txt is no text in UTF-8") == 3
    assert "p00.png and p00.webp share one text file" in str(caught.value)


def test_coco_finds_its_pictures_and_names_what_does_not_fit(tmp_path):
    path = write_coco(tmp_path, 3)
    elsewhere = tmp_path / "elsewhere"
    (tmp_path / "val2017").rename(elsewhere)
    with pytest.raises(DataError, match=r"'p00\.png' is in none of .*--images"):
        read_pairs(path)
    assert read_pairs(path, images=elsewhere).read(1) == content(1)[1]
    record = json.loads(path.read_text(encoding="utf-8"))
    record["annotations"].append({"image_id": 5, "caption": "of nothing"})
    record["images"].append({"id": 7, "file_name": "x.png"})
    path.write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises(DataError) as caught:
        read_pairs(path, images=elsewhere)
    assert "1 ids stand twice" in str(caught.value)
    assert "ids '5'" in str(caught.value)
    path.write_text('{"images": [{"id": 1}]}', encoding="utf-8")
    with pytest.raises(DataError, match="lacks the list 'annotations'"):
        read_pairs(path)


def test_brace_patterns():
    assert expand_braces("a{7..9}-{x,y}") == ["a7-x", "a7-y", "a8-x", "a8-y", "a9-x", "a9-y"]
    assert expand_braces("a{098..101}") == ["a098", "a099", "a100", "a101"]
    assert expand_braces("plain.tar") == ["plain.tar"]


def test_keys_of_tars(tmp_path):
    png = encoded(picture(0))
    members = [
        ("d/a.png", png),
        ("d/a.txt", b"first\nsecond"),
        ("a.seg.png", png),
        ("a.jpg", encoded(picture(1), "JPEG")),
        ("a.json", b'{"text": "third", "label": 4, "split": "train"}'),
        ("lonely.txt", b"no picture"),
        ("d/a.png", encoded(picture(2))),
    ]
    write_tar(tmp_path / "0.tar", members)
    write_tar(tmp_path / "1.tar", [("a.jpg", png), ("a.txt", b"again"), ("b.png", png)])
    source = read_pairs(tmp_path)
    assert source.names == ("d/a", "a", "b")
    # The first of a key is taken, in the shard and across shards; "a.seg.png" is no picture.
    assert source.read(0) == png
    assert source.read(1) == members[3][1]
    assert source.captions == (("first", "second"), ("third",), ())
    assert source.labels == ("", "4", "")
    assert source.splits == ("", "train", "")
    assert any("2 keys stand twice" in note and "'a', 'd/a'" in note for note in source.notes)
    assert any("1 keys have no picture: 'lonely'" in note for note in source.notes)


def test_damaged_and_missing_tars_are_named(tmp_path):
    pattern = write_tars(tmp_path, 4, n_shards=3)
    second = tmp_path / "shard-001.tar"
    second.write_bytes(second.read_bytes()[:900])
    (tmp_path / "shard-000.tar").write_bytes(zlib.compress(b"no tar" * 1000))
    with pytest.raises(DataError) as caught:
        read_pairs(pattern)
    assert "2 problems" in str(caught.value)
    assert "shard-000.tar is no whole, uncompressed tar" in str(caught.value)
    second.unlink()
    with pytest.raises(DataError, match=r"1 of 3 shards are missing.*shard-001"):
        read_pairs(pattern)
    write_tar(tmp_path / "bad.tar", [("a.json", b"{"), ("b.txt", b"\xff"), ("c.json", b"[]")])
    with pytest.raises(DataError, match="3 problems"):
        read_pairs(tmp_path / "bad.tar")


def test_kinds_that_are_not_recognised_or_do_not_fit(tmp_path):
    with pytest.raises(DataError, match=r"no such file of pairs"):
        read_pairs(tmp_path / "nothing.csv")
    odd = tmp_path / "pairs.parquet"
    odd.write_bytes(b"")
    with pytest.raises(DataError, match="--format"):
        read_pairs(odd)
    with pytest.raises(DataError, match="'webset' is unknown"):
        read_pairs(odd, kind="webset")
    with pytest.raises(DataError, match="is no folder"):
        read_pairs(odd, kind="folder")
    with pytest.raises(DataError, match="is a folder"):
        read_pairs(tmp_path, kind="table")
    with pytest.raises(DataError, match="--images belongs to COCO"):
        read_pairs(write_table(tmp_path, 2), images=tmp_path)
    with pytest.raises(DataError, match="has no splits"):
        read_pairs(write_folder(tmp_path / "f", 2), split="train")


def test_a_saved_data_set_without_the_library(tmp_path, monkeypatch):
    (tmp_path / "dataset_info.json").write_text("{}", encoding="utf-8")
    assert kind_of(tmp_path) == "folder"
    (tmp_path / "state.json").write_text("{}", encoding="utf-8")
    assert kind_of(tmp_path) == "datasets"
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match=r"not installed.*braindecode-clip\[datasets\]"):
        read_pairs(tmp_path)


def test_a_saved_data_set_by_a_stand_in_for_the_library(tmp_path, monkeypatch):
    file = tmp_path / "x.png"
    file.write_bytes(content(0)[1])
    parts = {
        "train": SavedPart(
            {
                "image": [{"bytes": content(1)[1], "path": None}, {"bytes": None, "path": file}],
                "caption": [["a", "b", " "], "c"],
                "label": [1, 0],
            },
            names=["cat", "sea_lion"],
        ),
        "test": SavedPart(
            {"image": [{"bytes": None, "path": None}], "caption": [None], "label": [-1]},
            names=["cat", "sea_lion"],
        ),
    }
    stand_in_for_datasets(monkeypatch, tmp_path, parts)
    source = read_pairs(tmp_path)
    assert source.kind == "datasets"
    assert source.captions == (("a", "b"), ("c",), ())
    assert source.labels[:2] == ("sea_lion", "cat")
    assert source.splits == ("train", "train", "test")
    assert [source.read(row) for row in (0, 1)] == [content(1)[1], content(0)[1]]
    with pytest.raises(DataError, match="no such file"):
        source.read(2)


def test_a_saved_data_set_of_the_library_itself(tmp_path):
    datasets = pytest.importorskip("datasets", reason="the library 'datasets' is not installed")
    names = write_pictures(tmp_path / "p", 3)
    made = datasets.Dataset.from_dict(
        {
            "image": [str(tmp_path / "p" / name) for name in names],
            "caption": [captions_of(k) for k in range(3)],
        }
    ).cast_column("image", datasets.Image())
    made.save_to_disk(str(tmp_path / "saved"))
    source = read_pairs(tmp_path / "saved")
    assert source.captions == tuple(tuple(captions_of(k)) for k in range(3))
    assert [source.read(k) for k in range(3)] == [content(k)[1] for k in range(3)]


def test_pictures_are_found_whole_or_corrupt_with_the_reason(tmp_path):
    path = write_table(tmp_path, 6)
    (tmp_path / "p01.jpg").write_bytes((tmp_path / "p01.jpg").read_bytes()[:150])
    (tmp_path / "p02.png").write_bytes(b"")
    (tmp_path / "p03.jpg").unlink()
    (tmp_path / "p04.png").write_bytes((tmp_path / "p00.png").read_bytes())
    for n_workers in (1, 3):
        facts = look_at_pictures(read_pairs(path), n_workers=n_workers)
        assert [bool(fact.error) for fact in facts] == [False, True, True, True, False, False]
        assert "empty" in facts[2].error
        assert facts[3].error == "no such file"
        assert facts[0].sha256 == facts[4].sha256 != facts[5].sha256
        assert (facts[5].width, facts[5].height) == (40, 36)


def decoded(data, **options):
    return np.asarray(decode_rgb(data, **options))


def test_transparent_pictures_stand_on_the_background():
    layer = np.zeros((2, 2, 4), np.uint8)
    layer[0, 0], layer[0, 1] = (200, 10, 20, 255), (200, 10, 20, 0)
    layer[1, 0] = (100, 100, 100, 51)
    data = encoded(Image.fromarray(layer))
    white, blue = decoded(data), decoded(data, background="#0000ff")
    for found, ground in ((white, (255, 255, 255)), (blue, (0, 0, 255))):
        assert tuple(found[0, 0]) == (200, 10, 20)
        assert tuple(found[0, 1]) == ground
        want = 0.2 * np.array([100.0] * 3) + 0.8 * np.array(ground)
        np.testing.assert_allclose(found[1, 0], want, atol=1)
    palette = Image.fromarray(layer[..., :3]).convert("P", palette=Image.Palette.ADAPTIVE)
    found = decoded(encoded(palette, transparency=palette.getpixel((1, 1))))
    assert tuple(found[1, 1]) == (255, 255, 255)


def test_grey_sixteen_bit_and_cmyk_pictures():
    grey = np.arange(6, dtype=np.uint8).reshape(2, 3) * 50
    np.testing.assert_array_equal(decoded(encoded(Image.fromarray(grey)))[..., 1], grey)
    deep = np.array([[0, 256, 30000, 65535]], np.uint16)
    found = decoded(encoded(Image.fromarray(deep)))
    np.testing.assert_array_equal(found[..., 2], deep // 256)
    ink = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    found = decoded(encoded(ink, "JPEG", quality=100))
    np.testing.assert_allclose(found.reshape(-1, 3).mean(0), (255, 0, 0), atol=4)


@pytest.mark.parametrize("turn", range(1, 9))
def test_pictures_are_turned_upright(turn):
    upright = np.zeros((4, 6, 3), np.uint8)
    upright[0, 0], upright[0, -1] = (255, 0, 0), (0, 255, 0)
    # How a camera stored it: the inverse of what the tag (CIPA DC-008, table 8) asks for.
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: np.rot90(upright, 2).transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[turn]
    exif = Image.Exif()
    exif[0x0112] = turn
    data = encoded(Image.fromarray(np.ascontiguousarray(stored)), exif=exif)
    np.testing.assert_array_equal(decoded(data), upright)


def test_a_picture_too_large_for_memory_is_refused_before_it_is_decoded():
    data = encoded(Image.new("1", (20000, 20000)))
    assert len(data) < 200_000
    with pytest.raises(DataError, match="DecompressionBomb"):
        decode_rgb(data)
