"""A loop that feeds itself: the components of collatz.yaml.

Every number goes round until it is 1: half of it if it is even, three times it and one more if it is odd. The run
ends when the last number has come out, which the engine finds by counting what is in flight inside the loop.

    numbers ──▶ step x2 ──global──▶ longest
                 ▲  │ loop
                 └──┘
"""

from __future__ import annotations

from rainband import Bolt, TaskContext


class Step(Bolt):
    """One step of one number; those that have arrived leave the loop."""

    outputs = {"start": int, "steps": int}
    streams = {"loop": {"n": int, "start": int, "steps": int}}

    def process(self, n: int, start: int = 0, steps: int = 0) -> None:
        # What comes from the spout has no start and no steps yet.
        start = start or n
        if n == 1:
            self.emit(start, steps)
        else:
            self.emit(n // 2 if n % 2 == 0 else 3 * n + 1, start, steps + 1, stream="loop")


class Longest(Bolt):
    """Prints the numbers that went round most often."""

    def __init__(self, top: int = 5) -> None:
        self.top = top

    def prepare(self, context: TaskContext) -> None:
        self.steps: dict[int, int] = {}

    def process(self, start: int, steps: int) -> None:
        self.steps[start] = steps

    def finish(self) -> None:
        longest = sorted(self.steps.items(), key=lambda item: (-item[1], item[0]))[: self.top]
        for start, steps in longest:
            print(f"{start:>10,} needs {steps:>4} steps")
        print(f"{len(self.steps):,} numbers, {sum(self.steps.values()):,} steps")
