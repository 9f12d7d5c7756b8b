"""Every rule of the contract has a test here: test functions name the rules that they check in their docstrings."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from pathlib import Path

RULES = {
    *(f"1.{n}" for n in range(1, 9)),
    *("2.1", "2.2", "2.3", "2.5"),  # 2.4 needs worker processes
    *(f"3.{n}" for n in range(1, 5)),
    *("4.1", "4.2", "4.3", "4.5", "4.6", "4.7"),  # 4.4 needs worker processes
    *(f"5.{n}" for n in range(1, 6)),
    *(f"6.{n}" for n in range(1, 6)),
}
"""The numbered rules of ENGINE.md that hold in one process."""


def rules_with_tests() -> dict[str, list[str]]:
    """Which test functions say in their docstring `ENGINE 1.2, 3.4: …` that they check a rule."""
    found: dict[str, list[str]] = defaultdict(list)
    for path in sorted(Path(__file__).parent.glob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                named = re.match(r"ENGINE (\d\.\d(?:, \d\.\d)*): ", ast.get_docstring(node) or "")
                for rule in named[1].split(", ") if named else ():
                    found[rule].append(f"{path.name}::{node.name}")
    return found


def test_every_rule_has_a_test() -> None:
    assert set(rules_with_tests()) == RULES


def test_rules_are_named_alike() -> None:
    """A docstring that names a rule in another way would not be counted."""
    for path in sorted(Path(__file__).parent.glob("test_*.py")):
        for line in path.read_text(encoding="utf-8").splitlines():
            if re.match(r'    """ENGINE', line):
                assert re.match(r'    """ENGINE \d\.\d(, \d\.\d)*: ', line), f"{path.name}: {line}"
