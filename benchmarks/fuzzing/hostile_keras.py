"""Hostile `.keras` files: code, classes that read or run something, names that lead out, sizes that nothing has."""

from __future__ import annotations

import base64
import io
import json
import marshal
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from random import Random
from typing import Any


def files(valid: Mapping[str, bytes], folder: Path) -> Iterator[tuple[str, bytes]]:
    """Every one, with what it is."""
    from fuzzing import hdf5, mutations
    from fuzzing.hostile import _changed, bomb, zipped

    content = valid["sequential.keras"]
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    yield "a config of a gigabyte", bomb("config.json", b'{"a": 1')
    yield "weights of a gigabyte", _with_bomb(members)
    for name in (
        "assets/../../escaped",
        "../escaped",
        "/escaped",
        "assets/../../../escaped",
        "model.weights.h5/../../x",
    ):
        yield f"member {name}", zipped({**members, name: b"escaped"})
    yield "assets", zipped({**members, "assets/x": b"asset"})
    for first in ("config.json", "model.weights.h5"):
        yield f"two of {first}", zipped([(first, b"{}"), *members.items()])
        yield f"two of {first}, the last wrong", zipped([*members.items(), (first, b"{}")])
    yield "weights as npz", zipped({("model.weights.npz" if n.endswith("h5") else n): b for n, b in members.items()})
    config = json.loads(members["config.json"])
    for name, layer in _layers(folder):
        wrong = json.loads(json.dumps(config))
        wrong["config"]["layers"].append(layer)
        yield name, zipped({**members, "config.json": json.dumps(wrong).encode()})
    for name, change in _changes():
        wrong = json.loads(json.dumps(config))
        change(wrong)
        yield name, zipped({**members, "config.json": json.dumps(wrong).encode()})
    for change in hdf5.CHANGES:
        for seed in range(4):
            made = _changed(members["model.weights.h5"], change, Random(seed))
            if made is not None:
                yield (
                    f"{change.__name__.strip('_')} {seed}",
                    zipped({**members, "model.weights.h5": mutations.trusted(made)}),
                )


def legacy(valid: Mapping[str, bytes], folder: Path) -> Iterator[tuple[str, bytes]]:
    """Whole models in HDF5: configs with code, sizes that nothing has, links."""
    import h5py

    from fuzzing import hdf5, mutations
    from fuzzing.hostile import _changed

    def reworded(content: bytes, change: Any) -> bytes:
        held = io.BytesIO(content)
        with h5py.File(held, "r+") as file:
            said = json.loads(file.attrs["model_config"])
            file.attrs["model_config"] = json.dumps(change(said) or said)
        return held.getvalue()

    whole = valid["model1.h5"]
    for name, layer in _layers(folder):
        yield name, reworded(whole, lambda said, one=layer: said["config"]["layers"].append(one))
        yield (
            f"{name} in the place of one",
            reworded(whole, lambda said, one=layer: said["config"]["layers"][1].update(one)),
        )
    for key in (
        "units",
        "filters",
        "kernel_size",
        "strides",
        "groups",
        "name",
        "padding",
        "activation",
        "epsilon",
        "dtype",
    ):
        for value in (
            2**62,
            2**31,
            -1,
            0,
            1e300,
            "exec",
            "os.system",
            "\x1b[31m",
            None,
            [],
            [2**40] * 2,
            {"class_name": "x"},
        ):

            def put(said: Any, key: str = key, value: Any = value) -> None:
                for layer in said["config"]["layers"]:
                    layer["config"][key] = value

            yield f"{key} {str(value)[:20]}", reworded(whole, put)
    for whole_config in ("x", [], {}, 3, None, [[]] * 9):
        yield f"the config {whole_config}", reworded(whole, lambda said, c=whole_config: c)
    for content in valid.values():
        for change in hdf5.CHANGES:
            for seed in range(2):
                made = _changed(content, change, Random(seed))
                if made is not None:
                    yield f"{change.__name__.strip('_')} {seed}", mutations.trusted(made)


def _with_bomb(members: Mapping[str, bytes]) -> bytes:
    """The weights as a gigabyte of zeros: its archive, with the other members behind."""
    from fuzzing.hostile import bomb

    made = io.BytesIO(bomb("model.weights.h5", b"\x89HDF\r\n\x1a\n"))
    with zipfile.ZipFile(made, "a") as archive:
        for name, body in members.items():
            if name != "model.weights.h5":
                archive.writestr(name, body)
    return made.getvalue()


def _runs() -> None:
    import os

    os.system("touch code-was-run")


def _layer(kind: str, place: str, /, **config: Any) -> dict[str, Any]:
    said = {"name": "added", "trainable": True, "dtype": "float32", **config}
    return {"module": place, "class_name": kind, "config": said, "registered_name": None}


def _layers(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Layers that no file should have."""
    code = base64.b64encode(marshal.dumps(_runs.__code__)).decode()
    function = {"class_name": "__lambda__", "config": {"code": code, "defaults": None, "closure": None}}
    keras = "keras.layers"
    yield "a Lambda", _layer("Lambda", keras, function=function)
    yield "a Lambda by another path", _layer("Lambda", "keras.src.layers.core.lambda_layer", function=function)
    yield "a Lambda, registered", {**_layer("Other", keras, function=function), "registered_name": "Lambda"}
    yield "a Lambda of an old file", _layer("Lambda", keras, function=[code, None, None], function_type="lambda")
    named = {"module": "builtins", "class_name": "function", "config": "exec", "registered_name": "function"}
    yield "exec as an activation", _layer("Activation", keras, activation=named)
    for module, what in (
        ("keras.utils", "get_file"),
        ("keras.src.utils.file_utils", "get_file"),
        ("os", "system"),
        ("numpy", "load"),
        ("keras.src.saving.serialization_lib", "enable_unsafe_deserialization"),
        ("keras.config", "enable_unsafe_deserialization"),
    ):
        named = {"module": module, "class_name": "function", "config": what, "registered_name": what}
        yield f"{module}.{what} as an activation", _layer("Activation", keras, activation=named)
        yield f"{module}.{what} as a layer", _layer(what, module)
    yield "TorchModuleWrapper", _layer("TorchModuleWrapper", keras, module=base64.b64encode(b"PK").decode())
    yield "TFSMLayer", _layer("TFSMLayer", keras, filepath=str(folder / "input"))
    yield "JaxLayer", _layer("JaxLayer", keras, call_fn=named)
    for name in ("StringLookup", "IntegerLookup", "TextVectorization"):
        yield f"{name} of a file", _layer(name, keras, vocabulary=str(folder / "secret.bin"))
    yield "Hashing", _layer("Hashing", keras, num_bins=2**62)
    yield "a module to import", _layer("x", "antigravity")
    yield "a module of the project to import", _layer("x", "conformance_adapters.evil", name="y")
    for units in (2**62, 2**40, 2**31, 2**26, -1, 1e300, None):
        yield f"Dense of {units}", _layer("Dense", keras, units=units, build_config={"input_shape": [None, 2]})
    yield "Embedding", _layer("Embedding", keras, input_dim=2**30, output_dim=2**20)
    yield "RepeatVector", _layer("RepeatVector", keras, n=2**40)
    yield "ZeroPadding1D", _layer("ZeroPadding1D", keras, padding=2**40)
    yield "UpSampling2D", _layer("UpSampling2D", keras, size=[2**30, 2**30])
    initial = {"module": "keras.initializers", "class_name": "Constant", "config": {"value": [0.0] * 9}}
    yield "an initializer", _layer("Dense", keras, units=2, kernel_initializer=initial)
    deep: Any = _layer("Dense", keras, units=1)
    for _ in range(150):
        deep = _layer("TimeDistributed", keras, layer=deep)
    yield "layers in layers", deep
    inner: Any = "x"
    for _ in range(900):
        inner = [inner]
    yield "lists in lists", _layer("Dense", keras, units=inner)


def _changes() -> Iterator[tuple[str, Any]]:
    def put(path: tuple[Any, ...], value: Any) -> Any:
        def change(config: Any) -> None:
            for key in path[:-1]:
                config = config[key]
            config[path[-1]] = value

        return change

    last = ("config", "layers", -1)
    for key, value in (
        ("units", 2**34),
        ("units", 2**62),
        ("name", "../escaped"),
        ("name", "\x1b[31m"),
        ("dtype", "x" * 3000),
    ):
        yield f"the last layer's {key} {str(value)[:20]}", put((*last, "config", key), value)
    for shape in ([None, 2**40, 2**40, 1], [2**62], [None], "x", [None, 2**16, 2**16, 2**10]):
        yield f"an input of {shape}", put(("config", "layers", 0, "config", "batch_shape"), shape)
    yield "a registered class", put(("registered_name",), "builtins>exec")
    yield "a build of its own", put(("build_config",), {"input_shape": [None, 2**30, 2**30, 1]})
    yield "a compile", put(("compile_config",), {"optimizer": {"class_name": "Lambda"}})
