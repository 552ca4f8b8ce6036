"""The page as a document: whole, self-contained, escaped, and true to its inputs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from braindecode_clip.cli.main import main
from braindecode_clip.report.numbers import decimal, percent
from braindecode_clip.report.results import DIRECTIONS, metric_name


@pytest.fixture(scope="session")
def page(full, parse):
    return parse(full[1])


def test_document_is_well_formed(page):
    ids = [e.attributes["id"] for e in page.walk() if "id" in e.attributes]
    assert len(ids) == len(set(ids))
    (html,) = page.find("html")
    assert html.attributes["lang"] == "en"
    assert len(page.find("h1")) == len(page.find("main")) == 1
    anchors = {a.attributes["href"] for a in page.find("a")}
    assert anchors and all(href[1:] in ids for href in anchors)
    used = {u.attributes["href"][1:] for u in page.find("use")}
    assert used and used <= set(ids)


def test_nothing_is_fetched_from_elsewhere(full, parse):
    _, text = full
    document = parse(text)
    links = {"src", "href", "srcset", "poster", "data", "action"}
    for element in document.walk():
        for name, value in element.attributes.items():
            if name in links:
                assert value.startswith(("#", "data:")), (element.name, name, value[:60])
        assert element.name not in {"script", "link", "iframe", "object", "embed"}
    assert "@import" not in text
    assert not re.search(r"url\((?!#)", text)
    assert "http://" not in text and "https://" not in text


def test_every_score_stands_in_a_table(full, page):
    study, _ = full
    found: dict[tuple[str, str, str], list[str]] = {}
    for details in page.find("details"):
        title = details.find("summary")[0].text
        for row in details.find("tr"):
            cells = [cell.text for cell in row.children]
            found.setdefault((title, cells[0], cells[1]), cells)
    for row in study.rows:
        title = f"Subject {row['subject']}, {row['decoder']}, ROI {row['roi']}"
        key = (title, metric_name(row["metric"]), DIRECTIONS.get(row["direction"], "–"))
        cells = found.pop(key)
        share = row["metric"].startswith(("top_", "pairwise", "percentile"))
        digits = 1 if row["metric"] in ("mean_rank", "median_rank") else 3
        value = percent(row["value"]) if share else decimal(row["value"], digits=digits)
        assert cells[2].startswith(" ".join(value.split())), (row, cells)
        assert cells[6] == f"{row['n']} brain samples"
    titles = {f"Subject {r['subject']}, {r['decoder']}, ROI {r['roi']}" for r in study.rows}
    assert not [key for key in found if key[0] in titles and key[2] in DIRECTIONS.values()]


def test_headline_says_the_counts(full, page):
    study, _ = full
    retrieval = study.retrievals[0]
    n_first = int((retrieval.queries["rank"] <= 1).sum())
    n = len(retrieval.queries)
    sentence = page.find("article", "card")[0].find("p", "words")[0].text
    assert sentence.startswith(f"Subject 01, ridge: {n_first} of {n} pictures found")
    assert "95 % CI" in sentence and f"chance {100 / n:.1f} %" in sentence and "p " in sentence


def test_true_candidate_is_marked_by_frame_and_word(full, page):
    study, _ = full
    retrieval = study.retrievals[0]
    examples = page.find("article", "example")
    assert len(examples) == 9 * 2
    n_marked = 0
    for example in examples:
        rank = float(re.search(r"rank ([\d.]+) of 23", example.text).group(1))
        candidates = example.find("li", "candidate")
        assert len(candidates) == 5
        true = [place for place, item in enumerate(candidates, 1) if "true" in item.classes]
        assert true == ([int(rank)] if rank <= 5 else [])
        for place, item in enumerate(candidates, 1):
            assert ("✓ true" in item.text) == (place in true)
        if not true:
            assert f"The true one is at rank {rank:.0f}" in example.text
        n_marked += len(true)
    assert 0 < n_marked < len(examples)
    best = examples[0].find("li", "candidate")[0].find("span", "value")[0].text
    first = retrieval.queries[retrieval.queries["rank"] == 1]
    assert any(best == f"{value:.3f}" for value in first["similarity"])


def test_each_picture_is_embedded_once(full, page):
    images = [e for e in page.find("image") if e.attributes.get("id", "").startswith("picture-")]
    uris = [image.attributes["href"] for image in images]
    assert 5 < len(uris) == len(set(uris)) <= 23
    assert all(uri.startswith("data:image/") for uri in uris)
    assert len(full[1].encode()) < 8e6


def test_pictures_and_figures_have_alternative_texts(page):
    assert all(e.attributes.get("aria-label") for e in page.walk() if "role" in e.attributes)
    for svg in page.find("svg"):
        named = svg.attributes.get("aria-label")
        assert bool(named) != (svg.attributes.get("aria-hidden") == "true")
    for table in page.find("table"):
        heads = table.find("thead")[0].find("th")
        assert heads and all(head.attributes["scope"] == "col" for head in heads)
        assert table.find("caption")[0].text


def test_hostile_texts_stay_text(full, words, parse):
    _, text = full
    assert "<script" not in text
    assert "&lt;script&gt;alert(&#34;x&#34;)&lt;/script&gt; &amp; a &#34;circle&#34;" in text
    study, _ = words
    study.config["report"]["title"] = "</title><script>1</script>"
    out = study.folder / "hostile.html"
    assert main(study.arguments(out)) == 0
    study.config["report"].pop("title")
    titled = out.read_text(encoding="utf-8")
    assert "<script" not in titled
    assert parse(titled).find("h1")[0].text == "</title><script>1</script>"


def test_same_inputs_give_the_same_page(full):
    study, text = full
    again = study.folder / "again.html"
    assert main(study.arguments(again)) == 0
    assert again.read_text(encoding="utf-8") == text


def test_study_of_words_without_pictures_and_maps(words, parse):
    study, text = words
    document = parse(text)
    assert not document.find("image") and not document.find("section", id="brain")
    assert "#brain" not in {a.attributes["href"] for a in document.find("a")}
    (card,) = document.find("article", "card")
    assert "of 42 brain samples found" in card.text
    names = {word.text for word in document.find("span", "word")}
    assert names >= {"house", "human face"}
    (confusion,) = document.find("table", "confusion")
    rows = confusion.find("tbody")[0].find("tr")
    assert len(rows) == 7
    ranks = study.retrievals[0].queries
    share = 100 * (ranks[ranks["stimulus_id"] == "house"]["rank"] == 1).mean()
    house = next(row for row in rows if row.children[0].text == "house")
    assert house.find("td", "true")[0].text == f"{share:.0f}"


def test_four_subjects(tmp_path, parse, make_study):
    study = make_study(
        tmp_path,
        subjects=("01", "02", "03", "04"),
        rois=("visual",),
        decoders=("ridge",),
        maps=False,
    )
    out = tmp_path / "report.html"
    assert main(study.arguments(out)) == 0
    document = parse(out.read_text(encoding="utf-8"))
    titles = [card.find("h3")[0].text for card in document.find("article", "card")]
    assert titles == ["Subject 01", "Subject 02", "Subject 03", "Subject 04"]


@pytest.mark.parametrize(
    "key", ["metrics", "retrievals", "voxels", "stimuli", "benchmarks", "quality"]
)
def test_missing_file_is_one_message_and_the_old_page_stays(full, key, tmp_path, capsys):
    study, _ = full
    absent = str(tmp_path / f"absent_{key}.h5")
    kept = study.listing[key]
    study.listing[key] = absent if key == "stimuli" else [*kept, absent]
    out = tmp_path / "report.html"
    out.write_text("old", encoding="utf-8")
    try:
        assert main(study.arguments(out)) == 1
    finally:
        study.listing[key] = kept
    message = capsys.readouterr().err
    assert message.count("error:") == 1 and absent in message and "Traceback" not in message
    assert out.read_text(encoding="utf-8") == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_all_missing_files_are_named_at_once(words, tmp_path, capsys):
    study, _ = words
    kept = dict(study.listing)
    study.listing["retrievals"] = [str(tmp_path / "a.h5")]
    study.listing["reverse"] = [str(tmp_path / "b.h5")]
    study.listing["misspelt"] = []
    try:
        assert main(study.arguments(tmp_path / "report.html")) == 1
    finally:
        study.listing.clear()
        study.listing.update(kept)
    message = capsys.readouterr().err
    assert "a.h5" in message and "b.h5" in message and "misspelt" in message


def test_missing_picture_is_named(make_study, tmp_path, capsys):
    study = make_study(
        tmp_path / "s", subjects=("1",), rois=("v",), decoders=("ridge",), maps=False, n_gallery=7
    )
    Path(study.listing["stimuli"]).with_name("stim-003.png").unlink()
    assert main(study.arguments(tmp_path / "report.html")) == 1
    assert "stim-003.png" in capsys.readouterr().err


def test_option_typo_is_refused(words, tmp_path, capsys):
    study, _ = words
    study.config["report"]["candidate"] = 3
    try:
        assert main(study.arguments(tmp_path / "report.html")) == 1
    finally:
        study.config["report"].pop("candidate")
    assert "Did you mean 'candidates'" in capsys.readouterr().err


def test_fits_are_told_as_they_were_reported(page):
    (table,) = [t for t in page.find("table") if "as they were fitted" in t.find("caption")[0].text]
    heads = [head.text for head in table.find("thead")[0].find("th")]
    rows = {tuple(c.text for c in row.children[:5]): row for row in table.find("tr")[1:]}
    ridge = dict(
        zip(heads, rows["01", "visual", "stimulus", "scenes", "ridge"].children, strict=True)
    )
    assert ridge["Penalty, range"].text == "1–10 000 000"
    assert ridge["Best epoch"].text == "–"
    mlp = dict(zip(heads, rows["01", "visual", "stimulus", "scenes", "mlp"].children, strict=True))
    assert mlp["Best epoch"].text == "12–31" and mlp["Training rows"].text == "11"
