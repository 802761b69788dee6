"""Activations as they are met in somebody's ONNX graph: operators, and SiLU and Mish as exporters write them out.

Sources: the operators' pages in ONNX's Operators.md and ONNX Runtime's ContribOperators.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isclose
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from conformance_adapters.onnx_activation import PRelu
from conformance_adapters.onnx_nodes import Arrays, Operator, Softmax, refuse

if TYPE_CHECKING:
    from onnx import NodeProto

    from conformance_adapters.onnx_wiring import Wiring


class Activation(Operator):
    """An operator of one input. `options` maps the layer's config to attributes with their defaults, `only` has the
    values of attributes with which it is the layer, the default first.

    HardSigmoid's default slope of 0.2 is a known variant of the layer (`hard_sigmoid.form`): diagnosis says so.
    """

    options: ClassVar[Mapping[str, tuple[str, float]]] = {}
    only: ClassVar[Mapping[str, Sequence[float]]] = {}

    def config(self) -> dict[str, Any]:
        """The attributes. Raises Unsupported where one of them makes another function of it."""
        for name, able in self.only.items():
            value = self.attributes.get(name, able[0])
            known = any(isclose(value, wanted, rel_tol=1e-6) for wanted in able)
            refuse(not known, f"{self.node.op_type} with {name}={value:.6g}")
        return {name: self.attributes.get(own, default) for name, (own, default) in self.options.items()}


def _operator(kind: str, layer: str = "", **only: Sequence[float]) -> type[Activation]:
    named = {"layer": layer or kind.lower(), "kinds": (("", kind),), "only": only}
    return type(kind, (Activation,), {**named, "__doc__": f"{kind}."})


def _with(kind: str, layer: str, **options: tuple[str, float]) -> type[Activation]:
    named = {"layer": layer, "kinds": (("", kind),), "options": options}
    return type(kind, (Activation,), {**named, "__doc__": f"{kind}."})


class QuickGelu(Activation):
    """com.microsoft's QuickGelu, x sigmoid(alpha x): SiLU where alpha is 1, Gelu's sigmoid form where it is 1.702."""

    layer = "silu"
    kinds = (("com.microsoft", "QuickGelu"),)
    only: ClassVar = {"alpha": (1.0,)}

    @classmethod
    def match(cls, wiring: Wiring, node: NodeProto) -> Operator | None:
        """By its alpha."""
        made = cls(wiring, node, {"x": node.input[0]})
        gelu = isclose(made.attributes.get("alpha", 1.702), 1.702, rel_tol=1e-6)
        return SigmoidGelu(wiring, node, {"x": node.input[0]}) if gelu else made


class SigmoidGelu(Operator):
    """Gelu's sigmoid form."""

    layer = "gelu"
    kinds = ()

    def config(self) -> dict[str, Any]:
        """The form."""
        return {"approximation": "sigmoid"}


class Silu(Operator):
    """`x * Sigmoid(x)`."""

    layer = "silu"
    kinds = ()


class Sigmoid(Operator):
    """Sigmoid, or SiLU where its argument is all that it is multiplied with."""

    layer = "sigmoid"
    kinds = (("", "Sigmoid"),)

    @classmethod
    def match(cls, wiring: Wiring, node: NodeProto) -> Operator | None:
        """The product may come in either order."""
        product = _times(wiring, node.output[0], node.input[0])
        x = {"x": node.input[0]}
        return cls(wiring, node, x) if product is None else Silu(wiring, node, x, [node, product])


class Mish(Operator):
    """`x * Tanh(Softplus(x))`."""

    layer = "mish"
    kinds = ()


class Softplus(Operator):
    """Softplus, or Mish where it goes into that."""

    layer = "softplus"
    kinds = (("", "Softplus"),)

    @classmethod
    def match(cls, wiring: Wiring, node: NodeProto) -> Operator | None:
        """The product may come in either order."""
        x, tanh = {"x": node.input[0]}, wiring.only_reader(node.output[0])
        if tanh is not None and tanh.op_type == "Tanh":
            product = _times(wiring, tanh.output[0], node.input[0])
            if product is not None:
                return Mish(wiring, node, x, [node, tanh, product])
        return cls(wiring, node, x)


class Tanh(Operator):
    """Tanh, unless it is a part of Mish."""

    layer = "tanh"
    kinds = (("", "Tanh"),)

    @classmethod
    def match(cls, wiring: Wiring, node: NodeProto) -> Operator | None:
        """What Softplus gives may be on its way into Mish."""
        before = wiring.producers.get(node.input[0])
        whole = Softplus.match(wiring, before) if before is not None and before.op_type == "Softplus" else None
        return None if isinstance(whole, Mish) else cls(wiring, node, {"x": node.input[0]})


class Relu6(Operator):
    """Clip to 0 and 6."""

    layer = "relu6"
    kinds = (("", "Clip"),)

    @classmethod
    def match(cls, wiring: Wiring, node: NodeProto) -> Operator | None:
        """Before opset 11 the ends are attributes."""
        made = cls(wiring, node, {"x": node.input[0]})
        held = [wiring.held.get(made.operand(i)) for i in (1, 2)]
        ends = [made.attributes.get(n) for n in ("min", "max")] if wiring.opset < 11 else held
        return made if [None if e is None else float(np.reshape(e, ())) for e in ends] == [0, 6] else None


class SlopedRelu(Operator):
    """PRelu, its slopes as they broadcast to x."""

    layer = "prelu"
    kinds = (("", "PRelu"),)

    def weights(self) -> Arrays:
        """As they are."""
        return self.read(PRelu, {"slope": self.weight(1)})


class LogSoftmax(Softmax):
    """LogSoftmax, with the axis of Softmax."""

    layer = "log_softmax"
    kinds = (("", "LogSoftmax"),)


def _times(wiring: Wiring, value: str, x: str) -> NodeProto | None:
    """The Mul of `x` with `value`, which nothing else reads."""
    product = wiring.only_reader(value)
    if product is None or product.op_type != "Mul" or product.domain or sorted(product.input) != sorted((value, x)):
        return None
    return product


ACTIVATIONS: tuple[type[Operator], ...] = (
    *(_operator(kind) for kind in ("Relu", "Mish", "Softsign")),
    _operator("Selu", alpha=(1.6732632423543772,), gamma=(1.0507009873554805,)),
    _operator("Swish", "silu", alpha=(1.0,)),
    _operator("HardSwish", "hard_silu"),
    _operator("HardSigmoid", "hard_sigmoid", alpha=(0.2, 1 / 6), beta=(0.5,)),
    _with("LeakyRelu", "leaky_relu", slope=("alpha", float(np.float32(0.01)))),
    _with("Elu", "elu", alpha=("alpha", 1.0)),
    _with("Celu", "celu", alpha=("alpha", 1.0)),
    QuickGelu,
    Sigmoid,
    Softplus,
    Tanh,
    Relu6,
    SlopedRelu,
    LogSoftmax,
)
