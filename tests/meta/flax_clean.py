"""What is right in Flax, in other forms than the oracle's: modules, and Flax's own layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from clean import CleanCorpus
from flax import linen, nnx
from flax_attention import Attention, loaded
from jax import Array
from problem import attention, by_position
from problems import CROSS, GELU, LINEARS, NORMS, PADDED, PROJECTED, SELF, TANH_GELU
from watched_jax import in_jax

Weights = Mapping[str, Array]
Config = Mapping[str, Any]

CLEAN = CleanCorpus("Flax", in_jax)


CLEAN.add(PROJECTED)(Attention)
CLEAN.add(attention(causal="top-left", times=(4, 7)))(Attention)


@CLEAN.add(PROJECTED, compiled=True)
class FlaxKernelScaled(Attention):
    """The scale is in the query's kernel and bias."""

    def __init__(self, weights: Weights, config: Config) -> None:
        super().__init__(weights, config)
        scale = self.head_dim**-0.5
        self.query.kernel[...] = self.query.kernel[...] * scale
        self.query.bias[...] = self.query.bias[...] * scale

    def scale(self, scores: Array) -> Array:
        return scores


@CLEAN.add(PROJECTED)
class FlaxSoftmaxInTwo(Attention):
    """Log-softmax and a power, and a mask of large negative numbers."""

    def mask(self, scores: Array, seen: Array) -> Array:
        return scores + jnp.where(seen, 0, jnp.finfo(scores.dtype).min)

    def normalise(self, scores: Array) -> Array:
        return jnp.exp(nnx.log_softmax(scores))


@CLEAN.add({"self": SELF, "padded": PADDED}, compiled=True)
class FlaxPackedProjection(nnx.Module):
    """One projection for query, key and value, side by side in each head, its kernel laid out for that."""

    def __init__(self, weights: Weights, config: Config) -> None:
        self.heads = config["heads"]
        self.kernel, self.bias = (
            nnx.Param(
                jnp.stack(
                    [weights[f"{p}_{name}"].reshape(*lead, self.heads, -1) for p in ("query", "key", "value")], -2
                ).reshape(*lead, -1)
            )
            for name, lead in (("kernel", (12,)), ("bias", ()))
        )
        self.output = loaded(weights, "output")

    def __call__(self, query_input: Array, mask: Array | None = None) -> Array:
        packed = query_input @ self.kernel[...] + self.bias[...]
        parts = packed.reshape(*query_input.shape[:2], self.heads, 3, -1)
        query, key, value = (jnp.moveaxis(parts[..., i, :], 2, 1) for i in range(3))
        scores = jnp.einsum("bhqd,bhkd->bhqk", query, key) / 2
        if mask is not None:
            scores = jnp.where(mask[:, None, None, :], scores, -jnp.inf)
        context = jnp.einsum("bhqk,bhkd->bqhd", nnx.softmax(scores), value)
        return self.output(context.reshape(*query_input.shape[:2], -1))


@CLEAN.add({"self": SELF, "cross": CROSS})
def flax_general_dense(w: Weights, c: Config) -> Any:
    """linen.DenseGeneral: kernels `channel head dim`, and one over head and dim on the way out."""

    def project(part: str, x: Array, features: Any, axis: Any = -1) -> Array:
        lead = x.shape[-2:] if isinstance(axis, tuple) else x.shape[-1:]
        shape = (features,) if isinstance(features, int) else features
        held = {
            "kernel": w[f"{part}_kernel"].reshape(*lead, *shape),
            "bias": w[f"{part}_bias"].reshape(shape),
        }
        return linen.DenseGeneral(features, axis=axis, param_dtype=x.dtype).apply({"params": held}, x)

    def call(query_input: Array, key_input: Array | None = None, value_input: Array | None = None) -> Array:
        key_input = query_input if key_input is None else key_input
        value_input = key_input if value_input is None else value_input
        width = w["value_kernel"].shape[1] // 3
        query, key = project("query", query_input, (3, 4)), project("key", key_input, (3, 4))
        weights = linen.softmax(jnp.einsum("bqhd,bkhd->bhqk", query * 0.5, key))
        context = jnp.einsum("bhqk,bkhd->bqhd", weights, project("value", value_input, (3, width)))
        return project("output", context, w["output_bias"].shape[0], (-2, -1))

    return call


@CLEAN.add(NORMS)
def flax_own_norm(w: Weights, c: Config) -> nnx.LayerNorm:
    layer = nnx.LayerNorm(
        len(w["scale"]), epsilon=c["epsilon"], use_fast_variance=False, param_dtype=w["scale"].dtype, rngs=nnx.Rngs(0)
    )
    layer.scale[...], layer.bias[...] = w["scale"], w["bias"]
    return layer


@CLEAN.add(NORMS, compiled=True)
class FlaxNormByStd(nnx.Module):
    def __init__(self, weights: Weights, config: Config) -> None:
        self.scale, self.bias = nnx.Param(weights["scale"]), nnx.Param(weights["bias"])
        self.epsilon = config["epsilon"]

    def __call__(self, x: Array) -> Array:
        variance = jnp.mean(jnp.square(x - x.mean(-1, keepdims=True)), -1, keepdims=True)
        return (
            jnp.divide(x - x.mean(-1, keepdims=True), jnp.sqrt(variance + self.epsilon)) * self.scale[...]
            + self.bias[...]
        )


@CLEAN.add(LINEARS)
def flax_own_dense(w: Weights, c: Config) -> Any:
    dense = linen.Dense(w["kernel"].shape[1], param_dtype=w["kernel"].dtype)
    return lambda x: dense.apply({"params": dict(w)}, x)


@CLEAN.add(LINEARS, compiled=True)
def flax_einsum_layer(w: Weights, c: Config) -> Any:
    layer = nnx.Einsum(
        "...i,io->...o", w["kernel"].shape, w["bias"].shape, param_dtype=w["kernel"].dtype, rngs=nnx.Rngs(0)
    )
    layer.kernel[...], layer.bias[...] = w["kernel"], w["bias"]
    return by_position(layer)


@CLEAN.add(GELU)
def flax_gelu_exact(w: Weights, c: Config) -> Any:
    return lambda x: nnx.gelu(x, approximate=False)


@CLEAN.add(TANH_GELU)
def flax_gelu_approximate(w: Weights, c: Config) -> Any:
    return linen.gelu
