"""Every mistake that people make in a topology file, with the whole text of what is said about it.

The cases stand in ``mistakes/*.txt``, as changes to ``shop.yaml``: lines taken out (``-``), put in (``+``; ``^G`` is
the control character), and every line of the error after its heading (``!``), so that a mistake which causes a second
complaint is seen.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from rainband.definition import load
from rainband.definition.imports import modules_of
from rainband.errors import DefinitionError

FOLDER = Path(__file__).parent / "mistakes"
GOOD = (FOLDER / "shop.yaml").read_text(encoding="utf-8")
ENVIRON = {"EMPTY": "", "EIGHT": "eight", "API_TOKEN": "tok-12345"}
MODULES = {
    "parts.py": (FOLDER / "parts.py.txt").read_text(encoding="utf-8"),
    "raising.py": 'LIMIT = int("five")\n',
    "exiting.py": "import sys\n\nsys.exit(3)\n",
    "broken.py": "def f(:\n    pass\n",
    "importing.py": "import nowhere_to_be_found\n",
    "json.py": "",
}


@dataclass
class Case:
    """One change to the good file and what is said about it."""

    name: str
    old: list[str] = field(default_factory=list)
    new: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        old, new = ("".join(f"{line}\n" for line in lines) for lines in (self.old, self.new))
        assert GOOD.count(old) == 1, f"{self.name}: the lines to be taken out must stand there once"
        return GOOD.replace(old, new.replace("^G", "\x07"))


def cases_in(name: str) -> list[Case]:
    found: list[Case] = []
    for line in (FOLDER / name).read_text(encoding="utf-8").splitlines():
        kind, text = line[:2], line[2:]
        if kind == "= ":
            found.append(Case(text))
        elif line:
            {"- ": found[-1].old, "+ ": found[-1].new, "! ": found[-1].lines}[kind].append(text)
    return found


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in MODULES.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def said_about(text: str, folder: Path, *, imports: bool) -> list[str]:
    (folder / "shop.yaml").write_text(text, encoding="utf-8")
    try:
        with modules_of(folder):
            definition = load("shop.yaml", environ=ENVIRON)
            if imports:
                definition.topology()
    except DefinitionError as error:
        heading, *lines = str(error).replace(f"{folder.resolve()}/", "").splitlines()
        count = len(error.problems)
        assert heading == f"shop.yaml has {count} mistake{'' if count == 1 else 's'}:"
        # Versions of Python differ in the carets below a traceback's source.
        return [line for line in lines if not re.fullmatch(r"[ ^~]+", line)]
    return []


ALL = [(name, case) for name in ("syntax.txt", "shape.txt", "graph.txt", "classes.txt") for case in cases_in(name)]


@pytest.mark.parametrize(("name", "case"), ALL, ids=[f"{name.partition('.')[0]}-{case.name}" for name, case in ALL])
def test_every_word_of_a_mistake(folder: Path, name: str, case: Case) -> None:
    assert said_about(case.text, folder, imports=name == "classes.txt") == case.lines


def test_the_file_without_a_change_is_good(folder: Path) -> None:
    assert said_about(GOOD, folder, imports=True) == []


def test_all_mistakes_are_told_at_once(folder: Path) -> None:
    text = GOOD.replace("name: shop", "nam: x").replace("[lines]", "[line]").replace("parallelism: 2", "parallelism: x")
    assert [line.split(": ")[0].strip() for line in said_about(text, folder, imports=False)] == [
        "shop.yaml:1:1",
        "shop.yaml:9:14",
        "shop.yaml:12:18",
    ]
