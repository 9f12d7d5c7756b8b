"""What stands in the documents is so: their code runs, their links lead somewhere, their lists are complete."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest
from pages import LANGUAGES, PAGES, ROOT, Block, Reader, blocks_of

import rainband
from rainband import config, errors
from rainband.cli import COMMANDS, EXIT_CODES
from rainband.config import reference
from rainband.definition import model
from rainband.grouping import KINDS

if TYPE_CHECKING:
    from pydantic import BaseModel

WITH_CODE = [page for page in PAGES if any(block.language for block in blocks_of(page))]


def name_of(thing: Path | Block) -> str:
    return str(thing.relative_to(ROOT)) if isinstance(thing, Path) else str(thing)


def page(name: str) -> str:
    return (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", WITH_CODE, ids=name_of)
def test_the_code_of_a_page_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / ".state"))
    before = set(sys.modules)
    reader = Reader(path, tmp_path)
    sys.modules[reader.module.__name__] = reader.module
    try:
        for block in blocks_of(path):
            reader.do(block)
    finally:
        for name in set(sys.modules) - before:
            if (getattr(sys.modules[name], "__file__", None) or str(tmp_path)).startswith(str(tmp_path)):
                del sys.modules[name]


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_blocks_say_what_they_are(path: Path) -> None:
    for block in blocks_of(path):
        assert block.language in LANGUAGES, f"{block}: {block.language or 'no language'}; one of {sorted(LANGUAGES)}"


def test_few_blocks_are_not_run() -> None:
    reasons = [block.marks["not run"] for path in PAGES for block in blocks_of(path) if "not run" in block.marks]
    allowed = r"scripts/check-install runs it|make runs it|needs (streamparse|a clone|a terminal).*|Storm's .*"
    assert [reason for reason in reasons if not re.fullmatch(allowed, reason)] == []


# -- links ---------------------------------------------------------------------------------------------------------


def prose_of(path: Path) -> str:
    return re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)


def anchors_of(path: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", prose_of(path), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", prose_of(path)):
        if re.match(r"https?://", target):
            continue
        name, _, anchor = target.partition("#")
        there = (path.parent / name).resolve() if name else path
        assert there.exists(), f"{name_of(path)}: {target}"
        if anchor:
            assert anchor in anchors_of(there), f"{name_of(path)}: {target}"


def test_every_page_is_reached_from_the_readme() -> None:
    reached, left = set(), [ROOT / "README.md"]
    while left:
        path = left.pop()
        if path in reached or path.suffix != ".md":
            continue
        reached.add(path)
        targets = re.findall(r"\]\(([^)#]+)", path.read_text(encoding="utf-8"))
        left += [(path.parent / t).resolve() for t in targets if not t.startswith("http")]
    assert {name_of(p) for p in PAGES} - {name_of(p) for p in reached} == set()


# -- lists ---------------------------------------------------------------------------------------------------------


def test_the_page_of_the_settings_is_current() -> None:
    assert page("configuration").endswith(reference()), "write it anew: make docs"


def test_every_exit_code_is_told() -> None:
    text = page("command-line")
    for code, meaning in EXIT_CODES.items():
        assert f"| {code} | {meaning} |" in text


def test_every_command_and_option_is_told() -> None:
    text = page("command-line")
    for name in COMMANDS:
        command = importlib.import_module(f"rainband.cli.{name}").command
        assert f"## rainband {name}" in text
        section = text.partition(f"## rainband {name}")[2].partition("\n## ")[0]
        for option in command.params:
            if isinstance(option, click.Option) and "--help" not in option.opts:
                assert f"`{max(option.opts, key=len)}" in section, f"rainband {name} {option.opts}"


def test_every_grouping_is_told() -> None:
    for kind in KINDS:
        assert f"`{kind}" in page("concepts"), kind
        assert re.search(rf"`{{?{kind}\b", page("topology-files")), kind


def test_every_reason_of_a_failure_is_told() -> None:
    ledger = (ROOT / "rust" / "core" / "src" / "ledger.rs").read_text(encoding="utf-8")
    words = re.findall(r'Reason::\w+ => "([^"]+)"', ledger)
    assert len(words) > 5
    for word in words:
        assert f"| `{word}` |" in page("delivery"), word


def test_every_key_of_a_file_is_told() -> None:
    entries: list[type[BaseModel]] = [
        model.TopologyFile,
        model.SpoutEntry,
        model.BoltEntry,
        model.TestEntry,
        model.StreamEntry,
    ]
    for entry in entries:
        for name, field in entry.model_fields.items():
            assert re.search(rf"\b{field.alias or name}\b", page("topology-files")), f"{entry.__name__}.{name}"


def test_every_error_is_told() -> None:
    for name, thing in vars(errors).items():
        if isinstance(thing, type) and issubclass(thing, Exception):
            assert f"`{name}`" in page("errors"), name


def test_every_setting_that_a_page_names_exists() -> None:
    names = set(config.KEYS) | set(dir(rainband))
    for path in PAGES:
        for name in re.findall(r"`--set (?:\w+\.)?(\w+)=", path.read_text(encoding="utf-8")):
            assert name in names, f"{name_of(path)}: {name}"
