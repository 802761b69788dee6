"""Weights from one layout to another: `export`.

Every layer of the source is one that can be run, or canonical weights that can. Its weights go through the layouts that
adapters declare; what came out is proved by running the source's layer and the target's on the same inputs, each
against the oracle with the weights that are written.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from conformance.adapter import Adapter
from conformance.atomic import replacing
from conformance.checking import Checked, as_numpy
from conformance.conversion import Held, Settled, WeightWriter
from conformance.errors import ConformanceError, Unsupported
from conformance.export_model import model_writer, written
from conformance.export_source import LayerWeights, inputs_of, parts_of, picked, started, targets
from conformance.flow import Flow
from conformance.folding import folded
from conformance.judge import judge
from conformance.layers import get_layer
from conformance.precision import precision
from conformance.subject import Own, Part
from conformance.trace import Request
from conformance.weight_file import CANONICAL, Described, write_weight_file
from conformance.worker import failure, work

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conformance.result import Case

Progress = Callable[[str, int, int], None]
Arrays = Mapping[str, "NDArray[Any]"]

FAILED = ("diverges", "crashed", "timeout", "error", "unsupported", "unavailable")


@dataclass(frozen=True)
class Proof:
    """A layer that was run with the weights: whose, and how it compares with the oracle. `ratio` is the greatest error
    as a part of its tolerance."""

    subject: str
    status: str
    ratio: float | None = None
    message: str | None = None

    @property
    def failed(self) -> bool:
        """Whether it does not compute what the oracle does with these weights."""
        return self.status in FAILED


@dataclass(frozen=True)
class Row:
    """What became of one layer of the source, or of arrays in it that are of no known layer.

    `weights` are the shapes of its canonical weights. `reason` says why it is not in the output; None: it is. Where it
    `is_folded`, the target cannot hold the weights as they are, and has others that compute the same.
    """

    path: str
    layer: str
    weights: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    dtype: str = ""
    source: Proof | None = None
    target: Proof | None = None
    assumed: tuple[str, ...] = ()
    reason: str | None = None
    arrays: tuple[str, ...] = ()
    is_folded: bool = False


@dataclass(frozen=True)
class Export:
    """What was written (`arrays` counts them; none where nothing was), and a row for everything in the source."""

    source: str
    output: str
    layout: str
    rows: tuple[Row, ...]
    arrays: int

    @property
    def exit_code(self) -> int:
        """1 where a layer that was asked for does not compute the same with its weights, else 0."""
        proofs = [p for row in self.rows for p in (row.source, row.target) if p is not None]
        return 1 if any(p.failed for p in proofs) else 0


def export(
    source: str | Path,
    output: str | Path,
    *,
    layers: Sequence[str] = (),
    to: str | None = None,
    config: Mapping[str, Mapping[str, Any]] | None = None,
    progress: Progress | None = None,
) -> Export:
    """Convert the weights in `source` to `output`: canonical, or in the layout of the framework `to`.

    `layers` picks by path or by canonical name; `PATH=NAME` says which layer lies at a path, where the file does not.
    `config` says what a file of weights does not hold, by path (`""`: of every layer).

    Raises ConformanceError where the source is broken, or nothing in it is what was asked for.
    """
    source, output = Path(source), Path(output)
    picks = [text for text in layers if "=" not in text]
    settled = _settled([text for text in layers if "=" in text], config or {})
    able = [] if to is None else targets(to)
    model = model_writer(output, able)
    write = _writer(output, able) if model is None else None
    found = list(picked(source, parts_of(source, settled, picks), picks))
    target = started(able) if able else None
    rows: list[Row] = []
    described: list[Described] = []
    arrays: dict[str, NDArray[Any]] = {}
    prefixed = sum(isinstance(part, LayerWeights) or part.unsupported is None for part in found) > 1
    if prefixed and model is not None:
        raise ConformanceError(
            f"{output}: a model of one layer is written, and {source} has several: give one with --layer, or write "
            "the weights of all of them to a file that ends in .safetensors"
        )
    for number, part in enumerate(found, 1):
        row, layer = _row(part, settled)
        if layer is not None and not row.reason:
            row, own, subject = _laid_out(row, layer, target)
            if row.reason is None and model is not None:
                row = _as_model(row, target, output, layer, subject)
            if row.reason is None:
                names = {name: _named(layer.path if prefixed else "", name) for name in own}
                if layer.origin is not None and layer.origin.layout == to and not picks:
                    names = {**names, **layer.origin.names}
                arrays |= {names[n]: array for n, array in own.items()}
                described.append(_described(layer, names, subject))
        rows.append(row)
        if progress is not None:
            progress(row.path, number, len(found))
    if described and write is not None:
        with replacing(output) as beside:
            write(beside, to or CANONICAL, described, arrays)
    elif not described and not any(p is not None and p.failed for row in rows for p in (row.source, row.target)):
        raise ConformanceError(f"{source}: nothing in it can be converted: {_reasons(rows)}")
    return Export(str(source), str(output), to or CANONICAL, tuple(rows), len(arrays))


def _settled(pairs: Iterable[str], config: Mapping[str, Mapping[str, Any]]) -> Settled:
    named = dict(text.split("=", 1) for text in pairs)
    for name in named.values():
        get_layer(name)  # raises, with the nearest
    return Settled(named, config)


def _writer(output: Path, able: Sequence[Adapter]) -> Callable[[Path, str, Sequence[Described], Arrays], None]:
    """What writes a file of this name. Raises ConformanceError where nothing does."""
    folder = output.parent
    if output.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
        raise ConformanceError(f"{output}: cannot be written; give a file in a folder that exists and is writable")
    if output.suffix.lower() == ".safetensors":
        return write_weight_file
    for writer in able:
        if isinstance(writer, WeightWriter) and writer.writes_weights(output):
            return lambda path, layout, described, arrays: writer.write_weights(path, arrays, output.suffix.lower())
    raise ConformanceError(
        f"{output}: a file of this name is not written here; give one that ends in .safetensors, "
        "or in .pt with --to torch, .mat with --to matlab, .onnx with --to onnx, .keras with --to keras"
    )


# -- a layer ---------------------------------------------------------------------------------------------------------


def _row(part: LayerWeights | Part, settled: Settled) -> tuple[Row, LayerWeights | None]:
    """The row of a part, and its layer where it is one; the source is run where it can be."""
    if isinstance(part, LayerWeights):
        return _blank(part), part
    held = part if isinstance(part, Held) else None
    arrays = held.arrays if held is not None else ()
    if part.unsupported is not None:
        return Row(part.path, part.layer, reason=part.unsupported, arrays=arrays), None
    try:
        own = held.own if held is not None else None
        if own is None and part.subject is not None:
            own = part.subject.own()
        if own is None:
            raise Unsupported("it is of no known layer")
        layer = _own_layer(part, own, settled)
        if not layer.weights:
            raise Unsupported("it has no weights")
        if not any(np.isfinite(a.astype(np.float64)).all() for a in layer.weights.values()):
            raise Unsupported("its weights are not finite")
    except (Unsupported, ConformanceError) as error:
        return Row(part.path, part.layer, reason=str(error), arrays=arrays), None
    row = replace(_blank(layer), arrays=arrays)
    if part.subject is None:
        return row, layer
    weights = {n: a.astype(np.float64) for n, a in layer.weights.items()}
    checked = Checked(
        part.subject, layer.layer, layer.inputs, weights, layer.config, layer.dtype, name=part.path or part.subject.name
    )
    try:
        proof = _proof(part.subject.name, checked.judged()[0])
    except ConformanceError as error:
        proof = Proof(part.subject.name, "error", message=str(error))
    reason = f"its source does not compute {layer.layer} with these weights" if proof.failed else None
    return replace(row, source=proof, reason=reason), layer


def _blank(layer: LayerWeights) -> Row:
    shapes = {n: a.shape for n, a in layer.weights.items()}
    return Row(layer.path, layer.layer, shapes, layer.dtype, assumed=layer.assumed)


def _own_layer(part: Part, own: Own, settled: Settled) -> LayerWeights:
    config = {**own.config, **settled.config_of(part.path, get_layer(own.layer).config)}
    layer = get_layer(own.layer, config)
    config = layer.complete(config)
    dtype = (part.subject.dtype if part.subject is not None else getattr(part, "dtype", None)) or "float32"
    number = precision(dtype)
    weights = {n: as_numpy(a).astype(number.dtype) for n, a in own.weights.items()}
    inputs = part.inputs or own.inputs
    made = {n: number.round(as_numpy(a)) for n, a in inputs.items()} or inputs_of(layer, weights, config, dtype)
    return LayerWeights(
        part.path,
        own.layer,
        config,
        weights,
        dtype,
        made,
        tuple(getattr(part, "assumed", ())),
        getattr(part, "origin", None),
    )


def _proof(subject: str, case: Case) -> Proof:
    message = case.message
    if case.status == "diverges":
        message = f"at step {case.culprit!r}" + (f": {case.diagnosis[0].sentence}" if case.diagnosis else "")
    return Proof(subject, case.status, case.ratio if isinstance(case.ratio, float) else None, message)


# -- the target ------------------------------------------------------------------------------------------------------


def _laid_out(row: Row, layer: LayerWeights, target: Any) -> tuple[Row, Arrays, str]:
    """As `_held_by`; where the framework cannot hold the weights as they are, of others that compute the same."""
    made = _held_by(target, row, layer, layer)
    other = folded(layer.layer, layer.weights) if made[0].reason is not None else None
    if other is None:
        return made
    row_of_other, own, subject = _held_by(target, row, replace(layer, weights=other), layer)
    return (replace(row_of_other, is_folded=True), own, subject) if row_of_other.reason is None else made


def _held_by(target: Any, row: Row, layer: LayerWeights, proven: LayerWeights) -> tuple[Row, Arrays, str]:
    """The row with its target, the arrays that are written, and whose parameters they are.

    The first of the framework's own layers that has these weights and computes the same as the oracle with those of
    `proven`; else the row says why none.
    """
    if target is None:
        return row, layer.weights, ""
    if layer.assumed:
        named = " and ".join(layer.assumed)
        option = " ".join(f"--config {layer.path + '.' if layer.path else ''}{n}=N" for n in layer.assumed)
        return replace(row, reason=f"its {named}, on which the layout depends, is not in the file: {option}"), {}, ""
    number = precision(layer.dtype)
    weights = {n: a.astype(np.float64) for n, a in layer.weights.items()}
    request = Request(layer.layer, "", layer.config, layer.inputs, weights, layer.dtype)
    those = {n: a.astype(np.float64) for n, a in proven.weights.items()}
    flow = Flow.bind(get_layer(layer.layer, layer.config), layer.config, layer.inputs, those, where=layer.path)
    failed: Proof | None = None
    why = ""
    try:
        subjects = target.layout_subjects(request)
    except Unsupported as error:
        return replace(row, reason=str(error)), {}, ""
    for name in subjects:
        asked = replace(request, subject=name)
        try:
            made = target.stored(asked).items()
            own: Arrays = {n: a.astype(number.dtype) if a.dtype.kind in "fV" else a for n, a in made}
            back = target.restored(asked, own)
        except (Unsupported, ConformanceError) as error:
            why = why or str(error)
            continue
        except Exception as error:  # of a framework, whatever it raises
            why = why or f"{name}: {type(error).__name__}: {error}"
            continue
        if any(n not in back or not _same(a, back[n]) for n, a in layer.weights.items()):
            why = why or f"{name} does not hold all of its weights"
            continue
        own = _as_it_was(target, asked, layer, own)
        proof = _run(target.name, asked, flow, layer) if target.layout_runs else Proof(name, "not-run")
        if not proof.failed:
            return replace(row, target=proof), own, name
        failed = failed or proof
    if failed is None:
        return replace(row, reason=why or f"{target.layout_name} has no layer that holds these weights"), {}, ""
    return replace(row, target=failed, reason=f"{failed.subject} does not compute the same with these weights"), {}, ""


def _as_model(row: Row, writer: Any, output: Path, layer: LayerWeights, subject: str) -> Row:
    """The row with the proof of the model that was written."""
    try:
        proof = _proof(output.name, written(writer, output, layer, subject))
    except Unsupported as error:
        return replace(row, reason=str(error))
    reason = "the model that was written does not compute the same with these weights" if proof.failed else None
    return replace(row, target=proof, reason=reason)


def _as_it_was(target: Any, request: Request, layer: LayerWeights, own: Arrays) -> Arrays:
    """`own` with the parameters that the layer had in this layout, as long as its weights are still theirs."""
    if layer.origin is None or layer.origin.layout != target.layout_name or not layer.origin.kept:
        return own
    try:
        was = {**own, **{n: kept.array() for n, kept in layer.origin.kept.items()}}
        back = target.restored(request, was)
    except (ConformanceError, ValueError, TypeError):
        return own
    return was if all(n in back and _same(a, back[n]) for n, a in layer.weights.items()) else own


def _run(adapter: str, request: Request, flow: Flow, layer: LayerWeights) -> Proof:
    """The target's layer, run with the weights, beside the oracle."""
    number = precision(layer.dtype)
    try:
        trace = work(adapter, request)
        verdict = judge(flow, trace, number)
    except ConformanceError as error:
        return Proof(request.subject, "error", message=str(error))
    except Exception as error:  # of a framework, whatever it raises
        failed = failure(error)
        return Proof(request.subject, failed.status, message=str(failed))
    ratios = [s.isolated.ratio for s in verdict.steps if s.isolated is not None]
    ratios += [s.accumulated.ratio for s in verdict.steps[-1:] if s.accumulated is not None]
    said = f"at step {verdict.culprit!r}" if verdict.culprit is not None else verdict.message
    return Proof(request.subject, verdict.status, max(ratios, default=None), said)


def _same(sent: NDArray[Any], back: NDArray[Any]) -> bool:
    return sent.shape == back.shape and sent.tobytes() == np.asarray(back).astype(sent.dtype).tobytes()


def _named(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _described(layer: LayerWeights, names: Mapping[str, str], subject: str) -> Described:
    shapes = {n: list(a.shape) for n, a in layer.weights.items()}
    config, stands_in = layer.config, get_layer(layer.layer, layer.config).falls_back
    # What is only that of another entry is left to it: the other may be said later.
    known = {
        n: v for n, v in config.items() if n not in layer.assumed and (config.get(stands_in.get(n, "")) or ...) != v
    }
    return Described(
        layer.path, layer.layer, known, layer.dtype, shapes, dict(names), subject, list(layer.assumed), layer.origin
    )


def _reasons(rows: Sequence[Row]) -> str:
    said = [f"{row.path or '.'}: {row.reason}" for row in rows if row.reason]
    return "; ".join(said[:5]) or "it holds no layer with weights"
