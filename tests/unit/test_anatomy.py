"""What counts as a component: the shapes in which people write one, and that each is built from its own arguments."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache, partial, partialmethod, wraps
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NamedTuple, Self, TypeVar

import pytest

from rainband import BatchBolt, Bolt, Spout, TaskContext, TopologyError, Tuple, bolt, spout
from rainband.anatomy import dissect
from rainband.plan import compile_component
from rainband.topology import Definition

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CONTEXT = TaskContext(topology="t", component="c", task_index=3)
T = TypeVar("T")


def build(kind: str, component: Any, **wiring: Any) -> Any:
    return compile_component(kind, component, **wiring).build(CONTEXT)


def codes(kind: str, component: Any) -> list[str]:
    return [problem.code for problem in dissect(Definition(kind, "x", component))[1]]


def test_a_dataclass() -> None:
    @dataclass
    class Split(Bolt):
        outputs: ClassVar = ["word"]
        separator: str
        seen: list[str] = field(default_factory=list)

        def process(self, line: str) -> None: ...

    first, second = (build("bolt", partial(Split, ",")) for _ in range(2))
    assert first.separator == ","
    assert first.seen is not second.seen
    assert codes("bolt", Split) == ["constructor_arguments"]


def test_a_generic_class() -> None:
    class Box(Bolt, Generic[T]):
        def __init__(self, value: T) -> None:
            self.value = value

        def process(self, line: str) -> None: ...

    assert build("bolt", partial(Box[int], 3)).value == 3
    assert build("bolt", partial(Box, 3)).value == 3


def test_mixins_in_front_of_the_base() -> None:
    class Counting:
        def __init__(self, **more: Any) -> None:
            super().__init__(**more)
            self.count = 0

        def flush(self) -> None: ...

    class Count(Counting, Bolt):
        def process(self, word: str) -> None: ...

    made = build("bolt", Count)
    assert made.count == 0
    anatomy, _ = dissect(Definition("bolt", "x", Count))
    assert anatomy is not None
    assert anatomy.hooks == frozenset({"process", "flush"})


def test_nested_partials_and_defaults() -> None:
    class Lines(Spout):
        outputs = ["line"]

        def __init__(self, path: str, *rest: str, encoding: str, **more: Any) -> None:
            self.given = (path, rest, encoding, more)

        def next_tuple(self) -> None: ...

    component = partial(partial(Lines, "a", "b"), encoding="utf-8", x=1)
    assert build("spout", component).given == ("a", ("b",), "utf-8", {"x": 1})


def test_a_class_that_overrides_new() -> None:
    class Single(Bolt):
        def __new__(cls, word: str) -> Self:
            made = super().__new__(cls)
            made.word = word
            return made

        word: str

        def process(self, line: str) -> None: ...

    assert build("bolt", partial(Single, "w")).word == "w"


def test_hooks_of_many_shapes() -> None:
    def logged(function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def wrapper(*args: Any, **more: Any) -> Any:
            return function(*args, **more)

        return wrapper

    class Step(Bolt):
        tick_interval_s = 1

        @logged
        def prepare(self, ctx: TaskContext) -> None: ...

        @staticmethod
        def tick() -> None: ...

        @classmethod
        def flush(cls) -> None: ...

        def finish(self, extra: int = 0, *more: Any, key: int = 1) -> None: ...

        def _close(self, how: str) -> None: ...

        close = partialmethod(_close, "softly")

        @logged
        def process(self, line: str) -> None: ...

    assert codes("bolt", Step) == []
    assert isinstance(build("bolt", Step), Step)


def test_process_may_be_any_callable_with_a_signature() -> None:
    class Callable_(NamedTuple):  # noqa: N801
        factor: int

        def __call__(self, n: int) -> int:
            return n * self.factor

    class Step(Bolt):
        process = Callable_(3)  # type: ignore[assignment]

    class Cached(Bolt):
        @staticmethod
        @cache
        def process(n: int) -> None: ...

    for cls in (Step, Cached):
        plan = compile_component("bolt", cls)
        assert plan.parameters is not None
        assert [p.name for p in plan.parameters.named] == ["n"]


def test_functions_with_arguments_of_their_own() -> None:
    @bolt(outputs=["word"])
    def split(line: str, separator: str = " ") -> Iterator[str]:
        yield from line.split(separator)

    @spout(outputs=["n"])
    def count(stop: int, *, step: int = 1) -> Iterator[int]:
        yield from range(0, stop, step)

    assert list(build("bolt", partial(split, separator=",")).process("a,b")) == ["a", "b"]
    assert codes("spout", count) == ["constructor_arguments"]
    assert codes("spout", partial(count, 3, step=2)) == []
    twice: dict[str, Any] = {"stop": 2}
    assert codes("spout", partial(count, 3, **twice)) == ["constructor_arguments"]


@pytest.mark.parametrize("component", [None, "a", 3, object(), int, Tuple, [Bolt], Spout | Bolt])
def test_what_is_no_component(component: Any) -> None:
    assert codes("bolt", component) == ["not_a_component"]


def test_the_bases_themselves() -> None:
    assert codes("spout", Spout) == codes("bolt", Bolt) == codes("bolt", BatchBolt) == ["missing_work"]


def test_a_factory_is_asked_for_each_task() -> None:
    class Step(Bolt):
        def process(self, tup: Tuple) -> None: ...

    def make(kind: str = "plain") -> Step:
        return Step()

    class Maker:
        def __call__(self) -> Step:
            return Step()

    for factory in (make, Maker(), partial(make, "other")):
        plan = compile_component("bolt", factory, outputs=[])
        assert plan.build(CONTEXT) is not plan.build(CONTEXT)
    with pytest.raises(TopologyError, match="not known before it runs"):
        compile_component("bolt", make)
