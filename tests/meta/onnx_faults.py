"""Faults in ONNX graphs, run by ONNX Runtime: a right graph with a line written otherwise, as an exporter may."""

from __future__ import annotations

import numpy as np
import onnx_graphs as graph
from planted import Corpus
from problems import (
    CAUSAL_DOT_PRODUCT,
    CONVOLUTION,
    CROSS,
    DEAD_DOT_PRODUCT,
    DOT_PRODUCT,
    GELU,
    LINEAR,
    LSTM,
    NORM,
    PADDED_DOT_PRODUCT,
    ROTARY,
    SOFTMAX,
)
from watched_onnx import Nodes, in_onnxruntime

FAULTS = Corpus("ONNX Runtime", in_onnxruntime)
FLOAT32 = ("float32",)  # for operators that the runtime has in float32 alone

# The same interleaved on the way in and out: heads are the fastest axis.
_INTERLEAVED = {
    "query_shape": graph.SHAPE([2, 5, 4, 3]),
    "key_shape": graph.SHAPE([2, 7, 4, 3]),
    "value_shape": graph.SHAPE([2, 7, 5, 3]),
}


# -- attention -----------------------------------------------------------------------------------------------


@FAULTS.plant(DOT_PRODUCT, "scaled", {"attention.scale": "1"})
def onnx_not_scaled() -> Nodes:
    return graph.DOT_PRODUCT.replaced("scaled = Mul (scores, scale)", "scaled = Identity (scores)")


@FAULTS.plant(DOT_PRODUCT, "scaled", {"attention.scale": "sqrt(head_dim)"})
def onnx_divided_by_the_factor() -> Nodes:
    return graph.DOT_PRODUCT.replaced("scaled = Mul (", "scaled = Div (")


@FAULTS.plant(DOT_PRODUCT, "weights", {"attention.softmax-axis": "query"})
def onnx_softmax_over_queries() -> Nodes:
    return graph.DOT_PRODUCT.replaced("<axis = -1>", "<axis = 2>")


@FAULTS.plant(PADDED_DOT_PRODUCT, "masked", {"attention.mask-polarity": "true-blocks"})
def onnx_branches_swapped() -> Nodes:
    return graph.MASKED_DOT_PRODUCT.replaced("(seen, scaled, low)", "(seen, low, scaled)")


@FAULTS.plant(PADDED_DOT_PRODUCT, "masked", {"attention.mask-fill": "additive-0-1"})
def onnx_mask_cast_and_added() -> Nodes:
    """A boolean mask made a number, where a mask of 0 and minus infinity was expected."""
    line = "ones = CastLike (seen, scaled)\n    masked = Add (scaled, ones)"
    return graph.MASKED_DOT_PRODUCT.replaced("masked = Where (seen, scaled, low)", line)


@FAULTS.plant(PADDED_DOT_PRODUCT, "masked", {"attention.mask-fill": "-1e-25"})
def onnx_filled_with_a_tiny_number() -> Nodes:
    return graph.MASKED_DOT_PRODUCT.replaced("(seen, scaled, low)", "(seen, scaled, tiny)", tiny=np.float64(-1e-25))


@FAULTS.plant(DEAD_DOT_PRODUCT, "weights", {"attention.fully-masked-row": "nan"})
def onnx_dead_row_nan() -> Nodes:
    return graph.MASKED_DOT_PRODUCT


@FAULTS.plant(CAUSAL_DOT_PRODUCT, "masked", {"attention.causal-alignment": "bottom-right"})
def onnx_triangle_from_the_end() -> Nodes:
    line = "triangle = Trilu <upper = 0> (ones, two)\n    seen = Cast <to = 9> (triangle)"
    constants = {"ones": np.ones((5, 7), np.int64), "two": np.array(2)}
    return graph.MASKED_DOT_PRODUCT.replaced("seen = Unsqueeze (mask, axes)", line, **constants)


@FAULTS.plant(CROSS, "merged", {"attention.head-merge": "reshape-without-transpose"})
def onnx_merged_without_transpose() -> Nodes:
    return graph.ATTENTION.replaced("merged = Reshape (context_t,", "merged = Reshape (context,")


@FAULTS.plant(CROSS, "scores", {"attention.head-split": "interleaved"}, also=("context",))
def onnx_heads_last() -> Nodes:
    nodes = graph.ATTENTION.replaced("perm = [0, 2, 1, 3]> (query_split)", "perm = [0, 3, 1, 2]> (query_split)")
    nodes = nodes.replaced("perm = [0, 2, 3, 1]> (key_split)", "perm = [0, 3, 2, 1]> (key_split)")
    return nodes.replaced("perm = [0, 2, 1, 3]> (value_split)", "perm = [0, 3, 1, 2]> (value_split)", **_INTERLEAVED)


@FAULTS.plant(CROSS, "output", {"attention.bias": "query,key,value"})
def onnx_output_bias_dropped() -> Nodes:
    return graph.ATTENTION.replaced("output = Add (product, output_bias)", "output = Identity (product)")


# -- two at a time -------------------------------------------------------------------------------------------


@FAULTS.plant(
    DOT_PRODUCT, "scaled", {"attention.scale": "1", "attention.softmax-axis": "query"}, also=("weights",), faults=2
)
def onnx_not_scaled_and_over_queries() -> Nodes:
    nodes = graph.DOT_PRODUCT.replaced("<axis = -1>", "<axis = 2>")
    return nodes.replaced("scaled = Mul (scores, scale)", "scaled = Identity (scores)")


@FAULTS.plant(
    PADDED_DOT_PRODUCT,
    "scaled",
    {"attention.scale": "sqrt(head_dim)", "attention.mask-polarity": "true-blocks"},
    also=("masked",),
    faults=2,
)
def onnx_divided_and_branches_swapped() -> Nodes:
    nodes = graph.MASKED_DOT_PRODUCT.replaced("scaled = Mul (", "scaled = Div (")
    return nodes.replaced("(seen, scaled, low)", "(seen, low, scaled)")


@FAULTS.plant(
    CROSS,
    "scores",
    {"attention.head-split": "interleaved", "attention.head-merge": "interleaved"},
    also=("context", "merged"),
    faults=2,
)
def onnx_heads_last_throughout() -> Nodes:
    return onnx_heads_last().replaced(
        "context_t = Transpose <perm = [0, 2, 1, 3]>", "context_t = Transpose <perm = [0, 2, 3, 1]>"
    )


@FAULTS.plant(
    CROSS,
    "scaled",
    {"attention.scale": "1/head_dim", "attention.head-merge": "reshape-without-transpose"},
    also=("merged",),
    faults=2,
)
def onnx_scaled_without_root_and_merged_without_transpose() -> Nodes:
    return onnx_merged_without_transpose().replaced("Div (scores, root)", "Div (scores, dim)", dim=np.float64(4))


# -- other layers --------------------------------------------------------------------------------------------


@FAULTS.plant(NORM, "normalized", {"norm.epsilon-placement": "outside-sqrt"})
def onnx_norm_epsilon_outside() -> Nodes:
    lines = "root = Sqrt (variance)\n    deviation = Add (root, epsilon)"
    return graph.NORM.replaced("shifted = Add (variance, epsilon)\n    deviation = Sqrt (shifted)", lines)


@FAULTS.plant(NORM, "normalized", {"norm.epsilon-placement": "max"})
def onnx_norm_epsilon_as_the_least() -> Nodes:
    return graph.NORM.replaced("Add (variance, epsilon)", "Max (variance, epsilon)")


@FAULTS.plant(NORM, "mean", {"norm.axes": "all-but-batch"}, also=("variance",))
def onnx_norm_over_time_too() -> Nodes:
    """A bare axis turned into the axes from it on: [1, 2] for -1."""
    return Nodes(graph.NORM.text, {**graph.NORM.constants, "last": graph.SHAPE([1, 2])})


@FAULTS.plant(NORM, "output", {"weights.mismatch": "different weights"})
def onnx_norm_scale_and_bias_swapped() -> Nodes:
    return Nodes("output = LayerNormalization <epsilon = 0.00001> (x, bias, scale)")


@FAULTS.plant(GELU, "output", {"gelu.approximation": "tanh"}, dtypes=FLOAT32)
def onnx_gelu_approximate() -> Nodes:
    return Nodes('y = Gelu <approximate = "tanh"> (x)')


@FAULTS.plant(GELU, "output", {"gelu.approximation": "sigmoid"})
def onnx_gelu_quick() -> Nodes:
    return Nodes("inner = Mul (x, slope)\ngate = Sigmoid (inner)\ny = Mul (x, gate)", {"slope": np.float64(1.702)})


@FAULTS.plant(SOFTMAX, "output")
def onnx_softmax_over_another_axis() -> Nodes:
    return Nodes("y = Softmax <axis = 1> (x)")


@FAULTS.plant(LINEAR, "output")
def onnx_gemm_with_half_the_bias() -> Nodes:
    """Gemm's beta."""
    return graph.LINEAR.replaced("Gemm (", "Gemm <beta = 0.5> (")


@FAULTS.plant(CONVOLUTION, "padded", {"conv.same-padding": "same-lower"}, dtypes=FLOAT32)
def onnx_convolution_same_lower() -> Nodes:
    return graph.CONVOLUTION.replaced("pads = [0, 0, 1, 1]", 'auto_pad = "SAME_LOWER"')


@FAULTS.plant(CONVOLUTION, "convolved", {"conv.flip": "convolution"}, dtypes=FLOAT32)
def onnx_convolution_flipped() -> Nodes:
    line = "flipped = Slice (oihw, from, to, axes, back)\n    conv = Conv"
    nodes = graph.CONVOLUTION.replaced("conv = Conv", line).replaced("(nchw, oihw)", "(nchw, flipped)")
    last, before = graph.SHAPE([-1, -1]), graph.SHAPE([-9, -9])
    constants = {"from": last, "to": before, "axes": graph.SHAPE([2, 3]), "back": last}
    return Nodes(nodes.text, {**nodes.constants, **constants})


@FAULTS.plant(
    LSTM,
    "input_gate",
    {"lstm.bias": "doubled"},
    also=None,
    dtypes=FLOAT32,
)
def onnx_lstm_with_both_biases() -> Nodes:
    """The summed bias given as that of the input and as that of the state."""
    return graph.LSTM.replaced("(bi, bo, bf, bg, none)", "(bi, bo, bf, bg, bi, bo, bf, bg)")


@FAULTS.plant(LSTM, "input_gate", {"lstm.recurrent-activation": "hard_sigmoid"}, also=None, dtypes=FLOAT32)
def onnx_lstm_hard_sigmoid() -> Nodes:
    """ONNX's HardSigmoid has a slope of a fifth."""
    return graph.LSTM.replaced("<hidden_size = 4>", '<hidden_size = 4, activations = ["HardSigmoid", "Tanh", "Tanh"]>')


@FAULTS.plant(ROTARY, "rotated", {"rope.direction": "-sin"})
def onnx_rotated_the_other_way() -> Nodes:
    nodes = graph.ROTARY.replaced("Sub (first_cosine, second_sine)", "Add (first_cosine, second_sine)")
    return nodes.replaced("Add (second_cosine, first_sine)", "Sub (second_cosine, first_sine)")


# -- weights and numbers -------------------------------------------------------------------------------------


@FAULTS.plant(LSTM, "forget_gate", {"lstm.gate-order": "i,o,f,g"}, also=None, dtypes=FLOAT32)
def onnx_lstm_gates_as_they_are() -> Nodes:
    """Kernels i, f, g, o given to the operator, whose gates are i, o, f, c."""
    nodes = graph.LSTM.replaced("(i, o, f, g)", "(i, f, g, o)").replaced("(ri, ro, rf, rg)", "(ri, rf, rg, ro)")
    return nodes.replaced("(bi, bo, bf, bg, none)", "(bi, bf, bg, bo, none)")


@FAULTS.plant(LINEAR, "product", {"linear.kernel-orientation": "out,in"})
def onnx_gemm_transposes_once_more() -> Nodes:
    return graph.LINEAR.replaced("Gemm (", "Gemm <transB = 1> (")


@FAULTS.plant(NORM, "normalized", {"norm.epsilon": "1e-06"})
def onnx_norm_with_the_epsilon_of_flax() -> Nodes:
    return Nodes(graph.NORM.text, {**graph.NORM.constants, "epsilon": np.float64(1e-6)})
