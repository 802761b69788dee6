"""MATLAB's layers: their learnable parameters, the properties that are config, and the canonical layer that each is.

Sizes and orders are those of the reference pages in MathWorks' Deep Learning Toolbox documentation
(https://www.mathworks.com/help/deeplearning/ref/nnet.cnn.layer.<name in lower case>.html; of wordEmbeddingLayer:
https://www.mathworks.com/help/textanalytics/ref/nnet.cnn.layer.wordembeddinglayer.html), and where a page leaves an
order open, those of MathWorks' own converters from and to Keras. In particular:

- a recurrent layer's gates stand above one another, i, f, candidate, o in an LSTM and r, z, candidate in a GRU; in a
  bilstmLayer those of the backward direction are below those of the forward one;
- a gruLayer has 3n biases, or with ResetGateMode "recurrent-bias-after-multiplication" 6n, those of the state below;
- convolutions correlate, and have the first spatial axis first: MATLAB's `height width depth` are the canonical
  `depth height width` in this order, as both are only the first, second and third axis of the data;
- a transposed convolution has its filters before its channels;
- of a groupedConvolution2dLayer, groups are last;
- vectors of a normalisation are columns, which MATLAB turns to where the channels of its input are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from conformance.errors import Unsupported
from conformance.layers import get_layer
from conformance.layout import Parameter
from conformance_adapters.matlab_axes import times
from conformance_adapters.matlab_properties import (
    Option,
    Properties,
    always,
    averaged,
    chosen,
    exactly,
    margins,
    number,
    per_side,
    text,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class MatlabLayer:
    """A layer of MATLAB's, by the function that makes it.

    `fixed` is config that it always has; `ignored` is config that does not change what it computes with trained
    parameters.
    """

    function: str
    layer: str
    parameters: tuple[Parameter, ...] = ()
    options: tuple[Option, ...] = ()
    fixed: Mapping[str, Any] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()

    @property
    def properties(self) -> set[str]:
        """The names of all its properties that are known here."""
        return {p.name for p in self.parameters} | {name for option in self.options for name in option.properties}

    def config(self, properties: Properties) -> dict[str, Any]:
        """The config that `properties` say. Raises Unsupported for one that the canonical layer cannot have."""
        there = {n: value for n, value in properties.items() if np.size(value)}
        return {n: value for option in self.options for n, value in option.read(there).items()} | dict(self.fixed)

    def said(self, config: Mapping[str, Any]) -> dict[str, NDArray[Any] | str]:
        """The properties that say `config`. Raises Unsupported for one that the layer cannot have."""
        layer = get_layer(self.layer, config)
        whole = layer.complete(config)
        plain, known = layer.complete({}), {n for option in self.options for n in option.config}
        for name, value in whole.items():
            if name in self.fixed and value != self.fixed[name]:
                raise Unsupported(f"{self.function} has {name} = {self.fixed[name]!r}, not {value!r}")
            same = value == plain[name] or value == whole.get(layer.falls_back.get(name, ""), plain[name])
            if not same and name not in {*known, *self.fixed, *self.ignored}:
                raise Unsupported(f"{self.function} has no {name} = {value!r}")
        return {n: value for option in self.options for n, value in option.write(whole).items()}


def _vectors(channels: str, **names: str) -> tuple[Parameter, ...]:
    return tuple(Parameter(name, weight, f"{channels} -> {channels} 1") for name, weight in names.items())


_EPSILON = number("Epsilon", "epsilon")
_AFFINE = _vectors("channel", Scale="scale", Offset="bias")
_SPACE = {1: "length", 2: "height width", 3: "height width depth"}
_ONES = {1: "1", 2: "1 1", 3: "1 1 1"}
_ACTIVATIONS = (
    chosen("StateActivationFunction", "activation", {"tanh": "tanh", "relu": "relu"}),
    chosen(
        "GateActivationFunction", "recurrent_activation", {"sigmoid": "sigmoid", "hard-sigmoid": "hard_sigmoid_fifth"}
    ),
)
_SEQUENCE = {"merge": "concat"}
CHANNEL_WISE = "channel-wise"  # as many groups as channels


def _convolution(axes: int) -> MatlabLayer:
    modes = {"same": "same-upper", **({"causal": "causal"} if axes == 1 else {})}
    kernel = f"{_SPACE[axes]} channel out"
    return MatlabLayer(
        f"convolution{axes}dLayer",
        f"conv{axes}d",
        (
            Parameter("Weights", "kernel", f"{kernel} -> {kernel}"),
            Parameter("Bias", "bias", f"out -> {_ONES[axes]} out"),
        ),
        (
            per_side("Stride", "strides", axes),
            per_side("DilationFactor", "dilation", axes),
            margins("Padding", axes, modes),
        ),
        fixed={"groups": 1},
    )


def _transposed(axes: int) -> MatlabLayer:
    kernel = f"{_SPACE[axes]} out channel"
    return MatlabLayer(
        f"transposedConv{axes}dLayer",
        f"conv_transpose{axes}d",
        (
            Parameter("Weights", "kernel", f"{kernel} -> {kernel}"),
            Parameter("Bias", "bias", f"out -> {_ONES[axes]} out"),
        ),
        (per_side("Stride", "strides", axes), margins("Cropping", axes, {"same": "same-upper"})),
    )


_GROUPED_OPTIONS = (
    per_side("Stride", "strides", 2),
    per_side("DilationFactor", "dilation", 2),
    margins("Padding", 2, {"same": "same-upper"}),
)


def _pool(kind: str, axes: int) -> MatlabLayer:
    layer = {"max": "max_pool", "average": "average_pool"}[kind] + f"{axes}d"
    padding = margins("Padding", axes, {"same": "same-upper"})
    options = (per_side("PoolSize", "size", axes), per_side("Stride", "strides", axes, default=1), padding)
    # An average pool has a say in what its padding counts; for the other it is never the greatest.
    return MatlabLayer(
        f"{kind}Pooling{axes}dLayer", layer, options=(*options, averaged()) if kind == "average" else options
    )


def _recurrent(part: str, doubled: bool) -> tuple[Parameter, ...]:
    """`part` is what stands above one another: the directions."""
    weights = {"InputWeights": "kernel", "RecurrentWeights": "recurrent_kernel"}
    rows = {"InputWeights": "channel", "RecurrentWeights": "unit"}
    if part:
        return (
            *(
                Parameter(n, f"{w} reverse_{w}", f"part {rows[n]} gates -> (part gates) {rows[n]}")
                for n, w in weights.items()
            ),
            Parameter("Bias", "bias reverse_bias", "part gates -> (part gates) 1"),
        )
    plain = tuple(Parameter(n, w, f"{rows[n]} gates -> gates {rows[n]}") for n, w in weights.items())
    both = Parameter("Bias", "bias recurrent_bias", "part gates -> (part gates) 1")
    return (*plain, both if doubled else Parameter("Bias", "bias", "gates -> gates 1"))


_ATTENTION = (
    Parameter("QueryWeights", "query_kernel", "channel hdim -> hdim channel"),
    Parameter("KeyWeights", "key_kernel", "channel hdim -> hdim channel"),
    Parameter("ValueWeights", "value_kernel", "channel hvdim -> hvdim channel"),
    Parameter("OutputWeights", "output_kernel", "hvdim out -> out hvdim"),
    Parameter("QueryBias", "query_bias", "hdim -> hdim 1"),
    Parameter("KeyBias", "key_bias", "hdim -> hdim 1"),
    Parameter("ValueBias", "value_bias", "hvdim -> hvdim 1"),
    Parameter("OutputBias", "output_bias", "out -> out 1"),
)
_OPERATION = {"channel-only": 1, "auto": 1, "spatial-channel": 1}  # where there is no space, all are the same
_RESET = {
    "after-multiplication": "after",
    "recurrent-bias-after-multiplication": "after",
    "before-multiplication": "before",
}

LSTM = MatlabLayer(
    "lstmLayer", "lstm", _recurrent("", False), _ACTIVATIONS, fixed={"direction": "forward"}, ignored=("merge",)
)
BILSTM = MatlabLayer(
    "bilstmLayer", "lstm", _recurrent("part", False), _ACTIVATIONS, fixed={"direction": "bidirectional", **_SEQUENCE}
)
_GRU_OPTIONS = (chosen("ResetGateMode", "reset", _RESET), *_ACTIVATIONS)
GRU = MatlabLayer(
    "gruLayer", "gru", _recurrent("", False), _GRU_OPTIONS, fixed={"direction": "forward"}, ignored=("merge",)
)
GRU_OF_TWO_BIASES = MatlabLayer(
    "gruLayer",
    "gru",
    _recurrent("", True),
    (chosen("ResetGateMode", "reset", {"recurrent-bias-after-multiplication": "after"}), *_ACTIVATIONS),
    fixed={"direction": "forward", "reset": "after"},
    ignored=("merge",),
)
GROUPED = MatlabLayer(
    "groupedConvolution2dLayer",
    "conv2d",
    (
        Parameter("Weights", "kernel", "height width channel (group out) -> height width channel out group"),
        Parameter("Bias", "bias", "(group out) -> 1 1 out group"),
    ),
    (*_GROUPED_OPTIONS, number("NumGroups", "groups", int)),
)
DEPTHWISE = MatlabLayer(  # of as many groups as there are channels
    "groupedConvolution2dLayer",
    "depthwise_conv2d",
    (
        Parameter("Weights", "kernel", "height width group out -> height width 1 out group"),
        Parameter("Bias", "bias", "(group out) -> 1 1 out group"),
    ),
    (*_GROUPED_OPTIONS, always("NumGroups", CHANNEL_WISE)),
)

LAYERS: tuple[MatlabLayer, ...] = (
    MatlabLayer(
        "selfAttentionLayer",
        "multi_head_attention",
        _ATTENTION,
        (
            number("NumHeads", "heads", int),
            chosen("AttentionMask", "causal", {"none": None, "causal": "top-left"}),
        ),
    ),
    MatlabLayer(
        "fullyConnectedLayer",
        "linear",
        (Parameter("Weights", "kernel", "channel out -> out channel"), *_vectors("out", Bias="bias")),
    ),
    MatlabLayer("wordEmbeddingLayer", "embedding", (Parameter("Weights", "table", "index dim -> dim index"),)),
    *(_convolution(axes) for axes in (1, 2, 3)),
    GROUPED,
    DEPTHWISE,
    *(_transposed(axes) for axes in (1, 2, 3)),
    LSTM,
    BILSTM,
    GRU,
    GRU_OF_TWO_BIASES,
    MatlabLayer(
        "batchNormalizationLayer",
        "batch_norm",
        (*_AFFINE, *_vectors("channel", TrainedMean="moving_mean", TrainedVariance="moving_variance")),
        (_EPSILON,),
        fixed={"training": False},
        ignored=("momentum",),
    ),
    MatlabLayer(
        "layerNormalizationLayer",
        "layer_norm",
        _AFFINE,
        (_EPSILON, chosen("OperationDimension", "axes", _OPERATION)),
    ),
    MatlabLayer("groupNormalizationLayer", "group_norm", _AFFINE, (number("NumGroups", "groups", int), _EPSILON)),
    MatlabLayer("instanceNormalizationLayer", "instance_norm", _AFFINE, (_EPSILON,)),
    MatlabLayer("preluLayer", "prelu", (Parameter("Alpha", "slope", "channel -> channel 1"),)),
    MatlabLayer("leakyReluLayer", "leaky_relu", options=(number("Scale", "slope"),)),
    MatlabLayer("eluLayer", "elu", options=(number("Alpha", "alpha"),)),
    MatlabLayer(
        "geluLayer", "gelu", options=(chosen("Approximation", "approximation", {"none": "none", "tanh": "tanh"}),)
    ),
    MatlabLayer("dropoutLayer", "dropout", options=(number("Probability", "rate"),)),
    *(
        MatlabLayer(f"{name}Layer", layer)
        for name, layer in (
            ("softmax", "softmax"),
            ("relu", "relu"),
            ("sigmoid", "sigmoid"),
            ("tanh", "tanh"),
            ("swish", "silu"),
            ("softplus", "softplus"),
        )
    ),
    MatlabLayer("clippedReluLayer", "relu6", options=(exactly("Ceiling", 6),)),
    *(_pool(kind, axes) for kind in ("max", "average") for axes in (1, 2, 3)),
    *(MatlabLayer(f"globalAveragePooling{axes}dLayer", "global_average_pool") for axes in (1, 2, 3)),
    *(MatlabLayer(f"globalMaxPooling{axes}dLayer", "global_max_pool") for axes in (1, 2, 3)),
)


def matlab_layer(layer: str, config: Mapping[str, Any], weights: Iterable[str] = ()) -> MatlabLayer:
    """MATLAB's layer for the canonical `layer` with `config` and `weights`. Raises Unsupported where it has none."""
    if layer == "conv2d":
        return GROUPED if config.get("groups", 1) != 1 else next(kind for kind in LAYERS if kind.layer == "conv2d")
    if layer == "lstm" and "projection" in set(weights):
        raise Unsupported("MATLAB has no LSTM whose output is projected: lstmProjectedLayer projects what goes into it")
    if layer == "lstm":
        return BILSTM if config.get("direction") == "bidirectional" else LSTM
    if layer == "gru":
        return GRU_OF_TWO_BIASES if "recurrent_bias" in set(weights) else GRU
    found = next((kind for kind in LAYERS if kind.layer == layer), None)
    if found is None:
        raise Unsupported(f"matlab has no declared layout for {layer}")
    if layer == "layer_norm" and config.get("axes", 1) != 1:
        raise Unsupported("layerNormalizationLayer has one scale per channel, so it cannot normalise two axes")
    if layer == "multi_head_attention" and config.get("kv_heads") not in (None, config.get("heads", 1)):
        raise Unsupported("selfAttentionLayer has as many heads for keys as for queries")
    return found


def is_over_space(properties: Properties) -> bool:
    """Whether `properties` are a layerNormalizationLayer's that takes the mean of more than channels, by its
    OperationDimension and the axes of the recorded input: a group normalisation of one group."""
    said = text(properties, "OperationDimension")
    spatial = np.ndim(properties.get("X", 0)) > 3
    return said == "batch-excluded" or (spatial and said in ("auto", "spatial-channel"))


def read_config(layer: str, properties: Properties) -> dict[str, Any]:
    """The config that MATLAB's `properties` of the canonical `layer` say: also by their shapes.

    Raises Unsupported for one that the canonical layer cannot have, and for a layer that MATLAB does not have.
    """
    shapes = {n: np.shape(value) for n, value in properties.items() if not isinstance(value, str)}
    shape: dict[str, Any] = {}
    weights: list[str] = []
    gates, units = shapes.get("InputWeights", (0, 0))[0], (*shapes.get("RecurrentWeights", (0, 0)), 0)[1]
    if layer == "lstm" and units and gates == 8 * units:
        shape = {"direction": "bidirectional", "merge": "concat"}
    elif layer == "gru" and gates and np.prod(shapes.get("Bias", (0,))) == 2 * gates:
        weights = ["recurrent_bias"]
    elif layer == "conv2d":
        groups = (*shapes.get("Weights", ()), 1, 1, 1, 1, 1)[4]
        said = properties.get("NumGroups", np.full(1, groups))
        if not isinstance(said, str) and (np.size(said) > 1 or np.any(said != groups)):
            raise Unsupported(f"NumGroups is not {groups}, as many as Weights {times(shapes.get('Weights', ()))} have")
        shape = {"groups": groups} if groups > 1 else {}
    elif layer == "group_norm":
        named = {"all-channels": 1, CHANNEL_WISE: int(np.prod(shapes.get("Scale", (1,))))}
        said = text(properties, "NumGroups")
        if said in named:
            shape = {"groups": named[said]}
        elif is_over_space(properties):
            shape = {"groups": 1}
    own = matlab_layer(layer, shape, weights)
    made = own.config(properties)
    return {n: value for n, value in {**made, **shape}.items() if n != "training"}
