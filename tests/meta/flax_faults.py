"""Faults in Flax modules: attention with its own projections, and layers beside it, as people write them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen, nnx
from flax_attention import Attention
from jax import Array
from planted import Corpus
from problem import attention, lengths
from problems import CONVOLUTION, CROSS, GELU, GROUPED, LINEAR, NORM, PADDED, SELF, SOFTMAX
from watched_jax import in_jax

Weights = Mapping[str, Array]
Config = Mapping[str, Any]

FAULTS = Corpus("Flax", in_jax)

CAUSAL = attention(causal="top-left", times=(4, 7))
DEAD = attention(mask=lengths(0, 4, times=5))


# -- attention -----------------------------------------------------------------------------------------------


@FAULTS.plant(CROSS, "scaled", {"attention.scale": "1/sqrt(model_dim)"}, compiled=True)
class FlaxScaledByModelDim(Attention):
    def scale(self, scores: Array) -> Array:
        return scores / jnp.sqrt(self.query.out_features).astype(scores.dtype)


@FAULTS.plant(CROSS, "scores", {"attention.head-split": "interleaved"}, also=("context",))
class FlaxHeadsLast(Attention):
    """`batch time dim head`, with kernels that were laid out for `batch time head dim`."""

    def split(self, x: Array, heads: int) -> Array:
        return jnp.moveaxis(x.reshape(*x.shape[:2], -1, heads), -1, 1)


@FAULTS.plant(CROSS, "merged", {"attention.head-merge": "reshape-without-transpose"})
class FlaxMergedByReshapeAlone(Attention):
    def merge(self, context: Array) -> Array:
        batch, heads, time, dim = context.shape
        return context.reshape(batch, time, heads * dim)


@FAULTS.plant(PADDED, "masked", {"attention.mask-fill": "additive-0-1"}, compiled=True)
class FlaxMaskAsBias(Attention):
    """The mask goes where the bias of nnx.dot_product_attention would."""

    def mask(self, scores: Array, seen: Array) -> Array:
        return scores + seen.astype(scores.dtype)


@FAULTS.plant(PADDED, "masked", {"attention.mask-fill": "0"})
class FlaxMaskMultiplied(Attention):
    def mask(self, scores: Array, seen: Array) -> Array:
        return scores * seen


@FAULTS.plant(CAUSAL, "masked", {"attention.causal-alignment": "bottom-right"})
class FlaxCausalFromTheEnd(Attention):
    def triangle(self, queries: int, keys: int) -> Array:
        return jnp.tri(queries, keys, keys - queries, dtype=bool)


@FAULTS.plant(DEAD, "weights", {"attention.fully-masked-row": "nan"})
class FlaxDeadRowNan(Attention):
    def normalise(self, scores: Array) -> Array:
        return nnx.softmax(scores)


@FAULTS.plant(GROUPED, "scores", {"attention.kv-head-repeat": "tiled"}, also=("context",))
class FlaxHeadsTiled(Attention):
    def repeat(self, x: Array) -> Array:
        return jnp.tile(x, (1, self.heads // x.shape[1], 1, 1))


@FAULTS.plant(SELF, "context")
class FlaxDropoutLeftOn(Attention):
    def normalise(self, scores: Array) -> Array:
        keep = jax.random.bernoulli(jax.random.key(3), 0.9, scores.shape)
        return jnp.where(keep, nnx.softmax(scores) / jnp.asarray(0.9, scores.dtype), 0)


@FAULTS.plant(
    CROSS,
    "scaled",
    {"attention.scale": "1/head_dim", "attention.head-merge": "interleaved"},
    also=("merged",),
    faults=2,
    compiled=True,
)
class FlaxScaledWithoutRootAndMergedInterleaved(Attention):
    def scale(self, scores: Array) -> Array:
        return scores / self.head_dim

    def merge(self, context: Array) -> Array:
        return jnp.moveaxis(context, 1, -1).reshape(*context.shape[::2], -1)


@FAULTS.plant(
    PADDED,
    "masked",
    {"attention.mask-polarity": "true-blocks", "attention.head-merge": "interleaved"},
    also=("merged",),
    faults=2,
)
class FlaxMaskInvertedAndMergedInterleaved(Attention):
    def mask(self, scores: Array, seen: Array) -> Array:
        return jnp.where(seen, jnp.finfo(scores.dtype).min, scores)

    def merge(self, context: Array) -> Array:
        return jnp.moveaxis(context, 1, -1).reshape(*context.shape[::2], -1)


@FAULTS.plant(
    GROUPED,
    "scores",
    {"attention.kv-head-repeat": "tiled", "attention.scale": "1"},
    also=("scaled", "context"),
    faults=2,
)
class FlaxHeadsTiledAndNotScaled(FlaxHeadsTiled):
    def scale(self, scores: Array) -> Array:
        return scores


@FAULTS.plant(
    CROSS,
    "scores",
    {"attention.head-split": "reshape-without-transpose", "attention.head-merge": "reshape-without-transpose"},
    also=("context", "merged"),
    faults=2,
)
class FlaxReshapedThereAndBack(FlaxMergedByReshapeAlone):
    """Time and head mixed on the way in, and on the way out again."""

    def split(self, x: Array, heads: int) -> Array:
        return x.reshape(x.shape[0], heads, x.shape[1], -1)


# -- other layers --------------------------------------------------------------------------------------------


@FAULTS.plant(NORM, "normalized", {"norm.epsilon-placement": "outside-sqrt"})
class FlaxNormEpsilonOutside(nnx.Module):
    def __init__(self, weights: Weights, config: Config) -> None:
        self.scale, self.bias = nnx.Param(weights["scale"]), nnx.Param(weights["bias"])
        self.epsilon = config["epsilon"]

    def __call__(self, x: Array) -> Array:
        deviation = jnp.std(x, axis=-1, keepdims=True)
        return (x - jnp.mean(x, axis=-1, keepdims=True)) / (deviation + self.epsilon) * self.scale[...] + self.bias[...]


@FAULTS.plant(NORM, "output")
def flax_norm_without_bias(w: Weights, c: Config) -> nnx.LayerNorm:
    """Flax's own layer, the bias forgotten on conversion."""
    layer = nnx.LayerNorm(
        7, epsilon=c["epsilon"], use_fast_variance=False, param_dtype=w["scale"].dtype, rngs=nnx.Rngs(0)
    )
    layer.scale[...] = w["scale"]
    return layer


@FAULTS.plant(GELU, "output", {"gelu.approximation": "tanh"}, compiled=True)
class FlaxGeluByDefault(nnx.Module):
    """nnx.gelu approximates unless it is told not to."""

    def __init__(self, weights: Weights, config: Config) -> None:
        pass

    def __call__(self, x: Array) -> Array:
        return nnx.gelu(x)


@FAULTS.plant(SOFTMAX, "output")
class FlaxSoftmaxOfLogits(nnx.Module):
    """A softmax of a softmax, as where a loss that takes logits was given probabilities."""

    def __init__(self, weights: Weights, config: Config) -> None:
        pass

    def __call__(self, x: Array) -> Array:
        return nnx.softmax(nnx.softmax(x))


@FAULTS.plant(LINEAR, "output", {"weights.mismatch": "different weights"})
def flax_dense_without_bias(w: Weights, c: Config) -> Any:
    dense = linen.Dense(6, use_bias=False, param_dtype=w["kernel"].dtype)
    return lambda x: dense.apply({"params": {"kernel": w["kernel"]}}, x)


@FAULTS.plant(CONVOLUTION, "padded", {"conv.same-padding": "same-lower"})
def flax_convolution_padded_above(w: Weights, c: Config) -> Any:
    """Padding in pairs, with the odd pixel on the wrong side."""
    conv = linen.Conv(6, (3, 3), (2, 2), [(1, 0), (1, 0)], param_dtype=w["kernel"].dtype)
    return lambda x: conv.apply({"params": dict(w)}, x)


@FAULTS.plant(
    NORM,
    "variance",
    {"norm.variance": "bessel", "norm.epsilon-placement": "none"},
    also=("normalized",),
    faults=2,
)
class FlaxNormBesselWithoutEpsilon(nnx.Module):
    def __init__(self, weights: Weights, config: Config) -> None:
        self.scale, self.bias = nnx.Param(weights["scale"]), nnx.Param(weights["bias"])

    def __call__(self, x: Array) -> Array:
        normalized = (x - x.mean(-1, keepdims=True)) / jnp.std(x, axis=-1, keepdims=True, ddof=1)
        return normalized * self.scale[...] + self.bias[...]


# -- weights and numbers -------------------------------------------------------------------------------------


@FAULTS.plant(SELF, "query", {"linear.kernel-orientation": "out,in"})
class FlaxQueryKernelAsInTorch(Attention):
    def __init__(self, weights: Weights, config: Config) -> None:
        super().__init__({**weights, "query_kernel": weights["query_kernel"].T}, config)


@FAULTS.plant(NORM, "normalized", {"norm.epsilon": "1e-06"})
def flax_norm_of_the_default_epsilon(w: Weights, c: Config) -> nnx.LayerNorm:
    layer = nnx.LayerNorm(7, use_fast_variance=False, param_dtype=w["scale"].dtype, rngs=nnx.Rngs(0))
    layer.scale[...], layer.bias[...] = w["scale"], w["bias"]
    return layer
