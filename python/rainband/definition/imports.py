"""From ``module:Name`` to the object, the file's own folder first: part of the fifth step of loading.

The folder goes to the front of ``sys.path`` and stays there, because a component may import its siblings as late as in
``open``. A module of the same name that was loaded from elsewhere is never taken silently: that is an error with both
places. The object must be a component before anything of it is called.
"""

from __future__ import annotations

import importlib
import inspect
import sys
import traceback
from contextlib import contextmanager
from functools import partial
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Any

from rainband.component import Bolt, Spout
from rainband.definition.problem import did_you_mean
from rainband.function import mark_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType


class ReferenceProblem(Exception):  # noqa: N818 - becomes a FileProblem with a place
    """What is wrong with a ``module:Name``.

    Attributes:
        code: ``no_module``, ``no_name``, ``import_failed``, ``clash`` or ``not_a_component``.
        what: what is wrong.
        fix: what to write instead.
        details: the user's traceback.
    """

    def __init__(self, code: str, what: str, fix: str = "", details: str = "") -> None:
        super().__init__(what)
        self.code, self.what, self.fix, self.details = code, what, fix, details


@contextmanager
def modules_of(folder: FilePath) -> Iterator[None]:
    """Forgets, at its end, the folder on ``sys.path`` and the modules loaded from it.

    For commands that look at several files, whose folders may hold modules of one name.
    """
    path, before = list(sys.path), set(sys.modules)
    try:
        yield
    finally:
        sys.path[:] = path
        for name in set(sys.modules) - before:
            file = getattr(sys.modules[name], "__file__", None)
            if file is not None and FilePath(file).resolve().is_relative_to(folder.resolve()):
                del sys.modules[name]


def find_object(reference: str, folder: FilePath) -> Any:
    """The object that ``module:Name`` names.

    Raises:
        ReferenceProblem: there is no such module or name, the import raised, or another module has the name.
    """
    module_name, _, names = reference.partition(":")
    module = import_module(module_name, folder)
    found: Any = module
    for depth, name in enumerate(names.split(".")):
        try:
            found = getattr(found, name)
        except AttributeError:
            owner = module_name + "".join(f".{part}" for part in names.split(".")[:depth])
            known = sorted(_components_in(found, module_name))
            fix = did_you_mean(name, known)
            fix = fix or (f"it defines {', '.join(known)}" if known else "it defines no components")
            msg = "no_name"
            raise ReferenceProblem(msg, f'the module "{owner}" has no "{name}"', fix) from None
    return found


def _components_in(owner: Any, module_name: str) -> list[str]:
    exported = getattr(owner, "__all__", ())  # a package may load what it exports when it is asked for
    found = []
    for name in dict.fromkeys([*vars(owner), *exported]) if hasattr(owner, "__dict__") else ():
        value = getattr(owner, name, None)
        is_class = isinstance(value, type) and issubclass(value, Spout | Bolt)
        is_own = name in exported or getattr(value, "__module__", "") == module_name
        if (is_class or mark_of(value) is not None) and is_own:
            found.append(name)
    return found


def import_module(name: str, folder: FilePath) -> ModuleType:
    """Imports a module, from ``folder`` first.

    Raises:
        ReferenceProblem: there is no such module, its import raised, or another module has the name.
    """
    _check_clash(name, folder)
    entry = str(folder.resolve())
    if sys.path[:1] != [entry]:
        sys.path.insert(0, entry)
        importlib.invalidate_caches()
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise _no_module(name, folder) from None
        what = f'importing "{name}" failed: {error}'
        fix = f'install "{error.name}", or correct the import'
        msg = "import_failed"
        raise ReferenceProblem(msg, what, fix, user_traceback(error)) from error
    except SyntaxError as error:
        text = "".join(traceback.format_exception_only(error)).rstrip()
        msg = "import_failed"
        raise ReferenceProblem(msg, f'importing "{name}" failed: {error.msg}', "", text) from error
    except SystemExit as error:
        what = f'importing "{name}" called exit({error.code})'
        fix = 'put what the script does below: if __name__ == "__main__":'
        msg = "import_failed"
        raise ReferenceProblem(msg, what, fix, user_traceback(error)) from error
    except Exception as error:
        what = f'importing "{name}" raised {type(error).__name__}: {error}'
        msg = "import_failed"
        raise ReferenceProblem(msg, what, "", user_traceback(error)) from error


def _no_module(name: str, folder: FilePath) -> ReferenceProblem:
    try:
        near = sorted(path.stem for path in folder.glob("*.py") if path.stem.isidentifier())
    except OSError:
        near = []
    fix = did_you_mean(name, near)
    what = f'there is no module "{name}", neither in the folder of the file nor where Python looks'
    return ReferenceProblem("no_module", what, fix or f'create "{name.replace(".", "/")}.py" beside the file')


def _check_clash(name: str, folder: FilePath) -> None:
    """A loaded module of the same name from elsewhere would be taken in place of the one beside the file."""
    top = name.partition(".")[0]
    loaded = sys.modules.get(top)
    if loaded is None:
        return
    candidates = (folder / f"{top}.py", folder / top / "__init__.py")
    own = next((path.resolve() for path in candidates if path.is_file()), None)
    if own is None:
        return
    file = getattr(loaded, "__file__", None)
    if file is not None and FilePath(file).resolve() == own:
        return
    where = "Python itself" if file is None or top in sys.stdlib_module_names else FilePath(file).name and file
    what = f'"{top}" beside the file cannot be imported: a module of that name is loaded already, from {where}'
    msg = "clash"
    raise ReferenceProblem(msg, what, f'give "{own.name if own.stem == top else top}" another name')


def user_traceback(error: BaseException) -> str:
    """The traceback without the frames of the import system and of rainband, as Python prints it."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = str(FilePath(__file__).parents[1])
    kept = [
        frame
        for frame in frames
        if not frame.filename.startswith(("<frozen importlib", ours)) and frame.filename != importlib.__file__
    ]
    lines = ["Traceback (most recent call last):\n"] if kept else []
    lines += traceback.format_list(kept) + traceback.format_exception_only(error)
    return "".join(lines).rstrip()


def check_component(found: Any, name: str, kind: str) -> None:
    """Raises ``ReferenceProblem`` unless the object is a component of that kind (``spout`` or ``bolt``)."""
    base, other = (Spout, Bolt) if kind == "spout" else (Bolt, Spout)
    inner = found.func if isinstance(found, partial) else found
    mark = mark_of(inner)
    if (isinstance(inner, type) and issubclass(inner, base) and inner is not base) or (mark and mark.kind == kind):
        return
    code = "not_a_component"
    if (isinstance(inner, type) and issubclass(inner, other)) or mark:
        raise ReferenceProblem(
            code,
            f'"{name}" is a {"bolt" if kind == "spout" else "spout"}',
            f"move it below {'bolts' if kind == 'spout' else 'spouts'}",
        )
    if isinstance(inner, Spout | Bolt):
        raise ReferenceProblem(
            code, f'"{name}" is an instance', f"name its class, {type(inner).__name__}: each task builds its own"
        )
    if inspect.isfunction(inner):
        raise ReferenceProblem(code, f'"{name}" is a plain function', f"write @{kind}(outputs=[…]) above it")
    if inner is base:
        raise ReferenceProblem(code, f'"{name}" is the base class itself', "name a class that is derived from it")
    if inspect.isclass(inner):
        raise ReferenceProblem(code, f'"{name}" is no component', f"derive it: class {inner.__name__}({base.__name__})")
    if inspect.isgenerator(inner):
        raise ReferenceProblem(code, f'"{name}" is a generator', "name the function that makes it, without calling it")
    raise ReferenceProblem(
        code,
        f'"{name}" is no component but {_article(type(inner).__name__)}',
        f"name a subclass of {base.__name__} or a function marked @{kind}",
    )


def _article(word: str) -> str:
    return f"an {word}" if word[:1].lower() in "aeiou" else f"a {word}"
