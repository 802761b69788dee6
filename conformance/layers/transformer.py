"""The layers of a transformer: attention and a feed-forward part, each with a residual and a layer norm around it.

With `norm_first` each part reads a normed value and its result is added to the value before the norm; else the sum is
normed. The steps of the parts carry the part's name; `<part>.input` is what a part reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from conformance.layer import Layer, Step
from conformance.layers import normalization
from conformance.layers.feed_forward import feed_forward
from conformance.layers.multi_head_attention import multi_head_attention

if TYPE_CHECKING:
    from jaxtyping import Float

    from conformance.array import Array

_NORM = normalization.layer_norm


def normed(
    x: Float[Array, "batch time channel"],
    scale: Float[Array, " channel"] | None,
    bias: Float[Array, " channel"] | None,
    epsilon: float,
) -> Float[Array, "batch time channel"]:
    """The layer norm of `x` over its last axis, for the place where the convention has it and the config has not."""
    mean = normalization.mean(x, 1)
    variance = normalization.variance(x, mean, 1)
    return normalization.output(normalization.normalized(x, mean, variance, epsilon), scale, bias)


# What a part reads, what its result is added to, and what comes out. `transformer.norm-position` puts the norms in the
# place `other` than the one that the config asks for; `instead` is what stands there then.


def _chosen(other: str) -> Any:
    def function(
        asked: Float[Array, "batch time channel"],
        instead: Float[Array, "batch time channel"],
        *,
        transformer_norm_position: str = "<config>",
    ) -> Float[Array, "batch time channel"]:
        return instead if transformer_norm_position == other else asked

    return function


def _or_normed(other: str) -> Any:
    def function(
        asked: Float[Array, "batch time channel"],
        residual: Float[Array, "batch time channel"],
        epsilon: float,
        scale: Float[Array, " channel"] | None = None,
        bias: Float[Array, " channel"] | None = None,
        *,
        transformer_norm_position: str = "<config>",
    ) -> Float[Array, "batch time channel"]:
        return normed(residual, scale, bias, epsilon) if transformer_norm_position == other else asked

    return function


def _added(other: str) -> Any:
    def function(
        asked: Float[Array, "batch time channel"],
        instead: Float[Array, "batch time channel"],
        part: Float[Array, "batch time channel"],
        *,
        transformer_norm_position: str = "<config>",
    ) -> Float[Array, "batch time channel"]:
        return (instead if transformer_norm_position == other else asked) + part

    return function


class _Row:
    """Parts in a row, each with a residual and a norm: what they add to a layer's steps, weights and config."""

    def __init__(self, norm_first: bool) -> None:
        self.norm_first = norm_first
        self.steps: dict[str, Step] = {}
        self.weights: dict[str, str] = {}
        self.config: dict[str, Any] = {}
        self.number = 0
        self.stream = self.residual = "x"

    def add(self, name: str, layer: Layer, wiring: Mapping[str, str], residual: str) -> None:
        """The part `name`, whose inputs are `<name>.input` where `wiring` does not say otherwise."""
        self.number += 1
        norm, entered = f"norm{self.number}", f"{name}.input"
        other = "post" if self.norm_first else "pre"
        if self.norm_first:
            self._norm(norm, self.residual)
        asked = f"{norm}.output" if self.norm_first else self.stream
        if self.norm_first and self.number == 1:  # with the norms behind it, the first part reads x itself
            self._step(entered, _chosen(other), asked=asked, instead="x")
        else:
            of = _of_norm(self.number - 1 if self.norm_first else self.number)
            self._step(entered, _or_normed(other), asked=asked, residual=self.residual, **of)
        first = next(iter(layer.inputs))
        own = {first: entered, **wiring}
        self.steps |= layer.prefixed(name, own)
        self.weights |= {f"{name}.{w}": axes for w, axes in layer.weights.items()}
        self.config |= {f"{name}.{key}": value for key, value in layer.config.items() if key not in own}
        made = f"{name}.{layer.output}"
        asked, instead = (self.residual, entered) if self.norm_first else (self.stream, self.residual)
        self._step(residual, _added(other), asked=asked, instead=instead, part=made)
        if not self.norm_first:
            self._norm(norm, residual)
            self.stream = f"{norm}.output"
        self.residual = residual

    def close(self) -> None:
        """The step `output`."""
        if self.norm_first:
            of = _of_norm(self.number)
            self._step("output", _or_normed("post"), asked=self.residual, residual=self.residual, **of)
        else:
            self._step("output", _chosen("pre"), asked=self.stream, instead=self.residual)

    def _norm(self, name: str, x: str) -> None:
        self.steps |= _NORM.prefixed(name, {"x": x, "epsilon": "epsilon"})
        self.weights |= {f"{name}.{w}": "channel" for w in _NORM.weights}
        self.config |= {f"{name}.axes": 1}

    def _step(self, name: str, function: Any, **reads: str) -> None:
        self.steps[name] = Step(name, function, reads)


def _of_norm(number: int) -> dict[str, str]:
    return {"epsilon": "epsilon", "scale": f"norm{number}.scale", "bias": f"norm{number}.bias"}


def _attention(to: str, mask: str = "mask", causal: str = "causal") -> dict[str, str]:
    """How attention is wired, with keys and values from `to`."""
    return {"key_input": to, "value_input": to, "mask": mask, "heads": "heads", "kv_heads": "heads", "causal": causal}


def encoder(config: Mapping[str, Any]) -> Layer:
    """A layer of an encoder, with the norms where `config` has them."""
    row = _Row(bool(config.get("norm_first")))
    itself = _attention("self_attention.input")
    row.add("self_attention", multi_head_attention, itself, "attention_residual")
    row.add("feed_forward", feed_forward, {"activation": "activation"}, "feed_forward_residual")
    row.close()
    return Layer(
        name="transformer_encoder_layer",
        summary="Self-attention and a feed-forward part, each with a residual and a layer norm.",
        formula="y = norm1(x + self_attention(x)); output = norm2(y + feed_forward(y)); norm_first: x + f(norm(x))",
        source="Vaswani et al. (2017), section 3.1; norms first: Xiong et al., On Layer Normalization (2020), figure 1",
        inputs={"x": "batch time channel", "mask?": "..."},
        weights=row.weights,
        config={"heads": 1, "causal": None, "norm_first": False, "activation": "relu", "epsilon": 1e-5, **row.config},
        steps=row.steps,
    )


def decoder(config: Mapping[str, Any]) -> Layer:
    """A layer of a decoder: attention to itself, then to the encoder's output `memory`."""
    row = _Row(bool(config.get("norm_first")))
    itself = _attention("self_attention.input")
    row.add("self_attention", multi_head_attention, itself, "attention_residual")
    across = _attention("memory", "memory_mask", "cross_attention.causal")
    row.add("cross_attention", multi_head_attention, across, "cross_attention_residual")
    row.add("feed_forward", feed_forward, {"activation": "activation"}, "feed_forward_residual")
    row.close()
    return Layer(
        name="transformer_decoder_layer",
        summary="Self-attention, attention to an encoder's output and a feed-forward part, each with a norm.",
        formula="y = norm1(x + self_attention(x)); z = norm2(y + cross_attention(y)); norm3(z + feed_forward(z))",
        source="Vaswani et al. (2017), section 3.1",
        inputs={"x": "batch time channel", "memory": "batch key channel", "mask?": "...", "memory_mask?": "..."},
        weights=row.weights,
        config={
            **{"heads": 1, "causal": None, "norm_first": False, "activation": "relu", "epsilon": 1e-5},
            **{"cross_attention.causal": None, **row.config},
        },
        steps=row.steps,
    )


MAKES = {"transformer_encoder_layer": encoder, "transformer_decoder_layer": decoder}
