"""Keras's own layers as they are met in a user's model: which canonical layer each is, with which config, and which
canonical inputs the arguments of a call are."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from conformance import layout
from conformance.errors import ConformanceError, Unsupported
from conformance_adapters.keras_additive_attention import AdditiveAttention, called_with
from conformance_adapters.keras_attention import GroupQueryAttention, MultiHeadAttention
from conformance_adapters.keras_convolution import Conv1D, Conv2D, Conv3D
from conformance_adapters.keras_depthwise import DepthwiseConv2D, SeparableConv2D
from conformance_adapters.keras_layers import Dense, LayerNormalization, Softmax
from conformance_adapters.keras_normalization import BatchNormalization, GroupNormalization, RMSNormalization
from conformance_adapters.keras_own_activation import own_functions, own_layers, rectifier
from conformance_adapters.keras_own_pooling import own_pools
from conformance_adapters.keras_own_shape import own_shapes
from conformance_adapters.keras_recurrent import GRU, LSTM, GRUResetBefore, SimpleRNN
from conformance_adapters.keras_siblings import Attention, GeluActivation, SoftmaxActivation
from conformance_adapters.keras_subject import KerasSubject, seen_as, to_numpy
from conformance_adapters.keras_transposed import TRANSPOSED

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conformance.trace import Request

Tensors = dict[str, Any]
# What may have an activation behind what the canonical layer computes.
_ACTIVATED = (Dense, Conv1D, Conv2D, Conv3D, DepthwiseConv2D, SeparableConv2D, *TRANSPOSED.values())


@dataclass(frozen=True)
class OwnLayer:
    """One of Keras's layers: the subject that knows its layout, its config, its inputs by canonical name, and what of
    the config only a call tells. `sizes` are those of the layouts' axes that the config tells; `told` are weights
    that are in the config."""

    subject: type[KerasSubject]
    config: Callable[[Any], dict[str, Any]]
    inputs: Callable[[Mapping[str, Any]], Tensors]
    asked: Callable[[Mapping[str, Any]], dict[str, Any]] = lambda given: {}
    sizes: Callable[[Mapping[str, Any]], dict[str, int]] = lambda config: {}
    told: tuple[str, ...] = ()


def own(layer: Any) -> OwnLayer | None:
    """What `layer` is, if it is one of Keras's own (a subclass may compute anything)."""
    if type(layer).__name__ == "Activation":
        return _activations().get((type(layer), layer.activation))
    if type(layer).__name__ == "ReLU" and type(layer).__module__.startswith("keras."):
        return OwnLayer(*rectifier(layer), _x)
    known = _layers().get(type(layer))
    if known is not None and known.subject is GRU and not layer.reset_after:
        return replace(known, subject=GRUResetBefore)
    return known


def config(layer: Any) -> dict[str, Any]:
    """The canonical config of a layer.

    Raises Unsupported for an option that the canonical layer does not have, ConformanceError where it is not built.
    """
    known = own(layer)
    assert known is not None
    if getattr(layer, "quantization_mode", None) is not None:
        raise Unsupported(f"{known.subject.name} of quantised weights ({layer.quantization_mode})")
    if not layer.built:
        raise ConformanceError(f"{known.subject.name} {layer.name!r} is not built, so it has no weights: call it once")
    return known.config(layer)


def weights(layer: Any) -> dict[str, NDArray[Any]]:
    """The canonical weights in `layer`. Raises Unsupported where it holds one that the canonical layer has not."""
    known = own(layer)
    assert known is not None
    names = {p.name for p in known.subject.parameters}
    arrays = {}
    for variable in layer.weights:
        name = next((n for n in names if f"/{variable.path}".endswith(f"/{n}")), None)
        if name is not None:
            arrays[name] = to_numpy(variable.value)
        elif "float" in str(variable.dtype) and variable.name not in known.told:
            raise Unsupported(f"{known.subject.name} with the further weight {variable.path}")
    return layout.read(known.subject.parameters, arrays, **known.sizes(config(layer)))


def around(layer: Any, backend: str, request: Request) -> KerasSubject:
    """The subject that has `layer`, ready to be called with the canonical inputs of `request`."""
    known = own(layer)
    assert known is not None
    return known.subject.on(backend).around(layer, request)


def activation_of(layer: Any) -> str | None:
    """The name of the activation that a layer applies to what the canonical layer computes, where it applies one."""
    from keras import activations

    known = own(layer)
    if known is None or known.subject not in _ACTIVATED or layer.activation in (None, activations.linear):
        return None
    return _name(layer.activation)


@contextmanager
def before_activation(layer: Any) -> Iterator[None]:
    """While this holds, `layer` gives what it computes before its activation."""
    with seen_as(type(layer), only=layer, activation=None):
        yield


def captured(layer: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Tensors, dict[str, Any]]:
    """The canonical inputs, still tensors, that a call of `layer` was given, and the config that the call asked for.

    Raises Unsupported.
    """
    known = own(layer)
    assert known is not None
    signature = inspect.signature(layer.call)
    # Models pass `training` to every layer; Keras drops it for one that does not take it.
    taken = {n: v for n, v in kwargs.items() if n != "training" or n in signature.parameters}
    bound = signature.bind(*args, **taken)
    bound.apply_defaults()
    return known.inputs(bound.arguments), known.asked(bound.arguments)


def _refuse(condition: object, sentence: str) -> None:
    if condition:
        raise Unsupported(sentence)


def _name(activation: Any) -> str:
    return str(getattr(activation, "__name__", type(activation).__name__))


def _x(given: Mapping[str, Any]) -> Tensors:
    x = next(iter(given.values()))
    masked = "mask" in given and (given["mask"] is not None or getattr(x, "_keras_mask", None) is not None)
    _refuse(masked, "a call with a mask")
    return {"x": x}


def _in_inference(given: Mapping[str, Any]) -> Tensors:
    _refuse(given.get("training"), "a call for training, which normalises each batch by itself")
    return _x(given)


def _softmax(layer: Any) -> dict[str, Any]:
    axes = [layer.axis] if isinstance(layer.axis, int) else list(layer.axis)
    _refuse(len(axes) != 1, f"keras.layers.Softmax over the axes {axes} together")
    return {"axis": axes[0]}


def _layer_norm(layer: Any) -> dict[str, Any]:
    made = layer.get_config()
    _refuse(made.get("rms_scaling"), "keras.layers.LayerNormalization with rms_scaling")
    axes = sorted([made["axis"]] if isinstance(made["axis"], int) else made["axis"])
    if axes[0] >= 0:
        rank = len((layer.get_build_config() or {}).get("input_shape") or ())
        axes = [a - rank for a in axes]
    _refuse(
        axes != list(range(-len(axes), 0)), f"keras.layers.LayerNormalization over other axes than the last: {axes}"
    )
    return {"axes": len(axes), "epsilon": made["epsilon"]}


def _convolution(layer: Any) -> dict[str, Any]:
    return {**_ungrouped(layer), "groups": layer.groups}


def _ungrouped(layer: Any) -> dict[str, Any]:
    _refuse(layer.data_format != "channels_last", f"keras.layers.{type(layer).__name__} with channels first")
    return {
        "strides": list(layer.strides),
        "padding": {"same": "same-upper"}.get(layer.padding, layer.padding),
        "dilation": list(layer.dilation_rate),
    }


def _transposed(layer: Any) -> dict[str, Any]:
    made = _ungrouped(layer)
    _refuse(layer.output_padding is not None, f"keras.layers.{type(layer).__name__} with an output_padding of its own")
    return made


def _recurrent(layer: Any) -> dict[str, Any]:
    own_name = f"keras.layers.{type(layer).__name__}"
    _refuse(layer.stateful, f"{own_name} that keeps its state between calls (stateful=True)")
    options = [option for option in ("activation", "recurrent_activation") if hasattr(layer, option)]
    named = {option: _name(getattr(layer, option)) for option in options}
    for option, name in named.items():
        known = LSTM.options[option]
        _refuse(name not in known, f"{own_name} with {option}={name!r}: known are {', '.join(known)}")
    if hasattr(layer, "reset_after"):
        named["reset"] = "after" if layer.reset_after else "before"
    return {"direction": "reverse" if layer.go_backwards else "forward", **named}


def _states(given: Mapping[str, Any]) -> Tensors:
    sequences, states = given["sequences"], given["initial_state"]
    masked = given["mask"] if given["mask"] is not None else getattr(sequences, "_keras_mask", None)
    _refuse(masked is not None, "a recurrent layer called with a mask of time steps")
    states = () if states is None else states if isinstance(states, list | tuple) else (states,)
    return {"x": sequences, **dict(zip(("initial_hidden", "initial_cell"), states, strict=False))}


def _attention(layer: Any) -> dict[str, Any]:
    made, name = layer.get_config(), own(layer).subject.name  # type: ignore[union-attr]
    _refuse(made.get("use_gate"), f"{name} with a gate (use_gate=True)")
    _refuse(made.get("attention_axes") not in (None, (1,), [1]), f"{name} over several axes of positions")
    _refuse(len(made.get("output_shape") or ()) > 1, f"{name} whose output has several axes of channels")
    window = made.get("sliding_window")
    read = {"heads": made["num_heads"]} if "num_heads" in made else _grouped(made)
    return read if window is None else {**read, "window": window - 1}  # Keras counts a query's own position


def _grouped(made: Mapping[str, Any]) -> dict[str, Any]:
    return {"heads": made["num_query_heads"], "kv_heads": made["num_key_value_heads"]}


def _head_sizes(made: Mapping[str, Any]) -> dict[str, int]:
    return {"head": made["heads"], "kvhead": made.get("kv_heads") or made["heads"]}


def _projected(given: Mapping[str, Any]) -> Tensors:
    """Keras's attention takes the mask of a call and the masks that its inputs carry, all of them together."""
    query, value = given["query"], given["value"]
    key = value if given["key"] is None else given["key"]
    made = {"query_input": query}
    if key is not query:
        made["key_input"] = key
    if value is not key:
        made["value_input"] = value
    masks = [given["attention_mask"]]
    carried = {n: getattr(given[n], "_keras_mask", None) for n in ("query", "value", "key")}
    for name, mask in {n: m if given[f"{n}_mask"] is None else given[f"{n}_mask"] for n, m in carried.items()}.items():
        if mask is not None:
            masks.append(mask[:, :, None] if name == "query" else mask[:, None, :])
    together = _joined([m for m in masks if m is not None])
    return made if together is None else {**made, "mask": together}


def _joined(masks: list[Any]) -> Any:
    """All of the masks, with three axes where they agree in every head."""
    from keras import ops

    if not masks:
        return None
    rank = max(3, *(len(m.shape) for m in masks))
    whole = None
    for mask in masks:
        mask = ops.cast(mask, "bool")
        while len(mask.shape) < rank:
            mask = ops.expand_dims(mask, 0 if len(mask.shape) == 2 else 1)
        whole = mask if whole is None else ops.logical_and(whole, mask)
    return whole


def _causal(given: Mapping[str, Any]) -> dict[str, Any]:
    return {"causal": "top-left"} if given["use_causal_mask"] else {}


@functools.cache
def _layers() -> Mapping[type, OwnLayer]:
    from keras import layers

    return {
        layers.Dense: OwnLayer(Dense, lambda layer: {}, _x),
        layers.LayerNormalization: OwnLayer(LayerNormalization, _layer_norm, _x),
        layers.RMSNormalization: OwnLayer(RMSNormalization, RMSNormalization.read_config, _x),
        layers.BatchNormalization: OwnLayer(BatchNormalization, BatchNormalization.read_config, _in_inference),
        layers.GroupNormalization: OwnLayer(GroupNormalization, GroupNormalization.read_config, _x),
        layers.Softmax: OwnLayer(Softmax, _softmax, _x),
        **{kind: OwnLayer(*known, _x) for kind, known in own_layers().items()},
        layers.Conv1D: OwnLayer(Conv1D, _convolution, _x),
        layers.Conv2D: OwnLayer(Conv2D, _convolution, _x),
        layers.Conv3D: OwnLayer(Conv3D, _convolution, _x),
        layers.DepthwiseConv2D: OwnLayer(DepthwiseConv2D, _ungrouped, _x),
        layers.SeparableConv2D: OwnLayer(SeparableConv2D, _ungrouped, _x),
        layers.Conv1DTranspose: OwnLayer(TRANSPOSED[1], _transposed, _x),
        layers.Conv2DTranspose: OwnLayer(TRANSPOSED[2], _transposed, _x),
        layers.Conv3DTranspose: OwnLayer(TRANSPOSED[3], _transposed, _x),
        **{kind: OwnLayer(subject, config, _x) for kind, (subject, config) in own_pools().items()},
        **{kind: OwnLayer(*known) for kind, known in own_shapes(_x).items()},
        layers.LSTM: OwnLayer(LSTM, _recurrent, _states),
        layers.GRU: OwnLayer(GRU, _recurrent, _states),
        layers.SimpleRNN: OwnLayer(SimpleRNN, _recurrent, _states),
        layers.MultiHeadAttention: OwnLayer(MultiHeadAttention, _attention, _projected, _causal, _head_sizes),
        layers.GroupQueryAttention: OwnLayer(GroupQueryAttention, _attention, _projected, _causal, _head_sizes),
        layers.AdditiveAttention: OwnLayer(AdditiveAttention, lambda layer: {}, called_with),
        layers.Attention: OwnLayer(Attention, Attention.read_config, Attention.called_with, _causal, told=("scale",)),
    }


@functools.cache
def _activations() -> Mapping[tuple[type, Any], OwnLayer]:
    from keras import activations, layers

    return {
        (layers.Activation, activations.gelu): OwnLayer(GeluActivation, lambda layer: {"approximation": "none"}, _x),
        **{(layers.Activation, function): OwnLayer(*known, _x) for function, known in own_functions().items()},
        (layers.Activation, activations.softmax): OwnLayer(SoftmaxActivation, lambda layer: {"axis": -1}, _x),
    }
