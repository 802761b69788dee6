"""All steps of a long LSTM in one walk along time: the same numbers as step by step, in a tenth of the time.

It is the arithmetic of `recurrent` under the rules of docs/tolerances.md, written out for what most LSTMs are: float32,
sigmoid and tanh, no projection, no lengths, exact inputs and weights. Anything else is left to the steps themselves,
and so is a sequence in which a number is not finite or a deviation near the smallest normal number.

Arrays are `gate batch unit` here, with the gates in the order i, f, o, g. Variances are in squares
of the unit roundoff u, so that float32 holds them. A sigmoid is (1 + tanh(z / 2)) / 2: with the three gates' weights
halved, one tanh gives all four, and what a deviation d becomes of is, along the steeper secant,
tanh(z + 8 d) - tanh(z) = (1 - t^2) D / (1 - abs(t) D) with t = tanh(z), D = tanh(8 d); for D as small as `_SHORT`, to
float32's accuracy, (1 - t^2) 8 d (1 + abs(t) 8 d).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from conformance.elementwise import UFUNCS, sigmoid
from conformance.rounding import RoundedArray

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LONG = 2**15  # elements of x from which on it is worth it
_CHUNK = 2**17  # elements of four gates whose part that comes from x is computed at once
_SHORT = 2.0**-12  # eight deviations of what goes into a tanh; its square is what is left out, of one
_LEAST = 2.0**-60  # of a deviation in units of u: the smallest normal number is far below that times u

_NAMES = "input_gate", "forget_gate", "output_gate", "cell_candidate", "cell", "hidden"
_ONE, _HALF = np.float32(1), np.float32(0.5)
_OF_TANH = np.float32(UFUNCS[np.tanh].relative)
_OF_SIGMOID, _BESIDE_SIGMOID = np.float32(sigmoid.relative), np.float32(sigmoid.absolute)


def walked(values: Mapping[str, Any], backward: bool) -> dict[str, RoundedArray] | None:
    """The steps of an LSTM by name, `batch time unit`, or None where it has to be done step by step.

    `values` are the layer's, by name: x and the states are rounding-aware arrays.
    """
    x, kernel, recurrent = (values[name] for name in ("x", "kernel", "recurrent_kernel"))
    bias = values.get("bias")
    states = [values["initial_hidden"], values["initial_cell"]]
    exact = [a for a in (x, kernel, recurrent, bias, *states) if a is not None]
    if not all(isinstance(a, RoundedArray) and a.deviation is None for a in exact) or x.size < _LONG:
        return None
    model = x.model
    if model.worst_case or model.precision.name != "float32":
        return None
    if any(values.get(name) is not None for name in ("projection", "lengths")):
        return None
    if (values["activation"], values["recurrent_activation"]) != ("tanh", "sigmoid"):
        return None
    with np.errstate(all="ignore"):
        return _Walk(x, kernel, recurrent, bias, *states).along(backward)


class _Walk:
    """One walk: the weights as it needs them, and what it has found."""

    def __init__(
        self,
        x: RoundedArray,
        kernel: RoundedArray,
        recurrent: RoundedArray,
        bias: RoundedArray | None,
        hidden: RoundedArray,
        cell: RoundedArray,
    ) -> None:
        self.x, self.model = x.value, x.model
        self.unit = recurrent.shape[0]
        self.w, self.u = _gates(kernel.value), _gates(recurrent.value)
        self.w2, self.u2 = (np.square(k.astype(np.float32)) for k in (self.w, self.u))
        self.b = None if bias is None else _gates(bias.value[None])
        self.hidden, self.cell = hidden.value, cell.value

    def along(self, backward: bool) -> dict[str, RoundedArray] | None:
        """The steps, or None where a deviation is so large or so small that the short forms do not hold."""
        batch, time, _ = self.x.shape
        found = {name: np.empty((batch, time, self.unit)) for name in _NAMES}
        deviations = {name: np.empty((batch, time, self.unit), np.float32) for name in _NAMES}
        many = max(1, min(time, _CHUNK // max(1, 4 * self.unit * batch)))
        starts = range(0, time, many)
        u = self.model.precision.accumulate
        state = _State(self, batch)
        for start in reversed(starts) if backward else starts:
            part = slice(start, min(start + many, time))
            made, variances = state.over(self.x[:, part], backward)
            if not (variances.min(initial=1) >= _LEAST**2 and math.isfinite(made.sum() + variances.sum())):
                return None
            np.sqrt(variances, out=variances)
            variances *= np.float32(u)
            for row, name in enumerate(_NAMES):
                found[name][:, part] = np.swapaxes(made[:, row], 0, 1)
                deviations[name][:, part] = np.swapaxes(variances[:, row], 0, 1)
        if state.furthest > _SHORT:
            return None
        steps = {name: RoundedArray.made(found[name], deviations[name], self.model) for name in _NAMES}
        return {**steps, "output": steps["hidden"]}


def _gates(kernel: NDArray[Any]) -> NDArray[Any]:
    """The columns i, f, g, o as `gate in unit` of i, f, o, g, halved where a sigmoid follows."""
    i, f, g, o = np.split(kernel, 4, axis=-1)
    return np.stack([i / 2, f / 2, o / 2, g])


class _State:
    """The state between two time steps, and the memory for one."""

    def __init__(self, walk: _Walk, batch: int) -> None:
        self.walk = walk
        unit, narrow = walk.unit, np.float32
        self.u = walk.model.precision.accumulate
        self.of_total, self.of_terms = narrow(_of_total(unit)), narrow(_of_terms(unit))
        self.hidden, self.cell = walk.hidden, walk.cell
        self.hidden_terms = np.square(walk.hidden.astype(narrow)) * self.of_terms
        self.twice_bias = None if walk.b is None else (2 * walk.b).astype(narrow)
        # What the gates i and f are multiplied with: g and the cell.
        self.met, self.of_met = np.empty((2, batch, unit), narrow), np.zeros((2, batch, unit), narrow)
        self.met[1] = walk.cell
        self.inner, self.value, self.kept = (np.empty((n, batch, unit)) for n in (4, 4, 2))
        self.narrow = [np.empty((4, batch, unit), narrow) for _ in range(4)]
        self.pair = [np.empty((2, batch, unit), narrow) for _ in range(3)]
        self.single = [np.empty((batch, unit), narrow) for _ in range(4)]
        self.largest = np.zeros((4, batch, unit), narrow), np.zeros((batch, unit), narrow)

    @property
    def furthest(self) -> float:
        """The largest of eight deviations of what went into a tanh."""
        return max(float(a.max(initial=0)) for a in self.largest) * 8 * self.u

    def over(self, x: NDArray[Any], backward: bool) -> tuple[NDArray[Any], NDArray[Any]]:
        """The values of `_NAMES` at the time steps of x, `time name batch unit`, and their variances."""
        walk, (batch, time, width) = self.walk, x.shape
        flat = np.ascontiguousarray(np.swapaxes(x, 0, 1)).reshape(time * batch, width)
        from_x = flat @ walk.w
        squares = np.square(flat.astype(np.float32))
        squares *= np.float32(_of_terms(width))
        of_x = squares @ walk.w2
        total = np.square(from_x.astype(np.float32))
        total *= np.float32(_of_total(width))
        of_x += total
        if walk.b is not None:
            from_x += walk.b
            of_x += np.square(walk.b.astype(np.float32))
        shape = 4, time, batch, walk.unit
        from_x, of_x = from_x.reshape(shape), of_x.reshape(shape)
        made = np.empty((time, len(_NAMES), batch, walk.unit))
        variances = np.empty(made.shape, np.float32)
        for t in reversed(range(time)) if backward else range(time):
            self._step(from_x[:, t], of_x[:, t], made[t], variances[t])
        return made, variances

    def _step(self, from_x: NDArray[Any], of_x: NDArray[Any], made: NDArray[Any], variances: NDArray[Any]) -> None:
        gates, of_gates = made[:4], variances[:4]
        seen = self._gated(from_x, of_x, gates, of_gates)
        self._kept(gates, of_gates, seen, made[4], variances[4])
        self._shown(gates[2], of_gates[2], seen[2], (made[4:], variances[4:]))

    def _gated(
        self, from_x: NDArray[Any], of_x: NDArray[Any], gates: NDArray[Any], of_gates: NDArray[Any]
    ) -> NDArray[Any]:
        """The gates; returns their values in float32."""
        inner, value = self.inner, self.value
        variance, a, b, c = self.narrow
        # z = x W + b + h U, and the squares of h U, of x W + h U and of z, of which their roundings are parts.
        np.matmul(self.hidden, self.walk.u, out=inner)
        np.matmul(self.hidden_terms, self.walk.u2, out=variance)
        np.copyto(a, inner, casting="same_kind")
        np.multiply(a, a, out=a)
        a *= self.of_total
        variance += a
        inner += from_x
        np.copyto(a, inner, casting="same_kind")
        if self.twice_bias is None:
            np.multiply(a, a, out=b)
        else:  # (z - b)^2 + z^2 = z (2 z - 2 b) + b^2, of which the last is with what comes from x
            np.add(a, a, out=b)
            b -= self.twice_bias
            b *= a
        variance += b
        variance += of_x
        np.sqrt(variance, out=variance)
        np.maximum(self.largest[0], variance, out=self.largest[0])
        np.tanh(inner, out=value)
        np.copyto(a, value, casting="same_kind")
        self._along_tanh(a, variance, b, c)
        np.multiply(value[:3], 0.5, out=gates[:3])
        gates[:3] += 0.5
        gates[3] = value[3]
        b[:3] *= _HALF
        np.copyto(a, gates, casting="same_kind")
        np.multiply(a[:3], _OF_SIGMOID, out=c[:3])
        c[:3] += _BESIDE_SIGMOID
        np.multiply(a[3], _OF_TANH, out=c[3])
        c *= c
        b *= b
        np.add(b, c, out=of_gates)
        return a

    def _kept(
        self,
        gates: NDArray[Any],
        of_gates: NDArray[Any],
        seen: NDArray[Any],
        cell: NDArray[Any],
        of_cell: NDArray[Any],
    ) -> None:
        """cell = i g + f cell_before"""
        kept, met, of_met = self.kept, self.met, self.of_met
        met[0], of_met[0] = seen[3], of_gates[3]
        np.multiply(gates[0], gates[3], out=kept[0])
        np.multiply(gates[1], self.cell, out=kept[1])
        np.add(kept[0], kept[1], out=cell)
        total, *scratch = self.pair
        np.copyto(total, kept, casting="same_kind")
        total *= total
        self._of_product(seen[:2], of_gates[:2], met, of_met, total, scratch)
        np.add(total[0], total[1], out=of_cell)
        np.copyto(met[1], cell, casting="same_kind")
        np.multiply(met[1], met[1], out=self.single[0])
        of_cell += self.single[0]
        of_met[1] = of_cell
        self.cell = cell

    def _shown(
        self,
        gate: NDArray[Any],
        of_gate: NDArray[Any],
        seen: NDArray[Any],
        after: tuple[NDArray[Any], NDArray[Any]],
    ) -> None:
        """hidden = o tanh(cell)"""
        (cell, hidden), (of_cell, of_hidden) = after
        tanh = self.kept[0]
        t, deviation, variance, scratch = self.single
        np.tanh(cell, out=tanh)
        np.copyto(t, tanh, casting="same_kind")
        np.sqrt(of_cell, out=deviation)
        np.maximum(self.largest[1], deviation, out=self.largest[1])
        self._along_tanh(t, deviation, variance, scratch)
        variance *= variance
        np.multiply(t, _OF_TANH, out=scratch)
        scratch *= scratch
        variance += scratch
        np.multiply(gate, tanh, out=hidden)
        np.copyto(deviation, hidden, casting="same_kind")
        np.multiply(deviation, deviation, out=deviation)
        of_hidden[...] = deviation
        self._of_product(seen, of_gate, t, variance, of_hidden, [scratch, self.pair[1][0]])
        deviation *= self.of_terms
        np.add(deviation, of_hidden, out=self.hidden_terms)
        self.hidden = hidden

    def _along_tanh(self, t: NDArray[Any], deviation: NDArray[Any], out: NDArray[Any], scratch: NDArray[Any]) -> None:
        """out = (1 - t^2) d (1 + abs(t) 8 d), the deviations d in units of u."""
        np.abs(t, out=out)
        out *= deviation
        out *= np.float32(8 * self.u)
        out += _ONE
        out *= deviation
        np.multiply(t, t, out=scratch)
        np.subtract(_ONE, scratch, out=scratch)
        out *= scratch

    def _of_product(
        self,
        a: NDArray[Any],
        of_a: NDArray[Any],
        b: NDArray[Any],
        of_b: NDArray[Any],
        total: NDArray[Any],
        scratch: list[NDArray[Any]],
    ) -> None:
        """total += a^2 s_b^2 + s_a^2 (b^2 + 64 s_b^2)"""
        first, second = scratch
        np.multiply(a, a, out=first)
        first *= of_b
        total += first
        np.multiply(b, b, out=first)
        np.multiply(of_b, np.float32(64 * self.u**2), out=second)
        first += second
        first *= of_a
        total += first


def _of_total(n: int) -> float:
    """How often the square of a sum of n products counts in its variance."""
    return n / 3 if n > 1 else 0.0


def _of_terms(n: int) -> float:
    """How often the sum of their squares does."""
    return 1 + n / 2 if n > 1 else 1.0
