"""What both harnesses write down: emits, checked as the engine checks them. Subclassed by the two harnesses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from .checked import Checker
from .component import TaskContext
from .errors import EmitError
from .problems import did_you_mean

if TYPE_CHECKING:
    from pathlib import Path

    from ._core import Tuple
    from .check import StreamShape
    from .checked import Token
    from .plan import ComponentPlan

__all__ = ["Emission", "Recorder"]

_LOOKED_BACK: Final = 100  # emitted tuples that are looked at again for changes after each call


@dataclass(frozen=True, slots=True)
class Emission:
    """One call of `emit`.

    Attributes:
        stream: it went to.
        values: of the tuple.
        anchors: tuples that it belongs to; empty for roots and untracked tuples. Bolts only.
        task: chosen by the emitter of a direct stream, else None.
        id: the spout's, None if it gave none.
        position: the spout's, None if it gave none.
    """

    stream: str
    values: tuple[Any, ...]
    anchors: tuple[Tuple, ...] = ()
    task: int | None = None
    id: Any = None
    position: Any = None

    @property
    def value(self) -> Any:
        """The value itself of a tuple with one field, else all of them as a tuple."""
        return self.values[0] if len(self.values) == 1 else self.values


class Recorder:
    """What both harnesses write down: emits, checked as the engine checks them."""

    def __init__(self, planned: ComponentPlan, *, checked: bool) -> None:
        self._planned = planned
        self._checker = Checker([planned]) if checked else None
        self._tokens: list[tuple[Token, tuple[Any, ...]]] = []
        self.emissions: list[Emission] = []

    @property
    def emitted(self) -> list[Any]:
        """The values emitted to the stream "default": of one field the value itself, of several a tuple."""
        return self.emitted_to("default")

    def emitted_to(self, stream: str) -> list[Any]:
        """The values emitted to a stream."""
        self._shape(stream)
        return [emission.value for emission in self.emissions if emission.stream == stream]

    def clear(self) -> None:
        """Forget what was emitted so far."""
        self.emissions.clear()

    def _shape(self, stream: str) -> StreamShape:
        shape = self._planned.stream(stream)
        if shape is None:
            known = [shape.name for shape in self._planned.streams]
            hint = did_you_mean(stream, known) or f"it has {known}"
            raise EmitError(f'{self._planned.where}: no stream "{stream}"; {hint}')
        return shape

    def _record(self, emission: Emission) -> None:
        where, shape, values = self._planned.where, self._shape(emission.stream), emission.values
        if len(values) != len(shape.fields):
            fields = ", ".join(shape.fields)
            raise EmitError(
                f'{where} stream "{shape.name}": emit() of {len(values)} values, expected the {len(shape.fields)} '
                f"fields {fields}"
            )
        if shape.direct is not (emission.task is not None):
            fix = "give task=" if shape.direct else "declare it with Stream(…, direct=True)"
            raise EmitError(
                f'{where} stream "{shape.name}": {"direct" if shape.direct else "task= but not direct"}; {fix}'
            )
        if self._checker is not None:
            token = self._checker.emit(0, shape.name, values)
            if token is not None:
                self._tokens.append((token, values))
        self.emissions.append(emission)

    def _look_back(self) -> None:
        if self._checker is None:
            return
        del self._tokens[:-_LOOKED_BACK]
        for token, values in self._tokens:
            self._checker.receive(0, token, values, "before")

    def _context(self, position: Any, state_dir: Path | None) -> TaskContext:
        planned = self._planned
        return TaskContext(
            topology="test",
            component=planned.name,
            config=planned.config,
            position=position,
            state_dir=state_dir,
            tasks={planned.name: range(1)},
            streams={s.name: {f: Any if t is None else t for f, t in s.fields.items()} for s in planned.streams},
        )
