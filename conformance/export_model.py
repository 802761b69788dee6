"""One layer as a model that its framework runs: what `export` writes to `.onnx` and `.keras`, and its proof.

The proof is the file itself: it is opened as any model is, run, and put beside the oracle with the weights.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from conformance import sizes
from conformance.adapter import Adapter
from conformance.atomic import replacing
from conformance.checking import Checked
from conformance.conversion import ModelWriter
from conformance.errors import ConformanceError, Unsupported
from conformance.export_source import LayerWeights
from conformance.layers import get_layer
from conformance.loading import opened
from conformance.trace import Request

if TYPE_CHECKING:
    from conformance.result import Case

Shapes = Mapping[str, tuple[int | str, ...]]


def model_writer(output: Path, able: Sequence[Adapter]) -> ModelWriter | None:
    """The adapter that writes a model to a file of this name, if there is one."""
    return next((a for a in able if isinstance(a, ModelWriter) and a.writes_model(output)), None)


def written(writer: ModelWriter, output: Path, layer: LayerWeights, subject: str) -> Case:
    """Write the model of `layer` to `output`, and judge the file; it is not there where it diverges.

    Raises Unsupported where the framework has no such model.
    """
    weights = {n: a.astype(np.float64) for n, a in layer.weights.items()}
    request = Request(layer.layer, subject, layer.config, layer.inputs, weights, layer.dtype)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / output.name
        try:
            writer.write_model(path, request, shapes_of(layer))
        except (Unsupported, ConformanceError):
            raise
        except Exception as error:  # of a framework, whatever it raises
            first = (str(error).strip().splitlines() or [""])[0]
            raise Unsupported(f"no model of {subject} can be written ({type(error).__name__}: {first})") from error
        live = opened(path)
        given = {n: np.asarray(a) for n, a in layer.inputs.items()}
        checked = Checked(live, layer.layer, given, weights, layer.config, layer.dtype, name=output.name)
        case = checked.judged()[0]
        if case.status in ("conforms", "known-divergence"):
            with replacing(output) as beside:
                shutil.copyfile(path, beside)
    return case


def shapes_of(layer: LayerWeights) -> Shapes:
    """The shape of each input: a number for an axis that the weights settle, else a name, such as `batch`."""
    known = get_layer(layer.layer, layer.config)
    settled: Mapping[str, Any] = sizes.of_weights(known, layer.weights, layer.config)
    axes_of = {name.rstrip("?"): axes.split() for name, axes in known.inputs.items()}
    normalised = len(settled.get("*axes", ()))  # the last ones of an input, by the weights
    shapes: dict[str, tuple[int | str, ...]] = {}
    for name, array in layer.inputs.items():
        named = _named(axes_of[name], array.shape)
        told = [i >= array.ndim - normalised or w in settled or not w.isidentifier() for i, (w, _) in enumerate(named)]
        shapes[name] = tuple(size if fixed else word for (word, size), fixed in zip(named, told, strict=True))
    return shapes


def _named(words: Sequence[str], shape: tuple[int, ...]) -> list[tuple[str, int]]:
    """Each axis with its name: what stands for several axes is numbered."""
    several = [w for w in words if w.startswith("*") or w == "..."]
    names = list(words)
    if several:
        at, count = words.index(several[0]), len(shape) - len(words) + 1
        stem = several[0].strip("*.") or "outer"
        names[at : at + 1] = [f"{stem}{i}" for i in range(count)] if count > 1 else [stem] * count
    return list(zip(names, shape, strict=True))
