"""Log records of workers: posted, masked, logged again, kept in a file."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any

import pytest

from rainband.cluster import logbook, logs
from rainband.cluster.logbook import Logbook
from rainband.cluster.logs import Forwarder, keep_file, levels, replay
from rainband.cluster.messages import Log

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    handlers = list(logging.root.handlers)
    yield
    for handler in set(logging.root.handlers) - set(handlers):
        logging.root.removeHandler(handler)
        handler.close()
    logs._masks.clear()
    logging.getLogger("chatty").setLevel(logging.NOTSET)


def test_a_record_goes_there_and_back(caplog: pytest.LogCaptureFixture) -> None:
    posted: list[Log] = []
    Forwarder.install(posted.append, {"chatty": logging.DEBUG})
    try:
        1 / 0  # noqa: B018
    except ZeroDivisionError:
        logging.getLogger("chatty").debug("%s is %d", "it", 1, exc_info=True)
    [told] = posted
    assert (told.name, told.level, told.text, told.thread) == ("chatty", logging.DEBUG, "it is 1", "MainThread")
    assert "1 / 0" in told.traceback
    caplog.clear()
    replay(3, told)
    [record] = caplog.records
    seen: Any = record
    assert (seen.name, seen.getMessage(), seen.worker, seen.processName) == ("chatty", "it is 1", 3, "worker 3")
    assert (seen.lineno, seen.created) == (told.line, told.created)
    assert "ZeroDivisionError" in caplog.text


def test_levels_of_the_supervisor_count(caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("chatty").setLevel(logging.ERROR)
    assert levels()["chatty"] == logging.ERROR
    assert levels()[""] == logging.root.level
    replay(3, Log("chatty", logging.INFO, "x", "", 0.0, "", "", 1, ""))
    assert caplog.records == []
    replay(3, Log("root", logging.WARNING, "y", "", 0.0, "", "", 1, ""))
    assert [record.name for record in caplog.records] == ["root"]


def test_a_file_for_each_worker(tmp_path: Path) -> None:
    handler = keep_file(tmp_path, 2)
    assert not (tmp_path / "logs").exists()
    logs.hide(lambda text: text.replace("sesame", "***"))
    posted: list[Log] = []
    Forwarder.install(posted.append, {})
    logging.getLogger("chatty").error("open %s", "sesame")
    handler.flush()
    text = (tmp_path / "logs" / "worker-2.log").read_text()
    assert text.endswith(" ERROR chatty [MainThread] open ***\n")
    assert posted[0].text == "open ***"


def test_a_folder_that_cannot_be_made_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("")
    keep_file(tmp_path, 2)
    logging.getLogger("chatty").error("x")


def test_a_record_that_cannot_be_made_text_is_told_as_logging_does_it(capsys: pytest.CaptureFixture[str]) -> None:
    posted: list[Log] = []
    handler = Forwarder(posted.append)
    handler.emit(logging.LogRecord("x", logging.INFO, "f.py", 1, "%d", ("no number",), None))
    assert posted == []
    assert "--- Logging error ---" in capsys.readouterr().err


class Handler(logging.Handler):
    """Does with records what a test wants."""

    def __init__(self, handle: Callable[[logging.LogRecord], object]) -> None:
        super().__init__()
        self.emit = handle  # type: ignore[method-assign,assignment]


def test_what_is_logged_comes_in_order_before_the_book_is_closed(caplog: pytest.LogCaptureFixture) -> None:
    book = Logbook()
    book.warn("worker %d", 1)
    for n in range(500):
        book.replay(1, Log("chatty", logging.WARNING, str(n), "", 0.0, "", "", 1, ""))
    book.close(10)
    assert caplog.messages == ["worker 1", *map(str, range(500))]
    assert caplog.records[0].filename == "test_cluster_logs.py"
    Logbook().close(10)


def test_a_handler_that_does_not_return_holds_nobody(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logbook, "_MOST", 10)
    is_in, may_go = threading.Event(), threading.Event()

    def block(_: logging.LogRecord) -> None:
        is_in.set()
        may_go.wait(10)

    logging.root.addHandler(Handler(block))
    book = Logbook()
    book.warn("0")
    assert is_in.wait(10)
    for n in range(1, 15):
        book.warn("%d", n)
    book.close(0.01)
    may_go.set()
    book.close(10)
    told = "4 log records were dropped: the handlers are too slow"
    assert sorted(caplog.messages) == sorted([*map(str, range(11)), told])


def test_what_a_handler_raises_ends_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    seen: list[str] = []

    def fail(record: logging.LogRecord) -> None:
        seen.append(record.getMessage())
        raise SystemExit("full")

    logging.root.addHandler(Handler(fail))
    book = Logbook()
    book.warn("1")
    book.warn("2")
    book.close(10)
    assert seen == ["1", "2"]
    assert "SystemExit: full" in capsys.readouterr().err


def test_records_of_components_say_which_task(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    posted: list[Log] = []
    Forwarder.install(posted.append, {})
    keep_file(tmp_path, 1)
    thread = threading.Thread(target=logging.getLogger("chatty").warning, args=("seven",))
    logs.mark(thread, "t/take/2")
    thread.start()
    thread.join()
    [told] = posted
    assert told.place == "t/take/2"
    assert "WARNING chatty [t/take/2] seven" in (tmp_path / "logs" / "worker-1.log").read_text()
    caplog.clear()
    replay(1, told)
    seen: Any = caplog.records[0]
    assert (seen.getMessage(), seen.worker, seen.place) == ("seven", 1, "t/take/2")
    handlers, logging.root.handlers = logging.root.handlers, []  # nobody has set up logging
    try:
        replay(1, told)
    finally:
        logging.root.handlers = handlers
    assert capsys.readouterr().err == "worker 1 t/take/2: seven\n"
