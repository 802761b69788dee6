"""A `.pt2` file: an archive of PyTorch's. Nothing in it is ever run, though PyTorch itself would run much of it.

`torch.export.load` unpickles what the archive calls a pickle, falls back to a full unpickling where one without code
fails, gives expressions of sizes to SymPy, which evaluates them as Python, loads native code, and looks up operations
and classes by any name (PyTorch 2.13: `torch/export/pt2_archive/_package.py`, `torch/_export/serde/serialize.py`).
So everything is looked at here first, and PyTorch gets an archive that was written anew from what was looked at.
"""

from __future__ import annotations

import ast
import io
import json
import logging
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any

import torch

from conformance.archive import content, members
from conformance.errors import ConformanceError

_KEPT = re.compile(
    r"(archive_format|archive_version|byteorder|\.data/\w+|models/[^/]+\.json|data/weights/[^/]+|data/constants/[^/]+"
    r"|data/sample_inputs/[^/]+|extra/.*|version|serialized_\w+\.(json|pt))$"
)
_OPERATION = re.compile(r"torch\.ops\.\w+\.\w+(\.\w+)?$|_operator\.(?!call|attrgetter|methodcaller|itemgetter)\w+$")
_OPERATION_OF_NUMBERS = re.compile(r"math\.(ceil|floor|trunc|sqrt|pow|log2?|exp)$|torch\.sym_\w+$|torch\._sym_\w+$")
_WRITES_FILES = ("from_file", "_save", "load_library")
_NUMBER = re.compile(r"-?[\d.]+(e[+-]?\d+)?$")
_MOST_EXPONENT = 64
_POWERS = {"Pow", "PowByNatural", "FloatPow", "LShift", "RShift"}
_EXPRESSIONS = {
    "Symbol", "Integer", "Float", "Rational", "Add", "Mul", "Max", "Min", "Mod", "Abs", "floor", "ceiling",
    "And", "Or", "Not", "Equality", "Eq", "Unequality", "Ne", "GreaterThan", "Ge", "StrictGreaterThan", "Gt",
    "LessThan", "Le", "StrictLessThan", "Lt", "FloorDiv", "ModularIndexing", "Where", "PythonMod", "CleanDiv",
    "CeilToInt", "FloorToInt", "CeilDiv", "FloatTrueDiv", "IntTrueDiv", "TruncToFloat", "TruncToInt", "RoundToInt",
    "RoundDecimal", "ToFloat", "Identity", "IsNonOverlappingAndDenseIndicator",
} | _POWERS  # fmt: skip


def load(path: Path) -> torch.export.ExportedProgram:
    """The exported program in the file. Raises ConformanceError where it is broken, or has anything that would run."""
    failures = (OSError, zipfile.BadZipFile, zlib.error, ValueError, EOFError, NotImplementedError, RecursionError)
    try:
        with zipfile.ZipFile(path) as archive:
            found = {name: content(archive, member) for name, member in members(path, archive).items()}
        held = _checked(found)
    except _Runs as error:
        raise ConformanceError(
            f"{path}: {error}, which is not run from a file; load it in a script of yours that you trust "
            "(torch.export.load), and check what it returns"
        ) from error
    except (*failures, KeyError, TypeError, AttributeError) as error:
        raise _broken(path, error) from error
    before = logging.root.manager.disable
    logging.disable()  # PyTorch logs a traceback where it tries an older format next
    try:
        program = torch.export.load(held)
        program.module()  # what does not hold together may show only here
        return program
    except Exception as error:  # whatever a damaged archive raises
        raise _broken(path, error) from error
    finally:
        logging.disable(before)


def _broken(path: Path, error: Exception) -> ConformanceError:
    said = (str(error).strip().splitlines() or [""])[0].strip("'\"") or type(error).__name__
    return ConformanceError(
        f"{path}: not an exported program that this PyTorch can read ({said[:200]}); write it with torch.export.save"
    )


class _Runs(Exception):
    """What in an archive would run something."""


def _checked(found: Mapping[str, bytes]) -> io.BytesIO:
    """An archive of what was found, each part of which was looked at. Raises _Runs, and ValueError for what is off."""
    roots = {name.partition("/")[0] for name in found if "/" in name}
    root = f"{roots.pop()}/" if len(roots) == 1 and not any(_KEPT.match(n) for n in found) else ""
    own = {name.removeprefix(root): body for name, body in found.items()}
    if len({name.lower() for name in own}) < len(own):  # PyTorch finds members whatever the case
        raise ValueError("two members have one name")
    for name, body in own.items():
        if name.startswith("data/aotinductor/"):
            raise _Runs("it holds native code")
        if not _KEPT.match(name) or ".." in name:
            raise ValueError(f"it has a member {name!r}")
        if name.lower().endswith(".pt") and body:
            _require_tensors(name, body)
        elif name.startswith("models/") or name == "serialized_exported_program.json":
            _require_program(json.loads(body))
        elif name.lower().endswith("_config.json"):
            _require_payload(own, name.rpartition("/")[0], json.loads(body))
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        for name, body in found.items():
            archive.writestr(zipfile.ZipInfo(name), body)
    written.seek(0)
    return written


def _require_tensors(name: str, body: bytes) -> None:
    """Raise _Runs where a pickle holds more than tensors and plain values."""
    try:
        torch.load(io.BytesIO(body), weights_only=True)
    except Exception as error:  # whatever a damaged or hostile pickle raises
        raise _Runs(f"its {name!r} is a pickle that is not of tensors alone") from error


def _require_payload(own: Mapping[str, bytes], folder: str, said: Any) -> None:
    """Raise _Runs where weights or constants are objects, ValueError where they are fewer than is declared."""
    for name, entry in said["config"].items():
        file = f"{folder}/{entry['path_name']}"
        if file not in own:
            raise ValueError(f"{name!r} is in {file!r}, which is not there")
        if not entry["path_name"].startswith(("weight_", "tensor_")):
            raise _Runs(f"its {name!r} is an object")
        if entry["use_pickle"]:
            _require_tensors(file, own[file])
        else:
            sizes = [size.get("as_int", 1) for size in entry["tensor_meta"]["sizes"]]
            if min(sizes, default=0) < 0 or prod(sizes) > len(own[file]):  # a value has a byte at least
                raise ValueError(f"{name!r} is declared as {sizes}, which {len(own[file])} bytes do not hold")


def _require_program(program: Any) -> None:
    """Raise _Runs where a program has an expression, operation or class that is no plain one."""
    for key, value in _entries(program):
        if key == "expr_str":
            _require_expression(value)
        elif key in ("target", "as_operator") and isinstance(value, str) and "." in value:
            known = _OPERATION.match(value) or _OPERATION_OF_NUMBERS.match(value)
            if not known or any(word in value.split(".") for word in _WRITES_FILES):
                raise _Runs(f"it has the operation {value!r}")
        elif key in ("in_spec", "out_spec") and value:
            for inner, text in _entries(json.loads(value)):
                # What is imported by a name that the file says: the factory of a defaultdict, a class of an enum.
                if inner in ("default_factory_module", "__enum__", "fqn") or "__enum__" in str(text):
                    raise _Runs("its inputs or outputs are of a class that the file names")


def _entries(content: Any) -> Iterator[tuple[str, Any]]:
    """Every entry of every table in JSON, however deep."""
    waiting = [content]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            yield from item.items()
            waiting += item.values()
        elif isinstance(item, list):
            waiting += item


def _require_expression(text: Any) -> None:
    """Raise _Runs where `text` is not SymPy's own spelling of an expression of sizes."""
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError) as error:
        raise ValueError("an expression is none") from error
    if not _is_expression(tree.body):
        raise _Runs(f"it has the expression {text[:60]!r}")


def _is_expression(node: ast.AST) -> bool:
    if isinstance(node, ast.Constant):
        return isinstance(node.value, int | float) and abs(node.value) < 2**64
    if isinstance(node, ast.Name):
        return re.fullmatch(r"[a-z]{1,3}\d+|true|false|oo|int_oo|zoo", node.id) is not None
    if isinstance(node, ast.UnaryOp):
        return _is_expression(node.operand)
    if isinstance(node, ast.BinOp):
        plain = isinstance(node.op, ast.Add | ast.Sub | ast.Mult | ast.Div | ast.FloorDiv | ast.Mod)
        power = isinstance(node.op, ast.Pow) and _is_small(node.right)
        return (plain or power) and _is_expression(node.left) and _is_expression(node.right)
    if isinstance(node, ast.Compare):
        return all(map(_is_expression, [node.left, *node.comparators]))
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or node.func.id not in _EXPRESSIONS:
        return False
    if not all(isinstance(k.value, ast.Constant) and k.arg for k in node.keywords):
        return False
    if node.func.id in ("Symbol", "Float", "Integer", "Rational") and node.args:
        first = node.args[0]
        if isinstance(first, ast.Constant) and isinstance(first.value, str):
            fits = first.value.isidentifier() if node.func.id == "Symbol" else _NUMBER.match(first.value)
            return bool(fits) and len(first.value) < 60 and all(map(_is_expression, node.args[1:]))
    if node.func.id in _POWERS and (len(node.args) != 2 or not _is_small(node.args[1])):
        return False
    return all(map(_is_expression, node.args))


def _is_small(node: ast.AST) -> bool:
    """Whether an exponent is a plain number to which a power can be computed."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("Integer", "Float"):
        return len(node.args) == 1 and _is_small(node.args[0])
    if isinstance(node, ast.UnaryOp):
        return _is_small(node.operand)
    return isinstance(node, ast.Constant) and isinstance(node.value, int | float) and abs(node.value) <= _MOST_EXPONENT
