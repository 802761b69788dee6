"""Packed files from anywhere: what they may unpack to is bounded, and zip archives are read within that."""

from __future__ import annotations

import zipfile
from pathlib import Path

from conformance.errors import ConformanceError

PLAIN = 2**28
"""Bytes that any file may unpack to."""
TIMES = 64
"""A larger one may unpack to this many times its own size: weights hardly shrink, and these are not zeros alone."""
MEMBERS = 20_000
"""Arrays or members in one file."""


def most_unpacked(path: Path) -> int:
    """The bytes that the file at `path` may unpack to, all in all."""
    return max(PLAIN, TIMES * path.stat().st_size)


def members(path: Path, archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """What is in a zip archive, by name, in its order.

    Raises ConformanceError where two members have one name, where one is encrypted or packed by another method than
    deflate, and where all of them are more than such a file may unpack to.
    """
    found: dict[str, zipfile.ZipInfo] = {}
    for info in archive.infolist():
        if info.filename in found:
            raise ConformanceError(f"{path}: has two members called {info.filename!r}; write it again")
        if info.flag_bits & 1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ConformanceError(f"{path}: {info.filename!r} is encrypted or packed unusually; write it again")
        found[info.filename] = info
    if len(found) > MEMBERS:
        raise ConformanceError(f"{path}: has {len(found)} members, where {MEMBERS} are the most; split it")
    declared, most = sum(info.file_size for info in found.values()), most_unpacked(path)
    if declared > most:
        raise ConformanceError(
            f"{path}: unpacks to {declared} bytes, where {most} are the most for its size; write it without compression"
        )
    return found


def content(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    """The bytes of a member: as many as it declares. Raises as `zipfile`, and BadZipFile where they are others."""
    with archive.open(member) as stream:
        held = stream.read(member.file_size)  # a read without a length unpacks everything at first
        if len(held) != member.file_size or stream.read(1):
            raise zipfile.BadZipFile(f"{member.filename!r} does not have the size that it declares")
    return held
