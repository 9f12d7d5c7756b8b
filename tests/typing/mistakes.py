# ruff: noqa: F401, I001
"""Mistakes that a type checker must find, each marked with the code of mypy's error. mypy says if one is not found."""

from rainband import Bolt, Spout, TaskContext, Topology, bolt, retry
from rainband import Sprout  # type: ignore[attr-defined]


@bolt(outputs=["word"])
def split(line: str) -> list[str]:
    return line.split()


split(3)  # type: ignore[arg-type]
split("a", "b")  # type: ignore[call-arg]
retry(after="1")  # type: ignore[call-arg]
Topology("t").spout("lines")  # type: ignore[call-arg]
Topology("t").bolt("split", split, input="lines")  # type: ignore[call-arg]


class Source(Spout):
    outputs = 5  # type: ignore[assignment]

    def open(self) -> None: ...  # type: ignore[override]

    def next_tuple(self) -> None:
        self.emit("a", steam="late")  # type: ignore[call-arg]
        self.end(1)  # type: ignore[call-arg]


class Step(Bolt):
    auto_ack = "no"  # type: ignore[assignment]
    on_error = "ignore"  # type: ignore[assignment]

    def prepare(self, context: str) -> None: ...  # type: ignore[override]

    def process(self, word: str) -> None:
        self.ack(word)  # type: ignore[arg-type]
        context: TaskContext = TaskContext(topology="t")  # type: ignore[call-arg]
        print(context)
