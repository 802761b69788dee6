"""Operators of known layers, as they are met in somebody's ONNX graph: which canonical layer a node is, with which
config and weights, and how the values that reach it are the layer's inputs.

Sources: the operators' pages in ONNX's Operators.md and ONNX Runtime's ContribOperators.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from conformance import layout
from conformance.errors import Unsupported
from conformance_adapters import onnx_runtime as subjects
from conformance_adapters.onnx_convolution import Conv as ConvSubject
from conformance_adapters.onnx_wiring import Wiring, attributes

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnx import NodeProto

    from conformance_adapters.onnx_subject import OnnxSubject

Arrays = dict[str, "NDArray[Any]"]


def refuse(condition: object, sentence: str) -> None:
    """Raise Unsupported with the sentence, where the condition holds."""
    if condition:
        raise Unsupported(sentence)


class Operator:
    """A node, or a few that belong together, of a canonical layer.

    `inputs` maps the layer's inputs to values of the graph, `output` is the value that it makes. Sizes and weights
    are looked at when they are asked for: they may only be known after a run.
    """

    layer: ClassVar[str]
    kinds: ClassVar[Sequence[tuple[str, str]]]

    def __init__(
        self, wiring: Wiring, node: NodeProto, inputs: Mapping[str, str], nodes: Sequence[NodeProto] = ()
    ) -> None:
        self.wiring, self.node, self.nodes = wiring, node, (*nodes,) or (node,)
        self.inputs = {n: v for n, v in inputs.items() if v}
        self.attributes = attributes(node)

    @classmethod
    def match(cls, wiring: Wiring, node: NodeProto) -> Operator | None:
        """The operator, where `node` is one: its first input is the layer's `x`."""
        return cls(wiring, node, {"x": node.input[0]})

    @property
    def output(self) -> str:
        """The name of the value that it makes."""
        return next(name for name in self.nodes[-1].output if name)

    @property
    def needed(self) -> list[str]:
        """The values outside itself that it reads: inputs and weights."""
        inner = {name for node in self.nodes for name in node.output}
        return list(dict.fromkeys(n for node in self.nodes for n in node.input if n and n not in inner))

    def operand(self, position: int) -> str:
        """The name of the node's input at `position`, empty where it has none."""
        return self.node.input[position] if position < len(self.node.input) else ""

    def weight(self, position: int) -> NDArray[Any] | None:
        """A weight. Raises Unsupported where it is fed or computed from what is fed."""
        name = self.operand(position)
        if not name:
            return None
        refuse(name not in self.wiring.fixed, f"its {name!r} is not held by the model: it depends on the inputs")
        array = self.wiring.array(name)
        refuse(array is None, f"its {name!r} is not to be had")
        return array

    def config(self) -> dict[str, Any]:
        """The layer's config. Raises Unsupported where the node has an option that the layer has not."""
        return {}

    def weights(self) -> Arrays:
        """The canonical weights."""
        return {}

    def read(self, subject: type[OnnxSubject], arrays: Mapping[str, NDArray[Any] | None]) -> Arrays:
        """The canonical weights, by the layouts that `subject` declares."""
        given = {n: a for n, a in arrays.items() if a is not None}
        return layout.read(subject.layouts_of(self.config()), given)

    def canonical(self, values: Mapping[str, NDArray[Any]]) -> Arrays:
        """The layer's inputs, from the graph's values of the same names."""
        return dict(values)

    def fed(self, inputs: Mapping[str, NDArray[Any]]) -> Arrays:
        """The graph's values, from the layer's inputs: the inverse of `canonical`."""
        return dict(inputs)

    def given(self, output: NDArray[Any]) -> NDArray[Any]:
        """The layer's output, from the graph's."""
        return output


class Linear(Operator):
    """MatMul of an activation with a weight, and the Add of a bias that follows."""

    layer = "linear"
    kinds = (("", "MatMul"),)
    bias: str = ""

    @classmethod
    def match(cls, wiring: Wiring, node: NodeProto) -> Operator | None:
        """Scores, a product of two activations, are not one."""
        x, kernel = node.input[:2]
        if kernel not in wiring.fixed or x in wiring.fixed:
            return None
        following = wiring.only_reader(node.output[0])
        if following is not None and following.op_type == "Add" and not following.domain:
            others = [n for n in following.input if n != node.output[0]]
            if len(others) == 1 and others[0] in wiring.fixed and cls._may_be_bias(wiring, kernel, others[0]):
                made = cls(wiring, node, {"x": x}, [node, following])
                made.bias = others[0]
                return made
        return cls(wiring, node, {"x": x})

    @staticmethod
    def _may_be_bias(wiring: Wiring, kernel: str, bias: str) -> bool:
        held, weight = wiring.array(bias), wiring.array(kernel)
        if held is None or weight is None:
            return True  # computed from constants: told after a run
        return held.size == held.shape[-1] if held.ndim and held.size == weight.shape[-1] else held.size == 1

    def weights(self) -> Arrays:
        """As they are."""
        kernel = self.weight(1)
        refuse(kernel is None or kernel.ndim != 2, "its weight has other axes than in and out")
        arrays = {"kernel": kernel}
        if self.bias and kernel is not None:
            bias = self.wiring.array(self.bias)
            refuse(bias is None or bias.size not in (1, kernel.shape[1]), "what is added is no bias")
            arrays["bias"] = None if bias is None else np.broadcast_to(bias.ravel(), kernel.shape[1:])
        return self.read(subjects.MatMulAdd, arrays)


class Gemm(Operator):
    """Gemm: alpha and beta are taken into kernel and bias."""

    layer = "linear"
    kinds = (("", "Gemm"),)

    @classmethod
    def match(cls, wiring: Wiring, node: NodeProto) -> Operator | None:
        """A product of two activations is not one."""
        if node.input[1] not in wiring.fixed or node.input[0] in wiring.fixed:
            return None
        return cls(wiring, node, {"x": node.input[0]})

    def weights(self) -> Arrays:
        """`alpha * B`, and `beta * C` for every output."""
        b, c = self.weight(1), self.weight(2)
        alpha, beta = (self.attributes.get(n, 1.0) for n in ("alpha", "beta"))
        subject = subjects.Gemm if self.attributes.get("transB") else subjects.MatMulAdd
        names = ("B", "C") if self.attributes.get("transB") else ("kernel", "bias")
        assert b is not None
        out = b.shape[0] if self.attributes.get("transB") else b.shape[1]
        if c is not None:
            refuse(c.size not in (1, out) or (c.ndim == 2 and c.shape[0] != 1), "its C differs from row to row")
            c = np.broadcast_to(c.ravel(), (out,))
        return self.read(subject, {names[0]: _times(alpha, b), names[1]: _times(beta, c)})

    def canonical(self, values: Mapping[str, NDArray[Any]]) -> Arrays:
        """`batch in`."""
        return {"x": values["x"].T if self.attributes.get("transA") else values["x"]}

    fed = canonical


def _times(factor: float, array: NDArray[Any] | None) -> NDArray[Any] | None:
    return array if array is None or factor == 1 else factor * array.astype(np.float64)


_EPSILON = float(np.float32(1e-5))  # an attribute is a float32, whatever the dtype of the data


class LayerNormalization(Operator):
    """LayerNormalization, of the default domain since opset 17, before it in ONNX Runtime only."""

    layer = "layer_norm"
    kinds = (("", "LayerNormalization"),)

    def config(self) -> dict[str, Any]:
        """`axis` counts from the front or the back."""
        axis, scale = self.attributes.get("axis", -1), self.weight(1)
        axes = -axis if axis < 0 else (self.wiring.axes(self.inputs["x"]) or 0) - axis
        if axes <= 0 and scale is not None:
            axes = scale.ndim  # the input's axes are not known, those of the scale are the same
        return {"axes": axes, "epsilon": self.attributes.get("epsilon", _EPSILON)}

    def weights(self) -> Arrays:
        """As they are."""
        return self.read(subjects.LayerNormalization, {"Scale": self.weight(1), "B": self.weight(2)})


class Softmax(Operator):
    """Softmax. Before opset 13 it takes all axes from `axis` on as one."""

    layer = "softmax"
    kinds = (("", "Softmax"),)

    def config(self) -> dict[str, Any]:
        """Its axis."""
        axis = self.attributes.get("axis", -1 if self.wiring.opset >= 13 else 1)
        if self.wiring.opset < 13:
            axes = self.wiring.axes(self.inputs["x"])
            refuse(axis != -1 and axis + 1 != axes, f"Softmax of opset {self.wiring.opset} over more than one axis")
            axis = -1
        return {"axis": axis}


class Conv(Operator):
    """Conv, channels second."""

    layer = "conv{axes}d"
    kinds = (("", "Conv"),)
    axes: ClassVar[int]

    @classmethod
    def match(cls, wiring: Wiring, node: NodeProto) -> Operator | None:
        """The number of its spatial axes is that of its kernel, if that is known yet, or of what it says of them."""
        kernel, said = wiring.array(node.input[1]), attributes(node)
        sizes = [len(said[n]) for n in ("kernel_shape", "strides", "dilations") if n in said]
        axes = kernel.ndim - 2 if kernel is not None else (sizes or [2])[0]
        if axes not in (1, 2, 3):
            return None
        named = {"layer": cls.layer.format(axes=axes), "axes": axes, "__doc__": cls.__doc__}
        made: Operator = type(cls.__name__, (cls,), named)(wiring, node, {"x": node.input[0]})
        return made

    def config(self) -> dict[str, Any]:
        """`pads` are all beginnings, then all ends."""
        given, axes = self.attributes, self.axes
        pads = list(given.get("pads", [0] * 2 * axes))
        explicit: Any = [list(pair) for pair in zip(pads[:axes], pads[axes:], strict=True)] if any(pads) else "valid"
        named = {"SAME_UPPER": "same-upper", "SAME_LOWER": "same-lower", "VALID": "valid", "NOTSET": explicit}
        return {
            "strides": list(given.get("strides", [1] * axes)),
            "padding": named[given.get("auto_pad", "NOTSET")],
            "dilation": list(given.get("dilations", [1] * axes)),
            "groups": given.get("group", 1),
        }

    def weights(self) -> Arrays:
        """`*space in out`."""
        return self.read(ConvSubject, {"W": self.weight(1), "B": self.weight(2)})

    def canonical(self, values: Mapping[str, NDArray[Any]]) -> Arrays:
        """Channels last."""
        return {"x": self.given(values["x"])}

    def fed(self, inputs: Mapping[str, NDArray[Any]]) -> Arrays:
        """Channels second."""
        return {"x": np.moveaxis(inputs["x"], -1, 1)}

    def given(self, output: NDArray[Any]) -> NDArray[Any]:
        """Channels last."""
        return np.moveaxis(output, 1, -1)


def known_operators() -> dict[tuple[str, str], type[Operator]]:
    """Those that are read, by domain and kind of node."""
    from conformance_adapters.onnx_activation_nodes import ACTIVATIONS
    from conformance_adapters.onnx_attention_nodes import ATTENTION
    from conformance_adapters.onnx_gelu_nodes import GELU
    from conformance_adapters.onnx_normalization_nodes import NORMALIZATION
    from conformance_adapters.onnx_pooling_nodes import POOLING
    from conformance_adapters.onnx_recurrent_nodes import RECURRENT
    from conformance_adapters.onnx_resize_nodes import RESIZE
    from conformance_adapters.onnx_rotary_nodes import ROTARY
    from conformance_adapters.onnx_shape_nodes import SHAPE
    from conformance_adapters.onnx_transposed_nodes import TRANSPOSED

    return {
        kind: operator
        for operator in (
            *_PLAIN,
            *TRANSPOSED,
            *POOLING,
            *SHAPE,
            *RESIZE,
            *GELU,
            *ACTIVATIONS,
            *ATTENTION,
            *NORMALIZATION,
            *ROTARY,
            *RECURRENT,
        )
        for kind in operator.kinds
    }


def operators(wiring: Wiring) -> list[Operator]:
    """Every operator of a known layer in the graph, in the order of its first node."""
    known = known_operators()
    found = []
    for node in wiring.model.graph.node:
        domain = "" if node.domain == "ai.onnx" else node.domain
        operator = known.get((domain, node.op_type))
        made = operator.match(wiring, node) if operator is not None else None
        if made is not None:
            found.append(made)
    return found


_PLAIN = (Linear, Gemm, LayerNormalization, Softmax, Conv)
