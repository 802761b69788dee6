"""What `export` reads: the layers of a model's file or of a file of weights, and which of them were asked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from conformance import sizes
from conformance.adapter import Adapter, adapter_names, load, missing
from conformance.checking import own_inputs
from conformance.conversion import Held, OwnLayout, Settled, WeightFiles
from conformance.errors import ConformanceError, Unsupported
from conformance.flow import Flow
from conformance.layer import nearest
from conformance.layers import get_layer, layer_names
from conformance.loading import opened
from conformance.precision import precision
from conformance.subject import Call, Part
from conformance.trace import Request
from conformance.weight_file import CANONICAL, Described, Origin, WeightFile, read_weight_file

if TYPE_CHECKING:
    from numpy.typing import NDArray

Arrays = Mapping[str, "NDArray[Any]"]
_AXES = 64  # of an array of NumPy's
_SMALL = 2**16  # weights of a layer that are not worth a look at whether they are all there


@dataclass(frozen=True)
class LayerWeights:
    """A layer with its canonical weights in the dtype in which they are written."""

    path: str
    layer: str
    config: Mapping[str, Any]
    weights: Arrays
    dtype: str
    inputs: Arrays
    assumed: tuple[str, ...] = ()
    origin: Origin | None = None


def layout_names() -> list[str]:
    """The frameworks whose layouts the installed adapters have."""
    return sorted({a.layout_name for a in map(load, adapter_names()) if isinstance(a, OwnLayout)})


def targets(name: str) -> Sequence[Adapter]:
    """The adapters, of those whose framework is installed, that have the layout called `name`.

    Raises ConformanceError for an unknown layout, and where no such framework is there.
    """
    able = [a for a in map(load, adapter_names()) if isinstance(a, OwnLayout) and a.layout_name == name]
    if not able:
        names = layout_names()
        raise ConformanceError(f"unknown layout {name!r}{nearest(name, names)}; it can be {', '.join(names)}")
    present = [a for a in able if missing(a) is None]
    if not present:
        raise ConformanceError(f"{missing(able[0])} is not installed: {able[0].install}")
    return present


def started(able: Sequence[Any]) -> Any:
    """The first of them that can be started in this process: Keras has one back end in each."""
    for adapter in able[:-1]:
        try:
            adapter.start()
        except ConformanceError:
            continue
        return adapter
    able[-1].start()
    return able[-1]


def parts_of(source: Path, settled: Settled, picks: Sequence[str]) -> Iterator[LayerWeights | Part]:
    """Every layer of the source, and what in it is of none."""
    if not source.is_file():
        what = "is a folder, not a file" if source.is_dir() else "there is no such file"
        raise ConformanceError(f"{source}: {what}; give a file of weights or a model's")
    if source.suffix.lower() == ".safetensors":
        file = read_weight_file(source)
        described = file.layers or _canonical(file, picks)
        if described:
            for layer in described:
                try:
                    yield _restored(source, file, layer, settled)
                except Exception as error:  # whatever a header of nonsense leads to
                    if isinstance(error, ConformanceError) and str(error).startswith(f"{source}: "):
                        raise
                    said = error if isinstance(error, ConformanceError) else f"{type(error).__name__}: {error}"
                    raise ConformanceError(
                        f"{source}: {layer.path or '.'}: its header does not fit it ({said}); export it again"
                    ) from error
            return
    reader = _reader(source)
    if reader is not None:
        yield from _of_weights(reader, source, settled, picks)
        return
    yield from _of_model(source, settled)


def _reader(source: Path) -> WeightFiles | None:
    able = [a for a in map(load, adapter_names()) if isinstance(a, WeightFiles) and a.holds_weights(source)]
    present = [a for a in able if missing(a) is None]
    if able and not present:
        raise ConformanceError(f"{source}: {missing(able[0])}, which reads it, is not installed: {able[0].install}")
    return started(present) if present else None


def _of_weights(reader: Any, source: Path, settled: Settled, picks: Sequence[str]) -> Iterator[Part]:
    """The layers in a file of weights. A canonical name that is picked settles what may be such a layer."""
    found = list(reader.weights_in(source, settled))
    open_ones = {p.path: n for p in found for n in picks if n in p.candidates and p.path not in settled.layers}
    if open_ones:
        layers = {**settled.layers, **{path or ".": name for path, name in open_ones.items()}}
        found = list(reader.weights_in(source, replace(settled, layers=layers)))
    yield from found


def _canonical(file: WeightFile, picks: Sequence[str]) -> list[Described]:
    """The one layer whose canonical weights a file without a header has, where it is named."""
    for name in picks:
        if name not in layer_names():
            continue
        wanted = get_layer(name).weights
        needed = {n for n in wanted if not n.endswith("?")}
        if file.arrays and needed <= set(file.arrays) <= {n.rstrip("?") for n in wanted}:
            kinds = {str(a.dtype) for a in file.arrays.values()}
            dtype = "float64" if "float64" in kinds else kinds.pop()
            shapes = {n: list(a.shape) for n, a in file.arrays.items()}
            assumed = [n for n in ("heads",) if n in get_layer(name).config]
            return [Described("", name, {}, dtype, shapes, {n: n for n in file.arrays}, assumed=assumed)]
    return []


def _restored(source: Path, file: WeightFile, said: Described, settled: Settled) -> LayerWeights:
    """A layer that the file's header tells of. Raises ConformanceError where its arrays are not that layer's."""
    given = settled.config_of(said.path, get_layer(said.layer).config)
    config = get_layer(said.layer).complete({**said.config, **given})
    for name, most in (("layers", max(len(said.arrays), 1)), ("axes", _AXES)):  # each layer has arrays of its own
        if isinstance(config.get(name), int) and config[name] > most:
            raise ConformanceError(f"{config[name]} {name} are declared, where {most} are the most")
    layer = get_layer(said.layer, config)
    number = precision(said.dtype)
    if file.layout in ("", CANONICAL):
        weights: Arrays = file.of(said)
    else:
        declared, held = (sum(map(prod, shapes)) for shapes in (said.weights.values(), _shapes(file, said)))
        if declared > 4 * held + _SMALL:
            raise ConformanceError(
                f"{source}: {said.path or '.'}: {declared} weights are declared, and {held} are there"
            )
        adapter = started(targets(file.layout))
        blank = {n: np.zeros(shape) for n, shape in said.weights.items()}
        inputs = inputs_of(layer, blank, config, said.dtype)
        request = Request(said.layer, said.subject, config, inputs, blank, said.dtype)
        try:
            weights = adapter.restored(request, file.of(said))
        except (Unsupported, ValueError) as error:
            raise ConformanceError(
                f"{source}: {said.path or '.'}: its arrays are not those of {said.subject} ({error}); export it again"
            ) from error
    names = [n.rstrip("?") for n in layer.weights]
    known = sorted(weights, key=lambda n: names.index(n) if n in names else len(names))
    weights = {n: np.asarray(weights[n]).astype(number.dtype) for n in known}
    inputs = inputs_of(layer, weights, config, said.dtype)
    Flow.bind(layer, config, inputs, {n: a.astype(np.float64) for n, a in weights.items()}, where=str(source))
    assumed = tuple(n for n in said.assumed if n not in given)
    origin = said.origin
    if file.layout not in ("", CANONICAL):
        before = said.origin if said.origin is not None and said.origin.layout == file.layout else None
        origin = Origin(file.layout, dict(said.arrays), before.kept if before is not None else {})
    return LayerWeights(said.path, said.layer, config, weights, said.dtype, inputs, assumed, origin)


def _shapes(file: WeightFile, said: Described) -> list[tuple[int, ...]]:
    return [file.arrays[name].shape for name in said.arrays.values()]


def _of_model(source: Path, settled: Settled) -> Iterator[Part]:
    """The layers of a model's file, with what reaches them where the model runs on inputs of its own."""
    live = opened(source)
    dtype = live.dtype or "float32"
    parts = list(live.parts(Call(own_inputs(live, precision(dtype)), dtype)))
    taken: set[str] = set()
    seen: set[str] = set()
    for part in parts:
        path = part.path.partition(" (before ")[0]
        if "#" in path:  # called again
            continue
        seen.add(path)
        if part.subject is None:
            yield replace(part, path=path)
            continue
        names = part.subject.parameters()
        taken |= {n for own in names for n in (own, f"{path}.{own}")}
        if names:
            yield replace(part, path=path)
    left: dict[str, list[str]] = {}
    held = live.parameters()
    for name, array in held.items():
        if name not in taken and array.size > 1 and not any(name.startswith(f"{path}.") for path in seen):
            left.setdefault(name.rpartition(".")[0] or name, []).append(name)
    for path, of_it in left.items():
        shapes = {n: "x".join(map(str, held[n].shape)) for n in of_it}
        said = ", ".join(f"{n.removeprefix(f'{path}.')} {shapes[n]}" if n != path else shapes[n] for n in of_it)
        yield Held(path, "", unsupported=f"{said}: of no layer of a known kind", arrays=tuple(of_it))


def picked(source: Path, parts: Iterable[LayerWeights | Part], picks: Sequence[str]) -> Iterator[LayerWeights | Part]:
    """The layers that were asked for; all of them, where none was. Raises ConformanceError where one is not there."""
    found = list(parts)
    unmet = [p for p in picks if not any(_is(part, p) for part in found)]
    if unmet:
        there = [f"{part.path or '.'} ({part.layer or _candidates(part)})" for part in found]
        names = [part.path for part in found] + sorted({part.layer for part in found})
        raise ConformanceError(
            f"{source}: there is no layer {unmet[0]!r}{nearest(unmet[0], names)}; it has {', '.join(there) or 'none'}"
        )
    return (part for part in found if not picks or any(_is(part, pick) for pick in picks))


def _candidates(part: Any) -> str:
    return " or ".join(getattr(part, "candidates", ())) or "no known layer"


def _is(part: Any, pick: str) -> bool:
    return pick in (part.path or ".", part.layer) or part.path.startswith((f"{pick}.", f"{pick}/"))


def inputs_of(layer: Any, weights: Arrays, config: Mapping[str, Any], dtype: str) -> dict[str, NDArray[Any]]:
    """Seeded inputs of the layer's own sizes; indices are those of rows that its table has."""
    settled = sizes.of_weights(layer, weights, config)
    held, named = sum(a.size for a in weights.values()), [n for n in settled.values() if isinstance(n, int)]
    if max(named, default=0) > held + _SMALL:  # a number of groups that no such layer has
        raise ConformanceError(f"its config makes {max(named)} channels of {held} weights")
    if list(layer.inputs) == ["indices"]:
        rows = next(iter(weights.values())).shape[0]
        return {"indices": (np.abs(sizes.drawn("indices", (2, 5))) * rows).astype(np.int64) % max(rows, 1)}
    return sizes.generated(layer, settled, config, precision(dtype))
