"""Keras's `.weights.h5`: the variables of each layer by their number, in a group that the layer's class names.

A group has the name of its layer as an attribute. What a layer was made with is not in the file, and is read off the
shapes. Source: `keras/src/saving/saving_lib.py` (`save_weights_only`, `_walk_saveable`) of Keras 3.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from conformance.apart import Apart
from conformance.archive import MEMBERS
from conformance.conversion import Held, Settled
from conformance.errors import ConformanceError, Unsupported
from conformance.layer import nearest

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conformance_adapters.keras_layers import KerasAdapter

_RESAVE = "write it again with model.save_weights"
_read = Apart("conformance_adapters.keras_weights:read_weights")
_VARIABLE = re.compile(r"(?:(.*)/)?vars/(\d+)$")


def weights_in(path: Path, settled: Settled, adapter: KerasAdapter) -> list[Held]:
    """The layers whose variables are in the file. Raises ConformanceError where it is broken, or not Keras's."""
    arrays, names = _read(path, _RESAVE)
    groups: dict[str, dict[str, dict[int, NDArray[Any]]]] = {}
    for name, array in arrays.items():
        found = _VARIABLE.match(name)
        if found is None or name.startswith("optimizer/"):
            continue
        root, _, inner = _split(found[1] or "")
        groups.setdefault(root, {}).setdefault(inner, {})[int(found[2])] = array
    if not groups:
        raise ConformanceError(f"{path}: holds no variables as Keras 3 writes them; {_RESAVE}")
    layers = [_Group(_path(root, names), root.rpartition("/")[2], inner) for root, inner in groups.items()]
    there = [layer.path for layer in layers]
    for said in (*settled.layers, *(p for p in settled.config if p)):
        if said not in there:
            raise ConformanceError(f"{path}: there is no {said!r}{nearest(said, there)}; it has {', '.join(there)}")
    return [_held(layer, settled, adapter) for layer in layers]


def read_weights(path: Path, resave: str) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """Every array in the file by its path, and the name of the layer of each group. Raises ConformanceError."""
    import h5py

    from conformance_adapters.keras_file import _require_plain

    try:
        _require_plain(path, path.read_bytes())
        arrays: dict[str, NDArray[Any]] = {}
        names: dict[str, str] = {}
        with h5py.File(path, "r") as file:

            def visit(name: str, item: Any) -> None:
                if isinstance(item, h5py.Dataset):
                    if item.dtype.kind in "fiub" and item.shape is not None:
                        arrays[name] = item[()]
                elif isinstance(item.attrs.get("name"), str):
                    names[name.removesuffix("/vars")] = item.attrs["name"]
                if len(arrays) + len(names) > 2 * MEMBERS:
                    raise ValueError(f"it has more than {MEMBERS} members")

            file.visititems(visit)
        return arrays, names
    except (OSError, ValueError, LookupError, RuntimeError, TypeError) as error:  # what h5py raises for corrupt files
        raise ConformanceError(f"{path}: is truncated or corrupt ({error}); {resave}") from error


@dataclass(frozen=True)
class _Group:
    """A layer: its path in the model, its class as the file spells it, and its variables by sublayer and number."""

    path: str
    kind: str
    variables: Mapping[str, Mapping[int, NDArray[Any]]]

    def shape(self, inner: str, number: int = 0) -> tuple[int, ...]:
        """The shape of a variable. Raises Unsupported where there is none."""
        try:
            return self.variables[inner][number].shape
        except KeyError:
            raise Unsupported(f"a {self.kind} with the variables {_told(self)} is not known") from None

    def has(self, inner: str, number: int) -> bool:
        """Whether there is such a variable."""
        return number in self.variables.get(inner, {})


def _split(path: str) -> tuple[str, str, str]:
    """The group of a layer, and what is inside of the layer: `layers/lstm/cell` is `layers/lstm` and `cell`."""
    parts = path.split("/")
    last = max((i for i, part in enumerate(parts[:-1]) if part in ("layers", "_layers")), default=None)
    cut = len(parts) if last is None else last + 2
    return "/".join(parts[:cut]), "/", "/".join(parts[cut:])


def _path(root: str, names: Mapping[str, str]) -> str:
    """The names of the layers on the way, as people write it."""
    parts = root.split("/")
    said = [names.get("/".join(parts[: i + 1]), part) for i, part in enumerate(parts)]
    return ".".join(n for n, part in zip(said, parts, strict=True) if part not in ("layers", "_layers"))


def _held(group: _Group, settled: Settled, adapter: KerasAdapter) -> Held:
    from conformance_adapters import keras_own
    from conformance_adapters.keras_live import KerasLive

    arrays = tuple(f"{inner}{'/' if inner else ''}{n}" for inner, held in group.variables.items() for n in held)
    kind = re.sub(r"_\d+$", "", group.kind)
    try:
        if kind not in _MADE:
            raise Unsupported(f"{_told(group)}: the variables of a {kind}, which no layer is made from")
        dtype = str(next(a.dtype for held in group.variables.values() for a in held.values() if a.dtype.kind == "f"))
        layer = _MADE[kind](group, {"dtype": dtype})
        for inner, held in group.variables.items():
            part = layer
            for name in inner.split("/") if inner else ():
                part = getattr(part, name, None) or getattr(part, f"_{name}")
            part.load_own_variables({str(n): a for n, a in held.items()})
    except (ValueError, AttributeError, TypeError, KeyError, StopIteration) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        return Held(group.path, "", unsupported=f"its variables are not those of a {kind}: {first}", arrays=arrays)
    except Unsupported as error:
        return Held(group.path, "", unsupported=str(error), arrays=arrays)
    known = keras_own.own(layer)
    if known is None:
        return Held(group.path, "", unsupported=f"a {kind} is of no layer that is known", arrays=arrays)
    asked = settled.layers.get(group.path, known.subject.layer)
    if asked != known.subject.layer:
        said = f"it is {known.subject.layer}, by its class, and not {asked}"
        return Held(group.path, known.subject.layer, unsupported=said, arrays=arrays)
    return Held(group.path, known.subject.layer, KerasLive(layer, adapter), arrays=arrays)


def _told(group: _Group) -> str:
    sizes = [a.shape for held in group.variables.values() for a in held.values()]
    return ", ".join("x".join(map(str, s)) or "a number" for s in sizes)


Options = dict[str, Any]


def _dense(group: _Group, options: Options) -> Any:
    from keras import layers

    width, units = group.shape("")
    made = layers.Dense(units, use_bias=group.has("", 1), **options)
    made.build((None, width))
    return made


def _layer_norm(group: _Group, options: Options) -> Any:
    from keras import layers

    shape = group.shape("")
    if not group.has("", 1):
        raise Unsupported("one variable of a layer_normalization, which may be its scale or its bias")
    made = layers.LayerNormalization(axis=list(range(-len(shape), 0)), **options)
    made.build((None, *shape))
    return made


def _convolution(kind: str) -> Callable[[_Group, Options], Any]:
    def make(group: _Group, options: Options) -> Any:
        from keras import layers

        *size, channels, out = group.shape("")
        made = getattr(layers, kind)(out, tuple(size), use_bias=group.has("", 1), **options)
        made.build((None, *[None] * len(size), channels))
        return made

    return make


def _cells(kind: str) -> Callable[[_Group, Options], Any]:
    def make(group: _Group, options: Options) -> Any:
        from keras import layers

        (width, _), (units, _) = group.shape("cell"), group.shape("cell", 1)
        if kind == "GRU" and group.has("cell", 2):
            options = {**options, "reset_after": group.variables["cell"][2].ndim == 2}
        made = getattr(layers, kind)(units, use_bias=group.has("cell", 2), return_sequences=True, **options)
        made.build((None, None, width))
        return made

    return make


def _attention(group: _Group, options: Options) -> Any:
    from keras import layers

    query, heads, dim = group.shape("query_dense")
    key, value, value_dim = group.shape("key_dense")[0], group.shape("value_dense")[0], group.shape("value_dense")[2]
    bias, out = group.has("query_dense", 1), group.shape("output_dense")[-1]
    made = layers.MultiHeadAttention(heads, dim, value_dim, use_bias=bias, output_shape=out, **options)
    made.build((None, 1, query), (None, 1, value), (None, 1, key))
    return made


def _embedding(group: _Group, options: Options) -> Any:
    from keras import layers

    made = layers.Embedding(*group.shape(""), **options)
    made.build()
    return made


def _batch_norm(group: _Group, options: Options) -> Any:
    from keras import layers

    if not group.has("", 3):
        raise Unsupported("a batch_normalization without scale or bias, of which the file does not say which")
    made = layers.BatchNormalization(**options)
    made.build((None, *group.shape("")))
    return made


_MADE: Mapping[str, Callable[[_Group, Options], Any]] = {
    "dense": _dense,
    "layer_normalization": _layer_norm,
    "batch_normalization": _batch_norm,
    "multi_head_attention": _attention,
    "embedding": _embedding,
    **{kind.lower(): _convolution(kind) for kind in ("Conv1D", "Conv2D", "Conv3D")},
    "lstm": _cells("LSTM"),
    "gru": _cells("GRU"),
    "simple_rnn": _cells("SimpleRNN"),
}
