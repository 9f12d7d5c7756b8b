"""Word count over a tree of text files: the components of wordcount.yaml.

rainband run topologies/wordcount.yaml                         the standard library of this interpreter
rainband run topologies/wordcount.yaml --param path=~/texts    your own files

lines ──▶ split x2 ──fields(word)──▶ count x2 ──global──▶ top
"""

from __future__ import annotations

import sysconfig
import time
from collections import Counter
from typing import TYPE_CHECKING

from rainband import Bolt, TaskContext, connectors

if TYPE_CHECKING:
    from collections.abc import Iterator


class Lines(connectors.Lines):
    """Lines of every file below `path`; without one, of the sources of the standard library."""

    def __init__(self, path: str = "", pattern: str = "*") -> None:
        if path:
            super().__init__(path, pattern=pattern, errors="replace")
        else:
            # Its tests hold files in every encoding, and what pip installed lies within the same folder.
            stdlib = sysconfig.get_path("stdlib")
            super().__init__(stdlib, pattern="*.py", exclude=["site-packages"], errors="replace")


class Split(Bolt):
    outputs = ["word"]

    def process(self, line: str) -> Iterator[str]:
        yield from line.split()


class Count(Bolt):
    """Counts its share of the words, and at the end tells the most frequent of them."""

    outputs = {"word": str, "count": int}
    streams = {"totals": {"words": int, "distinct": int}}

    def __init__(self, top: int = 10) -> None:
        self.top = top

    def prepare(self, context: TaskContext) -> None:
        self.counts: dict[str, int] = {}

    def process(self, word: str) -> None:
        self.counts[word] = self.counts.get(word, 0) + 1

    def finish(self) -> None:
        # A word is counted by one task only, so the most frequent of all are among the most frequent of each.
        for word, count in Counter(self.counts).most_common(self.top):
            self.emit(word, count)
        self.emit(sum(self.counts.values()), len(self.counts), stream="totals")


class Top(Bolt):
    """Prints the most frequent words of all tasks."""

    def __init__(self, top: int = 10) -> None:
        self.top = top

    def prepare(self, context: TaskContext) -> None:
        self.counts: Counter[str] = Counter()
        self.words = self.distinct = 0
        self.begun_s = time.monotonic()

    def process(self, word: str = "", count: int = 0, words: int = 0, distinct: int = 0) -> None:
        if word:
            self.counts[word] = count
        self.words += words
        self.distinct += distinct

    def finish(self) -> None:
        took_s = time.monotonic() - self.begun_s
        print(f"{'count':>10}  word")
        for word, count in sorted(self.counts.items(), key=lambda item: (-item[1], item[0]))[: self.top]:
            print(f"{count:>10,}  {word}")
        print(f"{self.words:,} words, {self.distinct:,} distinct, in {took_s:.1f} s")
