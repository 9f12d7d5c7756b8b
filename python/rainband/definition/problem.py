"""What is wrong in a topology file, where, and what to write instead.

A ``FileProblem`` is one mistake at one place of a file; ``errors.DefinitionError`` holds all mistakes of one file, in
the order of the lines. Every step of the loader adds to the same list and goes on as far as what it has read allows,
so that a person mends a file in one go. Places are ``line:column``, both from 1, as editors count.
"""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from rainband.errors import DefinitionError, Problem

if TYPE_CHECKING:
    from collections.abc import Iterable

Path = tuple[str | int, ...]
"""Keys and indexes from the top of the file to a value: ``("bolts", "count", "inputs", 0)``."""


@dataclass(frozen=True, slots=True)
class FileProblem(Problem):
    """One mistake in a topology file.

    Attributes:
        file: the file as the user named it.
        line: line of the key or value, from 1.
        column: column in characters, from 1.
        path: the key it is about, as ``bolts.count.inputs[0].grouping``; empty for the file as a whole.
        excerpt: the line of the file, to be shown with a caret under the column.
        details: further lines, such as the traceback of the user's module or a converted file.
    """

    file: str = ""
    line: int = 1
    column: int = 1
    path: str = ""
    excerpt: str = ""
    details: str = ""

    @property
    def message(self) -> str:
        """What is wrong and what to write, without the place."""
        wanted = f"expected {self.expected}" if self.expected else ""
        wanted += (", " if wanted else "") + f"got {self.got}" if self.got else ""
        return "; ".join(part for part in (self.what, wanted, self.fix) if part)

    def __str__(self) -> str:
        return f"{self.where}: {self.message}" + (f"\n{self.details}" if self.details else "")

    def as_dict(self) -> dict[str, str | int]:
        """The problem for ``--json``; the first six keys are always there, what else is empty is left out."""
        found: dict[str, str | int] = {"file": self.file, "line": self.line, "column": self.column, "path": self.path}
        found |= {"code": self.code, "message": self.message}
        return found | {key: getattr(self, key) for key in ("expected", "got", "fix", "details") if getattr(self, key)}


def definition_error(subject: str, problems: Iterable[FileProblem], mask: Masker) -> DefinitionError:
    """The one error of a file: its problems in the order of the lines, each once, without secrets."""
    ordered = sorted(dict.fromkeys(problems), key=lambda problem: (problem.line, problem.column))
    texts = ("what", "expected", "got", "fix", "excerpt", "details")
    hidden: list[FileProblem] = []
    for found in ordered:
        masked: dict[str, Any] = {key: mask(getattr(found, key)) for key in texts}
        hidden.append(replace(found, **masked))
    error = DefinitionError.listing(subject, hidden)
    assert isinstance(error, DefinitionError)
    return error


class Masker:
    """Replaces secrets by ``***`` in texts that are shown.

    Holds the values that came from ``file:`` references and from variables with names of secrets. Texts are searched
    for values of at least four characters: shorter ones would blank out numbers of a report and are no secrets.
    """

    def __init__(self) -> None:
        self._hidden: list[str] = []

    def add(self, secret: str) -> None:
        """Hides ``secret``, also as ``repr`` and JSON would write it."""
        if len(secret) < 4:
            return
        forms = {secret, secret.strip(), repr(secret)[1:-1], json.dumps(secret)[1:-1]}
        forms |= {json.dumps(secret, ensure_ascii=False)[1:-1]}
        # Longest first: a secret that contains another one disappears as a whole.
        self._hidden = sorted({*self._hidden, *(form for form in forms if len(form) >= 4)}, key=len, reverse=True)

    def __call__(self, text: str) -> str:
        """``text`` with every secret replaced."""
        for secret in self._hidden:
            text = text.replace(secret, "***")
        return text

    def __bool__(self) -> bool:
        return bool(self._hidden)


def path_text(path: Path) -> str:
    """``path`` as people write it: ``bolts.count.inputs[0].grouping``."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        elif part and all(char.isalnum() or char in "_-" for char in part):
            text += f".{part}" if text else part
        else:
            text += f"[{json.dumps(part, ensure_ascii=False)}]"
    return text


def describe(value: object) -> str:  # noqa: PLR0911 - one line a type
    """What a value is, for "got": ``the text 'two'``, ``the number 3``, ``a list of 2``."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f"the text {quote(value)}"
    if isinstance(value, int | float):
        return f"the number {value}"
    if isinstance(value, list):
        return f"a list of {len(value)}" if value else "an empty list"
    if isinstance(value, dict):
        keys = ", ".join(map(str, list(value)[:3])) + (", …" if len(value) > 3 else "")
        return f"a mapping with {keys}" if value else "an empty mapping"
    return type(value).__name__


def quote(text: str, limit: int = 60) -> str:
    """A text in double quotes on one line; a long one ends with an ellipsis."""
    return json.dumps(text if len(text) <= limit else text[: limit - 1] + "…", ensure_ascii=False)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A fix with the nearest known word, or with all of them; empty if there is none."""
    choices = list(known)
    folded = {_fold(choice): choice for choice in choices}
    if _fold(word) in folded:
        return f'did you mean "{folded[_fold(word)]}"?'
    close = difflib.get_close_matches(_fold(word), list(folded), n=1, cutoff=0.6)
    if close:
        return f'did you mean "{folded[close[0]]}"?'
    return f"known here: {', '.join(choices)}" if 0 < len(choices) <= 20 else ""


def _fold(word: str) -> str:
    return word.casefold().replace("_", "").replace("-", "").replace(" ", "")
