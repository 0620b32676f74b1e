"""Where in a space file something is: YAML that keeps its lines, and errors that know their place."""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import yaml

from hkbench.errors import UsageError

Place = tuple[str | int, ...]
"""The way to a part of a document: keys and positions in lists."""


class SpaceError(UsageError):
    """Something wrong in a space, with the way to it, for the file's name and line."""

    def __init__(self, message: object, *place: str | int) -> None:
        super().__init__(str(message))
        self.place: Place = place


@contextmanager
def placed(*place: str | int, among: Mapping[str, Any] | None = None) -> Iterator[None]:
    """Give an error that is raised within a place: this, or the key of `among` that it speaks of."""
    try:
        yield
    except SpaceError:
        raise
    except UsageError as error:
        key = spoken_of(str(error), among or {})
        raise SpaceError(error, *place, *([] if key is None else [key])) from error


def spoken_of(message: str, values: Mapping[str, Any]) -> str | None:
    """Return the key that a message names first, by itself or by its value; None if it names none."""
    found: list[tuple[int, str]] = []
    for key, value in values.items():
        for text in (key, value):
            match = (
                re.search(rf"(?<![\w-]){re.escape(text)}(?![\w-])", message)
                if isinstance(text, str)
                else None
            )
            if match is not None:
                found.append((match.start(), key))
    return min(found)[1] if found else None


@dataclass(frozen=True, kw_only=True)
class Document:
    """A YAML document: what it holds, and the nodes that know their lines. An empty one has no node."""

    where: str
    content: Any
    node: yaml.Node | None

    def at(self, place: Place) -> str:
        """Return `where` with the line of a place, or of the last part of the way to it that is there."""
        node, line = self.node, 1 if self.node is None else _line(self.node)
        for part in place:
            found = _child(node, part)
            if found is not None:
                node, line = found
        return f"{self.where}:{line}"


def read_document(content: bytes, where: str, *, lines: bool = True) -> Document:
    """Read YAML; `where` names it in errors, with the line unless `lines` is false.

    Raises:
        UsageError: it can't be read, or a key is there twice.
    """

    def at(line: int) -> str:
        return f"{where}:{line}" if lines else where

    try:
        text = content.decode("utf-8-sig")
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is not None:
            _refuse_doubles(node, at)
        found = None if node is None else loader.construct_document(node)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UsageError(f"{at(line)} is no YAML that can be read: it is not UTF-8.") from error
    except yaml.YAMLError as error:
        said = " ".join(str(error).split())
        raise UsageError(f"{at(_line_of(error, content))} is no YAML that can be read: {said}") from error
    return Document(where=where, content=found, node=node)


def _line_of(error: yaml.YAMLError, content: bytes) -> int:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return int(error.problem_mark.line) + 1
    return content.decode("utf-8-sig").count("\n", 0, getattr(error, "position", 0)) + 1


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _child(node: yaml.Node | None, part: str | int) -> tuple[yaml.Node, int] | None:
    """Return the node under a key or at a position, and its line: a key's own, not that of its value."""
    if isinstance(node, yaml.MappingNode):
        return next(((value, _line(key)) for key, value in node.value if key.value == str(part)), None)
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        return node.value[part], _line(node.value[part])
    return None


def _refuse_doubles(root: yaml.Node, at: Callable[[int], str]) -> None:
    """Refuse a key that a mapping has twice: of these YAML's reader takes the last and says nothing."""
    left, seen = [root], set()
    while left:
        node = left.pop()
        if id(node) in seen:  # an alias, which may lie within what it stands for
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            left += node.value
        if isinstance(node, yaml.MappingNode):
            lines: dict[str, int] = {}
            for key, value in node.value:
                if isinstance(key, yaml.ScalarNode) and key.value in lines:
                    first = f"it is in line {lines[key.value]} already"
                    raise UsageError(f"{at(_line(key))}: the key '{key.value}' is there twice, {first}.")
                lines[str(key.value)] = _line(key)
                left.append(value)
