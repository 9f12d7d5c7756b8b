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

RULES_OF_WORKERS = {"1.6", "2.4", "4.4", "5.4", *(f"7.{n}" for n in range(1, 6))}
"""Those marked (W)."""

OF_WORKERS: dict[str, tuple[str, ...]] = {
    "1.6": ("rust/core/tests/properties.rs::links_one_accident",),
    "2.4": (
        "tests/cluster/chaos/test_calls.py::test_a_tuple_that_kills_whoever_takes_it",
        "tests/cluster/chaos/test_calls.py::test_one_that_kills_among_others_in_hand",
    ),
    "4.4": ("rust/core/tests/properties.rs::links_credit_is_per_task",),
    "5.4": ("rust/core/tests/properties.rs::cluster_survives",),
    "7.1": ("rust/core/tests/properties.rs::links_lost_tail",),
    "7.2": (
        "tests/unit/test_cluster_views.py::test_a_death_and_its_replacement",
        "tests/unit/test_cluster_views.py::Agreement",  # a replay that does not wait for the view fails it
    ),
    "7.3": ("rust/core/tests/properties.rs::links_strangers_are_refused",),
    "7.4": (
        "rust/link/tests/link/watch.rs::a_parent_that_is_killed_is_missed",
        "tests/unit/test_cluster_processes.py::test_no_worker_outlives_its_parent",
        "tests/unit/test_cluster_processes.py::test_what_a_worker_started_dies_with_it",
    ),
    "7.5": ("tests/unit/test_cluster_merge.py::test_the_dead_stay_in_the_account",),
}
"""Tests of each rule of workers; they are anywhere, so they cannot be found by their docstrings."""


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
    assert set(OF_WORKERS) == RULES_OF_WORKERS
    for rule, tests in OF_WORKERS.items():
        assert tests, rule
        for test in tests:
            path, _, name = test.partition("::")
            assert re.search(rf"\b(def|fn|class) {name}\(", (root / path).read_text(encoding="utf-8")), test


def test_rules_are_named_alike() -> None:
    """A docstring that names a rule in another way would not be counted."""
    for path in sorted(Path(__file__).parent.glob("test_*.py")):
        for line in path.read_text(encoding="utf-8").splitlines():
            if re.match(r'    """ENGINE', line):
                assert re.match(r'    """ENGINE \d\.\d(, \d\.\d)*: ', line), f"{path.name}: {line}"
