"""How PyTorch runs a function other than eagerly: compiled by torch.compile, or exported to ONNX."""

from __future__ import annotations

import io
import os
import re
import warnings
from collections.abc import Callable
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from conformance.errors import Unsupported

if TYPE_CHECKING:
    import torch

    from conformance_adapters.torch_subject import TorchSubject

COMPILE = "compile"
ONNX = "onnx"


def run_compiled(function: Callable[[], Any], name: str) -> Any:
    """What `function`, through torch.compile with its default back end (inductor), returns.

    As for a user, what PyTorch cannot compile runs eagerly beside what it can. Raises Unsupported where it compiled
    nothing at all, which PyTorch does not tell, and where there is no C++ compiler.
    """
    import torch
    from torch._dynamo import lookup_backend
    from torch._dynamo.exc import BackendCompilerFailed

    _keep_compiled()
    inductor = lookup_backend("inductor")
    compiled = 0

    def counted(graph: Any, inputs: Any) -> Any:
        nonlocal compiled
        made = inductor(graph, inputs)
        compiled += 1
        return made

    torch._dynamo.reset()  # else the ninth module that runs through the same code is run eagerly, and that in silence
    try:
        output = torch.compile(function, backend=counted)()
    except BackendCompilerFailed as error:
        inner = getattr(error, "inner_exception", error)
        if type(inner).__name__ != "InvalidCxxCompiler":
            raise
        raise Unsupported(f"{name}: torch.compile needs a C++ compiler, and there is none ({inner})") from error
    if not compiled:
        raise Unsupported(f"{name}: torch.compile compiles nothing of it, and runs it eagerly")
    return output


def _keep_compiled() -> None:
    """Let inductor keep what it compiled in the user's cache folder, unless the user has set a folder of their own."""
    import torch._inductor.config as inductor

    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(Path(home, "conformance", "inductor")))
    inductor.compile_threads = 1  # one kernel at a time: a pool of processes is not worth its start


_REFUSAL = re.compile("not (implemented|supported)|unsupported", re.IGNORECASE)
_RUNTIME_REFUSAL = re.compile(r"Could not find an implementation|Type Error: Type|does not support \w+ yet")


def run_exported(subject: TorchSubject) -> torch.Tensor:
    """What `subject` gives once torch.onnx.export has made a model of it, run by ONNX Runtime.

    The exporter is the one that needs nothing but PyTorch (`dynamo=False`). Raises Unsupported where it has no ONNX for
    an operation, where ONNX Runtime has no kernel, and where that is not installed.
    """
    import torch

    try:
        import onnxruntime
        from onnxruntime.capi import onnxruntime_pybind11_state as state
    except ImportError as error:
        raise Unsupported("the mode 'onnx' runs in ONNX Runtime: pip install 'conformance[onnxruntime]'") from error
    if subject.dtype == torch.bfloat16:
        raise Unsupported("ONNX Runtime's Python API has no bfloat16")
    feeds = {name: tensor.numpy() for name, tensor in subject.inputs.items()}
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what goes wrong is raised
    try:
        session = onnxruntime.InferenceSession(_model(subject), options, providers=["CPUExecutionProvider"])
        output = session.run(None, {i.name: feeds[i.name] for i in session.get_inputs()})[0]
    except (state.NotImplemented, state.InvalidGraph, state.RuntimeException, state.Fail) as error:
        if not _RUNTIME_REFUSAL.search(str(error)):
            raise
        raise Unsupported(f"{subject.name} in {subject.request.dtype}: {str(error).splitlines()[0]}") from error
    return torch.from_numpy(output)


def _model(subject: TorchSubject) -> bytes:
    """`subject` as an ONNX model, whose inputs are called as the subject's."""
    import torch

    class Exported(torch.nn.Module):
        """The subject's module, called as the subject calls it."""

        def __init__(self) -> None:
            super().__init__()
            self.module = subject.module

        def forward(self, *given: torch.Tensor) -> torch.Tensor:
            called = copy(subject)
            called.inputs = dict(zip(subject.inputs, given, strict=True))
            return called.forward()

    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that this exporter is the older one, and what tracing makes a constant
        try:
            torch.onnx.export(
                Exported().eval(),
                tuple(subject.inputs.values()),
                file,
                input_names=list(subject.inputs),
                dynamo=False,
            )
        except (torch.onnx.errors.OnnxExporterError, AssertionError, ValueError) as error:
            if not _REFUSAL.search(str(error)):
                raise
            raise Unsupported(f"{subject.name}: torch.onnx.export: {str(error).splitlines()[0]}") from error
    return file.getvalue()
