"""The checker finds what it is there for: each loss, each early ack, each damage that is planted in sound tracks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from chaos_check import check, read
from chaos_topology import digest_of, text_of

if TYPE_CHECKING:
    from pathlib import Path

LAST = 5


def write(folder: Path, *, without: str = "", more: str = "", acks_at: int = 1000) -> None:
    rows = [f"{n} {half} {digest_of(text_of(n))} 2 {100 + n}" for n in range(1, LAST + 1) for half in (0, 1)]
    (folder / "sink-1").write_text(
        "".join(f"{row}\n" for row in rows if not without or not row.startswith(without)) + more
    )
    source = ["o 0 1", *(f"e {n} {10 + n}" for n in range(1, LAST + 1)), f"end {LAST} 50"]
    source += [f"a {n} {acks_at + n}" for n in range(1, LAST + 1)]
    (folder / "source-2").write_text("".join(f"{row}\n" for row in source))


def judge(folder: Path, deaths: int = 0) -> None:
    check(read(folder, folder), [], deaths=deaths, max_pending=1)


def test_sound_tracks(tmp_path: Path) -> None:
    write(tmp_path)
    judge(tmp_path)


def test_a_torn_row_is_no_row(tmp_path: Path) -> None:
    write(tmp_path, more="3 1 abc")
    judge(tmp_path)


def test_a_loss(tmp_path: Path) -> None:
    write(tmp_path, without="3 1")
    with pytest.raises(AssertionError, match=r"1 of 5 records are lost: \[3\]"):
        judge(tmp_path)


def test_a_dead_letter_is_no_loss(tmp_path: Path) -> None:
    write(tmp_path, without="3 1")
    (tmp_path / "dead_letters.jsonl").write_text('{"id": 3, "reason": "crashed"}\n')
    judge(tmp_path)


def test_an_early_ack(tmp_path: Path) -> None:
    write(tmp_path, acks_at=100 - LAST)
    with pytest.raises(AssertionError, match="5 records were acked before they were written"):
        judge(tmp_path)


def test_damage(tmp_path: Path) -> None:
    write(tmp_path, more="3 1 0000000000000000 2 104\n")
    with pytest.raises(AssertionError, match="sink-1: record 3, task 2"):
        judge(tmp_path, deaths=1)


def test_more_duplicates_than_a_death_explains(tmp_path: Path) -> None:
    again = f"3 1 {digest_of(text_of(3))} 2 105\n"
    write(tmp_path, more=again)
    judge(tmp_path, deaths=1)
    write(tmp_path, more=again * 2)
    with pytest.raises(AssertionError, match="2 duplicates, 1 are explained"):
        judge(tmp_path, deaths=1)
