"""An engine that a test plays in a worker, in a thread or in a process; what it does is said by component names.

numbers*      runs until it is drained, or until it has "emitted" 100
endless*      runs until it is drained
crash*        kills its process with SIGKILL in its first incarnation, once it is active; then as numbers
crash_open*   the same, and in the second incarnation its tasks cannot be opened
exits*        leaves its process with code 3 whenever its executor starts
raises*       fails the run with ZeroDivisionError
stuck*        does not return from its call
saves*        saves positions and dead letters through the runtime, then ends
"""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

CALLS: list[tuple[int, int, str, Any]] = []
"""What the engines of this process were told: (worker, incarnation, method, arguments)."""


class FakeEngine:
    def __init__(self, core: dict[str, Any], runtime: Any, worker: dict[str, Any]) -> None:
        self.core, self.runtime, self.options = core, runtime, worker
        self.worker, self.incarnation = worker["worker"], worker["incarnation"]
        self.guard = threading.Condition()
        self.state = "starting"
        self.is_active = self.is_draining = self.is_stopped = self.is_unlinked = False
        self.cause: BaseException | None = None
        self.done = 0
        self.view = 0
        self.has_ended = False
        self.pointers: set[int] = set()
        self.emitted = {component["name"]: 0 for component in core["components"]}
        self._executors = []
        index = task = 0
        for number, component in enumerate(core["components"]):
            for _ in range(component["parallelism"]):
                if worker["placement"][index] == self.worker:
                    self._executors.append((index, number, [task]))
                index, task = index + 1, task + 1

    def _note(self, method: str, *args: Any) -> None:
        CALLS.append((self.worker, self.incarnation, method, args))

    def own_executors(self) -> list[tuple[int, int, list[int]]]:
        return self._executors

    def run_executor(self, index: int) -> None:
        component, [task] = next((c, t) for i, c, t in self._executors if i == index)
        name = self.core["components"][component]["name"]
        if self.incarnation == 2 and any(each["name"].startswith("crash_open") for each in self.core["components"]):
            self.fail_run(FileNotFoundError("model.bin"))
        else:
            with self.guard:
                self.state = "running"
                self.guard.notify_all()
        if name.startswith("exits"):
            os._exit(3)
        with self.guard:
            self.guard.wait_for(lambda: self.is_active or self.is_stopped)
        try:
            if task not in self.options["ended"]:
                self._work(name, component, task)
                if not self.is_stopped:
                    self.runtime.ended([task])
        finally:
            with self.guard:
                self.done += 1
                self.guard.notify_all()

    def _work(self, name: str, component: int, task: int) -> None:
        if name.startswith("crash") and self.incarnation == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        if name.startswith("raises"):
            try:
                1 / 0  # noqa: B018
            except ZeroDivisionError as error:
                self.runtime.user_error(component, task, "process", error, "")
                self.fail_run(error)
            return
        if name.startswith("stuck"):
            time.sleep(3600)
        if name.startswith("saves"):
            self.runtime.positions([(component, 0, (self.incarnation, b"x"))])
            self.runtime.dead_letter({"component": name, "values": ("x",), "id": 1, "reason": "error", "attempts": 5})
            return
        limit = 10**9 if name.startswith("endless") else 100
        while self.emitted[name] < limit and not self.is_draining and not self.is_stopped:
            if self.is_active:
                self.emitted[name] += 1
            with self.guard:
                self.guard.wait(0.0005)

    def run_timer(self) -> None:
        with self.guard:
            self.guard.wait_for(lambda: self.done == len(self._executors))
            self.has_ended = True
            self.state = "failed" if self.cause else "stopped" if self.is_stopped else "ended"

    def wait(self, timeout_s: float) -> str:
        with self.guard:
            return self.state

    def _set(self, name: str, value: bool) -> None:
        with self.guard:
            setattr(self, name, value)
            self.guard.notify_all()

    def activate(self) -> None:
        self._note("activate")
        self._set("is_active", True)

    def deactivate(self) -> None:
        self._note("deactivate")
        self._set("is_active", False)

    def drain(self) -> None:
        self._note("drain")
        self._set("is_draining", True)

    def stop(self) -> None:
        self._set("is_stopped", True)

    def fail_run(self, error: BaseException) -> None:
        with self.guard:
            self.cause = self.cause or error
            self.is_stopped = True
            self.guard.notify_all()

    def error(self) -> BaseException | None:
        return self.cause

    def snapshot(self) -> dict[str, Any]:
        rows = []
        for number, component in enumerate(self.core["components"]):
            emitted = self.emitted[component["name"]]
            mine = any(c == number for _, c, _ in self._executors)
            roots = {"emitted": emitted, "acked": emitted, "pending": 0} if mine else {}
            rows.append({"name": component["name"], "kind": component["kind"], "emitted": emitted, "roots": roots})
        return {"state": self.state, "uptime_s": 1.0, "components": rows, "counters": {"lost": 0}}

    def pending(self) -> list[Any]:
        return [("numbers", 0, ("id", self.worker), 1, 0.5, False)] if self.state == "running" else []

    def run_link(self, inbound: int, libzmq: str) -> None:
        assert inbound
        assert Path(libzmq).exists()
        with self.guard:
            self.guard.wait_for(lambda: self.is_unlinked)

    def stop_link(self) -> None:
        self._set("is_unlinked", True)

    def install_view(self, view: int, members: Any, suspects: Any, reason: str) -> None:
        assert view > self.view
        self.view = view
        self._note("install_view", view, [(w, i, bool(p)) for w, i, p in members], suspects, reason)

    def replay(self, view: int, reason: str) -> None:
        self._note("replay", view, reason)

    def links_up(self) -> bool:
        return self.view > 0

    def is_ready(self) -> bool:
        return not self.has_ended and (self.state != "starting" or not self._executors)

    def released_sockets(self) -> list[int]:
        return []

    def old_roots(self) -> list[tuple[int, int, int]]:
        return []

    def look_for(self, roots: Any) -> tuple[list[int], int] | None:
        return ([], 0)

    def lose(self, roots: Any) -> None:
        self._note("lose", roots)

    def standing(self) -> tuple[bool, int, list[tuple[int, int]]]:
        return (False, 0, [])


def new_engine(core: dict[str, Any], runtime: Any, worker: Any) -> Any:
    return FakeEngine(core, runtime, worker)
