"""What may stand in a topology file: strict models, from which the JSON Schema is made.

The models say what is right; the words for what is wrong are in ``explain``. Values come from ``reader`` and are plain
data. Unions are told apart by their shape alone, so that an error speaks of the form that was meant. Whether the parts
fit together (sources exist, fields exist) is not seen here: see ``graph_check`` and ``Topology.check``.
"""

from __future__ import annotations

import keyword
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator
from pydantic_core import PydanticCustomError

NAME_PATTERN: Final = r"^[A-Za-z][A-Za-z0-9_-]*$"
REFERENCE_PATTERN: Final = r"^[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*$"
SOURCE_PATTERN: Final = r"^[A-Za-z][A-Za-z0-9_-]*(\.[A-Za-z][A-Za-z0-9_-]*)?$"

GROUPING_WORDS: Final = ("shuffle", "all", "global", "none", "local_or_shuffle", "direct")
GROUPING_KEYS: Final = ("fields", "partial_key", "custom")
TYPE_WORDS: Final = (
    "any", "str", "int", "float", "bool", "bytes", "list", "dict", "tuple", "set",
    "date", "datetime", "timedelta", "UUID", "Decimal",
)  # fmt: skip

# What a hidden tag of a union looks like in the location of an error; ``explain`` drops them.
TEXT, LIST, MAPPING, FULL = "<text>", "<list>", "<mapping>", "<full>"


def _field_name(name: str) -> str:
    if not name.isidentifier() or keyword.iskeyword(name) or name == "tup":
        msg = "field_name"
        raise PydanticCustomError(msg, "field name")
    return name


def _no_file(reference: str) -> str:
    if ".py:" in reference:
        raise PydanticCustomError("file", "a file in place of a module")
    return reference


def _distinct(names: list[str]) -> list[str]:
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        msg = "twice"
        raise PydanticCustomError(msg, "{name}", {"name": twice})
    return names


def _shape(value: object) -> str | None:
    if isinstance(value, str):
        return TEXT
    return LIST if isinstance(value, list) else MAPPING if isinstance(value, dict) else None


def _list_or_mapping(value: object) -> str | None:
    shape = _shape(value)
    return None if shape == TEXT else shape


def _stream_shape(value: object) -> str | None:
    if isinstance(value, dict) and (
        "direct" in value or "pickle" in value or isinstance(value.get("fields"), list | dict)
    ):
        return FULL
    return _list_or_mapping(value)


def _text_or_list(value: object) -> str | None:
    shape = _shape(value)
    return None if shape == MAPPING else shape


def _text_or_mapping(value: object) -> str | None:
    shape = _shape(value)
    return None if shape == LIST else shape


Name = Annotated[str, Field(pattern=NAME_PATTERN)]
Reference = Annotated[str, Field(pattern=REFERENCE_PATTERN), AfterValidator(_no_file)]
SourceName = Annotated[str, Field(pattern=SOURCE_PATTERN)]
FieldName = Annotated[str, AfterValidator(_field_name)]
TypeWord = Literal[
    "any", "str", "int", "float", "bool", "bytes", "list", "dict", "tuple", "set",
    "date", "datetime", "timedelta", "UUID", "Decimal",
]  # fmt: skip
FieldList = Annotated[list[FieldName], AfterValidator(_distinct)]
Fields = Annotated[
    Annotated[FieldList, Tag(LIST)] | Annotated[dict[FieldName, TypeWord], Tag(MAPPING)],
    Discriminator(_list_or_mapping),
]
Count = Annotated[int, Field(ge=1, le=10_000)]


def _optional(description: str) -> Any:
    """A field that may be left out, and then is None; None itself is refused in a file, as a key without a value."""
    return Field(None, description=description)


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, hide_input_in_errors=True)


class StreamEntry(_Strict):
    """A stream with more to say than its fields."""

    fields: Fields = Field(description="Names of the fields, or name → type.")
    direct: bool = Field(False, description="For direct emit: the sender names the task.")
    pickle: bool = Field(False, description="Values that the codec refuses travel between workers as pickles: unsafe.")


StreamValue = Annotated[
    Annotated[StreamEntry, Tag(FULL)]
    | Annotated[FieldList, Tag(LIST)]
    | Annotated[dict[FieldName, TypeWord], Tag(MAPPING)],
    Discriminator(_stream_shape),
]


class GroupingEntry(_Strict):
    """A grouping that needs more than its name; exactly one key."""

    fields: Annotated[FieldList, Field(min_length=1)] = _optional("Equal values, same task.")
    partial_key: Annotated[FieldList, Field(min_length=1)] = _optional(
        "Equal values go to one of two tasks, the less used."
    )
    custom: Reference = _optional("Your class with prepare(context, tasks) and choose(values).")

    model_config = ConfigDict(json_schema_extra={"minProperties": 1, "maxProperties": 1})

    @model_validator(mode="after")
    def _one_key(self) -> GroupingEntry:
        if sum(value is not None for value in (self.fields, self.partial_key, self.custom)) != 1:
            msg = "one_key"
            raise PydanticCustomError(msg, "one key")
        return self


GroupingWord = Literal["shuffle", "all", "global", "none", "local_or_shuffle", "direct"]
Grouping = Annotated[
    Annotated[GroupingWord, Tag(TEXT)] | Annotated[GroupingEntry, Tag(MAPPING)], Discriminator(_text_or_mapping)
]


class InputEntry(_Strict):
    """One source of a bolt and how its tuples are shared out."""

    from_: SourceName = Field(alias="from", description="A component, or component.stream.")
    grouping: Grouping = Field("shuffle", description="How tuples are shared out among the tasks.")


Inputs = Annotated[
    Annotated[SourceName, Tag(TEXT)]
    | Annotated[
        list[
            Annotated[
                Annotated[SourceName, Tag(TEXT)] | Annotated[InputEntry, Tag(MAPPING)],
                Discriminator(_text_or_mapping),
            ]
        ],
        Field(min_length=1),
        Tag(LIST),
    ],
    Discriminator(_text_or_list),
]


class _Component(_Strict):
    class_: Reference = Field(alias="class", description="module:Name of a component, the file's own folder first.")
    with_: dict[str, Any] = Field({}, alias="with", description="Keyword arguments of its constructor or function.")
    parallelism: Count = Field(1, description="Executors (threads).")
    tasks: Count = _optional("Instances; as many as executors if left out, never fewer.")
    outputs: Fields = _optional("Fields of the stream 'default'; replaces the class's.")
    streams: dict[Name, StreamValue] = _optional("Further streams; replaces the class's.")
    config: dict[str, Any] = Field({}, description="Configuration of this component.")


class SpoutEntry(_Component):
    """A source of tuples."""


class BoltEntry(_Component):
    """A step that takes tuples and may emit others."""

    inputs: Inputs = Field(description="Its sources: one, or a list.")


class TestEntry(_Strict):
    """Tuples that go in and values that must come out, run by 'rainband test'."""

    __test__ = False  # not one of pytest's

    name: str = Field(min_length=1, description="What it shows.")
    given: dict[SourceName, list[Any]] = Field(
        {},
        description="Spout, or spout.stream → what it emits in place of its own; one-field values bare.",
    )
    expect: dict[SourceName, list[Any]] = Field(
        description="Component, or component.stream → all values it must emit.", min_length=1
    )
    order: Literal["any", "exact"] = Field("any", description="Whether the order of values counts.")
    params: dict[str, str | int | float | bool] = Field({}, description="Values for ${…} in this test.")
    dead_letters: Annotated[int, Field(ge=0)] = Field(0, description="How many tuples must fail for good.")


class TopologyFile(_Strict):
    """A rainband topology."""

    name: Name = Field(description="Name of the topology.")
    config: dict[str, Any] = Field({}, description="Configuration of the topology, and of all its components.")
    spouts: Annotated[dict[Name, SpoutEntry], Field(min_length=1)] = Field(description="Name → spout.")
    bolts: dict[Name, BoltEntry] = Field({}, description="Name → bolt.")
    tests: list[TestEntry] = Field([], description="Tests of this topology, for 'rainband test'.")

    model_config = ConfigDict(title="rainband topology")
