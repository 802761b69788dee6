"""What is right in ONNX graphs run by ONNX Runtime, in other forms than the oracle's."""

from __future__ import annotations

import math

import numpy as np
import onnx_graphs as graph
from clean import CleanCorpus
from problems import (
    CAUSAL_DOT_PRODUCT,
    CONVOLUTION,
    CROSS,
    DOT_PRODUCT,
    GELU,
    LINEAR,
    LINEARS,
    LSTM,
    NORM,
    NORMS,
    PADDED_DOT_PRODUCT,
    ROTARY,
    SOFTMAX,
    SOFTMAXES,
    TANH_GELU,
)
from watched_onnx import Nodes, in_onnxruntime

CLEAN = CleanCorpus("ONNX Runtime", in_onnxruntime)
FLOAT32 = ("float32",)  # for operators that the runtime has in float32 alone
# For what holds a number in float32 whatever it works in: the epsilon of LayerNormalization is an attribute, and the
# runtime makes attributes of the epsilon and the factors of nodes that it fuses.
FLOAT32_NUMBER = ("float32",)
SCORED = {"ordinary": DOT_PRODUCT, "large scores": DOT_PRODUCT.with_inputs(query=DOT_PRODUCT.inputs["query"] * 20)}
PADDED = {"padded": PADDED_DOT_PRODUCT}
SHAPE = graph.SHAPE


# -- attention -----------------------------------------------------------------------------------------------


@CLEAN.add(SCORED)
def onnx_attention_in_five_nodes() -> Nodes:
    return graph.DOT_PRODUCT


@CLEAN.add(SCORED)
def onnx_query_scaled() -> Nodes:
    nodes = graph.DOT_PRODUCT.replaced("scores = MatMul (query,", "small = Mul (query, scale)\nscores = MatMul (small,")
    return nodes.replaced("scaled = Mul (scores, scale)", "scaled = Identity (scores)")


@CLEAN.add(SCORED, dtypes=FLOAT32_NUMBER)
def onnx_scaled_on_both_sides() -> Nodes:
    lines = "small = Mul (query, root)\nsmall_key = Mul (key_t, root)\nscores = MatMul (small, small_key)"
    nodes = graph.DOT_PRODUCT.replaced("scores = MatMul (query, key_t)", lines, root=np.float64(math.sqrt(0.5)))
    return nodes.replaced("scaled = Mul (scores, scale)", "scaled = Identity (scores)")


@CLEAN.add(SCORED, layout="key-query")
def onnx_key_major() -> Nodes:
    return Nodes(
        """
        query_t = Transpose <perm = [0, 1, 3, 2]> (query)
        scores = MatMul (key, query_t)
        scaled = Mul (scores, scale)
        weights = Softmax <axis = 2> (scaled)
        weights_t = Transpose <perm = [0, 1, 3, 2]> (weights)
        context = MatMul (weights_t, value)
        """,
        {"scale": np.float64(0.5)},
    )


@CLEAN.add(SCORED)
def onnx_softmax_by_hand() -> Nodes:
    lines = """greatest = ReduceMax (scaled, last)
    shifted = Sub (scaled, greatest)
    powers = Exp (shifted)
    total = ReduceSum (powers, last)
    weights = Div (powers, total)"""
    return graph.DOT_PRODUCT.replaced("weights = Softmax <axis = -1> (scaled)", lines, last=SHAPE([-1]))


@CLEAN.add(SCORED)
def onnx_divided_last() -> Nodes:
    """The context of the powers, divided by their sum."""
    lines = """greatest = ReduceMax (scaled, last)
    shifted = Sub (scaled, greatest)
    powers = Exp (shifted)
    total = ReduceSum (powers, last)
    sums = MatMul (powers, value)
    context = Div (sums, total)"""
    before = "weights = Softmax <axis = -1> (scaled)\n    context = MatMul (weights, value)"
    return graph.DOT_PRODUCT.replaced(before, lines, last=SHAPE([-1]))


@CLEAN.add(SCORED)
def onnx_einsum() -> Nodes:
    return Nodes(
        """
        scores = Einsum <equation = "bhqd,bhkd->bhqk"> (query, key)
        scaled = Div (scores, root)
        weights = Softmax (scaled)
        context = Einsum <equation = "bhqk,bhkd->bhqd"> (weights, value)
        """,
        {"root": np.float64(2)},
    )


@CLEAN.add(SCORED, dtypes=FLOAT32)
def onnx_own_attention() -> Nodes:
    return Nodes("context = Attention (query, key, value)")


@CLEAN.add(SCORED, dtypes=FLOAT32)
def onnx_own_attention_from_the_scale() -> Nodes:
    return Nodes("context = Attention <scale = 0.5> (query, key, value)")


@CLEAN.add(PADDED)
def onnx_masked_by_where() -> Nodes:
    return graph.MASKED_DOT_PRODUCT


@CLEAN.add(PADDED)
def onnx_mask_added() -> Nodes:
    lines = "bias = Where (seen, zero, low)\n    masked = Add (scaled, bias)"
    return graph.MASKED_DOT_PRODUCT.replaced("masked = Where (seen, scaled, low)", lines, zero=np.float64(0))


@CLEAN.add(PADDED)
def onnx_mask_multiplied() -> Nodes:
    """(1 - mask) * -1e9, as in exported BERTs."""
    lines = """ones = CastLike (seen, scaled)
    zeros = Sub (one, ones)
    bias = Mul (zeros, far)
    masked = Add (scaled, bias)"""
    constants = {"one": np.float64(1), "far": np.float64(-1e9)}
    return graph.MASKED_DOT_PRODUCT.replaced("masked = Where (seen, scaled, low)", lines, **constants)


@CLEAN.add(CAUSAL_DOT_PRODUCT)
def onnx_triangle() -> Nodes:
    line = "triangle = Trilu <upper = 0> (ones)\n    seen = Cast <to = 9> (triangle)"
    return graph.MASKED_DOT_PRODUCT.replaced("seen = Unsqueeze (mask, axes)", line, ones=np.ones((5, 7), np.int64))


@CLEAN.add(CAUSAL_DOT_PRODUCT, dtypes=FLOAT32)
def onnx_own_causal_attention() -> Nodes:
    return Nodes("context = Attention <is_causal = 1> (query, key, value)")


@CLEAN.add(CROSS)
def onnx_attention_layer() -> Nodes:
    return graph.ATTENTION


@CLEAN.add(CROSS)
def onnx_output_as_gemm() -> Nodes:
    """The output projection of `(batch query) hvdim`, bias and all in one."""
    before = "product = MatMul (merged, output_kernel)\n    output = Add (product, output_bias)"
    lines = """flat = Reshape (merged, rows)
    biased = Gemm (flat, output_kernel, output_bias)
    output = Reshape (biased, back)"""
    return graph.ATTENTION.replaced(before, lines, rows=SHAPE([-1, 15]), back=SHAPE([2, 5, 10]))


@CLEAN.add(CROSS)
def onnx_key_and_value_in_one() -> Nodes:
    """Key and value kernels side by side, for the inputs side by side, and split afterwards."""
    key = "key_product = MatMul (key_input, key_kernel)\n    key = Add (key_product, key_bias)"
    value = "value_product = MatMul (value_input, value_kernel)\n    value = Add (value_product, value_bias)"
    lines = """inputs = Concat <axis = -1> (key_input, value_input)
    key_rows = Concat <axis = 1> (key_kernel, none_right)
    value_rows = Concat <axis = 1> (none_left, value_kernel)
    both_kernel = Concat <axis = 0> (key_rows, value_rows)
    both_bias = Concat <axis = 0> (key_bias, value_bias)
    both_product = MatMul (inputs, both_kernel)
    both = Add (both_product, both_bias)
    key, value = Split <axis = -1> (both, sizes)"""
    constants = {"none_right": np.zeros((11, 15)), "none_left": np.zeros((11, 12)), "sizes": SHAPE([12, 15])}
    return graph.ATTENTION.replaced(key, lines, **constants).replaced(value, "")


# -- layer norm ----------------------------------------------------------------------------------------------


@CLEAN.add(NORMS)
def onnx_norm_in_nodes() -> Nodes:
    return graph.NORM


@CLEAN.add(NORMS, dtypes=FLOAT32_NUMBER)
def onnx_norm_of_the_runtime() -> Nodes:
    return Nodes("y = LayerNormalization <epsilon = 0.00001> (x, scale, bias)")


@CLEAN.add(NORMS)
def onnx_norm_by_reciprocal() -> Nodes:
    lines = "factor = Reciprocal (deviation)\n    normalized = Mul (centred, factor)"
    return graph.NORM.replaced("normalized = Div (centred, deviation)", lines)


@CLEAN.add(NORM, dtypes=FLOAT32_NUMBER)
def onnx_norm_by_powers() -> Nodes:
    return graph.NORM.replaced("squares = Mul (centred, centred)", "squares = Pow (centred, two)", two=np.float64(2))


# -- other layers --------------------------------------------------------------------------------------------


@CLEAN.add(LINEAR)
def onnx_gemm() -> Nodes:
    return graph.LINEAR


@CLEAN.add(LINEARS)
def onnx_product_and_sum() -> Nodes:
    return Nodes("product = MatMul (x, kernel)\ny = Add (product, bias)")


@CLEAN.add(LINEAR)
def onnx_gemm_of_a_transposed_kernel() -> Nodes:
    return Nodes("kernel_t = Transpose <perm = [1, 0]> (kernel)\ny = Gemm <transB = 1> (x, kernel_t, bias)")


@CLEAN.add(SOFTMAX)
def onnx_softmax() -> Nodes:
    return Nodes("y = Softmax (x)")


@CLEAN.add({name: posed for name, posed in SOFTMAXES.items() if posed.config["axis"] == -1})
def onnx_softmax_from_its_logarithm() -> Nodes:
    return Nodes("logarithm = LogSoftmax (x)\ny = Exp (logarithm)")


@CLEAN.add(GELU, dtypes=FLOAT32)
def onnx_gelu() -> Nodes:
    return Nodes("y = Gelu (x)")


@CLEAN.add(GELU, dtypes=FLOAT32)
def onnx_gelu_by_erf() -> Nodes:
    """As exporters wrote it before there was an operator."""
    return Nodes(
        """
        inner = Div (x, root)
        error = Erf (inner)
        more = Add (error, one)
        product = Mul (x, more)
        y = Mul (product, half)
        """,
        {"root": np.float64(math.sqrt(2)), "one": np.float64(1), "half": np.float64(0.5)},
    )


@CLEAN.add(TANH_GELU)
def onnx_gelu_by_tanh() -> Nodes:
    return Nodes(
        """
        cube = Pow (x, three)
        small = Mul (cube, coefficient)
        sum = Add (x, small)
        inner = Mul (sum, root)
        turned = Tanh (inner)
        more = Add (turned, one)
        half_x = Mul (x, half)
        y = Mul (half_x, more)
        """,
        {
            "three": np.float64(3),
            "coefficient": np.float64(0.044715),
            "root": np.float64(math.sqrt(2 / math.pi)),
            "one": np.float64(1),
            "half": np.float64(0.5),
        },
    )


@CLEAN.add(LSTM, dtypes=FLOAT32)
def onnx_lstm() -> Nodes:
    """The runtime's operator, gates i, o, f, c."""
    return graph.LSTM


@CLEAN.add(CONVOLUTION, dtypes=FLOAT32)
def onnx_convolution() -> Nodes:
    return graph.CONVOLUTION


@CLEAN.add(CONVOLUTION, dtypes=FLOAT32)
def onnx_convolution_same_upper() -> Nodes:
    return graph.CONVOLUTION.replaced("pads = [0, 0, 1, 1]", 'auto_pad = "SAME_UPPER"')


@CLEAN.add(CONVOLUTION, dtypes=FLOAT32)
def onnx_convolution_padded_before() -> Nodes:
    nodes = graph.CONVOLUTION.replaced("pads = [0, 0, 1, 1]", "pads = [0, 0, 0, 0]")
    return nodes.replaced("conv = Conv", "wide = Pad (nchw, pads)\nconv = Conv").replaced(
        "(nchw, oihw)", "(wide, oihw)", pads=SHAPE([0, 0, 0, 0, 0, 0, 1, 1])
    )


@CLEAN.add(ROTARY)
def onnx_rotary() -> Nodes:
    return graph.ROTARY
