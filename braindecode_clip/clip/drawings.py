"""Which of many drawings are worth training on, what they are called, and who is held out."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pandas as pd

from braindecode_clip.clip.splits import held_out, tied_units

#: Correlation of thumbnails from which two drawings count as one and the same.
NEAR_DUPLICATE = 0.95
#: Shares of the pictures that are held out.
STAMP_SHARES = {"test": 0.4, "validation": 0.15}
CLIPART_SHARES = {"test": 0.15, "validation": 0.1}
#: A title that stands for so many differently named files is that of a collection.
COLLECTION_SIZE = 4
#: Longest description, in words, that is taken as a caption.
LONGEST_DESCRIPTION = 15
#: Keywords in one caption.
MOST_KEYWORDS = 6

_STAMP_FOLDERS = {"symbols": "letters, digits, coins and notes"}
_CLIPART_FOLDERS = {
    "computer/icons": "computer icons",
    "computer/buttons": "computer icons",
    "computer/folders": "computer icons",
    "buttons": "computer icons",
    "shapes": "bare shapes",
    "special/patterns": "bare shapes",
    "special/gradients": "bare shapes",
    "signs_and_symbols/led": "bare shapes",
    "signs_and_symbols/flags": "flags",
    "recreation/games/cards/bordered": "playing cards",
    "recreation/games/cards/ornamental": "playing cards",
    "recreation/games/cards/simple": "playing cards",
    "recreation/games/cards/white": "playing cards",
}
_COLOURS = frozenset(
    ("red", "green", "blue", "yellow", "white", "black", "brown", "pink", "orange", "purple")
)
_SHADES = frozenset(("grey", "gray", "silver", "gold", "golden", "dark", "light", "coloured", "bw"))
_SMALL = frozenset(("a", "an", "the", "some", "of", "with", "and", "in", "on"))
# What Open Clip Art's software left in the lists of keywords.
_NO_KEYWORD = re.compile(r"hash\b|0x|unsorted|clip ?art|externalsource|https?:|\W*$", re.I)
_NO_DESCRIPTION = re.compile(r"@|hash\(|https?:|www\.|\w+\.(svg|png)\b", re.I)


def choose_stamps(listed: pd.DataFrame) -> pd.DataFrame:
    """Add to listed stamps why they are dropped, and their captions.

    Parameters
    ----------
    listed : DataFrame
        From :func:`braindecode_clip.io.drawings.read_stamps`.

    Returns
    -------
    DataFrame
        With dropped ("" for what is kept) and captions (tuple of str).
    """
    dropped = [
        missing or _by_folder(folder, _STAMP_FOLDERS) or ("" if _is_name(title) else "no title")
        for missing, folder, title in _columns(listed, "missing", "folder", "title")
    ]
    captions = [
        () if why else (title,) for title, why in zip(listed["title"], dropped, strict=True)
    ]
    return listed.assign(dropped=dropped, captions=captions)


def choose_clipart(listed: pd.DataFrame) -> pd.DataFrame:
    """Add to listed clip art why it is dropped, and its captions.

    A title that stands for at least :data:`COLLECTION_SIZE` differently named files is that of
    a collection ("Various Cliparts", "SVG Road Signs"), and the file's name is taken in its
    place, if all its words are words of other titles or keywords. What has neither is dropped.

    Parameters
    ----------
    listed : DataFrame
        From :func:`braindecode_clip.io.drawings.read_clipart`.

    Returns
    -------
    DataFrame
        With dropped ("" for what is kept) and captions: the title; the title with keywords;
        the description, if there is one that is no address and not long.
    """
    dropped = np.array(
        [
            missing or _by_folder(folder, _CLIPART_FOLDERS)
            for missing, folder in _columns(listed, "missing", "folder")
        ],
        dtype=object,
    )
    keywords = [_keywords(own) for own in listed["keywords"]]
    names = _names(listed, keywords, is_kept=dropped == "")
    dropped[(dropped == "") & (np.array(names, dtype=object) == "")] = "no title of its own"
    captions = [
        () if why else _wordings(name, own, description)
        for why, name, own, description in zip(
            dropped, names, keywords, listed["description"], strict=True
        )
    ]
    return listed.assign(dropped=dropped, captions=captions)


def drop_repeats(chosen: pd.DataFrame, digests: Sequence[str]) -> pd.DataFrame:
    """Mark pictures that cannot be decoded, and all but the first of those with equal pixels.

    Parameters
    ----------
    chosen : DataFrame
        From :func:`choose_stamps` or :func:`choose_clipart`.
    digests : sequence of str (n,)
        Of the pixels; "" for a picture that cannot be decoded or was not looked at.
    """
    dropped, seen = [], set()
    for why, digest in zip(chosen["dropped"], digests, strict=True):
        if not why:
            why = (
                "not readable, or too large"
                if not digest
                else "same pixels"
                if digest in seen
                else ""
            )
            seen.add(digest)
        dropped.append(why)
    return chosen.assign(dropped=dropped)


def drop_near(
    chosen: pd.DataFrame, thumbnails: np.ndarray, others: Sequence[np.ndarray], *, why: str
) -> pd.DataFrame:
    """Mark drawings that show nearly the same picture as one of another set.

    Parameters
    ----------
    chosen : DataFrame (n rows)
    thumbnails : ndarray (n, n_values) float32
    others : sequence of ndarray (n_others, n_values) float32
        Thumbnails of the other set, as they are and mirrored.
    why : str
        The reason to note.
    """
    near = {row for other in others for row, _ in near_rows(thumbnails, other)}
    dropped = [own or (why if row in near else "") for row, own in enumerate(chosen["dropped"])]
    return chosen.assign(dropped=dropped)


def near_rows(
    thumbnails: np.ndarray, others: np.ndarray, *, threshold: float = NEAR_DUPLICATE
) -> list[tuple[int, int]]:
    """Return the pairs (row, other row) of thumbnails whose product reaches a threshold."""
    found = np.argwhere(thumbnails @ others.T >= threshold)
    return [(int(row), int(other)) for row, other in found]


def families(chosen: pd.DataFrame, near: Sequence[tuple[int, int]] = ()) -> list[str]:
    """Name groups of drawings that must not be divided between training and test.

    Tied are: captions that differ by colour, number or article alone; numbered or coloured
    variants of one file name in a folder; near duplicates; and what is tied by way of others.

    Parameters
    ----------
    chosen : DataFrame (n rows)
        Kept drawings only.
    near : sequence of (int, int)
        Rows that show nearly the same picture.

    Returns
    -------
    list of str (n,)
        Folder and stem of the family's first drawing.
    """
    titles = [" ".join(_key(own[0])) for own in chosen["captions"]]
    stems = []
    for folder, stem in _columns(chosen, "folder", "stem"):
        words = " ".join(_key(stem))
        stems.append(f"{folder}/{words}" if words else "")
    linked = tied_units(len(chosen), [titles, stems])
    for row, other in near:
        first, second = sorted((linked[row], linked[other]))
        linked[linked == second] = first
    names = [f"{folder}/{stem}" for folder, stem in _columns(chosen, "folder", "stem")]
    return [names[unit] for unit in linked]


def splits(groups: Sequence[str], shares: dict[str, float], *, seed: int = 0) -> list[str]:
    """Deal whole groups to held-out parts; the rest is "train".

    Parameters
    ----------
    groups : sequence of str (n,)
    shares : dict of str to float
        Share of all rows for each held-out part, dealt one after the other.
    seed : int

    Returns
    -------
    list of str (n,)
    """
    parts = np.full(len(groups), "train", dtype=object)
    for name, share in shares.items():
        free = np.flatnonzero(parts == "train")
        own = [groups[row] for row in free]
        units = tied_units(len(own), [own])
        held = held_out(units, own, share=share * len(groups) / len(own), seed=seed)
        parts[free[held]] = name
    return parts.tolist()


def pair_table(chosen: pd.DataFrame, groups: Sequence[str], parts: Sequence[str]) -> pd.DataFrame:
    """Return kept drawings as `clip train` reads them: image, captions, label, group, split."""
    captions = [[_cell(text) for text in own] for own in chosen["captions"]]
    most = max(map(len, captions))
    wordings = {
        f"caption{k + 1}": [own[k] if k < len(own) else "" for own in captions] for k in range(most)
    }
    labels = [folder.split("/")[0].replace("_", " ") for folder in chosen["folder"]]
    return pd.DataFrame(
        {
            "image": list(chosen["image"]),
            **wordings,
            "label": labels,
            "group": list(groups),
            "split": list(parts),
        }
    )


def count_dropped(chosen: pd.DataFrame) -> dict[str, int]:
    """Count drawings by why they are dropped, the most frequent reason first."""
    return dict(Counter(why for why in chosen["dropped"] if why).most_common())


def _columns(table: pd.DataFrame, *names: str):
    return zip(*(table[name] for name in names), strict=True)


def _by_folder(folder: str, reasons: dict[str, str]) -> str:
    parts = folder.split("/")
    for depth in range(1, len(parts) + 1):
        why = reasons.get("/".join(parts[:depth]))
        if why:
            return why
    return ""


def _split(text: str) -> list[str]:
    """Words of a title or a file name, lower case; runs of digits and marks divide them."""
    return re.findall(r"[^\W\d_]+(?:['’][^\W\d_]+)?", text.lower())


def _key(text: str) -> list[str]:
    """Words without colours, articles and single letters (numbers and variants).

    Where nothing else is left, colours stay: "An orange." is a fruit.
    """
    words = [word for word in _split(text) if len(word) > 1 and word not in _SMALL]
    return [word for word in words if word not in _COLOURS | _SHADES] or words


def _is_name(title: str) -> bool:
    return any(len(word) > 2 for word in _split(title))


def _keywords(own: Sequence[str]) -> list[str]:
    words = (" ".join(re.split(r"[\s_]+", word.lower())).strip(" .,") for word in own)
    return sorted({word for word in words if not _NO_KEYWORD.match(word)})


def _names(
    listed: pd.DataFrame, keywords: Sequence[Sequence[str]], *, is_kept: np.ndarray
) -> list[str]:
    """Return each drawing's own title, else the words of its file's name, else ""."""
    titles = [re.sub(r"[\s_]+", " ", title).strip() for title in listed["title"]]
    titles = ["" if title.lower().startswith("clipart by") else title for title in titles]
    keys = [" ".join(_split(title)) for title in titles]
    files: dict[str, set[str]] = {}
    for key, stem in zip(keys, listed["stem"], strict=True):
        files.setdefault(key, set()).add(" ".join(_key(stem)))
    own = [
        "" if len(files[key]) >= COLLECTION_SIZE or not _is_name(title) else _trimmed(title)
        for key, title in zip(keys, titles, strict=True)
    ]
    known = {
        word
        for title, words, kept in zip(own, keywords, is_kept, strict=True)
        if kept
        for text in (title, *words)
        for word in _split(text)
        if len(word) > 2
    }
    return [
        title or _file_name(stem, known) for title, stem in zip(own, listed["stem"], strict=True)
    ]


def _trimmed(title: str) -> str:
    """Cut numbers of variants and file types off the end: "horse#1" is a horse."""
    return re.sub(r"(\.svg)?[\s#_-]*\d*$", "", title).strip() or title


def _file_name(stem: str, known: set[str]) -> str:
    words = [word for word in _split(stem) if len(word) > 1]
    return " ".join(words) if all(word in known for word in words) else ""


def _wordings(name: str, keywords: Sequence[str], description: str) -> tuple[str, ...]:
    others = [word for word in keywords if word != name.lower()][:MOST_KEYWORDS]
    found = [name]
    if others:
        found.append(", ".join([name, *others]))
    is_text = _is_name(description) and not _NO_DESCRIPTION.search(description)
    if is_text and len(description.split()) <= LONGEST_DESCRIPTION:
        found.append(description)
    once: dict[str, str] = {}
    for text in found:
        once.setdefault(" ".join(_split(text)), text)
    return tuple(once.values())


def _cell(text: str) -> str:
    return " ".join(text.replace('"', "'").split())
