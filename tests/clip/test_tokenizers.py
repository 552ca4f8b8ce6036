from __future__ import annotations

import logging

import numpy as np
import pytest

from braindecode_clip.clip.tokenizers import WordTokenizer, read_vocabulary
from braindecode_clip.errors import DataError

WORDS = ["a", "red", "circle", "above"]


@pytest.fixture
def tokenizer():
    return WordTokenizer(WORDS, context_length=6)


def test_words_end_and_padding(tokenizer):
    ids = tokenizer.encode("A red  circle.")
    assert tokenizer.decode(ids) == "a red circle"
    assert ids.dtype == np.int64
    assert ids[3] == tokenizer.end_id == tokenizer.vocab_size - 1 == ids.max()
    assert (ids[4:] == tokenizer.pad_id).all()
    assert len(np.unique(ids[:3])) == 3


def test_batch_equals_single_texts_and_may_be_empty(tokenizer):
    texts = ["red above a circle", "", "circle"]
    batch = tokenizer(texts)
    assert batch.shape == (3, 6)
    np.testing.assert_array_equal(batch, [tokenizer.encode(text) for text in texts])
    assert tokenizer([]).shape == (0, 6)


def test_numbers_and_letters_outside_the_vocabulary_are_spelled(tokenizer, caplog):
    assert tokenizer.decode(tokenizer.encode("circle 42 b")) == "circle 4 2 b"
    assert not caplog.records


def test_unknown_words_are_named_once(tokenizer, caplog):
    with caplog.at_level(logging.WARNING):
        ids = tokenizer(["a zebra circle", "red zebra"])
        tokenizer("zebra")
    assert tokenizer.decode(ids[0]) == "a <unk> circle"
    assert [r for r in caplog.records if "'zebra'" in r.getMessage()] == caplog.records
    assert len(caplog.records) == 1


def test_long_texts_are_cut_with_a_warning(tokenizer, caplog):
    with caplog.at_level(logging.WARNING):
        ids = tokenizer.encode("a red circle above a red circle")
    assert tokenizer.decode(ids) == "a red circle above a"
    assert ids[-1] == tokenizer.end_id
    assert "cut" in caplog.text
    caplog.clear()
    tokenizer.encode("a red circle above a")
    assert not caplog.records


def test_json_round_trip(tokenizer):
    again = WordTokenizer.from_json(tokenizer.to_json())
    assert again.tokens == tokenizer.tokens
    assert again.context_length == 6


def test_vocabulary_of_captions_is_sorted_and_complete():
    made = WordTokenizer.from_captions(["b Red", "circle a red"], context_length=5)
    assert made.words == ("a", "b", "circle", "red")
    assert len(set(made.tokens)) == made.vocab_size


@pytest.mark.parametrize("words", [["a", "a"], ["Red"], ["two words"], [""]])
def test_bad_vocabularies_are_refused(words):
    with pytest.raises(DataError, match="vocabulary"):
        WordTokenizer(words, context_length=4)


def test_a_damaged_vocabulary_file_is_named(tmp_path):
    (tmp_path / "vocabulary.json").write_text("{", encoding="utf-8")
    with pytest.raises(DataError, match=r"vocabulary\.json"):
        read_vocabulary(tmp_path)
    (tmp_path / "vocabulary.json").write_text('{"tokenizer": "bytes"}', encoding="utf-8")
    with pytest.raises(DataError, match="'context_length' is missing"):
        read_vocabulary(tmp_path)
    (tmp_path / "vocabulary.json").write_text('{"tokenizer": "letters"}', encoding="utf-8")
    with pytest.raises(DataError, match="'words'"):
        read_vocabulary(tmp_path)
