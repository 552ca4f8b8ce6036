from __future__ import annotations

import pytest

from braindecode_clip.errors import DataError
from braindecode_clip.io.prompts import read_classes, read_lines, read_queries


def test_classes_from_a_list_a_text_and_a_table(tmp_path):
    assert read_classes("dog,  tea cup ,cat") == {
        "dog": ("dog",),
        "tea cup": ("tea cup",),
        "cat": ("cat",),
    }
    (tmp_path / "c.txt").write_text("\ufeff# animals\ndog\n\n tea cup \n", encoding="utf-8")
    assert list(read_classes(str(tmp_path / "c.txt"))) == ["dog", "tea cup"]
    (tmp_path / "c.tsv").write_text("class\tname\n01\tsofa\n02\tdog\n01\tcouch\n01\tsofa\n")
    assert read_classes(str(tmp_path / "c.tsv")) == {"01": ("sofa", "couch"), "02": ("dog",)}
    (tmp_path / "d.tsv").write_text("class\ndog\ncat\n")
    assert list(read_classes(str(tmp_path / "d.tsv"))) == ["dog", "cat"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("c.txt", "dog\ncat\ndog\n", "c.txt: classes that stand twice: 'dog'"),
        ("c.txt", "# nothing\n\n", "holds no lines"),
        ("c.tsv", "label\ndog\n", "lacks the columns 'class'"),
        ("c.tsv", "class\tname\ndog\t\n\tcat\n", "lines '2', '3'"),
        ("c.tsv", "class\ndog\ndog\n", "stand twice"),
        ("c.tsv", "class\tname\n", "has no rows"),
    ],
)
def test_mistakes_in_classes_are_named(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        read_classes(str(path))


def test_missing_files_and_empty_items_are_named(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        read_classes(str(tmp_path / "none.txt"))
    with pytest.raises(DataError, match="empty in the lines '2'"):
        read_classes("dog, , cat")
    (tmp_path / "b.txt").write_bytes(b"\xff\xfe\x00d")
    with pytest.raises(DataError, match="UTF-8"):
        read_lines(tmp_path / "b.txt")


def test_queries_from_a_text_and_a_table(tmp_path):
    (tmp_path / "q.txt").write_text("a dog\nnull\n", encoding="utf-8")
    table = read_queries(tmp_path / "q.txt")
    assert table["text"].tolist() == ["a dog", "null"]
    assert table["image"].tolist() == [None, None]
    (tmp_path / "q.tsv").write_text(
        "text\timage\timage_weight\tnegative\na dog\tx.png\t0.25\train\n\ty.png\t\t\n01\t\t\t\n"
    )
    table = read_queries(tmp_path / "q.tsv")
    assert table["text"].tolist() == ["a dog", None, "01"]
    assert table["image"].tolist() == [tmp_path / "x.png", tmp_path / "y.png", None]
    assert table["image_weight"].tolist() == [0.25, None, None]
    assert table["negative"].tolist() == ["rain", None, None]


def test_mistakes_in_queries_are_named_together(tmp_path):
    path = tmp_path / "q.tsv"
    path.write_text("txt\timage_weight\na\tmuch\n")
    with pytest.raises(DataError) as caught:
        read_queries(path)
    message = str(caught.value)
    assert "3 problems" in message and "'txt'" in message and "'much'" in message
