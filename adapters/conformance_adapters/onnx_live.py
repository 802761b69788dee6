"""What a user hands over of ONNX: a `.onnx` file, a model in memory, or a session of ONNX Runtime.

The plain run is of the model as it is, with the runtime's usual optimisations. The observed run is of a copy that
gives every node's outputs: what the runtime fuses although every value is asked for stays fused, unless the
unfused form is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from conformance import sizes
from conformance.errors import ConformanceError, Unsupported
from conformance.layers import get_layer
from conformance.precision import PRECISIONS, precision
from conformance.subject import Argument, Call, Own, Part, matched, one_tensor
from conformance.trace import Trace
from conformance_adapters.onnx_dtype import converted, float_types
from conformance_adapters.onnx_model import (
    held_elsewhere,
    loaded,
    read_model,
    require_graph,
    runtime_errors,
    session,
    told,
)
from conformance_adapters.onnx_nodes import Operator, operators
from conformance_adapters.onnx_observed import observed
from conformance_adapters.onnx_tape import entries
from conformance_adapters.onnx_wiring import Wiring

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnx import ModelProto, ValueInfoProto
    from onnxruntime import InferenceSession

Arrays = dict[str, "NDArray[Any]"]


def owns(subject: Any) -> bool:
    """Whether `subject` is the Path of a `.onnx` file, a model in memory or a session; nothing is imported."""
    if isinstance(subject, Path):
        return subject.suffix.lower() == ".onnx"
    return any(
        (c.__module__.partition(".")[0], c.__name__) in (("onnx", "ModelProto"), ("onnxruntime", "InferenceSession"))
        for c in type(subject).__mro__
    )


def opened(subject: Any) -> OnnxLive:
    """The model, read and taken by the runtime. Raises ConformanceError where it is broken or nothing can run it."""
    if not owns(subject):
        raise ConformanceError(
            f"a {type(subject).__name__} is no ONNX model: give a .onnx file, an onnx.ModelProto or an InferenceSession"
        )
    if isinstance(subject, Path):
        live = OnnxLive(read_model(subject), subject.name, folder=subject.parent, file=subject)
    elif type(subject).__name__ == "ModelProto":
        name = subject.graph.name or "onnx.ModelProto"
        require_graph(subject, name)
        if held_elsewhere(subject):
            raise ConformanceError(f"{name}: its weights are in other files: give the path of its own file")
        live = OnnxLive(subject, name)
    else:
        live = _of_session(subject)
    try:
        live.plain  # noqa: B018 - the runtime has a look at it now, not in the middle of a check
    except Unsupported as error:
        raise ConformanceError(f"{error}; the runtime cannot run this model") from error
    return live


def _of_session(subject: InferenceSession) -> OnnxLive:
    """A session keeps the path or the bytes that it was made from, in attributes that are not documented."""
    path, content = getattr(subject, "_model_path", None), getattr(subject, "_model_bytes", None)
    if path and Path(path).is_file():
        live = OnnxLive(read_model(Path(path)), Path(path).name, folder=Path(path).parent, file=Path(path))
    elif content:
        from onnx import ModelProto

        live = OnnxLive(ModelProto.FromString(content), "onnxruntime.InferenceSession")
    else:
        raise ConformanceError("the session does not say which file it was made from: give the .onnx file itself")
    live.plain = subject
    return live


@dataclass
class Watched:
    """A session of the observed model that stands for one of the model itself, and keeps every value it computes."""

    session: InferenceSession
    own: Sequence[str]
    values: Arrays = field(default_factory=dict)

    def run(self, output_names: Sequence[str] | None, feed: Mapping[str, Any], *options: Any) -> list[Any]:
        """As InferenceSession.run: the outputs `output_names`, or all that the model itself has."""
        names = [o.name for o in self.session.get_outputs()]
        self.values = dict(zip(names, self.session.run(None, feed, *options), strict=True))
        return [self.values[n] for n in output_names or self.own]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.session, name)


class OnnxLive:
    """A model. `folder` is where the files lie that it keeps tensors in, `file` its own file.

    A model that is one operator of a known layer, and nothing else, is that layer.
    """

    adapter = "onnxruntime"

    def __init__(self, model: ModelProto, name: str, folder: Path | None = None, file: Path | None = None) -> None:
        self.model, self.name, self.folder, self.file = model, name, folder, file

    @cached_property
    def plain(self) -> InferenceSession:
        """The model as it is."""
        return session(self.file or self.model, self.name)

    @cached_property
    def whole(self) -> ModelProto:
        """The model with every tensor in itself."""
        return loaded(self.model, self.folder)

    @cached_property
    def wiring(self) -> Wiring:
        """Its graph."""
        return Wiring(self.whole)

    @cached_property
    def fed(self) -> list[ValueInfoProto]:
        """The graph's inputs: what it has an initializer for is none."""
        held = {i.name for i in self.model.graph.initializer}
        return [i for i in self.model.graph.input if i.name not in held]

    @cached_property
    def dtype(self) -> str | None:
        """That of most of its floating-point parameters; of its inputs, where it has none."""
        counts: dict[str, int] = {}
        for array in self.wiring.held.values():
            if str(array.dtype) in PRECISIONS and array.ndim:
                counts[str(array.dtype)] = counts.get(str(array.dtype), 0) + array.size
        if not counts:
            known = float_types()
            found = [known[t] for v in self.fed if (t := v.type.tensor_type.elem_type) in known]
            return found[0] if found else None
        return max(counts, key=counts.__getitem__)

    @cached_property
    def _operator(self) -> Operator | None:
        """The operator that the model is, where it is one and no more."""
        found = operators(self.wiring)
        nodes = [n for n in self.whole.graph.node if n.op_type != "Constant"]
        if len(found) != 1 or len(found[0].nodes) != len(nodes):
            return None
        names = [v.name for v in self.fed]
        same = set(found[0].inputs.values()) == set(names) and self.whole.graph.output[0].name == found[0].output
        return found[0] if same else None

    def own(self) -> Own | None:
        """The layer of its one operator, config from the attributes."""
        operator = self._operator
        if operator is None:
            return None
        weights = {n: np.asarray(a, np.float64) for n, a in operator.weights().items()}
        return Own(operator.layer, operator.config(), weights, self._fitting(operator, weights))

    def _fitting(self, operator: Operator, weights: Arrays) -> Arrays:
        """Values for the one input of a layer, with the axes that the graph says; none where they are not settled."""
        if set(operator.inputs) != {"x"} or not self.fed[0].type.tensor_type.HasField("shape"):
            return {}
        (argument,) = self.arguments()
        layer = get_layer(operator.layer, operator.config())
        usual = sizes.generated(
            layer, sizes.of_weights(layer, weights, operator.config()), operator.config(), precision("float64")
        )["x"].shape
        shape = operator.canonical({"x": np.empty([size or 0 for size in argument.shape])})["x"].shape
        missing = [*(2, 5, 11, 13)[: max(len(shape) - len(usual), 0)], *usual][-len(shape) :] if shape else []
        return {"x": sizes.drawn("x", tuple(size or other for size, other in zip(shape, missing, strict=True)))}

    def parameters(self) -> Mapping[str, NDArray[Any]]:
        """Initializers and constants, by name."""
        return {n: a for n, a in self.wiring.held.items() if str(a.dtype) in PRECISIONS}

    def arguments(self) -> Sequence[Argument]:
        """The graph's inputs; a symbolic size is None. Indices are below the size of the table that they look up."""
        from onnx import helper

        made = []
        for value in self.fed:
            tensor = value.type.tensor_type
            if not value.type.HasField("tensor_type") or not tensor.HasField("shape"):
                raise ConformanceError(
                    f"{self.name}: the input {value.name!r} does not tell its shape: give the inputs by name (`inputs`)"
                )
            dtype = str(helper.tensor_dtype_to_np_dtype(tensor.elem_type))
            if dtype == "object":
                raise ConformanceError(f"{self.name}: the input {value.name!r} is text: give the inputs by name")
            shape = tuple(d.dim_value if d.dim_value > 0 else None for d in tensor.shape.dim)
            made.append(Argument(value.name, shape, dtype, _below(self.wiring, value.name)))
        return made

    def run(self, call: Call) -> Trace:
        """Plain, and with every node's outputs."""
        model = self.converted(call.dtype)
        operator = self._operator if call.through is None else None
        if operator is not None and operator.layer == call.layer:
            given = operator.fed(call.inputs)
            named = {operator.inputs[n]: a for n, a in given.items() if n in operator.inputs}
            self._require_all(given, operator.inputs)
            back = operator.given
        else:
            named, back = self.named(call) if call.through is None else dict(call.inputs), np.array
        feed = self.typed(named, call.dtype) if call.through is None else named
        plain = self._plain(model)
        output = self._first(self.told(lambda: self._called(plain, feed, call)))
        output = self.reached(call, back(output))
        nodes, values, returned = self._watched(model, call, feed)
        return Trace(
            output=output,
            tape=entries(nodes.graph, _computed(nodes, values)),
            observed_output=back(self._first(returned)),
            environment=_versions(),
        )

    def reached(self, call: Call, output: NDArray[Any]) -> NDArray[Any]:
        """What counts as the output of the plain run, which gave `output`."""
        return output

    def _watched(self, model: ModelProto, call: Call, feed: Mapping[str, Any]) -> tuple[ModelProto, Arrays, Any]:
        """The observed run: its model, the values, and what the call returned. What its kernels can give beyond what
        is asked for is left where the runtime refuses."""
        own = [o.name for o in model.graph.output]
        for beyond in (True, False):
            copy = observed(model, call.dtype, call.decomposed, beyond)
            try:
                made = session(copy, self.name, folder=self.folder, optimised=not call.decomposed)
                watched = Watched(made, own)
                returned = self.told(lambda w=watched: self._called(w, feed, call))
                return copy, watched.values, returned
            except (ConformanceError, Unsupported):
                if not beyond:
                    raise
        raise AssertionError("one of the two returns or raises")

    def _called(self, made: Any, feed: Mapping[str, Any], call: Call) -> Any:
        return made.run(None, feed) if call.through is None else call.through(made, **feed)

    def told(self, function: Callable[[], Any]) -> Any:
        """What `function` returns; what the runtime raises in it is told as a sentence."""
        try:
            return function()
        except runtime_errors() as error:
            raise told(error, self.name, "; give inputs that it takes (`inputs`)") from error

    def _first(self, values: Any) -> NDArray[Any]:
        flat = values if isinstance(values, list | tuple) else [values]
        found: NDArray[Any] = one_tensor((v for v in flat if isinstance(v, np.ndarray)), self.name)
        return found

    def converted(self, dtype: str) -> ModelProto:
        """The model in `dtype`: itself where that is its own."""
        if dtype == "bfloat16":
            raise Unsupported(f"{self.name}: ONNX Runtime takes no bfloat16 values from Python")
        return self.model if self.dtype in (None, dtype) else converted(self.whole, dtype)

    def _plain(self, model: ModelProto) -> InferenceSession:
        return self.plain if model is self.model else session(model, self.name)

    def named(self, call: Call) -> Arrays:
        """The inputs by the graph's names: by name where they are those, else in their order."""
        names = [v.name for v in self.fed]
        args, named = matched(names, len(names), call.inputs, call.stand_ins)
        if len(args) > len(names):
            raise ConformanceError(f"{self.name} takes {len(names)} inputs ({', '.join(names)}), not {len(args)}")
        free = [n for n in names if n not in named]
        made = {**dict(zip(free, args, strict=False)), **named}
        self._require_all(made, names)
        return made

    def _require_all(self, given: Iterable[str], names: Iterable[str]) -> None:
        missing = [n for n in names if n not in set(given)]
        if missing:
            raise ConformanceError(f"{self.name} asks for {', '.join(missing)}, which is not given (`inputs`)")

    def typed(self, named: Mapping[str, NDArray[Any]], dtype: str) -> Arrays:
        """The inputs as the graph wants them."""
        from onnx import helper

        types = {v.name: v.type.tensor_type.elem_type for v in self.fed}
        made = {}
        for name, array in named.items():
            if types[name] in float_types():
                wanted: np.dtype[Any] = precision(dtype).dtype
            else:
                wanted = np.dtype(helper.tensor_dtype_to_np_dtype(types[name]))
            fits = array.dtype.kind == wanted.kind or (array.dtype.kind in "biu" and wanted.kind in "iu")
            if not fits:
                raise ConformanceError(
                    f"{self.name}: the input {name!r} is {wanted}, where {array.dtype} is given; give it as {wanted}"
                )
            made[name] = np.asarray(array, wanted, order="C")
        return made

    def parts(self, call: Call) -> Iterable[Part]:
        """Every operator of a known layer: see `onnx_parts`."""
        from conformance_adapters.onnx_parts import parts

        return parts(self, call)


def _computed(model: ModelProto, values: Arrays) -> Arrays:
    """The arrays among `values` (a sequence is none) that are not constants of the graph."""
    constants = {n.output[0] for n in model.graph.node if n.op_type == "Constant"}
    return {n: a for n, a in values.items() if isinstance(a, np.ndarray) and n not in constants}


def _below(wiring: Wiring, name: str) -> int:
    """The size of the smallest table that the input `name` looks up."""
    tables = []
    for node in wiring.readers[name]:
        table = wiring.held.get(node.input[0]) if node.op_type == "Gather" and node.input[1] == name else None
        if table is not None:
            axis = next((a.i for a in node.attribute if a.name == "axis"), 0)
            tables.append(table.shape[axis])
    return min(tables, default=2)


def _versions() -> dict[str, str]:
    import onnx
    import onnxruntime

    return {"onnxruntime": onnxruntime.__version__, "onnx": onnx.__version__}
