"""A layer: what it reads, and its named steps as small pure functions.

A step's function names what it reads by its positional parameters: inputs, weights, config or earlier
steps. A positional parameter with the default None may be absent. Its keyword-only parameters are
conventions (`attention.scale` is `attention_scale`), whose default is the canonical choice. Its return
annotation, in jaxtyping's notation, names the axes of the step. The graph follows from the signatures.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from conformance.errors import ConformanceError, DoesNotFit

_AXES = re.compile(r"""\w+\[[\w.]+,\s*['"]([^'"]*)['"]\]""")


@dataclass(frozen=True)
class Step:
    """One named value of a layer.

    `reads` maps each positional parameter of `function` to the name that it reads; `given` lists the
    names of which one must be present for the step to exist (none: it always does). A step that does
    not exist passes its first parameter on.
    """

    name: str
    function: Callable[..., Any]
    reads: Mapping[str, str]
    given: tuple[str, ...] = ()

    @classmethod
    def of(cls, name: str, function: Callable[..., Any], given: tuple[str, ...] = ()) -> Step:
        """The step `name` that `function` computes, read from its signature."""
        positional = [p.name for p in _parameters(function) if p.kind is p.POSITIONAL_OR_KEYWORD]
        return cls(name, function, {p: p for p in positional}, given)

    @cached_property
    def axes(self) -> str:
        """The names of the step's axes, separated by spaces."""
        found = _AXES.search(str(self.function.__annotations__.get("return", "")))
        if found is None:
            raise TypeError(f"step {self.name!r}: the return annotation must name the axes")
        return found.group(1).strip()

    @cached_property
    def optional(self) -> frozenset[str]:
        """The parameters that may be absent."""
        return frozenset(
            p.name for p in _parameters(self.function) if p.kind is p.POSITIONAL_OR_KEYWORD and p.default is None
        )

    @cached_property
    def conventions(self) -> Mapping[str, Any]:
        """The conventions that act in this step: keyword to canonical value."""
        return {p.name: p.default for p in _parameters(self.function) if p.kind is p.KEYWORD_ONLY}

    def exists(self, values: Mapping[str, Any]) -> bool:
        """Whether the step is asked for by the names that are given in `values`."""
        return not self.given or any(values.get(n) is not None and values.get(n) is not False for n in self.given)

    def __call__(self, values: Mapping[str, Any], **conventions: Any) -> Any:
        """Compute the step from the named `values`, under `conventions` (canonical where left out).

        Raises DoesNotFit where the sizes of what it reads do not go together.
        """
        arguments = {p: values.get(n) if p in self.optional else values[n] for p, n in self.reads.items()}
        known = {k: v for k, v in conventions.items() if k in self.conventions}
        try:
            return settled(self.function(**arguments, **known))
        except ConformanceError:
            raise
        except (ValueError, IndexError) as error:
            read = ", ".join(f"{self.reads[p]} {_said(a)}" for p, a in arguments.items() if a is not None)
            raise DoesNotFit(f"the step {self.name!r} cannot be computed from {read}: {error}") from error


def settled(value: Any) -> Any:
    """A step's value, computed: a rounding-aware array may put off what it is until it is read."""
    settle = getattr(value, "settle", None)
    return value if settle is None else settle()


def _said(value: Any) -> str:
    shape = getattr(value, "shape", None)
    return repr(value) if shape is None else "x".join(map(str, shape)) or "a single number"


def _parameters(function: Callable[..., Any]) -> Iterable[inspect.Parameter]:
    return inspect.signature(function).parameters.values()


@dataclass(frozen=True)
class Scan:
    """How a cell is applied along an axis of its input.

    `over` are the inputs that are walked through along `axis`; `carry` maps what the cell reads of the
    time step before to (the step that gave it, the optional input that starts it). `reversed_by` names
    a config entry whose value "reverse" walks from the last time step to the first.

    The input `lengths`, where it is given, says how many time steps of each sequence there are. The cell is not applied
    to those that come after them: what it carries stays as it was, and its steps are zero there.

    A layer in both directions has a second cell, whose names begin with `REVERSE` and which carries `reverse`; the
    steps `joined` read both cells at one time.

    Layers one upon another have a cell each, or two: the names of each layer begin with its one of `stack`.
    """

    over: tuple[str, ...]
    carry: Mapping[str, tuple[str, str]]
    axis: str = "time"
    reversed_by: str = "direction"
    reverse: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    joined: tuple[str, ...] = ()
    lengths: str = "lengths"
    stack: tuple[str, ...] = ()

    def chains(self, names: Iterable[str], direction: Any) -> list[Chain]:
        """The walks along time, in their order: which of the steps `names` each makes, what it carries, and where it
        begins."""
        if self.stack:
            one, names = replace(self, stack=()), list(names)
            own = {prefix: [n.removeprefix(prefix) for n in names if n.startswith(prefix)] for prefix in self.stack}
            return [chain.of(prefix) for prefix in self.stack for chain in one.chains(own[prefix], direction)]
        if not self.reverse:
            return [Chain(tuple(names), self.carry, direction == "reverse")]
        apart = [n for n in names if n not in self.joined]
        return [
            Chain(tuple(n for n in apart if not n.startswith(REVERSE)), self.carry, False),
            Chain(tuple(n for n in apart if n.startswith(REVERSE)), self.reverse, True),
            Chain(self.joined, {}, False),
        ]


REVERSE = "reverse_"


@dataclass(frozen=True)
class Chain:
    """One walk along time: the steps that it makes, what it carries, and whether it begins at the last time step."""

    names: tuple[str, ...]
    carry: Mapping[str, tuple[str, str]]
    backward: bool

    def of(self, layer: str) -> Chain:
        """The walk in the layer of a stack whose names begin with `layer`."""
        carry = {f"{layer}{n}": (f"{layer}{step}", f"{layer}{start}") for n, (step, start) in self.carry.items()}
        return Chain(tuple(f"{layer}{n}" for n in self.names), carry, self.backward)


@dataclass(frozen=True)
class Layer:
    """A layer's definition.

    `inputs` and `weights` map names to axes (`batch time in`); a name that ends in `?` may be absent.
    `config` maps names to defaults. `falls_back` maps a name to the one that stands in for it where it
    is not given. `steps` is ordered; the last is the output. `formula` and `source` are for people. `walk` computes all
    steps of a scanned layer at once, from the values that there are and whether it goes backward, or gives None.
    """

    name: str
    summary: str
    formula: str
    source: str
    inputs: Mapping[str, str]
    weights: Mapping[str, str]
    config: Mapping[str, Any]
    steps: Mapping[str, Step]
    falls_back: Mapping[str, str] = field(default_factory=dict)
    scan: Scan | None = None
    initial: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None = None
    walk: Callable[[Mapping[str, Any], bool], Mapping[str, Any] | None] | None = None

    @classmethod
    def define(cls, name: str, *, steps: Mapping[str, Callable[..., Any] | tuple[Any, ...]], **parts: Any) -> Layer:
        """Define a layer from plain functions; `(function, "mask", "causal")` is a step that exists
        only where one of those names is given."""
        made = {
            key: Step.of(key, value[0], tuple(value[1:])) if isinstance(value, tuple) else Step.of(key, value)
            for key, value in steps.items()
        }
        return cls(name=name, steps=made, **parts)

    @property
    def output(self) -> str:
        """The name of the last step."""
        return list(self.steps)[-1]

    def axes(self, step: Step) -> str:
        """The names of the step's axes; those of a scanned cell gain the axis of time."""
        if self.scan is None:
            return step.axes
        first, *rest = step.axes.split()
        return " ".join([first, self.scan.axis, *rest])

    def complete(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """`config` with the defaults filled in.

        Raises ConformanceError for a name that the layer does not have.
        """
        for key in config:
            if key not in self.config:
                has = ", ".join(self.config) or "none"
                raise ConformanceError(f"{self.name} has no config {key!r}{nearest(key, self.config)}; it has {has}")
        full = {**self.config, **config}
        for key, other in self.falls_back.items():
            if key in self.config and full.get(key) is None:
                full[key] = full[other]
        return full

    def prefixed(self, prefix: str, wiring: Mapping[str, str]) -> dict[str, Step]:
        """The steps under `prefix.`, for a composite; `wiring` maps input names to the composite's names."""

        def renamed(name: str) -> str:
            return wiring.get(name, f"{prefix}.{name}")

        return {
            f"{prefix}.{key}": replace(
                step,
                name=f"{prefix}.{key}",
                reads={p: renamed(n) for p, n in step.reads.items()},
                given=tuple(renamed(n) for n in step.given),
            )
            for key, step in self.steps.items()
        }


def nearest(name: str, names: Iterable[str]) -> str:
    """` (did you mean 'x'?)` for the nearest of `names`, or nothing."""
    from difflib import get_close_matches

    close = get_close_matches(name, list(names), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
