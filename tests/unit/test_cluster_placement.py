"""Where executors run: even, cycles together, pins obeyed; by property over random graphs."""

from __future__ import annotations

import doctest
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from rainband import cycles
from rainband.cluster import placement
from rainband.cluster.placement import Placed, place
from rainband.cycles import torn_cycles


def test_examples() -> None:
    assert doctest.testmod(placement).failed == 0
    assert doctest.testmod(cycles).failed == 0


@st.composite
def graphs(draw: st.DrawFn) -> tuple[list[Placed], int]:
    workers = draw(st.integers(1, 4))
    count = draw(st.integers(1, 7))
    pins = st.none() | st.lists(st.integers(0, workers - 1), min_size=1, max_size=3)
    components = [
        Placed(
            draw(st.integers(1, 4)),
            draw(st.lists(st.integers(0, count - 1), max_size=3)),
            draw(pins),
        )
        for _ in range(count)
    ]
    pinned = {i: c.on_workers for i, c in enumerate(components) if c.on_workers is not None}
    if torn_cycles([c.inputs for c in components], pinned):  # refused before it comes here
        components = [Placed(c.parallelism, c.inputs) for c in components]
    return components, workers


@given(graphs())
def test_every_executor_has_its_place(graph: tuple[list[Placed], int]) -> None:
    components, workers = graph
    placed = place(components, workers)
    assert len(placed) == sum(c.parallelism for c in components)
    assert all(0 <= worker < workers for worker in placed)
    of = {}
    for i, component in enumerate(components):
        of[i], placed = placed[: component.parallelism], placed[component.parallelism :]
        if component.on_workers is not None:
            assert set(of[i]) <= set(component.on_workers)
    for group in cycles.cycles([c.inputs for c in components]):
        assert len({worker for i in group for worker in of[i]}) == 1
    is_free = all(c.on_workers is None and not c.inputs for c in components)
    if is_free:
        load = Counter(worker for workers_of in of.values() for worker in workers_of)
        assert max(load.values()) - min(load[w] for w in range(workers)) <= 1


def naive_reach(inputs: list[list[int]], start: int, steps: int) -> set[int]:
    found = set(inputs[start])
    for _ in range(steps):
        found |= {each for other in found for each in inputs[other]}
    return found


@given(
    st.integers(1, 6).flatmap(lambda n: st.lists(st.lists(st.integers(0, n - 1), max_size=3), min_size=n, max_size=n))
)
def test_cycles_are_those_who_reach_each_other(inputs: list[list[int]]) -> None:
    reach = [naive_reach(inputs, i, len(inputs)) for i in range(len(inputs))]
    for i in range(len(inputs)):
        group = next((g for g in cycles.cycles(inputs) if i in g), ())
        assert set(group) == {j for j in reach[i] if i in reach[j]}
