"""What has to be kept in mind with the figures of a training run."""

from __future__ import annotations

from typing import Any

from braindecode_clip.clip.run_files import Run


def notes(run: Run, figures: dict[str, Any] | None) -> list[str]:
    """Return what a reader of the figures has to know, the gravest first.

    Parameters
    ----------
    run : Run
    figures : dict or None
        Held-out retrieval as in ``run.json``.
    """
    found = []
    validation, training = run.data.get("validation", {}), run.data.get("training", {})
    if run.data.get("captions_shuffled"):
        found.append(
            "The training captions were dealt to other pictures: a control, not a model to use."
        )
    n_held = validation.get("n_pictures", 0)
    n_same = validation.get("n_pictures_in_training")
    if n_same:
        found.append(
            f"{_count(n_same)} of {_count(n_held)} held-out pictures are also training pictures "
            "(identical files): held-out figures are too good."
        )
    n_said = validation.get("n_first_captions_in_training")
    if n_said:
        found.append(
            f"{_count(n_said)} of {_count(n_held)} held-out first captions also stand in the "
            "training captions: what is measured there is new pictures, not new captions."
        )
    if run.recipe.get("training", {}).get("early_stop_patience"):
        found.append(
            "The kept weights were chosen by retrieval on the held-out pairs, so figures on the "
            "same pairs are too good by that choice. Measure on others with `clip evaluate`."
        )
    for name, part in (("training", training), ("held-out", validation)):
        found += _data_notes(name, part)
    limit = run.recipe.get("training", {}).get("logit_scale_max")
    if run.log and limit and run.log[-1].logit_scale >= 0.999 * limit:
        found.append(f"logit_scale has reached its limit of {limit:g}.")
    pools = (figures or {}).get("model", {}).get("pools", {}).get("image_to_text", {})
    if pools.get("n_pools") == 1:
        found.append(
            f"The held-out pairs fill a single pool of {_count(pools['n_candidates'])}; the "
            "interval is over its queries and leaves out that other candidates could be drawn."
        )
    return found


def _data_notes(name: str, part: dict[str, Any]) -> list[str]:
    found = []
    n_captions = part.get("n_captions", 0)
    if part.get("n_captions_truncated"):
        found.append(
            f"{_count(part['n_captions_truncated'])} of {_count(n_captions)} {name} captions are "
            "longer than the context of the text tower, which does not see their ends."
        )
    if part.get("n_captions_with_unknown_words"):
        found.append(
            f"{_count(part['n_captions_with_unknown_words'])} of {_count(n_captions)} {name} "
            "captions hold words that the tokenizer does not know."
        )
    if part.get("n_corrupt"):
        what = "were replaced by others" if name == "training" else "were left out"
        found.append(f"{_count(part['n_corrupt'])} corrupt {name} pictures {what}.")
    return found + [f"{name}: {note}" for note in part.get("notes", ())]


def _count(n: int) -> str:
    """Return a whole number with thin blanks between thousands."""
    return f"{n:,}".replace(",", "\u202f")
