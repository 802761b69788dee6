"""What is done to every element or row: activations, normalisation, maps of the last axis, indices."""

from __future__ import annotations

import numpy as np

from sweeping.grid import EXTREMES, Choice, Grid, Made, kernel, values

SHAPES = ((), (1,), (7,), (0, 3), (2, 1), (3, 5), (2, 1, 7), (2, 3, 4, 5))
ELEMENTWISE = (
    "relu", "selu", "silu", "mish", "sigmoid", "log_sigmoid", "hard_sigmoid", "hard_silu", "tanh", "softplus",
    "softsign", "relu6", "gelu", "leaky_relu", "elu", "celu",
)  # fmt: skip
OPTIONS = {
    "gelu": {"approximation": ("none", "tanh", "sigmoid")},
    "leaky_relu": {"slope": (0.01, 0.0, 1.0, -0.5)},
    "elu": {"alpha": (1.0, 0.5, 3.0)},
    "celu": {"alpha": (1.0, 0.5, 3.0)},
}
# What an activation has to say anything of: the bend, the tails, what overflows in an exponential.
RANGES = (*EXTREMES, "bend", "tails")


def _ranged(rng: np.random.Generator, kind: str, shape: tuple[int, ...]) -> np.ndarray:
    if kind == "bend":
        return np.asarray(rng.normal(size=shape) * 2.0 ** rng.integers(-20, 1, size=shape))
    if kind == "tails":
        return np.asarray(rng.choice((-1.0, 1.0), size=shape) * 2.0 ** rng.uniform(2, 11, size=shape))
    return values(rng, kind, shape)


def _elementwise(name: str) -> Grid:
    def make(rng: np.random.Generator, choice: Choice) -> Made:
        config = {k: choice[k] for k in OPTIONS.get(name, {})}
        return config, {"inputs.x": _ranged(rng, choice["values"], choice["shape"])}

    return Grid(name, {"values": RANGES, "shape": SHAPES, **OPTIONS.get(name, {})}, make)


def _along_axis(name: str) -> Grid:
    halves = name in ("glu", "swiglu")

    def make(rng: np.random.Generator, choice: Choice) -> Made | None:
        shape, axis = choice["shape"], choice["axis"]
        if not -len(shape) <= axis < len(shape) or (halves and shape[axis] % 2):
            return None
        x = _ranged(rng, choice["values"], shape)
        if choice["masked"] and x.size:
            x.reshape(-1)[:: 2 + choice["masked"]] = -np.inf
        return {"axis": axis}, {"inputs.x": x}

    shapes = ((2,), (4, 1), (1, 4), (0, 2), (3, 6), (2, 3, 4), (2, 5, 2, 6)) if halves else SHAPES[1:]
    return (
        Grid(
            name,
            {"values": RANGES, "shape": shapes, "axis": (-1, 0, 1, -2), "masked": () if halves else (0, 1, 2)},
            make,
        )
        if not halves
        else Grid(
            name,
            {"values": RANGES, "shape": shapes, "axis": (-1, 0, 1, -2), "masked": (0,)},
            make,
        )
    )


def _prelu(rng: np.random.Generator, choice: Choice) -> Made | None:
    shape = choice["shape"]
    if not shape:
        return None
    slopes = 1 if choice["shared"] else shape[-1]
    return {}, {"inputs.x": _ranged(rng, choice["values"], shape), "weights.slope": rng.normal(size=slopes)}


def _normalized(name: str) -> Grid:
    spatial = name in ("batch_norm", "group_norm", "instance_norm")
    options = {
        "layer_norm": {"axes": (1, 2)},
        "group_norm": {"groups": (1, 2, 6)},
        "batch_norm": {"training": (False, True), "momentum": (0.99, 0.9, 0.5)},
    }.get(name, {})

    def make(rng: np.random.Generator, choice: Choice) -> Made | None:
        shape = choice["shape"]
        if len(shape) <= choice.get("axes", 1) - (not spatial) or shape[-1] % choice.get("groups", 1):
            return None
        config = {k: choice[k] for k in options} | {"epsilon": choice["epsilon"]}
        over = shape[len(shape) - choice.get("axes", 1) :]
        x = values(rng, "usual" if choice["values"] in ("flat", "spread") else choice["values"], shape)
        if choice["values"] == "flat":  # rows that are constant: the epsilon is all there is
            x = np.broadcast_to(x[..., :1], shape).copy()
        elif choice["values"] == "spread":  # rows of very different deviation
            x *= 2.0 ** rng.integers(-12, 12, size=(shape[0], *(1,) * (len(shape) - 1)))
        arrays = {"inputs.x": x}
        if choice["affine"]:
            arrays |= {"weights.scale": rng.normal(size=over), "weights.bias": rng.normal(size=over)}
        if name == "rms_norm":
            arrays.pop("weights.bias", None)
        if name == "batch_norm":
            arrays["weights.moving_mean"] = rng.normal(size=over)
            arrays["weights.moving_variance"] = rng.uniform(0.1, 2, size=over)
        return config, arrays

    shapes = ((2, 1), (1, 7), (3, 6), (2, 5, 6), (0, 6)) if not spatial else ()
    shapes = shapes or ((2, 6), (1, 5, 6), (2, 1, 6), (2, 3, 4, 6), (1, 1, 1, 6), (2, 2, 3, 2, 6), (0, 4, 6))
    return Grid(
        name,
        {
            "values": (*EXTREMES, "flat", "spread"), "shape": shapes, "epsilon": (1e-5, 1e-3, 1e-12, 0.0),
            "affine": (True, False), **options,
        },
        make,
    )  # fmt: skip


def _linear(rng: np.random.Generator, choice: Choice) -> Made:
    shape = (*choice["batch"], choice["in"])
    arrays = {
        "inputs.x": values(rng, choice["values"], shape),
        "weights.kernel": kernel(rng, choice["in"], choice["out"]),
    }
    if choice["bias"]:
        arrays["weights.bias"] = rng.normal(size=choice["out"])
    return {}, arrays


def _bilinear(rng: np.random.Generator, choice: Choice) -> Made:
    first, second, out = choice["first"], choice["second"], choice["out"]
    return {}, {
        "inputs.first": values(rng, choice["values"], (*choice["batch"], first)),
        "inputs.second": rng.normal(size=(*choice["batch"], second)),
        "weights.kernel": kernel(rng, first, second, out),
        "weights.bias": rng.normal(size=out),
    }


def _embedding(rng: np.random.Generator, choice: Choice) -> Made:
    return {}, {
        "inputs.indices": rng.integers(0, choice["index"], size=choice["shape"]),
        "weights.table": values(rng, choice["values"], (choice["index"], choice["dim"])),
    }


def _unchanged(rng: np.random.Generator, choice: Choice) -> Made | None:
    return {}, {"inputs.x": values(rng, choice["values"], choice["shape"])} if choice["shape"] else None


def _flattened(rng: np.random.Generator, choice: Choice) -> Made | None:
    shape = choice["shape"]
    return None if len(shape) < 2 else ({}, {"inputs.x": values(rng, choice["values"], shape)})


GRIDS = [
    *map(_elementwise, ELEMENTWISE),
    *map(_along_axis, ("softmax", "log_softmax", "glu", "swiglu")),
    Grid("prelu", {"values": RANGES, "shape": SHAPES, "shared": (False, True)}, _prelu),
    *map(_normalized, ("layer_norm", "rms_norm", "batch_norm", "group_norm", "instance_norm")),
    Grid(
        "linear",
        {"batch": ((2,), (), (0,), (2, 3), (1, 1, 5)), "in": (1, 7, 64), "out": (1, 5), "bias": (True, False),
         "values": EXTREMES},
        _linear,
    ),
    Grid(
        "bilinear",
        {"batch": ((2,), (0,), (2, 3)), "first": (1, 5), "second": (1, 7), "out": (1, 3), "values": EXTREMES},
        _bilinear,
    ),
    Grid("embedding", {"shape": ((), (5,), (2, 3), (0, 4)), "index": (1, 11), "dim": (1, 4), "values": EXTREMES},
         _embedding),
    Grid("dropout", {"shape": SHAPES[1:], "values": EXTREMES}, _flattened),
    Grid("flatten", {"shape": SHAPES[1:], "values": EXTREMES}, _flattened),
]  # fmt: skip
