"""The plug-in for one framework: an entry point in the group `conformance.adapters`.

An adapter must not import its framework before `start` is called, and is started in a worker process
only. It runs the framework's own layer: it never computes a step itself. A third party ships one by
declaring the entry point; `docs/adapter.md` walks through a complete one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from importlib import metadata
from importlib.util import find_spec
from typing import TYPE_CHECKING, Protocol

from conformance.errors import ConformanceError
from conformance.layer import nearest

if TYPE_CHECKING:
    from conformance.trace import Request, Trace

GROUP = "conformance.adapters"
EAGER = "eager"  # the mode that every adapter has: what a user gets who asks for nothing


class Adapter(Protocol):
    """What the engine asks of a framework.

    `requires` are the modules whose absence makes the adapter unavailable; `install` is the command
    that brings them; `dtypes` are the formats that the framework computes in. An adapter may also have `modes`, the
    ways in which its framework executes (`modes_of`); `run` is asked for one of them in the request. One that says
    `weights_back` is held to it: a run from which a weight does not come back is an error.
    """

    name: str
    requires: tuple[str, ...]
    install: str
    dtypes: tuple[str, ...]

    def start(self) -> Mapping[str, str]:
        """Import the framework in this (worker) process and return the versions that matter."""
        ...

    def subjects(self, request: Request) -> Sequence[str]:
        """The names of the framework's own layers that can express `request` (whose subject is empty).

        Called before `start`, in any process. Raises Unsupported, with the reason, where there is none.
        """
        ...

    def run(self, request: Request) -> Trace:
        """Build the subject from the canonical weights, read them back, run it plain, run it observed.

        The plain run is in the request's mode, the observed one in whichever shows the steps. Raises Unsupported
        where the framework turns out not to have the dtype, option or mode.
        """
        ...


@cache
def _entries() -> Mapping[str, metadata.EntryPoint]:
    """The installed adapters: to look through all that is installed takes as long as a framework-free command."""
    return {e.name: e for e in metadata.entry_points(group=GROUP)}


def adapter_names() -> list[str]:
    """The names of the installed adapters, without loading any."""
    return sorted(_entries())


def module_of(name: str) -> str:
    """The module in which the adapter called `name` is, without importing it."""
    return _entries()[name].module


def load(name: str) -> Adapter:
    """The adapter called `name`. Raises ConformanceError for an unknown one, and for one that is broken."""
    entry = _entries().get(name)
    if entry is None:
        names = adapter_names()
        raise ConformanceError(f"unknown adapter {name!r}{nearest(name, names)}; installed are {', '.join(names)}")
    try:
        made: Adapter = entry.load()()
    except Exception as error:  # of a third party's code
        raise ConformanceError(
            f"the adapter {name!r} ({entry.value}) cannot be loaded: {type(error).__name__}: {error}"
        ) from error
    return made


def modes_of(adapter: Adapter) -> tuple[str, ...]:
    """The execution modes that `adapter` has, `eager` first; eager alone where it names none."""
    named: Sequence[str] = getattr(adapter, "modes", ())
    return (EAGER, *(mode for mode in named if mode != EAGER))


def reads_back(adapter: Adapter) -> bool:
    """Whether `adapter` says that its runs read every weight back out of the framework."""
    return bool(getattr(adapter, "weights_back", False))


def missing(adapter: Adapter) -> str | None:
    """The first module that `adapter` requires and that is not installed, found without importing it."""
    for module in adapter.requires:
        try:
            if find_spec(module) is None:
                return module
        except ModuleNotFoundError:  # of the package that the module is in
            return module
    return None
