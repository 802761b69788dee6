"""`diff`: two models, in any two frameworks, and no oracle."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from conformance.checking import as_numpy, named_arrays, own_inputs
from conformance.comparison import Watched, compare
from conformance.difference import Difference, Side
from conformance.errors import ConformanceError, Unsupported
from conformance.loading import opened
from conformance.precision import precision
from conformance.subject import Call

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conformance.precision import Precision
    from conformance.subject import Live
    from conformance.trace import Trace

Arrays = Mapping[str, "NDArray[Any]"]


def diff(
    a: Any,
    b: Any,
    *,
    inputs: Arrays | str | os.PathLike[str] | None = None,
    adapters: tuple[str | None, str | None] = (None, None),
    dtype: str | None = None,
) -> Difference:
    """Where two models part: the first operation of which one has values that the other does not have.

    `inputs` are arrays by the models' own names (in their order for a model that names its inputs otherwise), or a
    file of them; left out, they are generated, seeded, from the models' signatures. Both run plain, watched, and in
    float64 where they can: that run says how much rounding there is. `adapters` are needed for plain functions only;
    `dtype=None` is each model's own.

    Raises ConformanceError where a model cannot be opened or run, or where nothing tells what to feed it.
    """
    clock = time.perf_counter()
    lives = [opened(subject, adapter) for subject, adapter in zip((a, b), adapters, strict=True)]
    formats = [precision(dtype or live.dtype or "float32") for live in lives]
    given = named_arrays(inputs, "inputs")
    made, sides = _both(lives, formats, given)
    found = compare(*sides)
    environment = {"python": platform.python_version(), "numpy": np.__version__, "platform": platform.machine()}
    for side in sides:
        environment |= side.trace.environment
    named = [Side(live.name, live.adapter, number.name) for live, number in zip(lives, formats, strict=True)]
    return Difference(
        environment=dict(sorted(environment.items())),
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=round(time.perf_counter() - clock, 3),
        a=named[0],
        b=named[1],
        inputs=", ".join(f"{n} {'x'.join(map(str, x.shape)) or 'number'}" for n, x in made.items()),
        status=found.status,
        rounding=found.rounding,
        message=found.message,
        output=found.output,
        pairs=found.pairs,
        first=found.first,
    )


def _both(
    lives: Sequence[Live], formats: Sequence[Precision], given: Arrays | None
) -> tuple[Arrays, Sequence[Watched]]:
    """The inputs, and both models run on them. Where none are given: what the one model asks for, if the other takes
    it (a module says less of its shapes than a file does), else what the other asks for."""
    coarse = max(formats, key=lambda p: p.store)
    if given is not None:
        made: Arrays = {n: coarse.round(as_numpy(x)) for n, x in given.items()}
        return made, [_watched(live, made, number) for live, number in zip(lives, formats, strict=True)]
    refused = []
    for asking in (0, 1):
        try:
            made = own_inputs(lives[asking], coarse)
            other = _watched(lives[1 - asking], made, formats[1 - asking])  # the one that may refuse them goes first
            own = _watched(lives[asking], made, formats[asking])
        except ConformanceError as error:
            refused.append(error)
        else:
            return made, (own, other) if asking == 0 else (other, own)
    raise refused[0]


def _watched(live: Live, inputs: Arrays, number: Precision) -> Watched:
    trace = _run(live, inputs, number.name)
    exact = None
    if number.name != "float64":
        try:
            exact = _run(live, inputs, "float64")
        except Unsupported:  # the framework has no float64 for an operation of this model
            exact = None
    return Watched.beside(trace, number.name, exact)


def _run(live: Live, inputs: Arrays, dtype: str) -> Trace:
    try:
        return live.run(Call(inputs, dtype, decomposed=True))
    except (ConformanceError, Unsupported):
        raise
    except Exception as error:  # of the user's code
        shapes = ", ".join(f"{n} {'x'.join(map(str, x.shape))}" for n, x in inputs.items())
        line = (str(error).strip().splitlines() or [""])[0]
        raise ConformanceError(
            f"{live.name} cannot be run on {shapes}: {type(error).__name__}: {line}; "
            "give inputs that it takes (`inputs`, --inputs FILE)"
        ) from error
