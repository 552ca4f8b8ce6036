from __future__ import annotations

import io
import threading

import numpy as np
import pytest
import torch
from pair_files import captions_of, content, picture
from PIL import Image

from braindecode_clip.clip.augment import crop_box, random_cut
from braindecode_clip.clip.data import PairBatches
from braindecode_clip.clip.distributed import Processes
from braindecode_clip.clip.encoders import load_encoder, open_picture
from braindecode_clip.clip.pairs import Pairs, normalised
from braindecode_clip.clip.picture_store import PictureStore, prepared_rows
from braindecode_clip.clip.pictures import preparation, resized_pictures
from braindecode_clip.clip.tokenizers import WordTokenizer
from braindecode_clip.clip.train import Trainer
from braindecode_clip.config.clip_data import DataConfig
from braindecode_clip.errors import DataError
from braindecode_clip.io.images import decode_rgb
from braindecode_clip.seeds import make_rng

MEAN, STD = (0.5, 0.4, 0.3), (0.25, 0.2, 0.3)


@pytest.fixture
def make_store(tiny_recipe):
    """Return a maker of stores of PNG and JPEG in turn; some of them corrupt."""

    def make(n, *, keep=False, corrupt=(), calls=None, **options):
        def load(row):
            if calls is not None:
                calls.append((row, threading.get_ident()))
            if row in corrupt:
                raise DataError("cut off")
            return Image.open(io.BytesIO(content(row)[1])).convert("RGB")

        names = [f"p{row}" for row in range(n)]
        how = {"prepare": preparation(tiny_recipe), "side_px": 32, "keep": keep}
        return PictureStore(load, names, **how, **options)

    return make


def captions(n):
    return [captions_of(k) for k in range(n)]


def batches_of(images, n, **changes):
    pairs = Pairs(images, captions(n), groups=changes.pop("groups", None))
    tokenizer = WordTokenizer.from_captions(pairs.wordings, context_length=7)
    options = {"batch_size": 6, "seed": 1, "mean": MEAN, "std": STD, **changes}
    return PairBatches(pairs, tokenizer, **options)


def assert_same(first, second, steps):
    for step in steps:
        a, b = first[step], second[step]
        np.testing.assert_array_equal(a.rows, b.rows)
        assert torch.equal(a.pixels, b.pixels)
        assert torch.equal(a.tokens, b.tokens)
        assert torch.equal(a.groups, b.groups)


def test_batches_are_those_of_a_literal_restatement(make_store, tiny_recipe):
    n = 20
    batches = batches_of(make_store(n), n, max_shift_px=2)
    tokenizer = WordTokenizer.from_captions(
        [text for own in captions(n) for text in own], context_length=7
    )
    shown = resized_pictures([Image.open(io.BytesIO(content(k)[1])) for k in range(n)], tiny_recipe)
    counts = set()
    for step in (0, 2, 3, 7, 8, 10, 13, 14, 17):
        batch = batches[step]
        rows = make_rng(1, "order", step // 3).permutation(n)[step % 3 * 6 : step % 3 * 6 + 6]
        np.testing.assert_array_equal(batch.rows, rows)
        rng = make_rng(1, "batch", step)
        for k, row in enumerate(rows):
            own = captions_of(row)
            drawn = int(rng.integers(len(own)))
            counts.add((len(own), drawn))
            np.testing.assert_array_equal(batch.tokens[k], tokenizer.encode(own[drawn]))
        moves = rng.integers(-2, 3, size=(2, 6))
        for k, row in enumerate(rows):
            y = np.clip(np.arange(32) + moves[0, k], 0, 31)
            x = np.clip(np.arange(32) + moves[1, k], 0, 31)
            want = normalised(shown[row][y][:, x][None], MEAN, STD)[0]
            assert torch.equal(batch.pixels[k], want)
    assert counts == {(1, 0), (2, 0), (2, 1), (3, 0), (3, 1), (3, 2)}


@pytest.mark.parametrize("scale", [None, (0.3, 0.9)])
def test_workers_and_cache_change_no_bit(make_store, scale):
    data = DataConfig(crop_scale=scale, max_corrupt_share=0.5)
    n, corrupt, steps = 26, (3, 8, 20), (0, 1, 2, 3, 4, 9, 5, 11, 12)
    how = {"data": data, "max_shift_px": 1}
    plain = batches_of(make_store(n, corrupt=corrupt), n, **how)
    calls = []
    for n_workers in (0, 1, 4):
        for keep in (False, True):
            store = make_store(n, keep=keep, corrupt=corrupt, calls=calls)
            if keep:
                store.look_at_all(2)
            assert_same(plain, batches_of(store, n, n_workers=n_workers, **how), steps)
    assert len({thread for _, thread in calls}) > 4
    # And a run that starts at a later step sees what the first one saw.
    late = batches_of(make_store(n, corrupt=corrupt), n, n_workers=3, **how)
    assert_same(plain, late, [11, 4])


def test_pictures_are_decoded_ahead_of_the_step(make_store):
    calls = []
    batches = batches_of(make_store(24, calls=calls), 24, n_workers=2)
    first = batches[0]
    del first
    batches._pool.shutdown(wait=True)
    rows = {row for row, _ in calls}
    assert rows == set(batches.order(0)[:18].tolist())
    assert threading.get_ident() not in {thread for _, thread in calls}


def test_what_is_kept_is_decoded_once(make_store):
    calls = []
    batches = batches_of(make_store(12, keep=True, calls=calls), 12)
    for step in range(8):
        batches[step]
    assert sorted(row for row, _ in calls) == list(range(12))


def test_a_corrupt_picture_is_replaced_and_the_batch_stays_full(make_store):
    n, corrupt = 24, {2, 5, 11}
    clean, batches = (batches_of(make_store(n, corrupt=bad), n) for bad in ((), corrupt))
    n_replaced = 0
    for step in range(12):
        want, found = clean[step], batches[step]
        assert len(set(found.rows.tolist())) == 6
        assert not set(found.rows.tolist()) & corrupt
        for k in range(6):
            if want.rows[k] in corrupt:
                n_replaced += 1
                row = int(found.rows[k])
                pixels = prepared_rows(batches.pairs.images, [row])
                assert torch.equal(found.pixels[k], normalised(pixels, MEAN, STD)[0])
                own = [batches._tokens[batches._starts[row] + j] for j in range(1 + row % 3)]
                assert any(np.array_equal(found.tokens[k], tokens) for tokens in own)
            else:
                assert found.rows[k] == want.rows[k]
                assert torch.equal(found.pixels[k], want.pixels[k])
                assert torch.equal(found.tokens[k], want.tokens[k])
    assert n_replaced == 9
    assert batches.pairs.images.listed() == [f"p{k}: cut off" for k in (2, 5, 11)]


def test_too_many_corrupt_pictures_stop_the_run(make_store):
    few = make_store(24, corrupt=(1, 2), max_corrupt_share=2 / 24)
    few.look_at_all(1)
    many = batches_of(make_store(24, corrupt=(1, 2, 3), max_corrupt_share=2 / 24), 24)
    with pytest.raises(DataError, match=r"3 of 24 .*max_corrupt_share.*'p1: cut off'"):
        for step in range(4):
            many[step]
    strict = batches_of(make_store(24, corrupt=(1,), skip_corrupt=False), 24)
    with pytest.raises(DataError, match=r"1 of 24 .*on_corrupt is 'error'.*p1"):
        for step in range(4):
            strict[step]


def test_no_stand_in_is_an_error_with_the_names(make_store):
    store = make_store(6, corrupt=(4,))
    with pytest.raises(DataError, match=r"no stand-in was found for the corrupt p4"):
        batches_of(store, 6)[0]


def test_held_apart_by_group_and_by_caption(make_store):
    n = 30
    pairs = Pairs(
        make_store(n, corrupt=(7,), max_corrupt_share=0.1),
        [[f"word {k % 20}", f"one {k}"] for k in range(n)],
        groups=np.arange(n) // 3,
        files=np.arange(n),
    )
    tokenizer = WordTokenizer.from_captions(pairs.wordings, context_length=7)
    how = {"batch_size": 5, "seed": 4, "mean": MEAN, "std": STD}
    data = DataConfig(no_duplicates=["caption", "group"])
    batches = PairBatches(pairs, tokenizer, data=data, **how)
    assert batches.steps_per_epoch == 6
    seen = []
    for step in range(12):
        rows = batches[step].rows
        assert len(set(rows // 3)) == len(set(rows % 20)) == 5
        seen.append(rows)
    assert len(set(np.concatenate(seen[:6]).tolist())) == 29
    assert batches.order_record() == {"steps_per_epoch": 6, "n_left_out_of_first_epoch": 0}
    assert not np.array_equal(seen[0], seen[6])
    plain = PairBatches(pairs, tokenizer, **how)
    assert any(len(set(plain[step].rows // 3)) < 5 for step in range(6))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"data": DataConfig(no_duplicates=["group"])}, "the pairs have no groups"),
        ({"data": DataConfig(no_duplicates=["file"])}, "were not looked for"),
        (
            {"data": DataConfig(no_duplicates=["group"]), "groups": np.arange(20) % 5},
            "no 6 pictures that share none of group",
        ),
        (
            {"data": DataConfig(no_duplicates=["caption"]), "kin_size": 2},
            "Use one of the two",
        ),
    ],
)
def test_options_that_the_pairs_do_not_allow(make_store, options, message):
    with pytest.raises(DataError, match=message):
        batches_of(make_store(20), 20, **options)


def test_a_picture_without_caption_is_no_pair(make_store):
    with pytest.raises(DataError, match=r"no caption in rows '1'"):
        Pairs(make_store(2), [["a"], []])


def test_random_cuts_stay_inside_and_have_the_area_and_ratio_asked_for():
    rng = np.random.default_rng(0)
    boxes = np.array([crop_box((200, 100), (0.2, 0.5), rng) for _ in range(400)])
    left, top, right, bottom = boxes.T
    assert left.min() >= 0 and top.min() >= 0 and right.max() <= 200 and bottom.max() <= 100
    area = (right - left) * (bottom - top) / 20000
    ratio = (right - left) / (bottom - top)
    assert 0.19 < area.min() < 0.23 and 0.45 < area.max() < 0.51
    assert 0.72 < ratio.min() < 0.8 and 1.25 < ratio.max() < 1.36
    # Where no box fits: the largest centred one of an allowed ratio.
    assert crop_box((300, 30), (1.0, 1.0), rng) == (130, 0, 170, 30)
    assert crop_box((30, 300), (1.0, 1.0), rng) == (0, 130, 30, 170)
    assert crop_box((1, 1), (0.01, 0.02), rng) == (0, 0, 1, 1)


def test_a_cut_is_that_of_torchvision_for_the_same_box():
    from braindecode_clip.clip.torchvision_compat import import_torchvision

    import_torchvision()
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.functional import resized_crop

    image = picture(3, (90, 70))
    for seed in range(5):
        box = crop_box(image.size, (0.2, 0.9), np.random.default_rng(seed))
        left, top, right, bottom = box
        want = resized_crop(
            image, top, left, bottom - top, right - left, [32, 32], InterpolationMode.BICUBIC
        )
        found = random_cut(
            image,
            32,
            scale=(0.2, 0.9),
            interpolation="bicubic",
            rng=np.random.default_rng(seed),
        )
        np.testing.assert_array_equal(found, np.asarray(want))


def test_cuts_depend_on_seed_epoch_and_row_alone(make_store):
    n = 20
    data = DataConfig(crop_scale=(0.3, 0.8))
    seen = {}
    for images in (make_store(n), make_store(n)):
        # Another batch size deals the rows otherwise; each picture's cut stays.
        for size in (6, 10):
            batches = batches_of(images, n, batch_size=size, data=data)
            for step in range(2 * batches.steps_per_epoch):
                batch = batches[step]
                for row, pixels in zip(batch.rows, batch.pixels, strict=True):
                    key = (step // batches.steps_per_epoch, int(row))
                    assert torch.equal(seen.setdefault(key, pixels), pixels)
    assert not torch.equal(seen[0, 4], seen[1, 4])
    array = np.stack([np.asarray(picture(k, (32, 32))) for k in range(n)])
    batch = batches_of(array, n, data=data, n_workers=2)[0]
    want = random_cut(
        Image.fromarray(array[batch.rows[2]]),
        32,
        scale=(0.3, 0.8),
        interpolation="bicubic",
        rng=make_rng(1, "cut", 0, batch.rows[2]),
    )
    assert torch.equal(batch.pixels[2], normalised(want[None], MEAN, STD)[0])


def test_prepared_pixels_are_the_encoders(make_store, tiny_recipe, tmp_path):
    n = 12
    torch.set_num_threads(1)
    pairs = Pairs(make_store(n), captions(n))
    trainer = Trainer(tiny_recipe, pairs, validation=pairs, state_dir=tmp_path / "s", n_workers=1)
    trainer.run(stop_after=1)
    trainer.export(tmp_path / "model")
    encoder = load_encoder(str(tmp_path / "model"), device="cpu")
    shown = normalised(
        prepared_rows(pairs.images, range(n)),
        tiny_recipe.preprocess.mean,
        tiny_recipe.preprocess.std,
    )
    for row in range(n):
        image = Image.open(io.BytesIO(content(row)[1])).convert("RGB")
        prepared = torch.from_numpy(np.array(encoder.prepare_image(image)))
        want = encoder._pixels.numbers(prepared[None])[0]
        assert torch.equal(shown[row], want)


def test_a_stopped_run_on_lazy_pictures_goes_on_bit_by_bit(make_store, tiny_recipe, tmp_path):
    torch.set_num_threads(1)
    data = DataConfig(crop_scale=(0.5, 1.0), max_corrupt_share=0.2)
    recipe = tiny_recipe.model_copy(update={"data": data})

    def start(folder, n_workers, **options):
        store = make_store(26, corrupt=(5, 6))
        pairs = Pairs(store, captions(26))
        held = Pairs(make_store(9), captions(9))
        return Trainer(
            recipe,
            pairs,
            validation=held,
            state_dir=tmp_path / folder,
            n_workers=n_workers,
            **options,
        )

    whole = start("whole", 0)
    whole.run()
    start("cut", 4).run(stop_after=4)
    cut = start("cut", 1, resume=True)
    assert cut.step == 4
    cut.run()
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, cut.model.state_dict()[name]), name


def test_training_and_the_encoder_read_the_same_pixels_of_odd_files(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    rng = np.random.default_rng(0)
    made = {
        "turned.jpg": (picture(1), {"exif": exif}),
        "clear.png": (Image.fromarray(rng.integers(0, 256, (9, 8, 4), dtype=np.uint8)), {}),
        "deep.png": (Image.fromarray(rng.integers(0, 65536, (9, 8), dtype=np.uint16)), {}),
        "ink.jpg": (picture(2).convert("CMYK"), {}),
        "grey.png": (picture(3).convert("L"), {}),
        "palette.png": (picture(4).convert("P"), {}),
    }
    for name, (image, options) in made.items():
        image.save(tmp_path / name, **options)
        read = decode_rgb((tmp_path / name).read_bytes())
        encoders = open_picture(tmp_path / name)
        assert read.mode == encoders.mode == "RGB"
        np.testing.assert_array_equal(np.asarray(read), np.asarray(encoders), err_msg=name)
    assert open_picture(tmp_path / "turned.jpg").size == (36, 40)


class Pretended(Processes):
    """One of several processes, which hears the others through what they share."""

    heard: tuple[bool, ...] = ()

    def any_says(self, value):
        return value or any(self.heard)


@pytest.mark.parametrize("corrupt", [(), (3, 8, 20)])
@pytest.mark.parametrize("n_workers", [0, 2])
def test_processes_have_their_own_parts_of_one_batch(make_store, corrupt, n_workers, monkeypatch):
    """And decode no more than that, unless there is a stand-in to find."""
    n, steps = 26, range(8)
    data = DataConfig(crop_scale=(0.3, 0.9), max_corrupt_share=0.5)
    how = {"data": data, "max_shift_px": 1, "n_workers": n_workers}
    whole = batches_of(make_store(n, corrupt=corrupt), n, **how)
    calls = [[] for _ in range(3)]
    parts = [
        batches_of(
            make_store(n, corrupt=corrupt, calls=calls[rank]),
            n,
            processes=Pretended(rank, 3),
            **how,
        )
        for rank in range(3)
    ]
    for step in steps:
        planned = whole._rows(step)
        monkeypatch.setattr(Pretended, "heard", tuple(r in corrupt for r in planned.tolist()))
        want, found = whole[step], [own[step] for own in parts]
        assert [len(batch.rows) for batch in found] == [2, 2, 2]
        for name in ("pixels", "tokens", "groups"):
            joined = torch.cat([getattr(batch, name) for batch in found])
            assert torch.equal(joined, getattr(want, name))
        np.testing.assert_array_equal(np.concatenate([b.rows for b in found]), want.rows)
        if not corrupt and n_workers == 0:
            seen = [sorted({row for row, _ in own}) for own in calls]
            assert seen == [sorted(planned[k : k + 2].tolist()) for k in (0, 2, 4)]
            for own in calls:
                own.clear()
    if not corrupt and n_workers:
        for own in parts:
            own._pool.shutdown(wait=True)
        ahead = range(steps[-1] + 3)
        for rank, own in enumerate(calls):
            rows = [whole._rows(s)[2 * rank : 2 * rank + 2] for s in ahead]
            assert {row for row, _ in own} <= set(np.concatenate(rows).tolist())
            assert len(own) <= 2 * len(ahead)
