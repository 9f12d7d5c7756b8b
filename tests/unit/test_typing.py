"""Type checkers accept the API as the contract writes it and find what is wrong; the example of the contract runs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "typing"
TEXT = "the rain\nthe band plays\n\nthe rain band\n"


def run(*command: str, cwd: Path = FOLDER) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False, cwd=cwd)


def test_mypy_strict() -> None:
    """Each mistake is marked with the error that mypy must find; --strict refuses marks that are not needed."""
    done = run(sys.executable, "-m", "mypy", "--strict", "wordcount.py", "everything.py", "mistakes.py")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.timeout(120)
def test_pyright() -> None:
    done = run(sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, ".")
    found = json.loads(done.stdout)["generalDiagnostics"]
    texts = [f"{Path(each['file']).name}:{each['range']['start']['line'] + 1} {each['message']}" for each in found]
    assert texts == []


def test_the_example_runs(tmp_path: Path) -> None:
    (tmp_path / "book.txt").write_text(TEXT, encoding="utf-8")
    done = run(sys.executable, str(FOLDER / "wordcount.py"), cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    table = {
        row.split()[0]: row.split()[2:] for row in done.stdout.splitlines() if re.match(r"(lines|split|count) ", row)
    }
    words = sum(Counter(TEXT.split()).values())
    # executed, emitted, acked, failed, replays, dead, pending
    assert table["lines"] == ["4", "4", "4", "0", "0", "0", "0"]
    assert table["split"] == ["4", str(words), "4", "0", "0", "0", "0"]
    assert table["count"] == [str(words), str(words), str(words), "0", "0", "0", "0"]
