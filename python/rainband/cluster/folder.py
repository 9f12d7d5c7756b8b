"""The private folder of a run (mode 0700): sockets of `ipc` and the slots of workers. `Headquarters` has one.

It is removed at the end of the run; one whose process was killed stays, and the next run of the same user removes it.
A folder is in use as long as somebody holds its lock, which dies with the process. The lock is taken before it gets
the name that others look for, so nobody takes a folder that is being made for one that was left.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from pathlib import Path
from typing import Final

__all__ = ["PrivateFolder"]

_PREFIX: Final = "rainband-run-"
_LOCK: Final = "lock-of-run"  # not that of a state folder, which somebody may have put beside this one
_MAX_BYTES: Final = 80  # the path of a socket may have 107, and one in the folder is called worker-12.345


class PrivateFolder:
    """Makes the folder; removes those that were left.

    Example:
        >>> folder = PrivateFolder()
        >>> folder.path.is_dir(), folder.remove(), folder.path.exists()
        (True, None, False)
    """

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix=_PREFIX))
        if len(os.fsencode(self.path)) > _MAX_BYTES:
            self.path.rmdir()
            self.path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir="/tmp"))
        unnamed = self.path / f"{_LOCK}.new"
        self._lock_fd = os.open(unnamed, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock_fd, fcntl.LOCK_EX)
        unnamed.rename(self.path / _LOCK)
        _sweep(self.path)

    def remove(self) -> None:
        """Remove the folder with all that is in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock_fd)


def _sweep(own: Path) -> None:
    """Remove what runs of this user left that were killed; what cannot be removed stays."""
    for path in own.parent.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            if path == own or path.is_symlink() or path.stat().st_uid != os.getuid():
                continue
            fd = os.open(path / _LOCK, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(fd)
