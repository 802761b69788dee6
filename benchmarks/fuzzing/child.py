"""The process that reads: one path a line in, what became of it out, as a line of JSON.

    python -m fuzzing.child READER FOLDER MEMORY_IN_MIB

What a reader may not do is watched: files opened for writing outside the folder for temporary files or beside the
input, the secret read, programs started, connections made, pickles that name a class. Memory is bounded.
"""

from __future__ import annotations

import json
import os
import re
import resource
import sys
import tempfile
import warnings
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

PACKAGES = ("/conformance/", "/conformance_adapters/")
MARK = 271828.125  # the value that is in the secret, and nowhere else
FORBIDDEN = {
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.fork",
    "subprocess.Popen",
    "socket.connect",
    "webbrowser.open",
}
FORBIDDEN |= {"pickle.find_class", "os.symlink", "os.link", "urllib.Request", "ctypes.dlopen"}


class Watch:
    """What the interpreter's audit events say of one reading."""

    def __init__(self, folder: Path) -> None:
        self.allowed = (str(folder / "temporary"), str(folder / "input"), "/dev/null")
        self.on = False
        self.seen: list[str] = []

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.on:
            return
        if event == "ctypes.dlopen" and (arguments[0] is None or "site-packages" in str(arguments[0])):
            return  # a framework's own, which is loaded late
        if event in FORBIDDEN:
            self.seen.append(f"{event} {str(arguments)[:200]}")
        elif event == "open" and isinstance(arguments[0], str | bytes):
            path, _, flags = arguments
            name = os.path.abspath(os.fsdecode(path))
            if isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                if not name.startswith(self.allowed) and not name.endswith(".pyc") and "__pycache__" not in name:
                    self.seen.append(f"{name} is opened for writing")
            elif "secret" in name:
                self.seen.append(f"{name} is read")


class Coverage:
    """Which steps from line to line the project's own code has taken so far."""

    def __init__(self) -> None:
        self.edges: set[tuple[CodeType, int, int]] = set()
        self.own: dict[CodeType, bool] = {}

    def __call__(self, frame: FrameType, event: str, argument: Any) -> Any:
        code = frame.f_code
        if code not in self.own:
            self.own[code] = any(p in code.co_filename for p in PACKAGES)
        if not self.own[code]:
            return None
        before = 0

        def line(frame: FrameType, event: str, argument: Any) -> Any:
            nonlocal before
            if event == "line":
                self.edges.add((code, before, frame.f_lineno))
                before = frame.f_lineno
            return line

        return line


def _resident() -> int:
    """The most memory that this process has held, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def _data() -> int:
    """The bytes of memory that count towards the limit, now."""
    said = Path("/proc/self/status").read_text()
    return 1024 * int(said.partition("VmData:")[2].split()[0])


def sentence(said: str, name: str) -> str | None:
    """What is wrong with `said` as the one sentence about the file or folder `name`; None where nothing is."""
    if "\n" in said or not said.isprintable():
        return "it has line breaks or control characters"
    if name not in said:
        return "it does not name the file"
    if len(said) > 1500:
        return f"it has {len(said)} characters"
    # libhdf5 asks for as much as a damaged heap says before it looks whether it is there: nothing of it is touched.
    said = said.replace("unable to allocate heap block", "")
    if re.search("[Uu]nable to allocate|bad_alloc|MemoryError|not enough memory|[Ff]ailed to allocate", said):
        return "memory ran out"
    return None


def read(reader: Any, path: Path, watch: Watch, memory: int) -> dict[str, Any]:
    """What became of one file: `read`, `refused` with a sentence, or a fault of a kind."""
    from conformance.errors import ConformanceError, Unsupported

    before = _resident()
    watch.seen.clear()
    watch.on = True
    found: dict[str, Any] = {"outcome": "read", "said": ""}
    try:
        arrays = reader.read(path)
        if isinstance(arrays, dict) and any(MARK in a for a in arrays.values() if getattr(a, "size", 0)):
            found = {"outcome": "leak", "said": "an array holds what stands in the secret"}
    except ConformanceError as error:
        found = {"outcome": "refused", "said": str(error)}
        wrong = sentence(str(error), path.parent.name if reader.file else path.name)
        if wrong is not None:
            found = {"outcome": "memory" if "memory" in wrong else "sentence", "said": f"{wrong}: {str(error)[:400]!r}"}
    except Unsupported as error:
        found = {"outcome": "refused", "said": str(error)}
    except MemoryError as error:
        found = {"outcome": "memory", "said": f"MemoryError: {error}"}
    except BaseException as error:
        import traceback

        where = traceback.extract_tb(error.__traceback__)[-3:]
        said = " < ".join(f"{Path(f.filename).name}:{f.lineno}" for f in reversed(where))
        found = {"outcome": "traceback", "said": f"{type(error).__name__}: {str(error)[:300]} ({said})"}
    watch.on = False
    if watch.seen:
        found = {"outcome": "forbidden", "said": "; ".join(watch.seen[:3])}
    grown = _resident() - before
    if grown > memory // 2 and found["outcome"] in ("read", "refused"):
        found = {"outcome": "memory", "said": f"it took {grown} MiB"}
    return found


def main() -> None:
    """Read paths from standard input until it ends."""
    name, folder, memory = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    tempfile.tempdir = str(folder / "temporary")
    warnings.simplefilter("ignore")
    from fuzzing.readers import READERS

    reader = READERS[name]
    watch, coverage = Watch(folder), Coverage()
    for seed in sorted((folder / "seeds").glob("*")):  # what is imported late is imported now
        if seed.name.endswith(reader.suffixes):
            first = folder / "input" / (reader.file or seed.name)
            first.write_bytes(seed.read_bytes())
            answers.write(json.dumps({"warm": seed.name, **read(reader, first, watch, 10**6)}) + "\n")
            first.unlink()
    sys.addaudithook(watch)
    limit = _data() + memory * 2**20
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    answers.write(json.dumps({"ready": True}) + "\n")
    for line in sys.stdin:
        edges = len(coverage.edges)
        if not reader.heavy:
            sys.settrace(coverage)
        found = read(reader, Path(json.loads(line)), watch, memory)
        sys.settrace(None)
        found["new"] = len(coverage.edges) - edges
        answers.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
