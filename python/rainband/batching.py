"""Batches: how a `BatchBolt` collects tuples, runs them, and settles each one.

Stage 5 of a tuple's path, in place of the plain call of `process`. The core hands every tuple to `Batch.add` as a
manual-ack `Tuple`, calls `Batch.timer` after each slice of work and when the deadline passes that it returned, and
the task's `flush` when no fresh input will come. All of it on the task's own thread.

Guarantees: a batch has 1 to `batch_size` tuples and is run at the latest `batch_interval_s` after its first one came;
all are acked when `process_batch` returns, apart from those the user failed or acked inside; when it raises, all
fail, and each comes back alone, so that one bad tuple costs its neighbours one attempt and not all of them.

    batch_size 3:  add(a1) add(b1) add(c1) -> process_batch([a, b, c]) raises -> a, b, c fail
                   add(a2) -> process_batch([a]) returns -> a acked;  add(b2) -> process_batch([b]) raises -> b fails, …

Any tuple of a second or later attempt runs alone. It may have failed elsewhere; then it costs one call more, which is
cheaper than remembering every tuple of every failed batch.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any

from .errors import Reject
from .exact import safe_repr

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ._core import Tuple
    from .component import BatchBolt
    from .runtime import TaskSpec

__all__ = ["Batch", "install"]


def install(spec: TaskSpec, bolt: BatchBolt, config: Any, clock: Callable[[], float] = time.monotonic) -> Batch:
    """Make `spec` run its tuples in batches; returns the batch for those who want to look."""
    batch = Batch(bolt, config["batch_size"], config["batch_interval_s"], clock)
    spec.mode = "batch"
    spec.auto_ack = False
    spec.process = batch.add
    spec.timer = batch.timer
    spec.cancel = batch.drop
    spec.flush = partial(batch.flush, spec.flush)
    return batch


class Batch:
    """The tuples that one task of a `BatchBolt` holds.

    Example:
        >>> from rainband import BatchBolt, Tuple
        >>> class Show(BatchBolt):
        ...     def process_batch(self, tuples):
        ...         print([tup["n"] for tup in tuples])
        >>> class Sink:
        ...     def ack(self, tup):
        ...         print("ack", tup["n"])
        >>> bolt = Show()
        >>> bolt._attach(Sink())
        >>> batch = Batch(bolt, 2, 1.0)
        >>> for n in range(3):
        ...     batch.add(Tuple([n], ["n"]))
        [0, 1]
        ack 0
        ack 1
        >>> len(batch)
        1
    """

    def __init__(
        self, bolt: BatchBolt, size: int, interval_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._bolt = bolt
        self._size = size
        self._interval_s = interval_s
        self._clock = clock
        self._waiting: list[Tuple] = []
        self._deadline: float | None = None
        self._settled: set[int] = set()  # id() of the tuples of the running batch that the user settled himself
        # What the user calls inside process_batch must be known here, or it would be acked a second time.
        self._ack, self._fail = bolt.ack, bolt.fail
        vars(bolt).update(ack=self._ack_of_user, fail=self._fail_of_user)

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, tup: Tuple) -> None:
        """Take one tuple; runs the batch when it is full. Raises what `process_batch` raised.

        The caller then fails `tup` itself, as it does when a plain `process` raises; the others of the batch have
        failed.
        """
        if tup.attempt > 1:
            self._run([tup], tup)
            return
        if not self._waiting:
            self._deadline = self._clock() + self._interval_s
        self._waiting.append(tup)
        if len(self._waiting) >= self._size:
            self.run(tup)

    def timer(self) -> float | None:
        """Run the batch if its time has come; the seconds until then otherwise, None if nothing waits."""
        if self._deadline is None:
            return None
        left_s = self._deadline - self._clock()
        if left_s > 0:
            return left_s
        self.run()
        return None

    def run(self, in_hand: Tuple | None = None) -> None:
        """Run what waits now, if anything does; `in_hand` is the tuple that the caller fails if this raises."""
        waiting, self._waiting, self._deadline = self._waiting, [], None
        if waiting:
            self._run(waiting, in_hand)

    def flush(self, hook: Callable[[], object] | None) -> object:
        """No fresh input will come: run what waits, then the user's own `flush`."""
        self.run()
        return None if hook is None else hook()

    def drop(self, tup: Tuple) -> None:
        """Forget a tuple that timed out while it waited; the core has failed it."""
        self._waiting = [waiting for waiting in self._waiting if waiting is not tup]
        if not self._waiting:
            self._deadline = None

    def _run(self, tuples: Sequence[Tuple], in_hand: Tuple | None) -> None:
        self._settled.clear()
        try:
            # The user gets a list of his own: he may sort or empty it.
            _refuse(self._bolt.process_batch(list(tuples)))
        except Reject as error:
            if len(tuples) == 1:
                self._fail_all(tuples, in_hand, error)
                raise
            # One of several is no good; which one shows when they come back alone.
            for tup in self._unsettled(tuples):
                self._fail(tup, f"{error.reason} (in a batch)")
        except BaseException as error:
            self._fail_all(tuples, in_hand, error)
            raise
        else:
            for tup in self._unsettled(tuples):
                self._ack(tup)

    def _fail_all(self, tuples: Sequence[Tuple], in_hand: Tuple | None, error: BaseException) -> None:
        for tup in self._unsettled(tuples):
            if tup is not in_hand:
                fail_with(self._bolt, self._fail, tup, error)

    def _unsettled(self, tuples: Sequence[Tuple]) -> list[Tuple]:
        return [tup for tup in tuples if id(tup) not in self._settled]

    def _ack_of_user(self, tup: Tuple) -> None:
        self._settled.add(id(tup))
        self._ack(tup)

    def _fail_of_user(self, tup: Tuple, reason: str = "error", retry: bool = True) -> None:
        self._settled.add(id(tup))
        self._fail(tup, reason, retry)


def _refuse(returned: object) -> None:
    if returned is not None:
        raise TypeError(f"process_batch() returned {type(returned).__name__}; what it returns is not emitted: emit it")


def fail_with(bolt: Any, fail: Callable[..., None], tup: Tuple, error: BaseException) -> None:
    """Fail a tuple as if `process` had raised `error` with it in hand, without logging.

    The core's `_fail_with` keeps the exception's text for `Failure.error`; a test harness has only `fail`.
    """
    fail_so = getattr(bolt, "_fail_with", None)
    if fail_so is not None and fail_so(tup, error) is not False:
        return
    if isinstance(error, Reject):
        fail(tup, error.reason, retry=False)
    else:
        fail(tup, safe_repr(error))
