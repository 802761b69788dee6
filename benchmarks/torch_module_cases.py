"""PyTorch's own database of modules as a source of configurations: each constructor and call that the installed
`torch` tests its modules with is judged against the canonical layer, in float32 and in float64.

    python benchmarks/torch_module_cases.py             # counts for each module, then the cases that do not conform
    python benchmarks/torch_module_cases.py --check     # exits 1 where a case that does not conform has no explanation
    python benchmarks/torch_module_cases.py --module LayerNorm

What is not judged, or does not conform, is explained in `torch_module_cases.toml` beside this file: modules that are
no canonical layer, and patterns of cases and messages with a reason each. One that none needs any more is an error too.
"""

from __future__ import annotations

import argparse
import copy
import sys
import tomllib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from judged_cases import Judged, explained, print_counts, told
from torch import nn

from conformance.checking import check, check_model
from conformance.errors import ConformanceError
from conformance.result import Case

EXPLAINED = Path(__file__).with_suffix(".toml")
DTYPES = ("float32", "float64")
UPDATED = (nn.modules.batchnorm._BatchNorm,)  # what training changes in what they compute


class Called(nn.Module):
    """A module with the arguments of one call, whatever they are."""

    def __init__(self, module: nn.Module, arguments: Any) -> None:
        super().__init__()
        self.module, self.arguments = module, arguments

    def forward(self) -> Any:
        """What the module returns."""
        return self.module(*self.arguments.args, **self.arguments.kwargs)


def main(arguments: list[str] | None = None) -> int:
    """Judge every case, print the counts. Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--module", action="append", help="only this one, such as LayerNorm (repeatable)")
    parser.add_argument("--check", action="store_true", help="exit with 1 where a case is not explained")
    given = parser.parse_args(arguments)
    written = tomllib.loads(EXPLAINED.read_text(encoding="utf-8"))
    reasons, none = written["explanation"], written["no_layer"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's, about masks of two kinds and nested tensors
        known = [info for info in database() if info.name not in none and _wanted(info, given.module)]
        found = [judged for info in known for judged in cases(info)]
    print_counts("module", found, dict.fromkeys(case.kind for case in found))
    right = explained(found, reasons, complete=given.module is None)
    gone = sorted(set(none) - {info.name for info in database()})
    if gone:
        print(f"PyTorch has no {', '.join(gone)} any more: take it out", file=sys.stderr)
    return 1 if given.check and (gone or not right) else 0


def _wanted(info: Any, chosen: list[str] | None) -> bool:
    return chosen is None or info.name.removeprefix("nn.") in chosen


def database() -> list[Any]:
    """Every module that PyTorch's own tests know, in the order of their names."""
    from torch.testing._internal.common_modules import module_db

    return sorted((i for i in module_db if i.module_cls.__module__.startswith("torch.nn.")), key=lambda i: i.name)


def cases(info: Any) -> Iterator[Judged]:
    """The verdicts on one module: every configuration, in each dtype, and in training where that changes the layer."""
    name = info.name.removeprefix("nn.")
    for dtype in DTYPES:
        for training in (False, True) if issubclass(info.module_cls, UPDATED) else (False,):
            torch.manual_seed(0)
            made = info.module_inputs_func(
                info, device="cpu", dtype=getattr(torch, dtype), requires_grad=False, training=training
            )
            for number, given in enumerate(made):
                arguments = given.constructor_input
                mode = "-training" if training else ""
                title = "-".join(filter(None, [name, str(number), given.desc, dtype])) + mode
                module = info.module_cls(*arguments.args, **arguments.kwargs).to(getattr(torch, dtype))
                yield from judged(title, name, Called(module, given.forward_input), training)


def judged(title: str, name: str, called: Called, training: bool) -> Iterator[Judged]:
    """The verdicts on one call: on the module itself, or on each of the layers in it."""
    copy.deepcopy(called)()
    with torch.no_grad():
        called.eval()()  # what takes its sizes from the first call has them now
    try:
        verdicts = [_trained(called)] if training else check_model(called, inputs={}).cases
    except ConformanceError as error:
        yield Judged(title, name, "refused", str(error))
        return
    for case in verdicts:
        part = (case.subject or "").removeprefix("module").lstrip(".")
        yield Judged(f"{title} {part}".strip(), name, case.status, _told(case))


def _trained(called: Called) -> Case:
    """The module in training, on the input of the call."""
    [x] = called.arguments.args
    config = {"training": True}
    last = x.movedim(1, -1)
    return check(
        called.module,
        "batch_norm",
        inputs={"x": last},
        config=config,
        call=lambda module, x: module.train()(x.movedim(-1, 1)).movedim(1, -1),
    )


def _told(case: Case) -> str:
    return str(case.message) if case.status in ("unsupported", "error") else told(case)


if __name__ == "__main__":
    sys.exit(main())
