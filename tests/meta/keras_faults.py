"""Faults in Keras layers, with `keras.ops`, as people write them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keras_attention import Attention, Tensor, keras, ops
from planted import Corpus
from problem import attention, by_position, lengths
from problems import CONVOLUTION, CROSS, GELU, GROUPED, LINEAR, LSTM, NORM, PADDED, ROTARY, SELF, SOFTMAX
from watched_tensorflow import in_tensorflow

Weights = Mapping[str, Tensor]
Config = Mapping[str, Any]

FAULTS = Corpus("Keras", in_tensorflow)

CAUSAL = attention(causal="top-left", times=(4, 7))
DEAD = attention(mask=lengths(0, 4, times=5))


# -- attention -----------------------------------------------------------------------------------------------


@FAULTS.plant(CROSS, "scaled", {"attention.scale": "1"}, compiled=True)
class KerasNotScaled(Attention):
    """As keras.layers.Attention does by default."""

    def scale(self, scores: Tensor) -> Tensor:
        return scores


@FAULTS.plant(CROSS, "weights", {"attention.softmax-axis": "query"})
class KerasSoftmaxOverQueries(Attention):
    def normalise(self, scores: Tensor) -> Tensor:
        return ops.softmax(scores, axis=2)


@FAULTS.plant(PADDED, "masked", {"attention.mask-polarity": "true-blocks"}, compiled=True)
class KerasMaskInverted(Attention):
    def mask(self, scores: Tensor, seen: Tensor) -> Tensor:
        return scores + ops.cast(seen, self.compute_dtype) * -1e9


@FAULTS.plant(PADDED, "masked", {"attention.mask-fill": "-1e-25"})
class KerasFilledWithATinyNumber(Attention):
    def mask(self, scores: Tensor, seen: Tensor) -> Tensor:
        return ops.where(seen, scores, ops.cast(-1e-25, self.compute_dtype))


@FAULTS.plant(DEAD, "weights", {"attention.fully-masked-row": "uniform"})
class KerasDeadRowUniform(Attention):
    """The layer as it is: large negative numbers, and a softmax that knows nothing of masks."""


@FAULTS.plant(CROSS, "scores", {"attention.head-split": "reshape-without-transpose"}, also=("context",))
class KerasReshapedIntoHeads(Attention):
    def split(self, x: Tensor, heads: int) -> Tensor:
        return ops.reshape(x, (x.shape[0], heads, x.shape[1], -1))


@FAULTS.plant(CROSS, "merged", {"attention.head-merge": "interleaved"})
class KerasHeadsLast(Attention):
    def merge(self, context: Tensor) -> Tensor:
        batch, heads, time, dim = context.shape
        return ops.reshape(ops.transpose(context, (0, 2, 3, 1)), (batch, time, heads * dim))


@FAULTS.plant(CROSS, "key")
class KerasValueBeforeKey(Attention):
    """Keras's order of arguments, query, value, key, for a call by position in the other order."""

    def call(self, query_input: Tensor, key_input: Tensor, value_input: Tensor) -> Tensor:
        return super().call(query_input, value_input, value_input)


@FAULTS.plant(SELF, "output")
class KerasActivationLeftOn(Attention):
    """A relu after the output projection."""

    def project(self, merged: Tensor) -> Tensor:
        return ops.relu(super().project(merged))


@FAULTS.plant(
    GROUPED,
    "scores",
    {"attention.kv-head-repeat": "tiled", "attention.softmax-axis": "query"},
    also=("weights", "context"),
    faults=2,
)
class KerasHeadsTiledAndOverQueries(KerasSoftmaxOverQueries):
    def repeat(self, x: Tensor) -> Tensor:
        return ops.tile(x, (1, self.heads // x.shape[1], 1, 1))


@FAULTS.plant(
    CAUSAL,
    "scaled",
    {"attention.scale": "sqrt(head_dim)", "attention.causal-alignment": "bottom-right"},
    also=("masked",),
    faults=2,
    compiled=True,
)
class KerasMultipliedAndCausalFromTheEnd(Attention):
    def scale(self, scores: Tensor) -> Tensor:
        return scores * ops.sqrt(ops.cast(self.head_dim, self.compute_dtype))

    def triangle(self, queries: int, keys: int) -> Tensor:
        return ops.arange(keys)[None, :] <= ops.arange(queries)[:, None] + (keys - queries)


@FAULTS.plant(
    PADDED,
    "masked",
    {"attention.mask-fill": "additive-0-1", "attention.head-merge": "reshape-without-transpose"},
    also=("merged",),
    faults=2,
)
class KerasMaskAddedAndMergedByReshape(Attention):
    def mask(self, scores: Tensor, seen: Tensor) -> Tensor:
        return scores + ops.cast(seen, self.compute_dtype)

    def merge(self, context: Tensor) -> Tensor:
        batch, heads, time, dim = context.shape
        return ops.reshape(context, (batch, time, heads * dim))


# -- other layers --------------------------------------------------------------------------------------------


class Layer(keras.layers.Layer):
    """A layer that holds its weights as variables of their own dtype."""

    def __init__(self, weights: Weights, config: Config) -> None:
        dtype = next((w.dtype.name for w in weights.values()), None)
        super().__init__(dtype=dtype, autocast=dtype is not None)
        self.held = {}
        for name, array in weights.items():
            self.held[name] = self.add_weight(shape=array.shape, name=name)
            self.held[name].assign(array)
        self.config = dict(config)
        self.built = True


@FAULTS.plant(NORM, "mean", {"norm.axes": "all-but-batch"}, also=("variance",))
class KerasNormOverTimeToo(Layer):
    def call(self, x: Tensor) -> Tensor:
        mean, variance = ops.moments(x, axes=(1, 2), keepdims=True)
        return (x - mean) / ops.sqrt(variance + self.config["epsilon"]) * self.held["scale"] + self.held["bias"]


@FAULTS.plant(NORM, "normalized", {"norm.epsilon-placement": "outside-sqrt"})
class KerasNormByStd(Layer):
    def call(self, x: Tensor) -> Tensor:
        deviation = ops.std(x, axis=-1, keepdims=True) + self.config["epsilon"]
        return (x - ops.mean(x, axis=-1, keepdims=True)) / deviation * self.held["scale"] + self.held["bias"]


@FAULTS.plant(GELU, "output", {"gelu.approximation": "sigmoid"}, dtypes=("float32",))
class KerasGeluQuick(Layer):
    def call(self, x: Tensor) -> Tensor:
        return x * ops.sigmoid(1.702 * x)


@FAULTS.plant(LINEAR, "output", {"weights.mismatch": "different weights"})
class KerasLinearBiasSubtracted(Layer):
    def call(self, x: Tensor) -> Tensor:
        return ops.matmul(x, self.held["kernel"]) - self.held["bias"]


@FAULTS.plant(SOFTMAX, "output")
class KerasSoftmaxOverAnotherAxis(Layer):
    def call(self, x: Tensor) -> Tensor:
        return ops.softmax(x, axis=1)


@FAULTS.plant(LSTM, "input_gate", {"lstm.recurrent-activation": "hard_sigmoid"}, also=("forget_gate", "output_gate"))
class KerasLstmHardSigmoid(Layer):
    """Keras 1's default, in a cell that is unrolled by hand."""

    def gate(self, inner: Tensor) -> Tensor:
        return ops.clip(inner * 0.2 + 0.5, 0, 1)

    def forget(self, inner: Tensor) -> Tensor:
        return inner

    def call(self, x: Tensor) -> Tensor:
        hidden = cell = ops.zeros((x.shape[0], self.held["recurrent_kernel"].shape[0]), x.dtype)
        outputs = []
        for t in range(x.shape[1]):
            inner = ops.matmul(x[:, t], self.held["kernel"]) + ops.matmul(hidden, self.held["recurrent_kernel"])
            i, f, g, o = ops.split(inner + self.held["bias"], 4, axis=-1)
            cell = self.gate(self.forget(f)) * cell + self.gate(i) * ops.tanh(g)
            hidden = self.gate(o) * ops.tanh(cell)
            outputs.append(hidden)
        return ops.stack(outputs, axis=1)


@FAULTS.plant(
    LSTM,
    "input_gate",
    {"lstm.recurrent-activation": "hard_sigmoid", "lstm.forget-bias": "1"},
    also=("forget_gate", "output_gate"),
    faults=2,
)
class KerasLstmHardSigmoidAndForgetBias(KerasLstmHardSigmoid):
    def forget(self, inner: Tensor) -> Tensor:
        return inner + 1


@FAULTS.plant(CONVOLUTION, "convolved", {"conv.flip": "convolution"}, dtypes=("float32",))
class KerasConvolutionFlipped(Layer):
    def call(self, x: Tensor) -> Tensor:
        kernel = ops.flip(self.held["kernel"], axis=(0, 1))
        return ops.conv(x, kernel, strides=2, padding="same") + self.held["bias"]


@FAULTS.plant(ROTARY, "rotated", {"rope.pairing": "interleaved"})
class KerasRotatedInPairs(Layer):
    def call(self, x: Tensor) -> Tensor:
        pairs = ops.arange(0, x.shape[-1], 2, dtype=x.dtype) / x.shape[-1]
        angles = ops.arange(x.shape[1], dtype=x.dtype)[:, None] * ops.power(ops.cast(10000, x.dtype), -pairs)
        cosine, sine = ops.cos(angles)[:, None, :], ops.sin(angles)[:, None, :]
        first, second = x[..., 0::2], x[..., 1::2]
        turned = ops.stack([first * cosine - second * sine, second * cosine + first * sine], axis=-1)
        return ops.reshape(turned, x.shape)


# -- weights and numbers -------------------------------------------------------------------------------------


@FAULTS.plant(NORM, "normalized", {"norm.epsilon": "0.001"})
def keras_norm_of_the_default_epsilon(w: Weights, c: Config) -> Any:
    layer = keras.layers.LayerNormalization(dtype=w["scale"].dtype.name)
    layer.build((None, None, 7))
    layer.set_weights([w["scale"], w["bias"]])
    return by_position(layer)


@FAULTS.plant(SELF, "output", {"linear.kernel-orientation": "out,in"})
class KerasOutputKernelAsInTorch(Attention):
    def __init__(self, weights: Weights, config: Config) -> None:
        super().__init__({**weights, "output_kernel": ops.transpose(weights["output_kernel"])}, config)


@FAULTS.plant(CROSS, "scaled", {"attention.scale": "0.3"})
class KerasScaleOfAnotherLayer(Attention):
    def scale(self, scores: Tensor) -> Tensor:
        return scores * 0.3
