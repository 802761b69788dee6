"""What a diff of two models found, in sentences; what stands between backticks is a name."""

from __future__ import annotations

from collections.abc import Iterator

from conformance.difference import Difference, Figure, First, Pair, Place, Side
from conformance_reports.wording import figure, listed, tolerances

_ROUNDING = {
    "both": "by a float64 run of each",
    "a": "by a float64 run of A",
    "b": "by a float64 run of B",
    "model": "by a model, u sqrt(n): neither was run in float64",
}


def outcome(found: Difference) -> str:
    """The diff in one sentence."""
    if found.status == "same":
        return "The two models compute the same."
    if found.status == "uninformative":
        return "Nothing can be said: rounding alone may change the output by a tenth of its size."
    if found.first is None:
        return "The two models part."
    at = found.first.a or found.first.b
    return f"The two models part at {_named(at)}." if at is not None else "The two models part."


def side(letter: str, told: Side) -> str:
    """One of the models: `A: Encoder (torch, float32)`."""
    return f"{letter}: {told.name} ({told.adapter}, {told.dtype})"


def details(found: Difference) -> Iterator[str]:
    """How they part, and on what that rests."""
    if found.message:
        yield found.message
    if found.first is not None:
        yield from _first(found.first)
    yield f"outputs: {_error(found.output)}"
    common = f"{len(found.pairs)} tensors are common" if len(found.pairs) != 1 else "1 tensor is common"
    yield f"{common}; rounding judged {_ROUNDING[found.rounding]}; inputs: {found.inputs}"


def _first(first: First) -> Iterator[str]:
    if first.shared:
        yield f"both still have {listed(_shared(pair) for pair in first.shared[:4])}"
    for letter, place, until in (("A", first.a, first.a_until), ("B", first.b, first.b_until)):
        if place is None:
            yield f"{letter} then computes nothing that the other has not"
        elif until is None or until == place:
            yield f"{letter} then computes {_located(place)}"
        else:
            yield f"{letter} then computes {_located(place)} up to {_located(until)}"
    if first.figures is not None:
        turned = f", with its axes as `{first.figures.view}`," if first.figures.view else ""
        yield f"there B{turned} is {_error(first.figures)}"


def _shared(pair: Pair) -> str:
    return f"{_named(pair.a)} (in B {_named(pair.b)})"


def _named(place: Place) -> str:
    """`aten.addmm.default` in `layers.7.linear1`; an ONNX node is called by its name alone."""
    operation = place.operation.partition(":")[0]
    return f"`{operation}` in `{place.scope}`" if place.scope else f"`{operation}`"


def _located(place: Place) -> str:
    return f"{_named(place)} (operation {place.position}, {'x'.join(map(str, place.shape)) or 'a number'})"


def _error(told: Figure) -> str:
    at = f" at {told.at}" if told.at else ""
    return (
        f"{tolerances(float(told.ratio))} tolerances off{at}; "
        f"at most {figure(told.max_abs)} absolute, {figure(told.max_rel)} relative"
    )


def pair_row(pair: Pair) -> tuple[str, str, str, str]:
    """A common tensor as a row: where in A, where in B, how the axes differ, the error in tolerances."""
    return _located(pair.a), _located(pair.b), pair.view, tolerances(pair.ratio)
