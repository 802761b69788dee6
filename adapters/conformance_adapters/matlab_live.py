"""A recording as a subject: a `.mat` file that says by the names of its arrays what each is.

- MATLAB's own way, as in the fixtures: the input is called `X`, learnable parameters have the property names of
  MATLAB's layers (`QueryWeights`, `InputWeights`, `Scale`, `Offset`, `Weights`, `Bias`), values the names of their
  steps (`scores`, `output`), and everything has MATLAB's axes, channels first. Properties that are config
  (`NumHeads`, `Epsilon`, `Stride`, `PaddingSize`) are read, and the class where it is there as text (`Type`). Of a
  network, a struct for each layer holds the same.
- The canonical way: inputs and weights have their canonical names (`query_input`, `query_kernel`), scalars those of
  the config (`heads`), and everything has the canonical axes, batch first.

A file with an `X` is of the first kind. The number of heads, where it is not written down, is that of the pages of
the recorded scores.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from conformance.errors import ConformanceError, Unsupported
from conformance.layers import get_layer
from conformance.mat import MatFile, open_mat
from conformance.subject import Argument, Call, Own, Part
from conformance.trace import Request, Trace
from conformance_adapters.matlab_axes import FORMAT, INPUT, rank_of, to_canonical
from conformance_adapters.matlab_layers import read_config
from conformance_adapters.matlab_mat import properties_of, recorded_tape, recorded_trace, require_same_input
from conformance_adapters.matlab_properties import Properties
from conformance_adapters.matlab_told import told
from conformance_adapters.matlab_weights import canonical_weights

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SCORES = ("scores", "scaled", "weights")  # steps whose third axis is the heads


def opened(subject: Any) -> MatLive:
    """The recording in a `.mat` file. Raises ConformanceError for anything else, and for a file that is broken."""
    if not isinstance(subject, Path):
        raise ConformanceError(f"a {type(subject).__name__} is no recording: give the path of a .mat file")
    return MatLive(open_mat(subject), subject.name)


class MatLive:
    """A recording. It cannot be run: every run is the one that was recorded."""

    adapter = "matlab"

    def __init__(self, file: MatFile, name: str) -> None:
        self.file, self.name = file, name
        self.parts_in_a_row: Sequence[Mapping[str, Any]] = ()  # of a network, as `recorded` was told

    @property
    def matlab(self) -> bool:
        """Whether the arrays have MATLAB's axes."""
        return INPUT in self.file.arrays

    @property
    def properties(self) -> Properties:
        """Its arrays, and its lines of text."""
        return {**self.file.arrays, **self.file.texts}

    @cached_property
    def dtype(self) -> str | None:
        """What most of its numbers are in."""
        sizes: dict[str, int] = {}
        for array in self.file.arrays.values():
            if array.dtype.kind == "f" and array.size > 1:
                sizes[array.dtype.name] = sizes.get(array.dtype.name, 0) + array.size
        return max(sizes, key=sizes.__getitem__) if sizes else None

    def own(self) -> Own | None:
        """The layer whose parameters it holds by MATLAB's names, if it does."""
        layers = told(self.properties) if self.matlab else ()
        return self.recorded(layers[0], {}) if layers else None

    def recorded(self, layer: str, config: Mapping[str, Any], weights: bool = True) -> Own:
        """Config, weights (where they are wanted) and inputs of `layer`; `config` goes before what the file says.

        Raises ConformanceError where something of it is missing or does not fit together.
        """
        if layer == "sequential" and not config.get("parts"):
            raise ConformanceError(
                f"{self.file.path}: does not say which layers are in a row in it: give them as the config `parts`, "
                "or leave the layer out to judge each that has an input of its own"
            )
        self.parts_in_a_row = config.get("parts", ())
        made = {**self.config(layer, self.matlab), **config}
        held = self.weights(layer, made, self.matlab) if weights else {}
        return Own(layer, made, {n: np.asarray(a, np.float64) for n, a in held.items()}, self.inputs(layer, made))

    def weights(self, layer: str, config: Mapping[str, Any], matlab: bool) -> dict[str, NDArray[Any]]:
        """The canonical weights of `layer`, which the file has in MATLAB's layout or in the canonical one.

        Raises ConformanceError where something of it is missing or does not fit together.
        """
        if not matlab:
            return self._canonical(layer, get_layer(layer, config).weights)
        return canonical_weights(layer, config, self.file.arrays, str(self.file.path), self.file.texts.get(FORMAT))

    def config(self, layer: str, matlab: bool) -> dict[str, Any]:
        """The config of `layer` that the file says, by MATLAB's properties or under the canonical names.

        Raises Unsupported for one that the canonical layer cannot have.
        """
        arrays = self.file.arrays
        if layer == "sequential":
            return {}
        known = get_layer(layer).config
        if not matlab:
            scalars = {n: arrays[n].reshape(()).item() for n in known if n in arrays and arrays[n].size == 1}
            made = {n: int(v) if isinstance(v, float) and v.is_integer() and v else v for n, v in scalars.items()}
        else:
            made = read_config(layer, self.properties) if properties_of(layer, {}) else {}
        if layer == "multi_head_attention" and "heads" not in made:
            pages = next((arrays[n] for n in _SCORES if n in arrays), None)
            if pages is not None and matlab and pages.ndim <= 3:
                made["heads"] = pages.shape[2] if pages.ndim == 3 else 1
            elif pages is not None and not matlab and pages.ndim == 4:
                made["heads"] = pages.shape[1]
        return made

    def _canonical(self, layer: str, wanted: Mapping[str, str]) -> dict[str, NDArray[Any]]:
        """The arrays of these names. A vector, which MATLAB makes a matrix of, is one again; what has the name of
        a step is none of them."""
        steps, made = get_layer(layer).steps, {}
        for name, axes in wanted.items():
            bare = name.rstrip("?")
            if not name.endswith("?") or (bare in self.file.arrays and bare not in steps):
                array = self.file[bare]
                vector = len(axes.split()) == 1 and not axes.startswith(("*axes", "*shape"))
                made[bare] = array.ravel() if vector else array
        return made

    def inputs(self, layer: str, config: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
        """The canonical inputs of `layer` that were recorded. Raises ConformanceError where they cannot be these."""
        inputs = get_layer(layer, config).inputs
        if not self.matlab:
            found = self._canonical(layer, inputs)
            return {n: a.astype(np.float64) if a.dtype.kind == "f" else a for n, a in found.items()}
        name, axes = next(iter(inputs.items()))
        x, first = self.file[INPUT], config["parts"][0]["layer"] if layer == "sequential" else layer
        letters = self.file.texts.get(FORMAT)
        rank = 2 if first == "embedding" else rank_of(first, axes, self.file.arrays, letters)
        made = to_canonical(x, first, (1,) * rank, letters)
        return {name: made.astype(np.int64 if first == "embedding" else np.float64)}

    def parameters(self) -> Mapping[str, NDArray[Any]]:
        """Every floating-point array of the file, by its name there."""
        return {n: a for n, a in self.file.arrays.items() if a.dtype.kind == "f"}

    def arguments(self) -> Sequence[Argument]:
        """None: what it was fed when it was recorded is in it."""
        return []

    def run(self, call: Call) -> Trace:
        """What was recorded.

        Raises ConformanceError where it was recorded from other inputs than those of the call, and Unsupported where
        in another precision.
        """
        if call.layer is None or call.through is not None:
            raise ConformanceError(
                f"{self.file.path}: is a recording, which cannot be called: name its layer (`layer`)"
            )
        if self.matlab:
            config = (
                {"parts": self.parts_in_a_row} if call.layer == "sequential" else self.config(call.layer, matlab=True)
            )
            asked = Request(call.layer, self.name, config, call.inputs, {}, call.dtype)
            return recorded_trace(self.file, asked)
        layer = get_layer(call.layer)
        output = self.file[layer.output]
        if output.dtype.name != call.dtype:
            raise Unsupported(f"{self.name} was recorded in {output.dtype}")
        there = self.inputs(call.layer, {})
        for name, given in call.inputs.items():
            if name not in there:
                raise ConformanceError(f"{self.file.path}: was recorded without the input {name!r}")
            require_same_input(self.file, there[name], given, name)
        names = {n.rstrip("?") for n in (*layer.inputs, *layer.weights, *layer.config)} - set(layer.steps)
        return Trace(output, recorded_tape(self.file, list(layer.steps), names), recorded=True)

    def parts(self, call: Call) -> Iterable[Part]:
        """The layer that it is; of a network, a layer for each struct, whose input must be in it as its own `X`."""
        own = self.own()
        if own is not None:
            yield Part(self.name, own.layer, self, own.inputs)
        there = (*self.file.arrays, *self.file.texts)
        for name in dict.fromkeys(n.partition(".")[0] for n in there if "." in n):
            live = MatLive(self.file.within(name), name)
            layers = told(live.properties, name)
            if layers and not live.matlab:
                yield Part(name, layers[0], unsupported=f"its input was not recorded: save it as {name}.{INPUT}")
            elif layers:
                try:
                    yield Part(name, layers[0], live, live.recorded(layers[0], {}).inputs)
                except Unsupported as error:
                    yield Part(name, layers[0], unsupported=str(error))
