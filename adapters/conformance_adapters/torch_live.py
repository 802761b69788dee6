"""What a user hands over of PyTorch: a module, an exported program (`.pt2`) or a plain function of tensors."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from conformance.errors import ConformanceError, Unsupported
from conformance.subject import Argument, Call, Own, Part, matched, one_tensor
from conformance.trace import Trace
from conformance_adapters.torch_archive import load
from conformance_adapters.torch_own import around, captured, held, own
from conformance_adapters.torch_tape import record, tensors, to_numpy

if TYPE_CHECKING:
    from numpy.typing import NDArray


def opened(subject: Any) -> TorchLive:
    """A module, an exported program, its file, or a callable. Raises ConformanceError for anything else."""
    if isinstance(subject, Path):
        return ProgramLive(load(subject), subject.name)
    if isinstance(subject, torch.export.ExportedProgram):
        return ProgramLive(subject, "exported program")
    if isinstance(subject, nn.Module) or callable(subject):
        return TorchLive(subject)
    raise ConformanceError(f"a {type(subject).__name__} is neither a torch.nn.Module nor a function of tensors")


class TorchLive:
    """A module or function. Every run is of a copy of the module, in evaluation mode and without gradients."""

    adapter = "torch"

    def __init__(self, subject: Any, name: str = "") -> None:
        self.subject = subject
        known = own(subject) if isinstance(subject, nn.Module) else None
        made = name or getattr(subject, "__name__", type(subject).__name__)
        self.name = f"torch.nn.{type(subject).__name__}" if known is not None else made

    @property
    def dtype(self) -> str | None:
        """That of its first floating-point parameter."""
        floats = (p.dtype for p in self._state().values() if p.is_floating_point())
        return next((str(d).removeprefix("torch.") for d in floats), None)

    def _state(self) -> Mapping[str, torch.Tensor]:
        if isinstance(self.subject, nn.Module):
            return dict(self.subject.state_dict())
        variables = inspect.getclosurevars(self.subject).nonlocals if inspect.isfunction(self.subject) else {}
        return {n: v for n, v in variables.items() if isinstance(v, torch.Tensor)}

    def own(self) -> Own | None:
        """Its layer, config and weights, where it is one of PyTorch's own modules."""
        known = own(self.subject) if isinstance(self.subject, nn.Module) else None
        if known is None:
            return None
        return Own(known.subject.layer, known.config(self.subject), held(self.subject), known.fitting(self.subject))

    def parameters(self) -> Mapping[str, NDArray[Any]]:
        """The floating-point tensors of its state, by their path."""
        return {n: to_numpy(p) for n, p in self._state().items() if p.is_floating_point()}

    def arguments(self) -> Sequence[Argument]:
        """One for every argument that `forward` must have, of the width that its first layer wants."""
        parameters, required = _positional(self._callable())
        shape = next((s for m in self._modules() if (s := _wanted(m)) is not None), None)
        if shape is None:
            raise ConformanceError(f"{self.name} does not tell the shapes of its inputs: give them (`inputs`)")
        return [replace(shape, name=n) for n in parameters[: max(required, 1)]]

    def _modules(self) -> Iterator[nn.Module]:
        if isinstance(self.subject, nn.Module):
            yield from self.subject.modules()

    def _callable(self) -> Callable[..., Any]:
        return self.subject.forward if isinstance(self.subject, nn.Module) else self.subject

    def run(self, call: Call) -> Trace:
        """Plain, and under a TorchDispatchMode."""
        known = own(self.subject) if isinstance(self.subject, nn.Module) else None
        subject = self._copied(call.dtype)
        if known is not None and known.subject.layer == call.layer and call.through is None:
            function: Callable[[], Any] = around(subject, call.inputs, call.dtype)
        else:
            function = self._bound(subject, call)
        with torch.no_grad():
            output = self._first(function())
            observed, tape = record(function, call.decomposed)
        return Trace(
            to_numpy(output), tape, to_numpy(self._first(observed)), environment={"torch": str(torch.__version__)}
        )

    def _first(self, returned: Any) -> torch.Tensor:
        return one_tensor(tensors(returned), self.name)

    def _copied(self, dtype: str) -> Any:
        if not isinstance(self.subject, nn.Module):
            return self.subject
        made = copy.deepcopy(self.subject).eval()
        return made if self.dtype in (None, dtype) else made.to(getattr(torch, dtype))

    def _bound(self, subject: Any, call: Call) -> Callable[[], Any]:
        given = {n: _tensor(a, call.dtype) for n, a in call.inputs.items()}
        if call.through is not None:
            through = call.through
            return lambda: through(subject, **given)
        names, required = _positional(self._callable())
        args, kwargs = matched(names, required, given, call.stand_ins)
        return lambda: subject(*args, **kwargs)

    def parts(self, call: Call) -> Iterable[Part]:
        """Every one of PyTorch's own modules that a run calls, with what it was called with."""
        copied = self._copied(call.dtype)
        seen: list[Part] = []
        with _watched(copied, seen), torch.no_grad():
            self._bound(copied, call)()
        return seen


class ProgramLive(TorchLive):
    """An exported program: a graph of operations, without modules."""

    def __init__(self, program: torch.export.ExportedProgram, name: str) -> None:
        super().__init__(program.module(), name)
        self.program, self.name = program, name

    def _copied(self, dtype: str) -> Any:
        if self.dtype not in (None, dtype):
            raise Unsupported(f"{self.name} was exported in {self.dtype}: it cannot be run in {dtype}")
        return self.subject

    def _bound(self, subject: Any, call: Call) -> Callable[[], Any]:
        if call.through is not None:
            return super()._bound(subject, call)
        given = [_tensor(a, call.dtype) for a in call.inputs.values()]
        return lambda: subject(*given)

    def arguments(self) -> Sequence[Argument]:
        """What it was exported with."""
        names = [s.arg.name for s in self.program.graph_signature.input_specs if s.kind.name == "USER_INPUT"]
        examples = list(tensors(self.program.example_inputs or ()))
        if len(examples) != len(names):
            raise ConformanceError(f"{self.name} does not tell the shapes of its inputs: give them (`inputs`)")
        return [
            Argument(n, tuple(e.shape), str(e.dtype).removeprefix("torch."))
            for n, e in zip(names, examples, strict=True)
        ]


def _tensor(array: NDArray[Any], dtype: str) -> torch.Tensor:
    made = torch.from_numpy(np.array(array))
    return made.to(getattr(torch, dtype)) if made.is_floating_point() else made


def _positional(function: Callable[..., Any]) -> tuple[list[str], int]:
    """The names of the positional parameters, and how many must be given."""
    try:
        found = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # a built-in
        return [], 0
    names = [p for p in found if p.kind in (p.POSITIONAL_OR_KEYWORD, p.POSITIONAL_ONLY)]
    return [p.name for p in names], sum(p.default is p.empty for p in names)


def _wanted(module: nn.Module) -> Argument | None:
    """What a module that stands at the input takes."""
    if isinstance(module, nn.Embedding):
        return Argument("", (2, 5), "int64", module.num_embeddings)
    if isinstance(module, nn.modules.conv._ConvNd):
        return Argument("", (2, module.in_channels, *(11, 13, 7)[: len(module.kernel_size)]))
    if isinstance(module, nn.LayerNorm | nn.RMSNorm):
        return Argument("", (2, 5, *module.normalized_shape))
    if isinstance(module, nn.modules.batchnorm._NormBase):
        return Argument("", (2, *[module.num_features] * (1 + int(type(module).__name__[-2]))))
    if isinstance(module, nn.GroupNorm):  # as wide as it has channels, whichever axis they are looked for in
        return Argument("", (2, *[module.num_channels] * 3))
    for kind, width in ((nn.Linear, "in_features"), (nn.MultiheadAttention, "embed_dim"), (nn.RNNBase, "input_size")):
        if isinstance(module, kind):
            return Argument("", (2, 5, getattr(module, width)))
    return None


@contextmanager
def _watched(model: nn.Module, seen: list[Part]) -> Iterator[None]:
    """While this holds, `seen` gains every known module that `model` (a copy, which may have hooks) calls.

    What a known module calls inside of itself is its own affair.
    """
    names = {m: n for n, m in model.named_modules()}
    known = [m for m in names if own(m) is not None]
    inner = {child for m in known for child in m.modules() if child is not m}
    for module in names:
        if isinstance(module, nn.TransformerEncoder):  # else its layers are called with nested tensors, without shapes
            module.use_nested_tensor = False
    counts: dict[str, int] = {}
    handles = []

    def keep(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        name = names[module] or type(module).__name__
        counts[name] = counts.get(name, 0) + 1
        path = name if counts[name] == 1 else f"{name}#{counts[name]}"
        layer = own(module).subject.layer  # type: ignore[union-attr]
        try:
            own(module).config(module)  # type: ignore[union-attr]
            inputs = {n: _array(t) for n, t in captured(module, args, kwargs).items()}
            seen.append(Part(path, layer, TorchLive(module), inputs))
        except Unsupported as error:
            seen.append(Part(path, layer, unsupported=str(error)))

    try:
        handles += [m.register_forward_pre_hook(keep, with_kwargs=True) for m in known if m not in inner]
        yield
    finally:
        for handle in handles:
            handle.remove()


def _array(tensor: torch.Tensor) -> NDArray[Any]:
    array = to_numpy(tensor)
    return array.astype(np.float64) if array.dtype.kind == "f" else array
