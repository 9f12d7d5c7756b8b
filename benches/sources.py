"""The spout that several benches share."""

from __future__ import annotations

from rainband import Spout


class Numbers(Spout):
    """Emits 0, 1, … up to `total` as fast as it is asked."""

    outputs = ["n"]

    def __init__(self, total):
        self.numbers = iter(range(total))

    def next_tuple(self):
        n = next(self.numbers, None)
        if n is None:
            self.end()
        else:
            self.emit(n, id=n)
