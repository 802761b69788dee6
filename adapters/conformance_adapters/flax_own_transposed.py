"""Flax's own transposed convolutions, and its dropout, as they are met in a user's model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from conformance.errors import Unsupported
from conformance_adapters.flax_transposed import SUBJECTS
from conformance_adapters.window_padding import per_axis

if TYPE_CHECKING:
    from conformance_adapters.flax_transposed import LinenConvTranspose, NnxConvTranspose

_BY_OPTIONS = {(s.name, s.axes): s for s in SUBJECTS}


def transposed_subject(module: Any, library: str) -> type[NnxConvTranspose | LinenConvTranspose] | None:
    """The subject that knows a ConvTranspose of flax.`library`; None where it is over more than three axes."""
    form = "(transpose_kernel=True)" if module.transpose_kernel else ""
    return _BY_OPTIONS.get((f"flax.{library}.ConvTranspose{form}", len(_window(module))))


def _window(module: Any) -> tuple[int, ...]:
    return (module.kernel_size,) if isinstance(module.kernel_size, int) else tuple(module.kernel_size)


def transposed(module: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """The config. Padding by amounts is what surrounds the input, canonical padding is what is cut off the output.

    Raises Unsupported for a masked kernel and for padding in a circle.
    """
    window = _window(module)
    strides, dilation = (per_axis(1 if v is None else v, len(window)) for v in (module.strides, module.kernel_dilation))
    extents = [d * (k - 1) + 1 for k, d in zip(window, dilation, strict=True)]
    if module.mask is not None:
        raise Unsupported("its kernel is masked")
    config: dict[str, Any] = {"strides": list(strides), "dilation": list(dilation), "padding": "valid"}
    padding = module.padding
    if padding == "SAME":
        return {**config, "padding": "same-upper"}
    if padding == "VALID":  # a stride that is greater than the window leaves zeros after the last one
        left = [max(s - extent, 0) for s, extent in zip(strides, extents, strict=True)]
        return {**config, "output_padding": left} if any(left) else config
    if isinstance(padding, str):
        raise Unsupported(f"a canonical transposed convolution has no {padding} padding")
    sides = [padding] * len(window) if isinstance(padding, int) else padding
    around = [(side, side) if isinstance(side, int) else tuple(side) for side in sides]
    cut = [[extent - 1 - before, extent - 1 - after] for extent, (before, after) in zip(extents, around, strict=True)]
    return {**config, "padding": cut}


def dropout(module: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """The rate, of which nothing is seen. Raises Unsupported where it is told to drop."""
    told = type(module).__module__.startswith("flax.linen.") and module.deterministic is False
    if told or given.get("deterministic") is False:  # a module of nnx is switched to inference
        raise Unsupported("it is called for training, where it drops at random")
    return {"rate": float(module.rate)}
