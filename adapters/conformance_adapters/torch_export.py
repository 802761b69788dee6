"""PyTorch's state dicts: the modules that their parameters are of, told by names and shapes.

A state dict has no types. What its names and shapes leave open is said with its candidates.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import nn

from conformance.conversion import Held, Settled
from conformance.errors import ConformanceError, Unsupported
from conformance.layer import nearest
from conformance.layers import get_layer, layer_names
from conformance.weight_file import Kept, Origin
from conformance_adapters.torch_live import TorchLive
from conformance_adapters.torch_own import own, written
from conformance_adapters.torch_state import state_in, stored

if TYPE_CHECKING:
    from torch import Tensor

Tensors = dict[str, "Tensor"]
_ATTENTION = re.compile(r"(?:(in_proj_(?:weight|bias)|[qkv]_proj_weight|bias_[kv])|(out_proj\.(?:weight|bias)))$")
_RECURRENT = re.compile(r"(weight|bias)_(ih|hh|hr)(?:_l(\d+)(_reverse)?)?$")
_NORMS = ("layer_norm", "rms_norm", "group_norm", "instance_norm", "batch_norm")
_SPOKEN = {  # how the last part of a path names a normalisation
    "layer_norm": re.compile(r"(layer_?norm|norm|ln)(_?\w)?(_?\d+)?|ln_\w+|norm_\w+|\w+_ln|\w+_layer_?norm"),
    "rms_norm": re.compile(r"\w*rms_?norm\w*"),
    "group_norm": re.compile(r"(group_?norm|gn)(_?\d+)?"),
    "instance_norm": re.compile(r"(instance_?norm|in)(_?\d+)?"),
}
_SPOKEN_MATRIX = {  # how it names a matrix without a bias
    "linear": re.compile(
        r"(\w+_)?(proj|projection|fc|linear|dense|lin|attn)_?\d*|fc\w*|lm_head|head|classifier|to_\w+|w[qkvo]|qkv"
    ),
    "embedding": re.compile(r"w[tp]e|(\w+_)?(embed|embedding|embeddings|emb)(_tokens|_positions|_in)?"),
}


def weights_in(path: Path, settled: Settled) -> list[Held]:
    """The layers of the state dict in the file. Raises ConformanceError as `state_in` does."""
    state = state_in(path)
    groups = list(_groups(state))
    _require_paths(path, [g.path or "." for g in groups], settled)
    return [_held(group, settled) for group in groups]


@dataclass(frozen=True)
class _Group:
    """Parameters of one module: its path, its tensors by the module's own names, and their names in the file."""

    path: str
    tensors: Tensors
    names: tuple[str, ...]
    kind: str = ""


def _groups(state: Mapping[str, Tensor]) -> Iterator[_Group]:
    """The parameters by module, in the order of the file."""
    attention = {
        name[: match.start()]
        for name in state
        if (match := _ATTENTION.search(name)) and match[1] and f"{name[: match.start()]}out_proj.weight" in state
    }
    made: dict[tuple[str, str], dict[str, str]] = {}
    for name in state:
        match = _ATTENTION.search(name)
        if match and name[: match.start()] in attention:
            made.setdefault((name[: match.start()].rstrip("."), "attention"), {})[match[0]] = name
            continue
        match = _RECURRENT.search(name)
        if match:
            prefix, number = name[: match.start()].rstrip("."), int(match[3] or 0)
            stacked = any(re.fullmatch(re.escape(name[: match.start()]) + r"weight_ih_l1", n) for n in state)
            path = ".".join(p for p in (prefix, f"l{number}" if stacked else "") if p)
            made.setdefault((path, "recurrent"), {})[f"{match[1]}_{match[2]}_l0{match[4] or ''}"] = name
            continue
        prefix, _, leaf = name.rpartition(".")
        made.setdefault((prefix, ""), {})[leaf] = name
    for (path, kind), leaves in made.items():
        yield _Group(path, {leaf: state[n] for leaf, n in leaves.items()}, tuple(leaves.values()), kind)


def _require_paths(path: Path, there: list[str], settled: Settled) -> None:
    for said in (*settled.layers, *(p for p in settled.config if p)):
        if said not in there:
            raise ConformanceError(
                f"{path}: there is no {said!r}{nearest(said, there)}; it has {', '.join(there[:40])}"
            )


def _held(group: _Group, settled: Settled) -> Held:
    """The module that the parameters are of, or why there is none."""
    try:
        layer = settled.layers.get(group.path or ".") or _told(group)
        if layer not in _MODULES or layer not in layer_names():
            known = ", ".join(n for n in _MODULES if n in layer_names())
            raise Unsupported(f"a module of PyTorch is made from its parameters for {known}, not for {layer}")
        config = settled.config_of(group.path, get_layer(layer).config)
        module, assumed = _MODULES[layer](group, config)
    except _Ambiguous as error:
        return Held(group.path, "", unsupported=str(error), arrays=group.names, candidates=error.candidates)
    except Unsupported as error:
        return Held(group.path, "", unsupported=str(error), arrays=group.names)
    except (RuntimeError, ValueError, TypeError, LookupError, ArithmeticError) as error:  # of sizes that no module has
        first = (str(error).splitlines() or [""])[0]
        sizes = ", ".join(f"{n} {_size(t)}" for n, t in group.tensors.items())
        said = f"{sizes} are of no module ({type(error).__name__}: {first})"
        return Held(group.path, "", unsupported=said, arrays=group.names)
    if own(module) is None:
        said = f"{type(module).__name__} is none of the modules that are known of PyTorch"
        return Held(group.path, layer, unsupported=said, arrays=group.names)
    try:
        module.load_state_dict(group.tensors, strict=True, assign=True)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()[1:]] or [str(error)]
        said = f"its parameters are not those of torch.nn.{type(module).__name__}: {' '.join(lines)}"
        return Held(group.path, layer, unsupported=said, arrays=group.names)
    live = TorchLive(module.eval())
    return Held(group.path, layer, live, arrays=group.names, assumed=assumed, origin=_origin(group, module))


def _origin(group: _Group, module: nn.Module) -> Origin | None:
    """The names in the file, and the parameters that the canonical weights do not give back: two biases are one sum."""
    try:
        back = written(module)
    except Unsupported:
        return None
    kept = {}
    for name, tensor in group.tensors.items():
        here = stored(tensor)
        if name not in back or not np.array_equal(back[name].astype(here.dtype), here, equal_nan=True):
            kept[name] = Kept.of(here)
    return Origin("torch", dict(zip(group.tensors, group.names, strict=True)), kept)


class _Ambiguous(Unsupported):
    """Parameters that may be of several layers."""

    def __init__(self, group: _Group, candidates: Iterable[str]) -> None:
        self.candidates = tuple(candidates)
        sizes = ", ".join(f"{n} {_size(t)}" for n, t in group.tensors.items())
        super().__init__(
            f"{sizes} may be {' or '.join(self.candidates)}: say which with --layer {group.path or '.'}=NAME"
        )


def _told(group: _Group) -> str:
    """The canonical layer by names and shapes. Raises _Ambiguous, or Unsupported where there is none."""
    tensors = group.tensors
    if any(not t.is_floating_point() for n, t in tensors.items() if n != "num_batches_tracked"):
        raise Unsupported(f"{', '.join(n for n, t in tensors.items() if not t.is_floating_point())} is of no floats")
    if group.kind == "attention":
        return "multi_head_attention"
    if group.kind == "recurrent":
        return _recurrent(group)
    weight, bias = tensors.get("weight"), tensors.get("bias")
    if "running_mean" in tensors:
        return "batch_norm"
    if weight is None or not set(tensors) <= {"weight", "bias"}:
        raise Unsupported(f"{', '.join(tensors)}: no layer is known that has parameters of these names")
    if weight.ndim == 1:
        return _one_axis(group)
    if bias is not None and (bias.ndim != 1 or len(bias) not in weight.shape[:2]):
        raise Unsupported(f"weight {_size(weight)} and bias {_size(bias)} are of no layer that is known")
    if weight.ndim == 2:
        if bias is None:
            return _matrix(group)
        if len(bias) != len(weight):
            raise Unsupported(f"weight {_size(weight)} and bias {_size(bias)} are of no layer that is known")
        return "linear"
    if weight.ndim in (3, 4, 5):
        space = weight.ndim - 2
        return f"conv{space}d" if bias is None or len(bias) == len(weight) else f"conv_transpose{space}d"
    raise Unsupported(f"weight {_size(weight)} is of no layer that is known")


def _matrix(group: _Group) -> str:
    """A matrix alone, by the last part of its path: `q_proj`, `lm_head`, `embed_tokens`."""
    last = group.path.rpartition(".")[2].lower()
    spoken = [name for name, pattern in _SPOKEN_MATRIX.items() if pattern.fullmatch(last)]
    if len(spoken) != 1:
        raise _Ambiguous(group, _SPOKEN_MATRIX)
    return spoken[0]


def _one_axis(group: _Group) -> str:
    """A normalisation by the last part of its path."""
    last = group.path.rpartition(".")[2].lower()
    candidates = _NORMS[:4] if "bias" in group.tensors else ("layer_norm", "rms_norm", "prelu")
    spoken = [n for n in candidates if n in _SPOKEN and _SPOKEN[n].fullmatch(last)]
    if len(spoken) == 1 and "bias" in group.tensors:
        return spoken[0]
    if spoken == ["rms_norm"]:
        return "rms_norm"
    raise _Ambiguous(group, candidates)


def _recurrent(group: _Group) -> str:
    gates, units = group.tensors["weight_ih_l0"].shape[0], group.tensors["weight_hh_l0"].shape[1]
    known = {4: "lstm", 3: "gru", 1: "simple_rnn"}
    if gates % units or gates // units not in known:
        raise Unsupported(f"{gates} gates for {units} units: an LSTM has 4, a GRU 3 and an RNN 1 for each")
    return known[gates // units]


Made = tuple[nn.Module, tuple[str, ...]]


def _linear(group: _Group, config: Mapping[str, Any]) -> Made:
    out, width = _weight(group, 2).shape
    return nn.Linear(width, out, bias="bias" in group.tensors, device="meta"), ()


def _layer_norm(group: _Group, config: Mapping[str, Any]) -> Made:
    shape, bias = tuple(_weight(group).shape), "bias" in group.tensors
    return nn.LayerNorm(shape, **_epsilon(config), bias=bias, device="meta"), ()


def _rms_norm(group: _Group, config: Mapping[str, Any]) -> Made:
    return nn.RMSNorm(len(_weight(group, 1)), eps=config.get("epsilon", 1e-6), device="meta"), ()


def _group_norm(group: _Group, config: Mapping[str, Any]) -> Made:
    channels, groups = len(_weight(group, 1)), config.get("groups")
    made = nn.GroupNorm(groups or 1, channels, **_epsilon(config), device="meta")
    return made, () if groups else ("groups",)


def _instance_norm(group: _Group, config: Mapping[str, Any]) -> Made:
    return nn.InstanceNorm2d(len(_weight(group, 1)), **_epsilon(config), affine=True, device="meta"), ()


def _batch_norm(group: _Group, config: Mapping[str, Any]) -> Made:
    affine = "weight" in group.tensors
    width = len(group.tensors.get("running_mean", group.tensors.get("weight", ())))
    return nn.BatchNorm2d(width, **_epsilon(config), affine=affine, device="meta"), ()


def _prelu(group: _Group, config: Mapping[str, Any]) -> Made:
    return nn.PReLU(len(_weight(group, 1)), device="meta"), ()


def _embedding(group: _Group, config: Mapping[str, Any]) -> Made:
    return nn.Embedding(*_weight(group, 2).shape, device="meta"), ()


def _convolution(axes: int) -> Callable[[_Group, Mapping[str, Any]], Made]:
    def make(group: _Group, config: Mapping[str, Any]) -> Made:
        out, channels, *size = _weight(group, axes + 2).shape
        groups, padding = config.get("groups", 1), config.get("padding", "valid")
        if isinstance(padding, list):
            if any(before != after for before, after in padding):
                raise Unsupported(f"torch.nn.Conv{axes}d pads both sides alike, not by {padding}")
            padding = tuple(before for before, _ in padding)
        elif padding not in ("valid", "same-upper"):
            raise Unsupported(f"torch.nn.Conv{axes}d has no padding {padding!r}")
        made = getattr(nn, f"Conv{axes}d")(
            channels * groups,
            out,
            tuple(size),
            stride=_each(config.get("strides", 1)),
            padding={"same-upper": "same"}.get(padding, padding) if isinstance(padding, str) else padding,
            dilation=_each(config.get("dilation", 1)),
            groups=groups,
            bias="bias" in group.tensors,
            device="meta",
        )
        return made, ()

    return make


def _each(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _cells(kind: type[nn.RNNBase]) -> Callable[[_Group, Mapping[str, Any]], Made]:
    def make(group: _Group, config: Mapping[str, Any]) -> Made:
        both = "weight_ih_l0_reverse" in group.tensors
        width, units = group.tensors["weight_ih_l0"].shape[1], group.tensors["weight_hh_l0"].shape[1]
        bias = "bias_ih_l0" in group.tensors
        options = {"nonlinearity": config["activation"]} if kind is nn.RNN and "activation" in config else {}
        made = kind(width, units, bias=bias, bidirectional=both, batch_first=True, device="meta", **options)
        return made, ()

    return make


def _attention(group: _Group, config: Mapping[str, Any]) -> Made:
    tensors = group.tensors
    if "in_proj_weight" not in tensors and "q_proj_weight" not in tensors:
        raise Unsupported(f"{', '.join(tensors)} are not the parameters of torch.nn.MultiheadAttention")
    width, heads = len(tensors["out_proj.weight"]), config.get("heads")
    widths = [tensors[n].shape[1] if n in tensors else width for n in ("k_proj_weight", "v_proj_weight")]
    if width % (heads or 1):
        raise ConformanceError(f"{group.path or '.'}: {heads} heads do not divide its {width} channels")
    made = nn.MultiheadAttention(
        width,
        heads or 1,
        bias="in_proj_bias" in tensors,
        add_bias_kv="bias_k" in tensors,
        kdim=widths[0],
        vdim=widths[1],
        batch_first=True,
        device="meta",
    )
    return made, () if heads else ("heads",)


def _weight(group: _Group, axes: int | None = None) -> Tensor:
    weight = group.tensors.get("weight")
    if weight is None or (axes is not None and weight.ndim != axes):
        sizes = ", ".join(f"{n} {_size(t)}" for n, t in group.tensors.items())
        raise Unsupported(f"{sizes}: no `weight` of {axes or 'some'} axes, which the layer has")
    return weight


def _epsilon(config: Mapping[str, Any]) -> dict[str, Any]:
    return {"eps": config["epsilon"]} if "epsilon" in config else {}


def _size(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a single number"


_MODULES: Mapping[str, Callable[[_Group, Mapping[str, Any]], Made]] = {
    "linear": _linear,
    "embedding": _embedding,
    "multi_head_attention": _attention,
    "layer_norm": _layer_norm,
    "rms_norm": _rms_norm,
    "group_norm": _group_norm,
    "instance_norm": _instance_norm,
    "batch_norm": _batch_norm,
    "prelu": _prelu,
    "lstm": _cells(nn.LSTM),
    "gru": _cells(nn.GRU),
    "simple_rnn": _cells(nn.RNN),
    **{f"conv{axes}d": _convolution(axes) for axes in (1, 2, 3)},
}
