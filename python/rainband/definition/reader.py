"""A YAML file as a tree of nodes that know where they stand: the first step of loading.

libyaml's event stream is read in one pass (500 streams in about 25 ms), never its loader: aliases, anchors, tags,
second documents and depth are refused at the event, before anything grows. What comes out is a tree of ``Node``; its
plain values are what the models see, its marks are where errors point to. Nothing here knows what a topology is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import yaml
from yaml import events as ev
from yaml.cyaml import CParser  # type: ignore[attr-defined]

from rainband.definition.problem import FileProblem, Path, path_text
from rainband.definition.scalars import read_scalar
from rainband.definition.syntax import explain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MAX_BYTES: Final = 1024 * 1024
MAX_DEPTH: Final = 32


@dataclass(slots=True)
class Node:
    """A value of the file with its place.

    Attributes:
        value: the scalar; for mappings and lists None, see ``plain``.
        line: line of its first character, from 1.
        column: column of its first character, from 1.
        items: the children of a list, or the values of a mapping by key; None for a scalar.
        keys: for a mapping, where each key stands.
        quoted: a scalar in quotes or in a block, which is text whatever it says.
        raw: the scalar's text as written.
        whole: the scalar is one ``${…}``, so that it may be read as a number or bool where one is wanted.
        secret: the value must not be shown.
        broken: it could not be read, which has been said.
    """

    value: Any
    line: int
    column: int
    items: dict[str, Node] | list[Node] | None = None
    keys: dict[str, tuple[int, int]] = field(default_factory=dict)
    quoted: bool = False
    raw: str = ""
    whole: bool = False
    secret: bool = False
    broken: bool = False

    def plain(self) -> Any:
        """The value without marks: dict, list, str, int, float, bool or None."""
        if isinstance(self.items, dict):
            return {key: node.plain() for key, node in self.items.items()}
        if self.items is not None:
            return [node.plain() for node in self.items]
        return self.value

    def find(self, path: Path) -> Node | None:
        """The node at ``path`` below this one."""
        node: Node | None = self
        for part in path:
            if node is None:
                return None
            node = node.child(part)
        return node

    def child(self, part: str | int) -> Node | None:
        """The child under a key or index, or None."""
        if isinstance(self.items, dict):
            return self.items.get(part) if isinstance(part, str) else None
        if self.items is not None and isinstance(part, int) and 0 <= part < len(self.items):
            return self.items[part]
        return None

    def scalars(self, path: Path = ()) -> Iterator[tuple[Path, Node]]:
        """Every scalar below, with its path, in the order of the file."""
        if isinstance(self.items, dict):
            for key, node in self.items.items():
                yield from node.scalars((*path, key))
        elif self.items is not None:
            for index, node in enumerate(self.items):
                yield from node.scalars((*path, index))
        else:
            yield path, self


class Source:
    """A file's name and text, and the problems found in it so far."""

    def __init__(self, name: str, text: str = "") -> None:
        self.name = name
        self.lines = text.splitlines()
        self.problems: list[FileProblem] = []
        self.root: Node | None = None

    def add(
        self,
        at: Node | tuple[int, int] | None,
        path: Path,
        what: str = "",
        *,
        code: str = "syntax",
        expected: str = "",
        got: str = "",
        fix: str = "",
        details: str = "",
    ) -> None:
        """Notes a problem at a node or ``(line, column)``; None is the top of the file."""
        line, column = (at.line, at.column) if isinstance(at, Node) else at or (1, 1)
        excerpt = self.lines[line - 1] if 0 < line <= len(self.lines) else ""
        key = path_text(path)
        where = f"{self.name}:{line}:{column}" + (f": {key}" if key else "")
        texts = (code, where, what, expected, got, fix)
        self.problems.append(FileProblem(*texts, self.name, line, column, key, excerpt, details))

    def at(self, path: Path, *, key: bool = False) -> tuple[int, int]:
        """Where the value at ``path`` stands, or with ``key`` its key; what is missing stands at what should hold it.

        For a block below its key, and for a value left out, that is the key: there people look.
        """
        node, place = self.root, (1, 1)
        for part in path:
            below = node.child(part) if node is not None else None
            if node is None or below is None:
                break
            place = (below.line, below.column)
            at_key = node.keys.get(part) if isinstance(part, str) else None
            left_out = below.items is None and below.value is None
            if at_key is not None and (key or left_out or below.line > at_key[0]):
                place = at_key
            node = below
        return place


def read(name: str, data: bytes) -> tuple[Source, Node | None]:
    """The tree of a file, and what is wrong with it as YAML.

    Args:
        name: the file as the user named it, for errors.
        data: its bytes.

    Returns:
        The source with its problems, and the tree or None if it could not be read to its end.
    """
    source = Source(name)
    text = _decode(source, data)
    if text is None:
        return source, None
    source.lines = text.splitlines()
    try:
        root = _Builder(source, text).document()
    except _Stop:
        root = None
    except yaml.MarkedYAMLError as error:
        place, what, fix = explain(error, source.lines)
        source.add(place, (), what, fix=fix)
        root = None
    except yaml.YAMLError as error:  # the reader's errors have no mark; _decode has found most of them
        source.add(None, (), "not readable as YAML", got=str(error))
        root = None
    source.root = root
    return source, root


class _Stop(Exception):  # noqa: N818 - not an error, the way out
    """The rest of the file cannot be read sensibly; the problem has been noted."""


_UNPRINTABLE: Final = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def _decode(source: Source, data: bytes) -> str | None:
    if len(data) > MAX_BYTES:
        source.add(None, (), "the file is too large", expected="at most 1 MiB", got=f"{len(data):,} bytes")
        return None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8-sig")
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        fix = "write the file as UTF-8"
        source.add((line, column), (), "not UTF-8", got=f"byte 0x{data[error.start]:02x}", fix=fix)
        return None
    bad = _UNPRINTABLE.search(text)
    if bad is not None:
        before = text[: bad.start()]
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        fix = f'write it as an escape in double quotes: "\\x{ord(bad[0]):02x}"' if ord(bad[0]) < 256 else "remove it"
        source.add((line, column), (), f"a control character U+{ord(bad[0]):04X} in the file", fix=fix)
        return None
    return text


class _Builder:
    """Makes nodes of events. Problems that leave the rest readable are noted, the others stop it.

    ``path`` is one list for the whole walk, pushed and popped: a tuple a node would cost a third of the time.
    """

    def __init__(self, source: Source, text: str) -> None:
        self.source = source
        self.next: Callable[[], Any] = CParser(text).get_event
        self.path: list[str | int] = []

    def document(self) -> Node | None:
        self.next()  # stream start
        start = self.next()
        if isinstance(start, ev.StreamEndEvent):
            self._add(None, "the file is empty", fix=_FIRST_LINES)
            return None
        self._directives(start)
        root = self._node(self.next())
        self.next()  # document end
        more = self.next()
        if not isinstance(more, ev.StreamEndEvent):
            self._add(_place(more), "a second document begins here", fix='one topology a file: remove the line "---"')
        return root

    def _add(
        self, place: tuple[int, int] | None, what: str, *, expected: str = "", got: str = "", fix: str = ""
    ) -> None:
        self.source.add(place, tuple(self.path), what, expected=expected, got=got, fix=fix)

    def _directives(self, start: Any) -> None:
        if start.version is not None and tuple(start.version) != (1, 2):
            got = "%YAML " + ".".join(map(str, start.version))
            self._add(_place(start), "", expected="YAML 1.2", got=got, fix="remove the line; files are always YAML 1.2")
        if start.tags:
            self._add(_place(start), "tags are not allowed", got="%TAG", fix="remove the line")

    def _node(self, event: Any) -> Node:
        mark = event.start_mark
        place = (mark.line + 1, mark.column + 1)
        if event.anchor is not None or getattr(event, "tag", None) is not None:
            self._decorated(event, place)
        if isinstance(event, ev.ScalarEvent):
            return self._scalar(event, place)
        if isinstance(event, ev.AliasEvent):
            return Node(None, *place, broken=True)
        if len(self.path) >= MAX_DEPTH:
            del self.path[6:]
            self._add(place, f"nested deeper than {MAX_DEPTH} levels", fix="flatten the file")
            raise _Stop
        return self._list(place) if isinstance(event, ev.SequenceStartEvent) else self._mapping(place)

    def _decorated(self, event: Any, place: tuple[int, int]) -> None:
        if isinstance(event, ev.AliasEvent):
            self._add(place, "aliases are not allowed", got=f"*{event.anchor}", fix="write the value out here")
            return
        if event.anchor is not None:
            fix = f"remove &{event.anchor} and write the value out where it is used"
            self._add(place, "anchors are not allowed", got=f"&{event.anchor}", fix=fix)
        if event.tag is not None:
            tag = event.tag.replace("tag:yaml.org,2002:", "!!")
            fix = f"remove {tag}; text in quotes is text, plain numbers are numbers"
            self._add(place, "tags are not allowed", got=tag, fix=fix)

    def _scalar(self, event: Any, place: tuple[int, int]) -> Node:
        text: str = event.value
        if event.style:
            return Node(text, *place, quoted=True, raw=text)
        try:
            return Node(read_scalar(text), *place, raw=text)
        except ValueError as error:
            self._add(place, str(error), fix="write it in quotes if it is text")
            return Node(1, *place, raw=text, broken=True)

    def _list(self, place: tuple[int, int]) -> Node:
        items: list[Node] = []
        path = self.path
        path.append(0)
        while not isinstance(event := self.next(), ev.SequenceEndEvent):
            items.append(self._node(event))
            path[-1] = len(items)
        path.pop()
        return Node(None, *place, items=items)

    def _mapping(self, place: tuple[int, int]) -> Node:
        items: dict[str, Node] = {}
        keys: dict[str, tuple[int, int]] = {}
        path = self.path
        while not isinstance(event := self.next(), ev.MappingEndEvent):
            mark = event.start_mark
            key_place = (mark.line + 1, mark.column + 1)
            key = self._key(event, key_place)
            path.append(key or "?")
            value = self._node(self.next())
            if key is None:
                pass
            elif key in items:
                first = f"{keys[key][0]}:{keys[key][1]}"
                fix = f"it is first set at line {first}; remove one of them, or give it another name"
                self._add(key_place, f'the key "{key}" is set twice', fix=fix)
            else:
                items[key] = value
                keys[key] = key_place
            path.pop()
        return Node(None, *place, items=items, keys=keys)

    def _key(self, event: Any, place: tuple[int, int]) -> str | None:
        """The text of a key; None for what cannot be one, whose value is left out."""
        node = self._node(event)
        if node.items is not None:
            fix = "text with braces needs quotes" if event.flow_style else "write a name before the colon"
            self._add(place, "a mapping or list stands where a key belongs", fix=fix)
            return None
        if not node.quoted and node.raw == "<<":
            self._add(place, "merge keys (<<) are not allowed", fix="write the keys out here")
            return None
        if not isinstance(node.value, str):
            fix = f'write "{node.raw}": in quotes' if node.raw else "write a name before the colon"
            self._add(place, "a key must be text", got=node.raw or "nothing", fix=fix)
            return node.raw
        return node.value


def _place(event: Any) -> tuple[int, int]:
    mark = event.start_mark
    return mark.line + 1, mark.column + 1


_FIRST_LINES: Final = 'begin with "name:", "spouts:" and "bolts:", or let "rainband new NAME" write a first one'
