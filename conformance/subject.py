"""A subject that lives in this process: a user's module, function or model, or a framework's own layer.

An adapter that can take such things has `owns` and `open` (`Opener`). What `open` gives is a `Live`: it can be run on
any inputs, plain and observed, and says what it knows of itself. The subject itself is never changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from conformance.errors import ConformanceError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conformance.trace import Trace


@dataclass(frozen=True)
class Own:
    """What a framework's own layer says of itself: the canonical layer that it is, the config that it was made
    with, and its weights by canonical name in the canonical layout. `inputs` are those that it was recorded from, or
    some that fit, where it takes no others than those of certain sizes."""

    layer: str
    config: Mapping[str, Any]
    weights: Mapping[str, NDArray[Any]]
    inputs: Mapping[str, NDArray[Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Argument:
    """An input that a model asks for: its name, its shape (None: any size) and its dtype (`int64`, `bool`, `float32`).
    Integers are indices below `below`."""

    name: str
    shape: tuple[int | None, ...]
    dtype: str = "float32"
    below: int = 2


@dataclass(frozen=True)
class Call:
    """How a subject is to be called once.

    `inputs` are arrays by name, floats as float64 values that `dtype` can represent: the canonical names of `layer`,
    in the order of its definition, or the model's own names where `layer` is None. `stand_ins` maps an input that may
    be left out to the one that then stands in for it. `through` is the user's own way to call the subject,
    `through(subject, **tensors)`. `decomposed` asks the observed run for the framework's unfused form.
    """

    inputs: Mapping[str, NDArray[Any]]
    dtype: str
    layer: str | None = None
    stand_ins: Mapping[str, str] = field(default_factory=dict)
    through: Callable[..., Any] | None = None
    decomposed: bool = False


@dataclass(frozen=True)
class Part:
    """A layer of a known kind inside a model: its path, itself, and the canonical inputs that reached it.

    Where it cannot be judged, `unsupported` says why, and the rest is empty.
    """

    path: str
    layer: str
    subject: Live | None = None
    inputs: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    unsupported: str | None = None


class Live(Protocol):
    """A subject, ready to be run. `name` is what results call it (`torch.nn.Linear`, `Attention`, `model.onnx`),
    `adapter` the adapter's name, `dtype` that of its own floating-point parameters (None: it has none)."""

    name: str
    adapter: str
    dtype: str | None

    def own(self) -> Own | None:
        """What it says of itself where it is one of the framework's own layers (its type tells), else None.

        Raises Unsupported where it is one, with an option that the canonical layer does not have.
        """
        ...

    def parameters(self) -> Mapping[str, NDArray[Any]]:
        """Every floating-point array that it holds, by the framework's own path to it, in its own layout."""
        ...

    def arguments(self) -> Sequence[Argument]:
        """The inputs that it asks for, from its own signature.

        Raises ConformanceError, saying what to give, where that does not tell their shapes.
        """
        ...

    def run(self, call: Call) -> Trace:
        """Run it plain, and then observed. The trace's output is the first tensor of what comes back.

        Where it is the framework's own `call.layer`, it is called as the adapter knows, with inputs and output in the
        canonical axes; else with tensors, as `matched` says. It runs in `call.dtype` without being changed itself.
        """
        ...

    def parts(self, call: Call) -> Iterable[Part]:
        """Every layer of a known kind inside it, in the order in which it runs them, with the values that reach it."""
        ...


@runtime_checkable
class Recording(Protocol):
    """A subject that was recorded elsewhere, and cannot be run again: a Live that also has the inputs."""

    def recorded(self, layer: str, config: Mapping[str, Any], weights: bool = True) -> Own:
        """What it holds of `layer`, its weights only where they are wanted; its config is completed from `config`,
        which goes first.

        Raises ConformanceError where it does not hold it.
        """
        ...


@runtime_checkable
class Opener(Protocol):
    """The part of an adapter that takes live objects and model files."""

    def owns(self, subject: Any) -> bool:
        """Whether `subject` (an object, or the Path of a file) is of this framework, without importing it."""
        ...

    def open(self, subject: Any) -> Live:
        """`subject` (also a plain function of the framework's tensors), ready to be run.

        Raises ConformanceError where it is broken or of no use.
        """
        ...


@runtime_checkable
class Seeding(Protocol):
    """The part of an adapter whose framework draws random numbers of its own."""

    def seeded(self, number: int) -> AbstractContextManager[None]:
        """Within it, the framework's random numbers begin at `number`; afterwards they go on as before."""
        ...


def matched(
    parameters: Sequence[str], required: int, inputs: Mapping[str, Any], stand_ins: Mapping[str, str]
) -> tuple[list[Any], dict[str, Any]]:
    """How `inputs` are given to a callable with these positional `parameters`, of which the first `required` must be.

    By parameter name where the names are the same, else in their order. An input that was left out is given by what
    stands in for it where the callable asks for more than there is: `attention(q, k, v)` of one input.
    """
    given = dict(inputs)
    named = {n: given[n] for n in parameters if n in given}
    if len(named) == len(given):
        for name in parameters[:required]:
            source = name
            while source not in given and source in stand_ins:
                source = stand_ins[source]
            if source in given:
                named[name] = given[source]
        return [], named
    last = [n for n in parameters if n in named]
    if last and parameters[-len(last) :] != last:
        last = []  # a name in between: what comes before and after it would get mixed up
    ordered = [n for n in given if n not in last]
    if len(ordered) + sum(parameters.index(n) < required for n in last) < required and stand_ins:
        chain = list(dict.fromkeys([*stand_ins.values(), *stand_ins]))
        for name in chain:
            if name not in given and name in stand_ins and stand_ins[name] in given:
                given[name] = given[stand_ins[name]]
        ordered = [*[n for n in chain if n in given], *[n for n in ordered if n not in chain]]
        ordered = [n for n in ordered if n not in last]
    return [given[n] for n in ordered], {n: given[n] for n in last}


def one_tensor(found: Iterable[Any], name: str) -> Any:
    """The first of the tensors that a subject returned. Raises ConformanceError where there is none."""
    for tensor in found:
        return tensor
    raise ConformanceError(f"{name} returned no tensor: what it returns must be one, or hold one")
