"""Positions and dead letters: exact round trips, nothing lost in a crash, nothing unreadable taken for nothing."""

import base64
import json
import math
import os
import subprocess
import sys
from collections import OrderedDict
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rainband import StateError, codec
from rainband.durable import DEAD_LETTERS_FILE, POSITIONS_FILE, DeadLetterFile, PositionStore, StateFolder
from rainband.exact import decode, encode

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**5000), 2**5000)
    | st.floats()
    | st.text(st.characters(codec=None))
    | st.text(st.characters(categories=["Cs"]))
    | st.binary()
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


def same(a: object, b: object) -> bool:
    """Equality that tells 1 from True and 1.0, -0.0 from 0.0, and knows NaN."""
    if type(a) is not type(b):
        return False
    if isinstance(a, float) and isinstance(b, float):
        return (math.isnan(a) and math.isnan(b)) or (a == b and math.copysign(1, a) == math.copysign(1, b))
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return list(a) == list(b) and all(map(same, a.values(), b.values()))
    return a == b


ONLY = "use None, bool, int, float, str, bytes, or a tuple, list or dict (with str keys) of these"
ENTRY = '{"component": "a", "task_index": 0, "tasks": 1, "position": 1}'


def document(entry: str) -> bytes:
    return ('{"format": "rainband positions 1", "positions": [' + entry + "]}").encode()


def path_of(fd: int) -> str:
    return str(Path(f"/proc/self/fd/{fd}").readlink())


@given(values)
def test_every_position_comes_back_exactly(value: Any) -> None:
    assert same(decode(json.loads(json.dumps(encode(value)))), value)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({1}, f"{{1}} is a builtins.set; {ONLY}"),
        ({1: 2}, "a dict has the key 1; keys must be str"),
        (OrderedDict(a=1), "collections.OrderedDict"),
        (datetime(2026, 1, 2, tzinfo=UTC), "datetime.datetime"),
    ],
)
def test_other_positions_are_refused(value: Any, text: Any) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        encode([value])
    assert text in str(caught.value)


def test_what_travels_can_be_a_position(tmp_path: Path) -> None:
    positions: list[Any] = [{1}, {1: 2}, (1, datetime(2026, 1, 2, tzinfo=UTC)), Decimal("1.10"), {"codec": 1}]
    store = PositionStore(StateFolder(tmp_path))
    store.save([("a", index, 5, position) for index, position in enumerate(positions)])
    again = PositionStore(StateFolder(tmp_path))
    again.load()
    assert [again.get("a", index, 5) for index in range(5)] == positions
    written = json.loads((tmp_path / POSITIONS_FILE).read_text())["positions"]
    assert [list(entry["position"]) for entry in written] == [*[["codec"]] * 4, ["dict"]]


def test_a_file_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    entry = ENTRY.replace('"position": 1', '"position": {"tuple": ["f", {"bytes": "eA=="}, {"dict": [["k", 2.5]]}]}')
    (tmp_path / POSITIONS_FILE).write_bytes(document(entry))
    store = PositionStore(StateFolder(tmp_path))
    store.load()
    assert store.get("a", 0, 1) == ("f", b"x", {"k": 2.5})


def test_a_position_that_holds_itself_is_refused() -> None:
    endless: list[object] = []
    endless.append(endless)
    with pytest.raises(ValueError, match=r"nested deeper than 64 levels"):
        encode(endless)


def test_positions_survive_and_merge(tmp_path: Path) -> None:
    store = PositionStore(StateFolder(tmp_path))
    store.save([("a", 0, 2, 5), ("a", 1, 2, ("f", b"x"))])
    store.save([("a", 0, 2, 9)])
    again = PositionStore(StateFolder(tmp_path))
    again.load()
    assert again.get("a", 0, 2) == 9
    assert again.get("a", 1, 2) == ("f", b"x")
    assert again.get("b", 0, 1) is None


def test_a_missing_file_is_no_position(tmp_path: Path) -> None:
    store = PositionStore(StateFolder(tmp_path))
    store.load()
    assert len(store) == 0


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[]",
        b'{"format": "other", "positions": []}',
        b'{"format": "rainband positions 1"}',
        document('{"component": "a"}'),
        document(ENTRY.replace('"position": 1', '"position": {"tuple": 1}')),
        document(ENTRY.replace('"position": 1', '"position": {"set": [1]}')),
        document(ENTRY.replace('"position": 1', '"position": {"codec": "!"}')),
        document(ENTRY.replace('"position": 1', '"position": {"codec": "wQ=="}')),
        document(ENTRY.replace('"position": 1', '"position": {"codec": 1}')),
        document(ENTRY.replace("0", '"0"')),
    ],
)
def test_a_damaged_file_is_an_error_and_not_a_fresh_start(tmp_path: Path, content: Any) -> None:
    path = tmp_path / POSITIONS_FILE
    path.write_bytes(content)
    with pytest.raises(StateError) as caught:
        PositionStore(StateFolder(tmp_path)).load()
    assert str(caught.value).startswith(f'positions in "{path}" are damaged (')
    assert "restore the file, or delete it to read every source from its beginning" in str(caught.value)
    assert path.read_bytes() == content


def test_every_cut_of_the_file_is_found(tmp_path: Path) -> None:
    PositionStore(StateFolder(tmp_path)).save([("a", 0, 1, {"k": (1, 2.5, b"x")})])
    path = tmp_path / POSITIONS_FILE
    whole = path.read_bytes()
    for length in range(len(whole) - 2):
        path.write_bytes(whole[:length])
        with pytest.raises(StateError, match=r"are damaged"):
            PositionStore(StateFolder(tmp_path)).load()


def test_a_change_of_the_number_of_tasks_is_an_error(tmp_path: Path) -> None:
    store = PositionStore(StateFolder(tmp_path))
    store.save([("lines", 0, 2, 5)])
    with pytest.raises(StateError) as caught:
        store.get("lines", 2, 3)
    assert str(caught.value) == (
        f'spout "lines" has 3 tasks, but "{tmp_path / POSITIONS_FILE}" holds its positions as of 2 tasks; '
        "run it with tasks=2, or delete the file to read every source from its beginning"
    )


def test_a_refused_position_names_its_spout_and_leaves_the_file(tmp_path: Path) -> None:
    store = PositionStore(StateFolder(tmp_path))
    store.save([("lines", 0, 1, 5)])
    before = (tmp_path / POSITIONS_FILE).read_bytes()
    with pytest.raises(
        StateError,
        match=r'^spout "lines" task index 0: position cannot be stored: \[0\]: type "object" does not travel; ',
    ):
        store.save([("lines", 0, 1, [object()])])
    assert (tmp_path / POSITIONS_FILE).read_bytes() == before


def test_a_crash_between_write_and_rename_leaves_the_old_positions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = PositionStore(StateFolder(tmp_path))
    store.save([("lines", 0, 1, 5)])
    monkeypatch.setattr(os, "fsync", lambda fd: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(StateError, match=r"positions cannot be written to .*: No space left on device"):
        store.save([("lines", 0, 1, 6)])
    monkeypatch.undo()
    again = PositionStore(StateFolder(tmp_path))
    again.load()
    assert again.get("lines", 0, 1) == 5


def test_the_file_is_synced_before_it_takes_its_place_and_the_folder_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    sync, replace = os.fsync, type(tmp_path).replace

    def noted_sync(fd: int) -> None:
        calls.append(path_of(fd))
        sync(fd)

    def noted_replace(path: Path, target: Path) -> Path:
        calls.append("replace")
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", noted_sync)
    monkeypatch.setattr(type(tmp_path), "replace", noted_replace)
    PositionStore(StateFolder(tmp_path)).save([("a", 0, 1, 1)])
    assert calls == [str(tmp_path / "positions.json.new"), "replace", str(tmp_path)]


def test_two_runs_do_not_share_a_folder(tmp_path: Path) -> None:
    first = StateFolder(tmp_path)
    first.take()
    with pytest.raises(StateError) as caught:
        StateFolder(tmp_path).take()
    assert str(caught.value) == (
        f'state folder "{tmp_path}" is in use by another run (process {os.getpid()}); '
        "two runs cannot share their positions: wait for it, or give this run its own state_dir"
    )
    first.release()
    second = StateFolder(tmp_path)
    second.take()
    second.release()


def test_the_lock_of_a_dead_process_does_not_matter(tmp_path: Path) -> None:
    code = f"import os\nfrom rainband.durable import StateFolder\nStateFolder({str(tmp_path)!r}).take()\nos._exit(0)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)
    assert (tmp_path / "lock").exists()
    folder = StateFolder(tmp_path)
    folder.take()
    folder.release()


def test_a_forked_child_does_not_keep_the_lock(tmp_path: Path) -> None:
    folder = StateFolder(tmp_path)
    folder.take()
    ready, is_ready = os.pipe()
    stay, leave = os.pipe()
    child = os.fork()
    if not child:
        os.write(is_ready, b"x")
        os.read(stay, 1)
        os._exit(0)
    try:
        os.read(ready, 1)
        folder.release()
        other = StateFolder(tmp_path)
        other.take()
        other.release()
    finally:
        os.write(leave, b"x")
        os.waitpid(child, 0)
        for fd in (ready, is_ready, stay, leave):
            os.close(fd)


def test_a_folder_that_cannot_be_made_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(
        StateError, match=r'state folder ".*/file/state" cannot be used: Not a directory; give another one'
    ):
        StateFolder(tmp_path / "file" / "state").take()


def test_an_unused_folder_goes_and_a_used_one_stays(tmp_path: Path) -> None:
    unused, used = StateFolder(tmp_path / "unused"), StateFolder(tmp_path / "used")
    unused.take()
    used.take()
    PositionStore(used).save([("a", 0, 1, 1)])
    for folder in (unused, used):
        folder.release(remove_if_empty=True)
    assert not unused.path.exists()
    assert (used.path / POSITIONS_FILE).exists()


def letter(**more: object) -> dict[str, object]:
    base: dict[str, object] = {
        "component": "lines",
        "stream": "default",
        "values": ("a", 1),
        "id": 7,
        "reason": "error",
    }
    return base | {"error": "ValueError('x')", "attempts": 5, "at": 0.0} | more


def lines_of(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / DEAD_LETTERS_FILE).read_text().splitlines()]


def test_a_dead_letter_has_every_field(tmp_path: Path) -> None:
    DeadLetterFile(StateFolder(tmp_path)).append(letter())
    assert lines_of(tmp_path) == [
        {
            "component": "lines",
            "stream": "default",
            "values": ["a", 1],
            "id": 7,
            "reason": "error",
            "error": "ValueError('x')",
            "attempts": 5,
            "at": "1970-01-01T00:00:00.000+00:00",
            "replayable": True,
        }
    ]


class Rude:
    def __repr__(self) -> str:
        raise RuntimeError("no")


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (b"x", "b'x'"),
        ((1, 2), "(1, 2)"),
        ({1: 2}, "{1: 2}"),
        (float("nan"), "nan"),
        ("\ud800", "'\\ud800'"),
        (Rude(), "<Rude whose repr raised RuntimeError>"),
        ("x", None),
        ({"a": [1, None, 2.5, True]}, None),
    ],
)
def test_a_value_that_json_cannot_say_is_written_as_its_repr(tmp_path: Path, value: Any, written: Any) -> None:
    DeadLetterFile(StateFolder(tmp_path)).append(letter(values=("a", value), id=value))
    [line] = lines_of(tmp_path)
    assert line["values"] == ["a", value if written is None else written]
    assert line["id"] == (value if written is None else written)
    assert line["replayable"] is (type(value) is not Rude)
    has_bytes = line["replayable"] and written is not None
    assert [key for key in line if key.startswith("encoded")] == (["encoded", "encoded_id"] if has_bytes else [])
    if has_bytes:
        assert same(codec.decode(base64.b64decode(str(line["encoded"]))), ("a", value))
        assert same(codec.decode(base64.b64decode(str(line["encoded_id"]))), value)


def test_a_letter_whose_id_alone_is_refused_is_not_replayable(tmp_path: Path) -> None:
    DeadLetterFile(StateFolder(tmp_path)).append(letter(id=Rude(), values=(b"x",)))
    [line] = lines_of(tmp_path)
    assert (line["replayable"], "encoded" in line, "encoded_id" in line) == (False, True, False)


def test_a_torn_last_line_is_ended_before_the_next(tmp_path: Path) -> None:
    (tmp_path / DEAD_LETTERS_FILE).write_bytes(b'{"whole": 1}\n{"torn": ')
    letters = DeadLetterFile(StateFolder(tmp_path))
    letters.append(letter())
    letters.close()
    rows = (tmp_path / DEAD_LETTERS_FILE).read_text().splitlines()
    assert rows[:2] == ['{"whole": 1}', '{"torn": ']
    assert json.loads(rows[2])["id"] == 7
    assert len(rows) == 3


def test_a_failed_write_raises_and_takes_its_half_line_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    letters = DeadLetterFile(StateFolder(tmp_path))
    letters.append(letter())
    before = (tmp_path / DEAD_LETTERS_FILE).read_bytes()
    monkeypatch.setattr(os, "fsync", lambda fd: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(StateError) as caught:
        letters.append(letter(id=8))
    assert str(caught.value) == (
        f'a dead letter cannot be written to "{tmp_path / DEAD_LETTERS_FILE}": No space left on device'
    )
    monkeypatch.undo()
    assert (tmp_path / DEAD_LETTERS_FILE).read_bytes() == before
    letters.append(letter(id=9))
    assert [line["id"] for line in lines_of(tmp_path)] == [7, 9]
    assert letters.written == 2


def test_a_dead_letter_is_synced_before_append_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    sync = os.fsync

    def noted_sync(fd: int) -> None:
        synced.append(path_of(fd))
        sync(fd)

    monkeypatch.setattr(os, "fsync", noted_sync)
    DeadLetterFile(StateFolder(tmp_path)).append(letter())
    assert synced[-1] == str(tmp_path / DEAD_LETTERS_FILE)
