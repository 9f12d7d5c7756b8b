# The example of the API contract, word for word; test_typing.py type-checks and runs it.
# ruff: noqa: I001, PTH123, SIM115
# fmt: off
from collections.abc import Iterator
from functools import partial

from rainband import Bolt, Spout, TaskContext, Topology, grouping

class Lines(Spout):
    outputs = ["line"]                             # fields of the stream "default"

    def __init__(self, path: str) -> None:
        self.path = path

    def open(self, context: TaskContext) -> None:  # once per task, in the process and thread that run it
        self.rows = enumerate(open(self.path, encoding="utf-8"))

    def next_tuple(self) -> None:                  # emits none, one or several; must not block for long
        row = next(self.rows, None)
        if row is None:
            self.end()                             # this task has no more
        else:
            self.emit(row[1], id=row[0])           # id: tracked, at-least-once; without: fire and forget

class Split(Bolt):
    outputs = ["word"]

    def process(self, line: str) -> Iterator[str]: # parameters are bound to input fields by name
        yield from line.split()                    # what is yielded is emitted, anchored to the input

class Count(Bolt):
    outputs = {"word": str, "count": int}          # fields with types, checked against annotations downstream

    def prepare(self, context: TaskContext) -> None:
        self.counts: dict[str, int] = {}

    def process(self, word: str) -> None:
        self.counts[word] = n = self.counts.get(word, 0) + 1
        self.emit(word, n)

topology = Topology("wordcount")
topology.spout("lines", partial(Lines, "book.txt"))
topology.bolt("split", Split, inputs="lines", parallelism=2)
topology.bolt("count", Count, inputs={"split": grouping.fields("word")}, parallelism=2)

if __name__ == "__main__":
    print(topology.run())
