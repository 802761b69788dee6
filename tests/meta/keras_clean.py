"""What is right in Keras, in other forms than the oracle's: layers with `keras.ops`, and Keras's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clean import CleanCorpus
from keras_attention import Attention, Tensor, keras, ops
from keras_faults import Layer
from problem import attention, by_position
from problems import CONVOLUTIONS, CROSS, GELU, LINEARS, LSTM, NORMS, PADDED, PROJECTED, SELF, SOFTMAXES, TANH_GELU
from watched_tensorflow import in_tensorflow

Weights = Mapping[str, Tensor]
Config = Mapping[str, Any]

CLEAN = CleanCorpus("Keras", in_tensorflow)
FLOAT32 = ("float32",)  # for what Keras computes in float32, whatever it is given
CAUSAL = attention(causal="top-left", times=(4, 7))

CLEAN.add({**PROJECTED, "causal": CAUSAL})(Attention)


@CLEAN.add(PROJECTED, compiled=True)
class KerasQueryScaled(Attention):
    """As keras.layers.MultiHeadAttention has it: the query is scaled, not the scores."""

    def query(self, x: Tensor) -> Tensor:
        return super().query(x) * self.head_dim**-0.5

    def scale(self, scores: Tensor) -> Tensor:
        return scores


@CLEAN.add({**PROJECTED, "causal": CAUSAL})
class KerasSoftmaxLayer(Attention):
    """A large negative number added, and keras.layers.Softmax, which takes a mask and adds its own."""

    def mask(self, scores: Tensor, seen: Tensor) -> Tensor:
        return scores + (1 - ops.cast(seen, self.compute_dtype)) * -1e9

    def normalise(self, scores: Tensor) -> Tensor:
        return keras.layers.Softmax(dtype=self.compute_dtype)(scores, mask=scores > -1e8)


@CLEAN.add({"self": SELF, "cross": CROSS, "padded": PADDED})
class KerasEinsumDense(keras.layers.Layer):
    """EinsumDense for the projections: kernels `channel head dim`, and one over head and dim on the way out."""

    def __init__(self, weights: Weights, config: Config) -> None:
        dtype = weights["query_kernel"].dtype.name
        super().__init__(dtype=dtype)
        self.supports_masking = True
        self.dense = {}
        for part in ("query", "key", "value", "output"):
            kernel, bias = weights[f"{part}_kernel"], weights[f"{part}_bias"]
            if part == "output":
                layer = keras.layers.EinsumDense("bthd,hdc->btc", (None, bias.shape[0]), bias_axes="c", dtype=dtype)
                layer.build((None, None, 3, kernel.shape[0] // 3))
            else:
                shape = (None, 3, kernel.shape[1] // 3)
                layer = keras.layers.EinsumDense("btc,chd->bthd", shape, bias_axes="hd", dtype=dtype)
                layer.build((None, None, kernel.shape[0]))
            layer.set_weights([ops.reshape(kernel, layer.kernel.shape), ops.reshape(bias, layer.bias.shape)])
            self.dense[part] = layer
        self.built = True

    def call(self, query_input: Tensor, key_input: Any = None, value_input: Any = None, mask: Any = None) -> Tensor:
        key_input = query_input if key_input is None else key_input
        value_input = key_input if value_input is None else value_input
        query, key = self.dense["query"](query_input) * 0.5, self.dense["key"](key_input)
        scores = ops.einsum("bkhd,bqhd->bhqk", key, query)
        if mask is not None:
            scores = scores + ops.where(mask[:, None, None, :], ops.zeros([], scores.dtype), -1e9)
        weights = ops.softmax(scores)
        return self.dense["output"](ops.einsum("bhqk,bkhd->bqhd", weights, self.dense["value"](value_input)))


@CLEAN.add({"self": SELF, "cross": CROSS}, dtypes=FLOAT32, compiled=True)
class KerasOwnAttention(Attention):
    """ops.dot_product_attention, which wants `batch time head dim`."""

    def call(self, query_input: Tensor, key_input: Any = None, value_input: Any = None) -> Tensor:
        key_input = query_input if key_input is None else key_input
        value_input = key_input if value_input is None else value_input
        query, key, value = (
            ops.reshape(self.dense[part](x), (*x.shape[:2], self.heads, -1))
            for part, x in (("query", query_input), ("key", key_input), ("value", value_input))
        )
        context = ops.dot_product_attention(query, key, value)
        return self.dense["output"](ops.reshape(context, (*context.shape[:2], -1)))


# -- other layers --------------------------------------------------------------------------------------------


@CLEAN.add(NORMS)
class KerasNormWelford(Layer):
    """Mean and sum of squares updated element by element, as Welford did."""

    def call(self, x: Tensor) -> Tensor:
        mean = squares = ops.zeros_like(x[..., :1])
        for count in range(min(x.shape[-1], 64)):
            before = x[..., count : count + 1] - mean
            mean = mean + before / (count + 1)
            squares = squares + before * (x[..., count : count + 1] - mean)
        rest = x[..., 64:]
        if rest.shape[-1]:  # and what is left in one go, merged by Chan's formula
            size, other = 64, rest.shape[-1]
            theirs = ops.mean(rest, -1, keepdims=True)
            apart = theirs - mean
            squares = squares + ops.sum(ops.square(rest - theirs), -1, keepdims=True)
            squares = squares + ops.square(apart) * (size * other / (size + other))
            mean = mean + apart * (other / (size + other))
        variance = squares / x.shape[-1]
        normalized = (x - mean) / ops.sqrt(variance + self.config["epsilon"])
        return normalized * self.held["scale"] + self.held["bias"]


@CLEAN.add(NORMS, compiled=True)
class KerasNormMultipliedOut(Layer):
    def call(self, x: Tensor) -> Tensor:
        mean, variance = ops.mean(x, -1, keepdims=True), ops.var(x, -1, keepdims=True)
        r = ops.rsqrt(variance + self.config["epsilon"]) * self.held["scale"]
        return x * r + (self.held["bias"] - mean * r)


@CLEAN.add(LINEARS)
def keras_own_dense(w: Weights, c: Config) -> Any:
    dense = keras.layers.Dense(w["kernel"].shape[1], dtype=w["kernel"].dtype.name)
    dense.build((None, w["kernel"].shape[0]))
    dense.set_weights([w["kernel"], w["bias"]])
    return by_position(dense)


@CLEAN.add(LINEARS, compiled=True)
class KerasLinearInTiles(Layer):
    """Outputs in tiles of four, put together."""

    def call(self, x: Tensor) -> Tensor:
        kernel, bias = self.held["kernel"], self.held["bias"]
        tiles = [ops.matmul(x, kernel[:, n : n + 4]) + bias[n : n + 4] for n in range(0, kernel.shape[1], 4)]
        return ops.concatenate(tiles, axis=-1)


@CLEAN.add(SOFTMAXES)
class KerasOwnSoftmax(Layer):
    def call(self, x: Tensor) -> Tensor:
        return ops.softmax(x, axis=self.config["axis"])


@CLEAN.add(SOFTMAXES, compiled=True)
class KerasSoftmaxByHand(Layer):
    def call(self, x: Tensor) -> Tensor:
        powers = ops.exp(x - ops.max(x, axis=self.config["axis"], keepdims=True))
        return powers * ops.reciprocal(ops.sum(powers, axis=self.config["axis"], keepdims=True))


@CLEAN.add(GELU, dtypes=FLOAT32)
class KerasOwnGelu(Layer):
    def call(self, x: Tensor) -> Tensor:
        return ops.gelu(x, approximate=False)


@CLEAN.add(TANH_GELU, dtypes=FLOAT32, compiled=True)
class KerasOwnGeluByTanh(Layer):
    def call(self, x: Tensor) -> Tensor:
        return ops.gelu(x, approximate=True)


@CLEAN.add(LSTM)
def keras_own_lstm(w: Weights, c: Config) -> Any:
    layer = keras.layers.LSTM(4, return_sequences=True, unroll=True, dtype=w["kernel"].dtype.name)
    layer.build((None, None, 3))
    layer.set_weights([w["kernel"], w["recurrent_kernel"], w["bias"]])
    return by_position(layer)


@CLEAN.add(CONVOLUTIONS, dtypes=FLOAT32)
class KerasOwnConvolution(Layer):
    def call(self, x: Tensor) -> Tensor:
        return ops.conv(x, self.held["kernel"], strides=self.config["strides"], padding="same") + self.held["bias"]
