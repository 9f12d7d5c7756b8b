"""All nine groupings end to end, and the hash of keys as it is published (API "Groupings", issue item 5)."""

from __future__ import annotations

import json
import threading
from bisect import bisect
from collections import Counter, defaultdict
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum
from functools import partial
from itertools import accumulate
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
import xxhash
from rig import Notes, Numbers, in_one_process

from rainband import Bolt, KeyTypeError, Reject, Spout, Stream, TaskContext, grouping
from rainband._core import key_bytes, key_group, key_task

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rig import Rig

    from rainband.grouping import Grouping

VECTORS = Path(__file__).parents[2] / "rust" / "core" / "tests" / "key_vectors.json"


class Color(Enum):
    RED = 1


NAMES = {
    "Color": Color,
    "UTC": UTC,
    "UUID": UUID,
    "date": date,
    "datetime": datetime,
    "timedelta": timedelta,
    "timezone": timezone,
}


class Values(Spout):
    """Emits what it is given, untracked unless `tracked`."""

    outputs = ["n"]

    def __init__(self, values: Iterable[Any], *, tracked: bool = False) -> None:
        self.values = iter(values)
        self.tracked = tracked

    def next_tuple(self) -> None:
        for _ in range(100):
            try:
                value = next(self.values)
            except StopIteration:
                self.end()
                return
            if self.tracked:
                self.emit(value, id=value)
            else:
                self.emit(value)


class Sorts(Bolt):
    """Counts what each task receives, by value."""

    def __init__(self, by_task: dict[int, Counter[Any]]) -> None:
        self.by_task = by_task

    def prepare(self, context: TaskContext) -> None:
        self.mine = self.by_task[context.task_index] = Counter()

    def process(self, n: Any) -> None:
        self.mine[n] += 1


def sort(rig: Rig, values: Iterable[Any], how: Grouping, tasks: int, **config: Any) -> dict[int, Counter[Any]]:
    """What each task received."""
    by_task: dict[int, Counter[Any]] = {}
    topology = rig.topology(**config)
    topology.spout("values", partial(Values, values))
    topology.bolt("sorts", partial(Sorts, by_task), inputs={"values": how}, parallelism=2, tasks=tasks)
    report = rig.run(topology)
    assert report.components["sorts"].executed == sum(sum(mine.values()) for mine in by_task.values())
    return by_task


@pytest.mark.parametrize("how", [grouping.shuffle(), grouping.none(), grouping.local_or_shuffle()])
def test_shuffled_shares_are_even(rig: Rig, how: Grouping, launcher: str) -> None:
    """Within 1 % of even over 100,000 tuples when no queue fills, whichever word the user prefers."""
    is_split = launcher == "workers" and how == grouping.local_or_shuffle()  # two of the tasks are where the spout is
    even = 50_000 if is_split else 25_000
    by_task = sort(rig, range(100_000), how, 4, queue_capacity=2**20)
    shares = [sum(mine.values()) for mine in by_task.values() if mine]
    assert sum(shares) == 100_000
    assert all(abs(share - even) <= even // 100 for share in shares)


@in_one_process("a queue counts tuples, a link bytes")
def test_shuffle_passes_over_a_task_that_is_full(rig: Rig) -> None:
    """One task of three stands still with a full queue; the others do the rest, and the source does not wait."""
    gate = threading.Event()
    counts: Counter[int] = Counter()

    class Work(Bolt):
        def prepare(self, context: TaskContext) -> None:
            self.index = context.task_index

        def process(self, n: int) -> None:
            if self.index == 0:
                assert gate.wait(5)
            counts[self.index] += 1
            if sum(counts.values()) >= 900:
                gate.set()

    topology = rig.topology(queue_capacity=16)
    topology.spout("numbers", partial(Numbers, 1000))
    topology.bolt("work", Work, inputs="numbers", parallelism=3)
    report = rig.run(topology)
    assert report.components["numbers"].roots.acked == 1000
    assert counts[0] <= 150


def test_fields_sends_equal_keys_to_the_published_task(rig: Rig) -> None:
    """Each key goes to one task, the one that `_core.key_task` names, from every emitting task and in every run."""
    words = [f"word {n % 300}" for n in range(3000)]
    for _ in range(2):
        by_task = sort(rig, words, grouping.fields("n"), 5)
        for index, mine in by_task.items():
            assert all(key_task((word,), 5) == index for word in mine)
        assert sum(by_task.values(), Counter()) == Counter(words)


@in_one_process("its values cannot travel")
def test_fields_of_several_names_in_their_order(rig: Rig) -> None:
    """The key is the values of the named fields in the order of the names, whatever else the tuple carries."""
    by_task: dict[int, list[tuple[Any, ...]]] = defaultdict(list)

    class Rows(Spout):
        outputs = ["a", "b", "c"]

        def next_tuple(self) -> None:
            for n in range(500):
                self.emit(n % 7, object(), f"c{n % 11}")
            self.end()

    class Keeps(Bolt):
        def prepare(self, context: TaskContext) -> None:
            self.mine = by_task[context.task_index]

        def process(self, a: int, c: str) -> None:
            self.mine.append((c, a))

    topology = rig.topology()
    topology.spout("rows", Rows)
    topology.bolt("keeps", Keeps, inputs={"rows": grouping.fields("c", "a")}, parallelism=3)
    rig.run(topology)
    assert sum(map(len, by_task.values())) == 500
    for index, keys in by_task.items():
        assert {key_task(key, 3) for key in keys} <= {index}


def zipf(count: int, words: int, seed: int = 7) -> list[int]:
    """`count` draws of 0 … words-1, the k-th with a share of 1/(k+1)."""
    totals = list(accumulate(1 / (k + 1) for k in range(words)))
    random = Random(seed)
    return [bisect(totals, random.random() * totals[-1]) for _ in range(count)]


def test_fields_under_zipf_is_as_skewed_as_computed(rig: Rig) -> None:
    """The shares of the tasks are those of their keys, exactly."""
    keys = zipf(20_000, 1000)
    by_task = sort(rig, keys, grouping.fields("n"), 4)
    expected = Counter(key_task((key,), 4) for key in keys)
    assert {index: sum(mine.values()) for index, mine in by_task.items()} == dict(expected)


def test_partial_key_under_zipf_is_nearly_even(rig: Rig) -> None:
    """Two tasks a key at most, and the load is even although the first key alone has more than an eighth of all."""
    keys = zipf(40_000, 1000)
    tasks = 8
    by_task = sort(rig, keys, grouping.partial_key("n"), tasks, queue_capacity=2**20)
    homes = defaultdict(set)
    for index, mine in by_task.items():
        for key in mine:
            homes[key].add(index)
    assert max(map(len, homes.values())) == 2
    loads = [sum(mine.values()) for mine in by_task.values()]
    even = len(keys) / tasks
    by_fields = Counter(key_task((key,), tasks) for key in keys)
    assert max(by_fields.values()) > 1.3 * even
    # The two candidates of the most frequent key bear at least half of it each; beyond that two choices even out.
    top = Counter(keys).most_common(1)[0][1]
    assert max(loads) <= max(1.02 * even, top / 2 * 1.02 + 0.01 * even)


def test_all_reaches_every_task(rig: Rig) -> None:
    """Every task receives every tuple once; the root waits for all of them."""
    notes = Notes()
    by_task: dict[int, Counter[Any]] = {}
    topology = rig.topology()
    topology.spout("numbers", partial(Numbers, 100, notes=notes))
    topology.bolt("sorts", partial(Sorts, by_task), inputs={"numbers": grouping.all()}, parallelism=2, tasks=5)
    report = rig.run(topology)
    assert all(mine == Counter(range(1, 101)) for mine in by_task.values())
    assert len(by_task) == 5
    assert len(notes.acked) == 100
    assert report.components["numbers"].delivered == 500


def test_global_reaches_the_lowest_task(rig: Rig) -> None:
    """Everything goes to the task with the lowest id."""
    by_task = sort(rig, range(100), grouping.global_(), 4)
    assert sum(by_task[0].values()) == 100
    assert [sum(by_task[index].values()) for index in (1, 2, 3)] == [0, 0, 0]


class Directs(Spout):
    """Sends each number to the task that it names."""

    streams = {"to": Stream(["n"], direct=True)}

    def __init__(self, raised: list[str]) -> None:
        self.raised = raised

    def open(self, context: TaskContext) -> None:
        self.tasks = list(context.tasks_of("sorts"))
        self.other = context.task_id

    def next_tuple(self) -> None:
        for n in range(30):
            self.emit(n, stream="to", id=n, task=self.tasks[n % 3])
        for wrong in ({"task": self.other}, {"task": 99}, {}):
            try:
                self.emit(0, stream="to", **wrong)
            except Exception as error:  # noqa: BLE001
                self.raised.append(f"{type(error).__name__}: {error}")
        self.end()


def test_direct_reaches_the_named_task_also_in_a_replay(rig: Rig) -> None:
    """The emitter chooses; a replay goes to the same task; a task that is none of the subscriber's is refused."""
    by_task: dict[int, list[tuple[int, int]]] = defaultdict(list)
    raised: list[str] = []

    class FailsOnce(Bolt):
        def prepare(self, context: TaskContext) -> None:
            self.mine = by_task[context.task_index]

        def process(self, n: int, tup: Any) -> None:
            self.mine.append((n, tup.attempt))
            if tup.attempt == 1:
                raise ValueError(n)

    topology = rig.topology()
    topology.spout("directs", partial(Directs, raised))
    topology.bolt("sorts", FailsOnce, inputs={"directs.to": grouping.direct()}, parallelism=3)
    report = rig.run(topology)
    for index in range(3):
        assert sorted(by_task[index]) == [(n, attempt) for n in range(30) if n % 3 == index for attempt in (1, 2)]
    assert report.components["directs"].roots.acked == 30
    assert "task 0 has no direct subscription to this stream" in raised[0]
    assert "task 99 has no direct subscription to this stream" in raised[1]
    assert "the stream is direct: say emit(…, task=…)" in raised[2]


class ByRest:
    """Chooses n mod 3 tasks: none, one or two of them."""

    def __init__(self) -> None:
        self.prepared: list[tuple[str, int, list[int], int]] = []
        self.chose_on: set[int] = set()
        self.tasks: Sequence[int] = ()

    def prepare(self, context: TaskContext, tasks: Sequence[int]) -> None:
        self.prepared.append((context.component, context.task_id, list(tasks), threading.get_ident()))
        self.tasks = tasks

    def choose(self, values: tuple[Any, ...]) -> Sequence[int]:
        self.chose_on.add(threading.get_ident())
        return self.tasks[: values[0] % 3]


def test_custom_chooses_any_number_of_tasks(rig: Rig) -> None:
    """`prepare` once per emitting task on its thread, before the first `choose`; no choice is counted."""
    chooser = ByRest()
    by_task: dict[int, Counter[Any]] = {}
    topology = rig.topology()
    topology.spout("values", partial(Values, range(90), tracked=True), parallelism=2)
    topology.bolt("sorts", partial(Sorts, by_task), inputs={"values": grouping.custom(chooser)}, parallelism=3)
    report = rig.run(topology)
    assert sorted(row[:3] for row in chooser.prepared) == [("values", 0, [2, 3, 4]), ("values", 1, [2, 3, 4])]
    assert {thread for *_, thread in chooser.prepared} == chooser.chose_on
    assert [sum(by_task[index].values()) for index in (0, 1, 2)] == [120, 60, 0]
    assert report.components["values"].roots.acked == 180
    assert report.counters["no_target"] == 60


def test_a_custom_grouping_that_goes_wrong_fails_the_emit(rig: Rig) -> None:
    """A task that is not the subscriber's, an exception, nonsense: raises at the emit and fails the input."""
    notes = Notes()

    class Wrong:
        def prepare(self, context: TaskContext, tasks: Sequence[int]) -> None: ...

        def choose(self, values: tuple[Any, ...]) -> Any:
            return {1: [0], 2: 7, 3: ["x"]}.get(values[0]) or values[1]

    class Passes(Bolt):
        outputs = ["n"]

        def process(self, n: int) -> None:
            self.emit(n)

    topology = rig.topology(max_attempts=1)
    topology.spout("numbers", partial(Numbers, 4, notes=notes))
    topology.bolt("passes", Passes, inputs="numbers")
    topology.bolt("sorts", partial(Sorts, {}), inputs={"passes": grouping.custom(Wrong())}, parallelism=2)
    rig.run(topology)
    errors = {n: failure.error for n, failure in notes.dead}
    assert 'the custom grouping of "sorts" chose task 0; its tasks are 2 to 3' in errors[1]
    assert "TypeError" in errors[2]
    assert "TypeError" in errors[3]
    assert "IndexError" in errors[4]


def test_a_custom_grouping_that_goes_wrong_in_a_replay_costs_an_attempt(rig: Rig) -> None:
    """The replay is an attempt that failed; the next one may succeed, and nothing is lost in between."""
    notes = Notes()
    calls: Counter[int] = Counter()

    class Moody:
        def prepare(self, context: TaskContext, tasks: Sequence[int]) -> None:
            self.tasks = tasks

        def choose(self, values: tuple[Any, ...]) -> Sequence[int]:
            calls[values[0]] += 1
            if calls[values[0]] in (2, 3):
                raise LookupError("not now")
            return self.tasks

    class FailsOnce(Bolt):
        def process(self, n: int, tup: Any) -> None:
            if tup.attempt == 1:
                raise ValueError(n)

    topology = rig.topology()
    topology.spout("numbers", partial(Numbers, 5, notes=notes))
    topology.bolt("fails", FailsOnce, inputs={"numbers": grouping.custom(Moody())}, parallelism=2)
    report = rig.run(topology)
    assert sorted(notes.acked) == [1, 2, 3, 4, 5]
    assert report.components["numbers"].roots.replays == 15
    assert [failure.error for n, failure in notes.failed if n == 1][1:] == ["LookupError('not now')"] * 2


@pytest.mark.parametrize("value", [float("nan"), Decimal(1), [1], {}, object(), 1j, {1}, ("a", [1]), (float("nan"),)])
def test_what_is_no_key_is_refused_at_emit(rig: Rig, value: Any) -> None:
    """NaN, Decimal and all types that are not listed raise, naming the component, the stream and the field."""
    raised: list[str] = []

    class Emits(Spout):
        outputs = ["n", "key"]

        def next_tuple(self) -> None:
            try:
                self.emit(1, value, id=1)
            except KeyTypeError as error:
                raised.append(str(error))
            self.end()

    class Takes(Bolt):
        def process(self, n: int) -> None:
            raise Reject("nothing should come")

    for how in (grouping.fields("key"), grouping.partial_key("n", "key")):
        topology = rig.topology()
        topology.spout("emits", Emits)
        topology.bolt("takes", Takes, inputs={"emits": how}, parallelism=2)
        report = rig.run(topology)
        assert report.components["emits"].roots.emitted == 0
    assert len(raised) == 2
    assert all('emit() of "emits" task 0 on stream "default": field "key" is a key' in text for text in raised)


def vectors() -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(VECTORS.read_text(encoding="utf-8"))
    return rows


@in_one_process("runs no topology")
@pytest.mark.parametrize("row", vectors(), ids=lambda row: str(row["key"])[:40])
def test_keys_are_as_published(row: dict[str, Any]) -> None:
    """Bytes, XXH3-64 of another implementation, group and tasks of every test vector."""
    key = eval(row["key"], dict(NAMES))
    encoded = key_bytes((key,))
    assert encoded.hex() == row["bytes"]
    assert xxhash.xxh3_64_hexdigest(encoded) == row["hash"]
    group = xxhash.xxh3_64_intdigest(encoded) % 4096
    assert group == key_group((key,)) == row["group"]
    for n, task in row["tasks"].items():
        assert key_task((key,), int(n)) == task == group * int(n) // 4096


@in_one_process("runs no topology")
def test_every_type_of_key_has_a_vector() -> None:
    """The published vectors leave no listed type out."""
    kinds = {type(eval(row["key"], dict(NAMES))) for row in vectors()}
    assert kinds >= {type(None), bool, int, float, str, bytes, date, datetime, timedelta, UUID, Color, tuple}


@in_one_process("runs no topology")
@pytest.mark.parametrize(
    "keys",
    [
        (True, 1, 1.0),
        (False, 0, 0.0, -0.0),
        (2**70, float(2**70)),
        (
            datetime(2024, 1, 1, 12, tzinfo=UTC),
            datetime(2024, 1, 1, 14, tzinfo=timezone(timedelta(hours=2))),
            datetime(2024, 1, 1, 6, 30, tzinfo=timezone(-timedelta(hours=5, minutes=30))),
        ),
        (("a", (1, None)), ("a", (True, None))),
        (timedelta(hours=24), timedelta(days=1)),
    ],
)
def test_equal_keys_are_alike(keys: tuple[Any, ...]) -> None:
    """What compares equal has the same bytes, alone and within a tuple."""
    assert len(set(keys)) == 1
    assert len({key_bytes((key,)) for key in keys}) == 1
    assert len({key_bytes((("in a tuple", key),)) for key in keys}) == 1


@in_one_process("runs no topology")
def test_different_keys_are_told_apart() -> None:
    """No two keys that differ share their bytes, whatever their types and however values meet in a tuple."""
    keys: list[Any] = [None, 0, 1, -1, 2**64, 0.5, "", "0", "a", b"", b"a", date(2024, 1, 1), datetime(2024, 1, 1)]
    keys += [datetime(2024, 1, 1, tzinfo=UTC), timedelta(1), UUID(int=1), Color.RED, (), ("a",), (("a",),), ("a", "")]
    encoded = [key_bytes((key,)) for key in keys]
    assert len(set(encoded)) == len(keys)
    assert key_bytes(("ab", "c")) != key_bytes(("a", "bc"))
    assert key_bytes((("a", "b"), "c")) != key_bytes(("a", ("b", "c")))
    assert key_bytes(("a", "b")) != key_bytes((("a", "b"),))


@in_one_process("runs no topology")
@pytest.mark.parametrize(("values", "place"), [((Decimal(1),), 0), ((1, float("nan")), 1), (("a", "b", [1]), 2)])
def test_key_functions_name_the_place_of_what_is_none(values: tuple[Any, ...], place: int) -> None:
    """`KeyTypeError`, which is a TypeError too, says which value is no key."""
    for call in (key_bytes, key_group, partial(key_task, n=3)):
        with pytest.raises(KeyTypeError, match=rf"\b{place}\b") as caught:
            call(values)
        assert isinstance(caught.value, TypeError)


class Word(str):
    """A subclass is the type it derives from, as far as equality goes."""

    __slots__ = ()


@in_one_process("runs no topology")
def test_subclasses_of_key_types_are_their_base() -> None:
    """A `str` of another name is equal to a plain one, so it must go to the same task."""
    assert key_bytes((Word("a"),)) == key_bytes(("a",))
