"""Roots, trees and acks: ENGINE section 1, on the real engine."""

from __future__ import annotations

import random
import re
import threading
from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from rig import DEADLINE_S, Collect, Identity, Notes, Numbers, in_one_process, wait_until

from rainband import Bolt, EmitError, Spout, TaskContext, Tuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from rig import Rig

CORE = Path(__file__).parents[2] / "rust" / "core" / "src"


class Roots(Spout):
    """Emits `count` roots (task, n); `on_ack` is called with each id that is acked."""

    outputs = ["root"]

    def __init__(self, count: int, on_ack: Callable[[Any], object]) -> None:
        self.count = count
        self.on_ack = on_ack
        self.n = 0

    def open(self, context: TaskContext) -> None:
        self.task = context.task_id

    def next_tuple(self) -> None:
        if self.n == self.count:
            self.end()
            return
        self.n += 1
        root = (self.task, self.n)
        self.emit(root, id=root)

    def ack(self, id: Any) -> None:  # noqa: A002
        self.on_ack(id)


class Grow(Bolt):
    """Emits 0 to 3 children per tuple, and counts per root what is in flight."""

    outputs = ["root"]

    def __init__(self, flying: dict[Any, int], guard: threading.Lock, seed: int) -> None:
        self.flying = flying
        self.guard = guard
        self.random = random.Random(seed)

    def process(self, root: Any) -> None:
        children = self.random.randrange(4)
        with self.guard:
            self.flying[root] += children
        for _ in range(children):
            self.emit(root)
        with self.guard:
            self.flying[root] -= 1


class Leaf(Bolt):
    def __init__(self, flying: dict[Any, int], guard: threading.Lock) -> None:
        self.flying = flying
        self.guard = guard

    def process(self, root: Any) -> None:
        with self.guard:
            self.flying[root] -= 1


@pytest.mark.parametrize("seed", range(4))
def test_a_root_completes_when_its_whole_tree_was_acked_and_not_before(rig: Rig, seed: int) -> None:
    """ENGINE 1.2, 1.4: trees that many tasks grow complete exactly once, none with a delivery in flight."""
    flying: dict[Any, int] = defaultdict(lambda: 1)
    guard = threading.Lock()
    acked: list[Any] = []
    early: list[Any] = []

    def on_ack(root: Any) -> None:
        acked.append(root)
        if flying[root] != 0:
            early.append(root)

    topology = rig.topology(max_pending=100, queue_capacity=64)
    topology.spout("roots", partial(Roots, 150, on_ack), parallelism=3)
    topology.bolt("grow", partial(Grow, flying, guard, seed), inputs="roots", parallelism=2)
    topology.bolt("more", partial(Grow, flying, guard, seed + 100), inputs="grow", parallelism=3)
    topology.bolt("leaf", partial(Leaf, flying, guard), inputs="more", parallelism=2)
    report = rig.run(topology)
    assert early == []
    assert len(acked) == len(set(acked)) == 450
    assert report.components["roots"].roots.acked == 450
    assert set(flying.values()) == {0}


def test_bolts_own_the_roots_that_they_emit_unanchored(rig: Rig) -> None:  # noqa: C901
    """ENGINE 1.2: what `tick`, `flush` and `finish` emit are roots of its task, replayed by it when they fail."""
    seen: list[str] = []

    class Speaks(Bolt):
        outputs = ["n"]
        tick_interval_s = 0.002

        def prepare(self, context: TaskContext) -> None:
            self.ticks = 0

        def process(self, n: int) -> None: ...

        def tick(self) -> None:
            if self.ticks < 3:
                self.ticks += 1
                self.emit(f"tick {self.ticks}")

        def flush(self) -> None:
            self.emit("flush")

        def finish(self) -> None:
            self.emit("finish")

    class FailsOnce(Bolt):
        def prepare(self, context: TaskContext) -> None:
            self.tried: set[str] = set()

        def process(self, n: str, tup: Tuple) -> None:
            if n not in self.tried:
                self.tried.add(n)
                raise ValueError(n)
            assert tup.attempt == 2
            seen.append(n)

    class Slow(Numbers):
        def next_tuple(self) -> None:
            if len([word for word in seen if word.startswith("tick")]) == 3:
                super().next_tuple()

    topology = rig.topology()
    topology.spout("numbers", partial(Slow, 1))
    topology.bolt("speaks", Speaks, inputs="numbers")
    topology.bolt("fails", FailsOnce, inputs="speaks")
    report = rig.run(topology)
    assert sorted(set(seen)) == ["finish", "flush", "tick 1", "tick 2", "tick 3"]
    roots = report.components["speaks"].roots
    assert roots.emitted == roots.acked == len(seen)
    assert roots.replays == 5


class FailsFirst(Bolt):
    """Fails first attempts."""

    def process(self, n: int, tup: Tuple) -> None:
        if tup.attempt == 1:
            raise ValueError(n)


def test_a_late_ack_of_an_earlier_attempt_changes_nothing(rig: Rig) -> None:
    """ENGINE 1.3, 1.6: acks of attempt 1 that come in attempt 2 are dropped and counted; attempt 2 completes."""
    count = 200
    notes = Notes()

    class Late(Bolt):
        """Acks the delivery of attempt 1 when that of attempt 2 has come, before that one."""

        auto_ack = False

        def prepare(self, context: TaskContext) -> None:
            self.first: dict[int, Tuple] = {}

        def process(self, n: int, tup: Tuple) -> None:
            if tup.attempt == 1:
                self.first[n] = tup
            else:
                self.ack(self.first.pop(n))
                self.ack(tup)

    topology = rig.topology()
    topology.spout("numbers", partial(Numbers, count, notes=notes))
    topology.bolt("fails", FailsFirst, inputs="numbers")
    topology.bolt("late", Late, inputs="numbers")
    report = rig.run(topology)
    roots = report.components["numbers"].roots
    assert sorted(notes.acked) == list(range(1, count + 1))
    assert (roots.acked, roots.replays, roots.dead) == (count, count, 0)
    assert report.counters["late_ack"] >= count


def test_the_second_failure_of_an_attempt_is_dropped(rig: Rig) -> None:
    """ENGINE 1.6: two branches of one tree fail; that costs one attempt and one replay."""
    notes = Notes()
    topology = rig.topology(max_attempts=2)
    topology.spout("numbers", partial(Numbers, 50, notes=notes))
    topology.bolt("left", FailsFirst, inputs="numbers")
    topology.bolt("right", FailsFirst, inputs="numbers")
    report = rig.run(topology)
    roots = report.components["numbers"].roots
    assert (roots.acked, roots.replays, roots.dead) == (50, 50, 0)
    assert len(notes.failed) == 50
    assert report.counters["late_ack"] >= 50


class Twice(Bolt):
    """Emits two tuples of one root, on two streams."""

    streams = {"a": ["n"], "b": ["n"]}

    def process(self, n: int) -> None:
        self.emit(n, stream="a")
        self.emit(n, stream="b")


class Join(Bolt):
    """Holds the first of a pair until the second comes, emits one tuple for both and acks both."""

    outputs = ["n"]
    auto_ack = False

    def __init__(self, anchors: str = "both") -> None:
        self.anchors = anchors

    def prepare(self, context: TaskContext) -> None:
        self.first: dict[Any, Tuple] = {}

    def process(self, n: Any, tup: Tuple) -> None:
        other = self.first.pop(n, None)
        if other is None:
            self.first[n] = tup
            return
        if self.anchors == "both":
            self.emit(n, anchors=[other, tup])
        else:
            self.emit(n, anchors=[tup, tup])
        self.ack(other)
        self.ack(tup)


@pytest.mark.parametrize("anchors", ["both", "twice the same"])
def test_the_child_of_a_join_keeps_its_root_pending(rig: Rig, anchors: str) -> None:
    """ENGINE 1.5: a child of two tuples of one root, or of one tuple named twice, belongs to it until it is acked."""
    notes = Notes()
    held: list[tuple[Bolt, Tuple]] = []

    class Hold(Bolt):
        auto_ack = False

        def process(self, tup: Tuple) -> None:
            held.append((self, tup))

    topology = rig.topology()
    topology.spout("numbers", partial(Numbers, 20, notes=notes))
    topology.bolt("twice", Twice, inputs="numbers")
    topology.bolt("join", partial(Join, anchors), inputs=["twice.a", "twice.b"])
    topology.bolt("hold", Hold, inputs="join")
    with rig.running(topology) as running:
        wait_until(lambda: len(held) == 20)
        wait_until(lambda: running.report().components["join"].acked == 40)
        assert notes.acked == []
        assert running.report().components["numbers"].roots.pending == 20
        for bolt, tup in held[:7]:
            bolt.ack(tup)
        wait_until(lambda: len(notes.acked) == 7)
        wait_until(lambda: running.report().components["numbers"].roots.pending == 13)
        for bolt, tup in held[7:]:
            bolt.ack(tup)
        report = rig.finish(running)
    assert report.components["numbers"].roots.acked == 20


def test_the_child_of_two_roots_fails_both(rig: Rig) -> None:
    """ENGINE 1.5: every distinct root among the anchors waits for the child and fails with it."""
    notes = Notes()

    class Pairs(Bolt):
        outputs = ["n"]
        auto_ack = False

        def prepare(self, context: TaskContext) -> None:
            self.first: Tuple | None = None

        def process(self, n: int, tup: Tuple) -> None:
            if self.first is None:
                self.first = tup
                return
            self.emit(n, anchors=[self.first, tup])
            self.ack(self.first)
            self.ack(tup)
            self.first = None

    topology = rig.topology(max_attempts=1)
    topology.spout("numbers", partial(Numbers, 10, notes=notes))
    topology.bolt("pairs", Pairs, inputs="numbers")
    topology.bolt("fails", FailsFirst, inputs="pairs")
    report = rig.run(topology)
    assert sorted(n for n, _ in notes.dead) == list(range(1, 11))
    assert report.components["fails"].failed == {"error": 5}


class Gather(Bolt):
    """Emits one tuple anchored to `size` held ones, notes what the emit raised, and acks them."""

    outputs = ["n"]
    auto_ack = False

    def __init__(self, size: int, raised: list[str]) -> None:
        self.size = size
        self.raised = raised

    def prepare(self, context: TaskContext) -> None:
        self.held: list[Tuple] = []

    def process(self, n: int, tup: Tuple) -> None:
        self.held.append(tup)
        if len(self.held) == self.size:
            try:
                self.emit(n, anchors=self.held)
            except EmitError as error:
                self.raised.append(str(error))
            for each in self.held:
                self.ack(each)
            self.held.clear()


@pytest.mark.parametrize(
    ("size", "limit", "is_refused"), [(64, 64, False), (65, 64, True), (3, 2, True), (2, 2, False)]
)
def test_a_tuple_has_so_many_roots_at_most(rig: Rig, size: int, limit: int, is_refused: bool) -> None:
    """ENGINE 1.5: `max_anchors` distinct roots are the most; the emit above it raises, and nothing is lost by that."""
    raised: list[str] = []
    seen: list[int] = []
    topology = rig.topology()
    topology.spout("numbers", partial(Numbers, size * 2))
    topology.bolt("gather", partial(Gather, size, raised), inputs="numbers", config={"max_anchors": limit})
    topology.bolt("seen", partial(Collect, seen), inputs="gather")
    report = rig.run(topology)
    assert report.components["numbers"].roots.acked == size * 2
    if is_refused:
        assert seen == []
        assert len(raised) == 2
        assert f"the anchors have {size} distinct roots, at most {limit} are allowed" in raised[0]
    else:
        assert raised == []
        assert seen == [size, size * 2]


def test_no_anchors_is_untracked_on_purpose(rig: Rig) -> None:
    """ENGINE 1.5: what is emitted with `anchors=[]` neither holds its input's root nor fails it."""
    notes = Notes()
    gate = threading.Event()

    class Lets(Bolt):
        outputs = ["n"]

        def process(self, n: int) -> None:
            self.emit(n, anchors=[])

    class Fails(Bolt):
        def process(self, n: int) -> None:
            assert gate.wait(DEADLINE_S)
            raise ValueError(n)

    topology = rig.topology()
    topology.spout("numbers", partial(Numbers, 5, notes=notes))
    topology.bolt("lets", Lets, inputs="numbers")
    topology.bolt("fails", Fails, inputs="lets")
    with rig.running(topology) as running:
        wait_until(lambda: len(notes.acked) == 5, "acks although the children wait")
        gate.set()
        report = rig.finish(running)
    assert (notes.failed, notes.dead) == ([], [])
    assert report.components["numbers"].roots.replays == 0
    assert report.components["fails"].roots.untracked_failed == 5


class Manual(Bolt):
    """Calls the test's function with itself and each tuple."""

    outputs = ["n"]
    auto_ack = False

    def __init__(self, act: Callable[[Any, Tuple], object]) -> None:
        self.act = act

    def process(self, tup: Tuple) -> None:
        self.act(self, tup)


def manual(rig: Rig, act: Callable[[Any, Tuple], object], notes: Notes, count: int = 10, **config: Any) -> Any:
    topology = rig.topology(**config)
    topology.spout("numbers", partial(Numbers, count, notes=notes))
    topology.bolt("manual", partial(Manual, act), inputs="numbers")
    topology.bolt("last", Identity, inputs="manual", outputs=["n"])
    return rig.run(topology)


def test_a_second_ack_or_fail_is_ignored_and_counted(rig: Rig) -> None:
    """ENGINE 1.7: acking twice, failing after an ack and acking after a fail change nothing and are counted."""
    notes = Notes()

    def act(bolt: Any, tup: Tuple) -> None:
        if tup["n"] % 2 or tup.attempt == 2:
            bolt.ack(tup)
            bolt.ack(tup)
            bolt.fail(tup, "too late")
        else:
            bolt.fail(tup, "not yet")
            bolt.ack(tup)
            bolt.fail(tup, "again")

    report = manual(rig, act, notes)
    assert sorted(notes.acked) == list(range(1, 11))
    assert [(failure.reason, failure.error, failure.attempt) for _, failure in notes.failed] == [
        ("failed", "not yet", 1)
    ] * 5
    assert report.components["manual"].failed == {"failed": 5}
    assert report.counters["double_ack"] == 30


@pytest.mark.parametrize("settle", ["ack", "fail"])
def test_an_emit_anchored_to_a_settled_tuple_raises(rig: Rig, settle: str) -> None:
    """ENGINE 1.7: after `ack` or `fail` nothing can be anchored to the tuple; the emit says so."""
    raised: list[str] = []

    def act(bolt: Any, tup: Tuple) -> None:
        if tup.attempt == 2:
            bolt.ack(tup)
            return
        getattr(bolt, settle)(tup)
        for anchors in (tup, [tup], None):
            try:
                bolt.emit(1, anchors=anchors)
            except EmitError as error:
                raised.append(str(error))

    report = manual(rig, act, Notes(), 5)
    assert len(raised) == 15
    assert all("an anchor was acked or failed before; emit first, then ack" in text for text in raised)
    assert report.components["last"].executed == 0
    assert report.components["numbers"].roots.acked == 5


def test_a_tuple_that_was_acked_by_itself_is_no_anchor_later(rig: Rig) -> None:
    """ENGINE 1.7: with auto ack a kept tuple is over when its `process` ends."""
    raised: list[str] = []

    class Keeps(Bolt):
        outputs = ["n"]

        def prepare(self, context: TaskContext) -> None:
            self.last: Tuple | None = None

        def process(self, tup: Tuple) -> None:
            if self.last is not None:
                try:
                    self.emit(1, anchors=[self.last, tup])
                except EmitError as error:
                    raised.append(str(error))
            self.last = tup

    topology = rig.topology()
    topology.spout("numbers", partial(Numbers, 5))
    topology.bolt("keeps", Keeps, inputs="numbers")
    rig.run(topology)
    assert len(raised) == 4
    assert "was acked when its process() ended; set auto_ack = False to hold tuples" in raised[0]


def test_acks_fails_and_resets_come_from_any_thread(rig: Rig) -> None:
    """ENGINE 1.7: `ack`, `fail` and `reset_timeout` are safe from other threads, many at a time."""
    notes = Notes()
    waiting: list[tuple[Any, Tuple]] = []
    over = threading.Event()

    def settle() -> None:
        while not over.is_set() or waiting:
            try:
                bolt, tup = waiting.pop()
            except IndexError:
                over.wait(0.001)
                continue
            bolt.reset_timeout(tup)
            if tup["n"] % 3 == 0 and tup.attempt == 1:
                bolt.fail(tup, "from afar")
            else:
                bolt.ack(tup)

    threads = [threading.Thread(target=settle) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        report = manual(rig, lambda bolt, tup: waiting.append((bolt, tup)), notes, 600)
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert sorted(notes.acked) == list(range(1, 601))
    assert notes.reasons == ["failed"] * 200
    assert report.counters["double_ack"] == 0


def test_an_emit_from_another_thread_raises(rig: Rig) -> None:
    """ENGINE 1.7: `emit` belongs to the task's own thread."""
    raised: list[str] = []

    def emit(bolt: Any, tup: Tuple) -> None:
        for arguments in ({}, {"anchors": tup}):
            try:
                bolt.emit(1, **arguments)
            except EmitError as error:
                raised.append(str(error))

    def act(bolt: Any, tup: Tuple) -> None:
        thread = threading.Thread(target=emit, args=(bolt, tup))
        thread.start()
        thread.join()
        bolt.ack(tup)

    report = manual(rig, act, Notes(), 2)
    assert len(raised) == 4
    assert all("from another thread than the task's own" in text for text in raised)
    assert report.components["last"].executed == 0


def test_a_spout_emits_on_its_own_thread_only(rig: Rig) -> None:
    """ENGINE 1.7: the same for spouts, and for `end`."""
    raised: list[str] = []

    class Strays(Spout):
        outputs = ["n"]

        def next_tuple(self) -> None:
            for call in (partial(self.emit, 1, id=1), partial(self.emit, 1), self.end):
                thread = threading.Thread(target=self.attempt, args=(call,))
                thread.start()
                thread.join()
            self.end()

        def attempt(self, call: Callable[[], None]) -> None:
            try:
                call()
            except EmitError as error:
                raised.append(str(error))

    topology = rig.topology()
    topology.spout("strays", Strays)
    topology.bolt("last", Identity, inputs="strays")
    report = rig.run(topology)
    assert len(raised) == 3
    assert all("from another thread than the task's own" in text for text in raised)
    assert report.components["strays"].roots.emitted == 0


def test_acks_after_the_run_are_ignored_and_emits_refused(rig: Rig) -> None:
    """ENGINE 1.7: a tuple that outlives its run can be acked, failed and dropped without harm."""
    held: list[tuple[Any, Tuple]] = []
    topology = rig.topology()
    topology.spout("numbers", partial(Numbers, 4))
    topology.bolt("manual", partial(Manual, lambda bolt, tup: held.append((bolt, tup))), inputs="numbers")
    topology.bolt("last", Identity, inputs="manual")
    running = topology.start()
    wait_until(lambda: len(held) == 4)
    report = running.stop(now=True)
    assert report.pending == 4
    bolt = held[0][0]
    with pytest.raises(EmitError, match="after it: the task is over, or a fresh instance took its place"):
        bolt.emit(1)
    bolt.ack(held[0][1])
    bolt.fail(held[1][1], "late")
    bolt.reset_timeout(held[2][1])
    held.clear()
    assert running._engine.snapshot()["components"][0]["roots"]["pending"] == 4


def test_a_forgotten_tuple_fails_at_once(rig: Rig) -> None:
    """ENGINE 1.7: a manual-ack tuple whose last reference goes away unacked fails as `forgotten`, not by a timeout."""
    notes = Notes()

    def act(bolt: Any, tup: Tuple) -> None:
        if tup.attempt == 2:
            bolt.ack(tup)

    report = manual(rig, act, notes, ack_timeout_s=60.0)
    assert notes.reasons == ["forgotten"] * 10
    assert sorted(notes.acked) == list(range(1, 11))
    assert report.components["manual"].failed == {"forgotten": 10}


@in_one_process("runs no topology")
def test_the_envelope_has_room_for_a_lineage_id() -> None:
    """ENGINE 1.8: the head of every envelope carries a lineage id, reserved: it takes no room until it is needed."""
    text = (CORE / "tuple.rs").read_text()
    head = re.search(r"pub struct Head \{(.*?)\n\}", text, re.DOTALL)
    assert head is not None
    assert re.search(r"pub lineage: LineageId,", head[1])
    assert re.search(r"pub struct LineageId;", text), "LineageId has a size now: test what it identifies"
