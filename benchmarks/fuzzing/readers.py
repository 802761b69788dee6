"""Every reader of files, as a function of a path: what is fuzzed, and with which kinds of files."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Reader:
    """`read` gives what was read; `suffixes` are of the files it takes; `seconds` is the longest that one may take.

    A `heavy` one loads a framework: its coverage is not watched. What the tool does `apart`, in a process of its own,
    may fail to end, die, or take memory without end: that is refused there (`conformance.apart`).
    """

    read: Callable[[Path], Any]
    suffixes: tuple[str, ...]
    seconds: float = 10.0
    heavy: bool = False
    apart: bool = False
    file: str = ""  # the name that the file must have: a sentence may name the folder instead


def _mat(path: Path) -> Any:
    """The arrays, and the recording that they may be."""
    from conformance_adapters.matlab_live import opened

    return opened(path).file.arrays


def _mat73(path: Path) -> Any:
    from conformance.mat73 import read_mat73

    return read_mat73(path, "save it anew")[0]


def _arrays(path: Path) -> Any:
    from conformance.arrays import read_arrays

    return read_arrays(path)


def _fixture(path: Path) -> Any:
    """The manifest, and the arrays that it names."""
    from conformance.fixture import read_folder

    return [form.load() for form in read_folder(path.parent)]


def _policy(path: Path) -> Any:
    from conformance.policy import read_policy

    return read_policy(path)


def _divergences(path: Path) -> Any:
    from conformance.divergences import entries

    return entries(path.read_bytes(), path.name)


def _result(path: Path) -> Any:
    """The result, and every report of it, written beside it."""
    from conformance.reading import read
    from conformance.report import write

    found = read(path)
    for name in ("html", "junit", "markdown"):
        target = path.parent / f"report.{name}"
        write(name, found, target)
        target.unlink()
    return None


def _saved(path: Path) -> Any:
    """A folder that `run --save` wrote, which is handed over as an archive."""
    from conformance.saved import open_saved

    with tempfile.TemporaryDirectory() as made:
        folder = Path(made) / path.parent.name / path.name
        with zipfile.ZipFile(path) as archive:
            archive.extractall(folder)
        saved = open_saved(folder)
        run = saved.run
        for case in run.cases:
            saved.arrays(case)
            saved.left_out(case)
        return saved.missing()


def _onnx(path: Path) -> Any:
    from conformance_adapters.onnx_live import opened

    live = opened(path)
    live.arguments()
    live.own()
    return dict(live.parameters())


def _keras(path: Path) -> Any:
    from conformance_adapters.keras_file import load

    return {v.path: v.numpy() for v in load(path).weights}


def _pt2(path: Path) -> Any:
    from conformance_adapters.torch_live import opened

    return dict(opened(path).parameters())


def _layers(held: Any) -> None:
    """What `export` reads of layers in a file of weights."""
    from conformance.errors import ConformanceError, Unsupported

    for part in held:
        if part.subject is not None:
            try:
                part.subject.own()
            except (ConformanceError, Unsupported):  # a sentence in the table
                continue


def _state(path: Path) -> Any:
    """The layers of a state dict."""
    from conformance.conversion import Settled
    from conformance_adapters.torch_export import weights_in

    _layers(weights_in(path, Settled()))


def _hdf5(path: Path) -> Any:
    """The layers whose variables are in a file of Keras's."""
    from conformance.adapter import load
    from conformance.conversion import Settled
    from conformance_adapters.keras_hdf5 import Hdf5, read_hdf5
    from conformance_adapters.keras_weights import held_in

    adapter = load("keras-jax")
    adapter.start()
    _layers(held_in(path, Hdf5.of(*read_hdf5(path)), Settled(), adapter))  # type: ignore[arg-type]


def _exported(path: Path) -> Any:
    """The layers that the header of an exported file tells of."""
    from conformance.conversion import Settled
    from conformance.export_source import parts_of

    list(parts_of(path, Settled(), ()))


READERS: dict[str, Reader] = {
    "mat5": Reader(_mat, (".mat",)),
    "mat73": Reader(_mat73, (".mat",), apart=True),
    "safetensors": Reader(_arrays, (".safetensors",)),
    "npz": Reader(_arrays, (".npz",)),
    "fixture": Reader(_fixture, (".toml",), file="fixture.toml"),
    "divergences": Reader(_divergences, (".toml",)),
    "policy": Reader(_policy, (".toml",)),
    "result": Reader(_result, (".json",)),
    "saved": Reader(_saved, (".saved",)),
    "onnx": Reader(_onnx, (".onnx",), 30, heavy=True),
    "keras": Reader(_keras, (".keras",), 60, heavy=True),
    "pt2": Reader(_pt2, (".pt2",), 60, heavy=True),
    "state": Reader(_state, (".pt",), 30, heavy=True),
    "weights-h5": Reader(_hdf5, (".weights.h5",), 30, heavy=True, apart=True),
    "legacy-h5": Reader(_hdf5, (".h5",), 30, heavy=True, apart=True),
    "exported": Reader(_exported, (".exported",), 30, heavy=True, file="exported.safetensors"),
}
