"""A strict reader of HTML on the standard library's parser."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "wbr"}


@dataclass
class Element:
    """One element with its attributes, children and text."""

    name: str
    attributes: dict[str, str]
    children: list[Element] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return " ".join("".join(self._texts()).split())

    @property
    def classes(self) -> set[str]:
        return set(self.attributes.get("class", "").split())

    def _texts(self) -> Iterator[str]:
        for part in self.parts:
            if part.startswith("\0"):
                yield " "
                yield from self.children[int(part[1:])]._texts()
                yield " "
            else:
                yield part

    def walk(self) -> Iterator[Element]:
        yield self
        for child in self.children:
            yield from child.walk()

    def find(self, name: str, class_: str | None = None, **attributes: str) -> list[Element]:
        return [
            item
            for item in self.walk()
            if item.name == name
            and (class_ is None or class_ in item.classes)
            and all(item.attributes.get(key) == value for key, value in attributes.items())
        ]


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.root = Element("", {})
        self.stack = [self.root]
        self.errors: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        if len(names) != len(set(names)):
            self.errors.append(f"<{tag}> has an attribute twice: {names}")
        element = Element(tag, {name: value or "" for name, value in attrs})
        parent = self.stack[-1]
        parent.parts.append(f"\0{len(parent.children)}")
        parent.children.append(element)
        if tag not in VOID:
            self.stack.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.stack.pop()

    def handle_endtag(self, tag: str) -> None:
        if self.stack[-1].name != tag:
            self.errors.append(f"</{tag}> closes <{self.stack[-1].name}> at {self.getpos()}")
            return
        self.stack.pop()

    def handle_data(self, data: str) -> None:
        self.stack[-1].parts.append(data)


def parse(page: str) -> Element:
    """Return the document; anything unclosed, misnested or doubled is an AssertionError."""
    reader = _Reader()
    reader.feed(page)
    reader.close()
    unclosed = [element.name for element in reader.stack[1:]]
    assert not reader.errors and not unclosed, (reader.errors[:5], unclosed)
    return reader.root
