"""The operators of known layers inside an ONNX model, each a subject of its own.

The whole model is run once, with the usual optimisations, and gives what goes into these operators and what comes out
of them: what is in between may be fused as always.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from conformance.errors import Unsupported
from conformance.subject import Call, Part
from conformance_adapters.onnx_dtype import converted
from conformance_adapters.onnx_live import OnnxLive
from conformance_adapters.onnx_model import loaded, session
from conformance_adapters.onnx_nodes import Operator, operators
from conformance_adapters.onnx_observed import prepared, tapped
from conformance_adapters.onnx_wiring import Wiring

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnx import ModelProto


def parts(live: OnnxLive, call: Call) -> list[Part]:
    """Every operator of a known layer, with what reached it. Where the whole model cannot be run in the dtype of the
    call, it is run in its own, and each operator alone in that of the call."""
    try:
        wiring, found = _reached(live, call, call.dtype)
        return [_part(operator, wiring, None) for operator in found]
    except Unsupported:
        if live.dtype in (None, call.dtype):
            raise
    wiring, found = _reached(live, call, str(live.dtype))
    return [_part(operator, wiring, call.dtype) for operator in found]


def _reached(live: OnnxLive, call: Call, dtype: str) -> tuple[Wiring, list[Operator]]:
    """The operators of known layers, in a graph whose values are known from a run in `dtype`."""
    model = prepared(loaded(live.converted(dtype), live.folder))
    wiring = Wiring(model)
    found = operators(wiring)
    wanted = dict.fromkeys(n for o in found for n in (*o.needed, o.output) if n not in wiring.held)
    inputs = live.typed(live.named(call), dtype)
    made = session(tapped(model, [n for n in wanted if n not in inputs]), live.name)
    values = live.told(lambda: made.run(None, inputs))
    wiring.known.update(inputs)
    wiring.known.update(zip([o.name for o in made.get_outputs()], values, strict=True))
    return wiring, found


def _part(operator: Operator, wiring: Wiring, dtype: str | None) -> Part:
    """The part; in `dtype`, where it is to be another than that in which the model was run."""
    path = operator.node.name
    try:
        operator.config()
        operator.weights()
        reached = {n: wiring.known[v] if v in wiring.known else wiring.held[v] for n, v in operator.inputs.items()}
        inputs = {n: _plain(a) for n, a in operator.canonical(reached).items()}
    except Unsupported as error:
        return Part(path, operator.layer, unsupported=str(error))
    alone = _alone(operator, wiring)
    live = OperatorLive(alone if dtype is None else converted(alone, dtype), path)
    live.values = inputs, np.array(operator.given(wiring.known[operator.output]))
    return Part(path, operator.layer, live, inputs)


class OperatorLive(OnnxLive):
    """An operator out of a larger model. On the `values` that reached it there, what is judged is what it gave there:
    the observed run is of the operator alone, and where that gives something else, the judge says so."""

    values: tuple[Mapping[str, NDArray[Any]], NDArray[Any]] | None = None

    def reached(self, call: Call, output: NDArray[Any]) -> NDArray[Any]:
        """What the whole model gave, for the inputs that it gave it for."""
        if self.values is None or str(self.values[1].dtype) != call.dtype:
            return output
        inputs, there = self.values
        same = inputs.keys() == call.inputs.keys() and all(np.array_equal(a, call.inputs[n]) for n, a in inputs.items())
        return there if same else output


def _alone(operator: Operator, wiring: Wiring) -> ModelProto:
    """A model of the operator alone: its inputs are fed, everything else that it reads is held."""
    from onnx import ValueInfoProto, helper, numpy_helper

    fed = list(dict.fromkeys(operator.inputs.values()))
    arrays = {n: wiring.array(n) for n in operator.needed}
    inputs = []
    for name in fed:
        array = arrays[name]
        assert array is not None
        inputs.append(
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), [None] * array.ndim)
        )
    held = [numpy_helper.from_array(a, n) for n, a in arrays.items() if n not in fed and a is not None]
    order = {n.name: i for i, n in enumerate(wiring.model.graph.node)}
    nodes = sorted(operator.nodes, key=lambda n: order[n.name])
    made: ModelProto = helper.make_model(
        helper.make_graph(nodes, operator.node.name, inputs, [ValueInfoProto(name=operator.output)], held),
        opset_imports=list(wiring.model.opset_import),
        ir_version=wiring.model.ir_version,
    )
    return made


def _plain(array: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(array, np.float64 if array.dtype.kind == "f" else None, order="C")
