from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from braindecode_clip.clip.data import PairBatches, Pairs, caption_groups, normalised
from braindecode_clip.clip.pictures import resized_pictures
from braindecode_clip.clip.tokenizers import WordTokenizer
from braindecode_clip.clip.torchvision_compat import import_open_clip
from braindecode_clip.errors import DataError


def batches_of(pairs, **changes):
    tokenizer = WordTokenizer.from_captions(pairs.captions.ravel().tolist(), context_length=7)
    options = {"batch_size": 6, "seed": 1, "mean": (0.5,) * 3, "std": (0.25,) * 3, **changes}
    return PairBatches(pairs, tokenizer, **options)


def test_every_epoch_visits_each_pair_at_most_once_in_a_new_order(make_pairs):
    batches = batches_of(make_pairs(20, 0))
    assert batches.steps_per_epoch == 3
    epochs = [np.concatenate([batches[3 * e + s].rows for s in range(3)]) for e in range(3)]
    assert all(len(set(rows)) == 18 for rows in epochs)
    assert not np.array_equal(epochs[0], epochs[1])


def test_a_step_depends_on_the_seed_and_its_number_alone(make_pairs):
    pairs = make_pairs(20, 0)
    forward = batches_of(pairs, max_shift_px=2)
    seen = [forward[step] for step in range(7)]
    fresh = batches_of(pairs, max_shift_px=2)
    for step in (6, 2, 5):
        assert torch.equal(fresh[step].pixels, seen[step].pixels)
        assert torch.equal(fresh[step].tokens, seen[step].tokens)
    other = batches_of(pairs, max_shift_px=2, seed=2)
    assert not np.array_equal(other[0].rows, seen[0].rows)


def test_tokens_groups_and_pixels_belong_to_the_rows(make_pairs):
    pairs = make_pairs(13, 4)
    batches = batches_of(pairs, batch_size=5)
    groups = caption_groups(pairs.captions)
    tokenizer = WordTokenizer.from_captions(pairs.captions.ravel().tolist(), context_length=7)
    drawn = set()
    for step in range(8):
        batch = batches[step]
        for k, row in enumerate(batch.rows):
            wording = groups[row].tolist().index(int(batch.groups[k]))
            drawn.add(wording)
            expected = tokenizer.encode(str(pairs.captions[row, wording]))
            np.testing.assert_array_equal(batch.tokens[k].numpy(), expected)
            pixels = pairs.images[row].transpose(2, 0, 1) / 255.0
            np.testing.assert_allclose(
                batch.pixels[k].numpy(), (pixels - 0.5) / 0.25, atol=4 * np.finfo(np.float32).eps
            )
    assert drawn == {0, 1}


def test_shifts_move_pictures_and_repeat_the_edge(make_pairs):
    pairs = make_pairs(4, 2, size_px=9)
    plain, moved = (
        batches_of(pairs, batch_size=4, max_shift_px=shift, mean=(0,) * 3, std=(1,) * 3)[0]
        for shift in (0, 2)
    )
    assert np.array_equal(plain.rows, moved.rows)
    for before, after in zip(plain.pixels.numpy(), moved.pixels.numpy(), strict=True):
        padded = np.pad(before, ((0, 0), (2, 2), (2, 2)), mode="edge")
        windows = [padded[:, y : y + 9, x : x + 9] for y in range(5) for x in range(5)]
        assert any(np.array_equal(after, window) for window in windows)


def test_fewer_pairs_than_a_batch_is_an_error(make_pairs):
    with pytest.raises(DataError, match="5 pairs are fewer than one batch of 6"):
        batches_of(make_pairs(5, 0))


def test_groups_are_equal_exactly_for_equal_captions():
    captions = np.array([["a red", "b"], ["b", "a red"], ["c", "a  red"]])
    groups = caption_groups(captions)
    np.testing.assert_array_equal(groups[0], groups[1][::-1])
    assert len(np.unique(groups)) == 4


def test_bad_pairs_are_described():
    images = np.zeros((3, 8, 8), dtype=np.uint8)
    with pytest.raises(DataError, match=r"\(n, height, width, 3\)"):
        Pairs(images, np.array([["a"]] * 3))
    with pytest.raises(DataError, match=r"empty captions in rows '?1'?"):
        Pairs(np.zeros((2, 8, 8, 3), dtype=np.uint8), np.array([["a"], [" "]]))
    with pytest.raises(DataError, match=r"expected \(2, n_captions\)"):
        Pairs(np.zeros((2, 8, 8, 3), dtype=np.uint8), np.array([["a"]]))


def test_pixels_are_those_of_open_clips_transform(tiny_recipe):
    open_clip = import_open_clip()
    rng = np.random.default_rng(0)
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.3, 0.25)
    for size in ((32, 32), (50, 41)):
        picture = Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8))
        config = open_clip.transform.PreprocessCfg(
            size=32, mean=mean, std=std, resize_mode="longest"
        )
        want = open_clip.transform.image_transform_v2(config, is_train=False)(picture)
        got = normalised(resized_pictures([picture], tiny_recipe), mean, std)[0]
        np.testing.assert_allclose(got.numpy(), want.numpy(), atol=8 * np.finfo(np.float32).eps)


def test_kin_stand_together_in_pieces_and_nothing_is_lost(make_pairs):
    plain = make_pairs(60, 0)
    pairs = Pairs(plain.images, plain.captions, np.arange(60) % 5)
    batches = batches_of(pairs, kin_size=3)
    rows = np.concatenate([batches[step].rows for step in range(10)])
    assert sorted(rows) == list(range(60))
    # 12 pairs of each kin: every piece of three is of one kin, and pieces are mixed.
    pieces = (rows % 5).reshape(-1, 3)
    assert (pieces == pieces[:, :1]).all()
    assert len(set(map(tuple, pieces.reshape(10, 6)))) > 1
    again = batches_of(pairs, kin_size=3)
    np.testing.assert_array_equal(again[7].rows, batches[7].rows)


@pytest.mark.parametrize(
    ("kin", "size", "words"),
    [(None, 3, "nothing tells"), (np.zeros(20, int), 4, "does not divide")],
)
def test_kin_that_cannot_be_used(make_pairs, kin, size, words):
    plain = make_pairs(20, 0)
    with pytest.raises(DataError, match=words):
        batches_of(Pairs(plain.images, plain.captions, kin), kin_size=size)


def test_kin_of_another_length(make_pairs):
    plain = make_pairs(20, 0)
    with pytest.raises(DataError, match="kin has shape"):
        Pairs(plain.images, plain.captions, np.zeros(19, int))
