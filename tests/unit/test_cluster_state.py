"""State that the supervisor keeps for workers: the worker's end, the keeper, and what a death says."""

from __future__ import annotations

import doctest
import json
import signal
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from rainband import Bolt, Spout, StateError, Topology
from rainband.cluster import failures, launcher
from rainband.cluster.assignment import Assignment, plain_overrides
from rainband.cluster.deaths import examine
from rainband.cluster.keeper import Keeper
from rainband.cluster.keys import WorkerKeys
from rainband.cluster.launcher import Event
from rainband.cluster.messages import DeadLetter, Message, Positions, Start, TasksEnded
from rainband.cluster.remote import RemoteState
from rainband.cluster.views import Launch
from rainband.plan import CompiledPlan, compile_plan
from rainband.state import LocalState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Lines(Spout):
    outputs = ["line"]

    def next_tuple(self) -> None: ...


class Take(Bolt):
    def process(self, line: str) -> None: ...


def plan(folder: Path, tasks: int = 2, **config: Any) -> CompiledPlan:
    topology = Topology("t", config={"state_dir": str(folder), **config})
    topology.spout("lines", Lines, parallelism=tasks)
    topology.bolt("take", Take, inputs="lines")
    return compile_plan(topology)


class Asked:
    """A control channel that notes what is asked."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    def request(self, make: Callable[[int], Message]) -> None:
        self.messages.append(make(7))


def remote(asked: Any, positions: list[Any]) -> RemoteState:
    return RemoteState(asked, Start([0], "00", positions, [], "/state", [], None, "ipc://x"))


def test_a_worker_asks_for_everything() -> None:
    asked = Asked()
    state = remote(asked, [["lines", 1, {"tuple": ["book", 118]}]])
    state.open()
    assert str(state.path) == "/state"
    assert state.position("lines", 1, 2) == ("book", 118)
    assert state.position("lines", 0, 2) is None
    state.save_positions([("lines", 0, 2, (1, b"x"))])
    assert state.position("lines", 0, 2) == (1, b"x")  # a task that is restarted goes on there
    state.append_letter({"component": "lines", "values": (1, {2}), "id": 3, "reason": "error", "at": 0.0})
    state.end_tasks([5])
    state.close()
    positions, letter, ended = asked.messages
    assert positions == Positions(7, [["lines", 0, 2, {"tuple": [1, {"bytes": "eA=="}]}]])
    assert isinstance(letter, DeadLetter)
    assert json.loads(letter.line)["values"] == [1, "{2}"]
    assert ended == TasksEnded(7, [5])


def test_a_position_that_cannot_be_stored_raises_where_it_was_emitted() -> None:
    asked = Asked()
    with pytest.raises(StateError, match=r'spout "lines" task index 0: position cannot be stored: type "object" does'):
        remote(asked, []).save_positions([("lines", 0, 2, object())])
    assert asked.messages == []


def test_positions_are_whatever_travels_as_in_one_process(kept: tuple[Keeper, LocalState]) -> None:
    keeper, state = kept
    asked, at = Asked(), datetime(2026, 11, 21, 10, 53, tzinfo=UTC)
    remote(asked, []).save_positions([("lines", 0, 2, at)])
    [saved] = asked.messages
    assert isinstance(saved, Positions)
    assert wait_for(lambda then: keeper.save_positions(saved.rows, then)) == [None]
    assert state.position("lines", 0, 2) == at
    [rows, error] = wait_for(keeper.read_positions)
    assert error is None
    assert remote(asked, rows).position("lines", 0, 2) == at


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[tuple[Keeper, LocalState]]:
    made = plan(tmp_path)
    state = LocalState(made)
    state.open()
    keeper = Keeper(made, state)
    keeper.start()
    yield keeper, state
    keeper.close(10)
    state.close()


def wait_for(ask: Callable[[Callable[..., None]], None]) -> Any:
    done = threading.Event()
    answers: list[Any] = []

    def then(*told: Any) -> None:
        answers.extend(told)
        done.set()

    ask(then)
    assert done.wait(10)
    return answers


def test_the_keeper_writes_and_reads_in_order(kept: tuple[Keeper, LocalState]) -> None:
    keeper, state = kept
    keeper.save_positions([["lines", 0, 2, {"tuple": [1]}]], lambda error: None)
    keeper.save_positions([["lines", 0, 2, {"tuple": [2]}]], lambda error: None)
    assert wait_for(keeper.read_positions) == [[["lines", 0, {"tuple": [2]}]], None]
    assert wait_for(lambda then: keeper.append_letter('{"a": 1}\n', then)) == [None]
    assert state.letter_file is not None
    assert state.letters.path.read_text() == '{"a": 1}\n'


def test_what_the_keeper_cannot_do_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    earlier = LocalState(plan(tmp_path, 3))
    earlier.open()
    earlier.save_positions([("lines", 0, 3, 5)])
    earlier.close()
    state = LocalState(plan(tmp_path, 2))
    state.open()
    keeper = Keeper(plan(tmp_path, 2), state)
    keeper.start()
    [_, error] = wait_for(keeper.read_positions)
    assert error.startswith('spout "lines" has 2 tasks, but ')
    assert wait_for(lambda then: keeper.save_positions([["lines", 0, 2, {"what": 1}]], then)) == [
        'ValueError: unknown tag "what"'
    ]
    keeper.close(10)
    keeper.close(10)
    state.close()


def test_texts_of_deaths(tmp_path: Path) -> None:
    assert doctest.testmod(launcher).failed == 0
    made = plan(tmp_path)
    crash = Event(1, 2, "dead", None, signal.SIGSEGV)
    assert examine(made, crash, None, "").reason == "was killed by SIGSEGV"
    assert Event(1, 1, "dead", None, 99).how == "killed by signal 99"
    assert Event(1, 1, "dead", None, None).how == "ended"
    assert Event(1, 1, "dead", 1, None, "ended with a defect: x").how == "ended with a defect: x"
    rows = [(2, 2, 0, 1, n, 0) for n in range(5)]
    death = examine(made, crash, {"suspects": rows, "busy": [(2, 2), (0, 1)], "said": "", "counts": []}, "")
    assert death.suspects == tuple((0, 1, n) for n in range(5))
    assert death.reason == (
        'was killed by SIGSEGV; in hand: bolt "take" task 2, a tuple of spout "lines"; '
        'spout "lines" task 1, a tuple of no root'
    )
    launch = Launch(1, 3, 5.2)
    assert death.told(launch, 5.0, (2, 10), was_ready=True) == (
        f"worker 1 {death.reason}; it is replaced in 0.2 s (restart 2 of 10), and what it held is replayed"
    )
    early = death.told(launch, 5.0, (2, 2), was_ready=False)
    assert early == f"worker 1 {death.reason}; it is replaced in 0.2 s (restart 2 of 2)"
    assert death.told(None, 5.0, (3, 2), was_ready=False) == f"worker 1 {death.reason}; it is not replaced"
    hung = examine(made, crash, {"suspects": [], "busy": [], "said": "task 2: process() took 300 s", "counts": []}, "")
    assert hung.reason == "ended itself: task 2: process() took 300 s"
    slots: Any = {"suspects": rows, "busy": [(2, 2)], "said": ""}
    frozen = examine(made, crash, slots, "told nothing for 30 s, and was killed")
    assert frozen.reason == (
        'told nothing for 30 s, and was killed; in hand: bolt "take" task 2, a tuple of spout "lines"'
    )
    left = examine(
        made, Event(0, 1, "dead", 1, None), None, "could not begin: loading the topology raised KeyError: no"
    )
    assert left.note({}) == (
        "worker 0 could not begin: loading the topology raised KeyError: no; "
        "its own counters are those of its last report"
    )
    assert 'pending there were 3 roots of "lines", gone with it or read again' in left.note({"lines": 3})


def test_failures_travel_as_texts() -> None:
    class Rude(Exception):  # noqa: N818
        def __str__(self) -> str:
            raise RuntimeError

    told = failures.load_failure(Rude())
    assert (told.kind, told.text, told.is_invalid) == ("Rude", "Rude", False)
    assert failures.load_failure(KeyError()).text == "KeyError"
    error = failures.worker_error(2, failures.run_failure(ValueError("x"), "process() raised ValueError('x')"))
    assert str(error) == "worker 2: process() raised ValueError('x')"
    assert failures.run_failure(StateError("disk full"), "disk full") == ["StateError", "disk full", ""]
    assert (error.worker, error.kind, error.__notes__) == (2, "ValueError", ["ValueError: x"])


def test_an_assignment_goes_through_json() -> None:
    keys = WorkerKeys("public", "hidden", "supervisor")
    overrides = plain_overrides({"a": 1, "state_dir": Path("x")})
    made = Assignment(1, 2, 3, "ipc://x", "t", {"kind": "file"}, overrides, keys)
    assert Assignment.from_json(json.loads(json.dumps(made.to_json()))) == made
    assert made.overrides == {"a": 1, "state_dir": "x"}
    assert "hidden" not in repr(made)
    bare = Assignment(1, 2, 3, "ipc://x", "t", {}, {})
    assert Assignment.from_json(bare.to_json()) == bare
