"""PyTorch's embedding, and its modules that move elements, as they are met in a user's model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from conformance.errors import Unsupported
from conformance_adapters.torch_resize import NEAREST, Upsample
from conformance_adapters.torch_shape import PADS, Bilinear, Dropout, Embedding, Flatten, Pad, PixelShuffle
from conformance_adapters.torch_subject import TorchSubject

PAIR = ("first", "second")
NEAREST_MODES = {mode: asked for asked, mode in NEAREST.items()}
Config = Callable[[Any], dict[str, Any]]
Inputs = Callable[[Any, Mapping[str, Any]], dict[str, Any]]


def _embedding(module: nn.Embedding) -> dict[str, Any]:
    if module.max_norm is not None:
        raise Unsupported("torch.nn.Embedding that renormalises its rows (max_norm)")
    return {}


def _flatten(module: nn.Flatten) -> dict[str, Any]:
    if (module.start_dim, module.end_dim) != (1, -1):
        raise Unsupported(f"torch.nn.Flatten of the axes {module.start_dim} to {module.end_dim}")
    return {}


def _pad(module: Any) -> dict[str, Any]:
    subject = PADS.get(type(module).__name__) or PADS[f"Constant{type(module).__name__.removeprefix('Zero')}"]
    sides = list(module.padding)
    pairs = [[int(b), int(a)] for b, a in zip(sides[::2], sides[1::2], strict=True)]
    config: dict[str, Any] = {"padding": pairs[::-1], "mode": subject.mode}
    return {**config, "value": float(module.value)} if subject.mode == "constant" else config


def _upsample(module: nn.Upsample) -> dict[str, Any]:
    if module.recompute_scale_factor:
        raise Unsupported("torch.nn.Upsample that recomputes its scale (recompute_scale_factor)")
    size, scale = module.size, module.scale_factor
    config: dict[str, Any] = {"size": size if isinstance(size, int | None) else list(size)}
    config["scale"] = scale if isinstance(scale, float | int | None) else list(scale)
    if module.mode in NEAREST_MODES:
        frame, rounding = NEAREST_MODES[module.mode]
        return {**config, "mode": "nearest", "coordinates": frame, "nearest_rounding": rounding}
    config["mode"] = "bicubic" if module.mode == "bicubic" else "bilinear"
    return {**config, "coordinates": "align-corners" if module.align_corners else "half-pixel"}


def _image(module: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    return {"x": next(iter(given.values())).movedim(1, -1)}


def _first(name: str) -> Inputs:
    return lambda module, given: {name: next(iter(given.values()))}


def _channels_last(module: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    x = given["input"]
    axes = 2 if isinstance(module, nn.PixelShuffle) else int(type(module).__name__[-2])
    return {"x": (x if x.ndim == axes + 2 else x[None]).movedim(1, -1)}


def own_shapes() -> dict[type[nn.Module], tuple[type[TorchSubject], Config, Inputs]]:
    """Each such module of PyTorch that is a canonical layer."""
    pads: dict[str, type[Pad]] = {**PADS, **{f"ZeroPad{axes}d": PADS[f"ConstantPad{axes}d"] for axes in (1, 2, 3)}}
    return {
        nn.Embedding: (Embedding, _embedding, _first("indices")),
        nn.Bilinear: (Bilinear, lambda module: {}, lambda m, given: dict(zip(PAIR, given.values(), strict=True))),
        nn.Flatten: (Flatten, _flatten, _first("x")),
        nn.Dropout: (Dropout, lambda module: {"rate": module.p}, _first("x")),
        nn.PixelShuffle: (PixelShuffle, lambda module: {"factor": module.upscale_factor}, _channels_last),
        nn.Upsample: (Upsample, _upsample, _image),
        **{getattr(nn, kind): (subject, _pad, _channels_last) for kind, subject in pads.items()},
    }
