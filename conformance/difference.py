"""What a diff of two models gave, as it is written to JSON and read by reports: DESIGN section 11."""

from __future__ import annotations

import msgspec

from conformance import __version__

STATUSES = ("same", "parts", "uninformative")
ROUNDINGS = ("both", "a", "b", "model")


class Side(msgspec.Struct, frozen=True):
    """One of the two models: what it is called, the adapter that ran it, and in which dtype."""

    name: str
    adapter: str
    dtype: str


class Place(msgspec.Struct, frozen=True):
    """An operation of a model: its position on the tape, and the module or node that it belongs to, if known."""

    operation: str
    position: int
    scope: str
    shape: list[int]


class Pair(msgspec.Struct, frozen=True):
    """A tensor that both models hold: the error in tolerances, and how B's axes stand to A's (empty: as they do)."""

    a: Place
    b: Place
    ratio: float
    view: str


class Figure(msgspec.Struct, frozen=True):
    """The error of B's values against A's. A number that is not finite is a string: JSON has no infinity."""

    ratio: float | str
    max_abs: float | str
    max_rel: float | str
    at: list[int]
    view: str


class First(msgspec.Struct, frozen=True):
    """Where the models part: the first operation of each that is not common, the tensors that sit at the same place
    after it with their figures, and the last common tensors that were read."""

    a: Place | None
    b: Place | None
    a_until: Place | None
    b_until: Place | None
    figures: Figure | None
    shared: list[Pair]


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """Two models beside one another. `rounding` says by what rounding was judged: float64 runs of `both`, of `a` or of
    `b`, or the `model` u sqrt(n). `command` is as in a run."""

    schema: int = 1
    conformance: str = __version__
    environment: dict[str, str]
    command: list[str] = []
    started: str
    seconds: float
    a: Side
    b: Side
    inputs: str
    status: str
    rounding: str
    message: str | None
    output: Figure
    pairs: list[Pair]
    first: First | None

    @property
    def exit_code(self) -> int:
        """1 where they part."""
        return 1 if self.status == "parts" else 0
