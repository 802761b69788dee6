"""A layer bound to its config, inputs and weights: what can be run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from conformance.errors import ConformanceError
from conformance.layer import Chain, Layer, Step, nearest
from conformance.rounding import RoundedArray

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conformance.model import RoundingModel

ONE = "one"
"""What a step may read beside the names of its layer: the number one, exact, of the type that a run computes with.
A layer that reads whole numbers alone has nothing else that tells what its own numbers are rounded to."""

GIVEN = "inputs."
"""What is put before the name of an input among the values where a step has the same name: `query`, which is projected
to `query`. The step of that name, and those before it, read the input."""


@dataclass(frozen=True)
class Flow:
    """`layer` with complete `config`, and `values` by name: config, inputs, weights (None where absent).

    `steps` are the steps that exist under the config; a step that does not passes on what it reads
    first, so that the others read through it.
    """

    layer: Layer
    config: Mapping[str, Any]
    values: Mapping[str, Any]
    steps: tuple[Step, ...]

    @classmethod
    def bind(
        cls,
        layer: Layer,
        config: Mapping[str, Any],
        inputs: Mapping[str, NDArray[Any]],
        weights: Mapping[str, NDArray[Any]],
        where: str = "",
    ) -> Flow:
        """Check that everything is there and fits together.

        Raises ConformanceError naming the array, its shape and what it contradicts; `where` says where
        the arrays come from.
        """
        prefix = f"{where}: " if where else ""
        if not layer.steps:
            raise ConformanceError(f"{prefix}{layer.name} computes nothing: its config lists no 'parts'")
        try:
            full = layer.complete(config)
        except ConformanceError as error:
            raise ConformanceError(f"{prefix}{error}") from None
        arrays = _gathered(layer.inputs, inputs, "input", layer.name, prefix)
        arrays |= _gathered(layer.weights, weights, "weight", layer.name, prefix)
        _check_sizes(layer, arrays, prefix)
        _check_scan(layer, full, arrays, prefix)
        values: dict[str, Any] = {**full, **arrays}
        for name, stand_in in layer.falls_back.items():
            if values.get(name) is None:
                values[name] = values.get(stand_in)
        if layer.initial is not None:
            values |= {name: value for name, value in layer.initial(values).items() if values.get(name) is None}
        shared = [name for name in arrays if name in layer.steps]
        values |= {GIVEN + name: values.pop(name) for name in shared}
        steps: list[Step] = []
        through = {name: GIVEN + name for name in shared}
        for step in layer.steps.values():
            reads = {p: through.get(n, n) for p, n in step.reads.items()}
            if step.exists(values):
                steps.append(Step(step.name, step.function, reads))
                through.pop(step.name, None)
            else:
                through[step.name] = next(iter(reads.values()))
        return cls(layer, full, values, tuple(steps))

    @property
    def output(self) -> str:
        """The name of the last step."""
        return self.steps[-1].name

    def on(self, inputs: Mapping[str, NDArray[Any]]) -> Flow:
        """The same on other `inputs`, which also stand in for those that are left out."""
        given: dict[str, Any] = dict(inputs)
        for name, stand_in in self.layer.falls_back.items():
            if name not in given and stand_in in given:
                given[name] = given[stand_in]
        named = {GIVEN + n if GIVEN + n in self.values else n: array for n, array in given.items()}
        return replace(self, values={**self.values, **named})

    def start(self, model: RoundingModel | None, carried: bool = False) -> dict[str, Any]:
        """The values from which steps are computed: rounding-aware under `model`, and exact, or `carried`."""
        one = np.ones(())
        if model is None:
            return {ONE: one, **self.values}
        made = carry if carried else exact
        given = {n: made(v, model) if _is_tensor(n, v) else v for n, v in self.values.items()}
        return {ONE: exact(one, model), **given}

    def run(
        self, model: RoundingModel | None, conventions: Mapping[str, Any] | None = None
    ) -> Iterator[tuple[Step, Any]]:
        """Every step with its value, in flow order: the oracle's own run from the inputs.

        A value is let go as soon as no later step reads it.
        """
        conventions = conventions or {}
        if self.layer.scan is not None:
            yield from self._scan(model, {}, conventions)
            return
        values = self.start(model)
        last = self._last_read()
        for i, step in enumerate(self.steps):
            value = values[step.name] = _computed(step, values, conventions)
            yield step, value
            for name in [n for n in values if last.get(n, -1) <= i and n != step.name]:
                del values[name]

    def _last_read(self) -> dict[str, int]:
        """The number of the last step that reads each value."""
        return {name: i for i, step in enumerate(self.steps) for name in step.reads.values()}

    def isolated(
        self, model: RoundingModel, observed: Mapping[str, NDArray[Any]], conventions: Mapping[str, Any] | None = None
    ) -> Iterator[tuple[Step, Any]]:
        """As `run`, but each step is computed from the `observed` values of the steps that it reads.

        What a step reads carries one rounding (`carry`).
        """
        conventions = conventions or {}
        if self.layer.scan is not None:
            yield from self._scan(model, observed, conventions)
            return
        values = self.start(model, carried=True)
        last = self._last_read()
        for i, step in enumerate(self.steps):
            value = _computed(step, values, conventions)
            yield step, value
            seen = observed.get(step.name)
            values[step.name] = value if seen is None else carry(seen, model)
            del value
            for name in [n for n in values if last.get(n, -1) <= i]:
                del values[name]

    def _scan(
        self, model: RoundingModel | None, observed: Mapping[str, NDArray[Any]], conventions: Mapping[str, Any]
    ) -> Iterator[tuple[Step, Any]]:
        scan = self.layer.scan
        assert scan is not None
        whole = self.start(model, carried=bool(observed))
        if self.layer.walk is not None and len(self.chains) == 1 and not observed and not conventions:
            walked = self.layer.walk(whole, self.chains[0].backward)
            if walked is not None:
                yield from ((step, walked[step.name]) for step in self.steps)
                return
        times = range(whole[scan.over[0]].shape[1])
        history: dict[str, list[Any]] = {step.name: [] for step in self.steps}
        made: list[dict[str, Any]] = [{name: whole[name][:, t] for name in scan.over} for t in times]
        lengths = whole.get(scan.lengths)
        for chain in self.chains:
            steps = [step for step in self.steps if step.name in chain.names]
            carried = {name: whole[initial] for name, (_, initial) in chain.carry.items()}
            for t in reversed(times) if chain.backward else times:
                values = {**whole, **carried, **made[t]}
                there = None if lengths is None else (t < lengths)[:, None]
                for step in steps:
                    value = _computed(step, values, _within(step.name, conventions))
                    if there is not None:
                        value = np.where(there, value, np.zeros(value.shape))
                    history[step.name].append(value)
                    seen = observed.get(step.name)
                    made[t][step.name] = value if seen is None or model is None else carry(seen[:, t], model)
                    values[step.name] = made[t][step.name]
                before, carried = carried, {name: values[step] for name, (step, _) in chain.carry.items()}
                if there is not None:
                    carried = {name: np.where(there, value, before[name]) for name, value in carried.items()}
            for step in steps:
                slices = history[step.name]
                yield step, np.stack(slices[::-1] if chain.backward else slices, axis=1)

    @property
    def chains(self) -> list[Chain]:
        """The walks along time of a scanned layer."""
        scan = self.layer.scan
        assert scan is not None
        return scan.chains([step.name for step in self.steps], self.values.get(scan.reversed_by))


def _computed(step: Step, values: Mapping[str, Any], conventions: Mapping[str, Any]) -> Any:
    """The value of a step. An infinity or NaN is one as others are: it is there to be compared, and is no warning."""
    with np.errstate(all="ignore"):
        return step(values, **conventions)


def _within(step: str, conventions: Mapping[str, Any]) -> dict[str, Any]:
    """The conventions that hold in the step: of those of one layer of a stack, `l1.lstm_gate_order`, the step's own."""
    prefix = step.rpartition(".")[0]
    own = {k.rpartition(".")[2]: v for k, v in conventions.items() if k.rpartition(".")[0] == prefix}
    return {**{k: v for k, v in conventions.items() if "." not in k}, **own} if prefix else dict(conventions)


def exact(array: NDArray[Any], model: RoundingModel) -> RoundedArray:
    """An array whose values are what they are."""
    return RoundedArray(np.asarray(array, dtype=np.float64), None, model)


def carry(array: NDArray[Any], model: RoundingModel) -> RoundedArray:
    """An array that a step reads, as seen from the step alone: its values may be off by one rounding.

    A conforming implementation may use an equal form of the step: (x - mean) * r may be computed as
    x * r - mean * r, whose error is one rounding of x, however close x and mean are. So an isolated step
    is held to the error of the exact step on inputs that are off by a unit roundoff (backward stability:
    Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., section 1.5).
    """
    values = np.asarray(array, dtype=np.float64)
    u = max(model.precision.store, model.precision.accumulate)
    carried = RoundedArray(values, np.abs(values) * u, model)
    carried.relative = u
    return carried


def _is_tensor(name: str, value: Any) -> bool:
    """Masks and indices stay plain arrays: what they select is not a matter of rounding."""
    return isinstance(value, np.ndarray) and value.dtype.kind == "f" and name.rpartition(".")[2] != "mask"


def _gathered(
    declared: Mapping[str, str], given: Mapping[str, NDArray[Any]], kind: str, layer: str, prefix: str
) -> dict[str, NDArray[Any] | None]:
    names = [n.rstrip("?") for n in declared]
    for name in given:
        if name not in names:
            raise ConformanceError(
                f"{prefix}{layer} has no {kind} {name!r}{nearest(name, names)}; it has {', '.join(names) or 'none'}"
            )
    for name in declared:
        if not name.endswith("?") and name not in given:
            raise ConformanceError(
                f"{prefix}the {kind} {name!r} of {layer} is missing; it has the axes {declared[name]}"
            )
    return {name: given.get(name) for name in names}


def _check_sizes(layer: Layer, arrays: Mapping[str, NDArray[Any] | None], prefix: str) -> None:
    known: dict[str, tuple[int, str]] = {}
    for name, axes in {**layer.inputs, **layer.weights}.items():
        name = name.rstrip("?")
        array = arrays.get(name)
        if array is None:
            continue
        words = axes.split()
        shape = "x".join(map(str, array.shape))
        if any(w == "..." or w.startswith("*") for w in words):
            tail = [w for w in words if w != "..." and not w.startswith("*")]
            if array.ndim < len(tail):
                raise ConformanceError(f"{prefix}{name!r} is {shape or 'a single number'}, but has the axes {axes}")
            sizes = array.shape[len(array.shape) - len(tail) :] if tail else ()
            words = tail
        else:
            if array.ndim != len(words):
                raise ConformanceError(f"{prefix}{name!r} is {shape or 'a single number'}, but has the axes {axes}")
            sizes = array.shape
        for word, size in zip(words, sizes, strict=True):
            factor, _, axis = word.rpartition("*")
            if "/" in word:
                continue
            multiple = int(factor) if factor else 1
            if size % multiple:
                raise ConformanceError(
                    f"{prefix}{name!r} is {shape} ({axes}), but {size} is not a multiple of {multiple}"
                )
            size //= multiple
            # parts of a composite name their own axes, layers of a stack share theirs
            scoped = axis if layer.scan is not None else f"{name.rpartition('.')[0]}.{axis}"
            if scoped in known and known[scoped][0] != size:
                expected, source = known[scoped]
                raise ConformanceError(
                    f"{prefix}{name!r} is {shape} ({axes}), but {axis} is {expected} (from {source!r})"
                )
            known.setdefault(scoped, (size, name))


def _check_scan(
    layer: Layer, config: Mapping[str, Any], arrays: Mapping[str, NDArray[Any] | None], prefix: str
) -> None:
    scan = layer.scan
    if scan is None:
        return
    direction = config.get(scan.reversed_by)
    known = ("bidirectional",) if scan.reverse else ("forward", "reverse")
    if direction not in known:
        raise ConformanceError(
            f"{prefix}{layer.name} has no {scan.reversed_by} {direction!r}; "
            "it can be 'forward', 'reverse' or 'bidirectional'"
        )
    for name in scan.over:
        array = arrays[name]
        if array is not None and array.shape[1] == 0:
            raise ConformanceError(f"{prefix}{name!r} has no {scan.axis} steps; give at least one")
    lengths = arrays.get(scan.lengths)
    if lengths is None:
        return
    most = next(a.shape[1] for n in scan.over if (a := arrays[n]) is not None)
    if lengths.dtype.kind not in "iu" or ((lengths < 1) | (lengths > most)).any():
        raise ConformanceError(f"{prefix}{scan.lengths!r} must be whole numbers from 1 to the {most} {scan.axis} steps")
