"""A folder for what is under way between a run and its workers, gone when they are; also where they were killed."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from pathlib import Path

_PREFIX, _LOCK = "conformance-", "in-use"


class Scratch:
    """A folder in the system's temporary one. Those that a killed process left there are cleared away first.

    The system lets go of a process's lock when it dies: what is locked is in use, by whichever container.
    """

    def __init__(self) -> None:
        _clear(Path(tempfile.gettempdir()))
        self._folder = tempfile.TemporaryDirectory(prefix=_PREFIX)
        self.path = Path(self._folder.name)
        beside = self.path / f"{_LOCK}.new"  # it has its name once it is locked: no one may find it unlocked before
        self._lock = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        beside.rename(self.path / _LOCK)

    def cleanup(self) -> None:
        """Take the folder away."""
        self._folder.cleanup()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def _clear(folder: Path) -> None:
    for left in folder.glob(f"{_PREFIX}*"):
        if left.is_symlink() or not left.is_dir():
            continue
        try:
            lock = os.open(left / _LOCK, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:  # it has none, or is another user's
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(lock).st_uid == os.getuid():
                shutil.rmtree(left, ignore_errors=True)
        except BlockingIOError:  # in use
            continue
        finally:
            os.close(lock)
