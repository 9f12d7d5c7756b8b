"""Topology files: from a YAML file to a ``Topology``, with every mistake at its line and column.

The steps, each in its own file, each adding to one list of problems and going on as far as it can:

    reader        bytes → a tree of nodes with their places     (syntax: the parser's errors in plain words)
    params        ${VAR} and file: references, secrets          (scalars: YAML 1.2's core schema)
    explain       the strict models of model, errors in the words of words    (flux: files of Storm's Flux)
    graph_check   sources, streams, key fields, settings, tests, without importing anything
    resolve       classes, arguments, Topology.check()          (imports, arguments)

``load`` does the first four, ``Definition.topology`` the last. A mistake of any kind is one ``DefinitionError``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rainband.definition.loading import Definition, load, load_tests, load_topology

__all__ = ["Definition", "load", "load_tests", "load_topology"]


def __getattr__(name: str) -> Any:
    # pydantic and yaml cost 100 ms; who only wants the texts of ``problem`` does not pay for them.
    if name in __all__:
        from rainband.definition import loading  # noqa: PLC0415

        return getattr(loading, name)
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)
