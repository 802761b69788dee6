"""JAX's and Flax's own functions as a user hands them over, plain or as a `partial` that chooses their options."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from conformance.errors import Unsupported
from conformance.trace import Request
from conformance_adapters.flax_pooling import PADDING
from conformance_adapters.jax_activation import FUNCTIONS, Activation
from conformance_adapters.jax_attention import JaxDotProductAttention
from conformance_adapters.jax_subject import JaxSubject

if TYPE_CHECKING:
    from conformance.subject import Call

Options = dict[str, Any]


@dataclass(frozen=True)
class OwnFunction:
    """A function, the canonical layer that it is, and how its options are the layer's config."""

    name: str
    layer: str
    read: Callable[[Options], dict[str, Any]]
    call: Callable[[Any, Call], Callable[[], Any]]

    def config(self, subject: Any) -> dict[str, Any]:
        """The config that the options say. Raises Unsupported for one that the layer does not have."""
        options = _bound(subject)
        config = self.read(options)
        if left := {n: v for n, v in options.items() if v is not None and v is not False}:
            raise Unsupported(f"{self.name} is called with {', '.join(left)}, which a canonical {self.layer} has not")
        return config

    def bound(self, subject: Any, call: Call) -> Callable[[], Any]:
        """What calls `subject` with canonical inputs."""
        return self.call(subject, call)


def own(subject: Any) -> OwnFunction | None:
    """What `subject` is, if it is one of the frameworks' own functions, with options at most bound by keyword."""
    function = subject
    while isinstance(function, partial):
        if function.args:
            return None
        function = function.func
    for known in _OWN:
        module, _, name = known.name.rpartition(".")
        if module in sys.modules and getattr(sys.modules[module], name, None) is function:
            return known if "{axes}" not in known.layer else _over(known, _bound(subject).get("window_shape"))
    return None


def _over(known: OwnFunction, window: Any) -> OwnFunction | None:
    """A pool over the axes of its window, where that is bound."""
    if window is None or len(window) not in (1, 2, 3):
        return None
    return replace(known, layer=known.layer.format(axes=len(window)))


def _bound(subject: Any) -> Options:
    options: Options = {}
    while isinstance(subject, partial):
        options = {**subject.keywords, **options}
        subject = subject.func
    defaults = {n: p.default for n, p in inspect.signature(subject).parameters.items() if p.default is not p.empty}
    return {**{n: v for n, v in defaults.items() if n in _READ}, **options}


_READ = ("axis", "approximate", "negative_slope", "alpha")  # options whose default says something


def _softmax(options: Options) -> dict[str, Any]:
    axis = options.pop("axis")
    if not isinstance(axis, int):
        raise Unsupported(f"it sums over the axes {axis}; a canonical softmax sums over one")
    return {"axis": axis}


def _gelu(options: Options) -> dict[str, Any]:
    return {"approximation": "tanh" if options.pop("approximate") else "none"}


def _activation(function: type[Activation]) -> Callable[[Options], dict[str, Any]]:
    """How the options of one of JAX's activations are read; an array is no config."""

    def read(options: Options) -> dict[str, Any]:
        config = {name: options.pop(own) for name, own in function.options.items()}
        if any(not isinstance(value, int | float) for value in config.values()):
            raise Unsupported(f"{function.name} with an array for {' or '.join(config)}")
        return config

    return read


def _pool(options: Options) -> dict[str, Any]:
    """Flax's window moves by one element where no strides are given."""
    size, strides, padding = (options.pop(n, None) for n in ("window_shape", "strides", "padding"))
    named = {flax: canonical for canonical, flax in PADDING.items()}
    if isinstance(padding, str) and padding not in named:
        raise Unsupported(f"a canonical pool has no {padding} padding")
    moved = [1] * len(size) if not strides else list(strides)
    pairs = None if isinstance(padding, str | None) else [list(pair) for pair in padding]
    return {"size": list(size), "strides": moved, "padding": pairs or named[padding or "VALID"]}


def _average_pool(options: Options) -> dict[str, Any]:
    """Flax's mean counts its padding."""
    return {"count_include_pad": bool(options.pop("count_include_pad", True)), **_pool(options)}


def _attention(options: Options) -> dict[str, Any]:
    config: dict[str, Any] = {}
    if options.pop("is_causal", False):
        config["causal"] = "top-left"
    if (scale := options.pop("scale", None)) is not None:
        config["scale"] = float(scale)
    if (window := options.pop("local_window_size", None)) is not None:
        config["window"] = window if isinstance(window, int) else tuple(window)
    for how in ("implementation", "precision", "dtype", "broadcast_dropout", "dropout_rng", "dropout_rate"):
        options.pop(how, None)  # how it computes, not what; dropout is off where it is run
    options.pop("deterministic", None)
    return config


def _of_x(subject: Any, call: Call) -> Callable[[], Any]:
    request = Request(call.layer or "", "", {}, call.inputs, {}, call.dtype)
    x = JaxSubject(request).inputs["x"]
    return lambda: subject(x)


def _of_heads(subject: Any, call: Call) -> Callable[[], Any]:
    widths = [call.inputs[n].shape[-1] for n in ("key", "value")]
    if widths[0] != widths[1] and own(subject) not in _WITH_WIDE_VALUES:
        raise Unsupported(f"its values are as wide as its keys ({widths[0]}), not {widths[1]}: give it such inputs")
    made = JaxDotProductAttention(Request(call.layer or "", "", {}, call.inputs, {}, call.dtype))
    named = {} if made.mask is None else {"mask" if made.mask.dtype == bool else "bias": made.mask}
    function = subject
    while isinstance(function, partial):
        function = function.func
    if "deterministic" in inspect.signature(function).parameters:
        named["deterministic"] = True
    return lambda: subject(*made.heads, **named).transpose(0, 2, 1, 3)


_OWN = (
    OwnFunction("jax.nn.softmax", "softmax", _softmax, _of_x),
    OwnFunction("flax.nnx.softmax", "softmax", _softmax, _of_x),
    OwnFunction("flax.linen.softmax", "softmax", _softmax, _of_x),
    OwnFunction("jax.nn.gelu", "gelu", _gelu, _of_x),
    OwnFunction("flax.nnx.gelu", "gelu", _gelu, _of_x),
    OwnFunction("flax.linen.gelu", "gelu", _gelu, _of_x),
    *(OwnFunction(f.name, f.layer, _activation(f), _of_x) for f in FUNCTIONS),
    OwnFunction("flax.linen.max_pool", "max_pool{axes}d", _pool, _of_x),
    OwnFunction("flax.linen.avg_pool", "average_pool{axes}d", _average_pool, _of_x),
    OwnFunction("jax.nn.dot_product_attention", "scaled_dot_product_attention", _attention, _of_heads),
    OwnFunction("flax.nnx.dot_product_attention", "scaled_dot_product_attention", _attention, _of_heads),
    OwnFunction("flax.linen.dot_product_attention", "scaled_dot_product_attention", _attention, _of_heads),
)
_WITH_WIDE_VALUES = [known for known in _OWN if known.name == "flax.linen.dot_product_attention"]
