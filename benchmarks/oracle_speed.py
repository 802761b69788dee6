"""How long the oracle takes, its tolerances included, beside the ONNX reference evaluator alone.

    python benchmarks/oracle_speed.py                       # the table, at 1e5, 1e6 and 1e7 elements
    python benchmarks/oracle_speed.py --check               # exits with 1 where a ratio is above its limit
    python benchmarks/oracle_speed.py --layer conv2d --elements 1e5 --reference float64

What is timed of the oracle is `Flow.run` as the judge asks for it: the values of all steps in float64, with the
deviations of a float32 subject. Of the reference evaluator (`onnx.reference.ReferenceEvaluator`) it is one `run` of a
model of one operator, on float32 tensors, which give it less to do than float64 tensors
(`--reference`). Both have the same inputs and weights, and their outputs are compared.

Elements are those of the input x; of attention, those of query, key and value together. Both sides run in one thread,
which is set before NumPy is imported, and take turns; a time is the median of the process's CPU seconds (user and
system), after one run that does not count. A machine that does other work at the same time has little say in that.
The evaluator pools in a loop over the output in Python: a run that is longer than `--limit` is stopped, and the
table says that it is longer. Peak memory is the process's, less what it had before the first run of the oracle.
"""

from __future__ import annotations

import os

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")  # before NumPy is there

import argparse
import math
import signal
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from conformance.figures import compare
from conformance.flow import Flow
from conformance.layers import get_layer
from conformance.model import RoundingModel
from conformance.precision import precision

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conformance.rounding import RoundedArray

MODEL = RoundingModel(precision("float32"))
OPSET = 23
ENOUGH = 0.5  # seconds of CPU that the runs of both sides take together at least, once there are three
Arrays = dict[str, "NDArray[Any]"]


@dataclass(frozen=True)
class Subject:
    """A layer under a config, and the operator that computes the same.

    `shape` gives the shape of x for a number of elements, or of query, key and value each. `tensors` maps the layer's
    arrays to the operator's, in its order; `output` maps the operator's output to the layer's.
    """

    layer: str
    said: str
    limit: float
    shape: Callable[[float], tuple[int, ...]]
    weights: Mapping[str, tuple[int, ...]]
    config: Mapping[str, Any]
    operator: str
    attributes: Mapping[str, Any]
    tensors: Callable[[Arrays], Arrays]
    output: Callable[[NDArray[Any]], NDArray[Any]]
    inputs: tuple[str, ...] = ("x",)

    @property
    def name(self) -> str:
        """The layer's, or its last word where that is long."""
        return self.layer if len(self.layer) < 16 else self.layer.rpartition("_")[2]


def main(arguments: list[str] | None = None) -> int:
    """Time every subject at every size, print the table. Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layer", action="append", help="only layers whose name begins so (repeatable)")
    parser.add_argument("--elements", type=float, nargs="+", default=[1e5, 1e6, 1e7], metavar="N")
    parser.add_argument("--reference", choices=("float32", "float64"), default="float32", help="the evaluator's dtype")
    parser.add_argument("--limit", type=float, default=60.0, help="CPU seconds after which the evaluator is stopped")
    parser.add_argument("--check", action="store_true", help="exit with 1 where a ratio is above its limit")
    given = parser.parse_args(arguments)
    chosen = [s for s in SUBJECTS if not given.layer or s.layer.startswith(tuple(given.layer))]
    print(f"{'layer':14} {'config':25} {'elements':>8} {'oracle':>7} {'evaluator':>9} {'ratio':>6} {'limit':>5}")
    above = 0
    for subject in chosen:
        for elements in given.elements:
            if len(subject.inputs) * math.prod(subject.shape(elements)) > 2 * elements:
                continue  # one sample is more than that
            above += not _row(subject, elements, given.reference, given.limit)
    print(f"the oracle took at most {_Peak.most / 2**30:.1f} GiB beyond its inputs")
    if above:
        print(f"{above} above the limit", file=sys.stderr)
    return 1 if given.check and above else 0


def _row(subject: Subject, elements: float, dtype: str, limit: float) -> bool:
    """Time one subject at one size and print it. Returns whether the limit is held."""
    rng = np.random.default_rng(20260101)
    shape = subject.shape(elements)
    arrays = {name: _drawn(rng, shape) for name in subject.inputs}
    weights = {
        name: _drawn(rng, size) / math.sqrt(max(1, math.prod(size[:-1]))) for name, size in subject.weights.items()
    }
    weights = {name: w.astype(np.float32).astype(np.float64) for name, w in weights.items()}
    flow = Flow.bind(get_layer(subject.layer), subject.config, arrays, weights)
    feeds = {n: np.ascontiguousarray(a, dtype=dtype) for n, a in subject.tensors({**arrays, **weights}).items()}
    evaluator = _evaluator(subject, feeds, dtype)

    def oracle() -> RoundedArray:
        last: RoundedArray
        for _, last in flow.run(MODEL):
            last.settle()
        return last

    with _Peak():
        expected = oracle()
    ours: list[float] = []
    theirs: list[float] = []
    cut = False
    try:
        with _stopped_after(limit):
            seen = subject.output(evaluator.run(None, feeds)[0])
        off = compare(expected, seen).ratio
        assert off <= 1, f"{subject.layer} {subject.said}: the evaluator is off by {off:.2g} tolerances"
        del seen
    except _TooLong:
        cut = True
    del expected
    while len(ours) < 3 or (sum(ours) + sum(theirs) < ENOUGH and len(ours) < 25):
        ours.append(_seconds(oracle))
        if not cut and ((len(theirs) < 3 and sum(theirs) < ENOUGH * 20) or sum(theirs) < ENOUGH):
            theirs.append(_seconds(lambda: evaluator.run(None, feeds)))
    mine = statistics.median(ours)
    its = limit if cut else statistics.median(theirs)
    ratio, sign = mine / its, ("<", ">") if cut else ("", "")
    held = ratio <= subject.limit
    count = sum(math.prod(shape) for _ in subject.inputs)
    told = f"{sign[0]}{ratio:.2f}" if ratio < 100 else f"{ratio:.0f}"
    print(
        f"{subject.name:14} {subject.said:25} {count:8.1e} {mine:7.3f} {sign[1] + format(its, '.3f'):>9} {told:>6} "
        f"{format(subject.limit, 'g') + ('' if held else ' !'):>5}",
        flush=True,
    )
    return held


def _drawn(rng: np.random.Generator, shape: tuple[int, ...], terms: int = 1) -> NDArray[np.float64]:
    """Normal float32 numbers, so large that sums of so many terms are about one."""
    return (rng.standard_normal(shape, dtype=np.float32) / np.float32(math.sqrt(terms))).astype(np.float64)


def _seconds(call: Callable[[], object]) -> float:
    clock = time.process_time()
    call()
    return time.process_time() - clock


def _evaluator(subject: Subject, feeds: Arrays, dtype: str) -> Any:
    from onnx import TensorProto, helper
    from onnx.reference import ReferenceEvaluator

    kind = TensorProto.FLOAT if dtype == "float32" else TensorProto.DOUBLE
    node = helper.make_node(subject.operator, list(feeds), ["output"], **subject.attributes)
    inputs = [helper.make_tensor_value_info(name, kind, None) for name in feeds]
    graph = helper.make_graph([node], subject.operator, inputs, [helper.make_tensor_value_info("output", kind, None)])
    return ReferenceEvaluator(helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)]))


class _TooLong(Exception):
    """The evaluator was stopped."""


@contextmanager
def _stopped_after(seconds: float) -> Iterator[None]:
    """Raise _TooLong in the block after so many CPU seconds, between two of its Python instructions."""

    def stop(*_: object) -> None:
        raise _TooLong

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


class _Peak:
    """The most memory that the process takes in a block, beyond what it has before it, of all blocks."""

    most = 0

    def __enter__(self) -> None:
        Path("/proc/self/clear_refs").write_text("5")  # Linux: the peak starts again from here
        self.before = self._status("VmRSS")

    def __exit__(self, *_: object) -> None:
        _Peak.most = max(_Peak.most, self._status("VmHWM") - self.before)

    @staticmethod
    def _status(name: str) -> int:
        fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        return int(fields[name].split()[0]) * 1024


# -- the layers ---------------------------------------------------------------------------------------------


def _channels_first(x: NDArray[Any]) -> NDArray[Any]:
    return np.moveaxis(x, -1, 1)


def _channels_last(x: NDArray[Any]) -> NDArray[Any]:
    return np.moveaxis(x, 1, -1)


def _side(elements: float, batch: int, channels: int, axes: int) -> tuple[int, ...]:
    """`batch *space channel` with sides of one length."""
    return batch, *(max(8, round((elements / batch / channels) ** (1 / axes))),) * axes, channels


def _batches(elements: float, *sample: int) -> tuple[int, ...]:
    """As many samples of one size as have so many elements."""
    return max(1, round(elements / math.prod(sample))), *sample


def conv(
    axes: int, window: int, channels: int, out: int, strides: int = 1, dilation: int = 1, groups: int = 1, side: int = 0
) -> Subject:
    """A convolution with a bias whose padding is half the window; samples of one `side`, or one large sample."""
    half = (window - 1) * dilation // 2
    said = f"{channels} to {out}, {'x'.join([str(window)] * axes)}"
    for name, value in (("stride", strides), ("dilation", dilation), ("groups", groups)):
        said += f", {name} {value}" if value > 1 else ""
    return Subject(
        f"conv{axes}d",
        said,
        1.0,
        lambda n: _batches(n, *(side,) * axes, channels) if side else _side(n, 1, channels, axes),
        {"kernel": (*(window,) * axes, channels // groups, out), "bias": (out,)},
        {"strides": strides, "padding": [(half, half)] * axes, "dilation": dilation, "groups": groups},
        "Conv",
        {"strides": [strides] * axes, "pads": [half] * axes * 2, "dilations": [dilation] * axes, "group": groups},
        lambda a: {"X": _channels_first(a["x"]), "W": np.moveaxis(a["kernel"], (-1, -2), (0, 1)), "B": a["bias"]},
        _channels_last,
    )


def pool(kind: str, axes: int, window: int, strides: int, channels: int = 16, side: int = 32, pad: int = 0) -> Subject:
    """A pool of samples of one `side`."""
    return Subject(
        f"{kind}_pool{axes}d",
        f"{'x'.join([str(window)] * axes)}, stride {strides}" + (f", padding {pad}" if pad else ""),
        1.0,
        lambda n: _batches(n, *(side,) * axes, channels),
        {},
        {"size": window, "strides": strides, "padding": [(pad, pad)] * axes},
        "MaxPool" if kind == "max" else "AveragePool",
        {"kernel_shape": [window] * axes, "strides": [strides] * axes, "pads": [pad] * axes * 2},
        lambda a: {"X": _channels_first(a["x"])},
        _channels_last,
    )


def lstm(batch: int, width: int, unit: int) -> Subject:
    """An LSTM over sequences as long as the number of elements makes them. ONNX has the gates in the order i, o, f, c,
    and time before the batch."""

    def gates(kernel: NDArray[Any]) -> NDArray[Any]:
        i, f, g, o = np.split(kernel, 4, axis=-1)
        return np.concatenate([i, o, f, g], axis=-1)

    return Subject(
        "lstm",
        f"batch {batch}, {width} to {unit}",
        1.0,
        lambda n: (batch, max(2, round(n / batch / width)), width),
        {"kernel": (width, 4 * unit), "recurrent_kernel": (unit, 4 * unit), "bias": (4 * unit,)},
        {},
        "LSTM",
        {"hidden_size": unit},
        lambda a: {
            "X": np.swapaxes(a["x"], 0, 1),
            "W": gates(a["kernel"]).T[None],
            "R": gates(a["recurrent_kernel"]).T[None],
            "B": np.concatenate([gates(a["bias"]), np.zeros(4 * unit)])[None],
        },
        lambda y: np.swapaxes(y[:, 0], 0, 1),
    )


def attention(heads: int, time_steps: int, dim: int) -> Subject:
    """Scaled dot-product attention over samples of one length."""
    names = "query", "key", "value"
    return Subject(
        "scaled_dot_product_attention",
        f"{heads} heads, {time_steps} x {dim}",
        10.0,
        lambda n: _batches(n / 3, heads, time_steps, dim),
        {},
        {},
        "Attention",
        {},
        lambda a: {name: a[name] for name in names},
        lambda y: y,
        names,
    )


def layer_norm(channels: int) -> Subject:
    """Layer norm over the last axis."""
    return Subject(
        "layer_norm",
        f"{channels} channels",
        10.0,
        lambda n: _batches(n, channels),
        {"scale": (channels,), "bias": (channels,)},
        {},
        "LayerNormalization",
        {"epsilon": 1e-5, "axis": -1},
        lambda a: {"X": a["x"], "scale": a["scale"], "bias": a["bias"]},
        lambda y: y,
    )


SUBJECTS = (
    conv(1, 3, 32, 32),
    conv(1, 9, 16, 64, strides=2),
    conv(2, 3, 16, 32),
    conv(2, 3, 16, 32, strides=2),
    conv(2, 3, 32, 32, groups=4),
    conv(2, 3, 32, 32, groups=32),
    conv(2, 3, 64, 64, side=16),
    conv(2, 1, 64, 64, side=16),
    conv(2, 3, 16, 32, dilation=2),
    conv(2, 7, 3, 64, strides=2),
    conv(3, 3, 8, 16),
    lstm(1, 32, 32),
    lstm(32, 32, 32),
    lstm(32, 64, 64),
    lstm(64, 128, 128),
    pool("average", 1, 3, 2),
    pool("average", 2, 2, 2),
    pool("average", 2, 3, 1, pad=1),
    pool("max", 1, 3, 2),
    pool("max", 2, 2, 2),
    pool("max", 2, 3, 1, pad=1),
    pool("max", 3, 2, 2, side=16),
    attention(4, 128, 64),
    attention(8, 512, 64),
    layer_norm(64),
    layer_norm(1024),
)


if __name__ == "__main__":
    sys.exit(main())
