"""Settings: defaults, bounds, texts, layers, and what the command line writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rainband import BatchBolt, Bolt, ConfigError, Spout, Topology, spout
from rainband.config import (
    COMPONENT_KEYS,
    KEYS,
    TOPOLOGY_KEYS,
    Config,
    check_layer,
    default_state_dir,
    defaults,
    expected,
    parse_setting,
    parse_settings,
    reference,
)
from rainband.plan import compile_plan

CONTRACT: dict[str, Any] = {
    "workers": 1,
    "worker_restart_limit": 10,
    "transport": "ipc",
    "bind": "127.0.0.1",
    "on_workers": None,
    "queue_capacity": 1024,
    "queue_bytes": 64 * 2**20,
    "loop_bytes": 64 * 2**20,
    "link_bytes": 2**20,
    "max_pending": 1000,
    "max_attempts": 5,
    "retry_backoff_s": 0.1,
    "retry_backoff_max_s": 10.0,
    "ack_timeout_s": 30,
    "execute_timeout_s": 300,
    "audit_s": 600,
    "max_hops": 10_000,
    "max_anchors": 64,
    "drain_timeout_s": 30,
    "state_dir": None,
    "checked": False,
    "tick_interval_s": None,
    "on_error": "fail",
    "restart_limit": 10,
    "concurrency": 16,
    "batch_size": 100,
    "batch_interval_s": 1.0,
    "auto_ack": True,
}


def test_defaults_are_those_of_the_contract() -> None:
    assert {**defaults("topology"), **defaults("component")} == CONTRACT
    assert set(TOPOLOGY_KEYS) | set(COMPONENT_KEYS) == set(KEYS)
    assert not set(TOPOLOGY_KEYS) & set(COMPONENT_KEYS)


def test_every_setting_is_described_and_stands_in_the_reference() -> None:
    page = reference()
    for name in KEYS:
        description = Config.model_fields[name].description
        assert description
        assert description.endswith(".")
        assert f"| `{name}` |" in page
        assert expected(name)


@pytest.mark.parametrize("name", [name for name in KEYS if isinstance(CONTRACT[name], int | float)])
def test_numbers_have_a_lower_bound(name: str) -> None:
    if isinstance(CONTRACT[name], bool):
        assert check_layer({name: 1}, "w", "topology")[1]
    else:
        (problem,) = check_layer({name: -1}, "w", "topology")[1]
        assert str(problem) == f'w: bad setting "{name}"; expected {expected(name)}, got -1'


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"max_pending": 1.5}, "a whole number of at least 1 and at most 16777216, got 1.5"),
        ({"max_pending": "5"}, "a whole number of at least 1 and at most 16777216, got '5'"),
        ({"max_pending": True}, "a whole number of at least 1 and at most 16777216, got True"),
        ({"ack_timeout_s": float("nan")}, "a number above 0 and at most 86400, got nan"),
        ({"batch_interval_s": float("inf")}, "a number above 0 and at most 3600, got inf"),
        ({"batch_interval_s": 0}, "a number above 0 and at most 3600, got 0"),
        ({"on_error": "Fail"}, 'one of "fail", "restart", "stop", got \'Fail\''),
        ({"checked": 1}, "True or False, got 1"),
        ({"state_dir": 5}, "the path of a folder, got 5"),
        ({"tick_interval_s": 0}, "a number of at least 0.001 and at most 86400, got 0"),
    ],
)
def test_strict_values(settings: dict[str, Any], text: str) -> None:
    (problem,) = check_layer(settings, "w", "topology")[1]
    assert str(problem) == f'w: bad setting "{next(iter(settings))}"; expected {text}'


def test_a_whole_number_is_a_number() -> None:
    good, found = check_layer({"ack_timeout_s": 5, "state_dir": Path("here"), "tick_interval_s": None}, "w", "topology")
    assert (good, found) == ({"ack_timeout_s": 5.0, "state_dir": Path("here"), "tick_interval_s": None}, [])


class Lines(Spout):
    outputs = ["line"]
    max_pending = 30

    def next_tuple(self) -> None: ...


def settings_of(topology: Topology, name: str, overrides: dict[str, Any] | None = None) -> Any:
    return compile_plan(topology, overrides).component(name).config


def test_layers() -> None:
    """Defaults < topology < class attribute < config= < arguments of run < one component in the arguments of run."""
    topology = Topology("t", config={"max_pending": 20, "max_attempts": 2, "queue_capacity": 7})
    topology.spout("plain", Lines)
    topology.spout("wired", Lines, config={"max_pending": 40})
    assert settings_of(topology, "plain")["ack_timeout_s"] == 30
    assert settings_of(topology, "plain")["max_attempts"] == 2
    assert settings_of(topology, "plain")["max_pending"] == 30
    assert settings_of(topology, "wired")["max_pending"] == 40
    assert settings_of(topology, "wired", {"max_pending": 50})["max_pending"] == 50
    single = {"wired.max_pending": 60, "max_pending": 50}
    assert settings_of(topology, "wired", single)["max_pending"] == 60
    assert settings_of(topology, "plain", single)["max_pending"] == 50
    assert settings_of(topology, "plain", single)["queue_capacity"] == 7


def test_class_attributes_are_inherited_and_nearest_wins() -> None:
    class Base(BatchBolt):
        batch_size = 3
        batch_interval_s = 2

        def process_batch(self, tuples: Any) -> None: ...

    class Near(Base):
        batch_size = 4

    topology = Topology("t")
    topology.spout("lines", Lines)
    topology.bolt("near", Near, inputs="lines")
    config = settings_of(topology, "near")
    assert (config["batch_size"], config["batch_interval_s"]) == (4, 2.0)


def test_methods_and_properties_named_like_settings_are_the_users_own() -> None:
    class Step(Bolt):
        __slots__ = ("queue_capacity",)

        def process(self, line: str) -> None: ...
        def concurrency(self) -> None: ...

        @property
        def batch_size(self) -> int:
            return 1

        workers = 12

    topology = Topology("t")
    topology.spout("lines", Lines)
    topology.bolt("step", Step, inputs="lines")
    assert settings_of(topology, "step")["concurrency"] == 16
    assert compile_plan(topology).config["workers"] == 1


def test_settings_of_a_mark_and_of_spout_functions() -> None:
    @spout(outputs=["n"], max_pending=3)
    def numbers() -> Any:
        yield 1

    topology = Topology("t", config={"on_error": "restart"})
    topology.spout("numbers", numbers)
    config = settings_of(topology, "numbers")
    assert (config["max_pending"], config["on_error"]) == (3, "stop")


def test_merged_settings_are_read_only() -> None:
    topology = Topology("t")
    topology.spout("lines", Lines)
    with pytest.raises(TypeError):
        settings_of(topology, "lines")["max_pending"] = 1
    with pytest.raises(TypeError):
        compile_plan(topology).config["workers"] = 2  # type: ignore[index]


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("max_pending=5", {"max_pending": 5}),
        (" max_pending = 5 ", {"max_pending": 5}),
        ("retry_backoff_s=2", {"retry_backoff_s": 2.0}),
        ("retry_backoff_s=1e-1", {"retry_backoff_s": 0.1}),
        ("checked=TRUE", {"checked": True}),
        ("checked=off", {"checked": False}),
        ("tick_interval_s=none", {"tick_interval_s": None}),
        ("count.tick_interval_s=0.5", {"count.tick_interval_s": 0.5}),
        ("on_error=stop", {"on_error": "stop"}),
        ("state_dir=/a=b", {"state_dir": "/a=b"}),
    ],
)
def test_settings_of_the_command_line(text: str, parsed: dict[str, Any]) -> None:
    assert parse_setting(text) == parsed


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("max_pending", "--set max_pending: expected setting=value; for example max_pending=500"),
        (
            "max_pending=many",
            (
                '--set max_pending=many: bad setting "max_pending"; '
                "expected a whole number of at least 1 and at most 16777216, got 'many'"
            ),
        ),
        ("checked=1", "--set checked=1: bad setting \"checked\"; expected True or False, got '1'"),
        ("a.b.max_pending=x", None),
        (
            "count.workers=2",
            (
                '--set count.workers=2: setting "workers" belongs to the whole topology; '
                "write Topology(…, config={'workers': …})"
            ),
        ),
    ],
)
def test_bad_settings_of_the_command_line(text: str, message: str | None) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_setting(text)
    assert message is None or str(caught.value) == message


def test_all_bad_settings_of_the_command_line_are_told() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_settings(["max_pending=0", "checked=true", "nonsense=1"])
    assert len(str(caught.value).splitlines()) == 2
    assert [problem.code for problem in caught.value.problems] == ["bad_setting", "unknown_setting"]


def test_default_state_dir(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert default_state_dir("t", "1") == tmp_path / "rainband" / "t" / "1"
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    assert default_state_dir("t", "1") == Path.home() / ".local" / "state" / "rainband" / "t" / "1"
