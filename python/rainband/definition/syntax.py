"""Errors of the YAML parser in the words of somebody who writes a file.

libyaml says "did not find expected key" for five different mistakes and often points behind the mistake. Its message
and marks, together with the line itself, tell most of them apart. The parser stops at its first error, so there is one
of these at most in a file. Called by ``reader``, knows nothing of topologies.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import yaml

Explained = tuple[tuple[int, int], str, str]
"""Line and column from 1, what is wrong, what to write."""

_FIXED: Final = {
    "block sequence entries are not allowed": ("a list item begins behind a value", "begin it on a line of its own"),
    "did not find expected node content": ("a value is missing here", "write a value, or remove the bracket"),
    "found unknown directive name": ('lines that begin with "%" are not allowed', "remove the line"),
    "found unknown escape character": (
        "an unknown escape in double quotes",
        r"write \\ for a backslash, or use single quotes",
    ),
    "did not find expected comment or line break": (
        'text behind "|" or ">"',
        "begin the text on the next line, indented",
    ),
    "could not find expected directive": ('a "%" directive without "---"', 'remove the line that begins with "%"'),
}

_QUOTES: Final = ("text behind a closing quote", "a quote inside single quotes is written twice: 'it''s'")
_GLUED: Final = re.compile(r"([A-Za-z_][\w-]*):([^\s:].*)")
"""A key, a colon and a value without a space between them."""


def explain(error: yaml.MarkedYAMLError, lines: list[str]) -> Explained:  # noqa: C901, PLR0911 - one line a message
    """Where the mistake is, what it is, and what to write instead."""
    place = _place(error.problem_mark) or _place(error.context_mark) or (1, 1)
    context = _place(error.context_mark) or place
    problem, line = error.problem or "not readable as YAML", _line(lines, place[0])
    rest = line[place[1] - 1 :].strip()
    if "cannot start any token" in problem:
        return _bad_start(place, rest, line)
    if "expected ',' or" in problem:
        return _unclosed(place, context, problem[-2], _line(lines, context[0]), line)
    if "expected node content" in problem and rest.startswith(":"):
        return place, "a key is missing before the colon", "write a name there"
    if "mapping values are not allowed" in problem:
        return _second_colon(place, line, lines)
    if "unexpected end of stream" in problem:
        return context, "the quote that begins here is not closed", "write the closing quote on the same line"
    if "could not find expected ':'" in problem:
        return _no_colon(context, _line(lines, context[0]))
    if "expected key" in problem or "expected <document start>" in problem:
        return _no_key(place, line, rest)
    if "expected '-' indicator" in problem:
        return place, "a key stands among list items", 'begin it with "- ", or indent it below the item it belongs to'
    for known, (what, hint) in _FIXED.items():
        if known in problem:
            return place, what, hint
    return place, f"not readable as YAML: {problem}", ""


def _bad_start(place: tuple[int, int], rest: str, line: str) -> Explained:
    if "\t" in line[: place[1]]:
        return place, "a tab indents this line", "indent with spaces"
    return place, f'text cannot begin with "{rest[:1]}"', f'write it in quotes: "{rest}"'


def _unclosed(place: tuple[int, int], context: tuple[int, int], closing: str, first: str, line: str) -> Explained:
    variable = re.search(r"\$\{[^}]*\}", first if context[0] != place[0] else line)
    if variable is not None:
        what = f"text with braces needs quotes inside {'{ }' if closing == '}' else '[ ]'}"
        return (context[0] if variable[0] in first else place[0], variable.start() + 1), what, f'write "{variable[0]}"'
    if line.count("'") > 2 and "'" in line[: place[1] - 1]:
        return place, *_QUOTES
    opening = {"]": "[", "}": "{"}[closing]
    if context[0] != place[0]:
        return context, f'the "{opening}" that begins here is not closed', f'write "{closing}" at its end'
    return place, f'expected "," or "{closing}" here', 'text with commas, brackets or ": " needs quotes'


def _second_colon(place: tuple[int, int], line: str, lines: list[str]) -> Explained:
    before = line[: place[1] - 1]
    above = next((number for number in range(place[0] - 1, 0, -1) if _line(lines, number).strip()), 0)
    glued = _GLUED.fullmatch(_line(lines, above).strip().removeprefix("- "))
    if glued is not None:
        column = len(_line(lines, above)) - len(_line(lines, above).lstrip()) + 1
        return (above, column), "a space is missing behind the colon", f'write "{glued[1]}: {glued[2]}"'
    match = re.match(r"\s*(?:- )?[^\s:]+:\s+(?=\S)", before)
    if match is not None:
        value = line[match.end() :].strip()
        return place, 'a second ": " on one line', f'text with a colon needs quotes: "{value}"'
    key = before.strip().removeprefix("- ")
    what = f'"{key}" is indented below a line that has a value already'
    return (place[0], len(line) - len(line.lstrip()) + 1), what, "indent it as deep as the keys it stands beside"


def _no_colon(context: tuple[int, int], line: str) -> Explained:
    text = line.strip().removeprefix("- ")
    glued = _GLUED.fullmatch(text)
    if glued is not None:
        return context, "a space is missing behind the colon", f'write "{glued[1]}: {glued[2]}"'
    return context, f'"{text}" is no "key: value"', "write a colon and a space behind the key"


def _no_key(place: tuple[int, int], line: str, rest: str) -> Explained:
    if line[: place[1] - 1].strip():
        if line.count("'") > 2:
            return place, *_QUOTES
        if rest[:1] in "]}":
            return place, f'a "{rest[:1]}" that nothing opens', "remove it"
        return place, f'text behind the end of the value: "{rest}"', "write the whole value in quotes"
    if rest.startswith("- ") or rest == "-":
        return place, "a list item stands among keys", "indent it below the key it belongs to"
    if rest[:1] in "]}":
        return place, f'a "{rest[:1]}" that nothing opens', "remove it"
    what = "the indentation of this line fits no line above it"
    return place, what, "indent it exactly as deep as the keys it stands beside"


def _line(lines: list[str], number: int) -> str:
    return lines[number - 1] if 0 < number <= len(lines) else ""


def _place(mark: yaml.Mark | None) -> tuple[int, int] | None:
    return None if mark is None else (mark.line + 1, mark.column + 1)
