"""The private folder of a run: removed at the end, or by the next run after a kill."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from rainband.cluster.folder import PrivateFolder

KILLED = """
import os, signal
from rainband.cluster.folder import PrivateFolder
folder = PrivateFolder()
(folder.path / "control").touch()
print(folder.path, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def test_it_is_private_and_removed() -> None:
    folder = PrivateFolder()
    assert folder.path.stat().st_mode & 0o777 == 0o700
    folder.remove()
    assert not folder.path.exists()


def test_one_that_a_killed_run_left_is_removed(temporary: Path) -> None:
    code = f"import tempfile; tempfile.tempdir = {str(temporary)!r}\n{KILLED}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=30)
    left = Path(done.stdout.strip())
    assert (left / "control").exists(), done.stderr
    folder = PrivateFolder()
    assert not left.exists()
    folder.remove()


def test_those_in_use_and_what_is_not_ours_stay(temporary: Path) -> None:
    first = PrivateFolder()
    (temporary / "rainband-run-mine").mkdir()
    (temporary / "rainband-run-file").touch()
    second = PrivateFolder()
    assert first.path.exists()
    assert (temporary / "rainband-run-mine").exists()
    first.remove()
    second.remove()
    assert sorted(path.name for path in temporary.iterdir()) == ["rainband-run-file", "rainband-run-mine"]


def test_a_long_path_is_avoided(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = temporary / ("x" * 80)
    deep.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(deep))
    folder = PrivateFolder()
    assert folder.path.parent == Path("/tmp")
    assert list(deep.iterdir()) == []
    folder.remove()
