"""Flax's own modules as they are met in a user's model: which canonical layer each is, with which config, and which
canonical inputs the arguments of a call are."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from flax import linen, nnx

from conformance.errors import Unsupported
from conformance.layer import REVERSE
from conformance_adapters import (
    flax_batch_normalization,
    flax_bidirectional,
    flax_convolution,
    flax_layers,
    flax_lstm,
    flax_normalization,
    flax_recurrent,
    flax_shape,
    jax_activation,
    jax_attention,
)
from conformance_adapters.flax_own_transposed import dropout, transposed, transposed_subject

if TYPE_CHECKING:
    from conformance_adapters.jax_subject import FlaxSubject

Given = Mapping[str, Any]


@dataclass(frozen=True)
class OwnModule:
    """One of Flax's modules: the subject that knows its layout, its config, and its inputs by canonical name.

    `config` reads a module and the arguments of a call, some of which are config (`is_causal`); `inputs` reads the
    arguments of a call alone. Both raise Unsupported for what the canonical layer does not have.
    """

    subject: type[FlaxSubject]
    config: Callable[[Any, Given], dict[str, Any]]
    inputs: Callable[[Any, Given], dict[str, Any]]


def own(module: Any) -> OwnModule | None:
    """What `module` is, if it is one of Flax's own (a subclass may compute anything).

    An RNN is known by its cell: over a cell of the user's own it is the user's. So is one in both directions by its
    two, where they are of one kind and side by side in the output; others are known by themselves.
    """
    if type(module) in (nnx.RNN, linen.RNN):
        return _CELLS.get(type(module.cell)) or _other_cell(type(module.cell))
    if type(module) in (nnx.Bidirectional, linen.Bidirectional):
        return _both(module)
    if type(module) in _TWO_PASS and not module.use_fast_variance:
        return _TWO_PASS[type(module)]
    if type(module) in (nnx.Conv, linen.Conv):
        rank = 1 if isinstance(module.kernel_size, int) else len(module.kernel_size)
        known = flax_convolution.NNX if type(module) is nnx.Conv else flax_convolution.LINEN
        return OwnModule(known.get(rank, known[2]), _convolution, _convolution_inputs)
    if type(module) in (nnx.ConvTranspose, linen.ConvTranspose):
        library = "nnx" if type(module) is nnx.ConvTranspose else "linen"
        subject = transposed_subject(module, library)
        return None if subject is None else OwnModule(subject, transposed, _convolution_inputs)
    return _OWN.get(type(module))


def own_types() -> list[type]:
    """The types that `own` knows inside a model. There linen's Bidirectional is known by its two RNNs: what they hold
    may lie beside it."""
    convolutions = [nnx.Conv, linen.Conv, nnx.ConvTranspose, linen.ConvTranspose]
    return [*_OWN, *convolutions, nnx.RNN, linen.RNN, nnx.Bidirectional]


def computes_in(module: Any) -> str | None:
    """The dtype that one of Flax's own modules was told to compute in, if it was (a cell stands for its RNN)."""
    module = getattr(module, "forward_rnn", module)
    dtype = getattr(getattr(module, "cell", module), "dtype", None)
    return None if dtype is None else jnp.dtype(dtype).name


def arguments(module: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a call by the names of the module's own parameters, without those that are None."""
    bound = inspect.signature(type(module).__call__).bind(module, *args, **kwargs).arguments
    return {n: v for i, (n, v) in enumerate(bound.items()) if i and v is not None}


def _no_config(module: Any, given: Given) -> dict[str, Any]:
    return {}


def _first(module: Any, given: Given) -> dict[str, Any]:
    return {"x": given["inputs"]}


def _indices(module: Any, given: Given) -> dict[str, Any]:
    return {"indices": given["inputs"]}


def _merged(x: Any, axes: int) -> Any:
    """`x` with as many axes as the canonical layer has: all that come before are its batch."""
    return x if x.ndim == axes else jnp.reshape(x, (-1, *x.shape[x.ndim - axes + 1 :]))


# --------------------------------------------------------------------------------- layer norm ----
def _axes(axes: Any, what: str) -> int:
    """How many trailing axes these are."""
    given = sorted([axes] if isinstance(axes, int) else axes)
    if given != list(range(-len(given), 0)):
        raise Unsupported(f"its {what} are {axes}; a layer norm's are the last ones, counted from the end")
    return len(given)


def _layer_norm(module: Any, given: Given) -> dict[str, Any]:
    count = _axes(module.reduction_axes, "reduction_axes")
    if (module.use_scale or module.use_bias) and _axes(module.feature_axes, "feature_axes") != count:
        raise Unsupported(f"it normalises over {count} axes, but its scale and bias have other ones")
    if module.axis_name is not None:
        raise Unsupported(f"its statistics are shared between devices (axis_name={module.axis_name!r})")
    return {"axes": count, "epsilon": float(module.epsilon)}


def _rms_norm(module: Any, given: Given) -> dict[str, Any]:
    return flax_normalization.rms_config(module)


def _group_norm(module: Any, given: Given) -> dict[str, Any]:
    return flax_normalization.group_config(module)


def _batch_norm(module: Any, given: Given) -> dict[str, Any]:
    return flax_batch_normalization.batch_config(module)


def _batch_norm_inputs(module: Any, given: Given) -> dict[str, Any]:
    if given.get("use_running_average", module.use_running_average) is False:
        raise Unsupported("it is called for training, where it normalises each batch by itself")
    return _layer_norm_inputs(module, given)


def _instance_norm(module: Any, given: Given) -> dict[str, Any]:
    return flax_normalization.instance_config(module)


def _layer_norm_inputs(module: Any, given: Given) -> dict[str, Any]:
    if "mask" in given:
        raise Unsupported("it is called with a mask, which leaves elements out of the statistics")
    return {"x": given["x"]}


# -------------------------------------------------------------------------------- convolution ----
_PADDING = {flax: canonical for canonical, flax in flax_convolution.ONE_AXIS.items()}


def _per_axis(value: int | Sequence[int] | None, rank: int) -> tuple[int, ...]:
    return (1,) * rank if value is None else (value,) * rank if isinstance(value, int) else tuple(value)


def _convolution(module: Any, given: Given) -> dict[str, Any]:
    rank = 1 if isinstance(module.kernel_size, int) else len(module.kernel_size)
    if rank not in (1, 2, 3):
        raise Unsupported(f"it convolves over {rank} axes, not over one, two or three")
    if set(_per_axis(module.input_dilation, rank)) != {1}:
        raise Unsupported(f"it dilates its input (input_dilation={module.input_dilation})")
    if module.mask is not None:
        raise Unsupported("its kernel is masked")
    padding = module.padding
    if isinstance(padding, str):
        if padding not in _PADDING:
            raise Unsupported(f"a canonical convolution has no {padding} padding")
        padding = _PADDING[padding]
    else:
        sides = _per_axis(padding, rank) if isinstance(padding, int) else padding
        padding = tuple((side, side) if isinstance(side, int) else tuple(side) for side in sides)
    return {
        "strides": _per_axis(module.strides, rank),
        "padding": padding,
        "dilation": _per_axis(module.kernel_dilation, rank),
        "groups": module.feature_group_count,
    }


def _convolution_inputs(module: Any, given: Given) -> dict[str, Any]:
    rank = 1 if isinstance(module.kernel_size, int) else len(module.kernel_size)
    return {"x": _merged(given["inputs"], rank + 2)}


# ---------------------------------------------------------------------------------- attention ----
def _attention(module: Any, given: Given) -> dict[str, Any]:
    if getattr(module, "normalize_qk", False):
        raise Unsupported("it normalises queries and keys (normalize_qk)")
    if given.get("decode", module.decode):
        raise Unsupported("it decodes step by step from a cache (decode)")
    config = {"heads": module.num_heads}
    kv_heads = getattr(module, "num_kv_heads", None)
    if kv_heads not in (None, module.num_heads):
        config["kv_heads"] = kv_heads
    if given.get("is_causal"):
        config["causal"] = "top-left"
    return config


def _attention_inputs(module: Any, given: Given) -> dict[str, Any]:
    query = given["inputs_q"]
    key = given.get("inputs_k", given.get("inputs_kv"))
    found = {"query_input": query, "key_input": key, "value_input": given.get("inputs_v", given.get("inputs_kv"))}
    inputs = {n: _merged(x, 3) for n, x in found.items() if x is not None}
    mask = given.get("mask")
    if mask is not None:
        if query.ndim > 3 or mask.ndim > 4:
            raise Unsupported("it is called with a mask and more than one batch axis")
        # Flax's masks may be numbers (make_attention_mask gives float32): what is not zero attends.
        inputs["mask"] = jnp.reshape(mask != 0, (1,) * (4 - mask.ndim) + mask.shape)
    return inputs


# ------------------------------------------------------------------------------------- recurrent ----
def _activation(function: Any, what: str) -> str:
    for canonical, name in flax_recurrent.ACTIVATIONS.items():
        if function is getattr(jax.nn, name):
            return canonical
    raise Unsupported(f"its {what} is {getattr(function, '__name__', function)}")


def _recurrent(module: Any, given: Given) -> dict[str, Any]:
    cell = module.cell
    if getattr(cell, "residual", False):
        raise Unsupported("it adds its state to the sum before the activation (residual)")
    if cell.carry_init not in (None, jax.nn.initializers.zeros):
        raise Unsupported("its initial state is drawn by a carry_init of its own, not zeros")
    reverse = given.get("reverse", module.reverse)
    config = {
        "direction": "reverse" if reverse else "forward",
        "activation": _activation(cell.activation_fn, "activation_fn"),
    }
    if hasattr(cell, "gate_fn"):
        config["recurrent_activation"] = _activation(cell.gate_fn, "gate_fn")
    return {**config, "reset": "after"} if type(cell) in (nnx.GRUCell, linen.GRUCell) else config


def _recurrent_inputs(module: Any, given: Given) -> dict[str, Any]:
    inputs = _sequence(module, given)
    return inputs | (_carried(given["initial_carry"]) if "initial_carry" in given else {})


def _sequence(module: Any, given: Given) -> dict[str, Any]:
    x = given["inputs"]
    if given.get("time_major", module.time_major):
        x = jnp.moveaxis(x, 0, -2)
    inputs = {"x": _merged(x, 3)}
    if "seq_lengths" in given:
        inputs["lengths"] = jnp.reshape(given["seq_lengths"], -1)
    return inputs


def _carried(carry: Any, prefix: str = "") -> dict[str, Any]:
    *cell, hidden = carry if isinstance(carry, tuple | list) else (carry,)
    states = {"initial_hidden": hidden, **({"initial_cell": cell[0]} if cell else {})}
    return {f"{prefix}{n}": _merged(state, 2) for n, state in states.items()}


def _both_inputs(module: Any, given: Given) -> dict[str, Any]:
    inputs = _sequence(module, given)
    for prefix, carry in zip(("", REVERSE), given.get("initial_carry", ()), strict=False):
        inputs |= _carried(carry, prefix) if carry is not None else {}
    return inputs


def _both_config(module: Any, given: Given) -> dict[str, Any]:
    forward, backward = (_recurrent(rnn, {"reverse": False}) for rnn in (module.forward_rnn, module.backward_rnn))
    if forward != backward:
        raise Unsupported(f"its two directions have other activations: {forward} and {backward}")
    return {**forward, "direction": "bidirectional", "merge": "concat"}


def _both(module: Any) -> OwnModule | None:
    """Two of Flax's RNNs over cells of one kind, whose outputs stand side by side."""
    kinds = {type(getattr(rnn, "cell", None)) for rnn in (module.forward_rnn, module.backward_rnn)}
    concatenates = type(module).merge_fn
    if len(kinds) > 1 or module.merge_fn is not concatenates:
        return None
    subject = {kind: OwnModule(s, _both_config, _both_inputs) for kind, s in _BOTH.items()}
    return subject.get(kinds.pop())


def _other_cell(cell: type) -> OwnModule | None:
    if not cell.__module__.startswith("flax."):
        return None

    def refused(module: Any, given: Given) -> dict[str, Any]:
        known = ", ".join(sorted({c.__name__ for c in _CELLS}))
        raise Unsupported(f"it runs a {cell.__name__}; of Flax's cells, {known} are known")

    return OwnModule(flax_lstm.NnxLstm, refused, _recurrent_inputs)


# --------------------------------------------------------------------------------------- table ----
_OWN: dict[type, OwnModule] = {
    nnx.Linear: OwnModule(flax_layers.NnxLinear, _no_config, _first),
    linen.Dense: OwnModule(flax_layers.LinenDense, _no_config, _first),
    nnx.Embed: OwnModule(flax_shape.NnxEmbed, _no_config, _indices),
    linen.Embed: OwnModule(flax_shape.LinenEmbed, _no_config, _indices),
    nnx.LayerNorm: OwnModule(flax_layers.NnxLayerNorm, _layer_norm, _layer_norm_inputs),
    linen.LayerNorm: OwnModule(flax_layers.LinenLayerNorm, _layer_norm, _layer_norm_inputs),
    nnx.RMSNorm: OwnModule(flax_normalization.NnxRMSNorm, _rms_norm, _layer_norm_inputs),
    linen.RMSNorm: OwnModule(flax_normalization.LinenRMSNorm, _rms_norm, _layer_norm_inputs),
    nnx.Dropout: OwnModule(flax_shape.NnxDropout, dropout, _first),
    linen.Dropout: OwnModule(flax_shape.LinenDropout, dropout, _first),
    nnx.PReLU: OwnModule(jax_activation.NnxPrelu, _no_config, _first),
    linen.PReLU: OwnModule(jax_activation.LinenPrelu, _no_config, _first),
    nnx.BatchNorm: OwnModule(flax_batch_normalization.NnxBatchNorm, _batch_norm, _batch_norm_inputs),
    linen.BatchNorm: OwnModule(flax_batch_normalization.LinenBatchNorm, _batch_norm, _batch_norm_inputs),
    nnx.GroupNorm: OwnModule(flax_normalization.NnxGroupNorm, _group_norm, _layer_norm_inputs),
    linen.GroupNorm: OwnModule(flax_normalization.LinenGroupNorm, _group_norm, _layer_norm_inputs),
    nnx.InstanceNorm: OwnModule(flax_normalization.NnxInstanceNorm, _instance_norm, _layer_norm_inputs),
    linen.InstanceNorm: OwnModule(flax_normalization.LinenInstanceNorm, _instance_norm, _layer_norm_inputs),
    nnx.MultiHeadAttention: OwnModule(jax_attention.NnxMultiHeadAttention, _attention, _attention_inputs),
    linen.MultiHeadDotProductAttention: OwnModule(jax_attention.LinenMultiHeadAttention, _attention, _attention_inputs),
    linen.MultiHeadAttention: OwnModule(jax_attention.LinenMultiHeadAttention, _attention, _attention_inputs),
    linen.SelfAttention: OwnModule(jax_attention.LinenSelfAttention, _attention, _attention_inputs),
}
_TWO_PASS: dict[type, OwnModule] = {
    nnx.LayerNorm: OwnModule(flax_layers.NnxLayerNormTwoPass, _layer_norm, _layer_norm_inputs),
    linen.LayerNorm: OwnModule(flax_layers.LinenLayerNormTwoPass, _layer_norm, _layer_norm_inputs),
    nnx.GroupNorm: OwnModule(flax_normalization.NnxGroupNormTwoPass, _group_norm, _layer_norm_inputs),
    linen.GroupNorm: OwnModule(flax_normalization.LinenGroupNormTwoPass, _group_norm, _layer_norm_inputs),
    nnx.InstanceNorm: OwnModule(flax_normalization.NnxInstanceNormTwoPass, _instance_norm, _layer_norm_inputs),
    linen.InstanceNorm: OwnModule(flax_normalization.LinenInstanceNormTwoPass, _instance_norm, _layer_norm_inputs),
}
_BOTH: dict[type, type[FlaxSubject]] = {
    getattr(nnx if subject.name.startswith("flax.nnx") else linen, subject.one.cell): subject
    for subject in (*flax_bidirectional.SUBJECTS, *flax_bidirectional.OTHERS)
}
_CELLS: dict[type, OwnModule] = {
    nnx.OptimizedLSTMCell: OwnModule(flax_lstm.NnxOptimizedLstm, _recurrent, _recurrent_inputs),
    nnx.LSTMCell: OwnModule(flax_lstm.NnxLstm, _recurrent, _recurrent_inputs),
    nnx.GRUCell: OwnModule(flax_recurrent.NnxGru, _recurrent, _recurrent_inputs),
    nnx.SimpleCell: OwnModule(flax_recurrent.NnxSimple, _recurrent, _recurrent_inputs),
    linen.OptimizedLSTMCell: OwnModule(flax_lstm.LinenOptimizedLstm, _recurrent, _recurrent_inputs),
    linen.LSTMCell: OwnModule(flax_lstm.LinenLstm, _recurrent, _recurrent_inputs),
    linen.GRUCell: OwnModule(flax_recurrent.LinenGru, _recurrent, _recurrent_inputs),
    linen.SimpleCell: OwnModule(flax_recurrent.LinenSimple, _recurrent, _recurrent_inputs),
}
