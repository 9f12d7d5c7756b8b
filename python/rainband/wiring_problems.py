"""The text of every mistake of wiring: streams, inputs, groupings, and the parameters that are bound to fields.

The other half of problems.py, where the list of all of them stands.
"""

from __future__ import annotations

from .problems import Text, did_you_mean, listed, quoted, shown

# Outputs and streams.


@listed
def bad_fields(stream: str, got: object) -> Text:
    """Fields that are neither a list of names nor a mapping name → type."""
    fix = f"write [{got!r}]" if isinstance(got, str) else ""
    return Text(f'bad fields of stream "{stream}"', "a list of names or a mapping name → type", shown(got), fix)


@listed
def bad_field(stream: str, name: object) -> Text:
    """A field name that is no identifier, a keyword, or `tup`."""
    reason = ' ("tup" is the parameter that takes the whole tuple)' if name == "tup" else ""
    return Text(f'bad field in stream "{stream}"', f"an identifier that is no keyword{reason}", shown(name))


@listed
def duplicate_field(stream: str, name: str) -> Text:
    """A field that stands twice in a stream."""
    return Text(f'field "{name}" stands twice in stream "{stream}"', "", "", "rename one of them")


@listed
def bad_streams(got: object) -> Text:
    """`streams` that is not a mapping name → fields."""
    return Text("bad streams", "a mapping name → list of fields or Stream(…)", shown(got))


@listed
def duplicate_stream() -> Text:
    """A stream `default` in `streams` beside `outputs`."""
    return Text('stream "default" is declared by outputs and by streams', "", "", "remove one of them")


@listed
def reserved_stream() -> Text:
    """A stream `dead_letter` declared by a user."""
    return Text(
        'stream "dead_letter" is the engine\'s: every spout has it',
        "another name",
        "",
        "subscribe to it without declaring it",
    )


@listed
def no_outputs(name: str) -> Text:
    """A spout that declares no stream."""
    return Text(f"{name} declares no outputs", 'outputs = ["field", …]', "", "name the fields of what it emits")


# Inputs and groupings.


@listed
def no_inputs(known: list[str]) -> Text:
    """A bolt without inputs."""
    first = known[0] if known else "source"
    return Text("it has no inputs", f"inputs= with one of {quoted(known)}", "", f'write inputs="{first}"')


@listed
def bad_inputs(got: object) -> Text:
    """`inputs` that is neither a source, a list of sources nor a mapping source → grouping."""
    return Text("bad inputs", "a source, a list of sources, or a mapping source → grouping", shown(got))


@listed
def bad_source(got: object) -> Text:
    """A source that is not `component` or `component.stream`."""
    return Text("bad source", '"component" or "component.stream"', shown(got))


@listed
def unknown_component(name: str, known: list[str]) -> Text:
    """A source that names no component."""
    return Text(f'no component is named "{name}"', f"one of {quoted(known)}", "", did_you_mean(name, known))


@listed
def unknown_stream(component: str, stream: str, known: list[str]) -> Text:
    """A source that names no stream of its component."""
    if not known:
        return Text(f'"{component}" emits nothing: it declares no outputs', "", "", f'declare outputs on "{component}"')
    fix = did_you_mean(stream, known)
    if stream == "default":
        fix = f'write "{component}.{known[0]}"'
    return Text(f'"{component}" has no stream "{stream}"', f"one of {quoted(known)}", "", fix)


@listed
def duplicate_source(source: str) -> Text:
    """A stream that a bolt takes twice."""
    return Text(f'input "{source}" stands twice', "each stream once", "", "remove one of them")


@listed
def bad_grouping(source: str, got: object) -> Text:
    """Something that is no grouping."""
    fix = 'write grouping.fields("word")' if isinstance(got, str) else ""
    return Text(f'bad grouping of input "{source}"', "a grouping, as grouping.shuffle()", shown(got), fix)


@listed
def uncalled_grouping(source: str, name: str) -> Text:
    """A grouping that was not called."""
    return Text(f'the grouping of input "{source}" is not called', f"grouping.{name}()", f"grouping.{name}")


@listed
def no_key(source: str, kind: str) -> Text:
    """A grouping by fields without fields."""
    return Text(
        f'grouping.{kind}() of input "{source}" names no field', "at least one", "", f'write grouping.{kind}("field")'
    )


@listed
def unknown_key(source: str, name: object, known: list[str]) -> Text:
    """A grouping by a field that the stream lacks."""
    if isinstance(name, list | tuple):
        return Text(f'the key of input "{source}" is a list', 'names, as in grouping.fields("a", "b")', shown(name))
    fix = did_you_mean(name, known)
    return Text(f'input "{source}" has no field {shown(name)} to group by', f"one of {quoted(known)}", "", fix)


@listed
def duplicate_key(source: str, name: str) -> Text:
    """A grouping that names a field twice."""
    return Text(f'the key of input "{source}" names field "{name}" twice', "each field once")


@listed
def bad_chooser(source: str, got: object, missing: str) -> Text:
    """A `custom` grouping whose object cannot choose."""
    return Text(
        f'the object of grouping.custom of input "{source}" has no method {missing}()',
        "an object with prepare(context, tasks) and choose(values)",
        shown(got),
        f"write custom({got.__name__}(…))" if isinstance(got, type) else f"define {missing}",
    )


@listed
def not_direct(source: str) -> Text:
    """A direct grouping of a stream whose emitter does not choose the task."""
    return Text(
        f'input "{source}" is grouped direct, but the stream is not declared so',
        "Stream([…], direct=True)",
        "",
        "declare it so, or take another grouping",
    )


@listed
def only_direct(source: str, kind: str) -> Text:
    """Another grouping than direct of a stream whose emitter chooses the task."""
    return Text(
        f'input "{source}" is a direct stream: its emitter chooses the task', "grouping.direct()", f"grouping.{kind}()"
    )


# Parameters of process.


@listed
def unknown_parameter(name: str, source: str, fields: list[str], hint: str = "") -> Text:
    """A parameter without default that no field of an input supplies."""
    fix = hint or did_you_mean(name, fields, "rename it, or give it a default, or take tup: Tuple")
    return Text(
        f'parameter "{name}" of process(): input "{source}" has no such field', f"one of {quoted(fields)}", "", fix
    )


@listed
def parameter_type(name: str, source: str, declared: str, annotated: str) -> Text:
    """A parameter whose annotation contradicts the declared type of the field."""
    return Text(
        f'parameter "{name}" of process() contradicts input "{source}"', f"{declared} as declared there", annotated
    )


@listed
def star_args(name: str) -> Text:
    """`*args` in `process`."""
    return Text(
        f"process() takes *{name}, but fields are bound by name",
        "named parameters",
        "",
        "name the fields, or take tup: Tuple",
    )


@listed
def two_tuples(names: list[str]) -> Text:
    """Two parameters of `process` that would take the whole tuple."""
    return Text(f"process() takes the whole tuple twice, as {quoted(names)}", "one of them", "", "remove one")


@listed
def typing_tuple(name: str) -> Text:
    """`typing.Tuple` in place of `rainband.Tuple`."""
    return Text(
        f'parameter "{name}" of process() is annotated typing.Tuple',
        "rainband.Tuple",
        "typing.Tuple",
        "write from rainband import Tuple",
    )


@listed
def tup_annotation(annotated: str) -> Text:
    """A parameter named `tup` that is annotated as something else."""
    return Text(
        'parameter "tup" of process() takes the whole tuple', "Tuple", annotated, "rename it if a field is meant"
    )


@listed
def positional_gap(name: str, before: str, source: str) -> Text:
    """A positional-only parameter behind one that the stream lacks."""
    return Text(
        f'parameter "{name}" of process() is positional-only behind "{before}", which input "{source}" lacks',
        "",
        "",
        "remove the / from the parameters",
    )


@listed
def unreadable_signature(name: str) -> Text:
    """A `process` whose parameters cannot be seen, as of a function written in C."""
    return Text(f"the parameters of {name} cannot be read", "a function written in Python")
