"""PyTorch: its own layers, and a user's module that a fixture brings."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np

from conformance.adapter import EAGER
from conformance.errors import Unsupported
from conformance.layout import Parameter
from conformance_adapters.exporting import TorchExporting
from conformance_adapters.subject import FrameworkAdapter, Subject
from conformance_adapters.torch_modes import COMPILE, ONNX, run_compiled, run_exported
from conformance_adapters.torch_source import TorchSource
from conformance_adapters.torch_subject import TorchSubject

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from conformance.subject import Live
    from conformance.trace import Entry, Request, Trace


class Linear(TorchSubject):
    """torch.nn.Linear."""

    name: ClassVar[str] = "torch.nn.Linear"
    layer: ClassVar[str] = "linear"

    def make(self) -> torch.nn.Module:
        """The module, with or without a bias."""
        from torch.nn import Linear as Module

        return Module(*self.request.weights["kernel"].shape, bias="bias" in self.request.weights)

    def layouts(self) -> Sequence[Parameter]:
        """`out in`."""
        return [Parameter("weight", "kernel", "channel out -> out channel"), Parameter("bias", "bias", "out -> out")]

    def forward(self) -> torch.Tensor:
        """`* out`."""
        return self.module(self.inputs["x"])


class LayerNorm(TorchSubject):
    """torch.nn.LayerNorm over the last `axes` axes."""

    name: ClassVar[str] = "torch.nn.LayerNorm"
    layer: ClassVar[str] = "layer_norm"

    def make(self) -> torch.nn.Module:
        """The module; without a scale and a bias it has no parameters."""
        from torch.nn import LayerNorm as Module

        weights = self.request.weights
        return Module(
            self._shape,
            **self.request.given("epsilon", eps=self.config["epsilon"]),
            elementwise_affine="scale" in weights or "bias" in weights,
            bias="bias" in weights,
        )

    @property
    def _shape(self) -> tuple[int, ...]:
        return self.request.inputs["x"].shape[-self.config["axes"] :]

    def layouts(self) -> Sequence[Parameter]:
        """As it is, whatever the number of axes."""
        axes = " ".join(f"axis{i}" for i in range(self.config["axes"]))
        return [Parameter("weight", "scale", f"{axes} -> {axes}"), Parameter("bias", "bias", f"{axes} -> {axes}")]

    def neutral(self) -> Mapping[str, NDArray[Any]]:
        """The module has no bias without a scale."""
        return {"scale": np.ones(self._shape)} if "bias" in self.request.weights else {}

    def forward(self) -> torch.Tensor:
        """The shape of x."""
        return self.module(self.inputs["x"])


class Softmax(TorchSubject):
    """torch.nn.Softmax."""

    name: ClassVar[str] = "torch.nn.Softmax"
    layer: ClassVar[str] = "softmax"

    def make(self) -> torch.nn.Module:
        """The module along `axis`."""
        from torch.nn import Softmax as Module

        return Module(dim=self.config["axis"])

    def forward(self) -> torch.Tensor:
        """The shape of x."""
        return self.module(self.inputs["x"])


class Gelu(TorchSubject):
    """torch.nn.GELU."""

    name: ClassVar[str] = "torch.nn.GELU"
    layer: ClassVar[str] = "gelu"

    @classmethod
    def refuses(cls, request: Request) -> str | None:
        """The sigmoid form is not among its approximations."""
        wanted = request.config["approximation"]
        return None if wanted in ("none", "tanh") else f"its approximations are 'none' and 'tanh', not {wanted!r}"

    def make(self) -> torch.nn.Module:
        """The module with `approximate`."""
        from torch.nn import GELU

        return GELU(**self.request.given("approximation", approximate=self.config["approximation"]))

    def forward(self) -> torch.Tensor:
        """The shape of x."""
        return self.module(self.inputs["x"])


class TorchAdapter(TorchExporting, FrameworkAdapter):
    """PyTorch on the CPU."""

    name = "torch"
    requires = ("torch",)
    install = "pip install 'conformance[torch]'"
    modes = (EAGER, COMPILE, ONNX)

    @cached_property
    def table(self) -> Sequence[type[Subject]]:
        """The subjects, imported when they are asked for: `list` names adapters and needs none."""
        from conformance_adapters.torch_activation import SUBJECTS as ACTIVATIONS
        from conformance_adapters.torch_attention import SUBJECTS
        from conformance_adapters.torch_convolution import SUBJECTS as CONVOLUTIONS
        from conformance_adapters.torch_depthwise import SUBJECTS as DEPTHWISE
        from conformance_adapters.torch_normalization import SUBJECTS as NORMALIZATION
        from conformance_adapters.torch_pooling import SUBJECTS as POOLING
        from conformance_adapters.torch_recurrent import SUBJECTS as RECURRENT
        from conformance_adapters.torch_resize import SUBJECTS as RESIZE
        from conformance_adapters.torch_shape import SUBJECTS as SHAPE
        from conformance_adapters.torch_transformer import SUBJECTS as TRANSFORMER
        from conformance_adapters.torch_transposed import SUBJECTS as TRANSPOSED

        return (
            *SUBJECTS,
            Linear,
            LayerNorm,
            *NORMALIZATION,
            Softmax,
            Gelu,
            *ACTIVATIONS,
            *RECURRENT,
            *CONVOLUTIONS,
            *DEPTHWISE,
            *TRANSPOSED,
            *POOLING,
            *TRANSFORMER,
            *SHAPE,
            *RESIZE,
        )

    def owns(self, subject: Any) -> bool:
        """A module, an exported program or its file."""
        if isinstance(subject, Path):
            return subject.suffix == ".pt2"
        kinds = {(c.__module__.partition(".")[0], c.__name__) for c in type(subject).__mro__}
        return ("torch", "Module") in kinds or ("torch", "ExportedProgram") in kinds

    def open(self, subject: Any) -> Live:
        """What a user hands over, ready to be run."""
        from conformance_adapters.torch_live import opened

        return opened(subject)

    @contextmanager
    def seeded(self, number: int) -> Iterator[None]:
        """torch's generator on the CPU begins at `number`."""
        import torch

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(number)
            yield

    def start(self) -> Mapping[str, str]:
        """Import torch."""
        import torch

        return {"torch": torch.__version__}

    def to_numpy(self, tensor: Any) -> NDArray[Any]:
        """A copy in the tensor's own dtype; bfloat16 as float32."""
        from conformance_adapters.torch_tape import to_numpy

        return to_numpy(tensor)

    def plain(self, subject: Subject, request: Request) -> Any:
        """As it is, compiled, or exported to ONNX and run there."""
        if request.mode == COMPILE:
            return run_compiled(subject, request.subject)
        return run_exported(cast("TorchSubject", subject)) if request.mode == ONNX else subject()

    def record(self, subject: Callable[[], Any], request: Request) -> tuple[Any, Sequence[Entry]]:
        """Call `subject` under a TorchDispatchMode."""
        from conformance_adapters.torch_tape import record

        return record(subject, decomposed=request.decomposed)

    def build(self, request: Request) -> Subject:
        """One of PyTorch's own layers, or the module that `file.py:function` in the fixture's folder builds."""
        if request.source is not None and ".py:" in request.subject:
            return TorchSource(request)
        return super().build(request)

    def run(self, request: Request) -> Trace:
        """As every adapter; raises Unsupported where PyTorch has no kernel for the dtype."""
        try:
            trace = super().run(request)
        except RuntimeError as error:  # NotImplementedError is one
            if re.search("not implemented|dtypes? not supported", str(error)):
                raise Unsupported(f"{request.subject}: {str(error).splitlines()[0]}") from error
            raise
        if request.mode != ONNX:
            return trace
        return replace(trace, environment={**trace.environment, "onnxruntime": version("onnxruntime")})
