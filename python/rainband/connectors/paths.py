"""Which files a source reads, and which task reads which.

Off the tuple's path: called by `files` when a task opens. `find_files` turns what the user wrote (files, folders,
globs) into names; `share_of` divides them over the tasks by a hash of the name, so that a file that appears later moves
no other file to another task. In which order a task reads its share is the business of `order`.

Not here: watching folders. A source reads what it finds when it opens.
"""

from __future__ import annotations

import fnmatch
import glob
import hashlib
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from rainband.errors import ConnectorError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["find_files", "reason_of", "share_of"]


def find_files(
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]], *, pattern: str = "*", exclude: Iterable[str] = ()
) -> list[str]:
    """The readable files that `paths` names, each once, sorted within each folder or glob.

    Args:
        paths: a file, a folder (read with all folders below it), a glob (`**` crosses folders), or several of these.
        pattern: which names a folder's files must have.
        exclude: names of files and folders that are left out of folders and globs; hidden ones always are.

    Raises:
        ConnectorError: something is not there, cannot be read, is not a file, or matches nothing.

    Example:
        >>> import tempfile, pathlib
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> for name in ("b.log", "a.log", "notes.txt"):
        ...     _ = (folder / name).write_text("")
        >>> [pathlib.Path(path).name for path in find_files(folder, pattern="*.log")]
        ['a.log', 'b.log']
    """
    given = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    if not given:
        raise ConnectorError("the source has no paths; give it a file, a folder or a glob")
    excluded = [exclude] if isinstance(exclude, str) else list(exclude)
    found: dict[str, None] = {}
    for each in given:
        found.update(dict.fromkeys(_find(each, pattern, excluded)))
    for path in found:
        _check_readable(path)
    return list(found)


def _find(given: object, pattern: str, exclude: list[str]) -> Iterator[str]:
    text = os.fspath(given) if isinstance(given, str | os.PathLike) else given
    if not isinstance(text, str) or not text:
        raise ConnectorError(f"a path of the source is {given!r}; expected text that is not empty")
    path = os.path.expanduser(text)  # noqa: PTH111 - Path would rewrite "./a" and the key of a position must not change
    if os.path.isdir(path):  # noqa: PTH112
        matches = _walk(path, pattern, exclude)
        nothing = f'folder "{path}" has no file that matches "{pattern}"'
    elif os.path.lexists(path) or not glob.has_magic(path):
        yield path
        return
    else:
        matches = sorted(p for p in glob.iglob(path, recursive=True) if _is_wanted(p, exclude))  # noqa: PTH207
        nothing = f'no file matches "{path}"'
    if not matches:
        raise ConnectorError(f"{nothing}; the working folder is {os.getcwd()}")  # noqa: PTH109
    yield from matches


def _walk(folder: str, pattern: str, exclude: list[str]) -> list[str]:
    def refuse(error: OSError) -> None:
        raise ConnectorError(f'folder "{error.filename}" cannot be read: {reason_of(error)}') from error

    found = []
    for parent, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not _is_left_out(name, exclude)]
        wanted = [n for n in fnmatch.filter(names, pattern) if not _is_left_out(n, exclude)]
        found += [os.path.join(parent, name) for name in wanted]  # noqa: PTH118
    return sorted(path for path in found if os.path.isfile(path) or not os.path.exists(path))  # noqa: PTH110, PTH113


def _is_wanted(path: str, exclude: list[str]) -> bool:
    return not os.path.isdir(path) and not any(_is_left_out(part, exclude, hidden=False) for part in Path(path).parts)  # noqa: PTH112


def _is_left_out(name: str, exclude: list[str], *, hidden: bool = True) -> bool:
    return (hidden and name.startswith(".")) or any(fnmatch.fnmatchcase(name, mask) for mask in exclude)


def _check_readable(path: str) -> None:
    # Opened, not only looked at: on some file systems only the open tells. 10 µs a file.
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise ConnectorError(f'file "{path}" cannot be read: {reason_of(error)}') from error
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise ConnectorError(
                f'"{path}" is not a regular file, so it has no positions; pipe it into rainband.connectors:stdin'
            )
    finally:
        os.close(fd)


def share_of(files: Iterable[str], task_index: int, tasks: int) -> list[str]:
    """The files that one of several tasks reads; every file belongs to exactly one.

    Example:
        >>> names = [f"{n}.log" for n in range(6)]
        >>> [share_of(names, task, 2) for task in (0, 1)]
        [['0.log', '4.log', '5.log'], ['1.log', '2.log', '3.log']]
    """
    if tasks == 1:
        return list(files)
    # Not crc32: its lowest bit is a sum of bits of the name and puts "0.log" to "9.log" all on one side of two.
    return [path for path in files if _hash(path) % tasks == task_index]


def _hash(path: str) -> int:
    return int.from_bytes(hashlib.blake2b(os.fsencode(path), digest_size=8).digest(), "big")


def reason_of(error: OSError) -> str:
    """What the system said, in lower case.

    Example:
        >>> reason_of(FileNotFoundError(2, "No such file or directory"))
        'no such file or directory'
    """
    return (error.strerror or str(error)).lower()
