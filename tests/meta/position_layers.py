"""Sinusoidal positions and linear biases in plain PyTorch, JAX, TensorFlow and NumPy, right and wrong.

No input tells these layers in which format to compute: `build` is given its name.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
import tensorflow as tf
import torch
from clean import Clean, CleanCorpus
from notebook import Notebook, in_numpy
from planted import Corpus, Planted
from problem import Arrays, Observe, Problem
from torch import Tensor
from watched import in_torch
from watched_jax import in_jax
from watched_tensorflow import in_tensorflow

from conformance.trace import Trace

Config = Mapping[str, Any]
Call = Callable[..., Any]

SEQUENCE = Problem("sinusoidal_position", {"dim": 14}, {"positions": np.arange(11)})
LONG = Problem("sinusoidal_position", {"dim": 62}, {"positions": np.arange(0, 4096, 39)})
ENCODED = {"eleven": SEQUENCE, "up to 4095": LONG}
EIGHT = Problem("alibi", {"heads": 8, "query": 7, "key": 7}, {})
TWELVE = Problem("alibi", {"heads": 12, "query": 5, "key": 5}, {})
CROSS = Problem("alibi", {"heads": 4, "query": 5, "key": 9}, {})
MANY = Problem("alibi", {"heads": 112, "query": 3, "key": 211}, {})
BIASED = {"eight heads": EIGHT, "twelve heads": TWELVE, "cross": CROSS, "112 heads": MANY}


def of_format(watch: Callable[..., Observe]) -> Callable[..., Observe]:
    """`watch`, of what is built from the name of a format in place of weights."""

    def watching(build: Callable[..., Call], **options: Any) -> Observe:
        def observe(problem: Problem, inputs: Arrays, dtype: str) -> Trace:
            def given(*arguments: Any) -> Call:
                *note, _, config = arguments
                return build(*note, dtype, config)

            return watch(given, **options)(problem, inputs, dtype)

        return observe

    return watching


IN_TORCH, RIGHT_IN_TORCH = (kind("PyTorch", of_format(in_torch)) for kind in (Corpus, CleanCorpus))
IN_JAX, RIGHT_IN_JAX = (kind("JAX", of_format(in_jax)) for kind in (Corpus, CleanCorpus))
IN_TENSORFLOW, RIGHT_IN_TENSORFLOW = (kind("TensorFlow", of_format(in_tensorflow)) for kind in (Corpus, CleanCorpus))
IN_NUMPY, RIGHT_IN_NUMPY = (kind("NumPy", of_format(in_numpy)) for kind in (Corpus, CleanCorpus))


def listed(heads: int) -> list[float]:
    """Slopes as the paper's own code lists them, in Python's floats."""
    if heads & (heads - 1) == 0:
        start = 2 ** (-(2 ** -(math.log2(heads) - 3)))
        return [start * start**i for i in range(heads)]
    known = 2 ** math.floor(math.log2(heads))
    return listed(known) + listed(2 * known)[0::2][: heads - known]


# -- positions, in PyTorch -----------------------------------------------------------------------------------


def interleaved(angles: Tensor) -> Tensor:
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(-2)


def frequencies(dtype: str, c: Config, base: float = 10000.0) -> Tensor:
    pairs = torch.arange(0, c["dim"], 2, dtype=getattr(torch, dtype))
    return torch.exp(pairs * (-math.log(base) / c["dim"]))


@RIGHT_IN_TORCH.add(ENCODED)
def a_table_of_positions(dtype: str, c: Config) -> Call:
    """As PyTorch's tutorial has it."""

    def call(positions: Tensor) -> Tensor:
        every = torch.arange(int(positions.max()) + 1)[:, None]
        table = torch.zeros(len(every), c["dim"], dtype=getattr(torch, dtype))
        table[:, 0::2] = torch.sin(every * frequencies(dtype, c))
        table[:, 1::2] = torch.cos(every * frequencies(dtype, c))
        return table[positions]

    return call


@RIGHT_IN_TORCH.add(ENCODED)
def angles_by_division(dtype: str, c: Config) -> Call:
    def call(positions: Tensor) -> Tensor:
        exponents = torch.arange(0, c["dim"], 2, dtype=getattr(torch, dtype)) / c["dim"]
        return interleaved(positions[..., None] / torch.pow(10000.0, exponents))

    return call


@RIGHT_IN_TORCH.add(ENCODED)
def cosines_as_shifted_sines(dtype: str, c: Config) -> Call:
    """A quarter of a turn further on."""

    def call(positions: Tensor) -> Tensor:
        angles = (positions[..., None] * frequencies(dtype, c)).repeat_interleave(2, -1)
        return torch.where(torch.arange(c["dim"]) % 2 == 0, angles.sin(), angles.cos())

    return call


@IN_TORCH.plant(SEQUENCE, "output", {"sinusoidal.layout": "sin|cos"})
def TwoHalves(dtype: str, c: Config) -> Call:
    def call(positions: Tensor) -> Tensor:
        angles = positions[..., None] * frequencies(dtype, c)
        return torch.cat([angles.sin(), angles.cos()], dim=-1)

    return call


@IN_TORCH.plant(SEQUENCE, "output", {"sinusoidal.layout": "sin|cos", "sinusoidal.spacing": "i/(dim/2-1)"})
def AsFairseqHasIt(dtype: str, c: Config) -> Call:
    def call(positions: Tensor) -> Tensor:
        half = c["dim"] // 2
        falling = torch.exp(torch.arange(half, dtype=getattr(torch, dtype)) * -(math.log(10000) / (half - 1)))
        angles = positions[..., None] * falling
        return torch.cat([angles.sin(), angles.cos()], dim=-1)

    return call


@IN_TORCH.plant(SEQUENCE, "output", {"sinusoidal.base": "1000.0"})
def AnotherBase(dtype: str, c: Config) -> Call:
    return lambda positions: interleaved(positions[..., None] * frequencies(dtype, c, 1000.0))


@IN_TORCH.plant(SEQUENCE, "output")
def PositionsInRadiansOfATurn(dtype: str, c: Config) -> Call:
    """As DETR's, whose positions go from zero to two pi."""

    def call(positions: Tensor) -> Tensor:
        turned = positions / positions.max() * 2 * math.pi
        return interleaved(turned[..., None].to(getattr(torch, dtype)) * frequencies(dtype, c))

    return call


# -- positions, in the others --------------------------------------------------------------------------------


@RIGHT_IN_JAX.add(ENCODED, compiled=True)
def jax_positions(dtype: str, c: Config) -> Call:
    def call(positions: Any) -> Any:
        angles = positions[..., None] / 10000.0 ** (jnp.arange(0, c["dim"], 2, dtype=dtype) / c["dim"])
        return jnp.stack([jnp.sin(angles), jnp.cos(angles)], axis=-1).reshape(*positions.shape, -1)

    return call


@IN_JAX.plant(SEQUENCE, "output", {"sinusoidal.layout": "cos|sin"})
def jax_time_steps_of_a_diffusion(dtype: str, c: Config) -> Call:
    def call(positions: Any) -> Any:
        half = c["dim"] // 2
        angles = positions[..., None] * jnp.exp(-math.log(10000.0) * jnp.arange(half, dtype=dtype) / half)
        return jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=-1)

    return call


@RIGHT_IN_TENSORFLOW.add(ENCODED, compiled=True)
def tensorflow_positions(dtype: str, c: Config) -> Call:
    """As TensorFlow's tutorial had it: every feature has its angle."""

    def call(positions: Any) -> Any:
        pairs = tf.cast(2 * (tf.range(c["dim"]) // 2), dtype) / tf.cast(c["dim"], dtype)
        angles = positions[..., None] * tf.pow(tf.cast(10000.0, dtype), -pairs)
        return tf.where(tf.range(c["dim"]) % 2 == 0, tf.sin(angles), tf.cos(angles))

    return call


@IN_TENSORFLOW.plant(SEQUENCE, "output", {"sinusoidal.spacing": "2j/dim"})
def tensorflow_angles_by_feature(dtype: str, c: Config) -> Call:
    """The feature's number in place of its pair's."""

    def call(positions: Any) -> Any:
        features = tf.cast(2 * tf.range(c["dim"]), dtype) / tf.cast(c["dim"], dtype)
        angles = positions[..., None] * tf.pow(tf.cast(10000.0, dtype), -features)
        return tf.where(tf.range(c["dim"]) % 2 == 0, tf.sin(angles), tf.cos(angles))

    return call


@RIGHT_IN_NUMPY.add(ENCODED)
def numpy_positions(note: Notebook, dtype: str, c: Config) -> Call:
    def call(positions: Any) -> Any:
        made = np.empty((*positions.shape, c["dim"]), dtype)
        for j in range(c["dim"]):
            wavelength = np.power(10000.0, np.asarray((j - j % 2) / c["dim"], dtype)).astype(dtype)
            angle = note("angle", positions / wavelength)
            made[..., j] = np.cos(angle) if j % 2 else np.sin(angle)
        return note("encoded", made)

    return call


@IN_NUMPY.plant(SEQUENCE, "output", {"sinusoidal.first-position": "1"})
def numpy_positions_from_one(note: Notebook, dtype: str, c: Config) -> Call:
    right = numpy_positions(note, dtype, c)
    return lambda positions: right(positions + np.asarray(1, dtype))


# -- linear biases, in PyTorch -------------------------------------------------------------------------------


def apart(c: Config) -> Tensor:
    """Key minus query."""
    return torch.arange(c["key"]) - torch.arange(c["query"])[:, None]


@RIGHT_IN_TORCH.add(BIASED)
def slopes_from_a_list(dtype: str, c: Config) -> Call:
    """As the paper's own code has them, and its author's form for encoders."""

    def call() -> Tensor:
        slopes = torch.tensor(listed(c["heads"]), dtype=getattr(torch, dtype))
        return -slopes[:, None, None] * apart(c).abs()

    return call


@RIGHT_IN_TORCH.add(BIASED)
def slopes_as_powers_of_a_base(dtype: str, c: Config) -> Call:
    """As BLOOM has them: the base is rounded before its powers are taken."""

    def call() -> Tensor:
        known = 2 ** math.floor(math.log2(c["heads"]))
        base, between = (torch.tensor(2 ** (-8 / n), dtype=getattr(torch, dtype)) for n in (known, 2 * known))
        parts = [torch.pow(base, torch.arange(1, known + 1))]
        parts.append(torch.pow(between, 2 * torch.arange(c["heads"] - known) + 1))
        return torch.cat(parts)[:, None, None] * -apart(c).abs()

    return call


@RIGHT_IN_TORCH.add(BIASED)
def slopes_of_the_next_power_of_two(dtype: str, c: Config) -> Call:
    """As MPT has them: every other one first."""

    def call() -> Tensor:
        whole = 2 ** math.ceil(math.log2(c["heads"]))
        slopes = 1 / torch.pow(2, torch.arange(1, whole + 1, dtype=getattr(torch, dtype)) * (8 / whole))
        if whole != c["heads"]:
            slopes = torch.cat([slopes[1::2], slopes[::2]])[: c["heads"]]
        return slopes[:, None, None] * apart(c).abs().mul(-1)

    return call


@IN_TORCH.plant(TWELVE, "slopes", {"alibi.slopes": "geometric"})
def OneSequenceOfTwelveSlopes(dtype: str, c: Config) -> Call:
    def call() -> Tensor:
        slopes = torch.exp2(-torch.arange(1, 13, dtype=getattr(torch, dtype)) * 8 / 12)
        return -slopes[:, None, None] * apart(c).abs()

    return call


@IN_TORCH.plant(EIGHT, "bias", {"alibi.distance": "key-position"})
def EveryRowTheSame(dtype: str, c: Config) -> Call:
    """As the paper's own code adds it under a causal mask."""

    def call() -> Tensor:
        slopes = torch.tensor(listed(c["heads"]), dtype=getattr(torch, dtype))
        return (slopes[:, None, None] * torch.arange(c["key"])).expand(-1, c["query"], -1).contiguous()

    return call


@IN_TORCH.plant(CROSS, "bias", {"alibi.alignment": "bottom-right"})
def TheLastQueryAtTheLastKey(dtype: str, c: Config) -> Call:
    def call() -> Tensor:
        slopes = torch.tensor(listed(c["heads"]), dtype=getattr(torch, dtype))
        return -slopes[:, None, None] * (apart(c) - (c["key"] - c["query"])).abs()

    return call


@IN_TORCH.plant(EIGHT, "slopes")
def HalvesWhateverTheNumberOfHeads(dtype: str, c: Config) -> Call:
    """1, 1/2, 1/4, as of a hand-written layer."""

    def call() -> Tensor:
        slopes = 3.0 ** -torch.arange(c["heads"], dtype=getattr(torch, dtype))
        return -slopes[:, None, None] * apart(c).abs()

    return call


# -- linear biases, in the others ----------------------------------------------------------------------------


@RIGHT_IN_JAX.add(BIASED, compiled=True)
def jax_bias(dtype: str, c: Config) -> Call:
    def call() -> Any:
        distance = jnp.abs(jnp.arange(c["key"]) - jnp.arange(c["query"])[:, None])
        return jnp.einsum("h,qk->hqk", -jnp.asarray(listed(c["heads"]), dtype), distance.astype(dtype))

    return call


@IN_JAX.plant(EIGHT, "bias", {"alibi.distance": "signed"})
def jax_later_keys_favoured(dtype: str, c: Config) -> Call:
    def call() -> Any:
        slopes = jnp.exp2(-jnp.arange(1, 9, dtype=dtype))
        return slopes[:, None, None] * (jnp.arange(c["key"]) - jnp.arange(c["query"])[:, None]).astype(dtype)

    return call


@RIGHT_IN_TENSORFLOW.add(BIASED, compiled=True)
def tensorflow_bias(dtype: str, c: Config) -> Call:
    def call() -> Any:
        distance = tf.abs(tf.range(c["key"]) - tf.range(c["query"])[:, None])
        return tf.constant(listed(c["heads"]), dtype)[:, None, None] * -tf.cast(distance, dtype)

    return call


@IN_TENSORFLOW.plant(EIGHT, "slopes", {"alibi.slopes": "from-one"})
def tensorflow_heads_from_zero(dtype: str, c: Config) -> Call:
    def call() -> Any:
        slopes = tf.pow(tf.cast(2.0, dtype), -tf.cast(tf.range(c["heads"]), dtype))
        distance = tf.abs(tf.range(c["key"]) - tf.range(c["query"])[:, None])
        return slopes[:, None, None] * -tf.cast(distance, dtype)

    return call


@RIGHT_IN_NUMPY.add(BIASED)
def numpy_bias(note: Notebook, dtype: str, c: Config) -> Call:
    def call() -> Any:
        slopes = note("slopes", np.array(listed(c["heads"]), dtype))
        distance = np.abs(np.subtract.outer(np.arange(c["query"]), np.arange(c["key"])))
        return note("bias", np.multiply.outer(slopes, -distance.astype(dtype)))

    return call


@IN_NUMPY.plant(EIGHT, "bias", {"alibi.distance": "key-from-last"})
def numpy_bias_of_the_last_query(note: Notebook, dtype: str, c: Config) -> Call:
    def call() -> Any:
        slopes = note("slopes", np.array(listed(c["heads"]), dtype))
        distance = np.broadcast_to(np.arange(1 - c["key"], 1), (c["query"], c["key"]))
        return note("bias", np.multiply.outer(slopes, distance.astype(dtype)))

    return call


@IN_NUMPY.plant(TWELVE, "bias", {"alibi.distance": "sign-reversed"})
def numpy_earlier_keys_favoured(note: Notebook, dtype: str, c: Config) -> Call:
    def call() -> Any:
        slopes = note("slopes", np.array(listed(c["heads"]), dtype))
        distance = np.subtract.outer(np.arange(c["query"]), np.arange(c["key"]))
        return note("bias", np.multiply.outer(slopes, distance.astype(dtype)))

    return call


FAULTS: list[Planted] = [*IN_TORCH, *IN_JAX, *IN_TENSORFLOW, *IN_NUMPY]
CLEAN: list[Clean] = [*RIGHT_IN_TORCH, *RIGHT_IN_JAX, *RIGHT_IN_TENSORFLOW, *RIGHT_IN_NUMPY]
