"""Whatever stands in a file, loading gives a Definition or one DefinitionError whose places are inside the file."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from rainband.definition import load, load_tests
from rainband.definition.problem import FileProblem
from rainband.errors import DefinitionError, Problem

if TYPE_CHECKING:
    from collections.abc import Sequence

GOOD = (Path(__file__).parent / "mistakes" / "shop.yaml").read_text(encoding="utf-8")
PIECES = [
    *("", " ", "\n", "\t", ":", ": ", "- ", "[", "]", "{", "}", ",", '"', "'", "#", "&a ", "*a", "!!int ", "|", ">"),
    *("?", "%", "@", "`", "---\n", "...\n", "<<: ", "null", "~", "true", "1e9", "-1", "0x", "yes", "${", "${A"),
    *("${A}", "${A:-1}", "$$", "file:x", "spouts:", "bolts", "inputs", "from", "grouping", "fields", "config"),
    *("streams", "direct", "with", "tests", "className", "- id: x", "\x00", "\x07", "\ufeff", "\u2028", "é", "😀"),
    *("dead_letter", "a.b.c", "9" * 500),
]


def load_bytes(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "t.yaml")
        file.write_bytes(data)
        for loads in (load, load_tests):
            problems: Sequence[Problem] | None = None
            try:
                loads(str(file))
            except DefinitionError as error:
                problems = error.problems
            if problems is not None:
                assert problems
                lines = data.decode("utf-8", "replace").splitlines() or [""]
                for problem in problems:
                    assert isinstance(problem, FileProblem)
                    assert 1 <= problem.line <= len(lines) + 1
                    assert problem.column >= 1
                    assert problem.message
                    assert str(problem).startswith(f"{file}:{problem.line}:{problem.column}: ")


@settings(max_examples=400, deadline=None)
@given(st.integers(), st.integers(1, 5))
def test_mutations_of_a_good_file(seed: int, changes: int) -> None:
    dice = random.Random(seed)
    text = GOOD
    for _ in range(changes):
        start = dice.randrange(len(text) + 1)
        end = min(len(text), start + dice.choice([0, 0, 1, 3, 12, 60]))
        text = text[:start] + dice.choice(PIECES) + text[end:]
    load_bytes(text.encode())


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=40))
def test_pieces_of_files(pieces: list[str]) -> None:
    load_bytes("".join(pieces).encode())


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    load_bytes(data)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(["lines", "split"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*PIECES, "lines", "class"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([line.split(":")[0].strip() for line in GOOD.splitlines() if ":" in line]), VALUES)
def test_any_value_in_place_of_one(key: str, value: object) -> None:
    data = yaml.safe_load(GOOD)

    def replace(node: object) -> None:
        for name, below in list(node.items()) if isinstance(node, dict) else []:
            if name == key:
                node[name] = value  # type: ignore[index]
            else:
                replace(below)

    replace(data)
    load_bytes(yaml.safe_dump(data, sort_keys=False, allow_unicode=True).encode())
