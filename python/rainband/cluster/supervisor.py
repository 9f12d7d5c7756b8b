"""The engine of a run with several workers: starts them, keeps them together, keeps their state, adds up their numbers.

To `run.Run` it is an engine like the core's (`run.EngineLike`), with no executors and a timer thread that is the
*control thread*: the only one that touches the control channel, the membership (`views`) and the fields without a lock.
What other threads say (`drain`, `stop`, a launcher's events, the keeper's answers) waits in a queue and rings.

What a worker is told, and when, is in `worker`; who belongs to the run, and when somebody is restarted, in `views`;
what becomes of a death, here: its slots are read, the view is raised, the successor is launched, and the report of the
dead goes into the account.

The run is over when every worker has said `Over` (they are told to finish, and leave), or when it was stopped or has
failed and everybody is gone; who does not go in time is killed.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections import Counter, deque
from typing import TYPE_CHECKING, Any, Final

from rainband.errors import RunError
from rainband.standstill import Standstill, standstill_text

from . import messages as msg
from .audit import Audit
from .deaths import Death, examine
from .failures import another_topology, worker_error
from .merge import Account, read_pending
from .silence import Silence, limit_s
from .views import Activate, GiveUp, Launch, Membership, SendReplay, SendView

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rainband.plan import CompiledPlan

    from .headquarters import Headquarters
    from .keeper import Keeper
    from .launcher import Event
    from .merge import Pending
    from .views import Action

__all__ = ["Supervisor"]

_NAP_S: Final = 1.0  # whatever happens rings
_FINISH_GRACE_S: Final = 10.0  # for workers that were told to finish
_STOP_GRACE_S: Final = 5.0  # for the calls in progress to return after a stop
_PENDING_S: Final = 1.0  # for their answer to what is pending
_OVER: Final = frozenset({"ended", "failed", "stopped"})


class Supervisor:
    """Runs a plan on workers.

    Args:
        plan: what runs.
        place: where everything is: the control channel, the launcher, how incarnations are assigned.
        placement: worker of each executor.
        keeper: writes the state.
    """

    def __init__(self, plan: CompiledPlan, place: Headquarters, placement: list[int], keeper: Keeper) -> None:
        self._plan = plan
        self._place = place
        self._placement = placement
        self._keeper = keeper
        self._run_id = secrets.token_hex(16)
        self._members = Membership(sorted(set(placement)), restart_limit=plan.config["worker_restart_limit"])
        self._account = Account(plan)
        self._audit = Audit(plan.config["audit_s"])
        self._standstill = Standstill()
        self._began = time.monotonic()
        self._changed = threading.Condition()  # of the fields below
        self._state = "starting"
        self._error: BaseException | None = None
        self._answers: dict[int, list[Pending]] = {}  # request → what workers told is pending
        self._jobs: deque[Callable[[], object]] = deque()
        # The control thread's:
        self._launches: list[Launch] = []
        self._alive: dict[int, int] = {}  # worker → incarnation that was started and is not gone
        self._silence = Silence(limit_s(plan))
        self._active: set[int] = set()
        self._over: set[int] = set()
        self._ended_tasks: set[int] = set()
        self._charged: Counter[tuple[int, int]] = (
            Counter()
        )  # (owner of a root, hash of its id) → deaths it was in hand at
        self._why: dict[tuple[int, int], str] = {}  # incarnation → how it comes to be dead soon
        self._deaths: list[Death] = []
        self._is_paused = False
        self._is_draining = False
        self._leaves_as: str | None = None  # the state at the end, once the end has begun
        self._kill_at: float | None = None
        self._last_request = 0

    # -- what `Run` calls, from any thread -------------------------------------------------------------------------

    def executors(self) -> list[tuple[int, list[int]]]:
        """None: all run in workers."""
        return []

    def run_executor(self, index: int) -> None:
        """Never called, as there are none."""
        raise NotImplementedError(index)

    def wait(self, timeout_s: float) -> str:
        """Wait for the end of the run or the time; the state."""
        with self._changed:
            self._changed.wait_for(lambda: self._state in _OVER, timeout_s)
            return self._state

    def activate(self) -> None:
        """Let spouts emit again."""
        self._do(lambda: self._pause(is_paused=False))

    def deactivate(self) -> None:
        """Pause the spouts of all workers."""
        self._do(lambda: self._pause(is_paused=True))

    def drain(self) -> None:
        """End the spouts of all workers."""
        self._do(self._drain)

    def stop(self) -> None:
        """Stop all workers; each returns after the calls in progress."""
        self._do(lambda: self._end("stopped"))

    def kill(self) -> None:
        """Kill what is left of the workers."""
        self._do(self._kill)

    def fail_run(self, error: BaseException) -> None:
        """End the run because of an error."""
        with self._changed:
            self._error = self._error or error
        self._do(lambda: self._end("failed"))

    def error(self) -> BaseException | None:
        """Why the run failed; None if it did not."""
        with self._changed:
            return self._error

    def snapshot(self) -> dict[str, Any]:
        """The counters of all workers, a quarter of a second old at most."""
        with self._changed:
            return self._account.snapshot(self._state, time.monotonic() - self._began)

    def user_counters(self) -> dict[str, dict[str, int]]:
        """What users counted in all workers."""
        with self._changed:
            return self._account.counters()

    def notes(self) -> list[str]:
        """What the reader of a report should know of workers that died."""
        with self._changed:
            gone = self._account.gone()
            return [death.note(gone.get((death.worker, death.incarnation), {})) for death in self._deaths]

    def pending(self) -> list[Pending]:
        """The roots that are not resolved, as the workers tell within a second."""
        asked: list[int] = []
        with self._changed:
            if self._state not in _OVER:
                self._do(lambda: self._ask_pending(asked))
                self._changed.wait_for(
                    lambda: (bool(asked) and all(n in self._answers for n in asked[1:])) or self._state in _OVER,
                    _PENDING_S,
                )
            told = [row for request in asked[1:] for row in self._answers.pop(request, [])]
            return told or self._account.pending()

    def _do(self, job: Callable[[], object]) -> None:
        self._jobs.append(job)
        self._place.ring()

    # -- the control thread ----------------------------------------------------------------------------------------

    def run_timer(self) -> None:
        """The body of the control thread; returns when no worker is left."""
        try:
            self._keeper.start()
            self._perform(self._members.begin(time.monotonic()))
            while not self._is_gone():
                self._turn(self._nap_s())
        finally:
            self._keeper.close(_FINISH_GRACE_S)
            self._place.close()
            if self._leaves_as is None:  # a defect; `Run` is told by what comes out of here
                self._leaves_as = "failed"
            self._set_state(self._leaves_as)

    def _turn(self, timeout_s: float) -> None:
        for worker, incarnation, message in self._place.poll(timeout_s):
            self._hear(worker, incarnation, message)
        while self._jobs:
            self._jobs.popleft()()
        self._look_at_time(time.monotonic())

    def _nap_s(self) -> float:
        now = time.monotonic()
        due = [launch.at for launch in self._launches]
        if self._kill_at is not None:
            due.append(self._kill_at)
        return max(0.0, min([_NAP_S, *(at - now for at in due)]))

    def _is_gone(self) -> bool:
        return self._leaves_as is not None and not self._alive

    def _look_at_time(self, now: float) -> None:
        due = [launch for launch in self._launches if launch.at <= now]
        for launch in due:
            self._launches.remove(launch)
            self._launch(launch)
        if self._kill_at is not None and now >= self._kill_at:
            self._kill()
        for worker, for_s, is_frozen in self._silence.look(now):
            if is_frozen:
                self._why[worker, self._alive[worker]] = f"told nothing for {for_s:.0f} s, and was killed"
                self._place.kill(worker, self._alive[worker])
            elif worker not in self._over:
                text = "worker %d has told nothing for %.0f s; is it importing, or stopped?"
                self._place.warn(text, worker, for_s)
        if self._leaves_as is None and self._active == set(self._placement):
            self._send_all(self._audit.begin(now, self._active))
            holders = self._standstill.look(now)
            if holders and not self._is_draining:
                self._place.warn("%s", standstill_text(self._plan, holders))

    def _launch(self, launch: Launch) -> None:
        if self._leaves_as is not None:
            return
        worker, incarnation = launch.worker, launch.incarnation
        self._alive[worker] = incarnation
        try:
            self._place.launch(worker, incarnation, self._tell_event)
        except OSError as error:
            del self._alive[worker]
            self._replace(Death(worker, incarnation, f"could not be started: {error}", ()))

    def _tell_event(self, event: Event) -> None:
        self._do(lambda: self._take_event(event))

    # -- what workers say ------------------------------------------------------------------------------------------

    def _hear(self, worker: int, incarnation: int, message: msg.Message) -> None:
        if isinstance(message, msg.State | msg.Over):
            with self._changed:
                pending = read_pending(message.pending) if isinstance(message, msg.Over) else ()
                self._account.note((worker, incarnation), message.snapshot, message.counters, pending)
        if isinstance(message, msg.Log):
            self._place.log(worker, message)
        if self._alive.get(worker) != incarnation:
            return  # the last words of one that is dead
        self._silence.hear(worker, time.monotonic())
        if isinstance(message, msg.PendingRows):
            with self._changed:
                self._answers[message.request] = read_pending(message.rows)
                self._changed.notify_all()
        elif isinstance(message, msg.TasksEnded | msg.DeadLetter | msg.Positions):
            self._keep(worker, incarnation, message)
        elif isinstance(message, msg.Over):
            self._hear_over(worker, incarnation, message)
        elif self._leaves_as is None:
            self._hear_member(worker, incarnation, message)

    def _hear_member(self, worker: int, incarnation: int, message: msg.Message) -> None:
        members = self._members
        if isinstance(message, msg.Planned):
            self._compare(worker, incarnation, message)
        elif isinstance(message, msg.LoadFailed):
            self._hear_load_failed(worker, incarnation, message)
        elif isinstance(message, msg.Bound):
            self._perform(members.bound(worker, incarnation, message.endpoint, message.key))
        elif isinstance(message, msg.Installed):
            self._perform(members.installed(worker, incarnation, message.view))
        elif isinstance(message, msg.State):
            if message.old is not None:
                self._audit.note(worker, message.old)
            self._standstill.note(worker, (message.standing[0], message.standing[1], message.standing[2]))
        elif isinstance(message, msg.Looked):
            self._send_all(self._audit.hear(worker, message))
        elif isinstance(message, msg.Ready):
            self._silence.ready(worker)
            self._perform(members.ready(worker, incarnation, message.view, time.monotonic()))

    def _hear_load_failed(self, worker: int, incarnation: int, message: msg.LoadFailed) -> None:
        if self._members.has_begun:
            self._why[worker, incarnation] = (
                f"could not begin: loading the topology raised {message.kind}: {message.text}"
            )
            return
        text = message.text if message.is_invalid else f"loading it raised {message.kind}: {message.text}"
        self._fail(worker_error(worker, [message.kind, text, message.traceback]))

    def _compare(self, worker: int, incarnation: int, planned: msg.Planned) -> None:
        if planned.plan_hash != self._plan.plan_hash:
            self._fail(another_topology(worker, self._plan, planned.components))
            return

        def start(rows: list[Any], error: str | None) -> None:
            self._do(lambda: self._start(worker, incarnation, rows, error))

        self._keeper.read_positions(start)

    def _start(self, worker: int, incarnation: int, positions: list[Any], error: str | None) -> None:
        if error is not None:
            self._fail(RunError(error))
        elif self._alive.get(worker) == incarnation and self._leaves_as is None:
            ended = sorted(self._ended_tasks)
            charged = [[task, identity, n] for (task, identity), n in self._charged.items()]
            start = self._place.start(
                worker,
                incarnation,
                self._placement,
                self._run_id,
                positions=positions,
                ended=ended,
                charged=charged,
            )
            self._place.send(worker, incarnation, start)

    def _keep(self, worker: int, incarnation: int, message: msg.TasksEnded | msg.DeadLetter | msg.Positions) -> None:
        def answer(error: str | None) -> None:
            self._do(lambda: self._place.send(worker, incarnation, msg.Reply(message.request, error)))

        if isinstance(message, msg.TasksEnded):
            self._ended_tasks.update(message.tasks)
            answer(None)
        elif isinstance(message, msg.DeadLetter):
            self._keeper.append_letter(message.line, answer)
        else:
            self._keeper.save_positions(message.rows, answer)

    def _hear_over(self, worker: int, incarnation: int, message: msg.Over) -> None:
        is_replacement = self._members.has_begun and not self._members.is_ready(worker)
        if message.error is not None and is_replacement and self._leaves_as is None:
            # What raises when a task is built for the first time fails the run; later it may pass (ENGINE 6.2).
            self._why[worker, incarnation] = f"could not begin: {message.error[1]}"
            self._send(worker, msg.Finish())
            return
        self._over.add(worker)
        if message.error is not None:
            self._fail(worker_error(worker, message.error))
        elif message.state != "ended" and self._leaves_as is None:
            self._fail(RunError(f"worker {worker} stopped without being told to"))
        self._silence.forget(worker)
        if self._leaves_as is not None:
            self._send(worker, msg.Finish())
        elif self._over == set(self._placement):
            self._leave("ended", _FINISH_GRACE_S)
            for each in self._over:
                self._send(each, msg.Finish())

    # -- deaths ----------------------------------------------------------------------------------------------------

    def _take_event(self, event: Event) -> None:
        worker, incarnation = event.worker, event.incarnation
        if event.kind == "suspected":
            self._place.warn("worker %d may be dead: %s", worker, event.text or "it does not answer")
            return
        for each in self._place.poll(0.0):  # its last words, before it counts as dead
            self._hear(*each)
        if self._alive.get(worker) != incarnation:
            return
        del self._alive[worker]
        self._silence.forget(worker)
        self._active.discard(worker)
        self._audit.forget(worker)
        self._standstill.forget(worker)
        self._place.dismiss(worker, incarnation)
        if self._leaves_as is not None:
            return
        self._over.discard(worker)
        slots = self._place.slots(worker, incarnation)
        if slots is not None:
            # What a spout of the dead worker had emitted comes again with its successor, which knows it by the id.
            self._charged.update({(row[2], row[5]) for row in slots["suspects"] if row[5]})
        death = examine(self._plan, event, slots, self._why.pop((worker, incarnation), ""))
        with self._changed:
            self._account.bury((worker, incarnation), () if slots is None else slots["counts"])
            self._deaths.append(death)
        self._replace(death)

    def _replace(self, death: Death) -> None:
        members, worker, now = self._members, death.worker, time.monotonic()
        was_ready = members.is_ready(worker)
        actions = members.died(worker, death.incarnation, death.reason, death.suspects, now)
        launch = next((action for action in actions if isinstance(action, Launch)), None)
        self._place.warn("%s", death.told(launch, now, members.restarts(worker), was_ready=was_ready))
        self._perform(actions)

    def _perform(self, actions: Sequence[Action]) -> None:
        for action in actions:
            if isinstance(action, Launch):
                self._launches.append(action)
            elif isinstance(action, SendView):
                members = [[m.worker, m.incarnation, m.endpoint, m.key] for m in action.members]
                suspects = [list(suspect) for suspect in action.suspects]
                for worker in action.to:
                    self._send(worker, msg.View(action.view, members, suspects, action.reason))
            elif isinstance(action, SendReplay):
                for worker in action.to:
                    self._send(worker, msg.Replay(action.view, action.reason))
            elif isinstance(action, Activate):
                self._begin_spouts(action.workers)
            elif isinstance(action, GiveUp):
                self._fail(RunError(action.reason))

    def _begin_spouts(self, workers: Sequence[int]) -> None:
        self._active |= set(workers)
        with self._changed:
            if self._state == "starting":
                self._state = "draining" if self._is_draining else "running"
        for worker in workers:
            if not self._is_paused:
                self._send(worker, msg.Activated())
            if self._is_draining:
                self._send(worker, msg.Drain())

    # -- what `Run` said -------------------------------------------------------------------------------------------

    def _pause(self, *, is_paused: bool) -> None:
        self._is_paused = is_paused
        for worker in self._active:
            self._send(worker, msg.Deactivated() if is_paused else msg.Activated())

    def _drain(self) -> None:
        if self._is_draining or self._leaves_as is not None:
            return
        self._is_draining = True
        with self._changed:
            if self._state == "running":
                self._state = "draining"
        for worker in self._active:
            self._send(worker, msg.Drain())

    def _ask_pending(self, asked: list[int]) -> None:
        requests = [0]  # so that nobody to ask is told from not yet asked
        for worker in self._alive:
            self._last_request += 1
            if self._send(worker, msg.AskPending(self._last_request)):
                requests.append(self._last_request)
        with self._changed:
            asked.extend(requests)
            self._changed.notify_all()

    def _fail(self, error: BaseException) -> None:
        with self._changed:
            self._error = self._error or error
        self._end("failed")

    def _end(self, state: str) -> None:
        """Stop everybody; what has ended already only leaves."""
        if self._leaves_as is not None:
            return
        self._leave(state, _STOP_GRACE_S)
        for worker, incarnation in list(self._alive.items()):
            if worker in self._over:
                self._send(worker, msg.Finish())
            elif not self._send(worker, msg.Stop()):
                self._place.kill(worker, incarnation)  # it has not even come to say hello

    def _leave(self, state: str, grace_s: float) -> None:
        self._leaves_as = state
        self._launches.clear()
        self._kill_at = time.monotonic() + grace_s
        with self._changed:
            self._state = "stopping"

    def _kill(self) -> None:
        self._kill_at = None
        self._leaves_as = self._leaves_as or "stopped"
        self._launches.clear()
        for worker, incarnation in self._alive.items():
            self._place.kill(worker, incarnation)

    def _send(self, worker: int, message: msg.Message) -> bool:
        incarnation = self._alive.get(worker)
        return incarnation is not None and self._place.send(worker, incarnation, message)

    def _send_all(self, messages: Sequence[tuple[int, msg.Message]]) -> None:
        for worker, message in messages:
            self._send(worker, message)

    def _set_state(self, state: str) -> None:
        with self._changed:
            self._state = state
            self._changed.notify_all()
