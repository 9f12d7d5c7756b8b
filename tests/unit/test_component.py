"""The bases that users derive from: the engine's methods, which hooks count as overridden, what a task knows."""

from __future__ import annotations

from typing import Any

import pytest

from rainband import (
    DEAD_LETTER,
    DROP,
    BatchBolt,
    Bolt,
    EmitError,
    Failure,
    Spout,
    Stream,
    TaskContext,
    Tuple,
    _core,
    retry,
)
from rainband.component import BOLT_HOOKS, ENGINE_METHODS, SPOUT_HOOKS, overrides


@pytest.mark.parametrize(
    ("cls", "base"), [(Spout, _core.SpoutBase), (Bolt, _core.BoltBase), (BatchBolt, _core.BoltBase)]
)
def test_engine_methods_are_found_in_the_core_at_once(cls: type, base: type) -> None:
    """A Python method in between would cost every emit a call."""
    for name in ENGINE_METHODS["spout" if cls is Spout else "bolt"]:
        owner = next(c for c in cls.__mro__ if name in vars(c))
        assert owner is base


def test_init_need_not_call_super() -> None:
    class Step(Bolt):
        def __init__(self, a: int, *, b: int) -> None:
            self.sum = a + b

    assert Step(1, b=2).sum == 3


@pytest.mark.parametrize("call", ["emit", "end"])
def test_spout_calls_before_open(call: str) -> None:
    with pytest.raises(EmitError, match=rf"^{call}\(\) before open\(\)"):
        getattr(Spout(), call)()


@pytest.mark.parametrize("call", ["emit", "ack", "fail", "reset_timeout"])
def test_bolt_calls_before_prepare(call: str) -> None:
    arguments = {"emit": (), "fail": (Tuple((), ()), "why")}.get(call, (Tuple((), ()),))
    with pytest.raises(EmitError, match=rf"^{call}\(\) before prepare\(\)"):
        getattr(Bolt(), call)(*arguments)


def test_default_hooks() -> None:
    class Source(Spout):
        def __init__(self) -> None:
            self.acked: list[Any] = []

        def ack(self, root: Any) -> None:
            self.acked.append(root)

    source = Source()
    context = TaskContext(topology="t", component="s")
    failure = Failure(reason="error")
    assert source.fail(1, failure) is None
    source.dead(1, failure)
    assert source.acked == [1]
    source.open(context)
    source.next_tuple()
    source.activate()
    source.deactivate()
    source.close()
    Spout().ack(1)


def test_default_hooks_of_bolts() -> None:
    bolt = BatchBolt()
    bolt.prepare(TaskContext(topology="t", component="b"))
    for hook in ("tick", "flush", "finish", "close"):
        assert getattr(bolt, hook)() is None
    with pytest.raises(NotImplementedError, match=r"BatchBolt does not define process\(\)"):
        bolt.process(1)
    with pytest.raises(NotImplementedError, match=r"BatchBolt does not define process_batch\(\)"):
        bolt.process_batch([])


@pytest.mark.parametrize(("base", "hooks"), [(Spout, SPOUT_HOOKS), (Bolt, BOLT_HOOKS), (BatchBolt, ("process_batch",))])
def test_overrides(base: Any, hooks: tuple[str, ...]) -> None:
    for hook in hooks:
        assert not overrides(base, hook)
        assert not overrides(base(), hook)
        derived = type("Derived", (base,), {hook: lambda self, *args: None})
        assert overrides(type("More", (derived,), {}), hook)
        assert overrides(derived(), hook)
        instance = base()
        setattr(instance, hook, print)
        assert overrides(instance, hook)


def test_verdicts() -> None:
    assert (DEAD_LETTER.kind, DROP.kind, retry().kind) == ("dead_letter", "drop", "retry")
    assert retry().after_s is None
    assert retry(0).after_s == 0
    for bad in (-1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=r"retry\(after_s=…\) takes a number of seconds of at least 0, got"):
            retry(after_s=bad)


def test_stream() -> None:
    assert Stream(["a"]) == Stream(["a"], direct=False, pickle=False)
    with pytest.raises(TypeError):
        Stream(["a"], True)  # type: ignore[call-arg]


def test_context() -> None:
    context = TaskContext(topology="t", component="c", tasks={"c": range(1, 3)})
    assert context.logger.name == "rainband.t.c"
    counter = context.counter("misses")
    counter.add()
    counter.add(4)
    assert context.counter("misses") is counter
    assert repr(counter) == "Counter('misses', 5)"
    assert list(context.tasks_of("c")) == [1, 2]
    with pytest.raises(KeyError, match='topology "t" has no component "d"; it has "c"'):
        context.tasks_of("d")
    with pytest.raises(AttributeError):
        context.task_id = 3  # type: ignore[misc]
