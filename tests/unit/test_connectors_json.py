"""JSON Lines in and out: shapes, what is malformed, and what a sink does when the disk does not."""

from __future__ import annotations

import contextlib
import json
import resource
from datetime import date
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from connector_fakes import attached, context, run_spout, tuples, write

from rainband.connectors import ConnectorError, JsonLines, JsonLinesSink

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

GOOD = '{"user": "ann", "n": 1}\n\n{"user": "bob", "n": 2.5, "more": [1]}\n'


def read(path: Path, ctx: Any = None, **arguments: Any) -> Any:
    return run_spout(JsonLines(path, **arguments), ctx or context())


def test_records_and_fields(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("\ufeff" + GOOD)
    assert read(path).values() == [{"user": "ann", "n": 1}, {"user": "bob", "n": 2.5, "more": [1]}]
    assert read(path, context(outputs=["n", "user"])).values() == [(1, "ann"), (2.5, "bob")]
    assert read(path, context(outputs={"n": float})).values() == [1, 2.5]
    assert read(path, context(outputs=["who", "more"]), keys={"who": "user"}, optional="more").values() == [
        ("ann", None),
        ("bob", [1]),
    ]
    seen = read(path, context(outputs=["n"]))
    assert read(path, context(outputs=["n"], position=seen.positions[0])).values() == [2.5]


def test_one_key_called_record(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"record": 7}\n')
    assert read(path).values() == [{"record": 7}]
    assert read(path, keys={"record": "record"}).values() == [7]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "not JSON: expecting property name enclosed in double quotes at character 1"),
        ('{"n": 1} x', "not JSON: extra data at character 9"),
        ('{"n": NaN}', "not JSON: NaN is no JSON number"),
        ("[1]", "expected an object, got a list"),
        ("null", "expected an object, got null"),
        ('{"m": 1}', 'it has no key "n"'),
        ('{"n": true}', 'field "n": expected int, got True'),
        ('{"n": "1"}', "field \"n\": expected int, got '1'"),
        ('{"n": ' + "[" * 100_000, "nested too deep"),
        ('{"n": "\udcff"}', "not utf-8: invalid start byte at its byte 7"),
    ],
)
def test_malformed_lines(tmp_path: Path, line: str, reason: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"n": 1}\n' + line + '\n{"n": 3}\n', errors="surrogateescape")
    seen = read(path, context(outputs={"n": int}, subscribed=["malformed"]))
    assert seen.values() == [1, 3]
    assert [(o, r) for _, o, _, r in seen.values("malformed")] == [(9, reason)]
    with pytest.raises(ConnectorError) as caught:
        read(path, context(outputs={"n": int}))
    assert f'"{path}" line 2 (byte 9) is malformed: {reason}; the record is ' in str(caught.value)


def test_fields_that_are_not_there() -> None:
    with pytest.raises(ConnectorError, match='it has no field "x"; its fields are n'):
        JsonLines("a", optional=["x"]).open(context(outputs=["n"]))


# -- the sink ------------------------------------------------------------------------------------------------------


def test_sink_appends(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    assert not write(JsonLinesSink(path), "word n", ("zoë", 1), ("b", None)).failed
    write(JsonLinesSink(path, sync=True), "at id", (date(2024, 2, 29), UUID(int=7)))
    assert path.read_text().splitlines() == [
        '{"word": "zoë", "n": 1}',
        '{"word": "b", "n": null}',
        '{"at": "2024-02-29", "id": "00000000-0000-0000-0000-000000000007"}',
    ]


def test_what_json_cannot_say_fails_alone(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    loop: list[Any] = []
    loop.append(loop)
    seen = write(JsonLinesSink(path), "v", (1,), (b"x",), (float("nan"),), (loop,), ("\ud800",), (2,))
    assert path.read_text() == '{"v": 1}\n{"v": 2}\n'
    assert [retry for _, _, retry in seen.failed] == [False] * 4
    assert "JSON cannot say a bytes; make it text or a number before the sink" in seen.failed[0][1]


def test_several_tasks_need_several_files(tmp_path: Path) -> None:
    with pytest.raises(ConnectorError, match=r"its tasks cannot share .*; write \{task\} in the path"):
        JsonLinesSink(tmp_path / "out").prepare(context(tasks=2))
    write(JsonLinesSink(tmp_path / "out-{task}"), "v", (1,), ctx=context(tasks=2, index=1))
    assert (tmp_path / "out-1").read_text() == '{"v": 1}\n'


def test_a_torn_line_is_moved_away(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text('{"v": 1}\n{"v": 2')
    write(JsonLinesSink(path), "v", (2,))
    assert path.read_text() == '{"v": 1}\n{"v": 2}\n'
    assert (tmp_path / "out.jsonl.torn").read_text() == '{"v": 2\n'
    assert "its last line had no end; its 7 bytes are in" in caplog.text
    path.write_bytes(b"\0" * 100_000)
    with pytest.raises(ConnectorError, match="has no newline in its last 65536 bytes"):
        write(JsonLinesSink(path), "v", (2,))


def test_one_writer_a_file(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    first = JsonLinesSink(path)
    attached(first)
    with pytest.raises(ConnectorError, match=r'".*out.jsonl" is written by another sink or another run'):
        JsonLinesSink(path).prepare(context())
    first.close()
    write(JsonLinesSink(path), "v", (1,))
    assert path.read_text() == '{"v": 1}\n'


def test_log_rotation(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    sink = JsonLinesSink(path)
    attached(sink)
    sink.process_batch(tuples("v", (1,)))
    path.rename(tmp_path / "old")
    sink.process_batch(tuples("v", (2,)))
    sink.close()
    assert (path.read_text(), (tmp_path / "old").read_text()) == ('{"v": 2}\n', '{"v": 1}\n')


def test_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(ConnectorError, match=r'out" cannot be opened for writing: no such file or directory'):
        JsonLinesSink(tmp_path / "nowhere" / "out").prepare(context())
    with pytest.raises(ConnectorError, match="cannot be opened for writing: is a directory"):
        JsonLinesSink(tmp_path).prepare(context())


def test_full_device() -> None:
    with pytest.raises(ConnectorError) as caught:
        write(JsonLinesSink("/dev/full"), "v", (1,), (2,))
    assert str(caught.value) == (
        'writing 18 bytes to "/dev/full" failed: no space left on device; '
        "nothing of the batch of 2 is acked, it comes again"
    )


@contextlib.contextmanager
def small_files() -> Iterator[None]:
    """Files of 4 kB at most. No fixture: pytest writes its progress before those end, maybe into a larger file."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_batch_that_does_not_fit_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    sink = JsonLinesSink(path)
    attached(sink)
    with small_files():
        sink.process_batch(tuples("v", *[(n,) for n in range(200)]))
        whole = path.read_bytes()
        with pytest.raises(ConnectorError, match=r"out.jsonl\" failed: file too large; nothing of the batch of 300 is"):
            sink.process_batch(tuples("v", *[("x" * 10,) for _ in range(300)]))
        assert path.read_bytes() == whole
        assert path.stat().st_size < 4096
        sink.process_batch(tuples("v", ("fits",)))  # and the sink goes on when there is room
    sink.close()
    assert [json.loads(line)["v"] for line in path.read_text().splitlines()] == [*range(200), "fits"]
