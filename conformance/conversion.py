"""What `export` asks of an adapter: the layers in a file of weights, and the parameters of a layer of its framework.

An adapter may have either part, or both. Files of weights say nothing of the layers that they are of: what can be told
by names and shapes is told, what is ambiguous is said with its candidates, and the user settles it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from conformance.subject import Own, Part

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from conformance.trace import Request
    from conformance.weight_file import Origin


@dataclass(frozen=True)
class Held(Part):
    """A layer in a file of weights. `arrays` are the file's own names of what belongs to it.

    `candidates` are the layers that it may be, where names and shapes do not tell which. `assumed` is config that such
    a file does not hold, on which the layout of the weights in other frameworks depends. `own` are its weights in
    `dtype`, where there is nothing that could be run. `origin` is what the way back needs.
    """

    own: Own | None = None
    dtype: str | None = None
    origin: Origin | None = None
    arrays: tuple[str, ...] = ()
    candidates: tuple[str, ...] = ()
    assumed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Settled:
    """What a user says of the layers in a file: `layers` by path, `config` by path, or by `""` for every layer that
    has such a config. The path of what lies at the top of a file is `.`."""

    layers: Mapping[str, str] = field(default_factory=dict)
    config: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def config_of(self, path: str, known: Iterable[str]) -> dict[str, Any]:
        """The config of the layer at `path`, which has the names `known`; what is said of it alone goes first."""
        names = set(known)
        every = {n: v for n, v in self.config.get("", {}).items() if n in names}
        return {**every, **self.config.get(path or ".", {})}


@runtime_checkable
class WeightFiles(Protocol):
    """The part of an adapter that reads files of its framework's weights (`model.pt`)."""

    def holds_weights(self, path: Path) -> bool:
        """Whether the file at `path` is such a one, by its name."""
        ...

    def weights_in(self, path: Path, settled: Settled) -> Iterable[Held]:
        """The layers in the file, in its order, and whatever in it is no known layer.

        Nothing in the file is ever run. Raises ConformanceError where it is broken, or would run something.
        """
        ...


@runtime_checkable
class OwnLayout(Protocol):
    """The part of an adapter that has its framework's parameters in the framework's own layout.

    `layout_name` is what users call that layout: `torch`, `keras`. Adapters of one framework have one name.
    `layout_runs` says whether the framework is run here: recordings of another machine's are not.
    """

    layout_name: str
    layout_runs: bool

    def layout_subjects(self, request: Request) -> Sequence[str]:
        """The names of the framework's own layers that may hold the weights of `request`, the likeliest first.

        Raises Unsupported, with the reason, where there is none.
        """
        ...

    def stored(self, request: Request) -> Mapping[str, NDArray[Any]]:
        """The parameters, by the framework's names, of the subject that `request` names, which holds its weights."""
        ...

    def restored(self, request: Request, arrays: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        """The canonical weights that such a subject has where its parameters are `arrays`: `stored` the other way.

        The weights of the request say the sizes alone. Raises ConformanceError where `arrays` are not its parameters.
        """
        ...


@runtime_checkable
class WeightWriter(Protocol):
    """The part of an adapter that writes files of its framework's own kind, beside safetensors."""

    def writes_weights(self, path: Path) -> bool:
        """Whether a file of this name is written so."""
        ...

    def write_weights(self, path: Path, arrays: Mapping[str, NDArray[Any]], suffix: str) -> None:
        """Write `arrays` to `path`, in the format that `suffix` says: that of the name which the file will have."""
        ...


@runtime_checkable
class ModelWriter(Protocol):
    """The part of an adapter that writes one layer as a model of its framework's own (`layer.onnx`)."""

    def writes_model(self, path: Path) -> bool:
        """Whether a file of this name is written so."""
        ...

    def write_model(self, path: Path, request: Request, shapes: Mapping[str, tuple[int | str, ...]]) -> None:
        """Write a model of the subject that `request` names, with its weights; its inputs are those of the request.

        `shapes` are those of the inputs: an axis with a name may have any size. Raises Unsupported where there is none.
        """
        ...
