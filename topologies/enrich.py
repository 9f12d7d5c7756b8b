"""Enrichment by an `async` bolt that asks an HTTP server: the components of enrich.yaml, and a server to ask.

    rainband run topologies/enrich.yaml                                       its own server, on loopback
    rainband run topologies/enrich.yaml --param url=http://127.0.0.1:8080     yours: GET /users/7 gives {"city": "…"}

    purchases ──▶ enrich (async, 16 requests at a time) ──▶ summary

The server here refuses some requests the first time, hangs up on others and is slow with a few. A request that fails
fails its tuple, and the engine tries again; a user that does not exist is rejected, to the dead letters.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

from rainband import Bolt, Reject, TaskContext, spout

if TYPE_CHECKING:
    from collections.abc import Iterator

CITIES = ["Oslo", "Lima", "Pune", "Kyiv", "Nara"]
TIMEOUT_S = 5.0


@spout(outputs={"purchase": int, "user": int, "cents": int})
def purchases(count: int = 500) -> Iterator[tuple[int, int, int]]:
    """Purchases of 100 users; deterministic."""
    rng = random.Random(1)
    for purchase in range(count):
        yield purchase, rng.randrange(100), rng.randrange(100, 10_000)


class Enrich(Bolt):
    outputs = {"purchase": int, "city": str, "cents": int}
    concurrency = 16

    def __init__(self, url: str = "") -> None:
        self.url = url
        self.server: DemoServer | None = None

    async def prepare(self, context: TaskContext) -> None:
        if not self.url:
            self.server = DemoServer().__enter__()
            self.url = self.server.url
        self.client = Client(self.url)

    async def process(self, purchase: int, user: int, cents: int) -> None:
        status, body = await self.client.get(f"/users/{user}")
        if status == 404:
            raise Reject(f"no such user: {user}")
        if status != 200:
            raise ConnectionError(f"user {user}: the server answered {status}")
        self.emit(purchase, json.loads(body)["city"], cents)

    async def close(self) -> None:
        if hasattr(self, "client"):
            await self.client.close()
        if self.server is not None:
            self.server.__exit__()


class Summary(Bolt):
    """Prints the sum of each city."""

    def prepare(self, context: TaskContext) -> None:
        self.cents: dict[str, int] = {}
        self.seen = 0

    def process(self, city: str, cents: int) -> None:
        self.cents[city] = self.cents.get(city, 0) + cents
        self.seen += 1

    def finish(self) -> None:
        for city, cents in sorted(self.cents.items()):
            print(f"{city:<8} {cents / 100:>12,.2f}")
        print(f"{self.seen:,} purchases")


class Client:
    """As much of an HTTP/1.1 client as the example needs: GET, with connections kept for the next request."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.host, self.port = parts.hostname or "127.0.0.1", parts.port or 80
        self.idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def get(self, path: str) -> tuple[int, bytes]:
        """Status and body. Raises OSError, EOFError or TimeoutError when there is no whole answer."""
        async with asyncio.timeout(TIMEOUT_S):
            reader, writer = self.idle.pop() if self.idle else await asyncio.open_connection(self.host, self.port)
            try:
                writer.write(f"GET {path} HTTP/1.1\r\nHost: {self.host}\r\n\r\n".encode())
                await writer.drain()
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                status = int(head[0].split(" ")[1])
                headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
                body = await reader.readexactly(int(headers.get("content-length", "0")))
            except BaseException:
                writer.close()  # whatever is left of the answer must not be read as the next one
                raise
        if headers.get("connection") == "close":
            writer.close()
        else:
            self.idle.append((reader, writer))
        return status, body

    async def close(self) -> None:
        for _, writer in self.idle:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        self.idle.clear()


class DemoServer:
    """Answers `/users/N` on a free port of loopback, from a thread of its own, and is not always well.

    Attributes:
        url: where it listens.
        requests: how many it got.
        refused: how many of them it did not answer with 200.
    """

    def __init__(self, users: int = 100) -> None:
        self.users = users
        self.requests = self.refused = 0
        self.seen: set[int] = set()

    def __enter__(self) -> Self:
        ready: Future[str] = Future()
        self.thread = threading.Thread(target=lambda: asyncio.run(self.run(ready)), name="demo server", daemon=True)
        self.thread.start()
        self.url = ready.result(TIMEOUT_S)
        return self

    def __exit__(self, *_: object) -> None:
        self.loop.call_soon_threadsafe(self.stopping.set)
        self.thread.join(TIMEOUT_S)

    async def run(self, ready: Future[str]) -> None:
        self.loop, self.stopping = asyncio.get_running_loop(), asyncio.Event()
        try:
            server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        except OSError as error:
            ready.set_exception(error)
            return
        ready.set_result(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        await self.stopping.wait()
        server.close()  # asyncio.run cancels those who still talk

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                self.requests += 1
                status, body = await self.answer(int(head.split(b" ")[1].rpartition(b"/")[2]))
                self.refused += status != 200
                if not status:
                    break
                text = json.dumps(body).encode()
                writer.write(f"HTTP/1.1 {status} -\r\nContent-Length: {len(text)}\r\n\r\n".encode() + text)
                await writer.drain()
        except (OSError, EOFError):
            pass  # the client is gone
        finally:
            writer.close()

    async def answer(self, user: int) -> tuple[int, dict[str, str]]:
        is_first = user not in self.seen
        self.seen.add(user)
        if user >= self.users:
            return 404, {"error": "no such user"}
        if is_first and user % 7 == 3:
            return 503, {"error": "busy"}
        if is_first and user % 11 == 5:
            return 0, {}  # hangs up
        if user % 13 == 0:
            await asyncio.sleep(0.01)
        return 200, {"city": CITIES[user % len(CITIES)]}
