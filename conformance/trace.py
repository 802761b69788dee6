"""What one run of a subject gave: plain data, from wherever it comes.

A tape is every tensor that the subject computed, in order. It carries no step names: which tensor is
which step is found by value (`conformance.align`). A name that a recording gives to a tensor is kept as a
hint, for the case in which no tensor has the step's values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Entry:
    """One tensor of a tape: the operation that made it (`aten.bmm.default`), its values, and the name
    of the step that a recording says it is, if it says so.

    `reads` are the positions on the tape of the tensors that the operation read, in ascending order: the
    graph. A tensor that is not on the tape (an integer, a mask) passes on what it was made of itself.
    `fixed` says that it was made of weights and constants alone, so that it is the same for every input.
    `scope` is the module or node in which it was made, by the model's own name for it, or empty.
    """

    operation: str
    array: NDArray[Any]
    hint: str | None = None
    reads: tuple[int, ...] = ()
    fixed: bool = False
    scope: str = ""


@dataclass(frozen=True)
class Request:
    """One piece of work for an adapter: run `layer` with these inputs and weights, in `dtype`.

    Arrays are in the canonical layout (CANON), of dtype float64 with values that `dtype` can represent
    (inputs such as masks and indices are bool or int). `subject` is the name of one of the adapter's
    subjects. `decomposed` asks the observed run for the framework's unfused form where it has one.
    `source` is the fixture's folder where the fixture brings its own subject or recording. `left` names the config
    that is left to the framework: its own default is what runs, though `config` has the canonical one.
    """

    layer: str
    subject: str
    config: Mapping[str, Any]
    inputs: Mapping[str, NDArray[Any]]
    weights: Mapping[str, NDArray[Any]]
    dtype: str = "float32"
    mode: str = "eager"
    device: str = "cpu"
    decomposed: bool = True
    source: str | None = None
    left: tuple[str, ...] = ()

    def given(self, option: str, /, **arguments: Any) -> dict[str, Any]:
        """`arguments`, which give `option` to the framework under its own names: none where it is left to it."""
        return {} if option in self.left else arguments


@dataclass(frozen=True)
class Trace:
    """The outcome of a request.

    `output` is what an unobserved run gave, in the canonical axes of the layer's last step; `tape` is
    from a second, observed run, whose own output is `observed_output`. `weights` are the canonical
    weights read back out of the framework's object. `recorded` says that the subject cannot be run
    again; `seconds` is how long both runs took.
    """

    output: NDArray[Any]
    tape: Sequence[Entry] = ()
    observed_output: NDArray[Any] | None = None
    weights: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    recorded: bool = False
    seconds: float = 0.0
