"""Loading a topology file: what comes out of a good one, variables, secrets, limits, Flux, imports, the JSON Schema."""

from __future__ import annotations

import json
import logging
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from rainband import grouping
from rainband.component import Stream
from rainband.definition import load, load_tests, load_topology
from rainband.definition.imports import modules_of
from rainband.definition.model import GROUPING_WORDS, TYPE_WORDS, GroupingWord, TypeWord
from rainband.definition.problem import FileProblem, Masker, describe, did_you_mean, path_text
from rainband.definition.reader import MAX_BYTES, MAX_DEPTH, read
from rainband.definition.schema import generate
from rainband.definition.words import keys_at, kind_of, wanted
from rainband.errors import DefinitionError, TopologyError

MODULE = """
from pathlib import Path
from rainband import Bolt, Spout, bolt, spout, TaskContext

class Source(Spout):
    outputs = ["line"]
    def __init__(self, path: Path, size: int = 1, ratio: float = 0.5, loud: bool = False, key: str = "",
                 names: tuple[str, ...] = (), level: "int | None" = None, other: "Unknown" = None, plain=None):
        self.given = dict(vars(), self=None)
    def next_tuple(self) -> None: self.end()

@spout(outputs=["n"])
def numbers(stop: int, context: TaskContext, step=1):
    yield from range(stop)

@bolt(outputs=["word"])
def split(line):
    yield from line.split()

class Sink(Bolt):
    def process(self, **fields): ...

class Direct(Bolt):
    def process(self, tup): ...

class Choose:
    def prepare(self, context, tasks): ...
    def choose(self, values): return []
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    (tmp_path / "stuff.py").write_text(MODULE, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    with modules_of(tmp_path):
        yield tmp_path


def write(folder: Path, text: str, name: str = "t.yaml") -> str:
    (folder / name).write_text(text, encoding="utf-8")
    return str(folder / name)


def error_of(folder: Path, text: str, **more: Any) -> DefinitionError:
    with pytest.raises(DefinitionError) as caught:
        load(write(folder, text), **more).topology()
    return caught.value


def test_every_key_becomes_what_the_python_api_takes(folder: Path) -> None:
    topology = load_topology(
        write(
            folder,
            """
name: all-of-it
config: {max_pending: 50, checked: true}
spouts:
  source:
    class: stuff:Source
    with: {path: a/b.txt, size: 3, names: [x, y]}
    streams: {late: [line, at], one: {fields: {line: str}, direct: true, pickle: true}}
    parallelism: 2
    tasks: 4
    config: {max_attempts: 2}
bolts:
  split: {class: stuff:split, inputs: source, outputs: {word: str}}
  sink:
    class: stuff:Sink
    inputs:
      - split
      - {from: source.late, grouping: {fields: [at, line]}}
      - {from: source.one, grouping: direct}
      - {from: source.dead_letter, grouping: global}
  more:
    class: stuff:Direct
    inputs: [{from: split, grouping: {custom: "stuff:Choose"}}, {from: source.late, grouping: {partial_key: [at]}}]
""",
        )
    )
    source, split, sink, more = topology.definitions
    assert (topology.name, topology.config) == ("all-of-it", {"max_pending": 50, "checked": True})
    assert topology.origin.file == str((folder / "t.yaml").resolve())
    assert source.component.keywords == {"path": Path("a/b.txt"), "size": 3, "names": ("x", "y")}
    assert (source.parallelism, source.tasks, source.config) == (2, 4, {"max_attempts": 2})
    assert source.streams == {"late": Stream(["line", "at"]), "one": Stream({"line": str}, direct=True, pickle=True)}
    assert (split.inputs, split.outputs) == ({"source": grouping.shuffle()}, {"word": str})
    assert sink.inputs == {
        "split": grouping.shuffle(),
        "source.late": grouping.fields("at", "line"),
        "source.one": grouping.direct(),
        "source.dead_letter": grouping.global_(),
    }
    assert type(more.inputs["split"].chooser).__name__ == "Choose"
    assert more.inputs["source.late"] == grouping.partial_key("at")


SPOUT = """\
name: t
spouts: {s: {class: 'stuff:Source', with: {path: x, %s}}}
bolts: {b: {class: 'stuff:Sink', inputs: [s]}}
"""


@pytest.mark.parametrize(
    ("given", "value"),
    [
        ('size: "${N}"', {"size": 7}),
        ('ratio: "${N}"', {"ratio": 7.0}),
        ('loud: "${YES:-true}"', {"loud": True}),
        ('level: "${NONE:-}"', {"level": None}),
        ('level: "${N}"', {"level": 7}),
        ('key: "${N}"', {"key": "7"}),
        ('plain: "${N}"', {"plain": "7"}),
        ('other: "${N}"', {"other": "7"}),
        ('key: "<${N}-${N}>"', {"key": "<7-7>"}),
        ('key: "$$ $x $${N} 5$"', {"key": "$ $x ${N} 5$"}),
        ('key: "${UNSET:-a:-b c}"', {"key": "a:-b c"}),
        ('key: "${EMPTY:-x}"', {"key": "x"}),
        ('key: "${EMPTY}"', {"key": ""}),
        ('names: ["${N}", b]', {"names": ("7", "b")}),
        ("key: file://x", {"key": "file://x"}),
        ("plain: {a: [1, on, 12:30, 0o10]}", {"plain": {"a": [1, "on", "12:30", 8]}}),
    ],
)
def test_variables_are_filled_in_after_parsing_and_typed_where_it_is_wanted(
    folder: Path, given: str, value: dict[str, Any]
) -> None:
    definition = load(write(folder, SPOUT % given), environ={"N": "7", "EMPTY": ""})
    arguments = definition.topology().definitions[0].component.keywords
    assert arguments == {"path": Path("x"), **value}
    assert {key: type(each) for key, each in arguments.items()} == {
        "path": type(Path()),
        **{k: type(v) for k, v in value.items()},
    }


def test_a_variable_cannot_change_the_shape_of_the_file(folder: Path) -> None:
    definition = load(write(folder, SPOUT % 'key: "${EVIL}"'), environ={"EVIL": "x\n  size: 5, loud: true}"})
    assert definition.topology().definitions[0].component.keywords["key"] == "x\n  size: 5, loud: true}"


def test_param_comes_before_the_environment(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("N", "1")
    text = "name: t\nspouts: {s: {class: 'stuff:numbers', with: {stop: '${N:-3}'}, parallelism: '${P:-1}'}}\n"
    assert load(write(folder, text), params={"N": "2"}).topology().definitions[0].component.keywords == {"stop": 2}
    assert load(write(folder, text)).topology().definitions[0].component.keywords == {"stop": 1}
    monkeypatch.delenv("N")
    definition = load(write(folder, text))
    assert definition.topology().definitions[0].component.keywords == {"stop": 3}
    assert dict(definition.variables) == {"N": False, "P": False}


def test_settings_from_variables_are_numbers(folder: Path) -> None:
    spouts = "spouts: {s: {class: 'stuff:numbers', with: {stop: 1}}}"
    text = f"name: t\nconfig: {{max_pending: '${{N}}', checked: '${{C}}'}}\n{spouts}\n"
    assert load(write(folder, text), environ={"N": "9", "C": "true"}).topology().config == {
        "max_pending": 9,
        "checked": True,
    }


def test_secrets_are_read_and_hidden(folder: Path) -> None:
    (folder / "key.txt").write_text("s3cret-from-file\n", encoding="utf-8")
    definition = load(
        write(folder, SPOUT % 'key: "file:${DIR:-.}/key.txt", plain: "pg://me:${DB_PASSWORD}@db"'),
        environ={"DB_PASSWORD": "hunter22"},
    )
    arguments = definition.topology().definitions[0].component.keywords
    assert (arguments["key"], arguments["plain"]) == ("s3cret-from-file", "pg://me:hunter22@db")
    shown = definition.shown()["spouts"]["s"]["with"]
    assert shown == {"path": "x", "key": "***", "plain": "pg://me:***@db"}
    assert (
        definition.mask("cannot open 'pg://me:hunter22@db' with s3cret-from-file")
        == "cannot open 'pg://me:***@db' with ***"
    )


def test_secrets_are_hidden_in_errors(folder: Path) -> None:
    error = error_of(folder, SPOUT % 'size: "${API_KEY}", loud: "is ${API_KEY} good"', environ={"API_KEY": "k-12345"})
    assert "k-12345" not in str(error)
    assert all("k-12345" not in json.dumps(problem.as_dict()) for problem in error.problems)  # type: ignore[attr-defined]


def test_the_masker_knows_other_spellings_and_spares_short_values() -> None:
    mask = Masker()
    mask.add('a"b\nc')
    mask.add("1")
    mask.add('a"b\nc and more')
    assert mask('1 a"b\nc 1') == "1 *** 1"
    assert mask(json.dumps({"x": 'a"b\nc'})) == '{"x": "***"}'
    assert mask('a"b\nc and more') == "***"


def test_limits() -> None:
    source, root = read("t.yaml", b"# " + b"x" * MAX_BYTES)
    assert root is None
    assert str(source.problems[0]) == "t.yaml:1:1: the file is too large; expected at most 1 MiB, got 1,048,578 bytes"
    deep = MAX_DEPTH - 1
    assert read("t.yaml", b"a: " + b"[" * deep + b"]" * deep)[0].problems == []
    for levels in (deep + 1, 100_000):
        source, root = read("t.yaml", b"a: " + b"[" * levels + b"]" * levels)
        assert root is None
        assert "nested deeper than 32 levels; flatten the file" in str(source.problems[0])


def test_encodings() -> None:
    assert read("t.yaml", b"\xef\xbb\xbfname: x")[1] is not None
    source, _ = read("t.yaml", b"name: x\nb: \xff\xfe")
    assert str(source.problems[0]) == "t.yaml:2:4: not UTF-8; got byte 0xff; write the file as UTF-8"
    source, _ = read("t.yaml", "näme: x\nb: é".encode("latin-1"))
    assert source.problems[0].line == 1
    assert str(read("t.yaml", b"")[0].problems[0]).startswith("t.yaml:1:1: the file is empty; begin with")


FLUX = """\
name: "word-count"
config: {topology.workers: 1, topology.max.spout.pending: 50, other: 1}
components:
  - id: "scheme"
    className: "org.apache.storm.spout.StringScheme"
spouts:
  - id: "sentences"
    className: "org.acme.SentenceSpout"
    constructorArgs: ["a b", 5, true, {ref: "scheme"}]
    parallelism: 1
bolts:
  - {id: split, className: bolts.SplitBolt, parallelism: 2, numTasks: 4}
  - {id: count, className: org.acme.WordCounter}
streams:
  - {name: s1, from: sentences, to: split, grouping: {type: SHUFFLE}}
  - {from: split, to: count, grouping: {type: FIELDS, args: [word], streamId: late}}
  - {from: split, to: count, grouping: {type: CUSTOM, customClass: {className: org.acme.ByLength}}}
  - {from: sentences, to: count, grouping: {type: LOCAL_OR_SHUFFLE}}
"""


def test_flux_is_recognised_and_rewritten(folder: Path) -> None:
    error = error_of(folder, FLUX)
    (problem,) = error.problems
    assert isinstance(problem, FileProblem)
    assert (
        str(problem)
        .splitlines()[0]
        .endswith(
            "t.yaml:6:1: spouts: this is a topology of Storm's Flux, which rainband does not run; "
            "write it as below, with each class ported to a Spout or Bolt in Python"
        )
    )
    assert (
        problem.details
        == """\
name: word-count
config: {workers: 1, max_pending: 50}
spouts:
  sentences:
    class: sentence_spout:SentenceSpout
    with: {arg1: a b, arg2: 5, arg3: true, arg4: StringScheme}  # name each after the constructor's parameter
bolts:
  split:
    class: bolts:SplitBolt
    parallelism: 2
    tasks: 4
    inputs:
      - sentences
  count:
    class: word_counter:WordCounter
    inputs:
      - {from: split.late, grouping: {fields: [word]}}
      - {from: split, grouping: {custom: by_length:ByLength}}
      - {from: sentences, grouping: local_or_shuffle}"""
    )


def test_what_flux_becomes_is_a_file_of_ours(folder: Path) -> None:
    details = error_of(folder, FLUX).problems[0].details  # type: ignore[attr-defined]
    model = load(write(folder, details)).model
    assert list(model.bolts) == ["split", "count"]


def test_the_files_own_folder_comes_first_and_others_are_never_taken_silently(folder: Path) -> None:
    other = folder / "other"
    other.mkdir()
    (other / "stuff.py").write_text("from rainband import Spout\nclass Source(Spout):\n    outputs = ['b']\n", "utf-8")
    text = "name: t\nspouts: {s: {class: 'stuff:Source', with: {}}}\n"
    with modules_of(other):
        assert load(write(other, text)).topology(checked=False).definitions[0].component.outputs == ["b"]
    assert "stuff" not in sys.modules
    load(write(folder, SPOUT % "size: 1")).topology()
    with pytest.raises(
        DefinitionError, match='"stuff" beside the file cannot be imported: a module of that name is loaded'
    ):
        load(write(other, text)).topology()


def test_nothing_is_imported_before_it_is_asked_for(folder: Path) -> None:
    (folder / "raises.py").write_text("raise SystemExit(3)\n", encoding="utf-8")
    definition = load(write(folder, "name: t\nspouts: {s: {class: 'raises:X', outputs: [a]}}\n"))
    with pytest.raises(DefinitionError) as caught:
        definition.topology()
    assert [problem.code for problem in caught.value.problems] == ["import_failed"]


def test_a_module_that_raises_is_told_once(folder: Path) -> None:
    (folder / "raises.py").write_text("1 / 0\n", encoding="utf-8")
    text = "name: t\nspouts: {s: {class: 'raises:X'}}\nbolts: {b: {class: 'raises:Y', inputs: [s]}}\n"
    assert len(error_of(folder, text).problems) == 1


def test_tests_have_their_own_params(folder: Path) -> None:
    text = (
        "name: '${NAME}'\nspouts: {s: {class: 'stuff:numbers', with: {stop: 1}}}\n"
        "tests:\n  - {name: a, expect: {s: [1]}, params: {NAME: first}}\n  - {name: b, expect: {s: []}, order: exact}\n"
    )
    found = load_tests(write(folder, text), params={"NAME": "given"})
    assert [(entry.name, entry.order, definition.model.name) for entry, definition in found] == [
        ("a", "any", "first"),
        ("b", "exact", "given"),
    ]
    assert found[0][1].place(("tests", 1)).endswith("t.yaml:5:5")
    assert load_tests(write(folder, SPOUT % "size: 1")) == []


def test_a_file_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "nowhere.yaml")


def test_the_error_is_one_of_the_tree(folder: Path) -> None:
    error = error_of(folder, "name: t\n")
    assert isinstance(error, TopologyError)
    assert error.problems[0].as_dict() == {  # type: ignore[attr-defined]
        "file": str(folder / "t.yaml"),
        "line": 1,
        "column": 1,
        "path": "",
        "code": "missing_key",
        "message": 'the key "spouts" is missing; write spouts: {lines: {class: wordcount:Lines}}',
        "fix": "write spouts: {lines: {class: wordcount:Lines}}",
    }


def test_the_committed_schema_is_current() -> None:
    assert files("rainband").joinpath("topology.schema.json").read_text(encoding="utf-8") == generate(), (
        "write it anew: python -m rainband.definition.schema > python/rainband/topology.schema.json"
    )


def test_the_schema_knows_every_key_and_variable() -> None:
    schema = json.loads(generate())
    assert set(schema["properties"]) == set(keys_at(()))
    assert "batch_size" in schema["$defs"]["BoltEntry"]["properties"]["config"]["properties"]
    assert "drain_timeout_s" not in schema["$defs"]["BoltEntry"]["properties"]["config"]["properties"]
    assert {"type": "string", "pattern": r"\$\{.*\}"} in schema["$defs"]["BoltEntry"]["properties"]["parallelism"][
        "anyOf"
    ]


def test_words_and_models_agree() -> None:
    assert set(GROUPING_WORDS) == set(GroupingWord.__args__)  # type: ignore[attr-defined]
    assert set(TYPE_WORDS) == set(TypeWord.__args__)  # type: ignore[attr-defined]
    for path in ((), ("spouts", "s"), ("bolts", "b"), ("tests", 0), ("bolts", "b", "inputs", 0)):
        assert keys_at(path)
        for key in keys_at(path):
            assert kind_of((*path, key)), (path, key)
            assert wanted((*path, key))[0] != "another value", (path, key)


def test_small_texts() -> None:
    assert path_text(("bolts", "a b", "inputs", 0, "from")) == 'bolts["a b"].inputs[0].from'
    assert [describe(value) for value in (None, True, "x", 5, [], [1], {}, {"a": 1})] == [
        "nothing",
        "true",
        'the text "x"',
        "the number 5",
        "an empty list",
        "a list of 1",
        "an empty mapping",
        "a mapping with a",
    ]
    assert did_you_mean("Split_", ["split", "count"]) == 'did you mean "split"?'
    assert did_you_mean("zzz", ["split", "count"]) == "known here: split, count"
    assert did_you_mean("zzz", []) == ""


def test_loading_says_nothing_to_the_log(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        load_topology(write(folder, SPOUT % "size: 1"))
    assert caplog.records == []
