"""The documents as tests see them: their blocks of code, and how each kind of block is run.

A page is run from top to bottom in a folder of its own. What a block is for stands in a comment before it, which a
reader does not see:

    <!-- file: split.py -->      the block is written to that file, for what follows
    <!-- exit: 78 -->            the last command of the block ends with that code; 0 without a comment
    <!-- not run: the reason --> the block is only read; python has to be python all the same

`python` blocks of a page share one namespace, as the cells of a notebook; with `>>>` they are doctests. In `console`
blocks lines that begin with `$` are given to bash and the lines below them are what must come out, stderr included;
`...` stands for anything. `yaml` blocks without a file are read for their syntax. `text` and `mermaid` are for people.
"""

from __future__ import annotations

import ast
import doctest
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Final

from rainband.definition.reader import read

ROOT: Final = Path(__file__).parents[2]
PAGES: Final = sorted({*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")})
LANGUAGES: Final = {"python", "console", "yaml", "text", "mermaid"}
_MARK = re.compile(r"<!-- (file|exit|not run): (.*?) -->")
_CHECKER = doctest.OutputChecker()


@dataclass(frozen=True)
class Block:
    """A fenced block: where it begins, its language, its marks, its text."""

    page: Path
    line: int
    language: str
    marks: dict[str, str]
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks_of(page: Path) -> list[Block]:
    """Every fenced block of a page."""
    blocks: list[Block] = []
    lines = page.read_text(encoding="utf-8").splitlines()
    marks: dict[str, str] = {}
    at = 0
    while at < len(lines):
        line = lines[at]
        at += 1
        if fence := re.match(r"( *)```(\w*)", line):
            begin, indent = at, len(fence[1])
            while lines[at].strip() != "```":
                at += 1
            text = "\n".join(each[indent:] for each in lines[begin:at]) + "\n"
            blocks.append(Block(page, begin, fence[2], marks, text))
            at += 1
            marks = {}
        elif mark := _MARK.fullmatch(line.strip()):
            marks = marks | {mark[1]: mark[2]}
        elif line.strip():
            marks = {}
    return blocks


class Reader:
    """Somebody who does what a page says, in `folder`, which is the working directory."""

    def __init__(self, page: Path, folder: Path) -> None:
        self.folder = folder
        self.module = ModuleType(f"page_{re.sub(r'[^a-z0-9]', '_', page.stem.lower())}")
        self.where = folder
        self.environment = {
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), "/usr/bin", "/bin"]),
            "HOME": str(folder),
            "XDG_STATE_HOME": str(folder / ".state"),
            "LC_ALL": "C.UTF-8",
            "COLUMNS": "100",
            "NO_COLOR": "1",
        }

    def do(self, block: Block) -> None:
        """What the block wants to be done; fails as an assertion that names its place."""
        if "file" in block.marks:
            path = self.folder / block.marks["file"]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, encoding="utf-8")
        elif "not run" in block.marks:
            if block.language == "python":
                ast.parse(block.text)
        elif block.language == "python":
            self._python(block)
        elif block.language == "console":
            self._console(block)
        elif block.language == "yaml":
            source, _ = read(str(block), block.text.encode())
            assert not source.problems, "\n".join(map(str, source.problems))

    def _python(self, block: Block) -> None:
        if block.text.startswith(">>> "):
            test = doctest.DocTestParser().get_doctest(block.text, self.module.__dict__, str(block), str(block), 0)
            said: list[str] = []
            result = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, out=said.append, clear_globs=False)
            assert result.failed == 0, f"{block}\n{''.join(said)}"
            vars(self.module).update(test.globs)
        else:
            code = compile("\n" * block.line + block.text, str(block.page), "exec")
            exec(code, self.module.__dict__)

    def _console(self, block: Block) -> None:
        steps: list[tuple[str, list[str]]] = []
        for line in block.text.splitlines():
            if line.startswith("$ "):
                steps.append((line[2:], []))
            elif line.startswith("> ") and not steps[-1][1]:
                steps[-1] = (f"{steps[-1][0]}\n{line[2:]}", [])
            else:
                steps[-1][1].append(line)
        for place, (command, expected) in enumerate(steps, 1):
            code = int(block.marks.get("exit", "0")) if place == len(steps) else 0
            self._command(block, command, "\n".join(expected), code)

    def _command(self, block: Block, command: str, expected: str, code: int) -> None:
        told = self.folder / ".where"
        done = subprocess.run(
            ["bash", "-c", f'{command}\ncode=$?; pwd > "{told}"; exit $code'],
            cwd=self.where,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=50,
            check=False,
        )
        self.where = Path(told.read_text(encoding="utf-8").strip())
        got = "\n".join(line.rstrip() for line in done.stdout.splitlines())
        assert done.returncode == code, f"{block}: {command!r} ended with {done.returncode}, not {code}:\n{got}"
        want = expected.rstrip()
        if want:
            same = _CHECKER.check_output(want + "\n", got + "\n", doctest.ELLIPSIS)
            assert same, f"{block}: {command!r}: expected\n{want}\n\ngot\n{got}"
