"""Hand-built ONNX graphs that are right. A planted fault writes one line of one otherwise."""

from __future__ import annotations

import numpy as np
from watched_onnx import Nodes

SHAPE = np.array  # a shape or a list of axes, as an initializer

DOT_PRODUCT = Nodes(
    """
    key_t = Transpose <perm = [0, 1, 3, 2]> (key)
    scores = MatMul (query, key_t)
    scaled = Mul (scores, scale)
    weights = Softmax <axis = -1> (scaled)
    context = MatMul (weights, value)
    """,
    {"scale": np.float64(0.5)},
)

MASKED_DOT_PRODUCT = Nodes(
    """
    key_t = Transpose <perm = [0, 1, 3, 2]> (key)
    scores = MatMul (query, key_t)
    scaled = Mul (scores, scale)
    seen = Unsqueeze (mask, axes)
    masked = Where (seen, scaled, low)
    weights = Softmax <axis = -1> (masked)
    context = MatMul (weights, value)
    """,
    {"scale": np.float64(0.5), "axes": SHAPE([1, 2]), "low": np.float64(-np.inf)},
)

# `query_input` is 2x5x13, `key_input` and `value_input` are 2x7x11; three heads of 4, values of 5.
ATTENTION = Nodes(
    """
    query_product = MatMul (query_input, query_kernel)
    query = Add (query_product, query_bias)
    key_product = MatMul (key_input, key_kernel)
    key = Add (key_product, key_bias)
    value_product = MatMul (value_input, value_kernel)
    value = Add (value_product, value_bias)
    query_split = Reshape (query, query_shape)
    query_heads = Transpose <perm = [0, 2, 1, 3]> (query_split)
    key_split = Reshape (key, key_shape)
    key_heads = Transpose <perm = [0, 2, 3, 1]> (key_split)
    value_split = Reshape (value, value_shape)
    value_heads = Transpose <perm = [0, 2, 1, 3]> (value_split)
    scores = MatMul (query_heads, key_heads)
    scaled = Div (scores, root)
    weights = Softmax <axis = -1> (scaled)
    context = MatMul (weights, value_heads)
    context_t = Transpose <perm = [0, 2, 1, 3]> (context)
    merged = Reshape (context_t, merged_shape)
    product = MatMul (merged, output_kernel)
    output = Add (product, output_bias)
    """,
    {
        "query_shape": SHAPE([2, 5, 3, 4]),
        "key_shape": SHAPE([2, 7, 3, 4]),
        "value_shape": SHAPE([2, 7, 3, 5]),
        "merged_shape": SHAPE([2, 5, 15]),
        "root": np.float64(2),
    },
)

NORM = Nodes(
    """
    mean = ReduceMean (x, last)
    centred = Sub (x, mean)
    squares = Mul (centred, centred)
    variance = ReduceMean (squares, last)
    shifted = Add (variance, epsilon)
    deviation = Sqrt (shifted)
    normalized = Div (centred, deviation)
    scaled = Mul (normalized, scale)
    output = Add (scaled, bias)
    """,
    {"last": SHAPE([-1]), "epsilon": np.float64(1e-5)},
)

LINEAR = Nodes("y = Gemm (x, kernel, bias)")

# kernels of ONNX are `out in height width`, inputs `batch channel height width`
CONVOLUTION = Nodes(
    """
    nchw = Transpose <perm = [0, 3, 1, 2]> (x)
    oihw = Transpose <perm = [3, 2, 0, 1]> (kernel)
    conv = Conv <strides = [2, 2], pads = [0, 0, 1, 1]> (nchw, oihw)
    nhwc = Transpose <perm = [0, 2, 3, 1]> (conv)
    y = Add (nhwc, bias)
    """
)

# Gates of ONNX are i, o, f, c; those of the canonical kernels are i, f, g, o. Biases are those of input and state.
LSTM = Nodes(
    """
    sequence = Transpose <perm = [1, 0, 2]> (x)
    i, f, g, o = Split <axis = 1, num_outputs = 4> (kernel)
    iofg = Concat <axis = 1> (i, o, f, g)
    w_t = Transpose <perm = [1, 0]> (iofg)
    w = Unsqueeze (w_t, first)
    ri, rf, rg, ro = Split <axis = 1, num_outputs = 4> (recurrent_kernel)
    riofg = Concat <axis = 1> (ri, ro, rf, rg)
    r_t = Transpose <perm = [1, 0]> (riofg)
    r = Unsqueeze (r_t, first)
    bi, bf, bg, bo = Split <axis = 0, num_outputs = 4> (bias)
    b_one = Concat <axis = 0> (bi, bo, bf, bg, none)
    b = Unsqueeze (b_one, first)
    all, last, cell = LSTM <hidden_size = 4> (sequence, w, r, b)
    hidden = Squeeze (all, second)
    y = Transpose <perm = [1, 0, 2]> (hidden)
    """,
    {"first": SHAPE([0]), "second": SHAPE([1]), "none": np.zeros(16)},
)

ROTARY = Nodes(
    """
    angles = Mul (positions, frequencies)
    cosine = Cos (angles)
    sine = Sin (angles)
    first, second = Split <axis = -1, num_outputs = 2> (x)
    first_cosine = Mul (first, cosine)
    second_sine = Mul (second, sine)
    first_turned = Sub (first_cosine, second_sine)
    second_cosine = Mul (second, cosine)
    first_sine = Mul (first, sine)
    second_turned = Add (second_cosine, first_sine)
    rotated = Concat <axis = -1> (first_turned, second_turned)
    """,
    {
        "positions": np.arange(5.0)[:, None, None],
        "frequencies": 10000.0 ** (-np.arange(0, 6, 2) / 6),
    },
)
