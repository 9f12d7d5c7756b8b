"""The stub of the Rust module is true: mypy's own comparison with the built module finds no difference."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

# What stubtest cannot see: the slot of a call has no signature, that of a buffer no name before Python 3.12.
ALLOWED = r"rainband\._core\.(Waker\.__call__|_Part\.__buffer__)"


def test_the_stub_is_that_of_the_built_module(tmp_path: Path) -> None:
    allowed = tmp_path / "allowed"
    allowed.write_text(ALLOWED)
    command = [sys.executable, "-m", "mypy.stubtest", "rainband._core", "--concise", "--allowlist", str(allowed)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
