"""Finding a layer's weights among a subject's parameters: by name, by shape, and by use.

A parameter may hold a weight in several ways (`Candidate`): transposed, with heads on an axis of their own, or packed
with others. Names come first; where they leave something open, the tape tells which parameter entered which product.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, permutations, product
from typing import TYPE_CHECKING, Any

import numpy as np

from conformance import naming
from conformance.errors import ConformanceError, DoesNotFit
from conformance.figures import compare, informative
from conformance.flow import Flow, carry
from conformance.layer import REVERSE
from conformance.model import RoundingModel
from conformance.sizes import Sizes, unified
from conformance.tape import Tape

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conformance.layer import Layer
    from conformance.precision import Precision
    from conformance.trace import Trace

_MOST = 400  # assignments of which the use is looked at


@dataclass(frozen=True)
class Candidate:
    """One way in which a parameter may hold a weight. `likely` orders the ways of one parameter (less is likelier);
    `slot` is the parameter, and the piece of it where several weights share it."""

    slot: tuple[str, int]
    array: NDArray[Any]
    spoken: int
    likely: int

    @property
    def path(self) -> str:
        """The parameter's name."""
        return self.slot[0]


class WeightSearch:
    """The search for the weights of `layer` in `parameters`, with what a run on `inputs` showed."""

    def __init__(
        self,
        layer: Layer,
        config: Mapping[str, Any],
        inputs: Mapping[str, NDArray[Any]],
        parameters: Mapping[str, NDArray[Any]],
        given: Mapping[str, NDArray[Any]],
    ) -> None:
        self.layer, self.config, self.inputs, self.given = layer, config, inputs, given
        self.parameters = _stacked({n: np.asarray(p, np.float64) for n, p in parameters.items()})
        if layer.scan is not None and not any(n.endswith("recurrent_bias?") for n in layer.weights):
            self.parameters = _summed(self.parameters)
        self.sizes: Sizes = {}
        for name, axes in layer.inputs.items():
            array = self._input(name.rstrip("?"))
            if array is not None and axes != "...":
                self.sizes = unified(axes, array.shape, self.sizes, config) or self.sizes
        self.sizes.pop("*shape", None)
        self.wanted = [n for n in layer.weights if n.rstrip("?") not in given]
        stack = layer.scan.stack if layer.scan is not None else ()
        numbers = naming.numbered(parameters, len(stack)) if stack else {}
        self.layers = {n: stack[numbers[n.split(_PLUS)[0]]] for n in self.parameters if n.split(_PLUS)[0] in numbers}

    def _input(self, name: str) -> NDArray[Any] | None:
        while name not in self.inputs and name in self.layer.falls_back:
            name = self.layer.falls_back[name]
        return self.inputs.get(name)

    def sizes_by_name(self) -> Sizes:
        """The sizes that follow from the parameters whose names speak for a weight, each taken in its likeliest way."""
        made = self.sizes
        for name in self.wanted:
            axes = len(self.layer.weights[name].split())
            candidates = [c for c in self._candidates(name) if self.parameters[c.path].ndim == axes]
            if candidates and (candidates[0].spoken > 0 or len({c.path for c in candidates}) == 1):
                made = unified(self.layer.weights[name], candidates[0].array.shape, made, self.config) or made
        return made

    def found(self, trace: Trace, precision: Precision) -> dict[str, NDArray[Any]]:
        """The weights, by canonical name. Raises ConformanceError with the candidates where they cannot be told."""
        options = {name: self._candidates(name) for name in self.wanted}
        for name, candidates in options.items():
            if not candidates and not name.endswith("?"):
                raise ConformanceError(self._nothing(name))
        assignments = list(islice(self._assignments(options), _MOST))
        if not assignments:
            raise ConformanceError(self._nothing(next(n for n in options if not n.endswith("?"))))
        if len(assignments) == 1:
            return {**self.given, **{n: c.array for n, c in assignments[0].items()}}
        use = _Use(self, trace, precision)
        ranked = sorted(assignments, key=lambda a: (-use.of(a), -len(a), sum(c.likely for c in a.values())))
        best, second = ranked[0], ranked[1]
        if use.of(best) == use.of(second) and len(best) == len(second) and self._differ(best, second):
            equal = [a for a in ranked if use.of(a) == use.of(best) and len(a) == len(best)]
            raise ConformanceError(self._ambiguous(best, equal))
        return {**self.given, **{n: c.array for n, c in best.items()}}

    @staticmethod
    def _differ(best: Mapping[str, Candidate], second: Mapping[str, Candidate]) -> bool:
        """Whether two assignments take other parameters: other views of the same ones are ordered by likeliness."""
        return {n: c.slot for n, c in best.items()} != {n: c.slot for n, c in second.items()}

    def _candidates(self, name: str) -> list[Candidate]:
        """Every way in which a parameter can hold the weight `name`, of those whose names speak loudest for it."""
        (_, bare), axes = _apart(name), self.layer.weights[name]
        made: list[Candidate] = []
        for path, array in self.parameters.items():
            if not self._may_be_of(path, name):
                continue
            spoken = naming.spoken_for(path, bare)
            pieces: list[tuple[int, NDArray[Any], int]] = [(0, array, spoken)]
            part = naming.Said.of(bare).part
            if naming.packed(path) and part in _PACKED and naming.is_bias(path) == (bare.endswith("bias")):
                position = _PACKED.index(part)
                pieces = [(position, piece, 2) for piece in self._pieces(array, position)]
            for piece, values, told in pieces:
                if told < 0:
                    continue
                views = list(_views(values, len(axes.split()), naming.input_first(path), bare))
                for likely, view in enumerate(views):
                    if unified(axes, view.shape, self.sizes, self.config) is not None:
                        made.append(Candidate((path, piece), view, told, likely))
        loudest = max((c.spoken for c in made), default=0)
        return [c for c in made if c.spoken == loudest]

    def _may_be_of(self, path: str, name: str) -> bool:
        """Whether a parameter may be of the cell that the weight `name` is of, one of several."""
        cell, _ = _apart(name)
        layer, scan = cell.removesuffix(REVERSE), self.layer.scan
        if scan is not None and scan.reverse and cell.endswith(REVERSE) != naming.is_reverse(path):
            return False
        return self.layers.get(path, layer) == layer

    def _pieces(self, array: NDArray[Any], position: int) -> Iterator[NDArray[Any]]:
        """The part at `position` of three that are packed along an axis, one after another."""
        width = self.sizes.get("channel")
        for axis, size in enumerate(array.shape):
            rest = [s for a, s in enumerate(array.shape) if a != axis]
            if size % 3 == 0 and (array.ndim == 1 or size == 3 or width is None or width in rest):
                piece = np.split(array, 3, axis=axis)[position]
                yield piece[(slice(None),) * axis + (0,)] if size == 3 and array.ndim > 2 else piece

    def _assignments(self, options: Mapping[str, Sequence[Candidate]]) -> Iterator[dict[str, Candidate]]:
        """Every way to give each weight a parameter of its own; one that may be absent is, where nothing holds it."""
        kernels = [n for n in options if not n.rstrip("?").endswith("bias") and options[n]]
        ways = [[*options[n], *([None] if n.endswith("?") and options[n][0].spoken < 2 else [])] for n in kernels]
        biases = [n for n in options if n.rstrip("?").endswith("bias") and options[n]]
        for chosen in product(*ways):
            assignment = {n.rstrip("?"): c for n, c in zip(kernels, chosen, strict=True) if c is not None}
            if len({c.slot for c in assignment.values()}) < len(assignment) or not self._fit(assignment):
                continue
            for more in product(*(self._beside(n, options[n], assignment) for n in biases)):
                beside = {n.rstrip("?"): c for n, c in zip(biases, more, strict=True) if c is not None}
                whole = {**assignment, **_each_its_own(beside)}
                if self._fit(whole):
                    yield whole

    def _beside(
        self, name: str, candidates: Sequence[Candidate], kernels: Mapping[str, Candidate]
    ) -> Sequence[Candidate | None]:
        """The biases that may go with what was chosen as kernels: that of the same module, where there is one."""
        cell, bare = _apart(name)
        part = naming.Said.of(bare).part
        kernel = kernels.get(f"{cell}{part}_kernel" if part else f"{cell}kernel") or kernels.get("scale")
        if kernel is None:
            return [None]
        owner = kernel.path.rpartition(".")[0]
        if any(_PLUS in c.path for c in candidates):
            return candidates
        same = [c for c in candidates if c.path.rpartition(".")[0] == owner and c.slot[1] == kernel.slot[1]]
        if owner and any(n.rpartition(".")[0] != owner for n in self.parameters):
            return same[:1] or [None]
        return candidates or [None]

    def _fit(self, assignment: Mapping[str, Candidate]) -> bool:
        """Whether the sizes of all weights go together."""
        sizes: Sizes | None = self.sizes
        for name, axes in self.layer.weights.items():
            chosen = assignment.get(name.rstrip("?"))
            array = chosen.array if chosen is not None else self.given.get(name.rstrip("?"))
            if array is not None and sizes is not None:
                sizes = unified(axes, array.shape, sizes, self.config)
        return sizes is not None

    def bound(self, assignment: Mapping[str, Candidate]) -> Flow | None:
        """The layer with these weights, or None where they do not fit together."""
        weights = {**self.given, **{n: c.array for n, c in assignment.items()}}
        try:
            return Flow.bind(self.layer, self.config, self.inputs, weights)
        except ConformanceError:
            return None

    def _nothing(self, name: str) -> str:
        bare, axes = name.rstrip("?"), self.layer.weights[name]
        sizes = " ".join(str(self.sizes.get(a, a)) for a in axes.split())
        held = [f"{n} {'x'.join(map(str, a.shape))}" for n, a in self.parameters.items()]
        return (
            f"no parameter of the subject can be {self.layer.name}'s {bare} ({sizes}); it has "
            f"{', '.join(held[:8]) or 'none'}: give the weights by their canonical names (`weights`, --weights FILE)"
        )

    def _ambiguous(self, best: Mapping[str, Candidate], equal: Sequence[Mapping[str, Candidate]]) -> str:
        told = []
        for name in best:
            paths = list(dict.fromkeys(a[name].path for a in equal if name in a))
            if len(paths) > 1:
                told.append(f"{name} may be {' or '.join(paths)}")
        return (
            f"the weights of {self.layer.name} cannot be told: {'; '.join(told)}; "
            "give them by their canonical names (`weights`, --weights FILE)"
        )


_PACKED = ("query", "key", "value")
_PLUS = " + "


class _Use:
    """How much of the layer an assignment makes come out on the tape."""

    def __init__(self, search: WeightSearch, trace: Trace, precision: Precision) -> None:
        self.search, self.trace = search, trace
        self.model = RoundingModel(precision)
        self.tape = Tape(trace.tape)
        self.known: dict[tuple[Any, ...], float] = {}

    def of(self, assignment: Mapping[str, Candidate]) -> float:
        """One for each step that is found, a little more in its own axes; and ten where the output conforms."""
        key = tuple((n, c.slot, c.likely) for n, c in assignment.items())
        if key not in self.known:
            flow = self.search.bound(assignment)
            try:
                self.known[key] = 0.0 if flow is None else self._of(flow)
            except DoesNotFit:  # a table the other way round has other rows
                self.known[key] = 0.0
        return self.known[key]

    def _of(self, flow: Flow) -> float:
        if flow.layer.scan is not None:
            *_, (_, expected) = flow.run(self.model)
            same = expected.shape == self.trace.output.shape
            return 10.0 if same and compare(expected, self.trace.output).conforms else 0.0
        total, values = 0.0, flow.start(self.model, carried=True)
        for step in flow.steps:
            expected = step(values)
            values[step.name] = expected
            found = self.tape.find(expected) if informative(expected) else None
            if found is not None:
                total += 1.0 if not found.view.canonical else 1.1
                values[step.name] = carry(found.array, self.model)
            if step.name == flow.output and expected.shape == self.trace.output.shape:
                total += 10.0 * compare(expected, self.trace.output).conforms
        return round(total, 3)


def _apart(name: str) -> tuple[str, str]:
    """The cell of several that a weight's name says it is of (`l1.reverse_`), and the name that it has there."""
    layer, dot, bare = name.rstrip("?").rpartition(".")
    reverse = REVERSE if bare.startswith(REVERSE) else ""
    return f"{layer}{dot}{reverse}", bare.removeprefix(reverse)


def _each_its_own(assignment: Mapping[str, Candidate]) -> dict[str, Candidate]:
    """`assignment`, in which a parameter that stands for several weights is left to the one that its name speaks
    loudest for: one bias is not that of the input and that of the state too."""
    made: dict[str, Candidate] = {}
    for name, chosen in sorted(assignment.items(), key=lambda item: -item[1].spoken):
        if all(chosen.slot != other.slot for other in made.values()):
            made[name] = chosen
    return made


def _views(array: NDArray[Any], axes: int, input_first: bool, weight: str) -> Iterator[NDArray[Any]]:
    """How a parameter may hold a weight of so many axes, the likeliest first."""
    if weight == "kernel" and axes in (3, 4, 5) and array.ndim == axes:  # a convolution's, spatial axes last or first
        turned = np.transpose(array, (*range(2, axes), 1, 0))
        yield from (array, turned) if input_first else (turned, array)
    elif axes == 2 and array.ndim == 2:
        yield from (array, array.T) if input_first or weight == "table" else (array.T, array)
    elif axes == 2 and array.ndim == 3:
        for order in permutations(range(3)):
            turned = np.transpose(array, order)
            first, second, third = turned.shape
            yield turned.reshape(first, second * third)
            yield turned.reshape(first * second, third)
    elif axes == 1 and array.ndim == 2:  # a bias for each head
        yield from (array.ravel(), array.T.ravel())
    elif axes == array.ndim or weight in ("scale", "bias"):
        yield array


def _stacked(parameters: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """`parameters`, with those that differ in one number of their names alone (`heads.0.key.weight`) as one, on a
    leading axis."""
    groups: dict[str, list[str]] = {}
    for name in parameters:
        if len(re.findall(r"\d+", name)) == 1:
            groups.setdefault(re.sub(r"\d+", "*", name), []).append(name)
    made = dict(parameters)
    for pattern, names in groups.items():
        spoken = any(naming.spoken_for(pattern, f"{part}_kernel") == 2 for part in ("query", "key", "value"))
        if len(names) > 1 and spoken and len({parameters[n].shape for n in names}) == 1:
            made[pattern] = np.stack(
                [parameters[n] for n in sorted(names, key=lambda n: int(re.findall(r"\d+", n)[0]))]
            )
            for name in names:
                del made[name]
    return made


def _summed(parameters: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """`parameters` of recurrent cells; where one has two biases, of the input and of the state, their sum."""
    biases = [n for n, a in parameters.items() if a.ndim == 1 and naming.is_bias(n)]
    pairs: dict[str, list[str]] = {}
    for name in biases:  # those of several cells differ in more than what they are of
        pairs.setdefault("" if len(biases) == 2 else re.sub("ih|hh", "*", name), []).append(name)
    made = dict(parameters)
    for pair in pairs.values():
        if len(pair) == 2 and parameters[pair[0]].shape == parameters[pair[1]].shape:
            made[_PLUS.join(pair)] = made.pop(pair[0]) + made.pop(pair[1])
    return made
