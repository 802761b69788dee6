"""ONNX's own node tests as a judge of the oracle: each case that the installed `onnx` package generates for an operator
of a canonical layer is taken as a recording, and judged.

    python benchmarks/onnx_node_cases.py             # counts for each operator, then the cases that do not conform
    python benchmarks/onnx_node_cases.py --check     # exits 1 where a case that does not conform has no explanation
    python benchmarks/onnx_node_cases.py --operator Attention

What is not judged, or does not conform, is explained in `onnx_node_cases.toml` beside this file: patterns of names,
with a reason each. An explanation that no case needs any more is an error too.
"""

from __future__ import annotations

import argparse
import sys
import tomllib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from judged_cases import Judged, explained, print_counts, told

from conformance.errors import ConformanceError, Unsupported
from conformance.figures import Figures, compare
from conformance.flow import Flow
from conformance.judge import Verdict, judge
from conformance.layers import get_layer
from conformance.model import RoundingModel
from conformance.precision import PRECISIONS
from conformance.trace import Entry, Trace

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnx import ModelProto

OPERATORS = (
    "Attention", "LayerNormalization", "RMSNormalization", "BatchNormalization", "InstanceNormalization",
    "GroupNormalization", "LSTM", "GRU", "RNN", "Conv", "ConvTranspose", "AveragePool", "MaxPool", "GlobalAveragePool",
    "GlobalMaxPool", "Gemm", "MatMul", "Softmax", "LogSoftmax", "Gelu", "Relu", "LeakyRelu", "PRelu", "Elu", "Selu",
    "Celu", "HardSigmoid", "HardSwish", "Mish", "Sigmoid", "Tanh", "Softplus", "Softsign", "Swish", "Resize",
    "RotaryEmbedding", "Pad", "Flatten", "DepthToSpace",
)  # fmt: skip
EXPLAINED = Path(__file__).with_suffix(".toml")
RECURRENT = ("LSTM", "GRU", "RNN")
# Attention's fourth output is the value of a step, which one the attribute says.
SCORES = ("scaled", "softcapped", "masked", "weights")


def main(arguments: list[str] | None = None) -> int:
    """Judge every case, print the counts. Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--operator", action="append", choices=OPERATORS, help="only this one (repeatable)")
    parser.add_argument("--check", action="store_true", help="exit with 1 where a case is not explained")
    given = parser.parse_args(arguments)
    chosen = given.operator or list(OPERATORS)
    found = [judged(case) for case in cases() if _operator(case) in chosen]
    reasons = tomllib.loads(EXPLAINED.read_text(encoding="utf-8"))["explanation"]
    print_counts("operator", found, chosen)
    right = explained(found, reasons, complete=given.operator is None)
    return 1 if given.check and not right else 0


def cases() -> Iterator[Any]:
    """The node tests of operators of the list, those whose operator is written out by its function body left out."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what is generated for other operators overflows
        every = collect_testcases(None)
    for case in sorted(every, key=lambda c: c.name):
        if len(case.model.graph.node) == 1 and _operator(case) in OPERATORS:
            yield case


def _operator(case: Any) -> str:
    return str(case.model.graph.node[0].op_type)


def judged(case: Any) -> Judged:
    """The verdict on one case: the oracle beside the outputs that the test says must come out."""
    name, operator = case.name, _operator(case)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            verdict = _verdict(case)
            if isinstance(verdict, Figures):
                status = "conforms" if verdict.conforms else "diverges"
                return Judged(name, operator, status, f"at the last time step: {verdict.ratio:.3g}")
    except (Unsupported, ConformanceError) as error:
        return Judged(name, operator, "not judged", str(error))
    return Judged(name, operator, verdict.status, told(verdict))


def _verdict(case: Any) -> Verdict | Figures:
    """The verdict; of a recurrent layer of which the test asks the last state alone, that state's figures."""
    [(inputs, outputs)] = case.data_sets[:1]
    fed = {v.name: np.asarray(a) for v, a in zip(case.model.graph.input, inputs, strict=True)}
    made = {v.name: np.asarray(a) for v, a in zip(case.model.graph.output, outputs, strict=True)}
    operator = _known(case.model, fed)
    config, weights = operator.config(), operator.weights()
    held = {name: fed[value] for name, value in operator.inputs.items() if value in fed}
    given = {n: _wide(a) for n, a in operator.canonical(held).items()}
    first = made[operator.output]
    if first.dtype.kind in "iu" and np.abs(first.astype(np.float64)).max(initial=0) < 2**24:
        first = first.astype(np.float32)  # whole numbers that it holds exactly
        given["x"] = given["x"].astype(np.float64)
    layer = get_layer(operator.layer, config)
    flow = Flow.bind(layer, config, given, {n: _wide(a) for n, a in weights.items()}, where=case.name)
    if first.dtype.name not in PRECISIONS:
        raise Unsupported(f"its output is {first.dtype.name}")
    precision = PRECISIONS[first.dtype.name]
    if operator.node.op_type in RECURRENT and not operator.node.output[0]:  # Y_h, `direction batch unit`
        *_, (_, output) = flow.run(RoundingModel(precision))
        width = output.shape[-1] // len(first)  # a half for each of two directions
        sides = {"forward": (-1,), "reverse": (0,), "bidirectional": (-1, 0)}[config.get("direction", "forward")]
        last = [output[:, t, i * width : (i + 1) * width] for i, t in enumerate(sides)]
        return compare(np.stack(last), first)
    trace = Trace(_stored(operator.given(first)), list(_steps(operator, made)), recorded=True)
    return judge(flow, trace, precision)


def _known(model: ModelProto, fed: dict[str, NDArray[Any]]) -> Any:
    """The operator of the model's one node; what it takes for weights, which a test feeds, is held by the model."""
    from onnx import ModelProto, numpy_helper

    from conformance_adapters.onnx_nodes import operators
    from conformance_adapters.onnx_wiring import Wiring

    def holding(names: list[str]) -> Any:
        held = ModelProto.FromString(model.SerializeToString())
        held.graph.initializer.extend(numpy_helper.from_array(fed[n], n) for n in names)
        left = [i for i in held.graph.input if i.name not in names]
        del held.graph.input[:]
        held.graph.input.extend(left)
        found = operators(Wiring(held, fed))
        if not found:
            raise Unsupported(f"no canonical layer is taken for this {model.graph.node[0].op_type}")
        return found[0]

    tried = holding(list(fed)[1:])
    return holding([n for n in fed if n not in tried.inputs.values()])


def _steps(operator: Any, made: dict[str, NDArray[Any]]) -> Iterator[Entry]:
    node = operator.node
    if node.op_type == "BatchNormalization":
        for name, step in zip(node.output[1:], ("new_moving_mean", "new_moving_variance"), strict=False):
            yield Entry("recorded", _stored(made[name]), step)
    if node.op_type == "Attention" and len(node.output) > 3 and node.output[3]:
        mode = int(operator.attributes.get("qk_matmul_output_mode", 0))
        yield Entry("recorded", _stored(made[node.output[3]]), SCORES[mode])


def _wide(array: NDArray[Any]) -> NDArray[Any]:
    return array.astype(np.float64) if array.dtype.kind not in "biu" else array


def _stored(array: NDArray[Any]) -> NDArray[Any]:
    return array.astype(np.float32) if array.dtype.name == "bfloat16" else array


if __name__ == "__main__":
    sys.exit(main())
