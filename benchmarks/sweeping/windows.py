"""Windows over space: convolutions, transposed ones, pools, and what else moves pixels."""

from __future__ import annotations

from typing import Any

import numpy as np

from sweeping.grid import EXTREMES, Choice, Grid, Made, kernel, values

PADDINGS = ("valid", "same-upper", "same-lower", ((1, 1),), ((0, 1),), ((2, 0),))
SPACES = (1, 2, 5, 8, 11)


def _padding(choice: Choice, axes: int) -> Any:
    padding = choice["padding"]
    return padding if isinstance(padding, str) else [list(padding[0])] * axes


def _space(choice: Choice, axes: int) -> tuple[int, ...]:
    """Not the same size along each axis: the others are one greater than the one before."""
    return tuple(choice["space"] + i for i in range(axes))


def _convolution(axes: int) -> Grid:
    def make(rng: np.random.Generator, choice: Choice) -> Made | None:
        groups, wide = choice["groups"], choice["channels"]
        if wide % groups:
            return None
        out = groups * choice["multiplier"]
        config = {k: choice[k] for k in ("strides", "dilation", "groups")} | {"padding": _padding(choice, axes)}
        x = values(rng, choice["values"], (choice["batch"], *_space(choice, axes), wide))
        arrays = {"inputs.x": x, "weights.kernel": kernel(rng, *(choice["window"],) * axes, wide // groups, out)}
        if choice["bias"]:
            arrays["weights.bias"] = rng.normal(size=out)
        return config, arrays

    return Grid(
        f"conv{axes}d",
        {
            "space": SPACES,
            "window": (1, 2, 3, 4),
            "strides": (1, 2, 3),
            "padding": (*PADDINGS, "causal") if axes == 1 else PADDINGS,
            "dilation": (1, 2),
            "channels": (1, 3, 6),
            "groups": (1, 3),
            "multiplier": (1, 2),
            "batch": (2, 1, 0),
            "bias": (True, False),
            "values": EXTREMES,
        },
        make,
    )


def _depthwise(rng: np.random.Generator, choice: Choice) -> Made:
    config = {k: choice[k] for k in ("strides", "dilation")} | {"padding": _padding(choice, 2)}
    wide, multiplier = choice["channels"], choice["multiplier"]
    window = (choice["window"], choice["window"])
    x = values(rng, choice["values"], (choice["batch"], *_space(choice, 2), wide))
    drawn = kernel(rng, *window, wide, multiplier) * wide**0.5  # a channel alone is summed over
    return config, {"inputs.x": x, "weights.kernel": drawn, "weights.bias": rng.normal(size=wide * multiplier)}


def _separable(rng: np.random.Generator, choice: Choice) -> Made:
    config, arrays = _depthwise(rng, choice)
    arrays["weights.depthwise_kernel"] = arrays.pop("weights.kernel")
    wide = len(arrays.pop("weights.bias"))
    return config, arrays | {"weights.pointwise_kernel": kernel(rng, wide, 2), "weights.bias": rng.normal(size=2)}


def _transposed(axes: int) -> Grid:
    def make(rng: np.random.Generator, choice: Choice) -> Made:
        config = {k: choice[k] for k in ("strides", "dilation", "output_padding")} | {"padding": _padding(choice, axes)}
        x = values(rng, choice["values"], (choice["batch"], *_space(choice, axes), choice["channels"]))
        drawn = kernel(rng, *(choice["window"],) * axes, 2, choice["channels"])
        return config, {"inputs.x": x, "weights.kernel": drawn, "weights.bias": rng.normal(size=2)}

    return Grid(
        f"conv_transpose{axes}d",
        {
            "space": (1, 2, 5),
            "window": (1, 2, 3, 4),
            "strides": (1, 2, 3),
            "padding": ("valid", "same-upper", "same-lower", ((1, 1),), ((0, 1),)),
            "output_padding": (0, 1),
            "dilation": (1, 2),
            "channels": (1, 3),
            "batch": (2, 1, 0),
            "values": EXTREMES,
        },
        make,
    )


def _pool(kind: str, axes: int) -> Grid:
    def make(rng: np.random.Generator, choice: Choice) -> Made:
        config = {k: choice[k] for k in ("size", "strides", "ceil_mode")} | {"padding": _padding(choice, axes)}
        if kind == "average":
            config["count_include_pad"] = choice["include"]
        return config, {"inputs.x": values(rng, choice["values"], (choice["batch"], *_space(choice, axes), 3)) - 1}

    return Grid(
        f"{kind}_pool{axes}d",
        {
            "space": SPACES,
            "size": (1, 2, 3, 4),
            "strides": (None, 1, 2, 3),
            "padding": PADDINGS,
            "ceil_mode": (False, True),
            **({"include": (False, True)} if kind == "average" else {}),
            "batch": (2, 1, 0),
            "values": EXTREMES,
        },
        make,
    )


def _global(rng: np.random.Generator, choice: Choice) -> Made:
    return {}, {"inputs.x": values(rng, choice["values"], (choice["batch"], *_space(choice, choice["axes"]), 3))}


def _adaptive(rng: np.random.Generator, choice: Choice) -> Made:
    size = choice["size"]
    config = {"size": list(size) if isinstance(size, tuple) else size}
    return config, {"inputs.x": values(rng, choice["values"], (choice["batch"], *_space(choice, 2), 3))}


def _pad(rng: np.random.Generator, choice: Choice) -> Made:
    config = {"padding": [list(p) for p in choice["padding"]], "mode": choice["mode"]}
    if choice["mode"] == "constant":
        config["value"] = choice["value"]
    return config, {"inputs.x": values(rng, choice["values"], (choice["batch"], *_space(choice, 2), 3))}


def _shuffled(rng: np.random.Generator, choice: Choice) -> Made:
    wide = choice["channels"] * choice["factor"] ** 2
    config = {"factor": choice["factor"], "mode": choice["mode"]}
    return config, {"inputs.x": values(rng, choice["values"], (choice["batch"], *_space(choice, 2), wide))}


def _resized(rng: np.random.Generator, choice: Choice) -> Made:
    space = _space(choice, choice["axes"])
    asked = {k: choice[k] for k in ("mode", "coordinates", "antialias")}
    if choice["by"] == "size":
        asked["size"] = [choice["to"] + i for i in range(len(space))]
    else:
        asked["scale"] = choice["by"]
    return asked, {"inputs.x": values(rng, choice["values"], (choice["batch"], *space, 3))}


GRIDS = [
    *(_convolution(axes) for axes in (1, 2, 3)),
    *(
        Grid(
            name,
            {
                "space": SPACES, "window": (1, 2, 3), "strides": (1, 2), "padding": PADDINGS, "dilation": (1, 2),
                "channels": (1, 3), "multiplier": (1, 2), "batch": (2, 1, 0), "values": EXTREMES,
            },
            make,
        )
        for name, make in (("depthwise_conv2d", _depthwise), ("separable_conv2d", _separable))
    ),
    *(_transposed(axes) for axes in (1, 2, 3)),
    *(_pool(kind, axes) for kind in ("max", "average") for axes in (1, 2, 3)),
    *(
        Grid(name, {"space": SPACES, "axes": (1, 2, 3), "batch": (2, 1, 0), "values": EXTREMES}, _global)
        for name in ("global_average_pool", "global_max_pool")
    ),
    Grid(
        "adaptive_average_pool2d",
        {"space": SPACES, "size": (1, 2, 3, (3, 4), (1, 5)), "batch": (2, 1, 0), "values": EXTREMES},
        _adaptive,
    ),
    Grid(
        "pad",
        {
            "space": (2, 5), "padding": (((1, 1), (1, 1)), ((0, 2), (1, 0)), ((0, 0), (0, 0))),
            "mode": ("constant", "edge", "reflect", "symmetric", "wrap"), "value": (0.0, -1.5, float("inf")),
            "batch": (2, 0), "values": EXTREMES,
        },
        _pad,
    ),
    Grid(
        "pixel_shuffle",
        {
            "space": (1, 2, 5), "factor": (1, 2, 3), "channels": (1, 3), "mode": ("CRD", "DCR"), "batch": (2, 0),
            "values": EXTREMES,
        },
        _shuffled,
    ),
    Grid(
        "resize",
        {
            "space": (1, 2, 5, 8), "axes": (1, 2, 3), "by": ("size", 2, 0.5, 1.5), "to": (1, 3, 7, 16),
            "mode": ("nearest", "bilinear", "bicubic"),
            "coordinates": ("half-pixel", "align-corners", "asymmetric", "pytorch-half-pixel"),
            "antialias": (False, True), "batch": (2, 1, 0), "values": EXTREMES,
        },
        _resized,
    ),
]  # fmt: skip
