"""A bad network between live workers: what is lost is sent again, nothing comes twice, nobody is taken for dead."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from chaos_check import check, read
from chaos_run import chaos_fixture  # noqa: F401 - pytest finds it here

if TYPE_CHECKING:
    from chaos_run import Chaos

WEATHER: dict[str, dict[str, float]] = {
    "delay": {"delay_s": 0.05},
    "cut": {"cut_bytes": 20_000},
    "truncate": {"truncate_bytes": 60_000},
    "corrupt": {"corrupt_bytes": 60_000},
}


@pytest.mark.chaos
@pytest.mark.parametrize("transport", ["ipc", "tcp"])
@pytest.mark.parametrize("weather", WEATHER)
def test_weather(chaos: Chaos, weather: str, transport: str) -> None:
    ride_out(chaos, weather, transport, 5)


@pytest.mark.parametrize("weather", ["cut", "corrupt"])
def test_a_storm(chaos: Chaos, weather: str) -> None:
    ride_out(chaos, weather, "ipc", 1.5)


def ride_out(chaos: Chaos, weather: str, transport: str, seconds: float) -> None:
    chaos.settings |= {"transport": transport}
    chaos.start(pace=500, CHAOS_WEATHER=json.dumps(WEATHER[weather] | {"calm_s": seconds}))
    chaos.wait_for_acks(int(500 * (seconds + 2)))  # beyond the bad weather
    chaos.enough()
    assert chaos.finish() == 0, chaos.state_of_things()
    found = read(chaos.tracks, chaos.state)
    check(found, chaos.reports, deaths=0, max_pending=0)
    assert chaos.reports[-1]["notes"] == []
    assert found.duplicates == 0
    struck = [line for path in chaos.tracks.glob("weather-*") for line in path.read_text().splitlines()]
    assert weather == "delay" or len(struck) >= 2
