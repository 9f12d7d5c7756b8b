"""The control channel between two ends in one process: messages, requests, rings, ends."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
import zmq

from rainband.cluster.control import Client, Doorbell, Server
from rainband.cluster.keys import Doorkeeper, Keys
from rainband.cluster.messages import DeadLetter, Hello, Installed, Log, Message, Reply, Stop
from rainband.errors import StateError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

DEADLINE_S = 10.0


class Ends:
    def __init__(self, folder: Path) -> None:
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.server = Server(self.context, f"ipc://{folder}/control", lambda _: None)
        self.client = Client(self.context, self.server.endpoint, (3, 2), lambda _: None)

    def heard(self) -> list[tuple[int, int, Message]]:
        """What comes to the supervisor, waiting for the first."""
        return until(lambda: (self.client.poll(0.0), self.server.poll(0.05))[1])

    def told(self) -> list[Message]:
        return until(lambda: self.client.poll(0.05))


def until(look: Callable[[], list[Any]]) -> list[Any]:
    give_up = time.monotonic() + DEADLINE_S
    while not (found := look()):
        assert time.monotonic() < give_up
    return found


@pytest.fixture
def ends(tmp_path: Path) -> Iterator[Ends]:
    made = Ends(tmp_path)
    yield made
    made.client.close()
    made.server.close()
    made.context.term()


def test_messages_go_both_ways_in_order(ends: Ends) -> None:
    for n in range(3):
        ends.client.post(Installed(n))
    found: list[Any] = []
    while len(found) < 3:
        found += ends.heard()
    assert found == [(3, 2, Installed(0)), (3, 2, Installed(1)), (3, 2, Installed(2))]
    assert ends.server.send(3, 2, Stop())
    assert ends.told() == [Stop()]


def test_who_is_not_there_cannot_be_told(ends: Ends) -> None:
    assert not ends.server.send(3, 9, Stop())


def test_a_request_waits_for_its_reply(ends: Ends) -> None:
    results: list[str] = []

    def ask(line: str) -> None:
        try:
            ends.client.request(lambda request: DeadLetter(request, line))
            results.append("done")
        except StateError as error:
            results.append(str(error))

    threads = [threading.Thread(target=ask, args=(line,)) for line in ("good", "bad")]
    for thread in threads:
        thread.start()
    asked: list[Any] = []
    while len(asked) < 2:
        asked += ends.heard()
    assert results == []
    for _, _, message in asked:
        ends.server.send(3, 2, Reply(message.request, "disk full" if message.line == "bad" else None))
    give_up = time.monotonic() + DEADLINE_S
    while any(thread.is_alive() for thread in threads):
        assert ends.client.poll(0.01) == []
        assert time.monotonic() < give_up
    assert sorted(results) == ["disk full", "done"]


def test_who_waits_when_the_channel_closes_gets_an_error(ends: Ends) -> None:
    errors: list[BaseException] = []

    def ask() -> None:
        try:
            ends.client.request(lambda request: DeadLetter(request, "x"))
        except StateError as error:
            errors.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    ends.heard()
    ends.client.close()
    thread.join(DEADLINE_S)
    assert "the worker is leaving" in str(errors[0])
    ask()
    assert len(errors) == 2
    ends.client.post(Hello(1))
    ends.client.wake()


def test_log_records_are_dropped_before_memory_is(ends: Ends) -> None:
    for n in range(1500):
        ends.client.post(Log("x", logging.INFO, str(n), "", 0.0, "", "", 1, ""))
    assert len(ends.client._waiting) == 1000
    assert ends.client.is_behind
    seen: list[Any] = []
    while len(seen) < 1000:
        seen += ends.heard()
    assert [message.text for _, _, message in seen] == [str(n) for n in range(1000)]


def test_rubbish_is_logged_and_left_out(ends: Ends, caplog: pytest.LogCaptureFixture) -> None:
    ends.client._socket.send(b"rubbish")
    ends.client._socket.send_multipart([b"", b'["Hello",1]'])
    assert ends.heard() == [(3, 2, Hello(1))]
    assert "a message on the control channel cannot be read: not JSON: b'rubbish'" in caplog.text


def test_a_ring_ends_a_wait(ends: Ends) -> None:
    ends.server.ring()
    ends.client.wake()
    began = time.monotonic()
    assert ends.server.poll(DEADLINE_S) == []
    assert ends.client.poll(DEADLINE_S) == []
    assert time.monotonic() - began < DEADLINE_S / 2


def test_a_closed_bell_is_silent() -> None:
    bell = Doorbell()
    bell.clear()
    bell.ring()
    bell.close()
    bell.ring()
    bell.close()


def test_a_place_that_is_taken_is_an_error(tmp_path: Path) -> None:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    with pytest.raises(zmq.ZMQError):
        Server(context, "ipc:///nowhere/at/all", lambda _: None)
    with pytest.raises(zmq.ZMQError):
        Client(context, "nonsense", (0, 1), lambda _: None)
    context.term()


def test_with_keys_only_those_on_the_list_get_in() -> None:
    """ENGINE and DESIGN 7: a CURVE server without an allow-list would accept any key."""
    contexts: list[zmq.Context[zmq.Socket[bytes]]] = [zmq.Context(), zmq.Context()]
    supervisor, friend, stranger = Keys.fresh(), Keys.fresh(), Keys.fresh()
    door = Doorkeeper(contexts[0])
    server = Server(contexts[0], "tcp://127.0.0.1:*", supervisor.guard, door)
    door.allow([friend.public])
    clients = {
        1: Client(contexts[1], server.endpoint, (1, 1), lambda s: stranger.enter(s, supervisor.public)),
        2: Client(contexts[1], server.endpoint, (2, 1), lambda _: None),  # no keys at all
        3: Client(contexts[1], server.endpoint, (3, 1), lambda s: friend.enter(s, supervisor.public)),
    }
    for worker, client in clients.items():
        client.post(Hello(worker))

    def look() -> list[Any]:
        for client in clients.values():
            client.poll(0.0)
        return server.poll(0.05)

    assert until(look) == [(3, 1, Hello(3))]
    for _ in range(10):
        assert look() == []
    for client in clients.values():
        client._socket.setsockopt(zmq.LINGER, 0)
        client.close()
    server.close()
    door.close()
    for context in contexts:
        context.term()


def test_who_comes_before_its_key_is_known_gets_in_later() -> None:
    """Workers hear of a view one after the other, so the first connects to peers that do not know it yet."""
    contexts: list[zmq.Context[zmq.Socket[bytes]]] = [zmq.Context(), zmq.Context()]
    supervisor, friend = Keys.fresh(), Keys.fresh()
    door = Doorkeeper(contexts[0])
    server = Server(contexts[0], "tcp://127.0.0.1:*", supervisor.guard, door)
    client = Client(contexts[1], server.endpoint, (3, 1), lambda s: friend.enter(s, supervisor.public))
    client.post(Hello(3))

    def look() -> list[Any]:
        client.poll(0.0)
        return server.poll(0.05)

    for _ in range(10):
        assert look() == []
    door.allow([friend.public])
    assert until(look) == [(3, 1, Hello(3))]
    client.close()
    server.close()
    door.close()
    for context in contexts:
        context.term()


def test_without_a_doorkeeper_nobody_gets_in() -> None:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    supervisor, friend = Keys.fresh(), Keys.fresh()
    server = Server(context, "tcp://127.0.0.1:*", supervisor.guard)
    client = Client(context, server.endpoint, (3, 1), lambda s: friend.enter(s, supervisor.public))
    client.post(Hello(3))
    for _ in range(10):
        client.poll(0.0)
        assert server.poll(0.05) == []
    client._socket.setsockopt(zmq.LINGER, 0)
    client.close()
    server.close()
    context.term()


def test_secrets_do_not_show() -> None:
    assert "secret" not in repr(Keys.fresh())
