"""Flax's LSTM cells, each scanned by Flax's own RNN, as subjects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from conformance.layout import Parameter
from conformance_adapters.flax_recurrent import LinenRecurrent, NnxRecurrent

_STATES = ("initial_hidden", "initial_cell")
_GATES = {"gate": (0, 1, 2, 3)}  # i, f, g, o, as in CANON


def _per_gate(forget: str) -> list[Parameter]:
    """One parameter per gate; `forget` is the letter of the forget gate's input kernel."""
    inputs = " ".join(f"cell.i{gate}.kernel" for gate in ("i", forget, "g", "o"))
    recurrent, bias = (" ".join(f"cell.h{gate}.{kind}" for gate in "ifgo") for kind in ("kernel", "bias"))
    return [
        Parameter(inputs, "kernel", "channel (gate unit) -> gate channel unit", order=_GATES),
        Parameter(recurrent, "recurrent_kernel", "state (gate unit) -> gate state unit", order=_GATES),
        Parameter(bias, "bias", "(gate unit) -> gate unit", order=_GATES),
    ]


class NnxOptimizedLstm(NnxRecurrent):
    """flax.nnx.RNN over OptimizedLSTMCell, whose gates stand side by side."""

    name: ClassVar[str] = "flax.nnx.RNN(OptimizedLSTMCell)"
    layer: ClassVar[str] = "lstm"
    cell: ClassVar[str] = "OptimizedLSTMCell"
    states: ClassVar[tuple[str, ...]] = _STATES

    def layouts(self) -> Sequence[Parameter]:
        """As they are."""
        return [
            Parameter("cell.dense_i.kernel", "kernel", "channel gates -> channel gates"),
            Parameter("cell.dense_h.kernel", "recurrent_kernel", "state gates -> state gates"),
            Parameter("cell.dense_h.bias", "bias", "gates -> gates"),
        ]


class NnxLstm(NnxOptimizedLstm):
    """flax.nnx.RNN over LSTMCell, which has parameters of its own for each gate."""

    name: ClassVar[str] = "flax.nnx.RNN(LSTMCell)"
    cell: ClassVar[str] = "LSTMCell"

    def layouts(self) -> Sequence[Parameter]:
        """One parameter per gate; `if` is a word of Python."""
        return _per_gate("f_")


class LinenOptimizedLstm(LinenRecurrent):
    """flax.linen.RNN over OptimizedLSTMCell: one product, but parameters of its own for each gate."""

    name: ClassVar[str] = "flax.linen.RNN(OptimizedLSTMCell)"
    layer: ClassVar[str] = "lstm"
    cell: ClassVar[str] = "OptimizedLSTMCell"
    states: ClassVar[tuple[str, ...]] = _STATES

    def layouts(self) -> Sequence[Parameter]:
        """One parameter per gate."""
        return _per_gate("f")


class LinenLstm(LinenOptimizedLstm):
    """flax.linen.RNN over LSTMCell."""

    name: ClassVar[str] = "flax.linen.RNN(LSTMCell)"
    cell: ClassVar[str] = "LSTMCell"


SUBJECTS = (NnxOptimizedLstm, NnxLstm, LinenOptimizedLstm, LinenLstm)
