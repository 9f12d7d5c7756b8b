"""The borders between the parts, and what must not get into the repository; see ARCHITECTURE.md."""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from functools import cache
from pathlib import Path

import pytest

import rainband

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "python" / "rainband"
CORE = sorted((ROOT / "rust" / "core" / "src").rglob("*.rs"))
LINK = sorted((ROOT / "rust" / "link" / "src").rglob("*.rs"))
DOOR = sorted((ROOT / "rust" / "py" / "src").rglob("*.rs"))
PYTHON = sorted(PACKAGE.rglob("*.py"))

ALARM = 500  # lines of a file; the habit is 300
# Files above the alarm, each with the reason and what it may come to.
LONG: dict[str, tuple[int, str]] = {}


@cache
def tracked() -> list[str]:
    """The files of the repository; those that git would add, too, so that a fault is found before its commit."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return [name for name in done.stdout.splitlines() if (ROOT / name).is_file()]
    left_out = {".git", ".venv", "target", "dist", "__pycache__", ".hypothesis", ".mypy_cache", ".ruff_cache"}
    files = [p.relative_to(ROOT) for p in ROOT.rglob("*") if p.is_file()]
    return [str(p) for p in files if not left_out & set(p.parts) and p.suffix != ".so"]


def code_of(path: Path) -> str:
    """Rust without comments and without what is compiled for tests only."""
    text = path.read_text(encoding="utf-8").partition("#[cfg(test)]")[0]
    return re.sub(r"//.*", "", text)


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


# -- the core ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", CORE, ids=name_of)
def test_the_core_has_no_python_socket_clock_or_thread(path: Path) -> None:
    """Its dependencies are held by rust/core/tests/no_python.rs, its calls by clippy.toml, its words here."""
    banned = r"\bpyo3\b|\bPython\b|std::(net|thread|time|process|fs|env)\b|\bInstant\b|\bSystemTime\b|\bunsafe\b"
    assert re.findall(banned, code_of(path)) == []


@pytest.mark.parametrize("path", [p for p in CORE if p.name not in {"sync.rs", "fault.rs"}], ids=name_of)
def test_locks_and_atomics_of_the_core_come_from_sync(path: Path) -> None:
    """Else loom does not see them."""
    code = code_of(path)
    assert "loom::" not in code
    assert re.findall(r"std::sync::(?!Arc\b)\S+", code) == []


@pytest.mark.parametrize("path", CORE, ids=name_of)
def test_the_core_never_asks_of_a_payload_what_it_must_not(path: Path) -> None:
    """It neither clones nor drops nor looks into one: no bound on `P` could offer that."""
    bounds = re.findall(r"[<,(]\s*P\s*:\s*([^,>]+)", code_of(path))
    assert [bound for bound in bounds if re.search(r"Clone|Copy|Hash|Eq|Debug|Drop", bound)] == []


# -- the link ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", LINK, ids=name_of)
def test_the_link_has_no_python(path: Path) -> None:
    """Its thread must go on whatever holds the GIL."""
    assert re.findall(r"\bpyo3\b|\bPy[A-Z<]\w*", code_of(path)) == []


@pytest.mark.parametrize("path", [p for p in LINK if "zmq" not in name_of(p)], ids=name_of)
def test_only_zmq_knows_libzmq(path: Path) -> None:
    assert re.findall(r"\bdlsym\b|\bdlopen\b|\bzmq_\w+", code_of(path)) == []


# -- the door ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [p for p in DOOR if p.name != "errors.rs"], ids=name_of)
def test_only_errors_makes_errors_of_the_tree(path: Path) -> None:
    """Whatever stands in rainband.errors is raised from Rust through errors.rs alone."""
    assert re.findall(r'"rainband\.errors"', code_of(path)) == []


@pytest.mark.parametrize("path", DOOR, ids=name_of)
def test_the_door_has_no_statics_of_python_objects(path: Path) -> None:
    """They would be wrong without a GIL and in a second interpreter; what is imported once is kept in a PyOnceLock."""
    statics = re.findall(r"static (?:mut )?\w+: ([^=;]+)", code_of(path))
    assert [kind for kind in statics if "Py<" in kind and "PyOnceLock" not in kind] == []
    assert "static mut" not in code_of(path)


@pytest.mark.parametrize("path", [p for p in DOOR if p.name not in {"pickled.rs", "plan_dict.rs"}], ids=name_of)
def test_the_door_pickles_in_one_place(path: Path) -> None:
    """Whoever reads a pickle runs what its writer wants; the package itself has none, see below."""
    assert re.findall(r'"(?:c?[pP]ickle|copyreg|marshal)"|__reduce', code_of(path)) == []


@pytest.mark.parametrize("path", [*CORE, *LINK, *DOOR], ids=name_of)
def test_channels_are_bounded(path: Path) -> None:
    assert re.findall(r"\bmpsc::channel\b|\bunbounded\b", code_of(path)) == []


# -- the package ---------------------------------------------------------------------------------------------------


def imports_of(path: Path, *, only_at_import: bool = False) -> set[str]:
    """The modules that a file imports, absolute; with `only_at_import` those that importing it loads."""
    package = ["rainband", *path.relative_to(PACKAGE).parts[:-1]]
    found: set[str] = set()

    def visit(node: ast.AST, *, is_deferred: bool) -> None:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test) and only_at_import:
            for each in node.orelse:
                visit(each, is_deferred=is_deferred)
            return
        is_deferred = is_deferred or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        if not (is_deferred and only_at_import):
            if isinstance(node, ast.Import):
                found.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                base = package[: len(package) - node.level + 1] if node.level else []
                module = ".".join([*base, *([node.module] if node.module else [])])
                found.update({module} if node.module else {f"{module}.{alias.name}" for alias in node.names})
        for child in ast.iter_child_nodes(node):
            visit(child, is_deferred=is_deferred)

    visit(ast.parse(path.read_text(encoding="utf-8")), is_deferred=False)
    return found


def users_of(*modules: str) -> set[str]:
    """The files of the package that import one of the modules."""
    return {
        str(path.relative_to(PACKAGE))
        for path in PYTHON
        if any(name == m or name.startswith(f"{m}.") for name in imports_of(path) for m in modules)
    }


def test_the_engine_knows_nothing_of_the_command_line() -> None:
    assert {name for name in users_of("click", "rainband.cli") if not name.startswith("cli/")} <= {"__main__.py"}
    assert {name for name in users_of("rich") if not name.startswith("cli/")} == {"progress.py"}


def test_pydantic_and_yaml_stay_where_they_belong() -> None:
    allowed = {"config.py", "connectors/typed.py"}
    assert {name for name in users_of("pydantic") if not name.startswith("definition/")} <= allowed
    assert {name for name in users_of("yaml") if not name.startswith(("definition/", "cli/"))} == set()


def test_errors_import_nothing_of_the_package() -> None:
    assert {name for name in imports_of(PACKAGE / "errors.py", only_at_import=True) if "rainband" in name} == set()


def test_the_package_uses_no_pickle() -> None:
    assert users_of("pickle", "marshal", "shelve") == set()


def defaults_in(path: Path) -> list[str]:
    """Settings that a file gives a number: as a variable of the module, a field or a parameter."""
    from rainband.config import KEYS  # noqa: PLC0415 - pydantic comes with it

    found: list[tuple[str, ast.expr | None]] = []
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found.append((node.target.id, node.value))
        elif isinstance(node, ast.Module):
            assigned = [each for each in node.body if isinstance(each, ast.Assign)]
            found += [(t.id, each.value) for each in assigned for t in each.targets if isinstance(t, ast.Name)]
        elif isinstance(node, ast.arguments):
            positional = [*node.posonlyargs, *node.args]
            first = len(positional) - len(node.defaults)
            found += [(arg.arg, value) for arg, value in zip(positional[first:], node.defaults, strict=True)]
            found += [(arg.arg, value) for arg, value in zip(node.kwonlyargs, node.kw_defaults, strict=True)]
    numbers = (int, float)  # texts and bools are told apart by no more than their names, which other things have too
    return [
        name
        for name, value in found
        if name.lower() in KEYS and isinstance(value, ast.Constant) and type(value.value) in numbers and value.value
    ]


@pytest.mark.parametrize("path", [p for p in PYTHON if p.name != "config.py"], ids=name_of)
def test_defaults_stand_in_config_alone(path: Path) -> None:
    assert defaults_in(path) == []


@pytest.mark.parametrize("path", DOOR, ids=name_of)
def test_the_door_has_no_defaults_of_settings(path: Path) -> None:
    """A setting that is missing in the plan is an error of ours, never a number chosen in Rust."""
    assert re.findall(r"unwrap_or\((\d[\d_.]*)\)", code_of(path) if path.name == "settings.rs" else "") == []


# -- the repository ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [*PYTHON, *CORE, *LINK, *DOOR], ids=name_of)
def test_files_are_short(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").count("\n")
    limit, _ = LONG.get(name_of(path), (ALARM, ""))
    assert lines <= limit, "split it, or give it a place and a reason in LONG"


def test_no_file_is_called_long_that_is_not() -> None:
    for name, (limit, reason) in LONG.items():
        lines = (ROOT / name).read_text(encoding="utf-8").count("\n")
        assert ALARM < lines <= limit, f"{name} has {lines} lines; take it out of LONG"
        assert reason


def test_files_name_no_machine_and_no_registry() -> None:
    """Whoever builds this has other folders and may have other registries."""
    places = ["work", "root", "home/[a-z]+", "Users"]
    hosts = [
        r"pypi\.org",
        r"pythonhosted",
        r"static\.crates",
        r"index\.crates",
        r"npmjs",
        r"proxy\.golang",
        r"maven\.org",
    ]
    banned = re.compile(rf"(?<![\w.\-/:~}}])/(?:{'|'.join(places)})/|{'|'.join(hosts)}|(?:extra-)?index-url")
    found = []
    for name in tracked():
        if name == name_of(Path(__file__)):
            continue
        text = (ROOT / name).read_text(encoding="utf-8", errors="replace")
        found += [f"{name}:{text[: hit.start()].count(chr(10)) + 1}: {hit[0]}" for hit in banned.finditer(text)]
    assert found == []


def test_the_lock_file_names_the_usual_registry_only() -> None:
    lock = tomllib.loads((ROOT / "Cargo.lock").read_text(encoding="utf-8"))
    sources = {package["source"] for package in lock["package"] if "source" in package}
    assert len(sources) == 1
    assert sources.pop().startswith("registry+")


def test_nothing_built_is_tracked() -> None:
    endings = (".so", ".pyc", ".whl", ".db", ".profraw")
    assert [name for name in tracked() if name.endswith(endings) or (ROOT / name).stat().st_size > 2**20] == []


def test_versions_agree() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    cargo = tomllib.loads((ROOT / "Cargo.toml").read_text(encoding="utf-8"))
    version = project["project"]["version"]
    assert rainband.__version__ == version == cargo["workspace"]["package"]["version"]
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"## [{version}]" in changes or "## [Unreleased]" in changes


def test_tools_are_pinned() -> None:
    pins = dict(
        line.split("==") for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").split() if "==" in line
    )
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["build-system"]["requires"] == [f"maturin=={pins['maturin']}"]
    wanted = [re.split(r"[><=\[]", each)[0] for each in project["project"]["dependencies"]]
    for name in ("requirements-build.txt", "requirements-dev.txt"):
        lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
        wanted += [re.split(r"[><=\[]", line)[0] for line in lines if line and not line.startswith("#")]
    known = {name.lower() for name in pins}
    assert [name for name in wanted if name.lower() not in known] == []


def test_ci_runs_what_people_run() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert re.search(r"^exec make test\b", script, re.MULTILINE)
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o100


# -- ARCHITECTURE.md -----------------------------------------------------------------------------------------------

ARCHITECTURE = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")


def test_the_architecture_is_short() -> None:
    assert ARCHITECTURE.count("\n") <= 250


def section(title: str) -> str:
    return ARCHITECTURE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def test_the_code_map_is_complete() -> None:
    """Every source file has its place in the map, and the map names no file that is not there."""
    named: set[str] = set()
    folder = ""
    for line in section("Code map").splitlines():
        if heading := re.match(r"### `(.+)/`", line):
            folder = heading[1]
        elif row := re.match(r"\| (.+?) \|", line):
            named |= {f"{folder}/{name}" for name in re.findall(r"`([^`]+)`", row[1])}
    files = {name_of(path) for path in [*PYTHON, *CORE, *LINK, *DOOR]} - {name_of(PACKAGE / "__init__.py")}
    inner = {name for name in files if name.endswith("__init__.py")}
    assert {name for name in named if not (ROOT / name).exists()} == set(), "named but not there"
    assert files - inner - named == set(), "not in the map"


def test_every_test_that_the_architecture_names_exists() -> None:
    """`tests/unit/test_x.py::test_y` or `rust/core/tests/x.rs`."""
    named = re.findall(r"`((?:tests|rust)/[\w/]+\.(?:py|rs))(?:::(\w+))?`", ARCHITECTURE)
    assert len(named) > 10
    for file, function in named:
        assert (ROOT / file).is_file(), file
        if function:
            assert re.search(rf"\b(def|fn) {function}\(", (ROOT / file).read_text(encoding="utf-8")), (file, function)


def test_every_failure_has_its_test() -> None:
    rows = re.findall(r"^\| (.+) \|$", section("What fails, and what follows"), re.MULTILINE)[1:]
    assert len(rows) >= 15
    for row in rows:
        assert re.search(r"`tests/\S+\.py::test_\w+`$", row), row
