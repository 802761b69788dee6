"""Files that are there as a whole, or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PREFIX, _SUFFIX = ".conformance-", ".tmp"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """The name of a file beside `path`, to be written: where that went well, it is moved to `path`.

    A reader never sees half of it, and an earlier file stays where anything fails.
    """
    beside = path.with_name(f"{_PREFIX}{secrets.token_hex(8)}{_SUFFIX}")
    try:
        yield beside
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def left_behind(path: Path) -> bool:
    """Whether `path` has the name of a file that was being written, as by a process that was killed then."""
    return path.name.startswith(_PREFIX) and path.name.endswith(_SUFFIX)
