"""What `import rainband` gives, and what it must not load."""

from __future__ import annotations

import subprocess
import sys

import pytest

import rainband

CONTRACT = """
    Spout Bolt BatchBolt Topology Stream Tuple TaskContext Failure Report Run Reject IDLE At to retry DEAD_LETTER DROP
    bolt spout grouping testing RainbandError TopologyError ConfigError RunError EmitError
"""


def test_the_names_of_the_contract_are_exported() -> None:
    assert set(CONTRACT.split()) <= set(rainband.__all__) <= set(dir(rainband))


@pytest.mark.parametrize("name", rainband.__all__)
def test_every_export_exists(name: str) -> None:
    assert getattr(rainband, name) is not None


def test_unknown_names_are_refused() -> None:
    with pytest.raises(AttributeError, match="module 'rainband' has no attribute 'Sprout'"):
        rainband.Sprout  # type: ignore[attr-defined]  # noqa: B018


def test_importing_loads_nothing_slow() -> None:
    """Imports are what costs time at the start: `benches` shows the milliseconds, this test why they stay few."""
    script = "import sys, rainband; rainband.Topology('t'); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=20, check=True)
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert not loaded & {"pydantic", "yaml", "click", "rich", "asyncio", "logging", "json", "hashlib", "difflib"}
    assert not {name for name in done.stdout.split() if name in {"rainband.check", "rainband.config", "rainband.run"}}
