"""PyTorch's own modules as they are met in a user's model: which canonical layer each is, with which config, and which
canonical inputs the arguments of a call are."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from conformance.errors import Unsupported
from conformance.layer import REVERSE
from conformance.layers.stacked import prefixes
from conformance.trace import Request
from conformance_adapters import torch_normalization
from conformance_adapters.torch_attention import MultiheadAttention
from conformance_adapters.torch_convolution import Conv1d, Conv2d, Conv3d
from conformance_adapters.torch_nn import Gelu, LayerNorm, Linear, Softmax
from conformance_adapters.torch_own_activation import own_activations
from conformance_adapters.torch_own_pooling import own_pools
from conformance_adapters.torch_own_shape import own_shapes
from conformance_adapters.torch_own_transformer import is_custom, own_transformers
from conformance_adapters.torch_recurrent import Gru, Lstm, Rnn
from conformance_adapters.torch_subject import TorchSubject
from conformance_adapters.torch_transposed import TRANSPOSED

if TYPE_CHECKING:
    from numpy.typing import NDArray

Arrays = dict[str, Any]


@dataclass(frozen=True)
class OwnModule:
    """One of PyTorch's modules: the subject that knows its layout, its config, and its inputs by canonical name.

    `fitting` are inputs that it takes, where it does not take those of any number of axes.
    """

    subject: type[TorchSubject]
    config: Callable[[Any], dict[str, Any]]
    inputs: Callable[[Any, Mapping[str, Any]], Arrays]
    fitting: Callable[[Any], Mapping[str, NDArray[Any]]] = lambda module: {}


def own(module: nn.Module) -> OwnModule | None:
    """What `module` is, if it is one of PyTorch's own (a subclass may compute anything). A transformer's layer with an
    activation of the user's is none: its parts are."""
    return None if is_custom(module) else _OWN.get(type(module))


def around(module: nn.Module, inputs: Mapping[str, NDArray[Any]], dtype: str) -> TorchSubject:
    """The subject that has `module`, ready to be called with canonical `inputs`."""
    known = _OWN[type(module)]
    request = Request(known.subject.layer, "", known.config(module), inputs, {}, dtype)
    return known.subject.around(module, request)


def held(module: nn.Module) -> dict[str, NDArray[Any]]:
    """The canonical weights in `module`, in float64, in which PyTorch's two bias vectors add up exactly."""
    from conformance import layout
    from conformance_adapters.torch_tape import to_numpy

    known = _OWN[type(module)]
    subject = known.subject.__new__(known.subject)
    subject.module, subject.config = module, known.config(module)
    arrays = {n: to_numpy(p).astype("float64") for n, p in module.state_dict().items()}
    return layout.read(subject.layouts(), arrays)


def written(module: nn.Module) -> dict[str, NDArray[Any]]:
    """The parameters of `module`, written anew from the canonical weights in it. Raises Unsupported."""
    from conformance import layout

    known = _OWN[type(module)]
    subject = known.subject.__new__(known.subject)
    subject.module, subject.config = module, known.config(module)
    return layout.write(subject.layouts(), held(module))


def captured(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Arrays:
    """The canonical inputs, still tensors, that a call of `module` was given. Raises Unsupported."""
    bound = inspect.signature(module.forward).bind(*args, **kwargs)
    bound.apply_defaults()
    return _OWN[type(module)].inputs(module, bound.arguments)


def _refuse(condition: object, sentence: str) -> None:
    if condition:
        raise Unsupported(sentence)


def _x(module: Any, given: Mapping[str, Any]) -> Arrays:
    return {"x": next(iter(given.values()))}


def _softmax(module: nn.Softmax) -> dict[str, Any]:
    _refuse(module.dim is None, "torch.nn.Softmax without a dim guesses one: give it its dim")
    return {"axis": module.dim}


def _convolution(module: Any) -> dict[str, Any]:
    _refuse(
        module.padding_mode != "zeros", f"torch.nn.{type(module).__name__} with padding_mode={module.padding_mode!r}"
    )
    named = {"same": "same-upper", "valid": "valid"}
    padding: Any = module.padding
    return {
        "strides": list(module.stride),
        "padding": named[padding] if isinstance(padding, str) else [[p, p] for p in padding],
        "dilation": list(module.dilation),
        "groups": module.groups,
    }


def _transposed(module: Any) -> dict[str, Any]:
    name = f"torch.nn.{type(module).__name__}"
    _refuse(module.padding_mode != "zeros", f"{name} with padding_mode={module.padding_mode!r}")
    _refuse(module.groups != 1, f"{name} of {module.groups} groups")
    return {
        "strides": list(module.stride),
        "padding": [[p, p] for p in module.padding],
        "output_padding": list(module.output_padding),
        "dilation": list(module.dilation),
    }


def _channels_last(module: Any, given: Mapping[str, Any]) -> Arrays:
    x = given["input"]
    return {"x": (x if x.ndim == len(module.kernel_size) + 2 else x[None]).movedim(1, -1)}


def _recurrent(module: nn.RNNBase) -> dict[str, Any]:
    one = {"layers": module.num_layers, "direction": "bidirectional" if module.bidirectional else "forward"}
    if isinstance(module, nn.RNN):
        return {**one, "activation": module.nonlinearity}
    gates = {**one, "activation": "tanh", "recurrent_activation": "sigmoid"}
    return gates | {"reset": "after"} if isinstance(module, nn.GRU) else gates


def _states(module: Any, given: Mapping[str, Any]) -> Arrays:
    x, states = given["input"], given["hx"]
    _refuse(not isinstance(x, torch.Tensor), "a packed sequence: give it padded")
    made = {"x": x if x.ndim == 3 else x[None] if module.batch_first else x[:, None]}
    if not module.batch_first:
        made["x"] = made["x"].transpose(0, 1)
    states = states if isinstance(states, tuple) else () if states is None else (states,)
    for name, state in zip(("initial_hidden", "initial_cell"), states, strict=False):
        sides = ("", REVERSE) if module.bidirectional else ("",)
        cells = [f"{layer}{side}" for layer in prefixes(module.num_layers) for side in sides]
        each = state.reshape(len(cells), -1, state.shape[-1])
        made |= {f"{cell}{name}": one for cell, one in zip(cells, each, strict=True)}
    return made


def _attention(module: nn.MultiheadAttention) -> dict[str, Any]:
    _refuse(module.bias_k is not None, "torch.nn.MultiheadAttention with add_bias_kv")
    _refuse(module.add_zero_attn, "torch.nn.MultiheadAttention with add_zero_attn")
    return {"heads": module.num_heads}


def _attended(module: Any, given: Mapping[str, Any]) -> Arrays:
    """Its masks are true where a key is blocked; canonical masks are true where it is attended."""
    query, key, value = given["query"], given["key"], given["value"]
    padding, is_single = given["key_padding_mask"], query.ndim == 2  # without a batch axis
    made = {"query_input": query}
    if key is not query:
        made["key_input"] = key
    if value is not key:
        made["value_input"] = value
    if is_single:
        made = {n: x[None] for n, x in made.items()}
    elif not module.batch_first:
        made = {n: x.transpose(0, 1) for n, x in made.items()}
    masks = []
    if padding is not None:
        masks.append((padding[None] if is_single else padding)[:, None, None, :])
    if given["attn_mask"] is not None:
        mask = given["attn_mask"]
        masks.append(mask[None, None] if mask.ndim == 2 else mask.unflatten(0, (-1, module.num_heads)))
    if masks and all(m.dtype == torch.bool for m in masks):
        made["mask"] = ~torch.stack(torch.broadcast_tensors(*masks)).any(0)
    elif masks:
        added = [torch.zeros(m.shape).masked_fill(m, -torch.inf) if m.dtype == torch.bool else m for m in masks]
        made["mask"] = torch.stack(torch.broadcast_tensors(*added)).sum(0)
    return made


_OWN: Mapping[type[nn.Module], OwnModule] = {
    **{kind: OwnModule(*parts) for kind, parts in own_transformers(_attended).items()},
    nn.Linear: OwnModule(Linear, lambda module: {}, _x),
    nn.LayerNorm: OwnModule(
        LayerNorm, lambda module: {"axes": len(module.normalized_shape), "epsilon": module.eps}, _x
    ),
    nn.RMSNorm: OwnModule(torch_normalization.RMSNorm, torch_normalization.RMSNorm.read_config, _x),
    **dict.fromkeys(
        (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d),
        OwnModule(
            torch_normalization.BatchNorm,
            torch_normalization.BatchNorm.read_config,
            torch_normalization.channels_last,
            torch_normalization.fitting,
        ),
    ),
    nn.GroupNorm: OwnModule(
        torch_normalization.GroupNorm,
        torch_normalization.GroupNorm.read_config,
        torch_normalization.channels_last,
        torch_normalization.fitting,
    ),
    **dict.fromkeys(
        (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d),
        OwnModule(
            torch_normalization.InstanceNorm,
            torch_normalization.InstanceNorm.read_config,
            torch_normalization.channels_last,
            torch_normalization.fitting,
        ),
    ),
    nn.Softmax: OwnModule(Softmax, _softmax, _x),
    nn.GELU: OwnModule(Gelu, lambda module: {"approximation": module.approximate}, _x),
    **{kind: OwnModule(*known) for kind, known in own_activations().items()},
    nn.Conv1d: OwnModule(Conv1d, _convolution, _channels_last),
    nn.Conv2d: OwnModule(Conv2d, _convolution, _channels_last),
    nn.Conv3d: OwnModule(Conv3d, _convolution, _channels_last),
    nn.ConvTranspose1d: OwnModule(TRANSPOSED[1], _transposed, _channels_last),
    nn.ConvTranspose2d: OwnModule(TRANSPOSED[2], _transposed, _channels_last),
    nn.ConvTranspose3d: OwnModule(TRANSPOSED[3], _transposed, _channels_last),
    nn.LSTM: OwnModule(Lstm, _recurrent, _states),
    nn.GRU: OwnModule(Gru, _recurrent, _states),
    nn.RNN: OwnModule(Rnn, _recurrent, _states),
    nn.MultiheadAttention: OwnModule(MultiheadAttention, _attention, _attended),
    **{kind: OwnModule(*entry) for kind, entry in own_pools().items()},
    **{kind: OwnModule(*entry) for kind, entry in own_shapes().items()},
}
