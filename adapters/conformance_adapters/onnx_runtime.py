"""ONNX Runtime on the CPU: ONNX operators, and ONNX Runtime's own."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from conformance.adapter import EAGER
from conformance.errors import Unsupported
from conformance.layout import Parameter
from conformance_adapters.exporting import OnnxExporting
from conformance_adapters.onnx_graph import LEVELS
from conformance_adapters.onnx_subject import OnnxSubject
from conformance_adapters.subject import FrameworkAdapter, Subject

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conformance.subject import Live
    from conformance.trace import Entry, Request, Trace

_REFUSAL = re.compile(
    r"Could not find an implementation|Type Error: Type|does not support \w+ yet|No Op registered|is not a registered"
    r"|only \*guarantees\* support"
)


class MatMulAdd(OnnxSubject):
    """MatMul, and Add where there is a bias."""

    name: ClassVar[str] = "onnx.MatMul + onnx.Add"
    layer: ClassVar[str] = "linear"

    def layouts(self) -> Sequence[Parameter]:
        """As they are."""
        return [Parameter("kernel", "kernel", "channel out -> channel out"), Parameter("bias", "bias", "out -> out")]

    def build(self) -> str:
        """`* out`."""
        product = self.graph.add("MatMul", self.input("x"), "kernel", name="product")
        return self.graph.add("Add", product, "bias", name="output") if self.held("bias") else product


class Gemm(OnnxSubject):
    """Gemm, with the weight as `out in` (`transB`), as exporters write it."""

    name: ClassVar[str] = "onnx.Gemm"
    layer: ClassVar[str] = "linear"

    @classmethod
    def refuses(cls, request: Request) -> str | None:
        """Its operands have two axes."""
        axes = request.inputs["x"].ndim
        return None if axes == 2 else f"its input has 2 axes, not {axes}"

    def layouts(self) -> Sequence[Parameter]:
        """`out in`."""
        return [Parameter("B", "kernel", "channel out -> out channel"), Parameter("C", "bias", "out -> out")]

    def build(self) -> str:
        """`batch out`."""
        bias = [self.held("C")] if self.held("C") else []
        return self.graph.add("Gemm", self.input("x"), "B", *bias, name="output", transB=1)


class LayerNormalization(OnnxSubject):
    """LayerNormalization; the observed model asks for its Mean and InvStdDev too.

    Those two are float32 by definition, so in float64 they are not what the kernel computed with.
    """

    name: ClassVar[str] = "onnx.LayerNormalization"
    layer: ClassVar[str] = "layer_norm"

    def layouts(self) -> Sequence[Parameter]:
        """As it is, whatever the number of axes."""
        axes = " ".join(f"axis{i}" for i in range(self.config["axes"]))
        return [Parameter("Scale", "scale", f"{axes} -> {axes}"), Parameter("B", "bias", f"{axes} -> {axes}")]

    def neutral(self) -> Mapping[str, NDArray[Any]]:
        """The operator always has a scale."""
        return {"scale": np.ones(self.given["x"].shape[-self.config["axes"] :])}

    def build(self) -> str:
        """The shape of x."""
        return self.graph.add(
            "LayerNormalization",
            *[n for n in (self.input("x"), "Scale", self.held("B")) if n],
            name="output",
            extra=() if self.request.dtype == "float64" else ("Mean", "InvStdDev"),
            **self.request.given("axes", axis=-self.config["axes"]),
            **self.request.given("epsilon", epsilon=self.config["epsilon"]),
        )


class Softmax(OnnxSubject):
    """Softmax; decomposed, the observed model holds ONNX's function body in its place."""

    name: ClassVar[str] = "onnx.Softmax"
    layer: ClassVar[str] = "softmax"
    inlined: ClassVar[tuple[str, ...]] = ("Softmax",)

    def build(self) -> str:
        """The shape of x."""
        return self.graph.add(
            "Softmax", self.input("x"), name="output", **self.request.given("axis", axis=self.config["axis"])
        )


class Gelu(OnnxSubject):
    """Gelu."""

    name: ClassVar[str] = "onnx.Gelu"
    layer: ClassVar[str] = "gelu"

    @classmethod
    def refuses(cls, request: Request) -> str | None:
        """The sigmoid form is not among its approximations."""
        wanted = request.config["approximation"]
        return None if wanted in ("none", "tanh") else f"its approximations are 'none' and 'tanh', not {wanted!r}"

    def build(self) -> str:
        """The shape of x."""
        form = self.request.given("approximation", approximate=self.config["approximation"])
        return self.graph.add("Gelu", self.input("x"), name="output", **form)


class OnnxRuntimeAdapter(OnnxExporting, FrameworkAdapter):
    """ONNX Runtime's CPU provider. It has next to no kernels for bfloat16, and its Python API none of its values."""

    name = "onnxruntime"
    requires = ("onnxruntime", "onnx")
    install = "pip install 'conformance[onnxruntime]'"
    dtypes: tuple[str, ...] = ("float64", "float32", "float16")
    modes = (EAGER, *LEVELS)

    @cached_property
    def table(self) -> Sequence[type[Subject]]:
        """The subjects, imported when they are asked for: `list` names adapters and needs none."""
        from conformance_adapters.onnx_activation import SUBJECTS as ACTIVATIONS
        from conformance_adapters.onnx_attention import SUBJECTS
        from conformance_adapters.onnx_convolution import SUBJECTS as CONVOLUTIONS
        from conformance_adapters.onnx_depthwise import SUBJECTS as DEPTHWISE
        from conformance_adapters.onnx_normalization import SUBJECTS as NORMALIZATION
        from conformance_adapters.onnx_pooling import SUBJECTS as POOLING
        from conformance_adapters.onnx_recurrent import SUBJECTS as RECURRENT
        from conformance_adapters.onnx_resize import SUBJECTS as RESIZE
        from conformance_adapters.onnx_rotary import SUBJECTS as ROTARY
        from conformance_adapters.onnx_shape import SUBJECTS as SHAPE
        from conformance_adapters.onnx_transposed import SUBJECTS as TRANSPOSED

        return (
            *SUBJECTS,
            *ROTARY,
            MatMulAdd,
            Gemm,
            LayerNormalization,
            *NORMALIZATION,
            Softmax,
            Gelu,
            *ACTIVATIONS,
            *RECURRENT,
            *CONVOLUTIONS,
            *DEPTHWISE,
            *TRANSPOSED,
            *POOLING,
            *SHAPE,
            *RESIZE,
        )

    def owns(self, subject: Any) -> bool:
        """The Path of a `.onnx` file, an onnx.ModelProto or an InferenceSession."""
        from conformance_adapters.onnx_live import owns

        return owns(subject)

    def open(self, subject: Any) -> Live:
        """As `onnx_live.opened`."""
        from conformance_adapters.onnx_live import opened

        return opened(subject)

    def start(self) -> Mapping[str, str]:
        """Import onnxruntime and onnx."""
        import onnx
        import onnxruntime

        return {"onnxruntime": onnxruntime.__version__, "onnx": onnx.__version__}

    def to_numpy(self, tensor: Any) -> NDArray[Any]:
        """A copy: ONNX Runtime gives NumPy arrays."""
        return np.array(tensor)

    def record(self, subject: Callable[[], Any], request: Request) -> tuple[Any, Sequence[Entry]]:
        """Run the observed model."""
        if not isinstance(subject, OnnxSubject):
            raise TypeError(f"an ONNX graph is recorded, not a {type(subject).__name__}")
        return subject.observe(request.decomposed)

    def run(self, request: Request) -> Trace:
        """As every adapter; raises Unsupported where ONNX Runtime has no kernel for the dtype or the option."""
        from onnxruntime.capi import onnxruntime_pybind11_state as state

        try:
            return super().run(request)
        except (state.NotImplemented, state.InvalidGraph, state.RuntimeException, state.Fail) as error:
            if _REFUSAL.search(str(error)):
                reason = re.sub(
                    r"^\[ONNXRuntimeError\] : \d+ : \w+ : (.*Status Message: )?", "", str(error).splitlines()[0]
                )
                raise Unsupported(f"{request.subject} in {request.dtype}: {reason}") from error
            raise
