"""How a worker process finds the topology again: by importing the code that made it. Nothing is pickled.

`describe`, in the supervisor, says where a topology comes from, as plain data:

    {"kind": "file", "file": "/…/wordcount.yaml", "params": {"TEXT": "book.txt"}}
    {"kind": "object", "module": "shop.pipelines", "file": "/…", "name": "orders", "main": null}
    {"kind": "call", "module": "__main__", "file": "/…/run.py", "name": "build", "params": {}, "main": "/…/run.py"}

`load`, in the worker, does it again. `main` is the program that the user started, if the topology or one of its
components stands in it: a script, or `module:NAME` for `-m NAME`. It is run without its `__main__` block under the name
`__mp_main__` and stands in for `__main__`, so that its classes have one name in all processes, as multiprocessing does
it. A module is imported by its name where that leads to the same file, else from its file under that name.

While a worker loads, `run()` and `start()` are refused: such a call stands outside of `if __name__ == "__main__":` and
would start workers without end.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import inspect
import runpy
import sys
import types
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rainband.errors import RunError, TopologyError
from rainband.plan import compile_plan
from rainband.topology import Topology

from . import logs

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from rainband.plan import CompiledPlan
    from rainband.topology import Origin

__all__ = ["describe", "load", "refuse_while_loading"]

_MAIN: Final = "__mp_main__"
_is_loading = False


# In the supervisor.


def describe(topology: Topology) -> dict[str, Any]:
    """Where workers find a topology.

    Raises:
        TopologyError: they cannot; the text says why, and what to do.
    """
    origin = topology.origin
    where = f'topology "{topology.name}"'
    if origin.call is None and origin.module == "":  # a topology file
        return {"kind": "file", "file": origin.file, "params": dict(origin.params)}
    main = _main_program() if _stands_in_main(topology) else None
    if origin.call is not None:
        return _found("call", origin, origin.call, main) | {"params": dict(origin.params)}
    for module in dict.fromkeys([origin.module, "__main__"]):
        name = _name_in(sys.modules.get(module), topology)
        if name is not None:
            made = Path(str(getattr(sys.modules[module], "__file__", None) or ""))
            if module == "__main__" and main is None:
                raise TopologyError(_interactive(where))
            return {"kind": "object", "module": module, "file": str(made), "name": name, "main": main}
    if origin.file is None or not Path(origin.file).is_file():
        raise TopologyError(_interactive(where))
    wrong = _why_not_callable(origin)
    if wrong is not None:
        raise TopologyError(f"{where} cannot run on several workers: {wrong}")
    return _found("call", origin, origin.function, main) | {"params": {}}


def _found(kind: str, origin: Origin, name: str | None, main: str | None) -> dict[str, Any]:
    file = None if origin.file is None else str(Path(origin.file).resolve())
    return {"kind": kind, "module": origin.module, "file": file, "name": name, "main": main}


def _name_in(module: types.ModuleType | None, topology: Topology) -> str | None:
    return next((name for name, value in vars(module).items() if value is topology), None) if module else None


def _stands_in_main(topology: Topology) -> bool:
    """Whether the topology, or a component of it, is of the program that the user started."""
    made_in = topology.origin.module
    is_kept_there = _name_in(sys.modules.get(made_in), topology) is not None
    if made_in == "__main__" or (not is_kept_there and _name_in(sys.modules["__main__"], topology) is not None):
        return True
    components = [definition.component for definition in topology.definitions]
    inner = [each.func if isinstance(each, partial) else each for each in components]
    return any(getattr(each, "__module__", None) == "__main__" for each in inner)


def _main_program() -> str | None:
    """The program that the user started: `module:NAME` for `-m NAME`, a file, or None if there is no such."""
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    if spec is not None and spec.name is not None:
        return f"module:{spec.name}"
    file = getattr(main, "__file__", None)
    return str(Path(file).resolve()) if file is not None and Path(file).is_file() else None


def _interactive(where: str) -> str:
    return (
        f"{where} was made in an interactive session or a notebook, which worker processes cannot import; "
        "write it to a .py file and import that, or run it with workers=1"
    )


def _why_not_callable(origin: Origin) -> str | None:
    """Why a worker cannot make a topology by calling the function that made it; None if it can."""
    function = origin.function or ""
    module = sys.modules.get(origin.module)
    made = f'it is made inside {function}() of "{origin.module}"' if function else f'it is made in "{origin.module}"'
    fix = "make it where the module is imported, or in a function that returns it and takes no arguments"
    if not function:
        return f"{made} and kept under no name there, so that workers cannot find it; assign it to a variable"
    found: Any = module
    for part in function.split("."):
        found = getattr(found, part, None)
    if not inspect.isfunction(found):
        return f"{made}, which workers cannot reach from outside; {fix}"
    needed = [p.name for p in inspect.signature(found).parameters.values() if _is_needed(p)]
    if needed:
        names = ", ".join(needed)
        command = f"rainband run {origin.module}:{function} --param {needed[0]}=…"
        return f"{made}, and workers do not know its arguments ({names}); run it as: {command}"
    return None


def _is_needed(parameter: inspect.Parameter) -> bool:
    return parameter.default is parameter.empty and parameter.kind not in (
        parameter.VAR_POSITIONAL,
        parameter.VAR_KEYWORD,
    )


# In the worker.


def load(origin: Mapping[str, Any], name: str, overrides: Mapping[str, Any]) -> CompiledPlan:
    """Find the topology of that name again and compile it.

    Raises:
        TopologyError: it is not there, or has mistakes.
        Exception: whatever the user's code raises on import.
    """
    with _loading():
        return compile_plan(_topology(origin, name), overrides)


def _topology(origin: Mapping[str, Any], name: str) -> Topology:
    if origin["kind"] == "file":
        from rainband import definition  # noqa: PLC0415 - yaml

        loaded = definition.load(origin["file"], params=origin["params"])
        logs.hide(loaded.mask)
        return loaded.topology()
    if origin["main"] is not None:
        _stand_in(origin["main"])
    module = sys.modules["__main__"] if origin["module"] == "__main__" else _module(origin["module"], origin["file"])
    found: Any = module
    for part in origin["name"].split("."):
        found = getattr(found, part, None)
    where = f'"{origin["name"]}" of "{origin["file"] or origin["module"]}"'
    if found is None:
        raise TopologyError(
            f'workers find no {where}: topology "{name}" is made below if __name__ == "__main__":, '
            "which they do not run; move it above, and keep only run() there"
        )
    if origin["kind"] == "call":
        found = _called(found, origin["params"])
    if not isinstance(found, Topology):
        raise TopologyError(f"workers find a {type(found).__name__} where the topology was: {where}")
    return found


def _called(function: Any, params: Mapping[str, str]) -> Any:
    if not params:
        return function()
    from rainband.definition.arguments import arguments_from_texts  # noqa: PLC0415 - pydantic

    arguments, wrong = arguments_from_texts(function, params)
    if wrong:
        raise TopologyError("\n".join(wrong))
    return function(**arguments)


def _module(name: str, file: str | None) -> types.ModuleType:
    """A module by its name, if that leads to its file, else from the file."""
    if name in sys.modules:
        return sys.modules[name]
    spec = None
    with contextlib.suppress(ImportError, ValueError):
        spec = importlib.util.find_spec(name)
    is_same = spec is not None and (file is None or spec.origin is None or Path(spec.origin).resolve() == Path(file))
    if is_same or file is None:
        return importlib.import_module(name)
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise TopologyError(f'workers cannot import "{name}" from "{file}"')
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _stand_in(program: str) -> None:
    """Run the user's program without its `__main__` block, and let it stand in for `__main__`."""
    module = types.ModuleType(_MAIN)
    kind, _, name = program.partition(":")
    if kind == "module":
        content = runpy.run_module(name, run_name=_MAIN, alter_sys=True)
    else:
        content = runpy.run_path(program, run_name=_MAIN)
    module.__dict__.update(content)
    sys.modules["__main__"] = sys.modules[_MAIN] = module


@contextlib.contextmanager
def _loading() -> Iterator[None]:
    global _is_loading  # noqa: PLW0603 - of this process, which does it once
    _is_loading = True
    try:
        yield
    finally:
        _is_loading = False


def refuse_while_loading(name: str) -> None:
    """Called when a run is about to start.

    Raises:
        RunError: a worker is importing the code that calls.
    """
    if _is_loading:
        raise RunError(
            f'topology "{name}" is run again while a worker imports the module that made it; '
            'put the call below a guard: if __name__ == "__main__":'
        )
