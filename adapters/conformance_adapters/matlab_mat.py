"""MATLAB: recordings in `.mat` files, and the layouts of its layers' learnable parameters.

MATLAB itself is not run. A recording is a file that holds a layer's learnable parameters under MATLAB's
property names (`QueryWeights`), its input as `X` and every value that was looked at under its step's
name (`scores`); of a network, a struct for each layer holds the same. MATLAB puts channels first:
`channel time`, `channel batch time` or, of images, `height width channel batch`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from conformance.errors import ConformanceError, Unsupported
from conformance.trace import Entry, Request, Trace
from conformance_adapters.exporting import MatlabExporting
from conformance_adapters.matlab_axes import FORMAT, INPUT, times, to_canonical
from conformance_adapters.matlab_layers import matlab_layer
from conformance_adapters.matlab_weights import canonical_weights, parts

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conformance.mat import MatFile
    from conformance.subject import Live


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
    shape, letters = np.shape(request.inputs[first]), file.texts.get(FORMAT)
    within = list(parts(request.layer, request.config))
    recorded = file[layer.output]
    if recorded.dtype != np.dtype(request.dtype):
        raise Unsupported(f"{request.subject} was recorded in {recorded.dtype}")
    if INPUT in file.arrays:
        require_same_input(file, to_canonical(file[INPUT], within[0][1], shape, letters), request.inputs[first])
    weights: Mapping[str, NDArray[Any]] = {}
    if request.weights:
        weights = canonical_weights(request.layer, request.config, file.arrays, str(file.path), letters)
    given = {prefix + name for prefix, part, own in within for name in (*properties_of(part, own), INPUT)} | {INPUT}
    return Trace(
        output=to_canonical(recorded, within[-1][1], shape, letters, output=True),
        tape=recorded_tape(file, list(layer.steps), given),
        weights={name: np.asarray(w, np.float64) for name, w in weights.items()},
        recorded=True,
    )


def properties_of(layer: str, config: Mapping[str, Any]) -> set[str]:
    """The properties of MATLAB's layer. Raises Unsupported where it has none, and the canonical layer has weights."""
    from conformance.layers import get_layer

    try:
        return matlab_layer(layer, config).properties
    except Unsupported:
        if get_layer(layer, config).weights:
            raise
        return set()


def require_same_input(file: MatFile, recorded: NDArray[Any], asked: NDArray[Any], name: str = INPUT) -> None:
    """Raise ConformanceError where what is asked for is not what was `recorded`, both in canonical axes."""
    if recorded.shape != asked.shape:
        what = f"is {times(recorded.shape)} in canonical axes, where {times(asked.shape)} is asked for"
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
