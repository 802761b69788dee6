"""Rotary position embedding in ONNX: the operator of the default domain, and ONNX Runtime's own of com.microsoft.

The operators take the cosines and sines of the angles as inputs. The graph makes them from the positions,
in float32 where the data are narrower, as exporters do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from conformance_adapters.attention_mask import lacking
from conformance_adapters.onnx_attention import ProjectedAttention
from conformance_adapters.onnx_subject import OnnxSubject

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conformance.trace import Request
    from conformance_adapters.onnx_graph import Graph


def frequencies(config: Mapping[str, Any], head_dim: int) -> NDArray[np.float64]:
    """The angle of each pair at position 1."""
    size = config["dim"] or head_dim
    return np.asarray(config["base"] ** (-np.arange(0, size, 2) / size), np.float64)


def cosine_and_sine(graph: Graph, positions: NDArray[Any], turning: NDArray[np.float64], name: str) -> tuple[str, str]:
    """The nodes for the cosine and sine of every angle: the axes of `positions`, then the pairs."""
    wide = graph.dtype if graph.dtype.itemsize > 4 else np.dtype(np.float32)
    # Not as initializers of the graph's own dtype: it may be too narrow for a position.
    graph.initializers[f"{name}.positions"] = np.asarray(positions[..., None], wide)
    graph.initializers[f"{name}.frequencies"] = np.asarray(turning, wide)
    angles = graph.add("Mul", f"{name}.positions", f"{name}.frequencies", name=f"{name}.angles")
    made = []
    for function in ("Cos", "Sin"):
        value = graph.add(function, angles, name=f"{name}.{function.lower()}")
        if wide != graph.dtype:
            from onnx import helper

            to = helper.np_dtype_to_tensor_dtype(graph.dtype)
            value = graph.add("Cast", value, name=f"{name}.{function.lower()}.narrow", to=to)
        made.append(value)
    return made[0], made[1]


class _Rotary(OnnxSubject):
    """What the two operators for `rotary_embedding` have in common."""

    layer: ClassVar[str] = "rotary_embedding"

    @classmethod
    def refuses(cls, request: Request) -> str | None:
        """There is no kernel for float64."""
        return "it does not compute in float64" if request.dtype == "float64" else None

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        """Batch, time, heads and features of each."""
        batch, time, heads, dim = self.given["x"].shape
        return batch, time, heads, dim

    @property
    def positions(self) -> NDArray[np.int64]:
        """`batch time`."""
        batch, time, _, _ = self.sizes
        given = self.given.get("positions", np.arange(time))
        return np.broadcast_to(np.asarray(given, np.int64), (batch, time))

    @property
    def partial(self) -> int | None:
        """The operators' `rotary_embedding_dim`: how many features are turned, where it is not all of them."""
        wanted = self.config["dim"]
        return None if wanted in (None, self.sizes[-1]) else int(wanted)

    @property
    def interleaved(self) -> int | None:
        """The operators' attribute; None where it is left out."""
        return None if "pairing" in self.request.left else int(self.config["pairing"] == "interleaved")


class RotaryEmbedding(_Rotary):
    """RotaryEmbedding, opset 23, on four axes, heads second, between two Transposes.

    Given positions make cosines and sines `batch time pair`; the plain ones are looked up by `position_ids`.
    """

    name: ClassVar[str] = "onnx.RotaryEmbedding"

    def build(self) -> str:
        """`batch time head dim`."""
        graph, turning = self.graph, frequencies(self.config, self.sizes[-1])
        by_head = graph.add("Transpose", self.input("x"), name="x.by_head", perm=[0, 2, 1, 3])
        if "positions" in self.given:
            arguments = list(cosine_and_sine(graph, self.positions, turning, "rotary"))
        else:
            arguments = list(cosine_and_sine(graph, np.arange(self.sizes[1]), turning, "rotary"))
            arguments.append(graph.initializer("position_ids", self.positions))
        turned = graph.add(
            "RotaryEmbedding",
            by_head,
            *arguments,
            name="rotated",
            interleaved=self.interleaved,
            rotary_embedding_dim=self.partial,
        )
        return graph.add("Transpose", turned, name="output", perm=[0, 2, 1, 3])


class MicrosoftRotaryEmbedding(_Rotary):
    """com.microsoft.RotaryEmbedding, on `batch time hdim` between two Reshapes; positions are looked up in a table."""

    name: ClassVar[str] = "com.microsoft.RotaryEmbedding"

    def build(self) -> str:
        """`batch time head dim`."""
        graph, (batch, time, heads, dim) = self.graph, self.sizes
        table = np.arange(int(self.positions.max()) + 1)
        cosine, sine = cosine_and_sine(graph, table, frequencies(self.config, dim), "rotary")
        flat = graph.initializer("flat", np.array([batch, time, heads * dim]))
        turned = graph.add(
            "RotaryEmbedding",
            graph.add("Reshape", self.input("x"), flat, name="x.flat"),
            graph.initializer("position_ids", self.positions),
            cosine,
            sine,
            name="rotated",
            domain="com.microsoft",
            interleaved=self.interleaved,
            num_heads=heads,
            rotary_embedding_dim=self.partial,
        )
        whole = graph.initializer("whole", np.array([batch, time, heads, dim]))
        return graph.add("Reshape", turned, whole, name="output")


class RotatedAttention(ProjectedAttention):
    """Projections by MatMul and Add, RotaryEmbedding on query and key, and the operator Attention."""

    name: ClassVar[str] = "onnx.RotaryEmbedding + onnx.Attention"

    @classmethod
    def refuses(cls, request: Request) -> str | None:
        """Only with rotary positions; there is no kernel for them in float64."""
        if not request.config.get("rotary"):
            return "the layer has no rotary positions"
        if request.dtype == "float64":
            return "it does not compute in float64"
        return lacking(request.config, "window")

    def operator(self, tensors: tuple[str, str, str], sizes: tuple[int, int, int]) -> str:
        """Query and key are turned while their heads stand side by side."""
        query, key, value = tensors
        heads = self.config["heads"]
        query = self._turned(query, "query", (sizes[0], sizes[1]), heads)
        key = self._turned(key, "key", (sizes[0], sizes[2]), self.config.get("kv_heads") or heads)
        return super().operator((query, key, value), sizes)

    def _turned(self, of: str, part: str, axes: tuple[int, int], heads: int) -> str:
        asked = self.config["rotary"]
        options = {"base": 10000.0, "dim": None, "pairing": "half-split", **(asked if isinstance(asked, dict) else {})}
        dim = self.request.weights[f"{part}_kernel"].shape[-1] // heads
        name = f"{part}_rotary"
        cosine, sine = cosine_and_sine(self.graph, np.arange(axes[1]), frequencies(options, dim), name)
        positions = self.graph.initializer(f"{name}.position_ids", np.broadcast_to(np.arange(axes[1]), axes))
        return self.graph.add(
            "RotaryEmbedding",
            of,
            cosine,
            sine,
            positions,
            name=f"{part}_rotated",
            num_heads=heads,
            interleaved=int(options["pairing"] == "interleaved"),
            rotary_embedding_dim=options["dim"] if options["dim"] not in (None, dim) else None,
        )


SUBJECTS = (RotaryEmbedding, MicrosoftRotaryEmbedding, RotatedAttention)
