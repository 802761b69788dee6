"""Any subject against a canonical layer: `check`, `assert_conforms`, and a whole model at once: `check_model`.

A live object runs in this process and is not changed. Config and weights that are not given are read from it, inputs
that are not given are generated.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from conformance import sizes
from conformance.arrays import read_arrays
from conformance.depthwise import as_asked
from conformance.errors import ConformanceError, Unsupported
from conformance.flow import Flow
from conformance.judge import judge
from conformance.layers import get_layer
from conformance.loading import opened
from conformance.precision import Precision, precision
from conformance.result import Case, Run, asked_for, parts_of, summarise
from conformance.run import fresh
from conformance.sample import thinned
from conformance.subject import Argument, Call, Live, Own, Part, Recording
from conformance.weights import WeightSearch

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conformance.layer import Layer
    from conformance.trace import Trace

Arrays = Mapping[str, Any]

_OPEN = (2, 5, 7, 11, 13)  # the sizes of axes that a signature leaves open


def check(
    subject: Any,
    layer: str,
    *,
    inputs: Arrays | str | os.PathLike[str] | None = None,
    weights: Arrays | str | os.PathLike[str] | None = None,
    config: Mapping[str, Any] | None = None,
    adapter: str | None = None,
    dtype: str | None = None,
    call: Callable[..., Any] | None = None,
    decomposed: bool = False,
) -> Case:
    """Whether `subject` computes the canonical `layer`; if not, at which step it leaves it, and why.

    `subject` is a module, layer or function of an installed framework, a model or its file, or `file.py:Name`.
    `inputs` and `weights` are arrays by canonical name and in the canonical layout (CANON), or a file of them;
    weights feed the oracle only. What is left out is generated (inputs), read from the subject (weights, config of a
    framework's own layer) or canonical (config). `adapter` is needed for a plain function. `dtype` is the subject's
    own where it is None. `call(subject, **inputs)` calls it in a way of your own. `decomposed` asks the framework for
    its unfused form, so that more steps are seen.

    Raises ConformanceError where something that was given does not fit, or what is needed cannot be found.
    What the subject itself raises is the case's status `error`.
    """
    return checked_run(
        subject,
        layer,
        inputs=inputs,
        weights=weights,
        config=config,
        adapter=adapter,
        dtype=dtype,
        call=call,
        decomposed=decomposed,
    ).cases[0]


def checked_run(subject: Any, layer: str, **options: Any) -> Run:
    """As `check`: a run of the one case, with the environment that it ran in."""
    clock = time.perf_counter()
    live = opened(subject, options.pop("adapter", None))
    inputs, weights = (named_arrays(options.pop(n, None), n) for n in ("inputs", "weights"))
    through = options.pop("call", None)
    case, trace = Checked(live, layer, inputs, weights, through=through, sampling=True, **options).judged()
    seconds = time.perf_counter() - clock
    return run_of([replace_seconds(case, seconds)], trace.environment if trace is not None else {}, seconds)


def assert_conforms(subject: Any, layer: str, **options: Any) -> None:
    """As `check`. Raises AssertionError, which reads as the report does, unless the case conforms."""
    __tracebackhide__ = True
    case = check(subject, layer, **options)
    if case.status != "conforms":
        raise AssertionError(told(case))


def told(case: Case) -> str:
    """A case as the terminal's report has it, without colours."""
    from io import StringIO

    from rich.console import Console

    from conformance.report import load

    page = StringIO()
    load("terminal")(run_of([case], {}, case.seconds), Console(file=page, width=100, no_color=True))
    return f"{case.subject} is not the canonical {case.layer}\n\n{page.getvalue().rstrip()}"


def check_model(
    model: Any,
    *,
    inputs: Arrays | str | os.PathLike[str] | None = None,
    adapter: str | None = None,
    dtype: str | None = None,
    decomposed: bool = False,
    progress: Callable[[Case, int, int], None] | None = None,
) -> Run:
    """Every layer of a known kind inside `model`, judged as a layer of its own on the values that reach it.

    `inputs` are the model's own, by its own names; left out, they are generated from its signature. The cases are in
    the order of how bad they are. `progress` is called with each case, its number and how many there are.
    """
    clock = time.perf_counter()
    live = opened(model, adapter)
    number = _precision(live, dtype)
    given = named_arrays(inputs, "inputs")
    made = {n: number.round(as_numpy(a)) for n, a in given.items()} if given is not None else own_inputs(live, number)
    try:
        parts = list(live.parts(Call(made, number.name)))
    except ConformanceError:
        raise
    except Exception as error:  # of the user's code
        raise ConformanceError(
            f"{live.name} cannot be run on {_shapes(made)}: {type(error).__name__}: {_first_line(error)}; "
            "give inputs that it takes (`inputs`, --inputs FILE)"
        ) from error
    if not parts:
        raise ConformanceError(
            f"{live.name} holds no layer of a known kind: name the layer that it is (`layer`, --layer)"
        )
    environment: dict[str, str] = {}
    cases = []
    for part in parts:
        case, trace = _of_part(part, live, number, decomposed)
        cases.append(case)
        if progress is not None:
            progress(case, len(cases), len(parts))
        environment |= trace.environment if trace is not None else {}
    cases.sort(key=lambda c: -_badness(c))
    return run_of(cases, environment, time.perf_counter() - clock)


def run_of(cases: list[Case], environment: Mapping[str, str], seconds: float) -> Run:
    """A run of these cases."""
    here = {"python": platform.python_version(), "numpy": np.__version__, "platform": platform.machine()}
    return Run(
        environment=dict(sorted({**here, **environment}.items())),
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=round(seconds, 3),
        summary=summarise(cases),
        cases=thinned(cases),
    )


@dataclass
class Checked:
    """One subject that is put beside one layer."""

    live: Live
    layer: str
    inputs: Arrays | None = None
    weights: Arrays | None = None
    config: Mapping[str, Any] | None = None
    dtype: str | None = None
    through: Callable[..., Any] | None = None
    decomposed: bool = False
    name: str = ""
    kind: str = ""  # the layer as which its adapter knows it, where that is not `layer`
    sampling: bool = False  # also where it conforms: of one layer, a person looks at every step

    def judged(self) -> tuple[Case, Trace | None]:
        """The case, and the trace that it was judged on (None where the subject could not be run)."""
        number = _precision(self.live, self.dtype)
        layer = get_layer(self.layer, self.config)
        try:
            own = self._own()
        except Unsupported as error:
            return self._case(number, "unsupported", str(error)), None
        if own is not None and own.layer == self.layer:
            config = {**own.config, **(self.config or {})}
            weights: Arrays | None = own.weights if self.weights is None else self.weights
        else:
            config, weights = dict(self.config or {}), self.weights
        layer = get_layer(self.layer, config)  # in both directions, a recurrent one has more steps
        config = layer.complete(config)
        known = {n: number.round(as_numpy(a)) for n, a in (weights or {}).items()}
        inputs = self._given(layer, known, config, number)
        try:
            trace = self._trace(inputs, layer, number)
        except ConformanceError:
            raise
        except Unsupported as error:
            return self._case(number, "unsupported", str(error)), None
        except Exception as error:  # of the user's code
            return self._case(number, "error", f"{type(error).__name__}: {_first_line(error)}"), None
        if weights is None:
            held = {n: number.round(as_numpy(p)) for n, p in self.live.parameters().items()}  # as the run has them
            search = WeightSearch(layer, config, inputs, held, known)
            known = search.found(trace, number) if layer.weights else {}
        flow = Flow.bind(layer, config if self.layer != "sequential" else {}, inputs, known, where=self.live.name)

        def rerun() -> tuple[Flow, Trace]:
            again = fresh(inputs, number)
            return flow.on(again), self._trace(again, layer, number)

        verdict = judge(flow, trace, number, rerun, sampling=self.sampling)
        return self._case(
            number, verdict.status, verdict.message, **asked_for(flow, trace.output), **parts_of(verdict)
        ), trace

    def _own(self) -> Own | None:
        """What the subject says of itself; a recording says it of the layer that it is said to be.

        Its inputs, where it has any, go before generated ones.
        """
        if isinstance(self.live, Recording):
            own: Own | None = self.live.recorded(self.layer, self.config or {}, self.weights is None)
        else:
            own = self.live.own()
        if own is not None and (asked := as_asked(own, self.layer)) is not own:
            self.kind, own = own.layer, asked
        if own is not None and own.layer == self.layer and self.inputs is None and own.inputs:
            self.inputs = own.inputs
        return own

    def _given(
        self, layer: Layer, weights: Mapping[str, NDArray[Any]], config: Mapping[str, Any], number: Precision
    ) -> dict[str, NDArray[Any]]:
        """The inputs, by canonical name and in the order of the layer's definition."""
        if self.inputs is not None:
            names = [n.rstrip("?") for n in layer.inputs]
            for name in self.inputs:
                if name not in names:
                    raise ConformanceError(f"{self.layer} has no input {name!r}; it has {', '.join(names)}")
            return {n: number.round(as_numpy(self.inputs[n])) for n in names if n in self.inputs}
        settled = sizes.of_weights(layer, weights, config)
        if not weights:
            settled = self._settled(layer, config)
        return sizes.generated(layer, settled, config, number)

    def _settled(self, layer: Layer, config: Mapping[str, Any]) -> sizes.Sizes:
        """The sizes of the inputs, by the names of the subject's parameters and by its own signature."""
        search = WeightSearch(layer, config, {}, self.live.parameters() if layer.weights else {}, {})
        by_name = search.sizes_by_name()
        try:
            asked = _asked(self.live.arguments(), layer, config)
        except ConformanceError:
            if by_name or not layer.weights:
                return by_name
            raise
        return {**asked, **by_name}

    def _trace(self, inputs: Mapping[str, NDArray[Any]], layer: Layer, number: Precision) -> Trace:
        stand_ins = {a: b for a, b in layer.falls_back.items() if f"{a}?" in layer.inputs}
        call = Call(inputs, number.name, self.kind or self.layer, stand_ins, self.through, self.decomposed)
        trace = self.live.run(call)
        output = trace.output if trace.output.dtype.kind == "f" else trace.output.astype(np.float64)
        return replace(trace, output=output)

    def _case(self, number: Precision, status: str, message: str | None, **verdict: Any) -> Case:
        return Case(
            layer=self.layer,
            fixture="",
            adapter=self.live.adapter,
            subject=self.name or self.live.name,
            dtype=number.name,
            status=status,
            message=message,
            **verdict,
        )


def own_inputs(live: Live, number: Precision) -> dict[str, NDArray[Any]]:
    """Seeded inputs of what a model asks for by its own signature."""
    return {a.name: _made(a, number) for a in live.arguments()}


def _made(argument: Argument, number: Precision) -> NDArray[Any]:
    shape = tuple(size if size is not None else usual for size, usual in zip(argument.shape, _OPEN, strict=False))
    values = sizes.drawn(argument.name, shape)
    if argument.dtype == "bool":
        return np.ones(shape, bool)
    if argument.dtype.startswith(("int", "uint")):
        return (np.abs(values) * argument.below / 4).astype(argument.dtype) % argument.below
    return number.round(values)


def _asked(arguments: Iterable[Argument], layer: Layer, config: Mapping[str, Any]) -> sizes.Sizes:
    """The sizes that a subject's own signature settles, of the inputs that the layer must have."""
    made: sizes.Sizes = {}
    for argument, (name, axes) in zip(arguments, layer.inputs.items(), strict=False):
        if name.endswith("?") or not argument.shape:
            continue
        shape = tuple(size if size is not None else usual for size, usual in zip(argument.shape, _OPEN, strict=False))
        found = sizes.unified(axes, shape, made, config)
        if found is not None:
            made = found
        elif argument.shape[-1] is not None:  # the subject has other axes; the last is usually its channels
            made.setdefault(axes.split()[-1], argument.shape[-1])
    return made


def _of_part(part: Part, live: Live, number: Precision, decomposed: bool) -> tuple[Case, Trace | None]:
    if part.subject is None:
        blank = Checked(live, part.layer, name=part.path)
        return blank._case(number, "unsupported", part.unsupported), None
    clock = time.perf_counter()
    dtype = part.subject.dtype or number.name  # of mixed precision, each layer is judged in its own
    checked = Checked(part.subject, part.layer, part.inputs, dtype=dtype, decomposed=decomposed, name=part.path)
    try:
        case, trace = checked.judged()
    except ConformanceError as error:
        return checked._case(precision(dtype), "error", str(error)), None
    return replace_seconds(case, time.perf_counter() - clock), trace


def replace_seconds(case: Case, seconds: float) -> Case:
    """The case with how long it took."""
    import msgspec

    return msgspec.structs.replace(case, seconds=round(seconds, 3))


def _badness(case: Case) -> float:
    order = {"crashed": 3e300, "error": 2e300, "diverges": 1e300, "unsupported": -1.0}
    return order.get(case.status, 0.0) + min(case.ratio or 0.0, 1e299)


def _precision(live: Live, dtype: str | None) -> Precision:
    return precision(dtype or live.dtype or "float32")


def named_arrays(given: Arrays | str | os.PathLike[str] | None, what: str) -> Arrays | None:
    """Arrays by name, out of a file or of a mapping of whatever converts to arrays."""
    if given is None or isinstance(given, Mapping):
        return given
    if not isinstance(given, str | os.PathLike):
        raise ConformanceError(f"{what} is a {type(given).__name__}: give arrays by name, or a file of them")
    from pathlib import Path

    arrays = read_arrays(Path(given))
    prefixed = {n.removeprefix(f"{what}."): a for n, a in arrays.items() if n.startswith(f"{what}.")}
    return prefixed or arrays


def as_numpy(given: Any) -> NDArray[Any]:
    """A NumPy array of any framework's tensor: floats in float64."""
    tensor = given.detach().cpu() if hasattr(given, "detach") else given
    if str(getattr(tensor, "dtype", "")) == "torch.bfloat16":  # NumPy has no such format
        tensor = tensor.double()
    values = np.asarray(tensor)
    return values if values.dtype.kind in "biu" else values.astype(np.float64)


def _shapes(arrays: Mapping[str, NDArray[Any]]) -> str:
    return ", ".join(f"{n} {'x'.join(map(str, a.shape))}" for n, a in arrays.items())


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), "no message")
