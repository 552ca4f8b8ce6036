"""Templates that turn the name of a class into prompts.

A prompt reads like a caption, which is what the text tower was trained on; the mean over
several wordings is steadier than one of them (Radford et al. 2021, section 3.1.4).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from braindecode_clip.checks import Problems, some
from braindecode_clip.clip.torchvision_compat import import_open_clip
from braindecode_clip.errors import ConfigError

#: Where the name goes.
PLACE = "{}"

#: One wording, of words that every captioned collection holds.
SIMPLE = ("a picture of a {}",)

#: Our own wordings: the kind of picture, its quality, the view, the place and the light.
GENERIC = (
    "a picture of a {}",
    "a photograph of a {}",
    "a drawing that shows a {}",
    "a painted {}",
    "an illustration that shows a {}",
    "a sharp picture of a {}",
    "a blurred picture of a {}",
    "a picture of a {}, small and hard to see",
    "a black and white picture of a {}",
    "an old picture of a {}",
    "a {} seen from close by",
    "a {} seen from far away",
    "a {} seen from above",
    "one side of a {}",
    "a part of a {}",
    "a {} in front of a plain background",
    "a {} among many other things",
    "a {} outdoors",
    "a {} in a room",
    "a {} in bright light",
    "a {} in the dark",
    "a picture of one {}",
    "a picture of more than one {}",
    "a picture of the {}",
)

SETS = ("simple", "generic", "openai")


def templates_named(name: str) -> tuple[str, ...]:
    """Return one of the template sets.

    Parameters
    ----------
    name : {"simple", "generic", "openai"}
        "simple": :data:`SIMPLE`. "generic": :data:`GENERIC`. "openai": the 80 templates that
        OpenAI chose for ImageNet, from open_clip.

    Raises
    ------
    ConfigError
        No such set.
    """
    if name == "simple":
        return SIMPLE
    if name == "generic":
        return GENERIC
    if name == "openai":
        return tuple(make(PLACE) for make in import_open_clip().OPENAI_IMAGENET_TEMPLATES)
    raise ConfigError(f"templates '{name}': unknown. Use {', '.join(SETS)}, or a file.")


def prompts_of(names: Sequence[str], templates: Sequence[str]) -> list[str]:
    """Fill every name into every template; all prompts of the first name come first.

    The name is put in as it is: braces in it, and other braces in the template, stay.
    """
    return [template.replace(PLACE, name) for name in names for template in templates]


def check_templates(templates: Sequence[str], *, where: str) -> tuple[str, ...]:
    """Return templates after checking that there are some and that each has its place.

    Raises
    ------
    DataError
        No templates, or templates without ``{}``.
    """
    problems = Problems(where)
    _note_templates(problems, templates)
    problems.raise_if_any()
    return tuple(templates)


def _note_templates(problems: Problems, templates: Sequence[str]) -> None:
    bare = [template for template in templates if PLACE not in template]
    if not templates:
        problems.add("no templates. Give at least one, such as 'a picture of a {}'.")
    if bare:
        problems.add(f"every template needs '{{}}' where the name goes; got {some(bare)}.")


def check_prompts(
    classes: Sequence[str | Sequence[str]], templates: Sequence[str], *, where: str
) -> None:
    """Raise with every fault of classes and templates at once.

    Parameters
    ----------
    classes : sequence of str or of sequence of str
        One name for each class, or several.
    templates : sequence of str
    where : str
        Heads the message.

    Raises
    ------
    DataError
        No classes, empty names, a name that stands for two classes, no templates, or a
        template without ``{}``.
    """
    problems = Problems(where)
    names = [[item] if isinstance(item, str) else list(item) for item in classes]
    if not names:
        problems.add("no classes. Name at least one.")
    empty = [k for k, own in enumerate(names) if not own or not all(n.strip() for n in own)]
    if empty:
        problems.add(f"classes without a name, or with an empty one: numbers {some(empty)}.")
    n_classes_of = Counter(name for own in names for name in dict.fromkeys(own))
    twice = sorted(name for name, n_classes in n_classes_of.items() if n_classes > 1)
    if twice:
        problems.add(
            f"class names must be distinct, for no picture could tell such classes apart; "
            f"more than once: {some(twice)}."
        )
    _note_templates(problems, templates)
    problems.raise_if_any()
