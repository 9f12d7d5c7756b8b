"""A join of two streams by key with manual acks: the components of join.yaml.

An order waits in `join`, un-acked, until its payment comes, or the other way round. What leaves belongs to both, so
that a failure further down brings both back. If the process dies, whatever waited was never acked and comes again:
the join needs no storage of its own. `flush` says that no partner will come any more.

    orders ────fields(order)───▶ join ──▶ summary
    payments ──fields(order)───▶   └ unmatched ──▶
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from rainband import Bolt, TaskContext, Tuple, spout

if TYPE_CHECKING:
    from collections.abc import Iterator

SPREAD = 50  # orders that a payment may be late by; far below max_pending, or all that is pending could be waiting


@spout(outputs={"order": int, "customer": str, "cents": int})
def orders(count: int = 2000) -> Iterator[tuple[int, str, int]]:
    """Orders 0, 1, 2, …; deterministic."""
    rng = random.Random(1)
    for order in range(count):
        yield order, f"customer {rng.randrange(50)}", rng.randrange(100, 100_000)


@spout(outputs={"order": int, "paid_cents": int})
def payments(count: int = 2000) -> Iterator[tuple[int, int]]:
    """A payment for most orders, at most `SPREAD` places out of order, and one in a hundred for no order at all."""
    rng = random.Random(1)
    amounts = []
    for _ in range(count):
        rng.randrange(50)
        amounts.append(rng.randrange(100, 100_000))
    chance = random.Random(2)
    places = sorted(range(count), key=lambda order: order + chance.randrange(SPREAD))
    for order in places:
        if order % 20 == 7:
            continue  # never paid
        if order % 100 == 42:
            yield count + order, 1  # for an order that is not known
        yield order, amounts[order] - (1 if order % 33 == 5 else 0)


class Join(Bolt):
    outputs = {"order": int, "customer": str, "cents": int, "open_cents": int}
    streams = {"unmatched": {"order": int, "source": str}}
    auto_ack = False

    def prepare(self, context: TaskContext) -> None:
        self.waiting: dict[int, Tuple] = {}

    def process(self, tup: Tuple) -> None:
        partner = self.waiting.pop(tup["order"], None)
        if partner is None or partner.component == tup.component:
            # None is there yet; or this is the same one again, because the first attempt timed out while it waited.
            self.waiting[tup["order"]] = tup
            return
        order, payment = (tup, partner) if tup.component == "orders" else (partner, tup)
        number, customer, cents = order
        self.emit(number, customer, cents, cents - payment["paid_cents"], anchors=[order, payment])
        self.ack(order)
        self.ack(payment)

    def flush(self) -> None:
        waiting, self.waiting = self.waiting, {}
        for number, tup in waiting.items():
            self.emit(number, tup.component, stream="unmatched", anchors=[tup])
            self.ack(tup)


class Summary(Bolt):
    """Prints what was paid, what was not, and what had no partner."""

    def prepare(self, context: TaskContext) -> None:
        self.paid = self.paid_cents = self.short = self.short_cents = 0
        self.unmatched = {"orders": 0, "payments": 0}

    def process(self, tup: Tuple) -> None:
        if tup.stream == "unmatched":
            self.unmatched[tup["source"]] += 1
            return
        _, _, cents, open_cents = tup
        self.paid += 1
        self.paid_cents += cents - open_cents
        self.short += open_cents > 0
        self.short_cents += open_cents

    def finish(self) -> None:
        print(f"{self.paid:,} orders with a payment: {self.paid_cents / 100:,.2f} paid")
        print(f"{self.short:,} of them paid short: {self.short_cents / 100:,.2f} open")
        orders, payments = self.unmatched["orders"], self.unmatched["payments"]
        print(f"{orders:,} orders without a payment, {payments:,} payments without an order")
