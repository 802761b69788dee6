"""Keras's layers made from their variables: sizes by their shapes, other options by a config."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

from conformance.conversion import Held, Settled
from conformance.errors import Unsupported

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conformance_adapters.keras_layers import KerasAdapter


@dataclass(frozen=True)
class Group:
    """A layer: its path in the model, its class as Keras spells it in paths, and its variables by sublayer and number.

    `config` is what the layer was made with, where the file says that.
    """

    path: str
    kind: str
    variables: Mapping[str, Mapping[int, NDArray[Any]]]
    config: Mapping[str, Any] | None = None

    def shape(self, inner: str, number: int = 0) -> tuple[int, ...]:
        """The shape of a variable. Raises Unsupported where there is none."""
        try:
            return self.variables[inner][number].shape
        except KeyError:
            raise Unsupported(f"a {self.kind} with the variables {_told(self)} is not known") from None

    def has(self, inner: str, number: int) -> bool:
        """Whether there is such a variable."""
        return number in self.variables.get(inner, {})


Options = dict[str, Any]
_TOLD = {  # by the shapes of the variables, or no matter for what they are
    "units", "filters", "kernel_size", "input_dim", "output_dim", "num_heads", "key_dim", "value_dim", "use_bias",
    "output_shape", "depth_multiplier", "data_format", "axis",
}  # fmt: skip
_KEPT = {
    "strides", "padding", "dilation_rate", "groups", "activation", "recurrent_activation", "epsilon", "center", "scale",
    "go_backwards", "reset_after", "output_padding", "shared_axes",
}  # fmt: skip
_LISTS = {"strides", "dilation_rate", "output_padding", "shared_axes"}
_IDLE = {  # what a layer computes from its variables is the same
    "name", "trainable", "dtype", "seed", "build_config", "batch_input_shape", "batch_shape", "input_shape", "dropout",
    "recurrent_dropout", "unroll", "implementation", "return_sequences", "return_state", "momentum", "input_length",
    "unit_forget_bias", "zero_output_for_mask", "mask_zero", "attention_axes", "stateful", "query_shape", "key_shape",
    "value_shape", "synchronized", "renorm_momentum", "renorm_clipping",
}  # fmt: skip
_OF_TRAINING = re.compile(r"\w+_(initializer|regularizer|constraint)$")


def held(group: Group, settled: Settled, adapter: KerasAdapter) -> Held:
    """The layer that the variables are of, or why there is none."""
    from conformance_adapters import keras_own
    from conformance_adapters.keras_live import KerasLive

    arrays = tuple(f"{inner}{'/' if inner else ''}{n}" for inner, held in group.variables.items() for n in held)
    try:
        if group.kind not in _MADE:
            raise Unsupported(f"{_told(group)}: the variables of a {group.kind}, which no layer is made from")
        options = _options(group)
        _require_sizes(group, options)
        layer = _MADE[group.kind](group, options)
        for inner, variables in group.variables.items():
            part = layer
            for name in inner.split("/") if inner else ():
                part = getattr(part, name, None) or getattr(part, f"_{name}")
            part.load_own_variables({str(n): a for n, a in variables.items()})
    except (ValueError, AttributeError, TypeError, KeyError, StopIteration) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        return Held(
            group.path, "", unsupported=f"its variables are not those of a {group.kind}: {first}", arrays=arrays
        )
    except Unsupported as error:
        return Held(group.path, "", unsupported=str(error), arrays=arrays)
    known = keras_own.own(layer)
    if known is None:
        return Held(group.path, "", unsupported=f"a {group.kind} is of no layer that is known", arrays=arrays)
    asked = settled.layers.get(group.path, known.subject.layer)
    if asked != known.subject.layer:
        said = f"it is {known.subject.layer}, by its class, and not {asked}"
        return Held(group.path, known.subject.layer, unsupported=said, arrays=arrays)
    live = KerasLive(layer, adapter, before_activation=keras_own.activation_of(layer) is not None)
    return Held(group.path, known.subject.layer, live, arrays=arrays)


def _options(group: Group) -> Options:
    """What of the config matters. Raises Unsupported for an option that is not known, unless it is off."""
    dtype = next(a.dtype for held in group.variables.values() for a in held.values() if a.dtype.kind == "f")
    options: Options = {"dtype": str(dtype)}
    for name, value in (group.config or {}).items():
        plain = value is None or isinstance(value, str | int | float) or (name in _LISTS and isinstance(value, list))
        if name in _KEPT and plain:
            options[name] = value
        elif name in _KEPT or not (name in _TOLD or name in _IDLE or _OF_TRAINING.match(name) or not value):
            raise Unsupported(f"a {group.kind} with {name}={value!r}, which is not known")
    if group.kind.startswith(("separable", "depthwise")) and options.get("groups") == 1:
        del options["groups"]  # Keras 2 wrote what Keras 3 does not take
    return options


def _require_sizes(group: Group, options: Options) -> None:
    """Raise Unsupported where the layer has other variables than are there; they are not made room for before that."""
    import keras

    shapes = [a.shape for held in group.variables.values() for a in held.values()]
    if not all(map(prod, shapes)):
        raise Unsupported(f"{_told(group)}: variables without any value")
    try:
        scope = keras.StatelessScope(initialize_variables=False)
    except TypeError:  # of a Keras that always makes the values
        return
    with scope:
        made = [tuple(v.shape) for v in _MADE[group.kind](group, options).weights]
    if sorted(made) != sorted(shapes):
        raise Unsupported(f"{_told(group)}: not the variables of a {group.kind}, which has {_sizes(made)}")


def _told(group: Group) -> str:
    return _sizes([a.shape for held in group.variables.values() for a in held.values()])


def _sizes(shapes: Iterable[tuple[int, ...]]) -> str:
    return ", ".join("x".join(map(str, s)) or "a number" for s in shapes)


def _dense(group: Group, options: Options) -> Any:
    from keras import layers

    width, units = group.shape("")
    made = layers.Dense(units, use_bias=group.has("", 1), **options)
    made.build((None, width))
    return made


def _layer_norm(group: Group, options: Options) -> Any:
    from keras import layers

    shape = group.shape("")
    if not group.has("", 1) and not {"center", "scale"} <= set(options):
        raise Unsupported("one variable of a layer_normalization, which may be its scale or its bias")
    made = layers.LayerNormalization(axis=list(range(-len(shape), 0)), **options)
    made.build((None, *shape))
    return made


def _convolution(kind: str) -> Callable[[Group, Options], Any]:
    def make(group: Group, options: Options) -> Any:
        from keras import layers

        *size, channels, out = group.shape("")
        made = getattr(layers, kind)(out, tuple(size), use_bias=group.has("", 1), **options)
        made.build((None, *[None] * len(size), channels))
        return made

    return make


def _cells(kind: str) -> Callable[[Group, Options], Any]:
    def make(group: Group, options: Options) -> Any:
        from keras import layers

        (width, _), (units, _) = group.shape("cell"), group.shape("cell", 1)
        if kind == "GRU" and group.has("cell", 2):
            options = {"reset_after": group.variables["cell"][2].ndim == 2, **options}
        made = getattr(layers, kind)(units, use_bias=group.has("cell", 2), return_sequences=True, **options)
        made.build((None, None, width))
        return made

    return make


def _attention(group: Group, options: Options) -> Any:
    from keras import layers

    query, heads, dim = group.shape("query_dense")
    key, value, value_dim = group.shape("key_dense")[0], group.shape("value_dense")[0], group.shape("value_dense")[2]
    bias, out = group.has("query_dense", 1), group.shape("output_dense")[-1]
    made = layers.MultiHeadAttention(heads, dim, value_dim, use_bias=bias, output_shape=out, **options)
    made.build((None, 1, query), (None, 1, value), (None, 1, key))
    return made


def _embedding(group: Group, options: Options) -> Any:
    from keras import layers

    made = layers.Embedding(*group.shape(""), **options)
    made.build()
    return made


def _batch_norm(group: Group, options: Options) -> Any:
    from keras import layers

    if not group.has("", 3) and not {"center", "scale"} <= set(options):
        raise Unsupported("a batch_normalization without scale or bias, of which the file does not say which")
    made = layers.BatchNormalization(**options)
    made.build((None, None, None, *group.shape("")))  # as many axes as are generated for it
    return made


def _group_norm(group: Group, options: Options) -> Any:
    from keras import layers

    if "groups" not in options:
        raise Unsupported("a group_normalization, of which the file does not say how many groups it has")
    made = layers.GroupNormalization(**options)
    made.build((None, *group.shape("")))
    return made


def _rms_norm(group: Group, options: Options) -> Any:
    from keras import layers

    shape = group.shape("")
    made = layers.RMSNormalization(axis=list(range(-len(shape), 0)), **options)
    made.build((None, *shape))
    return made


def _transposed(kind: str) -> Callable[[Group, Options], Any]:
    def make(group: Group, options: Options) -> Any:
        from keras import layers

        *size, out, channels = group.shape("")
        made = getattr(layers, kind)(out, tuple(size), use_bias=group.has("", 1), **options)
        made.build((None, *[None] * len(size), channels))
        return made

    return make


def _depthwise(kind: str) -> Callable[[Group, Options], Any]:
    def make(group: Group, options: Options) -> Any:
        from keras import layers

        *size, channels, times = group.shape("")
        made = getattr(layers, kind)(tuple(size), depth_multiplier=times, use_bias=group.has("", 1), **options)
        made.build((None, *[None] * len(size), channels))
        return made

    return make


def _separable(kind: str) -> Callable[[Group, Options], Any]:
    def make(group: Group, options: Options) -> Any:
        from keras import layers

        (*size, channels, times), (*_, out) = group.shape(""), group.shape("", 1)
        bias = group.has("", 2)
        made = getattr(layers, kind)(out, tuple(size), depth_multiplier=times, use_bias=bias, **options)
        made.build((None, *[None] * len(size), channels))
        return made

    return make


_MADE: Mapping[str, Callable[[Group, Options], Any]] = {
    "dense": _dense,
    "layer_normalization": _layer_norm,
    "batch_normalization": _batch_norm,
    "multi_head_attention": _attention,
    "embedding": _embedding,
    "group_normalization": _group_norm,
    "rms_normalization": _rms_norm,
    **{f"conv{axes}d": _convolution(f"Conv{axes}D") for axes in (1, 2, 3)},
    **{f"conv{axes}d_transpose": _transposed(f"Conv{axes}DTranspose") for axes in (1, 2, 3)},
    **{f"depthwise_conv{axes}d": _depthwise(f"DepthwiseConv{axes}D") for axes in (1, 2)},
    **{f"separable_conv{axes}d": _separable(f"SeparableConv{axes}D") for axes in (1, 2)},
    "lstm": _cells("LSTM"),
    "gru": _cells("GRU"),
    "simple_rnn": _cells("SimpleRNN"),
}
