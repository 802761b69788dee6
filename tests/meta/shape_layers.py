"""Embedding, flattening, padding and pixel shuffle in plain PyTorch, JAX, TensorFlow and NumPy, right and wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
import tensorflow as tf
import torch
import torch.nn.functional as F
from clean import Clean, CleanCorpus
from notebook import Notebook, in_numpy
from planted import Corpus, Planted
from problem import Problem, drawn
from watched_jax import in_jax
from watched_tensorflow import in_tensorflow

Weights = Mapping[str, Any]
Config = Mapping[str, Any]
Call = Callable[..., Any]

ROWS = Problem("embedding", {}, {"indices": np.array([[0, 3, 9], [1, 1, 4]])}, {"table": drawn("shape table", 11, 5)})
X = drawn("shape x", 2, 5, 7, 12)
FLAT = Problem("flatten", {}, {"x": X})
PADDED = Problem("pad", {"padding": [[2, 1], [1, 2]], "mode": "reflect"}, {"x": X})
SHUFFLED = Problem("pixel_shuffle", {"factor": 2}, {"x": X})

IN_TORCH, RIGHT_IN_TORCH = Corpus(), CleanCorpus()
IN_JAX, RIGHT_IN_JAX = Corpus("JAX", in_jax), CleanCorpus("JAX", in_jax)
IN_TENSORFLOW, RIGHT_IN_TENSORFLOW = Corpus("TensorFlow", in_tensorflow), CleanCorpus("TensorFlow", in_tensorflow)
IN_NUMPY, RIGHT_IN_NUMPY = Corpus("NumPy", in_numpy), CleanCorpus("NumPy", in_numpy)


# -------------------------------------------------------------------------------------------- PyTorch
@RIGHT_IN_TORCH.add(ROWS)
def rows_by_a_one_hot_product(w: Weights, c: Config) -> Call:
    return lambda indices: F.one_hot(indices, 11).to(w["table"].dtype) @ w["table"]


@IN_TORCH.plant(ROWS, "output", {"embedding.scale": "sqrt(dim)"})
def ScaledRows(w: Weights, c: Config) -> Call:
    """As in the Transformer."""
    return lambda indices: w["table"][indices] * w["table"].shape[1] ** 0.5


@IN_TORCH.plant(FLAT, "output", {"flatten.order": "channels-first"})
def FlattenedChannelsFirst(w: Weights, c: Config) -> Call:
    """In front of a dense layer that was trained on channels last."""
    return lambda x: x.permute(0, 3, 1, 2).flatten(1)


@IN_TORCH.plant(PADDED, "output", {"pad.mode": "replicate"})
def PaddedWithTheEdge(w: Weights, c: Config) -> Call:
    return lambda x: F.pad(x.permute(0, 3, 1, 2), (1, 2, 2, 1), mode="replicate").permute(0, 2, 3, 1)


@IN_TORCH.plant(PADDED, "output", {"pad.axis-order": "last-axis-first"})
def PaddedInTheOrderOfAnotherFramework(w: Weights, c: Config) -> Call:
    """The amounts of tf.pad, given to torch.nn.functional.pad."""
    return lambda x: F.pad(x.permute(0, 3, 1, 2), (2, 1, 1, 2), mode="reflect").permute(0, 2, 3, 1)


@RIGHT_IN_TORCH.add(SHUFFLED)
def blocks_by_reshaping(w: Weights, c: Config) -> Call:
    def shuffle(x: torch.Tensor) -> torch.Tensor:
        blocks = x.reshape(2, 5, 7, 3, 2, 2).permute(0, 1, 4, 2, 5, 3)
        return blocks.reshape(2, 10, 14, 3)

    return shuffle


# ------------------------------------------------------------------------------------------------ JAX
@RIGHT_IN_JAX.add(PADDED, compiled=True)
def jax_reflection(w: Weights, c: Config) -> Call:
    return lambda x: jnp.pad(x, ((0, 0), (2, 1), (1, 2), (0, 0)), "reflect")


@IN_JAX.plant(PADDED, "output", {"pad.mode": "symmetric"})
def jax_reflection_of_the_edge_too(w: Weights, c: Config) -> Call:
    return lambda x: jnp.pad(x, ((0, 0), (2, 1), (1, 2), (0, 0)), "symmetric")


# ----------------------------------------------------------------------------------------- TensorFlow
@IN_TENSORFLOW.plant(SHUFFLED, "output", {"pixel_shuffle.mode": "DCR"})
def tensorflow_depth_to_space(w: Weights, c: Config) -> Call:
    """Not the order of torch.nn.PixelShuffle."""
    return lambda x: tf.nn.depth_to_space(x, 2)


# ---------------------------------------------------------------------------------------------- NumPy
@RIGHT_IN_NUMPY.add(FLAT)
def numpy_flat(note: Notebook, w: Weights, c: Config) -> Call:
    return lambda x: note("flat", np.stack([sample.ravel() for sample in x]))


@IN_NUMPY.plant(FLAT, "output", {"flatten.order": "column-major"})
def numpy_flat_in_the_order_of_matlab(note: Notebook, w: Weights, c: Config) -> Call:
    return lambda x: note("flat", np.stack([sample.ravel(order="F") for sample in x]))


# ------------------------------------------------- each layer and its first mistake, in what is left
Made = Callable[[Any, Any, Any], Any]
FORMS: dict[str, tuple[Problem, dict[str, str], Made, Made]] = {
    "rows": (
        ROWS,
        {"embedding.padding-index": "shifted"},
        lambda xp, x, w: w["table"][x.astype(int)] if xp is not tf else tf.gather(w["table"], tf.cast(x, tf.int32)),
        lambda xp, x, w: (
            w["table"][x.astype(int) + 1] if xp is not tf else tf.gather(w["table"], tf.cast(x, tf.int32) + 1)
        ),
    ),
    "flat": (
        FLAT,
        {"flatten.order": "channels-first"},
        lambda xp, x, w: xp.reshape(x, (2, -1)),
        lambda xp, x, w: xp.reshape((tf if xp is tf else xp).transpose(x, (0, 3, 1, 2)), (2, -1)),
    ),
    "padded": (
        PADDED,
        {"pad.mode": "symmetric"},
        lambda xp, x, w: xp.pad(x, ((0, 0), (2, 1), (1, 2), (0, 0)), "reflect"),
        lambda xp, x, w: xp.pad(x, ((0, 0), (2, 1), (1, 2), (0, 0)), "symmetric"),
    ),
    "blocks": (
        SHUFFLED,
        {"pixel_shuffle.mode": "DCR"},
        lambda xp, x, w: xp.reshape(
            xp.transpose(xp.reshape(x, (2, 5, 7, 3, 2, 2)), (0, 1, 4, 2, 5, 3)), (2, 10, 14, 3)
        ),
        lambda xp, x, w: xp.reshape(
            xp.transpose(xp.reshape(x, (2, 5, 7, 2, 2, 3)), (0, 1, 3, 2, 4, 5)), (2, 10, 14, 3)
        ),
    ),
}


def _plain(xp: Any, made: Made, name: str) -> Callable[[Weights, Config], Call]:
    def positional(w: Weights, c: Config) -> Call:
        return lambda *given, **named: made(xp, [*given, *named.values()][0], w)

    positional.__name__ = name
    return positional


def _noted(made: Made, name: str) -> Callable[[Notebook, Weights, Config], Call]:
    def build(note: Notebook, w: Weights, c: Config) -> Call:
        return lambda *given, **named: note("made", made(np, [*given, *named.values()][0], w))

    build.__name__ = name
    return build


for key, (problem, named, right, wrong) in FORMS.items():
    RIGHT_IN_JAX.add(problem)(_plain(jnp, right, f"jax_{key}_rightly"))
    IN_JAX.plant(problem, "output", named)(_plain(jnp, wrong, f"jax_{key}_wrongly"))
    RIGHT_IN_TENSORFLOW.add(problem)(_plain(tf, right, f"tensorflow_{key}_rightly"))
    IN_TENSORFLOW.plant(problem, "output", named)(_plain(tf, wrong, f"tensorflow_{key}_wrongly"))
    RIGHT_IN_NUMPY.add(problem)(_noted(right, f"numpy_{key}_rightly"))
    IN_NUMPY.plant(problem, "output", named)(_noted(wrong, f"numpy_{key}_wrongly"))


@RIGHT_IN_TORCH.add(FLAT)
def flat_by_joining(w: Weights, c: Config) -> Call:
    return lambda x: torch.stack([sample.ravel() for sample in x])


@RIGHT_IN_TORCH.add(PADDED)
def padded_one_axis_after_the_other(w: Weights, c: Config) -> Call:
    def pad(x: torch.Tensor) -> torch.Tensor:
        wide = F.pad(x.permute(0, 3, 1, 2), (1, 2, 0, 0), mode="reflect")
        return F.pad(wide, (0, 0, 2, 1), mode="reflect").permute(0, 2, 3, 1)

    return pad


@IN_TORCH.plant(SHUFFLED, "output", {"pixel_shuffle.mode": "DCR"})
def BlocksOfTheFastestChannel(w: Weights, c: Config) -> Call:
    return lambda x: x.reshape(2, 5, 7, 2, 2, 3).permute(0, 1, 3, 2, 4, 5).reshape(2, 10, 14, 3)


FAULTS: list[Planted] = [*IN_TORCH, *IN_JAX, *IN_TENSORFLOW, *IN_NUMPY]
CLEAN: list[Clean] = [*RIGHT_IN_TORCH, *RIGHT_IN_JAX, *RIGHT_IN_TENSORFLOW, *RIGHT_IN_NUMPY]
