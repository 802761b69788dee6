"""PyTorch's transformer layers as they are met in a user's model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn
from torch.nn import functional

from conformance_adapters.torch_transformer import TransformerDecoderLayer, TransformerEncoderLayer

Inputs = Callable[[Any, Mapping[str, Any]], dict[str, Any]]


def is_custom(module: nn.Module) -> bool:
    """Whether it is a transformer's layer with an activation that the canonical layer does not have."""
    return isinstance(module, nn.TransformerEncoderLayer | nn.TransformerDecoderLayer) and not _activation(module)


def config(module: Any) -> dict[str, Any]:
    """What the instance has."""
    return {
        "heads": module.self_attn.num_heads,
        "norm_first": module.norm_first,
        "epsilon": module.norm1.eps,
        "activation": _activation(module),
    }


def _activation(module: Any) -> str:
    held = module.activation
    if held is functional.relu or isinstance(held, nn.ReLU):
        return "relu"
    is_exact = isinstance(held, nn.GELU) and held.approximate == "none"
    return "gelu" if held is functional.gelu or is_exact else ""


def own_transformers(attended: Inputs) -> dict[type[nn.Module], tuple[Any, Any, Inputs]]:
    """Type to subject, config and inputs; `attended` takes the arguments of attention for canonical inputs."""

    def encoded(module: Any, given: Mapping[str, Any]) -> dict[str, Any]:
        return _inputs(module, given, "src", "src_mask", "src_key_padding_mask")

    def decoded(module: Any, given: Mapping[str, Any]) -> dict[str, Any]:
        made = _inputs(module, given, "tgt", "tgt_mask", "tgt_key_padding_mask")
        across = _inputs(module, given, "memory", "memory_mask", "memory_key_padding_mask")
        made["memory"] = across["x"]
        return made | ({"memory_mask": across["mask"]} if "mask" in across else {})

    def _inputs(module: Any, given: Mapping[str, Any], x: str, mask: str, padding: str) -> dict[str, Any]:
        source = given[x]
        arguments = dict.fromkeys(("query", "key", "value"), source)
        seen = attended(module.self_attn, {**arguments, "attn_mask": given[mask], "key_padding_mask": given[padding]})
        return {"x": seen["query_input"], **({"mask": seen["mask"]} if "mask" in seen else {})}

    return {
        nn.TransformerEncoderLayer: (TransformerEncoderLayer, config, encoded),
        nn.TransformerDecoderLayer: (TransformerDecoderLayer, config, decoded),
    }
