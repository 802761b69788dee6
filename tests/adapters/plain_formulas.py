"""The layers as plain NumPy formulas in float64: what the adapters' tests compare with. No oracle in sight."""

import math

import numpy as np

UNIT_ROUNDOFF = {"float64": 2.0**-53, "float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8}


def close(observed, expected, dtype, factor=64):
    """Raise unless every error is at most `factor` unit roundoffs of the greatest magnitude (at least 1)."""
    assert observed.shape == expected.shape
    bound = factor * UNIT_ROUNDOFF[dtype] * max(1.0, float(np.abs(expected).max()))
    error = float(np.abs(observed.astype(np.float64) - expected).max())
    assert error <= bound, f"{error:.3g} > {bound:.3g}"


def values(dtype, seed, *shape):
    """Normal values that `dtype` can represent, in float64."""
    import ml_dtypes

    kind = ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype
    return np.random.default_rng(seed).standard_normal(shape).astype(kind).astype(np.float64)


def softmax(x, axis=-1):
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def attention(query, key, value, *, scale=None, allowed=None, added=None, softcap=None):
    """(scores, scaled, weights, context) for `batch head time dim`; a row with no key gives zeros."""
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat(groups, axis=1), value.repeat(groups, axis=1)
    scores = np.einsum("bhqd,bhkd->bhqk", query, key)
    scaled = scores * (1 / math.sqrt(query.shape[-1]) if scale is None else scale)
    capped = scaled if softcap is None else softcap * np.tanh(scaled / softcap)
    masked = capped + (0 if added is None else added)
    if allowed is not None:
        masked = np.where(allowed, masked, -np.inf)
    top = masked.max(-1, keepdims=True)
    e = np.exp(masked - np.where(np.isfinite(top), top, 0))
    total = e.sum(-1, keepdims=True)
    weights = e / np.where(total == 0, 1, total)
    return scores, scaled, weights, np.einsum("bhqk,bhkd->bhqd", weights, value)


def multi_head(inputs, weights, heads, kv_heads=None, **options):
    """A dict of steps for `batch time channel` inputs."""
    query_input = inputs["query_input"]
    key_input = inputs.get("key_input", query_input)
    value_input = inputs.get("value_input", key_input)

    def project(x, part, count):
        y = x @ weights[f"{part}_kernel"] + weights.get(f"{part}_bias", 0)
        return y.reshape(*y.shape[:2], count, -1).transpose(0, 2, 1, 3)

    query = project(query_input, "query", heads)
    key = project(key_input, "key", kv_heads or heads)
    value = project(value_input, "value", kv_heads or heads)
    scores, scaled, attended, context = attention(query, key, value, **options)
    merged = context.transpose(0, 2, 1, 3).reshape(*query_input.shape[:2], -1)
    output = merged
    if "output_kernel" in weights:
        output = merged @ weights["output_kernel"] + weights.get("output_bias", 0)
    return {"query": query, "scores": scores, "scaled": scaled, "weights": attended, "context": context,
            "merged": merged, "output": output}  # fmt: skip


def layer_norm(x, axes, epsilon, scale=1.0, bias=0.0):
    over = tuple(range(-axes, 0))
    centred = x - x.mean(over, keepdims=True)
    return centred / np.sqrt((centred**2).mean(over, keepdims=True) + epsilon) * scale + bias


def gelu(x, approximation):
    if approximation == "tanh":
        return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return 0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def lstm(x, kernel, recurrent_kernel, bias=0.0, hidden=None, cell=None, reverse=False, gate=sigmoid):
    batch, time, _ = x.shape
    unit = len(recurrent_kernel)
    h = np.zeros((batch, unit)) if hidden is None else hidden
    c = np.zeros((batch, unit)) if cell is None else cell
    output = np.zeros((batch, time, unit))
    for t in reversed(range(time)) if reverse else range(time):
        i, f, g, o = np.split(x[:, t] @ kernel + h @ recurrent_kernel + bias, 4, axis=-1)
        c = gate(f) * c + gate(i) * np.tanh(g)
        h = gate(o) * np.tanh(c)
        output[:, t] = h
    return output


def conv2d(x, kernel, bias=0.0, strides=(1, 1), pads=((0, 0), (0, 0)), dilation=(1, 1), groups=1):
    x = np.pad(x, ((0, 0), *pads, (0, 0)))
    height, width, channel, out = kernel.shape
    rows = (x.shape[1] - dilation[0] * (height - 1) - 1) // strides[0] + 1
    columns = (x.shape[2] - dilation[1] * (width - 1) - 1) // strides[1] + 1
    y = np.zeros((len(x), rows, columns, out))
    for group in range(groups):
        inside, outside = (slice(group * n, (group + 1) * n) for n in (channel, out // groups))
        for r in range(rows):
            for s in range(columns):
                top, left = r * strides[0], s * strides[1]
                patch = x[
                    :,
                    top : top + dilation[0] * height : dilation[0],
                    left : left + dilation[1] * width : dilation[1],
                    inside,
                ][:, :height, :width]
                y[:, r, s, outside] = np.einsum("bhwi,hwio->bo", patch, kernel[..., outside])
    return y + bias
