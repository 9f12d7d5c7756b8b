"""Lines of files: content, fields, positions and what becomes of files that are bad, gone, changed, grown or new."""

from __future__ import annotations

import gzip
import io
import logging
import os
import random
import tempfile
from pathlib import Path
from typing import Any

import pytest
from connector_fakes import context, run_spout
from hypothesis import given, settings
from hypothesis import strategies as st

from rainband.connectors import ConnectorError, Lines
from rainband.connectors.order import Order
from rainband.connectors.paths import find_files, share_of
from rainband.connectors.rows import Rows


def read(path: Any, ctx: Any = None, limit: int | None = None, **arguments: Any) -> list[Any]:
    return run_spout(Lines(path, **arguments), ctx or context(), limit=limit).values()


# -- content -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        (b"", []),
        (b"\n", [""]),
        (b"a", ["a"]),
        (b"a\n", ["a"]),
        (b"a\n\nb", ["a", "", "b"]),
        (b"a\r\nb\r\n\r\n", ["a", "b", ""]),
        (b"a\rb\n", ["a\rb"]),
        ("zoë\n\u2028x\n".encode(), ["zoë", "\u2028x"]),
    ],
)
def test_lines_end_at_newlines_only(tmp_path: Path, content: bytes, lines: list[str]) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(content)
    assert read(path) == lines


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.text(st.characters(exclude_characters="\r\n", codec="utf-8"), max_size=6), max_size=30), st.booleans()
)
def test_any_content_comes_out_as_it_went_in(lines: list[str], is_packed: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x"
        content = "".join(f"{line}\n" for line in lines).encode()
        path.write_bytes(gzip.compress(content) if is_packed else content)
        assert read(path) == lines


def test_rows_longer_than_a_block(tmp_path: Path) -> None:
    path = tmp_path / "long.txt"
    lines = ["x" * 200_000, "", "y" * 65_536, "z" * 65_535, "end"]
    path.write_text("\n".join(lines))
    assert read(path) == lines


def test_a_file_without_newlines_does_not_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rainband.connectors.rows.MAX_ROW_BYTES", 100_000)
    path = tmp_path / "zeros.bin"
    path.write_bytes(bytes(300_000))
    with pytest.raises(ConnectorError, match=r'zeros.bin" has no newline in the 131072 bytes from byte 0 on'):
        read(path)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32", "cp037", "latin-1", "utf-8-sig", "shift-jis"])
def test_encodings_with_and_without_a_newline_byte(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "a.txt"
    lines = [f"line {n} ¥" if encoding != "shift-jis" else f"line {n} 日本" for n in range(5_000)]
    path.write_bytes("".join(f"{line}\n" for line in lines).encode(encoding))
    assert read(path, encoding=encoding) == lines
    seen = run_spout(Lines(path, encoding=encoding), context(), limit=100)
    n = len(seen.emitted)
    assert read(path, context(position=seen.positions[-1]), encoding=encoding) == lines[n:]


def test_unknown_encoding_and_wrong_arguments() -> None:
    with pytest.raises(ConnectorError, match="unknown encoding: utf-9"):
        Lines("x", encoding="utf-9")
    with pytest.raises(ConnectorError, match="unknown error handler name 'loose'"):
        Lines("x", errors="loose")
    with pytest.raises(ValueError, match='malformed is \'drop\'; expected "auto", "raise" or "skip"'):
        Lines("x", malformed="drop")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match='on_change is \'x\'; expected "error" or "reread"'):
        Lines("x", on_change="x")  # type: ignore[arg-type]


def test_fields_of_the_wiring(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("a\nb\n")
    assert read(path, context(outputs=["text"])) == ["a", "b"]
    assert read(path, context(outputs=["number", "line", "path"])) == [(1, "a", str(path)), (2, "b", str(path))]
    with pytest.raises(ConnectorError, match='it has the field "size"; Lines gives "line", "path" and "number"'):
        read(path, context(outputs=["line", "size"]))


def test_at_most_32_lines_a_call(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("x\n" * 100)
    assert len(run_spout(Lines(path), context(), limit=1).emitted) == 32
    assert len(run_spout(Lines(path), context(outputs=["line", "path"]), limit=1).emitted) == 32


# -- which files ---------------------------------------------------------------------------------------------------


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("b.log", "a.log", "sub/c.log", "sub/deep/d.log", "sub/e.txt", ".hidden/f.log", "skip/g.log", ".h.log"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{name}\n")
    return tmp_path


def test_folders_globs_and_lists(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tree)
    assert read(".", pattern="*.log", exclude=["skip"]) == ["a.log", "b.log", "sub/c.log", "sub/deep/d.log"]
    assert read("**/*.log", exclude="skip") == ["a.log", "b.log", "sub/c.log", "sub/deep/d.log"]
    assert read("*.log") == ["a.log", "b.log"]
    assert read(["sub/e.txt", "b.log", "b.log", "*.log"]) == ["sub/e.txt", "b.log", "a.log"]
    (tree / "x[1].log").write_text("bracket\n")
    assert read("x[1].log") == ["bracket"]


def test_what_cannot_be_read_is_told_at_open(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tree)
    os.mkfifo("pipe")
    (tree / "empty").mkdir()
    (tree / "dangling").symlink_to("nowhere")
    cases: dict[str, Any] = {
        r'file "nowhere.txt" cannot be read: no such file or directory': "nowhere.txt",
        r'file "dangling" cannot be read: no such file or directory': "dangling",
        r'no file matches "\*.xml"; the working folder is /': "*.xml",
        r'folder "empty" has no file that matches "\*"': "empty",
        r'"pipe" is not a regular file, so it has no positions; pipe it into rainband.connectors:stdin': "pipe",
        r"the source has no paths; give it a file, a folder or a glob": [],
        r"a path of the source is ''; expected text that is not empty": "",
        r"a path of the source is 7; expected text": [7],
    }
    for text, path in cases.items():
        with pytest.raises(ConnectorError, match=text):
            Lines(path).open(context())


def test_no_permission(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str, *_: Any) -> int:  # the file's mode would not stop root
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr("rainband.connectors.paths.os.open", refuse)
    with pytest.raises(ConnectorError, match=r'a.log" cannot be read: permission denied'):
        Lines(tree / "a.log").open(context())


def test_tasks_share_the_files(tree: Path) -> None:
    every = read(tree, pattern="*.log")
    parts = [read(tree, context(tasks=3, index=n), pattern="*.log") for n in range(3)]
    assert sorted(line for part in parts for line in part) == sorted(every)
    assert sum(map(bool, parts)) > 1


def test_a_new_file_moves_no_other_to_another_task() -> None:
    names = [f"app-{n}.log" for n in range(200)]
    before = {name: n for n in range(4) for name in share_of(names, n, 4)}
    after = {name: n for n in range(4) for name in share_of(["aaa", *names], n, 4)}
    assert before.items() <= after.items()
    assert min(len(share_of(names, n, 4)) for n in range(4)) > 30


# -- positions -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_packed", [False, True])
@pytest.mark.parametrize("fields", [["line"], ["line", "path", "number"]])
def test_every_position_goes_on_exactly_behind_it(tmp_path: Path, is_packed: bool, fields: list[str]) -> None:
    rng = random.Random(7)
    for name in ("a", "b", "c"):
        content = "".join(f"{name}{n}{'é' * rng.randrange(4)}" + rng.choice(["\n", "\r\n"]) for n in range(40)).encode()
        content = content.rstrip() if name == "b" else content
        (tmp_path / name).write_bytes(gzip.compress(content) if is_packed else content)
    state = tmp_path / ".state"
    whole = run_spout(Lines(tmp_path), context(outputs=fields, state_dir=state))
    assert len(whole.emitted) == 120
    assert whole.positions == sorted(whole.positions)
    assert len(set(whole.positions)) == 120
    for n in range(0, 120, 7):
        again = run_spout(Lines(tmp_path), context(outputs=fields, state_dir=state, position=whole.positions[n]))
        assert again.values() == whole.values()[n + 1 :]
        assert again.positions == whole.positions[n + 1 :]


def test_id_is_the_position(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"ab\ncd\n")
    seen = run_spout(Lines(path), context())
    assert [(i, p) for _, _, i, p in seen.emitted] == [(p, p) for p in seen.positions]
    assert [p[:3] for p in seen.positions] == [(0, 3, str(path)), (0, 6, str(path))]


def test_the_last_file_grew(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("one\ntwo\n")
    last = run_spout(Lines(path), context()).positions[-1]
    assert read(path, context(position=last)) == []
    with path.open("a") as stream:
        stream.write("three\n")
    assert read(path, context(position=last)) == ["three"]


@pytest.mark.parametrize(("more", "lines"), [("", []), ("\n", []), ("\r\n", []), ("\nx", ["x"])])
def test_the_last_line_had_no_end_and_has_one_now(tmp_path: Path, more: str, lines: list[str]) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"one\ntwo")
    last = run_spout(Lines(path), context()).positions[-1]
    with path.open("ab") as stream:
        stream.write(more.encode())
    assert read(path, context(position=last)) == lines


def test_half_a_line_is_read_again_as_a_whole(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "a.txt"
    path.write_text("one\ntwo")
    last = run_spout(Lines(path), context()).positions[-1]
    with path.open("a") as stream:
        stream.write(" and more\nthree\n")
    assert read(path, context(position=last)) == ["two and more", "three"]
    assert "was read before it was complete; it is read again from byte 4" in caplog.text


def test_a_grown_gz_file(tmp_path: Path) -> None:
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(b"one\ntwo\n"))
    last = run_spout(Lines(path), context()).positions[-1]
    with path.open("ab") as stream:
        stream.write(gzip.compress(b"three\n"))
    assert read(path, context(position=last)) == ["three"]


def test_files_that_came_later_are_read_wherever_they_sort(tmp_path: Path) -> None:
    logs, state = tmp_path / "logs", tmp_path / "state"
    logs.mkdir()
    for n in (1, 2):
        (logs / f"app-{n}.log").write_text(f"{n}a\n{n}b\n")
    seen = run_spout(Lines(logs), context(state_dir=state))
    (logs / "app-10.log").write_text("10a\n")
    (logs / "aaa.log").write_text("aaa\n")
    again = run_spout(Lines(logs), context(state_dir=state, position=seen.positions[2]))
    assert again.values() == ["2b", "aaa", "10a"]
    assert again.positions == sorted([*seen.positions[:3], *again.positions])[3:]
    assert read(logs, context(state_dir=state, position=again.positions[1])) == ["10a"]


def test_a_file_that_vanished_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    logs, state = tmp_path / "logs", tmp_path / "state"
    logs.mkdir()
    for name in "abc":
        (logs / name).write_text(f"{name}1\n{name}2\n")
    seen = run_spout(Lines(logs), context(state_dir=state))
    (logs / "a").unlink()
    (logs / "b").unlink()
    with caplog.at_level(logging.WARNING):
        assert read(logs, context(state_dir=state, position=seen.positions[0])) == ["c1", "c2"]
    assert 'a" of the earlier run is gone, which was read up to byte 3; going on with the next' in caplog.text
    assert 'b" of the earlier run is gone, which was read up to byte 0; going on with the next' in caplog.text
    caplog.clear()
    # Read whole and then removed: nothing to tell.
    assert read(logs, context(state_dir=state, position=seen.positions[4])) == ["c2"]
    assert not caplog.records


def test_a_file_that_vanishes_during_the_run_is_an_error(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).write_text("x\n")
    spout = Lines(tmp_path)
    spout.open(context())
    (tmp_path / "a").unlink()
    for _ in range(2):  # and stays one: the second call must not look like the end
        with pytest.raises(ConnectorError, match=r'a" cannot be read: no such file or directory'):
            spout.next_tuple()
    spout.close()


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"One\ntwo\nthree\n", "begins otherwise than when it was read up to byte 8"),
        (b"one\n", "begins otherwise than when it was read up to byte 8"),
        (b"", "begins otherwise than when it was read up to byte 8"),
    ],
)
def test_a_file_that_was_replaced(tmp_path: Path, content: bytes, text: str, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "a.txt"
    path.write_text("one\ntwo\nthree\n")
    position = run_spout(Lines(path), context()).positions[1]
    path.write_bytes(content)
    with pytest.raises(
        ConnectorError, match=text + '; restore it, write on_change="reread", or give another state_dir'
    ):
        read(path, context(position=position))
    assert read(path, context(position=position), on_change="reread") == content.decode().split()
    assert "reading it from its beginning" in caplog.text


def test_a_long_file_that_was_cut(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("0123456\n" * 1000)
    position = run_spout(Lines(path), context()).positions[-1]
    path.write_text("0123456\n" * 500)
    with pytest.raises(ConnectorError, match="is shorter than the 8000 bytes that were read of it"):
        read(path, context(position=position))


def test_files_that_grew_after_they_were_read(tmp_path: Path) -> None:
    logs, state = tmp_path / "logs", tmp_path / "state"
    logs.mkdir()
    for name in ("app", "sys", "web.gz"):
        (logs / name).write_bytes(gzip.compress(b"1\n") if name == "web.gz" else f"{name} 1".encode())
    seen = run_spout(Lines(logs), context(state_dir=state))
    assert seen.values() == ["app 1", "sys 1", "1"]
    for n in range(2, 5):
        for name in ("app", "sys"):
            with (logs / name).open("a") as stream:
                stream.write(f"\n{name} {n}")
        with (logs / "web.gz").open("ab") as packed:
            packed.write(gzip.compress(b"%d\n" % n))
        seen = run_spout(Lines(logs), context(state_dir=state, position=seen.positions[-1]))
        assert sorted(seen.values()) == [str(n), f"app {n}", f"sys {n}"]
    assert read(logs, context(state_dir=state, position=seen.positions[-1])) == []
    assert seen.positions == sorted(seen.positions)


def test_a_file_that_was_read_is_shorter_now(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    logs, state = tmp_path / "logs", tmp_path / "state"
    logs.mkdir()
    for name in "ab":
        (logs / name).write_text(f"{name}1\n{name}2\n")
    last = run_spout(Lines(logs), context(state_dir=state)).positions[-1]
    (logs / "a").write_text("new\n")
    with pytest.raises(
        ConnectorError, match='a" is shorter than when it was read; restore it, write on_change="reread"'
    ):
        read(logs, context(state_dir=state, position=last))
    assert read(logs, context(state_dir=state, position=last), on_change="reread") == ["new"]
    assert "reading it from its beginning" in caplog.text


def test_a_file_that_comes_back(tmp_path: Path) -> None:
    logs, state = tmp_path / "logs", tmp_path / "state"
    logs.mkdir()
    for name in "abc":
        (logs / name).write_text(f"{name}1\n{name}2\n")
    seen = run_spout(Lines(logs), context(state_dir=state))
    for name in "ab":
        (logs / name).rename(tmp_path / name)
    again = run_spout(Lines(logs), context(state_dir=state, position=seen.positions[0]))
    assert again.values() == ["c1", "c2"]
    for name in "ab":
        (tmp_path / name).rename(logs / name)
    assert read(logs, context(state_dir=state, position=again.positions[-1])) == ["a2", "b1", "b2"]


def test_an_end_that_was_lost_in_a_power_cut(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    logs, state = tmp_path / "logs", tmp_path / "state"
    logs.mkdir()
    for name in "ab":
        (logs / name).write_text("x\n")
    last = run_spout(Lines(logs), context(state_dir=state)).positions[-1]
    (journal,) = state.iterdir()
    kept = [line for line in journal.read_text().splitlines(keepends=True) if '"end"' not in line]
    journal.write_text("".join(kept) + '["end", 0, 2')
    assert read(logs, context(state_dir=state, position=last)) == []
    assert 'it is not known how far file "' in caplog.text
    assert journal.read_text().startswith("".join(kept))


@settings(max_examples=40, deadline=None)
@given(st.randoms(use_true_random=False))
def test_model_of_many_runs(rng: random.Random) -> None:
    """Files appear and grow, runs are cut off anywhere; every line comes exactly once behind what was resolved."""
    with tempfile.TemporaryDirectory() as name:
        logs, state = Path(name) / "logs", Path(name) / "state"
        logs.mkdir()
        written: list[str] = []
        resolved: list[str] = []
        position = None
        for _ in range(8):
            for _ in range(rng.randrange(1, 4)):
                file = logs / f"{rng.choice('abcdef')}{rng.choice(['', '.gz'])}"
                lines = [f"{file.name} {len(written) + n}" for n in range(rng.choice([0, 1, 5, 70]))]
                written += lines
                content = "".join(f"{line}\n" for line in lines).encode()
                with file.open("ab") as stream:
                    stream.write(gzip.compress(content) if file.suffix else content)
            limit = rng.choice([None, 1, 40])
            seen = run_spout(Lines(logs), context(state_dir=state, position=position), limit=limit)
            assert seen.positions == sorted(seen.positions)
            done = len(seen.emitted) if limit is None else rng.randrange(len(seen.emitted) + 1)
            resolved += seen.values()[:done]
            position = seen.positions[done - 1] if done else position
        resolved += run_spout(Lines(logs), context(state_dir=state, position=position)).values()
        assert sorted(resolved) == sorted(written)


def test_the_order_of_files_is_lost(tmp_path: Path) -> None:
    path, state = tmp_path / "a.txt", tmp_path / "state"
    path.write_text("one\ntwo\n")
    position = run_spout(Lines(path), context(state_dir=state)).positions[0]
    (journal,) = state.iterdir()
    journal.write_text('["rainband files 2"]\n["read", "other", 0, ""]\n')
    with pytest.raises(ConnectorError, match="which is not file 0 of"):
        read(path, context(position=position, state_dir=state))
    for damaged in ("{\n", '["other format"]\n', "[]\n", '["rainband files 2"]\n["read", "a", 0, "", 1]\n'):
        journal.write_text(damaged)
        with pytest.raises(ConnectorError, match="cannot be read: it is damaged"):
            read(path, context(position=position, state_dir=state))
    journal.unlink()
    with pytest.raises(ConnectorError, match="cannot be read: no such file or directory"):
        read(path, context(position=position, state_dir=state))


def test_state_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConnectorError, match=r"the order of files cannot be kept in .*: file exists"):
        Order(tmp_path / "file" / "order.jsonl").begin([])


# -- malformed -----------------------------------------------------------------------------------------------------


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    path = tmp_path / "mixed.txt"
    path.write_bytes(b"good\nb\xffd\nbetter\n")
    return path


@pytest.mark.parametrize("outputs", [["line"], ["line", "path"]])
def test_malformed_goes_to_its_stream(mixed: Path, outputs: list[str]) -> None:
    seen = run_spout(Lines(mixed), context(outputs=outputs, subscribed=["default", "malformed"]))
    assert len(seen.values()) == 2
    reason = "not utf-8: invalid start byte at its byte 1"
    assert seen.values("malformed") == [(str(mixed), 5, "b\\xffd", reason)]
    assert seen.positions == sorted(seen.positions)
    assert None not in seen.positions


@pytest.mark.parametrize("outputs", [["line"], ["line", "path"]])
@pytest.mark.parametrize("policy", ["auto", "raise"])
def test_malformed_stops(mixed: Path, outputs: list[str], policy: Any) -> None:
    spout = Lines(mixed, malformed=policy)
    with pytest.raises(ConnectorError) as caught:
        run_spout(spout, context(outputs=outputs))
    assert str(caught.value) == (
        f'"{mixed}" line 2 (byte 5) is malformed: not utf-8: invalid start byte at its byte 1; '
        'the record is b\'b\\xffd\'; let a bolt take "part.malformed", or write malformed="skip"'
    )
    with pytest.raises(ConnectorError):  # it must not look like the end of the file
        spout.next_tuple()


def test_malformed_is_skipped_counted_and_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xff\n" * 8 + b"ok\n")
    ctx = context()
    assert read(path, ctx, malformed="skip") == ["ok"]
    assert ctx.counter("malformed").value == 8
    assert len(caplog.records) == 6
    assert "line 5 (byte 8) is malformed" in caplog.text
    assert "the next ones are counted only" in caplog.text
    assert "8 malformed records were skipped" in caplog.text


def test_errors_replace(mixed: Path) -> None:
    assert read(mixed, errors="replace") == ["good", "b\ufffdd", "better"]


def test_a_gz_file_that_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "a.gz"
    content = gzip.compress(b"".join(b"%d\n" % n for n in range(100_000)))
    path.write_bytes(content[:-2000])
    with pytest.raises(ConnectorError, match=r'a.gz" cannot be read on from byte \d+ of its content: .*end-of-stream'):
        read(path)
    path.write_bytes(content[:5000] + b"XXXX" + content[5004:])
    with pytest.raises(ConnectorError, match=r'a.gz" cannot be read on from byte \d+ of its content: '):
        read(path)


def test_rows_close_their_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("x\n")
    rows = Rows(str(path))
    rows.close()
    assert isinstance(rows._stream, io.IOBase)
    assert rows._stream.closed


def test_exclude_takes_names_and_masks(tree: Path) -> None:
    found = find_files(tree, pattern="*.log", exclude=["deep", "b.*", "skip"])
    assert [Path(path).name for path in found] == ["a.log", "c.log"]
