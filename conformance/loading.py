"""Subjects by name: a file that holds a model, or `file.py:Name`; and the adapter to which a subject belongs."""

from __future__ import annotations

import importlib.util
import inspect
import os
import random
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from conformance.adapter import adapter_names, load, missing
from conformance.errors import ConformanceError
from conformance.layer import nearest
from conformance.subject import Live, Opener, Seeding

if TYPE_CHECKING:
    from types import ModuleType

_SEED = 20260101


def opened(subject: Any, adapter: str | None = None) -> Live:
    """`subject` ready to be run, by the adapter that it belongs to or the one that is named.

    A string is a path, or `file.py:Name`. Raises ConformanceError where no adapter takes it.
    """
    name = None
    if isinstance(subject, str | os.PathLike):
        text = os.fspath(subject)
        file, colon, attribute = text.rpartition(":")
        if colon and file.endswith(".py"):
            subject, name = from_file(Path(file), attribute), attribute
        else:
            subject = Path(text)
            if not subject.exists():
                raise ConformanceError(f"{text}: there is no such file; a class or function is `file.py:Name`")
            if subject.suffix == ".py":
                raise ConformanceError(f"{text}: say which object in it, as in {text}:{_example(subject)}")
    live = _open(subject, _openers(subject, adapter))
    if name is not None:
        live.name = name
    return live


def _open(subject: Any, openers: Sequence[Opener]) -> Live:
    """By the first of a family that can: Keras has one back end in a process."""
    for opener in openers[:-1]:
        try:
            return opener.open(subject)
        except ConformanceError:
            continue
    return openers[-1].open(subject)


def _openers(subject: Any, adapter: str | None) -> Sequence[Opener]:
    names = adapter_names()
    if adapter is not None:
        family = [n for n in names if n == adapter or n.startswith(f"{adapter}-")]
        able = [a for n in family or [adapter] if isinstance(a := load(n), Opener)]
        if not able:
            raise ConformanceError(f"the adapter {adapter!r} runs its own layers only: it takes no subject")
        present = [a for a in able if missing(a) is None]
        if not present:
            raise ConformanceError(f"{missing(able[0])} is not installed: {able[0].install}")
        return [a for a in present if a.owns(subject)] or present
    absent_ones = []
    for candidate in map(load, names):
        if isinstance(candidate, Opener) and candidate.owns(subject):
            absent = missing(candidate)
            if absent is None:
                return [candidate]
            absent_ones.append(f"{absent} is not installed: {candidate.install}")
    if absent_ones:
        raise ConformanceError(f"{_said(subject)} needs a framework that is not there: {'; '.join(absent_ones)}")
    if callable(subject) and not isinstance(subject, type):
        raise ConformanceError(
            f"{_said(subject)} is a plain function: say whose tensors it takes with `adapter` ({', '.join(names)})"
        )
    raise ConformanceError(
        f"{_said(subject)} is nothing that an installed adapter takes: a module or layer, a model file "
        "(.onnx, .keras, .pt2, .mat), a `file.py:Name`, or a function with `adapter`"
    )


def _said(subject: Any) -> str:
    if isinstance(subject, Path):
        return str(subject)
    return str(getattr(subject, "__qualname__", None) or f"a {type(subject).__qualname__}")


def from_file(path: Path, attribute: str) -> Any:
    """What `attribute` of the Python file `path` stands for: an object, a class (made without arguments), or a
    function that needs no argument (called); any other function is the subject itself.

    What is random in it comes out the same each time; the caller's random numbers go on as they would have.

    Raises ConformanceError where it is not there or cannot be made.
    """
    with _seeded(path):
        value: Any = executed(path)
    for part in attribute.split("."):
        if not hasattr(value, part):
            names = [n for n, v in vars(value).items() if not n.startswith("_") and callable(v)]
            raise ConformanceError(f"{path}: there is no {attribute!r}{nearest(part, names)}; it has {_listed(names)}")
        value = getattr(value, part)
    if not inspect.isclass(value) and not inspect.isfunction(value):
        return value
    parameters = _parameters(value)
    needed = [
        n for n, p in parameters.items() if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]
    if inspect.isfunction(value) and needed:
        return value
    if needed:
        raise ConformanceError(
            f"{path}: {attribute} needs {', '.join(needed)} to be made; write a function that needs no argument and "
            f"returns one, and name that function instead"
        )
    try:
        with _seeded(path):
            return value()
    except ConformanceError:
        raise
    except Exception as error:  # of the user's code
        raise ConformanceError(f"{path}: {attribute}() raised {type(error).__name__}: {error}") from error


def _parameters(value: Any) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(value).parameters
    except (TypeError, ValueError):
        return {}


def _listed(names: list[str]) -> str:
    return ", ".join(names[:12]) or "nothing that could be called"


def _example(path: Path) -> str:
    import ast

    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (SyntaxError, UnicodeDecodeError):
        return "Name"
    names = [n.name for n in tree.body if isinstance(n, ast.ClassDef | ast.FunctionDef)]
    return names[-1] if names else "Name"


@contextmanager
def _seeded(path: Path) -> Iterator[None]:
    """Random numbers of Python, NumPy, and the frameworks that are imported or that the file names, from one seed."""
    state, numeric = random.getstate(), np.random.get_state()
    source = path.read_text(errors="replace") if path.is_file() else ""
    named = set(re.findall(r"^\s*(?:import|from)\s+(\w+)", source, re.M))
    with ExitStack() as held:
        held.callback(random.setstate, state)
        held.callback(np.random.set_state, numeric)
        random.seed(_SEED)
        np.random.seed(_SEED)
        for adapter in map(load, adapter_names()):
            here = all(module in sys.modules or module in named for module in adapter.requires)
            if here and isinstance(adapter, Seeding) and missing(adapter) is None:
                held.enter_context(adapter.seeded(_SEED))
        yield


def executed(path: Path) -> ModuleType:
    """The module that the Python file `path` is, run once. Raises ConformanceError where it is not there or fails."""
    if not path.is_file():
        raise ConformanceError(f"{path}: there is no such file")
    name = f"conformance_source_{path.stem}_{sha256(str(path.resolve()).encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ConformanceError(f"{path}: it is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where dataclasses and pickles look for it
    folder = str(path.resolve().parent)
    sys.path.insert(0, folder)  # what stands beside it can be imported, as when Python runs it
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # of the user's code
        line = getattr(error, "lineno", None)
        where = f"{path}, line {line}" if line else str(path)
        raise ConformanceError(f"{where}: it cannot be run: {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(folder)
    return module
