"""What a collection of pairs is like: counts, repeats, lengths, sizes, faults."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from braindecode_clip.clip.tokenizers import Tokenizer

# Names that a report lists of each fault; counts are of all.
_LISTED = 20


def describe_captions(
    captions: Sequence[Sequence[str]],
    *,
    token_length: Callable[[str], int],
    context_length: int,
) -> dict[str, Any]:
    """Count captions, repeats among them, and those that the text tower would see cut.

    Parameters
    ----------
    captions : sequence of sequences of str
        Wordings of each picture; may be empty for some.
    token_length : callable
        Text to its number of tokens, uncut, with start and end tokens.
    context_length : int
        Tokens that the text tower takes.
    """
    flat = [caption for own in captions for caption in own]
    uses = Counter(caption for own in captions for caption in set(own))
    shared = {caption: n for caption, n in uses.items() if n > 1}
    lengths = {caption: token_length(caption) for caption in uses}
    each = np.array([lengths[caption] for caption in flat], dtype=np.int64)
    cut = [caption for caption in uses if lengths[caption] > context_length]
    return {
        "n_captions": len(flat),
        "captions_per_picture": _summary(np.array([len(own) for own in captions])),
        "n_pictures_without_caption": sum(not own for own in captions),
        "n_distinct_captions": len(uses),
        "n_captions_of_several_pictures": len(shared),
        "n_pictures_that_share_a_caption": sum(
            any(caption in shared for caption in own) for own in captions
        ),
        "most_shared_captions": dict(Counter(shared).most_common(5)),
        "tokens_per_caption": _summary(each),
        "context_length": context_length,
        "n_captions_truncated": int((each > context_length).sum()),
        "truncated": sorted(cut, key=lambda caption: (-lengths[caption], caption))[:_LISTED],
    }


def describe_reading(tokenizer: Tokenizer, captions: Sequence[str]) -> dict[str, Any]:
    """Count the captions that a tokenizer cuts, and those with words that it does not know.

    Parameters
    ----------
    tokenizer : Tokenizer
    captions : sequence of str
        All wordings, repeats counted as often as they stand.

    Returns
    -------
    dict
        ``n_captions_truncated``, ``n_captions_with_unknown_words``, ``n_unknown_words``
        (distinct ones) and ``unknown_words``, the most frequent with the number of captions
        that hold them.
    """
    uses = Counter(captions)
    holders: Counter[str] = Counter()
    n_cut = n_with_unknown = 0
    for caption, n in uses.items():
        n_cut += n * (tokenizer.length(caption) > tokenizer.context_length)
        unknown = set(tokenizer.unknown(caption))
        n_with_unknown += n * bool(unknown)
        holders.update(dict.fromkeys(unknown, n))
    return {
        "n_captions_truncated": n_cut,
        "n_captions_with_unknown_words": n_with_unknown,
        "n_unknown_words": len(holders),
        "unknown_words": dict(holders.most_common(_LISTED)),
    }


def describe_pictures(
    names: Sequence[str],
    *,
    digests: Sequence[str],
    sizes_px: Sequence[tuple[int, int]],
    errors: Sequence[str],
) -> dict[str, Any]:
    """Count pictures, identical files among them, corrupt ones, and their sizes.

    Parameters
    ----------
    names, digests, errors : sequence of str (n,)
        "" in ``digests`` for what cannot be read, in ``errors`` for whole pictures.
    sizes_px : sequence of (width, height) (n,)
        (0, 0) for corrupt pictures.
    """
    by_digest: dict[str, list[str]] = {}
    for name, digest in zip(names, digests, strict=True):
        if digest:
            by_digest.setdefault(digest, []).append(name)
    repeated = [own for own in by_digest.values() if len(own) > 1]
    whole = np.array([size for size in sizes_px if size[0]], dtype=np.int64).reshape(-1, 2)
    corrupt = [f"{name}: {why}" for name, why in zip(names, errors, strict=True) if why]
    return {
        "n_pictures": len(names),
        "n_corrupt": len(corrupt),
        "corrupt": corrupt[:_LISTED],
        "n_identical_files": sum(len(own) - 1 for own in repeated),
        "identical_files": repeated[:_LISTED],
        "width_px": _summary(whole[:, 0]),
        "height_px": _summary(whole[:, 1]),
    }


def describe_column(values: Sequence[str] | None) -> dict[str, Any] | None:
    """Count the pictures of each group, split or label; the largest are listed."""
    if values is None:
        return None
    counts = Counter(value for value in values if value)
    return {
        "n": len(counts),
        "n_pictures_without": sum(not value for value in values),
        "largest": dict(counts.most_common(_LISTED)),
    }


def leaks_between(
    splits: Sequence[str] | None, ties: dict[str, Sequence[str] | None]
) -> dict[str, int] | None:
    """Count values (groups, files) that stand in more than one split."""
    if splits is None:
        return None
    counts = {}
    for name, values in ties.items():
        where: dict[str, set[str]] = {}
        for split, value in zip(splits, values or (), strict=values is not None):
            if value:
                where.setdefault(value, set()).add(split)
        counts[name] = sum(len(own) > 1 for own in where.values())
    return counts


def report_lines(report: dict[str, Any]) -> list[str]:
    """Word a report (of ``clip data``) for the terminal."""
    pictures, texts = report["pictures"], report["captions"]
    sizes = " x ".join(
        f"{pictures[side]['min']} to {pictures[side]['max']}" for side in ("width_px", "height_px")
    )
    own = texts["captions_per_picture"]
    tokens = texts["tokens_per_caption"]
    lines = [
        f"{report['source']}: {report['kind']}, {pictures['n_pictures']} pictures, "
        f"{texts['n_captions']} captions ({own['min']} to {own['max']} for each, "
        f"{own['mean']:.1f} on average)",
        f"sizes: {sizes} pixels",
        f"corrupt pictures: {pictures['n_corrupt']}",
        *(f"  {line}" for line in pictures["corrupt"]),
        f"identical files: {pictures['n_identical_files']} more than once",
        *(f"  {' = '.join(names)}" for names in pictures["identical_files"]),
        f"pictures without a caption: {texts['n_pictures_without_caption']}",
        f"captions of several pictures: {texts['n_captions_of_several_pictures']}, on "
        f"{texts['n_pictures_that_share_a_caption']} pictures",
        f"tokens: {tokens['min']} to {tokens['max']}; {texts['n_captions_truncated']} captions are "
        f"longer than the context of {texts['context_length']} and would be cut",
        *(f"  {caption}" for caption in texts["truncated"]),
    ]
    for name in ("labels", "groups", "splits"):
        if report[name] is not None:
            counts = ", ".join(f"{key} {n}" for key, n in report[name]["largest"].items())
            lines.append(f"{name}: {report[name]['n']} ({counts})")
    for name, n in (report["in_several_splits"] or {}).items():
        lines.append(f"{name} in more than one split: {n}")
    return [*lines, *report["notes"]]


def _summary(values: np.ndarray) -> dict[str, float]:
    if not len(values):
        return {"min": 0, "median": 0.0, "mean": 0.0, "max": 0}
    return {
        "min": int(values.min()),
        "median": float(np.median(values)),
        "mean": float(values.mean()),
        "max": int(values.max()),
    }
