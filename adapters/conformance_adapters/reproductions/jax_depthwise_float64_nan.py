"""jax.lax.conv_general_dilated with a group for each channel carries a NaN or infinity into the others, in float64.

Each channel of a depthwise convolution is its own: a NaN in the first of three is one in the first of the output alone,
as in float32 and in PyTorch and TensorFlow. On the CPU the others are multiplied with zeros of the kernel and added.
https://docs.jax.dev/en/latest/_autosummary/jax.lax.conv_general_dilated.html
"""

import sys

import jax
import jax.numpy as jnp
import numpy as np

jax.config.update("jax_enable_x64", True)


def nan(dtype: str) -> list[bool]:
    """Which channels of the output are NaN."""
    x = np.ones((1, 1, 1, 3), dtype)
    x[..., 0] = np.nan
    kernel, layout = jnp.ones((1, 1, 1, 3), dtype), ("NHWC", "HWIO", "NHWC")
    y = jax.lax.conv_general_dilated(x, kernel, (1, 1), "VALID", dimension_numbers=layout, feature_group_count=3)
    return np.isnan(y).ravel().astype(int).tolist()


expected, got = nan("float32"), nan("float64")
print(f"versions: jax {jax.__version__}, numpy {np.__version__}")
print(f"expected: {expected}")
print(f"got: {got}")
if got == expected:
    sys.exit("no longer reproduces")
