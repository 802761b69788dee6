"""ONNX's activation operators, a row of a table each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from conformance.layout import Parameter
from conformance_adapters.onnx_subject import OnnxSubject


class Activation(OnnxSubject):
    """An operator of one input. `named` maps the config's names to its attributes, `fixed` are attributes that make it
    this layer; both are float32 numbers in ONNX, whatever the dtype of the data. `since` is its opset."""

    operator: ClassVar[str]
    domain: ClassVar[str] = ""
    since: ClassVar[int] = 0
    named: ClassVar[Mapping[str, str]] = {}
    fixed: ClassVar[Mapping[str, float]] = {}

    def build(self) -> str:
        """The shape of x."""
        self.graph.since = self.since
        attributes: dict[str, Any] = {}
        for name, own in self.named.items():
            attributes |= self.request.given(name, **{own: self.config[name]})
        x = self.input("x")
        return self.graph.add(self.operator, x, name="output", domain=self.domain, **self.fixed, **attributes)


def _operator(
    operator: str,
    layer: str = "",
    *,
    domain: str = "",
    since: int = 0,
    fixed: Mapping[str, float] | None = None,
    **named: str,
) -> type[Activation]:
    name = f"{domain or 'onnx'}.{operator}"
    made = {"name": name, "layer": layer or operator.lower(), "operator": operator, "domain": domain, "since": since}
    return type(operator, (Activation,), {**made, "fixed": fixed or {}, "named": named, "__doc__": f"{name}."})


class PRelu(OnnxSubject):
    """PRelu, whose slopes broadcast to x."""

    name: ClassVar[str] = "onnx.PRelu"
    layer: ClassVar[str] = "prelu"

    def layouts(self) -> Sequence[Parameter]:
        """As they are."""
        return [Parameter("slope", "slope", "... -> ...")]

    def build(self) -> str:
        """The shape of x."""
        return self.graph.add("PRelu", self.input("x"), "slope", name="output")


class Clip(OnnxSubject):
    """Clip to 0 and 6."""

    name: ClassVar[str] = "onnx.Clip"
    layer: ClassVar[str] = "relu6"

    def build(self) -> str:
        """The shape of x."""
        ends = [self.graph.initializer(name, np.array(value)) for name, value in (("min", 0.0), ("max", 6.0))]
        return self.graph.add("Clip", self.input("x"), *ends, name="output")


class Gated(OnnxSubject):
    """Two Slices, and a product with Sigmoid of the second, as exporters write gated units: ONNX has no operator for
    GLU, and of SwiGLU (opset 28) ONNX Runtime has no kernel yet."""

    def halves(self) -> tuple[str, str, str]:
        """The value, the gate, and Sigmoid of the gate."""
        graph, x, axis = self.graph, self.input("x"), self.config["axis"]
        half = self.given["x"].shape[axis] // 2
        numbers = {"axis": axis, "start": 0, "middle": half, "end": 2 * half}
        for name, number in numbers.items():
            graph.initializer(name, np.array([number]))
        value = graph.add("Slice", x, "start", "middle", "axis", name="value")
        gate = graph.add("Slice", x, "middle", "end", "axis", name="gate")
        return value, gate, graph.add("Sigmoid", gate, name="opening")


class Glu(Gated):
    """Slices, Sigmoid and Mul."""

    name: ClassVar[str] = "onnx.Slice + onnx.Sigmoid + onnx.Mul"
    layer: ClassVar[str] = "glu"

    def build(self) -> str:
        """Half the shape of x."""
        value, _, opening = self.halves()
        return self.graph.add("Mul", value, opening, name="output")


class SwiGlu(Gated):
    """Slices, Sigmoid and two Muls."""

    name: ClassVar[str] = "onnx.Slice + onnx.Sigmoid + onnx.Mul"
    layer: ClassVar[str] = "swiglu"

    def build(self) -> str:
        """Half the shape of x."""
        value, gate, opening = self.halves()
        return self.graph.add("Mul", value, self.graph.add("Mul", gate, opening, name="let_through"), name="output")


OPERATORS = (
    _operator("Relu"),
    _operator("LeakyRelu", "leaky_relu", slope="alpha"),
    _operator("Elu", alpha="alpha"),
    _operator("Selu"),
    _operator("Celu", alpha="alpha"),
    _operator("Swish", "silu", since=24),
    _operator("QuickGelu", "silu", domain="com.microsoft", fixed={"alpha": 1.0}),
    _operator("Mish"),
    _operator("Sigmoid"),
    _operator("HardSigmoid", "hard_sigmoid", fixed={"alpha": 1 / 6, "beta": 0.5}),
    _operator("HardSwish", "hard_silu"),
    _operator("Tanh"),
    _operator("Softplus"),
    _operator("Softsign"),
    _operator("LogSoftmax", "log_softmax", axis="axis"),
)
SUBJECTS: Sequence[type[OnnxSubject]] = (*OPERATORS, PRelu, Clip, Glu, SwiGlu)
