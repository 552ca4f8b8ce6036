"""`braindecode-clip search` end to end, with the shipped model."""

from __future__ import annotations

import io
import json

import h5py
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from braindecode_clip.cli.candidates import default_folder
from braindecode_clip.cli.main import main
from braindecode_clip.clip.encoders import ClipEncoder, load_encoder
from braindecode_clip.clip.models import build_model, save_model
from braindecode_clip.clip.tokenizers import WordTokenizer
from braindecode_clip.simulate.pairs import make_pairs

N = 60


@pytest.fixture(scope="module")
def drawn():
    return make_pairs(N, rng=np.random.default_rng(31))


@pytest.fixture(scope="module")
def vectors(drawn):
    """Return picture and text vectors, encoded without the command."""
    encoder = load_encoder("scenes", device="cpu")
    pictures = [Image.fromarray(pixels) for pixels in drawn.images]
    return encoder.encode_image(pictures).astype(np.float64), encoder


@pytest.fixture
def scenes(drawn, tmp_path, monkeypatch):
    """Return a folder of pictures with a table beside it; the index goes there too."""
    monkeypatch.setenv("BRAINDECODE_CLIP_CACHE", str(tmp_path / "index"))
    folder = tmp_path / "pictures"
    (folder / "more").mkdir(parents=True)
    lines = ["stimulus_id\timage\tcaption"]
    for k, pixels in enumerate(drawn.images):
        name = f"{'more/' if k % 3 else ''}{k:02d}.png"
        Image.fromarray(pixels).save(folder / name)
        lines.append(f"s{k:02d}\tpictures/{name}\t{drawn.captions[k, 0]}")
    (tmp_path / "stimuli.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return tmp_path


@pytest.fixture
def tiny_model(tiny_recipe, tmp_path):
    """Return the folder of another model."""
    tokenizer = WordTokenizer(["red", "blue", "left"], context_length=7)
    folder = tmp_path / "models" / "tiny"
    save_model(folder, build_model(tiny_recipe, tokenizer), recipe=tiny_recipe, tokenizer=tokenizer)
    return folder


def run(*arguments):
    return main(["search", *map(str, arguments)])


def printed(capsys):
    return pd.read_csv(io.StringIO(capsys.readouterr().out), sep="\t", dtype={"id": str})


def test_texts_find_what_a_full_sort_finds(scenes, vectors, capsys):
    images, encoder = vectors
    asked = ["a large red star", "two blue circles"]
    assert run(*asked, "--gallery", scenes / "stimuli.tsv", "--top", 7) == 0
    found = printed(capsys)
    assert found.columns.tolist() == ["query", "rank", "id", "path", "score"]
    for text in asked:
        cosine = images @ encoder.encode_text([text])[0].astype(np.float64)
        best = np.argsort(-cosine, kind="stable")[:7]
        own = found[found["query"] == text]
        assert own["id"].tolist() == [f"s{row:02d}" for row in best]
        np.testing.assert_allclose(own["score"], cosine[best], atol=6e-5)
        assert own["rank"].tolist() == list(range(1, 8))
        assert all(path.endswith(".png") for path in own["path"])


def test_a_folder_and_hdf5_give_what_the_table_gives(scenes, drawn, capsys):
    with h5py.File(scenes / "pairs.h5", "w") as file:
        file["images"] = drawn.images
    tables = []
    for gallery in ("stimuli.tsv", "pictures", "pairs.h5"):
        assert run("a small green cross", "--gallery", scenes / gallery, "--top", N) == 0
        found = printed(capsys)
        numbers = found["id"].str.extract(r"(\d+)$")[0].astype(int)
        tables.append(pd.Series(found["score"].to_numpy(), index=numbers).sort_index())
    np.testing.assert_array_equal(tables[0], tables[1])
    np.testing.assert_allclose(tables[0], tables[2], atol=1e-4)


def test_picture_text_and_both(scenes, vectors, capsys):
    images, encoder = vectors
    picture = scenes / "pictures" / "more" / "05.png"
    text = encoder.encode_text(["a heart"])[0].astype(np.float64)
    gallery = ("--gallery", scenes / "stimuli.tsv", "--top", 9)
    assert run("--image", picture, *gallery) == 0
    found = printed(capsys)
    assert found["id"][0] == "s05" and found["score"][0] == pytest.approx(1, abs=1e-4)
    np.testing.assert_allclose(found["score"], np.sort(images @ images[5])[::-1][:9], atol=6e-5)
    assert run("a heart", "--image", picture, "--image-weight", 0.3, *gallery) == 0
    mixed = 0.7 * text + 0.3 * images[5]
    cosine = images @ mixed / np.sqrt(mixed @ mixed)
    found = printed(capsys)
    assert found["id"].tolist() == [f"s{row:02d}" for row in np.argsort(-cosine)[:9]]
    assert set(found["query"]) == {"a heart + 05.png"}
    assert run("a heart", "--negative", "red", "--negative-weight", 0.4, *gallery) == 0
    away = text - 0.4 * encoder.encode_text(["red"])[0].astype(np.float64)
    cosine = images @ away / np.sqrt(away @ away)
    np.testing.assert_allclose(printed(capsys)["score"], np.sort(cosine)[::-1][:9], atol=6e-5)


def test_queries_and_templates_from_files(scenes, vectors, capsys):
    images, encoder = vectors
    (scenes / "t.txt").write_text("a {}\na picture of a {}\n")
    (scenes / "q.tsv").write_text(
        "text\timage\timage_weight\tnegative\nred circle\t\t\tblue\nstar\tpictures/00.png\t0.25\t\n"
    )
    out = scenes / "found"
    options = ("--queries", scenes / "q.tsv", "--templates", scenes / "t.txt", "--out", out)
    assert run("--gallery", scenes / "pictures", *options, "--top", 4) == 0
    found = pd.read_csv(out / "results.tsv", sep="\t")
    assert found["query"].tolist() == ["red circle − blue"] * 4 + ["star + 00.png"] * 4
    parts = []
    for word in ("red circle", "blue"):
        both = encoder.encode_text([f"a {word}", f"a picture of a {word}"]).astype(np.float64)
        parts.append(both.sum(axis=0) / np.sqrt((both.sum(axis=0) ** 2).sum()))
    away = parts[0] - 0.5 * parts[1]
    cosine = np.sort(images @ away / np.sqrt(away @ away))[::-1][:4]
    np.testing.assert_allclose(found["score"][:4], cosine, atol=1e-6)
    star = encoder.encode_text(["a star", "a picture of a star"]).astype(np.float64).sum(axis=0)
    mixed = 0.75 * star / np.sqrt(star @ star) + 0.25 * images[0]
    cosine = np.sort(images @ mixed / np.sqrt(mixed @ mixed))[::-1][:4]
    np.testing.assert_allclose(found["score"][4:], cosine, atol=1e-6)
    with Image.open(out / "results.png") as drawn:
        assert drawn.width == 1240 and drawn.height > 400
    page = (out / "results.html").read_text(encoding="utf-8")
    assert "star + 00.png" in page and "red circle − blue" in page


def test_the_second_search_encodes_no_picture(scenes, monkeypatch, capsys):
    assert run("a star", "--gallery", scenes / "pictures") == 0
    first = printed(capsys)
    seen = []
    original = ClipEncoder.encode_prepared

    def counted(self, prepared):
        seen.extend(prepared)
        return original(self, prepared)

    monkeypatch.setattr(ClipEncoder, "encode_prepared", counted)
    load_encoder("scenes", device="cpu")
    # Pictures of the fingerprint, encoded by every encoder that is loaded.
    n_probes = len(seen)
    seen.clear()
    assert run("a star", "--gallery", scenes / "pictures") == 0
    assert len(seen) == n_probes
    pd.testing.assert_frame_equal(printed(capsys), first)
    # A copy under another name is the same content; a changed picture is not.
    folder = scenes / "pictures"
    (folder / "copy.png").write_bytes((folder / "00.png").read_bytes())
    Image.new("RGB", (64, 64), (200, 30, 30)).save(folder / "03.png")
    seen.clear()
    assert run("a star", "--gallery", folder) == 0
    assert len(seen) == n_probes + 1
    assert "61 candidates, 1 of them encoded now" in capsys.readouterr().err


def test_vectors_of_embed_serve_as_gallery_and_others_are_refused(scenes, capsys):
    table, out = scenes / "stimuli.tsv", scenes / "v.h5"
    embed = ["embed", "--stimuli", str(table), "--options", "{name: scenes}", "--out", str(out)]
    assert main(embed) == 0
    assert run("a star", "--gallery", table, "--top", 5) == 0
    want = printed(capsys)
    assert run("a star", "--gallery", out, "--top", 5) == 0
    found = printed(capsys)
    assert found["id"].tolist() == want["id"].tolist()
    assert found["path"].isna().all()
    np.testing.assert_allclose(found["score"], want["score"], atol=1e-4)
    assert run("a star", "--gallery", out, "--out", scenes / "page") == 0
    assert 'class="word">s' in (scenes / "page" / "results.html").read_text()
    with h5py.File(out, "r+") as file:
        text = file["fingerprint"].asstr()[()].replace('"name": "scenes"', '"name": "other"')
        del file["fingerprint"]
        file["fingerprint"] = text
    capsys.readouterr()
    assert run("a star", "--gallery", out) == 1
    message = capsys.readouterr().err
    assert "another encoder than --encoder" in message and "'other'" in message


def test_texts_as_gallery_for_a_picture(scenes, vectors, drawn, capsys):
    images, encoder = vectors
    table, picture = scenes / "stimuli.tsv", scenes / "pictures" / "09.png"
    options = ("--text-column", "caption", "--image", picture, "--top", 3)
    assert run("--gallery", table, *options, "--out", scenes / "t") == 0
    cosine = encoder.encode_text(drawn.captions[:, 0].tolist()).astype(np.float64) @ images[9]
    found = pd.read_csv(scenes / "t" / "results.tsv", sep="\t")
    np.testing.assert_allclose(found["score"], np.sort(cosine)[::-1][:3], atol=1e-6)


def test_near_duplicates_within_and_between(scenes, vectors, capsys):
    images, _ = vectors
    folder, other = scenes / "pictures", scenes / "other"
    other.mkdir()
    (other / "same.png").write_bytes((folder / "00.png").read_bytes())
    Image.new("RGB", (64, 64), (10, 200, 30)).save(other / "new.png")
    cosine = np.triu(images @ images.T, 1)
    threshold = float(np.sort(cosine.ravel())[-6:-4].mean())
    assert run("--gallery", folder, "--near-duplicates", threshold, "--out", scenes / "d") == 0
    found = pd.read_csv(scenes / "d" / "pairs.tsv", sep="\t", dtype=str)
    assert found.columns.tolist() == ["id_1", "path_1", "id_2", "path_2", "score", "group"]
    pairs = {
        tuple(sorted((int(a.split("/")[-1]), int(b.split("/")[-1]))))
        for a, b in zip(found["id_1"], found["id_2"], strict=True)
    }
    assert pairs == set(zip(*map(np.ndarray.tolist, np.nonzero(cosine >= threshold)), strict=True))
    assert len(pairs) == 5
    assert (scenes / "d" / "pairs.html").is_file() and (scenes / "d" / "pairs.png").is_file()
    capsys.readouterr()
    assert run("--gallery", folder, "--near-duplicates", 0.9999, "--against", other) == 0
    printed_rows = capsys.readouterr().out.splitlines()
    assert len(printed_rows) == 2
    assert f"{folder}: 00" in printed_rows[1] and f"{other}: same" in printed_rows[1]


def test_near_duplicates_of_vectors_need_no_encoder(scenes, capsys, monkeypatch):
    out = scenes / "v.h5"
    embed = ["embed", "--stimuli", str(scenes / "stimuli.tsv"), "--options", "{name: scenes}"]
    assert main([*embed, "--out", str(out)]) == 0

    def refuse(*_, **__):
        raise AssertionError("the encoder was loaded")

    monkeypatch.setattr("braindecode_clip.clip.encoders.load_encoder", refuse)
    capsys.readouterr()
    assert run("--gallery", out, "--near-duplicates", 0.9) == 0
    assert capsys.readouterr().out.startswith("id_1\t")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a star"], "--gallery is missing"),
        (["--gallery", "{}/pictures"], "no queries"),
        (["a star", "--gallery", "{}/none"], "no such gallery"),
        (["a star", "--gallery", "{}/empty"], "no pictures"),
        (["a star", "--gallery", "{}/bad.h5"], "no readable HDF5 file"),
        (["a star", "--gallery", "{}/pictures", "--encoder", "scene"], "neither 'scenes' nor"),
        (
            ["a star", "--gallery", "{}/pictures", "--encoder", "{{knd: local}}"],
            "unknown key 'knd'",
        ),
        (
            [
                "a star",
                "--gallery",
                "{}/pictures",
                "--encoder",
                "{{kind: precomputed, vectors: v}}",
            ],
            "encodes nothing",
        ),
        (["a star", "--gallery", "{}/pictures", "--templates", "imagenet"], "simple, generic"),
        (["a star", "--gallery", "{}/pictures", "--templates", "{}/bad.txt"], "every template"),
        (["a star", "--gallery", "{}/pictures", "--image-weight", "0.5"], "give both"),
        (["--image", "{}/none.png", "--gallery", "{}/pictures"], "none.png"),
        (["{}/pictures/00.png", "--gallery", "{}/pictures"], "are files, not words"),
        (["a", "a", "--gallery", "{}/pictures"], "more than once: 'a'"),
        (["a star", "--gallery", "{}/pictures", "--against", "{}"], "--near-duplicates"),
        (["a star", "--gallery", "{}/pictures", "--near-duplicates", "0.9"], "leave queries out"),
    ],
)
def test_mistakes_end_with_one_message_and_no_files(scenes, capsys, arguments, message):
    (scenes / "empty").mkdir()
    (scenes / "bad.h5").write_bytes(b"no hdf5")
    (scenes / "bad.txt").write_text("a picture\n")
    arguments = [text.format(scenes) for text in arguments]
    assert run(*arguments, "--out", scenes / "out") == 1
    text = capsys.readouterr().err
    assert message in text and "Traceback" not in text
    assert not (scenes / "out").exists()


def test_missing_and_damaged_pictures_are_listed_and_old_results_stay(scenes, capsys):
    folder, out = scenes / "pictures", scenes / "out"
    assert run("a star", "--gallery", scenes / "stimuli.tsv", "--out", out) == 0
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    for name in ("00.png", "03.png"):
        (folder / name).unlink()
    capsys.readouterr()
    assert run("a star", "--gallery", scenes / "stimuli.tsv", "--out", out) == 1
    text = capsys.readouterr().err
    assert "2 of 60 pictures are missing" in text and "00.png" in text and "03.png" in text
    (folder / "06.png").write_bytes(b"no picture")
    (folder / "more" / "01.png").write_bytes(b"")
    assert run("a star", "--gallery", folder, "--out", out) == 1
    text = capsys.readouterr().err
    assert "2 problems" in text and "06.png" in text and "01.png" in text
    assert "Traceback" not in text
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_rank_one_of_captions_agrees_with_clip_evaluate(scenes, drawn, capsys):
    """Every distinct caption asks once: rank 1 is as frequent as `clip evaluate` says."""
    captions = drawn.captions[:, 0]
    _, rows = np.unique(captions, return_index=True)
    table = pd.read_csv(scenes / "stimuli.tsv", sep="\t").iloc[rows]
    table.to_csv(scenes / "distinct.tsv", sep="\t", index=False)
    (scenes / "captions.txt").write_text("\n".join(captions[rows]) + "\n")
    options = ("--queries", scenes / "captions.txt", "--top", 5)
    assert run("--gallery", scenes / "distinct.tsv", *options) == 0
    found = printed(capsys)
    own = dict(zip(table["caption"], table["stimulus_id"], strict=True))
    hits = found["id"] == found["query"].map(own)
    evaluate = ["clip", "evaluate", "--model", "scenes", "--pool-size", str(len(rows))]
    evaluate += ["--pairs", str(scenes / "distinct.tsv"), "--out", str(scenes / "e.json")]
    assert main(evaluate) == 0
    want = json.loads((scenes / "e.json").read_text())["distinct"]["text_to_image"]
    assert (want["n"], want["n_pools"]) == (len(rows), 1)
    assert hits[found["rank"] == 1].mean() == pytest.approx(want["r1"])
    assert hits.sum() / len(rows) == pytest.approx(want["r5"])
    assert want["r1"] > 0.8


def test_a_model_folder_and_options_name_the_same_encoder(scenes, capsys, tiny_model):
    gallery = ("--gallery", scenes / "pictures", "--top", 4)
    tables = []
    (scenes / "enc.yaml").write_text(f"kind: local\nmodel: {tiny_model}\n")
    for encoder in (tiny_model, f"{{name: x, kind: local, model: {tiny_model}}}", "enc.yaml"):
        place = scenes / encoder if encoder == "enc.yaml" else encoder
        assert run("red left", *gallery, "--encoder", place) == 0
        tables.append(printed(capsys))
    pd.testing.assert_frame_equal(tables[0], tables[1])
    pd.testing.assert_frame_equal(tables[0], tables[2])
    encoder = load_encoder(str(tiny_model), device="cpu")
    files = sorted((scenes / "pictures").rglob("*.png"))
    cosine = encoder.encode_image(files).astype(np.float64) @ encoder.encode_text(["red left"])[0]
    np.testing.assert_allclose(tables[0]["score"], np.sort(cosine)[::-1][:4], atol=6e-5)
    # Two encoders share the folder of the index, and not its vectors.
    assert run("a star", *gallery) == 0
    assert "60 of them encoded now" in capsys.readouterr().err


def test_an_interrupted_index_goes_on_where_it_was(scenes, monkeypatch, capsys):
    original, seen = ClipEncoder.encode_prepared, []

    def stops(self, prepared):
        if len(prepared) == 8:
            seen.append(len(prepared))
        if len(seen) > 4:
            raise KeyboardInterrupt
        return original(self, prepared)

    gallery = ("--gallery", scenes / "pictures", "--batch-size", 8)
    monkeypatch.setattr(ClipEncoder, "encode_prepared", stops)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        raise SystemExit(run("a star", *gallery))
    monkeypatch.setattr(ClipEncoder, "encode_prepared", original)
    capsys.readouterr()
    assert run("a star", *gallery) == 0
    # Four whole batches of 8 were kept.
    assert "60 candidates, 28 of them encoded now" in capsys.readouterr().err


def test_an_encoder_without_a_text_tower_says_so(scenes, capsys, monkeypatch):
    monkeypatch.delattr(ClipEncoder, "encode_text")
    assert run("a star", "--gallery", scenes / "pictures") == 1
    assert "has no text tower" in capsys.readouterr().err
    assert run("--image", scenes / "pictures" / "00.png", "--gallery", scenes / "pictures") == 0


def test_the_default_folder_follows_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("BRAINDECODE_CLIP_CACHE", str(tmp_path / "a"))
    assert default_folder() == tmp_path / "a"
    monkeypatch.delenv("BRAINDECODE_CLIP_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "b"))
    assert default_folder() == tmp_path / "b" / "braindecode-clip"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_folder() == tmp_path / ".cache" / "braindecode-clip"


def test_no_near_duplicates_make_an_empty_table_and_a_page_that_says_so(scenes):
    out = scenes / "none"
    table = scenes / "stimuli.tsv"
    assert run("--gallery", table, "--near-duplicates", 1.0, "--out", out) == 0
    found = pd.read_csv(out / "pairs.tsv", sep="\t")
    assert not len(found) and "score" in found.columns
    assert "0 pairs" in (out / "pairs.html").read_text(encoding="utf-8")
    with Image.open(out / "pairs.png") as drawn:
        assert drawn.width == 1240
