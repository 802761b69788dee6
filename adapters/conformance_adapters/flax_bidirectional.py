"""Flax's cells in Flax's own Bidirectional, as subjects: two RNNs, of which one runs from the last time step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from conformance.layer import REVERSE
from conformance.layout import Parameter
from conformance_adapters.flax_lstm import LinenLstm, LinenOptimizedLstm, NnxLstm, NnxOptimizedLstm
from conformance_adapters.flax_recurrent import LinenGru, LinenSimple, NnxGru, NnxSimple, Recurrent

if TYPE_CHECKING:
    import jax
    from numpy.typing import NDArray

    from conformance.trace import Request


_SHARED = ("x", "lengths")


def _one(request: Request, prefix: str) -> Request:
    """What `request` asks of one direction."""
    weights, inputs = (
        {
            n.removeprefix(prefix): a
            for n, a in given.items()
            if n in ("x", "lengths") or n.startswith(REVERSE) == bool(prefix)
        }
        for given in (request.weights, request.inputs)
    )
    config = {**request.config, "direction": "reverse" if prefix else "forward"}
    return replace(request, config=config, weights=weights, inputs=inputs)


class _Bidirectional(Recurrent):
    """Two cells of the class `one`. Their own subjects say what each holds and is called with."""

    one: ClassVar[type[Any]]

    @classmethod
    def refuses(cls, request: Request) -> str | None:
        """What a cell refuses in one direction."""
        if request.config["direction"] != "bidirectional":
            return f"it runs in both directions, not {request.config['direction']}"
        if request.config["merge"] != "concat":
            return f"its outputs stand side by side, not {request.config['merge']}"
        refusals = (cls.one.refuses(_one(request, prefix)) for prefix in ("", REVERSE))
        return next((reason for reason in refusals if reason is not None), None)

    def _half(self, prefix: str) -> Any:
        """The subject of one direction, without a module."""
        half = self.one.__new__(self.one)
        half.request, half.dtype = _one(self.request, prefix), self.dtype
        half.config = half.request.config
        half.inputs = {n.removeprefix(prefix): a for n, a in self.inputs.items()}
        return half

    def layouts(self) -> Sequence[Parameter]:
        """Those of both cells."""
        return [
            replace(
                p,
                name=" ".join(f"{rnn}.{n}" for n in p.name.split()),
                weights=" ".join(f"{prefix}{n}" for n in p.names),
            )
            for rnn, prefix in (("forward_rnn", ""), ("backward_rnn", REVERSE))
            for p in self._half(prefix).layouts()
        ]

    def neutral(self) -> Mapping[str, NDArray[Any]]:
        """Those of both cells."""
        halves = {prefix: self._half(prefix).neutral() for prefix in ("", REVERSE)}
        return {f"{prefix}{n}": array for prefix, made in halves.items() for n, array in made.items()}

    def arguments(self) -> tuple[Sequence[Any], dict[str, Any]]:
        """The input, and the initial states of both directions where one is given."""
        import jax.numpy as jnp

        positional, named = (), {"time_major": False, "return_carry": False}
        carries = []
        for prefix in ("", REVERSE):
            positional, of_one = self._half(prefix).arguments()
            carries.append(of_one.get("initial_carry"))
        if any(c is not None for c in carries):
            zero = jnp.zeros((self.inputs["x"].shape[0], self.unit), self.dtype)
            rest = (zero, zero) if len(self.one.states) > 1 else zero
            named["initial_carry"] = tuple(rest if c is None else c for c in carries)
        if "lengths" in self.inputs:
            named["seq_lengths"] = self.inputs["lengths"]
        return positional, named


class _NnxBidirectional(_Bidirectional):
    def make(self) -> Any:
        """The two RNNs in one module."""
        from flax import nnx

        return nnx.Bidirectional(*(self._half(prefix).make() for prefix in ("", REVERSE)), rngs=nnx.Rngs(0))

    def apply(self, module: Any) -> jax.Array:
        """The hidden states of both directions side by side, in input order."""
        positional, named = self.arguments()
        return self.ended(module(*positional, **named))


class _LinenBidirectional(_Bidirectional):
    def make(self) -> Any:
        """The two RNNs in one module."""
        from flax import linen

        return linen.Bidirectional(*(self._half(prefix).make() for prefix in ("", REVERSE)))

    def forward(self) -> jax.Array:
        """The hidden states of both directions side by side, in input order."""
        output: jax.Array = super().forward()
        return self.ended(output)


def _of(one: type[Recurrent], base: type[_Bidirectional]) -> type[Recurrent]:
    library = "nnx" if base is _NnxBidirectional else "linen"
    name = f"flax.{library}.Bidirectional({one.cell})"  # type: ignore[attr-defined]
    members = {"name": name, "one": one, "__doc__": f"{name}, each cell in an RNN."}
    return type(f"Bidirectional{one.__name__}", (base, one), members)


SUBJECTS = (
    *(_of(one, _NnxBidirectional) for one in (NnxOptimizedLstm, NnxGru, NnxSimple)),
    *(_of(one, _LinenBidirectional) for one in (LinenOptimizedLstm, LinenGru, LinenSimple)),
)
# Further ones that a user's module may be: the cells that compute what those above do, with parameters of their own.
OTHERS = (_of(NnxLstm, _NnxBidirectional), _of(LinenLstm, _LinenBidirectional))
