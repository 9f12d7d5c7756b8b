"""Every rule of the contract has a test here: test functions name the rules that they check in their docstrings."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from pathlib import Path

import pytest

pytestmark = pytest.mark.in_one_process("runs no topology")

RULES = {
    *(f"1.{n}" for n in range(1, 9)),
    *("2.1", "2.2", "2.3", "2.5"),
    *(f"3.{n}" for n in range(1, 5)),
    *("4.1", "4.2", "4.3", "4.5", "4.6", "4.7"),
    *(f"5.{n}" for n in range(1, 6)),
    *(f"6.{n}" for n in range(1, 6)),
}
"""The numbered rules of ENGINE.md that hold in one process."""

OF_WORKERS = {
    "2.4": "tests/cluster/chaos/test_calls.py::test_a_tuple_that_kills_whoever_takes_it",
    "1.6": "rust/core/tests/properties.rs::links_one_accident",
    "4.4": "rust/core/tests/properties.rs::links_credit_is_per_task",
    "5.4": "rust/core/tests/properties.rs::cluster_survives",
    "7.1": "rust/core/tests/properties.rs::links_lost_tail",
    "7.2": "tests/unit/test_cluster_views.py::test_a_death_and_its_replacement",
    "7.3": "rust/core/tests/properties.rs::links_strangers_are_refused",
    "7.4": "rust/link/tests/link/watch.rs::a_parent_that_is_killed_is_missed",
    "7.5": "tests/unit/test_cluster_merge.py::test_the_dead_stay_in_the_account",
}
"""The rules marked (W), and a test of each."""


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


def test_every_rule_of_workers_has_a_test() -> None:
    root = Path(__file__).parents[2]
    for rule, test in OF_WORKERS.items():
        path, _, name = test.partition("::")
        assert re.search(rf"\b(def|fn) {name}\(", (root / path).read_text(encoding="utf-8")), rule


def test_rules_are_named_alike() -> None:
    """A docstring that names a rule in another way would not be counted."""
    for path in sorted(Path(__file__).parent.glob("test_*.py")):
        for line in path.read_text(encoding="utf-8").splitlines():
            if re.match(r'    """ENGINE', line):
                assert re.match(r'    """ENGINE \d\.\d(, \d\.\d)*: ', line), f"{path.name}: {line}"
