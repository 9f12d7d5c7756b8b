"""Loading a topology file: the steps in order, and what comes out of them; see the package for the list of steps."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Any

from rainband.config import KEYS
from rainband.definition.explain import validate_model
from rainband.definition.flux import is_flux, note_flux
from rainband.definition.graph_check import check_graph
from rainband.definition.params import Params, is_secret_name
from rainband.definition.problem import Masker, definition_error
from rainband.definition.reader import MAX_BYTES, Node, Source, read

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rainband.definition.model import TestEntry, TopologyFile
    from rainband.definition.problem import Path
    from rainband.topology import Topology


@dataclass(frozen=True, slots=True)
class Definition:
    """A topology file that is right as far as can be seen without its classes.

    Attributes:
        file: the file as the user named it.
        model: what stands in it, with variables filled in.
        variables: names of its ``${…}``, with whether a value is needed for them.
        mask: hides its secrets in a text.
    """

    file: str
    model: TopologyFile
    variables: Mapping[str, bool]
    mask: Masker
    _source: Source
    _root: Node
    _params: Mapping[str, str]

    def topology(self, *, checked: bool = True) -> Topology:
        """Imports the classes and wires them.

        Args:
            checked: also run ``Topology.check``.

        Raises:
            DefinitionError: a class does not exist, is no component, does not take its arguments, its module raised on
                import (``code`` of the problem is ``import_failed``), or the parts do not fit together.
        """
        from rainband.definition.resolve import build, check  # noqa: PLC0415 - only here the Python API is needed

        topology = build(self._source, self._root, self.model, FilePath(self.file), self._params)
        if topology is not None and checked:
            check(self._source, topology)
        problems = list(self._source.problems)
        self._source.problems.clear()
        if problems or topology is None:
            raise definition_error(self.file, problems, self.mask)
        return topology

    def place(self, path: Path) -> str:
        """Where a value stands, as ``file:line:column``."""
        line, column = self._source.at(path)
        return f"{self.file}:{line}:{column}"

    def shown(self) -> dict[str, Any]:
        """The file as data with secrets masked: values of secret variables and files, of keys named so."""
        found: dict[str, Any] = _shown(self._root, "", self.mask)
        return found


def load(
    file: str | os.PathLike[str], *, params: Mapping[str, str] | None = None, environ: Mapping[str, str] | None = None
) -> Definition:
    r"""Reads and checks a topology file without importing its classes.

    Args:
        file: its path; errors name it as given.
        params: values for ``${…}``, before the environment.
        environ: the environment; that of the process if not given.

    Raises:
        DefinitionError: it is wrong; ``problems`` has every mistake.
        OSError: it cannot be read.

    Example:
        >>> from pathlib import Path
        >>> from tempfile import mkdtemp
        >>> file = Path(mkdtemp(), "t.yaml")
        >>> _ = file.write_text("name: t\nspouts: {s: {class: m:S, outputs: [a]}}\n")
        >>> load(file).model.name
        't'
    """
    name = os.fspath(file)
    source, root = read(name, _bytes(name))
    return _load(name, source, root, params or {}, environ)


def load_topology(file: str | os.PathLike[str], *, params: Mapping[str, str] | None = None) -> Topology:
    """The topology of a file, checked; ``load(file).topology()``.

    Raises:
        DefinitionError: it is wrong; ``problems`` has every mistake.
        OSError: it cannot be read.
    """
    return load(file, params=params).topology()


def load_tests(
    file: str | os.PathLike[str], *, params: Mapping[str, str] | None = None
) -> list[tuple[TestEntry, Definition]]:
    """The tests of a file, each with the definition under its own ``params:``, which win over those given.

    Raises:
        DefinitionError: the file is wrong under the params of one of its tests.
        OSError: it cannot be read.
    """
    name = os.fspath(file)
    data = _bytes(name)
    source, root = read(name, data)
    listed = root.child("tests") if root is not None else None
    count = len(listed.items) if listed is not None and isinstance(listed.items, list) else 0
    if not count:
        _load(name, source, root, params or {}, None)
        return []
    found = []
    for index in range(count):
        # Variables are filled into the tree, so each test needs a tree of its own.
        source, root = read(name, data)
        own = root.find(("tests", index, "params")) if root is not None else None
        given = own.items if own is not None and isinstance(own.items, dict) else {}
        texts = {key: node.raw for key, node in given.items() if node.items is None}
        definition = _load(name, source, root, {**(params or {}), **texts}, None)
        found.append((definition.model.tests[index], definition))
    return found


def _bytes(name: str) -> bytes:
    with FilePath(name).open("rb") as stream:
        return stream.read(MAX_BYTES + 1)


def _load(
    name: str, source: Source, root: Node | None, params: Mapping[str, str], environ: Mapping[str, str] | None
) -> Definition:
    mask = Masker()
    variables = Params(params, os.environ if environ is None else environ, mask)
    model = None
    if root is not None and is_flux(root):
        note_flux(source, root)
    elif root is not None:
        variables.fill(source, root, FilePath(name).parent)
        check_graph(source, root)
        model = validate_model(source, root, KEYS)
    if source.problems or root is None or model is None:
        raise definition_error(name, source.problems, mask)
    return Definition(name, model, variables.used, mask, source, root, params)


def _shown(node: Node, key: str, mask: Masker) -> Any:
    if isinstance(node.items, dict):
        return {name: _shown(below, name, mask) for name, below in node.items.items()}
    if node.items is not None:
        return [_shown(below, key, mask) for below in node.items]
    if node.value is not None and isinstance(node.value, str) and is_secret_name(key):
        return "***"
    return mask(node.value) if isinstance(node.value, str) else node.value
