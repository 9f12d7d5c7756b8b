"""CSV in and out: headers, quoting over several lines, types, positions, and rows that are no good."""

from __future__ import annotations

import csv
import gzip
import random
from datetime import date
from typing import TYPE_CHECKING, Any

import pytest
from connector_fakes import attached, context, run_spout, tuples, write

from rainband.connectors import ConnectorError, CsvRows, CsvSink

if TYPE_CHECKING:
    from pathlib import Path


def read(path: Path, ctx: Any = None, **arguments: Any) -> Any:
    return run_spout(CsvRows(path, **arguments), ctx or context())


@pytest.fixture
def sales(tmp_path: Path) -> Path:
    path = tmp_path / "sales.csv"
    path.write_bytes(b'\xef\xbb\xbfuser,amount,"Time Stamp"\r\nann,1.5,2024-02-29\r\n\r\n"b,\nob",2,2024-03-01\r\n')
    return path


def test_rows_and_columns(sales: Path) -> None:
    assert read(sales).values() == [
        {"user": "ann", "amount": "1.5", "Time Stamp": "2024-02-29"},
        {"user": "b,\nob", "amount": "2", "Time Stamp": "2024-03-01"},
    ]
    assert read(sales, context(outputs=["amount", "user"])).values() == [("1.5", "ann"), ("2", "b,\nob")]
    outputs = {"amount": float, "at": date}
    assert read(sales, context(outputs=outputs), columns={"at": "Time Stamp"}).values() == [
        (1.5, date(2024, 2, 29)),
        (2.0, date(2024, 3, 1)),
    ]


def test_without_a_header(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text("1\tx\n2\ty\n")
    outputs = {"n": int, "name": str}
    assert read(path, context(outputs=outputs), header=False, delimiter="\t").values() == [(1, "x"), (2, "y")]
    assert read(path, context(outputs=["row"]), header=False, delimiter="|").values() == ["1\tx", "2\ty"]


def test_empty_text_as_none(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("n,s\n,\n1,x\n")
    outputs = {"n": int, "s": str}
    assert read(path, context(outputs=outputs), empty_as_none=True).values() == [(None, None), (1, "x")]
    with pytest.raises(ConnectorError, match=r"line 2 .* field \"n\": expected int, got ''"):
        read(path, context(outputs=outputs))


def test_an_empty_file_and_a_lonely_header(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("")
    (tmp_path / "b.csv").write_text("n\n")
    (tmp_path / "c.csv").write_text("n\n1")
    assert read(tmp_path, context(outputs=["n"])).values() == ["1"]


@pytest.mark.parametrize("is_packed", [False, True])
def test_every_position_goes_on_exactly_behind_it(tmp_path: Path, is_packed: bool) -> None:
    rng = random.Random(3)
    cells = ["", "a", 'say "hi"', "two\nlines", "crlf\r\nhere", "é,;", "\n\n"]
    rows = [[str(n), rng.choice(cells), rng.choice(cells)] for n in range(200)]
    path = tmp_path / "a.csv"
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator=rng.choice(["\n", "\r\n"]))
        writer.writerow(["n", "x", "y"])
        writer.writerows(rows)
    if is_packed:
        path.write_bytes(gzip.compress(path.read_bytes()))
    expected = [tuple(row) for row in rows]
    whole = read(path, context(outputs=["n", "x", "y"]))
    assert whole.values() == expected
    for n in range(0, 200, 11):
        again = read(path, context(outputs=["n", "x", "y"], position=whole.positions[n]))
        assert again.values() == expected[n + 1 :]
        assert again.positions == whole.positions[n + 1 :]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (b"1", "1 columns, expected 2"),
        (b"1,2,3", "3 columns, expected 2"),
        (b'1,"a"b', "',' expected after '\"'"),
        (b"x,y", "field \"n\": expected int, got 'x'"),
        (b"1,\xff", "not utf-8: invalid start byte at its byte 2"),
    ],
)
def test_malformed_rows(tmp_path: Path, row: bytes, reason: str) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"n,s\n1,a\n" + row + b"\n3,c\n")
    outputs = {"n": int, "s": str}
    seen = read(path, context(outputs=outputs, subscribed=["malformed"]))
    assert seen.values() == [(1, "a"), (3, "c")]
    assert [(o, r) for _, o, _, r in seen.values("malformed")] == [(8, reason)]
    with pytest.raises(ConnectorError) as caught:
        read(path, context(outputs=outputs))
    assert f'"{path}" line 3 (byte 8) is malformed: {reason}; the record is ' in str(caught.value)
    ctx = context(outputs=outputs)
    assert read(path, ctx, malformed="skip").values() == [(1, "a"), (3, "c")]
    assert ctx.counter("malformed").value == 1


def test_a_quote_that_is_never_closed(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('n\n1\n"2\n3\n')
    with pytest.raises(ConnectorError, match=r"line 3 .* is malformed: unexpected end of data"):
        read(path)


def test_headers_that_do_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(ConnectorError, match=r'a.csv" has no column "c"; it has a, b'):
        read(path, context(outputs=["c"]))
    with pytest.raises(ConnectorError, match='it has no field "x"; its fields are a'):
        read(path, context(outputs=["a"]), columns={"x": "a"})
    path.write_text("a,a\n1,2\n")
    with pytest.raises(ConnectorError, match='has two columns "a"; rename one'):
        read(path, context(outputs=["a"]))
    path.write_bytes(b"\xff,a\n1,2\n")
    with pytest.raises(ConnectorError, match="its header cannot be read: not utf-8"):
        read(path, context(outputs=["a"]))
    with pytest.raises(TypeError, match="delimiter"):
        CsvRows(path, delimiter="::")


# -- the sink ------------------------------------------------------------------------------------------------------


def test_what_the_sink_writes_the_source_reads(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    rows = [("a", 1), ('say "hi"\n', -2), ("é,;", 0)]
    write(CsvSink(path), "word n", *rows[:2])
    write(CsvSink(path), "word n", *rows[2:])
    assert path.read_text().startswith("word,n\na,1\n")
    assert read(path, context(outputs={"word": str, "n": int})).values() == rows


def test_columns(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    sink = CsvSink(path, columns=["n", "word"])
    seen = attached(sink)
    sink.process_batch([*tuples("word n more", ("a", 1, 2)), *tuples("n word", (2, None)), *tuples("n", (3,))])
    sink.close()
    assert path.read_text() == "n,word\n1,a\n2,\n"
    assert len(seen.failed) == 1
    assert 'it has no field "word"; the columns are n, word' in seen.failed[0][1]


def test_without_header_and_delimiter(tmp_path: Path) -> None:
    path = tmp_path / "out.tsv"
    write(CsvSink(path, header=False, delimiter="\t"), "a b", (1, "x y"), (2, "\t"))
    assert path.read_text() == '1\tx y\n2\t"\t"\n'


def test_another_header_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    path.write_text("b,a\n1,2\n")
    with pytest.raises(ConnectorError, match="begins with 'b,a', expected the header 'a,b'; move the file away"):
        write(CsvSink(path), "a b", (1, 2))
    assert path.read_text() == "b,a\n1,2\n"


def test_header_again_after_rotation(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    sink = CsvSink(path)
    attached(sink)
    sink.process_batch(tuples("v", (1,)))
    path.unlink()
    sink.process_batch(tuples("v", (2,)))
    sink.process_batch(tuples("v", (3,)))
    sink.close()
    assert path.read_text() == "v\n2\n3\n"


def test_full_device() -> None:
    with pytest.raises(ConnectorError, match='"/dev/full" failed: no space left on device; nothing of'):
        write(CsvSink("/dev/full"), "v", (1,))
