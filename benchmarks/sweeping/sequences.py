"""Attention and recurrent layers: masks, heads, directions, lengths."""

from __future__ import annotations

from typing import Any

import numpy as np

from sweeping.grid import EXTREMES, Arrays, Choice, Grid, Made, kernel, values

MASKS = ("none", "keys", "full", "float", "row", "all")
WHERE = ("usual", "mean", "tiny", "large", "zeros", "nan", "inf")
GATES = {"lstm": 4, "gru": 3, "simple_rnn": 1}


def _inputs(rng: np.random.Generator, kind: str, shape: tuple[int, ...]) -> Any:
    return rng.normal(size=shape) * 30 if kind == "large" else values(rng, kind, shape)


def _mask(rng: np.random.Generator, kind: str, shape: tuple[int, int, int, int]) -> Any:
    """True attends. `keys`: the same keys for every query; `row`: one query sees none; `all`: every one sees all."""
    batch, _, queries, keys = shape
    if kind == "all":
        return np.ones((batch, 1, queries, keys), dtype=bool)
    if kind == "keys":
        allowed = rng.random((batch, 1, 1, keys)) < 0.6
        allowed[..., 0] = True
        return np.broadcast_to(allowed, (batch, 1, queries, keys)).copy()
    if kind == "float":
        return rng.normal(size=(batch, 1, queries, keys)) * 3
    allowed = rng.random((batch, 1, queries, keys)) < 0.6
    allowed[..., 0] = True
    if kind == "row":
        allowed[:, :, queries // 2] = False
    return allowed


def _dot_product(rng: np.random.Generator, choice: Choice) -> Made | None:
    heads, kv_heads = choice["heads"]
    if choice["mask"] == "row" and choice["query"] == 0:
        return None
    batch, queries, keys, dim = choice["batch"], choice["query"], choice["key"], choice["dim"]
    config = {k: choice[k] for k in ("scale", "causal", "softcap")}
    if kv_heads != heads:
        config["kv_heads"] = kv_heads
    if choice["window"] is not None:
        config["window"] = list(choice["window"]) if isinstance(choice["window"], tuple) else choice["window"]
    arrays = {
        "inputs.query": _inputs(rng, choice["values"], (batch, heads, queries, dim)),
        "inputs.key": rng.normal(size=(batch, kv_heads, keys, dim)),
        "inputs.value": rng.normal(size=(batch, kv_heads, keys, choice["vdim"] or dim)),
    }
    if choice["mask"] != "none":
        arrays["inputs.mask"] = _mask(rng, choice["mask"], (batch, heads, queries, keys))
    return {k: v for k, v in config.items() if v is not None}, arrays


def _multi_head(rng: np.random.Generator, choice: Choice) -> Made:
    heads, kv_heads = choice["heads"]
    batch, queries, keys, channel, dim = choice["batch"], choice["query"], choice["key"], 6, choice["dim"]
    config = {"heads": heads} | ({"kv_heads": kv_heads} if kv_heads != heads else {})
    if choice["causal"]:
        config["causal"] = choice["causal"]
    arrays: Arrays = {"inputs.query_input": _inputs(rng, choice["values"], (batch, queries, channel))}
    if choice["cross"]:
        arrays["inputs.key_input"] = rng.normal(size=(batch, keys, channel))
    else:
        keys = queries
    if choice["mask"] != "none":
        arrays["inputs.mask"] = _mask(rng, choice["mask"], (batch, heads, queries, keys))[:, 0]
    widths = {"query": heads * dim, "key": kv_heads * dim, "value": kv_heads * dim}
    for name, wide in widths.items():
        arrays[f"weights.{name}_kernel"] = kernel(rng, channel, wide)
    arrays["weights.output_kernel"] = kernel(rng, heads * dim, channel)
    if choice["bias"]:
        for name, wide in (*widths.items(), ("output", channel)):
            arrays[f"weights.{name}_bias"] = rng.normal(size=wide)
    return config, arrays


def _additive(rng: np.random.Generator, choice: Choice) -> Made | None:
    batch, queries, keys, dim = choice["batch"], choice["query"], choice["key"], choice["dim"]
    if choice["mask"] == "float":
        return None
    arrays: Arrays = {"inputs.query": _inputs(rng, choice["values"], (batch, queries, dim))}
    arrays["inputs.value"] = rng.normal(size=(batch, keys, dim))
    if choice["keys"]:
        arrays["inputs.key"] = rng.normal(size=(batch, keys, dim))
    if choice["mask"] != "none":
        arrays["inputs.mask"] = _mask(rng, choice["mask"], (batch, 1, queries, keys))[:, 0]
    for name in ("query", "key") if choice["kernels"] else ():
        arrays[f"weights.{name}_kernel"] = kernel(rng, dim, dim)
    if choice["scaled"]:
        arrays["weights.scale"] = rng.normal(size=dim)
    return {}, arrays


def _sinusoidal(rng: np.random.Generator, choice: Choice) -> Made:
    positions = rng.integers(0, choice["below"], size=choice["shape"])
    return {k: choice[k] for k in ("dim", "base")}, {"inputs.positions": positions}


def _slopes(rng: np.random.Generator, choice: Choice) -> Made:
    return {k: choice[k] for k in ("heads", "query", "key")}, {}


def _rotary(rng: np.random.Generator, choice: Choice) -> Made | None:
    if choice["part"] and choice["dim"] < 4:
        return None
    config = {"base": choice["base"], "pairing": choice["pairing"]}
    if choice["part"]:
        config["dim"] = choice["dim"] // 2
    x = values(rng, choice["values"], (choice["batch"], choice["time"], choice["heads"], choice["dim"]))
    arrays = {"inputs.x": x}
    if choice["positions"]:
        arrays["inputs.positions"] = rng.integers(0, 50, size=(choice["batch"], choice["time"]))
    return config, arrays


def _recurrent(name: str) -> Grid:
    gates = GATES[name]

    def make(rng: np.random.Generator, choice: Choice) -> Made:
        batch, time, wide, unit = choice["batch"], choice["time"], choice["in"], choice["unit"]
        config = {"direction": choice["direction"]}
        if name == "gru":
            config["reset"] = choice["reset"]
        arrays: Arrays = {"inputs.x": _inputs(rng, choice["values"], (batch, time, wide))}
        if choice["lengths"]:
            arrays["inputs.lengths"] = rng.integers(1, time + 1, size=batch)
        config["layers"] = choice["layers"]
        ways = ("", "reverse_") if choice["direction"] == "bidirectional" else ("",)
        for number in range(choice["layers"]):
            read = unit * len(ways) if number else wide
            for prefix in (f"l{number}.{way}" if choice["layers"] > 1 else way for way in ways):
                arrays[f"weights.{prefix}kernel"] = kernel(rng, read, gates * unit)
                arrays[f"weights.{prefix}recurrent_kernel"] = kernel(rng, unit, gates * unit)
                if choice["bias"]:
                    arrays[f"weights.{prefix}bias"] = rng.normal(size=gates * unit)
                    if name == "gru":
                        arrays[f"weights.{prefix}recurrent_bias"] = rng.normal(size=gates * unit)
                if choice["initial"]:
                    arrays[f"inputs.{prefix}initial_hidden"] = rng.normal(size=(batch, unit))
                    if name == "lstm":
                        arrays[f"inputs.{prefix}initial_cell"] = rng.normal(size=(batch, unit))
        return config, arrays

    return Grid(
        name,
        {
            "values": WHERE, "time": (1, 2, 5), "in": (1, 3), "unit": (1, 4), "batch": (2, 1, 0),
            "direction": ("forward", "reverse", "bidirectional"), "bias": (True, False), "initial": (False, True),
            "lengths": (False, True), "layers": (1, 2), **({"reset": ("after", "before")} if name == "gru" else {}),
        },
        make,
    )  # fmt: skip


GRIDS = [
    Grid(
        "scaled_dot_product_attention",
        {
            "values": WHERE, "mask": MASKS, "causal": (None, "top-left", "bottom-right"), "window": (None, 1, (2, 0)),
            "softcap": (None, 5.0), "scale": (None, 1.0, 0.3), "heads": ((2, 2), (1, 1), (4, 2), (3, 1)),
            "query": (3, 1, 5), "key": (3, 1, 7), "dim": (4, 1, 8), "vdim": (None, 5), "batch": (2, 1, 0),
        },
        _dot_product,
    ),
    Grid(
        "multi_head_attention",
        {
            "values": WHERE, "mask": MASKS, "causal": (None, "top-left"), "heads": ((2, 2), (1, 1), (4, 2), (3, 1)),
            "cross": (False, True), "query": (3, 1, 5), "key": (1, 7), "dim": (2, 1, 3), "bias": (True, False),
            "batch": (2, 1, 0),
        },
        _multi_head,
    ),
    Grid(
        "additive_attention",
        {
            "values": WHERE, "mask": MASKS, "query": (3, 1, 5), "key": (3, 1, 7), "dim": (4, 1, 8),
            "keys": (False, True), "kernels": (False, True), "scaled": (True, False), "batch": (2, 1, 0),
        },
        _additive,
    ),
    Grid(
        "sinusoidal_position",
        {"shape": ((5,), (1,), (2, 3), ()), "below": (1, 50, 5000), "dim": (2, 4, 7), "base": (10000.0, 100.0)},
        _sinusoidal,
    ),
    Grid("alibi", {"heads": (1, 3, 8), "query": (1, 3, 5), "key": (1, 5, 7)}, _slopes),
    Grid(
        "rotary_embedding",
        {
            "values": EXTREMES, "pairing": ("half-split", "interleaved"), "base": (10000.0, 500000.0, 100.0),
            "dim": (2, 4, 8), "part": (False, True), "heads": (1, 3), "time": (1, 5), "positions": (False, True),
            "batch": (2, 1),
        },
        _rotary,
    ),
    *map(_recurrent, GATES),
]  # fmt: skip
