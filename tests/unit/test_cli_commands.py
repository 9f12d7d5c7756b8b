"""The commands as a user types them, in this process: exit code, stdout, stderr."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from rainband import cli
from rainband.cli import output
from rainband.definition.imports import modules_of

if TYPE_CHECKING:
    from pathlib import Path


class Result(NamedTuple):
    code: int
    out: str
    err: str


Rainband = Callable[..., Result]

PARTS = """
from rainband import Bolt, Topology, bolt, spout

@spout(outputs=["n"])
def numbers(stop: int = 3):
    yield from range(stop)

@bolt(outputs=["m"])
def double(n):
    print("seen", n)
    yield 2 * n

@bolt(outputs=["m"])
def divide(n):
    yield 10 // n

class NeedsKey(Bolt):
    def __init__(self, key):
        self.key = key
    def prepare(self, context):
        raise OSError(f"no login with {self.key}")
    def process(self, n): ...

def build(stop: int, name: str = "built") -> Topology:
    topology = Topology(name)
    from functools import partial
    topology.spout("numbers", partial(numbers, stop))
    topology.bolt("double", double, inputs="numbers", parallelism=2)
    return topology

def fails() -> Topology:
    raise LookupError("nothing here")

def nothing() -> Topology:
    return None
"""
FILE = """\
name: small
spouts: {numbers: {class: "parts:numbers", with: {stop: "${STOP:-3}"}}}
bolts:
  double: {class: "parts:double", inputs: [numbers], parallelism: 2}
tests:
  - name: doubles
    given: {numbers: [1, 2]}
    expect: {double: [4, 2]}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "parts.py").write_text(PARTS, encoding="utf-8")
    (tmp_path / "small.yaml").write_text(FILE, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    factory = logging.getLogRecordFactory()
    with modules_of(tmp_path):
        yield tmp_path
    logging.setLogRecordFactory(factory)
    output._masks.clear()


@pytest.fixture
def rainband(folder: Path, capsys: pytest.CaptureFixture[str]) -> Rainband:
    def run(*args: str) -> Result:
        code = cli.run_cli(list(args))
        return Result(code, *capsys.readouterr())

    return run


def test_run_a_file(rainband: Rainband) -> None:
    result = rainband("run", "small.yaml")
    assert result.code == 0
    assert 'topology "small" ended' in result.out
    assert "double" in result.out


def test_run_with_json_keeps_stdout_for_json(rainband: Rainband) -> None:
    result = rainband("run", "small.yaml", "--json", "--param", "STOP=5")
    found = json.loads(result.out)
    assert (result.code, found["exit_code"]) == (0, 0)
    assert found["report"]["components"]["double"]["executed"] == 5
    assert "seen 4" in result.err


@pytest.mark.parametrize("target", ["parts.py:build", "parts:build"])
def test_run_a_function_with_params_converted(rainband: Rainband, target: str) -> None:
    result = rainband("run", target, "-p", "stop=4", "-p", "name=mine", "--json")
    report = json.loads(result.out)["report"]
    assert (report["topology"], report["components"]["numbers"]["emitted"]) == ("mine", 4)


def test_run_the_only_topology_of_a_file(rainband: Rainband, folder: Path) -> None:
    (folder / "my-own.py").write_text("import parts\ntopology = again = parts.build(2)\n", encoding="utf-8")
    result = rainband("run", "my-own.py", "--set", "max_pending=2", "--set", "double.queue_capacity=1")
    assert (result.code, 'topology "built" ended' in result.out) == (0, True)


def test_dead_letters_are_exit_code_6(rainband: Rainband, folder: Path) -> None:
    (folder / "dead.yaml").write_text(FILE.replace("parts:double", "parts:divide"), encoding="utf-8")
    result = rainband("run", "dead.yaml", "--set", "max_attempts=1")
    assert result.code == 6
    assert "dead letters: 1" in result.out


def test_a_failed_run_shows_the_cause_and_no_secret(
    rainband: Rainband, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("API_KEY", "k-99887766")
    text = FILE.replace("parts:double", "parts:NeedsKey").replace("inputs:", 'with: {key: "${API_KEY}"}, inputs:')
    (folder / "key.yaml").write_text(text, encoding="utf-8")
    for args in (["run", "key.yaml"], ["run", "key.yaml", "--json"], ["graph", "key.yaml", "--json"]):
        result = rainband(*args)
        assert "k-99887766" not in result.out + result.err
        assert "***" in result.out + result.err
        assert result.code == (0 if args[0] == "graph" else 1)
    assert "OSError: no login with ***" in rainband("run", "key.yaml").err


USAGE: list[tuple[list[str], int, str]] = [
    (["rnu"], 2, 'there is no command "rnu"; did you mean "run"?'),
    (["small.yaml"], 2, 'there is no command "small.yaml"; to run it, write rainband run small.yaml'),
    (["run", "smal.yaml"], 3, 'there is no file "smal.yaml"; did you mean "small.yaml"?'),
    (["run", "small"], 3, 'there is no file "small"; did you mean "small.yaml"?'),
    (["run", "no/where.yaml"], 3, 'there is no file "no/where.yaml": its folder does not exist'),
    (["run", "nothing:at:all"], 2, 'expected FILE.yaml, FILE.py, FILE.py:name or module:name, got "nothing:at:all"'),
    (["run", "nomodule:x"], 3, 'there is no module "nomodule"'),
    (["run", "parts:biuld"], 3, '"parts" has no "biuld"; did you mean "build"?'),
    (["run", "parts.py"], 3, "no Topology, but functions that make one; write parts.py:build, parts.py:fails"),
    (["run", "parts:build"], 2, 'build needs the argument "stop" (a whole number); write --param stop=…'),
    (["run", "parts:build", "-p", "stop=x"], 2, '--param stop: expected a whole number, got the text "x"'),
    (["run", "parts:build", "-p", "stp=1"], 2, '--param stp: build has no parameter "stp"; did you mean "stop"?'),
    (["run", "parts:double", "-p", "n=1"], 2, "expected a Topology"),
    (["run", "parts:nothing"], 2, "nothing() returned NoneType; expected a Topology"),
    (
        ["run", "parts:NeedsKey"],
        2,
        '"NeedsKey" of "parts" is a component; expected a Topology',
    ),
    (["run", "parts:fails"], 1, "fails() raised LookupError: nothing here"),
    (["run", "small.yaml", "-p", "STPO=1"], 2, '--param STPO: small.yaml has no "${STPO}"; did you mean "STOP"?'),
    (["run", "small.yaml", "-p", "STOP"], 2, 'expected KEY=VALUE, got "STOP"'),
    (["run", "small.yaml", "-p", "STOP=x"], 78, 'expected a whole number, got the text "x"'),
    (["run", "small.yaml", "--set", "max_pendin=1"], 2, 'unknown setting "max_pendin"; did you mean "max_pending"?'),
    (["run", "small.yaml", "--workers", "0"], 2, "0 is not in the range x>=1"),
    (["run", "small.yaml", "--set", "workers=0"], 2, "expected a whole number of at least 1"),
    (
        ["run", "small.yaml", "--duration", "soon"],
        2,
        "expected a time above 0 in seconds, as 90, 1.5m or 2h",
    ),
    (["validate", "parts.py"], 2, '"parts.py" is Python and can only be checked by importing it; add --import'),
    (["validate", "nowhere.yaml"], 3, 'there is no file "nowhere.yaml"'),
    (["validate", "."], 2, '"." is Python'),
    (["graph", "."], 3, '"." is a folder; name a file in it: small.yaml'),
    (["test", "parts.py"], 2, 'tests stand in .yaml files, got "parts.py"; tests in Python are run by pytest'),
    (["test", "small.yaml", "-k", "nothing"], 3, "no test was found"),
    (["new", "json"], 2, 'there is a module "json" already, which yours would hide; choose another name'),
    (["new", "class"], 2, '"class" is a keyword of Python'),
    (["new", "2x"], 2, 'expected a name of a letter, then letters, digits, "_" or "-", got "2x"'),
]


@pytest.mark.parametrize(("args", "code", "said"), USAGE, ids=[" ".join(args) for args, _, _ in USAGE])
def test_wrong_usage_is_told_with_one_thing_to_try(rainband: Rainband, args: list[str], code: int, said: str) -> None:
    result = rainband(*args)
    assert said in result.err
    assert result.code == code
    assert "internal error" not in result.err
    assert "site-packages" not in result.err


@pytest.mark.parametrize("args", [args for args, _, _ in USAGE if args[0] not in ("rnu", "small.yaml")])
def test_errors_as_json(rainband: Rainband, args: list[str]) -> None:
    result = rainband(*args, "--json")
    if result.out:
        found: Any = json.loads(result.out)
        assert found.get("error", {}).get("exit_code", result.code) == result.code


def test_validate_says_what_is_in_a_good_file(rainband: Rainband) -> None:
    result = rainband("validate", "small.yaml", "--import")
    assert result == (0, "small.yaml: valid (1 spout, 1 bolt, 1 test)\n", "")
    assert (
        rainband("validate", "parts.py:build", "--import", "-p", "stop=1").out
        == "parts.py:build: valid (1 spout, 1 bolt)\n"
    )


def test_validate_shows_each_mistake_with_its_line(rainband: Rainband, folder: Path) -> None:
    (folder / "bad.yaml").write_text(FILE.replace("[numbers]", "[number]"), encoding="utf-8")
    result = rainband("validate", "bad.yaml", "small.yaml")
    assert (result.code, result.out) == (78, "small.yaml: valid (1 spout, 1 bolt, 1 test)\n")
    assert result.err == (
        'bad.yaml:4:44: bolts.double.inputs[0]: no component is named "number"; did you mean "numbers"?\n'
        '    4 |   double: {class: "parts:double", inputs: [number], parallelism: 2}\n'
        "                                                   ^\n"
        "error: bad.yaml has 1 mistake\n"
    )
    found = json.loads(rainband("validate", "bad.yaml", "small.yaml", "--json").out)
    assert [row["valid"] for row in found["files"]] == [False, True]
    assert found["files"][0]["problems"][0]["line"] == 4


def test_a_module_that_raises_is_1_for_run_and_78_for_validate(rainband: Rainband, folder: Path) -> None:
    (folder / "raises.py").write_text("1 / 0\n", encoding="utf-8")
    (folder / "raises.yaml").write_text(FILE.replace("parts:double", "raises:x"), encoding="utf-8")
    assert rainband("validate", "raises.yaml").code == 0
    for command, code in ((["run"], 1), (["validate", "--import"], 78), (["graph"], 0)):
        result = rainband(*command, "raises.yaml")
        assert result.code == code
        assert ("ZeroDivisionError: division by zero" in result.err) == (code != 0)


def test_test_shows_the_difference(rainband: Rainband, folder: Path) -> None:
    assert rainband("test", "small.yaml").code == 0
    text = FILE.replace("[4, 2]", "[4, 3]").replace("doubles", "halves")
    (folder / "bad.yaml").write_text(text + "    order: exact\n    dead_letters: 1\n", encoding="utf-8")
    result = rainband("test", "small.yaml", "bad.yaml")
    assert result.code == 1
    assert "  ok    doubles (" in result.out
    assert "  FAIL  halves (" in result.out
    assert "bad.yaml:6:5" in result.out
    assert "double: expected 2 values in this order, got 2; - missing, + not expected" in result.out
    assert "dead letters: expected 1, got 0" in result.out
    assert "seen 1" in result.out
    assert result.out.endswith("1 passed, 1 failed\n")
    found = json.loads(rainband("test", "bad.yaml", "--json").out)
    assert (found["failed"], found["tests"][0]["passed"]) == (1, False)


def test_new_makes_a_project_that_passes_its_tests(
    rainband: Rainband, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = rainband("new", "rain-words")
    assert result.code == 0
    assert rainband("new", "rain-words").code == 2
    monkeypatch.chdir(folder / "rain-words")
    with modules_of(folder / "rain-words"):
        assert rainband("validate", "rain-words.yaml", "--import").code == 0
        assert rainband("test", "rain-words.yaml").out.endswith("2 passed\n")
        ran = rainband("run", "rain-words.yaml")
    assert ran.code == 0
    assert "     6 the\n     5 rain\n" in ran.out


def test_schema_is_the_committed_one(rainband: Rainband) -> None:
    assert json.loads(rainband("schema").out)["title"] == "rainband topology"


def test_no_colour_when_it_is_not_wanted(rainband: Rainband, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in rainband("run", "nowhere.yaml").err


def test_internal_errors_show_their_traceback_only_with_debug(
    rainband: Rainband, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rainband.definition.loading.check_graph", lambda *_: 1 / 0)
    result = rainband("validate", "small.yaml")
    assert (result.code, "Traceback" in result.err) == (1, False)
    assert "internal error: ZeroDivisionError: division by zero" in result.err
    assert "Traceback" in rainband("validate", "small.yaml", "--debug").err


@pytest.mark.parametrize("name", [*cli.COMMANDS, ""])
def test_help_has_examples_and_exit_codes(rainband: Rainband, name: str) -> None:
    out = rainband(*([name] if name else []), "--help").out
    assert "Exit codes" in out or name == "schema"
    assert f"rainband {name}".strip() in out
    if name:
        assert cli.load_command(name).name in (name, "command")
