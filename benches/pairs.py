"""The reference arms of workers.py: a PUSH/PULL pair of pyzmq between two processes, as a user would write it.

`records` sends one message per record, made and read by msgspec; `payloads` sends bytes objects. The receiver prints
the seconds from its first message to its last, so that the start of processes is in no time.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import msgspec
import zmq
from across import RECORD_TEXT, digest

HERE = Path(__file__).resolve()
PATIENCE_S = 120


def records_s(total):
    """Seconds for `total` records of 100 B."""
    return _run("records", total, 0, copy=True)["seconds"]


def payloads_s(total, size, *, copy):
    """Seconds for `total` payloads of `size` bytes, the first not counted."""
    return _run("payloads", total, size, copy=copy)["seconds"]


def _run(kind, total, size, *, copy):
    with tempfile.TemporaryDirectory(prefix="rainband-bench-") as folder:
        arguments = [kind, f"ipc://{folder}/pair", str(total), str(size), str(int(copy))]
        command = [sys.executable, str(HERE)]
        receiver = subprocess.Popen([*command, "receive", *arguments], stdout=subprocess.PIPE)
        receiver.stdout.readline()  # it is bound
        sender = subprocess.Popen([*command, "send", *arguments], stdin=subprocess.PIPE)
        try:
            printed, _ = receiver.communicate(timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            receiver.kill()
            raise
        finally:
            sender.stdin.close()
        if sender.wait() or receiver.returncode:
            raise RuntimeError(f"the pair of {kind} ended with {sender.returncode} and {receiver.returncode}")
        return json.loads(printed)


def receive(socket, kind, total, copy):
    if kind == "records":
        decode = msgspec.msgpack.Decoder(tuple).decode
        record = decode(socket.recv())
        start = time.perf_counter()
        for _ in range(total - 1):
            record = decode(socket.recv())
        last, text = record
        is_right = last == total and text == RECORD_TEXT
    else:
        value = socket.recv(copy=copy)
        first = digest(bytes(value))
        start = time.perf_counter()
        for _ in range(total - 1):
            value = socket.recv(copy=copy)
    seconds = time.perf_counter() - start
    if kind == "payloads":
        is_right = digest(bytes(value)) == first
    if not is_right:
        sys.exit("the last message is not what was sent")
    print(json.dumps({"seconds": seconds}))


def send(socket, kind, total, size, copy):
    if kind == "records":
        encode = msgspec.msgpack.Encoder().encode
        for n in range(1, total + 1):
            socket.send(encode((n, RECORD_TEXT)))
    else:
        payload = b"p" * size
        for _ in range(total):
            socket.send(payload, copy=copy)


def main():
    role, kind, endpoint, total, size, copy = sys.argv[1:]
    with zmq.Context() as context:
        if role == "receive":
            with context.socket(zmq.PULL) as socket:
                socket.bind(endpoint)
                print("bound", flush=True)
                receive(socket, kind, int(total), bool(int(copy)))
        else:
            with context.socket(zmq.PUSH) as socket:
                socket.connect(endpoint)
                send(socket, kind, int(total), int(size), bool(int(copy)))
                # Until the receiver has them all: when the socket was closed at once, now and then some were lost.
                sys.stdin.read()


if __name__ == "__main__":
    main()
