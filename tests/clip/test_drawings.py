"""Pair tables of drawings: made-up packages, and the real ones where they lie on the machine."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from braindecode_clip.cli.main import main
from braindecode_clip.clip.drawings import (
    choose_clipart,
    choose_stamps,
    drop_near,
    drop_repeats,
    families,
    near_rows,
    pair_table,
    splits,
)
from braindecode_clip.errors import DataError
from braindecode_clip.io.drawings import (
    MOST_PIXELS,
    THUMBNAIL_PX,
    look_at_drawings,
    mirrored,
    read_clipart,
    read_stamps,
)
from braindecode_clip.io.pairs import read_pairs

SVG = """<?xml version="1.0"?>
<svg xmlns="http://www.w3.org/2000/svg"><metadata>
<rdf:RDF xmlns:cc="http://web.resource.org/cc/" xmlns:dc="http://purl.org/dc/elements/1.1/"
 xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><cc:Work rdf:about="">
<dc:title>{title}</dc:title><dc:description>{description}</dc:description>
<dc:subject><rdf:Bag>{items}</rdf:Bag></dc:subject>
<dc:creator><cc:Agent><dc:title>Somebody Else</dc:title></cc:Agent></dc:creator>
</cc:Work></rdf:RDF></metadata></svg>
"""


def drawing(number: int, *, size: tuple[int, int] = (40, 30)) -> Image.Image:
    """Coarse random patches on a transparent ground, as clip art has."""
    rng = np.random.default_rng(number)
    patches = rng.integers(0, 230, (5, 6, 4), dtype=np.uint8)
    patches[..., 3] = 255
    whole = Image.new("RGBA", size, (255, 0, 0, 0))
    inner = Image.fromarray(patches).resize((size[0] - 10, size[1] - 8), Image.Resampling.NEAREST)
    whole.paste(inner, (3, 5))
    return whole


def write(path: Path, picture: Image.Image) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)


class Packages:
    """Folders as the Debian packages install them."""

    def __init__(self, root: Path) -> None:
        self.stamps, self.clipart = root / "stamps", root / "openclipart"
        self.clipart.mkdir(parents=True)

    def stamp(self, name: str, caption: str, number: int | Image.Image | None) -> None:
        text = (self.stamps / name).with_suffix(".txt")
        text.parent.mkdir(parents=True, exist_ok=True)
        text.write_text(f"{caption}\nde.utf8=Noch ein Bild.\n", encoding="utf-8")
        if number is not None:
            picture = drawing(number) if isinstance(number, int) else number
            write(text.with_suffix(".png"), picture)

    def art(
        self,
        name: str,
        number: int | Image.Image,
        title: str,
        keywords: tuple[str, ...] = (),
        description: str = "",
    ) -> None:
        picture = drawing(number) if isinstance(number, int) else number
        write(self.clipart / "png" / f"{name}.png", picture)
        items = "".join(f"<rdf:li>{word}</rdf:li>" for word in keywords)
        svg = self.clipart / "svg" / f"{name}.svg"
        svg.parent.mkdir(parents=True, exist_ok=True)
        svg.write_text(SVG.format(title=title, description=description, items=items))


@pytest.fixture
def packages(tmp_path) -> Packages:
    """Return packages in which everything that is dropped, and why, is there once or more."""
    made = Packages(tmp_path)
    things = ("goat", "lamp", "tulip", "kettle", "wagon", "violin", "onion", "tent", "crow", "gate")
    for row, thing in enumerate(things):
        made.stamp(f"things/{thing}", f"A {thing}.", 100 + row)
        made.art(f"objects/{thing}_pat_01", 200 + row, f"Big_{thing}#3", ("things", "", "hash"))
    made.stamp("symbols/letters/a", "The letter A.", 1)
    made.stamp("things/drawn", "A drawn thing.", None)
    (made.stamps / "things/drawn.svg").write_text("<svg/>")
    made.stamp("things/lost", "Nothing.", None)
    made.stamp("things/untitled", "", 2)
    made.stamp("things/goat_again", "One more goat.", 100)
    made.art("computer/icons/mail", 3, "Mail", ("mail",))
    made.art("shapes/stars/star5", 4, "Star")
    made.art("signs_and_symbols/flags/asia/peru", 5, "Peru")
    made.art("recreation/games/cards/white/white_3", 6, "Card")
    for row, name in enumerate(("chisel", "kettle_lamp", "sm_003", "crow12", "u")):
        made.art(f"tools/{name}", 300 + row, "Various Cliparts", ("tools", "Steel_Chisel"))
    made.art("tools/copied", 301, "Clipart by A B - other")
    made.art("tools/again", 300, "A chisel once more")
    made.art("objects/nearly", drawing(103, size=(80, 60)), "Kettle of another size")
    made.art("objects/turned", drawing(104).transpose(Image.Transpose.FLIP_LEFT_RIGHT), "Turned")
    made.art("objects/broken", 7, "Broken")
    (made.clipart / "png/objects/broken.png").write_bytes(b"\x89PNG\r\n\x1a\n cut")
    made.art("objects/poster", Image.new("1", (5000, MOST_PIXELS // 5000 + 1)), "Poster")
    made.art("objects/nameless", 8, "Nameless")
    (made.clipart / "svg/objects/nameless.svg").unlink()
    made.art("objects/torn", 9, "Torn")
    (made.clipart / "svg/objects/torn.svg").write_text("<svg><metadata>")
    (made.clipart / "png/second").mkdir()
    (made.clipart / "png/second/goat.png").symlink_to("../objects/goat_pat_01.png")
    return made


def run(packages: Packages, out: Path, *more: str) -> int:
    folders = ["--stamps", str(packages.stamps), "--clipart", str(packages.clipart)]
    return main(["clip", "drawings", "--out", str(out), *folders, *more])


def read(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, sep="\t", keep_default_na=False, dtype=str)


def test_everything_dropped_is_counted_by_why(packages, tmp_path, capsys):
    assert run(packages, tmp_path / "out") == 0
    counts = json.loads((tmp_path / "out/counts.json").read_text())
    assert counts["stamps"]["n_listed"] == 15
    assert counts["stamps"]["dropped"] == {
        "letters, digits, coins and notes": 1,
        "vector drawing alone, no PNG": 1,
        "no picture": 1,
        "no title": 1,
        "same pixels": 1,
    }
    assert counts["stamps"]["n_kept"] == 10
    art = counts["clipart"]
    assert art["n_listed"] == 10 + 4 + 5 + 2 + 2 + 4
    assert art["dropped"] == {
        "no title of its own": 2 + 1,
        "nearly a stamp": 2,
        "not readable, or too large": 2,
        "computer icons": 1,
        "bare shapes": 1,
        "flags": 1,
        "playing cards": 1,
        "same pixels": 1,
        "no SVG with its title": 1,
        "damaged SVG": 1,
    }
    assert (
        art["n_kept"]
        == art["n_listed"] - sum(art["dropped"].values())
        == len(read(tmp_path / "out/clipart.tsv"))
    )
    shown = capsys.readouterr().out
    assert "2 nearly a stamp" in shown
    assert f"clipart: {art['n_kept']} kept in" in shown


def test_tables_are_pairs_that_training_reads(packages, tmp_path):
    run(packages, tmp_path / "out")
    for name, n in (("stamps", 10), ("clipart", 13)):
        source = read_pairs(tmp_path / "out" / f"{name}.tsv")
        assert len(source) == n
        assert all(source.captions)
        assert set(source.splits) == {"train", "validation", "test"}
        assert all(source.read(row).startswith(b"\x89PNG") for row in range(n))
    stamps = read(tmp_path / "out/stamps.tsv").set_index("caption1")
    assert stamps.loc["A goat.", "label"] == "things"
    assert Path(stamps.loc["A goat.", "image"]) == packages.stamps / "things/goat.png"


def test_the_same_input_gives_the_same_bytes(packages, tmp_path):
    for name, workers in (("a", "1"), ("b", "3")):
        run(packages, tmp_path / name, "--workers", workers)
    for name in ("stamps.tsv", "clipart.tsv", "counts.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_captions_of_clip_art(tmp_path):
    made = Packages(tmp_path)
    names = ("kettle", "lamp_shade", "wagon7", "u", "kettle_zzz", "gadget")
    for row, name in enumerate(names):
        made.art(f"a/{name}", row, "Various Cliparts", ("lamp shade",))
    words = ("Wheels", "0x93", "hash(1)", "red_wagon", "", "unsorted", "http://x.org", "wagon")
    made.art("a/wagon_pat", 10, "wagon#2", words, "A wagon that a child draws.")
    made.art("a/kettle_x", 11, "Kettle", ("kettle",), "Kettle")
    made.art("a/mail", 12, "Letter_Box.svg", tuple("abcdefgh"), "jo@example.org")
    made.art("a/long", 13, "Long story", (), " ".join(["word"] * 16))
    made.art("computer/icons/icon", 14, "Gadget")
    chosen = choose_clipart(read_clipart(made.clipart)).set_index("stem")
    assert chosen.loc["wagon_pat", "captions"] == (
        "wagon",
        "wagon, red wagon, wheels",
        "A wagon that a child draws.",
    )
    assert chosen.loc["kettle_x", "captions"] == ("Kettle",)
    assert chosen.loc["mail", "captions"] == ("Letter Box", "Letter Box, a, b, c, d, e, f")
    assert chosen.loc["long", "captions"] == ("Long story",)
    # A collection's title stands for the file's name, if other titles and keywords know it.
    assert chosen.loc["kettle", "captions"][0] == "kettle"
    assert chosen.loc["lamp_shade", "captions"] == ("lamp shade",)
    assert chosen.loc["wagon7", "captions"][0] == "wagon"
    # One word that nobody knows, or that only dropped drawings know, is too many.
    assert set(chosen.loc[["u", "kettle_zzz", "gadget"], "dropped"]) == {"no title of its own"}


def listed(*rows: tuple[str, str, str]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=["folder", "stem", "title"])
    return table.assign(image=table["stem"], captions=[(title,) for title in table["title"]])


def test_families_are_variants_equal_captions_and_near_duplicates():
    chosen = listed(
        ("birds", "crow", "A crow."),
        ("birds", "crow_2", "A sitting one"),
        ("fish", "crow", "A fish of that name"),
        ("hats", "hat_a", "A red hat."),
        ("coats", "hat_b", "The blue hat!"),
        ("cars", "car-blue", "Car one of them"),
        ("cars", "car_red12", "Vehicle"),
        ("tools", "x", "Saw"),
        ("tools", "y", "Hammer"),
        ("tools", "001", "Axe"),
        ("tools", "002", "Pen"),
        ("fruit", "orange", "An orange."),
        ("sweets", "orange", "An orange!"),
        ("bells", "bell_a", "Rings"),
        ("bells", "bell_b", "Silent"),
    )
    groups = families(chosen, near=[(7, 7), (8, 7), (2, 8)])
    assert groups[0] == groups[1] == "birds/crow"
    assert groups[3] == groups[4] == "hats/hat_a"
    assert groups[5] == groups[6] == "cars/car-blue"
    assert groups[2] == groups[7] == groups[8] == "fish/crow"
    assert groups[9:11] == ["tools/001", "tools/002"]
    # A colour alone is a name.
    assert groups[11:13] == ["fruit/orange", "fruit/orange"]
    assert groups[13] == groups[14] == "bells/bell_a"
    assert len(set(groups)) == 8


def test_splits_take_whole_groups_near_their_shares():
    rng = np.random.default_rng(4)
    groups = [f"g{number}" for number in rng.integers(0, 150, 400)]
    parts = splits(groups, {"test": 0.4, "validation": 0.15})
    table = pd.DataFrame({"group": groups, "part": parts})
    assert (table.groupby("group")["part"].nunique() == 1).all()
    counts = table["part"].value_counts()
    largest = table["group"].value_counts().max()
    assert abs(counts["test"] - 160) <= largest
    assert abs(counts["validation"] - 60) <= largest
    # The order of the rows does not matter; the seed does.
    order = rng.permutation(400)
    again = splits([groups[row] for row in order], {"test": 0.4, "validation": 0.15})
    assert again == [parts[row] for row in order]
    assert splits(groups, {"test": 0.4, "validation": 0.15}, seed=1) != parts


def test_thumbnails_are_of_the_ink_and_their_product_is_a_correlation(tmp_path):
    plain = drawing(5)
    moved = Image.new("RGB", (90, 70), "white")
    moved.paste(plain, (31, 17), plain)
    blank = Image.new("RGB", (9, 9), "white")
    paths = [tmp_path / f"{k}.png" for k in range(4)]
    for path, picture in zip(paths, (plain, moved, drawing(6), blank), strict=True):
        picture.save(path)
    digests, thumbnails = look_at_drawings([*paths, tmp_path / "none.png", None])
    assert len(set(digests[:4])) == 4
    assert digests[4:] == ["", ""]
    assert np.array_equal(thumbnails[0], thumbnails[1])
    assert not thumbnails[3:].any()
    first, other = thumbnails[0].astype(float), thumbnails[2].astype(float)
    # The sum of 1,728 float32 products.
    assert thumbnails[0] @ thumbnails[2] == pytest.approx(np.corrcoef(first, other)[0, 1], abs=1e-5)
    turned = mirrored(thumbnails[:1]).reshape(THUMBNAIL_PX, THUMBNAIL_PX, 3)
    assert np.array_equal(turned, thumbnails[0].reshape(turned.shape)[:, ::-1])


def test_near_rows_are_those_at_the_threshold():
    vectors = np.eye(3, dtype=np.float32)
    others = np.array([[0.95, 0.1, 0], [0.94, 0, 0.96]], dtype=np.float32)
    assert near_rows(vectors, others, threshold=0.95) == [(0, 0), (2, 1)]
    chosen = listed(*(("a", str(k), "t") for k in range(3))).assign(dropped=["", "flags", ""])
    marked = drop_near(chosen, vectors, [others, others], why="near")
    assert marked["dropped"].tolist() == ["near", "flags", "near"]


def test_the_first_of_equal_pixels_stays():
    chosen = listed(*(("a", str(k), "t") for k in range(5)))
    chosen = chosen.assign(dropped=["flags", "", "", "", ""])
    # What is dropped for another reason takes no other picture with it.
    marked = drop_repeats(chosen, ["q", "p", "", "p", "q"])
    expected = ["flags", "", "not readable, or too large", "same pixels", ""]
    assert marked["dropped"].tolist() == expected


def test_cells_hold_no_quotes_and_missing_wordings_are_empty():
    chosen = listed(("a/b", "x", 't"1"'), ("c_d", "y", "u")).assign(
        captions=[('t"1"', "two\twords"), ("u",)]
    )
    table = pair_table(chosen, ["g", "h"], ["train", "test"])
    assert table["caption1"].tolist() == ["t'1'", "u"]
    assert table["caption2"].tolist() == ["two words", ""]
    assert table["label"].tolist() == ["a", "c d"]


def test_what_is_not_there_is_named_with_the_commands_that_fetch_it(packages, tmp_path, capsys):
    packages.stamps = tmp_path / "nowhere"
    assert run(packages, tmp_path / "out") == 1
    assert "apt-get download tuxpaint-stamps-default" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    (tmp_path / "png").mkdir()
    with pytest.raises(DataError, match=r"openclipart-png openclipart-svg.*dpkg-deb -x"):
        read_clipart(tmp_path)
    with pytest.raises(DataError, match="holds no stamps"):
        read_stamps(tmp_path / "png")


def test_stamps_are_named_by_the_english_line(packages):
    chosen = choose_stamps(read_stamps(packages.stamps)).set_index("stem")
    assert chosen.loc["tulip", "captions"] == ("A tulip.",)
    assert chosen.loc["tulip", "folder"] == "things"
    assert chosen.loc["a", "captions"] == ()
