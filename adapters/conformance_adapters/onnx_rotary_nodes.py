"""RotaryEmbedding as it is met in somebody's ONNX graph: its base is found in the table of cosines and sines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from conformance.errors import Unsupported
from conformance_adapters.onnx_nodes import Arrays, Operator, refuse

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnx import NodeProto

    from conformance_adapters.onnx_wiring import Wiring


class RotaryEmbedding(Operator):
    """RotaryEmbedding, opset 23: heads as the second axis, or side by side."""

    layer = "rotary_embedding"
    kinds = (("", "RotaryEmbedding"),)
    operands = {"positions": 3, "cosine": 1, "sine": 2}  # noqa: RUF012 - read only

    @classmethod
    def match(cls, wiring: Wiring, node: NodeProto) -> Operator | None:
        """Its positions are an input, also where they are constant."""
        ids = cls.operands["positions"]
        return cls(wiring, node, {"x": node.input[0], "positions": node.input[ids] if ids < len(node.input) else ""})

    def config(self) -> dict[str, Any]:
        """The base with the fewest digits that gives the table."""
        refuse("positions" not in self.inputs, "RotaryEmbedding without positions: its cosines do not tell them")
        refuse(self.attributes.get("scale", 1.0) != 1.0, "RotaryEmbedding with a scale")
        refuse(self.attributes.get("is_packed_batching"), "RotaryEmbedding of a packed batch")
        refuse(self.wiring.axes(self.inputs["positions"]) == 1, "RotaryEmbedding with one offset for all positions")
        cosine, sine = (self.weight(self.operands[n]) for n in ("cosine", "sine"))
        assert cosine is not None
        assert sine is not None
        return {
            "base": _base(cosine, sine),
            "dim": self.attributes.get("rotary_embedding_dim") or None,
            "pairing": "interleaved" if self.attributes.get("interleaved") else "half-split",
        }

    def _heads(self, hdim: int) -> int:
        cosine = self.wiring.array(self.operand(self.operands["cosine"]))
        given = int(self.attributes.get("num_heads", 0))
        return given or hdim // (2 * cosine.shape[-1] if cosine is not None else hdim)

    def canonical(self, values: Mapping[str, NDArray[Any]]) -> Arrays:
        """`batch time head dim`."""
        return {n: self.given(a) if n == "x" else a for n, a in values.items()}

    def fed(self, inputs: Mapping[str, NDArray[Any]]) -> Arrays:
        """As the graph has it; positions that are left out count from 0."""
        x = inputs["x"]
        batch, time, heads, dim = x.shape
        whole = x.reshape(batch, time, heads * dim) if self.wiring.axes(self.inputs["x"]) == 3 else x.swapaxes(1, 2)
        return {"x": whole, "positions": np.broadcast_to(inputs.get("positions", np.arange(time)), (batch, time))}

    def given(self, output: NDArray[Any]) -> NDArray[Any]:
        """`batch time head dim`."""
        if output.ndim == 4:
            return output.swapaxes(1, 2)
        batch, time, hdim = output.shape
        heads = self._heads(hdim)
        return output.reshape(batch, time, heads, hdim // heads)


class MicrosoftRotaryEmbedding(RotaryEmbedding):
    """com.microsoft.RotaryEmbedding, which reads the positions first."""

    kinds = (("com.microsoft", "RotaryEmbedding"),)
    operands = {"positions": 1, "cosine": 2, "sine": 3}  # noqa: RUF012 - read only


def _base(cosine: NDArray[Any], sine: NDArray[Any]) -> float:
    """The base of a table `position pair`: pair i turns by base^(-i / pairs) from one position to the next.

    Raises Unsupported where no base, as a person would write one, gives the table within its own rounding.
    """
    refuse(cosine.ndim != 2 or min(cosine.shape) < 2, "RotaryEmbedding whose cosines are no table of all positions")
    roundoff = float(np.finfo(cosine.dtype).eps)
    cosine, sine = cosine.astype(np.float64), sine.astype(np.float64)
    positions, pairs = cosine.shape
    turn = float(np.arctan2(sine[1, 1], cosine[1, 1]))
    rough = turn**-pairs if turn > 0 else 0.0
    where = np.arange(positions)[:, None]
    allowed = roundoff * (4 + 2 * where)  # of the angle, which grows with the position, and of the functions
    for digits in range(1, 8):
        base = float(f"{rough:.{digits - 1}e}")
        angles = where * base ** (-np.arange(pairs) / pairs) if base > 0 else where * np.nan
        if (abs(np.cos(angles) - cosine) <= allowed).all() and (abs(np.sin(angles) - sine) <= allowed).all():
            return base
    raise Unsupported("RotaryEmbedding whose angles are not those of one base")


ROTARY = (RotaryEmbedding, MicrosoftRotaryEmbedding)
