"""Attention in JAX: jax.nn.dot_product_attention, and Flax's attention function and modules.

The layout of the functions is `batch time head dim`. A projection around a function is a flax.nnx.Linear.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from conformance.layout import Parameter
from conformance_adapters.attention_mask import causal_mask, four_axes, joined, lacking
from conformance_adapters.jax_subject import JaxSubject, LinenSubject, NnxSubject, accepts

if TYPE_CHECKING:
    import jax
    from numpy.typing import NDArray

    from conformance.trace import Request

_PROJECTIONS = ("query", "key", "value", "output")


def _scales_otherwise(scale: float | None, dim: int) -> str | None:
    if scale is None or abs(scale * math.sqrt(dim) - 1) <= 2.0**-52:
        return None
    return f"it scales by 1/sqrt(head_dim), not by {scale!r}"


class _JaxFunction:
    """jax.nn.dot_product_attention: what it refuses, and the call."""

    name: ClassVar[str] = "jax.nn.dot_product_attention"

    @staticmethod
    def cannot(config: Mapping[str, Any], dim: int, value_dim: int) -> str | None:
        """The reason to refuse heads of these widths under this config."""
        if reason := lacking(config, "softcap", "rotary"):
            return reason
        if config.get("window") is not None and config.get("causal") == "bottom-right":
            return "its window is aligned to the top left"
        if dim != value_dim:
            return f"its values are as wide as its keys ({dim}), not {value_dim}"
        return None

    @staticmethod
    def attend(query: Any, key: Any, value: Any, mask: Any, config: Mapping[str, Any]) -> jax.Array:
        """Its result for `batch time head dim`; `mask` has four axes, or is None."""
        import jax

        allowed = causal_mask("bottom-right", query.shape[1], key.shape[1])[None, None]
        named: dict[str, Any] = {"scale": config.get("scale")}
        if config.get("causal") == "top-left":
            named["is_causal"] = True  # not causal is its default
        if mask is not None:
            named["mask" if mask.dtype == bool else "bias"] = mask
        if config.get("causal") == "bottom-right":
            named["mask"] = allowed & named["mask"] if "mask" in named else jax.numpy.asarray(allowed)
        if config.get("window") is not None:
            window = config["window"]
            named["local_window_size"] = window if isinstance(window, int) else tuple(window)
        return jax.nn.dot_product_attention(query, key, value, **named)


class _LinenFunction:
    """flax.linen.dot_product_attention: what it refuses, and the call."""

    name: ClassVar[str] = "flax.linen.dot_product_attention"

    @staticmethod
    def cannot(config: Mapping[str, Any], dim: int, value_dim: int) -> str | None:
        """The reason to refuse heads of these widths under this config."""
        if reason := lacking(config, "window", "softcap", "rotary"):
            return reason
        return _scales_otherwise(config.get("scale"), dim)

    @staticmethod
    def attend(query: Any, key: Any, value: Any, mask: Any, config: Mapping[str, Any]) -> jax.Array:
        """Its result for `batch time head dim`; `mask` has four axes, or is None."""
        import jax
        from flax import linen

        named: dict[str, Any] = {}
        if mask is not None:
            named["mask" if mask.dtype == bool else "bias"] = mask
        if config.get("causal") is not None:
            allowed = causal_mask(config["causal"], query.shape[1], key.shape[1])[None, None]
            named["mask"] = allowed & named["mask"] if "mask" in named else jax.numpy.asarray(allowed)
        return linen.dot_product_attention(query, key, value, **named)


class _Attention(JaxSubject):
    """An attention function by itself, on heads."""

    layer: ClassVar[str] = "scaled_dot_product_attention"
    function: ClassVar[type[_JaxFunction | _LinenFunction]]

    @classmethod
    def refuses(cls, request: Request) -> str | None:
        """As the function does; Flax's has as many key heads as query heads."""
        query, key, value = (request.inputs[n] for n in ("query", "key", "value"))
        if cls.function is _LinenFunction and query.shape[1] != key.shape[1]:
            return f"it has as many key heads as query heads ({query.shape[1]}), not {key.shape[1]}"
        return cls.function.cannot(request.config, query.shape[-1], value.shape[-1])

    def __init__(self, request: Request) -> None:
        super().__init__(request)
        self.heads = [self.inputs[n].transpose(0, 2, 1, 3) for n in ("query", "key", "value")]
        mask, key = request.inputs.get("mask"), request.inputs["key"]
        self.mask = None if mask is None else self.array(four_axes(mask, key.shape[0], key.shape[2]))

    def forward(self) -> jax.Array:
        """The context, `batch head query vdim`."""
        return self.function.attend(*self.heads, self.mask, self.config).transpose(0, 2, 1, 3)


class JaxDotProductAttention(_Attention):
    """jax.nn.dot_product_attention."""

    name: ClassVar[str] = _JaxFunction.name
    function = _JaxFunction


class LinenDotProductAttention(_Attention):
    """flax.linen.dot_product_attention, the one whose values may have a width of their own."""

    name: ClassVar[str] = _LinenFunction.name
    function = _LinenFunction


class _MultiHead(JaxSubject):
    """What the forms of multi-head attention read from a request."""

    layer: ClassVar[str] = "multi_head_attention"

    @staticmethod
    def widths(request: Request) -> tuple[int, int, int, int]:
        """Query heads, key heads, and the widths of a key head and of a value head."""
        heads = request.config["heads"]
        kv_heads = request.config.get("kv_heads") or heads
        dim = request.weights["query_kernel"].shape[1] // heads
        return heads, kv_heads, dim, request.weights["value_kernel"].shape[1] // kv_heads

    def read(self) -> tuple[Any, Any, Any]:
        """The inputs of query, key and value."""
        query = self.inputs["query_input"]
        key = self.inputs.get("key_input", query)
        return query, key, self.inputs.get("value_input", key)

    def four(self) -> NDArray[Any] | None:
        """The request's mask as `batch head query key`."""
        mask = self.request.inputs.get("mask")
        _, key, _ = self.read()
        return None if mask is None else four_axes(mask, key.shape[0], key.shape[1])


class _Projected(_MultiHead, NnxSubject):
    """An attention function between projections in flax.nnx.Linear."""

    function: ClassVar[type[_JaxFunction | _LinenFunction]]

    @classmethod
    def refuses(cls, request: Request) -> str | None:
        """As the function does; Flax's has as many key heads as query heads."""
        heads, kv_heads, dim, value_dim = cls.widths(request)
        if cls.function is _LinenFunction and kv_heads != heads:
            return f"it has as many key heads as query heads ({heads}), not {kv_heads}"
        if "output_bias" in request.weights and "output_kernel" not in request.weights:
            return "a Linear has no bias without a kernel"
        return cls.function.cannot(request.config, dim, value_dim)

    def make(self) -> Any:
        """One Linear for each projection that the request has."""
        from flax import nnx

        weights = self.request.weights
        made = nnx.Module()
        for name in _PROJECTIONS:
            if f"{name}_kernel" in weights:
                shape, biased = weights[f"{name}_kernel"].shape, f"{name}_bias" in weights
                linear = nnx.Linear(*shape, use_bias=biased, param_dtype=self.dtype, rngs=nnx.Rngs(0))
                setattr(made, name, linear)
        return made

    def layouts(self) -> Sequence[Parameter]:
        """Kernels and biases as they are."""
        return [
            *(Parameter(f"{n}.kernel", f"{n}_kernel", "channel out -> channel out") for n in _PROJECTIONS),
            *(Parameter(f"{n}.bias", f"{n}_bias", "out -> out") for n in _PROJECTIONS),
        ]

    def apply(self, module: Any) -> jax.Array:
        """Project, split into heads, attend, merge, project."""
        heads, kv_heads, _, _ = self.widths(self.request)
        projected = [getattr(module, name)(x) for name, x in zip(_PROJECTIONS, self.read(), strict=False)]
        split = [
            x.reshape(*x.shape[:2], count, x.shape[-1] // count)
            for x, count in zip(projected, (heads, kv_heads, kv_heads), strict=True)
        ]
        mask = self.four()
        context = self.function.attend(*split, None if mask is None else self.array(mask), self.config)
        merged = context.reshape(*context.shape[:2], context.shape[2] * context.shape[3])
        return module.output(merged) if hasattr(module, "output") else merged


class JaxProjectedAttention(_Projected):
    """jax.nn.dot_product_attention between projections in flax.nnx.Linear."""

    name: ClassVar[str] = _JaxFunction.name
    function = _JaxFunction


class LinenProjectedAttention(_Projected):
    """flax.linen.dot_product_attention between projections in flax.nnx.Linear."""

    name: ClassVar[str] = _LinenFunction.name
    function = _LinenFunction


class _FlaxModule(_MultiHead):
    """What flax.nnx.MultiHeadAttention and flax.linen.MultiHeadDotProductAttention have in common."""

    @classmethod
    def refuses(cls, request: Request) -> str | None:
        """Both have one head width, their own scale, and boolean masks only."""
        _, _, dim, value_dim = cls.widths(request)
        mask = request.inputs.get("mask")
        if reason := lacking(request.config, "window", "softcap", "rotary"):
            return reason
        if mask is not None and mask.dtype != bool:
            return "its masks are boolean"
        if dim != value_dim:
            return f"its values are as wide as its keys ({dim}), not {value_dim}"
        return _scales_otherwise(request.config.get("scale"), dim)

    def neutral(self) -> Mapping[str, NDArray[Any]]:
        """An identity for no output projection; zeros for the biases that are missing beside others."""
        heads, _, _, value_dim = self.widths(self.request)
        weights = self.request.weights
        kernels = {"output_kernel": np.eye(heads * value_dim), **weights}
        biases = {f"{n}_bias": np.zeros(kernels[f"{n}_kernel"].shape[1]) for n in _PROJECTIONS}
        return {"output_kernel": kernels["output_kernel"], **(biases if self.biased else {})}

    @property
    def biased(self) -> bool:
        """Whether the module has biases: all four, or none."""
        return any(f"{n}_bias" in self.request.weights for n in _PROJECTIONS)

    def sizes(self) -> Mapping[str, int]:
        """Heads, and key heads."""
        heads = self.config["heads"]
        return {"head": heads, "kv": self.config.get("kv_heads") or heads}

    def layouts(self) -> Sequence[Parameter]:
        """Kernels and biases have an axis for the heads."""
        return [
            Parameter("query.kernel", "query_kernel", "channel (head dim) -> channel head dim"),
            Parameter("query.bias", "query_bias", "(head dim) -> head dim"),
            *(Parameter(f"{n}.kernel", f"{n}_kernel", "channel (kv dim) -> channel kv dim") for n in ("key", "value")),
            *(Parameter(f"{n}.bias", f"{n}_bias", "(kv dim) -> kv dim") for n in ("key", "value")),
            Parameter("out.kernel", "output_kernel", "(head dim) out -> head dim out"),
            Parameter("out.bias", "output_bias", "out -> out"),
        ]

    def options(self) -> dict[str, Any]:
        """The constructor's arguments that both modules have."""
        heads, _, dim, _ = self.widths(self.request)
        out = self.request.weights.get("output_kernel")
        return {
            "num_heads": heads,
            "qkv_features": heads * dim,
            "out_features": heads * dim if out is None else out.shape[1],
            "use_bias": self.biased,
            "param_dtype": self.dtype,
        }

    def arguments(self) -> tuple[Sequence[Any], Mapping[str, Any]]:
        """Query, key and value inputs, as far as they are given, and a mask that carries the causality."""
        query, key, value = self.read()
        causal, mask = self.config.get("causal"), self.four()
        if causal is not None and not self.has_causal(causal):
            mask = joined(mask, causal_mask(causal, query.shape[1], key.shape[1])[None, None])
        given = (query, key, value) if value is not key else (query, key) if key is not query else (query,)
        return given, {} if mask is None else {"mask": self.array(mask)}

    def has_causal(self, alignment: str) -> bool:
        """Whether the module has an option for this causality."""
        return False


class NnxMultiHeadAttention(_FlaxModule, NnxSubject):
    """flax.nnx.MultiHeadAttention."""

    name: ClassVar[str] = "flax.nnx.MultiHeadAttention"

    @classmethod
    def refuses(cls, request: Request) -> str | None:
        """Its keys and values have one input width."""
        key, value = (request.weights[f"{n}_kernel"].shape[0] for n in ("key", "value"))
        if key != value:
            return f"its key and value inputs are equally wide, not {key} and {value}"
        return super().refuses(request)

    def make(self) -> Any:
        """The module, with grouped key heads where the request has them."""
        from flax import nnx

        heads, kv_heads, _, _ = self.widths(self.request)
        named = self.options()
        if kv_heads != heads:
            accepts(nnx.MultiHeadAttention.__init__, "num_kv_heads")
            named["num_kv_heads"] = kv_heads
        weights = self.request.weights
        return nnx.MultiHeadAttention(
            in_features=weights["query_kernel"].shape[0],
            in_kv_features=weights["key_kernel"].shape[0],
            decode=False,
            rngs=nnx.Rngs(0),
            **named,
        )

    def has_causal(self, alignment: str) -> bool:
        """`is_causal` is aligned to the top left."""
        return alignment == "top-left"

    def apply(self, module: Any) -> jax.Array:
        """The module's output."""
        positional, named = self.arguments()
        if module.decode is None:  # it wants to be told
            named = {**named, "decode": False}
        if self.config.get("causal") == "top-left":
            accepts(type(module).__call__, "is_causal")
            named = {**named, "is_causal": True}
        return module(*positional, **named)


class LinenMultiHeadAttention(_FlaxModule, LinenSubject):
    """flax.linen.MultiHeadDotProductAttention."""

    name: ClassVar[str] = "flax.linen.MultiHeadDotProductAttention"

    @classmethod
    def refuses(cls, request: Request) -> str | None:
        """It has as many key heads as query heads."""
        heads, kv_heads, _, _ = cls.widths(request)
        if kv_heads != heads:
            return f"it has as many key heads as query heads ({heads}), not {kv_heads}"
        return super().refuses(request)

    def make(self) -> Any:
        """The module."""
        from flax import linen

        return linen.MultiHeadDotProductAttention(**self.options())


class LinenSelfAttention(LinenMultiHeadAttention):
    """flax.linen.SelfAttention, which is deprecated: it is met in users' models, and not made here."""

    name: ClassVar[str] = "flax.linen.SelfAttention"

    @classmethod
    def refuses(cls, request: Request) -> str | None:
        """It has one input."""
        if any(request.inputs.get(n) is not None for n in ("key_input", "value_input")):
            return "its keys and values are made of the query's input"
        return super().refuses(request)


SUBJECTS = (
    JaxDotProductAttention,
    LinenDotProductAttention,
    NnxMultiHeadAttention,
    LinenMultiHeadAttention,
    JaxProjectedAttention,
    LinenProjectedAttention,
)
