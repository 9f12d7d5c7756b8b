"""Sources and sinks that come with rainband; each is imported when it is first touched.

| source | reads | sink | writes |
|---|---|---|---|
| `Lines` | lines of files, folders, globs, .gz | `Print` | a line per tuple to stdout |
| `JsonLines` | a JSON object a line | `JsonLinesSink` | a JSON object a line |
| `CsvRows` | rows of CSV files | `CsvSink` | rows of a CSV file |
| `stdin` | lines of standard input | `SqliteSink` | rows of a SQLite table |
| `Sequence` | numbers or values, at a rate | | |

In a topology file they are named `class: rainband.connectors:Lines`. The file sources give positions, so that a run
with the same state folder goes on where the last one was acked; a sink acks a tuple after it was written. What cannot
be read or written raises `ConnectorError`, which stops the run: acked work stays acked, the next run reads the rest.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

from rainband.errors import ConnectorError

if TYPE_CHECKING:
    from .csvfiles import CsvRows, CsvSink
    from .files import Lines
    from .generators import Sequence
    from .jsonlines import JsonLines, JsonLinesSink
    from .printing import Print
    from .sqlite import SqliteSink
    from .standard_input import stdin

__all__ = [
    "ConnectorError",
    "CsvRows",
    "CsvSink",
    "JsonLines",
    "JsonLinesSink",
    "Lines",
    "Print",
    "Sequence",
    "SqliteSink",
    "stdin",
]

# The module of each name. No module may have the name of what it exports: its import would take the name's place here.
_HOMES: Final = {
    "CsvRows": "csvfiles",
    "CsvSink": "csvfiles",
    "JsonLines": "jsonlines",
    "JsonLinesSink": "jsonlines",
    "Lines": "files",
    "Print": "printing",
    "Sequence": "generators",
    "SqliteSink": "sqlite",
    "stdin": "standard_input",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
    found: object = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
