"""MATLAB: recordings in `.mat` files, and the layouts of its layers' learnable parameters.

MATLAB itself is not run. A recording is a file that holds a layer's learnable parameters under MATLAB's
property names (`QueryWeights`), its input as `X` and every value that was looked at under its step's
name (`scores`); of a network, a struct for each layer holds the same. MATLAB puts channels first:
`channel time`, `channel batch time` or, of images, `height width channel batch`.

Sources: the reference pages of selfAttentionLayer, layerNormalizationLayer, fullyConnectedLayer,
lstmLayer and convolution2dLayer in MathWorks' Deep Learning Toolbox documentation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from conformance.errors import ConformanceError, Unsupported
from conformance.layout import Parameter
from conformance.trace import Entry, Request, Trace
from conformance_adapters.exporting import MatlabExporting

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conformance.mat import MatFile
    from conformance.subject import Live

LAYOUTS: Mapping[str, tuple[Parameter, ...]] = {
    "multi_head_attention": (
        Parameter("QueryWeights", "query_kernel", "channel hdim -> hdim channel"),
        Parameter("KeyWeights", "key_kernel", "channel hdim -> hdim channel"),
        Parameter("ValueWeights", "value_kernel", "channel hvdim -> hvdim channel"),
        Parameter("OutputWeights", "output_kernel", "hvdim out -> out hvdim"),
        Parameter("QueryBias", "query_bias", "hdim -> hdim 1"),
        Parameter("KeyBias", "key_bias", "hdim -> hdim 1"),
        Parameter("ValueBias", "value_bias", "hvdim -> hvdim 1"),
        Parameter("OutputBias", "output_bias", "out -> out 1"),
    ),
    "linear": (
        Parameter("Weights", "kernel", "channel out -> out channel"),
        Parameter("Bias", "bias", "out -> out 1"),
    ),
    "layer_norm": (
        Parameter("Scale", "scale", "channel -> channel 1"),
        Parameter("Offset", "bias", "channel -> channel 1"),
    ),
    "lstm": (
        Parameter("InputWeights", "kernel", "channel gates -> gates channel"),
        Parameter("RecurrentWeights", "recurrent_kernel", "unit gates -> gates unit"),
        Parameter("Bias", "bias", "gates -> gates 1"),
    ),
    "conv2d": (
        Parameter("Weights", "kernel", "height width channel out -> height width channel out"),
        Parameter("Bias", "bias", "out -> 1 1 out"),
    ),
}
_GROUPED = (  # groupedConvolution2dLayer keeps the groups apart
    Parameter("Weights", "kernel", "height width channel (group out) -> height width channel out group"),
    Parameter("Bias", "bias", "(group out) -> 1 1 out group"),
)
INPUT = "X"


def _scalar(kind: type) -> Callable[[NDArray[Any]], Any]:
    return lambda array: kind(array.reshape(-1)[0])


def _whole(array: NDArray[Any]) -> list[int]:
    return [int(n) for n in array.ravel()]


# Properties that are config: the property, the name in the config, and how its value is read.
OPTIONS: Mapping[str, Mapping[str, tuple[str, Callable[[NDArray[Any]], Any]]]] = {
    "multi_head_attention": {"NumHeads": ("heads", _scalar(int))},
    "layer_norm": {"Epsilon": ("epsilon", _scalar(float))},
    "conv2d": {
        "Stride": ("strides", _whole),
        "DilationFactor": ("dilation", _whole),
        "PaddingSize": ("padding", lambda array: [_whole(array)[:2], _whole(array)[2:]]),  # top bottom left right
    },
}


def recorded_layer(arrays: Mapping[str, NDArray[Any]]) -> str | None:
    """The layer whose learnable parameters are among `arrays`, by MATLAB's names; None where none is known.

    `Scale` and `Offset` are a layer normalisation's, unless there is what only another normalisation has.
    """
    if "QueryWeights" in arrays:
        return "multi_head_attention"
    if "InputWeights" in arrays and "RecurrentWeights" in arrays:
        gates, units = len(arrays["InputWeights"]), arrays["RecurrentWeights"].shape[1]
        return "lstm" if gates == 4 * units else None
    if {"Scale", "Offset"} <= set(arrays) and not {"TrainedMean", "TrainedVariance", "NumGroups"} & set(arrays):
        return "layer_norm"
    if "Weights" in arrays:
        return {2: "linear", 4: "conv2d", 5: "conv2d"}.get(arrays["Weights"].ndim)
    return None


def layout(layer: str, config: Mapping[str, Any]) -> tuple[Parameter, ...]:
    """How MATLAB's `layer` holds its weights. A layer without weights has none.

    Raises Unsupported for a layer or a config that MATLAB's own layer does not have.
    """
    if layer in ("softmax", "gelu"):
        return ()
    if layer not in LAYOUTS:
        raise Unsupported(f"matlab has no declared layout for {layer}")
    if layer == "layer_norm" and config.get("axes", 1) != 1:
        raise Unsupported("layerNormalizationLayer has one scale per channel, so it cannot normalise two axes")
    if layer == "multi_head_attention" and config.get("kv_heads") not in (None, config.get("heads", 1)):
        raise Unsupported("selfAttentionLayer has as many heads for keys as for queries")
    return _GROUPED if layer == "conv2d" and config.get("groups", 1) != 1 else LAYOUTS[layer]


def matlab_arrays(
    layer: str, config: Mapping[str, Any], weights: Mapping[str, NDArray[Any]]
) -> dict[str, NDArray[Any]]:
    """MATLAB's properties, from canonical `weights`. Vectors are columns (in a convolution, 1 x 1 x out)."""
    arrays: dict[str, NDArray[Any]] = {}
    for prefix, part, own in _parts(layer, config):
        given = {name.removeprefix(prefix): w for name, w in weights.items() if name.startswith(prefix)}
        for p in layout(part, own):
            if p.weights in given:
                arrays[prefix + p.name] = p.write(given, **_known(own))
    return arrays


def canonical_weights(
    layer: str, config: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], where: str
) -> dict[str, NDArray[Any]]:
    """The canonical weights, from MATLAB's properties in `arrays` (of the file `where`, for messages).

    Raises ConformanceError where one is missing or its size contradicts another's, the input's or the config.
    """
    from conformance.layers import get_layer

    weights: dict[str, NDArray[Any]] = {}
    for prefix, part, own in _parts(layer, config):
        sizes = _Sizes(where, prefix, own)
        if INPUT in arrays and prefix == next(iter(_parts(layer, config)))[0]:
            sizes.axes["channel"] = (arrays[INPUT].shape[2 if part == "conv2d" else 0], INPUT)
        for p in layout(part, own):
            array = arrays.get(prefix + p.name)
            if array is not None:
                weights[prefix + p.weights] = p.read(sizes.fit(p, array), **_known(own)).popitem()[1]
            elif p.weights in get_layer(part).weights:  # it may not be absent
                raise ConformanceError(
                    f"{where}: there is no {prefix + p.name!r} ({sizes.wanted(p)}), which {part} needs"
                )
        sizes.check(part)
    return weights


def _parts(layer: str, config: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Prefix, layer and config of each part; of a plain layer, of itself."""
    if layer != "sequential":
        yield "", layer, config
        return
    for part in config["parts"]:
        yield f"{part['name']}.", part["layer"], part.get("config", {})


def _known(config: Mapping[str, Any]) -> dict[str, int]:
    return {"group": config.get("groups", 1)}


class _Sizes:
    """The axis sizes that a layer's properties agree on, and where each follows from."""

    def __init__(self, where: str, prefix: str, config: Mapping[str, Any]) -> None:
        self.where, self.prefix, self.config = where, prefix, config
        self.axes: dict[str, tuple[int, str]] = {}

    def fit(self, parameter: Parameter, array: NDArray[Any]) -> NDArray[Any]:
        """`array` with the axes of its pattern: trailing ones that MATLAB dropped are put back, and a
        vector is turned to where the pattern has it."""
        words = parameter.pattern.split("->")[1].split()
        shape = list(array.shape)
        if len([w for w in words if w != "1"]) == 1 and prod(shape) == max(shape):
            shape = [1 if w == "1" else prod(shape) for w in words]
        else:
            shape += [1] * (len(words) - len(shape))
        name = self.prefix + parameter.name
        expected = [1 if w == "1" else self.axes.get(w, (size,))[0] for w, size in zip(words, shape, strict=False)]
        if len(shape) != len(words) or shape != expected:
            raise ConformanceError(
                f"{self.where}: {name!r} is {_times(array.shape)}, but {self.wanted(parameter)} is needed"
            )
        for word, size in zip(words, shape, strict=True):
            if word != "1":
                self.axes.setdefault(word, (size, name))
        return array.reshape(shape)

    def wanted(self, parameter: Parameter) -> str:
        """The size that a property must have, and where that follows from: `48x10 (hdim = 48 from 'QueryWeights')`."""
        words = parameter.pattern.split("->")[1].split()
        size = _times(str(self.axes[w][0]) if w in self.axes else w for w in words)
        reasons = [f"{w} = {self.axes[w][0]} from {self.axes[w][1]!r}" for w in words if w in self.axes]
        return f"{size} ({', '.join(reasons)})" if reasons else size

    def check(self, layer: str) -> None:
        """Raise ConformanceError where the sizes do not fit the heads or gates."""
        if layer == "multi_head_attention":
            heads = self.config.get("heads", 1)
            for axis in ("hdim", "hvdim"):
                size, name = self.axes[axis]
                if size % heads:
                    raise ConformanceError(
                        f"{self.where}: {name!r} has {size} rows, which {heads} heads do not divide; check `heads`"
                    )
        if layer == "lstm" and self.axes["gates"][0] != 4 * self.axes["unit"][0]:
            (gates, inputs), (unit, recurrent) = self.axes["gates"], self.axes["unit"]
            raise ConformanceError(
                f"{self.where}: {inputs!r} has {gates} rows, but {unit} units (from {recurrent!r}) need 4 x {unit}"
            )


def _times(sizes: Iterable[Any]) -> str:
    """`48x10`, or `hdim x 10` where a size is only known by name."""
    words = [str(size) for size in sizes]
    return ("x" if all(word.isdigit() for word in words) else " x ").join(words)


def to_canonical(array: NDArray[Any], layer: str, like: tuple[int, ...]) -> NDArray[Any]:
    """An input or output of MATLAB's in the canonical axes; `like` is the canonical input's shape.

    `channel time` and `channel batch time` become `batch time channel`, `channel batch` becomes
    `batch channel`, `height width channel batch` becomes `batch height width channel`. Raises
    ConformanceError where the axes cannot be those.
    """
    if layer == "conv2d":
        whole = array.reshape(array.shape + (1,) * (4 - array.ndim))
        return np.ascontiguousarray(np.moveaxis(whole, 3, 0))
    if len(like) == 2 and array.ndim == 2:
        return np.ascontiguousarray(array.T)
    if len(like) == 3 and array.ndim == 2:  # one sample; or one time step, whose axis MATLAB dropped
        array = array[:, None, :] if like[0] == 1 else array[:, :, None]
    if len(like) != 3 or array.ndim != 3:
        raise ConformanceError(f"an array of {_times(array.shape)} does not fit a canonical input of {_times(like)}")
    return np.ascontiguousarray(np.transpose(array, (1, 2, 0)))


class MatlabAdapter(MatlabExporting):
    """Reads recordings that MATLAB or Octave made; they cannot be run again."""

    name = "matlab"
    requires = ("h5py",)
    install = "pip install conformance"
    dtypes = ("float64", "float32")
    weights_back = True

    def start(self) -> Mapping[str, str]:
        """The version of what reads the files."""
        import h5py

        return {"h5py": h5py.__version__}

    def subjects(self, request: Request) -> list[str]:
        """None: MATLAB is not run. Raises Unsupported."""
        raise Unsupported("recorded traces only: matlab judges the .mat files that fixtures bring or `check` is given")

    def run(self, request: Request) -> Trace:
        """The trace that the file `request.subject`, in `request.source`, holds.

        Raises ConformanceError where the file lacks the output or a weight or was recorded from another
        input, and Unsupported where it was recorded in another precision.
        """
        from conformance.mat import open_mat

        return recorded_trace(open_mat(Path(request.source or ".") / request.subject), request)

    def owns(self, subject: Any) -> bool:
        """The Path of a `.mat` file."""
        return isinstance(subject, Path) and subject.suffix.lower() == ".mat"

    def open(self, subject: Any) -> Live:
        """As `matlab_live.opened`."""
        from conformance_adapters.matlab_live import opened

        return opened(subject)


def recorded_trace(file: MatFile, request: Request) -> Trace:
    """What `file` holds of the request's layer, in MATLAB's axes. Raises as `MatlabAdapter.run`."""
    from conformance.layers import get_layer

    layer = get_layer(request.layer, request.config)
    first = next(iter(layer.inputs))
    shape = np.shape(request.inputs[first])
    parts = list(_parts(request.layer, request.config))
    recorded = file[layer.output]
    if recorded.dtype != np.dtype(request.dtype):
        raise Unsupported(f"{request.subject} was recorded in {recorded.dtype}")
    if INPUT in file.arrays:
        require_same_input(file, to_canonical(file[INPUT], parts[0][1], shape), request.inputs[first])
    weights: Mapping[str, NDArray[Any]] = {}
    if request.weights:
        weights = canonical_weights(request.layer, request.config, file.arrays, str(file.path))
    given = {prefix + p.name for prefix, part, own in parts for p in layout(part, own)}
    given |= {prefix + name for prefix, part, _ in parts for name in (*OPTIONS.get(part, ()), INPUT)} | {INPUT}
    return Trace(
        output=to_canonical(recorded, parts[-1][1], shape),
        tape=recorded_tape(file, list(layer.steps), given),
        weights={name: np.asarray(w, np.float64) for name, w in weights.items()},
        recorded=True,
    )


def require_same_input(file: MatFile, recorded: NDArray[Any], asked: NDArray[Any], name: str = INPUT) -> None:
    """Raise ConformanceError where what is asked for is not what was `recorded`, both in canonical axes."""
    if recorded.shape != asked.shape:
        what = f"is {_times(recorded.shape)} in canonical axes, where {_times(asked.shape)} is asked for"
    elif not np.array_equal(recorded, asked):
        what = f"differs from the input that is asked for by up to {np.max(np.abs(recorded - asked)):.3g}"
    else:
        return
    raise ConformanceError(f"{file.path}: {name!r} {what}; a recording is judged on the input it was made from")


def recorded_tape(file: MatFile, steps: list[str], given: set[str]) -> list[Entry]:
    """Everything that was computed: named steps in flow order, after what has no step's name. `given` was not."""
    names = [n for n, a in file.arrays.items() if n not in given and a.dtype.kind == "f"]
    names.sort(key=lambda name: steps.index(name) if name in steps else -1)
    return [Entry(name, file.arrays[name], name if name in steps else None) for name in names]
