"""Re-ranking of a gallery by tokens, against loops in float64."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from braindecode_clip.artifacts import Embeddings, Predictions, Retrieval, TokenRows
from braindecode_clip.cli.main import main
from braindecode_clip.config.evaluate import EvaluateConfig
from braindecode_clip.config.retrieve import CorrectionConfig, GalleryConfig
from braindecode_clip.errors import ConfigError, DataError
from braindecode_clip.evaluate import evaluate
from braindecode_clip.io.hdf5 import load_artifact, read_provenance, save_artifact
from braindecode_clip.provenance import Provenance
from braindecode_clip.retrieve import average_repeats, retrieve, token_order
from braindecode_clip.retrieve.token_order import TokenOrder, shortlisted

Study = tuple[Predictions, Embeddings]
SHAPE = (4, 6)
RECORD = Provenance(stage="test", options={}, inputs={}, seed=None, code_digest="0")


def token_study(study: Study, *, noise: float = 0.8, seed: int = 3) -> Study:
    """Return predicted and embedded tokens of the same samples and stimuli, in another order."""
    predictions, embeddings = study
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((len(embeddings.ids), *SHAPE))
    values /= np.sqrt(np.square(values).sum(axis=(1, 2), keepdims=True) / SHAPE[0])
    values = values.astype(np.float16)
    order = rng.permutation(len(values))
    tokens = Embeddings(embeddings.ids[order], values[order], "image", {"name": "vit"})
    rows = embeddings.rows(predictions.stimulus_id)
    guess = values[rows].astype(float) + noise * rng.standard_normal((len(rows), *SHAPE))
    predicted = replace(
        predictions,
        vectors=guess.astype(np.float32),
        fingerprint={"name": "vit"},
        info={**predictions.info, "encoder": "vit"},
    )
    return predicted, tokens


def token_order_of(study: Study, shortlist: int) -> TokenOrder:
    predictions, embeddings = study
    lazy = replace(embeddings, vectors=TokenRows(embeddings.vectors))
    return TokenOrder(predictions, lazy, encoder="vit", decoder="ridge", shortlist=shortlist)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a.ravel().astype(np.float64), b.ravel().astype(np.float64)
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


def literal(pooled: Study, tokens: Study, names: np.ndarray, shortlist: int, kind: str) -> list:
    """Return for each sample its candidates' keys: (True, token cosine) or (False, pooled)."""
    (predictions, embeddings), (predicted, embedded) = pooled, tokens
    rows = []
    for i in range(len(predictions.stimulus_id)):
        first = []
        for name in names:
            one = predictions.vectors[i].astype(np.float64)
            two = embeddings.vectors[list(embeddings.ids).index(name)].astype(np.float64)
            if kind == "correlation":
                one, two = one - one.mean(), two - two.mean()
            value = -np.sqrt(np.sum((one - two) ** 2)) if kind == "euclidean" else cosine(one, two)
            first.append(round(value, 7))
        keys = []
        for value, name in zip(first, names, strict=True):
            # All that are level with it, and all above, fit.
            if sum(other >= value for other in first) <= shortlist:
                own = embedded.vectors[list(embedded.ids).index(name)]
                keys.append((True, round(cosine(predicted.vectors[i], own), 7)))
            else:
                keys.append((False, value))
        rows.append(keys)
    return rows


@pytest.fixture
def pooled(make_study: Callable[..., Study]) -> Study:
    """Seven samples of four stimuli in two folds; 12 candidates, some with the same vector."""
    predictions, embeddings = make_study((2, 1, 3, 1), n_embedded=12)
    vectors = embeddings.vectors.copy()
    vectors[[5, 9]] = vectors[2]
    vectors[6] = vectors[0]
    first = np.unique(predictions.stimulus_id)[:2]
    fold = np.where(np.isin(predictions.stimulus_id, first), "a", "b")
    return replace(predictions, fold=fold), replace(embeddings, vectors=vectors)


@pytest.fixture
def tokens(pooled: Study) -> Study:
    predicted, embedded = token_study(pooled)
    names = pooled[1].ids
    values = embedded.vectors.copy()
    at = embedded.rows(names)
    values[at[9]] = values[at[2]]
    values[at[3]] = values[at[0]]
    values[at[5]] = values[at[6]]
    return predicted, replace(embedded, vectors=values)


@pytest.mark.parametrize("kind", ["cosine", "correlation", "euclidean"])
@pytest.mark.parametrize("shortlist", [1, 2, 3, 5, 8, 11, 12, 40])
def test_the_order_is_its_definition(
    pooled: Study, tokens: Study, kind: str, shortlist: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Several blocks of samples and of candidates.
    monkeypatch.setattr(token_order, "QUERY_NUMBERS", 3 * 24)
    monkeypatch.setattr(token_order, "CANDIDATE_NUMBERS", 5 * 24)
    predictions, embeddings = pooled
    names = embeddings.ids[np.random.default_rng(1).permutation(12)]
    found = retrieve(
        predictions,
        embeddings,
        names,
        similarity=kind,
        n_top=6,
        rerank=token_order_of(tokens, shortlist),
    )
    expected = literal(pooled, tokens, names, shortlist, kind)
    for i, keys in enumerate(expected):
        true = keys[list(names).index(predictions.stimulus_id[i])]
        better, level = sum(key > true for key in keys), sum(key == true for key in keys) - 1
        assert found.queries["rank"][i] == 1 + better + level / 2
        best = sorted(range(12), key=lambda j: (not keys[j][0], -keys[j][1], j))
        assert found.top_id[i].tolist() == names[best[:6]].tolist()
        values = [value if by_tokens else value - 3 for by_tokens, value in keys]
        np.testing.assert_allclose(found.similarity[i], values, atol=3e-7)
    ordered = [sum(by_tokens for by_tokens, _ in keys) for keys in expected]
    facts = found.info["rerank"]
    assert facts["mean_ordered"] == pytest.approx(np.mean(ordered))
    truths = [
        keys[list(names).index(name)][0]
        for keys, name in zip(expected, predictions.stimulus_id, strict=True)
    ]
    assert facts["true_ordered"] == pytest.approx(np.mean(truths))
    assert (facts["encoder"], facts["decoder"], facts["shortlist"]) == ("vit", "ridge", shortlist)


def test_ties_of_the_fixture_are_at_the_border(pooled: Study, tokens: Study) -> None:
    """The literal comparison above meets groups that don't fit, and ties of tokens."""
    _, embeddings = pooled
    sizes = {
        sum(by_tokens for by_tokens, _ in keys)
        for keys in literal(pooled, tokens, embeddings.ids, 5, "cosine")
    }
    assert min(sizes) < 5
    whole = literal(pooled, tokens, embeddings.ids, 12, "cosine")
    assert all(len(set(keys)) == 9 for keys in whole)


def test_the_ends_are_the_pooled_order_and_the_order_of_a_token_gallery(
    pooled: Study, tokens: Study
) -> None:
    predictions, embeddings = pooled
    names = embeddings.ids
    plain = retrieve(predictions, embeddings, names)
    one = retrieve(predictions, embeddings, names, rerank=token_order_of(tokens, 1))
    assert np.array_equal(one.queries["rank"], plain.queries["rank"])
    assert np.array_equal(one.top_id, plain.top_id)
    all_ = retrieve(predictions, embeddings, names, rerank=token_order_of(tokens, 12))
    pure = retrieve(*tokens, names)
    assert np.array_equal(all_.queries["rank"], pure.queries["rank"])
    assert np.array_equal(all_.top_id, pure.top_id)
    np.testing.assert_allclose(all_.similarity, pure.similarity, atol=1e-6)
    # Of three level pooled vectors two have the same tokens. One has those of another vector.
    assert plain.info["n_duplicates"] == 5 and all_.info["n_duplicates"] == 2


def test_the_order_does_not_depend_on_the_gallery_s(pooled: Study, tokens: Study) -> None:
    predictions, embeddings = pooled
    rng = np.random.default_rng(5)
    for shortlist in range(1, 13):
        ranks = {
            tuple(
                retrieve(
                    predictions,
                    embeddings,
                    rng.permutation(embeddings.ids),
                    rerank=token_order_of(tokens, shortlist),
                ).queries["rank"]
            )
            for _ in range(4)
        }
        assert len(ranks) == 1


def test_a_shortlist_is_what_lies_above_the_best_that_does_not_fit() -> None:
    table = np.array([[0.5, 0.9, 0.5, 0.1, 0.5], [1.0, 1.0, 1.0, 1.0, 1.0]])
    assert shortlisted(table, 1).sum(axis=1).tolist() == [1, 0]
    assert shortlisted(table, 3).sum(axis=1).tolist() == [1, 0]
    assert shortlisted(table, 4).sum(axis=1).tolist() == [4, 0]
    assert shortlisted(table, 5).all()


def test_the_opposite_direction_is_left_as_it_is(pooled: Study, tokens: Study) -> None:
    predictions, embeddings = pooled
    options = {"direction": "image_to_brain"}
    plain = retrieve(predictions, embeddings, embeddings.ids, **options)
    other = retrieve(
        predictions, embeddings, embeddings.ids, rerank=token_order_of(tokens, 12), **options
    )
    assert plain.queries.equals(other.queries) and plain.info == other.info
    assert other.similarity.dtype == np.float32


def test_tokens_decide_where_pooled_vectors_can_not(make_study: Callable[..., Study]) -> None:
    """Pairs of pictures have nearly the same pooled vector; their tokens tell them apart."""
    predictions, embeddings = make_study((1,) * 30, n_embedded=40, n_dims=25, noise=0.3)
    vectors = embeddings.vectors.copy()
    vectors[1:30:2] = vectors[:30:2] + 1e-3 * vectors[1:30:2]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    own = vectors[embeddings.rows(predictions.stimulus_id)]
    noise = np.random.default_rng(8).standard_normal(own.shape)
    predictions = replace(predictions, vectors=(own + 0.05 * noise).astype(np.float32))
    embeddings = replace(embeddings, vectors=vectors)
    tokens = token_study((predictions, embeddings), noise=0.2)
    plain = retrieve(predictions, embeddings, embeddings.ids)
    found = retrieve(predictions, embeddings, embeddings.ids, rerank=token_order_of(tokens, 4))
    before, after = ((item.queries["rank"] == 1).mean() for item in (plain, found))
    assert (plain.queries["rank"] <= 2).all() and before < 0.8
    assert after == 1.0 and found.info["rerank"]["true_ordered"] == 1.0
    options = EvaluateConfig(n_bootstrap=200, n_permutations=99, n_permutations_dims=99)
    scores = [
        evaluate([item], predictions, embeddings, rng=np.random.default_rng(0), options=options)
        for item in (plain, found)
    ]
    top = [next(r["value"] for r in item.rows if r["metric"] == "top_1") for item in scores]
    assert top == [pytest.approx(before), 1.0]
    notes = " ".join(scores[1].notes)
    assert "the best 4 candidates of each sample were ordered again" in notes
    assert "(encoder vit, decoder ridge); the true one was among them for 100% of 30" in notes
    assert "ordered again" not in " ".join(scores[0].notes)


def spoilt(tokens: Study) -> dict[str, tuple[Study, str]]:
    predicted, embedded = tokens
    turned = slice(None, None, -1)
    flat = replace(predicted, vectors=predicted.vectors.reshape(7, -1))
    return {
        "stimuli": ((replace(predicted, stimulus_id=predicted.stimulus_id[turned]), embedded), ""),
        "folds": ((replace(predicted, fold=predicted.fold[turned]), embedded), "folds"),
        "runs": ((replace(predicted, group=predicted.group[turned]), embedded), "runs"),
        "repeats": ((replace(predicted, n_repeats=predicted.n_repeats + 1), embedded), "repeats"),
        "unit": ((replace(predicted, unit="run"), embedded), "units of the split"),
        "train": ((replace(predicted, train_ids=np.array(["x"])), embedded), "training stimuli"),
        "subject": (
            (replace(predicted, info={**predicted.info, "subject": "02"}), embedded),
            "subject '02', the pooled of '01'",
        ),
        "encoder": (
            (replace(predicted, info={**predicted.info, "encoder": "e"}), embedded),
            "encoder 'e', expected 'vit'",
        ),
        "print": ((predicted, replace(embedded, fingerprint={"name": "b"})), "name: 'vit' != 'b'"),
        "pooled": ((flat, embedded), r"shape \(7, 24\)"),
        "shape": (
            (replace(predicted, vectors=predicted.vectors.reshape(7, 6, 4)), embedded),
            "have 6 x 4 dimensions, the embeddings 4 x 6",
        ),
        "absent": (
            (predicted, replace(embedded, ids=embedded.ids[:9], vectors=embedded.vectors[:9])),
            "3 candidates have no tokens",
        ),
    }


CASES = (
    *("stimuli", "folds", "runs", "repeats", "unit", "train", "subject", "encoder", "print"),
    *("pooled", "shape", "absent"),
)


@pytest.mark.parametrize("case", CASES)
def test_tokens_of_anything_else_are_refused(pooled: Study, tokens: Study, case: str) -> None:
    changed, words = spoilt(tokens)[case]
    with pytest.raises(DataError, match=words or "differ in their stimuli"):
        retrieve(*pooled, pooled[1].ids, rerank=token_order_of(changed, 5))


def test_all_problems_come_at_once(pooled: Study, tokens: Study) -> None:
    predicted, embedded = tokens
    wrong = replace(predicted, unit="run", info={**predicted.info, "decoder": "mlp"})
    few = replace(embedded, ids=embedded.ids[:9], vectors=embedded.vectors[:9])
    with pytest.raises(DataError, match="3 problems"):
        retrieve(*pooled, pooled[1].ids, rerank=token_order_of((wrong, few), 5))


def test_what_can_not_be_combined_is_refused(pooled: Study, tokens: Study) -> None:
    with pytest.raises(ConfigError, match="can't be combined"):
        retrieve(
            *pooled,
            pooled[1].ids,
            rerank=token_order_of(tokens, 5),
            correction=CorrectionConfig(statistics="test"),
        )


def test_averaged_tokens_are_weighted_means(tokens: Study) -> None:
    predicted, _ = tokens
    weights = np.array([1, 2, 1, 3, 1, 1, 2])
    predicted = replace(predicted, n_repeats=weights, vectors=TokenRows(predicted.vectors))
    found = average_repeats(predicted)
    assert found.vectors.shape == (4, *SHAPE)
    for row, name in enumerate(found.stimulus_id):
        own = np.flatnonzero(predicted.stimulus_id == name)
        total = sum(weights[i] * predicted.vectors[int(i)].astype(np.float64) for i in own)
        np.testing.assert_allclose(found.vectors[row], total / weights[own].sum(), rtol=1e-6)


@pytest.fixture
def files(pooled: Study, tokens: Study, tmp_path: Path) -> Path:
    for name, part in zip(("pred", "emb"), pooled, strict=True):
        save_artifact(tmp_path / f"{name}.h5", part, RECORD)
    for name, part in zip(("tokens-pred", "tokens-emb"), tokens, strict=True):
        save_artifact(tmp_path / f"{name}.h5", part, RECORD)
    return tmp_path


GALLERY = "{name: by-tokens, candidates: all, rerank: {encoder: vit, shortlist: 5}}"


def call(folder: Path, *more: str, gallery: str = GALLERY, tokens: bool = True) -> int:
    both = [
        f"--token-predictions={folder / 'tokens-pred.h5'}",
        f"--token-embeddings={folder / 'tokens-emb.h5'}",
    ]
    return main(
        [
            "retrieve",
            f"--predictions={folder / 'pred.h5'}",
            f"--embeddings={folder / 'emb.h5'}",
            f"--gallery={gallery}",
            f"--out={folder / 'out.h5'}",
            f"--out-reverse={folder / 'reverse.h5'}",
            *(both if tokens else []),
            *more,
        ]
    )


@pytest.mark.parametrize("average", [False, True])
def test_the_command_ranks_by_tokens(
    files: Path, pooled: Study, tokens: Study, average: bool
) -> None:
    assert call(files, f"--options={{average_predictions: {str(average).lower()}}}") == 0
    found = load_artifact(files / "out.h5", Retrieval)
    predictions, predicted = (
        average_repeats(part) if average else part for part in (pooled[0], tokens[0])
    )
    own = token_order_of((predicted, tokens[1]), 5)
    expected = retrieve(predictions, pooled[1], pooled[1].ids, rerank=own)
    assert np.array_equal(found.similarity, expected.similarity)
    assert len(found.queries) == (4 if average else 7)
    assert found.info["rerank"] == expected.info["rerank"]
    assert "rerank" not in load_artifact(files / "reverse.h5", Retrieval).info
    record = read_provenance(files / "out.h5")
    assert set(record["inputs"]) == {"pred.h5", "emb.h5", "tokens-pred.h5", "tokens-emb.h5"}
    assert record["options"]["gallery"]["rerank"]["shortlist"] == 5


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"tokens": False}, "--token-predictions, --token-embeddings: missing"),
        ({"gallery": "name: a"}, "gallery 'a' has no `rerank`"),
        ({"gallery": "{name: a, rerank: {encoder: b}}"}, "encoder 'vit', expected 'b'"),
        (
            {"gallery": "{name: a, rerank: {encoder: vit, decoder: mlp}}"},
            "decoder 'ridge', expected 'mlp'",
        ),
        ({"gallery": "{name: a, rerank: {encoder: vit, shortlist: 0}}"}, "'rerank.shortlist'"),
        ({"gallery": "{name: a, rerank: {encoders: vit}}"}, "Did you mean 'encoder'"),
        (
            {
                "gallery": "{name: a-transductive, rerank: {encoder: vit}, "
                "correction: {statistics: test}, distractors: {source: x.txt}}"
            },
            "`rerank` can't be combined with `distractors`, `correction`",
        ),
    ],
)
def test_bad_calls_give_one_message_and_leave_the_old_result(
    files: Path, capsys: pytest.CaptureFixture, change: dict, words: str
) -> None:
    (files / "out.h5").write_bytes(b"old")
    assert call(files, **change) == 1
    message = capsys.readouterr().err
    assert message.count("error:") == 1 and "Traceback" not in message
    assert words in message, message
    assert (files / "out.h5").read_bytes() == b"old" and not (files / "reverse.h5").exists()


def test_options_of_the_study_can_clash_too(files: Path, capsys: pytest.CaptureFixture) -> None:
    assert call(files, "--options={candidate_sets: {coverage: 0.8}}") == 1
    assert "can't be combined with `candidate_sets`" in capsys.readouterr().err


def test_the_shortlist_has_a_default() -> None:
    gallery = GalleryConfig(name="a", rerank={"encoder": "vit"})
    assert gallery.rerank is not None
    assert (gallery.rerank.shortlist, gallery.rerank.decoder) == (50, None)
