"""Keras's stack of recurrent cells, keras.layers.StackedRNNCells, as a subject: one scan, of all at each time step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from conformance.layers.stacked import prefixes
from conformance.layout import Parameter
from conformance_adapters.keras_recurrent import GRU, LSTM, GRUResetBefore, Recurrent, SimpleRNN
from conformance_adapters.keras_subject import KerasSubject

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conformance.trace import Request


class Stacked(Recurrent):
    """`keras.layers.RNN` over a stack of the cells of `one`, which says what each holds and is made with."""

    one: ClassVar[type[Recurrent]]

    def __init__(self, request: Request) -> None:
        from keras import layers

        KerasSubject.__init__(self, request)
        self.parameters = _of_cells(self.one, self._prefixes)  # type: ignore[misc]
        cells = [self._cell(prefix) for prefix in self._prefixes]
        # its own dtype, too: it casts what it reads, and RNN does not hand its own on
        stack = layers.StackedRNNCells(cells, dtype=request.dtype, name="stack")
        self.instance = layers.RNN(
            stack,
            return_sequences=True,
            zero_output_for_mask=True,
            go_backwards=request.config["direction"] == "reverse",
            dtype=request.dtype,
            name="cells",
        )
        self.instance.build(request.inputs["x"].shape)
        self.load(self.instance, {**self.neutral(), **request.weights})

    @classmethod
    def refuses(cls, request: Request) -> str | None:
        """What a cell alone refuses of one layer's."""
        count = request.config.get("layers", 1)
        if count == 1:
            return "is a stack of cells, not one"
        each = (cls.one.refuses(_one(request, prefix)) for prefix in prefixes(count))
        return next((reason for reason in each if reason is not None), None)

    @property
    def _prefixes(self) -> tuple[str, ...]:
        return prefixes(self.request.config["layers"])

    def _alone(self, prefix: str) -> Recurrent:
        """The subject of one layer, without a layer of Keras."""
        made = self.one.__new__(self.one)
        made.request = _one(self.request, prefix)
        return made

    def _cell(self, prefix: str) -> Any:
        from keras import layers

        alone = self._alone(prefix)
        weights = alone.request.weights
        return getattr(layers, f"{self.one.cell}Cell")(
            len(weights["recurrent_kernel"]),
            use_bias=any(n.endswith("bias") for n in weights),
            recurrent_initializer="zeros",  # overwritten; the default's QR factorisation has no narrow formats
            dtype=self.request.dtype,
            name=prefix.rstrip("."),
            **alone.arguments(),
        )

    def neutral(self) -> Mapping[str, NDArray[Any]]:
        """Those of every cell."""
        return {f"{prefix}{n}": a for prefix in self._prefixes for n, a in self._alone(prefix).neutral().items()}

    def first_states(self) -> list[Any] | None:
        """Of each cell its states, or the one; zeros for those that are not given, where others are."""
        names = [[f"{prefix}{state}" for state in self.one.states] for prefix in self._prefixes]
        if not any(n in self.given for of_one in names for n in of_one):
            return None
        each = [[self.given[n] for n in of_one] for of_one in names]
        return each if len(self.one.states) > 1 else [state for (state,) in each]

    def prepare(self) -> None:
        """A mask of time steps for lengths; zeros for those first states that are not given, where others are."""
        self.mask_times()
        names = [(prefix, f"{prefix}{state}") for prefix in self._prefixes for state in self.one.states]
        if any(n in self.given for _, n in names):
            for prefix, name in names:
                if name not in self.given:
                    self.given[name] = self.at_rest(len(self.request.weights[f"{prefix}recurrent_kernel"]))


def _one(request: Request, prefix: str) -> Request:
    """What `request` asks of one layer of its stack."""
    weights = {n.removeprefix(prefix): a for n, a in request.weights.items() if n.startswith(prefix)}
    shared = {n: a for n, a in request.inputs.items() if "." not in n}
    own = {n.removeprefix(prefix): a for n, a in request.inputs.items() if n.startswith(prefix)}
    return replace(request, config={**request.config, "layers": 1}, inputs={**shared, **own}, weights=weights)


def _of_cells(one: type[Recurrent], prefixes: tuple[str, ...]) -> list[Parameter]:
    """The parameters of every cell, in whose paths the cell's name is its layer's."""
    return [
        replace(
            p,
            name=f"stack/{prefix.rstrip('.')}/{p.name.partition('/')[2]}",
            weights=" ".join(f"{prefix}{n}" for n in p.names),
        )
        for prefix in prefixes
        for p in one.parameters
    ]


def _stack_of(one: type[Recurrent]) -> type[Recurrent]:
    cell = one.name.removeprefix("keras.layers.")
    kind, brace, rest = cell.partition("(")
    name = f"keras.layers.RNN(StackedRNNCells({kind}Cell{brace}{rest}))"
    members = {"name": name, "one": one, "layer": one.layer, "__doc__": f"`{name}`."}
    members |= {"parameters": _of_cells(one, prefixes(2))}  # a subject has those of its own count
    return type(f"Stacked{one.__name__}", (Stacked,), members)


SUBJECTS = tuple(map(_stack_of, (LSTM, GRU, GRUResetBefore, SimpleRNN)))
