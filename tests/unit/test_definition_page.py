"""The page on topology files: every example of it is a good file, and what it says about mistakes is what is said."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from rainband.cli import run_cli
from rainband.definition import load
from rainband.definition.model import TYPE_WORDS
from rainband.definition.params import is_secret_name

PAGE = (Path(__file__).parents[2] / "docs" / "topology-files.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("text", EXAMPLES, ids=[text.partition("\n")[0] for text in EXAMPLES])
def test_every_example_is_a_good_file(tmp_path: Path, text: str) -> None:
    (tmp_path / "orders.key").write_text("key", encoding="utf-8")
    (tmp_path / "t.yaml").write_text(text, encoding="utf-8")
    assert load(tmp_path / "t.yaml", environ={}).model.name in text


def test_the_mistake_of_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    shown = re.findall(r"^```text\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)[0]
    lines = "name: t\nspouts: {lines: {class: 'a:B'}}\nbolts:\n  split: {class: 'a:C', inputs: [lines]}\n  count:\n"
    bad = lines + "    class: a:D\n" + "\n" * 6 + "    inputs: [{from: split, grouping: {feilds: [word]}}]\n"
    (tmp_path / "wordcount.yaml").write_text(bad, encoding="utf-8")
    assert run_cli(["validate", "wordcount.yaml"]) == 78
    assert capsys.readouterr().err == shown


def test_what_the_page_lists() -> None:
    assert f"Types are `{' '.join(TYPE_WORDS)}`" in PAGE
    names = ["DB_PASSWORD", "passwd", "Passphrase", "client_secret", "GITHUB_TOKEN", "CREDENTIALS", "api_key", "apikey"]
    names += ["AWS_ACCESS_KEY_ID", "PRIVATE_KEY", "db_pass", "DB_PWD"]
    assert all(map(is_secret_name, names))
    assert not any(map(is_secret_name, ["PWD", "KEY", "SORT_KEY", "path", "PASSENGERS", "bypass_cache", "compass"]))
