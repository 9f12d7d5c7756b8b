"""What ``FILE|module:object`` means: a topology file, a Python file, or an object of a module.

wordcount.yaml            the topology of the file
wordcount.py              its only Topology
wordcount.py:build        that Topology, or a function that returns one; --param gives its arguments
package.module:build      the same, from a module; the current folder first
"""

from __future__ import annotations

import importlib.util
import inspect
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rainband.cli import output
from rainband.cli.report_error import Failed, NotFoundError
from rainband.definition.problem import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import ModuleType

    from rainband.definition import Definition
    from rainband.topology import Topology

YAML = (".yaml", ".yml")


@dataclass(slots=True)
class Target:
    """Where a topology comes from.

    Attributes:
        name: as the user wrote it.
        definition: for a topology file.
        made: for Python, the Topology.
    """

    name: str
    definition: Definition | None = None
    made: Topology | None = field(default=None)

    def topology(self, *, checked: bool = True) -> Topology:
        """The topology with its classes; may raise ``TopologyError``."""
        if self.made is None:
            assert self.definition is not None
            self.made = self.definition.topology(checked=checked)
        elif checked:
            self.made.check()
        return self.made


def load_target(text: str, params: Mapping[str, str]) -> Target:
    """Reads a file or imports a module.

    Raises:
        NotFoundError: there is no such file, module or object.
        DefinitionError: the topology file is wrong.
        click.UsageError: a parameter that nothing uses, or an object that is no topology.
    """
    if text.endswith(YAML):
        return Target(text, definition=load_file(text, params))
    place, _, name = text.rpartition(":") if ":" in text else (text, "", "")
    if place.endswith(".py"):
        module = _module_of_file(Path(place))
    elif place and name and all(part.isidentifier() for part in place.split(".")):
        module = _module_named(place, text)
    else:
        raise _no_target(text)
    return Target(text, made=_topology_in(module, place, name, params))


def load_file(file: str, params: Mapping[str, str]) -> Definition:
    """The definition in a topology file; a ``--param`` that it does not use is refused."""
    from rainband.definition import load  # noqa: PLC0415 - pydantic

    if not Path(file).is_file():
        raise _no_file(Path(file))
    definition = load(file, params=params)
    output.hide(definition.mask)
    unused = [key for key in params if key not in definition.variables]
    if unused:
        known = list(definition.variables)
        fix = did_you_mean(unused[0], known) if known else "the file has no ${…}"
        msg = f'--param {unused[0]}: {file} has no "${{{unused[0]}}}"; {fix}'
        raise click.UsageError(msg)
    return definition


def _no_file(path: Path) -> NotFoundError:
    if path.is_dir():
        inside = sorted(each.name for each in path.iterdir() if each.suffix in YAML)
        return NotFoundError(f'"{path}" is a folder' + (f"; name a file in it: {path / inside[0]}" if inside else ""))
    try:
        near = [str(each) for each in path.parent.iterdir() if each.suffix in (*YAML, ".py")]
    except OSError:
        return NotFoundError(f'there is no file "{path}": its folder does not exist')
    near = [each.removeprefix("./") for each in near]
    fix = did_you_mean(str(path), near)
    return NotFoundError(f'there is no file "{path}"' + (f"; {fix}" if "mean" in fix else ""))


def _no_target(text: str) -> click.ClickException:
    for suffix in (*YAML, ".py"):
        if Path(text + suffix).is_file():
            return NotFoundError(f'there is no file "{text}"; did you mean "{text}{suffix}"?')
    if Path(text).exists():
        return (
            _no_file(Path(text))
            if Path(text).is_dir()
            else click.UsageError(f'"{text}" is neither a .yaml nor a .py file')
        )
    return click.UsageError(f'expected FILE.yaml, FILE.py, FILE.py:name or module:name, got "{text}"')


def _module_of_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise _no_file(path)
    if path.stem.isidentifier():
        return _imported(path.stem, path.parent)
    # A name like "my-topology.py" cannot be imported, but it can be run.
    name = "".join(char if char.isalnum() else "_" for char in path.stem)
    spec = importlib.util.spec_from_file_location(f"_{name}", path)
    assert spec is not None and spec.loader is not None  # noqa: PT018 - a .py file has both
    module = importlib.util.module_from_spec(spec)
    sys.modules[module.__name__] = module
    sys.path.insert(0, str(path.parent.resolve()))
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        msg = f'importing "{path}"'
        raise _user_error(msg, error) from error
    return module


def _module_named(name: str, text: str) -> ModuleType:
    if name in ("yaml", "yml"):
        msg = f'there is no module "{name}", got "{text}"'
        raise NotFoundError(msg)
    return _imported(name, Path.cwd())


def _imported(name: str, folder: Path) -> ModuleType:
    from rainband.definition.imports import ReferenceProblem, import_module  # noqa: PLC0415

    try:
        return import_module(name, folder)
    except ReferenceProblem as problem:
        if problem.code == "import_failed":
            output.message(problem.details)
            output.error(problem.what, fix=problem.fix)
            raise Failed(1) from None
        msg = f"{problem.what}; {problem.fix}"
        raise NotFoundError(msg) from None


def _topology_in(module: ModuleType, place: str, name: str, params: Mapping[str, str]) -> Topology:
    from rainband.function import mark_of  # noqa: PLC0415
    from rainband.topology import Topology  # noqa: PLC0415

    if not name:
        return _only_topology(module, place, params)
    found: Any = module
    for part in name.split("."):
        if not hasattr(found, part):
            known = [key for key, value in vars(module).items() if isinstance(value, Topology) or _returns(value)]
            fix = did_you_mean(part, known) or "it has no Topology"
            msg = f'"{place}" has no "{part}"; {fix}'
            raise NotFoundError(msg)
        found = getattr(found, part)
    if isinstance(found, Topology):
        _refuse_params(params, f'"{name}" is a Topology and no function')
        return found
    if not callable(found) or isinstance(found, type) or mark_of(found) is not None:
        kind = "a component" if isinstance(found, type) or mark_of(found) is not None else type(found).__name__
        what = f'"{name}" of "{place}" is {kind}'
        msg = f"{what}; expected a Topology, or a function that returns one"
        raise click.UsageError(msg)
    made = _called(found, name, params)
    file = getattr(module, "__file__", None)
    made.origin = replace(made.origin, module=module.__name__, file=file, call=name, params=dict(params))
    return made


def _only_topology(module: ModuleType, place: str, params: Mapping[str, str]) -> Topology:
    from rainband.topology import Topology  # noqa: PLC0415

    found = {key: value for key, value in vars(module).items() if isinstance(value, Topology)}
    if len({id(value) for value in found.values()}) == 1:
        _refuse_params(params, f'"{place}" defines its topology without a function')
        return next(iter(found.values()))
    if found:
        msg = f'"{place}" has several topologies; write one of {_each(place, found)}'
        raise click.UsageError(msg)
    makers = [key for key, value in vars(module).items() if _returns(value)]
    if makers:
        msg = f'"{place}" has no Topology, but functions that make one; write {_each(place, makers)}'
        raise NotFoundError(msg)
    msg = f'"{place}" has no Topology; write topology = Topology("name") in it, or name a function'
    raise NotFoundError(msg)


def _each(place: str, names: Any) -> str:
    return ", ".join(f"{place}:{name}" for name in names)


def _returns(value: Any) -> bool:
    """Whether a function says that it returns a Topology."""
    returned = getattr(value, "__annotations__", {}).get("return") if inspect.isfunction(value) else None
    return getattr(returned, "__name__", returned) == "Topology"


def _refuse_params(params: Mapping[str, str], why: str) -> None:
    if params:
        msg = f"--param {next(iter(params))}: nothing takes it, {why}"
        raise click.UsageError(msg)


def _called(function: Any, name: str, params: Mapping[str, str]) -> Topology:
    from rainband.definition.arguments import arguments_from_texts  # noqa: PLC0415
    from rainband.topology import Topology  # noqa: PLC0415

    arguments, wrong = arguments_from_texts(function, params)
    if wrong:
        raise click.UsageError("\n".join(wrong))
    try:
        made = function(**arguments)
    except Exception as error:
        msg = f"{name}()"
        raise _user_error(msg, error) from error
    if not isinstance(made, Topology):
        msg = f"{name}() returned {type(made).__name__}; expected a Topology"
        raise click.UsageError(msg)
    return made


def _user_error(what: str, error: Exception) -> Failed:
    from rainband.definition.imports import user_traceback  # noqa: PLC0415
    from rainband.errors import TopologyError  # noqa: PLC0415

    if isinstance(error, TopologyError):
        raise error
    output.message(user_traceback(error))
    output.error(f"{what} raised {type(error).__name__}: {error}")
    return Failed(1)
