"""`Runtime`: tasks as the core sees them, errors as users see them, state as it is kept."""

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rainband import BatchBolt, Bolt, Spout, StateError, Stream, TaskContext, Topology, Tuple, bolt, spout
from rainband.plan import compile_plan
from rainband.runtime import Runtime, _ErrorLog
from rainband.state import LocalState
from rainband.testing import Clock


class Lines(Spout):
    outputs = ["line"]

    def open(self, context: TaskContext) -> None:
        self.context = context

    def next_tuple(self) -> None:
        self.end()

    def ack(self, id: Any) -> None: ...  # noqa: A002


class Count(Bolt):
    outputs = ["word"]

    def prepare(self, context: TaskContext) -> None:
        context.counter("seen").add(2)
        self.context = context

    def process(self, line: str, tup: Tuple) -> None:
        raise KeyError(line)


class Store(BatchBolt):
    def process_batch(self, tuples: Sequence[Tuple]) -> None: ...


@spout(outputs=["n"])
def numbers() -> Iterator[int]:
    yield 1


@bolt(outputs=["n"])
async def fetch(line: str) -> None: ...


def runtime(state: Path | None, **config: Any) -> Runtime:
    topology = Topology("wordcount", config=({} if state is None else {"state_dir": str(state)}) | config)
    topology.spout("lines", Lines, parallelism=2)
    topology.bolt("count", Count, inputs="lines", parallelism=2)
    topology.bolt("store", Store, inputs="lines")
    topology.bolt("fetch", fetch, inputs="lines")
    topology.spout("numbers", numbers)
    topology.bolt("again", Count, inputs="lines")
    return Runtime(compile_plan(topology))


def test_a_spout_task_has_the_hooks_that_it_defines(tmp_path: Path) -> None:
    made = runtime(tmp_path)
    spec = made.build(0, 1, 1)
    spec.open()
    instance = spec.instance
    assert isinstance(instance, Lines)
    assert spec.next_tuple == instance.next_tuple
    assert spec.ack == instance.ack
    assert (spec.fail, spec.dead, spec.activate, spec.deactivate, spec.close) == (None,) * 5
    context = instance.context
    assert (context.topology, context.component, context.task_id, context.task_index) == ("wordcount", "lines", 1, 1)
    assert context.parallelism == 2
    assert context.position is None
    assert context.config["max_pending"] == 1000
    assert list(context.tasks_of("count")) == [2, 3]
    assert context.streams == {"default": {"line": Any}}
    assert context.subscribed == frozenset({"default"})
    assert context.state_dir == tmp_path
    assert context.logger.name == "rainband.wordcount.lines"


def test_a_bolt_task_binds_its_inputs(tmp_path: Path) -> None:
    spec = runtime(tmp_path).build(1, 3, 1)
    assert spec.mode == "plain"
    assert spec.auto_ack
    assert spec.bindings is not None
    binding = spec.bindings[0, "default"]
    assert (binding.args, binding.kwnames) == ((0, -1), ())
    assert (spec.tick, spec.flush, spec.finish, spec.timer, spec.loop) == (None,) * 5
    assert spec.settle is not None


def test_each_task_is_its_own_instance(tmp_path: Path) -> None:
    made = runtime(tmp_path)
    assert made.build(1, 2, 0).instance is not made.build(1, 3, 1).instance


def test_modes(tmp_path: Path) -> None:
    made = runtime(tmp_path)
    batch = made.build(2, 4, 0)
    assert (batch.mode, batch.auto_ack) == ("batch", False)
    assert batch.timer is not None
    assert batch.bindings is not None
    assert batch.bindings[0, "default"].args == (-1,)
    asynchronous = made.build(3, 5, 0)
    assert (asynchronous.mode, asynchronous.auto_ack, asynchronous.process) == ("async", False, None)
    assert asynchronous.loop is not None
    assert asynchronous.close is not None
    asynchronous.close()
    generator = made.build(4, 6, 0)
    assert generator.next_tuple is not None


def test_a_restarted_task_keeps_its_counters(tmp_path: Path) -> None:
    made = runtime(tmp_path)
    for task in (2, 2, 3):
        made.build(1, task, task - 2).open()
    assert made.user_counters() == {"count": {"seen": 6}}


def test_what_a_constructor_raises_comes_out(tmp_path: Path) -> None:
    class Broken(Bolt):
        def __init__(self) -> None:
            raise FileNotFoundError("model.bin")

        def process(self, line: str) -> None: ...

    topology = Topology("t", config={"state_dir": str(tmp_path)})
    topology.spout("lines", Lines)
    topology.bolt("broken", Broken, inputs="lines")
    with pytest.raises(FileNotFoundError, match=r"model\.bin"):
        Runtime(compile_plan(topology)).build(1, 1, 0)


def test_positions_come_back_in_the_next_run(tmp_path: Path) -> None:
    first = runtime(tmp_path)
    first.open()
    first.positions([(0, 1, ("book.txt", 118)), (0, 0, 7)])
    first.close()
    second = runtime(tmp_path)
    second.open()
    spec = second.build(0, 1, 1)
    spec.open()
    assert spec.instance.context.position == ("book.txt", 118)  # type: ignore[attr-defined]
    second.close()


def test_a_restarted_spout_gets_the_position_of_this_run(tmp_path: Path) -> None:
    made = runtime(tmp_path)
    made.open()
    made.positions([(0, 0, 7)])
    spec = made.build(0, 0, 0)
    spec.open()
    assert spec.instance.context.position == 7  # type: ignore[attr-defined]
    made.close()


def test_streams_of_pickles_are_told_of_once_if_there_are_workers(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    topology = Topology("wordcount", config={"state_dir": str(tmp_path)})
    topology.spout("lines", Lines, streams={"any": Stream(["value"], pickle=True), "other": ["value"]})
    plan = compile_plan(topology)
    for workers in (1, 2):
        made = Runtime(replace(plan, config={**plan.config, "workers": workers}))
        made.open()
        made.close()
    assert [record.getMessage() for record in caplog.records] == [
        'spout "lines" stream "any" has pickle=True: whoever can send to a worker can run any code in it'
    ]
    assert [stream["pickle"] for stream in plan.core["components"][0]["streams"]] == [False, True, False]


def test_a_folder_in_use_or_damaged_refuses_the_run_and_stays_free(tmp_path: Path) -> None:
    first = runtime(tmp_path)
    first.open()
    with pytest.raises(StateError, match="is in use by another run"):
        runtime(tmp_path).open()
    first.close()
    (tmp_path / "positions.json").write_text("{")
    for _ in range(2):
        with pytest.raises(StateError, match="are damaged"):
            runtime(tmp_path).open()


def test_a_run_without_state_dir_has_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    one, two = runtime(None), runtime(None)
    one.open()
    two.open()
    assert one.folder.parent == tmp_path / "rainband" / "wordcount"
    assert one.folder != two.folder
    two.dead_letter({"component": "lines", "values": ("x",), "id": 1, "reason": "error", "attempts": 5})
    one.close()
    two.close()
    assert not one.folder.exists()
    assert json.loads((two.folder / "dead_letters.jsonl").read_text())["values"] == ["x"]


def test_a_home_that_cannot_be_written_is_no_obstacle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    made = runtime(None)
    made.open()
    assert isinstance(made.state, LocalState)
    assert made.state.folder.is_taken
    assert "this run keeps its state in" in caplog.text
    made.close()


def raised(instance: Any) -> BaseException:
    try:
        instance.process("line", None)
    except KeyError as error:
        return error
    raise AssertionError


def test_an_error_of_user_code_is_logged_with_its_place_and_traceback(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = runtime(tmp_path)
    error = raised(made.build(1, 3, 1).instance)
    made.user_error(1, 3, "process", error, "the tuple failed and is replayed in 0.2 s (attempt 2 of 5)")
    [record] = caplog.records
    assert record.name == "rainband.wordcount.count"
    assert record.levelno == logging.ERROR
    assert record.getMessage() == (
        "bolt \"count\" task 3: process() raised KeyError('line'); "
        "the tuple failed and is replayed in 0.2 s (attempt 2 of 5)"
    )
    assert "raise KeyError(line)" in caplog.text
    assert made.describe(error) == "bolt \"count\" task 3: process() raised KeyError('line')"


def test_an_error_of_a_batch_names_process_batch(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    made = runtime(tmp_path)
    made.build(2, 4, 0)
    made.user_error(2, 4, "timer", ValueError("x"), "")
    assert caplog.records[0].getMessage() == (
        "bolt \"store\" task 4: process_batch() raised ValueError('x'); "
        "every tuple of the batch failed and is tried again by itself"
    )


def test_a_repr_that_raises_does_not_hide_the_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class RudeError(Exception):
        def __repr__(self) -> str:
            raise RuntimeError

        __str__ = __repr__

    runtime(tmp_path).user_error(1, 2, "tick", RudeError(), "")
    assert "tick() raised RudeError (its repr raised RuntimeError)" in caplog.records[0].getMessage()


def test_an_error_that_repeats_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    log = _ErrorLog("t", clock)
    for n in range(100):
        log.tell("count", f"text {n}", "process", ValueError(n))
    log.tell("count", "other", "process", KeyError(1))
    messages = [record.getMessage() for record in caplog.records]
    assert messages == [
        "text 0",
        "text 1",
        "text 2",
        "text 3",
        "text 4 (the next ones like it are counted)",
        "other",
    ]
    caplog.clear()
    clock.advance(10)
    log.tell("count", "text 100", "process", ValueError(100))
    assert [record.getMessage() for record in caplog.records] == ["text 100 (95 more like it were not logged)"]
    caplog.clear()
    for n in range(101, 110):
        log.tell("count", f"text {n}", "process", ValueError(n))
    caplog.clear()
    log.tell_rest()
    log.tell_rest()
    assert [record.getMessage() for record in caplog.records] == ["5 more like it were not logged: text 109"]


def test_frames_of_the_engine_are_left_out_of_tracebacks(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Fails(BatchBolt):
        batch_size = 1

        def process_batch(self, tuples: Sequence[Tuple]) -> None:
            raise ValueError("mine")

    topology = Topology("t", config={"state_dir": str(tmp_path)})
    topology.spout("lines", Lines)
    topology.bolt("fails", Fails, inputs="lines")
    made = Runtime(compile_plan(topology))
    spec = made.build(1, 1, 0)
    vars(spec.instance)["_fail_with"] = lambda tup, error: None
    assert spec.process is not None
    try:
        spec.process(Tuple(["a"], ["line"]))
    except ValueError as error:
        # Without the frame of this test, as the core calls it.
        made.user_error(1, 1, "process", error.with_traceback(error.__traceback__.tb_next), "")  # type: ignore[union-attr]
    assert "batching.py" not in caplog.text
    assert 'raise ValueError("mine")' in caplog.text
